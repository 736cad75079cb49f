"""Turn a network that Keras saved into a model folder, which `uvea.load` and `uvea predict` use like any other.

.keras or .h5 -> layers and weights -> plan -> model/
"""

from math import ceil
from pathlib import Path

import numpy as np

import uvea
from uvea.arrays.labels import LabelMap, Value, default_names
from uvea.arrays.normalize import Normalization
from uvea.errors import ModelError, PlanError
from uvea.models.keras import KerasModel, read_keras
from uvea.models.weights import save_weights
from uvea.plan.fingerprint import Fingerprint
from uvea.plan.graph import Graph, grids_of, levels_of, reach_of, stride_of, weights_of
from uvea.plan.plan import Plan
from uvea.workflows.events import Listener, Message, silent
from uvea.workflows.model import Model, load
from uvea.workflows.workspace import Workspace

TILE = 512
"""Least size of the tiles of a prediction, pixels; as for networks that are trained here."""

SIZE = 256
"""Taken for the size of the training images where Keras was given none."""


def import_keras(
    source: str | Path,
    *,
    out: str | Path,
    scale: float | None = None,
    shift: float = 0.0,
    labels: tuple[str, ...] | dict[int, str] = (),
    architecture: str | Path | None = None,
    device: str | None = None,
    overwrite: bool = False,
    listen: Listener = silent,
) -> Model:
    """Make a model of a network that Keras saved; it predicts what it did there.

    Nothing in the file is executed, and neither Keras nor TensorFlow is needed.

    Args:
        source: a .keras, .h5 or .weights.h5 file.
        out: the folder of the model.
        scale: what you divided pixels by before they went to Keras, such as 255; None: they went there as they are.
        shift: what you subtracted before that: pixels / 127.5 - 1 is shift 127.5 and scale 127.5.
        labels: names of the classes, background first, or mask values with their names: {0: "background", 255: "cell"}.
            Without values, two classes are written as 0 and 255, more as 0, 1, 2, …
        architecture: a file with what `model.to_json()` gives, where `source` has weights alone.
        device: where the model is loaded to.
        overwrite: whether a model in `out` may be replaced.
        listen: told what was found and what was assumed.

    Raises:
        ModelError: for a file that cannot be read, and for layers that are not supported, by name.
        PlanError: for a scale or labels that cannot be.
        OutputError: if `out` cannot be written.
    """
    if not np.isfinite(shift) or (scale is not None and not (np.isfinite(scale) and scale > 0)):
        raise PlanError(f"pixels cannot be shifted by {shift} and divided by {scale}", hint="use --scale 255")
    space = Workspace(Path(out))
    space.check_free(overwrite=overwrite)
    found = read_keras(Path(source), architecture=None if architecture is None else Path(architecture))
    plan = _plan(found, Path(source), _labels(found, labels), scale=scale, shift=shift)
    if found.assumed:
        listen(
            Message(
                f"{source} has weights alone; they fit the tutorial network, whose layers are assumed, "
                "with the upsampled branch first where both are joined",
                "warning",
            )
        )
    if found.head == "none":
        listen(
            Message(
                "the network ends without a sigmoid or softmax: its output is taken for logits, and uvea adds it",
                "warning",
            )
        )
    if scale is None and not shift:
        listen(
            Message(
                "pixels go to the network as they are in the files — if you divided them for Keras, "
                "say so, such as --scale 255",
                "warning",
            )
        )
    space.claim(overwrite=overwrite)
    with space.locked():
        save_weights(space.weights, found.weights)
        space.save_plan(plan)
    return load(space.folder, device=device)


def describe_graph(graph: Graph) -> dict[str, object]:
    """The settings of a plan that follow from its graph; for readers, the graph itself decides."""
    grids = grids_of(graph)
    width, strides, kernels = levels_of(graph, grids)
    kinds = [layer.kind for layer in graph.layers]
    steps = [grids[layer.name].step for layer in graph.layers if layer.kind in ("conv", "transposed_conv")]
    return {
        "graph": graph,
        "dims": 2,
        "channels": grids[graph.layers[0].name].channels,
        "width": width,
        "strides": strides,
        "kernels": kernels,
        "convs": max([steps.count(step) for step in steps], default=1),
        "norm": "batch" if "batch_norm" in kinds else "none",
        "block": "residual" if "add" in kinds else "plain",
        "deep_supervision": False,
    }


