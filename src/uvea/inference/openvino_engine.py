"""Networks in OpenVINO: converted from PyTorch, compiled for the processor, or quantised to int8.

Batch, height, width and depth are left open, so that one model serves tiles of any size.
"""

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uvea.inference.engines import import_quietly


class OpenVinoNetwork:
    """A `Network` that OpenVINO runs."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def __call__(self, tiles: Tensor) -> Tensor:
        """Logits of tiles (b, c, ...)."""
        (logits,) = self._compiled([tiles.contiguous().numpy()]).values()
        return torch.from_numpy(logits)


def convert(network: nn.Module, tiles: Tensor) -> Any:
    """A network in evaluation mode as a model of OpenVINO, traced on `tiles`, whose size must be whole strides."""
    ov = import_quietly("openvino")
    with torch.no_grad(), warnings.catch_warnings():
        # Sizes that the trace takes for constants decide about errors and padding only.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, tiles, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, example_input=tiles)
    model.reshape([-1, tiles.shape[1], *[-1] * (tiles.ndim - 2)])
    return model


def save(model: Any, path: Path) -> None:
    """Write a model as `path`, ending in .xml, and its weights beside it, in full precision."""
    import_quietly("openvino").save_model(model, str(path), compress_to_fp16=False)


@cache
def _core() -> Any:
    """One for the process, and never given back.

    Each gives its thread a stack for signals, and at its end puts the one back that it found. Where two overlap, that
    one may be gone, and the next Ctrl-C ends the process with a segmentation fault (OpenVINO 2026.4).
    """
    return import_quietly("openvino").Core()


def has_bfloat16() -> bool:
    """Whether OpenVINO has bfloat16 kernels for this processor."""
    core = _core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compile_for_cpu(
    model: Path, *, precision: Literal["float32", "bfloat16"], cache: Path | None = None
) -> OpenVinoNetwork:
    """Load and compile a model that `save` wrote.

    Args:
        model: its .xml file.
        precision: of all layers that are not int8. Always said, because the default differs between processors.
        cache: folder where the compiled model is kept for the next time.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
    }
    if cache is not None:
        settings["CACHE_DIR"] = str(cache)
    return OpenVinoNetwork(_core().compile_model(str(model), "CPU", settings))


def quantise(model: Any, tiles: Sequence[NDArray[np.float32]]) -> Any:
    """An int8 copy of a model: post-training quantisation.

    Args:
        model: of `convert`.
        tiles: (c, ...) each, as networks see them; the ranges of activations are measured on them.

    Source: Kozlov et al. 2020, Neural Network Compression Framework, arXiv:2002.08679.
    """
    nncf = import_quietly("nncf")
    logging.getLogger("nncf").setLevel(logging.WARNING)
    # It draws bars of its own on stdout.
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            nncf.Dataset([tile[None] for tile in tiles]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(tiles),
            # The exact correction took as long as the fast one and cost 0.0015 Dice where that cost 0.0048 (2026-11).
            fast_bias_correction=False,
        )
