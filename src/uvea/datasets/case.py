"""What a dataset is, as plain data: cases, and what was found wrong with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image, perhaps of several files, with its mask."""

    name: str
    """Unique in the dataset; output files are named after it. Without suffixes or channel numbers; may contain "/"."""

    images: tuple[Path, ...]
    """One file, or one file per channel in channel order."""

    mask: Path | None = None
    """None where there is no mask: such a case is never trained on."""

    group: str | None = None
    """What must not be split across training and validation: a patient, a stack, a well."""

    part: Part | None = None
    """Fixed by the user's folders or CSV; None where uvea may choose."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All cases of one source, in name order."""

    root: Path
    cases: tuple[Case, ...]
    layout: str
    """How it was found, one sentence: "images/ and masks/, paired by name"."""

    stray_masks: tuple[Path, ...] = ()
    """Masks that belong to no image."""

    unused_skips: tuple[str, ...] = ()
    """Globs of `DataOptions.skip` that fit no file."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong with a dataset, and the way out. Errors stop training, warnings do not."""

    severity: Literal["error", "warning"]
    kind: str
    """A fixed word per check, such as "missing-mask", for programs and tests."""

    problem: str
    hint: str
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What the user says about the data. The defaults mean: find out."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (where it is part of a model's files)

    images: str | None = None
    """Glob of the images, relative to the data folder, such as "raw/*.tif"."""

    masks: str | None = None
    """Glob of the masks, likewise."""

    axes: str | None = None
    """Axes of the image files, overruling what they say: letters of c, t, z, y, x."""

    ignore_value: int | None = None
    """Mask value of pixels that were not annotated."""

    label_names: tuple[str, ...] | dict[int, str] = ()
    """Names of the classes, background first; or of all mask values: {0: "background", 255: "cell"}."""

    instances: bool | None = None
    """Whether mask values are object numbers; None: find out."""

    skip: tuple[str, ...] = ()
    """Globs of file names to leave out."""

    max_pixels: int | None = None
    """Image files that declare more pixels, all channels and slices counted, are refused; None: 2,147,483,648."""
