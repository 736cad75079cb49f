"""Progress: log lines at a bounded rate where there is no terminal, bars where there is one."""

import errno
import io
import sys

import pytest
from rich.console import Console

from uvea.cli.progress import BarsListener, Lines, clock_text, line_of, listening
from uvea.workflows.events import Message, Progress


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        """Seconds since the start."""
        return self.now


@pytest.fixture
def output():
    """What was written."""
    return io.StringIO()


@pytest.fixture
def clock():
    """A clock at zero."""
    return Clock()


@pytest.fixture
def lines(output, clock):
    """A listener that may write every ten seconds."""
    return Lines(Console(file=output), seconds_between=10, clock=clock)


def test_a_line_by_hand():
    """Task, count, share, time left and figures, in this order."""
    event = Progress("training", 120, 400, figures={"loss": 0.2314, "val Dice": 0.912})
    assert line_of(event, seconds_left=151) == "training  120/400  30 %  2:31 left  loss 0.231  val Dice 0.912"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (151, "2:31"), (3751, "1:02:31"), (-3, "0:00")]
)
def test_clock_text_by_hand(seconds, text):
    """Minutes are not padded, seconds are; hours come when there are any."""
    assert clock_text(seconds) == text


def test_a_thousand_events_in_a_minute_write_few_lines(lines, output, clock):
    """One line per ten seconds and one at the end."""
    for step in range(1, 1001):
        clock.now += 0.06
        lines(Progress("training", step, 1000))
    written = output.getvalue().splitlines()
    assert 6 <= len(written) <= 7
    assert written[-1] == "training  1000/1000  100 %"


def test_time_left_is_estimated_from_the_events(lines, output, clock):
    """A quarter took ten seconds: thirty are left."""
    lines(Progress("reading", 0, 100))
    clock.now = 10.0
    lines(Progress("reading", 25, 100))
    assert output.getvalue() == "reading  25/100  25 %  0:30 left\n"


def test_a_short_task_writes_one_line_at_its_end(lines, output):
    """Also when its last event comes twice."""
    for done in (1, 2, 3, 3):
        lines(Progress("reading", done, 3))
    assert output.getvalue() == "reading  3/3  100 %\n"


def test_a_task_that_runs_again_and_again_does_not_fill_the_log(lines, output, clock):
    """A validation in every epoch ends a hundred times in twenty seconds: three lines, not a hundred."""
    for _ in range(100):
        for done in (1, 2):
            clock.now += 0.1
            lines(Progress("validating", done, 2))
    assert len(output.getvalue().splitlines()) <= 3


def test_messages_are_written_and_warnings_say_so(lines, output):
    """Square brackets in a file name are no markup."""
    lines(Message("24 images in a[1]"))
    lines(Message("no GPU", level="warning"))
    assert output.getvalue() == "24 images in a[1]\nwarning: no GPU\n"


def test_quiet_leaves_ends_and_warnings(output):
    """No messages, no lines on the way."""
    with listening(quiet=True, console=Console(file=output, force_terminal=True, color_system=None)) as listen:
        listen(Message("24 images"))
        listen(Message("no GPU", level="warning"))
        listen(Progress("training", 1, 2))
        listen(Progress("training", 2, 2, figures={"loss": 0.5}))
    assert output.getvalue() == "warning: no GPU\ntraining  2/2  100 %  loss 0.500\n"


def test_a_terminal_gets_one_bar_per_task_with_figures(output):
    """The last frame holds both tasks, the figures and the time; the message stands above."""
    console = Console(file=output, force_terminal=True, width=120, color_system=None)
    with listening(console=console) as listen:
        listen(Progress("reading", 3, 3))
        listen(Message("24 images in a[1]"))
        listen(Progress("training", 1, 4, seconds_left=90, figures={"loss": 0.5}))
        listen(Progress("training", 2, 4, seconds_left=61))
    text = output.getvalue()
    assert "24 images in a[1]" in text
    last = text[text.rindex("reading") :]
    assert "100 %" in last and "taken" in last
    assert "training" in last and "50 %" in last and "1:01 left" in last and "loss 0.500" in last


def test_a_bar_of_80_columns_keeps_its_figures_on_one_line(output):
    """The longest task and the usual figures."""
    with listening(console=Console(file=output, force_terminal=True, width=80, color_system=None)) as listen:
        listen(Progress("scoring the validation cases", 1, 1))
        listen(Progress("fold 2 of 5", 1, 4, seconds_left=3000, figures={"loss": 1.349, "val Dice": 0.724}))
    text = output.getvalue()
    last = text[text.rindex("scoring") :].splitlines()
    assert last[0].startswith("scoring") and last[1].startswith("fold")
    assert "50:00 left" in last[1] and "val Dice 0.724" in last[1]


def test_a_bar_starts_again_with_its_task(output):
    """A second run of a task resets its bar instead of adding another."""
    listener = BarsListener(Console(file=output, force_terminal=True, width=120, color_system=None))
    with listener:
        for done in (1, 2, 1):
            listener(Progress("validating", done, 2))
    text = output.getvalue()
    assert "50 %" in text[text.rindex("validating") :]


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, fault, *, terminal):
        super().__init__()
        self.fault = fault
        self.isatty = lambda: terminal

    def write(self, text):
        """Fail as the system does."""
        raise self.fault


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("fault", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "hung up")])
def test_progress_that_cannot_be_written_does_not_end_the_work(monkeypatch, terminal, fault):
    """Lines and bars alike: the reader has left, the disk is full, the terminal is closed."""
    monkeypatch.setattr(sys, "stderr", Broken(fault, terminal=terminal))
    with listening() as listen:
        listen(Message("24 images"))
        listen(Progress("training", 1, 2))
        listen(Progress("training", 2, 2))
