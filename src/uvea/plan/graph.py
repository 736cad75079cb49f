"""A network as a list of named layers, for networks that were not designed here.

A `Graph` says which layers there are and which goes into which; it is kept in the plan. What follows from
it about sizes is worked out here, without torch and without weights: how many channels each layer gives,
and where its pixels lie in the image. Pairs of numbers are (y, x).

Padding "same" is that of TensorFlow: the output has a pixel for every step of the input, and of an uneven
number of zeros the larger half lies at the end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from uvea.errors import PlanError

MOST_LAYERS = 5_000
MOST_WEIGHTS = 500_000_000
"""Two gigabytes in float32: a file that asks for more is no U-Net."""

MOST_STRIDE = 1_024
FINEST = Fraction(1, 16)
"""Steps of a layer's grid, in pixels of the image: within these an image of a few pixels stays small."""

Count = Annotated[int, Field(ge=1, le=65_536)]
Pair = tuple[Annotated[int, Field(ge=1, le=1_024)], Annotated[int, Field(ge=1, le=1_024)]]
Padding = Literal["same", "valid"]
Function = Literal[
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "silu",
    "gelu",
    "tanh",
    "softplus",
    "sigmoid",
    "hard_sigmoid",
    "softmax",
]
"""Of each value; the softmax is over the channels."""


class Node(BaseModel):
    """What all layers have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=500)
    inputs: tuple[str, ...]
    """Names of earlier layers, in order."""


class Input(Node):
    """The image."""

    kind: Literal["input"] = "input"
    channels: Count
    inputs: tuple[str, ...] = ()


class Activated(Node):
    """A layer that ends in a function of each value."""

    activation: Function = "linear"
    slope: float = Field(default=0.2, allow_inf_nan=False)
    """Of the negative half, for leaky_relu; the alpha of elu."""


class Conv(Activated):
    """A convolution."""

    kind: Literal["conv"] = "conv"
    channels: Count
    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: Count = 1
    padding: Padding = "same"
    bias: bool = True


class TransposedConv(Activated):
    """The transpose of a convolution: `stride` times as large."""

    kind: Literal["transposed_conv"] = "transposed_conv"
    channels: Count
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"
    output_padding: tuple[Annotated[int, Field(ge=0, le=1_024)], Annotated[int, Field(ge=0, le=1_024)]] | None = None
    """Keras' own: None makes the size a multiple of the stride where the padding is "same"."""

    bias: bool = True


class MaxPool(Node):
    """The largest value of each window."""

    kind: Literal["max_pool"] = "max_pool"
    size: Pair
    stride: Pair
    padding: Padding = "valid"


class Upsample(Node):
    """Enlargement by whole numbers."""

    kind: Literal["upsample"] = "upsample"
    size: Pair
    how: Literal["nearest", "linear"] = "nearest"


class Concatenate(Node):
    """Channels of several layers, one after another."""

    kind: Literal["concatenate"] = "concatenate"


class Add(Node):
    """Sum of several layers."""

    kind: Literal["add"] = "add"


class BatchNorm(Node):
    """Batch norm with a weight and a bias per channel."""

    kind: Literal["batch_norm"] = "batch_norm"
    epsilon: float = Field(gt=0, allow_inf_nan=False)


class Dropout(Node):
    """Values set to zero while training."""

    kind: Literal["dropout"] = "dropout"
    share: float = Field(ge=0, lt=1)


class Activation(Activated):
    """A function of each value, as a layer of its own."""

    kind: Literal["activation"] = "activation"


Layer = Annotated[
    Input | Conv | TransposedConv | MaxPool | Upsample | Concatenate | Add | BatchNorm | Dropout | Activation,
    Field(discriminator="kind"),
]


class Graph(BaseModel):
    """Layers in the order in which they run; the first is the image, the last gives the logits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[Layer, ...] = Field(min_length=1, max_length=MOST_LAYERS)


@dataclass(frozen=True)
class Grid:
    """Size and place of what a layer gives, one value per axis, for images whose size is a multiple of the stride."""

    channels: int
    step: tuple[Fraction, ...]
    """Pixels of the image from one pixel of this grid to the next."""

    extra: tuple[int, ...]
    """The grid has (size of the image) / step + extra pixels."""

    first: tuple[Fraction, ...]
    """Where the centre of its first pixel lies, in pixels of the image from the centre of the image's first."""


