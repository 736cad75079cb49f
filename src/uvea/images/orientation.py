"""How a volume lies in space, and how it is brought to lie in another way.

Nothing is resampled: axes are exchanged and turned over, so an oblique volume stays oblique, and each turn has a
way back. Orientations are named as by NIfTI tools: "RAS" is a volume whose x, y and z grow to the right, the front
(anterior) and the head (superior); arrays have these axes in reverse.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from uvea.images.image import Image

Number = TypeVar("Number", int, float)

_WORLD = {"S": (0, 1), "I": (0, -1), "P": (1, 1), "A": (1, -1), "L": (2, 1), "R": (2, -1)}
"""The axis of the world, (z, y, x) to the head, the back and the left, and the sense along it."""


@dataclass(frozen=True)
class Turn:
    """Which axis goes where, and which are turned over; without axes, nothing is done."""

    order: tuple[int, ...] = ()
    """For each axis of the result, that of the original."""

    flipped: tuple[bool, ...] = ()
    """Per axis of the result."""

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return self.order != tuple(range(len(self.order))) or any(self.flipped)

    def per_axis(self, values: Sequence[Number]) -> tuple[Number, ...]:
        """Sizes or spacings of an original, (z, y, x), in the order of the result."""
        return tuple(values[axis] for axis in self.order) if self else tuple(values)

    def shares(self, values: Sequence[float]) -> tuple[float, ...]:
        """A position, as a share of each axis from 0 to 1."""
        return tuple(
            1 - value if over else value for value, over in zip(self.per_axis(values), self.flipped, strict=True)
        )

    def array(self, array: NDArray[Any]) -> NDArray[Any]:
        """(c, z, y, x) turned; the array itself where nothing changes."""
        if not self:
            return array
        moved = np.transpose(array, (0, *(axis + 1 for axis in self.order)))
        return _solid(np.flip(moved, self._turned_over))

    def back(self, array: NDArray[Any]) -> NDArray[Any]:
        """(c, ...) as it lay before."""
        if not self:
            return array
        order = np.argsort(self.order)
        return _solid(np.transpose(np.flip(array, self._turned_over), (0, *(order + 1))))

    def directions(self, direction: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
        """Directions of the axes, as `Image` has them: one per column."""
        columns = np.array(direction)[:, list(self.order)] * np.where(self.flipped, -1.0, 1.0)
        return tuple(map(tuple, (columns + 0.0).tolist()))

    def image(self, image: Image) -> Image:
        """A volume turned, with its geometry; anything but a volume as it is."""
        if not self or image.axes != "zyx":
            return image
        direction, origin = np.array(image.direction), np.array(image.origin)
        for axis, over in zip(self.order, self.flipped, strict=True):
            if over:
                origin = origin + direction[:, axis] * image.spacing[axis] * (image.shape[axis] - 1)
        return replace(
            image,
            array=self.array(image.array),
            spacing=self.per_axis(image.spacing),
            origin=tuple(origin.tolist()),
            direction=self.directions(image.direction),
            header=None,  # it says where the pixels of the file lie
        )

    def mask(self, mask: Image) -> Image:
        """A mask of the same grid, even if its file takes slices for frames."""
        return self.image(replace(mask, axes="zyx") if self and mask.axes == "tyx" else mask)

    @property
    def _turned_over(self) -> tuple[int, ...]:
        return tuple(axis + 1 for axis, over in enumerate(self.flipped) if over)


def _solid(array: NDArray[Any]) -> NDArray[Any]:
    """In the order of memory; what lies in a file, because it is large, stays there."""
    return array if isinstance(array, np.memmap) else np.ascontiguousarray(array)


AS_IT_IS = Turn()


def orientation_of(image: Image) -> str:
    """Where the axes of a volume point, x first, such as "RAS"; empty for what is no volume, or does not say it."""
    if image.axes != "zyx" or not image.oriented or image.unit == "px":
        return ""
    towards = np.array(image.direction)
    # Each axis of the array is that of the world which it follows most, all three together.
    world = max(permutations(range(3)), key=lambda world: sum(abs(towards[world[axis], axis]) for axis in range(3)))
    letters = {place: letter for letter, place in _WORLD.items()}
    return "".join(letters[world[axis], 1 if towards[world[axis], axis] > 0 else -1] for axis in (2, 1, 0))


def is_orientation(text: str) -> bool:
    """Whether a text names three axes of space."""
    return sorted(_WORLD.get(letter, (-1,))[0] for letter in text) == [0, 1, 2]


def turn_between(stored: str, wanted: str) -> Turn:
    """What brings a volume from one orientation to another; nothing where one of the two is empty."""
    if not stored or not wanted:
        return AS_IT_IS
    have = [_WORLD[letter] for letter in reversed(stored)]
    order, flipped = [], []
    for letter in reversed(wanted):
        world, sense = _WORLD[letter]
        axis = next(axis for axis, (along, _) in enumerate(have) if along == world)
        order.append(axis)
        flipped.append(have[axis][1] != sense)
    return Turn(tuple(order), tuple(flipped))
