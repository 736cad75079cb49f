"""What an augmentation must offer.

To add one: write a frozen dataclass with `draw` and `apply`, add it to `standard_chain`, and
add one line to `tests/augment/test_contract.py`. Nothing else changes.

Shapes: b batch, c channel, n chosen samples of the batch, then space: (y, x) or (z, y, x).
"""

from typing import Any, Protocol

import torch
from torch import Tensor

IGNORE = -1
"""Label of pixels that were not annotated."""


class Augmentation(Protocol):
    """Chance and change are apart: `draw` uses randomness, `apply` never does.

    The drawn values can be logged, replayed, or set by a test. Neither method changes its
    arguments; samples that were not drawn come back bit by bit, perhaps without a copy.
    """

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose what to do with each sample.

        Args:
            images: (b, c, ...); its shape and device are read, never its values.
            rng: on the device of the images.

        Returns:
            The keyword arguments of `apply`, on the device of the images.
        """
        ...

    def apply(self, images: Tensor, labels: Tensor, *args: Any, **drawn: Any) -> tuple[Tensor, Tensor]:
        """Return changed images (b, c, ...) float32 and labels (b, ...) of the type they came in."""
        ...


def choose(images: Tensor, chance: float, rng: torch.Generator) -> Tensor:
    """Pick each sample with probability `chance`; the (n,) int64 indices of those picked."""
    return (torch.rand(len(images), generator=rng, device=images.device) < chance).nonzero().squeeze(1)


def uniform(low: float, high: float, *, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Numbers spread evenly over [low, high), on the device of `rng`."""
    return low + (high - low) * torch.rand(shape, generator=rng, device=rng.device)


def log_uniform(low: float, high: float, *, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Factors whose logarithm is spread evenly: halving is as likely as doubling."""
    return low * (high / low) ** torch.rand(shape, generator=rng, device=rng.device)


def per_sample(values: Tensor, images: Tensor) -> Tensor:
    """Shape (n,) or (n, c) values so that they broadcast over `images` (n, c, ...)."""
    return values.reshape(*values.shape, *[1] * (images.ndim - values.ndim))
