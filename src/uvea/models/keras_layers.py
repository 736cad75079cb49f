"""The layers of a network, from the JSON that Keras writes.

Keras 2 and 3 write what a layer takes in different ways; both are read. A class that is not in the list here,
or that is not Keras' own, is refused by its name: nothing is looked up and nothing is executed.

Source: the serialisation of Keras 2 and 3 as their documentation and files show it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from uvea.errors import ModelError, PlanError
from uvea.models.keras_file import MOST_NESTING, RESAVE
from uvea.plan.graph import (
    Activation,
    Add,
    BatchNorm,
    Concatenate,
    Conv,
    Dropout,
    Function,
    Graph,
    Input,
    Layer,
    MaxPool,
    TransposedConv,
    Upsample,
    grids_of,
)

Head = Literal["sigmoid", "softmax", "none"]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One use of a layer: the node of Keras' graph."""

    name: str
    layer: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """Layers by name in Keras' order, and how they are used."""

    classes: dict[str, str]
    configs: dict[str, Config]
    calls: dict[str, Call]
    output: str


def read_architecture(config: Any) -> Architecture:
    """Layers and their connections, every class checked.

    Args:
        config: parsed JSON of a Functional or Sequential model.

    Raises:
        ModelError: naming the first layer or class that is not supported.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict | list):
        raise ModelError("the description of the network is no model of Keras", hint=RESAVE)
    kind, inner = config.get("class_name"), config["config"]
    if kind == "Sequential":
        return _sequential(inner)
    if kind not in ("Functional", "Model") or not isinstance(inner, dict):
        raise ModelError(
            f"the model is a {kind!s:.80}, a class with code of its own, which is not executed",
            hint="build it with keras.Model(inputs, outputs) of supported layers, and save it again",
        )
    classes, configs, calls = {}, {}, {}
    for entry in _entries(inner):
        name, classes[name], configs[name] = _identity(entry)
        for index, node in enumerate(_list(entry.get("inbound_nodes", []), name)):
            call = _node_name(name, index)
            calls[call] = Call(call, name, tuple(_node_name(*ref) for ref in _references(node, name)))
        if classes[name] == "InputLayer":
            calls[name] = Call(name, name, ())
    ends = [_references(inner.get(key), key) for key in ("input_layers", "output_layers")]
    if [len(end) for end in ends] != [1, 1]:
        raise ModelError(
            f"the model has {len(ends[0])} inputs and {len(ends[1])} outputs",
            hint="build a model of one image and one output, keras.Model(image, masks), and save it again",
        )
    return Architecture(classes, configs, calls, _node_name(*ends[1][0]))


def _sequential(inner: Any) -> Architecture:
    classes, configs, calls = {}, {}, {}
    before: str | None = None
    # Before Keras 2.2.3 the layers themselves were the configuration.
    for entry in _entries(inner if isinstance(inner, dict) else {"layers": inner}):
        name, classes[name], configs[name] = _identity(entry)
        if before is None and classes[name] != "InputLayer":
            first = dict(configs[name])
            shape = first.get("batch_input_shape", inner.get("build_input_shape") if isinstance(inner, dict) else None)
            classes["image"], configs["image"], calls["image"] = (
                "InputLayer",
                {"batch_shape": shape},
                Call("image", "image", ()),
            )
            before = "image"
        calls[name] = Call(name, name, () if before is None else (before,))
        before = name
    return Architecture(classes, configs, calls, before or "")


def _entries(inner: Config) -> list[Config]:
    entries = _list(inner.get("layers"), "the model")
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ModelError("the model has no list of layers", hint=RESAVE)
    return entries


def _identity(entry: Config) -> tuple[str, str, Config]:
    """Name, class and settings of a layer, the class refused unless it is Keras' own and known here."""
    kind, config = entry.get("class_name"), entry.get("config")
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise ModelError(f"a layer of the model has no class: {entry!s:.80}", hint=RESAVE)
    name = entry.get("name", config.get("name"))
    if not isinstance(name, str) or not name:
        raise ModelError(f"a layer of the class {kind:.80} has no name", hint=RESAVE)
    module, registered = entry.get("module"), entry.get("registered_name")
    own = (
        module is None
        or module == "keras.layers"
        or str(module).startswith(("keras.src.layers.", "tf_keras.src.layers."))
    )
    if module in ("keras.src.ops.numpy", "keras.ops.numpy", "keras.src.ops") and kind == "Add":
        own = True
    if own and registered not in (None, kind):
        kind, own = str(registered), False
    if not own or (kind not in _MAKERS and kind != "InputLayer"):
        why = _REFUSED.get(kind, "which uvea does not know")
        raise ModelError(
            f"the layer {name:.80} is a {kind:.80}{'' if own else ' from elsewhere'}, {why}",
            hint=_INSTEAD.get(kind, f"leave it out and save again; known are {', '.join(sorted(_MAKERS))}"),
        )
    return name, kind, config


