"""A trained model in memory: load it, and give it images.

model/ -> plan, networks, engine -> predict(image) -> mask
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn

from uvea.datasets.names import listed
from uvea.durable import write_text
from uvea.errors import ModelError, OutputError, PlanError, ShapeError
from uvea.images import read
from uvea.images.image import Image
from uvea.inference.segment import Engine, Segmented, segment_source
from uvea.inference.sliding_window import Network
from uvea.inference.source import Source, source_of
from uvea.models.build import build_network
from uvea.models.device import (
    Precision,
    choose_precision,
    describe_machine,
    find_device,
    free_on_gpu,
    keep_large_blocks,
)
from uvea.models.fold import fold_batch_norm
from uvea.models.settle import settler
from uvea.models.weights import check_weights, load_weights
from uvea.objects.postprocess import clean
from uvea.plan.plan import Plan
from uvea.workflows.events import Listener, Message, silent
from uvea.workflows.kept import Kept, resumable
from uvea.workflows.objects import Found, Grid, find_objects
from uvea.workflows.postprocessing import Postprocessing, of_model
from uvea.workflows.strict import bounded
from uvea.workflows.workspace import Workspace

_PRECISION = TypeAdapter(Precision)


class HasArray(Protocol):
    """What numpy makes an array of, such as a tensor of torch."""

    def __array__(self) -> Any:
        """Itself as an array."""


Picture = str | Path | NDArray[np.generic] | HasArray | Image
"""A file, an array (c, y, x), (y, x), (c, z, y, x) or (z, y, x), or an image that was read."""

ENGINES = ("auto", "torch", "openvino", "onnxruntime")
"""What networks can run in; "auto" is PyTorch, or OpenVINO for int8."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """Networks with the plan that says how to use them. Made by `load` or `uvea.train`."""

    folder: Path
    plan: Plan
    networks: tuple[Network, ...]
    """One, or one per fold: the mean of their probabilities decides. Modules of torch, unless another engine runs
    them."""

    engine: Engine
    """How they run, and what fits in memory here."""

    after: Postprocessing = field(default_factory=Postprocessing)
    """How objects are decoded, or masks are cleaned."""

    @overload
    def predict(  # type: ignore[overload-overlap]  # text is a sequence too, of text
        self, image: Picture, *, mirror: bool = False, listen: Listener = silent
    ) -> NDArray[np.generic]: ...
    @overload
    def predict(
        self, image: Sequence[Picture], *, mirror: bool = False, listen: Listener = silent
    ) -> list[NDArray[np.generic]]: ...
    def predict(
        self, image: Picture | Sequence[Picture], *, mirror: bool = False, listen: Listener = silent
    ) -> NDArray[np.generic] | list[NDArray[np.generic]]:
        """The mask of an image, or of many, with the values that the training masks had; or its objects by number.

        Args:
            image: one picture, or a list of them; see `Picture`.
            mirror: average over mirrored copies; slower, often a little better.
            listen: told where there is less memory than planned and masks therefore differ a little, and where
                mirroring does nothing; once for all images.

        Returns:
            (y, x) or (z, y, x); (3, ...) for colour-coded masks. Objects are numbered from 1, uint16, or uint32 if
            there are more than 65,535. A list where a list was given.

        Raises:
            ShapeError: for axes or channels that the model was not trained on.
            ImageError: for files that cannot be read, and for NaN or infinite pixels.
        """
        found: NDArray[np.generic] | list[NDArray[np.generic]] = self.anew()._masks(image, mirror=mirror, listen=listen)
        return found

    def probabilities(self, image: Picture, *, mirror: bool = False, listen: Listener = silent) -> NDArray[np.float32]:
        """Class probabilities of one image: (k, ...) float32 in [0, 1], summing to one over the classes.

        A model that tells objects apart gives two maps behind them: border and centre. `listen` is as for `predict`.
        """
        read_image = _image(image, self.plan)
        source = source_of(read_image, self.plan, where=_name(image))
        found = self.anew().segment(
            source, read_image.shape, mirror=mirror, mask=False, probabilities=True, listen=listen
        )
        assert found.probabilities is not None
        return found.probabilities

    def mask_of(
        self, image: Image, *, mirror: bool = False, where: str = "the image", listen: Listener = silent
    ) -> Image:
        """The mask of an image as an image with the same geometry, (1, ...), or (3, ...) for colours."""
        return image.with_array(self.anew()._masked(image, mirror=mirror, where=where, listen=listen))

    def anew(self) -> Self:
        """The same for another call, whose listener is told everything itself; what fits in memory is kept."""
        return replace(self, engine=self.engine.anew())

    def _masks(self, image: Any, *, mirror: bool, listen: Listener) -> Any:
        if hasattr(image, "__array__"):  # also tensors, and arrays of other libraries
            image = array_of(image)
        if not isinstance(image, str | Path | np.ndarray | Image):
            return [self._masks(one, mirror=mirror, listen=listen) for one in image]
        mask = self._masked(_image(image, self.plan), mirror=mirror, where=_name(image), listen=listen)
        return mask[0] if len(mask) == 1 else mask

    def _masked(self, image: Image, *, mirror: bool, where: str, listen: Listener) -> NDArray[np.generic]:
        source = source_of(image, self.plan, where=where)
        found = self.segment(source, image.shape, mirror=mirror, grid=Grid.of(image), listen=listen).mask
        assert found is not None
        return found

    def objects_of(self, probabilities: NDArray[np.float32], *, grid: Grid | None = None) -> Found:
        """Decode what `probabilities` gave, by `after.decoding`, without the network.

        Args:
            probabilities: (k + 2, ...).
            grid: axes, spacing and unit of the image; None for pixels, and three axes of space.

        Raises:
            ModelError: if the model does not tell objects apart.
            ShapeError: if there are other channels than the network has.
        """
        if self.after.decoding is None:
            raise ModelError(
                f"{self.folder} finds classes and no objects", hint="train on masks that number their objects"
            )
        if len(probabilities) != self.plan.outputs:
            raise ShapeError(
                f"{len(probabilities)} channels cannot be decoded, the network gives {self.plan.outputs}",
                hint="give what `uvea predict --keep-probabilities` of this model wrote",
            )
        dims = probabilities.ndim - 1
        grid = grid or Grid(axes="zyx"[-dims:], spacing=(1.0,) * dims)
        settings, turn = self.after.decoding.on(grid.share(self.plan)), grid.turn(self.plan)
        # As in the training, so that a volume has the same objects however it is stored.
        found = find_objects(
            turn.array(probabilities), settings, classes=self.plan.classes, grid=grid.turned(self.plan)
        )
        return replace(found, ids=turn.back(found.ids[None])[0])

    def segment(
        self,
        source: Source,
        shape: Sequence[int],
        *,
        mirror: bool = False,
        mask: bool = True,
        probabilities: bool = False,
        grid: Grid | None = None,
        listen: Listener = silent,
    ) -> Segmented:
        """Mask or probabilities, or both, of an image of spatial size `shape`, in one pass over its tiles.

        Objects and cleaning need the grid of the image, see `objects_of`; objects also the probabilities of all of it
        in memory.
        """
        of_objects = self.plan.task == "objects"
        found = segment_source(
            self.networks,
            source,
            self.plan,
            shape=shape,
            engine=self.engine,
            mirror=mirror,
            mask=mask and not of_objects,
            probabilities=probabilities or of_objects,
            tell=lambda text: listen(Message(text, "warning")),
        )
        if mask and of_objects:
            assert found.probabilities is not None
            ids = numbered(self.objects_of(found.probabilities, grid=grid))
            return replace(found, mask=ids[None])
        if found.mask is not None and self.after.cleaning:
            labels = self.plan.labels.encode(found.mask)
            grid = grid or Grid(axes="zyx"[-labels.ndim :], spacing=(1.0,) * labels.ndim)
            turn = grid.turn(self.plan)
            cleaned = clean(
                turn.array(labels[None])[0], self.after.cleaning, timed=grid.timed, share=grid.share(self.plan)
            )
            return replace(found, mask=self.plan.labels.decode(turn.back(cleaned[None])[0]))
        return found


def numbered(found: Found) -> NDArray[np.generic]:
    """Objects by number in the smallest type of masks that holds them, uint16 or uint32."""
    return found.ids.astype(np.uint16 if len(found.classes) <= 1 << 16 else np.uint32)


def load(
    path: str | Path,
    *,
    device: str | None = None,
    engine: str = "auto",
    int8: bool = False,
    listen: Listener = silent,
) -> Model:
    """Load a model folder.

    Args:
        path: what `uvea train --out` wrote. With folds, all of them are used.
        device: "cpu", "cuda", "cuda:1" or "mps"; None takes the best there is.
        engine: "torch", tuned for this machine; "openvino" or "onnxruntime", on the processor; "auto" is torch. The
            first time, another engine takes a few seconds to convert the network and to compare it with PyTorch's.
        int8: run in int8, with OpenVINO. The first time this needs the data of the training, and as long as it takes
            to predict the validation cases twice; it is refused if their Dice falls by more than 0.002,
            or the mean AP of objects by more than 0.005.
        listen: told about the above.

    Raises:
        ModelError: if it is not a model, its weights do not fit, an engine is not installed or not right, or int8
            costs too much.
        PlanError: if its plan cannot be read, or the device or engine does not exist.
    """
    _check_engine(engine, device, int8=int8)
    space = Workspace(Path(path))
    plan = space.load_plan()
    keep_large_blocks()
    where = find_device("cpu" if int8 or engine in ("openvino", "onnxruntime") else device)
    spaces = [one for one in space.folds() if one.weights.exists()]
    if not spaces:
        go_on = f"let the training finish: `uvea train --resume {path}`"
        hint = go_on if resumable(space.run_facts) else "train it again"
        raise ModelError(f"{path} has no weights yet", hint=hint)
    _say_what_is_missing(space, spaces, listen)
    networks: list[nn.Module] = []
    for one in spaces:
        with torch.device(
            "meta"
        ):  # a plan may claim a network of gigabytes: the file must have it before memory is taken
            check_weights(one.weights, build_network(plan))
        network = build_network(plan)
        load_weights(one.weights, network)
        networks.append(network)
    after = of_model(spaces, plan)
    if int8 or engine in ("openvino", "onnxruntime"):
        made = _in_other_engine(space, spaces, networks, plan, engine=engine, int8=int8, listen=listen)
        return replace(made, after=after)
    precision = _kept_choice(space, plan, networks[0], where)
    return Model(
        folder=Path(path),
        plan=plan,
        networks=tuple(ready(n, precision, where) for n in networks),
        engine=engine_for(precision, where),
        after=after,
    )


def _number_of(one: Workspace, space: Workspace) -> int:
    """Of the split that a fold of `space` was trained on, from 0."""
    name = one.folder.name.removeprefix("fold_")
    return int(name) - 1 if one != space and name.isdecimal() else 0


def _say_what_is_missing(space: Workspace, spaces: Sequence[Workspace], listen: Listener) -> None:
    """Say it where folds of a cross-validation have no weights: the mean of fewer networks is another one."""
    folds = space.folds()
    if folds == [space]:
        return
    with suppress(ModelError):  # a model may have come without its run
        count = len(Kept.load(space.run_facts).splits)
        folds += [space.fold(number) for number in range(1, count + 1)] if count > 1 else []
    missing = {one.folder.name for one in folds} - {one.folder.name for one in spaces}
    if missing:
        used = f"the mean of {len(spaces)} of {len(spaces) + len(missing)} networks is used"
        # Whoever predicts files is warned that the training has not ended; once is enough.
        level: Literal["info", "warning"] = "info" if space.unfinished() else "warning"
        listen(Message(f"{space.folder} has no weights of {listed(sorted(missing))}: {used}", level))


def _kept_choice(space: Workspace, plan: Plan, network: nn.Module, device: torch.device) -> Precision:
    """The precision to predict in; what was measured on this machine once is kept, so that masks stay the same."""
    machine = describe_machine(device)
    threads = torch.get_num_threads()  # fewer behind a training that was faster with fewer
    words = (device.type, machine.accelerator or machine.processor, machine.cores, threads, torch.__version__)
    key = hashlib.sha256("|".join(map(str, words)).encode()).hexdigest()[:12]
    path = space.run / "engines" / f"torch-{key}.json"
    if plan.precision != "auto":
        return choose(plan, network, device, training=False)
    try:
        return _PRECISION.validate_json(bounded(path, most=1 << 16), strict=True)
    except (OSError, ValueError):  # not there yet, or damaged
        precision = choose(plan, network, device, training=False)
    with suppress(OSError, OutputError):  # a model may lie where nothing can be written
        if space.run.is_dir():
            path.parent.mkdir(exist_ok=True)
            write_text(path, json.dumps(asdict(precision)) + "\n")
    return precision


def _check_engine(engine: str, device: str | None, *, int8: bool) -> None:
    if engine not in ENGINES:
        raise PlanError(f"there is no engine {engine!r}", hint=f"choose one of: {', '.join(ENGINES)}")
    if int8 and engine not in ("auto", "openvino"):
        raise PlanError(f"{engine} does not run int8", hint="leave out --engine, or use --engine openvino")
    other = int8 or engine in ("openvino", "onnxruntime")
    if other and device not in (None, "cpu"):
        raise PlanError(
            f"{'int8' if int8 else engine} runs on the processor, not on {device}",
            hint="leave out --device, or use --engine torch",
        )


def _in_other_engine(
    space: Workspace,
    spaces: Sequence[Workspace],
    networks: Sequence[nn.Module],
    plan: Plan,
    *,
    engine: str,
    int8: bool,
    listen: Listener,
) -> Model:
    # Imported here because int8 needs all that reads and scores data.
    from uvea.workflows.engines import onnx_network, openvino_network
    from uvea.workflows.int8 import int8_network

    if plan.norm in ("instance", "group"):
        said = "looks at each tile by itself, where torch looks at all of an image"
        listen(
            Message(f"{'int8' if int8 else engine} {said}: masks of large images differ from those of torch", "warning")
        )
    cpu = torch.device("cpu")
    found: list[Network] = []
    for one, network in zip(spaces, networks, strict=True):
        if int8:
            number = _number_of(one, space)
            found.append(int8_network(one, number, network.eval(), plan, run=space, listen=listen))
        elif engine == "openvino":
            found.append(openvino_network(one, network.eval(), plan, listen=listen))
        else:
            found.append(onnx_network(one, network.eval(), plan, listen=listen))
    return Model(folder=space.folder, plan=plan, networks=tuple(found), engine=Engine(device=cpu, channels_last=False))


def choose(plan: Plan, network: nn.Module, device: torch.device, *, training: bool) -> Precision:
    """The precision the plan names, or what is measured to be faster and right here."""
    if plan.precision == "float32":
        return Precision(dtype="float32", channels_last=False, reason="float32: set by you")
    shape = (plan.batch, plan.channels, *plan.patch)
    if plan.precision == "bfloat16":
        # On a GPU convolutions want channels last, and instance norm does not: it makes a copy.
        last = device.type == "cpu" or (plan.dims == 2 and plan.norm == "batch")
        return Precision(dtype="bfloat16", channels_last=last, reason="bfloat16: set by you")
    return choose_precision(network, shape, device, training=training)


def ready(network: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """A copy for prediction: batch norm folded away, in the right memory layout, on the device."""
    folded = precision.prepare(fold_batch_norm(network).to(device))
    assert isinstance(folded, nn.Module)
    return folded


def engine_for(precision: Precision, device: torch.device) -> Engine:
    """How prediction runs under a precision."""
    autocast = partial(precision.autocast, device)
    return Engine(
        device=device,
        channels_last=precision.channels_last,
        autocast=autocast,
        settler=partial(settler, autocast=autocast),
        memory=describe_machine().memory_bytes,
        free=partial(free_on_gpu, device) if device.type == "cuda" else None,
    )


def _image(picture: Picture, plan: Plan) -> Image:
    if isinstance(picture, Image):
        return picture
    if isinstance(picture, str | Path):
        return read(Path(picture))
    array = array_of(picture)
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


def array_of(values: Any) -> NDArray[Any]:
    """Any numbers as an array, in the order of bytes that the machine has.

    Raises:
        ShapeError: if they do not make one, as images of different sizes.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # which numpy has not
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ShapeError(
            f"what was given makes no array: {' '.join(str(error).split()):.200}",
            hint="give arrays of one size; images of different sizes can be predicted one at a time",
        ) from None
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _name(picture: Picture) -> str:
    return str(picture) if isinstance(picture, str | Path) else "the image"
