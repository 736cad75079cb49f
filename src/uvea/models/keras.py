"""Networks that Keras saved: their layers and weights, read as data.

    .keras            a zip: config.json (the layers) and model.weights.h5
    .h5               the older file: the layers as JSON in an attribute, and the weights
    .weights.h5, .h5  weights alone: the layers come from `architecture`, what `model.to_json()` wrote

Keras is not needed. `keras_file` opens the files, `keras_layers` reads the layers; here the weights are found
and arranged for `GraphNetwork`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uvea.errors import ModelError
from uvea.models.keras_file import (
    Group,
    arrays_of,
    child,
    datasets_in,
    opened,
    parsed,
    said_plainly,
    text_of,
)
from uvea.models.keras_layers import (
    Architecture,
    Config,
    Head,
    batch_shape,
    flag,
    in_order,
    layer_of,
    read_architecture,
    with_logits,
)
from uvea.models.presets import tutorial
from uvea.plan.graph import Activated, Graph, Layer, grids_of

NUMBERED = ("layers", "_layer_checkpoint_dependencies")
"""Groups of .weights.h5 files in which layers are numbered by class; the second is that of early ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KerasModel:
    """A network that Keras saved."""

    graph: Graph
    """Up to the logits: the sigmoid or softmax at the end is taken off."""

    weights: dict[str, Tensor]
    """The state dict of its `GraphNetwork`, float32."""

    head: Head
    """What was taken off."""

    size: tuple[int | None, int | None]
    """(y, x) that Keras took; None for any."""

    version: str | None
    """Of Keras, where the file says it."""

    assumed: bool
    """The file has weights alone, and they fit the tutorial network: the layers are assumed."""


def read_keras(path: Path, *, architecture: Path | None = None) -> KerasModel:
    """Read a network that Keras saved.

    Args:
        path: a .keras, .h5 or .weights.h5 file.
        architecture: JSON of `model.to_json()`, where the file has weights alone.

    Raises:
        ModelError: for a file that cannot be read, a layer that is not supported, or weights that do not fit.
    """
    with opened(path) as (file, config, version):
        said = config if architecture is None else parsed(text_of(architecture), str(architecture))
        with said_plainly(path):
            if said is not None:
                return _assembled(said, file, version=version, where=str(path))
            return _tutorial(file, version=version, path=path)


def _assembled(config: Any, file: Group, *, version: str | None, where: str) -> KerasModel:
    plan = read_architecture(config)
    graph, head = with_logits([layer_of(plan, call) for call in in_order(plan)])
    _refuse_old_functions(graph, version)
    stored = _groups_of_layers(plan, file)
    used = {layer.name: plan.calls[layer.name].layer for layer in graph.layers}
    return KerasModel(
        graph=graph,
        weights=_weights(
            graph, {name: (stored.get(layer), plan.configs[layer]) for name, layer in used.items()}, where
        ),
        head=head,
        size=batch_shape(plan, graph.layers[0].name)[1:3],
        version=version,
        assumed=False,
    )


def _refuse_old_functions(graph: Graph, version: str | None) -> None:
    """Keras 3 changed the slope of hard_sigmoid from 1/5 to 1/6, and kept the name."""
    for layer in graph.layers:
        if (
            isinstance(layer, Activated)
            and layer.activation == "hard_sigmoid"
            and (version or "").startswith(("1.", "2."))
        ):
            raise ModelError(
                f"layer {layer.name} has the activation hard_sigmoid of Keras {version}, which Keras 3 changed",
                hint="use sigmoid there, or train the network again in Keras 3",
            )


