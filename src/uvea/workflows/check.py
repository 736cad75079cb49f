"""Look at a dataset: what is there, how it is read, and everything that is wrong with it.

    source -> discover -> survey -> split -> check -> CheckReport

Training starts with the same report, so what `uvea check` shows is what a training sees.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uvea.arrays.axes import check_letters
from uvea.arrays.labels import LabelMap
from uvea.datasets.case import Case, DataOptions, Dataset, Finding
from uvea.datasets.check import LEAKS
from uvea.datasets.check import check as find_faults
from uvea.datasets.discover import NO_OPTIONS, discover
from uvea.datasets.duplicates import exact_copies, near_copies, neighbours_alike
from uvea.datasets.split import Split, held_out, neighbour_pairs, split_from_file, splits_from_file
from uvea.datasets.split import folds as choose_folds
from uvea.datasets.split import split as choose_split
from uvea.datasets.survey import CaseFacts, Survey
from uvea.datasets.survey import survey as read_all
from uvea.errors import DatasetError
from uvea.images import check_max_pixels
from uvea.workflows.events import Listener, Progress, silent

MOST_LISTED = 4
"""Different sizes, types or spacings that are listed in a row before the rest is only counted."""

MOST_CLASSES = 12
"""Classes that are listed; object numbers taken for classes would fill pages."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """A dataset, what was measured of it, and what is wrong with it."""

    dataset: Dataset
    survey: Survey
    findings: tuple[Finding, ...]
    """Errors and warnings; errors stop a training."""

    splits: tuple[Split, ...]
    """How it would be divided: one, or one per fold; none where it cannot be, which is an error among the findings."""

    leaks: tuple[Finding, ...] = ()
    """Those findings that would have stopped a training if they had not been allowed; warnings."""

    unopened: tuple[str, ...] = ()
    """Names of the cases to test on, where they were not opened."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def rows(self) -> list[tuple[str, str]]:
        """What is there, as names and text: folder, layout, cases, images, classes, split."""
        cases, facts = self.dataset.cases, self.survey.facts
        readable = [fact for fact in facts if fact.shape]
        masks = sum(case.mask is not None for case in cases)
        rows = [
            ("data", str(self.dataset.root)),
            ("layout", self.dataset.layout),
            ("cases", f"{len(cases)}, {masks} with a mask"),
            ("sizes", _sizes(readable)),
            ("channels", _listed(str(fact.channels) for fact in readable)),
            ("pixel types", _listed(fact.dtype for fact in readable)),
            ("pixel size", _listed(_spacing(fact) for fact in readable)),
            ("classes", _classes(self.survey.labels, facts) if self.survey.decided else "not known, see the errors"),
        ]
        if lying := Counter(fact.orientation for fact in readable if fact.orientation):
            seen = ", ".join(f"{count} {code}" for code, count in lying.most_common())
            unsaid = sum(fact.axes == "zyx" and not fact.orientation for fact in readable)
            seen += f", {unsaid} unknown" if unsaid else ""
            rest = f"; seen as {self.survey.orientation}" if len(lying) > 1 else ""
            rows.insert(7, ("orientation", f"{seen}{rest}"))
        if groups := {case.group for case in cases if case.group is not None}:
            rows.insert(3, ("groups", str(len(groups))))
        for split in self.splits:
            sizes = f"{len(split.train)} to train, {len(split.val)} to validate"
            rows.append(("split", f"{sizes}: {split.reason}"))
        return rows


def check(
    source: str | Path,
    *,
    options: DataOptions = NO_OPTIONS,
    split_file: Path | None = None,
    folds: int = 1,
    allow_leak: bool = False,
    open_test: bool = True,
    listen: Listener = silent,
) -> CheckReport:
    """Find, read and judge a dataset; nothing is written.

    Args:
        source: a folder, or a CSV table.
        options: what the user says about the data.
        split_file: the user's own split, CSV or JSON; with folds, a JSON list of them.
        folds: 1, or the number of parts for cross-validation.
        allow_leak: makes groups and copies on both sides of the user's own split warnings, which are errors.
        open_test: off for a training: no file of a case to test on is opened, and the report has none of them.
        listen: told how many cases were read.

    Raises:
        DatasetError: if there is no dataset at all, or the split file or the number of folds is at fault.
            Everything else is a finding.
        ShapeError: if the axes in `options` cannot be those of an image.
        ImageError: if `max_pixels` in `options` is less than one.
    """
    if options.axes is not None:
        check_letters(options.axes)
    check_max_pixels(options.max_pixels)
    dataset, unopened = find(source, options=options, split_file=split_file, open_test=open_test)
    survey = read_all(
        dataset, options=options, advance=lambda done, total: listen(Progress("reading the data", done, total))
    )
    every = (*dataset.cases, *unopened)
    near = near_copies(survey)
    splits: tuple[Split, ...] = ()
    problems: list[Finding] = []
    if split_file is not None:
        splits = _read_splits(split_file, every, folds)
    else:
        consecutive = neighbours_alike(survey, neighbour_pairs(dataset.cases))
        copies = [*exact_copies(survey), *near]
        try:
            if folds == 1:
                splits = (choose_split(every, consecutive=consecutive, copies=copies),)
            else:
                splits = tuple(choose_folds(every, folds, consecutive=consecutive, copies=copies))
        except DatasetError as error:
            if folds != 1 and any(case.mask for case in every):
                raise
            problems.append(Finding(severity="error", kind="split", problem=error.problem, hint=error.hint))
    findings = [*find_faults(dataset, survey, splits=splits, near=near, unopened=unopened), *problems]
    leaks = []
    for place, finding in enumerate(findings):
        if allow_leak and finding.severity == "error" and finding.kind in LEAKS:
            hint = "this was allowed, and the report says so"
            findings[place] = replace(finding, severity="warning", hint=hint)
            leaks.append(findings[place])
    return CheckReport(
        dataset=dataset,
        survey=survey,
        findings=tuple(findings),
        splits=splits,
        leaks=tuple(leaks),
        unopened=tuple(case.name for case in unopened),
    )


