"""The training loop, in the order in which it happens.

The loop owns time: steps, validation, saving, stopping. What a batch is, what a loss is and
how good a network is are given to it as functions, so it needs to know none of them.
"""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from uvea.errors import ModelError
from uvea.training.step import Batch, Recorded, StepLeft, eager, work_of

PROBE_STEPS = 12
"""Steps, at the least, that are timed before minutes become a number of steps."""

PROBE_SHARE = 0.04
"""Share of the time, at the least, that is spent before: the first steps are slow while memory is first touched."""

INTERVALS = 12
"""Validations in a run, if they are cheap; there are fewer where they would take too long."""

CORRECTIONS = 48
"""How often in a run of so many minutes its number of steps is corrected, besides at validations."""

LOOK_EVERY = 50
"""Steps on a device after which their losses are looked at, where nothing else asks for it: looking waits for it."""

VALIDATION_SHARE = 0.08
"""Validation is made rarer until it takes no more than this share of the time."""


class LossError(ModelError):
    """A step whose loss, or gradient, is no number. What was saved before is good."""

    def __init__(self, value: float, step: int) -> None:
        super().__init__(
            f"the loss became {value} at step {step + 1}"
            if not math.isfinite(value)
            else f"the gradient became infinite at step {step + 1}",
            hint="train with a lower learning rate (--set learning_rate=0.0003) or --set precision=float32",
        )
        self.step = step
        """Counted from 0, as for `Hooks.batch`."""


