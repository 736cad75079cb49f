"""The U-Net: one implementation for two and three dimensions.

    image ─ encoder.0 ───────── skip ──────────── decoder.0 ─ heads.0 ─ logits
               └ pool ─ encoder.1 ── skip ── decoder.1 ┘ up
                           └ pool ─ encoder.2 ┘ up

Level 0 is the top, with the full grid. Tensors are (b, c, y, x) or (b, c, z, y, x), and whatever
has one value per axis follows that order. It knows sizes and tensors only: no files, no plan.

Source: Ronneberger, Fischer, Brox 2015; Çiçek et al. 2016 (3D); Isensee et al. 2021 (kernels and strides
per axis for anisotropic volumes, deep supervision); He et al. 2016 (residual blocks).
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from numbers import Real
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from uvea.errors import PlanError, ShapeError
from uvea.models.join import JoinConv2d, JoinConv3d, pays
from uvea.models.norm import Norm, make_norm

Block = Literal["plain", "residual"]
Activation = Literal["relu", "leaky_relu", "elu", "silu", "gelu"]
Upsampling = Literal["nearest", "linear", "transposed"]
Pooling = Literal["max", "strided"]
Padding = Literal["same", "valid"]
PerAxis = int | Sequence[int]
"""One number for all axes, or one per axis in array order."""

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_JOIN: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: JoinConv2d, 3: JoinConv3d}
_UP_CONV: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_POOL: dict[int, Callable[..., Tensor]] = {2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE: dict[int, Callable[..., Tensor]] = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}
LEAK = 0.1
"""Slope of the leaky ReLU below zero. With 0.01 or none, whole regions had no active feature left in the last layer:
one probability for all their pixels, and hardly a gradient that could have changed it, see docs/log.md."""

_ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    # In place: neither a convolution nor a norm reads its own output again in the backward pass.
    "relu": lambda x: functional.relu(x, inplace=True),
    "leaky_relu": lambda x: functional.leaky_relu(x, LEAK, inplace=True),
    "elu": functional.elu,
    "silu": functional.silu,
    "gelu": functional.gelu,
}
_HEAD_GAIN = 0.5
"""Spread of the weights of the last layer at the start, times the root of its inputs: the first guess is
close to "undecided". Much smaller is slower: forty steps on one picture of a disc ended at a loss of 0.093
with weights of 0.01, at 0.067 with 0.1, mean of four seeds (2026-11)."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "norm": ("batch", "instance", "group", "none"),
    "block": ("plain", "residual"),
    "activation": tuple(_ACTIVATE),
    "upsampling": ("nearest", "linear", "transposed"),
    "pooling": ("max", "strided"),
    "padding": ("same", "valid"),
}


