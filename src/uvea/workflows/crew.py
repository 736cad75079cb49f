"""Do one piece of work for many things, on all cores, and give the results in order.

The helpers are fresh Python processes that are sent pickled jobs. Unlike those of `multiprocessing`, they
never import the script that started it, so a script needs no guard around its main part, and they share no
lock with it, as forked ones would. What a job returns does not depend on how many helpers there are.
"""

import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

PATIENCE = 3.0
"""Seconds of work below which no helper is started: each takes about one second to import what it needs."""

AHEAD = 3
"""Jobs per helper that may be done before the oldest is: their results wait in memory."""


class HelperEnded(Exception):
    """A helper ended in the middle of a job, for example because the system ran out of memory."""


def in_order(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    crashed: Callable[[Job, str], Result],
    workers: int | None = None,
    bytes_each: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> Iterator[Result]:
    """Yield `work(job)` for every job, in their order.

    Args:
        work: a function of a module, which returns its errors and does not raise them.
        jobs: what it is called with; they and the results can be pickled.
        crashed: gives the result of a job whose helper ended, from the job and how it ended.
        workers: helpers; 1 works in this process; None starts one per core, once it is clear that it pays.
        bytes_each: memory that one job needs; fewer helpers are started where it would not suffice.
        done: told how many jobs are finished, in any order.
    """
    most = most_workers(len(jobs), workers=workers, bytes_each=bytes_each)
    alone = most == 1
    began, first = time.monotonic(), 0
    for first, job in enumerate(jobs):
        left = (len(jobs) - first) * (time.monotonic() - began) / first if first else 0.0
        if not alone and (workers is not None or left > PATIENCE):
            break
        yield work(job)
        done(first + 1)
    else:
        return
    yield from _together(work, jobs[first:], min(most, len(jobs) - first), crashed, lambda n: done(first + n))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_workers(jobs: int, *, workers: int | None = None, bytes_each: int = 0) -> int:
    """How many helpers `in_order` would start at most; 1 is none."""
    most = cores() if workers is None else workers
    if bytes_each:
        most = min(most, _memory_bytes() // bytes_each)
    return max(1, min(most, jobs))


def serve() -> None:
    """Be a helper: read work and job from stdin, write the result to what was stdout, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; who started us ends us
    logging.getLogger().addHandler(logging.NullHandler())
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break an answer
    questions = sys.stdin.buffer
    try:
        while True:
            work, job = pickle.load(questions)
            pickle.dump(work(job), answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):
        return


class _Helper:
    """One process, which does one job at a time."""

    def __init__(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from uvea.workflows.crew import serve; serve()"
        words = [] if os.environ.get("UVEA_DEBUG") else ["-W", "ignore"]
        self._process = subprocess.Popen(
            [sys.executable, *words, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The helpers are what uses the cores; threads below them would only be in each other's way.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, question: object) -> Any:
        """Have one job done."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            pickle.dump(question, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise HelperEnded(_ending(self._process.wait())) from None

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # what was not sent any more
                continue


def _together(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    crashed: Callable[[Job, str], Result],
    done: Callable[[int], None],
) -> Iterator[Result]:
    idle: queue.SimpleQueue[_Helper] = queue.SimpleQueue()
    every: list[_Helper] = []
    finished: queue.SimpleQueue[None] = queue.SimpleQueue()
    closing = threading.Event()

    def do(job: Job) -> Result:
        try:
            helper = idle.get_nowait()
        except queue.Empty:
            helper = _Helper()
            every.append(helper)
        if closing.is_set():
            helper.end()
        try:
            result: Result = helper.ask((work, job))
        except HelperEnded as ended:
            every.remove(helper)
            helper.end()
            return crashed(job, str(ended))
        idle.put(helper)
        return result

    waiting: deque[Future[Result]] = deque()
    left = deque(jobs)
    count = 0
    executor = ThreadPoolExecutor(workers)
    try:
        while left or waiting:
            while left and len(waiting) < AHEAD * workers:
                future = executor.submit(do, left.popleft())
                future.add_done_callback(lambda _: finished.put(None))
                waiting.append(future)
            while not waiting[0].done():
                finished.get()
                count = min(count + 1, len(jobs) - 1)
                done(count)
            yield waiting.popleft().result()
        done(len(jobs))
    finally:
        closing.set()
        executor.shutdown(wait=False, cancel_futures=True)
        for helper in list(every):
            helper.end()
        executor.shutdown(wait=True)


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


def _ending(code: int) -> str:
    if code < 0:
        return f"its process was ended by signal {-code}, as when memory runs out"
    return f"its process ended with code {code}"
