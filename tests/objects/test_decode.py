"""Objects come out of their maps again, connected, dense and the same from blocks of any size in any order."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from uvea.errors import OutputError, PlanError, ShapeError
from uvea.evaluation.instances import pool, score_instances
from uvea.images import read
from uvea.objects.basins import basins_of
from uvea.objects.decode import decode, objects_of, surface_of, tune
from uvea.objects.stitch import decode_blocks
from uvea.objects.targets import targets
from uvea.plan.decoding import Decoding


def balls(seed, shape, *, count, radii, spacing=None):
    """Touching discs or spheres that are hardly covered by one another."""
    rng = np.random.default_rng(seed)
    steps = np.array(spacing or (1.0,) * len(shape))
    ids = np.zeros(shape, np.int32)
    grid = np.indices(shape) * steps.reshape(-1, *[1] * len(shape))
    for _ in range(count):
        centre = rng.uniform(0, 1, len(shape)) * np.array(shape) * steps
        inside = np.linalg.norm(grid - centre.reshape(-1, *[1] * len(shape)), axis=0) < rng.uniform(*radii)
        if inside.sum() > 12 and (ids[inside] > 0).mean() < 0.1:
            ids[inside & (ids == 0)] = ids.max() + 1
    return ids


def imperfect(maps, *, seed=0, blur=0.7, noise=0.03):
    """Maps as a network gives them: blurred, and a little wrong."""
    rng = np.random.default_rng(seed)
    wrong = [ndimage.gaussian_filter(rng.normal(size=one.shape), 1) for one in maps]
    soft = [ndimage.gaussian_filter(one, blur) + noise * error / error.std() for one, error in zip(maps, wrong)]
    return np.clip(np.stack(soft), 0, 1).astype(np.float32)


def rough(seed, shape):
    """Maps of nothing in particular: many peaks, plateaus, holes and pieces."""
    rng = np.random.default_rng(seed)
    smooth = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 1.2) for _ in range(3)])
    maps = (smooth - smooth.min()) / np.ptp(smooth)
    return np.round(maps, 2).astype(np.float32)  # equal values side by side


def assert_sound(ids):
    """Every object is connected by faces, and the numbers are 1 to n."""
    numbers = np.unique(ids)
    assert np.array_equal(numbers[numbers > 0], np.arange(1, ids.max() + 1))
    for number, box in enumerate(ndimage.find_objects(ids), start=1):
        assert ndimage.label(ids[box] == number)[1] == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("shape", "spacing", "radii", "iou"),
    [((96, 80), None, (4, 9), 0.9), ((20, 40, 40), None, (4, 7), 0.9), ((10, 48, 48), (3.0, 1.0, 1.0), (5, 8), 0.75)],
)
def test_touching_balls_come_back_as_they_were(seed, shape, spacing, radii, iou):
    """Targets and decoding are inverse up to pixels on the line between two objects; thick slices have many of them."""
    ids = balls(seed, shape, count=60, radii=radii, spacing=spacing)
    found = decode(targets(ids, spacing=spacing), Decoding(), spacing=spacing)
    scores = score_instances(ids, found)
    assert scores.n_reference > 5
    assert scores.ap(iou) == 1
    assert scores.pq > 0.97
    assert ((found > 0) == (ids > 0)).all()
    assert_sound(found)


@pytest.mark.parametrize("seed", range(3))
def test_blur_and_noise_move_outlines_but_leave_objects_apart(seed):
    """No object is split, merged or lost where the maps are what a network gives."""
    ids = balls(seed, (96, 96), count=60, radii=(5, 9))
    scores = score_instances(ids, decode(imperfect(targets(ids)), Decoding(min_size=8)))
    assert scores.ap(0.7) == 1
    assert scores.splits == scores.merges == 0


def test_two_objects_worked_by_hand():
    """Two peaks with a valley 0.6 deep are two objects; with 0.2, one. The lowest pixel goes to its higher side."""
    foreground = np.array([[0, 1, 1, 1, 1, 1, 0.0]])
    deep = np.array([[0, 0.5, 0.9, 0.2, 0.8, 0.4, 0.0]])
    shallow = np.array([[0, 0.5, 0.9, 0.6, 0.8, 0.4, 0.0]])
    nothing = np.zeros_like(deep)
    assert decode(np.stack([foreground, nothing, deep]), Decoding()).tolist() == [[0, 1, 1, 1, 2, 2, 0]]
    assert decode(np.stack([foreground, nothing, shallow]), Decoding()).tolist() == [[0, 1, 1, 1, 1, 1, 0]]
    assert decode(np.stack([foreground, nothing, shallow]), Decoding(gap=0.1)).max() == 2


def test_a_border_parts_what_the_centre_map_does_not():
    """A certain border lowers a flat map by four fifths."""
    flat = np.array([[0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.0]])
    border = np.array([[0, 0, 0, 1, 0, 0, 0.0]])
    maps = np.stack([flat > 0, border, flat])
    assert decode(maps, Decoding()).max() == 2
    assert decode(maps * [[[1]], [[0]], [[1]]], Decoding()).max() == 1


def test_the_steepest_way_up_is_measured_in_the_unit_of_the_spacing():
    """From 0.2 it is 0.3 up along x and 0.4 up along z: the way leads along z, but not where slices are 3 thick."""
    centre = np.array([[[0.9, 0.5, 0.2, 0.0]], [[0.0, 0.0, 0.6, 0.9]]])
    maps = np.stack([centre > 0, 0 * centre, centre])
    assert decode(maps, Decoding()).tolist() == [[[1, 1, 2, 0]], [[0, 0, 2, 2]]]
    assert decode(maps, Decoding(), spacing=(3, 1, 1)).tolist() == [[[1, 1, 1, 0]], [[0, 0, 2, 2]]]


def test_level_ground_is_one_basin():
    """Of equal heights the last pixel counts as the highest."""
    _, graph = basins_of(np.full((3, 5), 0.5), np.ones((3, 5), bool))
    assert graph.basins == 1 and graph.place.tolist() == [14] and graph.size.tolist() == [15]


def test_small_objects_join_a_neighbour_or_vanish():
    """Three pixels that touch a larger object become part of it; three pixels alone are dropped."""
    foreground = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1.0]])
    centre = np.array([[0.2, 0.6, 0.9, 0.6, 0.2, 0.3, 0.8, 0.3, 0, 0.3, 0.8, 0.3]])
    maps = np.stack([foreground, np.zeros_like(centre), centre])
    assert decode(maps, Decoding()).tolist() == [[1, 1, 1, 1, 1, 2, 2, 2, 0, 3, 3, 3]]
    assert decode(maps, Decoding(min_size=4)).tolist() == [[1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]]


def test_holes_are_filled_unless_they_are_open_or_shared():
    """Background within one object is made part of it; a bay at the edge of the image and a gap between two are not."""
    ids = np.zeros((12, 20), np.int32)
    ids[1:11, 1:9] = 1
    ids[4:6, 3:5] = 0
    ids[0, 6:9] = ids[1, 7] = 0
    ids[:, 11:14] = 2
    ids[:, 14:18] = 3
    ids[5:7, 13:15] = 0
    found = decode(targets(ids), Decoding())
    assert (found[4:6, 3:5] == found[2, 2]).all() and found[2, 2] > 0
    assert found[1, 7] == 0
    assert (found[5:7, 13:15] == 0).all()
    assert (decode(targets(ids), Decoding(fill_holes=False))[4:6, 3:5] == 0).all()


def test_a_speck_in_a_hole_goes_with_the_hole():
    """A ring of 56 pixels around 24 of background and a speck of one, too small to be an object: 81 in all."""
    ids = np.zeros((11, 11), np.int32)
    ids[1:10, 1:10] = 1
    ids[3:8, 3:8] = 0
    ids[5, 5] = 2
    assert (decode(targets(ids), Decoding(min_size=8)) > 0).sum() == 81
    ids[5, 3:] = 0  # now the hole is open
    assert (decode(targets(ids), Decoding(min_size=8)) > 0).sum() == 56 - 2


def test_what_counts_is_the_size_of_an_object_with_its_hole():
    """A ring of 24 pixels around 25 is an object of 49, in blocks as well; without its hole it has 24."""
    ids = np.zeros((11, 11), np.int32)
    ids[2:9, 2:9] = 1
    ids[3:8, 3:8] = 0
    maps, out = targets(ids), np.zeros(ids.shape, np.int32)
    for settings_, size in (
        (Decoding(min_size=49), 49),
        (Decoding(min_size=50), 0),
        (Decoding(min_size=25, fill_holes=False), 0),
    ):
        decode_blocks(lambda part: maps[(slice(None), *part)], ids.shape, settings_, out=out, block=(4, 4))
        assert (decode(maps, settings_) > 0).sum() == (out > 0).sum() == size


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.one_of(st.tuples(*[st.integers(1, 24)] * 2), st.tuples(*[st.integers(1, 9)] * 3)),
    gap=st.sampled_from([0.0, 0.05, 0.2]),
    min_size=st.sampled_from([0, 5]),
)
def test_objects_of_any_maps_are_connected_and_dense(seed, shape, gap, min_size):
    """Also where the maps make no sense, in 2D and 3D, with axes of one pixel."""
    how = Decoding(gap=gap, min_size=min_size, least=0.1)
    found = decode(rough(seed, shape), how)
    assert_sound(found)
    assert (np.bincount(found.ravel())[1:] >= min_size).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.one_of(st.tuples(*[st.integers(1, 24)] * 2), st.tuples(*[st.integers(1, 9)] * 3)),
    gap=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
)
def test_basins_are_joined_as_one_pass_after_the_other_would_join_them(seed, shape, gap):
    """Against the definition: take the passes from the highest to the lowest, join where the lower peak is near."""
    maps, how = rough(seed, shape), Decoding(gap=gap, least=0.4, fill_holes=False)
    heights, foreground = surface_of(maps, how)
    _, graph = basins_of(heights, foreground)
    groups = [{node} for node in range(graph.basins)]
    for (first, second), height in zip(graph.edges, graph.passes.astype(float)):
        one, other = (next(group for group in groups if node in group) for node in (first, second))
        low = min(max(float(graph.peak[node]) for node in group) for group in (one, other))
        if low < how.least or low - height < how.gap:
            groups.remove(other)
            one |= other
    found = objects_of(graph, how)[: graph.basins]
    assert {frozenset(np.flatnonzero(found == n)) for n in range(1, found.max(initial=0) + 1)} == set(
        map(frozenset, groups)
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.one_of(st.tuples(*[st.integers(1, 24)] * 2), st.tuples(*[st.integers(1, 9)] * 3)),
    block=st.lists(st.integers(1, 10), min_size=3, max_size=3),
)
def test_blocks_give_what_the_whole_gives(seed, shape, block):
    """To the last id, whatever the size of the blocks, down to one pixel, and in any order."""
    maps, how = rough(seed, shape), Decoding(gap=0.05, least=0.1, min_size=3)
    whole = decode(maps, how)
    out = np.full(shape, -7, np.int32)
    count = decode_blocks(
        lambda part: maps[(slice(None), *part)],
        shape,
        how,
        out=out,
        block=block[: len(shape)],
        order=lambda boxes: [boxes[i] for i in np.random.default_rng(seed).permutation(len(boxes))],
    )
    assert np.array_equal(out, whole)
    assert count == whole.max(initial=0)


@pytest.mark.parametrize("shape", [(90, 70), (14, 26, 30)])
def test_basins_joined_to_one_per_seed_are_a_watershed(shape):
    """Against flooding: the same seeds give the same regions, but for pixels that are equally far up both sides."""
    rng = np.random.default_rng(1)
    surface = ndimage.gaussian_filter(rng.normal(size=shape), 2).astype(np.float32)
    surface = (surface - surface.min()) / np.ptp(surface)
    everywhere = np.ones(shape, bool)
    ours = decode(np.stack([everywhere, 0 * surface, surface]), Decoding(gap=0.2, least=0))
    nodes, graph = basins_of(surface, everywhere)
    # A seed for flooding is the highest pixel of each of our objects.
    seeds = np.zeros(shape, int)
    tops = ndimage.maximum_position(surface, ours, np.arange(1, ours.max() + 1))
    seeds[tuple(np.array(tops).T)] = np.arange(1, ours.max() + 1)
    assert ours.max() > 3 and len(graph.peak) > 2 * ours.max()
    assert nodes.shape == shape
    assert (watershed(-surface, seeds, connectivity=1) == ours).mean() > 0.97


def test_the_search_finds_the_settings_that_the_maps_were_made_for():
    """Foreground of 0.4 at most and valleys of 0.15: the defaults fail, the search succeeds, and tells every trial."""
    ids = balls(3, (64, 64), count=40, radii=(5, 8))
    maps = targets(ids)
    maps[0] *= 0.4
    maps[1] = 0
    maps[2] = np.where(ids > 0, 0.7 + 0.2 * maps[2], 0)

    def score(found):
        return score_instances(ids, found[0]).mean_ap

    best, trials = tune([maps], score)
    assert score([decode(maps, Decoding())]) == 0
    assert score([decode(maps, best)]) > 0.9
    assert best.foreground < 0.4 and best.gap < 0.15
    assert trials[0].settings == Decoding() and trials[0].score == 0
    assert max(trial.score for trial in trials) == score([decode(maps, best)])
    assert len({trial.settings for trial in trials}) == len(trials)


def test_the_search_counts_pixels_of_one_size():
    """An object of 16 pixels and a speck of 4, once more with pixels twice as wide: both specks go at once."""
    fine, coarse = np.zeros((2, 12, 12), np.int32)
    fine[1:5, 1:5], fine[8:10, 8:10], coarse[1:3, 1:3], coarse[6, 6] = 1, 2, 1, 2
    sizes = []

    def score(found):
        sizes.append([int((ids > 0).sum()) for ids in found])
        return -sum(sizes[-1])

    best, _ = tune([targets(fine), targets(coarse)], score, shares=[1, 4], min_sizes=(0, 8), foregrounds=(0.5,))
    assert best.min_size == 8 and sizes[0] == [20, 5] and [16, 4] in sizes


def test_nothing_gives_no_objects():
    """Empty maps, and maps without a pixel, decode to background."""
    assert decode(np.zeros((3, 5, 6)), Decoding()).tolist() == np.zeros((5, 6)).tolist()
    assert decode(np.zeros((3, 0, 6)), Decoding()).shape == (0, 6)
    out = np.ones((5, 6), np.int32)
    assert decode_blocks(lambda part: np.zeros((3, 5, 6)), (5, 6), Decoding(), out=out) == 0
    assert (out == 0).all()
    assert decode_blocks(lambda part: np.zeros((3, 0, 6)), (0, 6), Decoding(), out=out[:0]) == 0


def test_numbers_that_do_not_fit_are_refused_before_any_is_written():
    """288 single pixels in 8 bits."""
    ids = np.zeros((32, 36), np.int32)
    ids[::2, ::2] = 1
    maps, out = targets(ids), np.zeros(ids.shape, np.uint8)
    with pytest.raises(ShapeError, match="288 objects do not fit into an array of uint8\n.*uint32"):
        decode_blocks(lambda part: maps[(slice(None), *part)], ids.shape, Decoding(), out=out)
    assert not out.any()
    assert decode_blocks(lambda p: maps[(slice(None), *p)], ids.shape, Decoding(), out=out.astype(np.uint16)) == 288


def test_maps_and_blocks_that_do_not_fit_are_refused():
    """The message names the sizes, and what would work."""
    with pytest.raises(ShapeError, match="maps of size 2×5×6 .*\n.*3 maps, foreground, border, centre"):
        decode(np.zeros((2, 5, 6)), Decoding())
    with pytest.raises(ShapeError, match="blocks of 4 do not cut an array of 5×6"):
        decode_blocks(lambda part: np.zeros((3, 5, 6)), (5, 6), Decoding(), out=np.zeros((5, 6), int), block=(4,))
    with pytest.raises(ShapeError, match="maps of 5×6 were read"):
        decode_blocks(lambda part: np.zeros((3, 5, 6)), (5, 6), Decoding(), out=np.zeros((5, 6), int), block=(2, 2))


@pytest.mark.parametrize("wrong", [{"foreground": 1.5}, {"gap": -0.1}, {"least": 2}, {"min_size": -1}])
def test_settings_out_of_range_are_refused(wrong):
    """By name and value, and with what it has to be."""
    name, value = next(iter(wrong.items()))
    with pytest.raises(PlanError, match=f"{name} {value} .* has to be (from 0 to 1|0 or more)\n"):
        Decoding(**wrong)


def test_no_room_for_the_scratch_file_is_said(monkeypatch):
    """An error of the system becomes one with a way out."""

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    # Where it is only mapped, a full disk ends the program at the first write, without a word.
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OutputError, match="temporary file .*No space left on device\n.*TMPDIR"):
        decode_blocks(lambda part: np.zeros((3, 5, 6)), (5, 6), Decoding(), out=np.zeros((5, 6), int))


@pytest.mark.data
def test_real_nuclei_come_back_from_their_targets_whole_and_in_blocks(data_root):
    """Every 45th mask of the Data Science Bowl, as it is and blurred: few are split, and blocks change nothing."""
    exact, soft = [], []
    for path in sorted((data_root / "dsb2018_stage1" / "masks").iterdir())[::45]:
        ids = read(path).array[0, :512, :512].astype(np.int32)
        maps, how = targets(ids), Decoding(min_size=8)
        exact.append(score_instances(ids, decode(maps, how)))
        maps = imperfect(maps)
        whole = decode(maps, how)
        soft.append(score_instances(ids, whole))
        out = np.zeros_like(whole)
        decode_blocks(lambda part, maps=maps: maps[(slice(None), *part)], ids.shape, how, out=out, block=(100, 130))
        assert np.array_equal(out, whole)
    assert pool(exact).pooled.ap(0.9) > 0.95
    assert pool(soft).pooled.ap(0.5) > 0.95


@pytest.mark.parametrize("shape", [(30, 41), (9, 14, 17)])
def test_maps_in_any_order_of_memory_give_the_same_objects(shape):
    """As slices of a larger array, transposed, or with their axes swapped."""
    rng = np.random.default_rng(0)
    maps = np.stack([ndimage.gaussian_filter(rng.random(shape), 1.5) for _ in range(3)]).astype(np.float32)
    maps = (maps - maps.min()) / (maps.max() - maps.min())
    wanted = decode(maps, Decoding(gap=0.05, least=0))
    assert wanted.max() > 5
    swapped = np.ascontiguousarray(maps.swapaxes(-1, -2)).swapaxes(-1, -2)
    for other in (np.asfortranarray(maps), swapped, np.repeat(maps, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(decode(other, Decoding(gap=0.05, least=0)), wanted)
