"""Score predicted masks against a reference.

    pair by name  ->  look at all references  ->  decide what their values mean  ->  score case by case, on all cores
                  ->  summary  ->  scores.csv, summary.json, report.html

Nothing is scored on a guess: a missing prediction, a value that the reference does not know or grids that differ
are failures of their case, which name the files. All other cases are scored and written all the same.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from uvea.arrays.axes import check_letters
from uvea.arrays.labels import VERY_MANY_VALUES, Key, LabelMap, bits_stand_for_255, decide_labels
from uvea.datasets.case import plain_names, whole_number
from uvea.datasets.names import listed
from uvea.durable import unwritable
from uvea.errors import DatasetError, OutputError, UveaError
from uvea.evaluation.intervals import RESAMPLES
from uvea.evaluation.membranes import NOTHING, MembraneCurve, mean_curve
from uvea.evaluation.probabilities import ProbabilityCounts
from uvea.evaluation.rows import membrane_values, probability_values, with_values
from uvea.evaluation.summary import Summary, summarise, write_json, write_summary
from uvea.evaluation.table import CaseScore, write_csv
from uvea.images import check_max_pixels, suffix_of
from uvea.images.image import IN_MILLIMETRES
from uvea.workflows.crew import cores, in_order, most_workers
from uvea.workflows.evaluation_curves import curves_of
from uvea.workflows.evaluation_page import write_page
from uvea.workflows.evaluation_text import as_text
from uvea.workflows.events import Listener, Message, Progress, silent
from uvea.workflows.matching import Beside, Failure, Pair, match
from uvea.workflows.score_pair import (
    Look,
    Measures,
    Outcome,
    Question,
    is_ignored,
    look,
    score,
    with_probabilities,
)

SCORES_NAME = "scores.csv"
SUMMARY_NAME = "summary.json"
CURVES_NAME = "curves.json"
REPORT_NAME = "report.html"
NAMES = (SCORES_NAME, SUMMARY_NAME, CURVES_NAME, REPORT_NAME)

TOLERANCE = 2.0
"""Of the surface Dice, in the unit of the files."""

BYTES_PER_PIXEL = 64
"""Memory that a case needs at its peak: both masks as read and as classes, borders, and numbers of components."""

READ_AT_ONCE = 8
"""References, at the most, where nothing is known of their sizes yet."""

EMPTY: frozenset[Key] = frozenset({0, (0, 0, 0)})
"""Values of a mask in which nothing is marked."""

MOST_PIECES = 1.5
"""Connected pieces per value, on average, above which few values may be classes rather than numbers of objects."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The result of an evaluation: the rows, and what follows from them."""

    rows: tuple[CaseScore, ...]
    """One per case and class, in case order."""

    summary: Summary

    labels: LabelMap
    """What the mask values were taken to mean."""

    failures: tuple[Failure, ...] = ()
    """Cases that could not be scored and have no rows."""

    membranes: MembraneCurve | None = None
    """Mean over the images at each threshold, with `em_membranes`."""

    probabilities: Mapping[int, ProbabilityCounts] = field(default_factory=dict)
    """Over all cases by label, with `probabilities`: for `uvea.metrics.roc` and the like."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Cases without a prediction, scored as empty."""
        return self.summary.missing

    def table(self, *, width: int | None = None) -> str:
        """The summary as aligned text: a line per class, one for their mean without the background, and remarks.

        Args:
            width: columns of the terminal, beyond which the table goes on below; None for one line per class.
        """
        return as_text(self.summary, width=width)


class IncompleteError(DatasetError):
    """Some cases could not be scored. `scores` holds those of all others, which are written as well."""

    def __init__(self, problem: str, *, hint: str, scores: Scores) -> None:
        super().__init__(problem, hint=hint)
        self.scores = scores


