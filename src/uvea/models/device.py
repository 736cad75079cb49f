"""Where networks run: which device, how much of a machine it is, and in which precision it is faster."""

import copy
import ctypes
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from uvea.errors import PlanError, is_out_of_memory
from uvea.plan.machine import Machine

DType = Literal["float32", "bfloat16"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
"""Names of options in glibc's malloc.h."""

_COMMON_POOL = (0, 0)
"""Of torch's memory on a GPU: what any operation may use. A CUDA graph has a pool of its own."""

_TRIAL_PIXELS = 2**15
"""A trial step is made on at most so many pixels: large enough to see the arithmetic, not the overhead. A GPU is done
with that before the next kernel is asked for, so there the whole batch is timed."""

_BFLOAT16_FROM = 8
"""Compute capability of NVIDIA's GPUs from which on they have bfloat16; older ones only pretend to."""

_TRIAL_SECONDS = 2.0
"""Time given to trial steps in all; each candidate gets two at least."""

_TRIAL_ROUNDS = 6
"""Trial steps per candidate at most."""

_LAYER_ERROR = 0.05
"""Largest distance of what a layer computes in bfloat16 from the same in float32, relative to its length.
Rounding gives 0.002 to 0.005; a kernel that is wrong gives 0.3 or more."""

_FASTER = 0.95
"""Another precision is taken only if it needs less than this share of float32's time."""


def find_device(wanted: str | None = None) -> torch.device:
    """Return the device called `wanted`, or the best there is: cuda, then mps, then cpu.

    Raises:
        PlanError: for a name that is not a device, or one this machine does not have.
    """
    present = _devices()
    if wanted is None:
        return torch.device(present[0])
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = torch.device("meta")
    known = device.type in present
    if device.index is not None and device.type == "cuda" and known:
        known = device.index < torch.cuda.device_count()
    if not known:
        raise PlanError(f"no device {wanted!r} on this machine", hint=f"choose one of: {', '.join(present)}")
    return device


def _devices() -> list[str]:
    """Kinds of devices here, best first."""
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present.insert(0, "cuda")
    return present


def keep_large_blocks() -> bool:
    """Ask the C library to keep freed memory instead of giving it back to the system.

    Otherwise each training step gets its activations as fresh pages, which the system must fill with zeros
    first; keeping them made a float32 step on two cores 1.4 times faster (2026-11). The process then stays
    as large as it ever was.

    Returns:
        Whether it was done; False where the C library is not glibc.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Old glibc refuses a threshold above half of a thread's heap, 32 MiB.
    threshold = mallopt(_M_MMAP_THRESHOLD, 2**30) or mallopt(_M_MMAP_THRESHOLD, 2**25)
    trim = mallopt(_M_TRIM_THRESHOLD, -1)
    pad = mallopt(_M_TOP_PAD, 2**26)
    return bool(threshold and trim and pad)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Inside of this block a GPU of NVIDIA gives the same bits for the same work; a processor does so anyway.

    Raises:
        PlanError: for an operation that has no such form, once it is asked for.
    """
    if device.type != "cuda":
        yield
        return
    # cuBLAS reads it when it is first used; with it, it takes the same memory for the same work.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if "CUBLAS_WORKSPACE_CONFIG" in said:  # read once, before we could set it
            raise PlanError(
                f"{device} was used in another way before, so it cannot be made to repeat itself any more",
                hint="set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment, and start Python anew",
            ) from None
        if "deterministic" not in said:
            raise
        raise PlanError(
            f"this network cannot be trained deterministically on {device}: {' '.join(said.split())[:200]}",
            hint="train again with --overwrite and without --set deterministic, or with --device cpu",
        ) from None
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.backends.cudnn.benchmark = before[1]


def describe_machine(device: torch.device | None = None) -> Machine:
    """Measure what this process may use: cores, free memory, and the accelerator `device` if it is one."""
    name, memory = None, None
    if device is not None and device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        memory = free_on_gpu(device)
    elif device is not None and device.type == "mps":
        name, memory = "Apple GPU", int(torch.mps.recommended_max_memory())
    return Machine(
        cores=_cores(),
        memory_bytes=_free_memory_bytes(),
        processor=_processor(),
        accelerator=name,
        accelerator_memory_bytes=memory,
    )


def free_on_gpu(device: torch.device) -> int:
    """Memory that this process can still get on a GPU of NVIDIA: what is free there, and what torch keeps for later.

    What a recorded step keeps is not free to others.
    """
    free = int(torch.cuda.mem_get_info(device)[0])
    if torch.cuda.get_allocator_backend() != "native":
        return free  # CUDA itself keeps memory then, and torch cannot say how much
    number = torch.cuda.current_device() if device.index is None else device.index
    return free + sum(
        segment["total_size"] - segment["active_size"]
        # With its traces, of which there are none unless somebody asks for them: torch 2.10 cannot leave them out.
        for segment in torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
        if segment["device"] == number and tuple(segment["segment_pool_id"]) == _COMMON_POOL
    )


def _cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may run on, by affinity and by the share a container has."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    for folder in _own_groups(groups):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit():
            cores = min(cores, math.ceil(int(words[0]) / int(words[1])))
    return max(cores, 1)


def _free_memory_bytes(
    groups: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo"), process: Path = Path("/proc/self")
) -> int:
    """Memory that this process can still get, the least of the system's, its containers' and its own room."""
    room = [_system_memory_bytes(meminfo)]
    for line in _read(process / "limits").splitlines():  # schedulers and `ulimit -v` limit addresses
        if line.startswith("Max address space") and (most := line.split()[3]).isdigit():
            room.append(int(most) - 1024 * _value_after("VmSize:", _read(process / "status")))
    for folder in _own_groups(groups):
        # Version 2, then version 1 of control groups.
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
        ):
            most, now = _read(folder / limit).strip(), _read(folder / used).strip()
            if most.isdigit() and now.isdigit():
                # Files kept in memory count as used but are dropped when room is needed.
                idle = _value_after("inactive_file", _read((folder / used).with_name("memory.stat")))
                room.append(int(most) - max(int(now) - idle, 0))
    return max(min(room), 0)


