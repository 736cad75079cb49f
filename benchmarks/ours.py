"""Jobs for uvea itself, by the functions that its workflows call; see `child.py` for what a job is."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from peer_data import Clock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import uvea
from uvea.inference.segment import Engine
from uvea.models import Precision, choose_precision, keep_large_blocks, preset
from uvea.models.build import build_network
from uvea.models.compiled import compiled
from uvea.plan.plan import Plan
from uvea.training.loop import Hooks, Progress
from uvea.training.loop import train as run_loop
from uvea.training.losses import build_loss, deep
from uvea.training.step import WARM_UP, Batch, Recorded, eager
from uvea.workflows.events import Message
from uvea.workflows.events import Progress as Told
from uvea.workflows.model import choose
from uvea.workflows.train import _can_be_recorded, _kept_precision, optimizer_of
from uvea.workflows.workspace import Workspace

Draw = Callable[[int], tuple[Tensor, Tensor]]
"""A step to images (b, c, ...) and labels on the device."""

CLIP = 12.0
"""Largest norm of the gradient, as a plan has it."""

SETTLING = WARM_UP + 1
"""Steps before those that are measured: on a GPU, some are taken one kernel after the other, and one is recorded."""

STAY_EAGER = "steps stay eager"
"""Begins what the package says where it cannot record a step."""

LOOKED_AT = 5
"""Steps on a GPU after which it is waited for: one by one they would only be begun."""

SLOWEST = 0.15
"""Share of the steps of a training that is left out, because validations fall into them."""


def two_level_steps(*, data: str, batch: int) -> Iterator[dict[str, Any]]:
    """What `peers_keras.fit` does, by uvea's loop: the same layers, the same data; each turn is an epoch."""
    with np.load(data) as file:
        images = torch.from_numpy(np.moveaxis(file["images"], -1, 1).copy())
        masks = torch.from_numpy(np.moveaxis(file["masks"], -1, 1).copy())
    steps = len(images) // batch
    keep_large_blocks()
    network: nn.Module = preset("mini")
    precision = choose_precision(network, (batch, *images.shape[1:]), torch.device("cpu"))
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))

    def draw(step: int) -> tuple[Tensor, Tensor]:
        nonlocal order
        if step % steps == 0:
            order = rng.permutation(len(images))
        chosen = order[step % steps * batch :][:batch]
        return images[chosen], masks[chosen]

    loss = nn.functional.binary_cross_entropy_with_logits
    optimizer = partial(torch.optim.Adam, lr=1e-3, fused=True)
    yield from _steps(network, optimizer, draw, loss, steps=steps, batch=batch, precision=precision, device="cpu")


def standard_steps(
    *, dims: int, shape: Sequence[int], steps: int, device: str = "cpu", widths: Sequence[int] | None = None
) -> Iterator[dict[str, Any]]:
    """The `standard` preset by uvea's loop on random data that is there already; each turn is `steps` steps."""
    keep_large_blocks()
    network = preset("standard", in_channels=shape[1], dims=dims, channels=widths)
    precision = choose_precision(network, tuple(shape), torch.device(device))
    images, labels = _random_batch(shape, device)
    recorded = device != "cpu"
    rate = torch.tensor(1e-3, device=device) if recorded else 1e-3
    optimizer = partial(torch.optim.AdamW, lr=rate, fused=True, capturable=recorded)
    yield from _steps(
        network,
        optimizer,
        lambda step: (images, labels),
        build_loss("dice_and_cross_entropy"),
        steps=steps,
        batch=shape[0],
        precision=precision,
        device=device,
    )


def _steps(
    network: nn.Module,
    optimizer: Callable[..., torch.optim.Optimizer],
    draw: Draw,
    loss: Callable[[Any, Tensor], Tensor],
    *,
    steps: int,
    batch: int,
    precision: Precision,
    device: str,
) -> Iterator[dict[str, Any]]:
    placed = precision.prepare(network.to(device))
    assert isinstance(placed, nn.Module)
    run = partial(_loop, placed, optimizer(placed.parameters()), draw, loss, precision=precision, device=device)

    def rest() -> None:
        placed.zero_grad(set_to_none=True)  # gradients lie in the memory of the last recording
        _forget_memory(device)

    with FlopCounterMode(display=False) as counter:
        run(1, recorded=False)
    run(1, recorded=False)
    rest()
    yield {
        "versions": versions(),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "precision": precision.reason,
        "runs_in": name_of(precision.dtype, channels_last=precision.channels_last),
        "torch_threads": torch.get_num_threads(),
        "step_flops": counter.get_total_flops(),
    }
    recorded = device != "cpu"
    while True:
        seconds, said = run(steps, recorded=recorded)
        manner = manner_of(device, recorded=recorded, said=said)
        memory = _device_memory(device)
        rest()
        yield {"seconds": seconds, "images": steps * batch, "steps": steps, "manner": manner, **memory}


