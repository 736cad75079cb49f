"""Score predicted masks against a reference.

    pair by name  ->  decide what the reference values mean  ->  compare grids  ->  count  ->  scores.csv, summary.json

Nothing is scored on a guess: a missing prediction, a value that the reference does not know or
grids that differ are errors that name the files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.labels import IGNORE, Key, LabelMap, colour_of, decide_labels
from uvea.datasets.discover import find_images
from uvea.datasets.measure import codes_of, count_pieces, count_values
from uvea.datasets.names import listed, part_of, role_of
from uvea.datasets.pairing import Entry, pair
from uvea.errors import DatasetError, OutputError, ShapeError
from uvea.evaluation.overlap import CaseScore, score_case
from uvea.evaluation.table import ClassSummary, Summary, summarise, write_csv, write_summary
from uvea.images import Image, read, suffix_of
from uvea.images.files import geometry_difference
from uvea.workflows.events import Listener, Message, Progress, silent

SCORES_NAME = "scores.csv"
SUMMARY_NAME = "summary.json"

FEW_VALUES = 4
"""Masks with fewer values than this are never taken for instances or for smoothed, so their pieces are not counted."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The result of an evaluation: the rows, and what follows from them."""

    rows: tuple[CaseScore, ...]
    """One per case and class, in case order."""

    summary: Summary

    labels: LabelMap
    """What the mask values were taken to mean."""

    missing: tuple[str, ...] = ()
    """Cases without a prediction, scored as empty."""

    def table(self) -> str:
        """The summary as aligned text, a line per class and one for their mean without the background."""
        return _as_text(self.summary)


def evaluate(
    predictions: str | Path,
    reference: str | Path,
    *,
    out: str | Path | None = None,
    label_names: Sequence[str] = (),
    ignore_value: int | None = None,
    overwrite: bool = False,
    allow_missing: bool = False,
    within: str | Path | None = None,
    listen: Listener | None = None,
) -> Scores:
    """Score predicted masks: Dice and IoU per case and class, and their summary.

    Masks are paired by name; formats may differ. Sub-folders of the reference are groups, such as
    one per patient. Masks that number their objects are scored as foreground.

    Args:
        predictions: a folder of masks, or one mask.
        reference: a folder of masks, or one mask; of a dataset, with images/ and masks/ or with both side by side,
            the masks are taken.
        out: folder for scores.csv and summary.json; None writes nothing.
        label_names: of the classes, background first; empty gives "background", "foreground" or "class 1", …
        ignore_value: reference value of pixels that do not count.
        overwrite: whether scores in `out` may be replaced.
        allow_missing: score a missing prediction as an empty mask instead of stopping.
        within: masks of the region that counts (all but 0), paired by name, or one for all.
        listen: told of progress and warnings.

    Returns:
        Scores.

    Raises:
        DatasetError: masks that do not pair, values that the reference does not have, nothing to score.
        ShapeError: sizes or geometry of a pair that differ.
        ImageError: a file that cannot be read.
        OutputError: scores that exist already.

    Example:
        uvea.evaluate("masks", "data/test/masks", out="scores").summary.dice.mean
    """
    tell = listen or silent
    predictions, reference = Path(predictions), _mask_folder(Path(reference))
    folder = None if out is None else Path(out)
    if folder is not None:
        _refuse_existing(folder, overwrite)
    if predictions.exists() and reference.exists() and predictions.samefile(reference):
        raise DatasetError(f"{predictions} would be scored against itself", hint="name the predictions first")

    wanted = _masks_in(reference)
    given, extra = _match(wanted, predictions, tell)
    missing = tuple(name for name in wanted if name not in given)
    if missing and not allow_missing:
        raise DatasetError(
            f"no prediction in {predictions} for {len(missing)} of {len(wanted)} references: {listed(missing)}",
            hint="add them, or count them as empty masks with --allow-missing",
        )
    if missing:
        tell(Message(f"references without prediction score as empty: {listed(missing)}", "warning"))
    if extra:
        tell(Message(f"predictions without reference are not scored: {listed(extra)}", "warning"))
    regions = _regions_for(wanted, None if within is None else Path(within))

    labels = _labels_of(wanted, given, tuple(label_names), ignore_value, tell=tell)
    groups = _groups_of(tuple(wanted))
    rows: list[CaseScore] = []
    for done, (name, path) in enumerate(wanted.items(), start=1):
        truth = read(path)
        right = labels.encode(truth.array, where=str(path))
        region = _region(regions[name], truth, path) if name in regions else None
        guess = _prediction(given[name], truth, path, labels) if name in given else np.zeros_like(right)
        if name in given:
            _refuse_ignored(guess, right, region, path=given[name], ignore_value=ignore_value)
        rows += score_case(name, right, guess, names=labels.names, within=region, group=groups.get(name))
        tell(Progress("scoring", done, len(wanted)))

    scores = Scores(rows=tuple(rows), summary=summarise(rows), labels=labels, missing=missing)
    if folder is not None:
        write_csv(folder / SCORES_NAME, scores.rows, overwrite=overwrite)
        write_summary(folder / SUMMARY_NAME, scores.summary, overwrite=overwrite)
    return scores


