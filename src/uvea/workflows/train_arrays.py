"""Train on arrays in memory: `uvea.train(x, y)`.

With `preset="mini"` it is the training of many courses, step for step as Keras does it: the two-level network,
pixels as they are given, Adam at a constant rate, whole images in a new order each epoch, no augmentation, and the
weights after the last epoch. Without a preset uvea plans the training, as it does for a folder of files.
Arrays of images are (n, y, x, c), (n, c, y, x) or (n, y, x); which one it is follows from the number of channels.
"""

import csv
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from math import ceil
from numbers import Real
from pathlib import Path
from statistics import fmean
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

import uvea
from uvea.arrays.labels import LabelMap, made_whole
from uvea.arrays.normalize import Normalization
from uvea.augment.chain import standard_chain
from uvea.datasets.case import DataOptions, whole_number
from uvea.errors import DatasetError, PlanError, ShapeError, UveaError
from uvea.evaluation import CaseScore, counts, score_case, write_csv
from uvea.evaluation.overlap import dice, iou
from uvea.images import write
from uvea.images.image import Image
from uvea.models.build import build_network
from uvea.models.device import Precision, describe_machine, find_device, keep_large_blocks
from uvea.models.presets import tutorial
from uvea.models.weights import save_weights
from uvea.plan.budget import Budget
from uvea.plan.fingerprint import Fingerprint
from uvea.plan.plan import Plan
from uvea.training.loop import Hooks, Progress
from uvea.training.loop import train as run_loop
from uvea.training.losses import Loss, build_loss
from uvea.workflows.events import Listener, Message, silent
from uvea.workflows.events import Progress as Told
from uvea.workflows.import_keras import describe_graph
from uvea.workflows.model import Model, array_of, choose, engine_for, ready
from uvea.workflows.train import DEVICE_SHARE
from uvea.workflows.train import train as train_files
from uvea.workflows.workspace import Workspace

LOSSES = {
    "bce": "cross_entropy",
    "binary_crossentropy": "cross_entropy",
    "cross_entropy": "cross_entropy",
    "dice": "soft_dice",
    "soft_dice": "soft_dice",
    "bce+dice": "dice_and_cross_entropy",
    "dice_and_cross_entropy": "dice_and_cross_entropy",
    "focal": "focal",
}
"""What a loss may be called here. The cross-entropy of one sigmoid is the binary cross-entropy."""

EPOCHS = 10
BATCH = 32
RATE = 0.001
"""Of the preset, as the courses and Keras have them."""

MOST_CHANNELS = 4
"""An axis longer than this holds no channels."""

MOST_CLASSES = 64

LARGEST_VALUE = 2.0**63
"""Of masks in floats: from here on they are no whole numbers of 64 bits."""

Pixels = ArrayLike
"""Anything that numpy takes for an array of numbers, and tensors of torch."""

