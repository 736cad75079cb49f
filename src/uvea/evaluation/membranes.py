"""Score neuron membranes as the ISBI 2012 challenge does: V_rand and V_info after thinning.

    probability of membrane  ->  threshold  ->  thin  ->  cells  ->  compare with the true cells

Definition 8 of the metrics page is here. The source is Arganda-Carreras et al. 2015, "Crowdsourcing the
creation of image segmentation algorithms for connectomics", doi 10.3389/fnana.2015.00142, and what the
authors' published script for Fiji does. This follows it:

- The truth is restricted to its foreground: pixels of membrane in the truth count nowhere.
- A pixel of membrane in the prediction, where the truth has a cell, is a segment of its own.
- Thinning floods the cells, 4-connected, into the membrane until they meet. What is left is a line of one pixel,
  a few more where distances tie, and membrane that separates nothing (loose ends, spots inside a cell) is gone.
  A skeleton would keep that, and draws back from the border of the image, where it joins cells: on one slice of
  the challenge, with membranes blurred and made noisy, 96 of 115 cells were left and V_rand fell from .81 to .67.
- A stack is scored slice by slice, and the mean over slices is taken at each threshold before the best
  threshold is chosen, for V_rand and V_info separately.

It differs where the script's choice is an accident:

- The script takes the probability of cell and keeps pixels above t as cells; here the probability of membrane
  is taken, and a pixel is membrane from t upwards. So our t is its 1 - t, pixel by pixel. The last of its
  thresholds is .1 added ten times, just below 1; ours is 1.
- Where two cells meet at equal distance, the line may lie one pixel further to one side. On two slices, the scores
  differed by at most .0001 from those with the flooding of the script (Vincent and Soille 1990).
- V_info of two images with one and the same single cell is 1 here, and 0 there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import fsum, log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.errors import DatasetError, ShapeError
from uvea.evaluation.instances import overlaps

THRESHOLDS = tuple(k / 10 for k in range(11))
"""Probabilities of membrane at which the challenge looks for the best score."""


@dataclass(frozen=True, kw_only=True)
class MembraneScores:
    """How well the cells between the membranes agree, each in [0, 1], 1 is perfect.

    All are None where the truth has no cell: then there is nothing to compare.
    """

    v_rand: float | None
    """Harmonic mean of the next two."""

    v_split: float | None
    """Of two pixels in one true cell, how likely they are in one segment: falls when cells are split."""

    v_merge: float | None
    """Of two pixels in one segment, how likely they are in one true cell: falls when cells are merged."""

    v_info: float | None
    """Harmonic mean of the next two: mutual information over the mean of both entropies."""

    v_info_split: float | None
    """Share of the segments' entropy that the truth explains; 1 if there is one segment."""

    v_info_merge: float | None
    """Share of the truth's entropy that the segments explain; 1 if there is one true cell."""


NOTHING = MembraneScores(v_rand=None, v_split=None, v_merge=None, v_info=None, v_info_split=None, v_info_merge=None)
"""Scores where the truth has no cell."""


@dataclass(frozen=True, kw_only=True)
class MembraneCurve:
    """Scores against the threshold, of one image or as the mean over several."""

    images: int
    """Images, or slices, with cells in the truth: those that the means are over."""

    thresholds: tuple[float, ...]
    """Probabilities from which a pixel was taken for membrane."""

    scores: tuple[MembraneScores, ...]
    """One per threshold."""

    fixed_threshold: float
    """The one threshold that was chosen without looking at these images."""

    fixed: MembraneScores

    @property
    def best_threshold_rand(self) -> float | None:
        """Where V_rand is largest, the lowest if several are; None without cells in the truth."""
        return self._best("v_rand")

    @property
    def best_threshold_info(self) -> float | None:
        """Where V_info is largest, the lowest if several are; None without cells in the truth."""
        return self._best("v_info")

    @property
    def best(self) -> MembraneScores:
        """The Rand scores at `best_threshold_rand` with the information scores at `best_threshold_info`.

        The threshold is chosen on the images that are scored, as in the challenge, so it flatters.
        """
        rand, info = self.best_threshold_rand, self.best_threshold_info
        return NOTHING if rand is None or info is None else self.at(rand, info)

    def at(self, rand: float, info: float) -> MembraneScores:
        """The Rand scores at the first threshold with the information scores at the second.

        So the scores of one image can be read at the thresholds that are best for a whole set.
        """
        first, second = self.scores[self.thresholds.index(rand)], self.scores[self.thresholds.index(info)]
        return MembraneScores(
            v_rand=first.v_rand,
            v_split=first.v_split,
            v_merge=first.v_merge,
            v_info=second.v_info,
            v_info_split=second.v_info_split,
            v_info_merge=second.v_info_merge,
        )

    def _best(self, name: str) -> float | None:
        values = [getattr(entry, name) for entry in self.scores]
        return None if None in values else self.thresholds[values.index(max(values))]


