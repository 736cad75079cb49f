"""The plan: every decision made for one dataset, as plain data.

A plan is written to `plan.json` next to the model. Training, prediction and export read
it and decide nothing themselves, so a result can be explained by reading one file.
Tuples that concern axes follow array order, (z, y, x) or (y, x).
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from uvea.arrays.labels import LabelMap
from uvea.arrays.normalize import LARGEST, SMALLEST, Normalization
from uvea.errors import DatasetError, PlanError
from uvea.plan.budget import MOST as MOST_BUDGET
from uvea.plan.decoding import MAPS, Decoding
from uvea.plan.fingerprint import Fingerprint
from uvea.plan.graph import MOST_STRIDE, MOST_WEIGHTS, Graph, grids_of, stride_of

MOST_BYTES = 1 << 24
"""Of a plan.json; ours take some thousands."""

MOST_CONVS = 64
"""Convolutions of a level; 32,767 small ones take minutes to make."""

MOST_LEVELS = 32
MOST_CLASSES = 4_096
"""Each has a map of probabilities as large as the image."""

MOST_AXIS = 1 << 20
"""Pixels of a patch or tile along an axis."""

Count = Annotated[int, Field(gt=0, le=65_536)]
Length = Annotated[int, Field(gt=0, le=MOST_AXIS)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Steps = Annotated[int, Field(gt=0, lt=int(MOST_BUDGET))]


class Plan(BaseModel):
    """What to train, on what grid, for how long, and how to use it."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: Literal[1] = 1
    """Version of the layout of `plan.json`; raised when an old file could be misread."""

    uvea: str
    """Version that made the plan."""

    task: Literal["semantic", "objects"] = "semantic"
    """semantic: a class for every pixel. objects: also which object it belongs to."""

    # What goes in and out
    dims: Literal[2, 3]
    """2: the network sees slices; 3: it sees volumes."""

    channels: Count
    """Channels of the network's input. Gray images among RGB ones are repeated."""

    files: Count
    """Files per image: more than one where each channel has its own."""

    colour: bool
    """The channels are red, green and blue."""

    labels: LabelMap
    """Mask values, their names, and the class each becomes."""

    spacing: tuple[Annotated[Real, Field(gt=0)], ...] | None
    """Pixel size that images are resampled to, in `unit`, one per axis of `dims`; None: left as they are."""

    unit: Literal["px", "um", "mm"]
    normalization: tuple[Normalization, ...]
    """One per channel."""

    # The network
    block: Literal["plain", "residual"]
    norm: Literal["batch", "instance", "group", "none"]
    width: tuple[Count, ...] = Field(min_length=1, max_length=MOST_LEVELS)
    """Channels of each level, finest first."""

    strides: tuple[tuple[Count, ...], ...]
    """From each level to the next, per axis."""

    kernels: tuple[tuple[Count, ...], ...]
    """Size of the convolutions of each level, per axis."""

    convs: Annotated[int, Field(ge=1, le=MOST_CONVS)]
    """Convolutions (or residual blocks) per level."""

    activation: Literal["relu", "leaky_relu"] = "relu"
    """After each norm."""

    deep_supervision: bool

    start: Literal["random", "objects-1", "objects-2"] = "random"
    """Weights that the training starts from: drawn by chance, or learnt from synthetic objects. Models that started
    from objects-1 can be used; new ones cannot start from it."""

    graph: Graph | None = None
    """The layers of a network that was not designed here; the settings above then only describe its levels."""

    # The training
    patch: tuple[Length, ...]
    """Size of what the network sees at once while training, pixels."""

    batch: Count
    loss: Literal["cross_entropy", "soft_dice", "dice_and_cross_entropy", "focal"]
    class_weights: tuple[Annotated[Real, Field(gt=0)], ...] | None
    """Weight of each class in the cross-entropy, background first; None: all one."""

    border_weight: Annotated[Real, Field(ge=0)]
    """How much background pixels between close objects count more, at most: w0 of the U-Net paper; 0: no more."""

    foreground: float = Field(ge=0, le=1)
    """Share of patches that are placed on a foreground class."""

    optimizer: Literal["muon", "adamw", "sgd", "adam"]
    """"adam": as Keras has it, at a constant learning rate; warm-up and schedule are for the others."""

    learning_rate: Real = Field(gt=0)
    weight_decay: Real = Field(ge=0)
    schedule: Literal["linear", "cosine", "poly"]
    warmup_steps: int = Field(ge=0, lt=int(MOST_BUDGET))
    ema: float = Field(ge=0, lt=1)
    """Decay of the moving average of the weights; 0: none."""

    clip: Real = Field(gt=0)
    """Largest norm of the gradient."""

    augment: float = Field(ge=0, le=2)
    """Strength of the augmentation: 0 none, 1 usual."""

    augment_chance: Annotated[Real, Field(ge=0)]
    """How much more often than usual patches are augmented; 1: as usual."""

    clean_finish: float = Field(ge=0, le=1)
    """Share of the steps, at the end, whose patches are as they are: neither altered nor mirrored."""

    mirror_axes: tuple[int, ...]
    """Axes that may be mirrored, counted from the first spatial one."""

    rotation: float = Field(default=180.0, ge=0, le=180)
    """Largest angle, in degrees, that patches are turned by in 2D and in the plane of thick slices.

    About other axes it is 30 at most."""

    rotate90: bool
    """Quarter turns in the plane make images that could have been taken."""

    minutes: Annotated[float, Field(gt=0, lt=MOST_BUDGET)] | None
    epochs: Steps | None
    steps: Steps | None
    seed: int = Field(ge=0, lt=2**63)
    precision: Literal["auto", "float32", "bfloat16"]
    """"auto": measured at the start of the training, see the history."""

    compiled: bool = False
    """Whether `torch.compile` makes the network's passes: fewer kernels, after a minute or more at the start."""

    deterministic: bool = False
    """Whether a CUDA device makes its sums in one order, so that trainings repeat to the bit; processors do anyway."""

    # Prediction
    tile: tuple[Length, ...]
    """Largest size given to the network at once, pixels."""

    overlap: tuple[Annotated[int, Field(ge=0, le=MOST_AXIS)], ...]
    """Least overlap of neighbouring tiles, pixels."""

    decoding: Decoding | None = None
    """How maps become objects, where the search on the validation cases begins; None: there are no objects."""

    fingerprint: Fingerprint
    """What the decisions were made on."""

    reasons: dict[str, str] = Field(default_factory=dict)
    """One sentence for each decision."""

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return self.labels.classes

    @property
    def maps(self) -> int:
        """What the network gives beside a logit per class: the maps that tell objects apart."""
        return MAPS if self.task == "objects" else 0

    @property
    def outputs(self) -> int:
        """Channels of the network's output: classes, then maps."""
        return self.classes + self.maps

    @property
    def stride(self) -> tuple[int, ...]:
        """Total stride of the network per axis."""
        total = [1] * self.dims
        for step in self.strides:
            total = [a * b for a, b in zip(total, step, strict=True)]
        return tuple(total)

    @property
    def weights(self) -> int:
        """About how many weights the network has: those of the convolutions of encoder and decoder."""
        total, below = 0, self.channels
        for width, kernel in zip(self.width, self.kernels, strict=False):
            # A level of the decoder takes what is skipped and what comes from below, twice as wide at most.
            total += prod(kernel) * (below * width + (2 * self.convs + 1) * width * width)
            below = width
        return total

    def save(self, path: Path) -> None:
        """Write the plan as readable JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan, refusing keys it does not know, so that a typo cannot pass.

        Raises:
            PlanError: naming the file, the setting and its value.
        """
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
            values = json.loads(content, object_pairs_hook=_each_once)
        except (OSError, ValueError, RecursionError) as error:
            raise PlanError(
                f"{path} cannot be read as a plan: {error}", hint="give the folder that `uvea train` wrote"
            ) from None
        if not isinstance(values, dict):
            raise PlanError(f"{path} holds no plan", hint="give the folder that `uvea train` wrote")
        return cls.make(values, where=str(path), strict=True)

    @classmethod
    def make(cls, values: Mapping[str, Any], *, where: str, strict: bool = False) -> Self:
        """Check values and freeze them; `where` is named in the error. Strict: what was JSON, "1" is no number."""
        ours = cls.model_fields["format"].default
        if (theirs := values.get("format", ours)) != ours:
            raise PlanError(
                f"{where} is of format {theirs!r:.80}, this version of uvea reads {ours}",
                hint=f"use the version that wrote it, {values.get('uvea', 'a newer one')}",
            )
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise PlanError(
                f"{where} has settings this version does not know: {', '.join(unknown)}",
                hint=f"remove them; known settings are {', '.join(sorted(cls.model_fields))}",
            )
        try:
            plan = cls.model_validate_json(json.dumps(values), strict=True) if strict else cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name, message = ".".join(map(str, first["loc"])), first["msg"]
            if first["type"] == "missing":
                raise PlanError(
                    f"{where} lacks {name}", hint="use the version of uvea that made the plan, or train again"
                ) from None
            raise PlanError(
                f"{where}: {name} cannot be {first.get('input')!r:.80} ({message[0].lower()}{message[1:]})",
                hint=f"correct {name}",
            ) from None
        except DatasetError as error:
            raise PlanError(f"{where}: {error.problem}", hint=error.hint) from None
        plan._check(where)
        return plan

    @classmethod
    def checked(cls, name: str, value: object) -> Any:
        """The value of one setting in its own type, such as a tuple for a list.

        Raises:
            PlanError: if the setting cannot have it.
        """
        field = cls.model_fields[name]
        kind: Any = field.annotation
        for limit in field.metadata:
            kind = Annotated[kind, limit]
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise PlanError(
                f"{name} cannot be {shown(value)} ({message[0].lower()}{message[1:]})",
                hint=f"use --set {name}={_example(cls, name)}",
            ) from None

    def _check(self, where: str) -> None:
        counts = {name: len(getattr(self, name)) for name in ("patch", "tile", "overlap")}
        if self.spacing is not None:
            counts["spacing"] = len(self.spacing)
        for name, count in counts.items():
            if count != self.dims:
                raise PlanError(
                    f"{where}: {name} has {count} values for {self.dims} axes",
                    hint=f"give one value per axis, for example {name}={','.join(['64'] * self.dims)}",
                )
        for name in ("strides", "kernels"):
            for values in getattr(self, name):
                if len(values) != self.dims:
                    raise PlanError(
                        f"{where}: {name} has {shown(values)} for {self.dims} axes",
                        hint=f"give one value per axis and level, or set width alone and {name} follow",
                    )
        if len(self.normalization) != self.channels:
            raise PlanError(
                f"{where}: normalization has {len(self.normalization)} values for {self.channels} channel(s)",
                hint="give one for all channels, or one per channel separated by ;",
            )
        for how in self.normalization:
            if how.kind == "percentile" and not 0 <= how.low < how.high <= 100:
                raise PlanError(
                    f"{where}: normalization takes percentiles from {how.low:g} to {how.high:g}",
                    hint='give low below high, both from 0 to 100: "percentile low=1 high=99.8"',
                )
            if how.kind == "clip" and not (how.low < how.high and how.std > 0):
                raise PlanError(
                    f"{where}: normalization clips from {how.low:g} to {how.high:g} with a std of {how.std:g}",
                    hint='give low below high, and std above 0: "clip low=-100 high=300 mean=80 std=60"',
                )
            largest = max(abs(how.low), abs(how.high), abs(how.mean), how.std)
            if how.kind == "clip" and not (largest <= LARGEST and how.std >= SMALLEST):
                raise PlanError(
                    f"{where}: normalization has numbers that float32 does not hold: {how}",
                    hint=f"use numbers up to {LARGEST:.2g}, and a std from {SMALLEST:.2g}",
                )
        if len(self.strides) != len(self.width) - 1 or len(self.kernels) != len(self.width):
            raise PlanError(
                f"{where}: {len(self.width)} widths need {len(self.width) - 1} strides and {len(self.width)} kernels, "
                f"not {len(self.strides)} and {len(self.kernels)}",
                hint="set width alone, and strides and kernels follow",
            )
        if max(self.stride) > MOST_STRIDE:
            raise PlanError(
                f"{where}: strides come to {shown(self.stride)}, and images are filled up to whole ones",
                hint=f"use strides whose product is {MOST_STRIDE} at most along each axis",
            )
        if self.classes > MOST_CLASSES:
            raise PlanError(
                f"{where}: labels has {self.classes} classes",
                hint=f"use {MOST_CLASSES:,} at most; where values number objects, say --instances",
            )
        if any(2 * shared > size for shared, size in zip(self.overlap, self.tile, strict=True)):
            raise PlanError(
                f"{where}: tiles of {shown(self.tile)} overlap by {shown(self.overlap)}",
                hint="use an overlap of half the tile at most",
            )
        if self.graph is None and self.weights > MOST_WEIGHTS:
            raise PlanError(
                f"{where}: width, kernels and convs make a network of {self.weights:.2g} weights",
                hint=f"use smaller ones: {MOST_WEIGHTS:,} weights at most",
            )
        if self.colour and self.channels != 3:
            raise PlanError(
                f"{where}: colour is yes, and the images have {self.channels} channel(s)", hint="leave colour out"
            )
        self._check_graph(where)
        if self.graph is None and any(size % 2 == 0 for kernel in self.kernels for size in kernel):
            raise PlanError(
                f"{where}: kernels has an even size: {shown(self.kernels)}", hint="use odd sizes, such as 3"
            )
        if self.class_weights is not None and len(self.class_weights) != self.classes:
            raise PlanError(
                f"{where}: {len(self.class_weights)} class_weights for {self.classes} classes",
                hint=f"give one per class, background first: {', '.join(self.labels.names)}",
            )
        if self.class_weights is not None and self.loss == "soft_dice":
            raise PlanError(
                f"{where}: the loss soft_dice counts all classes alike and takes no class_weights",
                hint="set class_weights=none, or loss=dice_and_cross_entropy",
            )
        self._check_task(where)
        if any(axis not in range(self.dims) for axis in self.mirror_axes):
            raise PlanError(
                f"{where}: mirror_axes {shown(self.mirror_axes)} are not axes of {self.dims}D data",
                hint=f"use numbers from 0 to {self.dims - 1}",
            )
        if len(set(self.mirror_axes)) < len(self.mirror_axes):
            raise PlanError(f"{where}: mirror_axes {shown(self.mirror_axes)} has an axis twice", hint="say each once")

    def _check_task(self, where: str) -> None:
        if self.task == "semantic":
            if self.decoding is not None:
                raise PlanError(
                    f"{where}: decoding is about objects, and the task is semantic",
                    hint="leave decoding out, or set task=objects",
                )
            return
        if self.decoding is None:
            raise PlanError(
                f"{where}: the task is objects, and there is no decoding",
                hint='set decoding="gap=0.25 min_size=20", or leave it to be decided',
            )
        if self.border_weight:
            raise PlanError(
                f"{where}: border_weight is {self.border_weight:g}, and objects are told apart by a map of their own",
                hint="set border_weight=0, or task=semantic",
            )
        if self.graph is not None:
            raise PlanError(
                f"{where}: a network that is given by its layers has no maps of objects", hint="set task=semantic"
            )

    def _check_graph(self, where: str) -> None:
        if self.graph is None:
            if self.optimizer == "adam":
                raise PlanError(
                    f"{where}: optimizer=adam is for networks that are given by their layers",
                    hint='use muon, adamw or sgd, or uvea.train(x, y, preset="mini")',
                )
            return
        grids = grids_of(self.graph)
        image, logits = grids[self.graph.layers[0].name], grids[self.graph.layers[-1].name]
        if (self.dims, self.channels) != (2, image.channels):
            raise PlanError(
                f"{where}: the graph takes images of {image.channels} channel(s) in 2D, "
                f"not of {self.channels} in {self.dims}D",
                hint="import the network again",
            )
        if logits.channels != self.classes and (logits.channels, self.classes) != (1, 2):
            raise PlanError(
                f"{where}: the graph gives {logits.channels} logits for {self.classes} classes: "
                f"{', '.join(self.labels.names)}",
                hint="name one class per logit, background first; one logit stands for two classes",
            )
        if stride_of(grids) != self.stride:
            raise PlanError(
                f"{where}: the strides come to {shown(self.stride)}, those of the graph to {shown(stride_of(grids))}",
                hint="import the network again",
            )

    def rows(self) -> list[tuple[str, str, str]]:
        """Every decision that has a reason: name, value as text, reason."""
        texts = {name: shown(value) for name, value in self.model_dump().items()}
        schemes = list(map(str, self.normalization))
        texts["normalization"] = " ; ".join(schemes if len(set(schemes)) > 1 else schemes[:1])
        texts["graph"] = "none" if self.graph is None else f"{len(self.graph.layers)} layers"
        return [(name, texts[name], self.reasons[name]) for name in type(self).model_fields if name in self.reasons]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that says no key twice, of which readers would believe different ones."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r:.100} is there twice")
    return found


def _example(plan: type[Plan], name: str) -> str:
    """A value that a setting could have, for a hint."""
    examples = {
        "spacing": "1,0.5,0.5",
        "normalization": "zscore",
        "width": "16,32,64",
        "strides": '"2,2 ; 2,2"',
        "kernels": '"3,3 ; 3,3 ; 3,3"',
        "patch": "256,256",
        "tile": "1024,1024",
        "overlap": "128,128",
        "class_weights": "1,2",
        "mirror_axes": "0,1",
        "learning_rate": "0.001",
        "ema": "0.99",
        "foreground": "0.33",
        "decoding": '"gap=0.25 min_size=20"',
    }
    kind = plan.model_fields[name].annotation
    choices = [str(choice) for choice in get_args(kind)]
    return examples.get(name) or " or ".join(choices) or ("yes or no" if kind is bool else "1")


def shown(value: object) -> str:
    """A setting as `--set` would take it."""
    if isinstance(value, (tuple, list)):
        nested = any(isinstance(item, (tuple, list, dict)) for item in value)
        return (" ; " if nested else ",").join(shown(item) for item in value) or "none"
    if isinstance(value, dict):
        return " ".join(f"{k}={shown(v)}" for k, v in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
