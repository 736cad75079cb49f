"""Everything that is wrong with a dataset, from the facts that `survey` gathered; no file is opened here.

Each check is a function from evidence to findings, and `CHECKS` lists them in the order of the report. Errors stop
training, warnings do not. To add a check: write a function, add it to the tuple and a line to the test.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from uvea.arrays.labels import Key, default_names, way_to_whole_numbers
from uvea.datasets.case import Case, Dataset, Finding
from uvea.datasets.duplicates import exact_copies, near_copies
from uvea.datasets.names import listed
from uvea.datasets.split import Split
from uvea.datasets.survey import CaseFacts, Survey
from uvea.images.image import shear_degrees

SPACING_TOLERANCE = 0.05
"""Pixel sizes that differ by less than this share are one pixel size, here as in the plan."""

UM_PER_UNIT = {"mm": 1000.0, "um": 1.0}

COLOUR_TYPES = ("uint8", "uint16")
"""Types of the images of cameras; floats are measurements."""

LEAKS = ("group-across", "duplicate-across", "near-duplicate-across")
"""Kinds of findings that make a validation score too good. In a split of the user's own they are errors."""

MOST_VALUES = 8
"""Mask values that a finding lists."""

_KEEP_APART = "put them on one side or leave some out with --skip; --allow-leak trains all the same"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the checks judge."""

    dataset: Dataset
    survey: Survey
    near: Sequence[tuple[str, str]]
    """Names of cases whose images are nearly equal."""

    splits: tuple[Split, ...] = ()
    unopened: tuple[Case, ...] = ()
    """Cases to test on that nobody looked into; of these only names, groups and parts are known."""

    @cached_property
    def pairs(self) -> list[tuple[Case, CaseFacts]]:
        """Each case with its facts."""
        return list(zip(self.dataset.cases, self.survey.facts, strict=True))

    @cached_property
    def readable(self) -> list[tuple[Case, CaseFacts]]:
        """Those whose image could be read."""
        return [(case, facts) for case, facts in self.pairs if facts.shape]

    @cached_property
    def annotated(self) -> list[tuple[Case, CaseFacts]]:
        """Those whose image and mask could be read, with whole numbers in the mask."""
        return [(case, facts) for case, facts in self.readable if facts.mask_values and facts.mask_whole]

    @cached_property
    def guessed(self) -> bool:
        """Whether mask values are classes, and the user gave them no names."""
        labels = self.survey.labels
        named = labels.names != default_names(labels.classes)
        return self.survey.decided and labels.kind != "instances" and not named

    @cached_property
    def case_of(self) -> dict[str, Case]:
        """Cases by name."""
        return {case.name: case for case in self.dataset.cases}

    @cached_property
    def sides(self) -> list[tuple[frozenset[str], frozenset[str], bool]]:
        """Of each split its two sides, and whether it is the user's own."""
        return [(frozenset(split.train), frozenset(split.val), split.by_user) for split in self.splits]

    def across(self, names: Iterable[str]) -> Literal["", "chosen", "fixed"]:
        """Whether cases are on different sides.

        Returns:
            "fixed": in training and validation of a split of the user's own; "chosen": of another split, or in test;
            "": they are not.
        """
        together = set(names)
        crossed = [by_user for train, val, by_user in self.sides if together & train and together & val]
        if any(crossed):
            return "fixed"
        parts = {self.case_of[name].part for name in together}
        tested = "test" in parts and len(parts) > 1
        apart = not self.splits and len(parts - {None}) > 1
        return "chosen" if crossed or tested or apart else ""


Check = Callable[[Evidence], Iterable[Finding]]


