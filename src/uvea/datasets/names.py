"""What file and folder names tell: roles, parts, channel numbers, running numbers; and which names may be written.

Strings only; nothing here looks at a disk.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from uvea.datasets.case import Part
from uvea.errors import OutputError, harmless

Role = Literal["images", "masks"]

IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "im", "raw", "orig", "original", "input", "inputs"})
"""Words that mark a file or folder as images."""

MASK_WORDS = frozenset(
    {"mask", "masks", "msk", "label", "labels", "lbl", "seg", "segs", "segm", "segmentation", "segmentations"}
    | {"dseg", "probseg"}  # of BIDS
    | {"annotation", "annotations", "annot", "anno", "gt", "groundtruth", "ground", "truth", "manual", "1stmanual"}
)
"""Words that mark a file or folder as masks."""

SURE_WORDS = frozenset(
    {"mask", "masks", "label", "labels", "seg", "segs", "segmentation", "segmentations", "dseg", "probseg"}
    | {"groundtruth"}
)
"""Those of them that mean little else."""

_OTHERWISE = frozenset({"manual", "ground", "msk", "anno"})
"""Those that as often mean something else: a way to focus, the sky's other side, a hospital."""

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
LONGEST_NAME = 240
"""Bytes of the name of an output; file systems end at 255, and what is being written has a longer name for a while."""

_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"}
)
"""What Windows takes for a device, in every folder and with every suffix."""

_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")
_SEPARATORS = "_-. "
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CHANNEL = re.compile(r"(?P<core>.+)_(?P<number>\d{4})")
_FIRST = re.compile(r"(\D*)(\d+)(.*)", re.DOTALL)
_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
DATE = (
    rf"(?:19|20)\d\d(?:[-._]{_MONTH}[-._]{_DAY}|{_MONTH}{_DAY})(?!\d)"
    r"(?:T\d\d[-._]?\d\d(?:[-._]?\d\d)?(?!\d))?"
)
"""Pattern of a date such as "2019-05-03" or "20190503", with or without a time such as "T10-31"."""

_NUMBER = re.compile(rf"({DATE}|\d+)")
"""A number behind the first one of a name; a date such as "2019-05-03" is one, 20190503, that of a visit."""

_STACK_WORD = re.compile(r"(?:^|[^A-Za-z])(?:z|sl|slice|slices|layer|plane|section|frame)[_\-. ]?$", re.IGNORECASE)
_STACK_LETTER = re.compile(r"(?:^|[^A-Za-z])[st][_\-. ]?$", re.IGNORECASE)
_SLICE_WORD = re.compile(r"(?:^|[^A-Za-z])(?:z|sl|slices?)[_\-. ]?$", re.IGNORECASE)
_SIZE = re.compile(r"\d+x\d+", re.IGNORECASE)
_COMMON = 0.75
"""Share of its endings that a slice has on average, from which on they are its channels or tiles."""

_SUBJECT = re.compile(r"(?:^|/)(?P<subject>sub-[A-Za-z]*\d[A-Za-z0-9]*)(?=[_/]|$)")


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


def announced(folder: str) -> Role | None:
    """What `role_of` says, "labelsTs" too, but nothing of words that as often mean something else.

    Example:
        >>> announced("labelsTs"), announced("train_images"), announced("manual")
        ('masks', 'images', None)
    """
    found = role_of(folder.removesuffix("Ts"))
    return found[0] if found and before_word(folder, _OTHERWISE) is None else None


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
        ahead = stem[: match.start()]
        # Cellpose calls its masks "x_cp_masks".
        for before in (ahead, ahead.removesuffix("cp_")) if ahead.endswith("_cp_") else (ahead,):
            after = stem[match.end() :]
            head, tail = before.rstrip(_SEPARATORS), after.lstrip(_SEPARATORS)
            if not head:
                found[Reading(tail, f"{stem[: len(stem) - len(tail)]}…" if tail else stem)] = None
                continue
            if tail:
                glue = before[len(head) :] or after[: len(after) - len(tail)]
                found[Reading(head + glue + tail, f"…{stem[len(head) : len(stem) - len(tail)]}…")] = None
            found[Reading(head, f"…{stem[len(head) :]}")] = None
    return tuple(found)


def starts(stem: str) -> set[str]:
    """What a stem begins with, cut before any of its words, without separators; "" among them."""
    return {stem[: match.start()].rstrip(_SEPARATORS) for match in _WORD.finditer(stem)}


def before_word(stem: str, words: frozenset[str]) -> str | None:
    """What comes before one of `words` at the very end of a stem; None where it ends otherwise.

    Example:
        >>> before_word("p1_seg", MASK_WORDS), before_word("seg_p1", MASK_WORDS)
        ('p1', None)
    """
    for match in _WORD.finditer(stem):
        if match.end() == len(stem) and match[0].lower() in words:
            return stem[: match.start()].rstrip(_SEPARATORS)
    return None


@dataclass(frozen=True)
class Numbered:
    """A name as a member of a numbered series."""

    series: tuple[str, str]
    """The text before and after the number."""

    number: int
    stack: bool
    """The word before the number says slice: "z012", "slice_012", "layer3"."""


