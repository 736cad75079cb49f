"""A budget is said once."""

import numpy as np
import pytest

from uvea.errors import PlanError
from uvea.plan.budget import DEFAULT_MINUTES, Budget


def test_nothing_said_is_the_usual_time():
    """And no number of epochs or steps."""
    assert Budget() == Budget(minutes=DEFAULT_MINUTES)
    assert (Budget().epochs, Budget().steps) == (None, None)


def test_one_of_the_three_leaves_the_others_open():
    """Steps do not come with ten minutes."""
    assert (Budget(steps=5).minutes, Budget(steps=5).epochs) == (None, None)
    assert Budget(minutes=0.5).minutes == 0.5


def test_two_budgets_contradict_each_other():
    """Both are named, with the options to choose from."""
    with pytest.raises(PlanError, match=r"minutes 3 and steps 100\n.*one of --minutes, --epochs and --steps"):
        Budget(minutes=3, steps=100)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "trains nothing"), (-2, "trains nothing"), (float("nan"), "trains nothing"), (float("inf"), "never ends")],
)
def test_no_time_and_endless_time_are_refused(value, said):
    """Zero and infinity are no budgets, and which of them it is, is said."""
    with pytest.raises(PlanError, match=f"{said}\n.*--minutes 10"):
        Budget(minutes=value)


def test_numbers_of_any_type_become_plain_ones():
    """What a calculation gives is taken, also a whole number that is a float."""
    assert type(Budget(steps=np.int64(5)).steps) is int and type(Budget(minutes=np.float32(2)).minutes) is float
    assert Budget(epochs=3.0) == Budget(epochs=3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"minutes": "1"}, "minutes is '1', which is no number"),
        ({"steps": "2"}, "steps is '2', which is no whole number"),
        ({"epochs": 2.5}, "epochs is 2.5, which is no whole number"),
        ({"steps": float("inf")}, "steps is inf, which is no whole number"),
    ],
)
def test_what_is_no_number_is_refused(given, said):
    """Text and fractions of steps are named with what was said."""
    with pytest.raises(PlanError, match=said):
        Budget(**given)