def _system_memory_bytes(meminfo: Path) -> int:
    if available := _value_after("MemAvailable:", _read(meminfo)):
        return available * 1024
    if sys.platform == "win32":
        return _windows_memory_bytes()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _windows_memory_bytes() -> int:
    class Status(ctypes.Structure):
        """MEMORYSTATUSEX of the Windows API."""

        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
        )

    status = Status(length=ctypes.sizeof(Status))
    library = getattr(ctypes, "windll")  # noqa: B009  (exists on Windows only)
    library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.free)


def _own_groups(root: Path) -> list[Path]:
    """Folders of the control groups this process is in, and of those around them."""
    folders = [root]
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        own = root / line.split(":", 2)[-1].lstrip("/")
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return list(dict.fromkeys(folders))


def _processor() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _value_after(word: str, text: str) -> int:
    """The number behind the first line that starts with `word`, 0 for none."""
    for line in text.splitlines():
        parts = line.split()
        if len(parts) > 1 and parts[0] == word and parts[1].isdigit():
            return int(parts[1])
    return 0


@dataclass(frozen=True, kw_only=True)
class Precision:
    """In which number type and memory layout a network is trained, and why."""

    dtype: DType
    """"bfloat16" stands for autocast: weights stay float32."""

    channels_last: bool
    """Whether the channels of a pixel lie side by side in memory."""

    reason: str
    """One sentence, with the times."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Least time of a trial step for each candidate that is right."""

    threads: int | None = None
    """Threads that torch uses for one operation; None leaves that as it is."""

    def use_threads(self) -> None:
        """Let torch use `threads`, in this thread and in those that begin later."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)

    def prepare(self, module_or_batch: nn.Module | Tensor) -> nn.Module | Tensor:
        """Bring a network, or a batch (b, c, ...), into the memory layout; both are needed."""
        if not self.channels_last:
            return module_or_batch
        if isinstance(module_or_batch, Tensor):
            layout = torch.channels_last if module_or_batch.ndim == 4 else torch.channels_last_3d
            return module_or_batch.contiguous(memory_format=layout)
        volumes = any(isinstance(part, nn.Conv3d) for part in module_or_batch.modules())
        layout = torch.channels_last_3d if volumes else torch.channels_last
        return module_or_batch.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context to run the forward pass in."""
        if self.dtype == "bfloat16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()


