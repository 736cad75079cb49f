"""A trained model in memory: load it, and give it images.

model/ -> plan, networks, engine -> predict(image) -> mask
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from uvea.errors import ModelError, ShapeError
from uvea.images import read
from uvea.images.image import Image
from uvea.inference.segment import Engine, segment
from uvea.inference.sliding_window import labels_of
from uvea.models.build import build_network
from uvea.models.device import Precision, choose_precision, find_device, keep_large_blocks
from uvea.models.fold import fold_batch_norm
from uvea.models.weights import load_weights
from uvea.plan.plan import Plan
from uvea.workflows.workspace import Workspace

Picture = str | Path | NDArray[np.generic] | Image
"""A file, an array (c, y, x), (y, x), (c, z, y, x) or (z, y, x), or an image that was read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """Networks with the plan that says how to use them. Made by `load` or `uvea.train`."""

    folder: Path
    plan: Plan
    networks: tuple[nn.Module, ...]
    """One, or one per fold: the mean of their probabilities decides."""

    engine: Engine

    @overload
    def predict(  # type: ignore[overload-overlap]  # text is a sequence too, of text
        self, image: Picture, *, mirror: bool = False
    ) -> NDArray[np.generic]: ...
    @overload
    def predict(self, image: Sequence[Picture], *, mirror: bool = False) -> list[NDArray[np.generic]]: ...
    def predict(
        self, image: Picture | Sequence[Picture], *, mirror: bool = False
    ) -> NDArray[np.generic] | list[NDArray[np.generic]]:
        """The mask of an image, or of many, with the values that the training masks had.

        Args:
            image: one picture, or a list of them; see `Picture`.
            mirror: average over mirrored copies; slower, often a little better.

        Returns:
            (y, x) or (z, y, x); (3, ...) for colour-coded masks. A list where a list was given.

        Raises:
            ShapeError: for axes or channels that the model was not trained on.
            ImageError: for files that cannot be read, and for NaN or infinite pixels.
        """
        if hasattr(image, "__array__"):  # also tensors, and arrays of other libraries
            image = np.asarray(image)
        if not isinstance(image, str | Path | np.ndarray | Image):
            return [self.predict(one, mirror=mirror) for one in image]
        mask = self.mask_of(_image(image, self.plan), mirror=mirror, where=_name(image)).array
        return mask[0] if len(mask) == 1 else mask

    def probabilities(self, image: Picture, *, mirror: bool = False) -> NDArray[np.float32]:
        """Class probabilities of one image: (k, ...) float32 in [0, 1], summing to one over the classes."""
        read_image = _image(image, self.plan)
        found = segment(self.networks, read_image, self.plan, engine=self.engine, mirror=mirror, where=_name(image))
        array: NDArray[np.float32] = found.numpy()
        return array

    def mask_of(self, image: Image, *, mirror: bool = False, where: str = "the image") -> Image:
        """The mask of an image as an image with the same geometry, (1, ...), or (3, ...) for colours."""
        found = segment(self.networks, image, self.plan, engine=self.engine, mirror=mirror, where=where)
        return image.with_array(self.plan.labels.decode(labels_of(found)))


def load(path: str | Path, *, device: str | None = None) -> Model:
    """Load a model folder.

    Args:
        path: what `uvea train --out` wrote. With folds, all of them are used.
        device: "cpu", "cuda", "cuda:1" or "mps"; None takes the best there is.

    Raises:
        ModelError: if it is not a model, or its weights do not fit.
        PlanError: if its plan cannot be read, or the device does not exist.
    """
    space = Workspace(Path(path))
    plan = space.load_plan()
    keep_large_blocks()
    where = find_device(device)
    spaces = [one for one in space.folds() if one.weights.exists()]
    if not spaces:
        raise ModelError(f"{path} has no weights yet", hint=f"let the training finish: `uvea train --resume {path}`")
    networks = []
    for one in spaces:
        network = build_network(plan)
        load_weights(one.weights, network)
        networks.append(network)
    precision = choose(plan, networks[0], where, training=False)
    return Model(
        folder=Path(path),
        plan=plan,
        networks=tuple(ready(n, precision, where) for n in networks),
        engine=engine_for(precision, where),
    )


def choose(plan: Plan, network: nn.Module, device: torch.device, *, training: bool) -> Precision:
    """The precision the plan names, or what is measured to be faster and right here."""
    if plan.precision == "float32":
        return Precision(dtype="float32", channels_last=False, reason="float32: set by you")
    shape = (plan.batch, plan.channels, *plan.patch)
    if plan.precision == "bfloat16":
        return Precision(dtype="bfloat16", channels_last=device.type == "cpu", reason="bfloat16: set by you")
    return choose_precision(network, shape, device, training=training)


def ready(network: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """A copy for prediction: batch norm folded away, in the right memory layout, on the device."""
    folded = precision.prepare(fold_batch_norm(network).to(device))
    assert isinstance(folded, nn.Module)
    return folded


def engine_for(precision: Precision, device: torch.device) -> Engine:
    """How prediction runs under a precision."""
    return Engine(device=device, channels_last=precision.channels_last, autocast=partial(precision.autocast, device))


def _image(picture: Picture, plan: Plan) -> Image:
    if isinstance(picture, Image):
        return picture
    if isinstance(picture, str | Path):
        return read(Path(picture))
    array = np.asarray(picture)
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"an array of {array.dtype} is no image", hint="give integers or floats")
    if array.ndim == plan.dims and (plan.channels == 1 or plan.colour):
        array = array[None]
    if not array.size:
        raise ShapeError(
            f"an array of {'×'.join(map(str, array.shape))} has no pixels",
            hint="give at least one pixel along each axis",
        )
    if array.ndim in (3, 4) and len(array) != plan.channels and not (plan.colour and len(array) == 1):
        raise ShapeError(
            f"an array of {'×'.join(map(str, array.shape))} starts with {len(array)} channels, "
            f"the model was trained on {plan.channels}",
            hint="put the channels first, with numpy.moveaxis(array, -1, 0) or array[None]: (c, y, x) or (c, z, y, x)",
        )
    if array.ndim not in (3, 4):
        raise ShapeError(
            f"an array of {array.ndim} axes ({'×'.join(map(str, array.shape))}) is no image for a {plan.dims}D model",
            hint="give (c, y, x) or (c, z, y, x)",
        )
    return Image(array=array, axes="yx" if array.ndim == 3 else "zyx", spacing=(), unit="px")


def _name(picture: Picture) -> str:
    return str(picture) if isinstance(picture, str | Path) else "the image"