def check(
    dataset: Dataset,
    survey: Survey,
    *,
    splits: Sequence[Split] | None = None,
    near: Sequence[tuple[str, str]] | None = None,
    unopened: Sequence[Case] = (),
) -> tuple[Finding, ...]:
    """All findings, errors first.

    Args:
        dataset: what `discover` found.
        survey: the facts of its cases.
        splits: training and validation, if they are decided: then copies that lie across them are said to.
        near: what `near_copies` found, if that is known.
        unopened: cases to test on that are not in the dataset, because they must not be read.
    """
    near = near_copies(survey) if near is None else near
    evidence = Evidence(dataset=dataset, survey=survey, near=near, splits=tuple(splits or ()), unopened=tuple(unopened))
    findings = [*survey.findings, *(finding for judge in CHECKS for finding in judge(evidence))]
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def in_colour(facts: Iterable[CaseFacts]) -> bool:
    """Whether all of these images are red, green and blue: three channels of 8 or 16 bit in the plane.

    Gray images beside them are then read with equal channels.
    """
    return all(fact.channels == 3 and fact.axes == "yx" and fact.dtype in COLOUR_TYPES for fact in facts)


def few_cases(evidence: Evidence) -> Iterable[Finding]:
    """One annotated image cannot be trained on and validated with."""
    count = len(evidence.annotated)
    if count == 1:
        case, _ = evidence.annotated[0]
        yield _warning(
            "few-cases",
            f"only one image has a usable mask: '{case.name}'; scores on it will say nothing about new images",
            "annotate a second image, or cut this one into two",
            [case],
        )


def missing_masks(evidence: Evidence) -> Iterable[Finding]:
    """Images to train on need masks; images of a test part may do without."""
    missing = [case for case in evidence.dataset.cases if case.mask is None and case.part != "test"]
    if missing and any(case.mask for case in evidence.dataset.cases):
        yield _warning(
            "missing-mask",
            f"{_count(missing, evidence)} no mask and will not be trained on: {_names(missing)}",
            "add masks of the same names, or leave the images out with --skip",
            missing,
        )


def stray_masks(evidence: Evidence) -> Iterable[Finding]:
    """A mask without an image is mostly a misspelt name."""
    stray = evidence.dataset.stray_masks
    if stray:
        yield Finding(
            severity="warning",
            kind="stray-mask",
            problem=f"{len(stray)} {'mask belongs' if len(stray) == 1 else 'masks belong'} to no image: "
            f"{listed(path.name for path in stray)}",
            hint="give mask and image the same name, or leave the masks out with --skip",
            files=stray,
        )


def unused_skips(evidence: Evidence) -> Iterable[Finding]:
    """A misspelt name leaves in what should be left out."""
    if unused := evidence.dataset.unused_skips:
        yield Finding(
            severity="warning",
            kind="unused-skip",
            problem=f"--skip {listed(unused)} {'fits' if len(unused) == 1 else 'fit'} no image or mask",
            hint="give a file name with or without suffix, a path below the data folder, or a glob such as '*_bad*'",
        )


def different_grids(evidence: Evidence) -> Iterable[Finding]:
    """A mask must lie on the pixels of its image."""
    wrong = [(case, facts) for case, facts in evidence.readable if facts.mask_difference]
    for (kind, hint), cases in _grouped((_other_grid(facts), case) for case, facts in wrong).items():
        difference = next(facts.mask_difference for case, facts in wrong if case is cases[0])
        yield _error(
            kind,
            f"{_count(cases, evidence)} a mask on another grid: {_names(cases)}; of image and mask of "
            f"'{cases[0].name}' the {difference}",
            hint,
            cases,
        )


def _other_grid(facts: CaseFacts) -> tuple[str, str]:
    """Kind of the finding, and what to do about it, of a mask that is on another grid than its image."""
    if not facts.mask_difference.startswith("sizes"):
        return "mask-geometry", "check that image and mask were exported from the same file, and export them again"
    size, image = facts.mask_shape, facts.shape
    if facts.channels == 1 and len(image) == 3 and size in (image[1:], image[:-1]):
        axes = "cyx" if size == image[1:] else "yxc"
        return "mask-size", f"if these are channels, not slices: --axes {axes}; else give each slice a mask"
    if sorted(size) == sorted(image):
        return "mask-size", "the mask is transposed: bring its axes into the order of the image, and save it again"
    return "mask-size", "check that image and mask were exported from the same file, and export them again"


