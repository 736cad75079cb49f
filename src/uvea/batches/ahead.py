"""Batches made before they are asked for, in threads beside the one that trains.

A batch depends on its step alone, so that it does not matter which thread makes it, how many there are, or
how far ahead they run. What is in a batch is not known here.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from uvea.errors import is_out_of_memory

Batch = tuple[Tensor, ...]
Make = Callable[[int, int | None], Batch]
"""(step, steps or None) to a batch."""

_Made = tuple[Batch, "torch.cuda.Event | None"]


class Ahead:
    """A function from (step, steps or None) to a batch, which makes those of the next steps in advance.

    Each thread works with one thread of torch's own, so that the bits of a batch do not depend on the number of
    cores; the caller's number of threads stays as it is. On a CUDA device, work is queued on a stream of its
    own, beside that of the training. Use it in a `with` block: at its end, however that comes, the threads end.

    What `make` raises is raised to the caller who asks for that batch, as it is; but where a device has no memory for a
    batch beside a step, the caller makes it.
    """

    def __init__(self, make: Make, *, device: torch.device, threads: int = 1, depth: int = 2) -> None:
        """Start the threads; nothing is made yet.

        Args:
            make: called in the threads, several at a time where there are several.
            device: where batches lie when they are made.
            threads: 1 or more.
            depth: batches made or in the making beyond the one asked for, at most.
        """
        self._make, self._device, self._depth = make, device, depth
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            # Before the training in line: its steps wait for batches, and what makes these are small kernels.
            self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._waiting: dict[tuple[int, int | None], Future[_Made]] = {}
        own = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="uvea-batches", initializer=_work_alone)
        begun = threading.Barrier(threads + 1)
        for _ in range(threads):
            self._pool.submit(begun.wait)
        begun.wait()
        # Torch gives the number set last to threads that begin later, such as those of a prediction.
        torch.set_num_threads(own)

    def __call__(self, step: int, steps: int | None) -> Batch:
        """The batch of one step, and begin with those of the steps after it."""
        last = step + self._depth if steps is None else min(step + self._depth, steps - 1)
        wanted = [(other, steps) for other in range(step, max(last, step) + 1)]
        # When the number of steps has changed, or the run has gone back, what was made for other steps is of no use.
        for key in [key for key in self._waiting if key not in wanted]:
            self._waiting.pop(key).cancel()
        for key in wanted:
            if key not in self._waiting:
                self._waiting[key] = self._pool.submit(self._one, *key)
        batch, ready = self._made(step, steps)
        if ready is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(ready)
            for part in batch:
                # Its memory was taken on the other stream, which must not have it back while this one reads.
                part.record_stream(stream)
        return batch

    def _made(self, step: int, steps: int | None) -> _Made:
        """What a thread made; where it had no memory on the device beside a step, it is made once the step is done."""
        try:
            return self._waiting.pop((step, steps)).result()
        except RuntimeError as error:
            if self._device.type == "cpu" or not is_out_of_memory(error):
                raise
        # Outside of the handler, whose traceback keeps everything alive that did not fit.
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
        return self._one(step, steps)

    def _one(self, step: int, steps: int | None) -> _Made:
        if self._stream is None:
            return self._make(step, steps), None
        with torch.cuda.stream(self._stream):
            batch = self._make(step, steps)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(self._stream)
        return batch, ready

    def close(self) -> None:
        """Drop what was made, and wait for the threads to end."""
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _work_alone() -> None:
    """Let torch use one thread in this thread."""
    # A thread takes over torch's number at the first use, which would undo what was set before it.
    torch.get_num_threads()
    torch.set_num_threads(1)
