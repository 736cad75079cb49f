"""Images and labels move together, exactly where that is possible."""

import math

import pytest
import torch

from uvea.arrays.labels import LARGEST_ID
from uvea.augment.augmentation import IGNORE
from uvea.augment.spatial import KNOTS, Spatial
from uvea.errors import ShapeError


def still(count: int, dims: int) -> dict[str, torch.Tensor]:
    """Drawn values that change nothing."""
    return {
        "swap": torch.zeros(count, dtype=torch.bool),
        "flips": torch.zeros(count, dims, dtype=torch.bool),
        "who": torch.zeros(0, dtype=torch.int64),
        "maps": torch.zeros(0, dims, dims),
        "moves": torch.zeros(0, dims, *[KNOTS] * dims),
    }


def mapped(matrix: list[list[float]], dims: int) -> dict[str, torch.Tensor]:
    """One sample, resampled by one matrix."""
    return still(1, dims) | {
        "who": torch.tensor([0]),
        "maps": torch.tensor([matrix]),
        "moves": torch.zeros(1, dims, *[KNOTS] * dims),
    }


def generator(seed: int = 0) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def smooth(shape: tuple[int, ...]) -> torch.Tensor:
    """Waves several pixels long, about zero, (b, 1, ...)."""
    total = torch.zeros(shape)
    for axis in range(2, len(shape)):
        along = torch.arange(shape[axis]).reshape(-1, *[1] * (len(shape) - 1 - axis))
        total = total + torch.sin(along / 4.0 + axis)
    return total


def test_quarter_turns_by_hand():
    """1 2 / 3 4 turned to the left is 2 4 / 1 3, in images and labels alike."""
    spatial = Spatial(spacing=(1.0, 1.0))
    labels = torch.tensor([[[1, 2], [3, 4]]])
    drawn = still(1, 2) | {"swap": torch.tensor([True]), "flips": torch.tensor([[True, False]])}
    images, labels = spatial.apply(labels.unsqueeze(1).float(), labels, **drawn)
    assert labels.tolist() == [[[2, 4], [1, 3]]]
    assert images[0].tolist() == [[[2.0, 4.0], [1.0, 3.0]]]


def test_only_quarter_turns_are_drawn_without_mirrors():
    """Of the eight symmetries of a square, four come up, and all four of them."""
    spatial = Spatial(spacing=(1.0, 1.0), rotate90=True, rotation_chance=0, scaling_chance=0, elastic_chance=0)
    labels = torch.tensor([[1, 2], [3, 4]]).repeat(100, 1, 1)
    images = labels.unsqueeze(1).float()
    images, labels = spatial.apply(images, labels, **spatial.draw(images, generator()))
    turns = {tuple(torch.rot90(torch.tensor([[1, 2], [3, 4]]), k).flatten().tolist()) for k in range(4)}
    assert {tuple(label.flatten().tolist()) for label in labels} == turns
    assert torch.equal(images[:, 0], labels.float())


def test_mirrors_and_quarter_turns_give_all_eight_symmetries_evenly():
    """Fifty of each are expected in 400; reversals must cancel, not add up."""
    spatial = Spatial(
        spacing=(1.0, 1.0), mirror_axes=(0, 1), rotate90=True, rotation_chance=0, scaling_chance=0, elastic_chance=0
    )
    labels = torch.tensor([[1, 2], [3, 4]]).repeat(400, 1, 1)
    images = labels.unsqueeze(1).float()
    _, labels = spatial.apply(images, labels, **spatial.draw(images, generator()))
    _, counts = labels.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 8 and counts.min() > 25 and counts.max() < 75


@pytest.mark.parametrize(("size", "spacing"), [((4, 6), (1.0, 1.0)), ((4, 4), (1.0, 2.0))])
def test_unequal_axes_are_never_exchanged(size, spacing):
    """A turn by 90 degrees would change the shape, or stretch what is in the image."""
    drawn = Spatial(spacing=spacing, rotate90=True).draw(torch.zeros(50, 1, *size), generator())
    assert not drawn["swap"].any()
    assert drawn["flips"].any()
    assert torch.equal(drawn["flips"][:, 0], drawn["flips"][:, 1])


