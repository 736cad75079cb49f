"""Networks that Keras saved predict what they did there; what is not a network, or hostile, is refused.

The files are in fixtures/, made by fixtures/make.py with Keras and TensorFlow. The tests marked `keras` make
networks afresh and need the extra `keras-oracle`.
"""

import importlib.util
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uvea.errors import ModelError
from uvea.models.graph import GraphNetwork
from uvea.models.keras import KerasModel, read_keras

h5py = pytest.importorskip("h5py", reason="reading the files of Keras needs h5py, extra `keras`")

FIXTURES = Path(__file__).parent / "fixtures"
_spec = importlib.util.spec_from_file_location("make_fixtures", FIXTURES / "make.py")
assert _spec is not None and _spec.loader is not None
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)

FILES = [
    "tutorial.keras",
    "tutorial.h5",
    "tutorial.weights.h5",
    "tutorial_keras2.keras",
    "tutorial_keras2.h5",
    "tutorial_keras2_weights.h5",
    "residual.keras",
    "residual_keras2.keras",
    "convolutions.keras",
    "transposed.keras",
    "valid.keras",
    "sequential.keras",
]


def outputs(found: KerasModel, images: np.ndarray) -> np.ndarray:
    """What Keras would give for images (n, y, x, c): the head that was taken off is put on again."""
    network = GraphNetwork(found.graph).eval()
    network.load_state_dict(found.weights)
    with torch.no_grad():
        logits = network(torch.from_numpy(images).permute(0, 3, 1, 2))
    heads: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "sigmoid": torch.sigmoid,
        "softmax": lambda x: x.softmax(1),
        "none": lambda x: x,
    }
    return heads[found.head](logits).permute(0, 2, 3, 1).numpy()


def cropped(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The middle, where Keras gives no border."""
    (y, x), (height, width) = ((a - b) // 2 for a, b in zip(array.shape[1:3], like.shape[1:3])), like.shape[1:3]
    return array[:, y : y + height, x : x + width]


def read_changed(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], *, name: str = "tutorial.keras", **changes: bytes
) -> KerasModel:
    """Read a fixture after `change` was made to its config.json and other members were replaced."""
    with zipfile.ZipFile(FIXTURES / name) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members |= {"config.json": json.dumps(config).encode(), **{k.replace("__", "."): v for k, v in changes.items()}}
    with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
        for entry, content in members.items():
            archive.writestr(entry, content)
    return read_keras(tmp_path / "changed.keras")


def layer_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The entry of a layer."""
    return next(entry for entry in config["config"]["layers"] if entry["config"]["name"] == name)


def h5_changed(tmp_path: Path, change: Callable[[Any], object], *, name: str = "tutorial.h5") -> Path:
    """A copy of a fixture after `change` was made to it with h5py."""
    path = tmp_path / "changed.h5"
    path.write_bytes((FIXTURES / name).read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


@pytest.mark.parametrize("name", FILES)
def test_a_network_predicts_what_it_did_in_keras(name):
    """Within 1e-5: every format, old and new, every layer, padding, stride and head."""
    found = read_keras(FIXTURES / name)
    wanted = np.load(FIXTURES / (name.partition(".")[0].removesuffix("_weights") + ".npy"))
    y, x = found.size if not found.assumed else (16, 16)
    images = make.image_for((y or 24, x or 32, found.graph.layers[0].channels))
    np.testing.assert_allclose(cropped(outputs(found, images), wanted), wanted, rtol=0, atol=1e-5)
    assert wanted.std() > 0.01  # a constant would be easy to predict


def test_facts_about_a_file():
    """Size, version and head are told; of weights alone they are not known."""
    found = read_keras(FIXTURES / "tutorial.keras")
    assert (found.size, found.version, found.head, found.assumed) == ((16, 16), "3.15.1", "sigmoid", False)
    found = read_keras(FIXTURES / "tutorial.weights.h5")
    assert (found.size, found.version, found.head, found.assumed) == ((None, None), None, "sigmoid", True)
    assert read_keras(FIXTURES / "residual.keras").head == "softmax"
    assert read_keras(FIXTURES / "valid.keras").head == "none"


def test_weights_alone_take_their_layers_from_json():
    """What model.to_json() writes; nothing is assumed then."""
    found = read_keras(FIXTURES / "tutorial.weights.h5", architecture=FIXTURES / "tutorial.json")
    assert (found.assumed, found.size) == (False, (16, 16))
    wanted = np.load(FIXTURES / "tutorial.npy")
    np.testing.assert_allclose(outputs(found, make.image_for((16, 16, 1))), wanted, rtol=0, atol=1e-5)


def test_weights_alone_of_another_network_are_refused(tmp_path):
    """Five convolutions whose sizes are not those of the tutorial, and a file without any."""

    def widen(file):
        del file["layers/conv2d_3/vars/0"]
        file["layers/conv2d_3/vars/0"] = np.zeros((3, 3, 5, 4), np.float32)

    with pytest.raises(ModelError, match=r"not the layers that they belong to\n.*--architecture"):
        read_keras(h5_changed(tmp_path, widen, name="tutorial.weights.h5"))
    with pytest.raises(ModelError, match="not the layers that they belong to"):
        read_keras(h5_changed(tmp_path, lambda file: file.clear(), name="tutorial.weights.h5"))


def test_the_order_of_weights_is_that_of_keras_and_not_of_names():
    """In `residual` the first convolution is called z_early and the second a_late: numbers follow the layers."""
    found = read_keras(FIXTURES / "residual.keras")
    assert [layer.name for layer in found.graph.layers if layer.kind == "conv"][:2] == ["z_early", "a_late"]


def test_a_layer_that_is_used_twice_keeps_its_name_and_a_number():
    """Keras has one layer with two nodes; here they are two layers."""
    names = [layer.name for layer in read_keras(FIXTURES / "residual.keras").graph.layers]
    assert {"act", "act (2)"} <= set(names)


# --- Refused by name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_name": "Lambda"}, r"layer conv2d_1 is a Lambda, which holds code, and code in a file is not executed"),
        (
            {"class_name": "Attention"},
            r"layer conv2d_1 is a Attention, which uvea does not know\n.*known are Activation",
        ),
        ({"class_name": "Rescaling"}, r"is a Rescaling.*\n.*--scale"),
        ({"class_name": "Functional"}, r"is a Functional, a model within the model"),
        ({"registered_name": "mine>Conv2D"}, r"layer conv2d_1 is a mine>Conv2D from elsewhere"),
        ({"module": "my_code"}, r"layer conv2d_1 is a Conv2D from elsewhere"),
        ({"module": "keras.layersX"}, r"layer conv2d_1 is a Conv2D from elsewhere"),
        ({"class_name": 7}, "has no class"),
        ({"config": {"name": 7}, "name": None}, "has no name"),
    ],
)
def test_unknown_classes_are_refused_by_name(tmp_path, change, said):
    """Nothing is looked up: a class is in the list or it is not."""
    with pytest.raises(ModelError, match=said):
        read_changed(tmp_path, lambda config: layer_of(config, "conv2d_1").update(change))


