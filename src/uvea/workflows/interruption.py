"""Ctrl-C and SIGTERM as a question that long work asks when it suits it, instead of an exception anywhere.

    with graceful() as asked:
        ...                        # the first signal only sets `asked`
        asked.check()              # raises where stopping does no harm

The second signal ends the work at once.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, but sent by a scheduler or a system that shuts down; the exit code is 143."""


class Asked:
    """Whether somebody asked to stop, and how."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def check(self) -> None:
        """Raise the interruption that was asked for, if one was.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            Terminated: after SIGTERM.
        """
        if self.signal is not None:
            raise interruption(self.signal)


def interruption(number: int) -> KeyboardInterrupt:
    """The exception that stands for a signal."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def graceful() -> Iterator[Asked]:
    """Take SIGINT and SIGTERM as questions inside of this block; outside of the main thread nothing is changed."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise interruption(number)
        asked.signal = number

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            # None: it was set from outside of Python and cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
