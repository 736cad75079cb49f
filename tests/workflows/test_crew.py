"""Work that is shared by threads gives what one thread gives, in order."""

import math
import threading
import time

import pytest

from uvea.workflows import crew
from uvea.workflows.crew import in_order


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_the_order_of_the_jobs(workers):
    """Whatever the number of workers; and all are told to be done at the end."""
    told = []
    found = list(in_order(math.factorial, list(range(7)), workers=workers, done=told.append))
    assert found == [1, 1, 2, 6, 24, 120, 720]
    assert told == sorted(told) and told[-1] == 7


def test_no_jobs_have_no_results():
    """And no thread."""
    assert list(in_order(math.factorial, [])) == []


def test_two_are_at_work_at_once():
    """Each waits for the other: one thread alone would wait for ever."""
    both = threading.Barrier(2, timeout=20)
    assert sorted(in_order(lambda _: both.wait(), [0, 1], workers=2)) == [0, 1]


def test_one_worker_works_in_this_thread():
    """It is what a debugger can follow."""
    assert set(in_order(lambda _: threading.get_ident(), range(3), workers=1)) == {threading.get_ident()}


def test_an_error_is_raised_in_its_turn():
    """As it would be in a loop: what came before is there."""
    found = in_order(lambda n: 6 // n, [3, 2, 0, 1], workers=2)
    assert [next(found), next(found)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_results_that_wait_are_bounded():
    """A caller that takes its time does not collect the results of a thousand jobs."""
    begun = []
    found = in_order(begun.append, range(1000), workers=2)
    next(found)
    time.sleep(0.2)
    assert len(begun) <= 2 * crew.AHEAD


def test_leaving_in_the_middle_waits_for_nothing():
    """Ctrl-C must not wait for ten seconds of work, and no other job is begun."""
    begun, go_on = [], threading.Event()

    def work(job):
        begun.append(job)
        if job:
            go_on.wait(20)

    found = in_order(work, range(9), workers=2)
    next(found)
    began = time.monotonic()
    found.close()
    assert time.monotonic() - began < 5
    go_on.set()
    time.sleep(0.2)
    assert len(begun) <= 3


def test_memory_bounds_the_workers(monkeypatch):
    """Three jobs of two gigabytes fit into six, four do not; one always does."""
    monkeypatch.setattr(crew, "_memory_bytes", lambda: 6 * 2**30)
    assert crew.most_workers(100, workers=8, bytes_each=2 * 2**30) == 3
    assert crew.most_workers(100, workers=8, bytes_each=2**40) == 1
    assert crew.most_workers(2, workers=8) == 2
