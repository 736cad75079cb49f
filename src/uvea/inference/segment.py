"""From an image as read to class probabilities on its own grid.

prepare -> sliding window, by slice or by volume -> mean over networks -> back to the image's grid
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from uvea.images.image import Image
from uvea.inference.sliding_window import predict
from uvea.plan.plan import Plan
from uvea.plan.prepare import prepare_image


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How and where networks run."""

    device: torch.device
    channels_last: bool
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext


def segment(
    networks: Sequence[nn.Module],
    image: Image,
    plan: Plan,
    *,
    engine: Engine,
    mirror: bool = False,
    where: str = "the image",
) -> Tensor:
    """Class probabilities of one image.

    Args:
        networks: in evaluation mode on the engine's device; the mean of all is returned.
        image: as read.
        plan: of the model.
        engine: see `Engine`.
        mirror: average over mirrored copies along the plan's `mirror_axes`.
        where: what to call the image in errors.

    Returns:
        (k, ...) float32 on the spatial grid of `image`, on the CPU.
    """
    prepared = prepare_image(image, plan, where=where)
    return to_grid(segment_prepared(networks, prepared, plan, engine=engine, mirror=mirror), image.shape)


def segment_prepared(
    networks: Sequence[nn.Module],
    prepared: NDArray[np.float32],
    plan: Plan,
    *,
    engine: Engine,
    mirror: bool = False,
) -> Tensor:
    """Probabilities (k, ...) on the grid of a prepared image (c, ...); a volume under a 2D plan goes slice by slice."""
    if prepared.ndim - 1 > plan.dims:
        volume: Tensor | None = None
        for index in range(prepared.shape[1]):
            found = segment_prepared(networks, prepared[:, index], plan, engine=engine, mirror=mirror)
            if volume is None:
                volume = torch.empty((len(found), prepared.shape[1], *found.shape[1:]))
            volume[:, index] = found
        assert volume is not None
        return volume
    pixels = torch.from_numpy(np.ascontiguousarray(prepared)).to(engine.device)
    total: Tensor | None = None
    for network in networks:
        probabilities = predict(
            _runner(network, plan.dims, engine),
            pixels,
            tile=plan.tile,
            overlap=plan.overlap,
            stride=plan.stride,
            mirror_axes=plan.mirror_axes if mirror else (),
        )
        total = probabilities if total is None else total + probabilities
    assert total is not None
    return (total / len(networks)).cpu()


def to_grid(probabilities: Tensor, shape: Sequence[int]) -> Tensor:
    """Resize probabilities (k, ...) linearly to the spatial size `shape`."""
    if tuple(probabilities.shape[1:]) == tuple(shape):
        return probabilities
    mode = "bilinear" if probabilities.ndim == 3 else "trilinear"
    return functional.interpolate(probabilities[None], size=tuple(shape), mode=mode, align_corners=False)[0]


def _runner(network: nn.Module, dims: int, engine: Engine) -> Callable[[Tensor], Tensor]:
    layout = (
        {2: torch.channels_last, 3: torch.channels_last_3d}[dims] if engine.channels_last else torch.contiguous_format
    )

    def run(pieces: Tensor) -> Tensor:
        with engine.autocast():
            logits: Tensor = network(pieces.contiguous(memory_format=layout))
        return logits

    return run
