"""Train the network of a dataset, or continue a training that stopped.

    check -> plan -> prepared cases -> patches -> augment -> loop -> model/

This file only puts the parts together; each part is a few lines away, in the folder its name
says. Read it top to bottom to see what a training is.
"""

import json
import platform
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from math import ceil, prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy import ndimage
from torch import Tensor, nn

from uvea.arrays.labels import classes_of
from uvea.augment.chain import standard_chain
from uvea.batches.ahead import Ahead
from uvea.batches.cache import cache_cases, slices_of
from uvea.batches.on_device import device_sampler, size_bytes
from uvea.batches.sampler import TrainingCase, patches, sampler
from uvea.datasets.case import DataOptions, whole_number
from uvea.datasets.discover import NO_OPTIONS
from uvea.datasets.names import listed
from uvea.datasets.split import Split
from uvea.datasets.survey import CaseFacts, read_image, read_mask
from uvea.errors import ModelError, PlanError, is_out_of_memory
from uvea.evaluation import CaseScore, summarise, write_csv
from uvea.models.build import build_network
from uvea.models.compiled import compiled
from uvea.models.device import Precision, describe_machine, find_device, keep_large_blocks, repeatable
from uvea.models.start import start_from
from uvea.models.unet import UNet, recompute
from uvea.models.weights import load_weights, save_weights, weights_hash
from uvea.objects.targets import targets
from uvea.plan.budget import Budget
from uvea.plan.plan import Plan
from uvea.plan.prepare import grid_of, prepare_image, prepare_mask
from uvea.training.average import Average
from uvea.training.checkpoint import Packed, pack, unfit, unpack
from uvea.training.loop import Hooks, LossError, Progress
from uvea.training.loop import train as run_loop
from uvea.training.losses import build_loss, deep, with_objects
from uvea.training.muon import Muon
from uvea.training.schedule import Schedule
from uvea.training.step import Batch, leaving
from uvea.training.weight_map import border_weights
from uvea.workflows.check import read_again
from uvea.workflows.crew import most_workers
from uvea.workflows.events import Listener, Message, silent
from uvea.workflows.events import Progress as Told
from uvea.workflows.interruption import graceful
from uvea.workflows.kept import Kept
from uvea.workflows.model import Model, choose, engine_for, load, ready
from uvea.workflows.objects import pooled
from uvea.workflows.plan import data_hash, split_hash
from uvea.workflows.plan import plan as make_plan
from uvea.workflows.postprocessing import Postprocessing
from uvea.workflows.run import Run, facts_of, grids_of
from uvea.workflows.validation import (
    Truths,
    cleaned_scores,
    cleaning_of,
    counted,
    examples_of,
    figure_text,
    origin,
    postprocessing_seconds,
    score_cases,
    trial_seconds,
    tuned,
    write_report,
)
from uvea.workflows.verify import file_hash, record, surroundings
from uvea.workflows.workspace import Workspace

WATCHED = 24
"""Validation cases that are scored during the training; all are at the end."""

ENDING_SECONDS = 4.0
"""Kept for writing the model and the report."""

CACHE_SHARE = 0.4
"""Prepared cases larger than this share of the free memory are kept in files."""

PREPARING = 6
"""Memory that is needed while a case is prepared, in its size when that is done: as read, as float32, resampled,
normalised, and what is on the way between these. Not measured."""

DEVICE_SHARE = 0.15
"""Prepared cases that take no more than this share of an accelerator's free memory are kept there."""

LOADERS = 8
"""Threads, at most, that prepare batches for a GPU where borders have to be found, which the processor does. Otherwise
one keeps up: where the network is on the processor, preparing takes 2 to 5 % of the work of a step."""

BATCHES_AHEAD = 2
"""Batches, at the least, that are prepared while the network works on another one."""

CHECKPOINT_SECONDS = 120.0
"""A state is kept at least so often, and once per epoch if that is sooner."""

SAVING_SHARE = 0.02
"""Where an epoch takes seconds, states are kept less often: saving takes no more than this share of the time."""

STATES = 4
"""A state has the size of so many sets of weights: weights, their average, and two moments of the optimizer."""

MOST_THREADS = 4096
"""Of torch, which no machine has."""

ATTEMPTS = 2
"""Steps that may be drawn anew after a loss that is no number, in one training."""