_Draw = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Numbers of images (b,), on the processor, to the images (b, c, y, x) and their classes (b, y, x), on the device."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A network that was trained on arrays, with how it came about."""

    model: Model
    """As `uvea.load` gives it; `model.plan` has every decision."""

    history: Mapping[str, list[float]]
    """A value per epoch for each name: loss, val_loss, val_accuracy, val_dice, val_iou. Planned trainings have
    step, seconds, loss, val_dice and lr, a value per validation."""

    train: tuple[int, ...]
    """Which images were trained on, in the order of the split."""

    validation: tuple[int, ...]
    """Which were not; empty where you gave them apart."""

    channels_first: bool = False
    """Whether the images were given as (n, c, y, x)."""

    def predict(self, x: Pixels, *, mirror: bool = False) -> NDArray[np.generic]:
        """Masks of images, with the values that y had.

        Args:
            x: (n, y, x, c), (n, c, y, x) or (n, y, x), of any size; or one image without the first axis. (1, y, x)
                is one image where the training had (n, c, y, x), else a list of one. With a preset, pixels of the type
                that was trained on: floats, uint8 or uint16.
            mirror: average over mirrored copies.

        Returns:
            (n, y, x), or (y, x) for one image.

        Raises:
            ShapeError: for what is no array of images, or has other channels; for (3, y, x) where colour images were
                given as (n, y, x, 3), because it may be one image or three gray ones.
            DatasetError: for pixels of another type than a preset was trained on, and for NaN or infinite ones.
        """
        return self._mapped(x, lambda image: self.model.predict(image, mirror=mirror))

    def probabilities(self, x: Pixels, *, mirror: bool = False) -> NDArray[np.float32]:
        """Probabilities of the foreground (n, y, x), or of all classes (n, k, y, x) if there are more than two.

        Images are given as to `predict`, and are refused as there.
        """

        def one(image: NDArray[np.generic]) -> NDArray[np.float32]:
            found = self.model.probabilities(image, mirror=mirror)
            return found[1] if len(found) == 2 else found

        found: NDArray[np.float32] = self._mapped(x, one)
        return found

    def evaluate(self, x: Pixels, y: Pixels) -> dict[str, float]:
        """Scores of images against their masks.

        Returns:
            dice and iou: mean over the images (and foreground classes), 1 where a class is in neither mask;
            accuracy: share of the pixels that are right.

        Raises:
            ShapeError: for arrays that are no images and masks of one size.
            DatasetError: as `predict`, and for masks with other values than those of the training.
        """
        images = as_images(x)
        masks = _masks_of(y, images)
        labels = self.model.plan.labels
        truths = labels.encode(masks[None], where="y")
        found = labels.encode(self.predict(images)[None], where="the prediction")
        each = [counts(truth, mask, classes=labels.classes) for truth, mask in zip(truths, found, strict=True)]
        return _scores([one.tp for one in each], [one.fp for one in each], [one.fn for one in each])

    def _mapped(self, x: Pixels, function: Callable[[NDArray[np.generic]], Any]) -> NDArray[Any]:
        array = array_of(x)
        single = self._is_one(array.shape)
        images = as_images(array[None] if single else array)
        plan = self.model.plan
        # What uvea plans is normalised image by image; a preset takes pixels by the range of their type.
        if plan.graph is not None and _scale_of(images.dtype) != _scale_of(np.dtype(plan.fingerprint.dtypes[0])):
            raise DatasetError(
                f"images are of {images.dtype}, those for training were of {plan.fingerprint.dtypes[0]}",
                hint="give both as they come from the files, or both divided alike",
            )
        found = np.stack([function(image) for image in images])
        return found[0] if single else found

    def _is_one(self, shape: Sequence[int]) -> bool:
        """Whether an array is one image and not several."""
        channels = self.model.plan.channels
        if len(shape) != 3:
            return len(shape) < 3
        if shape[-1] == channels or (shape[0] == channels and self.channels_first):
            return True
        if shape[0] == channels == 3:
            raise ShapeError(
                f"an array of {_size(shape)} may be one colour image or three gray ones",
                hint="give x[None] for one image, or x[:, None] for three gray ones",
            )
        return shape[0] == channels > 1


@overload
def train(source: str | Path, y: None = None, **settings: Any) -> Model: ...
@overload
def train(source: Pixels, y: Pixels, **settings: Any) -> Trained: ...
def train(source: Any, y: Any = None, **settings: Any) -> Model | Trained:
    """Train on files or on arrays.

    `uvea.train("data", out="model", minutes=10)` trains on a folder or a table and gives a `Model`; see
    `uvea.workflows.train.train`. `uvea.train(x, y)` trains on images and masks in memory and gives a `Trained`;
    see `train_arrays`.
    """
    if isinstance(source, str | Path):
        if y is not None:
            raise DatasetError(
                "a folder of images was given together with an array of masks",
                hint="give two arrays, uvea.train(x, y), or the folder alone",
            )
        return train_files(source, **settings)
    if y is None:
        raise DatasetError("images were given without their masks", hint="give both: uvea.train(x, y)")
    return train_arrays(source, y, **settings)


