"""An image as the rest of the package sees it: an array with its geometry.

It knows nothing of files; `files.py` and its neighbours read and write them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ShapeError

SPATIAL_AXES = ("yx", "zyx", "tyx")
"""What the axes after the channel may be. "tyx" is a time series: never treated as a volume."""

UNITS = ("mm", "um", "px")
"""Of spacing and origin; "px" is no physical one."""

IN_MILLIMETRES = {"mm": 1.0, "um": 1e-3}
"""Physical units of files."""

LEAST_SHEAR = 1e-3
"""Cosine between two axes above which they are not at right angles: more than headers are rounded by."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Where a single slice lies in space. Kept aside so that a one-slice volume can be a 2D image and go back."""

    thickness: float
    """Spacing across the slice, in the unit of the image."""

    origin: tuple[float, ...]
    """World position of the centre of the first pixel, (z, y, x)."""

    direction: tuple[tuple[float, ...], ...]
    """3×3; column j is the world unit vector, (z, y, x), of the slice's axis j: across, rows, columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """Pixels with the facts that must never be lost. All tuples follow array-axis order.

    Raises:
        ShapeError: for axes that do not fit the array, values that are no intensities, another unit, and a spacing or
            origin that is not finite, not positive (spacing) or of another length.
    """

    array: NDArray[np.generic]
    """(c, y, x), (c, z, y, x) or (c, t, y, x); bool, integer or float."""

    axes: str
    """The axes after the channel: "yx", "zyx" or "tyx"."""

    spacing: tuple[float, ...] = ()
    """Size of a pixel along each axis, in `unit`; ones where the file has none."""

    unit: str = "px"
    """"mm", "um" or "px" (the file has no physical size)."""

    origin: tuple[float, ...] = ()
    """Position of the centre of the first pixel, in `unit`, array-axis order; zeros where absent."""

    direction: tuple[tuple[float, ...], ...] = ()
    """Rotation: column j is the unit vector, in (z, y, x) world order, of array axis j. Identity where absent.

    The world is that of ITK and DICOM (x to the left, y to the back, z to the head), whatever the format.
    """

    oriented: bool = False
    """Whether the file says how its axes lie in space, so that `direction` is more than a default."""

    plane: Plane | None = None
    """Set for a 2D image that was one slice of a volume; its writers put it back there."""

    depth_unknown: bool = False
    """Whether the file says the size of a pixel in a slice, but not how far slices are apart; the unit is "px" then."""

    header: object = None
    """What a format keeps to write the geometry back in the words of the file; of no meaning to anyone else."""

    def __post_init__(self) -> None:
        if self.axes not in SPATIAL_AXES:
            raise ShapeError(
                f"axes {self.axes!r} are not one of {', '.join(SPATIAL_AXES)}",
                hint="name the axes with --axes or axes=, for example zyx",
            )
        dims = len(self.axes)
        if self.array.ndim != dims + 1:
            raise ShapeError(
                f"an array of {self.array.ndim} axes ({'×'.join(map(str, self.array.shape))}) "
                f"cannot have axes c{self.axes}",
                hint="name the axes with --axes or axes=, for example cyx",
            )
        for name in ("spacing", "origin"):
            given = getattr(self, name)
            try:
                object.__setattr__(self, name, tuple(map(float, given)))
            except (TypeError, ValueError):
                raise ShapeError(
                    f"{name} is {given!r}", hint=f"give {dims} numbers, in the order {self.axes}, or leave it out"
                ) from None
        if not self.spacing:
            object.__setattr__(self, "spacing", (1.0,) * dims)
        if not self.origin:
            object.__setattr__(self, "origin", (0.0,) * dims)
        if not self.direction:
            identity = tuple(tuple(float(i == j) for j in range(dims)) for i in range(dims))
            object.__setattr__(self, "direction", identity)
        self._check()

    def _check(self) -> None:
        """Refuse what no pixel has: writers would drop it, or fail each in its own way."""
        if np.asarray(self.array).dtype.kind not in "biuf":
            raise ShapeError(
                f"values of type {self.array.dtype} are no intensities",
                hint="give bool, integers or floats (for complex values, their magnitude)",
            )
        if self.unit not in UNITS:
            raise ShapeError(f"{self.unit!r} is no unit of an image", hint=f"use one of {', '.join(UNITS)}")
        dims = len(self.axes)
        for name, values in (("spacing", self.spacing), ("origin", self.origin)):
            least = 0 if name == "spacing" else -math.inf
            if len(values) != dims or not all(least < value < math.inf for value in values):
                numbers = "positive numbers" if name == "spacing" else "finite numbers"
                raise ShapeError(
                    f"{name} is {values} for axes {self.axes}",
                    hint=f"give {dims} {numbers}, in the order {self.axes}, or leave it out",
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial size in pixels, without the channels."""
        return tuple(self.array.shape[1:])

    @property
    def channels(self) -> int:
        """Number of channels; 1 for a gray image."""
        return int(self.array.shape[0])

    def with_array(self, array: NDArray[np.generic]) -> Self:
        """The same geometry around another array of the same spatial size, (c, ...)."""
        if tuple(array.shape[1:]) != self.shape:
            raise ShapeError(
                f"an array of {'×'.join(map(str, array.shape[1:]))} does not fit the geometry of "
                f"{'×'.join(map(str, self.shape))} ({self.axes})",
                hint="give an array of the same spatial size",
            )
        return replace(self, array=array)


def shear_degrees(direction: Sequence[Sequence[float]]) -> float:
    """How far the axes of an image are from right angles, at the most; 0 where they are not, within LEAST_SHEAR.

    Args:
        direction: as in `Image`. Of a gantry that was tilted by 20 degrees, unless it was resampled, this gives 20.
    """
    axes = np.array(direction)
    cosine = float(np.abs(axes.T @ axes - np.eye(len(axes))).max(initial=0))
    return math.degrees(math.asin(min(cosine, 1.0))) if cosine > LEAST_SHEAR else 0.0