AFRESH = 2**32
"""Distance of the step whose batch takes the place of such a step: further than any training goes."""


_PRECISION = TypeAdapter(tuple[str, Precision])
"""A kind of device, and what was chosen for it."""

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


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
    allow_leak: bool = False,
    checkpoint_every: float | None = None,
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
        allow_leak: train also where groups or copies are on both sides of your own split; the report says so.
        checkpoint_every: seconds of work that a kill may cost at the most, and the step it hits. None: an epoch or
            two minutes, whichever is sooner; saving takes no more than 2 % of the time then.
        seed: of everything random.
        device: "cpu", "cuda" or "mps"; None takes the best there is.
        overwrite: whether a model in `out` may be replaced.
        listen: told what happens; see `uvea.workflows.events`.

    Returns:
        The trained model.

    Raises:
        UveaError: for anything you can mend: data, settings, files. Nothing is left half-written.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the state was saved: `resume` continues it.
    """
    began = time.monotonic()
    if checkpoint_every is not None and not checkpoint_every >= 0:
        raise PlanError(
            f"--checkpoint-every is {checkpoint_every:g} seconds", hint="use 0 or more, such as --checkpoint-every 60"
        )
    budget = Budget(minutes=minutes, epochs=epochs, steps=steps)
    seed = whole_number("seed", seed, kind=PlanError)
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
        allow_leak=allow_leak,
        seed=seed,
        device=device,
        listen=listen,
    )
    with torch.device("meta"):  # for its size alone
        space.check_space(_state_bytes(build_network(report.plan)))
    known = Kept(
        source=Path(source).resolve(),
        options=options,
        device=None if device is None else str(device),
        plan="",
        data=data_hash(report.check.survey),
        splits=report.splits,
        unopened=report.check.unopened,
        findings=tuple((f.severity, f.problem, f.hint) for f in report.findings),
        leaks=tuple(finding.problem for finding in report.leaks),
        checkpoint_every=checkpoint_every,
        begun_with=surroundings(find_device(device)),
    )
    known.text()  # what cannot be written is refused here, before an older model is removed
    space.claim(overwrite=overwrite)
    with space.locked():
        for finding in report.findings:
            listen(Message(f"{finding.problem} — {finding.hint}", "warning"))
        space.save_plan(report.plan)
        kept = known.model_copy(update={"plan": file_hash(space.plan)})
        run = Run(
            space=space,
            plan=report.plan,
            cases={case.name: case for case in report.check.dataset.cases},
            grids=grids_of(report.check.survey),
            facts=facts_of(report.check.survey),
            kept=kept,
            device=find_device(device),
            listen=listen,
        )
        kept.save(space.run_facts)
        return _train_parts(run, began=began)


def resume(out: str | Path, *, listen: Listener = silent) -> Model:
    """Continue a training that was interrupted, or return the model if it was done.

    Raises:
        ModelError: if there is nothing to resume, or the data changed since.
    """
    space = Workspace(Path(out))
    space.refuse_links()
    if not space.run.is_dir():
        Kept.load(space.run_facts)  # says that there is nothing to resume
    with space.locked():
        kept = Kept.load(space.run_facts)
        plan = space.load_plan()
        if file_hash(space.plan) != kept.plan:
            raise ModelError(
                f"{space.plan} changed since the training began, so it would not go on but become another",
                hint="put the old plan back, or train again with --overwrite and --set",
            )
        if not kept.source.exists():
            raise ModelError(
                f"the data of {out} is no longer at {kept.source}",
                hint="move it back there, or train again with --overwrite",
            )
        dataset, survey = read_again(
            kept.source,
            options=kept.options,
            splits=kept.splits,
            unopened=kept.unopened,
            orientation=plan.fingerprint.orientation,
            listen=listen,
        )
        if data_hash(survey) != kept.data:
            raise ModelError(
                f"the data in {kept.source} changed since {out} was started", hint="train again with --overwrite"
            )
        run = Run(
            space=space,
            plan=plan,
            cases={case.name: case for case in dataset.cases},
            grids=grids_of(survey),
            facts=facts_of(survey),
            kept=kept,
            device=find_device(kept.device),
            listen=listen,
        )
        _say_what_changed(run)
        with torch.random.fork_rng(devices=[]):  # a state has torch's random numbers, too
            return _train_parts(run, began=None)


def _say_what_changed(run: Run) -> None:
    here = surroundings(run.device)
    changed = [
        f"{name} {then}, now {here[name]}" for name, then in run.kept.begun_with.items() if then != here.get(name, then)
    ]
    if changed and run.space.unfinished():
        text = "so the weights will not be those of an unbroken training to the last bit"
        run.listen(Message(f"this training was begun with {'; '.join(changed)}, {text}", "warning"))


def _train_parts(run: Run, *, began: float | None) -> Model:
    """Train all networks; `began` is when the command did, None for one that goes on with what another one began."""
    keep_large_blocks()
    splits = run.kept.splits
    spaces = [run.space.fold(i) for i in range(1, len(splits) + 1)] if len(splits) > 1 else [run.space]
    rows: list[CaseScore] = []
    precisions: list[Precision] = []
    for number, (space, split) in enumerate(zip(spaces, splits, strict=True)):
        label = f"fold {number + 1} of {len(splits)}" if len(splits) > 1 else "training"
        budget_end = None
        if run.plan.minutes is not None:
            # What is left of the whole, shared evenly by the folds that are still to come.
            whole = 60 * run.plan.minutes
            left = whole * (1 - number / len(splits)) if began is None else began + whole - time.monotonic()
            budget_end = time.monotonic() + left / (len(splits) - number)
        same = repeatable(run.device) if run.plan.deterministic else nullcontext()
        try:
            with _room_for(run), same:
                found, precision = _train_one(replace(run, space=space), split, label=label, ends=budget_end)
                rows += found
                precisions.append(precision)
        finally:
            space.forget_cache()
    if len(splits) > 1:
        write_csv(run.space.scores, rows, overwrite=True)
        write_report(
            run,
            rows,
            history=[],
            examples=[],
            details={"folds": str(len(splits)), **origin(run)},
            cases=sum(len(s.val) for s in splits),
        )
    record(
        run.space,
        data=run.kept.data,
        split=split_hash(splits),
        leaks=run.kept.leaks,
        device=run.device,
        precision=[f"{one.dtype}{' channels-last' if one.channels_last else ''}" for one in precisions],
    )
    run.listen(
        Message(
            f"validation {figure_text(rows, run.plan)} over {counted(len({row.case for row in rows}), 'case')}; "
            f"the model is in {run.space.folder}"
        )
    )
    return load(run.space.folder, device=str(run.device))


@contextmanager
def _room_for(run: Run) -> Iterator[None]:
    """Inside of this block, no memory for anything but a step, which has ways out of its own, is an error of ours."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they keep everything alive that did not fit
        raise PlanError(
            f"there is not enough memory on {run.device} for this training",
            hint=f"close other programs and continue with `uvea train --resume {run.space.folder}`, "
            "or train again with --overwrite and a smaller --set batch=, patch= or width=",
        ) from None


