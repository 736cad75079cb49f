"""The speed benchmarks take turns, compare equal work, and write down what came out; on tiny sizes."""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import uvea
from uvea.datasets.synthetic import make, write_dataset
from uvea.models import Precision, preset, save_weights
from uvea.models.build import build_network
from uvea.models.unet import UNet
from uvea.training import loop
from uvea.training.losses import build_loss
from uvea.training.step import Recorded
from uvea.workflows.plan import plan as planned
from uvea.workflows.workspace import Workspace

FOLDER = Path(__file__).parents[1] / "benchmarks"
MACHINE = {
    "processor": "slow",
    "cores": 2,
    "memory_bytes": 2**33,
    "accelerator": None,
    "versions": {"uvea": "0"},
}
RUN = {
    "started": "then",
    "commit": "abc",
    "machine": MACHINE,
    "threads": 2,
    "repeat": 3,
    "quick": False,
    "note": "",
}
TOY = """
import time

import numpy as np

def count(*, start, fails=0):
    yield {"versions": {"toy": "1"}, "parameters": 7}
    while True:
        start += 1
        if start == fails:
            raise ValueError("boom\\nwhere things lie")
        yield {"seconds": start, "pixels": 10}

def hang():
    yield {"versions": {"toy": "1"}}
    time.sleep(99)

def curve(*, out, seconds):
    yield {"versions": {"toy": "1"}}
    for done in seconds:
        np.savez(out, a=np.array([[1, 1, 0, 0]]) * (done > 1), b=np.array([[1, 0]]))
        yield {"seconds": done, "step": done, "masks": out}
"""


def loaded(name: str) -> ModuleType:
    """A script as a module, once; it is no part of the package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


# In the order in which one needs another.
accuracy, turns, peer_data, plain = map(loaded, ("accuracy", "turns", "peer_data", "plain"))
peers_torch, peers_keras, ours, made = map(loaded, ("peers_torch", "peers_keras", "ours", "made"))
train_step, predict, gpu, scaling, time_to_dice, ablation = map(
    loaded, ("train_step", "predict", "gpu", "scaling", "time_to_dice", "ablation")
)
Tool, Setting = turns.Tool, turns.Setting
SETTING = Setting(peers=Path(sys.executable), threads=1)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Children that run two jobs which need nothing."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    shutil.copyfile(FOLDER / "child.py", folder / "child.py")
    (folder / "toy.py").write_text(TOY)
    monkeypatch.setattr(turns, "FOLDER", folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network of two levels that saw three batches."""
    folder = tmp_path_factory.mktemp("model")
    write_dataset(folder / "data", kind="nuclei", count=5, seed=1, size=(64, 64))
    settings = {"width": (4, 8), "patch": (32, 32), "batch": 2, "norm": "batch", "normalization": "zscore"}
    more = {"block": "plain", "convs": 2, "deep_supervision": False, "precision": "float32"}
    uvea.train(folder / "data", out=folder / "model", steps=3, overrides={**settings, **more}, device="cpu")
    return folder / "model"


def settings_of(tool: Any) -> Any:
    """The job of a tool as a generator in this process."""
    module, name = tool.job.split(":")
    return getattr(loaded(module), name)(**tool.settings)


def test_tools_take_turns_and_one_that_fails_leaves_the_others_alone(toy):
    """Medians of 2, 3 and 4; the second tool is twice as slow at first; the third ends in its second turn."""
    tools = {
        "one": Tool(job="toy:count", settings={"start": 1}),
        "two": Tool(job="toy:count", settings={"start": 3}, peer=True),
        "three": Tool(job="toy:count", settings={"start": 1, "fails": 3}),
        "four": Tool(job="nothing_like_it:count", settings={}, peer=True),
        "five": Tool(job="nothing_like_it:count", settings={}),
    }
    told = []
    found = turns.in_turns(tools, SETTING, repeat=3, told=lambda found: told.append(found.keys()))
    assert [turn["seconds"] for turn in found["one"]["turns"]] == [2, 3, 4]
    assert found["one"]["seconds"] == 3 and found["one"]["parameters"] == 7
    assert found["one"]["peak_bytes"] >= found["one"]["floor_bytes"] > 2**20
    assert turns.times_as_fast(found["one"], found["two"]) == 5 / 3  # the median of 4/2, 5/3 and 6/4
    assert found["three"]["error"] == "ValueError: boom" and len(found["three"]["turns"]) == 1
    assert found["three"]["tail"][0].startswith("Traceback") and found["three"]["tail"][-1] == "where things lie"
    assert found["four"]["error"] == "not installed: nothing_like_it"
    assert found["five"]["error"] == "nothing_like_it is missing, which uvea needs"
    assert turns.times_as_fast(found["one"], found["three"]) is None
    assert turns.exit_code([found["one"], found["four"]]) == 0
    assert turns.exit_code([found["three"]]) == turns.exit_code([found["five"]]) == 1
    assert [*map(len, told)] == [1, 2, 3, 4, 5, *[5] * 5]  # five tools, then three, then the two that are left


def test_a_tool_that_hangs_is_ended_and_says_where(toy, tmp_path):
    """The next one runs, and the log has the line in which the first one was."""
    tools = {"one": Tool(job="toy:hang", settings={}), "two": Tool(job="toy:count", settings={"start": 1})}
    setting = Setting(peers=Path(sys.executable), threads=1, limit=5, log=tmp_path / "new" / "toy.log")
    found = turns.in_turns(tools, setting, repeat=1)
    assert found["one"]["error"] == "no answer in 5 s" and any("in hang" in line for line in found["one"]["tail"])
    assert found["two"]["seconds"] == 2
    log = setting.log.read_text()
    assert "one: no answer in 5 s" in log and "in hang" in log and "two" not in log


