"""Tiny datasets, and models that were trained on them for a few steps."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uvea.images import write
from uvea.images.image import Image
from uvea.workflows.model import Model
from uvea.workflows.train import train

TINY = {"width": "4,8", "patch": "16,16", "batch": "2", "precision": "float32", "tile": "24,24", "overlap": "4,4"}
"""A network of two levels in float32: what is measured on a machine could not be compared."""

TINY_3D = {**TINY, "patch": "8,16,16", "tile": "8,24,24", "overlap": "0,4,4"}


def write_cases(folder: Path, *, count: int = 6, kind: str = "gray", size: tuple[int, ...] = (20, 24)) -> Path:
    """Write images/ and masks/ of noise with a brighter rectangle.

    gray: PNG, masks 0 and 255. rgb: PNG, masks black and red. volume: NIfTI in mm, masks 0, 1 and 2.
    """
    rng = np.random.default_rng(7)
    for number in range(count):
        inside = np.zeros(size, bool)
        inside[tuple(slice(n // 4 + number % 3, 3 * n // 4) for n in size)] = True
        channels = 3 if kind == "rgb" else 1
        pixels = (rng.integers(0, 120, (channels, *size)) + 100 * inside).astype(np.uint8)
        mask = np.where(inside, 255, 0)[None]
        geometry, suffix = {"axes": "yx"}, ".png"
        if kind == "rgb":
            mask = np.stack([mask[0], np.zeros(size, int), np.zeros(size, int)])
        if kind == "volume":
            mask = inside[None].astype(int)
            mask[..., : size[-1] // 2] *= 2
            geometry, suffix = (
                {"axes": "zyx", "spacing": (2.0, 1.0, 1.0), "unit": "mm", "origin": (5.0, 6.0, 7.0)},
                ".nii.gz",
            )
        for part, array in (("images", pixels), ("masks", mask.astype(np.uint8))):
            write(folder / part / f"case{number}{suffix}", Image(array=array, **geometry))
    return folder


def train_tiny(data: Path, out: Path, **settings: object) -> Model:
    """Train for four steps unless told otherwise."""
    chosen = {"steps": 4, "overrides": TINY, "device": "cpu", **settings}
    with warnings.catch_warnings():
        # Matplotlib and others warn about their own future.
        warnings.simplefilter("ignore")
        return train(data, out=out, **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def cases() -> Callable[..., Path]:
    """`write_cases`."""
    return write_cases


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Model]:
    """`train_tiny`."""
    return train_tiny


@pytest.fixture(scope="session")
def gray_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six gray PNG images with masks of 0 and 255."""
    return write_cases(tmp_path_factory.mktemp("gray"))


@pytest.fixture(scope="session")
def gray_model(gray_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Trained on `gray_data` for four steps; read only."""
    return train_tiny(gray_data, tmp_path_factory.mktemp("models") / "gray")


@pytest.fixture(scope="session")
def rgb_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Trained on colour images with masks of black and red; read only."""
    return train_tiny(
        write_cases(tmp_path_factory.mktemp("rgb"), kind="rgb"), tmp_path_factory.mktemp("models") / "rgb"
    )


@pytest.fixture(scope="session")
def volume_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Trained on volumes in mm with masks of 0, 1 and 2; read only."""
    data = write_cases(tmp_path_factory.mktemp("volume"), kind="volume", size=(10, 20, 24))
    return train_tiny(data, tmp_path_factory.mktemp("models") / "volume", overrides=TINY_3D)


def write_objects(folder: Path, *, count: int = 6, size: tuple[int, ...] = (40, 44), classes: int = 0) -> Path:
    """Write images/ and masks/ of bright discs that touch, numbered from 1; volumes are TIFF with a spacing in um.

    With classes, masks have a class per disc in place of its number.
    """
    rng = np.random.default_rng(3)
    grid = np.indices(size)
    for number in range(count):
        ids = np.zeros(size, np.uint16)
        for disc in range(1, 6 + number % 3):
            for _ in range(20):
                centre = [rng.uniform(3, length - 3) for length in size]
                far = sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True))
                inside = far < rng.uniform(4, 6) ** 2
                if (ids[inside] > 0).mean() < 0.1:
                    ids[inside & (ids == 0)] = disc
                    break
        pixels = (rng.integers(0, 60, size) + 120 * (ids > 0)).astype(np.uint8)
        mask = np.where(ids > 0, (ids - 1) % classes + 1, 0).astype(np.uint8) if classes else ids
        volume = {"axes": "zyx", "spacing": (1.0, 0.5, 0.5), "unit": "um"}
        for part, array in (("images", pixels), ("masks", mask)):
            name = f"case{number}{'.png' if len(size) == 2 else '.tif'}"
            write(folder / part / name, Image(array=array[None], **({"axes": "yx"} if len(size) == 2 else volume)))
    return folder


OBJECTS = {**TINY, "width": "8,16", "patch": "32,32", "tile": "32,32", "overlap": "8,8"}


@pytest.fixture(scope="session")
def objects() -> Callable[..., Path]:
    """`write_objects`."""
    return write_objects


@pytest.fixture(scope="session")
def object_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six PNG images of discs that touch."""
    return write_objects(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="session")
def object_model(object_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Trained on `object_data` for forty steps; read only."""
    return train_tiny(object_data, tmp_path_factory.mktemp("models") / "objects", steps=40, overrides=OBJECTS)
