"""Engines other than PyTorch give what PyTorch gives, or are refused."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from uvea.errors import ModelError, is_out_of_memory
from uvea.inference import engines, onnx_engine, openvino_engine
from uvea.inference.engines import Difference, difference, kept, refuse_if_different, require, trial_patch
from uvea.models.fold import for_tracing
from uvea.models.unet import UNet

NETWORKS = [
    {"dims": 2, "norm": "batch"},
    {"dims": 2, "norm": "instance", "classes": 4},
    {"dims": 2, "norm": "group", "block": "residual", "in_channels": 3},
    {"dims": 2, "norm": "batch", "upsampling": "transposed", "classes": 1},
    {"dims": 3, "norm": "instance", "strides": ((1, 2, 2),)},
]


def need(engine):
    """Skip where an engine's packages are missing; a plain import would load what must not be loaded."""
    if missing := [package for package in engines.NEEDED[engine] if find_spec(package) is None]:
        pytest.skip(f"needs {', '.join(missing)} of the extra {engines.EXTRAS[engine]}")


def unet(**settings):
    """Two levels, with running statistics of its own, in evaluation mode."""
    torch.manual_seed(0)
    network = UNet(**{"in_channels": 1, "classes": 2, "channels": (4, 6), "deep_supervision": True, **settings})
    with torch.no_grad():
        network(torch.randn(2, network.in_channels, *[16] * network.dims))
    return network.eval()


def sizes(network):
    """Tiles of other sizes and batches than the one that was traced."""
    dims, channels = network.dims, network.in_channels
    large = 160 if dims == 2 else 40
    return [(1, channels, *[8] * dims), (2, channels, *[large] * dims), (2, channels, *[16] * (dims - 1), 48)]


@pytest.mark.parametrize("settings", NETWORKS, ids=str)
def test_openvino_gives_the_numbers_of_torch_for_tiles_of_any_size(settings, tmp_path):
    """In float32 within rounding; a second time from the compiled model that was kept."""
    need("openvino")
    network = unet(**settings)
    openvino_engine.save(
        openvino_engine.convert(for_tracing(network), trial_patch(network.in_channels, [32] * network.dims)),
        tmp_path / "n.xml",
    )
    for _ in range(2):
        engine = openvino_engine.compile_for_cpu(tmp_path / "n.xml", precision="float32", cache=tmp_path / "cache")
        for size in sizes(network):
            tiles = torch.randn(size)
            torch.testing.assert_close(engine(tiles), network(tiles).detach(), atol=2e-5, rtol=1e-4)
    assert list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("settings", NETWORKS, ids=str)
def test_onnx_runtime_gives_the_numbers_of_torch_for_tiles_of_any_size(settings, tmp_path):
    """Within rounding."""
    need("onnxruntime")
    network = unet(**settings)
    onnx_engine.save(for_tracing(network), trial_patch(network.in_channels, [32] * network.dims), tmp_path / "n")
    engine = onnx_engine.open_on_cpu(tmp_path / "n")
    for size in sizes(network):
        tiles = torch.randn(size)
        torch.testing.assert_close(engine(tiles), network(tiles).detach(), atol=2e-5, rtol=1e-4)


def test_int8_is_close_and_not_the_same(tmp_path):
    """Quantised from a few patches; weights and activations have 8 bits."""
    need("int8")
    network, patch = unet(), trial_patch(1, (32, 32))
    model = openvino_engine.convert(for_tracing(network), patch)
    openvino_engine.save(openvino_engine.quantise(model, [patch[0].numpy()] * 4), tmp_path / "n.xml")
    found = difference(network, openvino_engine.compile_for_cpu(tmp_path / "n.xml", precision="float32"), patch)
    assert 1e-5 < found.mean < 0.05
    assert b"FakeQuantize" in (tmp_path / "n.xml").read_bytes()


def test_nobody_is_told_what_is_predicted():
    """OpenVINO and NNCF send usage statistics through a package of their own: it is never loaded."""
    need("openvino")
    engines.import_quietly("openvino")
    assert sys.modules["openvino_telemetry"] is None


