"""Border weights against the published formula and against distances worked by hand."""

import numpy as np
import pytest
from scipy import ndimage

from uvea.errors import ShapeError
from uvea.training.weight_map import border_weight, border_weights

VECTORS = {0: 10.0, 1: 9.801987, 2: 9.231163, 5: 6.065307, 10: 1.353353, 15: 0.111090, 20: 0.003355}
"""d1 + d2 to weight, for w0 = 10 and sigma = 5."""


def test_the_formula_gives_the_known_values():
    """Seven sums of distances, six digits."""
    given = border_weight(np.array(list(VECTORS), dtype=float))
    np.testing.assert_allclose(given, list(VECTORS.values()), atol=1e-6)


@pytest.mark.parametrize("total", [2, 5, 10, 15, 20])
def test_between_two_walls_the_distances_add_up(total):
    """A gap of n pixels between two long walls: d1 + d2 is n + 1 at every pixel of it."""
    instances = np.zeros((3, total + 5), dtype=np.int64)
    instances[:, :3], instances[:, total + 2 :] = 7, 1000
    weights = border_weights(instances)
    np.testing.assert_allclose(weights[:, 3 : total + 2], 1 + VECTORS[total], atol=1e-5)
    np.testing.assert_array_equal(weights[instances > 0], 1)


def test_many_objects_agree_with_a_whole_distance_transform_of_each(rng):
    """The neighbourhoods that are looked at are large enough, also with pixels that are not cubes."""
    instances = np.zeros((12, 60, 70), dtype=np.uint16)
    for number, place in enumerate(rng.integers(0, instances.shape, (9, 3)), start=5):
        instances[tuple(place)] = number
    spacing = (2.5, 1.0, 0.5)
    distances = np.sort(
        [ndimage.distance_transform_edt(instances != n, sampling=spacing) for n in np.unique(instances)[1:]], axis=0
    )
    expected = 1 + border_weight(distances[0] + distances[1], sigma=2.0) * (instances == 0)
    np.testing.assert_allclose(border_weights(instances, sigma=2.0, spacing=spacing), expected, atol=3e-6)


@pytest.mark.parametrize("objects", [0, 1])
def test_without_two_objects_there_is_no_border(objects):
    """All ones, no NaN from infinite distances."""
    instances = np.zeros((4, 5), dtype=np.int32)
    instances[1:3, 1:3] = objects
    np.testing.assert_array_equal(border_weights(instances), 1)


def test_an_image_without_background_has_no_border():
    """Two objects that fill everything leave nothing to weigh."""
    np.testing.assert_array_equal(border_weights(np.array([[1, 1, 2, 2]])), 1)


def test_balance_by_hand():
    """One object pixel of four: it counts 4/(2*1), the others 4/(2*3)."""
    weights = border_weights(np.array([[0, 0], [0, 3]]), balance=True)
    np.testing.assert_allclose(weights, [[2 / 3, 2 / 3], [2 / 3, 2]], rtol=1e-6)


def test_what_is_not_annotated_counts_nothing():
    """Negative values have weight 0 and are no objects."""
    weights = border_weights(np.array([[-1, 0, 1, 0, 0]]), balance=True)
    np.testing.assert_allclose(weights, [[0, 2 / 3, 2, 2 / 3, 2 / 3]], rtol=1e-6)


def test_spacing_must_match_the_axes():
    """The message has both numbers."""
    with pytest.raises(ShapeError, match="3 values for 2 axes"):
        border_weights(np.zeros((2, 2), dtype=int), spacing=(1.0, 1.0, 1.0))
