"""Divide cases into training and validation, never across a group.

What belongs together is decided first (`_units`): a group that the user named, a subject, a stack, a patient-like
prefix or number, or the case alone; units with copies of one image in them become one. Dividing then only deals with
these units. Names are all this file sees; whether numbered neighbours look alike, and which images are copies, is
measured by others and told to it as `consecutive` and `copies`.
"""

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from uvea.datasets.case import Case
from uvea.datasets.names import DATE, Numbered, listed, natural_key, numbered, part_of, subject_of
from uvea.datasets.table import part_in, read_rows
from uvea.errors import DatasetError
from uvea.images import stem_of

MIN_PREFIXES = 3
"""Prefixes such as "mouse1_", and numbers such as "12" of "12_left", count as groups from this many on: two may as
well be classes or magnifications."""

MAX_ENDINGS = 4
"""Images of one number, such as left and right or a few visits: more of them are those of a class."""


@dataclass(frozen=True)
class Split:
    """Names of the cases to train on and to validate on, each in name order."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (where it is part of a run's files)

    train: tuple[str, ...]
    val: tuple[str, ...]
    reason: str
    """How the validation cases were chosen, one sentence."""

    by_user: bool = False
    """The user's own: from folders, a table or a split file. What is on both sides of it stops a training."""


@dataclass(frozen=True)
class _Units:
    """Cases that must stay together, as tuples of names in natural order."""

    units: tuple[tuple[str, ...], ...]
    kind: str
    """What a unit is, in the plural: "groups", "stacks", "images"."""


def split(
    cases: Iterable[Case],
    *,
    fraction: float = 0.2,
    seed: int = 42,
    consecutive: bool | None = None,
    copies: Sequence[Sequence[str]] = (),
) -> Split:
    """Hold back a part of the cases for validation.

    A part fixed by the user stays; if that includes validation, nothing is chosen. Otherwise whole groups are drawn.
    One stack, or one group around everything, is cut once: its last cases in number order are held back. Test cases
    and cases without a mask are in neither list.

    Args:
        cases: in any order; the result does not depend on it.
        fraction: of the cases to hold back, above 0 and below 1; at least one case, and never all.
        seed: chooses among the groups; equal on every machine.
        consecutive: whether numbered neighbours are slices of one stack, as measured on their pixels
            (`neighbour_pairs`). Without it only names that say so ("z012", "slice_012", "layer3") count as stacks.
        copies: names of cases whose images are equal or nearly so, which belong on one side. Parts that the user
            fixed stay as they are.

    Returns:
        The names. With a single case it is in both lists, and the reason says that the score is too good.

    Raises:
        DatasetError: no case has a mask, or the user's parts leave nothing to train on.
    """
    if not 0 < fraction < 1:
        raise DatasetError(f"a validation fraction of {fraction:g} leaves one part empty", hint="use 0.2")
    usable = _usable(cases)
    company = _company(usable, copies)
    fixed = {part: {case.name for case in usable if case.part == part} for part in ("train", "val")}
    if fixed["val"]:
        return _fixed_split(usable, fixed["val"], company)
    if len(usable) == 1:
        only = usable[0].name
        return Split((only,), (only,), f"'{only}' is the only case, so it also validates: the score is too good")

    free = [case for case in usable if case.part is None] or usable
    kept = {company[name] for name in fixed["train"]} if free is not usable else set()
    free = [case for case in free if company[case.name] not in kept] or free
    wanted = min(max(1, _rounded(fraction * len(free))), len(usable) - 1)
    found = _units(free, consecutive, copies)
    if len(found.units) == 1 and len(free) == len(usable):
        (unit,) = found.units
        reason = f"the last {wanted} of {len(unit)} cases in number order: {found.kind}"
        return _assemble(usable, unit[-wanted:], reason)
    chosen = _draw(found.units, wanted=wanted, seed=seed, all_cases=len(usable))
    held = [name for unit in chosen for name in unit]
    reason = f"{len(held)} of {len(usable)} cases drawn with seed {seed}"
    if any(len(unit) > 1 for unit in found.units):
        reason += f", in whole {found.kind}: {len(chosen)} of {len(found.units)}"
    return _assemble(usable, held, reason)