def grids_of(graph: Graph) -> dict[str, Grid]:
    """What each layer gives, by its name.

    Raises:
        PlanError: for layers that do not fit together, naming the first, and for an output on another grid than the
            image's.
    """
    grids: dict[str, Grid] = {}
    for index, layer in enumerate(graph.layers):
        given = [name for name in layer.inputs if name not in grids]
        if layer.name in grids or given:
            raise PlanError(
                f"the network has two layers {layer.name!r}"
                if not given
                else f"the layer {layer.name!r} takes {given[0]!r}, which does not come before it",
                hint="give every layer its own name, and list each after those that it takes",
            )
        fewest, most = {"input": (0, 0), "concatenate": (2, MOST_LAYERS), "add": (2, MOST_LAYERS)}.get(
            layer.kind, (1, 1)
        )
        if (layer.kind == "input") != (index == 0) or not fewest <= len(layer.inputs) <= most:
            raise PlanError(
                f"the layer {layer.name!r} ({layer.kind}, number {index + 1}) takes {len(layer.inputs)} layers",
                hint="a network has one image, its first layer; concatenate and add take two and more, others one",
            )
        grids[layer.name] = _grid(layer, [grids[name] for name in layer.inputs])
        if not all(FINEST <= step <= MOST_STRIDE for step in grids[layer.name].step):
            raise PlanError(
                f"the grid of the layer {layer.name!r} is {_steps(grids[layer.name])} pixels of the image wide",
                hint=f"use strides and enlargements that stay between {FINEST} and {MOST_STRIDE} pixels",
            )
    if any(step != 1 for step in grids[graph.layers[-1].name].step):
        raise PlanError(
            f"a pixel of the network's output is {_steps(grids[graph.layers[-1].name])} pixels of the image",
            hint="use a network whose output has as many pixels as its image",
        )
    if weights_of(graph, grids) > MOST_WEIGHTS:
        raise PlanError(
            f"the network has {weights_of(graph, grids):,} weights", hint=f"use one of {MOST_WEIGHTS:,} at most"
        )
    return grids


def stride_of(grids: dict[str, Grid]) -> tuple[int, ...]:
    """The total stride: the smallest size whose multiples suit every layer."""
    return tuple(math.lcm(*(grid.step[axis].numerator for grid in grids.values())) for axis in (0, 1))


