"""The networks of a model in another engine than PyTorch, made once and kept in the model's folder.

weights -> convert -> compare with PyTorch -> run/engines/NAME/ -> compiled for this processor
"""

import hashlib
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import nn

import uvea
from uvea.errors import OutputError
from uvea.inference import onnx_engine, openvino_engine
from uvea.inference.engines import difference, import_quietly, kept, refuse_if_different, require, trial_patch
from uvea.inference.sliding_window import Network
from uvea.models.device import describe_machine
from uvea.models.fold import for_tracing
from uvea.models.weights import weights_hash
from uvea.plan.plan import Plan
from uvea.workflows.events import Listener, Message
from uvea.workflows.workspace import Workspace

Precision = Literal["float32", "bfloat16"]


def openvino_network(space: Workspace, network: nn.Module, plan: Plan, *, listen: Listener) -> Network:
    """The network of `space` in OpenVINO: in bfloat16 where the processor has it and the plan does not forbid it.

    Args:
        space: where it is kept.
        network: with its weights, in float32 on the CPU.
        plan: of the model.
        listen: told if it cannot be kept.

    Raises:
        ModelError: if OpenVINO is not installed, or computes something else than PyTorch.
    """
    require("openvino")
    version = str(import_quietly("openvino").__version__)
    precision = openvino_precision(plan)

    def make(folder: Path) -> dict[str, object]:
        listen(Message("converting the network for OpenVINO, once"))
        tiles = trial_patch(plan.channels, whole_strides(plan))
        openvino_engine.save(openvino_engine.convert(for_tracing(network), tiles), folder / "network.xml")
        found = difference(
            network.eval(), openvino_engine.compile_for_cpu(folder / "network.xml", precision=precision), tiles
        )
        refuse_if_different(found, f"OpenVINO {version} in {precision}")
        return {"mean difference": found.mean, "pixels of another class": found.labels}

    def open_it(folder: Path, cache: Path | None) -> Network:
        return openvino_engine.compile_for_cpu(folder / "network.xml", precision=precision, cache=cache)

    name = name_of("openvino", version, network, precision, describe_machine().processor)
    return _kept_or_made(space.run / "engines" / name, make, open_it, listen)


def onnx_network(space: Workspace, network: nn.Module, plan: Plan, *, listen: Listener) -> Network:
    """The network of `space` in ONNX Runtime, in float32; otherwise as `openvino_network`."""
    require("onnxruntime")
    version = str(import_quietly("onnxruntime").__version__)

    def make(folder: Path) -> dict[str, object]:
        listen(Message("converting the network for ONNX Runtime, once"))
        tiles = trial_patch(plan.channels, whole_strides(plan))
        onnx_engine.save(for_tracing(network), tiles, folder / "network.onnx")
        found = difference(network.eval(), onnx_engine.open_on_cpu(folder / "network.onnx"), tiles)
        refuse_if_different(found, f"ONNX Runtime {version}")
        return {"mean difference": found.mean, "pixels of another class": found.labels}

    def open_it(folder: Path, cache: Path | None) -> Network:
        return onnx_engine.open_on_cpu(folder / "network.onnx")

    name = name_of("onnxruntime", version, network, "float32", describe_machine().processor)
    return _kept_or_made(space.run / "engines" / name, make, open_it, listen)


def openvino_precision(plan: Plan) -> Precision:
    """What OpenVINO computes in here, where layers are not int8."""
    return "bfloat16" if plan.precision != "float32" and openvino_engine.has_bfloat16() else "float32"


def whole_strides(plan: Plan) -> tuple[int, ...]:
    """The size of the plan's patch, in whole strides of the network."""
    return tuple(ceil(n / step) * step for n, step in zip(plan.patch, plan.stride, strict=True))


def name_of(engine: str, version: str, network: nn.Module, *words: str) -> str:
    """A folder name that another network, version or processor does not get."""
    parts = (weights_hash(network), uvea.__version__, torch.__version__, *words)
    return f"{engine}-{version.split('-')[0]}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}"


def _kept_or_made(
    folder: Path,
    make: Callable[[Path], Mapping[str, object]],
    open_it: Callable[[Path, Path | None], Network],
    listen: Listener,
) -> Network:
    try:
        kept(folder, make)
    except (OSError, OutputError) as error:
        trouble = error.problem if isinstance(error, OutputError) else f"{folder} cannot be written: {error.strerror}"
        listen(Message(f"{trouble}; the network will be converted anew each time", "warning"))
        with TemporaryDirectory() as temporary:
            make(Path(temporary))
            return open_it(Path(temporary), None)
    return open_it(folder, folder / "compiled")