def folds(
    cases: Iterable[Case],
    count: int,
    *,
    seed: int = 42,
    consecutive: bool | None = None,
    copies: Sequence[Sequence[str]] = (),
) -> list[Split]:
    """Divide the cases `count` times so that each is validated on exactly once.

    Whole groups, as in `split`, are dealt to the smallest fold, the largest group first. One stack is cut into
    contiguous blocks. Train and validation folders are pooled; test cases and cases without a mask are left out.

    Raises:
        DatasetError: fewer than two folds, or more folds than groups.
    """
    usable = _usable(cases)
    found = _units(usable, consecutive, copies)
    stack = len(found.units) == 1 and len(usable) > 1
    available = len(usable) if stack else len(found.units)
    if not 2 <= count <= available:
        raise DatasetError(
            f"{count} folds cannot be made of {available} {'cases' if stack else found.kind}",
            hint=f"use --folds 2 to {available}" if available >= 2 else "train without --folds",
        )
    if stack:
        (unit,) = found.units
        edges = [_rounded(index * len(unit) / count) for index in range(count + 1)]
        parts = [list(unit[start:stop]) for start, stop in pairwise(edges)]
        how = f"contiguous blocks: {found.kind}"
    else:
        parts = [[] for _ in range(count)]
        for unit in sorted(_shuffled(found.units, seed), key=len, reverse=True):
            min(parts, key=len).extend(unit)
        how = f"whole {found.kind}, seed {seed}"
    return [_assemble(usable, part, f"fold {index} of {count}, {how}") for index, part in enumerate(parts, start=1)]


def neighbour_pairs(cases: Iterable[Case]) -> list[tuple[str, str]]:
    """Names of cases that follow each other in a numbered series, so that someone can measure how alike they are.

    Two cases are neighbours if their names differ in the number that counts (`numbered`) only, by the smallest step
    in their series.

    Example:
        >>> neighbour_pairs([Case(name=f"a_{n}", images=()) for n in (1, 2, 4, 5)])
        [('a_1', 'a_2'), ('a_4', 'a_5')]
    """
    series: dict[tuple[object, ...], list[tuple[int, str]]] = defaultdict(list)
    groups = {case.name: case.group for case in cases}
    for name, found in numbered(groups).items():
        series[groups[name], *found.series].append((found.number, name))
    pairs = []
    for members in series.values():
        members.sort()
        steps = [(b[0] - a[0], a[1], b[1]) for a, b in pairwise(members)]
        smallest = min((step for step, _, _ in steps if step), default=0)
        pairs += [(first, second) for step, first, second in steps if step == smallest]
    return sorted(pairs)


def held_out(cases: Iterable[Case], split_file: Path | None = None) -> frozenset[str]:
    """Names of the cases to test on, which a training must not open: from folders, a table or the split file.

    A case that the split file names for training or validation is none of them.

    Raises:
        DatasetError: if the split file cannot be read.
    """
    known = {case.name: case for case in cases}
    test = {name for name, case in known.items() if case.part == "test"}
    if split_file is None:
        return frozenset(test)
    used = set()
    for parts in _read(split_file):
        test |= {_resolved(name, known) for name in parts["test"]} & known.keys()
        used |= {_resolved(name, known) for part in ("train", "val") for name in parts[part]}
    return frozenset(test - used)


def split_from_file(path: Path, cases: Iterable[Case]) -> Split:
    """Read the user's own split: JSON {"train": [...], "val": [...]}, or CSV with columns name and split.

    Names may be given with or without suffix. Cases that the file does not name are left out.

    Raises:
        DatasetError: the file is not of that form, names a case that is not there, has no mask or is named twice,
            or leaves a part empty.
    """
    found = splits_from_file(path, cases)
    if len(found) > 1:
        raise DatasetError(
            f"'{path}' holds {len(found)} splits", hint=f"keep one of them, or train all with --folds {len(found)}"
        )
    return found[0]


def splits_from_file(path: Path, cases: Iterable[Case]) -> list[Split]:
    """Read one split or, from a JSON list of them, one per fold. Otherwise as `split_from_file`."""
    known = {case.name: case for case in cases}
    read = _read(path)
    return [_checked(path, parts, known, index=index, count=len(read)) for index, parts in enumerate(read, start=1)]