@pytest.mark.parametrize(
    ("layer", "change", "said"),
    [
        ("conv2d_1", {"activation": "mish"}, "conv2d_1 has the activation mish"),
        ("conv2d_1", {"activation": {"class_name": "function", "config": "f", "registered_name": "f"}}, "activation f"),
        ("conv2d_1", {"data_format": "channels_first"}, "has its channels first"),
        ("conv2d_1", {"padding": "causal"}, "has a padding of 'causal'"),
        ("conv2d_1", {"filters": 10**9}, "has a channels of 1000000000"),
        ("conv2d_1", {"filters": "many"}, "has a channels of 'many'"),
        ("conv2d_1", {"kernel_size": [3]}, r"size of \[3\]"),
        ("conv2d_1", {"kernel_size": [True, 3]}, r"size of \[True, 3\]"),
        ("conv2d_1", {"strides": [0, 1]}, "strides|stride"),
        ("conv2d_1", {"filters": 5}, r"kernel of the layer conv2d_1 .* shape \(3, 3, 4, 4\).* needs \(3, 3, 4, 5\)"),
        ("conv2d_1", {"use_bias": False}, "has the weights .*, not kernel"),
        ("up_sampling2d", {"interpolation": "lanczos3"}, "enlarges by lanczos3"),
        ("up_sampling2d", {"size": [3, 3]}, "of different size"),
        ("concatenate", {"axis": 1}, "joins along axis 1"),
        ("conv2d_4", {"activation": "relu"}, r"ends in conv2d_4 \(conv, relu\), not in probabilities"),
        ("conv2d_4", {"activation": "softmax"}, r"ends in a softmax over 1 channel"),
        ("input_layer", {"batch_shape": [None, 16, 16]}, "the image of the model has the shape"),
        ("input_layer", {"batch_shape": [None, 16, 16, None]}, "the image of the model has the shape"),
    ],
)
def test_settings_that_are_not_supported_are_refused_with_the_layer(tmp_path, layer, change, said):
    """Rather than a network that predicts something else."""
    with pytest.raises(ModelError, match=said):
        read_changed(tmp_path, lambda config: layer_of(config, layer)["config"].update(change))


