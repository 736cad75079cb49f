"""The convolution where a decoder level begins: over the skip connection and the level below, enlarged.

    plain    cat(skip, enlarge(low)) ─ convolution
    joined   skip ─ convolution ───────────────────────── +
             low ── transposed convolution that enlarges ─┘

Both give the same numbers up to rounding. Pixels that were enlarged by repetition are equal in groups, so
the weights that meet the same pixel are added before they are multiplied: with a 3x3 kernel and a stride of 2,
four products per output pixel instead of nine, in three dimensions eight instead of 27. Neither the enlarged
features nor the concatenation are ever made.
"""

import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

_PIXELS = 8192
"""From this number of output pixels in a batch on, the joined way is the faster one; see `pays`."""


class JoinConv2d(nn.Conv2d):
    """A convolution that can also be given its input in two parts; weights as in `nn.Conv2d`."""

    low_first = False
    """Whether the part that is to be enlarged has the first channels."""

    def forward(self, skip: Tensor, low: Tensor | None = None) -> Tensor:
        """Convolve (b, c, y, x), or some of its channels and, smaller by whole strides, the others."""
        return super().forward(skip) if low is None else joined(self, skip, low, low_first=self.low_first)


class JoinConv3d(nn.Conv3d):
    """A convolution that can also be given its input in two parts; weights as in `nn.Conv3d`."""

    low_first = False
    """Whether the part that is to be enlarged has the first channels."""

    def forward(self, skip: Tensor, low: Tensor | None = None) -> Tensor:
        """Convolve (b, c, z, y, x), or some of its channels and, smaller by whole strides, the others."""
        return super().forward(skip) if low is None else joined(self, skip, low, low_first=self.low_first)


def pays(low: Tensor, stride: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether joining features (b, c, ...) that are to be enlarged is faster than the plain way, and known to be right.

    On one core, bfloat16, forward and backward, joined is 1.2 to 1.5 times as fast from 8,192 pixels on, in two and
    three dimensions and with 16 to 256 channels alike, and slower below 5,000, where adding the weights is most
    of the work (2026-11). Only the grid counts, not how many images are in a batch: what becomes of an image must not
    depend on its neighbours. Other devices were not measured. Grids smaller than the transposed kernel are left to the
    plain way: torch's bfloat16 weight gradients of convolutions are wrong on grids smaller than their kernel.
    """
    grid = [length * step for length, step in zip(low.shape[2:], stride, strict=True)]
    grown = (size + step - 1 for size, step in zip(kernel, stride, strict=True))
    large = all(length >= size for length, size in zip(grid, grown, strict=True))
    return low.device.type == "cpu" and math.prod(grid) >= _PIXELS and large


def joined(conv: nn.Conv2d | nn.Conv3d, skip: Tensor, low: Tensor, *, low_first: bool = False) -> Tensor:
    """What `conv` makes of `skip` (b, c, ...) and, enlarged to its grid, `low`.

    Args:
        conv: of odd kernel, stride 1, padding kernel // 2 with zeros, without groups and dilation.
        skip: on the grid of the result.
        low: on a grid that is smaller by whole strides.
        low_first: whether the first channels of the weights are those of `low`.
    """
    dims, channels = skip.ndim - 2, (low if low_first else skip).shape[1]
    first, rest = conv.weight[:, :channels], conv.weight[:, channels:]
    of_skip, of_low = (rest, first) if low_first else (first, rest)
    stride = tuple(large // small for large, small in zip(skip.shape[2:], low.shape[2:], strict=True))
    convolve, enlarge = (
        (functional.conv2d, functional.conv_transpose2d)
        if dims == 2
        else (functional.conv3d, functional.conv_transpose3d)
    )
    padding = cast(tuple[int, ...], conv.padding)
    result = convolve(skip, of_skip, conv.bias, padding=padding)
    return result.add_(enlarge(low, enlarging_kernel(of_low, stride), stride=stride, padding=padding))


def enlarging_kernel(weight: Tensor, stride: Sequence[int]) -> Tensor:
    """The kernel of a transposed convolution that repeats pixels `stride` times and then convolves with `weight`.

    Args:
        weight: (out, in, ...) of odd size k per axis, for a padding of k // 2.
        stride: per spatial axis.

    Returns:
        (in, out, ...) of size k + stride - 1 per axis, for the same padding and for `stride` as its stride:
        along each axis the reversed weights, each spread over `stride` places and summed.
    """
    axes = tuple(range(2, weight.ndim))
    around = [step - 1 for step in reversed(stride) for _ in range(2)]
    spread = functional.pad(weight.flip(axes), around)
    total = functional.avg_pool2d if len(axes) == 2 else functional.avg_pool3d
    sums: Tensor = total(spread, tuple(stride), stride=1, divisor_override=1)
    return sums.transpose(0, 1)
