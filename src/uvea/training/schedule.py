"""The learning rate over the course of a training.

A pure function of progress, from 0 to 1, so that it does not matter whether the budget was given in minutes,
epochs or steps: the end is the end. It knows no optimizer and keeps no state; a resumed run needs nothing from it.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from uvea.errors import PlanError

Shape = Literal["linear", "cosine", "poly"]


@dataclass(frozen=True)
class Schedule:
    """Rise from 0 to 1 in a straight line, then fall to exactly 0.

    The values are factors: multiply them by the learning rate of the plan.
    """

    warmup: float = 0.05
    """Share of the training spent rising, 0 up to but not including 1."""

    shape: Shape = "poly"
    """How it falls: "linear", "cosine" (half a period) or "poly" (a straight line to the power 0.9)."""

    power: float = 0.9
    """Exponent of "poly", above zero; 0.9 as in nnU-Net."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.shape not in get_args(Shape):
            raise PlanError(f"no schedule called {self.shape!r}", hint=f"use one of {', '.join(get_args(Shape))}")
        if not 0 <= self.warmup < 1:
            raise PlanError(f"warm-up {self.warmup} is not a share of the training", hint="use 0 or more, below 1")
        if not 0 < self.power < math.inf:
            raise PlanError(f"power {self.power} is not above zero", hint="use a power such as 0.9")

    def at(self, progress: float) -> float:
        """The factor when `progress` of the training is done; progress beyond [0, 1] counts as its nearer end."""
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return progress / self.warmup
        left = (1 - progress) / (1 - self.warmup)
        match self.shape:
            case "linear":
                return left
            case "cosine":
                return (1 - math.cos(math.pi * left)) / 2
            case "poly":
                return float(left**self.power)

    def value(self, step: int, steps: int) -> float:
        """The factor for one step out of `steps`, counted from 0.

        Step 0 of a warm-up is above 0, so that no step is wasted; step `steps`, which is never taken, gives exactly 0.
        """
        if steps < 1:
            raise PlanError(f"a training of {steps} steps has no schedule", hint="train for at least 1 step")
        rising = self.warmup * steps
        if step < rising:
            return min((step + 1) / rising, 1.0)
        return self.at(step / steps)
