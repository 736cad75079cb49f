"""Fingerprints, machines and plans to start from, changed by name."""

from collections.abc import Callable
from typing import Any

import pytest

from uvea.arrays.labels import LabelMap
from uvea.plan.budget import Budget
from uvea.plan.fingerprint import Fingerprint
from uvea.plan.machine import Machine
from uvea.plan.plan import Plan
from uvea.plan.rules import decide

GIB = 2**30


@pytest.fixture
def fingerprint() -> Callable[..., Fingerprint]:
    """Make one of twenty gray 8-bit images of 300×400 without a pixel size."""

    def make(**changes: Any) -> Fingerprint:
        axes = changes.get("axes", "yx")
        shape = changes.pop("shape", (300, 400) if len(axes) == 2 else (40, 300, 400))
        spacing = changes.pop("spacing", (1.0,) * len(axes))
        values: dict[str, Any] = {
            "cases": 20,
            "axes": axes,
            "channels": 1,
            "colour": False,
            "dtypes": ("uint8",),
            "shape_min": shape,
            "shape_median": shape,
            "shape_max": shape,
            "unit": "px",
            "spacing_min": spacing,
            "spacing_median": spacing,
            "spacing_max": spacing,
            "minimum": 0.0,
            "maximum": 255.0,
            "zeros": 0.0,
            "skew": 0.5,
            "foreground_mean": (150.0,),
            "foreground_std": (20.0,),
            "foreground_low": (90.0,),
            "foreground_high": (210.0,),
            "class_fraction": (0.8, 0.2),
            "class_cases": (20, 20),
            "object_size": 200.0,
            "left_right": False,
            "left_right_axis": None,
        }
        return Fingerprint(**(values | changes))

    return make


@pytest.fixture
def plan(fingerprint: Callable[..., Fingerprint]) -> Callable[..., Plan]:
    """Decide for a fingerprint, or for changes to the usual one, with overrides, labels, minutes and GiB of memory."""

    def make(
        overrides: dict[str, str] | None = None,
        *,
        names: tuple[str, ...] = ("background", "cell"),
        memory: float = 16,
        accelerator: float | None = None,
        minutes: float | None = None,
        instances: bool = False,
        files: int = 1,
        **changes: Any,
    ) -> Plan:
        machine = Machine(
            cores=2,
            memory_bytes=int(memory * GIB),
            processor="a processor",
            accelerator=None if accelerator is None else "a card",
            accelerator_memory_bytes=None if accelerator is None else int(accelerator * GIB),
        )
        return decide(
            fingerprint(**changes),
            LabelMap(kind="instances" if instances else "values", values=tuple(range(len(names))), names=names),
            machine=machine,
            budget=Budget(minutes=minutes),
            overrides=overrides or {},
            seed=42,
            files=files,
            version="0",
        )

    return make