def train_arrays(
    x: Pixels,
    y: Pixels,
    *,
    preset: str | None = None,
    loss: str | None = None,
    optimizer: str | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    augment: float | None = None,
    validation: float | Sequence[Pixels] = 0.2,
    allow_leak: bool = False,
    seed: int = 42,
    precision: str = "auto",
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str | None = None,
    listen: Listener = silent,
) -> Trained:
    """Train on images and masks in memory.

    Without a preset and without epochs, steps or minutes it trains for ten minutes. Nothing is printed unless `listen`
    is given.

    Args:
        x: images, (n, y, x, c), (n, c, y, x) or (n, y, x), with 1 to 4 channels. With a preset, unsigned whole numbers
            of 8 and 16 bits are divided by 255 and 65535, and floats are taken as they are; without, they are
            normalised as the plan says.
        y: masks, the same without channels or with one: two or more whole numbers, also as floats. 0 is background
            where there is one, else the lowest.
        preset: "mini", the two-level network of many courses (148,353 parameters for gray images), trained as Keras
            trains it; None: uvea plans network and training.
        loss: "bce", "dice", "bce+dice" or "focal". With the preset "bce" unless given.
        optimizer: "adam" with a preset; without, "muon", "adamw" or "sgd".
        epochs: passes over the training images; 10 with the preset. Or
        steps: batches, or
        minutes: wall-clock time of the call, without a preset only; 10 where none of the three is given.
        batch_size: images per step; 32 with the preset.
        learning_rate: 0.001 with the preset.
        augment: strength of the augmentation: 0 none, which the preset has, 1 usual.
        validation: share of the images that are held back, by the draw of scikit-learn's train_test_split with
            `random_state=seed`; 0 trains on all, with the preset only; or images and masks of your own, (x, y), with
            pixels of the same type.
        allow_leak: train also where an image has a copy on the other side of the split; `listen` is told, and the
            report says so. Without a preset only: with one, copies are not looked for.
        seed: of the split, the first weights and the order of images.
        precision: "auto" measures what is fastest and right here; or "float32", "bfloat16".
        out: a folder for the model; None writes nothing.
        overwrite: whether a model in `out` may be replaced.
        device: "cpu", "cuda" or "mps"; None takes the best there is.
        listen: told what happens, such as `print`; see `uvea.workflows.events`.

    Raises:
        ShapeError: for arrays that are no images and masks of one size.
        DatasetError: for masks that have not two whole numbers or more, too few images, pixels without a known range,
            images for validation of another type, or, without a preset, copies on both sides of the split.
        PlanError: for settings that do not exist, are of another type or contradict each other, and where there is no
            memory.
        ModelError: for a training whose loss became no number.
        OutputError: if `out` has other things in it, or cannot be written.
    """
    array = array_of(x)
    images = as_images(array)
    masks = _masks_of(y, images)
    labels = _label_map(masks)
    seed = whole_number("seed", seed, kind=PlanError)
    if not 0 <= seed < 2**32:
        raise PlanError(f"the seed is {seed}", hint="use a number from 0 to 4294967295, such as 42")
    if loss is not None and (not isinstance(loss, str) or loss not in LOSSES):
        raise PlanError(f"no loss called {loss!r}", hint="use one of bce, dice, bce+dice, focal")
    own = _own_images(validation)
    if own is None:
        assert isinstance(validation, Real)
        chosen, held = split_arrays(len(images), float(validation), seed=seed)
    else:
        given = as_images(own[0])
        wanted = _masks_of(own[1], given)
        if given.shape[1:] != images.shape[1:]:
            raise ShapeError(
                f"images for validation are {_size(given.shape[1:])}, those for training {_size(images.shape[1:])}",
                hint="bring both to one size",
            )
        if _scale_of(images.dtype) != _scale_of(given.dtype):
            # Joined, whole numbers would become fractions, or those of another range.
            raise DatasetError(
                f"images for validation are of {given.dtype}, those for training of {images.dtype}",
                hint="give both as they come from the files, or both divided alike",
            )
        chosen, held = tuple(range(len(images))), tuple(range(len(images), len(images) + len(given)))
        images, masks = np.concatenate((images, given)), np.concatenate((masks, wanted))
        labels = _label_map(masks)
    data = _Data(images=images, masks=masks, labels=labels, train=chosen, validation=held)
    with _in_words_of_python():
        if preset is None:
            found = _planned(
                data,
                settings={
                    "loss": None if loss is None else LOSSES[loss],
                    "optimizer": optimizer,
                    "batch": batch_size,
                    "learning_rate": learning_rate,
                    "augment": augment,
                    "precision": precision,
                },
                budget=Budget(minutes=minutes, epochs=epochs, steps=steps),
                allow_leak=allow_leak,
                seed=seed,
                out=out,
                overwrite=overwrite,
                device=device,
                listen=listen,
            )
        else:
            if preset != "mini":
                raise PlanError(f"no preset called {preset!r} for arrays", hint='use preset="mini", or leave it out')
            if optimizer not in (None, "adam"):
                raise PlanError(
                    f"the preset {preset} is trained with adam, not {optimizer}",
                    hint='use optimizer="adam", or leave the preset out',
                )
            if minutes is not None:
                raise PlanError(
                    f"the preset {preset} is trained for epochs, not for {minutes} minutes",
                    hint="use epochs=10, or leave the preset out",
                )
            if allow_leak:
                raise PlanError(
                    f"allow_leak is for planned trainings: with the preset {preset} copies are not looked for",
                    hint="leave allow_leak out, or leave the preset out",
                )
            budget = Budget(epochs=EPOCHS if epochs is None and steps is None else epochs, steps=steps)
            plan = _preset_plan(
                data,
                budget=budget,
                loss=LOSSES[loss or "bce"],
                batch=BATCH if batch_size is None else batch_size,
                rate=RATE if learning_rate is None else learning_rate,
                augment=augment or 0.0,
                precision=precision,
                seed=seed,
            )
            found = _trained_as_planned(data, plan, out=out, overwrite=overwrite, device=device, listen=listen)
    first = _channels_first(array.shape)
    return replace(found, channels_first=first, validation=found.validation if own is None else ())


