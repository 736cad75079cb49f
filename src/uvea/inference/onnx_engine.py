"""Networks in ONNX Runtime: exported from PyTorch, run on the processor in float32.

Batch, height, width and depth are left open, so that one model serves tiles of any size.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uvea.inference.engines import import_quietly


class OnnxNetwork:
    """A `Network` that ONNX Runtime runs."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, tiles: Tensor) -> Tensor:
        """Logits of tiles (b, c, ...).

        Raises:
            RuntimeError: as torch does; a lack of memory is told by its words.
        """
        try:
            (logits,) = self._session.run(None, {"images": tiles.contiguous().numpy()})
        except Exception as error:
            # Errors of ONNX Runtime are of kinds of its own, without a base in common but this.
            raise RuntimeError(str(error)) from error
        return torch.from_numpy(logits)


def save(network: nn.Module, tiles: Tensor, path: Path) -> None:
    """Write a network in evaluation mode as ONNX, traced on `tiles`, whose size must be whole strides."""
    open_axes = {0: "b", **dict(enumerate("zyx"[-(tiles.ndim - 2) :], start=2))}
    with torch.no_grad(), warnings.catch_warnings():
        # Sizes that the trace takes for constants decide about errors and padding only.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (tiles,),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": open_axes, "logits": open_axes},
            dynamo=False,  # the other exporter needs one more package
        )


def open_on_cpu(path: Path) -> OnnxNetwork:
    """Load a network that `save` wrote."""
    ort = import_quietly("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return OnnxNetwork(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
