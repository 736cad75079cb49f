"""Score a network on validation cases, find out what to do behind it, and report on a training.

cached cases, weights -> whole images predicted as users will -> scores -> decoding or cleaning -> report
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from uvea.arrays.labels import classes_of
from uvea.batches.sampler import TrainingCase
from uvea.datasets.survey import read_image, read_mask
from uvea.evaluation import CaseScore, score_case, summarise
from uvea.images.image import Image
from uvea.inference.segment import Engine, classify_prepared, in_steps, segment_prepared, to_grid
from uvea.models.build import build_network
from uvea.models.device import Precision
from uvea.objects.decode import decode, tune
from uvea.objects.postprocess import choose_postprocessing, clean
from uvea.objects.targets import targets
from uvea.plan.plan import Plan
from uvea.plan.prepare import encode_truth
from uvea.plan.rules import DECIDED_BY_USER
from uvea.reports.panels import Example
from uvea.reports.training import training_report
from uvea.workflows.events import Message
from uvea.workflows.model import ready
from uvea.workflows.objects import Grid, drawn, find_objects, maps_of, mean_ap, pictures, pooled, score_objects
from uvea.workflows.plan import split_hash
from uvea.workflows.postprocessing import Postprocessing
from uvea.workflows.run import Run

SHOWN = 8
"""Validation cases that the report shows: the worst, the best and some between."""

TUNED = 200
"""Validation cases on which the decoding of objects is tuned, at the most; and as many pixels: maps of all of them are
in memory at once."""

TUNED_PIXELS = 1 << 25

TUNING_SHARE, TUNING_USUAL = 0.1, 1e-7
"""Of a number of minutes, so much is spent on that at the most, at about so many seconds per pixel and trial."""

TUNING_TRIALS = 25
"""About how often they are decoded and scored for that."""

TUNING_SECONDS = (1e-8, 2.4e-7)
"""How long one of these takes per pixel, at the least and at the most."""

TRIED_PIXELS = 1 << 19
"""Pixels of the true objects, at the most, on which that is timed."""

NOISE = 2.0
"""How many times longer the maps of a network take to be decoded than exact ones, about."""

CLEANED_PIXELS = 1 << 23
"""Pixels, times classes, of the validation cases on which cleanings are tried, at the most."""

CLEANING_SHARE = 0.03
"""Of a number of minutes, so much is spent on that at the most."""

CLEANING_SECONDS = 6e-7
"""About how long that takes, per pixel and class."""

SHOWN_OF_OBJECTS = ("mean_ap", "ap_50", "ap_70", "ap_90", "dice", "objects", "objects_predicted", "splits", "merges")
"""Metrics in the report's table."""


class Truths:
    """Masks of cases on their own grid, as the plan encodes them; read again only where they were resampled."""

    def __init__(self, run: Run, cached: Mapping[str, TrainingCase]) -> None:
        self._run, self._cached = run, cached
        self._resampled = run.plan.spacing is not None
        self._kept: dict[str, NDArray[np.integer]] = {}

    def grid(self, name: str) -> Grid:
        """Axes and spacing, which the survey knows."""
        return self._run.grids[name]

    def __getitem__(self, name: str) -> NDArray[np.integer]:
        if not self._resampled:
            return self._cached[name].labels
        if name not in self._kept:
            mask = self._run.cases[name].mask
            assert mask is not None
            options = self._run.kept.options
            read = read_mask(mask, axes=options.axes, max_pixels=options.max_pixels)
            self._kept[name] = encode_truth(self._run.facts[name].turn.mask(read), self._run.plan, where=str(mask))
        return self._kept[name]


