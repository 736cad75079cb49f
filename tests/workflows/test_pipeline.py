"""Three steps that overlap, in order, whatever fails."""

import threading
import time

import pytest

from uvea.errors import ImageError, UveaError
from uvea.workflows.pipeline import overlap


def test_outcomes_come_in_order_with_what_each_step_made():
    """Read, doubled, written as text."""
    found = list(overlap([1, 2, 3], read=lambda n: n + 10, work=lambda n, r: (n, 2 * r), write=lambda n, m: f"{n} {m}"))
    assert [one.item for one in found] == [1, 2, 3]
    assert [one.result for one in found] == ["1 (1, 22)", "2 (2, 24)", "3 (3, 26)"]
    assert list(overlap([], read=str, work=lambda n, r: r, write=lambda n, m: m)) == []


def test_while_one_item_is_worked_on_the_next_is_read_and_the_last_is_written():
    """Each waits for the two others: without overlap nobody would ever come."""
    together = threading.Barrier(3, timeout=20)

    def step(item):
        if item == "b":
            together.wait()

    def read(item):
        if item == "c":
            together.wait()

    def write(item, made):
        if item == "a":
            together.wait()

    assert len(list(overlap("abc", read=read, work=lambda item, _: step(item), write=write))) == 3


def test_at_most_three_items_are_in_memory():
    """One read ahead, one worked on, one being written, however slow the writing."""
    alive, most = set(), []

    def read(item):
        alive.add(item)
        most.append(len(alive))
        return item

    def write(item, made):
        time.sleep(0.01)
        alive.remove(item)

    for _ in overlap(range(8), read=read, work=lambda item, r: r, write=write):
        pass
    assert max(most) == 3


def failing(at, error):
    """A step that raises `error` for the items `at`."""

    def step(item, *_):
        if item in at:
            raise error
        return item

    return step


@pytest.mark.parametrize("step", ["read", "work", "write"])
def test_an_item_that_fails_does_not_stop_the_others(step):
    """In any step, first, last, and two in a row."""
    good = failing((), None)
    steps = {"read": good, "work": good, "write": good, step: failing((0, 3, 4, 6), ImageError("bad", hint="mend"))}
    found = list(overlap(range(7), **steps))
    assert [one.item for one in found] == list(range(7))
    assert [one.item for one in found if one.error is not None] == [0, 3, 4, 6]
    assert [one.result for one in found] == [None, 1, 2, None, None, 5, None]


@pytest.mark.parametrize("step", ["read", "work"])
def test_an_item_without_memory_is_tried_once_more_alone(step):
    """The first time two others are in memory; a second lack of memory is its error."""
    tries = []

    def scarce(item, *_):
        tries.append(item)
        if item == 1 and tries.count(1) == 1:
            raise MemoryError
        if item == 2:
            raise MemoryError
        return item

    good = failing((), None)
    found = list(overlap(range(4), **{"read": good, "work": good, "write": good, step: scarce}))
    assert [one.result for one in found] == [0, 1, None, 3]
    assert tries.count(1) == tries.count(2) == 2
    assert isinstance(found[2].error, UveaError) and "not enough memory for 2" in found[2].error.problem


def test_a_fault_ends_it_and_what_is_being_written_is_finished():
    """A mask is never left half-written by an error elsewhere; threads end."""
    begun, done = threading.Event(), []

    def write(item, made):
        begun.set()
        time.sleep(0.05)
        done.append(item)

    def work(item, read):
        if item == 1:
            begun.wait(20)
            raise ZeroDivisionError
        return read

    with pytest.raises(ZeroDivisionError):
        list(overlap(range(5), read=lambda item: item, work=work, write=write))
    assert done == [0]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("uvea-")]
