"""Do one piece of work for many things, on all cores, and give the results in order.

The helpers are threads: what takes the time, decoding, counting and distances, leaves Python to the others meanwhile.
What a job returns does not depend on how many helpers there are.
"""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 3
"""Jobs per helper that may be done before the oldest is: their results wait in memory."""


def in_order(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    bytes_each: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> Iterator[Result]:
    """Yield `work(job)` for every job, in their order.

    Who leaves in the middle, with Ctrl-C for example, waits for nothing: no other job is begun, and what those at work
    return is dropped.

    Args:
        work: called by several threads at once; what it raises is raised here, in its turn.
        jobs: what it is called with.
        workers: helpers; 1 works in this thread; None has one per core.
        bytes_each: memory that one job needs; there are fewer helpers where it would not suffice.
        done: told in this thread how many jobs are finished, in any order.
    """
    most = most_workers(len(jobs), workers=workers, bytes_each=bytes_each)
    if most > 1:
        yield from _together(work, jobs, most, done)
        return
    for count, job in enumerate(jobs, start=1):
        result = work(job)
        done(count)
        yield result


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_workers(jobs: int, *, workers: int | None = None, bytes_each: int = 0) -> int:
    """How many helpers `in_order` has; 1 is none."""
    most = cores() if workers is None else workers
    if bytes_each:
        most = min(most, _memory_bytes() // bytes_each)
    return max(1, min(most, jobs))


def _together(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, done: Callable[[int], None]
) -> Iterator[Result]:
    begun: queue.SimpleQueue[tuple[Future[Result], Job] | None] = queue.SimpleQueue()
    finished: queue.SimpleQueue[None] = queue.SimpleQueue()

    def help_out() -> None:
        while (task := begun.get()) is not None:
            future, job = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work(job))
            except BaseException as error:
                future.set_exception(error)
            finished.put(None)

    # No executor: the interpreter would wait for its threads before it ends.
    for number in range(workers):
        threading.Thread(target=help_out, name=f"uvea-crew-{number}", daemon=True).start()
    left = deque(jobs)
    waiting: deque[Future[Result]] = deque()
    count = 0
    try:
        while left or waiting:
            while left and len(waiting) < AHEAD * workers:
                waiting.append(Future())
                begun.put((waiting[-1], left.popleft()))
            while not waiting[0].done():
                finished.get()
                count = min(count + 1, len(jobs) - 1)
                done(count)
            yield waiting.popleft().result()
        done(len(jobs))
    finally:
        for future in waiting:
            future.cancel()
        for _ in range(workers):
            begun.put(None)


def _memory_bytes() -> int:
    """Half of the memory of this machine, or of the container."""
    limits = [1 << 33]
    if hasattr(os, "sysconf"):
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            limits += [int(text) for text in [file.read().strip()] if text.isdecimal()]
    except OSError:
        pass
    return min(limits) // 2