def _own_images(validation: object) -> tuple[Any, Any] | None:
    """Images and masks to validate on; None for a share of those to train on."""
    if isinstance(validation, Real):
        return None
    if isinstance(validation, Sequence) and not isinstance(validation, str) and len(validation) == 2:
        return validation[0], validation[1]
    count = f"{type(validation).__name__} of {len(validation)}" if isinstance(validation, tuple | list) else ""
    raise PlanError(
        f"validation is {f'a {count}' if count else f'{validation!r:.40}'}, which is no share and no pair of arrays",
        hint="use a share, such as 0.2, or images and masks of your own, (x, y)",
    )


def split_arrays(count: int, share: float, *, seed: int = 42) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which of `count` images train and which validate.

    The same as `train_test_split(range(count), test_size=share, random_state=seed)` of scikit-learn 1.9, in order.

    Raises:
        PlanError: for a share outside of [0, 1), or one that leaves nothing to train on.
    """
    held = ceil(share * count) if 0 <= share < 1 else -1
    if not 0 <= held < count:
        raise PlanError(
            f"a share of {share:g} of {count} image(s) for validation leaves none to train on",
            hint="use validation=0.2, more images, or validation=0 to train on all",
        )
    order = np.random.RandomState(seed).permutation(count).tolist()
    return tuple(order[held:]), tuple(order[:held])


def as_images(x: Pixels) -> NDArray[np.generic]:
    """Images as (n, c, y, x), from (n, y, x, c), (n, c, y, x) or (n, y, x).

    Raises:
        ShapeError: where it cannot be told which axis holds the channels, or there are none of the others.
    """
    array = array_of(x)
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"an array of {array.dtype} holds no images", hint="give integers or floats")
    if array.ndim == 3:
        array = array[:, None]
    first, last = _channels_first(array.shape), _holds_channels(array.shape, -1)
    if array.ndim != 4 or not array.size or first == last:
        raise ShapeError(
            f"an array of {_size(array.shape)} is not images with 1 to {MOST_CHANNELS} channels",
            hint="give (n, y, x, c), (n, c, y, x) or (n, y, x)",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DatasetError("images have pixels that are NaN or infinite", hint="replace them, as with numpy.nan_to_num")
    return array if first else np.moveaxis(array, -1, 1)


def _channels_first(shape: Sequence[int]) -> bool:
    return _holds_channels(shape, 1)


def _holds_channels(shape: Sequence[int], axis: int) -> bool:
    return len(shape) == 4 and 1 <= shape[axis] <= MOST_CHANNELS


def _scale_of(dtype: np.dtype[Any]) -> str:
    """What pixels have to share to be on one scale: their type, or that they are floats."""
    return "float" if dtype.kind == "f" else str(dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Data:
    images: NDArray[np.generic]
    """(n, c, y, x)."""

    masks: NDArray[np.generic]
    """(n, y, x), with the values of the user."""

    labels: LabelMap
    train: tuple[int, ...]
    validation: tuple[int, ...]


def _masks_of(y: Pixels, images: NDArray[np.generic]) -> NDArray[np.generic]:
    array = array_of(y)
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"an array of {array.dtype} holds no masks", hint="give whole numbers, one per class")
    given = array.shape
    if array.ndim == 4 and 1 in (array.shape[1], array.shape[-1]):
        array = array[:, 0] if array.shape[1] == 1 else array[..., 0]
    if array.shape != (len(images), *images.shape[2:]):
        raise ShapeError(
            f"masks of {_size(given)} do not fit {len(images)} images of {_size(images.shape[2:])}",
            hint="give one mask per image, (n, y, x), (n, y, x, 1) or (n, 1, y, x)",
        )
    if array.dtype.kind != "f":
        return array.astype(np.int64) if array.dtype.kind == "b" else array
    values: NDArray[Any] = made_whole(array)
    if not (np.isfinite(values) & (values == np.round(values))).all():
        raise DatasetError(
            "masks have values that are no whole numbers",
            hint="threshold them first, such as (y > 0.5).astype('uint8')",
        )
    if (most := float(np.abs(values).max())) >= LARGEST_VALUE:
        raise DatasetError(
            f"masks have values up to {most:g}", hint="give masks with one whole number per class, such as 0 and 1"
        )
    return values.astype(np.int64)


def _label_map(masks: NDArray[np.generic]) -> LabelMap:
    values = np.unique(masks)[: MOST_CLASSES + 1].tolist()
    if not 2 <= len(values) <= MOST_CLASSES:
        shown, more = f"only the value {values[0]}", ""
        if len(values) > 1:
            shown = f"more than {MOST_CLASSES} values"
            more = "; objects that are numbered are trained from files, see docs/objects.md"
        raise DatasetError(
            f"the masks have {shown}", hint=f"give masks with one whole number per class, such as 0 and 1{more}"
        )
    ordered = [0, *(value for value in values if value != 0)] if 0 in values else values
    return LabelMap(kind="values", values=tuple(ordered))


# --- As Keras trains --------------------------------------------------------------------------------------------------


def _preset_plan(
    data: _Data,
    *,
    budget: Budget,
    loss: str,
    batch: int,
    rate: float,
    augment: float,
    precision: str,
    seed: int,
) -> Plan:
    classes, channels = data.labels.classes, data.images.shape[1]
    graph = tutorial(channels=channels, classes=1 if classes == 2 else classes)
    described = describe_graph(graph)
    size = data.images.shape[2:]
    whole = tuple(-(-n // 2) * 2 for n in size)
    scheme, why = _pixel_scheme(data.images.dtype)
    reasons = {
        "graph": "the preset mini: two levels of 64 channels, upsampled by repetition, the upsampled branch first",
        "normalization": why,
        "patch": "whole images, as Keras takes them",
        "batch": "images per step",
        "loss": "of one sigmoid, so it is the binary cross-entropy" if loss == "cross_entropy" and classes == 2 else "",
        "optimizer": "as in Keras: a constant rate, epsilon 1e-7, no weight decay, no clipping",
        "learning_rate": "Keras' default" if rate == RATE else "set by you",
        "augment": "none, as the courses do" if not augment else "set by you",
        "foreground": "whole images are not placed",
        "ema": "none: the weights after the last epoch are kept, as in Keras",
        "clean_finish": "images are the same throughout",
        "epochs" if budget.epochs is not None else "steps": "the budget",
    }
    return Plan.make(
        {
            **described,
            "uvea": uvea.__version__,
            "files": 1,
            "colour": channels == 3,
            "labels": data.labels,
            "spacing": None,
            "unit": "px",
            "normalization": [scheme] * channels,
            "patch": whole,
            "batch": batch,
            "loss": loss,
            "class_weights": None,
            "border_weight": 0.0,
            "foreground": 0.0,
            "optimizer": "adam",
            "learning_rate": rate,
            "weight_decay": 0.0,
            "schedule": "linear",
            "warmup_steps": 0,
            "ema": 0.0,
            "clip": 1e12,
            "augment": augment,
            "augment_chance": 1.0,
            "clean_finish": 0.0,
            "mirror_axes": (0, 1),
            "rotate90": whole[0] == whole[1],
            "minutes": None,
            "epochs": budget.epochs,
            "steps": budget.steps,
            "seed": seed,
            "precision": precision,
            "tile": tuple(max(n, 512) for n in whole),
            "overlap": tuple(max(n, 512) // 4 for n in whole),
            "fingerprint": _measured(data),
            "reasons": {name: why for name, why in reasons.items() if why},
        },
        where="the plan",
    )


def _pixel_scheme(dtype: np.dtype[Any]) -> tuple[Normalization, str]:
    if dtype.kind in "fb":
        return Normalization(kind="none"), "floats are taken as they are"
    if dtype not in (np.uint8, np.uint16):
        raise DatasetError(
            f"pixels of {dtype} have no range that is known",
            hint="give uint8, uint16, or floats that you divided yourself, such as x / 255",
        )
    most = int(np.iinfo(dtype).max)
    return Normalization(kind="clip", low=0.0, high=most, std=most), f"{dtype} is divided by {most}"


def _measured(data: _Data) -> Fingerprint:
    images, masks = data.images, data.masks
    shares = [(masks == value).mean() for value in data.labels.values]
    known = {
        "cases": len(images),
        "dtypes": (str(images.dtype),),
        "minimum": float(images.min()),
        "maximum": float(images.max()),
        "class_fraction": tuple(float(f"{share:.6g}") for share in shares),
        "class_cases": tuple(int((masks == value).any((1, 2)).sum()) for value in data.labels.values),
    }
    shape = (images.shape[2], images.shape[3])
    return Fingerprint.unmeasured(channels=images.shape[1], shape=shape).model_copy(update=known)


def _trained_as_planned(
    data: _Data,
    plan: Plan,
    *,
    out: str | Path | None,
    overwrite: bool,
    device: str | None,
    listen: Listener,
) -> Trained:
    where = find_device(device)
    if out is None:
        return _fit(data, plan, space=None, where=where, listen=listen)
    space = Workspace(Path(out))
    space.claim(overwrite=overwrite)
    with space.locked():
        space.save_plan(plan)
        return _fit(data, plan, space=space, where=where, listen=listen)


def _fit(data: _Data, plan: Plan, *, space: Workspace | None, where: torch.device, listen: Listener) -> Trained:
    """The training of Keras' `fit`, epoch by epoch, by the loop that all trainings share."""
    if data.images.dtype.kind == "f" and abs(data.images).max() > 32:
        listen(Message(f"pixels go up to {data.images.max():g}: divide them, as by 255, to learn faster", "warning"))
    keep_large_blocks()
    network: nn.Module = build_network(plan)
    precision = choose(plan, network, where, training=True)
    listen(Message(precision.reason))
    placed = precision.prepare(network.to(where))
    assert isinstance(placed, nn.Module)
    optimizer = torch.optim.Adam(placed.parameters(), lr=plan.learning_rate, eps=1e-7)
    per_epoch = ceil(len(data.train) / plan.batch)
    steps = plan.steps or per_epoch * (plan.epochs or 0)
    loss = build_loss(plan.loss)
    # Of several images it is the mean of what each of them costs alone, also where a loss adds up their pixels.
    alike = build_loss(plan.loss, per_sample=True if "dice" in plan.loss else None)
    # A GPU has too little to do with one image; a processor has not, and needs least memory so.
    together = 1 if where.type == "cpu" else plan.batch
    draw = _drawer(*_tensors(data, plan), where)
    history: dict[str, list[float]] = {"loss": []}
    epoch: list[tuple[Tensor, int]] = []
    began = time.monotonic()

    def counted(logits: Tensor, *truth: Tensor) -> Tensor:
        cost = loss(logits, *truth)
        epoch.append((cost.detach(), len(logits)))
        return cost

    def validate() -> float:
        costs = torch.stack([cost for cost, _ in epoch]).tolist()
        sizes = [size for _, size in epoch]
        # As Keras does: a small last batch counts less.
        history["loss"].append(sum(cost * size for cost, size in zip(costs, sizes, strict=True)) / sum(sizes))
        epoch.clear()
        scores = _validation(
            placed,
            draw,
            data.validation,
            batch=together,
            classes=plan.classes,
            loss=alike,
            precision=precision,
            device=where,
        )
        for name, value in scores.items():
            history.setdefault(name, []).append(value)
        return scores.get("val_dice", float(len(history["loss"])))

    def tell(progress: Progress, running: float) -> None:
        figures = {"loss": running} | ({"val Dice": history["val_dice"][-1]} if "val_dice" in history else {})
        left = (time.monotonic() - began) / progress.step * (steps - progress.step)
        listen(Told("training", progress.step, steps, seconds_left=left, figures=figures))

    hooks = Hooks(
        batch=_batches(draw, data, plan, precision=precision),
        loss=counted,
        learning_rate=lambda step, steps: plan.learning_rate,
        after_step=lambda: None,
        validate=validate,
        save=lambda progress, is_best: None,
        listen=tell,
        stop=lambda: False,
    )
    engine = engine_for(precision, where)
    progress = run_loop(
        placed,
        optimizer,
        hooks,
        progress=Progress(steps=steps, every=per_epoch),
        autocast=engine.autocast,
        clip=plan.clip,
    )
    model = Model(
        folder=Path("unsaved") if space is None else space.folder,
        plan=plan,
        networks=(ready(placed, precision, where),),
        engine=engine,
    )
    found = Trained(model=model, history=history, train=data.train, validation=data.validation)
    if space is not None:
        for path in (space.weights, space.last):
            save_weights(path, placed)
        space.save_history(progress.history)
        write_csv(space.scores, _rows(found, data), overwrite=True)
    return found