def reach_of(graph: Graph, grids: dict[str, Grid]) -> tuple[int, ...]:
    """How far a pixel of the output sees at most, in pixels of the image to each side, (y, x)."""
    found: dict[str, tuple[Fraction, ...]] = {}
    for layer in graph.layers:
        before = [found[name] for name in layer.inputs] or [(Fraction(0), Fraction(0))]
        more: tuple[int, ...] = (0, 0)
        if layer.kind == "conv":
            more = tuple((size - 1) * apart for size, apart in zip(layer.kernel, layer.dilation, strict=True))
        elif layer.kind == "transposed_conv":
            more = tuple(-(-size // step) for size, step in zip(layer.kernel, layer.stride, strict=True))
        elif layer.kind == "max_pool":
            more = tuple(size - 1 for size in layer.size)
        elif layer.kind == "upsample":
            more = (1, 1)
        step = grids[layer.inputs[0]].step if layer.inputs else (Fraction(1), Fraction(1))
        # Kernels reach to both sides by half; windows without a middle, to one side by all.
        share = Fraction(1, 2) if layer.kind == "conv" and all(size % 2 for size in layer.kernel) else 1
        found[layer.name] = tuple(max(one[axis] for one in before) + share * more[axis] * step[axis] for axis in (0, 1))
    return tuple(math.ceil(length) for length in found[graph.layers[-1].name])


def weights_of(graph: Graph, grids: dict[str, Grid]) -> int:
    """How many numbers the network has learnt, the means and variances of batch norms left out."""
    total = 0
    for layer in graph.layers:
        if layer.kind in ("conv", "transposed_conv"):
            given = grids[layer.inputs[0]].channels
            total += math.prod(layer.kernel) * given // getattr(layer, "groups", 1) * layer.channels
            total += layer.channels * layer.bias
        if layer.kind == "batch_norm":
            total += 2 * grids[layer.name].channels
    return total


def levels_of(graph: Graph, grids: dict[str, Grid]) -> tuple[list[int], list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Width, strides and kernels as a plan has them, finest level first; for readers, the graph itself decides.

    Levels are the steps of all grids, sorted. Where they are no multiples of each other, the stride to the next
    is that of the smallest common multiple.
    """
    steps = sorted({grid.step for grid in grids.values()}, key=math.prod)
    width, kernels, totals = [], [], []
    for number, step in enumerate(steps):
        here = [layer for layer in graph.layers if grids[layer.name].step == step]
        width.append(max(grids[layer.name].channels for layer in here))
        sizes = [layer.kernel for layer in here if layer.kind in ("conv", "transposed_conv")]
        kernels.append(tuple(max(size[axis] for size in sizes) if sizes else 1 for axis in (0, 1)))
        totals.append(tuple(math.lcm(*(s[axis].numerator for s in steps[: number + 1])) for axis in (0, 1)))
    strides = [tuple(b // a for a, b in zip(totals[i], totals[i + 1], strict=True)) for i in range(len(totals) - 1)]
    return width, strides, kernels


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `length` for "same" padding; `kernel` is its whole reach when dilated."""
    total = max(-(-length // stride) * stride - stride + kernel - length, 0)
    return total // 2, total - total // 2


def transposed_size(length: int, kernel: int, stride: int, *, padding: Padding, output_padding: int | None) -> int:
    """Size of an axis of `length` after a transposed convolution.

    Source: the documentation of Conv2DTranspose in Keras 3.
    """
    if output_padding is not None:
        return (length - 1) * stride + kernel - 2 * (kernel // 2 if padding == "same" else 0) + output_padding
    return length * stride + (max(kernel - stride, 0) if padding == "valid" else 0)


def transposed_crop(length: int, kernel: int, stride: int, *, size: int) -> int:
    """Pixels to take off the start of the whole transposed convolution of an axis of `length` to give `size`."""
    return max((length - 1) * stride + kernel - size, 0) // 2


def _grid(layer: Layer, given: Sequence[Grid]) -> Grid:
    if layer.kind == "input":
        return Grid(layer.channels, (Fraction(1),) * 2, (0, 0), (Fraction(0),) * 2)
    if layer.kind in ("concatenate", "add"):
        first = given[0]
        for name, other in zip(layer.inputs[1:], given[1:], strict=True):
            if (first.step, first.extra) != (other.step, other.extra):
                raise PlanError(
                    f"the layer {layer.name!r} joins {layer.inputs[0]!r} and {name!r}, which are of different size",
                    hint="join layers of one size; unpadded convolutions make them smaller",
                )
            if layer.kind == "add" and first.channels != other.channels:
                raise PlanError(
                    f"the layer {layer.name!r} adds {first.channels} and {other.channels} channels",
                    hint="add layers with the same number of channels",
                )
        channels = first.channels if layer.kind == "add" else sum(grid.channels for grid in given)
        return Grid(channels, first.step, first.extra, first.first)
    (grid,) = given
    if layer.kind in ("conv", "max_pool"):
        sizes = layer.kernel if layer.kind == "conv" else layer.size
        dilation = layer.dilation if layer.kind == "conv" else (1, 1)
        reach = [(size - 1) * apart + 1 for size, apart in zip(sizes, dilation, strict=True)]
        channels = layer.channels if layer.kind == "conv" else grid.channels
        if layer.kind == "conv" and (grid.channels % layer.groups or channels % layer.groups):
            raise PlanError(
                f"the layer {layer.name!r} has {layer.groups} groups for {grid.channels} and {channels} channels",
                hint="use a number of groups that divides both",
            )
        return _shrunk(grid, channels, reach, layer.stride, layer.padding)
    if layer.kind == "transposed_conv":
        return _transposed(grid, layer)
    if layer.kind == "upsample":
        step = tuple(step / size for step, size in zip(grid.step, layer.size, strict=True))
        return Grid(
            grid.channels,
            step,
            tuple(extra * size for extra, size in zip(grid.extra, layer.size, strict=True)),
            tuple(at - old / 2 + new / 2 for at, old, new in zip(grid.first, grid.step, step, strict=True)),
        )
    return grid


def _shrunk(grid: Grid, channels: int, reach: Sequence[int], stride: Sequence[int], padding: Padding) -> Grid:
    extra, first = [], []
    for old, at, step, kernel, by in zip(grid.extra, grid.first, grid.step, reach, stride, strict=True):
        if padding == "same":
            # The rest of the size is a multiple of the stride and changes nothing here.
            before = max(-old % by + kernel - by, 0) // 2
            extra.append(-(-old // by))
        else:
            before = 0
            extra.append((old - kernel) // by + 1)
        first.append(at + step * (Fraction(kernel - 1, 2) - before))
    steps = tuple(a * b for a, b in zip(grid.step, stride, strict=True))
    return Grid(channels, steps, tuple(extra), tuple(first))


def _transposed(grid: Grid, layer: TransposedConv) -> Grid:
    extra, first = [], []
    asked = layer.output_padding or (None, None)
    for old, at, step, kernel, by, more in zip(
        grid.extra, grid.first, grid.step, layer.kernel, layer.stride, asked, strict=True
    ):
        size = transposed_size(old, kernel, by, padding=layer.padding, output_padding=more)
        extra.append(size)
        crop = transposed_crop(old, kernel, by, size=size)
        first.append(at - step / by * (Fraction(kernel - 1, 2) - crop))
    steps = tuple(a / b for a, b in zip(grid.step, layer.stride, strict=True))
    return Grid(layer.channels, steps, tuple(extra), tuple(first))


def _steps(grid: Grid) -> str:
    return "×".join(str(step) for step in grid.step)
