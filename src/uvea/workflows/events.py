"""What long work says while it runs: messages and progress, as plain data.

A workflow is given a `Listener` and tells it what happens; whether that becomes a bar, a log line or
nothing is the listener's business, so workflows know no terminal.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Message:
    """One sentence for the user."""

    text: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True)
class Progress:
    """How far a task is. The last event of a task has `done` equal to `total`."""

    task: str
    """What is being done, in the words of the user, such as "training"; events of one task share it."""

    done: float
    total: float
    """In any unit: images, steps, seconds."""

    _: KW_ONLY

    seconds_left: float | None = None
    """None: the listener estimates it from the events so far."""

    figures: Mapping[str, float] = field(default_factory=dict)
    """What is known by now, such as {"loss": 0.31, "val Dice": 0.87}, in the order to show."""


Listener = Callable[[Message | Progress], None]


def silent(event: Message | Progress) -> None:
    """Ignore every event: the listener where nobody looks."""
