"""What engines other than PyTorch share: what they need, whether they are right, and where they are kept.

Their libraries are imported when an engine is asked for, not before, and may not report to their makers what
they are used for.
"""

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import torch
from torch import Tensor, nn
from torch.nn import functional

from uvea.durable import write_text
from uvea.errors import ModelError
from uvea.inference.sliding_window import Network

Name = Literal["torch", "openvino", "onnxruntime"]

NEEDED = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "int8": ("openvino", "nncf"),
}
"""Packages that an engine, or making an int8 network, cannot do without."""

EXTRAS = {"openvino": "openvino", "onnxruntime": "onnxruntime", "int8": "openvino"}
"""Extras of this package that install them."""

MOST_DIFFERENT = 0.01
"""Largest mean difference between the probabilities of an engine and those of PyTorch in float32 on a trial patch.
bfloat16 gives 0.0004 to 0.002 for untrained networks, which are undecided everywhere; a fault gives 0.1 or more."""

FACTS = "facts.json"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far an engine is from PyTorch in float32, on one patch."""

    mean: float
    """Mean absolute difference of the class probabilities."""

    labels: float
    """Share of the pixels that get another class."""


def require(what: str) -> None:
    """Check that the packages for an engine, or for "int8", are installed.

    Raises:
        ModelError: naming what to install.
    """
    missing = [package for package in NEEDED.get(what, ()) if find_spec(package) is None]
    if missing:
        raise ModelError(
            f"{what} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f"pip install 'uvea[{EXTRAS[what]}]', or predict with --engine torch and without --int8",
        )


def import_quietly(package: str) -> Any:
    """Import an engine's package, but not the one through which OpenVINO and NNCF send usage statistics.

    Both can do without it. What the import warns of is about their own future.
    """
    # A name that maps to None cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(package)


def trial_patch(channels: int, size: Sequence[int]) -> Tensor:
    """A random patch with coarse and fine detail, (1, c, ...) float32, always the same."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randn((1, channels, *(max(1, n // 16) for n in size)), generator=rng)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    smooth = functional.interpolate(coarse, size=tuple(size), mode=mode)
    return smooth + 0.3 * torch.randn(smooth.shape, generator=rng)


@torch.inference_mode()
def difference(reference: nn.Module, engine: Network, tiles: Tensor) -> Difference:
    """Run an engine and `reference`, the network in float32, on the same tiles (b, c, ...)."""
    right, found = _probabilities(reference(tiles)), _probabilities(engine(tiles))
    if right.shape != found.shape or not found.isfinite().all():
        return Difference(mean=float("inf"), labels=1.0)
    other = right.argmax(1) != found.argmax(1)
    return Difference(mean=float((right - found).abs().mean()), labels=float(other.float().mean()))


def refuse_if_different(found: Difference, name: str, *, most: float = MOST_DIFFERENT) -> None:
    """Refuse an engine whose results are not those of PyTorch.

    Raises:
        ModelError: with the figures.
    """
    if not found.mean <= most:
        raise ModelError(
            f"{name} does not compute what PyTorch computes: on a trial patch probabilities are {found.mean:.2g} apart "
            f"(at most {most:.2g} is allowed) and {found.labels:.1%} of the pixels get another class",
            hint="predict with --engine torch, or install another version of it",
        )


def kept(folder: Path, make: Callable[[Path], Mapping[str, object]]) -> dict[str, object]:
    """The facts about what lies in `folder`; if it is not there it is made first, whole or not at all.

    Args:
        folder: its name says all that its content depends on, so that content never goes stale.
        make: fills an empty folder, and gives the facts to keep in it.

    Raises:
        OSError: if it cannot be written; and what `make` raises.
    """
    facts = folder / FACTS
    if not facts.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.part")
        draft.mkdir()
        try:
            write_text(draft / FACTS, json.dumps(make(draft), indent=2) + "\n")
            if not facts.is_file():  # else another process was faster, and uses what it made
                shutil.rmtree(folder, ignore_errors=True)  # a copy that was cut short
                draft.rename(folder)
        except OSError:
            if not facts.is_file():
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    found: dict[str, object] = json.loads(facts.read_text())
    return found


def _probabilities(logits: Tensor) -> Tensor:
    logits = logits.float()
    return logits.softmax(1) if logits.shape[1] > 1 else torch.cat((1 - logits.sigmoid(), logits.sigmoid()), 1)