def _train_one(run: Run, split: Split, *, label: str, ends: float | None) -> tuple[list[CaseScore], Precision]:
    """Train one network and score it on its validation cases; how it was trained."""
    plan, space, listen = run.plan, run.space, run.listen
    space.run.mkdir(parents=True, exist_ok=True)
    cached = _cache(run, [*split.train, *(name for name in split.val if name not in split.train)])
    training = [case for name in split.train for case in _as_trained(cached[name], plan)]

    network = build_network(plan)
    packed, trouble = space.load_checkpoint()
    if packed is None:
        start_from(network, plan)
    precision = _kept_precision(packed, run.device) or choose(plan, network, run.device, training=True)
    listen(Message(precision.reason))
    precision.use_threads()
    placed = precision.prepare(network.to(run.device))
    assert isinstance(placed, nn.Module)
    recorded = _can_be_recorded(placed, plan, run.device)
    forward = compiled(placed) if plan.compiled else None
    optimizer = optimizer_of(placed, plan, precision, recorded=recorded)
    average = Average(placed, plan.ema) if plan.ema else None
    space.check_space(_state_bytes(placed))
    progress = Progress(steps=_steps(plan, training))
    if packed is not None:
        progress = unpack(packed, placed, optimizer, average)
        ends = None if ends is None else ends - progress.seconds
        listen(Message(f"{label} continues after step {progress.step}"))
    if trouble:
        listen(Message(trouble, "warning"))
    resumed = progress.steps is not None

    engine = engine_for(precision, run.device)
    truths = Truths(run, cached)
    watched = split.val if len(split.val) <= WATCHED else split.val[:: ceil(len(split.val) / WATCHED)]
    scoring_seconds, dice = [0.0], [0.0]
    decoding = Postprocessing(decoding=plan.decoding)
    trial = trial_seconds(split.val, truths, plan) if ends is not None else 0.0

    epoch = max(1, ceil(_patches(training, plan) / plan.batch))
    pace = _Due(run.kept.checkpoint_every, epoch=epoch)

    def current() -> dict[str, Tensor]:
        return average.weights_of() if average else placed.state_dict()

    def validate() -> float:
        start = time.monotonic()
        rows = score_cases(
            run, current(), watched, cached, truths, precision=precision, engine=stoppable, after=decoding
        )
        scoring_seconds[0] = (time.monotonic() - start) / len(watched)
        summary = summarise(rows, resamples=0)
        dice[0] = summary.dice.mean
        return pooled(summary, "mean_ap") if plan.task == "objects" else dice[0]

    def seconds_left() -> float:
        assert ends is not None
        behind = postprocessing_seconds(split.val, truths, plan, trial=trial, folds=len(run.kept.splits))
        return ends - time.monotonic() - ENDING_SECONDS - scoring_seconds[0] * len(split.val) - behind

    def save(progress: Progress, is_best: bool) -> None:
        # The checkpoint last: whatever ends the process in between, it never knows of weights that are not there.
        start = time.monotonic()
        if is_best:
            save_weights(space.weights, current())
        space.save_history(progress.history, objects=plan.task == "objects")
        tensors, words = pack(placed, optimizer, average, progress)
        space.save_checkpoint((tensors, {**words, "precision": json.dumps([run.device.type, asdict(precision)])}))
        pace.saved(progress.step, seconds=time.monotonic() - start)

    with graceful() as asked:

        def checked() -> AbstractContextManager[object]:
            asked.check()  # before every tile of a validation
            return engine.autocast()

        stoppable = replace(engine, autocast=checked)
        loaders = _loaders(plan, run.device)
        if packed is None:
            save(progress, False)  # a full disk is met before the work, and there is always a state to go back to
        ended = False
        raised: list[Exception] = []
        validation_seconds: float | None = None
        while not ended:
            make = _batches(training, plan, precision, run.device, redrawn=progress.redrawn)
            try:
                with (
                    Ahead(make, device=run.device, threads=loaders, depth=max(BATCHES_AHEAD, loaders)) as batch,
                    nullcontext() if recorded or plan.compiled else leaving(placed, lambda: bool(asked)),
                ):
                    hooks = Hooks(
                        batch=batch,
                        loss=_loss(plan),
                        learning_rate=partial(_learning_rate, plan),
                        after_step=(lambda: average.update(placed)) if average else (lambda: None),
                        validate=validate,
                        besides=lambda: {"dice": dice[0]} if plan.task == "objects" else {},
                        save=save,
                        listen=_keeping(_teller(listen, label, progress, ends), raised),
                        stop=lambda: bool(asked or raised),
                        keep=pace.due,
                        spare=partial(_spare, placed, listen),
                        forward=forward,
                        recording=(lambda text: listen(Message(text, "warning"))) if recorded else None,
                    )
                    try:
                        progress = run_loop(
                            placed,
                            optimizer,
                            hooks,
                            progress=progress,
                            seconds_left=seconds_left if ends is not None else None,
                            autocast=engine.autocast,
                            clip=plan.clip,
                            validation_seconds=validation_seconds,
                        )
                    finally:
                        if raised:
                            raise raised[0]
                ended = True
            except LossError as error:
                packed, trouble = space.load_checkpoint()
                assert packed is not None
                if trouble:
                    listen(Message(trouble, "warning"))
                good = unpack(packed, placed, optimizer, average)
                progress = _go_back(run, training, error, replace(good, redrawn=progress.redrawn))
                if not resumed:
                    validation_seconds = scoring_seconds[0] * len(watched)
        asked.check()
    save_weights(space.last, current())
    if not space.weights.exists():
        save_weights(space.weights, current())
    best = build_network(plan)
    load_weights(space.weights, best)
    listen(Told("scoring the validation cases", 0, 1))
    score = partial(score_cases, run, best.state_dict(), split.val, cached, truths, precision=precision, engine=engine)
    if plan.task == "objects":
        folded = ready(best, precision, run.device)
        after, maps = tuned(run, folded, split.val, cached, truths, engine=engine)
        rows = score(after=after, known=maps)
        del maps
    else:
        found: dict[str, NDArray[np.int16]] = {}
        rows = score(labels=found)
        after = cleaning_of(run, found, truths)
        if after.cleaning:
            rows = cleaned_scores(run, found, truths, after)
        del found
    after.save(space.postprocessing)
    listen(Told("scoring the validation cases", 1, 1))
    write_csv(space.scores, rows, overwrite=True)
    examples = examples_of(run, best, rows, cached, truths, precision=precision, engine=engine, after=after)
    hashes = {name: weights_hash(weights) for name, weights in (("weights", best), ("last weights", current()))}
    details = {
        "training cases": str(len(split.train)),
        "validation cases": f"{len(split.val)} ({split.reason})",
        "steps": str(progress.steps),
        "seconds": f"{progress.seconds:.0f}",
        "precision": precision.reason,
        "after the network": after.reason,
        "machine": describe_machine(run.device).accelerator or describe_machine(run.device).processor,
        "versions": f"uvea {plan.uvea}, torch {torch.__version__}, Python {platform.python_version()}",
        **hashes,
        **origin(run),
    }
    write_report(
        run, rows, history=progress.history, examples=examples, details=details, cases=len(split.val), after=after
    )
    return rows, precision