def test_no_turn_begins_once_the_time_is_up(toy, monkeypatch):
    """Asked before each turn, a clock shows 0, 1, 2 and 3; the second tool has no second turn."""
    clock = iter(range(9))
    fake = SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter, sleep=time.sleep)
    monkeypatch.setattr(turns, "time", fake)
    tools = {name: Tool(job="toy:count", settings={"start": 1}) for name in ("one", "two")}
    found = turns.in_turns(tools, SETTING, repeat=2, until=3)
    assert [len(entry["turns"]) for entry in found.values()] == [2, 1] and "seconds" in found["two"]
    assert turns.in_turns({"one": tools["one"]}, SETTING, repeat=2, until=3) == {"one": {"error": turns.OUT_OF_TIME}}
    assert turns.exit_code([{"error": turns.OUT_OF_TIME}]) == 1


def test_a_command_that_hangs_is_ended():
    """After its limit, long before it has started."""
    assert accuracy.run_uvea(["--version"], limit=0.01).code == -9


def test_children_have_equal_threads_and_only_ours_have_our_package(monkeypatch):
    """A peer must not find uvea by accident, nor another number of threads; other packages may be anywhere."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    mine, theirs = (Setting(peers=Path("x"), threads=3).environment(peer=peer) for peer in (False, True))
    assert {mine[name] for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")} == {"3"}
    assert "PYTHONPATH" not in theirs and mine["PYTHONPATH"].endswith("src")
    assert mine["CUDA_VISIBLE_DEVICES"] == "" and {**theirs, "PYTHONPATH": mine["PYTHONPATH"]} == mine
    source = str(turns.ROOT / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/wheels", source]))
    paths = [Setting(peers=Path("x"), threads=3).environment(peer=peer)["PYTHONPATH"] for peer in (False, True)]
    assert paths == [os.pathsep.join([source, "/wheels"]), "/wheels"]


def test_memory_of_turns_is_the_largest_and_everything_else_the_median():
    """One turn that took more memory needs that memory."""
    found = turns.medians(
        [{"seconds": 1.0, "peak_bytes": 5}, {"seconds": 2.0, "peak_bytes": 9}, {"seconds": 9.0, "peak_bytes": 6}]
    )
    assert found == {"seconds": 2.0, "peak_bytes": 9}


def test_runs_of_a_day_are_merged_and_a_quick_run_leaves_no_file(tmp_path, capsys):
    """Two runs one after the other are both in the file; with --quick the page is only shown."""
    page = lambda day, runs: f"page of {len(runs)}"  # noqa: E731
    asked = argparse.Namespace(out=tmp_path, quick=True)
    for _ in range(2):
        turns.record("toy", [{"part": "a"}], asked, page)
    (path,) = tmp_path.glob("*.json")
    assert turns.recorded(path) == [{"part": "a"}, {"part": "a"}]
    assert path.with_suffix(".md").read_text() == "page of 2"
    capsys.readouterr()
    before = sorted((FOLDER / "results").iterdir())
    turns.record("toy", [{"part": "a"}], argparse.Namespace(out=None, quick=True), page)
    assert capsys.readouterr().out == "page of 1\n" and sorted((FOLDER / "results").iterdir()) == before


def test_errors_do_not_tell_where_things_lie():
    """Results are shared."""
    assert turns.placeless(f"no {turns.ROOT}/a and /tmp/uvea-predict-x_1/model/b") == "no ./a and WORK/model/b"
    line = 'File "/home/me/lib/python3.12/site-packages/torch/nn.py", line 1'
    assert turns.placeless(line) == 'File "site-packages/torch/nn.py", line 1'


def test_peers_that_are_not_there_start_nothing(tmp_path):
    """One line that says what to do."""
    with pytest.raises(turns.BenchmarkError, match=r"no peers at .*README"):
        turns.setting_of(argparse.Namespace(peers_python=tmp_path / "python", threads=1))


@pytest.mark.parametrize(
    "dims, strides, kernels, norm, activation",
    [
        (2, [(2, 2), (2, 2)], [(3, 3)] * 3, "batch", "leaky_relu"),
        (3, [(1, 2, 2), (2, 2, 2)], [(1, 3, 3), (3, 3, 3), (3, 3, 3)], "instance", "relu"),
    ],
)
def test_the_plain_network_is_the_network_of_uvea(dims, strides, kernels, norm, activation):
    """The same weights give the same logits, or the comparisons would compare different things."""
    settings = {
        "in_channels": 2,
        "classes": 3,
        "channels": (4, 6, 8),
        "strides": strides,
        "kernels": kernels,
        "norm": norm,
        "activation": activation,
    }
    torch.manual_seed(0)
    theirs, mine = plain.PlainUNet(**settings).eval(), UNet(**settings, dims=dims).eval()
    theirs.load_state_dict(mine.state_dict())
    images = torch.randn((2, 2, 8, 16, 16)[: dims + 2])
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), mine(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_plain_standard_network_has_the_weights_of_the_preset(dims):
    """Names and shapes of all weights of `standard`."""
    shapes = [
        {name: tuple(value.shape) for name, value in network.state_dict().items()}
        for network in (plain.standard(dims), preset("standard", dims=dims))
    ]
    assert shapes[0] == shapes[1]


def test_cases_come_back_as_they_were_written(tmp_path):
    """Names, images of any type and classes, in their order."""
    cases = [
        ("b", np.ones((1, 2, 3), np.uint16), np.zeros((2, 3), np.uint8)),
        ("a", np.zeros((3, 4, 4), np.uint8), np.ones((4, 4), np.uint8)),
    ]
    peer_data.write_cases(tmp_path / "cases.npz", cases)
    for (name, image, mask), (name2, image2, mask2) in zip(cases, peer_data.read_cases(tmp_path / "cases.npz")):
        assert name == name2 and image.dtype == image2.dtype
        np.testing.assert_array_equal(image, image2)
        np.testing.assert_array_equal(mask, mask2)
    flat = peer_data.normalised(np.array([[[1, 3]], [[5, 5]]]))
    np.testing.assert_array_equal(flat, [[[-1, 1]], [[0, 0]]])


@pytest.mark.parametrize("how, shape", [("cut", (1, 10, 7)), ("pad", (2, 3, 4, 6)), ("cut", (3, 8, 8))])
def test_pieces_for_the_tutorial_join_to_the_image(how, shape, rng):
    """What a network without any effect predicts is the image itself; volumes go slice by slice."""
    image = rng.integers(0, 255, shape).astype(np.uint8)
    pieces = peers_keras._pieces(image, 8, how)
    assert pieces.shape[1:] == (8, 8, shape[0])
    joined = peers_keras._joined(pieces, shape[1:], 8, how)
    np.testing.assert_array_equal(joined.reshape(*shape[1:], shape[0]), np.moveaxis(image, 0, -1))


def test_both_sides_of_the_mini_comparison_get_the_same_images(tmp_path):
    """Full batches of pictures in [0, 1] and masks of 0 and 1, as Keras takes them."""
    with np.load(train_step.write_mini_data(tmp_path / "mini.npz", 64)) as file:
        images, masks = file["images"], file["masks"]
    assert images.shape == masks.shape == (64, 128, 128, 1) and images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1 and set(np.unique(masks)) == {0, 1}
    tools = train_step.tools_of("mini", tmp_path, quick=True)
    assert {tool.settings["data"] for tool in tools.values()} == {str(tmp_path / "mini.npz")}


def test_the_two_level_network_trains_by_the_loop_of_the_package(tmp_path):
    """148,353 parameters; a turn is an epoch of four images in batches of two."""
    images = np.random.default_rng(0).random((4, 16, 16, 1)).astype(np.float32)
    np.savez(tmp_path / "data.npz", images=images, masks=(images > 0.5).astype(np.float32))
    job = ours.two_level_steps(data=str(tmp_path / "data.npz"), batch=2)
    ready, turn = next(job), next(job)
    assert ready["parameters"] == 148_353 and ready["step_flops"] > 0
    assert turn["images"] == 4 and turn["steps"] == 2 and turn["seconds"] > 0


def test_the_overhead_is_what_is_not_the_network():
    """Steps of 2 s of which the network takes 1.8, 1.5 and 1.9: a tenth is the median."""
    entry = {"turns": [{"seconds": 2.0, "bare_seconds": bare} for bare in (1.8, 1.5, 1.9)]}
    assert train_step.overhead(entry) == pytest.approx(0.1)


def test_validations_do_not_count_as_steps():
    """Sixty steps of 1 s, two of which were followed by 30 s of validation; the first third is left out."""
    between = [5.0] * 20 + [1.0] * 38 + [30.0] * 2
    assert ours.step_seconds(np.cumsum([0.0, *between]).tolist()) == pytest.approx(1.0)


@pytest.fixture
def repeats(monkeypatch):
    """One entry for each time that a recorded step is repeated; a function stands for a CUDA graph."""
    done: list[int] = []

    def record(work):
        result = torch.zeros(2)

        def repeat():
            done.append(1)
            result.copy_(work())

        return repeat, result

    for module in (ours, loop):
        monkeypatch.setattr(module, "Recorded", partial(Recorded, record=record))
    return done


def test_the_bare_step_is_recorded_where_the_training_is(model, repeats):
    """In its precision, whatever a plan would choose now. Two steps are repeated, before them one that is checked."""
    plan = Workspace(model).load_plan().model_copy(update={"precision": "bfloat16"})
    precision = ours._precision_of(model, plan, "cpu")
    assert precision.reason == "float32: set by you"
    bare = ours._bare(plan, precision, 2, "cpu", recorded=True)
    assert len(repeats) == 3 and bare["bare_seconds"] > 0 and bare["bare_manner"] == "recorded"
    bare = ours._bare(plan, precision, 2, "cpu", recorded=False)
    assert len(repeats) == 3 and bare["bare_seconds"] > 0 and bare["bare_manner"] == "eager"


def test_recorded_steps_of_the_loop_come_after_those_that_a_recording_needs(repeats):
    """Two are asked for: four more are drawn before them, and the last of those is repeated to be checked."""
    network = UNet(in_channels=1, classes=2, channels=(4, 8), strides=[(2, 2)], kernels=[(3, 3)] * 2, dims=2)
    images, labels = ours._random_batch((2, 1, 8, 8), "cpu")
    optimizer = torch.optim.AdamW(network.parameters(), lr=torch.tensor(0.01))
    drawn = []

    def draw(step):
        drawn.append(step)
        return images, labels

    given = {"precision": Precision(dtype="float32", channels_last=False, reason=""), "device": "cpu"}
    loss = build_loss("dice_and_cross_entropy")
    seconds, said = ours._loop(network, optimizer, draw, loss, 2, **given, recorded=True)
    assert drawn == list(range(6)) and len(repeats) == 3 and seconds > 0 and not said
    ours._loop(network, optimizer, draw, loss, 2, **given, recorded=False)
    assert len(drawn) == 8 and len(repeats) == 3


def test_cudnn_tries_its_kernels_for_the_bare_step_on_a_gpu():
    """Inside of the block, and not where a plan is to be deterministic."""
    for device, deterministic, tries in (("cuda", False, True), ("cuda", True, False), ("cpu", False, False)):
        with ours.fastest_kernels(device, deterministic=deterministic):
            assert torch.backends.cudnn.benchmark is tries
        assert torch.backends.cudnn.benchmark is False


def test_why_steps_stayed_eager_is_said():
    """A recording that failed, or a plan that none is tried for; on a processor there is nothing to explain."""
    said = ["float32: set by you", "steps stay eager: a recorded one differs by 0.3"]
    assert ours.manner_of("cuda", recorded=True, said=said) == "eager: a recorded one differs by 0.3"
    assert ours.manner_of("cuda", recorded=True, said=said[:1]) == "recorded"
    assert ours.manner_of("cuda", recorded=False, said=[]).startswith("eager: the plan asks for another optimizer")
    assert ours.manner_of("cpu", recorded=False, said=[]) == "eager"


def test_the_page_of_training_steps_has_the_newest_run_of_each_part():
    """Forty images in 2 s are 20 a second, and the peer takes three times as long."""

    def entry(*seconds: float) -> dict[str, Any]:
        facts = {
            "parameters": 1000,
            "precision": "bfloat16",
            "peak_bytes": 2**30,
            "cpu_seconds": 3.0,
            "versions": {"x": "1"},
        }
        each = [{"seconds": value, "images": 40} for value in seconds]
        return {**facts, "turns": each, **turns.medians(each)}

    run = {**RUN, "part": "mini", "tools": {"uvea": entry(2, 2, 2), "Keras fit": entry(6, 6, 8)}}
    older = {**RUN, "part": "mini", "tools": {"uvea": entry(77), "Keras fit": {"error": "not installed: keras"}}}
    page = train_step.as_markdown("2026-01-02", [older, run])
    assert "| uvea | 20 (20 to 20) |  | 1.50 | 1.00 GiB | 1,000 |" in page
    assert "| Keras fit | 6.67 (5 to 6.67) | 3.00 |" in page and "not installed" not in page
    assert "Goal: 4 times Keras fit. uvea runs in bfloat16." in page and "2 threads for every tool" in page
    assert "| Keras fit | not installed: keras |" in train_step.as_markdown("2026-01-02", [older])


def test_on_a_machine_without_a_gpu_the_benchmark_says_why_and_ends(monkeypatch, capsys):
    """In torch's words, on one line and with exit code 2, before anything is made."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit) as ended:
        turns.run_main(lambda: gpu.main([]))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert said.startswith("no GPU that torch can use: ") and ("CUDA" in said or "NVIDIA" in said)


