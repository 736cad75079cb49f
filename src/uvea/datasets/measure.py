"""Numbers about the pixels of one image or mask: counts, statistics, pieces, thumbnails, hashes.

Arrays in, plain numbers out; it knows neither files nor cases.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.labels import Key, Value, colour_codes, is_gray
from uvea.errors import ShapeError

PERCENTS = (0.5, 2.0, 50.0, 98.0, 99.5)
"""The percentiles that are kept per channel."""

SAMPLE = 1_000_000
"""Pixels per channel that percentiles, means and deviations are taken from: every k-th one, k fixed by the size."""

PIECES_LIMIT = 1 << 24
"""Pixels of a mask in which connected pieces are counted; larger masks are thinned to this."""

THUMBNAIL = 64
"""Side of the thumbnails, in pixels."""

PLANE = 4096
"""Side of the middle of a plane in which widths are measured."""

FEWEST_COUNTED = {1: 1, 2: 1 << 15}
"""Pixels from which on integers of so many bytes are counted."""

MOST_CENTRES = 64
"""Masks with more values than this hold objects rather than classes: where each lies says nothing."""

PerChannel = tuple[float, ...]


def codes_of(mask: NDArray[np.generic], where: str) -> tuple[NDArray[np.generic], bool]:
    """One number per pixel of a mask (c, ...), and whether the numbers stand for colours."""
    if mask.size == 0 or mask.shape[0] not in (1, 3):
        raise ShapeError(
            f"the mask {where} has {mask.shape[0]} channels and {mask[0].size if len(mask) else 0} pixels",
            hint="save masks with one channel of class values, or as RGB with one colour per class",
        )
    if is_gray(mask):
        gray = mask[0]
        return (gray.view(np.uint8) if gray.dtype == np.bool_ else gray), False
    if mask.dtype.kind not in "ui" or mask.max() > 65535 or mask.min() < 0:
        raise ShapeError(
            f"the mask {where} has three channels of {mask.dtype}",
            hint="save colour masks as RGB with 8 bits per channel",
        )
    return colour_codes(mask), True


def code_of(key: Key) -> Value:
    """The number that `codes_of` gives a gray value or a colour."""
    return (key[0] << 32) | (key[1] << 16) | key[2] if isinstance(key, tuple) else key


def count_values(codes: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    """Distinct values of integers (...) in ascending order and how often each occurs."""
    low, high = int(codes.min()), int(codes.max())
    if high - low >= PIECES_LIMIT:
        values, counts = np.unique(codes, return_counts=True)
        return values, counts.astype(np.int64)
    totals = np.zeros(high - low + 1, np.int64)
    flat = codes.reshape(-1)
    # Sorting is slow, and bincount takes eight bytes per pixel: so in parts.
    for start in range(0, flat.size, PIECES_LIMIT):
        part = flat[start : start + PIECES_LIMIT]
        totals += np.bincount(part if low == 0 else part.astype(np.int64) - low, minlength=len(totals))
    found = np.flatnonzero(totals)
    return found + low, totals[found]


def count_pieces(codes: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Value and size in pixels of each connected piece of equal value in integers (...), without 0; corners connect."""
    from skimage.measure import label

    step = math.ceil((codes.size / PIECES_LIMIT) ** (1 / codes.ndim))
    thinned = codes[(slice(None, None, step),) * codes.ndim]
    numbers, count = label(thinned, background=0, return_num=True)  # type: ignore[no-untyped-call]
    values = np.zeros(count + 1, codes.dtype)
    values[numbers.reshape(-1)] = thinned.reshape(-1)  # all pixels of a piece write the same value
    sizes = np.bincount(numbers.reshape(-1), minlength=count + 1)
    return values[1:], sizes[1:].astype(np.float64) * step**codes.ndim


