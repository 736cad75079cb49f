"""The schedule rises once, falls once, and ends at exactly zero."""

import pytest

from uvea.errors import PlanError
from uvea.training.schedule import Schedule

SHAPES = ["linear", "cosine", "poly"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3])
def test_it_ends_at_exactly_zero(shape, warmup):
    """Not nearly: the last weights are then the ones that were trained."""
    schedule = Schedule(warmup=warmup, shape=shape)
    assert schedule.at(1.0) == 0
    assert schedule.at(1.7) == 0
    assert schedule.value(7, 7) == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 19, 1000])
def test_every_step_counts_and_the_factor_rises_then_falls(shape, steps):
    """Factors of the steps taken lie in (0, 1], with one summit, which may be two steps wide."""
    schedule = Schedule(shape=shape)
    values = [schedule.value(step, steps) for step in range(steps + 1)]
    assert all(0 < value <= 1 for value in values[:-1])
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


def test_values_by_hand():
    """Warm-up 0.2: half way up at 0.1, the summit at 0.2, half of the fall at 0.6."""
    assert Schedule(warmup=0.2).at(0.0) == 0
    assert Schedule(warmup=0.2).at(0.1) == pytest.approx(0.5)
    assert Schedule(warmup=0.2).at(0.2) == pytest.approx(1.0)
    assert Schedule(warmup=0.2, shape="linear").at(0.6) == pytest.approx(0.5)
    assert Schedule(warmup=0.2, shape="cosine").at(0.6) == pytest.approx(0.5)
    assert Schedule(warmup=0.2, shape="poly").at(0.6) == pytest.approx(0.5**0.9)
    assert Schedule(warmup=0.0, shape="cosine").at(0.25) == pytest.approx(0.853553, abs=1e-6)


def test_a_warm_up_by_steps():
    """A fifth of ten steps: one half, one, then down."""
    values = [Schedule(warmup=0.2, shape="linear").value(step, 10) for step in (0, 1, 2, 6)]
    assert values == pytest.approx([0.5, 1.0, 1.0, 0.5])


@pytest.mark.parametrize("options", [{"warmup": 1.0}, {"warmup": -0.1}, {"shape": "step"}, {"power": 0.0}])
def test_what_is_out_of_range_is_refused(options):
    """A warm-up of one would never fall."""
    with pytest.raises(PlanError, match=str(next(iter(options.values())))):
        Schedule(**options)


def test_no_steps_are_refused():
    """Division by zero helps nobody."""
    with pytest.raises(PlanError, match="0 steps"):
        Schedule().value(0, 0)
