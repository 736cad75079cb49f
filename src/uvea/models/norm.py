"""The norms of the U-Net: batch, instance and group norm, where they differ from torch's.

They take (b, c, y, x) or (b, c, z, y, x) and know nothing of the network around them.

Source: Ioffe and Szegedy 2015 (batch norm), Ulyanov et al. 2016 (instance norm), Wu and He 2018 (group norm).
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Norm = Literal["batch", "instance", "group", "none"]

EPSILON = 1e-5

_GROUPS = 8
"""Groups of a group norm at most; fewer where they do not divide the channels or would hold one channel only."""

_FEW = 1024
"""Pixels of an image below which torch's group norm is slow with channels last."""


def make_norm(norm: Norm, channels: int, dims: int) -> nn.Module:
    """Make a norm for `channels` channels in 2 or 3 dimensions; "none" gives the identity."""
    if norm == "batch":
        return BatchNorm2d(channels) if dims == 2 else BatchNorm3d(channels)
    if norm == "instance" or (norm == "group" and channels == 1):
        return InstanceNorm(channels)
    if norm == "group":
        groups = max(number for number in range(1, _GROUPS + 1) if channels % number == 0 and channels > number)
        return nn.GroupNorm(groups, channels)
    return nn.Identity()


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that falls back to its running statistics where there is one value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, c, y, x)."""
        return _batch_norm(self, x)


class BatchNorm3d(nn.BatchNorm3d):
    """Batch norm that falls back to its running statistics where there is one value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, c, z, y, x)."""
        return _batch_norm(self, x)


def _batch_norm(norm: nn.BatchNorm2d | nn.BatchNorm3d, x: Tensor) -> Tensor:
    if norm.training and x.shape[0] * math.prod(x.shape[2:]) == 1:
        return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    parent = nn.BatchNorm2d if isinstance(norm, nn.BatchNorm2d) else nn.BatchNorm3d
    return parent.forward(norm, x)


class InstanceNorm(nn.Module):
    """Zero mean and unit spread per image and channel, then a learnt weight and bias."""

    is_few: Callable[[Tensor], bool]
    """Whether another kernel is faster; replaced where the choice must not depend on the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.is_few = _is_few

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, c, ...)."""
        if math.prod(x.shape[2:]) == 1:
            # torch refuses a single value; its distance from its own mean is zero, whatever it is.
            ones = [1] * (x.ndim - 2)
            return x * 0 * self.weight.view(1, -1, *ones) + self.bias.view(1, -1, *ones)
        if x.device.type != "cpu":
            return functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=EPSILON)
        if torch.is_grad_enabled():
            normalised: Tensor = _CpuInstanceNorm.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return normalised
        if self.is_few(x):
            return _normalised(x, self.weight, self.bias)[0]
        return functional.group_norm(x, len(self.weight), self.weight, self.bias, EPSILON)


class _CpuInstanceNorm(torch.autograd.Function):
    """Instance norm out of torch's fast kernels for the CPU.

    With channels last, torch's own kernels take three times as long: forward and backward of (2, 16, 256, 256)
    bfloat16 10.3 ms, these 3.3 ms, one thread (2026-11).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y, mean, scale = _normalised(x, weight, bias)
        ctx.save_for_backward(x, weight, mean, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight, mean, scale = ctx.saved_tensors
        if _channels_last(x):
            gradient = gradient.contiguous(memory_format=_LAYOUTS[x.ndim])
        parts = [
            torch.ops.aten.native_batch_norm_backward(
                gradient[i : i + 1],
                x[i : i + 1],
                weight,
                None,
                None,
                mean[i].to(weight.dtype),
                scale[i].to(weight.dtype),
                True,
                EPSILON,
                [True, True, True],
            )
            for i in range(len(x))
        ]
        of_x, of_weight, of_bias = zip(*parts, strict=True)
        return torch.cat(of_x), torch.stack(of_weight).sum(0), torch.stack(of_bias).sum(0)


_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def _channels_last(x: Tensor) -> bool:
    return x.ndim in _LAYOUTS and x.is_contiguous(memory_format=_LAYOUTS[x.ndim])


def _is_few(x: Tensor) -> bool:
    return math.prod(x.shape[2:]) < _FEW and _channels_last(x)


def _normalised(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Result, mean (b, c) and one by the spread (b, c) of each channel.

    As a group norm with one channel per group, or where that is slow as a batch norm of one sample after the other:
    (8, 128, 16, 16) bfloat16 takes 4.5 and 0.5 ms, (8, 64, 32, 32) 0.2 and 0.4 ms, two threads (2026-11).
    """
    samples, channels = x.shape[:2]
    if not _is_few(x):
        size = math.prod(x.shape[2:])
        y, mean, scale = torch.native_group_norm(x, weight, bias, samples, channels, size, channels, EPSILON)
        return y, mean.view(samples, channels), scale.view(samples, channels)
    each = (x[i : i + 1] for i in range(samples))
    parts = [torch.native_batch_norm(one, weight, bias, None, None, True, 0.0, EPSILON) for one in each]
    ys, means, scales = zip(*parts, strict=True)
    return torch.cat(ys), torch.stack(means), torch.stack(scales)