def pieces_of(
    codes: NDArray[np.generic], *, timed: bool
) -> tuple[dict[int, int], NDArray[np.generic], NDArray[np.float64]]:
    """Connected pieces of equal value in integers (...); with `timed`, the first axis is time and connects nothing.

    Returns:
        How many pieces each value has, in time series the mean over the frames that have it, rounded up; then value
        and size in pixels of each piece.
    """
    frames = [count_pieces(frame) for frame in (codes if timed else codes[None])]
    values, sizes = (np.concatenate(found) for found in zip(*frames, strict=True))
    known, counts = np.unique(values, return_counts=True)
    _, seen = np.unique(np.concatenate([np.unique(found) for found, _ in frames]), return_counts=True)
    return dict(zip(known.tolist(), (-(-counts // seen)).tolist(), strict=True)), values, sizes


def thickness_of(codes: NDArray[np.generic], hidden: Sequence[float]) -> float:
    """How wide the foreground is, or the rest where that is narrower, in integers (..., y, x), in pixels; 0 for none.

    Twice the pixels by those of them that have a face neighbour of another value in the plane of the last two axes: the
    width of a line, about the radius of a disc. Specks weigh as much as they have pixels. Of planes above 4096×4096 the
    middle is looked at.
    """
    top, left = (max(0, length - PLANE) // 2 for length in codes.shape[-2:])
    codes = codes[..., top : top + PLANE, left : left + PLANE]
    edge = np.zeros(codes.shape, np.bool_)
    for before, after in (
        ((..., slice(None, -1), slice(None)), (..., slice(1, None), slice(None))),
        ((..., slice(None, -1)), (..., slice(1, None))),
    ):
        differ = codes[before] != codes[after]
        edge[before] |= differ
        edge[after] |= differ
    foreground = ~np.isin(codes, hidden)
    if not foreground.any():
        return 0.0
    sides = [(np.count_nonzero(part), np.count_nonzero(part & edge)) for part in (foreground, ~foreground)]
    return min((2.0 * pixels / at_edge for pixels, at_edge in sides if at_edge), default=float(min(codes.shape[-2:])))


def centres_of(codes: NDArray[np.generic], values: NDArray[np.generic]) -> dict[int, tuple[float, ...]]:
    """Mean position of each of these values in integers (...), as shares of the axes; from SAMPLE pixels at most.

    Fewer than two values have nothing to be compared with, and more than MOST_CENTRES are no classes: both give {}.
    """
    if not 2 <= len(values) <= MOST_CENTRES:
        return {}
    places = np.flatnonzero(np.isin(codes, values))
    places = places[:: stride_for(len(places), codes.shape[-1])]
    values, which, counts = np.unique(codes.reshape(-1)[places], return_inverse=True, return_counts=True)
    # Pixel i of n covers the shares from i / n to (i + 1) / n.
    shares = [
        (np.bincount(which, weights=place) / counts + 0.5) / length
        for place, length in zip(np.unravel_index(places, codes.shape), codes.shape, strict=True)
    ]
    return {value: tuple(float(along[i]) for along in shares) for i, value in enumerate(values.tolist())}


def foreground_of(mask: NDArray[np.generic], *, background: Key, ignore: int | None) -> NDArray[np.bool_]:
    """Where a mask (c, ...) has neither background nor ignored value, (...)."""
    colour = np.array(background).reshape(-1, *(1,) * (mask.ndim - 1))
    foreground: NDArray[np.bool_] = (mask != colour).any(axis=0)
    if ignore is not None:
        foreground &= (mask != ignore).any(axis=0)
    return foreground


def statistics_of(sample: NDArray[np.generic]) -> tuple[PerChannel, PerChannel, tuple[tuple[float, ...], ...]]:
    """Mean, deviation and percentiles of the finite values of each channel, (c, pixels)."""
    means, deviations, percentiles = zip(*map(_statistics, sample), strict=True)
    return means, deviations, percentiles


def _statistics(channel: NDArray[np.generic]) -> tuple[float, float, tuple[float, ...]]:
    # Of few pixels with 16 bits there are more values to count than pixels to order.
    if channel.dtype.kind in "ui" and channel.itemsize <= 2 and len(channel) >= FEWEST_COUNTED[channel.itemsize]:
        return _counted_statistics(channel)
    values = channel[np.isfinite(channel)].astype(np.float64)
    values = values if len(values) else np.zeros(1)
    return float(values.mean()), float(values.std()), tuple(np.percentile(values, PERCENTS).tolist())


def _counted_statistics(channel: NDArray[np.generic]) -> tuple[float, float, tuple[float, ...]]:
    """The same of integers of 8 or 16 bits, which are counted: several times as fast as putting them in order."""
    low, pixels = int(channel.min()), len(channel)
    counts = np.bincount(channel.astype(np.int64) - low)
    values = low + np.arange(len(counts), dtype=np.float64)
    mean = float(counts @ values) / pixels
    deviation = math.sqrt(float(counts @ (values - mean) ** 2) / pixels)
    # Between the two values around each place in the order, as numpy does.
    place = np.array(PERCENTS) / 100 * (pixels - 1)
    before = place.astype(np.int64)
    upto = np.cumsum(counts)
    lower, upper = (
        values[np.searchsorted(upto, at, side="right")] for at in (before, np.minimum(before + 1, pixels - 1))
    )
    return mean, deviation, tuple((lower + (upper - lower) * (place - before)).tolist())


def stride_for(pixels: int, row: int) -> int:
    """Step that leaves at most SAMPLE pixels and does not keep to a few columns."""
    step = math.ceil(pixels / SAMPLE)
    while math.gcd(step, row) > 1:
        step += 1
    return step


def hash_of(array: NDArray[np.generic]) -> str:
    """Of the values, their type and the shape."""
    digest = hashlib.blake2b(f"{array.shape} {array.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def make_thumbnail(array: NDArray[np.generic]) -> bytes:
    """The middle slice of (c, ..., y, x), channels averaged, as THUMBNAIL × THUMBNAIL float16.

    Its range becomes 0 to 1.
    """
    while array.ndim > 3:
        array = array[:, array.shape[1] // 2]
    # Eight pixels per side of a thumbnail pixel are enough, and keep large images cheap.
    step = [max(1, length // (8 * THUMBNAIL)) for length in array.shape[1:]]
    plane = np.nan_to_num(array[:, :: step[0], :: step[1]].astype(np.float32), posinf=0.0, neginf=0.0).mean(axis=0)
    for axis in (0, 1):
        edges = np.arange(THUMBNAIL) * plane.shape[axis] // THUMBNAIL
        widths = np.maximum(np.diff(edges, append=plane.shape[axis]), 1)
        plane = np.add.reduceat(plane, edges, axis=axis) / np.expand_dims(widths, 1 - axis)
    low, high = plane.min(), plane.max()
    return bytes(((plane - low) / (high - low if high > low else 1.0)).astype(np.float16).data)


def thumbnail_of(stored: bytes) -> NDArray[np.float32]:
    """A thumbnail kept in the facts, 64×64 (y, x)."""
    return np.frombuffer(stored, np.float16).reshape(THUMBNAIL, THUMBNAIL).astype(np.float32)
