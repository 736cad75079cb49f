"""Weights come back as they were, or not at all."""

import pytest
import torch

from uvea.errors import ModelError, OutputError
from uvea.models.unet import UNet
from uvea.models.weights import check_weights, load_weights, read_weights, save_weights


def make(channels=(4, 8), seed=0):
    """A small seeded network with running statistics."""
    torch.manual_seed(seed)
    return UNet(in_channels=1, classes=2, channels=channels)


def test_weights_and_metadata_survive_the_trip(tmp_path):
    """Every tensor equal to the last bit, batch norm statistics too, whatever the memory layout was."""
    first, second = make(seed=1).to(memory_format=torch.channels_last), make(seed=2)
    first(torch.randn(2, 1, 8, 8))
    save_weights(tmp_path / "weights.safetensors", first, {"version": "1"})
    assert load_weights(tmp_path / "weights.safetensors", second) == {"version": "1"}
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_a_state_dict_with_shared_tensors_is_written(tmp_path):
    """Averaged weights may be views of one another."""
    tensor = torch.arange(6.0)
    save_weights(tmp_path / "w.safetensors", {"a": tensor, "b": tensor.view(2, 3).T})
    found, metadata = read_weights(tmp_path / "w.safetensors")
    assert found["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert metadata == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("heads.0.bias"), r"heads.0.bias is missing\n"),
        (lambda state: state.update(extra=torch.zeros(1)), r"extra is not part of the network\n"),
        (lambda state: state.update({"heads.0.bias": torch.zeros(3)}), r"heads.0.bias is \(3,\) where .* \(2,\)\n"),
        (
            lambda state: state.update({"heads.0.bias": torch.zeros(2, dtype=torch.complex64)}),
            r"heads.0.bias is of type C64, and the network has torch.float32\n",
        ),
        (
            lambda state: state.update({"heads.0.bias": torch.zeros(2, dtype=torch.int64)}),
            r"heads.0.bias is of type I64",
        ),
        (lambda state: [state.pop(name) for name in list(state)[:-1]], r"conv1.weight is missing \(and \d+ more\)\n"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path, change, words):
    """The first tensor that does not fit is named, the others counted."""
    network = make()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    change(state)
    save_weights(tmp_path / "w.safetensors", state)
    with pytest.raises(ModelError, match=words):
        load_weights(tmp_path / "w.safetensors", network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 100])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    """Empty, text, and a header that promises more than there is."""
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        load_weights(tmp_path / "w.safetensors", make())


def test_a_header_that_is_too_long_is_not_parsed(tmp_path):
    """The length stands in the first eight bytes; 17 MiB of spaces are valid JSON, and no model."""
    path = tmp_path / "w.safetensors"
    path.write_bytes((17 << 20).to_bytes(8, "little") + b"{}" + b" " * ((17 << 20) - 2))
    with pytest.raises(ModelError, match=r"a header of 17,825,792 bytes"):
        load_weights(path, make())


def test_a_network_without_memory_is_compared_with_a_file(tmp_path):
    """Shapes are read from the header alone: the layers of the network have none of their numbers yet."""
    path = tmp_path / "w.safetensors"
    save_weights(path, make())
    with torch.device("meta"):
        skeleton = make()
    check_weights(path, skeleton)


def test_a_truncated_file_is_refused(tmp_path):
    """Half a download is no model."""
    path = tmp_path / "w.safetensors"
    save_weights(path, make())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        read_weights(path)


def test_a_missing_file_is_refused(tmp_path):
    """With its name."""
    with pytest.raises(ModelError, match=r"no weights at .*gone\.safetensors"):
        read_weights(tmp_path / "gone.safetensors")


def test_a_file_that_may_not_be_read_is_not_called_missing(tmp_path, monkeypatch):
    """Safetensors says the same of both."""
    save_weights(tmp_path / "a.safetensors", make())
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ModelError, match=r"a\.safetensors may not be read\n.*permission"):
        read_weights(tmp_path / "a.safetensors")


def test_a_folder_that_does_not_exist_is_an_output_error(tmp_path):
    """The operating system's reason is in the message."""
    with pytest.raises(OutputError, match="No such file or directory"):
        save_weights(tmp_path / "gone" / "w.safetensors", make())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """The disk fills up while writing: the weights of before are still there, and nothing else."""
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.ones(1)})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_weights(path, {"a": torch.zeros(1)})
    assert read_weights(path)[0]["a"].item() == 1
    assert list(tmp_path.iterdir()) == [path]