def _state_bytes(network: nn.Module) -> int:
    weights: int = sum(tensor.nbytes for tensor in network.state_dict().values())
    return STATES * weights


def _kept_precision(packed: Packed | None, device: torch.device) -> Precision | None:
    """The precision that a run was begun in: measured again, it might come out otherwise, and so would the weights.

    Raises:
        ModelError: if the state says something else there.
    """
    if packed is None or "precision" not in packed[1]:
        return None
    try:
        kind, precision = _PRECISION.validate_json(packed[1]["precision"], strict=True)
    except ValidationError as error:
        raise unfit(f"its precision: {error.errors()[0]['msg']}") from None
    if precision.threads is not None and not 1 <= precision.threads <= MOST_THREADS:
        raise unfit(f"its precision has {precision.threads} threads")
    return precision if kind == device.type else None


def _cache(run: Run, names: Sequence[str]) -> dict[str, TrainingCase]:
    """Read and prepare all cases; in files where memory is short."""
    plan, machine = run.plan, describe_machine()
    sizes = [_prepared_bytes(run.facts[name], plan) for name in names]
    folder = run.space.cache if sum(sizes) > CACHE_SHARE * machine.memory_bytes else None

    def prepare(name: str) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
        case = run.cases[name]
        assert case.mask is not None
        turn = run.facts[name].turn
        image = turn.image(read_image(case, axes=run.kept.options.axes, max_pixels=run.kept.options.max_pixels))
        mask = turn.mask(read_mask(case.mask, axes=run.kept.options.axes, max_pixels=run.kept.options.max_pixels))
        return prepare_image(image, plan, where=str(case.images[0])), prepare_mask(
            mask, plan, where=str(case.mask), like=image
        )

    cases = cache_cases(
        names,
        prepare,
        classes=plan.classes,
        folder=folder,
        workers=most_workers(len(names), workers=machine.cores, bytes_each=PREPARING * max(sizes)),
        advance=lambda done, total: run.listen(Told("preparing the images", done, total)),
    )
    return {case.name: case for case in cases}