@pytest.mark.parametrize(
    "words",
    [["--device", "cpu"], ["--only", "predict", "--tool", "uvea, step"], ["--tool", "uvea"], ["--dims", "4D"]],
)
def test_words_that_ask_for_nothing_are_refused(words, capsys):
    """Full sizes on a processor take days; a tool must be in a table."""
    with pytest.raises(SystemExit):
        gpu.main(words)
    assert "error" in capsys.readouterr().err


def test_the_gpu_benchmark_runs_on_a_processor_to_see_that_it_runs(tmp_path):
    """One table of two tools, as the command line makes it, in tiny sizes."""
    tools = ["uvea, step", "plain PyTorch, bfloat16"]
    place = ["--only", "train", "--dims", "2D", "--peers-python", sys.executable, "--out", str(tmp_path)]
    assert gpu.main(["--quick", "--device", "cpu", *place, "--tool", *tools, "--repeat", "1", "--threads", "1"]) == 0
    (run,) = turns.recorded(next(tmp_path.glob("gpu-*.json")))
    assert [*run["tools"]] == tools and all(len(entry["turns"]) == 1 for entry in run["tools"].values())
    (page,) = tmp_path.glob("*.md")
    assert "## Training, 2D, 2×1×32×32, a processor" in page.read_text() and not [*tmp_path.glob("*.log")]


