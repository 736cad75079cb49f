"""Jobs that write images for `scaling.py`: in its own process, their memory would count for the commands it starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import uvea
from uvea.datasets.synthetic import make

BLOCK = 512


def picture(*, path: str, size: int) -> Iterator[dict[str, Any]]:
    """One gray image of `size`×`size` bytes: blocks of synthetic nuclei side by side."""
    block = make("nuclei", seed=5, size=(min(size, BLOCK),) * 2).image
    times = size // min(size, BLOCK)
    pixels = np.tile(block.array, (1, times, times))
    uvea.write(Path(path), uvea.Image(array=pixels, axes="yx", spacing=(), unit="px"))
    yield {}


def many(*, folder: str, count: int) -> Iterator[dict[str, Any]]:
    """`count` images of 64×64 with their masks, no two alike."""
    samples = [make("nuclei", seed=seed, size=(64, 64)) for seed in range(16)]
    random = np.random.default_rng(0)
    for number in range(count):
        sample = samples[number % len(samples)]
        noise = random.integers(0, 12, sample.image.array.shape)
        image = np.minimum(sample.image.array.astype(np.int64) + noise, 255).astype(np.uint8)
        _write(Path(folder), f"image{number:05d}.png", image, sample.mask.array.astype(np.uint8))
    yield {}


def classes(*, folder: str, count: int, images: int, size: int) -> Iterator[dict[str, Any]]:
    """Images of squares, each of one of `count` classes and of the gray value of its class."""
    random = np.random.default_rng(0)
    side = max(1, size // 16)
    for number in range(images):
        labels = random.integers(0, count, (size // side, size // side))
        labels.flat[:count] = np.arange(count)  # every class is in every image
        mask = np.kron(labels, np.ones((side, side), int)).astype(np.uint8)
        noise = random.normal(0, 1, mask.shape)
        image = np.clip(mask * (230 / max(count - 1, 1)) + 10 + noise, 0, 255).astype(np.uint8)
        _write(Path(folder), f"image{number}.png", image[None], mask[None])
    yield {}


def _write(folder: Path, name: str, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    for part, array in (("images", image), ("masks", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        uvea.write(folder / part / name, uvea.Image(array=array, axes="yx", spacing=(), unit="px"))