def test_a_function_that_keras_changed_is_refused_where_it_is_the_old_one(tmp_path):
    """hard_sigmoid rises by 1/5 in Keras 2, by 1/6 in Keras 3, which this file is of unless it says otherwise."""

    def harden(config):
        layer_of(config, "conv2d_1")["config"]["activation"] = "hard_sigmoid"

    read_changed(tmp_path, harden)
    with pytest.raises(ModelError, match=r"conv2d_1 has the activation hard_sigmoid of Keras 2\.15\.0"):
        read_changed(tmp_path, harden, metadata__json=json.dumps({"keras_version": "2.15.0"}).encode())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(class_name="MyModel"), "the model is a MyModel, a class with code of its own"),
        (lambda c: c.update(config=7), "no model of Keras"),
        (lambda c: c["config"].update(layers={}), "has {} where a list belongs"),
        (lambda c: c["config"].update(layers=[]), "no list of layers"),
        (lambda c: c["config"].update(output_layers=[["conv2d_4", 0, 0], ["conv2d", 0, 0]]), "1 inputs and 2 outputs"),
        (lambda c: c["config"].update(output_layers=[["nowhere", 0, 0]]), "a layer that it does not have: nowhere"),
        (lambda c: c["config"].update(output_layers=["conv2d_4", 0, 1]), "in a way that is not known"),
        (
            lambda c: layer_of(c, "conv2d_1")["inbound_nodes"].__setitem__(0, {"args": [3]}),
            "something other than layers",
        ),
        (
            lambda c: layer_of(c, "conv2d_1").update(inbound_nodes=[[["conv2d_3", 0, 0, {}]]]),
            "goes into itself",
        ),
        (
            lambda c: layer_of(c, "max_pooling2d").update(inbound_nodes=[[["conv2d_1", 0, 0, {"scale": 2}]]]),
            "not known",
        ),
    ],
)
def test_models_that_are_no_plain_network_are_refused(tmp_path, change, said):
    """Subclasses, several outputs, loops, and inputs that are not layers."""
    with pytest.raises(ModelError, match=said):
        read_changed(tmp_path, change)


def test_operators_are_refused_unless_they_are_additions(tmp_path):
    """Keras 3 writes `a + b` as a class of its operations; `a * b` as well."""

    def operation(config, name):
        layer_of(config, "concatenate").update(class_name=name, module="keras.src.ops.numpy", registered_name=name)

    read_changed(
        tmp_path,
        lambda config: [operation(config, "Add"), layer_of(config, "conv2d_2")["config"].update(filters=4)],
        model__weights__h5=_weights_with(tmp_path, "layers/conv2d_2/vars/0", (3, 3, 4, 4)),
    )
    with pytest.raises(ModelError, match="a Multiply from elsewhere"):
        read_changed(tmp_path, lambda config: operation(config, "Multiply"))


def _weights_with(tmp_path: Path, name: str, shape: tuple[int, ...]) -> bytes:
    def change(file):
        del file[name]
        file[name] = np.zeros(shape, np.float32)

    return h5_changed(tmp_path, change, name="tutorial.weights.h5").read_bytes()


# --- Hostile files ----------------------------------------------------------------------------------------------------


KERNEL = "model_weights/conv2d_1/conv2d_1/kernel"


def _external_data(file):
    del file[KERNEL]
    dataset = file.create_dataset(KERNEL, (3, 3, 4, 4), "f4", external=[("/etc/passwd", 0, 576)])
    assert dataset.external


def _virtual_data(file):
    del file[KERNEL]
    layout = h5py.VirtualLayout(shape=(3, 3, 4, 4), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(3, 3, 4, 4))
    file.create_virtual_dataset(KERNEL, layout)


def _replaced(value: object) -> Callable[[Any], None]:
    def change(file):
        del file[KERNEL]
        file[KERNEL] = value

    return change


def _of_type(dtype: object, **settings: object) -> Callable[[Any], None]:
    def change(file):
        del file[KERNEL]
        file.create_dataset(KERNEL, (3, 3, 4, 4), dtype, **settings)

    return change