def choose_precision(
    network: nn.Module, example_shape: Sequence[int], device: torch.device, *, training: bool = True
) -> Precision:
    """Try a step in each precision and layout, and take the fastest that is right.

    Right means that every layer, given the same input and the same gradient of its output, gives the output and
    the gradient of its weights that it gives in float32. Gradients of the whole network say less: before any
    training, rounding alone moves those of the top layers by 40 % (measured 2026-11, where every layer was right).

    Makes its own copy of the network and random images; the network does not change. Takes about three seconds
    for training, less than one for prediction.

    Args:
        network: as it will be trained; its number of layers and channels decide.
        example_shape: a training batch, (b, c, y, x) or (b, c, z, y, x); large ones are tried in part, and timed in
            part on processors.
        device: where it will run.
        training: whether a step includes the backward pass; otherwise outputs alone are compared and timed.
    """
    candidates: list[tuple[str, DType, bool]] = [("float32", "float32", False)]
    if device.type == "cpu":
        candidates += [("float32 channels-last", "float32", True), ("bfloat16 channels-last", "bfloat16", True)]
    elif device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= _BFLOAT16_FROM:
        candidates += [("bfloat16", "bfloat16", False), ("bfloat16 channels-last", "bfloat16", True)]
    if len(candidates) == 1:
        return Precision(
            dtype="float32", channels_last=False, reason=f"float32: nothing else is known to be right on {device.type}"
        )

    if getattr(network, "padding", "same") == "valid":
        # Few sizes fit an unpadded network; the example is one of them.
        shape = (min(example_shape[0], 2), *example_shape[1:])
    else:
        shape = _trial_shape(example_shape, getattr(network, "total_stride", None))
    images = _random_images(shape, device)
    original = copy.deepcopy(network).to(device).train(training)
    for part in original.modules():
        # Chance would make two passes differ.
        if "dropout" in type(part).__name__.lower():
            part.eval()

    right: dict[str, tuple[Precision, nn.Module]] = {}
    wrong: dict[str, str] = {}
    for name, dtype, channels_last in candidates:
        setting = Precision(dtype=dtype, channels_last=channels_last, reason="")
        model = cast(nn.Module, setting.prepare(copy.deepcopy(original)))
        batch = cast(Tensor, setting.prepare(images))
        if dtype != "float32" and (problem := _find_fault(setting, model, batch, training=training)):
            wrong[name] = problem
        else:
            right[name] = setting, model

    def trials_of(images: Tensor) -> dict[str, Callable[[], None]]:
        return {
            name: partial(_trial_step, setting, model, cast(Tensor, setting.prepare(images)), training=training)
            for name, (setting, model) in right.items()
        }

    with _kernels_of(device, training=training):
        if device.type == "cpu":
            trials = trials_of(images)
            seconds = _time(trials, device)
        else:
            seconds, shape = _time_whole(trials_of, example_shape, device, least=shape)

    fastest = min(seconds, key=lambda name: seconds[name])
    if seconds[fastest] > _FASTER * seconds["float32"]:
        fastest = "float32"
    dtype, channels_last = next((dtype, last) for name, dtype, last in candidates if name == fastest)
    what = "step" if training else "pass"
    faults = "".join(f"; {name} refused: {problem}" for name, problem in wrong.items())
    threads, why = _choose_threads(trials[fastest], device) if training and device.type == "cpu" else (None, "")
    return Precision(
        dtype=dtype,
        channels_last=channels_last,
        seconds=seconds,
        reason=f"{fastest}: a trial {what} of {'×'.join(map(str, shape))} takes {_listed(seconds)}{faults}{why}",
        threads=threads,
    )


