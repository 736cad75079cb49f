"""Train the network of a dataset, or continue a training that stopped.

    check -> plan -> prepared cases -> patches -> augment -> loop -> model/

This file only puts the parts together; each part is a few lines away, in the folder its name
says. Read it top to bottom to see what a training is.
"""

import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil, prod
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from uvea.augment.chain import Chain, standard_chain
from uvea.batches.cache import cache_cases, slices_of
from uvea.batches.sampler import TrainingCase, sampler
from uvea.datasets.case import Case, DataOptions, Finding
from uvea.datasets.discover import NO_OPTIONS, discover
from uvea.datasets.split import Split
from uvea.datasets.survey import read_image, read_mask
from uvea.datasets.survey import survey as read_all
from uvea.errors import ModelError, PlanError
from uvea.evaluation import CaseScore, score_case, summarise, write_csv
from uvea.images.image import Image
from uvea.inference.segment import Engine, segment_prepared, to_grid
from uvea.inference.sliding_window import labels_of
from uvea.models.build import build_network
from uvea.models.device import Precision, describe_machine, find_device, keep_large_blocks
from uvea.models.weights import load_weights, save_weights
from uvea.plan.budget import Budget
from uvea.plan.plan import Plan
from uvea.plan.prepare import encode_mask, prepare_image, prepare_mask
from uvea.reports.panels import Example
from uvea.reports.training import training_report
from uvea.training.average import Average
from uvea.training.checkpoint import Packed, pack, unpack
from uvea.training.loop import Hooks, Progress
from uvea.training.loop import train as run_loop
from uvea.training.losses import build_loss, deep
from uvea.training.schedule import Schedule
from uvea.training.weight_map import border_weights
from uvea.workflows.events import Listener, Message, silent
from uvea.workflows.events import Progress as Told
from uvea.workflows.model import Model, choose, engine_for, load, ready
from uvea.workflows.plan import data_hash
from uvea.workflows.plan import plan as make_plan
from uvea.workflows.workspace import Workspace

WATCHED = 24
"""Validation cases that are scored during the training; all are at the end."""

SHOWN = 8
"""Validation cases that the report shows: the worst, the best and some between."""

ENDING_SECONDS = 4.0
"""Kept for writing the model and the report."""

CACHE_SHARE = 0.4
"""Prepared cases larger than this share of the free memory are kept in files."""


def train(
    source: str | Path,
    *,
    out: str | Path,
    minutes: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    options: DataOptions = NO_OPTIONS,
    overrides: Mapping[str, object] | None = None,
    split_file: Path | None = None,
    folds: int = 1,
    seed: int = 42,
    device: str | None = None,
    overwrite: bool = False,
    listen: Listener = silent,
) -> Model:
    """Plan, train and validate on a dataset.

    Args:
        source: a folder of images and masks, or a CSV table; see docs/formats.md.
        out: the folder of the model.
        minutes: wall-clock time of the whole call, from reading the data to the report; shared by the folds.
        epochs: instead: passes over the training images.
        steps: instead: batches. With none of the three, ten minutes.
        options: what you say about the data.
        overrides: decisions of yours, by name: {"patch": (256, 256)}, or as text: "256,256".
        split_file: your own split.
        folds: 1, or the number of parts for cross-validation; prediction then uses the mean of all.
        seed: of everything random.
        device: "cpu", "cuda" or "mps"; None takes the best there is.
        overwrite: whether a model in `out` may be replaced.
        listen: told what happens; see `uvea.workflows.events`.

    Returns:
        The trained model.

    Raises:
        UveaError: for anything you can mend: data, settings, files. Nothing is left half-written.
        KeyboardInterrupt: on Ctrl-C, after the state was saved: `resume` continues it.
    """
    began = time.monotonic()
    budget = Budget(minutes=minutes, epochs=epochs, steps=steps)
    if not 0 <= seed < 2**63:
        raise PlanError(f"the seed is {seed}", hint="use 0 or a larger number, such as --seed 42")
    space = Workspace(Path(out))
    space.check_free(overwrite=overwrite)
    report = make_plan(
        source,
        options=options,
        budget=budget,
        overrides=overrides,
        split_file=split_file,
        folds=folds,
        seed=seed,
        device=device,
        listen=listen,
    )
    space.claim(overwrite=overwrite)
    for finding in report.findings:
        listen(Message(f"{finding.problem} — {finding.hint}", "warning"))
    space.save_plan(report.plan)
    run = Run(
        source=Path(source).resolve().stem,
        space=space,
        plan=report.plan,
        cases={case.name: case for case in report.check.dataset.cases},
        options=options,
        device=find_device(device),
        findings=report.findings,
        listen=listen,
    )
    space.save_run(
        {
            "source": str(Path(source).resolve()),
            "options": asdict(options),
            "device": device,
            "data": data_hash(report.check.survey),
            "findings": [[f.severity, f.problem, f.hint] for f in report.findings],
            "splits": [asdict(split) for split in report.splits],
        }
    )
    return _train_parts(run, report.splits, began=began)


