"""How long to train, as the user says it: minutes, epochs or steps."""

from dataclasses import dataclass
from numbers import Real

from uvea.datasets.case import whole_number
from uvea.errors import PlanError

DEFAULT_MINUTES = 10.0

MOST = 1e9
"""Of any of the three: 1,900 years of minutes."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Exactly one of the three; `DEFAULT_MINUTES` where nothing is given."""

    minutes: float | None = None
    """Wall-clock time of the whole command, from reading the data to the written model."""

    epochs: int | None = None
    """Passes over the training images: as many patches as cover them once."""

    steps: int | None = None
    """Batches."""

    def __post_init__(self) -> None:
        given = {name: _number(name, value) for name, value in vars(self).items() if value is not None}
        if not given:
            object.__setattr__(self, "minutes", DEFAULT_MINUTES)
            return
        if len(given) > 1:
            both = " and ".join(f"{name} {value:g}" for name, value in given.items())
            raise PlanError(f"the budget is given twice: {both}", hint="give one of --minutes, --epochs and --steps")
        ((name, value),) = given.items()
        object.__setattr__(self, name, value)
        if not value > 0:
            raise PlanError(
                f"a budget of {value:g} {name} trains nothing", hint=f"use a number above 0, such as --{name} 10"
            )
        if value >= MOST:
            raise PlanError(
                f"a budget of {value:g} {name} never ends",
                hint=f"use less than {MOST:g}, such as --{name} 10; Ctrl-C stops a training, too",
            )


def _number(name: str, value: object) -> float:
    if name != "minutes":
        return whole_number(name, value, kind=PlanError)
    if isinstance(value, Real):
        return float(value)
    raise PlanError(f"minutes is {value!r}, which is no number", hint="give a number, such as minutes=10")
