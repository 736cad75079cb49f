"""Commands run in this process, with workflows replaced by small fakes."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from uvea.cli.commands import app


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run `uvea` with the given words and give back exit code, stdout and stderr."""

    def run_with(*words: str) -> Result:
        return CliRunner().invoke(app, list(words), prog_name="uvea")

    return run_with


@pytest.fixture
def workflow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Replace a function of a workflow module: `workflow("train", train=fake)` gives the list of its calls."""

    def replace(module: str, **functions: Any) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        fake = ModuleType(f"uvea.workflows.{module}")
        for name, answer in functions.items():
            # A class, such as an error, stays what it is.
            setattr(fake, name, answer if isinstance(answer, type) else _recorder(name, answer, calls))
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
        return calls

    return replace


def _recorder(name: str, answer: Any, calls: list[dict[str, Any]]) -> Callable[..., Any]:
    def called(*args: Any, listen: Any, **kwargs: Any) -> Any:
        calls.append({"function": name, "args": args, **kwargs})
        if isinstance(answer, BaseException):
            raise answer
        return answer(listen) if callable(answer) else answer

    return called