def evaluate(
    predictions: str | Path,
    reference: str | Path | None = None,
    *,
    out: str | Path | None = None,
    label_names: Sequence[str] | Mapping[int, str] = (),
    groups: str | Path | Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
    distances: bool = True,
    instances: bool | None = None,
    em_membranes: bool = False,
    em_threshold: float = 0.5,
    probabilities: str | Path | None = None,
    within: str | Path | None = None,
    ignore_value: int | None = None,
    allow_missing: bool = False,
    allow_extra: bool = False,
    images: str | Path | None = None,
    axes: str | None = None,
    max_pixels: int | None = None,
    workers: int | None = None,
    report: bool = True,
    overwrite: bool = False,
    listen: Listener | None = None,
) -> Scores:
    """Score predicted masks: every metric per case and class, and their summary with intervals.

    Masks are paired by name; formats may differ. Sub-folders of the reference are groups, such as
    one per patient. Masks that number their objects are scored as foreground, and by object where asked for.

    Args:
        predictions: a folder of masks, one mask, or a CSV table with columns prediction and reference, and perhaps
            case, group, image, probabilities and within; its paths are relative to it.
        reference: a folder of masks, or one mask; of a dataset, with images/ and masks/ or with both side by side,
            the masks are taken. None with a table.
        out: folder for scores.csv, summary.json, report.html, and curves.json with `em_membranes` or `probabilities`;
            None writes nothing.
        label_names: names of the classes, background first; empty gives "background", "foreground" or "class 1", ….
            A mapping of mask values to names says what the classes are, also those that no reference has.
        groups: table with the columns case and group, or a mapping: a patient, a stack, the unit of all intervals.
        tolerance: of the surface Dice, in the unit of the files; in pixels where they have none.
        distances: whether to measure distances and lesions, which take most of the time.
        instances: whether mask values number objects, which are then scored, too; None finds out and scores
            foreground.
        em_membranes: score the cells between thinned membranes; the background is membrane.
        em_threshold: probability from which a pixel is membrane, chosen on other data; of masks it makes no difference.
        probabilities: folder of probability maps: one channel per class, or of two classes the foreground alone; from
            0 to 1, or to the largest value of an integer type. If they are the predictions themselves, the most
            probable class is scored.
        within: masks of the region that counts (all but 0), paired by name, or one for all.
        ignore_value: reference value of pixels that do not count.
        allow_missing: score a missing prediction as an empty mask; otherwise it is a failure.
        allow_extra: leave out predictions without a reference; otherwise they are failures.
        images: folder of the images, for the report; unless given, those beside the references are taken.
        axes: of the masks, such as "zyx", overruling what their files say; see `uvea.read`. Images and probability
            maps of another size are read with these, too, or with channels in front.
        max_pixels: files that declare more are failures, see there.
        workers: cases at a time; None takes as many as there are cores. The result does not depend on it.
        report: whether to write report.html.
        overwrite: whether files in `out` may be replaced.
        listen: told of progress and warnings.

    Returns:
        Scores.

    Raises:
        IncompleteError: some cases could not be scored: predictions that are missing, doubled or without a reference,
            files that cannot be read, sizes or geometry that differ, values that are no class. Its `scores` hold all
            others, and are written.
        DatasetError: nothing pairs, an option is wrong, or no case could be scored.
        ImageError: `max_pixels` is no whole number of 1 or more.
        OutputError: `out` cannot be written to, or has such files already.

    Example:
        uvea.evaluate("masks", "data/test/masks", out="scores").summary.dice.mean
    """
    tell = listen or silent
    folder = None if out is None else Path(out)
    if folder is not None:
        refuse_folder(folder, NAMES, overwrite=overwrite)
    if axes is not None:
        check_letters(axes)
    check_max_pixels(max_pixels)
    _refuse_options(tolerance, workers, em_threshold)
    ignore_value = None if ignore_value is None else whole_number("ignore_value", ignore_value)
    label_names = plain_names(label_names)
    beside = Beside(
        within=_path(within),
        probabilities=_path(probabilities),
        images=_path(images),
        groups=groups if isinstance(groups, Mapping) else _path(groups),
        allow_missing=allow_missing,
        allow_extra=allow_extra,
    )
    for source in (predictions, reference):
        if source is not None and not isinstance(source, str | Path):
            raise DatasetError(
                f"evaluate takes files and folders, not {type(source).__name__}",
                hint="score arrays with uvea.metrics, such as uvea.metrics.hd95(reference, prediction)",
            )
    matched = match(Path(predictions), _path(reference), beside=beside, tell=tell)

    questions = [
        Question(
            pair=pair,
            ignore=ignore_value,
            marks=bool(instances),
            pieces=not isinstance(label_names, Mapping),
            axes=axes,
            max_pixels=max_pixels,
        )
        for pair in matched.pairs
    ]
    looks = _look(questions, workers=workers, tell=tell)
    failures = [*matched.failures, *(one.failure for one in looks if one.failure is not None)]
    looks = [one for one in looks if one.failure is None]
    if not looks:
        raise _nothing_scored(failures)
    if not (instances or isinstance(label_names, Mapping)):
        looks = _with_one_foreground(looks, ignore_value)
    seen = {one.case for one in looks}
    pairs = [pair for pair in matched.pairs if pair.case in seen]
    labels = _labels(pairs, looks, label_names, ignore_value, instances=instances)
    unit, warnings = _unit(looks)
    if instances and not isinstance(label_names, Mapping) and (said := _like_classes(looks, ignore_value)):
        warnings.append(said)
    measures = Measures(
        labels=labels,
        unit=unit,
        dims=_dims(looks),
        tolerance=tolerance if distances else None,
        instances=bool(instances),
        pieces=_pieces(looks, label_names, ignore_value),
        membranes=em_membranes,
        membrane_threshold=em_threshold,
        probabilities=any(pair.probabilities is not None for pair in pairs),
        axes=axes,
        max_pixels=max_pixels,
    )
    _check(measures, pairs, instances=instances, tell=tell)

    outcomes, counts = _score(pairs, measures, looks, workers=workers, tell=tell)
    failures += [one.failure for one in outcomes if one.failure is not None]
    scored = [one for one in outcomes if one.failure is None]
    if not scored:
        raise _nothing_scored(failures)
    timed = {one.case for one in looks if one.axes.startswith("t")}
    if without := [one.case for one in scored if one.without_unit and one.case not in timed]:
        warnings.append(f"no volumes and distances, because the files have no pixel size in {unit}: {listed(without)}")
    if sheared := {one.case: one.shear for one in scored if one.shear and one.case not in timed}:
        warnings.append(
            f"no volumes and distances, because axes are up to {max(sheared.values()):.1f} degrees off a right angle: "
            f"{listed(sheared)}; to have them, resample both masks to an orthogonal grid, such as with "
            "nibabel.processing.resample_to_output(mask, sizes_mm, order=0)"
        )
    if nothing := [one.case for one in scored if not any(one.rows[0][count] for count in ("tp", "fp", "fn", "tn"))]:
        warnings.append(f"no pixel counts, so that there is nothing to be wrong and Dice is 1: {listed(nothing)}")
    warnings = [*matched.said, *warnings]
    for warning in warnings:
        tell(Message(warning, "warning"))
    failures.sort(key=lambda one: one.case)
    rows, curve = _with_membranes(scored)
    if folder is not None:
        if overwrite:
            _remove_what_follows(folder)
        write_csv(folder / SCORES_NAME, rows, overwrite=overwrite)  # first of all: it is what took the time
    summary = summarise(
        rows,
        pooled=_pooled(counts),
        missing=[one.case for one in scored if one.case in matched.missing],
        errors=[(one.case, one.problem) for one in failures],
        warnings=warnings,
        settings=_settings(measures, predictions=predictions, reference=reference, within=within),
    )
    scores = Scores(
        rows=tuple(rows),
        summary=summary,
        labels=labels,
        failures=tuple(failures),
        membranes=curve,
        probabilities=counts,
    )
    if folder is not None:
        _write(folder, scores, overwrite=overwrite)
        if report:
            tell(Progress("writing the report", 0, 1))
            write_page(
                folder / REPORT_NAME,
                rows=scores.rows,
                summary=summary,
                pairs=pairs,
                measures=measures,
                membranes=curve,
                probabilities=counts,
                overwrite=overwrite,
            )
            tell(Progress("writing the report", 1, 1))
    if failures:
        raise _incomplete(scores, folder)
    return scores


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def refuse_folder(folder: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Refuse a folder that files of these names cannot be written to: before the work, not after it.

    Raises:
        OutputError: it is a file or below one, or may not be written to, or has such files and `overwrite` is not set.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not place.is_dir():
        what = "a file" if place.exists() else "a link to nothing"
        raise OutputError(f"{place} is {what}, {folder} cannot be a folder", hint="choose another --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{place} may not be written to", hint="choose another --out")
    for name in names:
        if (folder / name).exists() and not overwrite:
            raise OutputError(f"{folder / name} exists", hint="choose another --out, or add --overwrite")


def _refuse_options(tolerance: float, workers: int | None, em_threshold: float) -> None:
    if not tolerance >= 0:
        raise DatasetError(f"a tolerance of {tolerance} is no distance", hint="give 0 or more, such as --tolerance 2")
    if workers is not None and workers < 1:
        raise DatasetError(f"{workers} workers can do nothing", hint="give --workers 1 or more, or leave it out")
    if not 0 <= em_threshold <= 1:
        raise DatasetError(f"{em_threshold} is no probability", hint="give --em-threshold from 0 to 1")


def _look(questions: Sequence[Question], *, workers: int | None, tell: Listener) -> list[Look]:
    """Read the values of all references, and of the predictions where they matter."""
    found = in_order(
        look,
        questions,
        workers=min(cores(), READ_AT_ONCE) if workers is None else workers,
        done=lambda count: tell(Progress("reading references", count, len(questions))),
    )
    looks = list(found)
    if not looks or questions[0].marks or not _annotated(looks, questions[0].ignore) <= EMPTY:
        return looks
    # References that are all empty: what a prediction marks is a false alarm, whatever value it has.
    return [look(replace(question, marks=True)) for question in questions]


def _with_one_foreground(looks: Sequence[Look], ignore_value: int | None) -> list[Look]:
    """The 1 of references of one bit, called 255 where the others are of 0 and 255."""
    if not bits_stand_for_255([one.values for one in looks], [one.one_bit for one in looks], ignore=ignore_value):
        return list(looks)
    return [
        replace(one, values={255 if key == 1 else key: count for key, count in one.values.items()})
        if one.one_bit
        else one
        for one in looks
    ]


def _annotated(looks: Iterable[Look], ignore_value: int | None) -> set[Key]:
    return {key for one in looks for key in one.values if not is_ignored(key, ignore_value)}


def _labels(
    pairs: Sequence[Pair],
    looks: Sequence[Look],
    names: Sequence[str] | Mapping[int, str],
    ignore_value: int | None,
    *,
    instances: bool | None,
) -> LabelMap:
    """What the values of the references mean, from all of them together, or as the user says."""
    if isinstance(names, Mapping):
        named = _named_labels(names, ignore_value)
        if not instances:
            return named
        names = ()  # of classes, whose connected pieces are the objects: see `_pieces`
    values = [one.values for one in looks]
    if _annotated(looks, ignore_value) <= EMPTY:
        marks = {mark for one in looks for mark in one.marks} - EMPTY
        values = [*values, {mark: 1 for mark in marks or {255}} | {0: 1}]
    return decide_labels(
        values,
        pieces=[one.pieces for one in looks],
        lossy=any(suffix_of(pair.reference) in (".jpg", ".jpeg") for pair in pairs),
        ignore=ignore_value,
        names=tuple(names),
        instances=instances,
    )


def _named_labels(names: Mapping[int, str], ignore_value: int | None) -> LabelMap:
    said = ", ".join(f"{value}={name}" for value, name in names.items())
    if ignore_value in names:
        raise DatasetError(
            f"the labels {said} name {ignore_value} as a class, --ignore-value {ignore_value} leaves it out",
            hint=f"leave {ignore_value} out of --labels, or leave --ignore-value out",
        )
    if len(names) < 2 or len(set(names.values())) < len(names):
        raise DatasetError(
            f"the labels {said} are not at least two different classes",
            hint="give every value its own name, background first, such as --labels 0=background,255=cell",
        )
    return LabelMap(kind="values", values=tuple(names), names=tuple(names.values()), ignore=ignore_value)


def _unit(looks: Sequence[Look]) -> tuple[str, list[str]]:
    """The unit of all volumes and distances, and what is to be said about it."""
    known = sorted({one.unit for one in looks} & IN_MILLIMETRES.keys())
    unit = "mm" if "mm" in known else "um" if known else "px"
    warnings = []
    if len(known) > 1:
        warnings.append(f"references have pixel sizes in {' and '.join(known)}; volumes and distances are in {unit}")
    if times := [one.case for one in looks if one.axes.startswith("t")]:
        warnings.append(f"time series have no volumes and distances: {listed(times)}")
    return unit, warnings


def _dims(looks: Sequence[Look]) -> int:
    """Spatial axes of all cases; 0 where they differ."""
    found = {len(one.axes.removeprefix("t")) for one in looks}
    return found.pop() if len(found) == 1 else 0


def _pieces(
    looks: Sequence[Look], names: Sequence[str] | Mapping[int, str], ignore_value: int | None
) -> tuple[bool, bool]:
    """Whether the objects of the references, and of the predictions, are connected pieces and not values.

    So it is where the user says which classes the values are, and where no mask has two values beside the background.
    Predictions may number their objects nonetheless, as `uvea predict` does.
    """
    marks = {mark for one in looks for mark in one.marks} - EMPTY
    if isinstance(names, Mapping):
        return True, marks <= set(names)
    references = all(len(_annotated([one], ignore_value) - EMPTY) < 2 for one in looks)
    predictions = all(len(set(one.marks) - EMPTY) < 2 for one in looks)
    return references, predictions


def _like_classes(looks: Sequence[Look], ignore_value: int | None) -> str:
    """What is to be said of few numbers of objects that each hang in several pieces; nothing as a rule."""
    values = _annotated(looks, ignore_value) - EMPTY
    each = [count for one in looks for key, count in one.pieces.items() if key in values]
    if not 2 <= len(values) < VERY_MANY_VALUES or sum(each) <= MOST_PIECES * len(each):
        return ""
    return (
        f"the references have {len(values)} numbers of objects in {sum(each)} pieces; if they are classes, say so: "
        "--labels 0=background,1=a,2=b with --instances takes connected pieces for objects"
    )


def _check(measures: Measures, pairs: Sequence[Pair], *, instances: bool | None, tell: Listener) -> None:
    """Refuse what cannot be measured together, and say what is not obvious."""
    labels = measures.labels
    if measures.membranes and labels.classes != 2:
        raise DatasetError(
            f"the masks have {labels.classes} classes ({listed(labels.names)}), membranes need two",
            hint="give masks of membrane and cell, or of numbered cells with --instances; or leave --em-membranes out",
        )
    without = [pair.case for pair in pairs if pair.probabilities is None]
    if measures.membranes and 0 < len(without) < len(pairs):
        raise DatasetError(
            f"{len(without)} of {len(pairs)} cases lack probabilities, membranes need all or none: {listed(without)}",
            hint="fill in the column probabilities for every case, or remove it",
        )
    if instances is None and labels.kind == "instances":
        tell(Message("the masks number their objects: they are scored as foreground; --instances scores objects, too"))
    for pieces, what in zip(measures.pieces, ("references", "predictions"), strict=True):
        if measures.instances and pieces:
            said = f"the {what} have one value for all objects, or for those of a class"
            tell(Message(f"{said}: connected pieces are taken for objects"))


def _score(
    pairs: Sequence[Pair],
    measures: Measures,
    looks: Sequence[Look],
    *,
    workers: int | None,
    tell: Listener,
) -> tuple[list[Outcome], dict[int, ProbabilityCounts]]:
    """Score all cases; their probabilities are added up at once, so that a thousand need the memory of one."""
    counts: dict[int, ProbabilityCounts] = {}
    outcomes = []
    bytes_each = BYTES_PER_PIXEL * max(one.pixels for one in looks)
    if most_workers(len(pairs), workers=workers, bytes_each=bytes_each) > 1:
        measures = replace(measures, threads=1)  # the cores are taken by other cases
    found = in_order(
        score,
        [(pair, measures) for pair in pairs],
        workers=workers,
        bytes_each=bytes_each,
        done=lambda count: tell(Progress("scoring", count, len(pairs))),
    )
    for one in found:
        for label, counted in one.counts.items():
            counts[label] = counts[label] + counted if label in counts else counted
        outcomes.append(replace(one, rows=with_probabilities(one.rows, one.counts), counts={}))
    return outcomes, counts


def _pooled(counts: Mapping[int, ProbabilityCounts]) -> dict[tuple[int, str], float | None]:
    """What does not follow from the rows: the metrics of all probabilities together, by label and name."""
    return {
        (label, name): None if value is None else float(value)
        for label, found in counts.items()
        for name, value in probability_values(found).items()
    }


def _with_membranes(outcomes: Sequence[Outcome]) -> tuple[list[CaseScore], MembraneCurve | None]:
    """All rows, those of the first class with its membranes, at the threshold that is best for the whole set."""
    curves = [one.curve for one in outcomes if one.curve is not None]
    whole = mean_curve(curves) if curves else None
    rows: list[CaseScore] = []
    for one in outcomes:
        found = list(one.rows)
        if one.curve is not None and whole is not None:
            rand, info = whole.best_threshold_rand, whole.best_threshold_info
            best = NOTHING if rand is None or info is None else one.curve.at(rand, info)
            found[1] = with_values(found[1], membrane_values(one.curve.fixed, best))
        rows += found
    return rows, whole


def _remove_what_follows(folder: Path) -> None:
    """Remove what an earlier evaluation wrote beside its scores: beside new ones it would mislead.

    It may not be written again: not asked for this time, or interrupted, or for lack of room.
    """
    for name in (SUMMARY_NAME, CURVES_NAME, REPORT_NAME):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(folder / name, error) from error


def _write(folder: Path, scores: Scores, *, overwrite: bool) -> None:
    """Write what follows from the rows, but for the report, which needs the files of the cases."""
    write_summary(folder / SUMMARY_NAME, scores.summary, overwrite=overwrite)
    if scores.membranes is not None or scores.probabilities:
        curves = curves_of(scores.membranes, scores.probabilities, names=scores.labels.names)
        write_json(folder / CURVES_NAME, curves, overwrite=overwrite)


def _settings(
    measures: Measures, *, predictions: str | Path, reference: str | Path | None, within: str | Path | None
) -> dict[str, object]:
    labels = measures.labels
    settings: dict[str, object] = {
        "predictions": str(predictions),
        "reference": "" if reference is None else str(reference),
        "within": None if within is None else str(within),
        "unit": measures.unit,
        "tolerance": measures.tolerance,
        "classes": {name: list(key) if isinstance(key, tuple) else key for name, key in _meanings(labels)},
        "ignored value": labels.ignore,
        "intervals": f"95 %, percentile bootstrap, {RESAMPLES} resamples",
    }
    if measures.instances:
        settings["objects of the references"], settings["objects of the predictions"] = (
            "connected pieces" if pieces else "mask values" for pieces in measures.pieces
        )
    if measures.membranes and measures.probabilities:
        settings["membrane threshold"] = measures.membrane_threshold
    return settings


def _meanings(labels: LabelMap) -> list[tuple[str, Key | str]]:
    """Name and mask value of each class."""
    if labels.kind == "instances":
        return [(labels.names[0], labels.values[0]), (labels.names[1], "every other value")]
    keys: Sequence[Key] = labels.colours or labels.values
    return list(zip(labels.names, keys, strict=True))


def _nothing_scored(failures: Sequence[Failure]) -> UveaError:
    first = failures[0]
    if len(failures) == 1:
        return first.error
    return first.kind(f"none of {len(failures)} cases could be scored; the first: {first.problem}", hint=first.hint)


def _incomplete(scores: Scores, folder: Path | None) -> IncompleteError:
    first, *others = scores.failures
    where = "" if folder is None else f"; {folder / SUMMARY_NAME} lists all"
    if not others:
        return IncompleteError(f"{first.problem}; all other cases are scored", hint=first.hint, scores=scores)
    names = listed(one.case for one in scores.failures)
    return IncompleteError(
        f"{len(scores.failures)} cases could not be scored, all others are: {names}; the first: {first.problem}",
        hint=f"{first.hint}{where}",
        scores=scores,
    )