def test_a_table_that_fails_leaves_the_next_one_alone(tmp_path, monkeypatch):
    """2D has no network; what 3D has after its first turn is written then."""
    written = []

    def tools_in(kind, dims, work, asked, setting, *, until):
        assert until - time.monotonic() == pytest.approx({"2D": 50, "3D": 100}[dims], abs=5)
        if dims == "2D":
            raise turns.BenchmarkError("no room")
        return {}

    def in_turns(tools, setting, *, repeat, until, told):
        turn = {"seconds": 2.0, "pixels": 10**6}
        told({"uvea, torch": {"turns": [turn], **turn}})
        written.append(turns.recorded(next(tmp_path.glob("gpu-*.json"))))
        return {"uvea, torch": {"turns": [turn], **turn}, "MONAI": {"error": "not installed: monai"}}

    for name, fake in (("tools_in", tools_in), ("in_turns", in_turns), ("begun", lambda asked: RUN)):
        monkeypatch.setattr(gpu, name, fake)
    given = ["--quick", "--device", "cpu", "--only", "predict", "--seconds", "100", "--out", str(tmp_path)]
    assert gpu.main(given) == 1
    ((first, second),) = written
    assert first["error"] == "no room" and [*second["tools"]] == ["uvea, torch"]
    page = next(tmp_path.glob("*.md")).read_text()
    assert "Failed: no room" in page and "| uvea, torch | 2 (2 to 2) | 0.50 |" in page
    assert "| MONAI | not installed: monai |" in page and "- uvea, torch: 1 of 3 turns." in page


