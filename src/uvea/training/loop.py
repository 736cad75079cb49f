"""The training loop, in the order in which it happens.

The loop owns time: steps, validation, saving, stopping. What a batch is, what a loss is and
how good a network is are given to it as functions, so it needs to know none of them.
"""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from uvea.errors import ModelError

Batch = tuple[Tensor, Tensor]
"""Images (b, c, ...) float32 and labels (b, ...) integer, on the training device."""

PROBE_STEPS = 12
"""Steps, at the least, that are timed before minutes become a number of steps."""

PROBE_SHARE = 0.04
"""Share of the time, at the least, that is spent before: the first steps are slow while memory is first touched."""

INTERVALS = 12
"""Validations in a run, if they are cheap; there are fewer where they would take too long."""

VALIDATION_SHARE = 0.08
"""Validation is made rarer until it takes no more than this share of the time."""


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


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the loop calls and does not know."""

    batch: Callable[[int, int | None], Batch]
    """(step, steps or None) to a batch, augmented."""

    loss: Callable[[Any, Tensor], Tensor]
    """(logits, labels) to a scalar."""

    learning_rate: Callable[[int, int | None], float]
    """(step, steps or None) to the learning rate."""

    after_step: Callable[[], None]
    """Called when the weights have changed: weight averaging."""

    validate: Callable[[], float]
    """To a score, larger is better."""

    save: Callable[[Progress, bool], None]
    """Called after each validation with the progress, and whether it is the best so far."""

    listen: Callable[[Progress, float], None]
    """Called after each step with the progress and a running mean of the loss."""

    stop: Callable[[], bool]
    """Asked after each step: whether to save and end now, to be continued later."""


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    hooks: Hooks,
    *,
    progress: Progress,
    seconds_left: Callable[[], float] | None = None,
    autocast: Callable[[], AbstractContextManager[object]],
    clip: float,
) -> Progress:
    """Train until `progress.steps` are done; a loaded `progress` is continued.

    Args:
        network: trained in place; (b, c, ...) to logits.
        optimizer: over the weights of the network.
        hooks: see `Hooks`.
        progress: with `steps` where the budget is a number of steps.
        seconds_left: where the budget is a time: what is left of it for training and validation.
            Asked when enough steps have been timed, which sets their number, and at each validation, which corrects it.
            A resumed run keeps the number it had.
        autocast: makes the context in which the network runs forward.
        clip: largest norm of the gradient.

    Returns:
        The final progress.

    Raises:
        ModelError: if the loss stops being a number.
    """
    started = time.perf_counter() - progress.seconds
    if progress.steps is not None and progress.every is None:
        progress.every = max(1, math.ceil(progress.steps / INTERVALS))
    corrected = seconds_left is not None and progress.steps is None
    probe_seconds = PROBE_SHARE * seconds_left() if seconds_left else 0.0
    probed: list[float] = []
    smooth: Tensor | None = None
    total, counted, since = torch.zeros(()), 0, time.perf_counter()
    while progress.steps is None or progress.step < progress.steps:
        before = time.perf_counter()
        network.train()
        images, labels = hooks.batch(progress.step, progress.steps)
        rate = hooks.learning_rate(progress.step, progress.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with autocast():
            logits = network(images)
        cost = hooks.loss(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        cost.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        hooks.after_step()
        progress.step += 1

        cost = cost.detach()
        smooth = cost if smooth is None else smooth * 0.95 + cost * 0.05
        total, counted = total.to(cost.device) + cost, counted + 1
        if progress.steps is None:
            probed.append(time.perf_counter() - before)
        progress.seconds = time.perf_counter() - started

        just_probed = progress.steps is None and _known(probed, probe_seconds)
        if just_probed or (progress.steps is not None and _due(progress)):
            mean = float(total) / counted
            _refuse_no_number(mean, progress.step)
            began = time.perf_counter()
            score = hooks.validate()
            cost_of_validation = time.perf_counter() - began
            if just_probed:
                assert seconds_left is not None
                _fix_steps(progress, seconds_left(), statistics.median(probed[len(probed) // 2 :]), cost_of_validation)
            elif corrected and seconds_left is not None:
                _correct_steps(progress, seconds_left(), (began - since) / counted, cost_of_validation)
            total, counted, since = torch.zeros(()), 0, time.perf_counter()
            is_best = score >= progress.best_score
            progress.best_score = max(score, progress.best_score)
            progress.seconds = time.perf_counter() - started
            progress.history.append(
                {"step": progress.step, "seconds": progress.seconds, "loss": mean, "score": score, "lr": rate}
            )
            hooks.save(progress, is_best)
        hooks.listen(progress, float(smooth))
        if hooks.stop() and progress.step != progress.steps:
            _refuse_no_number(float(smooth), progress.step)
            hooks.save(progress, False)
            break
    return progress


def _refuse_no_number(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise ModelError(
            f"the loss became {loss} before step {step}",
            hint="train with a lower learning rate (--set learning_rate=0.0003) or --set precision=float32",
        )


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


def _correct_steps(progress: Progress, left: float, step_seconds: float, validation_seconds: float) -> None:
    """Keep to the time when the machine turns out slower or faster than it was; what is done is not undone."""
    assert progress.steps is not None and progress.every is not None
    validations = math.ceil((progress.steps - progress.step) / progress.every)
    more = max(0, int((left - validations * validation_seconds) / step_seconds))
    if progress.step < progress.steps:
        progress.steps = progress.step + more
