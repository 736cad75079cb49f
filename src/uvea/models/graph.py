"""A network made of the layers that a `Graph` lists; images in, logits out.

Tensors are (b, c, y, x). Which layers there are, and what follows from that about sizes, is in
`uvea.plan.graph`; here are their weights and their arithmetic. "Same" padding, transposed convolutions and
the weights at the start are as in Keras with TensorFlow, so that an imported network predicts what it did there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from uvea.errors import ShapeError
from uvea.models.join import JoinConv2d, pays
from uvea.plan.graph import (
    Activated,
    BatchNorm,
    Concatenate,
    Conv,
    Dropout,
    Function,
    Graph,
    Input,
    Layer,
    MaxPool,
    TransposedConv,
    Upsample,
    grids_of,
    same_padding,
    stride_of,
    transposed_crop,
    transposed_size,
)

_FUNCTIONS: dict[Function, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "selu": functional.selu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "softmax": lambda x: x.softmax(1),
}


class GraphNetwork(nn.Module):
    """A network from a list of layers; see `uvea.plan.graph.Graph`.

    Any size from one pixel up works: the image is padded inside, at the end of each axis by repeating its edge,
    to a multiple of `total_stride`, and the logits are cropped back. Where unpadded convolutions make the output
    smaller than the image, the image is continued by its edge on all sides, so that every pixel gets its logits.

    Args:
        graph: the last layer gives the logits, one pixel for each of the image.

    Raises:
        PlanError: for layers that do not fit together.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        grids = grids_of(graph)
        end = grids[graph.layers[-1].name]
        self.in_channels, self.classes, self.dims = grids[graph.layers[0].name].channels, end.channels, 2
        self.total_stride = stride_of(grids)
        """Pixels of the image per pixel of the coarsest layer, one number per axis."""

        self._extra = end.extra
        # Where the padding is "same" throughout, each pixel stays where it is.
        self._first = tuple(
            math.floor(at + 0.5) if extra else 0 for at, extra in zip(end.first, end.extra, strict=True)
        )
        # No layer may be empty.
        self._least = tuple(
            max(math.ceil((1 - grid.extra[axis]) * grid.step[axis]) for grid in grids.values()) for axis in (0, 1)
        )
        self.layers = nn.ModuleList(
            _module(layer, [grids[name].channels for name in layer.inputs]) for layer in graph.layers
        )
        self._joins = _joins(graph)
        for join in self._joins.values():
            cast(_Conv, self.layers[join.at]).conv.low_first = join.low_first
        last = {name: index for index, layer in enumerate(graph.layers) for name in layer.inputs}
        last |= {name: join.at for join in self._joins.values() for name in (join.low, join.skip)}
        last |= {name: index for index, layer in enumerate(graph.layers) for name in layer.inputs if index > last[name]}
        self._done_after = [[name for name, at in last.items() if at == index] for index in range(len(graph.layers))]

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (b, c, y, x) into logits (b, classes, y, x).

        Raises:
            ShapeError: for a tensor with other axes or channels.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels or 0 in images.shape:
            raise ShapeError(
                f"images of {'×'.join(map(str, images.shape))} for a network with {self.in_channels} channel(s)",
                hint=f"give a batch (b, c, y, x) with c = {self.in_channels} and no empty axis",
            )
        x, start = self._padded(images)
        made: dict[str, Tensor] = {}
        for layer, module, done in zip(self.graph.layers, self.layers, self._done_after, strict=True):
            join = self._joins.get(layer.name)
            if join is None or not pays(made[join.low], join.stride, join.kernel):
                x = module(*(made[name] for name in layer.inputs)) if layer.inputs else x
                made[layer.name] = x
            elif self.graph.layers[join.at] is layer:
                # Neither the enlarged features nor the concatenation were made: see `uvea.models.join`.
                x = made[layer.name] = module(made[join.skip], made[join.low])
            for name in done:
                made.pop(name, None)
        return x[:, :, start[0] : start[0] + images.shape[2], start[1] : start[1] + images.shape[3]]

    def _padded(self, images: Tensor) -> tuple[Tensor, list[int]]:
        """The image on a size that all layers like, and where its first pixel is in the output."""
        around, start = [], []
        for axis, length in enumerate(images.shape[2:]):
            first, extra, stride = self._first[axis], self._extra[axis], self.total_stride[axis]
            # Whole strides, so that windows of pooling lie where they would without the padding.
            before = -(-max(0, first) // stride) * stride
            needed = max(before + length, before - first + length - extra, self._least[axis])
            around.append((before, -(-needed // stride) * stride - before - length))
            start.append(before - first)
        if any(map(any, around)):
            images = functional.pad(images, [n for pair in reversed(around) for n in pair], mode="replicate")
        return images, start


@dataclass(frozen=True, kw_only=True)
class _Join:
    """A convolution over the concatenation of enlarged features with others, where nothing else uses either."""

    at: int
    """Place of the convolution among the layers."""

    low: str
    skip: str
    stride: tuple[int, int]
    kernel: tuple[int, int]
    low_first: bool


def _joins(graph: Graph) -> dict[str, _Join]:
    """By the name of each layer that takes part: enlarging, concatenation, convolution."""
    used = [name for layer in graph.layers for name in layer.inputs]
    once = {layer.name: layer for layer in graph.layers if used.count(layer.name) == 1}
    found: dict[str, _Join] = {}
    for at, conv in enumerate(graph.layers):
        if not isinstance(conv, Conv) or conv.padding != "same" or conv.groups != 1:
            continue
        if any(step != 1 for step in (*conv.stride, *conv.dilation)) or any(size % 2 == 0 for size in conv.kernel):
            continue
        cat = once.get(conv.inputs[0])
        if not isinstance(cat, Concatenate) or len(cat.inputs) != 2:
            continue
        enlarged = [once.get(name) for name in cat.inputs]
        places = [i for i, up in enumerate(enlarged) if isinstance(up, Upsample) and up.how == "nearest"]
        if len(places) != 1:
            continue
        up = cast(Upsample, enlarged[places[0]])
        join = _Join(
            at=at,
            low=up.inputs[0],
            skip=cat.inputs[1 - places[0]],
            stride=up.size,
            kernel=conv.kernel,
            low_first=places[0] == 0,
        )
        found |= dict.fromkeys((up.name, cat.name, conv.name), join)
    return found


def _module(layer: Layer, channels: Sequence[int]) -> nn.Module:
    """The arithmetic of one layer; `channels` are those of the layers that go into it."""
    if isinstance(layer, Conv):
        return _Conv(layer, channels[0])
    if isinstance(layer, TransposedConv):
        return _TransposedConv(layer, channels[0])
    if isinstance(layer, MaxPool):
        return _MaxPool(layer)
    if isinstance(layer, Upsample):
        return _Upsample(layer)
    if isinstance(layer, BatchNorm):
        # Torch's momentum is the share of the new value, Keras' of the old: 0.99 there.
        return nn.BatchNorm2d(channels[0], eps=layer.epsilon, momentum=0.01)
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.share)
    if isinstance(layer, Input):
        return nn.Identity()
    if isinstance(layer, Activated):
        return _Activation(layer)
    return _Concatenate() if isinstance(layer, Concatenate) else _Add()


class _Activation(nn.Module):
    def __init__(self, layer: Activated) -> None:
        super().__init__()
        self.function, self.slope = layer.activation, layer.slope

    def forward(self, x: Tensor) -> Tensor:
        if self.function == "leaky_relu":
            return functional.leaky_relu(x, self.slope)
        if self.function == "elu":
            return functional.elu(x, self.slope)
        return _FUNCTIONS[self.function](x)


class _Conv(nn.Module):
    """Shrinks each axis to size / stride where the padding is "same"."""

    def __init__(self, layer: Conv, given: int) -> None:
        super().__init__()
        self.reach = tuple((size - 1) * apart + 1 for size, apart in zip(layer.kernel, layer.dilation, strict=True))
        self.stride, self.same = layer.stride, layer.padding == "same"
        # With a stride of one the padding is the same whatever the size; where it is even, torch does it faster.
        self.fixed = self.same and layer.stride == (1, 1) and all(reach % 2 == 1 for reach in self.reach)
        self.conv = JoinConv2d(
            given,
            layer.channels,
            layer.kernel,
            stride=layer.stride,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias,
            padding=cast(tuple[int, int], tuple(reach // 2 for reach in self.reach)) if self.fixed else 0,
        )
        _start(self.conv)
        self.activation = _Activation(layer)

    def forward(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        if self.same and not self.fixed:
            x = _padded_same(x, self.reach, self.stride, value=0.0)
        return cast(Tensor, self.activation(self.conv(x, low)))


class _TransposedConv(nn.Module):
    """Enlarges each axis by the stride where the padding is "same"."""

    def __init__(self, layer: TransposedConv, given: int) -> None:
        super().__init__()
        self.layer = layer
        self.conv = nn.ConvTranspose2d(given, layer.channels, layer.kernel, stride=layer.stride, bias=False)
        _start(self.conv)
        self.bias = nn.Parameter(torch.zeros(layer.channels)) if layer.bias else None
        self.activation = _Activation(layer)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.conv(x)
        around = []
        for axis, length in enumerate(x.shape[2:]):
            kernel, stride = self.layer.kernel[axis], self.layer.stride[axis]
            more = self.layer.output_padding[axis] if self.layer.output_padding else None
            size = transposed_size(length, kernel, stride, padding=self.layer.padding, output_padding=more)
            crop = transposed_crop(length, kernel, stride, size=size)
            # Beyond the last input pixel's reach there is nothing but the bias.
            around.append((-crop, size + crop - whole.shape[axis + 2]))
        if any(map(any, around)):
            whole = functional.pad(whole, [n for pair in reversed(around) for n in pair])
        if self.bias is not None:
            whole = whole + self.bias.view(-1, 1, 1)
        return cast(Tensor, self.activation(whole))


class _MaxPool(nn.Module):
    def __init__(self, layer: MaxPool) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if self.layer.padding == "same":
            x = _padded_same(x, self.layer.size, self.layer.stride, value=-math.inf)
        return functional.max_pool2d(x, self.layer.size, self.layer.stride)


class _Upsample(nn.Module):
    def __init__(self, layer: Upsample) -> None:
        super().__init__()
        self.scale = [float(size) for size in layer.size]
        self.linear = layer.how == "linear"

    def forward(self, x: Tensor) -> Tensor:
        if self.linear:
            return functional.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return functional.interpolate(x, scale_factor=self.scale, mode="nearest")


class _Concatenate(nn.Module):
    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


class _Add(nn.Module):
    def forward(self, *parts: Tensor) -> Tensor:
        return sum(parts[1:], parts[0])


def _padded_same(x: Tensor, reach: Sequence[int], stride: Sequence[int], *, value: float) -> Tensor:
    around = [same_padding(*sizes) for sizes in zip(x.shape[2:], reach, stride, strict=True)]
    return functional.pad(x, [n for pair in reversed(around) for n in pair], value=value)


def _start(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Weights as Keras begins with: uniform after Glorot and Bengio 2010, biases zero."""
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