def test_a_table_with_other_tools_hides_none():
    """The newest of all tools, and one of a single tool that was measured later."""

    def run(note: str, *tools: str) -> dict[str, Any]:
        entries = {name: {"error": "not installed: x"} for name in tools}
        return {**RUN, "kind": "train", "dims": "2D", "gpu": "G", "shape": [2], "tools": entries, "note": note}

    page = gpu.as_markdown("2026-01-02", [run("cut off", "a"), run("full", "a", "b"), run("more", "c")])
    assert "cut off" not in page and "full" in page and "more" in page


def test_every_tool_of_the_gpu_benchmark_can_be_asked_for(model, tmp_path):
    """By the names that are in the tables."""
    made = gpu.training_tools(gpu.shape_of("train", "2D", quick=True), tmp_path, device="cpu", quick=True)
    assert (*made,) == gpu.TOOLS["train"] and gpu.ON_DEMAND in made
    np.save(tmp_path / "image.npy", np.zeros((1, 32, 32)))
    plan = json.loads((model / "plan.json").read_text())
    assert (*predict.tools_of(plan, model, tmp_path, engines=["torch"]),) == gpu.TOOLS["predict"]


@pytest.mark.parametrize("dims", ["2D", "3D"])
def test_a_whole_training_has_the_network_of_the_steps(dims, tmp_path):
    """Also where slices are thicker than pixels: the same weights and strides."""
    shape = gpu.shape_of("train", dims, quick=True)
    tools = gpu.training_tools(shape, tmp_path, device="cpu", quick=True)
    given = tools["uvea, whole training"].settings
    plan = planned(given["data"], overrides=given["overrides"], device="cpu").plan
    widths = tools["uvea, step"].settings["widths"]
    mine, bare = build_network(plan), preset("standard", dims=len(shape) - 2, channels=widths)
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (mine, bare)]
    for shape_of_each in shapes:
        del shape_of_each["heads.0.weight"], shape_of_each["heads.0.bias"]  # blobs are of two kinds
    assert shapes[0] == shapes[1] and set(plan.strides) == {(2,) * (len(shape) - 2)}


