"""Move pixels: mirror, turn, scale and bend images and labels together.

Rotation, scaling and elastic deformation are added up into one sampling grid, so that each
pixel is interpolated once. Mirrors and quarter turns only reorder pixels and are exact.

    larger input --grid or centre crop--> out_size --transpose, flip--> out_size

Shapes: b batch, c channel, n resampled samples, d spatial axes in the order (z, y, x) or (y, x), k knots.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from uvea.augment.augmentation import IGNORE, beside, log_uniform, per_sample, uniform
from uvea.errors import ShapeError

KNOTS = 3
"""Displacements are drawn on a grid of three knots per axis (Ronneberger et al. 2015, section 3.1)."""


@dataclass(frozen=True, kw_only=True)
class Spatial:
    """Mirror, quarter turns, rotation, scaling and elastic deformation, with at most one resampling."""

    spacing: tuple[float, ...]
    """Pixel size per axis in any unit; rotations are rigid in that unit, not in pixels."""

    mirror_axes: tuple[int, ...] = ()
    """Spatial axes, 0 first, each mirrored for half of the samples."""

    rotate90: bool = False
    """Quarter turns in the last two axes; half turns only where these differ in size or spacing."""

    rotation_degrees: tuple[float, ...] = ()
    """Largest angle, either way: one number in 2D, about (z, y, x) in 3D; empty for none."""

    rotation_chance: float = 0.2

    scaling: tuple[float, float] = (0.7, 1.4)
    """Smallest and largest magnification of all axes together; above one, things grow."""

    stretch: float = 1.1
    """Largest further magnification or its inverse, per axis."""

    scaling_chance: float = 0.2

    elastic_std: float = 10 / 512
    """Standard deviation of the displacements as a fraction of the output size: 10 pixels in 512 as in the paper."""

    elastic_chance: float = 0.2

    still_axis: int | None = None
    """Axis along which nothing is interpolated: slices much thicker than their pixels."""

    out_size: tuple[int, ...] | None = None
    """Spatial size of the result, cut from the middle of a larger input, so that turned corners show real pixels."""

    outside: Literal["reflect", "ignore"] = "reflect"
    """Labels that come from outside the input: its mirror image as for the images, or IGNORE."""

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Choose mirrors, turns, a linear map and displacements; values of `images` are not read.

        Returns:
            swap: (b,) bool, whether the last two axes are exchanged.
            flips: (b, d) bool, which axes are reversed after that.
            who: (n,) int64, the samples to resample.
            maps: (n, d, d), from a step in the output to a step in the input, pixels.
            moves: (n, d, k, k) or (n, d, k, k, k), added displacement in the input, pixels.
        """
        size = self._size(images)
        count, dims = len(images), len(size)
        flips = torch.zeros(count, dims, dtype=torch.bool)
        for axis in self.mirror_axes:
            flips[:, axis] = torch.rand(count, generator=rng) < 0.5
        swap, turns = self._quarter_turns(count, size, rng)
        flips[:, -2:] ^= turns

        rotated, scaled, bent = (
            torch.rand(count, generator=rng) < chance
            for chance in (self.rotation_chance, self.scaling_chance, self.elastic_chance)
        )
        maps = self._rotations(rotated, dims, rng) * self._shrinkages(scaled, dims, rng).unsqueeze(1)
        spacing = torch.tensor(self.spacing)
        maps = maps * spacing / spacing.unsqueeze(1)

        moves = torch.randn(count, dims, *[KNOTS] * dims, generator=rng)
        reach = self.elastic_std * torch.tensor(size) * self._moving(dims)
        moves = moves * (bent.unsqueeze(1) * reach).reshape(count, dims, *[1] * dims)

        who = (rotated | scaled | bent).nonzero().squeeze(1)
        return {"swap": swap, "flips": flips, "who": who, "maps": maps[who], "moves": moves[who]}

    def apply(
        self, images: Tensor, labels: Tensor, *, swap: Tensor, flips: Tensor, who: Tensor, maps: Tensor, moves: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Resample the chosen samples, cut the others, then reorder pixels; arguments as drawn."""
        size = self._size(images)
        starts = [(have - want) // 2 for have, want in zip(images.shape[2:], size, strict=True)]
        window = [slice(start, start + want) for start, want in zip(starts, size, strict=True)]
        old_images, old_labels = images, labels
        images, labels = images[:, :, *window], labels[:, *window]
        if len(who):
            maps, moves, place = (beside(values, images) for values in (maps, moves, who))
            grid = _grid(maps, moves, input_size=tuple(old_images.shape[2:]), size=size)
            images = images.index_copy(0, place, _sample_images(old_images[place], grid))
            labels = labels.index_copy(0, place, _sample_labels(old_labels[place], grid, outside=self.outside))

        if swap.any():
            images, labels = _where(swap, images.mT, images), _where(swap, labels.mT, labels)
        for axis in range(-len(size), 0):
            if (flip := flips[:, axis]).any():
                images, labels = _where(flip, images.flip(axis), images), _where(flip, labels.flip(axis), labels)
        return images, labels

    def _size(self, images: Tensor) -> tuple[int, ...]:
        given = tuple(images.shape[2:])
        if len(given) != len(self.spacing):
            raise ShapeError(
                f"images with {len(given)} spatial axes, but spacing has {len(self.spacing)} values",
                hint="give one spacing per spatial axis",
            )
        size = given if self.out_size is None else self.out_size
        if len(size) != len(given) or any(want > have for want, have in zip(size, given, strict=True)):
            raise ShapeError(
                f"an output of {size} cannot be cut from patches of {given}",
                hint="read larger patches or ask for a smaller out_size",
            )
        return size

    def _moving(self, dims: int) -> Tensor:
        """One per axis that may be interpolated, zero for the still one."""
        return torch.tensor([float(axis != self.still_axis) for axis in range(dims)])

    def _quarter_turns(self, count: int, size: tuple[int, ...], rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Quarter turns as an exchange of the last two axes, (b,), and reversals of them, (b, 2)."""
        if not self.rotate90:
            nothing = torch.zeros(count, 2, dtype=torch.bool)
            return nothing[:, 0], nothing
        square = size[-1] == size[-2] and math.isclose(self.spacing[-1], self.spacing[-2], rel_tol=0.01)
        quarters = torch.randint(4, (count,), generator=rng)
        if not square:
            quarters = quarters // 2 * 2
        # 0: nothing; 1: exchange, reverse y; 2: reverse both; 3: exchange, reverse x.
        return quarters % 2 == 1, torch.stack([(quarters == 1) | (quarters == 2), quarters >= 2], dim=1)

    def _rotations(self, rotated: Tensor, dims: int, rng: torch.Generator) -> Tensor:
        """One rotation matrix per sample, (b, d, d), the identity where `rotated` (b,) is false."""
        turn = torch.eye(dims).repeat(len(rotated), 1, 1)
        planes = [(0, 1)] if dims == 2 else [(1, 2), (0, 2), (0, 1)]
        limits = self.rotation_degrees or (0.0,) * len(planes)
        for limit, (first, second) in zip(limits, planes, strict=True):
            if self.still_axis in (first, second):
                continue
            radians = math.radians(limit)
            angle = uniform(-radians, radians, shape=(len(rotated),), rng=rng) * rotated
            one = torch.eye(dims).repeat(len(rotated), 1, 1)
            one[:, first, first] = one[:, second, second] = angle.cos()
            one[:, first, second] = -angle.sin()
            one[:, second, first] = angle.sin()
            turn = turn @ one
        return turn

    def _shrinkages(self, scaled: Tensor, dims: int, rng: torch.Generator) -> Tensor:
        """Input step per output step and axis, (b, d): the inverse of the magnification."""
        low, high = self.scaling
        zoom = log_uniform(low, high, shape=(len(scaled), 1), rng=rng)
        zoom = zoom * log_uniform(1 / self.stretch, self.stretch, shape=(len(scaled), dims), rng=rng)
        moving = scaled.unsqueeze(1) & self._moving(dims).bool()
        return torch.where(moving, 1 / zoom, 1.0)


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(per_sample(chosen, old), new, old)


def _grid(maps: Tensor, moves: Tensor, *, input_size: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Where each output pixel comes from: (n, *size, d), x first, in the units of grid_sample (align_corners off).

    A pixel at position p of an axis with s pixels is at (2 p + 1) / s - 1.
    """
    dims, device = len(size), maps.device
    bends = moves
    for length in size:  # contracts the first axis of knots and appends one of pixels
        bends = torch.tensordot(bends, _cubic_weights(length, device), dims=([2], [1]))
    offsets = [
        (torch.arange(length, device=device) - (length - 1) / 2).reshape(-1, *[1] * (dims - 1 - axis))
        for axis, length in enumerate(size)
    ]
    coordinates = []
    for axis in reversed(range(dims)):
        start = (input_size[axis] - size[axis]) // 2
        unit = 2 / input_size[axis]
        middle = (start + size[axis] / 2) * unit - 1
        steps = (maps[:, axis] * unit).reshape(-1, dims, *[1] * dims)
        linear = steps[:, 0] * offsets[0] + middle
        for other in range(1, dims):
            linear = linear + steps[:, other] * offsets[other]
        coordinates.append(bends[:, axis] * unit + linear)
    return torch.stack(coordinates, dim=-1)


def _cubic_weights(length: int, device: torch.device) -> Tensor:
    """Weights, (length, KNOTS), that interpolate the knots smoothly, the outer ones at the outer pixels.

    Catmull-Rom splines, with the outer knots repeated beyond the border.
    """
    middle = (KNOTS - 1) / 2
    positions = (
        torch.linspace(0, KNOTS - 1, length, device=device) if length > 1 else torch.full((1,), middle, device=device)
    )
    taps = torch.arange(-1, KNOTS + 1, device=device)
    far = (positions.unsqueeze(1) - taps).abs()
    inner = 1.5 * far**3 - 2.5 * far**2 + 1
    outer = -0.5 * far**3 + 2.5 * far**2 - 4 * far + 2
    weights = torch.where(far <= 1, inner, torch.where(far < 2, outer, 0.0))
    return torch.zeros(length, KNOTS, device=device).index_add(1, taps.clamp(0, KNOTS - 1), weights)


def _sample_images(images: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _sample_labels(labels: Tensor, grid: Tensor, *, outside: Literal["reflect", "ignore"]) -> Tensor:
    """Nearest labels; float32 holds every label below 2**24 exactly."""
    padding = "reflection" if outside == "reflect" else "zeros"
    shifted = (labels - IGNORE).unsqueeze(1).float()
    sampled = functional.grid_sample(shifted, grid, mode="nearest", padding_mode=padding, align_corners=False)
    return sampled.squeeze(1).to(labels.dtype) + IGNORE
