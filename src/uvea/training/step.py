"""One training step: forward, loss, backward, weights changed.

Two ways with one contract. `eager` asks torch for one kernel after the other. `Recorded` notes the kernels of one
step as a CUDA graph and has the device run them all at once, which saves the time between them: shapes
and addresses stay the same, so batches are copied to where the first one was.

Neither waits for the device. A step that finds no memory is taken again with less; `leaving` lets it be left half-way.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from uvea.errors import PlanError, is_out_of_memory

Batch = tuple[Tensor, ...]
"""Images (b, c, ...) float32, then what the loss takes after the logits: labels (b, ...), perhaps weights (b, ...).
All on the training device."""

Step = Callable[[Batch, float], Tensor]
"""Batch and learning rate to (2,) float32: the loss, and the norm of the gradient before it was clipped."""

Work = Callable[[Batch], Tensor]
"""A step at the learning rate that the optimizer has."""

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Note what a function does on the device, without doing it: how to do it, and the tensor that has its result then."""

WARM_UP = 3
"""Steps that are taken before one is recorded: the first ones choose kernels and take memory."""


class StepLeft(Exception):
    """A step was left half-way because somebody asked for it; network and optimizer are as they were before it."""


ROOM = 1.1
"""Free memory that a recorded step is given, as a share of what one took: a recording that fails cannot be undone well,
and its memory is not for others."""

SAME = 0.02
"""Largest difference between a recorded step and an eager one in loss, norm and how far weights move, as a share;
bfloat16 sums differ by less from one order of additions to another."""


def work_of(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[..., Tensor],
    *,
    autocast: Callable[[], AbstractContextManager[object]],
    clip: float,
    spare: Callable[[], bool] = lambda: False,
    forward: Callable[[Tensor], Any] | None = None,
) -> Work:
    """Make the step of a network.

    Args:
        network: trained in place; (b, c, ...) to logits.
        optimizer: over its weights.
        loss: logits and the rest of the batch to a scalar.
        autocast: makes the context in which the network runs forward.
        clip: largest norm of the gradient.
        spare: called where there is no memory for a step: makes the network need less with the same result, or says
            that it cannot. The step is taken again then.
        forward: runs the network; None stands for the network itself.

    Raises:
        PlanError: by the step, if there is no memory for it and none to spare.
        StepLeft: by the step, see `leaving`.
    """
    buffers, run = list(network.buffers()), forward or network

    def descend(batch: Batch) -> Tensor:
        images, *truth = batch
        with autocast():
            logits: Any = run(images)
        cost = loss(logits, *truth)
        optimizer.zero_grad(set_to_none=True)
        cost.backward()  # type: ignore[no-untyped-call]
        return cost.detach().float()

    def work(batch: Batch) -> Tensor:
        # What is recorded is repeated at every step, and is not left half-way.
        before = [] if _capturing() else [value.clone() for value in buffers]
        random = _random_states(batch[0].device)
        try:
            with _fastest_kernels(batch[0].device):
                cost = descend(batch)
        except StepLeft:
            optimizer.zero_grad(set_to_none=True)
            _put(buffers, before)
            _put_random(random, batch[0].device)
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or _capturing():
                raise
        else:
            norm = nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            return torch.stack((cost, norm.detach().float()))
        # Outside of the handler, whose traceback keeps everything alive that did not fit.
        optimizer.zero_grad(set_to_none=True)
        if batch[0].device.type == "cuda":
            torch.cuda.empty_cache()
        if not spare():
            size = "×".join(map(str, batch[0].shape[2:]))
            raise PlanError(
                f"there is no memory for a step with {len(batch[0])} patches of {size}",
                hint="close other programs, or train again with a smaller --set batch= or --set patch=",
            )
        _put(buffers, before)
        _put_random(random, batch[0].device)
        return work(batch)

    return work


