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


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        SystemError("error return without exception set"),
        ImportError("a.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
)
def test_too_little_memory_is_something_the_user_can_mend(capsys, error):
    """The exit code is 2, with a remedy, whatever words a library has for it."""
    assert end_of(error) == 2
    assert "not enough memory" in capsys.readouterr().err


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
    """The command to type, with the folder in it; the same when what was resumed is stopped again."""

    def begin(listen):
        (tmp_path / "m" / "run").mkdir(parents=True)
        (tmp_path / "m" / "run" / "run.json").write_text("{}")
        raise KeyboardInterrupt

    workflow("train", train=begin, resume=KeyboardInterrupt())
    for words in (("data", "--out"), ("--resume",)):
        result = run("train", *words, str(tmp_path / "m"))
        assert result.exit_code == 130
        assert result.stderr == f"stopped; continue with: uvea train --resume {tmp_path / 'm'}\n"


def test_a_training_stopped_before_it_replaced_a_model_does_not_offer_to_continue_that(run, workflow, tmp_path):
    """It would be the old model that goes on, under the name of the new one."""
    workflow("train", train=KeyboardInterrupt())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    result = run("train", "data", "--out", str(tmp_path), "--overwrite")
    assert result.exit_code == 130
    assert result.stderr == f"stopped before the training began; {tmp_path} is as it was\n"


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
    words = ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m uvea train --help | true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


TALKING = """
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from uvea.workflows.events import Message
fake = ModuleType("uvea.workflows.verify")
def verify(*args, listen, **kwargs):
    for number in range(9):
        listen(Message(f"file {number}"))
    Path(sys.argv[2]).write_text("done")
    return SimpleNamespace(rows=[("weights", "the same")], problems=[], ok=True)
fake.verify = verify
sys.modules[fake.__name__] = fake
from uvea.cli.main import main
main()
"""


def talk(tmp_path, where: str) -> subprocess.CompletedProcess[str]:
    """Run a command that says nine lines on stderr, then does its work, then gives a result; its outputs go `where`."""
    script = tmp_path / "talk.py"
    script.write_text(TALKING)
    words = ["bash", "-o", "pipefail", "-c", f"{sys.executable} {script} verify {tmp_path / 'work'} {where}"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("where", ["2>&1 | true", "2>&1 >/dev/null | true", "| true"])
def test_the_work_is_done_whoever_stops_reading(tmp_path, where):
    """As with `uvea train … | sed /done/q`, which leaves when it has seen enough."""
    done = talk(tmp_path, where)
    assert done.returncode == 0 and (tmp_path / "work").read_text() == "done"
    assert [line for line in done.stderr.splitlines() if not line.startswith("file")] == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is full")
def test_a_full_disk_for_the_log_costs_the_log_only(tmp_path):
    """The work is done, and its result is shown."""
    done = talk(tmp_path, "2>/dev/full")
    assert (done.returncode, (tmp_path / "work").read_text()) == (0, "done")
    assert done.stdout.splitlines()[0] == "weights  the same"


FULL = [
    "the result cannot be written: no space left on device",
    "  Try: free some space where the output goes, or let it go elsewhere",
]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is full")
def test_a_full_disk_for_the_result_is_something_the_user_can_mend(tmp_path):
    """Behind what the command says while it works."""
    done = talk(tmp_path, ">/dev/full")
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (2, FULL)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is full")
@pytest.mark.parametrize("words", ["--version", "", "train --help"])
def test_so_it_is_for_help_and_version(words):
    """They are no commands, and end alike."""
    command = f"{sys.executable} -m uvea {words} >/dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (2, FULL)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_closed_output_is_no_fault():
    """As under some schedulers: there is nobody to tell, and the work is done all the same."""
    command = f"{sys.executable} -m uvea train --help >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
