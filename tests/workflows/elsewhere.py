"""Trainings and predictions on a device that is not there: its tensors lie elsewhere, and the processor computes them.

`test_elsewhere.py` runs this file: torch must get to know the device before the first gradient of its process.

What would be an error on a GPU is one here: an operation on tensors of two devices. What would wait for a GPU is seen:
values that are asked for, and shapes that follow from values. It has no streams and no graphs, and tells nothing about
speed.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.library import Library
from torch.utils import _pytree as trees
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing

import uvea
from uvea.augment import intensity
from uvea.augment.chain import standard_chain
from uvea.batches.on_device import device_sampler
from uvea.batches.sampler import TrainingCase, remember_positions
from uvea.models.device import describe_machine
from uvea.models.unet import UNet
from uvea.training.average import Average
from uvea.training.losses import build_loss, deep, with_objects
from uvea.training.muon import Muon
from uvea.training.step import eager, work_of
from uvea.workflows import model as model_workflow
from uvea.workflows import train as train_workflow
from uvea.workflows import train_arrays as arrays_workflow

DEVICE = torch.device("privateuseone", 0)
aten = torch.ops.aten

LOOKS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default)
"""What gives values to Python, or has a shape that follows from values."""

MAY_MIX = (aten._to_copy.default, aten.copy_.default, aten.index.Tensor, aten.index_put_.default)
"""Moves from one device to another, and indices, which may lie on the processor."""

waits: list[str] = []
"""Lines of ours that waited for the device."""


class Elsewhere(Tensor):
    """A tensor of that device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        """Say of `held` that it lies elsewhere."""
        form = {"strides": held.stride(), "storage_offset": held.storage_offset(), "layout": held.layout}
        kind = {"dtype": held.dtype, "requires_grad": held.requires_grad}
        made: Elsewhere = Tensor._make_wrapper_subclass(cls, held.shape, device=DEVICE, **form, **kind)
        made.held = held
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Name what it consists of, so that modules can be moved."""
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *rest: object) -> "Elsewhere":
        """Make it of that again."""
        return Elsewhere(inner["held"])

    def tolist(self) -> Any:
        """Torch has none for tensors of other kinds."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute what was asked for."""
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """Do an operation of torch on the processor, and say where its result lies."""
    given = [value for value in trees.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    ours = [value for value in given if isinstance(value, Elsewhere)]
    wanted = kwargs.get("device")
    if func is aten.copy_.default:
        here = not isinstance(args[0], Elsewhere)
    else:
        here = not ours if wanted is None else torch.device(wanted).type == "cpu"
    if ours and func not in MAY_MIX and any(value.ndim and not isinstance(value, Elsewhere) for value in given):
        raise RuntimeError(f"{func} on tensors of two devices: {[str(value.device) for value in given]}")
    masked = func is aten.index.Tensor and any(one is not None and one.dtype == torch.bool for one in args[1])
    if func in LOOKS or masked or (here and ours):
        stack = [
            place for place in traceback.extract_stack() if Path(uvea.__file__).parent in Path(place.filename).parents
        ]
        waits.append(" ".join(f"{Path(place.filename).name}:{place.lineno} {place.line}" for place in stack[-1:]))
    inner, named = trees.tree_map_only(Elsewhere, lambda value: value.held, (args, kwargs))
    named = {name: torch.device("cpu") if name == "device" and value else value for name, value in named.items()}
    found = func(*inner, **named)
    if here:
        return found
    found = trees.tree_map_only(Tensor, lambda one: one if isinstance(one, Elsewhere) else Elsewhere(one), found)
    return return_and_correct_aliasing(func, args, kwargs, found) if ours else found


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    """Torch knows the device from here on."""
    usual = backend_registration._DummyBackendModule
    usual.get_amp_supported_dtype = lambda self: [torch.bfloat16]  # type: ignore[attr-defined]
    backend_registration._setup_privateuseone_for_python_backend("elsewhere")
    every, some = Library("_", "IMPL"), Library("aten", "IMPL")
    every.fallback(lambda func, *args, **kwargs: run(func, args, kwargs), "PrivateUse1")
    # `torch.tensor` asks for these two in a way that leaves no name to the others.
    some.impl("empty_strided", lambda *args, **kwargs: run(aten.empty_strided.default, args, kwargs), "PrivateUse1")
    some.impl("copy_", lambda *args, **kwargs: run(aten.copy_.default, args, kwargs), "PrivateUse1")
    yield
    every._destroy()
    some._destroy()


@pytest.fixture(autouse=True)
def elsewhere(registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and models are put there; torch offers no random numbers on such devices."""
    for workflow in (train_workflow, model_workflow, arrays_workflow):
        monkeypatch.setattr(workflow, "find_device", lambda wanted=None: DEVICE)
    monkeypatch.setattr(intensity, "generator_of", lambda device, *, seed: torch.Generator().manual_seed(seed))
    waits.clear()


def test_two_devices_do_not_mix_and_looking_is_seen():
    """As on a GPU: a number from the processor may take part, a tensor may not."""
    there = torch.arange(3.0, device=DEVICE)
    assert there.device == DEVICE and (there * torch.tensor(2.0)).device == DEVICE
    with pytest.raises(RuntimeError, match="two devices"):
        there + torch.ones(3)
    assert not waits
    assert float(there.sum()) == 3 and there.cpu().tolist() == [0, 1, 2]
    assert len(there[there > 0]) == 2
    assert len(waits) == 3


@pytest.mark.parametrize(
    ("kind", "size", "settings"),
    [
        ("gray", (20, 24), {}),
        ("gray", (20, 24), {"deep_supervision": "no", "optimizer": "adamw", "ema": "0", "loss": "focal"}),
        ("gray", (20, 24), {"border_weight": "2", "class_weights": "1,3"}),
        ("gray", (20, 24), {"task": "objects"}),
        ("rgb", (40, 50), {"norm": "group"}),
        ("volume", (10, 20, 24), {"patch": "8,16,16", "tile": "8,24,24", "overlap": "0,4,4"}),
    ],
    ids=["classes", "other settings", "weights", "objects", "colour and tiles", "volumes"],
)
def test_a_training_and_a_prediction_leave_nothing_on_the_processor(cases, tiny, tmp_path, kind, size, settings):
    """All of it runs there, and the model is there."""
    usual = {"width": "4,8", "patch": "16,16", "batch": "2", "precision": "float32", "tile": "24,24", "overlap": "4,4"}
    data = cases(tmp_path / "data", kind=kind, size=size)
    model = tiny(data, tmp_path / "model", overrides={**usual, **settings})
    assert {weight.device for weight in model.networks[0].parameters()} == {DEVICE}
    shape = (3, *size) if kind == "rgb" else size
    assert model.predict(np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)).shape == shape


def test_arrays_and_ensembles_leave_nothing_on_the_processor(cases, tiny, tmp_path):
    """The small network of courses, and two folds that look at mirrored copies."""
    x = np.random.default_rng(0).random((8, 16, 16)).astype(np.float32)
    found = uvea.train(x, x > 0.5, preset="mini", batch_size=4, epochs=2, augment=1, validation=0.25)
    assert {weight.device for weight in found.model.networks[0].parameters()} == {DEVICE}
    assert found.model.predict(x[0]).shape == (16, 16)

    plan = {"width": "4,8", "patch": "16,16", "batch": "2", "precision": "float32", "tile": "24,24", "overlap": "4,4"}
    model = tiny(cases(tmp_path / "data"), tmp_path / "model", overrides={**plan, "norm": "instance"}, folds=2)
    image = np.random.default_rng(0).integers(0, 255, (70, 50)).astype(np.uint8)
    for mirror in (False, True):
        assert model.predict(image, mirror=mirror).shape == (70, 50)


def test_arrays_that_fit_are_kept_there_and_epochs_wait_once(monkeypatch):
    """Nothing is moved and nothing looked at for each step or image: no line waits more often than there are epochs."""
    machine = replace(describe_machine(), accelerator="a pretended one", accelerator_memory_bytes=2**30)
    monkeypatch.setattr(arrays_workflow, "describe_machine", lambda device=None: machine)
    x = np.random.default_rng(0).random((12, 16, 16)).astype(np.float32)
    found = uvea.train(x, x > 0.5, preset="mini", batch_size=2, epochs=2, validation=0.5)
    assert len(found.history["val_dice"]) == 2
    often = Counter(line for line in waits if line.startswith("train_arrays.py"))
    assert often and max(often.values()) <= 2, often


@pytest.mark.parametrize("shape", [(60, 50), (20, 40, 30)], ids=["images", "volumes"])
def test_nobody_waits_for_the_device_while_batches_are_made(shape):
    """What is random is decided on the processor; so are the shapes that follow from it."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, shape).astype(np.int16)
    case = TrainingCase("a", rng.normal(size=(3, *shape)).astype(np.float32), labels, remember_positions(labels, 2))
    patch = (16,) * len(shape)
    draw = device_sampler([case], patch, 8, foreground=0.3, seed=1, device=DEVICE)
    axes = tuple(range(len(shape)))
    chain = standard_chain(
        dims=len(shape), chance=8, mirror_axes=axes, rotate90=True, spacing=(1.0,) * len(shape), colour=True
    )
    waits.clear()
    for step in range(6):
        images, truth = chain(*draw(step), step=step)
    assert images.device == truth.device == DEVICE
    assert not waits


@pytest.mark.parametrize("task", ["classes", "objects"])
def test_nobody_waits_for_the_device_within_a_step(task):
    """Forward, loss, backward, clipping, optimizer and average: the loss is looked at when somebody asks."""
    network = UNet(in_channels=1, classes=4, channels=(4, 8, 8), norm="instance", deep_supervision=True).to(DEVICE)
    optimizer = Muon(network, lr=0.01, weight_decay=0.01, heads=list(network.heads))
    plain = build_loss("dice_and_cross_entropy")
    loss = deep(with_objects(plain) if task == "objects" else plain)
    truth = torch.zeros(2, 3, 16, 16) if task == "objects" else torch.zeros(2, 16, 16, dtype=torch.int64)
    batch = torch.rand(2, 1, 16, 16).to(DEVICE), truth.to(DEVICE)
    average = Average(network)
    step = eager(work_of(network, optimizer, loss, autocast=nullcontext, clip=1.0), optimizer)
    waits.clear()
    for _ in range(3):
        found = step(batch, 0.01)
        average.update(network)
    assert not waits
    assert torch.isfinite(found.cpu()).all()
