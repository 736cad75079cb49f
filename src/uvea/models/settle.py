"""Networks whose norms have seen an image, so that all its tiles are normalised alike.

An instance norm takes mean and spread from what it is given. Given tiles, it makes of one image many: their borders
show, and another size of tiles gives another result. Here the norms look at patches that are spread over the image,
once; then they are a multiplication and an addition per channel, which the convolution before them does on the way.
"""

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional

from uvea.models.fold import fold_in_place
from uvea.models.norm import EPSILON, InstanceNorm

Settle = Callable[[Iterable[Tensor]], nn.Module]
"""Batches of patches (b, c, ...) to a network that treats whatever it gets as a part of the same image."""


def settler(network: object, *, autocast: Callable[[], AbstractContextManager[object]]) -> Settle | None:
    """How to settle a network, or None if its norms do not look at what they are given.

    Args:
        network: in evaluation mode; stays as it is.
        autocast: makes the context in which it runs.
    """
    if not isinstance(network, nn.Module) or not any(isinstance(m, _ADAPTIVE) for m in network.modules()):
        return None

    @torch.inference_mode()
    def settle(batches: Iterable[Tensor]) -> nn.Module:
        settled = copy.deepcopy(network)
        for parent, name, norm in _norms(settled, _ADAPTIVE):
            setattr(parent, name, _Measuring(norm))
        for patches in batches:
            with autocast():
                settled(patches)
        for parent, name, norm in _norms(settled, _Measuring):
            assert isinstance(norm, _Measuring)
            setattr(parent, name, norm.fixed())
        fold_in_place(settled)
        return settled

    return settle


def _norms(
    network: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]
) -> list[tuple[nn.Module, str, nn.Module]]:
    """Norms of these kinds, with the modules that they are in and their names there."""
    parents = network.modules()
    return [(parent, name, m) for parent in parents for name, m in parent.named_children() if isinstance(m, kinds)]


class _Measuring(nn.Module):
    """A norm over all patches of a batch together, which remembers mean and spread, averaged over batches."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        assert isinstance(norm, InstanceNorm | nn.GroupNorm)
        self.weight, self.bias = norm.weight, norm.bias
        self.eps = norm.eps if isinstance(norm, nn.GroupNorm) else EPSILON
        self.groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else len(norm.weight)
        self.batches, self.dims = 0, 2
        self.mean, self.within, self.between = (torch.zeros_like(norm.weight) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, c, ...)."""
        self.batches, self.dims = self.batches + 1, x.ndim - 2
        if self.groups == x.shape[1]:  # torch has that in one go
            y, mean, scale = torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps)
            self._count(mean, (scale.pow(-2) - self.eps).clamp(min=0))
            return y
        spread, mean = torch.var_mean(x.float(), [0, *range(2, x.ndim)], correction=0)
        mean, spread = mean.view(self.groups, -1), spread.view(self.groups, -1)
        middle = mean.mean(1, keepdim=True)
        within = (spread + (mean - middle).square()).mean(1, keepdim=True)
        mean, spread = (part.expand_as(mean).reshape(-1) for part in (middle, within))
        self._count(mean, spread)
        return functional.batch_norm(x, mean, spread, self.weight, self.bias, False, 0.0, self.eps)

    def _count(self, mean: Tensor, spread: Tensor) -> None:
        # Squares of means are never subtracted from one another: where they are large, nothing would be left.
        away = mean - self.mean
        self.mean += away / self.batches
        self.between += away * (mean - self.mean)
        self.within += spread

    def fixed(self) -> nn.Module:
        """The norm with what it remembers: a batch norm in evaluation mode, which convolutions can take over."""
        kind = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[self.dims]
        norm = kind(len(self.weight), eps=self.eps, device=self.weight.device)
        norm.weight, norm.bias = self.weight, self.bias
        norm.running_mean, norm.running_var = self.mean, (self.within + self.between) / self.batches
        return norm.eval()


_ADAPTIVE = (InstanceNorm, nn.GroupNorm)
"""Norms that take their statistics from what they are given."""
