"""What file and folder names tell: roles, parts, channel numbers, running numbers.

Strings only; nothing here looks at a disk.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from uvea.datasets.case import Part

Role = Literal["images", "masks"]

IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "im", "raw", "orig", "original", "input", "inputs"})
"""Words that mark a file or folder as images."""

MASK_WORDS = frozenset(
    {"mask", "masks", "msk", "label", "labels", "lbl", "seg", "segs", "segm", "segmentation", "segmentations"}
    | {"annotation", "annotations", "annot", "anno", "gt", "groundtruth", "ground", "truth", "manual", "1stmanual"}
)
"""Words that mark a file or folder as masks."""

_ROLES: dict[str, Role] = {
    **dict.fromkeys(IMAGE_WORDS, "images"),
    **dict.fromkeys(MASK_WORDS, "masks"),
    "imagestr": "images",
    "labelstr": "masks",
}
_PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")
_SEPARATORS = "_-. "
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CHANNEL = re.compile(r"(?P<core>.+)_(?P<number>\d{4})")
_NUMBER = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)")
_STACK_WORD = re.compile(r"(?:^|[^A-Za-z])(?:z|s|sl|slice|slices|layer|plane|section|frame|t)[_\-. ]?$", re.IGNORECASE)


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or left there by an operating system for itself."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def part_of(word: str) -> Part | None:
    """The part a folder name or a table entry stands for; None for any other word."""
    return _PARTS.get(word.strip().lower())


def role_of(folder: str) -> tuple[Role, str] | None:
    """Whether a folder name announces images or masks, and the part word in it ("" without one).

    Example:
        >>> role_of("Ground Truth"), role_of("train_images"), role_of("imagesTs")
        (('masks', ''), ('images', 'train'), None)
    """
    plain = re.sub(r"[_\-. ]", "", folder).lower()
    if plain in _ROLES:
        return _ROLES[plain], ""
    words = re.split(r"[_\-. ]+", folder)
    parts = [word for word in words if part_of(word)]
    others = [word.lower() for word in words if not part_of(word)]
    if len(parts) == 1 and len(others) == 1 and others[0] in _ROLES:
        return _ROLES[others[0]], parts[0]
    return None


def channel_of(stem: str) -> tuple[str, int] | None:
    """Case and channel number of "case_0001", the form of one file per channel: four digits, counted from zero."""
    match = _CHANNEL.fullmatch(stem)
    return (match["core"], int(match["number"])) if match else None


@dataclass(frozen=True)
class Reading:
    """A stem understood as a case with a word on it, such as "x_mask" as the mask of "x"."""

    core: str
    mark: str
    """What was taken off, with "…" for the rest: "…_mask", "mask_…", "…_mask_…"."""


def readings(stem: str, words: frozenset[str]) -> tuple[Reading, ...]:
    """All ways to take one of `words` off a stem, or the word with everything after it.

    Example:
        >>> [reading.core for reading in readings("p1_mask_02", MASK_WORDS)]
        ['p1_02', 'p1']
    """
    found: dict[Reading, None] = {}
    for match in _WORD.finditer(stem):
        if match[0].lower() not in words:
            continue
        before, after = stem[: match.start()], stem[match.end() :]
        head, tail = before.rstrip(_SEPARATORS), after.lstrip(_SEPARATORS)
        if not head:
            found[Reading(tail, f"{stem[: len(stem) - len(tail)]}…" if tail else stem)] = None
            continue
        if tail:
            glue = before[len(head) :] or after[: len(after) - len(tail)]
            found[Reading(head + glue + tail, f"…{stem[len(head) : len(stem) - len(tail)]}…")] = None
        found[Reading(head, f"…{stem[len(head) :]}")] = None
    return tuple(found)


@dataclass(frozen=True)
class Numbered:
    """A name as a member of a numbered series."""

    series: tuple[str, str]
    """The text before and after the number."""

    number: int
    stack: bool
    """The word before the number says slice: "z012", "slice_012", "layer3"."""


def numbered(name: str) -> Numbered | None:
    """The last number of a name and the series it counts; None without a number in the last path component.

    Example:
        >>> numbered("mouse2/z012")
        Numbered(series=('mouse2/z', ''), number=12, stack=True)
    """
    folder, slash, stem = name.rpartition("/")
    match = _NUMBER.fullmatch(stem)
    if not match:
        return None
    return Numbered(
        series=(folder + slash + match["before"], match["after"]),
        number=int(match["number"]),
        stack=bool(_STACK_WORD.search(match["before"])),
    )


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key that puts "z2" before "z10"; equal only for equal names."""
    pieces = re.split(r"(\d+)", name)
    return tuple((1, int(p), "") if p.isdecimal() else (0, 0, p) for p in pieces), name


def listed(names: Iterable[object], *, limit: int = 3) -> str:
    """The first names, quoted, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    quoted = [f"'{name}'" for name in names]
    more = len(quoted) - limit
    return ", ".join(quoted[:limit]) + (f" and {more} more" if more > 0 else "")