def _references(node: Any, where: str) -> list[tuple[str, int]]:
    """What a node takes: layers with the number of their call, as Keras 2 and Keras 3 write them."""
    found: list[tuple[str, int]] = []

    def visit(value: Any, depth: int) -> None:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            value = value.get("config", {}).get("keras_history")
        if isinstance(value, list) and 3 <= len(value) <= 4 and isinstance(value[0], str):
            if type(value[1]) is not int or value[2] != 0 or (len(value) == 4 and value[3]):
                raise ModelError(f"{where:.80} takes its input in a way that is not known: {value!s:.80}", hint=RESAVE)
            found.append((value[0], value[1]))
        elif isinstance(value, list) and depth < MOST_NESTING:
            for one in value:
                visit(one, depth + 1)
        elif isinstance(value, dict) and "args" in value and depth < MOST_NESTING:
            extra = {key: one for key, one in value.get("kwargs", {}).items() if one is not None and key != "training"}
            if extra and set(extra) - {"mask"}:
                raise ModelError(f"{where:.80} is called with {', '.join(extra):.80}", hint=RESAVE)
            visit(value["args"], depth + 1)
        else:
            raise ModelError(f"{where:.80} takes something other than layers: {value!s:.80}", hint=RESAVE)

    visit(node, 0)
    return found


def _node_name(layer: str, index: int) -> str:
    return layer if index == 0 else f"{layer} ({index + 1})"


def in_order(plan: Architecture) -> list[Call]:
    """All calls that the output needs, each after those that it takes."""
    order: dict[str, Call] = {}
    under_way: set[str] = set()
    stack = [(plan.output, False)]
    while stack:
        name, done = stack.pop()
        if name not in plan.calls:
            raise ModelError(f"the model uses a layer that it does not have: {name:.80}", hint=RESAVE)
        if done:
            order[name] = plan.calls[name]
        elif name not in order:
            if name in under_way:
                raise ModelError(f"the layer {name:.80} goes into itself", hint=RESAVE)
            under_way.add(name)
            stack.append((name, True))
            stack += [(given, False) for given in reversed(plan.calls[name].inputs) if given not in order]
    # The image first; a second image is one that the output does not come from.
    calls = sorted(order.values(), key=lambda call: plan.classes[call.layer] != "InputLayer")
    images = [call.name for call in calls if plan.classes[call.layer] == "InputLayer"]
    if len(images) != 1:
        raise ModelError(f"the output of the model comes from {len(images)} images, not one", hint=RESAVE)
    return calls


def layer_of(plan: Architecture, call: Call) -> Layer:
    """One use of a Keras layer as a layer of a graph.

    Raises:
        ModelError: for settings that are not supported.
    """
    config, kind = plan.configs[call.layer], plan.classes[call.layer]
    where = f"the layer {call.layer:.80}"
    try:
        if kind == "InputLayer":
            return Input(name=call.name, channels=batch_shape(plan, call.layer)[3])
        if config.get("data_format", "channels_last") != "channels_last":
            raise ModelError(
                f"{where} has its channels first", hint="use channels_last, Keras' default, and save again"
            )
        return _MAKERS[kind](config, where, name=call.name, inputs=call.inputs)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{where} has a {setting} of {first.get('input')!r:.60} ({first['msg'].lower()})", hint=RESAVE
        ) from None


def batch_shape(plan: Architecture, name: str) -> tuple[Any, Any, Any, Any]:
    """(None, y, x, c) of the image."""
    config = plan.configs[name]
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    if not isinstance(shape, list) or len(shape) != 4 or type(shape[3]) is not int:
        raise ModelError(
            f"the image of the model has the shape {shape!s:.80}",
            hint="give the model an Input of (height, width, channels), and save it again",
        )
    y, x = (n if type(n) is int else None for n in shape[1:3])
    return None, y, x, shape[3]