def _prepared_bytes(fact: CaseFacts, plan: Plan) -> int:
    """What image and labels of a case take once they are prepared."""
    if len(fact.axes) < plan.dims:
        return 0  # refused when it is read
    return prod(grid_of(fact, plan)) * (4 * plan.channels + (4 if plan.task == "objects" else 2))


def _as_trained(case: TrainingCase, plan: Plan) -> list[TrainingCase]:
    return slices_of(case, plan.classes) if case.labels.ndim > plan.dims else [case]


def _steps(plan: Plan, training: Sequence[TrainingCase]) -> int | None:
    if plan.epochs is None:
        return plan.steps
    return round(plan.epochs * max(1.0, _patches(training, plan) / plan.batch))


def _patches(training: Sequence[TrainingCase], plan: Plan) -> int:
    """Those that cover all training images once."""
    return sum(prod(ceil(n / p) for n, p in zip(case.labels.shape, plan.patch, strict=True)) for case in training)


class _Due:
    """When a state is due. It follows the clock, which changes what is kept and never what is trained."""

    def __init__(self, every: float | None, *, epoch: int) -> None:
        self._every, self._epoch = every, epoch
        self._step, self._time, self._cost = 0, time.monotonic(), 0.0

    def saved(self, step: int, *, seconds: float) -> None:
        """A state was kept, which took so long."""
        self._step, self._time, self._cost = step, time.monotonic(), seconds

    def due(self, progress: Progress) -> bool:
        """Whether the next one should be kept now."""
        waited = time.monotonic() - self._time
        if self._every is not None:
            return waited >= self._every
        if waited >= CHECKPOINT_SECONDS:
            return True
        return progress.step - self._step >= self._epoch and waited * SAVING_SHARE >= self._cost


