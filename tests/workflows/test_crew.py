"""Work that is shared by processes gives what one process gives, in order, and survives a helper that ends."""

import math
import os
import subprocess
import sys
import time

import pytest

from uvea.workflows import crew
from uvea.workflows.crew import in_order


def gone(job, how):
    """The result of a job whose helper ended."""
    return f"{job}: {how}"


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_the_order_of_the_jobs(workers):
    """Whatever the number of workers; and all are told to be done at the end."""
    told = []
    found = list(in_order(math.factorial, list(range(7)), crashed=gone, workers=workers, done=told.append))
    assert found == [1, 1, 2, 6, 24, 120, 720]
    assert told == sorted(told) and told[-1] == 7


def test_helpers_are_other_processes_and_are_reused():
    """Two at most, neither of them this one."""
    found = set(in_order(eval, ["__import__('os').getpid()"] * 8, crashed=gone, workers=2))
    assert 1 <= len(found) <= 2 and os.getpid() not in found


def test_little_work_starts_no_helper():
    """Unless told otherwise, the first seconds are done here."""
    found = set(in_order(eval, ["__import__('os').getpid()"] * 3, crashed=gone))
    assert found == {os.getpid()}
    assert list(in_order(math.factorial, [], crashed=gone)) == []


def test_much_work_starts_them_in_the_middle(monkeypatch):
    """The estimate says that it pays: some jobs were done here, the rest is not."""
    monkeypatch.setattr(crew, "PATIENCE", 0.0)
    monkeypatch.setattr(crew, "cores", lambda: 2)
    found = list(in_order(eval, ["__import__('os').getpid()"] * 5, crashed=gone))
    assert found[0] == os.getpid() and found[-1] != os.getpid()


def test_a_helper_that_ends_costs_its_job_only():
    """The system ended it for want of memory, say; the others go on."""
    jobs = ["1", "__import__('os')._exit(3)", "__import__('os').kill(__import__('os').getpid(), 9)", "4"]
    found = list(in_order(eval, jobs, crashed=gone, workers=2))
    assert (found[0], found[3]) == (1, 4)
    assert found[1].endswith("its process ended with code 3")
    assert found[2].endswith("its process was ended by signal 9, as when memory runs out")


def test_a_library_that_prints_breaks_nothing():
    """What helpers print goes to stderr, not into their answers."""
    assert list(in_order(eval, ["print('hello')", "2"], crashed=gone, workers=2)) == [None, 2]


def test_leaving_in_the_middle_ends_the_helpers_at_once():
    """Ctrl-C must not wait for ten seconds of work."""
    found = in_order(eval, ["__import__('os').getpid()", "__import__('time').sleep(20)"], crashed=gone, workers=2)
    pid = next(found)
    began = time.monotonic()
    found.close()
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_script_without_a_guard_can_use_them(tmp_path):
    """The helpers never import what started them: it would run a second time."""
    script = tmp_path / "script.py"
    script.write_text(
        "import math\n"
        "from uvea.workflows.crew import in_order\n"
        "print('once', list(in_order(math.factorial, [3, 4], crashed=print, workers=2)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "once [6, 24]\n"


def test_memory_bounds_the_workers(monkeypatch):
    """Three jobs of two gigabytes fit into six, four do not; one always does."""
    monkeypatch.setattr(crew, "_memory_bytes", lambda: 6 * 2**30)
    assert crew.most_workers(100, workers=8, bytes_each=2 * 2**30) == 3
    assert crew.most_workers(100, workers=8, bytes_each=2**40) == 1
    assert crew.most_workers(2, workers=8) == 2
