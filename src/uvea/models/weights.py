"""Weights on disk: safetensors only, written whole or not at all, with a checksum that is verified on load.

A pickle can run code when it is opened; a safetensors file holds names, shapes, numbers and a few
words of metadata, and nothing else.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from uvea.durable import write_whole
from uvea.errors import ModelError

CHECKSUM = "checksum"
"""Word of the metadata that holds the digest of all the rest."""

FLOATS = ("F64", "F32", "F16", "BF16")
INTEGERS = ("I64", "I32", "I16", "I8", "U8", "BOOL")
"""Kinds of number, as safetensors calls them, that become real numbers or counters of a network."""

HEADER_BYTES = 2**24
"""Longest header that is parsed. A thousand layers need a tenth of it; one of 13 MB took 168 MiB to read."""


def save_weights(
    path: Path, weights: nn.Module | Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write weights so that `path` holds either all of them or what it held before, even on a power cut.

    Args:
        path: a file ending in .safetensors; replaced if it exists.
        weights: a module, or its state dict, on any device and in any memory layout.
        metadata: words to keep in the file.

    Raises:
        OutputError: if the file cannot be written; nothing is left behind then.
    """
    plain = _plain(weights)
    words = dict(metadata or {})
    write_whole(path, save(plain, {**words, CHECKSUM: _digest(plain, words)}))


def weights_hash(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """A name for weights: SHA-256 of names, types, shapes and numbers, whatever the device and the memory layout."""
    return _digest(_plain(weights), {})


def read_weights(path: Path, *, sealed: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors by name, on the CPU, and the metadata of the file.

    Args:
        path: a file ending in .safetensors.
        sealed: refuse a file without a checksum, which other programs and early versions wrote.

    Raises:
        ModelError: if the file is missing, truncated, not safetensors, or not what was written.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            words = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _incomplete(path, error) from error
    written = words.pop(CHECKSUM, None)
    if (sealed or written is not None) and written != _digest(tensors, words):
        raise ModelError(
            f"{path} is damaged: its content does not have the checksum that was written with it",
            hint="copy the file again from where it came, or train the model again",
        )
    return tensors, words


def load_weights(path: Path, module: nn.Module) -> dict[str, str]:
    """Fill `module` with the weights of a file, in the module's own number type; return the metadata.

    Every name, shape and kind of number must agree; otherwise nothing is loaded.

    Raises:
        ModelError: as `check_weights` and `read_weights`.
    """
    check_weights(path, module)
    found, metadata = read_weights(path)
    module.load_state_dict(found)
    return metadata


def check_weights(path: Path, module: nn.Module) -> None:
    """Compare names, shapes and kinds of number with those of a network, which may be on the device "meta".

    The numbers themselves are not read.

    Raises:
        ModelError: naming the first tensor that does not fit, and how many do not.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: tuple(part.get_shape()) for name, part in slices.items()}
            types = {name: str(part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise _incomplete(path, error) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not part of the network" for name in found if name not in wanted]
    problems += [
        f"{name} is {found[name]} where the network has {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    problems += [
        f"{name} is of type {types[name]}, and the network has {tensor.dtype}"
        for name, tensor in module.state_dict().items()
        if name in types and types[name] not in (FLOATS if tensor.is_floating_point() else INTEGERS)
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ModelError(
            f"{path} does not fit the network: {problems[0]}{more}",
            hint="load it into the network it was trained with: plan.json beside the weights has its settings",
        )


def _check_header(path: Path) -> None:
    """Refuse what is no readable file, and a header too long to parse: its length stands in the first eight bytes."""
    if not path.is_file():
        raise ModelError(f"no weights at {path}", hint="name a model folder that holds a .safetensors file")
    if not os.access(path, os.R_OK):  # safetensors would say that it does not exist
        raise ModelError(f"{path} may not be read", hint="give yourself permission to it")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise _incomplete(path, error) from error
    if length > HEADER_BYTES:
        raise _incomplete(path, f"a header of {length:,} bytes, where no model has more than {HEADER_BYTES:,}")


def _incomplete(path: Path, error: Exception | str) -> ModelError:
    return ModelError(
        f"{path} is not a complete safetensors file: {_one_line(error)}",
        hint="copy the file again from where it came, or train the model again",
    )


def _plain(weights: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
    # Clones, because safetensors refuses names that share memory, and channels-last layouts.
    return {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }


def _digest(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> str:
    """SHA-256 of contiguous tensors on the CPU and of words, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    for name, word in sorted(words.items()):
        digest.update(f"{name}\0{word}\0".encode())
    return f"sha256:{digest.hexdigest()}"


def _one_line(error: Exception | str) -> str:
    return " ".join(str(error).split())
