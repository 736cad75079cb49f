"""Jobs for uvea itself, by the functions that its workflows call; see `child.py` for what a job is."""

import time
from collections.abc import Callable, Iterator, Sequence
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
from uvea.models import Precision, choose_precision, keep_large_blocks, preset
from uvea.models.build import build_network
from uvea.plan.plan import Plan
from uvea.training.loop import Hooks, Progress
from uvea.training.loop import train as run_loop
from uvea.training.losses import build_loss, deep
from uvea.workflows.events import Message
from uvea.workflows.events import Progress as Told
from uvea.workflows.model import choose
from uvea.workflows.train import optimizer_of

Draw = Callable[[int], tuple[Tensor, Tensor]]
"""A step to images (b, c, ...) and labels on the device."""

CLIP = 12.0
"""Largest norm of the gradient, as a plan has it."""

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
    optimizer = partial(torch.optim.AdamW, lr=1e-3, fused=True)
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
    with FlopCounterMode(display=False) as counter:
        run(1)
    run(1)
    yield {
        "versions": versions(),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "precision": precision.reason,
        "torch_threads": torch.get_num_threads(),
        "step_flops": counter.get_total_flops(),
    }
    while True:
        clock = Clock()
        clock.go()
        run(steps)
        yield {"seconds": clock.stop(), "images": steps * batch, "steps": steps, **_device_memory(device)}


def _loop(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    draw: Draw,
    loss: Callable[[Any, Tensor], Tensor],
    steps: int,
    *,
    precision: Precision,
    device: str,
) -> None:
    """The training loop of the package with nothing around it."""

    def batch(step: int, of: int | None) -> tuple[Tensor, Tensor]:
        images, labels = draw(step)
        prepared = precision.prepare(images)
        assert isinstance(prepared, Tensor)
        return prepared, labels

    hooks = Hooks(
        batch=batch,
        loss=loss,
        learning_rate=lambda step, of: 1e-3,
        after_step=lambda: None,
        validate=lambda: 0.0,
        save=lambda progress, is_best: None,
        listen=lambda progress, cost: None,
        stop=lambda: False,
    )
    autocast = partial(precision.autocast, torch.device(device))
    run_loop(network, optimizer, hooks, progress=Progress(steps=steps), autocast=autocast, clip=CLIP)
    if device != "cpu":
        torch.cuda.synchronize()


def whole_training(
    *, data: str, out: str, steps: int, overrides: dict[str, Any], device: str = "cpu"
) -> Iterator[dict[str, Any]]:
    """Seconds per step in `uvea.train`, and of the network alone with the same plan on random data.

    What `seconds` has more than `bare_seconds` is what is not the network: patches, augmentation, averaging, logging.
    Both in one turn, one after the other.

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
        together = 1 if device == "cpu" else LOOKED_AT

        def listen(event: Message | Told, times: list[float] = times, together: int = together) -> None:
            if isinstance(event, Told) and event.task == "training" and event.done % together == 0:
                if together > 1:
                    torch.cuda.synchronize()
                times.append(time.perf_counter())

        model = uvea.train(
            data, out=Path(out) / f"model-{turn}", steps=steps, overrides=overrides, device=device, listen=listen
        )
        bare = _bare_seconds(model.plan, min(steps, 20), device)
        yield {
            "seconds": step_seconds(times) / together,
            "bare_seconds": bare,
            "batch": model.plan.batch,
            "patch": list(model.plan.patch),
            "width": list(model.plan.width),
            **_device_memory(device),
        }


def step_seconds(times: Sequence[float]) -> float:
    """The mean of the time between two steps, without the first third and the slowest of the rest."""
    between = [later - earlier for earlier, later in pairwise(times)]
    settled = sorted(between[len(between) // 3 :])
    return fmean(settled[: max(1, round(len(settled) * (1 - SLOWEST)))])


def _bare_seconds(plan: Plan, steps: int, device: str) -> float:
    """Seconds of forward, loss, backward and the plan's optimizer, with nothing else, for the network of a plan."""
    keep_large_blocks()
    network = build_network(plan)
    precision = choose(plan, network, torch.device(device), training=True)
    placed = precision.prepare(network.to(device))
    assert isinstance(placed, nn.Module)
    images, labels = _random_batch((plan.batch, plan.channels, *plan.patch), device, classes=plan.classes)
    given = precision.prepare(images)
    plain = build_loss(plan.loss, class_weights=plan.class_weights)
    loss: Any = deep(plain) if plan.deep_supervision else plain
    optimizer = optimizer_of(placed, plan, precision)
    placed.train()

    def run(count: int) -> None:
        for _ in range(count):
            with precision.autocast(torch.device(device)):
                logits = placed(given)
            cost = loss(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            cost.backward()
            nn.utils.clip_grad_norm_(placed.parameters(), CLIP)
            optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    run(3)
    clock = Clock()
    clock.go()
    run(steps)
    return clock.stop() / steps


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
    loaded.predict(small)
    yield {"versions": versions(), "torch_threads": torch.get_num_threads(), "engine": str(engine)}
    while True:
        clock = Clock()
        clock.go()
        mask = loaded.predict(pixels)
        seconds = clock.stop()
        np.save(out, mask)
        yield {"seconds": seconds, "pixels": mask.size, **_device_memory(device)}


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


def _device_memory(device: str) -> dict[str, int]:
    return {} if device == "cpu" else {"device_peak_bytes": torch.cuda.max_memory_allocated()}