def _go_back(run: Run, training: Sequence[TrainingCase], error: LossError, good: Progress) -> Progress:
    """Let the step that failed take another batch; the steps before it are done again as they were.

    Which batch that is follows from the step and the number of failures, and every state before the failure leads to
    it, so it does not matter when the last one was saved.

    Raises:
        ModelError: when that has been tried often enough.
    """
    plan = run.plan
    choose = patches(training, plan.patch, plan.batch, foreground=plan.foreground, seed=plan.seed)
    names = sorted({training[index].name for index, _ in choose(_drawn(error.step, good.redrawn))})
    where = f"{error.problem}, on {listed(names, limit=8)}"
    if len(good.redrawn) >= ATTEMPTS:
        raise ModelError(
            f"{where}, and {ATTEMPTS} other batches did not help; {run.space.checkpoint} has the state of step "
            f"{good.step}, before it",
            hint=f"look at these images, or train again with --overwrite and {error.hint.removeprefix('train with ')}",
        ) from None
    run.listen(
        Message(f"{where}; going on from step {good.step}, with another batch for step {error.step + 1}", "warning")
    )
    return replace(good, redrawn=[*good.redrawn, error.step])


def _drawn(step: int, redrawn: Sequence[int]) -> int:
    """The step whose batch is taken at a step: itself, unless its loss was no number."""
    return step + AFRESH * redrawn.count(step)


def _can_be_recorded(network: nn.Module, plan: Plan, device: torch.device) -> bool:
    """Whether steps may run as a CUDA graph: nothing in them is random, and the optimizer works on the device."""
    random = any(isinstance(part, _DROPOUT) and part.p > 0 for part in network.modules())
    # A resumed training takes its first steps one kernel after the other, which may round otherwise.
    return device.type == "cuda" and plan.optimizer in ("muon", "adamw") and not random and not plan.deterministic


def optimizer_of(
    network: nn.Module, plan: Plan, precision: Precision, *, recorded: bool = False
) -> torch.optim.Optimizer:
    """The optimizer of a plan; one that is recorded as a CUDA graph reads its rate from the device."""
    device = next(network.parameters()).device
    rate = torch.tensor(plan.learning_rate, device=device) if recorded else plan.learning_rate
    if plan.optimizer == "muon":
        heads = list(network.heads) if isinstance(network, UNet) else []
        dtype = torch.bfloat16 if precision.dtype == "bfloat16" else torch.float32
        decay = plan.weight_decay
        return Muon(network, lr=rate, weight_decay=decay, heads=heads, dtype=dtype, capturable=recorded)
    # Norms and biases have few weights and no need to be small.
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    kept = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=recorded)


def _spare(network: nn.Module, listen: Listener) -> bool:
    """Have the network need less memory, and say so; whether it could."""
    if not recompute(network):
        return False
    text = "there is no memory for a step: from now on less is kept and more computed again, with the same result"
    listen(Message(text, "warning"))
    return True