def _cycle(file):
    file["model_weights/conv2d_1/conv2d_1/again"] = file["model_weights/conv2d_1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_replaced(h5py.ExternalLink("/etc/passwd", "/x")), "a link instead of weights"),
        (_replaced(h5py.SoftLink("/model_weights/conv2d/conv2d/kernel")), "a link instead of weights"),
        (_external_data, "kept outside of the file"),
        (_virtual_data, "kept outside of the file"),
        (_of_type("i4"), "holds int32, not floats"),
        (_of_type(h5py.string_dtype()), "holds object, not floats"),
        (_of_type("f4", chunks=(3, 3, 4, 4), compression="lzf"), "by a filter of its own"),
        (_of_type("f4", chunks=(100, 100, 100, 100), maxshape=(None,) * 4), "in pieces of"),
        (_replaced(np.full((3, 3, 4, 4), np.nan, np.float32)), "NaN or infinite"),
        (_replaced(np.zeros((3, 3, 4), np.float32)), r"has the shape \(3, 3, 4\)"),
        (_cycle, "too many parts|has two arrays"),
        (lambda file: file["model_weights"].pop("conv2d_1"), "layer conv2d_1 .* has no weights"),
        (
            lambda file: file.attrs.create("model_config", np.array(["{}"] * 3, object), dtype=h5py.string_dtype()),
            "no text",
        ),
        (lambda file: file.attrs.create("model_config", 7), "no text"),
        (lambda file: file.attrs.create("model_config", "[" * 50_000), "is not JSON"),
        (lambda file: file.attrs.create("model_config", "{"), "is not JSON"),
    ],
)
def test_hostile_h5_files_are_refused(tmp_path, change, said):
    """Nothing outside of the file is opened, and nothing is read before its size and type are known."""
    with pytest.raises(ModelError, match=said):
        read_keras(h5_changed(tmp_path, change))


def test_compressed_weights_are_read(tmp_path):
    """Filters that are part of HDF5 are no danger."""

    def compress(file):
        kernel = file[KERNEL][()]
        del file[KERNEL]
        file.create_dataset(KERNEL, data=kernel, compression="gzip", shuffle=True, fletcher32=True)

    found = read_keras(h5_changed(tmp_path, compress))
    wanted = np.load(FIXTURES / "tutorial.npy")
    np.testing.assert_allclose(outputs(found, make.image_for((16, 16, 1))), wanted, rtol=0, atol=1e-5)


def _archive(tmp_path: Path, **members: bytes) -> Path:
    path = tmp_path / "archive.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def test_hostile_zips_are_refused(tmp_path):
    """Members that are missing, grow beyond measure, or are no HDF5."""
    plain = {"config__json": b"{}", "metadata__json": b"{}"}
    for members, said in (
        ({}, "has 0 files config.json, not one"),
        ({"config__json": b" " * (2**24 + 1)}, "config.json in .* has 16,777,217 bytes"),
        (plain, "has 0 files model.weights.h5"),
        ({**plain, "model__weights__h5": bytes(10**7)}, "would grow from"),
        ({**plain, "model__weights__h5": b"no HDF5"}, "damaged or not a file of Keras"),
        ({**plain, "config__json": b"["}, "config.json in .* is not JSON"),
    ):
        with pytest.raises(ModelError, match=said):
            read_keras(_archive(tmp_path, **members))