@dataclass
class Progress:
    """Everything, besides weights, that a resumed run must know."""

    step: int = 0
    steps: int | None = None
    """In all; None until minutes have become steps."""

    every: int | None = None
    """Steps between two validations; None until known."""

    best_score: float = float("-inf")
    seconds: float = 0.0
    """Spent in training and validation, over all resumed parts."""

    history: list[dict[str, float]] = field(default_factory=list)
    """One row per validation: step, seconds, loss, score, lr."""

    loss_sum: float = 0.0
    """Of the steps since the last validation."""

    counted: int = 0
    """Those steps."""

    smooth: float | None = None
    """Running mean of the loss."""

    redrawn: list[int] = field(default_factory=list)
    """Steps whose loss was no number: they take another batch, one further for each time they are listed."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the loop calls and does not know."""

    batch: Callable[[int, int | None], Batch]
    """(step, steps or None) to a batch, augmented."""

    loss: Callable[..., Tensor]
    """Logits and what a batch has besides images, mostly labels, to a scalar."""

    learning_rate: Callable[[int, int | None], float]
    """(step, steps or None) to the learning rate."""

    after_step: Callable[[], None]
    """Called when the weights have changed: weight averaging."""

    validate: Callable[[], float]
    """To a score, larger is better."""

    besides: Callable[[], Mapping[str, float]] = dict
    """Other figures of the last validation, by name, for the history."""

    save: Callable[[Progress, bool], None]
    """Called after each validation with the progress, and whether it is the best so far; also when `keep` says so."""

    listen: Callable[[Progress, float], None]
    """Called after each step with the progress and a running mean of the loss; on a device, as last looked at."""

    stop: Callable[[], bool]
    """Asked after each step: whether to save and end now, to be continued later. See `step.leaving` for long steps."""

    keep: Callable[[Progress], bool] = lambda progress: False
    """Asked after each step without validation: whether to save now."""

    spare: Callable[[], bool] = lambda: False
    """Called where there is no memory for a step: makes the network need less, or says that it cannot."""

    forward: Callable[[Tensor], Any] | None = None
    """Runs the network in a step; None stands for the network itself."""

    recording: Callable[[str], None] | None = None
    """Given where steps are to be recorded as a CUDA graph, see `uvea.training.step`: told why it cannot be done."""


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    hooks: Hooks,
    *,
    progress: Progress,
    seconds_left: Callable[[], float] | None = None,
    autocast: Callable[[], AbstractContextManager[object]],
    clip: float,
    validation_seconds: float | None = None,
) -> Progress:
    """Train until `progress.steps` are done; a loaded `progress` is continued.

    Args:
        network: trained in place; (b, c, ...) to logits.
        optimizer: over the weights of the network.
        hooks: see `Hooks`.
        progress: with `steps` where the budget is a number of steps.
        seconds_left: where the budget is a time: what is left of it for training and validation.
            Asked when enough steps have been timed, which sets their number, and from then on regularly, which corrects
            it: validations may be few. A resumed run keeps the number it had.
        autocast: makes the context in which the network runs forward.
        clip: largest norm of the gradient.
        validation_seconds: where a run goes back to an earlier state of its own: what a validation took. The number
            of steps that it has by then is corrected on. None: the run is a new one, or a resumed one.

    Returns:
        The final progress.

    Raises:
        LossError: if the loss or the gradient stops being a number. Nothing is saved from that step on.
        KeyboardInterrupt: if a validation raises it. The progress is saved then, and the validation made when the run
            is continued.
    """
    started = time.perf_counter() - progress.seconds
    if progress.steps is not None and progress.every is None:
        progress.every = max(1, math.ceil(progress.steps / INTERVALS))
    corrected = seconds_left is not None and (progress.steps is None or validation_seconds is not None)
    probe_seconds = PROBE_SHARE * seconds_left() if seconds_left else 0.0
    probed: list[float] = []
    smooth = None if progress.smooth is None else torch.tensor(progress.smooth)
    total, pace, cost_of_validation = torch.tensor(progress.loss_sum), _Pace(), validation_seconds or 0.0
    seen: list[Tensor] = []
    told = progress.smooth
    work = work_of(
        network, optimizer, hooks.loss, autocast=autocast, clip=clip, spare=hooks.spare, forward=hooks.forward
    )
    take = (
        eager(work, optimizer) if hooks.recording is None else Recorded(work, optimizer, network, tell=hooks.recording)
    )

    def save(is_best: bool) -> None:
        _refuse_no_number(seen, progress.step)
        progress.loss_sum, progress.smooth = float(total), None if smooth is None else float(smooth)
        hooks.save(progress, is_best)

    pending = _unvalidated(progress)
    while pending or progress.steps is None or progress.step < progress.steps:
        before = time.perf_counter()
        if pending:
            rate = hooks.learning_rate(progress.step - 1, progress.steps)
        else:
            network.train()
            batch = hooks.batch(progress.step, progress.steps)
            rate = hooks.learning_rate(progress.step, progress.steps)
            try:
                found = take(batch, rate)
            except StepLeft:
                save(False)
                break
            hooks.after_step()
            progress.step += 1

            cost = found[0]
            seen.append(found)
            smooth = cost if smooth is None else smooth.to(cost.device) * 0.95 + cost * 0.05
            # Steps that are timed are waited for, else only their beginning would be timed.
            if cost.device.type == "cpu" or len(seen) >= LOOK_EVERY or told is None or progress.steps is None:
                _refuse_no_number(seen, progress.step)
                told = float(smooth)
            total = total.to(cost.device) + cost
            progress.counted += 1
            pace.count(time.perf_counter() - before, done=not seen)
            if progress.steps is None:
                probed.append(time.perf_counter() - before)
            progress.seconds = time.perf_counter() - started
        pending = False

        just_probed = progress.steps is None and _known(probed, probe_seconds)
        if just_probed or (progress.steps is not None and _due(progress)):
            _refuse_no_number(seen, progress.step)
            told = None if smooth is None else float(smooth)
            mean = float(total) / progress.counted
            # Validations may be long: what was trained must not wait for one to be kept.
            if not just_probed and hooks.keep(progress):
                save(False)
            began = time.perf_counter()
            try:
                score = hooks.validate()
            except KeyboardInterrupt:
                save(False)
                raise
            cost_of_validation = time.perf_counter() - began
            if just_probed:
                assert seconds_left is not None
                _fix_steps(progress, seconds_left(), statistics.median(probed[len(probed) // 2 :]), cost_of_validation)
            elif corrected and pace.known and seconds_left is not None:
                _correct_steps(progress, seconds_left(), pace.seconds(), cost_of_validation)
            total = torch.zeros(())
            progress.counted = 0
            is_best = score >= progress.best_score
            progress.best_score = max(score, progress.best_score)
            progress.seconds = time.perf_counter() - started
            progress.history.append(
                {
                    "step": progress.step,
                    "seconds": progress.seconds,
                    "loss": mean,
                    "score": score,
                    "lr": rate,
                    **hooks.besides(),
                }
            )
            save(is_best)
        else:
            if corrected and pace.known and seconds_left is not None and _between(progress):
                _correct_steps(progress, seconds_left(), pace.seconds(), cost_of_validation, least=1)
            if hooks.keep(progress):
                save(False)
        assert told is not None
        hooks.listen(progress, told)
        if hooks.stop() and progress.step != progress.steps:
            save(False)
            break
    return progress


def _unvalidated(progress: Progress) -> bool:
    """Whether the run was interrupted between a step and the validation after it."""
    return progress.counted > 0 and progress.steps is not None and _due(progress)


def _refuse_no_number(seen: list[Tensor], step: int) -> None:
    """Look at loss and norm of the gradient of the last steps, up to but not including `step`, and forget them."""
    if not seen:
        return
    rows = torch.stack(seen).tolist()
    first = step - len(seen)
    seen.clear()
    for index, (loss, norm) in enumerate(rows):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise LossError(loss, first + index)


def _due(progress: Progress) -> bool:
    assert progress.every is not None
    return progress.step % progress.every == 0 or progress.step == progress.steps


def _known(probed: list[float], probe_seconds: float) -> bool:
    """Whether enough steps were timed; where a step takes seconds, fewer have to do."""
    spent = sum(probed)
    return (len(probed) >= PROBE_STEPS and spent >= probe_seconds) or spent >= 4 * probe_seconds


def _fix_steps(progress: Progress, left: float, step_seconds: float, validation_seconds: float) -> None:
    """Turn the time that is left into steps and validations."""
    validations = min(INTERVALS, max(1, int(VALIDATION_SHARE * left / max(validation_seconds, 1e-3))))
    more = max(1, int((left - validations * validation_seconds) / step_seconds))
    progress.steps = progress.step + more
    progress.every = max(1, math.ceil(progress.steps / validations))


class _Pace:
    """Seconds of a step lately: the mean of the last hundred, so that one slow step does not count for many.

    Steps that a device has only begun count once it is through with them.
    """

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=100)
        self._begun: list[float] = []

    def count(self, seconds: float, *, done: bool) -> None:
        """A step took the caller so long; `done` where it waited for it and those before."""
        self._begun.append(seconds)
        if done:
            self._last.extend([statistics.fmean(self._begun)] * len(self._begun))
            self._begun.clear()

    @property
    def known(self) -> bool:
        """Whether a step was seen to its end."""
        return bool(self._last)

    def seconds(self) -> float:
        return statistics.fmean(self._last)


def _between(progress: Progress) -> bool:
    """Whether the number of steps is to be corrected here, where nothing is validated."""
    return progress.steps is not None and progress.step % max(1, progress.steps // CORRECTIONS) == 0


def _correct_steps(
    progress: Progress, left: float, step_seconds: float, validation_seconds: float, *, least: int = 0
) -> None:
    """Keep to the time when the machine turns out slower or faster than it was; what is done is not undone.

    At `least` so many steps are still made.
    """
    assert progress.steps is not None and progress.every is not None
    validations = math.ceil((progress.steps - progress.step) / progress.every)
    more = max(least, int((left - validations * validation_seconds) / step_seconds))
    if progress.step < progress.steps:
        progress.steps = progress.step + more