def test_ctrl_c_is_heard_after_compiled_models_came_and_went(tmp_path):
    """In a process of its own: where it goes wrong, the signal ends it."""
    need("openvino")
    words = """
import signal, sys, torch
from pathlib import Path
from uvea.inference import openvino_engine as engine
model = Path(sys.argv[1])
engine.save(engine.convert(torch.nn.Conv2d(1, 1, 3), torch.rand(1, 1, 8, 8)), model)
kept = [engine.compile_for_cpu(model, precision="float32") for _ in range(2)]
del kept[0], kept[0]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""
    done = subprocess.run([sys.executable, "-c", words, str(tmp_path / "n.xml")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n")


def test_a_package_that_is_not_there_is_named_with_the_extra(monkeypatch):
    """What to type is in the hint."""
    monkeypatch.setattr(engines, "find_spec", lambda package: None)
    with pytest.raises(ModelError, match=r"onnxruntime needs onnxruntime and onnx, .*\n.*uvea\[onnxruntime\]"):
        require("onnxruntime")
    with pytest.raises(ModelError, match=r"int8 needs openvino and nncf, .*\n.*uvea\[openvino\]"):
        require("int8")
    require("torch")


def test_an_engine_that_computes_something_else_is_refused_with_the_figures():
    """Half of the pixels another class; and a number that is none."""
    network = nn.Conv2d(1, 2, 1)
    tiles = trial_patch(1, (16, 16))
    assert difference(network, network, tiles) == Difference(mean=0, labels=0)
    wrong = difference(network, lambda tiles: -network(tiles), tiles)
    assert wrong.mean > 0.05 and wrong.labels > 0.9
    with pytest.raises(ModelError, match=r"OpenVINO 1 does not compute what PyTorch computes: .* 0\.\d+ apart .*\d%"):
        refuse_if_different(wrong, "OpenVINO 1")
    for broken in (lambda tiles: network(tiles) * float("nan"), lambda tiles: network(tiles)[:, :, 1:]):
        with pytest.raises(ModelError, match="inf apart"):
            refuse_if_different(difference(network, broken, tiles), "OpenVINO 1")


def test_one_logit_is_compared_as_a_probability():
    """As two classes."""
    network = nn.Conv2d(1, 1, 1)
    assert difference(network, lambda tiles: -network(tiles), trial_patch(1, (16, 16))).labels > 0.9


def test_what_is_kept_is_made_once_and_whole_or_not_at_all(tmp_path):
    """A maker that fails leaves nothing; a folder without facts is a copy that was cut short."""
    folder, calls = tmp_path / "engines" / "a", []

    def make(draft):
        calls.append(draft)
        (draft / "network").write_text(str(len(calls)))
        if len(calls) == 1:
            raise ModelError("no", hint="no")
        return {"dice": 0.5}

    with pytest.raises(ModelError):
        kept(folder, make)
    assert not list(folder.parent.iterdir())
    folder.mkdir()
    (folder / "network").write_text("half")
    assert kept(folder, make) == kept(folder, make) == {"dice": 0.5}
    assert (folder / "network").read_text() == "2" and len(calls) == 2
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_a_lack_of_memory_in_onnx_runtime_is_seen_as_one():
    """Its errors have a base of their own, which is no RuntimeError."""

    class Session:
        def run(self, names, inputs):
            raise Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for a buffer")

    with pytest.raises(RuntimeError, match="RUNTIME_EXCEPTION") as caught:
        onnx_engine.OnnxNetwork(Session())(torch.zeros(1, 1, 8, 8))
    assert is_out_of_memory(caught.value)


def test_what_a_faster_process_made_is_left_alone(tmp_path):
    """It is in use there; what came second is dropped."""
    folder = tmp_path / "a"

    def make(draft, name):
        if name == "slow":
            kept(folder, lambda draft: make(draft, "fast"))
        (draft / "network").write_text(name)
        return {"made by": name}

    assert kept(folder, lambda draft: make(draft, "slow")) == {"made by": "fast"}
    assert (folder / "network").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
