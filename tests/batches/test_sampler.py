"""Patches: where they lie, what they show, and that they can be drawn again."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvea.batches.sampler import IGNORE, REMEMBERED, TrainingCase, crop, remember_positions, sampler


def case(name, shape, *, classes=2, channels=1, value=None, foreground=()):
    """A case whose pixels count up from 0, or are all `value`, with class 1 at the positions `foreground`."""
    labels = np.zeros(shape, np.int16)
    for number, position in enumerate(foreground):
        labels[position] = 1 + number % (classes - 1)
    image = np.arange(channels * np.prod(shape), dtype=np.float32).reshape(channels, *shape)
    if value is not None:
        image[:] = value
    return TrainingCase(name, image, labels, remember_positions(labels, classes))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_case_comes_once_before_any_comes_again(batch):
    """Seven cases, any batch size: each seven patches in a row show all seven."""
    cases = [case(str(value), (4, 4), value=value) for value in range(7)]
    draw = sampler(cases, (2, 2), batch, foreground=0.5, seed=3)
    seen = np.concatenate([draw(step)[0][:, 0, 0, 0] for step in range(28)]).astype(int)
    for first in range(0, 28, 7):
        assert sorted(seen[first : first + 7]) == list(range(7))


def test_epochs_have_different_orders():
    """The order is drawn again, otherwise neighbours would always share a batch."""
    cases = [case(str(value), (1, 1), value=value) for value in range(9)]
    draw = sampler(cases, (1, 1), 9, foreground=0, seed=0)
    assert draw(0)[0].ravel().tolist() != draw(1)[0].ravel().tolist()


def test_a_batch_depends_on_seed_and_step_alone():
    """The same step twice, and in another sampler after other steps, is the same; another seed is not."""
    cases = [case(str(i), (9, 9), foreground=[(i, i)]) for i in range(5)]
    first, second = (sampler(cases, (4, 4), 3, foreground=0.5, seed=7) for _ in range(2))
    for step in range(6):
        first(step)
    for one, other in zip(first(2), second(2)):
        np.testing.assert_array_equal(one, other)
    other = sampler(cases, (4, 4), 3, foreground=0.5, seed=8)
    assert any((first(step)[0] != other(step)[0]).any() for step in range(3))


def test_foreground_comes_from_other_cases_where_there_is_none():
    """Two of forty have a class: asked for in each patch, these two alone are shown; asked for in half, all are."""
    cases = [case(str(i), (4, 4), value=i, foreground=[(i, 0)] if i < 2 else []) for i in range(40)]

    def shown(foreground):
        draw = sampler(cases, (4, 4), 8, foreground=foreground, seed=1)
        return [value for step in range(50) for value in draw(step)[0][:, 0, 0, 0].tolist()]

    assert set(shown(1.0)) == {0, 1}
    half = shown(0.5)
    assert set(half) == set(range(40)) and 0.4 < sum(value < 2 for value in half) / len(half) < 0.65
    assert set(shown(0.0)) == set(range(40))


@pytest.mark.parametrize("shape", [(40, 40), (3, 30, 30)])
def test_the_asked_share_of_patches_shows_foreground(shape):
    """One foreground pixel far from the middle: with a share of 1 each patch shows it, with 0 few do."""
    corner = tuple(n - 1 for n in shape)
    cases = [case("a", shape, foreground=[corner])]
    patch = (2,) * len(shape)

    def share(foreground):
        draw = sampler(cases, patch, 10, foreground=foreground, seed=0)
        return np.mean([(labels == 1).any() for step in range(20) for labels in draw(step)[1]])

    assert share(1.0) == 1
    assert share(0.0) < 0.1
    assert 0.3 < share(0.5) < 0.7


def test_a_share_of_one_is_spread_over_the_classes_of_the_case():
    """A class of one pixel is shown as often as one of a hundred."""
    labels = np.zeros((40, 40), np.int16)
    labels[:10, :10] = 1
    labels[39, 39] = 2
    one = TrainingCase("a", np.zeros((1, 40, 40), np.float32), labels, remember_positions(labels, 3))
    draw = sampler([one], (4, 4), 100, foreground=1.0, seed=0)
    assert 35 <= sum((patch == 2).any() for patch in draw(0)[1]) <= 65


def test_a_case_without_foreground_is_drawn_all_the_same():
    """Nothing to aim at is no reason to fail."""
    images, labels = sampler([case("a", (5, 5))], (3, 3), 2, foreground=1.0, seed=0)(0)
    assert images.shape == (2, 1, 3, 3)
    assert (labels == 0).all()


def test_what_lies_outside_is_reflected_and_ignored():
    """A row 0 1 2, asked for from -2 to 5: 1 0 | 0 1 2 | 2 1."""
    image, labels = np.arange(3, dtype=np.float32).reshape(1, 1, 3), np.ones((1, 3), np.int16)
    pixels, known = crop(image, labels, (0, -2), (1, 7))
    assert pixels.tolist() == [[[1, 0, 0, 1, 2, 2, 1]]]
    assert known.tolist() == [[IGNORE, IGNORE, 1, 1, 1, IGNORE, IGNORE]]


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=3),
    data=st.data(),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_size_gives_patches_of_true_pixels(shape, data, channels, seed):
    """Known pixels carry their own labels, none is lost that the patch has room for, and classes are aimed at."""
    patch = tuple(data.draw(st.integers(1, 16)) for _ in shape)
    target = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    one = case("a", tuple(shape), channels=channels, foreground=[target])
    images, labels = sampler([one], patch, 2, foreground=1.0, seed=seed)(0)
    assert images.shape == (2, channels, *patch) and images.dtype == np.float32
    assert labels.shape == (2, *patch) and labels.dtype == np.int16
    for pixels, known in zip(images, labels):
        assert (known == 1).any()
        assert (known != IGNORE).sum() == np.prod([min(n, p) for n, p in zip(shape, patch)])
        # The image counts up, so a pixel says where it is from.
        own = one.labels.ravel()[pixels[0].astype(int)]
        assert (own[known != IGNORE] == known[known != IGNORE]).all()


def test_positions_are_of_their_class_and_not_too_many():
    """A class of many pixels is sampled, without repeats; absent classes are empty."""
    labels = np.zeros((200, 200), np.int16)
    labels[:150] = 1
    labels[199, 5] = 3
    many, none, one = remember_positions(labels, 4)
    assert len(set(many.tolist())) == REMEMBERED
    assert (labels.ravel()[many] == 1).all()
    assert len(none) == 0
    assert one.tolist() == [199 * 200 + 5]


def test_mapped_files_are_cut_like_arrays(tmp_path):
    """Patches of memory-mapped arrays are copies that a tensor can be made of."""
    one = case("a", (6, 6), foreground=[(2, 2)])
    np.save(tmp_path / "image.npy", one.image)
    mapped = TrainingCase("a", np.load(tmp_path / "image.npy", mmap_mode="r"), one.labels, one.positions)
    for step, size in product(range(3), ((4, 4), (9, 3))):
        plain, from_file = (sampler([x], size, 2, foreground=0.5, seed=0)(step) for x in (one, mapped))
        np.testing.assert_array_equal(plain[0], from_file[0])
        assert from_file[0].flags.writeable


def test_a_large_image_is_visited_as_the_square_root_of_its_patches():
    """16 patches cover the large one, 1 the small one: four visits to one in each round of five."""
    cases = [case("small", (4, 4), value=0), case("large", (16, 16), value=1)]
    draw = sampler(cases, (4, 4), 5, foreground=0, seed=0)
    for step in range(4):
        assert sorted(draw(step)[0][:, 0, 0, 0]) == [0, 1, 1, 1, 1]


def test_images_of_one_size_are_visited_once_however_large_they_are():
    """Two images of 16 patches each: a round is two patches long."""
    cases = [case(str(value), (16, 16), value=value) for value in range(2)]
    draw = sampler(cases, (4, 4), 2, foreground=0, seed=0)
    assert all(sorted(draw(step)[0][:, 0, 0, 0]) == [0, 1] for step in range(4))


def test_numbers_of_objects_pass_through_as_they_are():
    """int32 beyond the range of classes; pixels of all objects count as foreground."""
    ids = np.zeros((40, 40), np.int32)
    ids[5:9, 5:9], ids[30:34, 2:8] = 70_000, 3
    positions = remember_positions(ids, 2)
    assert len(positions) == 1 and len(positions[0]) == 16 + 24
    draw = sampler(
        [TrainingCase("a", np.zeros((1, 40, 40), np.float32), ids, positions)], (8, 8), 2, foreground=1, seed=0
    )
    drawn = np.concatenate([draw(step)[1] for step in range(20)])
    assert drawn.dtype == np.int32 and (drawn > 0).any(axis=(1, 2)).all()
    assert set(np.unique(drawn)) == {0, 3, 70_000}
