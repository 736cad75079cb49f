"""What peers are given: images and classes as arrays in one file, read with numpy alone."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.generic]
Case = tuple[str, Pixels, NDArray[np.uint8]]
"""Name, image (c, ...) as in its file, and classes (...) with 0 as background."""


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write cases, in their order."""
    arrays: dict[str, Any] = {"names": np.array([name for name, _, _ in cases])}
    for name, image, classes in cases:
        arrays |= {f"image {name}": image, f"classes {name}": classes}
    np.savez(path, **arrays)


def read_cases(path: str | Path) -> list[Case]:
    """The cases in the order in which they were written."""
    with np.load(path) as file:
        return [(str(name), file[f"image {name}"], file[f"classes {name}"]) for name in file["names"]]


def normalised(image: Pixels) -> NDArray[np.float32]:
    """Zero mean and unit spread in each channel of (c, ...)."""
    pixels = image.astype(np.float32)
    axes = tuple(range(1, pixels.ndim))
    spread = np.maximum(pixels.std(axes, keepdims=True), 1e-8)
    found: NDArray[np.float32] = (pixels - pixels.mean(axes, keepdims=True)) / spread
    return found


def write_masks(path: str | Path, masks: Sequence[tuple[str, Pixels]]) -> str:
    """Write predicted classes by name of the case; gives the path as text, for an answer."""
    arrays: dict[str, Any] = {name: mask.astype(np.uint8) for name, mask in masks}
    np.savez(path, **arrays)
    return str(path)


class Clock:
    """Seconds of work, without those between `stop` and `go`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def go(self) -> None:
        """Begin, or go on."""
        self._since = time.perf_counter()

    def stop(self) -> float:
        """Pause; gives the seconds so far."""
        self.seconds += time.perf_counter() - self._since
        return self.seconds

    def now(self) -> float:
        """Seconds so far while it runs."""
        return self.seconds + time.perf_counter() - self._since
