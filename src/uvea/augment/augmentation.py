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

    The drawn values can be logged, replayed, or set by a test. They are drawn on the processor, where what follows
    from them, such as how many samples were chosen, is known without waiting for a device; only what is as large as
    images is drawn beside these. Neither method changes its arguments; samples that were not drawn come back bit by
    bit, perhaps without a copy.
    """

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose what to do with each sample.

        Args:
            images: (b, c, ...); its shape and device are read, never its values.
            rng: on the processor.

        Returns:
            The keyword arguments of `apply`, on the processor, but for what is as large as images.
        """
        ...

    def apply(self, images: Tensor, labels: Tensor, *args: Any, **drawn: Any) -> tuple[Tensor, Tensor]:
        """Return changed images (b, c, ...) float32 and labels (b, ...) of the type they came in."""
        ...


def generator_of(device: torch.device, *, seed: int) -> torch.Generator:
    """Random numbers that are drawn on a device."""
    return torch.Generator(device).manual_seed(seed)


def choose(images: Tensor, chance: float, rng: torch.Generator) -> Tensor:
    """Pick each sample with probability `chance`; the (n,) int64 indices of those picked."""
    return (torch.rand(len(images), generator=rng) < chance).nonzero().squeeze(1)


def beside(values: Tensor, images: Tensor) -> Tensor:
    """`values` on the device of `images`, without waiting for it."""
    if images.device.type == "cuda" and values.device.type == "cpu":  # only pinned memory is moved beside other work
        values = values.pin_memory()
    return values.to(images.device, non_blocking=True)


def uniform(low: float, high: float, *, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Numbers spread evenly over [low, high)."""
    return low + (high - low) * torch.rand(shape, generator=rng)


def log_uniform(low: float, high: float, *, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Factors whose logarithm is spread evenly: halving is as likely as doubling."""
    return low * (high / low) ** torch.rand(shape, generator=rng)


def per_sample(values: Tensor, images: Tensor) -> Tensor:
    """Shape (n,) or (n, c) values so that they broadcast over `images` (n, c, ...), on their device."""
    return beside(values.reshape(*values.shape, *[1] * (images.ndim - values.ndim)), images)