def rand_info(
    truth: NDArray[np.generic],
    prediction: NDArray[np.generic],
    *,
    within: NDArray[np.bool_] | None = None,
) -> MembraneScores:
    """Compare two label images by pairs of pixels and by information, where the truth has a cell.

    With p_ij the share of the counted pixels that are in segment i and cell j, and s_i and t_j its margins:
    V_split = Σp²/Σt², V_merge = Σp²/Σs², V_rand = Σp²/(½Σs²+½Σt²), V_info = I(S;T)/(½H(S)+½H(T)), with the
    parts I/H(S) (split) and I/H(T) (merge).

    Args:
        truth: integer ids of cells, 0 for membrane; any shape. In 3D, ids go through the slices.
        prediction: integer ids of segments, same shape; each pixel of 0 is a segment of its own.
        within: True where pixels count, same shape; None counts all.

    Returns:
        MembraneScores.

    Raises:
        ShapeError, DatasetError: as `uvea.evaluation.instances.overlaps`.

    Source: Arganda-Carreras et al. 2015. The `adapted_rand_error` of scikit-image is 1 - V_rand but for two things:
    it leaves out the pairs of a pixel with itself, and takes all pixels of 0 in the prediction for one segment.
    What it calls precision and recall are V_split and V_merge, in this order.

    Example:
        >>> rand_info(np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])).v_rand
        0.6666666666666666
    """
    found = overlaps(truth, prediction, within=within)
    if not found.reference_ids.size:
        return NOTHING
    sizes = found.reference_sizes.astype(np.float64)
    joint = found.intersections.astype(np.float64)
    segments = np.bincount(found.prediction_index, weights=joint)
    loose = sizes - np.bincount(found.reference_index, weights=joint, minlength=len(sizes))
    total, alone = sizes.sum(), loose.sum()

    # In pixels, not shares: the total cancels. A loose pixel is a segment of size 1, so its square is 1.
    pairs = (joint**2).sum() + alone
    in_cells, in_segments = (sizes**2).sum(), (segments**2).sum() + alone

    entropy_cells = _entropy(sizes, total)
    entropy_segments = _entropy(segments[segments > 0], total) + alone * log(total) / total
    product = sizes[found.reference_index] * segments[found.prediction_index]
    shared = ((joint * np.log(joint * total / product)).sum() + (loose * np.log(total / sizes)).sum()) / total
    return MembraneScores(
        v_rand=float(2 * pairs / (in_cells + in_segments)),
        v_split=float(pairs / in_cells),
        v_merge=float(pairs / in_segments),
        v_info=_explained(2 * shared, entropy_cells + entropy_segments),
        v_info_split=_explained(shared, entropy_segments),
        v_info_merge=_explained(shared, entropy_cells),
    )


def cells(membrane: NDArray[np.bool_], *, thinned: bool = True) -> NDArray[np.int32]:
    """Number the cells between the membranes.

    Args:
        membrane: True for membrane, (y, x).
        thinned: let the cells grow into the membrane until they meet.

    Returns:
        Ids from 1, same shape, 0 for membrane. Cells are 4-connected. Thinned, the membrane is what keeps
        different cells from touching; an image with one cell or none has no such place, and is one cell.
    """
    found, count = ndimage.label(~membrane)
    ids = np.asarray(found, dtype=np.int32)
    if not thinned:
        return ids
    if count < 2:
        return np.ones_like(ids)
    return _flood(ids)


