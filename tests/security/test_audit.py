"""A real training, prediction and evaluation, watched from inside of Python: what they open and start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("watched.py")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """What a watched process did, by round: the first, which still imports, and the second."""
    folder = tmp_path_factory.mktemp("audit")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_watch_sees_what_it_is_for(events):
    """Before the rounds, the script itself did one of each."""
    seen = {name for name, _ in events["proof"]}
    assert seen >= {"pickle.find_class", "socket.__new__", "subprocess.Popen", "exec"}
    changed = [where.split()[0] for name, where in events["proof"] if name == "written elsewhere"]
    assert changed == ["open", "os.rename", "os.rename"]


@pytest.mark.parametrize("part", ["first", "second"])
def test_train_predict_and_evaluate_start_nothing_and_load_no_object(part, events):
    """No pickle, no socket, no process; from the first step after the imports of the commands."""
    doors = ("pickle.", "socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork")
    doors += ("urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.", "code.", "pty.", "shutil.unpack_archive")
    assert [event for event in events[part] if event[0].startswith(doors)] == []


def test_no_code_is_run_that_was_not_imported(events):
    """In the second round everything is imported; torch alone compiles a constant of its own for its profiler."""
    known = "torch.classes.profiler._RecordFunction"
    run = [event for event in events["second"] if event[0] in ("exec", "compile", "import")]
    assert [event for event in run if known not in event[1]] == []


def test_nothing_is_written_outside_of_the_outputs(events):
    """Files are opened for writing below the folder of the run, and in the folder for temporary files, only."""
    assert [event for event in events["second"] if event[0] == "written elsewhere"] == []
