"""What a dataset is, as plain data: cases, and what was found wrong with them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal, SupportsInt

from uvea.errors import DatasetError, UveaError

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
    """What the user says about the data. The defaults mean: find out.

    Numbers may be numpy's, and sequences lists; they become Python's own.

    Raises:
        DatasetError: for values of another type.
    """

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

    def __post_init__(self) -> None:
        plain: dict[str, object] = {
            "label_names": plain_names(self.label_names),
            # A lone glob is meant as one, not as its letters.
            "skip": (self.skip,) if isinstance(self.skip, str) else _texts("skip", self.skip),
        }
        for name, example in {"images": "raw/*.tif", "masks": "masks/*.tif", "axes": "zyx"}.items():
            value = getattr(self, name)
            if not isinstance(value, str | None):
                raise DatasetError(f"{name} is {value!r}, which is no text", hint=f'give text: {name}="{example}"')
        for name in ("ignore_value", "max_pixels"):
            value = getattr(self, name)
            plain[name] = None if value is None else whole_number(name, value)
        if self.instances is not None:
            if self.instances not in (True, False):
                raise DatasetError(f"instances is {self.instances!r}", hint="give True or False; None finds it out")
            plain["instances"] = bool(self.instances)
        for name, found in plain.items():
            object.__setattr__(self, name, found)


def whole_number(name: str, value: object, *, kind: type[UveaError] = DatasetError) -> int:
    """A whole number of any type, such as numpy's, as Python's own.

    Args:
        name: what it is called where it was given.
        value: 7, numpy.int64(7) or 7.0.
        kind: of the error.

    Raises:
        UveaError: of that kind, for fractions, text and everything else.
    """
    if isinstance(value, Real) and isinstance(value, SupportsInt) and float(value).is_integer():
        return int(value)
    raise kind(f"{name} is {value!r}, which is no whole number", hint="give a whole number, such as 7")


def plain_names(names: Iterable[str] | Mapping[int, str] | None) -> tuple[str, ...] | dict[int, str]:
    """Names of classes in order, or by mask value, as Python's own tuple or dict; none for None.

    Raises:
        DatasetError: for anything but texts, and mask values that are no whole numbers.
    """
    if isinstance(names, Mapping):
        # JSON has them as texts.
        keys = [int(key) if isinstance(key, str) and key.removeprefix("-").isdecimal() else key for key in names]
        values = [whole_number("a value in label_names", key) for key in keys]
        return dict(zip(values, _texts("label_names", list(names.values())), strict=True))
    return _texts("label_names", names)


def _texts(name: str, values: Iterable[str] | None) -> tuple[str, ...]:
    if values is None:
        return ()
    given = None if isinstance(values, str) or not isinstance(values, Iterable) else list(values)
    if given is None or not all(isinstance(one, str) for one in given):
        raise DatasetError(f"{name} is {values!r}, which is no list of texts", hint=f'give {name}=["one", "two"]')
    return tuple(map(str, given))