def _usable(cases: Iterable[Case]) -> list[Case]:
    every = sorted(cases, key=lambda case: case.name)
    usable = [case for case in every if case.mask is not None and case.part != "test"]
    if not usable:
        raise DatasetError(
            f"none of {len(every)} cases has a mask and is not in test", hint="add masks, or run uvea check on the data"
        )
    return usable


def _fixed_split(usable: list[Case], val: set[str], company: dict[str, str]) -> Split:
    # A case without a part follows its group and its copies, so that no patient is on both sides.
    drawn = {company[name] for name in val}
    held = [c.name for c in usable if c.name in val or (c.part is None and company[c.name] in drawn)]
    if len(held) == len(usable):
        raise DatasetError(
            f"all {len(usable)} cases with masks are for validation, none for training",
            hint="add cases to train/, or mark some as train in the table",
        )
    reason = f"{len(held)} of {len(usable)} cases, as the data's folders or table say"
    return replace(_assemble(usable, held, reason), by_user=True)


def _assemble(usable: Sequence[Case], val: Iterable[str], reason: str) -> Split:
    held = set(val)
    names = [case.name for case in usable]
    return Split(tuple(n for n in names if n not in held), tuple(n for n in names if n in held), reason)


def _company(cases: Sequence[Case], copies: Sequence[Sequence[str]]) -> dict[str, str]:
    """One name for all cases of a group or of one image, by the name of each case."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        groups[case.group or f"\0{case.name}"].append(case.name)
    return {name: unit[0] for unit in _merged(groups.values(), copies) for name in unit}


def _merged(units: Iterable[Sequence[str]], copies: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Units, those that share a set of copies made one; members in natural order. Names in no unit are passed over."""
    of: dict[str, list[str]] = {}
    for unit in units:
        members = list(unit)
        of |= dict.fromkeys(members, members)
    for alike in copies:
        for one, other in pairwise(name for name in alike if name in of):
            smaller, larger = sorted((of[one], of[other]), key=len)
            if smaller is not larger:
                larger += smaller
                of |= dict.fromkeys(smaller, larger)
    distinct = {id(members): members for members in of.values()}
    return sorted(tuple(sorted(members, key=natural_key)) for members in distinct.values())


def _units(cases: Sequence[Case], consecutive: bool | None, copies: Sequence[Sequence[str]]) -> _Units:
    """Decide what stays together; the first that applies: named group, subject, stack, series, patient, nothing.

    A series is a stack if `consecutive` says so. A stack is all that has the same text before the number of the slice:
    channels and tiles of a slice are in it; so is what has a word after the text, such as "p12_baseline" beside
    "p12_2019". Then units with copies of one image become one.
    """
    names = numbered(case.name for case in cases)
    prefixes = _patient_prefixes(names, len(cases))
    patients = _joined(names, _patient_numbers(names) | prefixes)
    series = _joined(names, prefixes)
    members: dict[tuple[object, ...], list[str]] = defaultdict(list)
    kinds: set[str] = set()
    for case in cases:
        found = names.get(case.name)
        key: tuple[object, ...]
        if case.group is not None:
            key, kind = ("group", case.group), "groups"
        elif subject := subject_of(case.name):
            key, kind = ("subject", subject), "subjects"
        elif found and (found.stack or consecutive):
            patient = None if found.stack else series.get(case.name)
            key, kind = ("stack", *(patient or found.series[:1])), "stacks"
        elif case.name in patients:
            key, kind = ("patient", *patients[case.name]), "groups of one name"
        else:
            key, kind = ("case", case.name), "images"
        members[key].append(case.name)
        kinds.add(kind)
    units = _merged(members.values(), copies)
    if len(units) == 1 and len(cases) > 1:
        one_stack = len(members) == 1 and kinds == {"stacks"}
        kind = "they are slices of one stack" if one_stack else "all are of one group, so the score is too good"
    else:
        kind = kinds.pop() if len(kinds) == 1 else "groups"
        if len(units) < len(members):
            kind += " with their copies"
    return _Units(tuple(units), kind)


