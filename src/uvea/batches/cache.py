"""Prepared cases, read once and kept: in memory where they fit, else as files mapped into it.

It does not know how a case is prepared; that is given to it as a function.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from uvea.batches.sampler import TrainingCase, remember_positions
from uvea.errors import OutputError

T = TypeVar("T", bound=np.generic)

Prepared = tuple[NDArray[np.float32], NDArray[np.integer]]
"""Image (c, ...) and labels (...)."""


def cache_cases(
    names: Sequence[str],
    prepare: Callable[[str], Prepared],
    *,
    classes: int,
    folder: Path | None,
    workers: int,
    advance: Callable[[int, int], None],
) -> list[TrainingCase]:
    """Prepare all cases, several at a time.

    Args:
        names: of the cases; the result has their order.
        prepare: name to image and labels; what it raises is passed on.
        classes: number of classes, background included.
        folder: where to keep arrays that do not fit in memory; None keeps them in memory.
        workers: cases prepared at the same time.
        advance: called with (done, all), in the calling thread.

    Raises:
        OutputError: if `folder` cannot be written.
    """

    def one(index: int, name: str) -> TrainingCase:
        image, labels = prepare(name)
        positions = remember_positions(labels, classes)
        if folder is not None:
            at = folder / f"{index:06d}"
            image, labels = _map(at.with_suffix(".image.npy"), image), _map(at.with_suffix(".labels.npy"), labels)
        return TrainingCase(name, image, labels, positions)

    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        futures = [pool.submit(one, index, name) for index, name in enumerate(names)]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            advance(done, len(futures))
        return [future.result() for future in futures]
    finally:
        # After an error or Ctrl-C, cases that were not begun are left out.
        pool.shutdown(cancel_futures=True)


def slices_of(case: TrainingCase, classes: int) -> list[TrainingCase]:
    """The slices of a volume as cases of their own, for a network that sees slices; views, no copies."""
    return [
        TrainingCase(
            f"{case.name}/{index}",
            case.image[:, index],
            case.labels[index],
            remember_positions(case.labels[index], classes),
        )
        for index in range(case.labels.shape[0])
    ]


def _map(path: Path, array: NDArray[T]) -> NDArray[T]:
    try:
        np.save(path, array)
    except OSError as error:
        raise _unwritable(path, error) from None
    mapped: NDArray[T] = np.load(path, mmap_mode="r")
    return mapped


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"prepared images cannot be kept in {path}: {error.strerror or error}",
        hint="choose an --out that can be written and has space for all images as 32-bit numbers",
    )
