"""How a command ends: the exit code and the lines for every kind of end."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import typer

from uvea.cli.outcome import ended
from uvea.errors import ImageError


def end_of(error: BaseException) -> int:
    """Exit code of a command that raises this."""

    @ended
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as exit_:
        command()
    return exit_.value.exit_code


def test_interruption_exits_with_130_and_one_line(capsys):
    """No traceback: the user knows what was pressed."""
    assert end_of(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_full_disk_is_something_the_user_can_mend(capsys):
    """The file and the reason, then the way out."""
    assert end_of(OSError(errno.ENOSPC, "No space left on device", "out/a.tif")) == 2
    assert capsys.readouterr().err.splitlines() == [
        "out/a.tif: no space left on device",
        "  Try: free some space, or use another disk with --out",
    ]


def test_too_little_memory_is_something_the_user_can_mend(capsys):
    """The exit code is 2, with a remedy."""
    assert end_of(MemoryError()) == 2
    assert "memory" in capsys.readouterr().err


def test_a_fault_of_uvea_asks_for_a_report(capsys, monkeypatch):
    """One line with the kind of the fault, and how to see more."""
    monkeypatch.delenv("UVEA_DEBUG", raising=False)
    assert end_of(ZeroDivisionError("division\nby zero")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: division by zero" in line and "UVEA_DEBUG=1" in line


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), ImageError("x", hint="y"), KeyboardInterrupt()])
def test_debugging_shows_the_traceback(capsys, monkeypatch, error):
    """For every kind of end."""
    monkeypatch.setenv("UVEA_DEBUG", "1")
    end_of(error)
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupted_training_says_how_to_go_on(run, workflow, tmp_path):
    """The command to type, with the folder in it."""
    workflow("train", train=KeyboardInterrupt())
    (tmp_path / "m" / "run").mkdir(parents=True)
    (tmp_path / "m" / "run" / "run.json").write_text("{}")
    result = run("train", "data", "--out", str(tmp_path / "m"))
    assert result.exit_code == 130
    assert result.stderr == f"stopped; continue with: uvea train --resume {tmp_path / 'm'}\n"


def test_a_training_stopped_before_its_first_file_says_so(run, workflow, tmp_path):
    """There is nothing to resume then."""
    workflow("train", train=KeyboardInterrupt())
    result = run("train", "data", "--out", str(tmp_path / "m"))
    assert result.exit_code == 130
    assert result.stderr == "stopped before there was anything to continue from\n"


WAITING = """
import sys, time
from types import ModuleType
fake = ModuleType("uvea.workflows.demo")
def demo(*args, **kwargs):
    print("started", flush=True)
    time.sleep(30)
fake.demo = demo
sys.modules[fake.__name__] = fake
sys.argv = ["uvea", "demo"]
from uvea.cli.main import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_real_process_with_their_code_and_one_line(sent, code):
    """SIGTERM, which clusters send, is like Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(sent)
        _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err == "stopped\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_leaves_is_no_fault(tmp_path):
    """`uvea --help | head -1` writes nothing to stderr."""
    command = f"{sys.executable} -m uvea train --help | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_closed_output_is_no_fault():
    """As under some schedulers: there is nobody to tell, and the work is done all the same."""
    command = f"{sys.executable} -m uvea train --help >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