def _refuse_existing(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, scores need a folder", hint="choose another --out")
    for name in (SCORES_NAME, SUMMARY_NAME):
        if (folder / name).exists() and not overwrite:
            raise OutputError(f"{folder / name} exists", hint="choose another --out, or add --overwrite")


def _mask_folder(reference: Path) -> Path:
    """The masks of a dataset with images/ and masks/; any other path as it is."""
    if not reference.is_dir():
        return reference
    inner = [(path, role[0]) for path in sorted(reference.iterdir()) if path.is_dir() and (role := role_of(path.name))]
    masks = [path for path, role in inner if role == "masks"]
    return masks[0] if len(masks) == 1 and any(role == "images" for _, role in inner) else reference


def _masks_in(source: Path) -> dict[str, Path]:
    return {name: paths[0] for name, paths in find_images([source], role="masks")}


def _match(wanted: dict[str, Path], predictions: Path, tell: Listener) -> tuple[dict[str, Path], list[str]]:
    """The prediction of each reference by the name of the reference, and the names of those left over."""
    found = _masks_in(predictions)
    for beside in [f"{name}_probabilities" for name in found]:  # written by `predict --probabilities`
        if beside not in wanted:
            found.pop(beside, None)
    if len(wanted) == 1 and predictions.is_file():
        return {name: predictions for name in wanted}, []
    if not wanted.keys() & found.keys():
        # x.png may be the prediction for x_mask.png: the rules for images and their masks apply.
        pairing = pair([_entry(name, path) for name, path in found.items()], [_entry(*item) for item in wanted.items()])
        names = {path: name for name, path in wanted.items()}
        matched = {names[one.mask]: one.images[0] for one in pairing.pairs if one.mask is not None}
        if not matched:
            raise DatasetError(
                f"no prediction in {predictions} has the name of a reference: {listed(found)}, but {listed(wanted)}",
                hint="give both the same names; suffixes may differ",
            )
        tell(Message(f"predictions and references: {pairing.rule}"))
        used = set(matched.values())
        return matched, [name for name, path in found.items() if path not in used]
    return {name: found[name] for name in wanted if name in found}, [name for name in found if name not in wanted]


def _entry(name: str, path: Path) -> Entry:
    *folders, stem = name.split("/")
    return Entry(path, tuple(folders), stem)


def _regions_for(wanted: dict[str, Path], within: Path | None) -> dict[str, Path]:
    if within is None:
        return {}
    if within.is_file():
        return dict.fromkeys(wanted, within)
    found = _masks_in(within)
    if absent := [name for name in wanted if name not in found]:
        raise DatasetError(
            f"no region in {within} for {len(absent)} of {len(wanted)} references: {listed(absent)}",
            hint="give every reference a region of its name, or one file for all",
        )
    return {name: found[name] for name in wanted}


def _groups_of(names: Sequence[str]) -> dict[str, str]:
    """The first sub-folder of each case that is not train, val or test; nothing where there is only one."""
    groups: dict[str, str] = {}
    for name in names:
        folders = [folder for folder in name.split("/")[:-1] if part_of(folder) is None]
        if folders:
            groups[name] = folders[0]
    return groups if len(set(groups.values())) > 1 else {}


def _labels_of(
    wanted: dict[str, Path], given: dict[str, Path], names: tuple[str, ...], ignore_value: int | None, *, tell: Listener
) -> LabelMap:
    """What the values of the references mean, from all of them together."""
    values: list[dict[Key, int]] = []
    pieces: list[dict[Key, int]] = []
    for done, path in enumerate(wanted.values(), start=1):
        counted = _values_of(path)
        values.append(counted[0])
        pieces.append(counted[1])
        tell(Progress("reading references", done, len(wanted)))
    annotated = set().union(*values) - {ignore_value}
    if annotated <= {0, (0, 0, 0)}:
        # References that are all empty: what a prediction marks is a false alarm, whatever value it has.
        marks = set().union(*(_values_of(path)[0] for path in given.values())) - {0, (0, 0, 0), ignore_value}
        values.append({mark: 1 for mark in marks or {255}} | {0: 1})
    return decide_labels(
        values,
        pieces=pieces,
        lossy=any(suffix_of(path) in (".jpg", ".jpeg") for path in wanted.values()),
        ignore=ignore_value,
        names=names,
    )


def _values_of(path: Path) -> tuple[dict[Key, int], dict[Key, int]]:
    """Pixels and connected pieces of each value of a mask."""
    codes, coloured = codes_of(read(path).array, str(path))
    if codes.dtype.kind == "f":
        broken = codes[codes != np.rint(codes)]  # NaN too; infinity is caught by the bound
        if broken.size or np.abs(codes).max(initial=0) > 2**53:
            worst = broken.flat[0] if broken.size else np.abs(codes).max()
            raise DatasetError(
                f"{path} has a value that is no label: {worst:g}",
                hint="save masks as whole numbers, one per class; threshold probability maps first",
            )
        codes = codes.astype(np.int64)

    def by_key(found: NDArray[np.generic], counted: NDArray[np.generic]) -> dict[Key, int]:
        pairs = zip(found.tolist(), counted.tolist(), strict=True)
        return {colour_of(value) if coloured else value: count for value, count in pairs}

    found, counted = count_values(codes)
    if len(found) < FEW_VALUES:
        return by_key(found, counted), {}
    return by_key(found, counted), by_key(*np.unique(count_pieces(codes)[0], return_counts=True))


def _prediction(path: Path, truth: Image, truth_path: Path, labels: LabelMap) -> NDArray[np.int16]:
    """Classes of a prediction, on the grid of its reference."""
    image = read(path)
    if difference := _grid_difference((truth, truth_path), (image, path)):
        raise ShapeError(
            f"{truth_path} and {path} cannot be compared, their {difference}",
            hint="check that both belong to one image; resample the prediction to the grid of the reference",
        )
    return labels.encode(image.array, where=str(path))


def _region(path: Path, truth: Image, truth_path: Path) -> NDArray[np.bool_]:
    image = read(path)
    if difference := _grid_difference((truth, truth_path), (image, path)):
        raise ShapeError(
            f"{truth_path} and its region {path} cannot be used together, their {difference}",
            hint="give a region of the same image",
        )
    inside: NDArray[np.bool_] = (image.array != 0).any(axis=0)
    return inside


def _grid_difference(first: tuple[Image, Path], second: tuple[Image, Path]) -> str | None:
    """What differs between two grids, as far as both files know where they are."""
    (one, one_path), (other, other_path) = first, second
    if one.shape != other.shape:
        sizes = ["×".join(map(str, image.shape)) for image in (one, other)]
        return f"sizes differ: {sizes[0]} and {sizes[1]} ({one.axes})"
    if "px" in (one.unit, other.unit):
        return None
    if any("tif" in suffix_of(path) for path in (one_path, other_path)):
        # TIFF has a pixel size but no place in the world.
        plain = tuple(0.0 for _ in one.origin)
        one, other = (replace(image, origin=plain, direction=()) for image in (one, other))
    return geometry_difference(one, other)


def _refuse_ignored(
    guess: NDArray[np.int16],
    right: NDArray[np.int16],
    region: NDArray[np.bool_] | None,
    *,
    path: Path,
    ignore_value: int | None,
) -> None:
    """A prediction may leave out what the reference leaves out, and nothing else."""
    undecided = (guess == IGNORE) & (right != IGNORE)
    if region is not None:
        undecided &= region
    if undecided.any():
        raise DatasetError(
            f"{path} has the ignored value {ignore_value} in {int(undecided.sum())} pixels that its reference decides",
            hint="predict a class for every pixel",
        )


def _as_text(summary: Summary) -> str:
    headings = ["class", "cases", "Dice", "IoU", "Dice pooled", "IoU pooled"]
    headings += ["Dice by group"] if summary.groups else []
    headings += ["both empty", "missed", "false alarm"]
    lines = [headings, *(_class_line(entry, grouped=summary.groups > 0) for entry in summary.classes)]
    if len(summary.classes) > 2:
        figures = [summary.dice.mean, summary.iou.mean, summary.dice.pooled, summary.iou.pooled]
        figures += [summary.dice.mean_groups] if summary.dice.mean_groups is not None else []
        lines.append(["mean without background", str(summary.cases), *(f"{figure:.4f}" for figure in figures)])
    lines = [line + [""] * (len(headings) - len(line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in lines
    )


def _class_line(entry: ClassSummary, *, grouped: bool) -> list[str]:
    figures = [entry.dice.mean, entry.iou.mean, entry.dice.pooled, entry.iou.pooled]
    figures += [entry.dice.mean_groups or 0.0] if grouped else []
    flags = [entry.n_both_empty, entry.n_missed, entry.n_false_alarm]
    return [entry.class_name, str(entry.n), *(f"{figure:.4f}" for figure in figures), *map(str, flags)]
