"""How a command ends: every exception becomes a few plain lines and an exit code."""

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from uvea.cli import show
from uvea.errors import UveaError

P = ParamSpec("P")

HINTS_BY_ERRNO = {
    errno.EACCES: "give yourself permission to it, or use another place",
    errno.EPERM: "give yourself permission to it, or use another place",
    errno.ENOSPC: "free some space, or use another disk with --out",
    errno.EDQUOT: "free some space, or use another disk with --out",
    errno.EROFS: "use a place that can be written to",
    errno.ENAMETOOLONG: "use a shorter name",
}


class Interrupted(KeyboardInterrupt):
    """An interruption that knows how to go on; its text is the one line to show."""


def ended(command: Callable[P, None]) -> Callable[P, None]:
    """The same command, with its errors shown and turned into exit codes.

    With UVEA_DEBUG=1 in the environment the traceback is shown as well.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as interruption:
            _trace()
            _say(str(interruption) or "stopped")
            raise typer.Exit(130) from None
        except UveaError as error:
            _trace()
            show.user_error(error)
            raise typer.Exit(2) from None
        except MemoryError:
            _trace()
            show.error("there is not enough memory for this", hint="close other programs, or use smaller images")
            raise typer.Exit(2) from None
        except OSError as error:
            _trace()
            if error.filename is None and error.errno not in HINTS_BY_ERRNO:
                _report(error)
                raise typer.Exit(1) from None
            where = f"{error.filename}: " if error.filename is not None else ""
            hint = HINTS_BY_ERRNO.get(error.errno or 0, "check the path and the disk it is on")
            show.error(f"{where}{(error.strerror or str(error)).lower()}", hint=hint)
            raise typer.Exit(2) from None
        except Exception as error:
            _trace()
            _report(error)
            raise typer.Exit(1) from None

    return wrapped


def _report(error: Exception) -> None:
    said = " ".join(str(error).split())
    _say(
        f"uvea failed: {type(error).__name__}{f': {said}' if said else ''}. "
        "This is a fault of uvea: report it, with the output of the same command after setting UVEA_DEBUG=1"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _trace() -> None:
    if os.environ.get("UVEA_DEBUG"):
        traceback.print_exc()