def _loop(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    draw: Draw,
    loss: Callable[[Any, Tensor], Tensor],
    steps: int,
    *,
    precision: Precision,
    device: str,
    recorded: bool,
) -> tuple[float, list[str]]:
    """Seconds of so many steps by the training loop of the package with nothing around it, and what it said.

    Where steps are recorded, those that a recording begins with come before them.
    """
    clock = Clock()
    said: list[str] = []
    before = SETTLING if recorded else 0

    def batch(step: int, of: int | None) -> tuple[Tensor, Tensor]:
        images, labels = draw(step)
        prepared = precision.prepare(images)
        assert isinstance(prepared, Tensor)
        return prepared, labels

    def listen(progress: Progress, cost: float) -> None:
        if progress.step == before:
            _wait(device)
            clock.go()

    hooks = Hooks(
        batch=batch,
        loss=loss,
        learning_rate=lambda step, of: 1e-3,
        after_step=lambda: None,
        validate=lambda: 0.0,
        save=lambda progress, is_best: None,
        listen=listen,
        stop=lambda: False,
        recording=said.append if recorded else None,
    )
    autocast = partial(precision.autocast, torch.device(device))
    # One validation at the end: more would wait for a GPU every few steps, as no training does.
    progress = Progress(steps=before + steps, every=before + steps)
    if not before:
        clock.go()
    run_loop(network, optimizer, hooks, progress=progress, autocast=autocast, clip=CLIP)
    _wait(device)
    return clock.stop(), said


def whole_training(
    *, data: str, out: str, steps: int, overrides: dict[str, Any], device: str = "cpu"
) -> Iterator[dict[str, Any]]:
    """Seconds per step in `uvea.train`, and of the network alone with the same plan on random data.

    What `seconds` has more than `bare_seconds` is what is not the network: patches, augmentation, averaging, logging.
    Both in one turn, one after the other, in one precision, and recorded where the training is. Memory is that of the
    training.

    Args:
        data: folder of images and masks.
        out: a folder for models.
        steps: of each training.
        overrides: decisions of the plan.
        device: of torch.
    """
    yield {"versions": versions(), "torch_threads": torch.get_num_threads()}
    turn = 0
    while True:
        turn += 1
        times: list[float] = []
        said: list[str] = []
        together = 1 if device == "cpu" else LOOKED_AT

        def listen(
            event: Message | Told, times: list[float] = times, said: list[str] = said, together: int = together
        ) -> None:
            if isinstance(event, Message):
                said.append(event.text)
            elif event.task == "training" and event.done % together == 0:
                if together > 1:
                    torch.cuda.synchronize()
                times.append(time.perf_counter())

        folder = Path(out) / f"model-{turn}"
        plan = uvea.train(data, out=folder, steps=steps, overrides=overrides, device=device, listen=listen).plan
        memory = _device_memory(device)
        precision = _precision_of(folder, plan, device)
        recorded = _can_be_recorded(build_network(plan), plan, torch.device(device))
        bare = _bare(plan, precision, min(steps, 20), device, recorded=recorded)
        _forget_memory(device)
        yield {
            "seconds": step_seconds(times) / together,
            **bare,
            "precision": precision.reason,
            "runs_in": name_of(precision.dtype, channels_last=precision.channels_last),
            "manner": manner_of(device, recorded=recorded, said=said),
            "batch": plan.batch,
            "patch": list(plan.patch),
            "width": list(plan.width),
            **memory,
        }


def manner_of(device: str, *, recorded: bool, said: Sequence[str]) -> str:
    """How steps ran: "recorded" as a CUDA graph, or "eager", on a GPU with the reason after a colon.

    Args:
        device: of torch.
        recorded: whether they were to be recorded.
        said: by the package, among other things why they could not be.
    """
    if recorded:
        why = [text.removeprefix(STAY_EAGER).strip(" :") for text in said if text.startswith(STAY_EAGER)]
        return f"eager: {why[0]}" if why else "recorded"
    if device == "cpu":
        return "eager"
    return "eager: the plan asks for another optimizer than Muon and AdamW, for dropout, or to be deterministic"


def name_of(dtype: str, *, channels_last: bool) -> str:
    """Of a precision with its memory layout, in words."""
    return f"{dtype} channels-last" if channels_last else dtype


