"""The loop trains, counts, validates, saves and resumes; checked with a network of one weight."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from uvea.errors import ModelError
from uvea.training import loop
from uvea.training.loop import Hooks, Progress, train


def start():
    """A network that multiplies by zero."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    return network


def hooks_for(network, **changes):
    """Fit y = 2x, from batches that depend on the step; nothing is kept and nothing stops it."""

    def batch(step, steps):
        x = torch.tensor([[1.0 + step % 3], [2.0]])
        return x, 2 * x

    hooks = Hooks(
        batch=batch,
        loss=nn.functional.mse_loss,
        learning_rate=lambda step, steps: 0.05,
        after_step=lambda: None,
        validate=lambda: -abs(network.weight.item() - 2),
        save=lambda progress, best: None,
        listen=lambda progress, loss: None,
        stop=lambda: False,
    )
    return replace(hooks, **changes)


def run(network, progress, *, optimizer=None, seconds_left=None, validation_seconds=None, **changes):
    """Train with plain gradient descent."""
    return train(
        network,
        optimizer or torch.optim.SGD(network.parameters(), lr=0.05),
        hooks_for(network, **changes),
        progress=progress,
        seconds_left=seconds_left,
        autocast=nullcontext,
        clip=100.0,
        validation_seconds=validation_seconds,
    )


def test_the_loss_falls_and_every_validation_is_saved():
    """Twenty-four steps, a validation every second one, each the best so far; the weight becomes 2."""
    network, saved = start(), []
    progress = run(network, Progress(steps=24), save=lambda p, best: saved.append((p.step, best)))
    assert saved == [(step, True) for step in range(2, 25, 2)]
    losses = [row["loss"] for row in progress.history]
    assert losses == sorted(losses, reverse=True)
    assert network.weight.item() == pytest.approx(2, abs=1e-3)


def test_one_step_by_hand():
    """x 1 and 2, y 2 and 4, weight 0: loss (4 + 16) / 2 = 10, gradient -(4 + 16) / 2 = -10, weight 0.05 * 10."""
    network = start()
    progress = run(network, Progress(steps=1))
    assert network.weight.item() == pytest.approx(0.5)
    (row,) = progress.history
    assert row["loss"] == pytest.approx(10)
    assert (row["step"], row["score"], row["lr"]) == (1, pytest.approx(-1.5), 0.05)


def test_the_gradient_is_clipped_to_its_largest_norm():
    """The gradient of -10 above counts as -1."""
    network = start()
    train(
        network,
        torch.optim.SGD(network.parameters()),
        hooks_for(network),
        progress=Progress(steps=1),
        autocast=nullcontext,
        clip=1.0,
    )
    assert network.weight.item() == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 11, 12, 13, 25, 100])
def test_there_are_at_most_a_dozen_validations_and_the_last_is_at_the_end(steps):
    """Whatever the number of steps."""
    progress = run(start(), Progress(steps=steps))
    at = [row["step"] for row in progress.history]
    assert at[-1] == steps == progress.step
    assert 1 <= len(at) <= loop.INTERVALS + 1
    assert len(set(at)) == len(at)


def test_the_best_is_the_best_so_far():
    """Scores 0.5, 0.7, 0.6, 0.7: an equal later one counts as best, it was trained for longer."""
    scores, saved = iter([0.5, 0.7, 0.6, 0.7]), []
    progress = run(
        start(),
        Progress(steps=4),
        validate=lambda: next(scores),
        save=lambda p, best: saved.append((p.best_score, best)),
    )
    assert saved == [(0.5, True), (0.7, True), (0.7, False), (0.7, True)]
    assert progress.best_score == 0.7


def test_the_learning_rate_is_asked_for_each_step_and_used():
    """A rate of zero changes nothing; step and number of steps are told."""
    asked, network = [], start()

    def rate(step, steps):
        asked.append((step, steps))
        return 0.0

    run(network, Progress(steps=3), learning_rate=rate)
    assert asked == [(0, 3), (1, 3), (2, 3)]
    assert network.weight.item() == 0


def test_the_network_is_in_training_mode_after_a_validation():
    """A validation that forgets to switch back does no harm."""
    network, modes = start(), []

    def validate():
        network.eval()
        return 0.0

    run(network, Progress(steps=4), validate=validate, after_step=lambda: modes.append(network.training))
    assert modes == [True] * 4