def thin(membrane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin membranes to lines of one pixel, keeping only what separates two cells.

    Args:
        membrane: True for membrane, (y, x).

    Returns:
        True for the lines, same shape; never True outside `membrane`. The cells between them are those of before,
        4-connected, only larger. All False for an image with fewer than two cells.
    """
    return np.asarray(cells(membrane) == 0)


def score_membranes(
    reference: NDArray[np.generic],
    probability: NDArray[np.generic],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    fixed: float = 0.5,
    thinned: bool = True,
    within: NDArray[np.bool_] | None = None,
) -> MembraneCurve:
    """Score a probability map of membrane against true cells, at every threshold.

    Args:
        reference: (y, x) or (z, y, x), 0 for membrane. Several other values are ids of cells; True, or one other
            value, is a mask, whose 4-connected parts in each slice are the cells.
        probability: of membrane, same shape, in [0, 1]; a pixel is membrane from the threshold upwards.
        thresholds: probabilities to try.
        fixed: threshold chosen beforehand, on validation data.
        thinned: thin the membrane of the prediction; the truth stays as it is.
        within: True where pixels count, same shape; None counts all. Cells are found in the whole image.

    Returns:
        MembraneCurve; of (z, y, x), the mean over slices: serial sections are not joined.

    Raises:
        ShapeError: if the shapes differ, or are not (y, x) or (z, y, x).
        DatasetError: if a probability is not a number in [0, 1], or ids are not integer or negative.
    """
    if reference.ndim not in (2, 3) or probability.shape != reference.shape:
        raise ShapeError(
            f"the probability map has the shape {probability.shape}, its reference {reference.shape}",
            hint="give both as (y, x), or both as (z, y, x)",
        )
    if not np.issubdtype(probability.dtype, np.floating) or not _all_in_unit_range(probability):
        raise DatasetError(
            f"the probability map is {probability.dtype} {_range(probability)}, not numbers from 0 to 1",
            hint="divide it by its largest possible value, 255 for 8-bit images",
        )
    if within is None:
        within = np.ones(reference.shape, dtype=bool)
    values = reference[within & (reference != 0)]
    is_mask = values.size == 0 or values.min() == values.max()
    levels = (*thresholds, fixed)
    size = reference.shape[-2:]
    curves = []
    for truth, membrane, region in zip(
        reference.reshape(-1, *size), probability.reshape(-1, *size), within.reshape(-1, *size), strict=True
    ):
        ids = cells(np.asarray(truth <= 0), thinned=False) if is_mask else truth
        scores = [
            rand_info(ids, cells(np.asarray(membrane >= level), thinned=thinned), within=region) for level in levels
        ]
        curves.append(
            MembraneCurve(
                images=int(scores[0] != NOTHING),
                thresholds=tuple(thresholds),
                scores=tuple(scores[:-1]),
                fixed_threshold=fixed,
                fixed=scores[-1],
            )
        )
    return mean_curve(curves)


def mean_curve(curves: Sequence[MembraneCurve]) -> MembraneCurve:
    """Put the curves of many images together: at each threshold, the mean over images.

    Args:
        curves: of `score_membranes`, with the same thresholds; a stack weighs as many images as it has slices
            with cells in the truth.

    Returns:
        MembraneCurve, whose `best` is the best threshold for the set as a whole.

    Raises:
        DatasetError: if there are no curves, or their thresholds differ.
    """
    if len({(curve.thresholds, curve.fixed_threshold) for curve in curves}) != 1:
        raise DatasetError(
            f"{len(curves)} images were not scored at one set of thresholds",
            hint="score at least one image, and all with the same thresholds",
        )
    weights = [curve.images for curve in curves]
    return MembraneCurve(
        images=sum(weights),
        thresholds=curves[0].thresholds,
        scores=tuple(_mean(column, weights) for column in zip(*(curve.scores for curve in curves), strict=True)),
        fixed_threshold=curves[0].fixed_threshold,
        fixed=_mean([curve.fixed for curve in curves], weights),
    )


def _flood(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Let all cells grow by one pixel at a time, never into a pixel that would make two of them touch.

    Not scikit-image's watershed with lines: it floods across its own lines, so that pieces come apart from their
    cell (seen in 0.26), and which pixels are lines has changed between versions.
    """
    blocked = -1
    grid = np.pad(ids, 1, constant_values=blocked)
    flat = grid.reshape(-1)
    steps = np.array(grid.strides) // grid.itemsize
    around = np.concatenate([steps, -steps])
    grown = np.flatnonzero(flat > 0)
    while grown.size:
        near = (grown[:, None] + around).reshape(-1)
        front = np.unique(near[flat[near] == 0])
        found = flat[front[:, None] + around]
        highest = found.max(axis=1)
        lowest = np.where(found > 0, found, highest[:, None]).min(axis=1)
        flat[front] = np.where(lowest == highest, highest, blocked)
        # Two cells may have come to touch in this step, from both sides: the pixel that is further on gives way.
        for step in steps:
            touching = (flat[front] > 0) & (flat[front + step] > 0) & (flat[front] != flat[front + step])
            flat[front[touching] + step] = blocked
        grown = front[flat[front] > 0]
    return np.maximum(grid[(slice(1, -1),) * ids.ndim], 0)


def _mean(scores: Sequence[MembraneScores], weights: Sequence[int]) -> MembraneScores:
    if not sum(weights):
        return NOTHING
    means: dict[str, Any] = {}
    for field in fields(MembraneScores):
        values = (weight * getattr(entry, field.name) for entry, weight in zip(scores, weights, strict=True) if weight)
        means[field.name] = fsum(values) / sum(weights)
    return MembraneScores(**means)


def _entropy(sizes: NDArray[Any], total: float) -> float:
    return float((sizes * np.log(total / sizes)).sum() / total)


def _explained(information: float, entropy: float) -> float:
    """Their ratio, 1 where there is nothing to explain; rounding must not leave [0, 1]."""
    return float(min(1.0, max(0.0, information / entropy))) if entropy > 0 else 1.0


def _all_in_unit_range(values: NDArray[np.generic]) -> bool:
    return values.size == 0 or bool(values.min() >= 0 and values.max() <= 1)


def _range(values: NDArray[np.generic]) -> str:
    return f"from {values.min()} to {values.max()}"
