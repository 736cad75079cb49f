"""A step changes the weights as worked by hand; a recorded step is taken only if it does the same."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from uvea.errors import PlanError
from uvea.training.step import WARM_UP, Recorded, StepLeft, eager, leaving, work_of


def start():
    """A network that multiplies by zero, and an optimizer whose rates are tensors, as recording needs them."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    return network, torch.optim.Adam(network.parameters(), lr=torch.tensor(0.05))


def batch(step):
    """Points of y = 2x."""
    x = torch.tensor([[1.0 + step % 3], [2.0]])
    return x, 2 * x


def work_on(network, optimizer, clip=100.0):
    """A step of squared errors."""
    return work_of(network, optimizer, functional.mse_loss, autocast=nullcontext, clip=clip)


def again(work):
    """Stands for a CUDA graph: notes a function without a lasting effect, and does it when asked."""
    result = torch.zeros(2)

    def repeat():
        result.copy_(work())

    return repeat, result


def test_a_step_by_hand():
    """x 1 and 2, y 2 and 4, weight 0: loss 10, gradient -10, clipped to -1, times 0.05; the norm is that before."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = torch.optim.SGD(network.parameters())
    step = eager(work_on(network, optimizer, clip=1.0), optimizer)
    assert step(batch(0), 0.05).tolist() == [10, 10]
    assert network.weight.item() == pytest.approx(0.05, abs=1e-6)


def test_the_loss_gets_all_that_a_batch_has_beside_images():
    """Labels, and weights where there are some."""
    network, optimizer = start()
    given = []

    def loss(logits, *rest):
        given.append(rest)
        return logits.sum()

    work = work_of(network, optimizer, loss, autocast=nullcontext, clip=1.0)
    x, y, w = torch.ones(2, 1), torch.ones(2), torch.zeros(2)
    work((x, y))
    work((x, y, w))
    assert given == [(y,), (y, w)]


class Greedy(nn.Module):
    """Multiplies by a weight, counts its calls in a buffer, and has no memory until it was made to need less."""

    def __init__(self, error):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("calls", torch.zeros(1))
        self.error = error

    def forward(self, x):
        """The product."""
        self.calls += 1
        if self.error is not None:
            raise self.error
        return x * self.weight

    def spare(self):
        """Whether there was something to spare."""
        could, self.error = isinstance(self.error, RuntimeError), None
        return could


def test_where_memory_is_short_the_step_is_taken_again_with_less():
    """The weight and the buffer are those of one step: squared errors 4 and 16 have the slope -12, the rate is 0.1."""
    network = Greedy(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    work = work_of(network, optimizer, functional.mse_loss, autocast=nullcontext, clip=100.0, spare=network.spare)
    found = eager(work, optimizer)(batch(0), 0.1)
    assert found.tolist() == [10.0, 10.0]
    assert network.weight.item() == pytest.approx(1.0) and network.calls.item() == 1


def test_where_nothing_is_left_to_spare_the_way_out_is_named():
    """And other errors stay what they are."""
    network = Greedy(MemoryError())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    work = work_of(network, optimizer, functional.mse_loss, autocast=nullcontext, clip=1.0, spare=network.spare)
    with pytest.raises(PlanError, match=r"no memory for a step with 2 patches of 1\n.*--set batch="):
        work((torch.ones(2, 1, 1), torch.ones(2, 1, 1)))
    network.error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1"):
        work((torch.ones(2, 1, 1), torch.ones(2, 1, 1)))


@pytest.mark.parametrize("layer", range(12))
def test_a_step_that_is_left_half_way_leaves_nothing_behind(layer):
    """At whatever layer, forward (6) or backward: weights, statistics, moments and random numbers are as before."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(1, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4, 4), nn.Linear(4, 1)
    )
    optimizer = torch.optim.Adam(network.parameters())
    work, asked = work_on(network, optimizer), []
    work(batch(0))

    def state():
        moments = [value for kept in optimizer.state.values() for value in kept.values()]
        return [value.clone() for value in (*network.state_dict().values(), *moments, torch.get_rng_state())]

    before = state()
    with leaving(network, lambda: asked.append(1) or len(asked) > layer), pytest.raises(StepLeft):
        work(batch(1))
    assert len(asked) == layer + 1
    assert all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))
    work(batch(1))
    assert len(asked) == layer + 1


