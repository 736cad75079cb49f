"""Everything a run resumes from, as named tensors and words; how they are written is not known here.

Weights, optimizer, moving average and torch's random state become one flat dictionary of tensors, the progress a
line of JSON, so that one safetensors file holds a checkpoint and is whole or absent. Patches and augmentation need
nothing kept: they follow from the seed and the step.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from uvea.errors import ModelError
from uvea.training.average import Average
from uvea.training.loop import Progress

Packed = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors by name, and words by name."""

HISTORY = {"step", "seconds", "loss", "score", "lr"}
"""What each row of a history has; of objects, Dice as well."""

_PROGRESS = TypeAdapter(Progress)


def pack(network: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None, progress: Progress) -> Packed:
    """Collect what must be kept. Tensors are shared with the run, not copied: write them before the next step."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if on_cuda := _cuda_of(network):
        tensors["random.cuda"] = torch.cuda.get_rng_state(on_cuda)
    return tensors, {"progress": json.dumps(asdict(progress))}


def unpack(
    packed: tuple[Mapping[str, Tensor], Mapping[str, str]],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
) -> Progress:
    """Fill network, optimizer and average in place, and return the progress.

    Raises:
        ModelError: if the checkpoint belongs to another network or another version.
    """
    tensors, words = packed
    try:
        progress = _progress_of(words["progress"])
        weights_kept = _part(tensors, "network.")
        for name, value in network.state_dict().items():
            if weights_kept[name].is_floating_point() != value.is_floating_point() or weights_kept[name].is_complex():
                raise ValueError(f"{name} is of type {weights_kept[name].dtype}")
        network.load_state_dict(weights_kept)
        state: dict[int, dict[str, Any]] = {}
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for name, value in _part(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = _laid_out_like(weights[int(index)], value)
        groups = optimizer.state_dict()["param_groups"]
        _check_moments(state, groups)
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        if average is not None:
            average.load_state_dict(_part(tensors, "average."))
            if average.updates < 0:
                raise ValueError(f"its average has {average.updates} updates")
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise unfit(error) from None
    try:
        torch.set_rng_state(tensors["random.cpu"])
        if (on_cuda := _cuda_of(network)) and "random.cuda" in tensors:  # else it was begun on another device
            torch.cuda.set_rng_state(tensors["random.cuda"], on_cuda)
    except (KeyError, RuntimeError, TypeError) as error:
        raise unfit(error) from None
    return progress


def _progress_of(text: str) -> Progress:
    values = json.loads(text)
    names = {field.name for field in fields(Progress)}
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError(f"its progress does not have exactly {', '.join(sorted(names))}")
    progress = _PROGRESS.validate_json(text, strict=True)
    counts = [progress.step, progress.counted, *progress.redrawn]
    if min(counts) < 0 or any(most is not None and most < 1 for most in (progress.steps, progress.every)):
        raise ValueError("its progress counts below zero")
    if any(set(row) - {"dice"} != HISTORY for row in progress.history):
        raise ValueError(f"a row of its history does not have {', '.join(sorted(HISTORY))}")
    return progress


def _check_moments(state: Mapping[int, Mapping[str, Tensor]], groups: Sequence[Mapping[str, Any]]) -> None:
    """What an optimizer keeps of weights of one group goes by the same names, and is real."""
    for group in groups:
        kept = [state[index] for index in group["params"] if index in state]
        if any(one.keys() != kept[0].keys() for one in kept):
            raise ValueError("its optimizer keeps different things of weights that are alike")
        for one in kept:
            for name, value in one.items():
                if not value.is_floating_point() or (value.ndim == 0 and not 0 <= float(value) < math.inf):
                    raise ValueError(f"its optimizer has {name} {value.flatten()[:1].tolist()}")


def _cuda_of(network: nn.Module) -> torch.device | None:
    """The CUDA device of a network, None for another one."""
    device = next(network.parameters()).device
    return device if device.type == "cuda" else None


def unfit(why: Exception | str) -> ModelError:
    """The error for a state that belongs to another network or version, or was written by something else."""
    return ModelError(
        f"the checkpoint does not fit this run: {' '.join(str(why).split())[:200]}",
        hint="train again from the start with --overwrite",
    )


def _laid_out_like(weight: Tensor, value: Tensor) -> Tensor:
    """Order the memory of a state tensor as that of its weight, which files do not keep.

    Fused optimizers walk through both in step: with a channels-last weight they would else mix up its elements.
    """
    if value.ndim == 0:  # a counter
        return value
    if value.shape != weight.shape:
        raise ValueError(f"optimizer state of {tuple(value.shape)} for a weight of {tuple(weight.shape)}")
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