def broken_pixels(evidence: Evidence) -> Iterable[Finding]:
    """NaN spreads through a network and ends the training."""
    broken = [case for case, facts in evidence.readable if not facts.finite]
    if broken:
        yield _error(
            "not-finite",
            f"{_count(broken, evidence)} NaN or infinite pixels: {_names(broken)}",
            "replace them with numbers, for example 0, or leave the images out with --skip",
            broken,
        )


def constant_images(evidence: Evidence) -> Iterable[Finding]:
    """An image of one value is an export that failed, or an empty slice."""
    flat = [case for case, facts in evidence.readable if facts.minimum == facts.maximum]
    if flat:
        yield _warning(
            "constant-image",
            f"{_count(flat, evidence)} one value in all pixels: {_names(flat)}",
            "look at them, export them again, or leave them out with --skip",
            flat,
        )


def fractional_masks(evidence: Evidence) -> Iterable[Finding]:
    """Probabilities and interpolated masks are not classes."""
    broken = [(case, facts) for case, facts in evidence.pairs if not facts.mask_whole]
    if broken:
        case, facts = broken[0]
        values = sorted(value for value in facts.mask_values if not isinstance(value, tuple))
        example = values[len(values) // 2]
        yield _error(
            "fractional-mask",
            f"{_count([c for c, _ in broken], evidence)} a mask with values that are not whole numbers"
            f", such as {example:.8g} in '{case.name}': {_names(c for c, _ in broken)}",
            way_to_whole_numbers(example),
            [c for c, _ in broken],
        )


def negative_values(evidence: Evidence) -> Iterable[Finding]:
    """Minus one mostly marks what nobody annotated; it is no number of an object, and rarely a class."""
    labels = evidence.survey.labels
    objects = evidence.survey.decided and labels.kind == "instances"
    if not objects and not evidence.guessed:
        return
    negative: Counter[float] = Counter()
    users = []
    for case, facts in evidence.annotated:
        gray = {value: pixels for value, pixels in facts.mask_values.items() if not isinstance(value, tuple)}
        if below := {value: pixels for value, pixels in gray.items() if value < 0 and value != labels.ignore}:
            negative.update(below)
            users.append(case)
    if users:
        usual, _ = negative.most_common(1)[0]
        unmarked = f"if nobody annotated these pixels: --ignore-value {usual:g}"
        problem = f"{_count(users, evidence)} negative values in the mask ({_values(sorted(negative))}), which are "
        if objects:
            yield _error(
                "negative-value",
                f"{problem}no numbers of objects: {_names(users)}",
                f"{unmarked}; else use 0 for background and numbers from 1",
                users,
            )
        else:
            yield _warning(
                "negative-value",
                f"{problem}taken for classes: {_names(users)}",
                f"{unmarked}; if they are classes, name them with --labels",
                users,
            )


def empty_masks(evidence: Evidence) -> Iterable[Finding]:
    """Empty masks are right where there is nothing, and wrong where nobody has annotated yet."""
    if not evidence.survey.decided:
        return
    empty = [case for case, facts in evidence.annotated if _present(facts, evidence) == {0}]
    if empty:
        yield _warning(
            "empty-mask",
            f"{_count(empty, evidence)} a mask without foreground: {_names(empty)}",
            "check that nothing is there to annotate; leave images out with --skip if they were not annotated",
            empty,
        )


def ignored_masks(evidence: Evidence) -> Iterable[Finding]:
    """A mask without a pixel that counts teaches nothing, and in a score it is as good as a perfect prediction."""
    if not evidence.survey.decided:
        return
    ignored = [case for case, facts in evidence.annotated if not _present(facts, evidence)]
    if ignored:
        yield _warning(
            "ignored-mask",
            f"{_count(ignored, evidence)} a mask that is ignored everywhere, which counts as Dice 1: {_names(ignored)}",
            "leave the images out with --skip, or check --ignore-value",
            ignored,
        )


def unused_ignored_value(evidence: Evidence) -> Iterable[Finding]:
    """An ignored value that no mask has is mostly a slip of the keyboard."""
    ignore = evidence.survey.labels.ignore
    if ignore is None or not evidence.survey.decided:
        return
    there = {key for _, facts in evidence.annotated for key in facts.mask_values}
    if not there & {ignore, (ignore,) * 3}:
        yield _warning(
            "unused-ignore-value",
            f"no mask has the ignored value {ignore}; they have {_values(sorted(there, key=_order))}",
            "check --ignore-value, or leave it out",
            [],
        )


def different_foregrounds(evidence: Evidence) -> Iterable[Finding]:
    """One class that some masks save as 1 and others as 255 looks like two classes, and is learned as two."""
    if not evidence.guessed:
        return
    users: dict[int, list[Case]] = defaultdict(list)
    for case, facts in evidence.annotated:
        inside = _present(facts, evidence) - {0}
        if len(inside) > 1:
            return
        for index in inside:
            users[index].append(case)
    if len(users) > 1:
        labels = evidence.survey.labels
        keys: Sequence[Key] = labels.colours or labels.values
        found = [(_values([keys[index]]), cases) for index, cases in sorted(users.items())]
        shown = [f"{_names(cases)} {'uses' if len(cases) == 1 else 'use'} {value}" for value, cases in found]
        several = " and ".join(value for value, _ in found) if len(found) == 2 else f"two of {len(found)} values"
        yield _warning(
            "different-foregrounds",
            f"no mask has {'both ' if len(found) == 2 else ''}{several}: {_first(shown)}",
            "if they are one class, save all masks alike; if they are not, name them with --labels",
            [case for _, cases in found for case in cases],
        )


def rare_classes(evidence: Evidence) -> Iterable[Finding]:
    """A class in a single image is learned or scored, never both, and may be a slip of the brush."""
    classes = evidence.survey.decided and evidence.survey.labels.kind != "instances"
    if not classes or len(evidence.annotated) < 2:
        return
    users: dict[int, list[Case]] = defaultdict(list)
    for case, facts in evidence.annotated:
        for index in _present(facts, evidence):
            users[index].append(case)
    labels = evidence.survey.labels
    values = labels.colours or labels.values
    for index, cases in sorted(users.items()):
        if len(cases) == 1:
            yield _warning(
                "rare-class",
                f"the class '{labels.names[index]}' (value {values[index]}) is in one image only: '{cases[0].name}'",
                "correct the mask if this is a slip, or annotate the class in more images",
                cases,
            )


def mixed_channels(evidence: Evidence) -> Iterable[Finding]:
    """A network has one number of input channels; only gray can become colour."""
    groups = _grouped((facts.channels, case) for case, facts in evidence.readable)
    if len(groups) < 2:
        return
    smaller = _rarest(groups)
    problem = f"images have different numbers of channels: {_shares(groups)}"
    gray_and_three = set(groups) == {1, 3}
    if gray_and_three and in_colour(facts for _, facts in evidence.readable if facts.channels == 3):
        yield _warning(
            "mixed-channels",
            problem + "; gray ones will be read as RGB with equal channels",
            "convert all images to gray, or all to RGB, if that is not wanted",
            smaller,
        )
    else:
        why = "; three channels are RGB only in 2D images of 8 or 16 bit, so gray ones do not fit"
        yield _error(
            "mixed-channels",
            problem + (why if gray_and_three else ""),
            "export all images with the same channels, or leave some out with --skip",
            smaller,
        )


def mixed_axes(evidence: Evidence) -> Iterable[Finding]:
    """A network is 2D or 3D."""
    groups = _grouped((facts.axes, case) for case, facts in evidence.readable)
    if len(groups) > 1:
        yield _error(
            "mixed-axes",
            f"images have different axes: {_shares(groups)}",
            "train 2D images and volumes separately, or name the axes with --axes if a file says them wrongly",
            _rarest(groups),
        )


def odd_types(evidence: Evidence) -> Iterable[Finding]:
    """Types that images do not usually have, and several types in one dataset, are signs of a mixed export."""
    groups = _grouped((facts.dtype, case) for case, facts in evidence.readable)
    odd = {dtype: cases for dtype, cases in groups.items() if dtype == "bool" or dtype.endswith("64")}
    if odd:
        cases = [case for some in odd.values() for case in some]
        yield _warning(
            "odd-type",
            f"{_count(cases, evidence)} an unusual type: {_shares(odd)}",
            "check that these are images and not masks or results of a calculation",
            cases,
        )
    if len(groups) > 1:
        yield _warning(
            "mixed-types",
            f"images have different types: {_shares(groups)}",
            "check that all were exported in the same way; values are not rescaled between types",
            _rarest(groups),
        )


def mixed_spacings(evidence: Evidence) -> Iterable[Finding]:
    """Different pixel sizes are brought to one, which costs detail or time; unknown ones cannot be."""
    groups = _grouped((facts.unit == "px", case) for case, facts in evidence.readable)
    if len(groups) > 1:
        yield _warning(
            "unknown-spacing",
            f"{_count(groups[True], evidence)} no pixel size, while others do: {_names(groups[True])}",
            "save the pixel size in these files too; without it they are taken as they are",
            groups[True],
        )
    sized = [
        (case, tuple(size * UM_PER_UNIT[facts.unit] for size in facts.spacing))
        for case, facts in evidence.readable
        if facts.unit in UM_PER_UNIT
    ]
    common = Counter(spacing for _, spacing in sized).most_common(1)
    others = [
        (case, spacing)
        for case, spacing in sized
        if len(spacing) == len(common[0][0])
        and any(abs(a - b) > SPACING_TOLERANCE * b for a, b in zip(spacing, common[0][0], strict=True))
    ]
    if others:
        case, spacing = others[0]
        units = {facts.unit for _, facts in evidence.readable}
        unit = "mm" if units == {"mm"} else "um"
        follows = "all will be resampled to one" if len(units) == 1 else "as their units differ, none is resampled"
        yield _warning(
            "mixed-spacing",
            f"{len(others)} of {len(sized)} images {'has' if len(others) == 1 else 'have'} another pixel size than "
            f"{_size(common[0][0], unit)}, such as '{case.name}' with {_size(spacing, unit)}; {follows}",
            "check that the sizes in the files are true; nothing to do if they are",
            [c for c, _ in others],
        )


def sheared_volumes(evidence: Evidence) -> Iterable[Finding]:
    """The volumes of a tilted gantry: their pixels have the sizes that the file says, but are slanted."""
    degrees = {case.name: shear_degrees(facts.direction) for case, facts in evidence.readable}
    sheared = [case for case, _ in evidence.readable if degrees[case.name]]
    if sheared:
        worst = max(sheared, key=lambda case: degrees[case.name])
        yield _warning(
            "sheared",
            f"{_count(sheared, evidence)} axes that are not at right angles: {_names(sheared)}; those of "
            f"'{worst.name}' are {degrees[worst.name]:.1f} degrees off; they are trained on as they are, and evaluate "
            "gives no volumes and distances",
            "resample images and masks to an orthogonal grid, such as with nibabel.processing.resample_to_output "
            "(order=0 for masks), if you need these",
            sheared,
        )


def divided_groups(evidence: Evidence) -> Iterable[Finding]:
    """A patient in training is known already when it comes again, so it must not be scored."""
    members: dict[str, list[Case]] = defaultdict(list)
    for case in (*evidence.dataset.cases, *evidence.unopened):
        if case.group is not None:
            members[case.group].append(case)
    used = {name for split in evidence.splits for name in (*split.train, *split.val)}
    fixed, drawn = [], []
    for cases in members.values():
        names = {case.name for case in cases}
        crossed = [by_user for train, val, by_user in evidence.sides if names & train and names & val]
        tested = any(case.part == "test" for case in cases) and bool(names & used)
        if tested or any(crossed):
            fixed.append(cases)
        elif crossed:
            drawn.append(cases)
    for finding, groups in ((_error, fixed), (_warning, drawn)):
        if groups:
            yield finding(
                "group-across",
                f"{len(groups)} {'group is' if len(groups) == 1 else 'groups are'} in training and in validation or "
                f"test, so the score will be too good: {_first([_group(cases) for cases in groups])}",
                _KEEP_APART if finding is _error else "name more groups, or look at the score with care",
                [case for cases in groups for case in cases],
            )


def copies(evidence: Evidence) -> Iterable[Finding]:
    """The same image twice counts double; on both sides of a split it makes the score a lie."""
    hashes = {facts.name: facts.mask_hash for facts in evidence.survey.facts}
    found = exact_copies(evidence.survey)
    sides = {names: evidence.across(names) for names in found}
    for finding, side in ((_error, "fixed"), (_warning, "chosen")):
        if across := [names for names in found if sides[names] == side]:
            yield finding(
                "duplicate-across",
                f"{len(across)} {'image is' if len(across) == 1 else 'images are'} in training and in validation or "
                f"test, so the score will be too good: {_equal(across)}",
                _KEEP_APART if finding is _error else "delete the copies, or put them on one side with a group column",
                [evidence.case_of[name] for names in across for name in names],
            )
    if within := [names for names in found if not sides[names]]:
        yield _warning(
            "duplicate",
            f"{len(within)} {'image is' if len(within) == 1 else 'images are'} there more than once: {_equal(within)}",
            "delete the copies",
            [evidence.case_of[name] for names in within for name in names],
        )
    conflicts = [names for names in found if len({hashes[name] for name in names} - {""}) > 1]
    if conflicts:
        yield _warning(
            "duplicate-masks-differ",
            f"copies of one image have different masks: {_equal(conflicts)}",
            "keep the better mask and delete the other copy",
            [evidence.case_of[name] for names in conflicts for name in names],
        )


def near_duplicates(evidence: Evidence) -> Iterable[Finding]:
    """Nearly equal images (saved twice, a moment later, the next slice) leak across a split as copies do."""
    sides = {pair: evidence.across(pair) for pair in evidence.near}
    for finding, side in ((_error, "fixed"), (_warning, "chosen")):
        if across := [pair for pair in evidence.near if sides[pair] == side]:
            yield finding(
                "near-duplicate-across",
                f"{len(across)} {'pair' if len(across) == 1 else 'pairs'} of nearly equal images lie in training and "
                f"in validation or test, so the score will be too good: {_alike(across)}",
                f"look at them; {_KEEP_APART}"
                if finding is _error
                else "look at them; put images of one field or one series on one side with a group column",
                [evidence.case_of[name] for pair in across for name in pair],
            )
    if within := [pair for pair in evidence.near if not sides[pair]]:
        yield _warning(
            "near-duplicate",
            f"{len(within)} {'pair' if len(within) == 1 else 'pairs'} of images are nearly equal: {_alike(within)}",
            "look at them; they stay on one side of the split, and one of each pair may be left out with --skip",
            [evidence.case_of[name] for pair in within for name in pair],
        )


def copied_masks(evidence: Evidence) -> Iterable[Finding]:
    """Different images with one and the same mask: a mask saved under a wrong name."""
    if not evidence.survey.decided:
        return
    groups: dict[str, list[tuple[Case, CaseFacts]]] = defaultdict(list)
    for case, facts in evidence.annotated:
        if _present(facts, evidence) - {0}:
            groups[facts.mask_hash].append((case, facts))
    wrong = [some for some in groups.values() if len({facts.image_hash for _, facts in some}) > 1]
    if wrong:
        yield _warning(
            "copied-mask",
            f"different images have the same mask: {_equal([[case.name for case, _ in some] for some in wrong])}",
            "check which image the mask belongs to, and annotate the other",
            [case for some in wrong for case, _ in some],
        )


CHECKS: tuple[Check, ...] = (
    few_cases,
    missing_masks,
    stray_masks,
    unused_skips,
    different_grids,
    mixed_axes,
    mixed_channels,
    broken_pixels,
    fractional_masks,
    negative_values,
    constant_images,
    empty_masks,
    ignored_masks,
    unused_ignored_value,
    different_foregrounds,
    rare_classes,
    odd_types,
    mixed_spacings,
    sheared_volumes,
    divided_groups,
    copies,
    near_duplicates,
    copied_masks,
)


def _present(facts: CaseFacts, evidence: Evidence) -> set[int]:
    """Classes in a mask."""
    labels = evidence.survey.labels
    values = [value for value in facts.mask_values if value not in (labels.ignore, (labels.ignore,) * 3)]
    if labels.kind == "instances":
        return {0 if value in (labels.values[0], (labels.values[0],) * 3) else 1 for value in values}
    if labels.kind == "colours":
        places = {colour: index for index, colour in enumerate(labels.colours)}
        return {places[c] for c in (v if isinstance(v, tuple) else (v, v, v) for v in values) if c in places}
    return {labels.values.index(value) for value in values if value in labels.values}


def _files(cases: Iterable[Case]) -> tuple[Path, ...]:
    return tuple(path for case in cases for path in (*case.images, *([case.mask] if case.mask else [])))


def _error(kind: str, problem: str, hint: str, cases: Iterable[Case]) -> Finding:
    return Finding(severity="error", kind=kind, problem=problem, hint=hint, files=_files(cases))


def _warning(kind: str, problem: str, hint: str, cases: Iterable[Case]) -> Finding:
    return Finding(severity="warning", kind=kind, problem=problem, hint=hint, files=_files(cases))


def _values(keys: Iterable[Key]) -> str:
    """Mask values in a row, the first of them; colours as 255/0/0."""
    shown = ["/".join(map(str, key)) if isinstance(key, tuple) else f"{key:g}" for key in keys]
    more = len(shown) - MOST_VALUES
    return ", ".join(shown[:MOST_VALUES]) + (f" and {more} more" if more > 0 else "")


def _order(key: Key) -> tuple[float, ...]:
    return key if isinstance(key, tuple) else (key,) * 3


def _count(cases: Sequence[Case], evidence: Evidence) -> str:
    return f"{len(cases)} of {len(evidence.dataset.cases)} images {'has' if len(cases) == 1 else 'have'}"


def _names(cases: Iterable[Case]) -> str:
    return listed(case.name for case in cases)


K = TypeVar("K")


def _grouped(keyed: Iterable[tuple[K, Case]]) -> dict[K, list[Case]]:
    groups: dict[K, list[Case]] = defaultdict(list)
    for key, case in keyed:
        groups[key].append(case)
    return groups


def _rarest(groups: Mapping[K, list[Case]]) -> list[Case]:
    return min(groups.values(), key=lambda cases: len(cases))


def _shares(groups: Mapping[K, list[Case]]) -> str:
    """How many images have what, the commonest first, with an example."""
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{key} in {len(cases)} ('{cases[0].name}')" for key, cases in ordered)


def _group(cases: Sequence[Case]) -> str:
    return f"'{cases[0].group}' ({listed(case.name for case in cases)})"


def _equal(groups: Iterable[Sequence[str]]) -> str:
    return _first([" = ".join(f"'{name}'" for name in names) for names in groups])


def _alike(pairs: Iterable[tuple[str, str]]) -> str:
    return _first([f"'{first}' and '{second}'" for first, second in pairs])


def _first(texts: Sequence[str], most: int = 3) -> str:
    more = len(texts) - most
    return "; ".join(texts[:most]) + (f"; and {more} more" if more > 0 else "")


def _size(micrometres: Iterable[float], unit: str) -> str:
    return "×".join(f"{size / UM_PER_UNIT[unit]:.4g}" for size in micrometres) + f" {unit}"