def _tutorial(file: Group, *, version: str | None, path: Path) -> KerasModel:
    """The tutorial network, if the weights are those of one."""
    root = file
    for container in (*NUMBERED, "model_weights"):
        root = root if (found := child(file, container)) is None else found
    names = sorted(
        (name for name in root if re.fullmatch(r"conv2d(_\d{1,6})?", name)), key=lambda name: int(name[7:] or 0)
    )
    groups = [child(root, name) for name in names[:6]]
    shapes = [sorted((array.shape for array in datasets_in(group).values()), key=len) for group in groups if group]
    if [[len(shape) for shape in one] for one in shapes] == [[1, 4]] * 5:
        (*_, channels, width), classes = shapes[0][1], shapes[4][1][3]
        if 1 <= channels <= 64 and 1 <= width <= 4096 and 1 <= classes <= 4096:
            graph = tutorial(channels=channels, width=width, classes=classes)
            convs = [layer for layer in graph.layers if layer.kind == "conv"]
            grids = grids_of(graph)
            needed = [_shapes(layer, grids[layer.inputs[0]].channels, {}) for layer in convs]
            if shapes == [sorted(one.values(), key=len) for one in needed]:
                stored: dict[str, tuple[Group | None, Config]] = {
                    layer.name: (group, {}) for layer, group in zip(convs, groups, strict=True)
                }
                return KerasModel(
                    graph=graph,
                    weights=_weights(graph, stored, str(path)),
                    head="sigmoid" if classes == 1 else "softmax",
                    size=(None, None),
                    version=version,
                    assumed=True,
                )
    raise ModelError(
        f"{path} has weights but not the layers that they belong to",
        hint="save it with model.save('model.keras'), or give what model.to_json() writes with --architecture FILE",
    )


def _weights(graph: Graph, stored: Mapping[str, tuple[Group | None, Config]], where: str) -> dict[str, Tensor]:
    """The state dict; `stored` has the group and Keras' settings of each layer of the graph that has weights."""
    grids = grids_of(graph)
    state: dict[str, Tensor] = {}
    for index, layer in enumerate(graph.layers):
        if layer.kind in ("conv", "transposed_conv", "batch_norm"):
            given = grids[layer.inputs[0]].channels
            group, config = stored[layer.name]
            arrays = arrays_of(group, _shapes(layer, given, config), f"the layer {layer.name:.80} of {where}")
            state |= {f"layers.{index}.{key}": tensor for key, tensor in _state(layer, arrays, given).items()}
    return state


def _shapes(layer: Layer, given: int, config: Config) -> dict[str, tuple[int, ...]]:
    """The arrays that Keras keeps of a layer, in its order."""
    if layer.kind == "batch_norm":
        names = [name for name, setting in (("gamma", "scale"), ("beta", "center")) if flag(config, setting)]
        return {name: (given,) for name in (*names, "moving_mean", "moving_variance")}
    assert layer.kind in ("conv", "transposed_conv")
    last = (given // layer.groups, layer.channels) if layer.kind == "conv" else (layer.channels, given)
    shapes: dict[str, tuple[int, ...]] = {"kernel": (*layer.kernel, *last)}
    return shapes | ({"bias": (layer.channels,)} if layer.bias else {})


def _state(layer: Layer, arrays: Mapping[str, NDArray[np.float32]], given: int) -> dict[str, Tensor]:
    """The same for torch."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if layer.kind == "batch_norm":
        return {
            "weight": tensors.get("gamma", torch.ones(given)),
            "bias": tensors.get("beta", torch.zeros(given)),
            "running_mean": tensors["moving_mean"],
            "running_var": tensors["moving_variance"],
            "num_batches_tracked": torch.zeros((), dtype=torch.int64),
        }
    # (y, x, in, out) to (out, in, y, x); transposed, (y, x, out, in) to (in, out, y, x): the same turn.
    state = {"conv.weight": tensors["kernel"].permute(3, 2, 0, 1).contiguous()}
    if "bias" in tensors:
        state["conv.bias" if layer.kind == "conv" else "bias"] = tensors["bias"]
    return state


def _groups_of_layers(plan: Architecture, file: Group) -> dict[str, Group]:
    """Where the weights of each layer are: numbered by class in Keras 3 and .keras files, by name in older ones."""
    for container in NUMBERED:
        if (root := child(file, container)) is not None:
            found = {}
            counts: dict[str, int] = {}
            for name, kind in plan.classes.items():
                plain = _snake(kind)
                number = counts.get(plain, 0)
                counts[plain] = number + 1
                group = child(root, plain if number == 0 else f"{plain}_{number}")
                if group is not None and (kept := child(group, "vars")) is not None:
                    found[name] = kept
            return found
    root = file if (older := child(file, "model_weights")) is None else older
    return {name: group for name in plan.classes if (group := child(root, name)) is not None}


def _snake(kind: str) -> str:
    """Conv2DTranspose to conv2d_transpose, as Keras names the groups."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
