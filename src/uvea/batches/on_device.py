"""The same patches as `sampler` cuts, out of cases that are kept on the device where the network is trained.

Nothing but the places of the patches goes there at a step.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from uvea.batches.sampler import IGNORE, TrainingCase, patches


def size_bytes(cases: Sequence[TrainingCase]) -> int:
    """Memory that the cases take on a device."""
    return sum(case.image.nbytes + case.labels.nbytes for case in cases)


def device_sampler(
    cases: Sequence[TrainingCase],
    patch: Sequence[int],
    batch: int,
    *,
    foreground: float,
    seed: int,
    device: torch.device,
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Move the cases to a device and make a function from a step number to a batch there.

    Arguments and batches are those of `uvea.batches.sampler.sampler`; the values are equal to the last bit.
    """
    images = [torch.from_numpy(np.array(case.image)).to(device) for case in cases]
    labels = [torch.from_numpy(np.array(case.labels)).to(device) for case in cases]
    choose = patches(cases, patch, batch, foreground=foreground, seed=seed)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        pixels = torch.empty((batch, len(images[0]), *patch), device=device)
        known = torch.full((batch, *patch), IGNORE, dtype=labels[0].dtype, device=device)
        for i, (index, start) in enumerate(choose(step)):
            _crop(images[index], labels[index], start, pixels=pixels[i], known=known[i])
        return pixels, known

    return draw


def _crop(image: Tensor, labels: Tensor, start: Sequence[int], *, pixels: Tensor, known: Tensor) -> None:
    """Write one patch (c, ...) and its labels (...); what lies outside is reflected, and its labels left alone."""
    source, target = [], []
    piece = image
    for axis, (first, size, length) in enumerate(zip(start, known.shape, labels.shape, strict=True), start=1):
        low, high = max(first, 0), min(first + size, length)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
        if high - low == size:
            piece = piece.narrow(axis, low, size)
        else:
            # There and back again is twice the length.
            places = torch.arange(first, first + size, device=image.device) % (2 * length)
            piece = piece.index_select(axis, torch.minimum(places, 2 * length - 1 - places))
    pixels.copy_(piece)
    known[tuple(target)] = labels[tuple(source)]
