"""Weights on disk: safetensors only, written whole or not at all.

A pickle can run code when it is opened; a safetensors file holds names, shapes, numbers and a few
words of metadata, and nothing else.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from uvea.errors import ModelError, OutputError


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
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
    # Clones, because safetensors refuses names that share memory, and channels-last layouts.
    plain = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    content = save(plain, dict(metadata or {}))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}",
            hint="choose a folder that exists, is writable and has space left",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors by name, on the CPU, and the metadata of the file.

    Raises:
        ModelError: if the file is missing, truncated or not safetensors.
    """
    if not path.is_file():
        raise ModelError(f"no weights at {path}", hint="name a model folder that holds a .safetensors file")
    if not os.access(path, os.R_OK):  # safetensors would say that it does not exist
        raise ModelError(f"{path} may not be read", hint="give yourself permission to it")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a complete safetensors file: {_one_line(error)}",
            hint="copy the file again from where it came, or train the model again",
        ) from error


def load_weights(path: Path, module: nn.Module) -> dict[str, str]:
    """Fill `module` with the weights of a file, in the module's own number type; return the metadata.

    Every name and shape must agree; otherwise nothing is loaded.

    Raises:
        ModelError: naming the first tensor that does not fit, and how many do not.
    """
    found, metadata = read_weights(path)
    wanted = module.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not part of the network" for name in found if name not in wanted]
    problems += [
        f"{name} is {tuple(found[name].shape)} where the network has {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ModelError(
            f"{path} does not fit the network: {problems[0]}{more}",
            hint="load it into the network it was trained with: plan.json beside the weights has its settings",
        )
    module.load_state_dict(found)
    return metadata


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