def step_seconds(times: Sequence[float]) -> float:
    """The mean of the time between two steps, without the first third and the slowest of the rest."""
    between = [later - earlier for earlier, later in pairwise(times)]
    settled = sorted(between[len(between) // 3 :])
    return fmean(settled[: max(1, round(len(settled) * (1 - SLOWEST)))])


def _precision_of(folder: Path, plan: Plan, device: str) -> Precision:
    """In which a model was trained: measured again, it might come out otherwise."""
    where = torch.device(device)
    packed, _ = Workspace(folder).load_checkpoint()
    return _kept_precision(packed, where) or choose(plan, build_network(plan), where, training=True)


def _bare(plan: Plan, precision: Precision, steps: int, device: str, *, recorded: bool) -> dict[str, Any]:
    """Seconds of forward, loss, backward and the plan's optimizer, with nothing else, for the network of a plan.

    As in a training, or the yardstick would be slower than what is measured with it: on a GPU with the fastest kernels
    of cuDNN, recorded where steps are, and compiled where the plan says so.
    """
    keep_large_blocks()
    _forget_memory(device)
    where = torch.device(device)
    placed = precision.prepare(build_network(plan).to(where))
    assert isinstance(placed, nn.Module)
    forward = compiled(placed) if plan.compiled else placed
    images, labels = _random_batch((plan.batch, plan.channels, *plan.patch), device, classes=plan.classes)
    given = precision.prepare(images)
    assert isinstance(given, Tensor)
    plain = build_loss(plan.loss, class_weights=plan.class_weights)
    loss: Any = deep(plain) if plan.deep_supervision else plain
    optimizer = optimizer_of(placed, plan, precision, recorded=recorded)
    placed.train()

    def work(batch: Batch) -> Tensor:
        images, labels = batch
        with precision.autocast(where):
            logits = forward(images)
        cost = loss(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        cost.backward()
        norm = nn.utils.clip_grad_norm_(placed.parameters(), CLIP)
        optimizer.step()
        return torch.stack((cost.detach().float(), norm.detach().float()))

    said: list[str] = []
    take = Recorded(work, optimizer, placed, tell=said.append) if recorded else eager(work, optimizer)

    def run(count: int) -> None:
        for _ in range(count):
            take((given, labels), plan.learning_rate)
        _wait(device)

    with fastest_kernels(device, deterministic=plan.deterministic):
        run(SETTLING)
        clock = Clock()
        clock.go()
        run(steps)
        seconds = clock.stop() / steps
    return {"bare_seconds": seconds, "bare_manner": manner_of(device, recorded=recorded, said=said)}


@contextmanager
def fastest_kernels(device: str, *, deterministic: bool = False) -> Iterator[None]:
    """Inside of this block cuDNN tries its kernels and keeps the fastest, as in the steps of a training on a GPU."""
    before = torch.backends.cudnn.benchmark
    if device != "cpu" and not deterministic:
        torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def prediction(*, model: str, image: str, out: str, engine: str, device: str = "cpu") -> Iterator[dict[str, Any]]:
    """`Model.predict` on one image in memory; the mask is kept.

    Args:
        model: a folder that uvea wrote.
        image: .npy, (c, ...).
        out: .npy for the mask.
        engine: of `uvea.load`, or "int8".
        device: of torch.
    """
    pixels = np.load(image)
    loaded = uvea.load(model, device=device, **engine_words(engine))
    small = pixels[(slice(None), *(slice(0, n) for n in loaded.plan.patch))]
    loaded.predict(small if device == "cpu" else pixels)
    _forget_memory(device)
    facts = {"versions": versions(), "torch_threads": torch.get_num_threads(), "engine": str(engine)}
    yield facts if engine == "int8" else {**facts, "runs_in": _precision_in(loaded.engine)}
    while True:
        if device != "cpu":
            loaded.predict(pixels)  # so that the memory is there
        clock = Clock()
        clock.go()
        mask = loaded.predict(pixels)
        seconds, memory = clock.stop(), _device_memory(device)
        np.save(out, mask)
        _forget_memory(device)
        yield {"seconds": seconds, "pixels": mask.size, **memory}


def _precision_in(engine: Engine) -> str:
    """In which networks predict."""
    kind = engine.device.type
    with engine.autocast():
        low = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if low else torch.float32
    return name_of(str(dtype).removeprefix("torch."), channels_last=engine.channels_last)


def engine_words(engine: str) -> dict[str, Any]:
    """What `uvea.load` is given for an engine.

    Raises:
        ModuleNotFoundError: if the engine is not installed.
    """
    for needed in {"openvino": ["openvino"], "int8": ["openvino", "nncf"], "onnxruntime": ["onnxruntime"]}.get(
        engine, []
    ):
        if find_spec(needed) is None:
            raise ModuleNotFoundError(needed, name=needed)
    return {"int8": True} if engine == "int8" else {"engine": engine}


def versions() -> dict[str, str]:
    """Of what is measured here."""
    return {"uvea": uvea.__version__, "torch": str(torch.__version__)}


def _random_batch(shape: Sequence[int], device: str, *, classes: int = 2) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(tuple(shape), generator=rng)
    labels = torch.randint(0, classes, (shape[0], *shape[2:]), generator=rng)
    return images.to(device), labels.to(device)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _forget_memory(device: str) -> None:
    """What torch took of a GPU before does not count from here on, and is there for the next tool."""
    if device != "cpu":
        gc.collect()  # a training leaves circles behind
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _device_memory(device: str) -> dict[str, int]:
    """What tensors had at most, and what torch held for them: a recorded step keeps what it needs between steps."""
    if device == "cpu":
        return {}
    taken, held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"device_peak_bytes": taken, "device_reserved_peak_bytes": held}