class Clock:
    """Time that passes only when told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(loop.time, "perf_counter", lambda: self.now)


def timed_run(
    clock, *, minutes, step_seconds, validation_seconds=0.0, stop=lambda: False, progress=None, known_seconds=None
):
    """Train for a time on a clock of ours; `step_seconds` is a number, or a function of the time."""
    network = start()
    ends = clock.now + 60 * minutes

    def after_step():
        clock.now += step_seconds(clock.now) if callable(step_seconds) else step_seconds

    def validate():
        clock.now += validation_seconds
        return 0.0

    return run(
        network,
        progress or Progress(),
        seconds_left=lambda: ends - clock.now,
        validation_seconds=known_seconds,
        after_step=after_step,
        validate=validate,
        stop=stop,
    )


@pytest.mark.parametrize(("first", "later", "steps"), [(0.1, 0.2, 1800), (0.2, 0.1, 2700)])
def test_the_time_is_kept_on_a_machine_that_gets_slower_or_faster(monkeypatch, first, later, steps):
    """Five minutes, the first of them at one pace: 600 + 1200 steps, or 300 + 2400."""
    clock = Clock(monkeypatch)
    progress = timed_run(clock, minutes=5, step_seconds=lambda now: first if now < 60 else later)
    assert clock.now == pytest.approx(300, rel=0.03)
    assert progress.steps == pytest.approx(steps, rel=0.03)
    assert progress.history[-1]["step"] == progress.step == progress.steps


def test_the_time_is_kept_where_a_single_validation_fits(monkeypatch):
    """Validations of 30 s leave room for none but the last in five minutes; the steps are corrected in between."""
    clock = Clock(monkeypatch)
    progress = timed_run(clock, minutes=5, step_seconds=lambda now: 0.1 if now < 60 else 0.4, validation_seconds=30.0)
    assert len(progress.history) == 2
    assert clock.now == pytest.approx(300, rel=0.03)


def test_a_run_that_goes_back_to_a_state_of_its_own_still_keeps_the_time(monkeypatch):
    """A minute is left for a hundred times as many steps: it ends in time; a run that was resumed keeps its number."""
    for validation_seconds, seconds in ((2.0, 60), (None, 600 + 2)):
        clock = Clock(monkeypatch)
        progress = timed_run(
            clock,
            minutes=1,
            step_seconds=0.1,
            validation_seconds=2.0,
            progress=Progress(steps=6000, every=6000),
            known_seconds=validation_seconds,
        )
        assert progress.step == progress.steps
        assert clock.now == pytest.approx(seconds, abs=1)


def test_a_run_may_go_back_to_where_a_validation_is_due(monkeypatch):
    """No step was timed by then, so nothing is corrected before the first one."""
    clock = Clock(monkeypatch)
    progress = Progress(step=12, steps=24, every=12, counted=12, smooth=1.0)
    progress = timed_run(clock, minutes=1, step_seconds=0.1, progress=progress, known_seconds=0.0)
    assert progress.history[0]["step"] == 12
    assert clock.now == pytest.approx(60, abs=1)


def test_a_machine_that_stands_still_ends_the_training_at_the_next_validation(monkeypatch):
    """One step takes the whole minute and more: what was done is validated and kept."""
    clock = Clock(monkeypatch)
    progress = timed_run(clock, minutes=1, step_seconds=lambda now: 100 if 20 < now < 20.2 else 0.1)
    assert progress.step == progress.steps
    assert clock.now < 130
    assert progress.history[-1]["step"] == progress.step


def test_minutes_become_steps_and_the_time_is_kept(monkeypatch):
    """A tenth of a second per step, one minute: 600 steps, in 60 seconds."""
    clock = Clock(monkeypatch)
    progress = timed_run(clock, minutes=1, step_seconds=0.1)
    assert progress.steps == pytest.approx(600, abs=2)
    assert clock.now == pytest.approx(60, abs=0.3)
    assert progress.seconds == pytest.approx(60, abs=0.3)


def test_the_time_of_validations_is_part_of_the_time(monkeypatch):
    """A validation takes two seconds of sixty: there are few, and the end is not later."""
    clock = Clock(monkeypatch)
    progress = timed_run(clock, minutes=1, step_seconds=0.1, validation_seconds=2)
    assert clock.now <= 63
    assert clock.now >= 50
    assert 2 <= len(progress.history) <= 5


def test_slow_steps_do_not_eat_the_time(monkeypatch):
    """Steps of ten seconds in one minute: no more than the minute and one step."""
    clock = Clock(monkeypatch)
    progress = timed_run(clock, minutes=1, step_seconds=10)
    assert progress.step == progress.steps
    assert clock.now <= 70


def test_a_time_that_is_already_over_gives_a_model_all_the_same(monkeypatch):
    """One step more than none, and it is validated."""
    clock = Clock(monkeypatch)
    progress = timed_run(clock, minutes=-1, step_seconds=1)
    assert progress.step == progress.steps <= loop.PROBE_STEPS + 1
    assert progress.history


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training_by_name(value):
    """What was saved before stays as it was: nothing is saved after it."""
    saved = []

    def loss(logits, labels):
        cost = nn.functional.mse_loss(logits, labels)
        return cost * value if calls.append(0) or len(calls) > 5 else cost

    calls = []
    with pytest.raises(ModelError, match=r"the loss became (nan|inf) .*\n.*learning_rate"):
        run(start(), Progress(steps=24), loss=loss, save=lambda p, best: saved.append(p.step))
    assert saved == [2, 4]


def test_what_was_trained_is_kept_before_a_long_validation():
    """Where it is due: a kill in the validation then costs no step, and the run goes on with that validation."""
    events = []
    run(
        start(),
        Progress(steps=24),
        validate=lambda: events.append("validated") or 0.0,
        keep=lambda progress: progress.step == 4,
        save=lambda progress, best: events.append((progress.step, len(progress.history), progress.counted)),
    )
    assert events[:5] == ["validated", (2, 1, 0), (4, 1, 2), "validated", (4, 2, 0)]


def test_a_stop_never_saves_weights_that_are_no_numbers():
    """Stopped between the first bad loss and the next validation, the last good state must stay."""
    saved = []
    with pytest.raises(ModelError, match="the loss became nan"):
        run(
            start(),
            Progress(steps=240),
            loss=lambda logits, labels: logits.sum() * math.nan,
            save=lambda p, best: saved.append(p.step),
            stop=lambda: True,
        )
    assert saved == []


def test_a_stopped_run_saves_and_ends_where_an_unbroken_run_ends():
    """Stopped after 7 of 30 steps and continued: equal weights to the last bit, and as many validations."""
    unbroken, broken = start(), start()
    whole = run(unbroken, Progress(steps=30))

    saved, asked = [], []
    progress = run(
        broken,
        Progress(steps=30),
        stop=lambda: bool(asked.append(0)) or len(asked) == 7,
        save=lambda p, best: saved.append((p.step, best)),
    )
    assert saved == [(3, True), (6, True), (7, False)]
    assert progress.step == 7
    again = run(broken, progress)
    assert torch.equal(unbroken.weight, broken.weight)
    assert [row["step"] for row in again.history] == [row["step"] for row in whole.history]
    assert again.best_score == whole.best_score


def test_a_stop_while_steps_are_timed_leaves_the_number_open(monkeypatch):
    """The resumed run measures again, perhaps on another machine."""
    clock = Clock(monkeypatch)
    progress = timed_run(clock, minutes=1, step_seconds=0.1, stop=lambda: True)
    assert (progress.step, progress.steps) == (1, None)


def test_a_finished_run_does_nothing():
    """Neither a step nor a validation."""
    network, progress = start(), Progress(steps=3, every=1, step=3)
    run(network, progress, validate=lambda: pytest.fail("validated again"))
    assert network.weight.item() == 0


def test_the_running_loss_is_told_after_every_step():
    """The first is the loss of the first step, then it follows slowly."""
    told = []
    run(start(), Progress(steps=5), listen=lambda p, loss: told.append((p.step, loss)))
    assert [step for step, _ in told] == [1, 2, 3, 4, 5]
    assert told[0][1] == pytest.approx(10)
    assert told[1][1] == pytest.approx(10 * 0.95 + 0.05 * (2.25 * (4 + 4) / 2))
