"""Which images show the same thing: exact copies, near copies, neighbouring slices of one stack.

Judged on thumbnails with the coarse brightness taken out, because images of one kind (retinas, centred cells) all
look alike in that. What counts as alike is always measured against the other images of the same dataset.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from uvea.datasets.measure import thumbnail_of
from uvea.datasets.survey import CaseFacts, Survey

NEAR = 0.2
"""Two images are near copies if their distance (1 - correlation) is below this share of the usual distance.

Measured on four kinds of images, 2026-11: true copies of cells and embryos have shares up to 0.15; different
retinas, the most alike of all, have 0.28 and more."""

CERTAIN = 0.98
"""Correlation from which two images are near copies however alike the others are."""

MOST_PAIRS = 50_000
"""Pairs of near copies that are listed whatever they join; of ten thousand images that are alike there are millions."""

CONSECUTIVE = 0.2
"""Neighbours are slices of one stack if their distance is smaller than that of other pairs by this share.

Measured, 2026-11: serial sections 0.49; cells, retinas, patients in numeric order 0.06 and less."""

FEWEST_PAIRS = 4
"""Fewer neighbours prove nothing."""


def exact_copies(survey: Survey) -> list[tuple[str, ...]]:
    """Names of cases whose images have equal pixels, as they are stored or in one orientation; a tuple per image."""
    known = [facts for facts in survey.facts if facts.content_hash]
    found: dict[str, list[str]] = defaultdict(list)
    for facts, content in zip(known, _contents(known), strict=True):
        found[content].append(facts.name)
    return [tuple(names) for names in found.values() if len(names) > 1]


def _contents(known: Sequence[CaseFacts]) -> list[str]:
    """What images are equal by: a volume that does not say how it lies may be a copy of one that does."""
    turned = {facts.image_hash: facts.content_hash for facts in known if facts.orientation}
    return [turned.get(facts.image_hash, facts.content_hash) for facts in known]


def near_copies(survey: Survey) -> list[tuple[str, str]]:
    """Pairs of cases whose images are nearly equal: saved again, resized, brightened, or taken a moment later.

    Exact copies are not among them. Of volumes only the middle slice is compared. Of more than MOST_PAIRS, those that
    follow are listed only where they join what no pair before them has joined, so that what belongs together is known.
    """
    from scipy.cluster.hierarchy import DisjointSet

    known = [facts for facts in survey.facts if facts.thumbnail]
    if len(known) < 2:
        return []
    details = _details(known, finer_than=3.0)
    usual = float(np.median(_far_pairs(details, set())))
    threshold = min(CERTAIN, 1 - NEAR * (1 - usual))
    content = np.unique(_contents(known), return_inverse=True)[1]
    pairs: list[tuple[str, str]] = []
    groups = DisjointSet(range(len(known)))
    # In blocks of rows: all pairs of ten thousand images do not fit in memory.
    for start in range(0, len(known), 512):
        rows, columns = np.nonzero(details[start : start + 512] @ details.T > threshold)
        rows += start
        kept = (rows < columns) & (content[rows] != content[columns])
        for first, second in zip(rows[kept].tolist(), columns[kept].tolist(), strict=True):
            if groups.merge(first, second) or len(pairs) < MOST_PAIRS:
                pairs.append((known[first].name, known[second].name))
    return pairs


def neighbours_alike(survey: Survey, pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether numbered neighbours look like slices of one stack.

    Args:
        survey: facts of all cases.
        pairs: names of cases that follow each other, from `neighbour_pairs`.

    Returns:
        True if neighbours are clearly more alike than other pairs of the same cases. False for fewer than
        FEWEST_PAIRS pairs, and where there is no other pair to compare with.
    """
    known = {facts.name: facts for facts in survey.facts if facts.thumbnail}
    readable = [(first, second) for first, second in pairs if first in known and second in known]
    names = sorted({name for pair in readable for name in pair})
    if len(readable) < FEWEST_PAIRS:
        return False
    place = {name: index for index, name in enumerate(names)}
    details = _details([known[name] for name in names], finer_than=4.0, coarser_than=0.7)
    near = {(place[first], place[second]) for first, second in readable}
    beside = np.array([details[first] @ details[second] for first, second in near])
    others = _far_pairs(details, near | {(second, first) for first, second in near})
    if not len(others):
        return False
    gain = float(np.median(beside) - np.median(others))
    # The second condition keeps a few lucky pairs from deciding.
    return gain > CONSECUTIVE * (1 - float(np.median(others))) and gain > 3 * float(others.std()) / len(near) ** 0.5


def _details(facts: Sequence[CaseFacts], *, finer_than: float, coarser_than: float = 0.0) -> NDArray[np.float32]:
    """Thumbnails without structures outside these sizes (thumbnail pixels), as unit vectors (case, pixel)."""
    from scipy.ndimage import gaussian_filter

    rows = []
    for fact in facts:
        thumbnail = thumbnail_of(fact.thumbnail)
        fine = gaussian_filter(thumbnail, coarser_than) if coarser_than else thumbnail
        row = (fine - gaussian_filter(thumbnail, finer_than)).ravel()
        row -= row.mean()
        # A constant image is like no other.
        rows.append(row / max(float(np.linalg.norm(row)), 1e-6))
    return np.array(rows, np.float32)


def _far_pairs(details: NDArray[np.float32], left_out: set[tuple[int, int]]) -> NDArray[np.float32]:
    """Correlations of pairs: all of them, or 2,000 drawn with a fixed seed."""
    count = len(details)
    if count * (count - 1) // 2 <= 2000:
        pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    else:
        drawn = np.random.default_rng(0).integers(0, count, (2000, 2))
        pairs = [(int(i), int(j)) for i, j in drawn if i != j]
    kept = np.array([pair for pair in pairs if pair not in left_out], np.int64).reshape(-1, 2)
    found: NDArray[np.float32] = (details[kept[:, 0]] * details[kept[:, 1]]).sum(axis=1)
    return found