def find(
    source: str | Path, *, options: DataOptions, split_file: Path | None = None, open_test: bool
) -> tuple[Dataset, tuple[Case, ...]]:
    """What is on disk, with the parts as the split file says them, and apart from it the cases that stay unopened."""
    dataset = discover(Path(source), options=options)
    test = held_out(dataset.cases, split_file)
    cases = tuple(
        replace(case, part="test" if case.name in test else None if case.part == "test" else case.part)
        for case in dataset.cases
    )
    if open_test:
        return replace(dataset, cases=cases), ()
    kept, unopened = (tuple(case for case in cases if (case.part == "test") is tested) for tested in (False, True))
    return replace(dataset, cases=kept), unopened


def read_again(
    source: Path,
    *,
    options: DataOptions,
    splits: Sequence[Split],
    unopened: Iterable[str],
    orientation: str,
    listen: Listener = silent,
) -> tuple[Dataset, Survey]:
    """The cases of a training that was begun, read once more; those to test on stay unopened, also new ones.

    `orientation` is what the fingerprint of the plan says.
    """
    dataset = discover(source, options=options)
    used = {name for split in splits for name in (*split.train, *split.val)}
    left_out = set(unopened) | (held_out(dataset.cases) - used)
    dataset = replace(dataset, cases=tuple(case for case in dataset.cases if case.name not in left_out))
    survey = read_all(
        dataset,
        options=options,
        orientation=orientation,
        advance=lambda done, total: listen(Progress("reading the data", done, total)),
    )
    return dataset, survey


def _read_splits(path: Path, cases: Iterable[Case], folds: int) -> tuple[Split, ...]:
    """As many splits as there are folds: the user said both, so they must agree."""
    if folds == 1:
        return (split_from_file(path, cases),)
    found = splits_from_file(path, cases)
    if len(found) != folds:
        raise DatasetError(
            f"--folds {folds}, but '{path}' holds {len(found)} split{'s' if len(found) > 1 else ''}",
            hint=f"use --folds {len(found)}" if len(found) > 1 else "leave out --folds, or list one split per fold",
        )
    return tuple(found)


def _sizes(facts: list[CaseFacts]) -> str:
    """All sizes if they are few, else the smallest and the largest per axis: "256×256 to 1024×1024 (yx), 9 sizes"."""
    parts = []
    for axes in sorted({fact.axes for fact in facts}):
        shapes = {fact.shape for fact in facts if fact.axes == axes}
        if len(shapes) <= MOST_LISTED:
            text = ", ".join(_times(shape) for shape in sorted(shapes))
        else:
            lowest, highest = (_times(tuple(map(pick, zip(*shapes, strict=True)))) for pick in (min, max))
            text = f"{lowest} to {highest}, {len(shapes)} different"
        parts.append(f"{text} ({axes})")
    return "; ".join(parts) or "none could be read"


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _spacing(fact: CaseFacts) -> str:
    if fact.unit == "px":
        return "not known"
    return f"{'×'.join(f'{size:.4g}' for size in fact.spacing)} {fact.unit}"


def _classes(labels: LabelMap, facts: Iterable[CaseFacts]) -> str:
    """Names with their mask values and their share of the pixels: "background = 0 (83 %), cell = 255 (17 %)"."""
    pixels: Counter[object] = Counter()
    for fact in facts:
        for key, count in fact.mask_values.items():
            pixels[key] += count
    ignored = {labels.ignore, (labels.ignore,) * 3}
    counted = sum(count for key, count in pixels.items() if key not in ignored)
    if labels.kind == "instances":
        background = pixels[labels.values[0]] + pixels[(labels.values[0],) * 3]
        parts = [
            f"{labels.names[0]} = {labels.values[0]} ({_share(background, counted)})",
            f"{labels.names[1]} = every other value, one per object ({_share(counted - background, counted)})",
        ]
    else:
        keys = labels.colours or labels.values
        parts = [
            f"{name} = {'/'.join(map(str, key)) if isinstance(key, tuple) else key} ({_share(pixels[key], counted)})"
            for name, key in zip(labels.names, keys, strict=True)
        ]
    if len(parts) > MOST_CLASSES:
        parts[MOST_CLASSES:] = [f"and {len(parts) - MOST_CLASSES} more"]
    if labels.ignore is not None:
        parts.append(f"ignored = {labels.ignore}")
    return ", ".join(parts)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %" if whole else "0 %"


def _listed(texts: Iterable[str]) -> str:
    """Each different text with how often it occurs, the commonest first; the count is left out if there is one."""
    counts = Counter(texts).most_common()
    if len(counts) <= 1:
        return "".join(text for text, _ in counts) or "none could be read"
    shown = ", ".join(f"{text} ({count} case{'s' if count > 1 else ''})" for text, count in counts[:MOST_LISTED])
    rest = len(counts) - MOST_LISTED
    return f"{shown} and {rest} more" if rest > 0 else shown