def _plan(found: KerasModel, source: Path, labels: LabelMap, *, scale: float | None, shift: float) -> Plan:
    described = describe_graph(found.graph)
    grids = grids_of(found.graph)
    channels = grids[found.graph.layers[0].name].channels
    stride = stride_of(grids)
    patch = tuple(ceil((n or SIZE) / step) * step for n, step in zip(found.size, stride, strict=True))
    # Neighbours share twice what a pixel sees: so tiles give what the whole image would.
    shared = [ceil(2 * n / step) * step for n, step in zip(reach_of(found.graph, grids), stride, strict=True)]
    tile = tuple(
        max(n, ceil(max(TILE, 2 * both) / step) * step) for n, both, step in zip(patch, shared, stride, strict=True)
    )
    origin = f"from {source.name}" + (f", Keras {found.version}" if found.version else "")
    head = {
        "sigmoid": "the sigmoid at the end is uvea's own",
        "softmax": "the softmax at the end is uvea's own",
        "none": "it ends without sigmoid or softmax: its output is taken for logits",
    }[found.head]
    steps = ([f"{shift:g} is subtracted"] if shift else []) + ([f"they are divided by {scale:g}"] if scale else [])
    pixels = (
        f"said by you for the pixels: {', then '.join(steps)}"
        if steps
        else "nothing was said: pixels go in as they are"
    )
    reasons = {
        "graph": f"{origin}: {len(found.graph.layers)} layers, {weights_of(found.graph, grids):,} parameters; {head}"
        + ("; the file has weights alone, the layers of the tutorial are assumed" if found.assumed else ""),
        "normalization": pixels,
        "precision": "as in Keras",
        "patch": "the size that Keras took" if all(found.size) else "Keras took any size",
        "tile": "larger than the patch: fewer borders; the network takes any size",
        "overlap": "twice what a pixel of the output sees: tiles give what the whole image would",
    }
    return Plan.make(
        {
            **described,
            "uvea": uvea.__version__,
            "files": 1,
            "colour": channels == 3,
            "labels": labels,
            "spacing": None,
            "unit": "px",
            "normalization": [_normalization(scale, shift)] * channels,
            "patch": patch,
            "batch": 1,
            "loss": "cross_entropy",
            "class_weights": None,
            "border_weight": 0.0,
            "foreground": 0.0,
            "optimizer": "adamw",
            "learning_rate": 0.001,
            "weight_decay": 0.0,
            "schedule": "linear",
            "warmup_steps": 0,
            "ema": 0.0,
            "clip": 1.0,
            "augment": 0.0,
            "augment_chance": 0.0,
            "clean_finish": 0.0,
            "mirror_axes": (0, 1),
            "rotate90": False,
            "minutes": None,
            "epochs": None,
            "steps": None,
            "seed": 0,
            "precision": "float32",
            "tile": tile,
            "overlap": tuple(shared),
            "fingerprint": Fingerprint.unmeasured(channels=channels, shape=patch),
            "reasons": reasons,
        },
        where="the plan",
    )


def _normalization(scale: float | None, shift: float) -> Normalization:
    if scale is None and not shift:
        return Normalization(kind="none")
    widest = float(np.finfo(np.float32).max)
    return Normalization(kind="clip", low=-widest, high=widest, mean=shift, std=scale or 1.0)


def _labels(found: KerasModel, said: tuple[str, ...] | dict[int, str]) -> LabelMap:
    logits = grids_of(found.graph)[found.graph.layers[-1].name].channels
    classes = max(2, logits)
    values: tuple[Value, ...] = (
        tuple(said) if isinstance(said, dict) else ((0, 255) if classes == 2 else tuple(range(classes)))
    )
    names = tuple(said.values()) if isinstance(said, dict) else said or default_names(classes)
    if len(names) != classes:
        raise ModelError(
            f"{len(names)} labels for a network of {classes} classes: {', '.join(names)}",
            hint="name every class, background first, such as --labels 0=background,255=cell",
        )
    try:
        return LabelMap(kind="values", values=values, names=names)
    except ValueError:
        raise PlanError(f"a label is named twice: {', '.join(names)}", hint="give every class its own name") from None
