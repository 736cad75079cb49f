"""Augmentations one after another, seeded by the step, and the chain that most data wants."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from uvea.augment.augmentation import Augmentation
from uvea.augment.intensity import Blur, Brightness, ColourJitter, Contrast, Gamma, LowResolution, Noise
from uvea.augment.spatial import Spatial
from uvea.errors import PlanError, ShapeError

MOST_OFTEN = 0.8
"""Largest chance of an augmentation: some patches stay as they were taken."""

ANISOTROPIC = 3.0
"""From this ratio of two spacings on, slices are turned and scaled in their plane only (as nnU-Net does)."""


@dataclass(frozen=True)
class Chain:
    """Augmentations in order; what happens depends on seed, step and batch shape only.

    The device changes the values of noise, and rounding.
    """

    augmentations: tuple[Augmentation, ...]
    seed: int

    def __call__(self, images: Tensor, labels: Tensor, *, step: int) -> tuple[Tensor, Tensor]:
        """Augment one batch.

        Args:
            images: (b, c, y, x) or (b, c, z, y, x) float32, normalised.
            labels: (b, y, x) or (b, z, y, x), any integer type, IGNORE where not annotated.
            step: counted by the caller; the same step gives the same changes, so a batch can be replayed.

        Returns:
            Images and labels on the same device; the arguments are not changed.
        """
        rng = self.generator(step=step)
        # Sampling positions need float32 also where the caller trains in half precision.
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            for augmentation in self.augmentations:
                images, labels = augmentation.apply(images, labels, **augmentation.draw(images, rng))
        return images, labels

    def generator(self, *, step: int) -> torch.Generator:
        """Random numbers of one step."""
        # Torch's CPU generator reads 32 bits of a seed only, so seed and step are mixed into them here.
        mixed = int(np.random.SeedSequence((self.seed, step)).generate_state(1)[0])
        return torch.Generator().manual_seed(mixed)


def standard_chain(
    *,
    dims: int,
    strength: float = 1.0,
    chance: float = 1.0,
    mirror_axes: tuple[int, ...],
    rotate90: bool,
    spacing: tuple[float, ...],
    colour: bool,
    out_size: tuple[int, ...] | None = None,
    rotation: float = 180.0,
    seed: int = 0,
) -> Chain:
    """What we do to most data; chances and ranges are near those of nnU-Net (Isensee et al. 2021).

    Args:
        dims: 2 or 3.
        strength: multiplies all ranges, not the chances; 0 leaves only mirrors and quarter turns.
        chance: multiplies the chances, each up to MOST_OFTEN; mirrors and quarter turns keep theirs.
        mirror_axes: spatial axes, 0 first, that may be mirrored.
        rotate90: quarter turns in the last two axes.
        spacing: pixel size per spatial axis, any unit.
        colour: channels are colours of one picture (RGB): change them together, and their balance a little.
        out_size: spatial size of the result where patches are read larger; None keeps the size.
        rotation: largest angle at strength 1, in degrees up to 180, in 2D and in the plane of thick slices; about other
            axes 30 at most.
        seed: of all random numbers; 0 or more.
    """
    if dims not in (2, 3) or len(spacing) != dims or not all(0 <= axis < dims for axis in mirror_axes):
        raise ShapeError(
            f"{dims} spatial axes, spacing {spacing} and mirrored axes {mirror_axes} do not go together",
            hint="use 2 or 3 axes, one spacing for each, and mirrored axes counted from 0",
        )
    if strength < 0 or chance < 0:
        raise PlanError(
            f"augmentation strength {strength} with chances times {chance}",
            hint="use 0 for mirrors only, 1 for the usual, or more",
        )

    def often(usual: float) -> float:
        return min(MOST_OFTEN, usual * chance)

    thick = _thick_axis(spacing)
    tilt = min(rotation, 30.0)
    limits = (rotation,) if dims == 2 else tuple(rotation if axis == thick else tilt for axis in range(dims))
    spatial = Spatial(
        spacing=spacing,
        mirror_axes=mirror_axes,
        rotate90=rotate90,
        rotation_degrees=tuple(min(180.0, strength * limit) for limit in limits),
        rotation_chance=often(0.2),
        scaling=(0.7**strength, 1.4**strength),
        stretch=1.1**strength,
        scaling_chance=often(0.2),
        elastic_std=strength * 10 / 512,
        elastic_chance=often(0.2),
        still_axis=thick,
        out_size=out_size,
    )
    if strength == 0:
        return Chain((replace(spatial, rotation_chance=0, scaling_chance=0, elastic_chance=0),), seed)
    intensity: tuple[Augmentation, ...] = (
        Noise(max_std=0.25 * strength, chance=often(0.1)),
        Blur(spacing=spacing, stds=(0.5 * strength, 1.0 * strength), chance=often(0.2)),
        Brightness(limit=0.3 * strength, chance=often(0.15), per_channel=not colour),
        Contrast(factors=(0.75**strength, 1.33**strength), chance=often(0.15), per_channel=not colour),
        LowResolution(spacing=spacing, smallest=0.5**strength, chance=often(0.2)),
        Gamma(powers=(0.7**strength, 1.5**strength), chance=often(0.3), per_channel=not colour),
    )
    if colour:
        jitter = ColourJitter(
            gains=(0.85**strength, 1.18**strength),
            limit=0.15 * strength,
            saturations=(0.75**strength, 1.33**strength),
            chance=often(0.3),
        )
        intensity = (*intensity, jitter)
    return Chain((spatial, *intensity), seed)


def _thick_axis(spacing: tuple[float, ...]) -> int | None:
    """The axis of a volume whose spacing is at least ANISOTROPIC times that of any other axis, or None."""
    *_, fine, coarse = sorted(range(len(spacing)), key=lambda axis: spacing[axis])
    return coarse if len(spacing) == 3 and spacing[coarse] >= ANISOTROPIC * spacing[fine] else None
