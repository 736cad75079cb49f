"""How objects are decoded and masks are cleaned: plain data, found on validation data and kept with the model.

Sizes count pixels of the plan's spacing, where it has one: in an image of coarser pixels an object has fewer.
"""

from dataclasses import dataclass, replace
from typing import Self

from pydantic import ConfigDict

from uvea.errors import PlanError

MAPS = 2
"""What a network gives beside classes to tell objects apart: border and centre."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How the maps of a network become objects."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    foreground: float = 0.5
    """Pixels with a larger probability of foreground belong to objects; in [0, 1]."""

    gap: float = 0.25
    """Two peaks are two objects where the way from one to the other sinks by this much below the lower one; 0 or more.

    Smaller values split more."""

    least: float = 0.2
    """A peak lower than this is never an object of its own where it touches another; in [0, 1]."""

    min_size: int = 0
    """Smaller objects, in pixels and with their holes where these are filled, are joined to an object that they touch,
    and are dropped where they touch none."""

    fill_holes: bool = True
    """Whether background that lies within one object is made part of it."""

    def __post_init__(self) -> None:
        for name, low, high in (("foreground", 0, 1), ("gap", 0, 1), ("least", 0, 1), ("min_size", 0, float("inf"))):
            value = getattr(self, name)
            if not low <= value <= high:
                bounds = f"from {low} to {high}" if high == 1 else f"{low} or more"
                raise PlanError(
                    f"decoding with {name} {value:g} is impossible: it has to be {bounds}",
                    hint=f"use a {name} {'of ' if high != 1 else ''}{bounds}",
                )

    def on(self, share: float) -> Self:
        """The same for an image of which a pixel is `share` pixels of the plan's spacing, see `pixel_share`."""
        return replace(self, min_size=round(self.min_size / share))


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is done to one class of a semantic mask, in this order."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    largest: bool = False
    """Whether only the largest component is kept."""

    min_size: int = 0
    """Smaller components, in pixels, become background."""

    fill_holes: int = 0
    """Holes of up to this many pixels become part of the class; 0: none."""

    def __post_init__(self) -> None:
        for name in ("min_size", "fill_holes"):
            if getattr(self, name) < 0:
                raise PlanError(
                    f"{name} {getattr(self, name)} is no number of pixels", hint=f"use a {name} of 0 or more"
                )

    def on(self, share: float) -> Self:
        """The same for an image of which a pixel is `share` pixels of the plan's spacing, see `pixel_share`."""
        return replace(self, min_size=round(self.min_size / share), fill_holes=round(self.fill_holes / share))