def score_cases(
    run: Run,
    weights: Mapping[str, Tensor],
    names: Sequence[str],
    cached: Mapping[str, TrainingCase],
    truths: Truths,
    *,
    precision: Precision,
    engine: Engine,
    after: Postprocessing | None = None,
    known: Mapping[str, NDArray[np.float32]] | None = None,
    labels: dict[str, NDArray[np.int16]] | None = None,
) -> list[CaseScore]:
    """Predict whole images with the real prediction code and compare them with their masks.

    `after` decodes objects, and what is in `known` is not predicted again; `labels` takes the classes that were found.
    """
    plan = run.plan
    fresh = build_network(plan)
    fresh.load_state_dict(weights)
    network = ready(fresh, precision, run.device)
    rows: list[CaseScore] = []
    for name in names:
        truth, group = truths[name], run.cases[name].group
        if plan.task == "objects":
            assert after is not None and after.decoding is not None
            if known is not None and name in known:
                found = known[name]
            else:
                found = _probabilities(run, network, name, cached, truths, engine=engine)
            grid = truths.grid(name)
            objects = find_objects(found, after.decoding.on(grid.share(plan)), classes=plan.classes, grid=grid)
            rows += score_objects(name, truth, objects, names=plan.labels.names, group=group)
            continue
        classes = _classes(run, network, name, cached, truths, engine=engine)
        if labels is not None:
            labels[name] = classes
        rows += score_case(name, truth, classes, names=plan.labels.names, group=group)
    return rows


def _classes(
    run: Run,
    network: nn.Module,
    name: str,
    cached: Mapping[str, TrainingCase],
    truths: Truths,
    *,
    engine: Engine,
) -> NDArray[np.int16]:
    """The classes that a network finds in a case, on the grid of its mask."""
    return classify_prepared(
        [network],
        cached[name].image,
        run.plan,
        shape=truths[name].shape,
        engine=engine,
        tell=partial(_tell_of_validation, run),
    )


def _probabilities(
    run: Run,
    network: nn.Module,
    name: str,
    cached: Mapping[str, TrainingCase],
    truths: Truths,
    *,
    engine: Engine,
) -> NDArray[np.float32]:
    """What a network gives for a case, on the grid of its mask."""
    found = segment_prepared(
        [network],
        cached[name].image,
        run.plan,
        engine=engine,
        tell=partial(_tell_of_validation, run),
    )
    return in_steps(to_grid(found, truths[name].shape).numpy())


def _tell_of_validation(run: Run, text: str) -> None:
    run.listen(Message(f"validation: {text}", "warning"))


