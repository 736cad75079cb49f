"""Batches made ahead are those that are made on demand; errors come through and threads end."""

import threading
import time

import pytest
import torch

from uvea.batches.ahead import Ahead
from uvea.errors import ImageError

CPU = torch.device("cpu")


def ours():
    """Threads of a loader that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("uvea-batches")]


def numbered(step, steps):
    """A batch that tells what it was made for."""
    return torch.tensor([float(step)]), torch.tensor([-1 if steps is None else steps])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_each_step_gets_its_own_batch(threads, depth):
    """In order, whatever finishes first."""

    def make(step, steps):
        time.sleep(0.002 * (step % 3))
        return numbered(step, steps)

    with Ahead(make, device=CPU, threads=threads, depth=depth) as batch:
        assert [batch(step, 12)[0].item() for step in range(12)] == list(range(12))


def test_no_more_is_made_than_asked_for():
    """Two ahead, and nothing beyond the end."""
    made = []

    def make(step, steps):
        made.append(step)
        return numbered(step, steps)

    with Ahead(make, device=CPU, depth=2) as batch:
        batch(0, 5)
        time.sleep(0.05)
        assert sorted(made) == [0, 1, 2]
        for step in range(1, 5):
            batch(step, 5)
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_a_batch_without_memory_on_the_device_is_made_after_the_step():
    """By the thread that trains; what else goes wrong, also there, is raised."""
    made = []

    def make(step, steps):
        made.append(threading.current_thread().name)
        if made[-1].startswith("uvea-batches"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return numbered(step, steps)

    with Ahead(make, device=torch.device("meta"), depth=0) as batch:
        assert batch(3, 5)[0].item() == 3
    assert len(made) == 2 and made[1] == threading.current_thread().name
    with Ahead(make, device=CPU, depth=0) as batch, pytest.raises(torch.OutOfMemoryError):
        batch(3, 5)


def test_a_changed_number_of_steps_gives_other_batches():
    """What was made for a run of unknown length is thrown away; also after going back."""
    with Ahead(numbered, device=CPU, depth=3) as batch:
        assert batch(0, None)[1].item() == -1
        assert batch(1, 40)[1].item() == 40
        assert batch(2, 30)[1].item() == 30
        assert [part.item() for part in batch(0, 30)] == [0, 30]


def test_an_error_reaches_the_caller_with_its_own_message():
    """At the step it belongs to, not before; then no thread is left."""

    def make(step, steps):
        if step == 2:
            raise ImageError("image 7 is gone", hint="bring it back")
        return numbered(step, steps)

    with pytest.raises(ImageError, match="image 7 is gone"), Ahead(make, device=CPU, depth=4) as batch:
        assert [batch(step, None)[0].item() for step in range(2)] == [0, 1]
        batch(2, None)
    assert not ours()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, None])
def test_threads_end_with_the_block(error):
    """After Ctrl-C, an error, or the end, also when batches are still to be made."""

    def leave():
        with Ahead(numbered, device=CPU, threads=2, depth=3) as batch:
            batch(0, None)
            assert len(ours()) == 2
            if error:
                raise error

    if error:
        with pytest.raises(error):
            leave()
    else:
        leave()
    assert not ours()


def test_torch_keeps_its_threads_everywhere_else():
    """One in the loader, what it was in the caller and in threads that begin later."""
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:

        def make(step, steps):
            return (torch.tensor([torch.get_num_threads()]),)

        with Ahead(make, device=CPU) as batch:
            assert batch(0, None)[0].item() == 1
            assert torch.get_num_threads() == 3
            later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            later.start()
            later.join()
        assert seen == [3]
    finally:
        torch.set_num_threads(before)
