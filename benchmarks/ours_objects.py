"""Jobs for uvea's objects: how long decoding takes, and whether tiles change it; see `child.py` for what a job is."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 29
"""Pixels from one object to the next: 5,000 in 2048×2048."""

LARGEST = 2048
"""Larger sides are decoded block by block."""


def decoding(*, size: int) -> Iterator[dict[str, Any]]:
    """Each turn decodes maps of size×size with touching objects, blurred and with noise, on one core."""
    from uvea.objects.decode import decode
    from uvea.objects.stitch import decode_blocks
    from uvea.plan.decoding import Decoding

    piece = _maps(min(size, LARGEST))
    repeats = -(-size // piece.shape[1])
    settings = Decoding(min_size=20)
    yield {"versions": {}}
    while True:
        if size <= LARGEST:
            maps = np.tile(piece, (1, repeats, repeats))[:, :size, :size]
            began = time.perf_counter()
            ids = decode(maps, settings)
            yield {"seconds": time.perf_counter() - began, "objects": int(ids.max())}
            continue
        side = piece.shape[1]
        out = np.empty((size, size), np.uint32)

        def read(part: tuple[slice, ...], side: int = side) -> NDArray[np.float32]:
            y, x = (np.arange(one.start, one.stop) % side for one in part)
            return piece[:, y][:, :, x]

        began = time.perf_counter()
        count = decode_blocks(read, (size, size), settings, out=out)
        yield {"seconds": time.perf_counter() - began, "objects": count}


def _maps(size: int) -> NDArray[np.float32]:
    from uvea.objects.targets import targets

    y, x = np.mgrid[:size, :size]
    rng = np.random.default_rng(0)
    across = size // SIDE + 1
    shift = rng.uniform(-4, 4, (2, across, across))
    row, column = y // SIDE, x // SIDE
    far = np.hypot(y % SIDE - SIDE / 2 - shift[0][row, column], x % SIDE - SIDE / 2 - shift[1][row, column])
    ids = np.where(far < 15, row * across + column + 1, 0).astype(np.int32)
    # As smooth as what a network gives: noise from pixel to pixel would be another maximum at every third of them.
    noise = [ndimage.gaussian_filter(rng.normal(0, 0.1, ids.shape), 1.5) for _ in range(3)]
    maps = np.stack([ndimage.gaussian_filter(one, 1.0) for one in targets(ids)])
    return np.clip(maps + noise, 0, 1).astype(np.float32)


def tiles(*, model: str, image: str) -> Iterator[dict[str, Any]]:
    """AP at 0.90 between the objects of an image in tiles and of the same image at once.

    The image is repeated along its last two axes until it is larger than two tiles of the plan.
    """
    from dataclasses import replace

    import uvea
    from uvea.evaluation.instances import score_instances

    loaded = uvea.load(model, device="cpu")
    array = uvea.read(image).array
    plan = loaded.plan
    copies = [-(-2 * tile // length) for tile, length in zip(plan.tile[-2:], array.shape[-2:], strict=True)]
    array = np.tile(array, (1,) * (array.ndim - 2) + tuple(copies))
    whole = tuple(
        -(-length // step) * step for length, step in zip(array.shape[-plan.dims :], plan.stride, strict=True)
    )
    found = []
    for size, overlap in ((plan.tile, plan.overlap), (whole, (0,) * plan.dims)):
        changed = replace(loaded, plan=plan.model_copy(update={"tile": size, "overlap": overlap}))
        found.append(changed.predict(array))
    yield {"agreement": score_instances(found[1], found[0]).ap(0.9), "objects": int(found[1].max()), "versions": {}}