_Patient = tuple[str, int]
"""The text before a number, and the number; -1 behind a text that does not end in one."""

_NUMBER = re.compile(r"(\d+)([^\W\d_]*)")
_SIDE = "left|right|l|r|od|os|lh|rh"
_WHEN = r"(?:base(?:line)?|screening|follow(?:[_\-. ]?up)?|final|pre|post)\d*|(?:visit|week|month|day)[_\-. ]?\d+"
_DATES_BEHIND = re.compile(rf"(?:[_\-. ]+{DATE})+$", re.IGNORECASE)
_VISIT_BEHIND = re.compile(rf"(?:[_\-. ]+(?:{DATE}|{_SIDE}|{_WHEN})|(?<=\d)(?:{_SIDE}))+$", re.IGNORECASE)
"""Sides and visits behind an id. Other words may be those of a patient in a study, or of a treatment."""

_NOTHING_BEHIND = re.compile(r"(?!)")


def _joined(names: Mapping[str, Numbered], patients: Mapping[str, _Patient]) -> dict[str, _Patient]:
    """The patients, and with them names in which one of their ids is: "p12_baseline" and "p12_week2" beside "p12_03".

    Of several ids the first counts, so that all names with an id are together, whatever follows it.
    """
    known = set(patients.values())
    found = dict(patients)
    for name in names:
        ahead = [patient for patient in _ids(name) if patient in known]
        if ahead and (name not in found or found[name][1] >= 0):
            found[name] = ahead[0]
    return found


def _ids(name: str) -> list[_Patient]:
    """Each number in the last path component of a name, with all text before it; first with letters right behind it."""
    found: list[_Patient] = []
    for match in _NUMBER.finditer(name, name.rfind("/") + 1):
        number, letters = match.groups()
        found += [(name[: match.end()], -1)] * bool(letters) + [(name[: match.start()], int(number))]
    return found


def _prefix(member: Numbered, behind: re.Pattern[str]) -> _Patient | None:
    """The id in front of a running number and a separator, if it has a number in it: ("p", 12) of "p12_03".

    What is `behind` it does not belong to it: ("p", 12) of "p12_left_03", if sides are, else ("p12_left", -1).
    """
    before = member.series[0]
    whole = before.rstrip("_-. ")
    if whole == before:
        return None
    for prefix in (behind.sub("", whole), whole):
        if ids := _ids(prefix):
            return ids[-1] if prefix[-1].isdecimal() else (prefix, -1)
    return None


def _patient_prefixes(names: Mapping[str, Numbered], cases: int) -> dict[str, _Patient]:
    """Patient of each name that looks like "patient12_03": an id with a number in it, a separator, a running number.

    Kept only where there are at least `MIN_PREFIXES` of them and none covers more than half of the cases; otherwise
    a prefix is more likely a class or a date than a patient. "12_left_03" and "12_right_03" are of patient 12 if no
    name has other words than those of sides and visits behind the id, as "study1_anna_03" and "study1_bert_03" have.
    Dates count as ids where that leaves none: those of "set1_2019-05-03_01" if there is only this set.
    """
    for behind in (_VISIT_BEHIND, _DATES_BEHIND, _NOTHING_BEHIND):
        found = {name: patient for name, member in names.items() if (patient := _prefix(member, behind))}
        sizes = Counter(found.values())
        if behind is _VISIT_BEHIND and any(patient not in _ids(patient[0]) for patient in sizes if patient[1] < 0):
            continue
        if len(sizes) >= MIN_PREFIXES and max(sizes.values()) <= cases / 2:
            return found
    return {}


def _patient_numbers(names: Mapping[str, Numbered]) -> dict[str, _Patient]:
    """Text up to the number of each name that looks like "12_left" beside "12_right": a number with several endings.

    Kept only where there are at least `MIN_PREFIXES` of them and none has more than `MAX_ENDINGS`; otherwise a number
    is more likely a magnification or a grade than a patient.
    """
    found = {name: (member.series[0], member.number) for name, member in names.items()}
    sizes = {key: size for key, size in Counter(found.values()).items() if size > 1}
    if len(sizes) < MIN_PREFIXES or max(sizes.values()) > MAX_ENDINGS:
        return {}
    return {name: key for name, key in found.items() if key in sizes}


