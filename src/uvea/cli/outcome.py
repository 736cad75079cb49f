"""How a command ends: every exception becomes a few plain lines and an exit code."""

import errno
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ParamSpec

import typer
from rich.text import Text
from typer.core import TyperGroup

from uvea.cli import show
from uvea.errors import UveaError, harmless, is_out_of_memory
from uvea.workflows.interruption import Terminated

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

    def __init__(self, text: str, *, by: KeyboardInterrupt) -> None:
        super().__init__(text)
        self.code = code_of(by)


def code_of(interruption: KeyboardInterrupt) -> int:
    """The exit code that stands for the signal: 128 and its number, as shells have it."""
    if isinstance(interruption, Interrupted):
        return interruption.code
    return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)


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
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(_said(error)) from None

    return wrapped


def _said(error: BaseException) -> int:
    """Show what ended a command; the exit code that stands for it."""
    _trace()
    match error:
        case KeyboardInterrupt():
            _say(str(error) or "stopped")
            return code_of(error)
        case UveaError():
            show.user_error(error)
            return 2
        case _ if _is_short_of_memory(error):
            show.error(
                "there is not enough memory for this",
                hint="close other programs, use smaller images, or raise the limits of shell or scheduler (ulimit -a)",
            )
            return 2
        case OSError() if error.filename is not None or error.errno in HINTS_BY_ERRNO:
            where = f"{error.filename}: " if error.filename is not None else ""
            hint = HINTS_BY_ERRNO.get(error.errno or 0, "check the path and the disk it is on")
            show.error(f"{where}{(error.strerror or str(error)).lower()}", hint=hint)
            return 2
    _report(error)
    return 1


class Commands(TyperGroup):
    """All commands, for which a word that cannot be understood is an error like every other: two lines, code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run what was typed, as `TyperGroup.main`, and exit."""
        typed = args[0] if args else kwargs.get("args")
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except typer.Abort:
            code = 130
        except SystemExit as end:
            if not isinstance(end.__context__, BrokenPipeError):
                raise
            code = 0  # help whose reader left, which rich and click make an error of
        except OSError as error:
            # Help or the version; what a command writes is met where it ends.
            code = _said(show.unwritten(error))
        except UveaError as error:
            code = _said(error)
        except Exception as error:
            # The base of typer.BadParameter is public in no version of typer; this method is what its kinds share.
            if not hasattr(error, "format_message"):
                raise
            problem, hint = _misunderstood(error, sys.argv[1:] if typed is None else typed)
            show.error(problem, hint=hint)
            code = 2
        sys.exit(code if isinstance(code, int) else 0)


def _is_short_of_memory(error: BaseException) -> bool:
    """Whether there was no memory, also in the words of those who do not know that it was that."""
    words = ("error return without exception set", "failed to map segment", "can't start new thread")
    return is_out_of_memory(error) or (
        isinstance(error, SystemError | ImportError | RuntimeError) and any(word in str(error) for word in words)
    )


def _misunderstood(error: Any, words: Sequence[str]) -> tuple[str, str]:
    """What is wrong with the words that were typed, and the way out."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "uvea"
    hint = f"{command} --help shows what it takes, with an example"
    if near := getattr(error, "possibilities", None):
        hint = f"{' or '.join(near)}; {hint}"
    names: Sequence[str] = getattr(getattr(error, "param", None), "opts", None) or ()
    value = next((value for name in names if (value := _value_of(name, words)) is not None), None)
    if value is not None and error.message:
        return f"{names[0]} cannot be {value!r}: {_lowered(error.message)}", hint
    said = _lowered(error.format_message()).partition(" (Possible options")[0]
    return said.rstrip("."), hint


def _value_of(option: str, words: Sequence[str]) -> str | None:
    """The value that was typed for an option, the last one, which counts; None where there is none."""
    value = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == option:
            value = following
        elif option.startswith("--") and word.startswith(f"{option}="):
            value = word.removeprefix(f"{option}=")
    return value


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _report(error: BaseException) -> None:
    said = " ".join(str(error).split())
    _say(
        f"uvea failed: {type(error).__name__}{f': {said}' if said else ''}. "
        "This is a fault of uvea: report it, with the output of the same command after setting UVEA_DEBUG=1"
    )


def _say(text: str) -> None:
    show.messages().print(Text(harmless(text)), soft_wrap=True)


def _trace() -> None:
    if os.environ.get("UVEA_DEBUG"):
        with suppress(OSError):  # nobody reads it
            traceback.print_exc()
