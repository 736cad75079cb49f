"""A job for StarDist: trained from scratch on the same images for the same minutes, with its own choice of thresholds.

Schmidt et al. 2018 and Weigert et al. 2020, with the settings of its example notebooks: 32 rays in 2D and 96 in 3D,
grid 2 in the plane, flips and turns, weights that are best on validation images, thresholds from these.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAINING = 0.9
"""Share of the time for training; the rest is for its search of thresholds."""

VALIDATION = 0.15


def from_scratch(
    *, train: str, held: str, out: str, minutes: float, seed: int, folder: str
) -> Iterator[dict[str, Any]]:
    """Train, predict the held-back images, and write their ids by name.

    Args:
        train: images, ids and spacings by name, see `objects.py`.
        held: likewise; their ids are not read.
        out: file for the ids that were found.
        minutes: of training and thresholds together.
        seed: of the split and the weights.
        folder: for the model.
    """
    began = time.monotonic()
    import stardist
    import tensorflow
    from csbdeep.utils import normalize
    from stardist import Rays_GoldenSpiral, calculate_extents, fill_label_holes
    from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D

    tensorflow.random.set_seed(seed)
    rng = np.random.default_rng(seed)
    np.random.seed(seed)
    with np.load(train) as file:
        names = [name.removeprefix("image ") for name in file if name.startswith("image ")]
        images = [_prepared(file[f"image {name}"], normalize) for name in names]
        ids = [fill_label_holes(file[f"ids {name}"]) for name in names]
        spacing = file[f"spacing {names[0]}"]
    channels = max(image.shape[-1] for image in images)
    images = [_with_channels(image, channels) for image in images]
    order = rng.permutation(len(images))
    held_out = order[: max(1, round(VALIDATION * len(images)))]
    chosen = [i for i in order if i not in set(held_out.tolist())]
    smallest = np.min([one.shape for one in ids], axis=0).tolist()
    if ids[0].ndim == 2:
        config = Config2D(
            n_rays=32,
            grid=(2, 2),
            n_channel_in=channels,
            train_patch_size=tuple(min(256, n // 16 * 16) for n in smallest),
            train_batch_size=4,
            train_epochs=10_000,
            train_tensorboard=False,
            train_steps_per_epoch=50,
        )
        kind = StarDist2D
    else:
        extents = calculate_extents(ids)
        flat = tuple((np.max(extents) / extents).tolist())
        config = Config3D(
            rays=Rays_GoldenSpiral(96, anisotropy=flat),
            grid=tuple(1 if ratio > 1.5 else 2 for ratio in flat),
            anisotropy=flat,
            n_channel_in=channels,
            train_patch_size=tuple(int(min(most, n // 8 * 8)) for most, n in zip((48, 96, 96), smallest, strict=True)),
            train_batch_size=2,
            train_epochs=10_000,
            train_tensorboard=False,
            train_steps_per_epoch=25,
        )
        kind = StarDist3D
    model = kind(config, name="stardist", basedir=folder)
    end = began + 60 * minutes * TRAINING
    model.prepare_for_training()
    model.callbacks.append(_until(end))
    picked = [[images[i] for i in part] for part in (chosen, held_out)]
    wanted = [[ids[i] for i in part] for part in (chosen, held_out)]
    history = model.train(
        picked[0], wanted[0], validation_data=(picked[1], wanted[1]), augmenter=_turned(rng), seed=seed, workers=1
    )
    model.optimize_thresholds(picked[1], wanted[1])
    seconds = time.monotonic() - began
    found: dict[str, Any] = {}
    with np.load(held) as file:
        for name in (one.removeprefix("image ") for one in file if one.startswith("image ")):
            image = _with_channels(_prepared(file[f"image {name}"], normalize), channels)
            found[name], _ = model.predict_instances(image)
    np.savez(out, **found)
    yield {
        "training_seconds": seconds,
        "predict_seconds": time.monotonic() - began - seconds,
        "epochs": len(history.history["loss"]),
        "spacing": spacing.tolist(),
        "versions": {"stardist": stardist.__version__, "tensorflow": tensorflow.__version__},
    }


def _prepared(image: NDArray[np.generic], normalize: Any) -> NDArray[np.float32]:
    """(c, ...) to (..., c), percentiles 1 and 99.8 to 0 and 1, as the notebooks do."""
    moved = np.moveaxis(image, 0, -1)
    found: NDArray[np.float32] = normalize(moved, 1, 99.8, axis=tuple(range(moved.ndim - 1)))
    return found


def _with_channels(image: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    return np.repeat(image, channels, axis=-1) if image.shape[-1] < channels else image


def _until(end: float) -> Any:
    """A callback that stops the training when time is up, at the end of a step."""
    from csbdeep.utils.tf import keras_import

    class Until(keras_import("callbacks", "Callback")):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            if time.monotonic() >= end:
                self.model.stop_training = True

    return Until()


def _turned(rng: np.random.Generator) -> Any:
    """Flips and quarter turns in the plane, and another brightness, as in the notebooks."""

    def augment(image: NDArray[np.float32], ids: NDArray[np.integer]) -> tuple[NDArray[Any], NDArray[Any]]:
        last = ids.ndim - 1
        turns = int(rng.integers(4)) if ids.shape[last] == ids.shape[last - 1] else 2 * int(rng.integers(2))
        image, ids = np.rot90(image, turns, (last - 1, last)), np.rot90(ids, turns, (last - 1, last))
        if rng.random() < 0.5:
            image, ids = np.flip(image, last), np.flip(ids, last)
        return image * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2), ids

    return augment
