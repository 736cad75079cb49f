"""Resize probabilities linearly to another grid, rows after rows, as they come.

The same as torch's linear interpolation of the whole: pixels are boxes, the outer edges stay where they are.
Linear interpolation works axis by axis: all axes but the first are resized within a band, the first one between
the rows of neighbouring bands.
"""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LARGEST = 2**23
"""Numbers that are given out at once."""


class Resizer:
    """Takes the rows of an array (k, n, ...) from first to last and gives out those of the resized one."""

    def __init__(self, rows: int, shape: Sequence[int]) -> None:
        """Resize `rows` rows of any width to the spatial size `shape`."""
        self._old, self._shape = rows, tuple(shape)
        # Centres of the new pixels, counted in old ones.
        centres = np.clip((np.arange(shape[0]) + 0.5) * (rows / shape[0]) - 0.5, 0, rows - 1)
        self._above = np.floor(centres).astype(np.int64)
        self._part = (centres - self._above).astype(np.float32)
        self._below = self._above + (self._part > 0)
        self._kept: Tensor | None = None
        self._first = self._next = 0

    def add(self, band: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Take the next rows (k, n, ...); give out all new rows that are certain now, as (rows, (k, m, ...))."""
        band = self._widen(band)
        if self._shape[0] == self._old:
            yield slice(self._next, self._next + band.shape[1]), band
            self._next += band.shape[1]
            return
        self._kept = band if self._kept is None else torch.cat((self._kept, band), 1)
        end = int(np.searchsorted(self._below, self._first + self._kept.shape[1]))
        step = max(1, LARGEST // max(len(band) * prod(self._shape[1:]), 1))
        for start in range(self._next, end, step):
            stop = min(start + step, end)
            yield slice(start, stop), self._between(self._kept, start, stop)
        self._next = end
        if end < self._shape[0]:
            needed = min(int(self._above[end]), self._first + self._kept.shape[1])
            # A copy, so that the rows above can be forgotten.
            self._kept = self._kept[:, needed - self._first :].clone()
            self._first = needed

    def _between(self, rows: Tensor, start: int, stop: int) -> Tensor:
        def of(index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
            return torch.from_numpy(index[start:stop] - self._first).to(rows.device)

        part = torch.from_numpy(self._part[start:stop]).to(rows.device).view(-1, *[1] * (rows.ndim - 2))
        return torch.lerp(rows.index_select(1, of(self._above)), rows.index_select(1, of(self._below)), part)

    def _widen(self, band: Tensor) -> Tensor:
        """Resize all axes but the first, which counts as channels here."""
        if tuple(band.shape[2:]) == self._shape[1:]:
            return band
        mode = "linear" if band.ndim == 3 else "bilinear"
        return functional.interpolate(band, size=self._shape[1:], mode=mode, align_corners=False)
