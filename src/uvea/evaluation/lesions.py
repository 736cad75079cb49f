"""How many lesions were found, and how many found ones are none: detection by connected components.

A lesion is a connected component of a binary mask. Overlap of one voxel is enough, so these figures say whether
something was seen, and nothing about how well its outline was drawn. Touching objects are one component: where
objects have numbers of their own, instance scores count them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.errors import DatasetError, ShapeError

Connectivity = Literal["full", "face"]
"""Which neighbours are connected: all that touch (8 in 2D, 26 in 3D), or by a face only (4, 6)."""


@dataclass(frozen=True, kw_only=True)
class LesionScores:
    """Lesions of one class in one case."""

    reference: int
    """Lesions of the reference."""

    hit: int
    """Those of them with at least one predicted voxel."""

    predicted: int
    """Lesions of the prediction."""

    false: int
    """Those of them without any voxel of the reference."""

    @property
    def recall(self) -> float | None:
        """Hit share of the reference's lesions, in [0, 1]; None where it has none."""
        return self.hit / self.reference if self.reference else None

    @property
    def precision(self) -> float | None:
        """Share of the predicted lesions that touch the reference, in [0, 1]; None where none was predicted."""
        return (self.predicted - self.false) / self.predicted if self.predicted else None

    @property
    def f1(self) -> float | None:
        """2·hit / (2·hit + missed + false), in [0, 1]; None where neither mask has a lesion.

        Unlike the harmonic mean of precision and recall, it counts a predicted lesion that covers two as two hits
        throughout, and is 0, not undefined, where everything was missed.
        """
        parts = self.hit + self.reference + self.false
        return 2 * self.hit / parts if parts else None


def lesion_scores(
    reference: NDArray[np.generic], prediction: NDArray[np.generic], *, connectivity: Connectivity = "full"
) -> LesionScores:
    """Count the lesions of two masks, and which of them touch the other mask.

    Args:
        reference: (…), True or not 0 is foreground; one class, one axis or more.
        prediction: same shape.
        connectivity: "full", or "face" so that voxels which meet at an edge or a corner are separate.

    Returns:
        Counts; all 0 where both masks are empty.

    Raises:
        ShapeError: if the shapes differ.
        DatasetError: if a mask holds floats, or the connectivity is another word.

    Example:
        >>> scores = lesion_scores(np.array([1, 0, 1, 0, 0]), np.array([0, 0, 1, 0, 1]))
        >>> scores.hit, scores.false, scores.recall
        (1, 1, 0.5)
    """
    for mask, what in ((reference, "reference"), (prediction, "prediction")):
        if mask.dtype.kind not in "biu":
            raise DatasetError(
                f"the {what} is of type {mask.dtype}", hint="give a mask of whole numbers or True and False"
            )
    if prediction.shape != reference.shape:
        sizes = ["×".join(map(str, mask.shape)) for mask in (prediction, reference)]
        raise ShapeError(
            f"the prediction is {sizes[0]}, its reference {sizes[1]}", hint="give two masks of the same image"
        )
    if connectivity not in ("full", "face"):
        raise DatasetError(f"no connectivity called {connectivity!r}", hint="choose one of: full, face")
    in_reference, hit = _components(reference, prediction, connectivity)
    predicted, touching = _components(prediction, reference, connectivity)
    return LesionScores(reference=in_reference, hit=hit, predicted=predicted, false=predicted - touching)


def _components(mask: NDArray[np.generic], other: NDArray[np.generic], connectivity: Connectivity) -> tuple[int, int]:
    """How many components a mask has, and how many of them share a voxel with the other mask."""
    box = _box(mask)
    if box is None:
        return 0, 0
    # Only the box of the foreground: the numbers take four bytes per voxel.
    structure = ndimage.generate_binary_structure(mask.ndim, mask.ndim if connectivity == "full" else 1)
    numbers, count = ndimage.label(np.asarray(mask[box], dtype=np.bool_), structure)
    touched = np.zeros(count + 1, np.bool_)
    touched[numbers[other[box].astype(np.bool_, copy=False)]] = True
    return int(count), int(touched[1:].sum())


def _box(mask: NDArray[np.generic]) -> tuple[slice, ...] | None:
    """The smallest box around the foreground; None for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        taken = np.flatnonzero(mask.any(axis=others))
        if len(taken) == 0:
            return None
        box.append(slice(int(taken[0]), int(taken[-1]) + 1))
    return tuple(box)