def _learning_rate(plan: Plan, step: int, steps: int | None) -> float:
    """Rises over `warmup_steps`, falls to zero at the end; until minutes have become steps it only rises."""
    if steps is None:
        return plan.learning_rate * min(1.0, (step + 1) / max(plan.warmup_steps, 1))
    rise = min(1.0, (step + 1) / max(1, min(plan.warmup_steps, steps // 5)))
    return plan.learning_rate * rise * Schedule(warmup=0.0, shape=plan.schedule).value(step, steps)


def _loss(plan: Plan) -> Callable[..., Tensor]:
    """A function of logits, labels or targets of objects and, where the plan has border weights, those."""
    plain = build_loss(plan.loss, class_weights=plan.class_weights)
    if plan.task == "objects":
        plain = with_objects(plain)
    loss = deep(plain) if plan.deep_supervision else plain

    def cost(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        return loss(logits, labels, weights=weights)

    return cost


def _border_weights(labels: NDArray[np.int64], w0: float) -> NDArray[np.float32]:
    """Weights of one patch; connected pieces of the foreground are taken for objects."""
    numbers, _ = ndimage.label(labels > 0)
    return border_weights(np.where(labels < 0, -1, numbers), w0=w0)


def _learnt(ids: NDArray[np.integer], classes: int, spacing: Sequence[float]) -> NDArray[np.float32]:
    """What is learnt of the objects in one patch: class, border and centre, (3, ...)."""
    maps = targets(ids, spacing=spacing)
    maps[0] = classes_of(ids, classes)
    return maps


def _batches(
    training: Sequence[TrainingCase], plan: Plan, precision: Precision, device: torch.device, *, redrawn: Sequence[int]
) -> Callable[[int, int | None], Batch]:
    draw = _drawer(training, plan, device)
    spacing = plan.spacing or plan.fingerprint.spacing_median[-plan.dims :]

    augmented = standard_chain(
        dims=plan.dims,
        strength=plan.augment,
        chance=plan.augment_chance,
        mirror_axes=plan.mirror_axes,
        rotation=plan.rotation,
        rotate90=plan.rotate90,
        spacing=spacing,
        colour=plan.colour,
        seed=plan.seed,
    )

    def batch(step: int, steps: int | None) -> Batch:
        drawn = _drawn(step, redrawn)
        images, labels = draw(drawn)
        # Not mirrored either: where outlines were drawn half a pixel beside the edges, that can be learnt only so.
        if steps is None or step < (1 - plan.clean_finish) * steps:
            images, labels = augmented(images, labels, step=drawn)
        prepared = precision.prepare(images)
        assert isinstance(prepared, Tensor)
        if plan.task == "objects":
            learnt = np.stack([_learnt(piece, plan.classes, spacing) for piece in labels.cpu().numpy()])
            return prepared, torch.from_numpy(learnt).to(device)
        labels = labels.long()
        if not plan.border_weight:
            return prepared, labels
        weights = np.stack([_border_weights(piece, plan.border_weight) for piece in labels.cpu().numpy()])
        return prepared, labels, torch.from_numpy(weights).to(device)

    return batch


def _loaders(plan: Plan, device: torch.device) -> int:
    if device.type == "cpu" or not (plan.task == "objects" or plan.border_weight):
        return 1
    return min(LOADERS, max(1, describe_machine().cores - 1))


def _drawer(
    training: Sequence[TrainingCase], plan: Plan, device: torch.device
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Patches on the device: cut there where the cases fit into its memory, else cut here and moved."""
    room = describe_machine(device).accelerator_memory_bytes or 0
    if device.type == "cuda" and size_bytes(training) <= DEVICE_SHARE * room:
        return device_sampler(
            training, plan.patch, plan.batch, foreground=plan.foreground, seed=plan.seed, device=device
        )
    cut = sampler(training, plan.patch, plan.batch, foreground=plan.foreground, seed=plan.seed)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        images, labels = map(torch.from_numpy, cut(step))
        if device.type == "cuda":  # only pinned memory is moved beside other work
            images, labels = images.pin_memory(), labels.pin_memory()
        return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    return draw


def _keeping(tell: Callable[[Progress, float], None], raised: list[Exception]) -> Callable[[Progress, float], None]:
    """Tell, and keep what a listener raises, so that the loop can save before that ends the training."""

    def told(progress: Progress, loss: float) -> None:
        try:
            tell(progress, loss)
        except Exception as error:
            raised.append(error)

    return told


def _teller(listen: Listener, label: str, at_start: Progress, ends: float | None) -> Callable[[Progress, float], None]:
    """Turn the loop's progress into events with the time that is left."""
    began, first = time.monotonic(), at_start.step

    def tell(progress: Progress, loss: float) -> None:
        figures = {"loss": loss}
        if progress.history:
            figures["val mean AP" if "dice" in progress.history[-1] else "val Dice"] = progress.history[-1]["score"]
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
