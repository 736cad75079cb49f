"""Intensities of any camera or scanner to numbers a network can learn from.

The decision which way to take is made in `plan/rules.py`; here it is only carried out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

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
        result[channel] = _channel(pixels, how)
    return result


def _channel(pixels: NDArray[np.generic], how: Normalization) -> NDArray[np.float32]:
    values = pixels.astype(np.float32)
    if how.kind == "none":
        return values
    if how.kind == "clip":
        return (np.clip(values, how.low, how.high) - how.mean) / max(how.std, 1e-8)
    step = max(1, values.size // SAMPLE)
    sample = values.reshape(-1)[::step].astype(np.float64)
    if how.kind == "percentile":
        low, high = np.percentile(sample, (how.low, how.high))
        if high - low <= 0:
            low, high = float(sample.min()), float(sample.max())
        if high - low <= 0:
            return np.zeros_like(values)
        scaled: NDArray[np.float32] = (values - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1)
        return np.clip(scaled, -2, 4)
    if how.kind == "nonzero" and (sample != 0).any():
        sample = sample[sample != 0]
    mean, std = float(sample.mean()), float(sample.std())
    # Rounding leaves a constant image with a tiny spread; dividing by it would make noise of nothing.
    if std <= 1e-6 * max(abs(mean), 1e-30):
        return np.zeros_like(values)
    return (values - np.float32(mean)) / np.float32(std)