@contextmanager
def leaving(network: nn.Module, asked: Callable[[], bool]) -> Iterator[None]:
    """Inside of this block, a step of the network ends at its next layer, forward or backward, once `asked` says so.

    So a step may take as long as it likes: whoever wants to stop waits for one layer, and nothing of the step is kept.
    Passes without gradients are not watched.

    Raises:
        StepLeft: by the step.
    """

    def look() -> None:
        if asked():
            raise StepLeft

    def before(layer: nn.Module, given: object) -> None:
        if torch.is_grad_enabled():
            look()

    def after(layer: nn.Module, given: object, made: object) -> None:
        if isinstance(made, Tensor) and made.requires_grad:
            made.register_hook(lambda gradient: look())  # type: ignore[no-untyped-call]

    hooks = []
    for layer in network.modules():
        if not any(layer.children()):
            hooks += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _fastest_kernels(device: torch.device) -> Iterator[None]:
    """cuDNN tries its kernels on the first batch and keeps the fastest: all batches of a training have one shape."""
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.benchmark
    if device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
        cudnn.benchmark = True
    try:
        yield
    finally:
        cudnn.benchmark = before


def _random_states(device: torch.device) -> tuple[Tensor, ...]:
    """What random numbers come next, on the processor and on a GPU; a step that is recorded draws none."""
    if device.type != "cuda" or _capturing():
        return (torch.get_rng_state(),)
    return torch.get_rng_state(), torch.cuda.get_rng_state(device)