@pytest.mark.parametrize("allowed", [(), (0,), (1,), (2,), (0, 2)])
def test_a_forbidden_axis_is_never_mirrored(allowed):
    """A marker near the origin corner leaves it along allowed axes only, and along all of these."""
    spatial = Spatial(spacing=(1.0,) * 3, mirror_axes=allowed, rotation_chance=0, scaling_chance=0, elastic_chance=0)
    labels = torch.zeros(64, 3, 4, 5, dtype=torch.int16)
    labels[:, 0, 0, 0] = 1
    images, labels = labels.unsqueeze(1).float(), labels
    images, labels = spatial.apply(images, labels, **spatial.draw(images, generator()))
    places = labels.nonzero()[:, 1:]
    moved = {axis for axis in range(3) if places[:, axis].any()}
    assert len(places) == 64 and moved == set(allowed)
    assert torch.equal(images[:, 0], labels.float())


@pytest.mark.parametrize("shape", [(1, 2, 7, 10), (1, 1, 3, 6, 5)])
def test_resampling_with_the_identity_gives_the_input(shape):
    """Pixel centres are hit: labels exactly, images to rounding."""
    dims = len(shape) - 2
    images = torch.randn(shape, generator=generator())
    labels = torch.randint(-1, 5, (1, *shape[2:]), generator=generator())
    for outside in ("reflect", "ignore"):
        spatial = Spatial(spacing=(1.0,) * dims, outside=outside)
        new_images, new_labels = spatial.apply(images, labels, **mapped(torch.eye(dims).tolist(), dims))
        torch.testing.assert_close(new_images, images, atol=1e-5, rtol=0)
        assert torch.equal(new_labels, labels)


def test_a_resampled_quarter_turn_is_the_exact_one():
    """A step right in the output is one down in the input: a turn to the left about the middle of the image."""
    images = torch.randn(1, 1, 6, 6, generator=generator())
    labels = torch.randint(0, 9, (1, 6, 6), generator=generator())
    spatial = Spatial(spacing=(1.0, 1.0))
    new_images, new_labels = spatial.apply(images, labels, **mapped([[0.0, 1.0], [-1.0, 0.0]], 2))
    torch.testing.assert_close(new_images, torch.rot90(images, 1, (2, 3)), atol=1e-5, rtol=0)
    assert torch.equal(new_labels, torch.rot90(labels, 1, (1, 2)))


def test_magnifying_by_two_by_hand():
    """Half a step in the input per step in the output: a square of 4 becomes one of 8."""
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[:, 6:10, 6:10] = 1
    images = labels.unsqueeze(1).float()
    images, labels = Spatial(spacing=(1.0, 1.0)).apply(images, labels, **mapped([[0.5, 0.0], [0.0, 0.5]], 2))
    expected = torch.zeros(16, 16, dtype=torch.int64)
    expected[4:12, 4:12] = 1
    assert torch.equal(labels[0], expected)
    assert torch.equal((images[0, 0] > 0.5).long(), expected)


def test_a_displacement_by_hand():
    """All knots ask for the pixel two further down: rows move up by two."""
    images = torch.arange(8.0).reshape(1, 1, 8, 1).expand(1, 1, 8, 4)
    drawn = mapped([[1.0, 0.0], [0.0, 1.0]], 2)
    drawn["moves"][:, 0] = 2.0
    new_images, labels = Spatial(spacing=(1.0, 1.0), outside="ignore").apply(images, images[:, 0].long(), **drawn)
    torch.testing.assert_close(new_images[0, 0, :6], images[0, 0, 2:])
    assert labels[0, :, 0].tolist() == [2, 3, 4, 5, 6, 7, IGNORE, IGNORE]


def test_displacements_have_the_strength_of_the_paper():
    """Ten pixels in 512, on three by three knots."""
    spatial = Spatial(spacing=(1.0, 1.0), rotation_chance=0, scaling_chance=0, elastic_chance=1)
    moves = spatial.draw(torch.zeros(100, 1, 512, 256), generator())["moves"]
    assert moves.shape == (100, 2, 3, 3)
    torch.testing.assert_close(moves.std((0, 2, 3)), torch.tensor([10.0, 5.0]), atol=0, rtol=0.1)


