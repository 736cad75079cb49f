"""Work on many items in three steps that overlap: while one item is worked on, the next is read, the last written.

At most three items are in memory. An item that fails does not stop the others.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from uvea.errors import UveaError

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of an item: a result, or the error that stopped it."""

    item: Item
    result: Result | None = None
    error: UveaError | None = None


class PartlyDoneError(UveaError):
    """Some items failed and all others are done."""

    def __init__(
        self, problem: str, *, hint: str, written: Sequence[Path], failures: Sequence[UveaError], names: Sequence[str]
    ) -> None:
        super().__init__(problem, hint=hint)
        self.written = list(written)
        self.failures = list(failures)
        self.names = list(names)
        """Of the items that failed, in the order of `failures`."""


def overlap(
    items: Sequence[Item],
    *,
    read: Callable[[Item], Read],
    work: Callable[[Item, Read], Made],
    write: Callable[[Item, Made], Result],
) -> Generator[Outcome[Item, Result], None, None]:
    """Read, work on and write items; outcomes come in the order of the items.

    Args:
        items: what to do.
        read: runs in a thread, one item ahead of `work`.
        work: runs in the caller's thread.
        write: runs in another thread, one item behind `work`.

    Raises:
        Exception: of any step, unless it is a `UveaError` or a lack of memory, which become outcomes. What is being
            written is finished first; what has not been begun is not.
    """
    reader = ThreadPoolExecutor(1, "uvea-read")
    writer = ThreadPoolExecutor(1, "uvea-write")
    writing: deque[tuple[Item, Future[Result]]] = deque()

    def written() -> Outcome[Item, Result]:
        item, future = writing.popleft()
        try:
            return Outcome(item, future.result())
        except (UveaError, MemoryError) as error:
            return Outcome(item, error=_told(item, error))

    def start(number: int) -> Future[Read] | None:
        return reader.submit(read, items[number]) if number < len(items) else None

    try:
        reading = start(0)
        for number, item in enumerate(items):
            assert reading is not None
            current = reading
            # Set back for each item, so that nothing of the last one is kept.
            failed: UveaError | MemoryError | None = None
            loaded: Read | None = None
            made: Made | None = None
            try:
                loaded = current.result()
                reading = start(number + 1)
                made = work(item, loaded)
            except (UveaError, MemoryError) as error:
                failed = error
                if reading is current:
                    reading = start(number + 1)
            del current, loaded
            while writing:
                yield written()
            if failed is not None and _is_memory(failed):
                # Once more, now that the last item is out of the way.
                try:
                    made, failed = work(item, read(item)), None
                except (UveaError, MemoryError) as error:
                    failed = error
            if failed is not None:
                yield Outcome(item, error=_told(item, failed))
            else:
                writing.append((item, writer.submit(write, item, cast(Made, made))))
        while writing:
            yield written()
    finally:
        reader.shutdown(wait=True, cancel_futures=True)
        writer.shutdown(wait=True, cancel_futures=True)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)


def _told(item: object, error: UveaError | MemoryError) -> UveaError:
    if isinstance(error, UveaError):
        return error
    return UveaError(f"there is not enough memory for {item}", hint="close other programs, or cut the image into parts")