def _put_random(states: tuple[Tensor, ...], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def _capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def eager(work: Work, optimizer: torch.optim.Optimizer) -> Step:
    """Do the work anew at each step."""

    def step(batch: Batch, rate: float) -> Tensor:
        _set_rate(optimizer, rate)
        return work(batch)

    return step


class Recorded:
    """Do the work a few times, record it once, and from then on let the device repeat it.

    The recorded step is compared with an eager one before it is used; where it cannot be recorded or comes out
    otherwise, steps stay eager, and `tell` gets the reason. The optimizer needs `capturable=True` and learning
    rates that are tensors. Not for networks that draw random numbers: their two steps differ.
    """

    def __init__(
        self,
        work: Work,
        optimizer: torch.optim.Optimizer,
        network: nn.Module,
        *,
        tell: Callable[[str], None],
        record: Record | None = None,
    ) -> None:
        """Nothing is recorded yet.

        Args:
            work: what is repeated.
            optimizer: whose learning rates are set, and whose state the work changes.
            network: whose weights and buffers the work changes.
            tell: gets one sentence, where steps stay eager.
            record: None stands for CUDA graphs.
        """
        self._work, self._optimizer, self._network = work, optimizer, network
        self._tell = tell
        self._aside = _Aside()
        self._record = record or self._aside.record
        self._taken = 0
        self._inputs: Batch = ()
        self._repeat: Callable[[], None] | None = None
        self._result = torch.zeros(2)

    def __call__(self, batch: Batch, rate: float) -> Tensor:
        """Take one step; see `Step`."""
        device = batch[0].device
        # Streams and graphs are those of the current device, which is the first GPU unless somebody says so.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            _set_rate(self._optimizer, rate)
            self._taken += 1
            if self._taken == WARM_UP + 1:
                return self._begin(batch)
            if self._repeat is None:
                return self._aside.run(self._work, batch) if self._taken <= WARM_UP else self._work(batch)
            return self._replay(self._repeat, batch)

    def _replay(self, repeat: Callable[[], None], batch: Batch) -> Tensor:
        for kept, part in zip(self._inputs, batch, strict=True):
            kept.copy_(part, non_blocking=True)
        repeat()
        return self._result.clone()

    def _begin(self, batch: Batch) -> Tensor:
        """Record, and take this step both ways."""
        changing = self._changing()
        before = [value.clone() for value in changing]
        wanted = self._aside.run(self._work, batch)
        after = [value.clone() for value in changing]
        self._inputs = tuple(part.clone() for part in batch)
        if missing := self._aside.missing(batch[0].device):
            self._tell(f"steps stay eager: {missing}")
            self._inputs = ()
            return wanted
        _put(changing, before)
        try:
            repeat, self._result = self._record(lambda: self._work(self._inputs))
            self._result.zero_()  # where nothing was recorded, nothing must look right
            found = self._replay(repeat, batch)
        except RuntimeError as error:
            # The end of a recording says that it failed, and what came before says why.
            why = error.__context__ or error
            self._tell(f"steps stay eager: they cannot be recorded ({' '.join(str(why).split())[:200]})")
        else:
            right = [*wanted.tolist(), *self._moves(before, after)]
            other = [*found.tolist(), *self._moves(before, changing)]
            errors = [abs(a - b) / max(abs(a), 1e-6) for a, b in zip(right, other, strict=True)]
            if all(error <= SAME for error in errors) or not all(map(math.isfinite, right)):
                self._repeat = repeat
                return found
            self._tell(f"steps stay eager: a recorded one differs by {max(errors):.2g}")
        _put(changing, after)
        return wanted

    def _moves(self, old: Sequence[Tensor], new: Sequence[Tensor]) -> tuple[float, float]:
        """How far the network has moved, and how far the state of the optimizer."""
        count = len(self._network.state_dict())
        return _distance(old[:count], new[:count]), _distance(old[count:], new[count:])

    def _changing(self) -> list[Tensor]:
        state = [value for kept in self._optimizer.state.values() for value in kept.values()]
        return [*self._network.state_dict().values(), *(value for value in state if isinstance(value, Tensor))]


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@torch.no_grad()
def _put(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    parts = [(a.detach().float() - b.detach().float()).norm().cpu() for a, b in zip(one, other, strict=True)]
    return float(torch.stack(parts).norm())


class _Aside:
    """One stream beside the usual one, on which steps are taken before one is recorded, and recorded then.

    One for all of them: torch keeps memory for each stream, and each would get that of a whole step.
    """

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None
        self._needed = 0

    def run(self, work: Work, batch: Batch) -> Tensor:
        """Work there, and let the usual stream wait for it."""
        device = batch[0].device
        if device.type != "cuda":
            return work(batch)
        usual, other = torch.cuda.current_stream(), self._of(device)
        other.wait_stream(usual)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        with torch.cuda.stream(other):
            result = work(batch)
        self._needed = max(0, torch.cuda.max_memory_allocated(device) - held)
        usual.wait_stream(other)
        result.record_stream(usual)
        return result

    def missing(self, device: torch.device) -> str:
        """What is missing for a recording, in words; nothing where there is room for a step as the last one was."""
        if device.type != "cuda":
            return ""
        torch.cuda.empty_cache()  # as a recording does at its start
        torch.cuda.reset_peak_memory_stats(device)  # what was given back does not count as memory of recorded steps
        free, needed = torch.cuda.mem_get_info(device)[0], ROOM * self._needed
        if free >= needed:
            return ""
        return f"a recorded one needs {needed / 2**30:.2g} GiB of its own, and {free / 2**30:.2g} GiB are free"

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record as a CUDA graph; see `Record`."""
        graph, usual, pool = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), torch.cuda.graph_pool_handle()
        try:
            # Only this thread is watched: another one makes batches meanwhile.
            with torch.cuda.graph(graph, pool, stream=self._of(usual.device), capture_error_mode="thread_local"):
                result = work()
        except BaseException:
            # Where the end of a recording raises, its stream is still the current one.
            torch.cuda.set_stream(usual)
            # And memory that two streams use, such as that of batches, is given back by nobody until the recording has
            # ended; torch ends it before it raises since its pull request 180395, and then says so here. The pool
            # itself is left alone: torch gives it back since 190348, and twice would end the process.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
            raise
        return graph.replay, result

    def _of(self, device: torch.device) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return self._stream