def resume(out: str | Path, *, listen: Listener = silent) -> Model:
    """Continue a training that was interrupted, or return the model if it was done.

    Raises:
        ModelError: if there is nothing to resume, or the data changed since.
    """
    began = time.monotonic()
    space = Workspace(Path(out))
    facts = space.load_run()
    plan = space.load_plan()
    try:
        said: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["options"].items()}
        options = DataOptions(**said)
        splits = [Split(tuple(s["train"]), tuple(s["val"]), s["reason"]) for s in facts["splits"]]
        source, device, known = Path(facts["source"]), facts["device"], facts["data"]
        findings = tuple(Finding(severity=s, kind="kept", problem=p, hint=h) for s, p, h in facts["findings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        trouble = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"{space.run / 'run.json'} is damaged: {trouble}", hint="train again with --overwrite"
        ) from None
    if not source.exists():
        raise ModelError(
            f"the data of {out} is no longer at {source}",
            hint="move it back there, or train again with --overwrite",
        )
    dataset = discover(source, options=options)
    survey = read_all(
        dataset, options=options, advance=lambda done, total: listen(Told("reading the data", done, total))
    )
    if data_hash(survey) != known:
        raise ModelError(f"the data in {source} changed since {out} was started", hint="train again with --overwrite")
    run = Run(
        source=source.stem,
        space=space,
        plan=plan,
        cases={case.name: case for case in dataset.cases},
        options=options,
        device=find_device(device),
        findings=findings,
        listen=listen,
    )
    return _train_parts(run, splits, began=began)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all folds of one training share."""

    source: str
    """Name of the data, for the report."""

    space: Workspace
    plan: Plan
    cases: Mapping[str, Case]
    options: DataOptions
    device: torch.device
    findings: tuple[Finding, ...]
    listen: Listener


def _train_parts(run: Run, splits: Sequence[Split], *, began: float) -> Model:
    keep_large_blocks()
    spaces = [run.space.fold(i) for i in range(1, len(splits) + 1)] if len(splits) > 1 else [run.space]
    rows: list[CaseScore] = []
    for number, (space, split) in enumerate(zip(spaces, splits, strict=True)):
        label = f"fold {number + 1} of {len(splits)}" if len(splits) > 1 else "training"
        budget_end = None
        if run.plan.minutes is not None:
            # What is left of the whole, shared evenly by the folds that are still to come.
            left = began + 60 * run.plan.minutes - time.monotonic()
            budget_end = time.monotonic() + left / (len(splits) - number)
        try:
            rows += _train_one(replace(run, space=space), split, label=label, ends=budget_end)
        finally:
            space.forget_cache()
    if len(splits) > 1:
        write_csv(run.space.scores, rows, overwrite=True)
        _report(
            run,
            rows,
            history=[],
            examples=[],
            details={"folds": str(len(splits))},
            cases=sum(len(s.val) for s in splits),
        )
    mean = summarise(rows, resamples=0).dice.mean if rows else float("nan")
    run.listen(
        Message(
            f"validation Dice {mean:.3f} over {_counted(len({row.case for row in rows}), 'case')}; "
            f"the model is in {run.space.folder}"
        )
    )
    return load(run.space.folder, device=str(run.device))


def _train_one(run: Run, split: Split, *, label: str, ends: float | None) -> list[CaseScore]:
    """Train one network and score it on its validation cases."""
    plan, space, listen = run.plan, run.space, run.listen
    space.run.mkdir(parents=True, exist_ok=True)
    cached = _cache(run, [*split.train, *(name for name in split.val if name not in split.train)])
    training = [case for name in split.train for case in _as_trained(cached[name], plan)]

    torch.manual_seed(plan.seed)
    network = build_network(plan)
    packed, trouble = space.load_checkpoint()
    precision = _kept_precision(packed, run.device) or choose(plan, network, run.device, training=True)
    listen(Message(precision.reason))
    placed = precision.prepare(network.to(run.device))
    assert isinstance(placed, nn.Module)
    optimizer = _optimizer(placed, plan)
    average = Average(placed, plan.ema) if plan.ema else None
    progress = Progress(steps=_steps(plan, training))
    if packed is not None:
        progress = unpack(packed, placed, optimizer, average)
        listen(Message(f"{label} continues after step {progress.step}"))
    if trouble:
        listen(Message(trouble, "warning"))

    engine = engine_for(precision, run.device)
    truths = _Truths(run, cached)
    watched = split.val if len(split.val) <= WATCHED else split.val[:: ceil(len(split.val) / WATCHED)]
    scoring_seconds = [0.0]

    def current() -> dict[str, Tensor]:
        return average.weights_of() if average else placed.state_dict()

    def validate() -> float:
        start = time.monotonic()
        rows = _score(run, current(), watched, cached, truths, precision=precision, engine=engine)
        scoring_seconds[0] = (time.monotonic() - start) / len(watched)
        return summarise(rows, resamples=0).dice.mean

    def seconds_left() -> float:
        assert ends is not None
        return ends - time.monotonic() - ENDING_SECONDS - scoring_seconds[0] * len(split.val)

    def save(progress: Progress, is_best: bool) -> None:
        # The checkpoint last: whatever ends the process in between, it never knows of weights that are not there.
        if is_best:
            save_weights(space.weights, current())
        space.save_history(progress.history)
        tensors, words = pack(placed, optimizer, average, progress)
        space.save_checkpoint((tensors, {**words, "precision": json.dumps([run.device.type, asdict(precision)])}))

    with _graceful() as interrupted:
        hooks = Hooks(
            batch=_batches(training, plan, precision, run.device),
            loss=_loss(plan),
            learning_rate=partial(_learning_rate, plan),
            after_step=(lambda: average.update(placed)) if average else (lambda: None),
            validate=validate,
            save=save,
            listen=_teller(listen, label, progress, ends),
            stop=interrupted.is_set,
        )
        progress = run_loop(
            placed,
            optimizer,
            hooks,
            progress=progress,
            seconds_left=seconds_left if ends is not None else None,
            autocast=engine.autocast,
            clip=plan.clip,
        )
    if interrupted.is_set() or progress.step != progress.steps:
        raise KeyboardInterrupt
    save_weights(space.last, current())
    if not space.weights.exists():
        save_weights(space.weights, current())
    best = build_network(plan)
    load_weights(space.weights, best)
    listen(Told("scoring the validation cases", 0, 1))
    rows = _score(run, best.state_dict(), split.val, cached, truths, precision=precision, engine=engine)
    listen(Told("scoring the validation cases", 1, 1))
    write_csv(space.scores, rows, overwrite=True)
    examples = _examples(run, best, rows, cached, truths, precision=precision, engine=engine)
    details = {
        "training cases": str(len(split.train)),
        "validation cases": f"{len(split.val)} ({split.reason})",
        "steps": str(progress.steps),
        "seconds": f"{progress.seconds:.0f}",
        "precision": precision.reason,
        "machine": describe_machine(run.device).accelerator or describe_machine(run.device).processor,
        "versions": f"uvea {plan.uvea}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    _report(run, rows, history=progress.history, examples=examples, details=details, cases=len(split.val))
    return rows


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _kept_precision(packed: Packed | None, device: torch.device) -> Precision | None:
    """The precision that a run was begun in: measured again, it might come out otherwise, and so would the weights."""
    if packed is None:
        return None
    try:
        kind, values = json.loads(packed[1]["precision"])
        return Precision(**values) if kind == device.type else None
    except (KeyError, ValueError, TypeError):
        return None


def _cache(run: Run, names: Sequence[str]) -> dict[str, TrainingCase]:
    """Read and prepare all cases; in files where memory is short."""
    plan = run.plan
    grid = plan.fingerprint.shape_median
    size = len(names) * prod(grid) * (4 * plan.channels + 2)
    free = describe_machine().memory_bytes
    folder = run.space.cache if size > CACHE_SHARE * free else None

    def prepare(name: str) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        case = run.cases[name]
        assert case.mask is not None
        image = read_image(case, axes=run.options.axes)
        mask = read_mask(case.mask, axes=run.options.axes)
        return prepare_image(image, plan, where=str(case.images[0])), prepare_mask(
            mask, plan, where=str(case.mask), like=image
        )

    cases = cache_cases(
        names,
        prepare,
        classes=plan.classes,
        folder=folder,
        workers=os.cpu_count() or 1,
        advance=lambda done, total: run.listen(Told("preparing the images", done, total)),
    )
    return {case.name: case for case in cases}


def _as_trained(case: TrainingCase, plan: Plan) -> list[TrainingCase]:
    return slices_of(case, plan.classes) if case.labels.ndim > plan.dims else [case]


def _steps(plan: Plan, training: Sequence[TrainingCase]) -> int | None:
    if plan.epochs is None:
        return plan.steps
    patches: int = sum(
        prod(ceil(n / p) for n, p in zip(case.labels.shape, plan.patch, strict=True)) for case in training
    )
    return max(1, round(plan.epochs * patches / plan.batch))


def _optimizer(network: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    # Norms and biases have few weights and no need to be small.
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    kept = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True)


def _learning_rate(plan: Plan, step: int, steps: int | None) -> float:
    """Rises over `warmup_steps`, falls to zero at the end; until minutes have become steps it only rises."""
    if steps is None:
        return plan.learning_rate * min(1.0, (step + 1) / max(plan.warmup_steps, 1))
    rise = min(1.0, (step + 1) / max(1, min(plan.warmup_steps, steps // 5)))
    return plan.learning_rate * rise * Schedule(warmup=0.0, shape=plan.schedule).value(step, steps)


def _loss(plan: Plan) -> Callable[[Tensor, Tensor], Tensor]:
    plain = build_loss(plan.loss, class_weights=plan.class_weights)
    loss = deep(plain) if plan.deep_supervision else plain
    if not plan.border_weight:
        return loss

    def with_borders(logits: Tensor, labels: Tensor) -> Tensor:
        pieces = labels.cpu().numpy()
        weights = np.stack([_border_weights(piece, plan.border_weight) for piece in pieces])
        return loss(logits, labels, weights=torch.from_numpy(weights).to(labels.device))

    return with_borders


def _border_weights(labels: NDArray[np.int64], w0: float) -> NDArray[np.float32]:
    """Weights of one patch; connected pieces of the foreground are taken for objects."""
    numbers, _ = ndimage.label(labels > 0)
    return border_weights(np.where(labels < 0, -1, numbers), w0=w0)


def _batches(
    training: Sequence[TrainingCase], plan: Plan, precision: Precision, device: torch.device
) -> Callable[[int, int | None], tuple[Tensor, Tensor]]:
    draw = sampler(training, plan.patch, plan.batch, foreground=plan.foreground, seed=plan.seed)

    def chain_of(strength: float) -> Chain:
        return standard_chain(
            dims=plan.dims,
            strength=strength,
            chance=plan.augment_chance,
            mirror_axes=plan.mirror_axes,
            rotate90=plan.rotate90,
            spacing=plan.spacing or plan.fingerprint.spacing_median[-plan.dims :],
            colour=plan.colour,
            seed=plan.seed,
        )

    usual, light = chain_of(plan.augment), chain_of(0)

    def batch(step: int, steps: int | None) -> tuple[Tensor, Tensor]:
        images, labels = (torch.from_numpy(array).to(device, non_blocking=True) for array in draw(step))
        finishing = steps is not None and step >= (1 - plan.clean_finish) * steps
        images, labels = (light if finishing else usual)(images, labels, step=step)
        prepared = precision.prepare(images)
        assert isinstance(prepared, Tensor)
        return prepared, labels.long()

    return batch


class _Truths:
    """Masks of validation cases on their own grid, as classes; read again only where they were resampled."""

    def __init__(self, run: Run, cached: Mapping[str, TrainingCase]) -> None:
        self._run, self._cached = run, cached
        self._resampled = run.plan.spacing is not None
        self._kept: dict[str, NDArray[np.int16]] = {}

    def __getitem__(self, name: str) -> NDArray[np.int16]:
        if not self._resampled:
            return self._cached[name].labels
        if name not in self._kept:
            mask = self._run.cases[name].mask
            assert mask is not None
            self._kept[name] = encode_mask(
                read_mask(mask, axes=self._run.options.axes), self._run.plan.labels, where=str(mask)
            )
        return self._kept[name]


def _score(
    run: Run,
    weights: Mapping[str, Tensor],
    names: Sequence[str],
    cached: Mapping[str, TrainingCase],
    truths: _Truths,
    *,
    precision: Precision,
    engine: Engine,
) -> list[CaseScore]:
    """Predict whole images with the real prediction code and compare them with their masks."""
    fresh = build_network(run.plan)
    fresh.load_state_dict(weights)
    network = ready(fresh, precision, run.device)
    rows: list[CaseScore] = []
    for name in names:
        found = segment_prepared([network], cached[name].image, run.plan, engine=engine)
        truth = truths[name]
        labels = labels_of(to_grid(found, truth.shape))
        rows += score_case(name, truth, labels, names=run.plan.labels.names, group=run.cases[name].group)
    return rows


def _examples(
    run: Run,
    network: nn.Module,
    rows: Sequence[CaseScore],
    cached: Mapping[str, TrainingCase],
    truths: _Truths,
    *,
    precision: Precision,
    engine: Engine,
) -> list[Example]:
    """The worst, the best and evenly some between, each with its image as it was read."""
    dice: dict[str, dict[str, float]] = {}
    for row in rows:
        dice.setdefault(row.case, {})[row.class_name] = float(row["dice"] or 0.0)
    ranked = sorted(dice, key=lambda name: float(np.mean(list(dice[name].values()))))
    chosen = [ranked[i] for i in sorted({round(i) for i in np.linspace(0, len(ranked) - 1, min(SHOWN, len(ranked)))})]
    folded = ready(network, precision, run.device)
    shown = []
    for name in chosen:
        image: Image = read_image(run.cases[name], axes=run.options.axes)
        truth = truths[name]
        found = segment_prepared([folded], cached[name].image, run.plan, engine=engine)
        shown.append(
            Example(
                name=name,
                image=image.array,
                truth=truth,
                prediction=labels_of(to_grid(found, truth.shape)),
                scores=dice[name],
            )
        )
    return shown


def _report(
    run: Run,
    rows: Sequence[CaseScore],
    *,
    history: Sequence[Mapping[str, float]],
    examples: Sequence[Example],
    details: Mapping[str, str],
    cases: int,
) -> None:
    summary = summarise(rows, resamples=0)
    figures: dict[str, object] = {
        "validation Dice": f"{summary.dice.mean:.3f}",
        "validation IoU": f"{summary.foreground['iou'].mean:.3f}",
    }
    for one in summary.classes:
        figures[f"Dice of {one.class_name}"] = f"{one.metrics['dice'].mean:.3f}"
    figures["validation cases"] = str(cases)
    training_report(
        run.space.report,
        title=f"Training on {run.source}",
        summary=figures,
        plan_rows=run.plan.rows(),
        history=[{"step": h["step"], "loss": h["loss"], "val_dice": h["score"], "lr": h["lr"]} for h in history],
        examples=examples,
        scores=[
            {"case": r.case, "class": r.class_name, "dice": r["dice"], "iou": r["iou"], "flag": r.flag or ""}
            for r in rows
        ],
        findings=[(f.severity, f.problem, f.hint) for f in run.findings],
        classes=run.plan.labels.names,
        details=details,
        overwrite=True,
    )


def _teller(listen: Listener, label: str, at_start: Progress, ends: float | None) -> Callable[[Progress, float], None]:
    """Turn the loop's progress into events with the time that is left."""
    began, first = time.monotonic(), at_start.step

    def tell(progress: Progress, loss: float) -> None:
        figures = {"loss": loss}
        if progress.history:
            figures["val Dice"] = progress.history[-1]["score"]
        now = time.monotonic()
        if progress.steps is None:
            assert ends is not None
            left = max(0.0, ends - now)
            # How many steps there will be is not known yet.
            done = int(now - began)
            listen(Told(label, done, done + ceil(left), seconds_left=left, figures=figures))
            return
        each = (now - began) / max(progress.step - first, 1)
        left = each * (progress.steps - progress.step)
        listen(Told(label, progress.step, progress.steps, seconds_left=left, figures=figures))

    return tell


@contextmanager
def _graceful() -> Iterator[threading.Event]:
    """Let the first Ctrl-C, or a polite request to end, finish the step; the second ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            # None: it was set from outside of Python and cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
