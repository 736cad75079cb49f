"""Which networks can start from weights that come with uvea. The weights are in `uvea.models.start`."""

from collections.abc import Mapping
from typing import Any

from uvea.plan.plan import shown

OBJECTS = "objects-2"
"""Learnt from synthetic objects, see `uvea.datasets.synthetic.objects`. Other weights get another name: objects-1 had
a quarter of the steps, and no longer comes with uvea."""

NETWORKS: dict[str, dict[str, Any]] = {
    OBJECTS: {
        "task": "objects",
        "dims": 2,
        "norm": "instance",
        "block": "plain",
        "convs": 2,
        "activation": "leaky_relu",
        "width": (16, 32, 64, 128, 256),
        "strides": ((2, 2),) * 4,
        "kernels": ((3, 3),) * 5,
    }
}
"""By name of the weights, the settings of the plan that they fit."""


def misfits(start: str, settings: Mapping[str, Any]) -> list[str]:
    """The settings of a plan that weights do not fit; empty where they do. A network may be wider than they are."""
    return [name for name, value in NETWORKS.get(start, {}).items() if not _fits(name, settings[name], value)]


def suited(start: str, name: str) -> str:
    """What weights want of a setting, in words."""
    value = shown(NETWORKS[start][name])
    return f"{name} {value} or more" if name == "width" else f"{name} {value}"


def _fits(name: str, given: Any, value: Any) -> bool:
    if name == "width":
        return len(given) == len(value) and all(wide >= narrow for wide, narrow in zip(given, value, strict=True))
    return bool(given == value)
