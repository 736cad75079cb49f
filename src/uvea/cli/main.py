"""Where `uvea` starts, and how it ends.

    0    done
    1    a fault of uvea itself
    2    something the user can mend: a file, an option, a setting
    130  interrupted by Ctrl-C
    143  ended by SIGTERM

`outcome.py` turns exceptions into these codes; this file sets up the process around the commands.
"""

import logging
import os
import signal
import sys
import threading
import warnings
from types import FrameType

from uvea.cli.commands import app
from uvea.cli.outcome import code_of
from uvea.workflows.interruption import Terminated


def main() -> None:
    """Run the command line and exit."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    _keep_libraries_quiet()
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not valid text must not break the line that names it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except KeyboardInterrupt as interruption:
        sys.exit(code_of(interruption))
    finally:
        _flush()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _keep_libraries_quiet() -> None:
    """Hide what libraries warn and log; uvea's own warnings do not go that way."""
    if os.environ.get("UVEA_DEBUG") or sys.warnoptions:
        return
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())


def _flush() -> None:
    """Flush here, because Python would report a reader that left, such as `head`, which is no fault.

    A full disk was reported where the results were written, if it took some.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # closed by who started this, such as a scheduler
            continue
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
