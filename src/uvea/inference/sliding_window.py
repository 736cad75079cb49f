"""Predict an image that is larger than the network's patch.

    image -> pad to the stride -> tiles -> network -> blend -> probabilities

Nothing here opens files or knows about normalisation and spacing.
Shapes: image (c, ...), probabilities (k, ...) with k classes.
"""

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uvea.arrays.tiles import cut, weight_of

Network = Callable[[Tensor], Tensor]
"""(b, c, ...) float32 to (b, k, ...) logits of the same spatial size; k = 1 means one sigmoid."""


@torch.inference_mode()
def predict(
    network: Network,
    image: Tensor,
    *,
    tile: Sequence[int],
    overlap: Sequence[int],
    context: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
    mirror_axes: Sequence[int] = (),
    batch: int = 1,
) -> Tensor:
    """Class probabilities of one image, tile by tile.

    Args:
        network: see `Network`; already in evaluation mode, on the device of `image`.
        image: (c, y, x) or (c, z, y, x) float32, normalised and resampled.
        tile: largest spatial size given to the network.
        overlap: least overlap of neighbouring tiles, pixels, per axis.
        context: pixels at inner tile borders that count nothing; see `uvea.arrays.tiles.cut`.
        stride: total stride of the network per axis; tiles start and end on multiples of it.
        mirror_axes: spatial axes (0 is the first after the channel) to mirror along; the mean over
            all combinations is returned.
        batch: tiles per call of the network.

    Returns:
        (k, ...) float32 on the device of `image`, in [0, 1], summing to one; k is 2 for a sigmoid network.
    """
    shape = tuple(image.shape[1:])
    stride = tuple(stride or (1,) * len(shape))
    padded = _pad(image, stride)
    whole = tuple(padded.shape[1:])
    size = tuple(min(ceil(t / s) * s, n) for t, s, n in zip(tile, stride, whole, strict=True))
    shared = [_shared(o, s, t, n) for o, s, t, n in zip(overlap, stride, size, whole, strict=True)]
    tiles = cut(whole, size, overlap=shared, context=context, align=stride)
    result: Tensor | None = None
    for first in range(0, len(tiles), batch):
        some = tiles[first : first + batch]
        pieces = torch.stack([padded[(slice(None), *(span.read for span in one))] for one in some])
        for one, probabilities in zip(some, _mirrored(network, pieces, mirror_axes), strict=True):
            if len(tiles) == 1:
                result = probabilities
                break
            if result is None:
                result = torch.zeros((len(probabilities), *whole), device=image.device)
            weight = torch.from_numpy(np.ascontiguousarray(weight_of(one))).to(image.device)
            result[(slice(None), *(span.read for span in one))] += probabilities * weight
    assert result is not None
    return result[(slice(None), *(slice(0, n) for n in shape))]


def _shared(overlap: int, stride: int, tile: int, length: int) -> int:
    return overlap if tile >= length else min(overlap, tile - stride)


def _mirrored(network: Network, pieces: Tensor, axes: Sequence[int]) -> Tensor:
    flips: list[list[int]] = [[]]
    for axis in axes:
        flips += [[*flip, axis + 2] for flip in flips]
    total = _probabilities(network(pieces))
    for flip in flips[1:]:
        total += _probabilities(network(pieces.flip(flip))).flip(flip)
    return total / len(flips)


def _probabilities(logits: Tensor) -> Tensor:
    logits = logits.float()
    if logits.shape[1] > 1:
        return logits.softmax(1)
    foreground = logits.sigmoid()
    return torch.cat((1 - foreground, foreground), 1)


def _pad(image: Tensor, stride: Sequence[int]) -> Tensor:
    """Continue the last row of each axis to a multiple of the stride, as the network itself would."""
    for axis, step in enumerate(stride, start=1):
        missing = -image.shape[axis] % step
        if missing:
            last = image.narrow(axis, image.shape[axis] - 1, 1)
            image = torch.cat(
                (image, last.expand(*(missing if i == axis else n for i, n in enumerate(image.shape)))), axis
            )
    return image


def labels_of(probabilities: Tensor) -> NDArray[np.int16]:
    """The most probable class of every pixel, (k, ...) to (...); of equals the first."""
    labels: NDArray[np.int16] = probabilities.argmax(0).to(torch.int16).cpu().numpy()
    return labels