def numbered(names: Iterable[str]) -> dict[str, Numbered]:
    """The number that counts in each name, and its series; without names that have none in the last path component.

    It is the last number; a date behind another number is a single one. One that is the same after the same words,
    such as a size, does not count where another does. Further ahead, a number counts only after "z", "sl" or "slice"
    and where nearly all slices have the same endings, their channels or tiles: "layer" or "frame" may as well be a
    class or a source of crops. The letters "s" and "t" mean slices only before the last number of the whole name,
    else a subject or a treatment.

    Example:
        >>> numbered(["mouse2/z012_ch00", "mouse2/z013_ch00"])["mouse2/z012_ch00"]
        Numbered(series=('mouse2/z', '_ch00'), number=12, stack=True)
    """
    split = {}
    values: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        folder, slash, stem = name.rpartition("/")
        if first := _FIRST.fullmatch(stem):
            split[name] = pieces = [folder + slash + first[1], first[2], *_NUMBER.split(first[3])]
            for at in range(1, len(pieces), 2):
                values[tuple(pieces[:at:2])].append(pieces[at])
    same = {words for words, some in values.items() if len(some) > 1 and len(set(some)) == 1}
    counting = {
        name: [at for at in range(1, len(pieces), 2) if tuple(pieces[:at:2]) not in same] or [len(pieces) - 2]
        for name, pieces in split.items()
    }
    slices = _slices_ahead((split[name], at) for name, places in counting.items() for at in places[:-1])
    found = {}
    for name, pieces in split.items():
        *ahead, at = counting[name]
        stack = bool(_STACK_WORD.search(pieces[at - 1]))
        if not stack and (before := [place for place in ahead if tuple(pieces[:place:2]) in slices]):
            at, stack = before[-1], True
        letter = at == len(pieces) - 2 and tuple(pieces[:at:2]) not in same and _STACK_LETTER.search(pieces[at - 1])
        found[name] = Numbered(
            series=("".join(pieces[:at]), "".join(pieces[at + 1 :])),
            number=int(re.sub(r"\D", "", pieces[at])),
            stack=stack or bool(letter),
        )
    return found


def _slices_ahead(numbers: Iterable[tuple[list[str], int]]) -> set[tuple[str, ...]]:
    """Words before a number that is that of a slice though others follow: nearly all slices have the same endings.

    Sizes are one ending, whatever they are. Series with the same words are taken together.
    """
    endings: dict[tuple[str, ...], dict[str, set[tuple[str, str]]]] = defaultdict(lambda: defaultdict(set))
    for pieces, at in numbers:
        if _SLICE_WORD.search(pieces[at - 1]):
            ending = _SIZE.sub("x", "".join(pieces[at + 1 :]))
            endings[tuple(pieces[:at:2])]["".join(pieces[:at])].add((pieces[at], ending))
    slices = set()
    for words, series in endings.items():
        possible = sum(len({number for number, _ in some}) * len({end for _, end in some}) for some in series.values())
        if sum(map(len, series.values())) >= _COMMON * possible:
            slices.add(words)
    return slices


def subject_of(name: str) -> str | None:
    """The subject that a name after the rules of BIDS begins with, such as "sub-01" of "sub-01_ses-2_T1w"."""
    match = _SUBJECT.search(name)
    return match["subject"] if match else None


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


def check_output_names(names: Iterable[str]) -> None:
    """Refuse names of outputs that could be written elsewhere, over each other, or not at all.

    The rule is the same on every system, so that what was predicted on one can be copied to another.

    Args:
        names: paths below the folder of the outputs, with suffix, "/" between folders.

    Raises:
        OutputError: for a name that leaves the folder, has letters that a terminal or a system would obey, is that
            of a device or too long; for two that differ in case or Unicode form only; for one that is a folder of
            another. Names the first, and the way out.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        for part in parts:
            if problem := _fault_of(part):
                raise OutputError(f"the output '{name}' {problem}", hint="rename the image, or name it in another way")
        plain = [plain_name(part) for part in parts]
        key = "/".join(plain)
        if seen.setdefault(key, name) != name:
            raise OutputError(
                f"the outputs '{seen[key]}' and '{name}' differ in case or Unicode form only",
                hint="rename one of the images, or predict them into different folders",
            )
        folders |= {"/".join(plain[:depth]): name for depth in range(1, len(plain))}
    if both := sorted(folders.keys() & seen.keys()):
        raise OutputError(
            f"the output '{seen[both[0]]}' is a folder in '{folders[both[0]]}'",
            hint="rename one of the images, or predict them into different folders",
        )


def _fault_of(part: str) -> str | None:
    """What is wrong with one component of an output's path; None if nothing is."""
    if part in ("", ".", ".."):
        return "leaves the folder of the outputs"
    if harmless(part) != part:
        return "has letters that cannot be shown"
    if strange := [letter for letter in '\\:*?"<>|' if letter in part]:
        return f"has a {strange[0]}, which some systems do not take"
    if part.partition(".")[0].strip().lower() in _DEVICES:
        return "has the name of a device"
    if part != part.rstrip(". "):
        return "ends in a dot or a blank, which some systems leave out"
    if len(part.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        return f"has a name of more than {LONGEST_NAME} bytes"
    return None


def plain_name(part: str) -> str:
    """What file systems that do not tell cases and Unicode forms apart make of a name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold())