def test_validations_of_a_whole_training_on_a_gpu_do_not_count():
    """Steps of 1 s, looked at five by five, with all the validations that a training has, of 30 s each."""
    every = -(-gpu.WHOLE_STEPS // loop.INTERVALS)
    ends = np.cumsum([1.0 + 30 * (step % every == 0) for step in range(1, gpu.WHOLE_STEPS + 1)])
    looked = ends[ours.LOOKED_AT - 1 :: ours.LOOKED_AT].tolist()
    assert ours.step_seconds(looked) / ours.LOOKED_AT == pytest.approx(1.0)


def test_the_training_jobs_of_the_gpu_benchmark_run_on_a_processor(tmp_path):
    """Each job on a tiny batch, as it would run on a GPU; MONAI where it is installed."""
    shape = gpu.shape_of("train", "2D", quick=True)
    tools = gpu.training_tools(shape, tmp_path, device="cpu", quick=True)
    del tools["uvea, compiled"]  # takes a minute, and needs a compiler
    found: dict[str, Any] = {}
    for name, tool in tools.items():
        try:
            job = settings_of(tool) if "nnunet" not in tool.job else None
            if job is None:
                raise ModuleNotFoundError("nnunetv2", name="nnunetv2")
            ready, turn = next(job), next(job)
            found[name] = {**ready, "turns": [turn], **turns.medians([turn])}
        except ModuleNotFoundError as error:
            found[name] = {"error": f"not installed: {error.name}"}
    plain = [name for name in tools if name.startswith("plain PyTorch")]
    for name in ("uvea, step", "uvea, whole training", *plain):
        assert found[name]["seconds"] > 0, found[name]
        assert gpu.in_words(found[name], "manner") == ["eager"] and len(gpu.in_words(found[name], "runs_in")) == 1
    runs_in = [name.removeprefix("plain PyTorch, ").removesuffix(" (TF32 convolutions)") for name in plain]
    assert [found[name]["runs_in"] for name in plain] == runs_in
    assert found["uvea, whole training"]["batch"] == shape[0]
    run = {**RUN, "kind": "train", "dims": "2D", "gpu": "a processor", "shape": shape, "tools": found}
    page = gpu.as_markdown("2026-01-02", [run])
    assert "## Training, 2D, 2×1×32×32, a processor" in page and "on the bare step of" in page
    assert "| nnU-Net, whole training | not installed: nnunetv2 |" in page


def test_figures_of_a_gpu_worked_by_hand():
    """Two steps of 4·10¹² operations on 2×10⁶ pixels in half a second: 4 steps, 16 TFLOP and 8·10⁶ pixels a second."""
    memory = {"device_peak_bytes": 2**30, "device_reserved_peak_bytes": 3 * 2**30}
    turn = {"seconds": 0.5, "steps": 2, "images": 4, "manner": "recorded", **memory}
    entry = {"step_flops": 4e12, "precision": "bfloat16: faster", "runs_in": "bfloat16", "turns": [turn], **turn}
    step = {"seconds": 0.22, "bare_seconds": 0.2, "manner": "eager: no room", "bare_manner": "recorded"}
    whole = {**turns.medians([step]), "batch": 2, "turns": [step]}
    run = {
        **RUN,
        "kind": "train",
        "dims": "2D",
        "gpu": "G",
        "shape": [2, 1, 1000, 1000],
        "tools": {"uvea, step": entry, "uvea, whole training": whole},
    }
    page = gpu.as_markdown("2026-01-02", [run])
    assert "| uvea, step | 4.00 | 8.0 | 16.0 | bfloat16 | recorded | 1.00 GiB | 3.00 GiB |" in page
    assert "- uvea, step: bfloat16: faster." in page and "- uvea, whole training: eager: no room." in page
    assert "- uvea, whole training: +10.0% on the bare step of 0.2 (0.2 to 0.2) s (recorded); goal: 10%." in page


def test_prediction_by_uvea_and_by_monai_agree(model, tmp_path):
    """The same weights and the same single tile give the same mask in float32, on the device that is named."""
    pytest.importorskip("monai", reason="monai not installed: pip install -c constraints.txt -e '.[oracles]'")
    np.save(tmp_path / "image.npy", make("nuclei", seed=9, size=(64, 64)).image.array)
    plan = json.loads((model / "plan.json").read_text())
    tools = gpu.on_device(predict.tools_of(plan, model, tmp_path, engines=["torch"]), "cpu")
    masks = {}
    for name in ("uvea, torch", "MONAI, tiles of uvea"):
        job = settings_of(tools[name])
        next(job)
        turn = next(job)
        assert turn["pixels"] == 64 * 64 and turn["seconds"] > 0
        masks[name] = predict._classes(Path(tools[name].settings["out"]), plan, ours="uvea" in name)
    assert predict.agreement(*masks.values(), classes=2) > 0.999


def test_an_engine_that_is_not_installed_is_no_failure(monkeypatch):
    """Its row says which package is missing."""
    monkeypatch.setattr(ours, "find_spec", lambda name: None if name == "nncf" else "there")
    with pytest.raises(ModuleNotFoundError, match="nncf"):
        ours.engine_words("int8")
    assert ours.engine_words("openvino") == {"engine": "openvino"}


def test_agreement_is_the_mean_over_the_classes():
    """Class 1 agrees in one of two and one pixels, 2/3; class 2 nowhere: 1/3. Other shapes are refused."""
    assert predict.agreement(np.array([1, 1, 2, 0]), np.array([1, 2, 0, 0]), classes=3) == pytest.approx(1 / 3)
    with pytest.raises(turns.BenchmarkError, match=r"\(2,\)"):
        predict.agreement(np.zeros(2), np.zeros(3), classes=2)


def test_the_page_of_prediction_compares_with_both_peers():
    """A picture of 2·10⁶ pixels in 1 s, peers 5 and 8 times as slow."""

    def entry(seconds: float, dice: float) -> dict[str, Any]:
        turn = {"seconds": seconds, "pixels": 2_000_000, "cpu_seconds": seconds, "peak_bytes": 2**31}
        return {"turns": [turn], **turn, "floor_bytes": 2**30, "truth_dice": dice, "dice": dice, "versions": {}}

    tools = {
        "uvea, torch": entry(1, 1),
        "MONAI": entry(5, 0.9),
        "nnU-Net": entry(8, 0.8),
        "uvea, int8": {"error": "not installed: nncf"},
    }
    jobs = {"uvea predict": entry(2, 1), "MONAI": entry(3, 1), "nnU-Net": {"error": "exit code 1"}}
    run = {
        **RUN,
        "part": "2D",
        "size": [1000, 2000],
        "tile": [5, 5],
        "patch": [4, 4],
        "files": 2,
        "tools": tools,
        "jobs": jobs,
    }
    page = predict.as_markdown("2026-01-02", [run])
    assert "| MONAI | 5 (5 to 5) | 0.400 | 5.00 | 1.00 | 2.00 GiB | 1.00 GiB | 0.9000 | 0.9000 |" in page
    assert "- uvea, torch: 5.00 times as fast as MONAI, 8.00 times as fast as nnU-Net" in page
    assert "| MONAI | 3 (3 to 3) | 1.50 | 2.00 GiB |" in page and "| nnU-Net | exit code 1 |" in page


def curve_of(data: str, tool: str, *points: tuple[float, float], seed: int = 0) -> dict[str, Any]:
    """A run of the time to Dice."""
    return {**RUN, "data": data, "tool": tool, "seed": seed, "curve": [{"seconds": s, "dice": d} for s, d in points]}


def test_time_to_a_level_and_to_the_tutorial_worked_by_hand():
    """Keras reaches 0.93 in 400 s; uvea has 0.9 after 20 s and 0.94 after 40 s: a tenth of the time."""
    keras = curve_of("nuclei", "keras", (100, 0.5), (300, 0.95), (400, 0.93))
    mine = curve_of("nuclei", "uvea", (20, 0.90), (40, 0.94), (80, 0.97))
    assert time_to_dice.seconds_to(keras, 0.9) == 300 and time_to_dice.seconds_to(mine, 0.98) is None
    assert time_to_dice.tutorial([keras, mine], "nuclei", 0) == (400, 0.93)
    assert time_to_dice.tutorial_ratio([keras, mine], "nuclei", 0) == 10
    assert time_to_dice.tutorial_ratio([keras], "nuclei", 0) is None
    failed = {**RUN, "data": "nuclei", "tool": "nnU-Net", "seed": 0, "error": "not installed: nnunetv2"}
    page = time_to_dice.as_markdown("2026-01-02", [keras, curve_of("nuclei", "uvea", (9, 0.1)), mine, failed])
    assert "| uvea | 1 | 20.0 | 80.0 | 80.0 | 40.0 | 0.9700 | 80 |" in page
    assert "| keras | 1 | 300.0 | 300.0 | – | 300.0 | 0.9300 | 400 |" in page
    assert "in 1/10.0 of its time" in page and "| nnU-Net | not installed: nnunetv2 |" in page


def test_the_times_that_uvea_gets_have_an_eighth_of_the_tutorial():
    """Rising, up to the longest; without a tutorial the usual ones."""
    assert time_to_dice.ladder(40.0, None) == [10, 20, 40]
    assert time_to_dice.ladder(40.0, (120.0, 0.9)) == [10, 15, 20, 40]


def test_mask_values_become_classes_and_unknown_ones_are_refused():
    """Membranes and cells by value, nuclei by not being background."""
    by_name = {data.name: data for data in time_to_dice.SETS}
    values = np.array([[0, 255, 128]])
    assert time_to_dice.classes_of(values, by_name["wbc_dataset1"]).tolist() == [[0, 2, 1]]
    assert time_to_dice.classes_of(np.array([0, 7, 900]), by_name["dsb2018_stage1"]).tolist() == [0, 1, 1]
    with pytest.raises(turns.BenchmarkError, match="drive has values besides"):
        time_to_dice.classes_of(values, by_name["drive"])


def test_dice_counts_inside_the_region_and_averages_classes_and_cases(tmp_path):
    """One of two pixels found, a third outside the region: 2/3; the other case is perfect."""
    data = next(data for data in time_to_dice.SETS if data.name == "drive")
    ready = time_to_dice.Prepared(
        data=data,
        folder=tmp_path,
        train=tmp_path,
        held=tmp_path,
        truths={"a": np.uint8([[1, 1, 0, 1]]), "b": np.uint8([[1, 0]])},
        within={"a": np.array([[True, True, True, False]])},
    )
    masks = {"a": np.uint8([[1, 0, 0, 0]]), "b": np.uint8([[1, 0]])}
    assert time_to_dice.mean_dice(ready, masks) == pytest.approx((2 / 3 + 1) / 2)
    with pytest.raises(turns.BenchmarkError, match="no mask for b"):
        time_to_dice.mean_dice(ready, {"a": masks["a"]})


def test_a_peer_trains_until_it_is_good_enough_or_done(toy, tmp_path):
    """Good after its second turn of three; a level that it never has lets it come to its end."""
    tool = Tool(job="toy:curve", settings={"out": str(tmp_path / "masks.npz"), "seconds": [1, 2, 3]})
    score = lambda masks: float(masks["a"].mean())  # noqa: E731
    found = time_to_dice.peer_curve(tool, SETTING, score=score, enough=0.5)
    assert [point["dice"] for point in found["curve"]] == [0, 0.5] and found["versions"] == {"toy": "1"}
    assert found["curve"][1]["seconds"] == found["start_seconds"] + 2
    assert len(time_to_dice.peer_curve(tool, SETTING, score=score, enough=0.9)["curve"]) == 3


def test_synthetic_sets_have_other_cases_on_each_side(tmp_path):
    """Peers and uvea get the same images, and no held-back name is trained on."""
    data = next(data for data in time_to_dice.SETS if data.name == "nuclei")
    ready = time_to_dice.prepared(data, tmp_path, root=tmp_path, quick=True)
    names = [name for name, _, _ in peer_data.read_cases(ready.train)]
    assert len(names) == 4 and len(ready.truths) == 2 and not set(names) & ready.truths.keys()
    (first, image, mask), *_ = peer_data.read_cases(ready.held)
    np.testing.assert_array_equal(uvea.read(ready.folder / f"val/images/{first}.png").array, image)
    np.testing.assert_array_equal(ready.truths[first], mask)


@pytest.mark.data
def test_every_real_set_of_the_time_to_dice_can_be_prepared(data_root, tmp_path):
    """Its masks have no values but those that are named, and a region for each held-back case where there is one."""
    for data in time_to_dice.SETS:
        if not data.synthetic and (data_root / data.name).is_dir():
            ready = time_to_dice.prepared(data, tmp_path / data.name, root=data_root, quick=True)
            assert len(ready.truths) == 3 and max(mask.max() for mask in ready.truths.values()) < data.classes
            assert bool(ready.within) == (data.within is not None)
            assert len({len(image) for _, image, _ in peer_data.read_cases(ready.train)}) == 1


PLAN = {
    "learning_rate": 0.004,
    "batch": 2,
    "patch": [64, 64],
    "width": [4, 8],
    "strides": [[2, 2], [2, 2], [2, 2]],
    "dims": 2,
    "schedule": "linear",
    "loss": "dice_and_cross_entropy",
    "norm": "instance",
    "block": "plain",
    "optimizer": "muon",
    "ema": 0.99,
    "augment": 1.0,
    "clean_finish": 0.1,
    "augment_chance": 0.3,
    "deep_supervision": True,
}


def test_variants_differ_from_the_plan_in_one_choice():
    """None repeats the plan; what is scaled follows from it."""
    found = ablation.variants(PLAN, steps=100)
    assert found["rate 0.008"] == ("learning rate", {"learning_rate": "0.008"})
    assert found["one-cycle"] == ("schedule", {"warmup_steps": "30"})
    assert found["batch 1"] == ("batch", {"batch": "1"}) and found["batch 4"] == ("batch", {"batch": "4"})
    assert found["patch 32×32, as many pixels"] == ("patch", {"patch": "32,32", "batch": "8"})
    assert found["half the channels"][1] == {"width": "2,4"}
    assert found["deep supervision no"] == ("deep_supervision", {"deep_supervision": "no"})
    assert not found.keys() & {"augment 1", "ema 0.99", "optimizer muon", "deep supervision yes", "clean finish 0.1"}
    deep = ablation.variants({**PLAN, "batch": 1, "strides": [[2, 2]] * 5}, steps=100)
    assert not any(name.startswith(("patch", "batch 0")) for name in deep)


def test_an_ablation_pairs_seeds_and_goes_on_where_it_was_broken_off(tmp_path, monkeypatch):
    """Bold only where both seeds agree; a training on record is not run again, one that failed is."""
    made = []

    def train(ready, work, settings, setting, *, budget, seed):
        made.append((dict(settings), seed))
        assert budget == (("--steps", "100") if seed else ("--minutes", "1"))
        assert settings.get("augment_chance") == ("0.3" if seed else None)
        assert settings.get("width") == ("4,8" if seed else None)
        if settings.get("optimizer") and len(made) < 6:
            raise ablation.BenchmarkError("no room")
        gain = {"dice_and_cross_entropy": 0, "cross_entropy": 0.1, "soft_dice": 0.1 - 0.2 * seed, "focal": -0.1}
        dice = 0.5 + gain[settings.get("loss", "dice_and_cross_entropy")]
        return {"dice": dice, "steps": 100, "seconds": 60.0, "plan": PLAN}

    monkeypatch.setattr(ablation, "train", train)
    ready = argparse.Namespace(data=argparse.Namespace(name="toy"))
    asked = argparse.Namespace(
        out=tmp_path, minutes=1.0, choice=["loss", "optimizer"], quick=False, threads=1, repeat=2, note=""
    )
    runs = []
    for seed in (0, 1):
        runs = ablation.ablate(ready, tmp_path, asked, SETTING, seed=seed, first=runs)
        assert [run["variant"] for run in runs][:2] == ["defaults", "loss cross entropy"] and len(runs) == 5
    assert len(made) == 9 and "first seed" in runs[-1]["error"]
    runs = ablation.ablate(ready, tmp_path, asked, SETTING, seed=0)
    assert made[9:] == [({"optimizer": "adamw"}, 0)] and "error" not in runs[-1]
    (page,) = tmp_path.glob("*.md")
    text = page.read_text()
    assert "| loss cross entropy | 2 | 0.6000 | **+0.1000 (+0.1000 to +0.1000)** | 100 |" in text
    assert "| loss soft dice | 2 | 0.5000 | +0.0000 (-0.1000 to +0.1000) | 100 |" in text
    assert "| defaults | 2 | 0.5000 |  | 100 |" in text and "batch 2, patch 64×64" in text


def test_settings_that_cost_nothing_get_equal_steps():
    """The clock gave 90, 100 and 140 by chance; a batch of twice the size takes longer. What failed gets none."""
    clock = [("defaults", "", 100), ("rate 1", "learning rate", 90), ("ema 0", "ema", 140), ("batch 4", "batch", 55)]
    runs = [{"variant": name, "choice": choice, "steps": steps} for name, choice, steps in clock]
    found = ablation.equal_steps([*runs, {"variant": "ema 1", "choice": "ema", "error": "no room"}])
    assert found == {"defaults": 100, "rate 1": 100, "ema 0": 100, "batch 4": 55}


def test_scaling_runs_every_command_and_keeps_what_failed(tmp_path, monkeypatch):
    """Training fails, prediction goes on; each turn has a fresh place."""
    asked = []

    def command(words, setting):
        asked.append(words)
        code = 1 if "OUT" in words or (words[0] == "train" and "--steps" in words and "20" in words) else 0
        return accuracy.Finished(code=code, seconds=2.0, cpu_seconds=2.0, peak_memory_bytes=2**30, text="a\nno room\n")

    monkeypatch.setattr(scaling, "command", command)
    monkeypatch.setattr(scaling, "whole_job", lambda tool, setting: {})
    found = scaling.measure("classes", 3, tmp_path, SETTING, repeat=2)
    assert found["train, 20 steps"] == {"error": "exit code 1: a no room"}
    assert found["predict"]["seconds"] == 2.0 and len(found["predict"]["turns"]) == 2
    assert len({words[words.index("--out") + 1] for words in asked if words[0] == "predict"}) == 2


def test_the_images_of_scaling_are_what_is_asked_for(tmp_path):
    """A picture of its size, as many images as asked, no two alike, all classes in each mask."""
    list(made.picture(path=str(tmp_path / "picture.tif"), size=1024))
    assert uvea.read(tmp_path / "picture.tif").array.shape == (1, 1024, 1024)
    list(made.many(folder=str(tmp_path / "many"), count=18))
    files = sorted((tmp_path / "many/images").iterdir())
    assert len(files) == len({uvea.read(path).array.tobytes() for path in files}) == 18
    list(made.classes(folder=str(tmp_path / "classes"), count=64, images=1, size=64))
    assert len(np.unique(uvea.read(tmp_path / "classes/masks/image0.png").array)) == 64


def test_memory_beyond_the_files_worked_by_hand():
    """Of 2 GiB for 16,384² pixels, input and output take half a GiB."""
    assert scaling.beyond_files(16384, {"peak_bytes": 2**31}) == 1.5 * 2**30


def test_the_plain_network_reads_a_model_folder(model):
    """From plan.json and weights.safetensors alone, and it predicts what uvea predicts."""
    network = plain.load(model)
    image = torch.randn(1, 1, 32, 32)
    mine = uvea.load(model, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(network(image), mine.networks[0](image), atol=1e-4, rtol=1e-4)


def test_weights_that_do_not_fit_are_refused(model, tmp_path):
    """Another width is another network."""
    shutil.copytree(model, tmp_path / "copy")
    save_weights(tmp_path / "copy" / "weights.safetensors", preset("standard", channels=(4, 8, 16)))
    with pytest.raises(RuntimeError, match="state_dict"):
        plain.load(tmp_path / "copy")