def test_reflection_keeps_labels_labels():
    """Beyond the border comes the mirror image, the border pixel twice."""
    labels = torch.arange(8).reshape(1, 8, 1).expand(1, 8, 4)
    drawn = mapped([[1.0, 0.0], [0.0, 1.0]], 2)
    drawn["moves"][:, 0] = 2.0
    _, labels = Spatial(spacing=(1.0, 1.0)).apply(labels.unsqueeze(1).float(), labels, **drawn)
    assert labels[0, :, 0].tolist() == [2, 3, 4, 5, 6, 7, 7, 6]


@pytest.mark.parametrize("shape", [(6, 1, 48, 48), (3, 1, 12, 40, 40)])
@pytest.mark.parametrize("seed", range(3))
def test_a_mask_painted_from_the_image_stays_so(shape, seed):
    """Threshold, then move, equals move, then threshold, except within a pixel of the edge."""
    dims = len(shape) - 2
    spatial = Spatial(
        spacing=(3.0, 1.0, 1.0)[-dims:],
        mirror_axes=tuple(range(dims)),
        rotate90=True,
        rotation_degrees=(180.0,) if dims == 2 else (90.0, 20.0, 20.0),
        rotation_chance=0.7,
        scaling_chance=0.7,
        elastic_chance=0.7,
        elastic_std=0.04,
    )
    images = smooth(shape)
    images, labels = spatial.apply(images, (images[:, 0] > 0).long(), **spatial.draw(images, generator(seed)))
    wrong = (images[:, 0] > 0).long() != labels
    assert wrong.float().mean() < 0.06
    assert images[:, 0][wrong].abs().max() < 0.5  # waves climb by at most 1/4 per pixel and axis


@pytest.mark.parametrize("dims", [2, 3])
def test_rotations_are_rigid_in_space_not_in_pixels(dims):
    """Where pixels are not square a map turns lengths measured with the spacing, and keeps them."""
    spacing = torch.tensor((4.0, 1.0, 2.0)[:dims])
    spatial = Spatial(
        spacing=tuple(spacing.tolist()),
        rotation_degrees=(90.0,) * (1 if dims == 2 else 3),
        rotation_chance=1,
        scaling_chance=0,
        elastic_chance=0,
    )
    maps = spatial.draw(torch.zeros(20, 1, *[8] * dims), generator())["maps"]
    in_space = spacing.unsqueeze(1) * maps / spacing
    torch.testing.assert_close(in_space @ in_space.mT, torch.eye(dims).expand(20, dims, dims))
    torch.testing.assert_close(torch.linalg.det(maps), torch.ones(20))


def test_angles_and_magnifications_stay_in_their_limits():
    """Ten degrees, and 0.7 to 1.4 times 1.1 either way."""
    images = torch.zeros(200, 1, 8, 8)
    turned = Spatial(spacing=(1.0, 1.0), rotation_degrees=(10.0,), rotation_chance=1, scaling_chance=0)
    cosines = turned.draw(images, generator())["maps"][:, 0, 0]
    assert math.cos(math.radians(10)) <= cosines.min() < math.cos(math.radians(9))
    scaled = Spatial(spacing=(1.0, 1.0), rotation_chance=0, scaling_chance=1)
    steps = scaled.draw(images, generator())["maps"].diagonal(dim1=1, dim2=2)
    assert 1 / (1.4 * 1.1) <= steps.min() < 0.75 and 1.3 < steps.max() <= 1.1 / 0.7


def test_a_still_axis_is_not_interpolated():
    """Slices of different constants stay such slices, whatever happens in their planes."""
    spatial = Spatial(
        spacing=(5.0, 1.0, 1.0),
        rotation_degrees=(180.0, 30.0, 30.0),
        rotation_chance=1,
        scaling_chance=1,
        elastic_chance=1,
        elastic_std=0.1,
        still_axis=0,
    )
    images = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(2, 1, 4, 10, 10)
    drawn = spatial.draw(images, generator())
    assert (drawn["maps"][:, 1:, 1:] != torch.eye(2)).any()
    new_images, _ = spatial.apply(images, images[:, 0].long(), **drawn)
    torch.testing.assert_close(new_images, images, atol=1e-5, rtol=0)