def _choose_threads(trial: Callable[[], None], device: torch.device) -> tuple[int | None, str]:
    """How many threads torch should use for a training step, and half a sentence why; None for as many as now.

    Torch takes all cores of the machine, also where a container may use a few of them only; and where there
    are many, small images are done sooner by some of them. Whoever set OMP_NUM_THREADS has decided already.
    """
    usual, cores = torch.get_num_threads(), _cores()
    # Of two cores, the second always helps.
    fewer = {cores, cores // 2, cores // 4} if cores > 2 else {cores}
    counts = sorted((count for count in fewer if 0 < count < usual), reverse=True)
    if not counts or "OMP_NUM_THREADS" in os.environ:
        return None, ""

    def with_threads(count: int) -> None:
        torch.set_num_threads(count)
        trial()

    try:
        seconds = _time({f"{count} threads": partial(with_threads, count) for count in (usual, *counts)}, device)
    finally:
        torch.set_num_threads(usual)
    fastest = min(seconds, key=lambda name: seconds[name])
    if seconds[fastest] > _FASTER * seconds[f"{usual} threads"]:
        fastest = f"{usual} threads"
    return int(fastest.split()[0]), f"; {fastest}: it takes {_listed(seconds)}"


def _random_images(shape: Sequence[int], device: torch.device) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(device)


@contextmanager
def _kernels_of(device: torch.device, *, training: bool) -> Iterator[None]:
    """cuDNN tries its kernels in training, so it does in trials of that."""
    before = torch.backends.cudnn.benchmark
    if device.type == "cuda" and training and not torch.are_deterministic_algorithms_enabled():
        torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _time_whole(
    trials_of: Callable[[Tensor], dict[str, Callable[[], None]]],
    shape: Sequence[int],
    device: torch.device,
    *,
    least: tuple[int, ...],
) -> tuple[dict[str, float], tuple[int, ...]]:
    """Least seconds of each trial on a whole batch, on as many of its images as all have memory for, or on `least`."""
    whole = tuple(shape)
    while True:
        try:
            return _time(trials_of(_random_images(whole, device)), device), whole
        except RuntimeError as error:
            if not is_out_of_memory(error) or whole == least:
                raise
        # Outside of the handler, whose traceback keeps everything alive that did not fit.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        whole = (whole[0] // 2, *whole[1:]) if whole[0] > 1 else least


def _listed(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in seconds.items())


def _trial_shape(shape: Sequence[int], strides: Sequence[int] | None) -> tuple[int, ...]:
    """Make a batch smaller, first in number, then along its longest axes, keeping whole strides."""
    trial = list(shape)
    least = [1, trial[1], *(strides or [16] * (len(trial) - 2))]

    def pixels() -> int:
        return trial[0] * math.prod(trial[2:])

    # Two images, not one: a batch norm over a single value would not be tried.
    while trial[0] > 2 and pixels() > _TRIAL_PIXELS:
        trial[0] = max(trial[0] // 2, 2)
    while pixels() > _TRIAL_PIXELS:
        axis = max(range(2, len(trial)), key=lambda axis: trial[axis])
        half = trial[axis] // 2 // least[axis] * least[axis]
        if half < 2 * least[axis]:
            break
        trial[axis] = half
    return tuple(trial)


def _trial_step(setting: Precision, model: nn.Module, images: Tensor, *, training: bool) -> None:
    """Run one training step, short of changing the weights, or the forward pass alone."""
    model.zero_grad(set_to_none=True)
    with setting.autocast(images.device), torch.set_grad_enabled(training):
        output = model(images)
    if not training:
        return
    outputs = output if isinstance(output, list | tuple) else [output]
    loss = sum((logits.float() - 1).square().mean() for logits in outputs)
    cast(Tensor, loss).backward()  # type: ignore[no-untyped-call]


def _find_fault(setting: Precision, model: nn.Module, images: Tensor, *, training: bool) -> str | None:
    """Say which layer computes something else than in float32 during a trial step, or None."""
    inputs: dict[str, tuple[Tensor, ...]] = {}
    outputs: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[[nn.Module, tuple[Tensor | None, ...], Tensor], None]:
        def hook(_: nn.Module, given: tuple[Tensor | None, ...], made: Tensor) -> None:
            # A copy, because activations work in place.
            inputs[name] = tuple(part.detach() for part in given if part is not None)
            outputs[name] = made.detach().clone()

            def keep(gradient: Tensor) -> None:
                gradients[name] = gradient.detach()

            if training:
                made.register_hook(keep)  # type: ignore[no-untyped-call]

        return hook

    layers = {
        name: layer
        for name, layer in model.named_modules()
        if not list(layer.children()) and list(layer.parameters(recurse=False))
    }
    hooks = [layer.register_forward_hook(listen(name)) for name, layer in layers.items()]
    try:
        _trial_step(setting, model, images, training=training)
    except RuntimeError as failure:
        if isinstance(failure, torch.OutOfMemoryError):
            raise
        return f"it fails ({' '.join(str(failure).split())[:200]})"
    finally:
        for hook in hooks:
            hook.remove()

    for name, layer in layers.items():
        if name not in outputs:
            continue
        made = layer(*(part.float() for part in inputs[name]))
        found, right = {"output": outputs[name]}, {"output": made.detach()}
        weight = layer.get_parameter("weight")
        if weight.ndim > 1 and weight.grad is not None and name in gradients:
            found["gradient"] = weight.grad
            (right["gradient"],) = torch.autograd.grad(made, weight, gradients[name].float())
        for what, value in right.items():
            error = float((found[what].float() - value).norm()) / max(float(value.norm()), 1e-30)
            if not error < _LAYER_ERROR:
                return f"the {what} of {name} is off by {error:.2g} of its length"
    return None


def _time(trials: dict[str, Callable[[], None]], device: torch.device) -> dict[str, float]:
    """Least seconds of each trial, taken in turns, so that other work on the machine strikes all alike."""
    for trial in trials.values():
        trial()
    times: dict[str, list[float]] = {name: [] for name in trials}
    start = time.perf_counter()
    for done in range(_TRIAL_ROUNDS):
        if done >= 2 and time.perf_counter() - start > _TRIAL_SECONDS:
            break
        for name, trial in trials.items():
            _wait(device)
            before = time.perf_counter()
            trial()
            _wait(device)
            times[name].append(time.perf_counter() - before)
    return {name: min(values) for name, values in times.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
