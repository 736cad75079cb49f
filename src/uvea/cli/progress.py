"""What long work shows while it runs: a bar on a terminal, plain log lines elsewhere.

All of it goes to stderr, so that stdout holds results only. Where stderr cannot be written to, the work goes on in
silence.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from uvea.cli import show
from uvea.errors import harmless
from uvea.workflows.events import Listener, Message, Progress

SECONDS_BETWEEN_LINES = 10.0
"""How often one task may write a log line: an hour of training stays under 400 lines."""


@contextmanager
def listening(*, quiet: bool = False, console: Console | None = None) -> Iterator[Listener]:
    """A listener that fits where the output goes; bars are removed at the end.

    Args:
        quiet: one log line at the end of each task and warnings, nothing else.
        console: where to write; stderr if none is given.
    """
    console = console or show.messages()
    if quiet or not console.is_terminal:
        yield Lines(console, seconds_between=float("inf") if quiet else SECONDS_BETWEEN_LINES, infos=not quiet)
        return
    with BarsListener(console) as listener:
        yield listener


class Lines:
    """Log lines, at most one per task in `seconds_between`, and one when a task ends."""

    def __init__(
        self,
        console: Console,
        *,
        seconds_between: float = SECONDS_BETWEEN_LINES,
        infos: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._seconds_between = seconds_between
        self._infos = infos
        self._clock = clock
        self._runs: dict[str, _Run] = {}

    def __call__(self, event: Message | Progress) -> None:
        """Write a line for the event, or nothing if one was written just now."""
        if isinstance(event, Message):
            if event.level == "warning":
                self._write(f"warning: {event.text}")
            elif self._infos:
                self._write(event.text)
            return
        now = self._clock()
        run = self._runs.get(event.task)
        if run is None or event.done < run.done:
            # A task that starts again, such as a validation in every epoch, keeps its last line's time:
            # its end is then no reason for a line of its own.
            run = _Run(started=now, last_line=run.last_line if run else now, ended_before=run is not None)
            self._runs[event.task] = run
        ends = event.done >= event.total and not run.ended
        due = now - run.last_line >= self._seconds_between
        if due or (ends and not run.ended_before):
            run.last_line = now
            self._write(line_of(event, seconds_left=_seconds_left(event, now - run.started)))
        run.done = event.done
        run.ended = run.ended or ends

    def _write(self, text: str) -> None:
        self._console.print(Text(harmless(text)), soft_wrap=True)


class _Run:
    """One run of a task from its first event to its last."""

    def __init__(self, *, started: float, last_line: float, ended_before: bool) -> None:
        self.started = started
        self.last_line = last_line
        self.ended_before = ended_before
        self.ended = False
        self.done = 0.0


class BarsListener:
    """One bar per task, with time left and the figures as they come; messages scroll above."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            # Where the terminal is narrow the bar gives way, and no figure goes to a line of its own.
            _TimeLeft(Column(no_wrap=True)),
            _Figures(Column(no_wrap=True)),
            console=console,
            transient=False,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "BarsListener":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, event: Message | Progress) -> None:
        """Move the bar of the task, or write the message above the bars."""
        if isinstance(event, Message):
            warns = event.level == "warning"
            said = harmless(event.text)
            text = Text(f"warning: {said}", style="yellow") if warns else Text(said)
            self._bars.console.print(text)
            return
        task = self._tasks.get(event.task)
        if task is None:
            task = self._tasks[event.task] = self._bars.add_task(event.task, total=event.total)
        elif event.done < self._bars.tasks[task].completed:
            self._bars.reset(task, total=event.total)
        self._bars.update(
            task,
            completed=event.done,
            total=event.total,
            seconds_left=event.seconds_left,
            figures=figures_text(event) or self._bars.tasks[task].fields.get("figures", ""),
        )


class _TimeLeft(ProgressColumn):
    """Time left while a task runs, time taken once it is done."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"{clock_text(task.finished_time or 0)} taken")
        left = task.fields.get("seconds_left")
        left = task.time_remaining if left is None else left
        return Text("" if left is None else f"{clock_text(left)} left")


class _Figures(ProgressColumn):
    """What is known by now: loss, validation Dice."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("figures", ""))


def line_of(event: Progress, *, seconds_left: float | None) -> str:
    """One log line: "training  120/400  30 %  2:31 left  loss 0.231  val Dice 0.912"."""
    parts = [event.task, f"{event.done:.6g}/{event.total:.6g}"]
    if event.total > 0:
        parts.append(f"{int(100 * event.done / event.total)} %")
    if seconds_left is not None and event.done < event.total:
        parts.append(f"{clock_text(seconds_left)} left")
    if figures := figures_text(event):
        parts.append(figures)
    return "  ".join(parts)


def figures_text(event: Progress) -> str:
    """The figures of an event, "loss 0.231  val Dice 0.912"; empty where there are none."""
    return "  ".join(f"{name} {value:.3f}" for name, value in event.figures.items())


def clock_text(seconds: float) -> str:
    """Minutes and seconds, "2:31"; with hours from one hour on, "1:02:31"."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _seconds_left(event: Progress, seconds_gone: float) -> float | None:
    if event.seconds_left is not None:
        return event.seconds_left
    if event.done <= 0:
        return None
    return seconds_gone * (event.total - event.done) / event.done
