"""The cache keeps what was prepared, in order, wherever it keeps it."""

import threading
import time

import numpy as np
import pytest

from uvea.batches.cache import cache_cases, slices_of
from uvea.errors import ImageError, OutputError

NAMES = [f"case{number}" for number in range(6)]


def prepare(name):
    """An image of its own size and numbers for each name; later names are ready sooner."""
    number = int(name.removeprefix("case"))
    time.sleep(0.002 * (6 - number))
    labels = np.zeros((3, 4 + number), np.int16)
    labels[1, number] = 1
    return np.full((2, 3, 4 + number), number, np.float32), labels


def cached(*, folder=None, names=NAMES, prepare=prepare, advance=lambda done, total: None, workers=3):
    """All cases, two classes."""
    return cache_cases(names, prepare, classes=2, folder=folder, workers=workers, advance=advance)


def test_cases_keep_the_order_of_their_names():
    """Whichever is ready first."""
    cases = cached()
    assert [case.name for case in cases] == NAMES
    assert [case.image[0, 0, 0] for case in cases] == list(range(6))
    assert [position.tolist() for case in cases for position in case.positions] == [[4 + 2 * n] for n in range(6)]


def test_files_hold_what_memory_would(tmp_path):
    """Equal to the last bit, mapped rather than read, and a second time over the first."""
    for _ in range(2):
        for case, from_file in zip(cached(), cached(folder=tmp_path / "new" / "cache")):
            assert isinstance(from_file.image, np.memmap)
            assert isinstance(from_file.labels, np.memmap)
            np.testing.assert_array_equal(case.image, from_file.image)
            np.testing.assert_array_equal(case.labels, from_file.labels)
            assert from_file.image.dtype == np.float32


def test_progress_is_told_in_the_calling_thread():
    """Once per case, up to all."""
    told = []
    cached(advance=lambda done, total: told.append((done, total, threading.current_thread())))
    assert told == [(done, 6, threading.main_thread()) for done in range(1, 7)]


def test_the_fault_of_one_case_is_raised_and_ends_the_work():
    """The others are not waited for, and no thread stays behind."""
    begun = []

    def faulty(name):
        begun.append(name)
        if name == "case1":
            raise ImageError("case1 is damaged", hint="copy it again")
        time.sleep(0.01)
        return prepare("case0")

    before = threading.active_count()
    with pytest.raises(ImageError, match="case1 is damaged"):
        cached(names=[f"case{number}" for number in range(500)], prepare=faulty, workers=2)
    assert len(begun) < 20
    assert threading.active_count() == before


def test_an_interruption_ends_the_work():
    """Ctrl-C while cases are prepared: what was not begun is never begun."""
    begun = []

    def stop(done, total):
        raise KeyboardInterrupt

    def count(name):
        begun.append(name)
        return prepare("case5")

    with pytest.raises(KeyboardInterrupt):
        cached(names=[f"case{number}" for number in range(500)], prepare=count, advance=stop, workers=2)
    assert len(begun) < 50


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """Here it is a file."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(OutputError, match=f"{tmp_path / 'cache'}.*\n.*--out"):
        cached(folder=tmp_path / "cache")


def test_slices_are_views_with_positions_of_their_own():
    """A volume of three slices, class 1 in the middle one only."""
    image = np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4)
    labels = np.zeros((3, 2, 4), np.int16)
    labels[1, 0, 2] = 1
    (volume,) = cached(names=["v"], prepare=lambda name: (image, labels))
    slices = slices_of(volume, 2)
    assert [one.name for one in slices] == ["v/0", "v/1", "v/2"]
    assert [one.image.shape for one in slices] == [(1, 2, 4)] * 3
    assert np.shares_memory(slices[1].image, image)
    assert [one.positions[0].tolist() for one in slices] == [[], [2], []]
