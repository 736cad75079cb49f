"""Every augmentation draws, then applies, and keeps images and labels what they are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uvea.augment.augmentation import IGNORE, Augmentation
from uvea.augment.chain import standard_chain
from uvea.augment.intensity import Blur, Brightness, ColourJitter, Contrast, Gamma, LowResolution, Noise
from uvea.augment.spatial import Spatial

SHAPES = [(3, 1, 16, 16), (2, 3, 9, 14), (2, 1, 5, 12, 12), (2, 2, 1, 8, 1), (1, 1, 1, 1)]


def family(dims: int, chance: float) -> list[Augmentation]:
    """One of each, every sample chosen with probability `chance`."""
    spacing = (2.5, 1.0, 1.0)[-dims:]
    axes = tuple(range(dims)) if chance else ()
    degrees = (180.0,) if dims == 2 else (30.0, 20.0, 10.0)
    return [
        Spatial(spacing=spacing, mirror_axes=axes, rotate90=chance > 0, rotation_degrees=degrees,
                rotation_chance=chance, scaling_chance=chance, elastic_chance=chance),
        Brightness(chance=chance),
        Contrast(chance=chance),
        Gamma(chance=chance),
        Gamma(chance=chance, inverted=1.0, keep_statistics=False, per_channel=False),
        Noise(chance=chance),
        Blur(spacing=spacing, chance=chance),
        LowResolution(spacing=spacing, chance=chance),
        ColourJitter(chance=chance),
    ]  # fmt: skip


MEMBERS = range(len(family(2, 1.0)))


def batch(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and labels 0, 1, 4 and IGNORE."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(shape, generator=rng)
    values = torch.tensor([0, 1, 4, IGNORE], dtype=torch.int16)
    return images, values[torch.randint(4, (shape[0], *shape[2:]), generator=rng)]


def generator(seed: int = 0) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def test_the_family_is_complete():
    """Whatever the standard chain uses is under this contract."""
    chain = standard_chain(dims=2, mirror_axes=(), rotate90=False, spacing=(1.0, 1.0), colour=True)
    assert {type(a) for a in chain.augmentations} == {type(a) for a in family(2, 1.0)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("member", MEMBERS)
def test_shapes_types_and_label_values_are_kept(member, shape):
    """Float32 images, labels of their own type, and no label that was not there."""
    augmentation = family(len(shape) - 2, 1.0)[member]
    images, labels = batch(shape)
    for kind in (torch.int16, torch.int64):
        drawn = augmentation.draw(images, generator())
        new_images, new_labels = augmentation.apply(images, labels.to(kind), **drawn)
        assert (new_images.shape, new_images.dtype) == (images.shape, torch.float32)
        assert (new_labels.shape, new_labels.dtype) == (labels.shape, kind)
        assert new_images.isfinite().all()
        assert set(new_labels.unique().tolist()) <= set(labels.unique().tolist())


@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("member", MEMBERS)
def test_apply_is_not_random_and_changes_no_argument(member, shape):
    """Twice the same drawn values give the same bits, and the input stays as it was."""
    augmentation = family(len(shape) - 2, 1.0)[member]
    images, labels = batch(shape)
    kept_images, kept_labels = images.clone(), labels.clone()
    drawn = augmentation.draw(images, generator())
    first = augmentation.apply(images, labels, **drawn)
    torch.rand(7)
    second = augmentation.apply(images, labels, **drawn)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], images)
    assert torch.equal(images, kept_images) and torch.equal(labels, kept_labels)


@pytest.mark.parametrize("member", MEMBERS)
def test_the_same_seed_draws_the_same(member):
    """Equal generators, equal draws; another seed, another draw."""
    augmentation = family(2, 1.0)[member]
    images, _ = batch((4, 3, 8, 8))
    first, second, other = (augmentation.draw(images, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("member", MEMBERS)
def test_samples_that_are_not_chosen_keep_their_bits(member, shape):
    """With chance zero nothing changes at all."""
    augmentation = family(len(shape) - 2, 0.0)[member]
    images, labels = batch(shape)
    new_images, new_labels = augmentation.apply(images, labels, **augmentation.draw(images, generator()))
    assert torch.equal(new_images, images) and torch.equal(new_labels, labels)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_chosen_sample_leaves_its_neighbours_alone(member):
    """Half of the batch is drawn; the rest is equal to the last bit, and a sample's result is its own."""
    images, labels = batch((12, 2, 10, 10))
    augmentation = family(2, 0.4)[member]
    drawn = augmentation.draw(images, generator())
    if "flips" in drawn:
        drawn |= {"flips": torch.zeros_like(drawn["flips"]), "swap": torch.zeros_like(drawn["swap"])}
    new_images, new_labels = augmentation.apply(images, labels, **drawn)
    untouched = [sample for sample in range(12) if sample not in drawn["who"].tolist()]
    assert 0 < len(untouched) < 12
    assert torch.equal(new_images[untouched], images[untouched])
    assert torch.equal(new_labels[untouched], labels[untouched])
    assert all(not torch.equal(new_images[sample], images[sample]) for sample in drawn["who"].tolist())


@pytest.mark.parametrize("member", MEMBERS)
def test_constant_images_stay_finite(member):
    """A black image has no range and no deviation to divide by."""
    augmentation = family(2, 1.0)[member]
    images, labels = torch.full((2, 3, 8, 8), -1.5), torch.zeros(2, 8, 8, dtype=torch.int64)
    images, _ = augmentation.apply(images, labels, **augmentation.draw(images, generator()))
    assert images.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(
    sides=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    channels=st.integers(1, 3),
    count=st.integers(1, 3),
    step=st.integers(0, 10**6),
)
def test_the_standard_chain_takes_any_size(sides, channels, count, step):
    """Axes of one pixel, odd sizes, several channels: finite images, known labels, same shapes."""
    dims = len(sides)
    chain = standard_chain(
        dims=dims,
        strength=1.5,
        mirror_axes=tuple(range(dims)),
        rotate90=True,
        spacing=(5.0, 1.0, 1.0)[-dims:],
        colour=channels == 3,
    )
    images, labels = batch((count, channels, *sides), seed=step)
    new_images, new_labels = chain(images, labels, step=step)
    assert new_images.shape == images.shape and new_labels.shape == labels.shape
    assert new_images.isfinite().all()
    assert set(new_labels.unique().tolist()) <= set(labels.unique().tolist())
