"""Intensities of any camera or scanner to numbers a network can learn from.

The decision which way to take is made in `plan/rules.py`; here it is only carried out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).tiny)
"""Of the numbers above 0 that pixels are computed with."""

SAMPLE = 1_000_000
"""Percentiles and means of larger images are taken from about this many pixels on a regular grid."""


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """How one channel is normalised.

    zscore: subtract the mean of the image, divide by its standard deviation.
    nonzero: the same, with both taken over the pixels that are not 0 (MRI with an empty surround).
    percentile: the `low` and `high` percentile of the image become -1 and 1; clipped to -2 and 4.
    clip: clip to the *values* `low` and `high`, subtract `mean`, divide by `std` (CT: the scale is physical).
    none: left as it is.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    kind: Literal["zscore", "nonzero", "percentile", "clip", "none"] = "zscore"
    low: float = 0.0
    high: float = 100.0
    mean: float = 0.0
    std: float = 1.0

    def __str__(self) -> str:
        """The kind and the numbers that count for it: "percentile low=1 high=99.8"."""
        counts = {"percentile": ("low", "high"), "clip": ("low", "high", "mean", "std")}.get(self.kind, ())
        return " ".join([self.kind, *(f"{name}={getattr(self, name):g}" for name in counts)])


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A value v becomes (clip(v, low, high) - shift) * factor.

    Measured once on a whole image, it normalises any part of it.
    """

    low: float = float("-inf")
    high: float = float("inf")
    shift: float = 0.0
    factor: float = 1.0


FLAT = Scale(factor=0.0)
"""Of a channel that has one value everywhere."""


def normalize(array: NDArray[np.generic], scheme: Sequence[Normalization]) -> NDArray[np.float32]:
    """Normalise every channel of an image.

    Args:
        array: (c, ...) any real dtype, finite.
        scheme: one per channel.

    Returns:
        (c, ...) float32. A constant channel becomes zeros, whatever its value (except "clip" and "none").
    """
    result = np.empty(array.shape, np.float32)
    for channel, (pixels, how) in enumerate(zip(array, scheme, strict=True)):
        scale, values = measure(pixels, how), result[channel, ...]
        values[...] = pixels
        if scale.low > -np.inf or scale.high < np.inf:
            np.clip(values, scale.low, scale.high, out=values)
        values -= np.float32(scale.shift)
        values *= np.float32(scale.factor)
    return result


def measure(pixels: NDArray[np.generic], how: Normalization) -> Scale:
    """The scale of one channel.

    Args:
        pixels: (...) any real dtype, finite.
        how: the plan's choice.
    """
    if how.kind == "none":
        return Scale()
    if how.kind == "clip":
        return Scale(low=how.low, high=how.high, shift=how.mean, factor=1 / max(how.std, 1e-8))
    # Through float32, which is what networks see.
    sample = pixels.reshape(-1)[:: max(1, pixels.size // SAMPLE)].astype(np.float32).astype(np.float64)
    if how.kind == "percentile":
        low, high = np.percentile(sample, (how.low, how.high))
        if high - low <= 0:
            low, high = float(sample.min()), float(sample.max())
        half = float(high - low) / 2
        if half <= 0:
            return FLAT
        # Low and high become -1 and 1; clipped to -2 and 4.
        return Scale(low=float(low) - half, high=float(high) + 3 * half, shift=float(low) + half, factor=1 / half)
    if how.kind == "nonzero" and (sample != 0).any():
        sample = sample[sample != 0]
    mean, std = float(sample.mean()), float(sample.std())
    # Rounding leaves a constant image with a tiny spread; dividing by it would make noise of nothing.
    return FLAT if std <= 1e-6 * max(abs(mean), 1e-30) else Scale(shift=mean, factor=1 / std)