def _draw(units: Sequence[tuple[str, ...]], *, wanted: int, seed: int, all_cases: int) -> list[tuple[str, ...]]:
    """Units in seeded order while they fit into `wanted` cases; the smallest one if none does."""
    order = _shuffled(units, seed)
    chosen: list[tuple[str, ...]] = []
    left = wanted
    for unit in order:
        if len(unit) <= left:
            chosen.append(unit)
            left -= len(unit)
    if not chosen:
        smallest = min(order, key=len)
        chosen = [smallest if len(smallest) < all_cases else smallest[-wanted:]]
    return chosen


def _shuffled(units: Sequence[tuple[str, ...]], seed: int) -> list[tuple[str, ...]]:
    # A hash, not a random generator: the order of two units does not depend on which others are there.
    return sorted(units, key=lambda unit: hashlib.sha256(f"{seed}:{unit[0]}".encode()).digest())


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


_Parts = dict[str, list[str]]


def _read(path: Path) -> list[_Parts]:
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"there is no split file '{path}'", hint="check the path; relative ones start here")
    return _read_csv(path) if path.suffix.lower() == ".csv" else _read_json(path)


def _read_csv(path: Path) -> list[_Parts]:
    parts: _Parts = {"train": [], "val": [], "test": []}
    for number, row in read_rows(path, known=("name", "split"), required="name"):
        if part := part_in(row["split"], path=path, number=number):
            parts[part].append(row["name"])
    return [parts]


def _read_json(path: Path) -> list[_Parts]:
    form = 'write {"train": ["a", "b"], "val": ["c"]}, or a list of these, one per fold'
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"'{path}' is not JSON: {error}", hint=form) from error
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}", hint="check the path and its rights") from error
    entries = content if isinstance(content, list) else [content]
    if not entries:
        raise DatasetError(f"'{path}' holds an empty list", hint=form)
    read = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise DatasetError(f"'{path}' holds {json.dumps(entry)[:40]} in place of a split", hint=form)
        if unknown := [key for key in entry if not part_of(key)]:
            raise DatasetError(f"'{path}' has parts that uvea does not know: {listed(unknown)}", hint=form)
        parts: _Parts = {"train": [], "val": [], "test": []}
        for key, names in entry.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DatasetError(f"'{key}' in '{path}' is not a list of names", hint=form)
            parts[part_of(key) or "test"] += names
        read.append(parts)
    return read


def _checked(path: Path, parts: _Parts, known: dict[str, Case], *, index: int, count: int) -> Split:
    where = f"'{path}'" if count == 1 else f"split {index} of '{path}'"
    named = {part: [_resolved(name, known) for name in names] for part, names in parts.items()}
    every = [name for names in named.values() for name in names]
    if unknown := [name for name in every if name not in known]:
        raise DatasetError(
            f"{where} names cases that are not in the data: {listed(unknown)}",
            hint=f"names there are {listed(sorted(known))}",
        )
    if twice := [name for name, times in Counter(every).items() if times > 1]:
        raise DatasetError(f"{where} names cases twice: {listed(twice)}", hint="name each case once, in one part")
    used = named["train"] + named["val"]
    if blank := [name for name in used if known[name].mask is None]:
        raise DatasetError(f"{where} names cases without a mask: {listed(blank)}", hint="add the masks, or remove them")
    for part in ("train", "val"):
        if not named[part]:
            raise DatasetError(f"{where} has no cases in {part}", hint=f"name at least one case as {part}")
    left_out = sum(case.mask is not None for case in known.values()) - len(used)
    reason = f"read from {path.name}" + (f", fold {index} of {count}" if count > 1 else "")
    if left_out:
        reason += f"; {left_out} cases with masks are in neither part"
    return Split(tuple(sorted(named["train"])), tuple(sorted(named["val"])), reason, by_user=True)


def _resolved(name: str, known: dict[str, Case]) -> str:
    return name if name in known else name.removesuffix(name.rpartition("/")[2]) + stem_of(Path(name))