def test_a_member_that_is_larger_than_it_says_is_refused(tmp_path):
    """The sizes in the directory of a zip are claims: the stored length is changed in both headers."""
    path = _archive(tmp_path, config__json=b'{"a": "' + b"x" * 5000 + b'"}', metadata__json=b"{}")
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("config.json").file_size
    path.write_bytes(content.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(ModelError):
        read_keras(path)


@pytest.mark.parametrize("name", ["tutorial.keras", "tutorial.h5"])
def test_damaged_files_are_refused_in_one_line(name, tmp_path):
    """Cut at twenty places, and with a stretch of zeros at twenty: an error of ours, or a network that is whole."""
    content = (FIXTURES / name).read_bytes()
    path = tmp_path / name
    for part in range(1, 20):
        at = len(content) * part // 20
        for damaged in (content[:at], content[:at] + bytes(64) + content[at + 64 :]):
            path.write_bytes(damaged)
            try:
                read_keras(path)
            except ModelError as error:
                assert "\n" not in error.problem and len(error.problem) < 500 + len(str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how large a process is")
def test_a_text_that_is_declared_huge_gets_no_memory(tmp_path):
    """The version of Keras has 6 letters and declares 2 GiB; found by fuzzing. Measured in a process of its own."""
    content = bytearray((FIXTURES / "tutorial_keras2_weights.h5").read_bytes())
    place = content.index(b"keras_version") + 48
    assert content[place : place + 4] == (6).to_bytes(4, "little")
    content[place : place + 4] = b"\xff\xff\xff\x7f"
    (tmp_path / "huge.h5").write_bytes(content)
    code = """if True:
        import resource, sys
        from pathlib import Path
        from uvea.errors import ModelError
        from uvea.models.keras import read_keras
        read_keras(Path(sys.argv[1]))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read_keras(Path(sys.argv[2]))
        except ModelError:
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    words = [sys.executable, "-c", code, FIXTURES / "tutorial_keras2_weights.h5", tmp_path / "huge.h5"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert int(done.stdout) < 200, done.stderr


@pytest.mark.parametrize("length", [0, 8])
def test_a_heap_that_never_ends_is_refused(tmp_path, length):
    """A free part of no length, at which HDF5 would stand for ever; found by fuzzing. Numbers of four bytes, too."""
    content = bytearray((FIXTURES / "tutorial_keras2_weights.h5").read_bytes())
    heap = content.index(b"GCOL\x01")
    content[heap + 16 : heap + 32] = bytes(8) + length.to_bytes(8, "little")
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(ModelError, match="a heap in it never ends"):
        read_keras(tmp_path / "a.h5")
    content[13:15] = b"\4\4"
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(ModelError, match="its numbers have 4 and 4 bytes"):
        read_keras(tmp_path / "a.h5")


def test_heaps_within_heaps_are_not_walked_again_and_again(tmp_path):
    """Each begins in a part of the one before: their parts together are the square of what the file can hold."""
    content = (FIXTURES / "tutorial_keras2_weights.h5").read_bytes()
    heap = b"GCOL\1\0\0\0" + (2**40).to_bytes(8, "little") + b"\1\0" + bytes(6) + (16).to_bytes(8, "little")
    (tmp_path / "a.h5").write_bytes(content + 3000 * heap)
    with pytest.raises(ModelError, match="its heaps lie in each other"):
        read_keras(tmp_path / "a.h5")


def test_what_is_no_file_of_keras_is_refused(tmp_path):
    """A folder, text, and nothing."""
    (tmp_path / "text.keras").write_text("no network")
    for path, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "text.keras", "neither a .keras nor an .h5 file"),
        (tmp_path / "none.keras", "cannot read .*none.keras"),
    ):
        with pytest.raises(ModelError, match=said):
            read_keras(path)


def test_without_h5py_the_remedy_can_be_typed(monkeypatch):
    """It is an extra that few need."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModelError, match=r"h5py is not installed.*\n.*pip install h5py"):
        read_keras(FIXTURES / "tutorial.keras")


# --- Against Keras itself ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras with TensorFlow; skipped where it is not installed."""
    pytest.importorskip("tensorflow", reason="needs TensorFlow, extra `keras-oracle`")
    return pytest.importorskip("keras", reason="needs Keras, extra `keras-oracle`")


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_the_reference_network_predicts_what_keras_does(keras, suffix, tmp_path):
    """128 x 128 pixels, 148,353 parameters, probabilities within 1e-5."""
    model = make.randomize(make.tutorial(keras, size=128, width=64))
    assert model.count_params() == 148_353
    path = tmp_path / f"reference{suffix}"
    model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
    images = make.image_for((128, 128, 1), count=1)
    difference = np.abs(outputs(read_keras(path), images) - model.predict(images, verbose=0)).max()
    assert difference <= 1e-5


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("build", make.MODELS, ids=lambda build: build.__name__)
def test_fresh_networks_predict_what_keras_does(keras, build, seed, tmp_path):
    """Other weights and images than those of the fixtures."""
    keras.utils.clear_session()
    model = make.randomize(build(keras), seed=10 + seed)
    images = make.image_for(make.shape_of(model), seed=20 + seed)
    model.save(tmp_path / "fresh.keras")
    wanted = model.predict(images, verbose=0)
    np.testing.assert_allclose(
        cropped(outputs(read_keras(tmp_path / "fresh.keras"), images), wanted), wanted, rtol=0, atol=1e-5
    )