def _conv(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    function, slope = _function(config.get("activation"), where)
    return Conv(
        name=name,
        inputs=inputs,
        channels=config.get("filters", 0),
        kernel=_pair(config.get("kernel_size"), where),
        stride=_pair(config.get("strides", 1), where),
        dilation=_pair(config.get("dilation_rate", 1), where),
        groups=config.get("groups", 1),
        padding=config.get("padding", "valid"),
        bias=flag(config, "use_bias"),
        activation=function,
        slope=slope,
    )


def _transposed_conv(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    if _pair(config.get("dilation_rate", 1), where) != (1, 1):
        raise ModelError(f"{where} is a dilated Conv2DTranspose", hint="use dilation_rate=1 there, and save again")
    if config.get("groups", 1) != 1:
        raise ModelError(f"{where} is a Conv2DTranspose in groups", hint="use groups=1 there, and save again")
    function, slope = _function(config.get("activation"), where)
    more = config.get("output_padding")
    return TransposedConv(
        name=name,
        inputs=inputs,
        channels=config.get("filters", 0),
        kernel=_pair(config.get("kernel_size"), where),
        stride=_pair(config.get("strides", 1), where),
        padding=config.get("padding", "valid"),
        output_padding=None if more is None else _pair(more, where),
        bias=flag(config, "use_bias"),
        activation=function,
        slope=slope,
    )


def _max_pool(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    size = _pair(config.get("pool_size", 2), where)
    stride = config.get("strides")
    return MaxPool(
        name=name,
        inputs=inputs,
        size=size,
        stride=size if stride is None else _pair(stride, where),
        padding=config.get("padding", "valid"),
    )


def _upsample(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    how = config.get("interpolation", "nearest")
    if how not in ("nearest", "bilinear"):
        raise ModelError(f"{where} enlarges by {how!s:.40}", hint="use nearest or bilinear, and save again")
    return Upsample(
        name=name, inputs=inputs, size=_pair(config.get("size", 2), where), how="linear" if how == "bilinear" else how
    )


def _concatenate(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    if config.get("axis", -1) not in (-1, 3):
        raise ModelError(
            f"{where} joins along axis {config.get('axis')!s:.40}", hint="join along the channels, axis=-1"
        )
    return Concatenate(name=name, inputs=inputs)


def _add(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    return Add(name=name, inputs=inputs)


def _batch_norm(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    if config.get("axis", -1) not in (-1, 3, [3], [-1]):
        raise ModelError(f"{where} is over axis {config.get('axis')!s:.40}", hint="normalise the channels, axis=-1")
    return BatchNorm(name=name, inputs=inputs, epsilon=config.get("epsilon", 1e-3))


def _dropout(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    return Dropout(name=name, inputs=inputs, share=config.get("rate", 0.0))


def _activation(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    function, slope = _function(config.get("activation"), where)
    return Activation(name=name, inputs=inputs, activation=function, slope=slope)


def _relu(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    limit, slope = config.get("max_value"), config.get("negative_slope", 0.0)
    if limit not in (None, 6, 6.0) or config.get("threshold", 0) != 0 or (limit is not None and slope):
        raise ModelError(f"{where} is a ReLU with other limits than 0 and 6", hint="use a plain ReLU, and save again")
    function: Function = "relu6" if limit else "leaky_relu" if slope else "relu"
    return Activation(name=name, inputs=inputs, activation=function, slope=slope or 0.0)


def _leaky_relu(config: Config, where: str, *, name: str, inputs: tuple[str, ...]) -> Layer:
    slope = config.get("negative_slope", config.get("alpha", 0.3))
    return Activation(name=name, inputs=inputs, activation="leaky_relu", slope=slope)


_MAKERS: dict[str, Callable[..., Layer]] = {
    "Activation": _activation,
    "Add": _add,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": _conv,
    "Conv2DTranspose": _transposed_conv,
    "Dropout": _dropout,
    "LeakyReLU": _leaky_relu,
    "MaxPooling2D": _max_pool,
    "ReLU": _relu,
    "SpatialDropout2D": _dropout,
    "UpSampling2D": _upsample,
}
"""From the class of a Keras layer to a layer here. To support another, add its arithmetic to `GraphNetwork`."""

_REFUSED = {
    "Lambda": "which holds code, and code in a file is not executed",
    "TFOpLambda": "an operation that Keras 2 kept as code",
    "SlicingOpLambda": "an operation that Keras 2 kept as code",
    "Functional": "a model within the model",
    "Sequential": "a model within the model",
}

_INSTEAD = {
    "Rescaling": "leave it out, save again, and say what it did with --scale and --shift",
    "Normalization": "leave it out, save again, and say what it did with --scale and --shift",
    "Functional": "put its layers into the model itself, and save again",
    "Sequential": "put its layers into the model itself, and save again",
}

_FUNCTIONS: dict[str, tuple[Function, float]] = {
    "linear": ("linear", 0.0),
    "relu": ("relu", 0.0),
    "relu6": ("relu6", 0.0),
    "leaky_relu": ("leaky_relu", 0.2),
    "elu": ("elu", 1.0),
    "selu": ("selu", 0.0),
    "silu": ("silu", 0.0),
    "swish": ("silu", 0.0),
    "gelu": ("gelu", 0.0),
    "tanh": ("tanh", 0.0),
    "softplus": ("softplus", 0.0),
    "sigmoid": ("sigmoid", 0.0),
    "hard_sigmoid": ("hard_sigmoid", 0.0),
    "softmax": ("softmax", 0.0),
}
"""Activations of Keras by name, with the slope that is the default there."""


def _function(said: Any, where: str) -> tuple[Function, float]:
    name = said
    if isinstance(said, dict):  # {"module": "builtins", "class_name": "function", "config": "relu"}
        name = said.get("config") if said.get("class_name") == "function" else said.get("class_name")
        if said.get("registered_name") not in (None, name, "function"):
            name = said["registered_name"]
    if name is None:
        return "linear", 0.0
    if not isinstance(name, str) or name not in _FUNCTIONS:
        raise ModelError(
            f"{where} has the activation {name!s:.80}, which uvea does not know",
            hint=f"use one of {', '.join(sorted(_FUNCTIONS))}, and save again",
        )
    return _FUNCTIONS[name]


def _pair(value: Any, where: str) -> tuple[int, int]:
    pair = [value, value] if type(value) is int else value
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(n) is int for n in pair):
        raise ModelError(f"{where} has a size of {value!s:.80}", hint=f"two whole numbers are needed; {RESAVE}")
    return pair[0], pair[1]


def flag(config: Config, name: str) -> bool:
    """A setting that is on unless it is said to be off."""
    return config.get(name, True) is not False


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f"{where:.80} has {value!s:.80} where a list belongs", hint=RESAVE)
    return value


def with_logits(layers: Sequence[Layer]) -> tuple[Graph, Head]:
    """A graph without the sigmoid or softmax at the end, which uvea does itself.

    Raises:
        ModelError: if the layers do not fit together, or end in something other than probabilities or logits.
    """
    kept = list(layers)
    while kept[-1].kind == "dropout" or (kept[-1].kind == "activation" and kept[-1].activation == "linear"):
        kept.pop()
    last = kept[-1]
    function: Function | None = None
    if last.kind == "activation":
        function = last.activation
        kept.pop()
    elif last.kind in ("conv", "transposed_conv"):
        function = last.activation
        kept[-1] = last.model_copy(update={"activation": "linear"})
    if function not in ("sigmoid", "softmax", "linear"):
        kind = last.kind if function is None else f"{last.kind}, {function}"
        raise ModelError(
            f"the model ends in {last.name:.80} ({kind}), not in probabilities",
            hint="end it with a Conv2D with a sigmoid or a softmax, and save again",
        )
    try:
        graph = Graph(layers=tuple(kept))
        channels = grids_of(graph)[kept[-1].name].channels
    except PlanError as error:
        raise ModelError(error.problem, hint=error.hint) from None
    if (function == "sigmoid" and channels != 1) or (function == "softmax" and channels == 1):
        raise ModelError(
            f"the model ends in a {function} over {channels} channel(s)",
            hint="use one channel with a sigmoid, or one per class, background first, with a softmax",
        )
    return graph, "none" if function == "linear" else function
