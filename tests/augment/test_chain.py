"""A step can be replayed, and the standard chain is what it says."""

import pytest
import torch

from uvea.augment import Chain, standard_chain
from uvea.augment.intensity import Noise
from uvea.augment.spatial import Spatial
from uvea.errors import PlanError, ShapeError


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and labels."""
    rng = torch.Generator().manual_seed(0)
    return torch.randn(6, 1, 12, 12, generator=rng), torch.randint(0, 3, (6, 12, 12), generator=rng)


def usual(**changes: object) -> Chain:
    """The chain for plain microscopy, with changes."""
    settings = {"dims": 2, "mirror_axes": (0, 1), "rotate90": True, "spacing": (1.0, 1.0), "colour": False}
    return standard_chain(**settings | changes)


def test_a_step_is_replayed_from_seed_and_step():
    """Equal seed and step, equal bits, whatever was drawn before; another step or seed, another batch."""
    images, labels = batch()
    first = usual(seed=3)(images, labels, step=5)
    torch.rand(11)
    again = usual(seed=3)(images, labels, step=5)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], usual(seed=3)(images, labels, step=6)[0])
    assert not torch.equal(first[0], usual(seed=4)(images, labels, step=5)[0])


def test_the_global_generator_is_left_alone():
    """Augmenting draws nothing from torch's own random numbers."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    usual()(*batch(), step=0)
    assert torch.equal(torch.rand(3), expected)


def test_half_precision_around_it_changes_nothing():
    """Under autocast the same bits come out: positions are never rounded to 8 bits."""
    images, labels = batch()
    plain = usual()(images, labels, step=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = usual()(images, labels, step=1)
    assert torch.equal(plain[0], cast[0]) and torch.equal(plain[1], cast[1])


def test_an_empty_chain_is_the_identity():
    """No augmentation, no change."""
    images, labels = batch()
    new_images, new_labels = Chain((), 0)(images, labels, step=0)
    assert torch.equal(new_images, images) and torch.equal(new_labels, labels)


def test_augmentations_follow_one_another():
    """Two additions of noise add up."""
    images, labels = batch()
    noise = Noise(chance=1)
    rng = Chain((noise, noise), 1).generator(step=2)
    expected = images + noise.draw(images, rng)["noise"] + noise.draw(images, rng)["noise"]
    torch.testing.assert_close(Chain((noise, noise), 1)(images, labels, step=2)[0], expected)


def test_strength_zero_only_reorders_pixels():
    """Every output image has exactly the pixels of its input."""
    images, labels = batch()
    new_images, new_labels = usual(strength=0.0)(images, labels, step=0)
    assert not torch.equal(new_images, images)
    assert torch.equal(new_images.flatten(1).sort().values, images.flatten(1).sort().values)
    assert torch.equal(new_labels.flatten(1).sort().values, labels.flatten(1).sort().values)


def test_images_change_more_often_than_not():
    """Even without mirrors, about three quarters of the samples are touched."""
    chain = usual(mirror_axes=(), rotate90=False)
    images, labels = batch()
    touched = [(chain(images, labels, step=step)[0] != images).flatten(1).any(1) for step in range(20)]
    assert 0.6 < torch.cat(touched).float().mean() < 0.95


@pytest.mark.parametrize(("spacing", "still"), [((1.0, 1.0, 1.0), None), ((5.0, 1.0, 1.0), 0), ((1.0, 1.0, 4.0), 2)])
def test_thick_slices_are_turned_in_their_plane_only(spacing, still):
    """From a ratio of three on, the coarse axis is not interpolated, whichever it is."""
    spatial = usual(dims=3, spacing=spacing, mirror_axes=()).augmentations[0]
    assert isinstance(spatial, Spatial)
    assert spatial.still_axis == still
    assert spatial.rotation_degrees == tuple(180.0 if axis == still else 30.0 for axis in range(3))


def test_angles_can_be_limited():
    """Where up and down matter, the caller's limit replaces any angle."""
    spatial = usual(rotation=15.0, strength=2.0).augmentations[0]
    assert isinstance(spatial, Spatial)
    assert spatial.rotation_degrees == (30.0,)


def test_the_output_size_is_kept_through_the_chain():
    """Patches of 12 are read, 8 come out."""
    images, labels = usual(out_size=(8, 8))(*batch(), step=0)
    assert images.shape == (6, 1, 8, 8) and labels.shape == (6, 8, 8)


def test_settings_that_do_not_fit_are_refused():
    """The message has the values."""
    with pytest.raises(ShapeError, match=r"3 spatial axes, spacing \(1.0, 1.0\)"):
        usual(dims=3)
    with pytest.raises(ShapeError, match=r"mirrored axes \(2,\)"):
        usual(mirror_axes=(2,))
    with pytest.raises(PlanError, match=r"strength -1"):
        usual(strength=-1)


def test_chances_are_multiplied_up_to_the_largest():
    """Twice the usual, and 0.8 where that would be more; the strength stays."""
    twice, always = usual(chance=2), usual(chance=100)
    assert (twice.augmentations[0].elastic_chance, twice.augmentations[1].chance) == (0.4, 0.2)
    assert (always.augmentations[0].elastic_chance, always.augmentations[1].chance) == (0.8, 0.8)
    assert twice.augmentations[0].scaling == usual().augmentations[0].scaling


def test_a_chance_below_zero_is_refused():
    """It would mean nothing."""
    with pytest.raises(PlanError, match="chances times -1"):
        usual(chance=-1)
