"""Errors of every kind go from one process to another."""

import copy
import pickle

import pytest

import uvea.cli.commands  # noqa: F401  # has one of its own
from uvea.errors import UveaError
from uvea.training.loop import LossError
from uvea.workflows.evaluate import IncompleteError
from uvea.workflows.pipeline import PartlyDoneError


def kinds(base):
    """A class and all that is derived from it here."""
    below = [kind for derived in base.__subclasses__() for kind in kinds(derived)]
    return [kind for kind in (base, *below) if kind.__module__.startswith("uvea.")]


ASKED = {"problem": "image.tif is empty", "hint": "copy it again"}
MADE_WITH = {
    LossError: {"value": 1.0, "step": 7},
    IncompleteError: {**ASKED, "scores": ("of", "all others")},
    PartlyDoneError: {**ASKED, "written": ["a.tif"], "failures": [UveaError("x", hint="y")], "names": ["b"]},
}
"""What some are made with; all others with a problem and a hint."""


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", kinds(UveaError))
def test_every_error_can_be_pickled_and_copied(kind, again):
    """A pool of processes waits for ever for an error that cannot be unpickled."""
    error = kind(**MADE_WITH.get(kind, ASKED))
    made = again(error)
    assert type(made) is kind and str(made) == str(error)
    assert {name: str(value) for name, value in vars(made).items()} == {n: str(v) for n, v in vars(error).items()}


def test_all_kinds_of_errors_are_looked_at():
    """Those outside of errors.py as well."""
    assert {"OptionError", *(kind.__name__ for kind in MADE_WITH)} < {kind.__name__ for kind in kinds(UveaError)}