def _tensors(data: _Data, plan: Plan) -> tuple[Tensor, Tensor]:
    """All images (n, c, y, x) float32 and their classes (n, y, x), on the CPU."""
    pixels = torch.from_numpy(np.ascontiguousarray(data.images, dtype=np.float32))
    scheme = plan.normalization[0]
    if scheme.kind == "clip":
        pixels /= scheme.std
    return pixels, torch.from_numpy(plan.labels.encode(data.masks[None], where="y"))


def _drawer(pixels: Tensor, labels: Tensor, device: torch.device) -> _Draw:
    """Images and classes by their numbers: kept on the device where they fit into its memory, else moved when asked."""
    room = describe_machine(device).accelerator_memory_bytes or 0
    if pixels.nbytes + labels.nbytes > DEVICE_SHARE * room:
        return lambda which: (_moved(pixels[which], device), _moved(labels[which], device))
    images, truths = pixels.to(device), labels.to(device)

    def draw(which: Tensor) -> tuple[Tensor, Tensor]:
        # Numbers on the processor would be moved by torch, which waits for the device.
        there = _moved(which, device)
        return images[there], truths[there]

    return draw


def _moved(values: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)  # only pinned memory is moved beside other work


def _batches(
    draw: _Draw, data: _Data, plan: Plan, *, precision: Precision
) -> Callable[[int, int | None], tuple[Tensor, Tensor]]:
    per_epoch = ceil(len(data.train) / plan.batch)
    indices = torch.tensor(data.train)
    chain = standard_chain(
        dims=2,
        strength=plan.augment,
        mirror_axes=plan.mirror_axes,
        rotation=plan.rotation,
        rotate90=plan.rotate90,
        spacing=(1.0, 1.0),
        colour=plan.colour,
        seed=plan.seed,
    )

    def batch(step: int, steps: int | None) -> tuple[Tensor, Tensor]:
        epoch, number = divmod(step, per_epoch)
        order = np.random.default_rng((plan.seed, epoch)).permutation(len(indices))
        which = indices[torch.from_numpy(order[number * plan.batch : (number + 1) * plan.batch])]
        images, truths = draw(which)
        if plan.augment:
            images, truths = chain(images, truths, step=step)
        prepared = precision.prepare(images)
        assert isinstance(prepared, Tensor)
        return prepared, truths.long()

    return batch