def tuned(
    run: Run,
    network: nn.Module,
    names: Sequence[str],
    cached: Mapping[str, TrainingCase],
    truths: Truths,
    *,
    engine: Engine,
) -> tuple[Postprocessing, dict[str, NDArray[np.float32]]]:
    """Search the decoding with the best mean AP on validation cases; also what the network gives for these."""
    plan = run.plan
    start = plan.decoding
    assert start is not None
    if plan.reasons.get("decoding") == DECIDED_BY_USER:
        return Postprocessing(decoding=start, reason="objects are decoded as set by you"), {}
    pixels = _tuned_pixels(plan, folds=len(run.kept.splits))
    chosen = spread_over(names, {name: truths[name].size for name in names}, most=TUNED, pixels=pixels)
    maps = {name: _probabilities(run, network, name, cached, truths, engine=engine) for name in chosen}
    cases, wanted, spacings, shares = [], [], [], []
    for name, found in maps.items():
        grid = truths.grid(name)
        parts = pictures(maps_of(found, plan.classes), grid)
        cases += parts
        wanted += [part[0] for part in pictures(truths[name][None], grid)]
        spacings += [grid.of_objects] * len(parts)
        shares += [grid.share(plan)] * len(parts)
    size = max(start.min_size, 4)
    best, trials = tune(
        cases,
        lambda found: mean_ap(wanted, found),
        start=start,
        spacings=spacings,
        shares=shares,
        min_sizes=sorted({0, size // 4, size // 2, size, 2 * size, 4 * size}),
    )
    first, last = trials[0].score, max(trial.score for trial in trials)
    ways = f"of {len(trials)} ways to decode {counted(len(chosen), 'validation case')}"
    measured = "mean AP whatever the class" if plan.classes > 2 else "mean AP"
    reason = f"{ways} this one has the highest {measured}, {last:.3f}; {first:.3f} at first"
    after = Postprocessing(decoding=best, trials=trials, cases=len(chosen), reason=reason)
    return after, maps


def cleaning_of(run: Run, found: Mapping[str, NDArray[np.int16]], truths: Truths) -> Postprocessing:
    """What improves the masks of validation cases by more than chance would."""
    sizes = {name: labels.size * (run.plan.classes - 1) for name, labels in found.items()}
    pixels = _cleaned_pixels(run.plan, folds=len(run.kept.splits))
    chosen = spread_over(list(found), sizes, most=len(found), pixels=pixels)
    choice = choose_postprocessing(
        [(truths[name], found[name]) for name in chosen],
        _dice_of_class,
        classes=run.plan.classes,
        groups=[run.cases[name].group or name for name in chosen],
        timed=[truths.grid(name).timed for name in chosen],
        shares=[truths.grid(name).share(run.plan) for name in chosen],
    )
    return Postprocessing(cleaning=dict(choice.cleanings), tried=choice.tried, cases=len(chosen), reason=choice.reason)


def cleaned_scores(
    run: Run, found: Mapping[str, NDArray[np.int16]], truths: Truths, after: Postprocessing
) -> list[CaseScore]:
    """Score what was found once more, cleaned."""
    rows: list[CaseScore] = []
    for name, labels in found.items():
        grid = truths.grid(name)
        cleaned = clean(labels, after.cleaning, timed=grid.timed, share=grid.share(run.plan))
        rows += score_case(name, truths[name], cleaned, names=run.plan.labels.names, group=run.cases[name].group)
    return rows


def _dice_of_class(truth: NDArray[np.integer], prediction: NDArray[np.integer], label: int) -> float:
    """Dice of one class, 1 where it is in neither; pixels that were not annotated are left out."""
    wanted, given = truth == label, (prediction == label) & (truth >= 0)
    total = int(wanted.sum()) + int(given.sum())
    return 2 * int((wanted & given).sum()) / total if total else 1.0


def spread_over(names: Sequence[str], sizes: Mapping[str, int], *, most: int, pixels: int) -> list[str]:
    """Names spread evenly over all, as many as have no more than so many pixels together; at least one."""
    count = min(most, len(names))
    while True:
        chosen = [names[index * len(names) // count] for index in range(count)]
        total = sum(sizes[name] for name in chosen)
        if count == 1 or total <= pixels:
            return chosen
        count = max(1, min(count - 1, count * pixels // total))


def trial_seconds(names: Sequence[str], truths: Truths, plan: Plan) -> float:
    """Seconds, about, to decode and score a pixel, timed on true objects; 0 where no decoding is searched."""
    if plan.decoding is None or plan.reasons.get("decoding") == DECIDED_BY_USER:
        return 0.0
    spent, pixels = 0.0, 0
    for name in spread_over(names, {name: truths[name].size for name in names}, most=3, pixels=TRIED_PIXELS):
        ids, grid = pictures(truths[name][None], truths.grid(name))[0][0], truths.grid(name)
        side = ceil(TRIED_PIXELS ** (1 / ids.ndim))
        ids = ids[tuple(slice((n - min(n, side)) // 2, (n + min(n, side)) // 2) for n in ids.shape)]
        maps = targets(ids, spacing=grid.of_objects)
        for _ in range(2):  # the first time, libraries are imported
            began = time.perf_counter()
            mean_ap([ids], [decode(maps, plan.decoding, spacing=grid.of_objects)])
            once = time.perf_counter() - began
        spent, pixels = spent + once, pixels + ids.size
    least, most = TUNING_SECONDS
    return min(max(NOISE * spent / pixels, least), most)


def postprocessing_seconds(names: Sequence[str], truths: Truths, plan: Plan, *, trial: float, folds: int = 1) -> float:
    """About how long it takes to find out what is done behind the network; `trial` as `trial_seconds` gives it."""
    pixels = sum(truths[name].size for name in names)
    if plan.task == "objects":
        return TUNING_TRIALS * trial * min(pixels * min(1.0, TUNED / len(names)), _tuned_pixels(plan, folds=folds))
    return CLEANING_SECONDS * min(pixels * (plan.classes - 1), _cleaned_pixels(plan, folds=folds))


def _tuned_pixels(plan: Plan, *, folds: int) -> int:
    """Pixels on which a decoding is searched, at the most; fewer where a training has less than 14 minutes."""
    return _affordable(TUNED_PIXELS, plan, folds, share=TUNING_SHARE, seconds=TUNING_TRIALS * TUNING_USUAL)


def _cleaned_pixels(plan: Plan, *, folds: int) -> int:
    """Pixels, times classes, on which cleanings are tried, at the most; fewer where it has less than three minutes."""
    return _affordable(CLEANED_PIXELS, plan, folds, share=CLEANING_SHARE, seconds=CLEANING_SECONDS)


def _affordable(pixels: int, plan: Plan, folds: int, *, share: float, seconds: float) -> int:
    """By the plan alone and not by the clock, so that a training can be repeated; folds share the minutes."""
    return pixels if plan.minutes is None else min(pixels, int(share * 60 * plan.minutes / folds / seconds))


def examples_of(
    run: Run,
    network: nn.Module,
    rows: Sequence[CaseScore],
    cached: Mapping[str, TrainingCase],
    truths: Truths,
    *,
    precision: Precision,
    engine: Engine,
    after: Postprocessing,
) -> list[Example]:
    """The worst, the best and evenly some between, each with its image as it was read."""
    plan = run.plan
    scores = ranked_scores(rows, _lead(plan)[0])
    ranked = list(scores)
    chosen = [ranked[i] for i in sorted({round(i) for i in np.linspace(0, len(ranked) - 1, min(SHOWN, len(ranked)))})]
    folded = ready(network, precision, run.device)
    shown = []
    for name in chosen:
        grid = truths.grid(name)
        read = read_image(run.cases[name], axes=run.kept.options.axes, max_pixels=run.kept.options.max_pixels)
        image: Image = run.facts[name].turn.image(read)
        truth = truths[name]
        given: NDArray[np.integer]
        if plan.task == "objects":
            assert after.decoding is not None
            found = _probabilities(run, folded, name, cached, truths, engine=engine)
            objects = find_objects(found, after.decoding.on(grid.share(plan)), classes=plan.classes, grid=grid)
            wanted, given = classes_of(truth, plan.classes), objects.labels
        else:
            objects, wanted = None, truth
            labels = _classes(run, folded, name, cached, truths, engine=engine)
            given = clean(labels, after.cleaning, timed=grid.timed, share=grid.share(plan))
        shown.append(
            Example(
                name=name,
                image=image.array,
                truth=wanted,
                prediction=given,
                scores=scores[name],
                objects=None if objects is None else drawn(truth, objects.ids),
            )
        )
    return shown


def ranked_scores(rows: Sequence[CaseScore], metric: str) -> dict[str, dict[str, float]]:
    """Case to score by class, the worst case first. Without the background, which nearly fills any image."""
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.label > 0 and metric in row.values:
            scores.setdefault(row.case, {})[row.class_name] = float(row[metric] or 0.0)
    return dict(sorted(scores.items(), key=lambda one: fmean(one[1].values())))


def _lead(plan: Plan) -> tuple[str, str]:
    """The figure that matters most: its name in tables, and as it is shown."""
    return ("mean_ap", "mean AP") if plan.task == "objects" else ("dice", "Dice")


def write_report(
    run: Run,
    rows: Sequence[CaseScore],
    *,
    history: Sequence[Mapping[str, float]],
    examples: Sequence[Example],
    details: Mapping[str, str],
    cases: int,
    after: Postprocessing | None = None,
) -> None:
    """Write the report of a training, or of all its folds."""
    summary = summarise(rows, resamples=0)
    plan = run.plan
    figures: dict[str, object] = {}
    if plan.task == "objects":
        shown = {"mean AP": "mean_ap", "AP at 0.50": "ap_50", "AP at 0.70": "ap_70", "AP at 0.90": "ap_90"}
        figures |= {f"validation {text}": f"{pooled(summary, name):.3f}" for text, name in shown.items()}
    figures |= {
        "validation Dice": f"{summary.dice.over_units:.3f}",
        "validation IoU": f"{summary.foreground['iou'].over_units:.3f}",
    }
    for one in summary.classes:
        figures[f"Dice of {one.class_name}"] = f"{one.metrics['dice'].over_units:.3f}"
    figures["validation cases"] = f"{cases} in {counted(summary.groups, 'group')}" if summary.groups else str(cases)
    if run.kept.leaks:
        figures["trained with --allow-leak"] = "these scores are too good: " + "; ".join(run.kept.leaks)
    training_report(
        run.space.report,
        title=f"Training on {run.kept.source.stem}",
        summary=figures,
        plan_rows=plan.rows(),
        history=[_shown_history(h, plan) for h in history],
        examples=examples,
        scores=[_shown_row(row, plan) for row in rows if plan.task == "semantic" or row.label > 0],
        lead=_lead(plan),
        trials=_gaps(after) if after is not None else None,
        findings=run.kept.findings,
        classes=run.plan.labels.names,
        details=details,
        overwrite=True,
    )


def _shown_history(row: Mapping[str, float], plan: Plan) -> dict[str, float | None]:
    scores: dict[str, float | None] = {"val_dice": row["score"]}
    if plan.task == "objects":
        scores = {"val_mean_ap": row["score"], "val_dice": row.get("dice")}
    return {"step": row["step"], "loss": row["loss"], **scores, "lr": row["lr"]}


def _shown_row(row: CaseScore, plan: Plan) -> dict[str, object]:
    named = {"case": row.case, "class": row.class_name}
    if plan.task == "objects":
        return {**named, **{name: row[name] for name in SHOWN_OF_OBJECTS}, "flag": row.flag or ""}
    return {**named, "dice": row["dice"], "iou": row["iou"], "flag": row.flag or ""}


def _gaps(after: Postprocessing) -> tuple[list[float], list[float]] | None:
    """Gaps that were tried, and the best mean AP at each, whatever the class."""
    best: dict[float, float] = {}
    for trial in after.trials:
        best[trial.settings.gap] = max(trial.score, best.get(trial.settings.gap, 0.0))
    return (sorted(best), [best[gap] for gap in sorted(best)]) if best else None


def origin(run: Run) -> dict[str, str]:
    """What a repetition must have in common, for the report; `uvea verify` checks it."""
    return {"data": run.kept.data, "split": split_hash(run.kept.splits)}


def figure_text(rows: Sequence[CaseScore], plan: Plan) -> str:
    """The figure of a training in a sentence; Dice is over patients or other groups where there are any."""
    if not rows:
        return "Dice nan"
    summary = summarise(rows, resamples=0)
    dice = f"Dice {summary.dice.over_units:.3f}"
    if summary.groups:
        dice += f" (mean over {counted(summary.groups, 'group')})"
    if plan.task == "semantic":
        return dice
    found = {name: pooled(summary, name) for name in ("mean_ap", "ap_50")}
    return f"mean AP {found['mean_ap']:.3f}, AP {found['ap_50']:.3f} at 0.50, {dice}"


def counted(number: int, what: str) -> str:
    """A number of things: "1 case", "2 cases"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
