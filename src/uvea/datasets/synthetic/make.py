"""Make images that look like the field's, with masks that are exactly right.

For the demo, the tests and the benchmarks: one seed, one image, to the last bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uvea.datasets.synthetic.blobs import SPACING_MM, draw_blobs
from uvea.datasets.synthetic.membranes import draw_membranes
from uvea.datasets.synthetic.nuclei import draw_nuclei
from uvea.datasets.synthetic.nuclei3d import SPACING_UM, draw_nuclei3d
from uvea.datasets.synthetic.objects import draw_objects
from uvea.datasets.synthetic.texture import Field
from uvea.datasets.synthetic.vessels import draw_vessels
from uvea.errors import DatasetError, OutputError, ShapeError
from uvea.images import write
from uvea.images.image import Image


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One image with its mask, on one grid."""

    image: Image
    mask: Image
    """(1, ...) uint8: 0 and 255; in blobs 0, 1 and 2. In membranes 255 is the cell, as in the field's data."""

    instances: Image | None = None
    """(1, ...) uint16, 0 and a number per nucleus; None where things are not countable."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How one kind of image is made."""

    draw: Callable[[np.random.Generator, tuple[int, ...]], tuple[Field, NDArray[np.integer | np.bool_]]]
    """From randomness and a size: an image (c, ...), about 0 to 1, and what is at each pixel (...)."""

    size: tuple[int, ...] = (256, 256)
    """In pixels, where the user names none."""

    smallest: int = 32
    """Pixels along an axis under which nothing recognisable is left."""

    axes: str = "yx"
    spacing: tuple[float, ...] = ()
    unit: str = "px"
    countable: bool = False
    """Whether `draw` gives a number per thing rather than a class."""


KINDS: dict[str, Kind] = {
    "nuclei": Kind(draw=draw_nuclei, countable=True),
    "membranes": Kind(draw=draw_membranes),
    "vessels": Kind(draw=draw_vessels),
    "blobs": Kind(draw=draw_blobs, size=(20, 64, 64), smallest=8, axes="zyx", spacing=SPACING_MM, unit="mm"),
    "nuclei3d": Kind(
        draw=draw_nuclei3d,
        size=(24, 80, 80),
        smallest=12,
        axes="zyx",
        spacing=SPACING_UM,
        unit="um",
        countable=True,
    ),
    "objects": Kind(draw=draw_objects, countable=True),
}
"""All kinds by name. To add one, write its file and its line here; its tests follow from this table."""


def make(kind: str, *, seed: int, size: tuple[int, ...] | None = None, bits: int = 8) -> Sample:
    """Make one image with its mask.

    Args:
        kind: one of `KINDS`.
        seed: 0 or larger; the same seed gives the same sample.
        size: in pixels, (y, x) or (z, y, x); None takes the usual size of the kind.
        bits: 8 or 16, the depth of the image: uint8 or uint16, full range.

    Returns:
        Sample.

    Raises:
        DatasetError: if the kind or the depth is not known, or the seed is negative.
        ShapeError: if the size has another number of axes or is too small to hold anything.

    Example:
        >>> make("nuclei", seed=1, size=(64, 48)).mask.shape
        (64, 48)
    """
    recipe = _recipe(kind)
    size = recipe.size if size is None else tuple(size)
    if len(size) != len(recipe.axes) or min(size) < recipe.smallest:
        raise ShapeError(
            f"{kind} cannot be {'×'.join(map(str, size))} ({recipe.axes})",
            hint=f"give {len(recipe.axes)} sizes of at least {recipe.smallest}, "
            f"for example {','.join(map(str, recipe.size))}",
        )
    if bits not in (8, 16):
        raise DatasetError(f"an image cannot have {bits} bits", hint="use 8 or 16")
    if seed < 0:
        raise DatasetError(f"the seed is {seed}", hint="use 0 or a larger number")

    # The name takes part in the seed, so that kinds with one seed share no random numbers.
    pixels, things = recipe.draw(np.random.default_rng([seed, *kind.encode()]), size)
    brightest = 2**bits - 1
    image = Image(
        array=np.clip(np.rint(pixels * brightest), 0, brightest).astype(np.uint8 if bits == 8 else np.uint16),
        axes=recipe.axes,
        spacing=recipe.spacing,
        unit=recipe.unit,
    )
    several = recipe.axes == "zyx" and not recipe.countable
    classes = things if several else np.where(things > 0, 255, 0)
    return Sample(
        image=image,
        mask=image.with_array(classes.astype(np.uint8)[None]),
        instances=image.with_array(things.astype(np.uint16)[None]) if recipe.countable else None,
    )


def write_dataset(
    folder: Path,
    *,
    kind: str,
    count: int,
    seed: int,
    size: tuple[int, ...] | None = None,
    bits: int = 8,
    instances: bool = False,
    overwrite: bool = False,
) -> None:
    """Write `folder`/images and `folder`/masks with equal file names.

    2D images become PNG (TIFF with 16 bits), volumes .nii.gz. The first cases of a larger
    dataset are those of a smaller one with the same seed.

    Args:
        folder: made where it does not exist.
        kind: one of `KINDS`.
        count: how many cases, at least 1.
        seed: of the whole dataset.
        size: in pixels; None takes the usual size of the kind.
        bits: 8 or 16.
        instances: write a number per nucleus as mask instead of 0 and 255.
        overwrite: whether images of that name may be replaced.

    Raises:
        DatasetError, ShapeError: as `make`; if `count` is under 1, or things cannot be counted.
        OutputError: if images/ or masks/ hold anything and `overwrite` is not set.
    """
    recipe = _recipe(kind)
    if count < 1:
        raise DatasetError(f"a dataset of {count} cases is none", hint="ask for at least 1")
    if instances and not recipe.countable:
        countable = ", ".join(name for name, other in KINDS.items() if other.countable)
        raise DatasetError(f"{kind} have no instances", hint=f"ask for classes, or for one of: {countable}")
    for part in ("images", "masks"):
        if not overwrite and (folder / part).is_dir() and any((folder / part).iterdir()):
            raise OutputError(f"{folder / part} is not empty", hint="choose another folder, or add --overwrite")

    suffix = ".nii.gz" if recipe.axes == "zyx" else ".png" if bits == 8 else ".tif"
    if seed < 0:
        raise DatasetError(f"the seed is {seed}", hint="use 0 or a larger number")
    for index, case_seed in enumerate(np.random.SeedSequence(seed).generate_state(count).tolist()):
        sample = make(kind, seed=case_seed, size=size, bits=bits)
        mask = sample.instances if instances and sample.instances is not None else sample.mask
        name = f"{kind}_{index:03d}{suffix}"
        for part, image in (("images", sample.image), ("masks", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            write(folder / part / name, image, overwrite=overwrite)


def _recipe(kind: str) -> Kind:
    if kind not in KINDS:
        raise DatasetError(f"there are no synthetic images of kind {kind!r}", hint=f"use one of: {', '.join(KINDS)}")
    return KINDS[kind]