class UNet(nn.Module):
    """Encoder, decoder and skip connections; images in, logits out.

    With `padding="same"` any size from one pixel up works: the image is padded inside, at the end of each
    axis by repeating its edge, to a multiple of `total_stride`, and the logits are cropped back.
    With `padding="valid"` the output is smaller (see `output_shape`) and free of border effects.

    Where a level has one value per channel in all (a 1x1 bottleneck of a batch of one), there is no spread
    to measure: batch norm then uses its running statistics, and instance norm gives its bias.

    Args:
        in_channels: channels of the image, 1 or more.
        classes: channels of the output; 1 means a single logit for a sigmoid.
        dims: 2 or 3.
        channels: feature channels per level, top first; their number is the number of levels.
        strides: shrinkage from each level to the next, one entry fewer than levels; each entry one number, or
            one per axis such as (1, 2, 2). Default 2 everywhere.
        kernels: odd kernel size per level, each entry one number or one per axis such as (1, 3, 3). Default 3.
        convs_per_level: convolutions of each encoder level: one number, or one per level. The lowest may have 0, as in
            the small networks of courses: what is pooled is enlarged again.
        decoder_convs: the same for the decoder, which has no bottom level; None repeats the encoder's.
        norm: after each convolution; convolutions before a norm have no bias.
        block: "residual" adds a shortcut around every two convolutions.
        activation: after each norm. "leaky_relu" has a slope of 0.1 below zero.
        upsampling: "nearest" and "linear" change the number of channels, where it differs, by a 1x1 convolution
            before they enlarge; "transposed" does both in one up-convolution with kernel = stride.
        pooling: "max", or "strided": the first convolution of a level does the step.
        padding: "same" or "valid".
        deep_supervision: in training mode `forward` gives a list, logits of each decoder level, finest first.
        dropout: share of channels set to zero at the end of each block while training.

    Raises:
        PlanError: for settings that make no network.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        dims: int = 2,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        strides: Sequence[PerAxis] | None = None,
        kernels: Sequence[PerAxis] | None = None,
        convs_per_level: int | Sequence[int] = 2,
        decoder_convs: int | Sequence[int] | None = None,
        norm: Norm = "batch",
        block: Block = "plain",
        activation: Activation = "relu",
        upsampling: Upsampling = "nearest",
        pooling: Pooling = "max",
        padding: Padding = "same",
        deep_supervision: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        given_dims, dims = dims, _whole(dims)
        if dims not in (2, 3):
            raise PlanError(f"a U-Net of {given_dims!r} dimensions", hint="dims=2 for images, dims=3 for volumes")
        for name, value in (("in_channels", in_channels), ("classes", classes)):
            if _whole(value) < 1:
                raise PlanError(f"{name} is {value!r}", hint=f"give {name} as a whole number, 1 or more")
        in_channels, classes = _whole(in_channels), _whole(classes)
        chosen = {
            "norm": norm,
            "block": block,
            "activation": activation,
            "upsampling": upsampling,
            "pooling": pooling,
            "padding": padding,
        }
        for name, choice in chosen.items():
            if choice not in _CHOICES[name]:
                raise PlanError(f"{name} is {choice!r}", hint=f"choose {name} from: {', '.join(_CHOICES[name])}")
        if not isinstance(cast(object, dropout), Real) or not 0 <= dropout < 1:
            raise PlanError(f"dropout is {dropout!r}", hint="give dropout as a share from 0 to below 1, such as 0.1")
        if padding == "valid" and pooling == "strided":
            raise PlanError(
                "padding 'valid' with pooling 'strided': levels would not line up",
                hint="use pooling='max' with padding='valid', or padding='same'",
            )
        widths = tuple(map(_whole, _listed(channels) or ()))
        if not widths or min(widths) < 1:
            raise PlanError(
                f"channels is {channels!r}", hint="give one whole number per level, top first, such as 32,64,128"
            )
        channels, levels = widths, len(widths)

        self.in_channels, self.classes, self.dims = in_channels, classes, dims
        self.channels = widths
        self.strides = _per_level("strides", strides, levels - 1, dims=dims, default=2)
        self.total_stride = tuple(math.prod(stride[axis] for stride in self.strides) for axis in range(dims))
        """Pixels of the image per pixel of the lowest level, one number per axis."""
        self.kernels = _per_level("kernels", kernels, levels, dims=dims, default=3)
        if even := [kernel for kernel in self.kernels if any(size % 2 == 0 for size in kernel)]:
            raise PlanError(f"kernels has the even size {even[0]}", hint="use odd kernel sizes, such as 3 or (1, 3, 3)")
        counts = _counts("convs_per_level", convs_per_level, levels, least_of_last=0 if levels > 1 else 1)
        if not counts[-1] and (pooling != "max" or block != "plain" or channels[-1] != channels[-2]):
            raise PlanError(
                f"convs_per_level {counts} has no convolution in the lowest level",
                hint="give it one, or use pooling='max', block='plain' and as many channels as in the level above",
            )
        decoder_counts = counts[:-1] if decoder_convs is None else _counts("decoder_convs", decoder_convs, levels - 1)
        self.padding, self.pooling, self.upsampling = padding, pooling, upsampling
        self.deep_supervision = deep_supervision

        def make_block(given: int, level: int, convs: int, stride: tuple[int, ...], *, join: bool = False) -> ConvBlock:
            return ConvBlock(
                (given, channels[level]),
                join=join,
                kernel=self.kernels[level],
                stride=stride,
                convs=convs,
                norm=norm,
                residual=block == "residual",
                activation=activation,
                valid=padding == "valid",
                dropout=dropout,
            )

        still = (1,) * dims
        steps = (still, *(self.strides if pooling == "strided" else [still] * (levels - 1)))
        inputs = (in_channels, *channels)
        self.encoder = nn.ModuleList(make_block(inputs[i], i, counts[i], steps[i]) for i in range(levels))
        self.upsamplers = nn.ModuleList(
            Upsample((channels[i + 1], channels[i]), stride=self.strides[i], how=upsampling) for i in range(levels - 1)
        )
        self.decoder = nn.ModuleList(
            make_block(2 * channels[i], i, decoder_counts[i], still, join=True) for i in range(levels - 1)
        )
        heads = max(levels - 1, 1) if deep_supervision else 1
        self.heads = nn.ModuleList(_CONV[dims](channels[i], classes, 1) for i in range(heads))
        for head in self.heads:
            _init_linear(head, _HEAD_GAIN)

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """How far one output pixel sees to each side at most, in pixels, one radius per axis.

        Exact for the convolutions. Instance and group norm, and batch norm in training mode, also depend
        on statistics of the whole image; that is not counted.
        """
        return tuple(self._radius(axis) for axis in range(self.dims))

    def _radius(self, axis: int) -> int:
        radius = 0
        # Pixels of one pooling cell see different ranges; beyond one cell of the lowest level all repeats.
        for pixel in range(self.total_stride[axis]):
            first, last = pixel, pixel
            # Going down the decoder, each level's skip connection asks for a range of its own.
            wanted: list[tuple[int, int]] = []
            for level in range(len(self.decoder)):
                first, last = cast(ConvBlock, self.decoder[level]).source(axis, first, last)
                wanted.append((first, last))
                first, last = cast(Upsample, self.upsamplers[level]).source(axis, first, last)
            wanted.append((first, last))
            for level in reversed(range(len(wanted))):
                first, last = min(first, wanted[level][0]), max(last, wanted[level][1])
                first, last = cast(ConvBlock, self.encoder[level]).source(axis, first, last)
                if level and self.pooling == "max":
                    stride = self.strides[level - 1][axis]
                    first, last = first * stride, last * stride + stride - 1
            radius = max(radius, pixel - first, last - pixel)
        return radius

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial size of the logits for an image of spatial size `shape`.

        Raises:
            ShapeError: if the network cannot take that size; the hint has the sizes nearest above.
        """
        lengths = tuple(map(_whole, _listed(shape) or ()))
        if len(lengths) != self.dims or min(lengths) < 1:
            raise ShapeError(
                f"{shape!r} is no size of an image for a {self.dims}D network",
                hint=f"give {self.dims} whole numbers of 1 or more, in the order {'zyx'[-self.dims :]}",
            )
        return self._output_shape(lengths)

    def _output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if self.padding == "same":
            return tuple(shape)
        sizes = [self._valid_size(size, axis) for axis, size in enumerate(shape)]
        if all(sizes):
            return tuple(sizes)
        better = [self._next_size(size, axis) for axis, size in enumerate(shape)]
        following = [self._next_size(size + 1, axis) for axis, size in enumerate(better)]
        raise ShapeError(
            f"an image of {_times(shape)} does not fit a U-Net with unpadded convolutions",
            hint=f"use {_times(better)} (next: {_times(following)}), or padding='same', which takes any size",
        )

    def _valid_size(self, size: int, axis: int) -> int:
        """Output size of an unpadded network along one axis, 0 where `size` does not work."""
        for level, block in enumerate(cast(Iterable[ConvBlock], self.encoder)):
            if level:
                size, rest = divmod(size, self.strides[level - 1][axis])
                if rest:
                    return 0
            size -= 2 * block.margin[axis]
            if size < 1:
                return 0
        for level in reversed(range(len(self.decoder))):
            margin = cast(ConvBlock, self.decoder[level]).margin[axis]
            size = size * self.strides[level][axis] - 2 * margin
            if size < 1:
                return 0
        return size

    def _next_size(self, size: int, axis: int) -> int:
        while not self._valid_size(size, axis):
            size += 1
        return size

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Turn images (b, c, ...) into logits (b, classes, ...), or a list of them under deep supervision.

        Raises:
            ShapeError: for a tensor with other axes or channels, or a size that does not work.
        """
        size = images.shape[2:]
        if images.ndim != self.dims + 2 or images.shape[1] != self.in_channels or 0 in images.shape:
            axes = "(b, c, y, x)" if self.dims == 2 else "(b, c, z, y, x)"
            raise ShapeError(
                f"images of {_times(images.shape)} for a {self.dims}D network with {self.in_channels} channel(s)",
                hint=f"give a batch {axes} with c = {self.in_channels} and no empty axis",
            )
        x = images
        if self.padding == "valid":
            self._output_shape(size)
        else:
            missing = [-length % stride for length, stride in zip(size, self.total_stride, strict=True)]
            if any(missing):
                x = functional.pad(x, [n for more in reversed(missing) for n in (0, more)], mode="replicate")

        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            if level and self.pooling == "max":
                x = _POOL[self.dims](x, self.strides[level - 1])
            x = block(x)
            skips.append(x)
        logits = [self.heads[0](x)] if not self.decoder else []
        for level in reversed(range(len(self.decoder))):
            upsample, block = cast(Upsample, self.upsamplers[level]), cast(ConvBlock, self.decoder[level])
            skip = skips[level]
            if upsample.how == "nearest" and self.padding == "same" and block.joins(x, upsample.stride):
                x = block(skip, upsample.project(x))
            else:
                x = upsample(x)
                if self.padding == "valid":
                    skip = _crop_center(skip, x.shape[2:])
                x = block(torch.cat([skip, x.to(skip.dtype)], dim=1))
            if level == 0 or (self.training and level < len(self.heads)):
                logits.append(self.heads[level](x))
        if self.padding == "same":
            logits = [self._crop(piece, size, level) for level, piece in enumerate(reversed(logits))]
        else:
            logits.reverse()
        return logits if self.deep_supervision and self.training else logits[0]

    def _crop(self, logits: Tensor, size: Sequence[int], level: int) -> Tensor:
        """Take the inner padding off the logits of one level; a pixel that is padding in part stays."""
        for axis, length in enumerate(size):
            stride = math.prod([step[axis] for step in self.strides[:level]])
            logits = logits.narrow(axis + 2, 0, -(-length // stride))
        return logits


class ConvBlock(nn.Module):
    """The convolutions of one level, each with norm and activation; see `UNet` for the arguments."""

    def __init__(
        self,
        channels: tuple[int, int],
        *,
        join: bool,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        convs: int,
        norm: Norm,
        residual: bool,
        activation: Activation,
        valid: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        given, wanted = channels
        dims = len(kernel)
        self.kernel, self.stride, self.convs = kernel, stride, convs
        self.residual, self.activation = residual, activation
        self.recompute = False
        """Whether what is inside is computed again in the backward pass instead of being kept; same gradients."""

        self.margin = tuple(convs * (size // 2) if valid else 0 for size in kernel)
        """Pixels that the block takes off each side, per axis."""
        around = tuple(0 if valid else size // 2 for size in kernel)
        for i in range(convs):
            conv = (_JOIN if join and i == 0 else _CONV)[dims](
                wanted if i else given,
                wanted,
                kernel,  # type: ignore[arg-type]
                stride=1 if i else stride,  # type: ignore[arg-type]
                padding=around,  # type: ignore[arg-type]
                bias=norm == "none",
            )
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"norm{i + 1}", make_norm(norm, wanted, dims))
        if residual and (given != wanted or any(step > 1 for step in stride)):
            self.shortcut: nn.Module | None = _CONV[dims](given, wanted, 1, bias=norm == "none")
            _init_linear(self.shortcut)
            self.shortcut_norm = make_norm(norm, wanted, dims)
        else:
            self.shortcut = None
        self.dropout = {2: nn.Dropout2d, 3: nn.Dropout3d}[dims](dropout) if dropout else None

    def joins(self, low: Tensor, stride: Sequence[int]) -> bool:
        """Whether this block takes a skip connection and the level below, `stride` times smaller, in two parts."""
        return not self.residual and pays(low, stride, self.kernel)

    def forward(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        """Map (b, given, ...) to (b, wanted, ...); the last channels may be given apart, see `joins`."""
        if not (self.recompute and torch.is_grad_enabled()):
            return self._guarded(x, low)
        again = checkpoint(
            self._guarded,
            x,
            low,
            use_reentrant=False,
            preserve_rng_state=self.dropout is not None,
            context_fn=lambda: (nullcontext(), _without_statistics(self)),
        )
        return cast(Tensor, again)

    def _guarded(self, x: Tensor, low: Tensor | None) -> Tensor:
        if self._is_unsafe(x):
            with torch.autocast("cpu", enabled=False):
                return self._convolve(x.float(), None if low is None else low.float())
        return self._convolve(x, low)

    def _is_unsafe(self, x: Tensor) -> bool:
        """Whether the CPU's bfloat16 kernels would give garbage for the gradients of the weights.

        torch 2.13 does, on grids smaller than the kernel: a padded 3x3x3 convolution whose input is 2 deep, a
        5x5x5 one whose input is 1 to 4 wide somewhere; the gradients come out as memory that was never written.
        Outputs and gradients of inputs are right. Grids that small cost little in float32.
        """
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
            return False
        sizes = zip(x.shape[2:], self.stride, self.kernel, strict=True)
        return any(length // step < kernel for length, step, kernel in sizes)

    def _convolve(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        activate = _ACTIVATE[self.activation]
        for i in range(self.convs):
            if self.residual and i % 2 == 0:
                aside = self._aside(x) if i == 0 else x
            parts = (x,) if i or low is None else (x, low)
            x = getattr(self, f"norm{i + 1}")(getattr(self, f"conv{i + 1}")(*parts))
            if self.residual and (i % 2 == 1 or i == self.convs - 1):
                x = x + _crop_center(aside, x.shape[2:])
            x = activate(x)
        return x if self.dropout is None else self.dropout(x)

    def _aside(self, x: Tensor) -> Tensor:
        """The shortcut around the first two convolutions, averaged where they step.

        Source: He et al. 2019, "Bag of tricks", ResNet-D.
        """
        if self.shortcut is None:
            return x
        if any(step > 1 for step in self.stride):
            x = _AVERAGE[len(self.stride)](x, self.stride)
        return cast(Tensor, self.shortcut_norm(self.shortcut(x)))

    def source(self, axis: int, first: int, last: int) -> tuple[int, int]:
        """Which range of the input the output range `first` to `last`, both included, is made from."""
        half, stride = self.kernel[axis] // 2, self.stride[axis]
        unit = 2 if self.residual else max(self.convs, 1)
        for start in reversed(range(0, self.convs, unit)):
            step = 1 if start else stride
            reach = half * (min(unit, self.convs - start) - 1)
            ranges = [((first - reach) * step - half, (last + reach) * step + half)]
            if self.residual:
                ranges.append((first * step, last * step + step - 1))
            first, last = min(a for a, _ in ranges), max(b for _, b in ranges)
        return first, last


class Upsample(nn.Module):
    """Enlarge to the grid of the level above and give it that level's number of channels."""

    def __init__(self, channels: tuple[int, int], *, stride: tuple[int, ...], how: Upsampling) -> None:
        super().__init__()
        given, wanted = channels
        dims = len(stride)
        self.stride, self.how = stride, how
        self.conv: nn.Module | None = None
        if how == "transposed":
            self.conv = _UP_CONV[dims](given, wanted, stride, stride=stride)  # type: ignore[arg-type]
        elif given != wanted:
            self.conv = _CONV[dims](given, wanted, 1)
        if self.conv is not None:
            _init_linear(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, given, ...) to (b, wanted, ...) with each axis `stride` times as long."""
        x = self.project(x)
        scale = [float(step) for step in self.stride]
        if self.how == "nearest":
            return functional.interpolate(x, scale_factor=scale, mode="nearest")
        if self.how == "linear":
            return functional.interpolate(x, scale_factor=scale, mode=_LINEAR[len(scale)], align_corners=False)
        return x

    def project(self, x: Tensor) -> Tensor:
        """The step before enlarging: the convolution that changes the number of channels, if it differs."""
        # A 1x1 convolution and enlarging may change places; on the small grid it costs a quarter or an eighth.
        return x if self.conv is None else self.conv(x)

    def source(self, axis: int, first: int, last: int) -> tuple[int, int]:
        """Which range of the input the output range `first` to `last`, both included, is made from."""
        stride = self.stride[axis]
        if self.how == "linear":
            # The centre of output pixel i lies at (2 i + 1 - stride) / (2 stride), between two input pixels.
            return (2 * first + 1 - stride) // (2 * stride), -((stride - 1 - 2 * last) // (2 * stride))
        return first // stride, last // stride


def recompute(network: nn.Module) -> bool:
    """Have the blocks of a network keep their input only, and compute what is inside again in the backward pass.

    Loss and gradients stay the same, memory falls to a fraction, and a step takes about a third longer.

    Returns:
        Whether anything changed: False if they did so already, or if there are none.

    Source: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """
    blocks = [module for module in network.modules() if isinstance(module, ConvBlock) and not module.recompute]
    for block in blocks:
        block.recompute = True
    return bool(blocks)


@contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norms alone: the first pass has counted this batch."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _init_linear(conv: nn.Module, gain: float = 1.0) -> None:
    """For layers without an activation, each output of which has one input per channel: keep the spread."""
    layer = cast(nn.Conv2d, conv)
    nn.init.normal_(layer.weight, std=gain * layer.in_channels**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _crop_center(x: Tensor, size: Sequence[int]) -> Tensor:
    for axis, length in enumerate(size):
        if x.shape[axis + 2] != length:
            x = x.narrow(axis + 2, (x.shape[axis + 2] - length) // 2, length)
    return x


def _whole(value: object) -> int:
    """A whole number of any library as one of Python; -1 for what is none, and for True and False."""
    try:
        return -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return -1


def _listed(values: object) -> tuple[Any, ...] | None:
    """What a sequence holds; None for what is none, such as a number or text."""
    try:
        return None if isinstance(values, str) else tuple(values)  # type: ignore[arg-type]
    except TypeError:
        return None


def _counts(name: str, value: int | Sequence[int], levels: int, *, least_of_last: int = 1) -> tuple[int, ...]:
    """One number of convolutions per level."""
    listed = _listed(value)
    counts = (_whole(value),) * levels if listed is None else tuple(map(_whole, listed))
    least = [1] * levels
    if listed is not None:
        least[-1:] = [least_of_last] * len(least[-1:])
    if len(counts) != levels or any(count < few for count, few in zip(counts, least, strict=True)):
        raise PlanError(f"{name} is {value!r}", hint=f"give one whole number, 1 or more, or {levels} of them")
    return counts


def _per_level(
    name: str, values: Sequence[PerAxis] | None, levels: int, *, dims: int, default: int
) -> tuple[tuple[int, ...], ...]:
    """One tuple with a number per axis for each level."""
    entries = (default,) * levels if values is None else _listed(values)
    if entries is None or len(entries) != levels:
        count = "one number" if entries is None else f"{len(entries)} entries"
        raise PlanError(
            f"{name} has {count} where {levels + (name == 'strides')} levels need {levels} entries",
            hint=f"give {levels} entries, each a number or {dims} numbers, or change channels",
        )
    full = tuple(tuple(map(_whole, _listed(entry) or (entry,) * dims)) for entry in entries)
    for entry, sizes in zip(entries, full, strict=True):
        if len(sizes) != dims or min(sizes) < 1:
            raise PlanError(
                f"{name} has the entry {entry!r} in a network of {dims} dimensions",
                hint=f"give {dims} whole numbers of 1 or more per entry, in the order {'zyx'[-dims:]}",
            )
    return full


def _times(shape: Sequence[int]) -> str:
    return "×".join(str(length) for length in shape)