def test_passes_without_gradients_are_not_left():
    """Validation has its own way to stop."""
    network, _ = start()
    with leaving(network, lambda: True), torch.no_grad():
        assert network(torch.ones(1, 1)).item() == 0


def test_recorded_steps_give_the_weights_of_eager_ones():
    """To the last bit where the repeated work is the same; rates change from step to step, batches stay as they are."""
    ours, ours_optimizer = start()
    theirs, theirs_optimizer = start()
    said = []
    recorded = Recorded(work_on(ours, ours_optimizer), ours_optimizer, ours, tell=said.append, record=again)
    plain = eager(work_on(theirs, theirs_optimizer), theirs_optimizer)
    for step in range(WARM_UP + 8):
        given, rate = batch(step), 0.05 / (step + 1)
        assert torch.equal(recorded(given, rate), plain(given, rate))
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(given[0], batch(step)[0])
    assert not said


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda work, network: _raise(RuntimeError("not permitted\nwhen capturing")), "not permitted when"),
        (lambda work, network: _end_badly(RuntimeError("no memory left")), "no memory left"),
        (lambda work, network: again(lambda: work() * 1.5), "differs by 0.5"),
        (lambda work, network: (lambda: None, work()), "differs by 1"),
        (lambda work, network: again(lambda: _without_effect(work, network)), "differs by"),
    ],
    ids=["cannot be recorded", "cannot be ended", "comes out otherwise", "nothing was recorded", "weights stay"],
)
def test_a_recording_that_is_not_right_is_told_and_not_used(break_it, reason):
    """The steps are those of an eager training, also the one at which it was tried."""
    ours, ours_optimizer = start()
    theirs, theirs_optimizer = start()
    said = []
    recorded = Recorded(
        work_on(ours, ours_optimizer), ours_optimizer, ours, tell=said.append, record=lambda work: break_it(work, ours)
    )
    plain = eager(work_on(theirs, theirs_optimizer), theirs_optimizer)
    for step in range(WARM_UP + 4):
        assert torch.equal(recorded(batch(step), 0.05), plain(batch(step), 0.05))
        assert torch.equal(ours.weight, theirs.weight)
    (text,) = said
    assert text.startswith("steps stay eager") and reason in text


@pytest.mark.parametrize("ended", [False, True])
def test_a_recording_that_fails_is_ended_for_the_memory_too(monkeypatch, ended):
    """Some versions of torch leave it open, others have ended it and say so; the reason told is that of the failure."""
    closed, said, network = [], [], start()

    class Graph:
        replay = None

    @contextmanager
    def graph(graph, pool=None, *, stream, capture_error_mode):
        yield
        _end_badly(RuntimeError("not permitted"))

    def end(device, pool):
        closed.append((device, pool))
        if ended:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    usual = SimpleNamespace(device=torch.device("cpu"))
    for name, value in {
        "CUDAGraph": Graph,
        "graph": graph,
        "Stream": lambda device: usual,
        "current_stream": lambda: usual,
        "set_stream": lambda stream: None,
        "graph_pool_handle": lambda: (0, 7),
        "current_device": lambda: 3,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end, raising=False)
    recorded = Recorded(work_on(network[0], network[1]), network[1], network[0], tell=said.append)
    for step in range(WARM_UP + 2):
        recorded(batch(step), 0.05)
    assert closed == [(3, (0, 7))]
    assert said == ["steps stay eager: they cannot be recorded (not permitted)"]


def _without_effect(work, network):
    weight = network.weight.detach().clone()
    result = work()
    network.weight.data.copy_(weight)
    return result


def _raise(error):
    raise error


def _end_badly(error):
    """As a recording that is broken off: its end says only that it failed."""
    try:
        raise error
    finally:
        _raise(RuntimeError("capture failed"))