def test_a_larger_input_is_cut_in_the_middle():
    """Untouched samples are the centre crop; the identity map hits the same pixels, also for odd margins."""
    images = torch.randn(2, 1, 9, 10, generator=generator())
    labels = torch.randint(0, 5, (2, 9, 10), generator=generator())
    spatial = Spatial(spacing=(1.0, 1.0), out_size=(4, 6))
    drawn = mapped([[1.0, 0.0], [0.0, 1.0]], 2) | {
        "swap": torch.zeros(2, dtype=torch.bool),
        "flips": torch.zeros(2, 2, dtype=torch.bool),
    }
    new_images, new_labels = spatial.apply(images, labels, **drawn)
    assert torch.equal(new_images[1], images[1, :, 2:6, 2:8])
    torch.testing.assert_close(new_images[0], images[0, :, 2:6, 2:8], atol=1e-5, rtol=0)
    assert torch.equal(new_labels, labels[:, 2:6, 2:8])


def test_turned_corners_are_real_pixels_where_the_input_is_larger():
    """Any angle of a 8 x 8 output fits into 12 x 12 of input: no label comes from outside."""
    spatial = Spatial(
        spacing=(1.0, 1.0),
        rotation_degrees=(180.0,),
        rotation_chance=1,
        scaling_chance=0,
        elastic_chance=0,
        out_size=(8, 8),
        outside="ignore",
    )
    images, labels = torch.zeros(30, 1, 12, 12), torch.ones(30, 12, 12, dtype=torch.int16)
    _, labels = spatial.apply(images, labels, **spatial.draw(images, generator()))
    assert labels.shape == (30, 8, 8) and (labels == 1).all()


def test_an_ignored_image_stays_ignored():
    """IGNORE is moved like any label."""
    spatial = Spatial(spacing=(1.0, 1.0), rotation_degrees=(180.0,), rotation_chance=1, elastic_chance=1)
    images, labels = torch.zeros(4, 1, 9, 9), torch.full((4, 9, 9), IGNORE, dtype=torch.int16)
    _, labels = spatial.apply(images, labels, **spatial.draw(images, generator()))
    assert (labels == IGNORE).all()


def test_large_labels_survive_resampling():
    """Object numbers far beyond int16 are exact."""
    labels = torch.full((1, 5, 5), 2**24 - 2)
    _, labels = Spatial(spacing=(1.0, 1.0)).apply(
        torch.zeros(1, 1, 5, 5), labels, **mapped([[0.6, 0.8], [-0.8, 0.6]], 2)
    )
    assert (labels == 2**24 - 2).all()


def test_an_output_larger_than_the_input_is_refused():
    """Both sizes are in the message."""
    spatial = Spatial(spacing=(1.0, 1.0), out_size=(8, 8))
    with pytest.raises(ShapeError, match=r"\(8, 8\) cannot be cut from patches of \(8, 7\)"):
        spatial.draw(torch.zeros(1, 1, 8, 7), generator())


def test_spacing_must_match_the_images():
    """Two spacings cannot describe a volume."""
    with pytest.raises(ShapeError, match="3 spatial axes, but spacing has 2 values"):
        Spatial(spacing=(1.0, 1.0)).draw(torch.zeros(1, 1, 4, 4, 4), generator())


def test_numbers_of_objects_stay_exact_up_to_the_largest():
    """Bent, turned and scaled, there are only numbers that were there."""
    images = torch.zeros(4, 1, 24, 24)
    labels = torch.zeros(4, 24, 24, dtype=torch.int32)
    labels[:, 4:12, 4:12], labels[:, 12:20, 12:20], labels[:, 0] = LARGEST_ID, LARGEST_ID - 1, -1
    spatial = Spatial(
        spacing=(1.0, 1.0), rotation_degrees=(180.0,), rotation_chance=1, scaling_chance=1, elastic_chance=1
    )
    _, bent = spatial.apply(images, labels, **spatial.draw(images, torch.Generator().manual_seed(0)))
    assert bent.dtype == torch.int32
    assert set(bent.unique().tolist()) == {-1, 0, LARGEST_ID, LARGEST_ID - 1}