@torch.no_grad()
def _validation(
    network: nn.Module,
    draw: _Draw,
    which: Sequence[int],
    *,
    batch: int,
    classes: int,
    loss: Loss,
    precision: Precision,
    device: torch.device,
) -> dict[str, float]:
    """Loss, accuracy, Dice and IoU over the images `which`, so many at once; of several, `loss` is the mean over them.

    The device is looked at once it is through with all of them, so that it never waits for the next.
    """
    if not which:
        return {}
    network.eval()
    costs, sizes, pixels = [], [], []
    for part in torch.split(torch.tensor(which), batch):
        images, truth = draw(part)
        with precision.autocast(device):
            logits = network(precision.prepare(images)).float()
        costs.append(loss(logits, truth.long()))
        sizes.append(len(part))
        pixels.append(_agreement(truth, (logits > 0)[:, 0] if logits.shape[1] == 1 else logits.argmax(1), classes))
    scores = _scores(*torch.cat(pixels, 1).cpu().numpy())
    mean = float(np.average(torch.stack(costs).tolist(), weights=sizes))
    return {"val_loss": mean, **{f"val_{name}": scores[name] for name in ("accuracy", "dice", "iou")}}


def _agreement(truth: Tensor, found: Tensor, classes: int) -> Tensor:
    """How many pixels are right, wrongly found and missed, by image and class: (3, b, classes). Masks are (b, y, x)."""
    # Comparisons, because the histogram of torch asks a GPU for the largest value, and waits.
    every = torch.arange(classes, device=truth.device).view(-1, 1, 1)
    wanted, given = truth.unsqueeze(1) == every, found.unsqueeze(1) == every
    right = (wanted & given).sum((2, 3))
    return torch.stack((right, given.sum((2, 3)) - right, wanted.sum((2, 3)) - right))


