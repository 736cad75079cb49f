"""Weights that a training starts from, instead of random ones.

They come with uvea, 3.6 MB of them, and were learnt from synthetic objects alone: `benchmarks/start.py` makes them.
Nothing is downloaded. A training of ten minutes on two cores gains about what three times the steps would, see
docs/log.md; weights learnt on one kind of image are a better start than random ones for others (Tajbakhsh et al. 2016,
doi 10.1109/TMI.2016.2535302).
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from uvea.errors import ModelError
from uvea.models.weights import read_weights
from uvea.plan.plan import Plan
from uvea.plan.start import NETWORKS

JOINS = re.compile(r"decoder\.\d+\.conv1\.weight")
"""Layers whose inputs are the channels of the skip connection, and as many of the level below."""

FIRST = "encoder.0.conv1.weight"
CHANNELS = 3
"""Of the images that the weights were learnt from; in gray ones they are equal."""


def start_from(network: nn.Module, plan: Plan) -> None:
    """Give a network of a plan the weights that its training starts from, in place; none where they are random.

    Raises:
        ModelError: if the file that came with uvea is missing or damaged, or the weights no longer come with it.
    """
    if plan.start == "random":
        return
    if plan.start not in NETWORKS:
        raise ModelError(
            f"no network can start from {plan.start}: these weights no longer come with uvea",
            hint="train again from the start with --overwrite",
        )
    weights, _ = read_weights(Path(__file__).with_name(f"{plan.start}.safetensors"), sealed=True)
    fitted = _fitted(weights, channels=plan.channels, classes=plan.classes)
    network.load_state_dict({name: _widened(name, fitted[name], drawn) for name, drawn in network.state_dict().items()})


def _fitted(weights: Mapping[str, Tensor], *, channels: int, classes: int) -> dict[str, Tensor]:
    """The same for another number of channels and of classes, in float32.

    One channel is treated as three equal ones; of more or of two, each like the mean of the three. Each class of
    objects is predicted as objects are, so that they are equally probable.
    """
    fitted = {name: weight.float() for name, weight in weights.items()}
    if channels != CHANNELS:
        mean = fitted[FIRST].sum(1, keepdim=True) / channels
        fitted[FIRST] = mean.repeat(1, channels, *[1] * (mean.ndim - 2))
    outputs = torch.tensor([0, *[1] * (classes - 1), 2, 3])
    return {name: weight[outputs] if name.startswith("heads.") else weight for name, weight in fitted.items()}


def _widened(name: str, weight: Tensor, drawn: Tensor) -> Tensor:
    """The same in a layer with more channels, the first of which give what they gave: they do not see the others.

    As Chen et al. 2016 (Net2Net, arXiv:1511.05641) keep what a network has learnt, but by zeros and not by copies.

    Args:
        name: of the weight, which says how the inputs are ordered.
        weight: (out, in, ...), or (out,) of a norm or bias.
        drawn: the same of the wider layer, by chance.
    """
    wide = drawn.clone()
    kept = wide[: len(weight)]
    if weight.ndim > 1:
        kept.zero_()
        parts = 2 if JOINS.fullmatch(name) else 1
        for old, new in zip(weight.chunk(parts, 1), kept.chunk(parts, 1), strict=True):
            new[:, : old.shape[1]] = old
    else:
        kept.copy_(weight)
    return wide