def _scores(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> dict[str, float]:
    """Dice and IoU as the mean over images and foreground classes, accuracy over all pixels; from (n, classes) each."""
    means = {
        name: fmean(fmean(values) for values in metric(tp, fp, fn)[:, 1:].T.tolist())
        for name, metric in (("dice", dice), ("iou", iou))
    }
    right, missed = np.sum(tp), np.sum(fn)
    return {**means, "accuracy": float(right / (right + missed))}


def _rows(found: Trained, data: _Data) -> list[CaseScore]:
    labels = found.model.plan.labels
    rows: list[CaseScore] = []
    for index in data.validation:
        truth = labels.encode(data.masks[index][None], where="y")
        mask = labels.encode(found.model.predict(data.images[index])[None], where="the prediction")
        rows += score_case(f"image {index}", truth, mask, names=labels.names)
    return rows


# --- As uvea plans it -------------------------------------------------------------------------------------------------


def _planned(
    data: _Data,
    *,
    settings: Mapping[str, object],
    budget: Budget,
    allow_leak: bool,
    seed: int,
    out: str | Path | None,
    overwrite: bool,
    device: str | None,
    listen: Listener,
) -> Trained:
    """Write the arrays as files, for as long as the training lasts, and train on those."""
    if not data.validation:
        raise PlanError(
            "a planned training needs images to validate on",
            hint='use validation=0.2, or preset="mini", which can do without',
        )
    said = {name: value for name, value in settings.items() if value is not None}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "arrays"
        names = [f"image_{number:05d}" for number in range(len(data.images))]
        for name, image, mask in zip(names, data.images, data.masks, strict=True):
            _write(folder / "images" / f"{name}.npy", image)
            _write(folder / "masks" / f"{name}.npy", mask[None])
        split = Path(temporary) / "split.json"
        parts = {"train": data.train, "val": data.validation}
        split.write_text(json.dumps({part: [names[index] for index in which] for part, which in parts.items()}))
        with _in_words_of_python(temporary):
            model = train_files(
                folder,
                out=Path(temporary) / "model" if out is None else out,
                minutes=budget.minutes,
                epochs=budget.epochs,
                steps=budget.steps,
                options=DataOptions(instances=False),
                overrides=said,
                split_file=split,
                allow_leak=allow_leak,
                seed=seed,
                device=device,
                overwrite=overwrite,
                listen=lambda event: listen(_event_in_words_of_python(event, temporary)),
            )
        history = _columns(Workspace(model.folder).history)
    if out is None:
        model = replace(model, folder=Path("unsaved"))
    return Trained(model=model, history=history, train=data.train, validation=data.validation)


_IN_PYTHON = (
    (r" and continue with `uvea train --resume [^`]*`|continue it with `uvea train --resume [^`]*`, ", ""),
    (r"--set batch=(?:,? (?:or )?(?:--set )?(?:patch|width)=)+", "batch_size"),
    (r"--set batch=", "batch_size="),
    (r"^correct batch$", "give a whole number from 1, such as batch_size=32"),
    (r"--set (loss|optimizer|learning_rate|augment|precision)=", r"\1="),
    (r"--overwrite\b", "overwrite=True"),
    (r"--(minutes|epochs|steps|seed|device) (\d[\w.]*|cpu|cuda|mps)", r"\1=\2"),
    (r"--(minutes|epochs|steps|seed|device|out)\b", r"\1"),
)
"""Ways out at the command line, and what they are for somebody who gave arrays."""


@contextmanager
def _in_words_of_python(temporary: str = "") -> Iterator[None]:
    """Inside of this block, errors name arguments for options, and nothing in the folder `temporary`."""
    try:
        yield
    except UveaError as error:
        told = copy(error)
        UveaError.__init__(told, _without(temporary, error.problem), hint=_hint_for_arrays(error.hint))
        raise told from None


def _event_in_words_of_python(event: Message | Told, temporary: str) -> Message | Told:
    if isinstance(event, Told):
        return event
    problem, dash, hint = event.text.partition(" — ")
    return replace(event, text=_without(temporary, problem) + dash + (_hint_for_arrays(hint) if dash else ""))


def _without(temporary: str, text: str) -> str:
    """Text without the parts, between semicolons, that are about files which will be gone."""
    if not temporary:
        return text
    # Images are told by their names.
    parts = re.sub(rf"{re.escape(temporary)}\S*/(?=image_\d)", "", text).split("; ")
    lasting = [part for part in parts if temporary not in part]
    return "; ".join(lasting) or text.replace(temporary, "the folder for temporary files")


def _hint_for_arrays(hint: str) -> str:
    """A way out for someone who gave arrays: without options of the command line, and files that are gone."""
    numbered = "image_00003 is x[3]; images given for validation come after the last of x"
    if "--allow-leak" in hint:
        return f"leave one of them out, or allow_leak=True to train all the same; {numbered}"
    usual = hint.partition("; `uvea check ")[0]
    for there, here in _IN_PYTHON:
        usual = re.sub(there, here, usual)
    return f"look at x and y; {numbered}" if "--" in usual or "`uvea " in usual else usual


def _write(path: Path, array: NDArray[np.generic]) -> None:
    kept = (
        array.astype(np.float32)
        if array.dtype.kind == "f"
        else array.astype(np.uint8)
        if array.dtype == bool
        else array
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, Image(array=np.ascontiguousarray(kept), axes="yx", spacing=(), unit="px"))


def _columns(path: Path) -> dict[str, list[float]]:
    with open(path, newline="") as file:
        rows: Sequence[Mapping[str, str]] = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
