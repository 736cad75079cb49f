"""Intensity changes against values worked out by hand."""

import math

import pytest
import torch

from uvea.augment.intensity import Blur, Brightness, ColourJitter, Contrast, Gamma, LowResolution, Noise

FIRST = torch.tensor([0])


def unlabelled(images: torch.Tensor) -> torch.Tensor:
    """Labels that nothing should look at."""
    return torch.zeros(len(images), *images.shape[2:], dtype=torch.int64)


def ramp() -> torch.Tensor:
    """0, 1, 2, 3 in one row."""
    return torch.arange(4.0).reshape(1, 1, 1, 4)


def test_brightness_by_hand():
    """Everything half a unit brighter, per channel."""
    images, _ = Brightness().apply(ramp(), unlabelled(ramp()), who=FIRST, shift=torch.tensor([[0.5]]))
    assert images.flatten().tolist() == [0.5, 1.5, 2.5, 3.5]


def test_contrast_by_hand():
    """Twice the distance to the mean of 1.5."""
    images, _ = Contrast().apply(ramp(), unlabelled(ramp()), who=FIRST, factor=torch.tensor([[2.0]]))
    assert images.flatten().tolist() == [-1.5, 0.5, 2.5, 4.5]


def test_gamma_by_hand():
    """Squared thirds times three; upside down, the bright end is bent instead."""
    gamma, labels, power = Gamma(keep_statistics=False), unlabelled(ramp()), torch.tensor([[2.0]])
    images, _ = gamma.apply(ramp(), labels, who=FIRST, power=power, sign=torch.tensor([1.0]))
    torch.testing.assert_close(images.flatten(), torch.tensor([0, 1 / 3, 4 / 3, 3]))
    images, _ = gamma.apply(ramp(), labels, who=FIRST, power=power, sign=torch.tensor([-1.0]))
    torch.testing.assert_close(images.flatten(), torch.tensor([0, 5 / 3, 8 / 3, 3]))


def test_gamma_restores_mean_and_deviation():
    """Per channel, for any power and either end."""
    images = torch.randn(8, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    gamma = Gamma(chance=1, inverted=0.5)
    new_images, _ = gamma.apply(images, unlabelled(images), **gamma.draw(images, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(new_images.mean((2, 3)), images.mean((2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(new_images.std((2, 3)), images.std((2, 3)), atol=1e-4, rtol=0)


def test_gamma_leaves_a_constant_channel_alone():
    """Beside one that is bent."""
    images = torch.cat([ramp(), torch.full((1, 1, 1, 4), 5.0)], dim=1)
    new_images, _ = Gamma().apply(
        images, unlabelled(images), who=FIRST, power=torch.tensor([[1.4, 1.4]]), sign=torch.tensor([1.0])
    )
    assert new_images[0, 1].tolist() == [[5.0] * 4]
    assert not torch.equal(new_images[0, 0], images[0, 0])


def test_noise_has_the_drawn_strength():
    """Zero mean, deviation between zero and the limit, another one for each image."""
    images = torch.zeros(6, 1, 40, 40)
    noise = Noise(chance=1, max_std=0.5)
    images, _ = noise.apply(images, unlabelled(images), **noise.draw(images, torch.Generator().manual_seed(0)))
    stds = images.std((1, 2, 3))
    assert images.mean().abs() < 0.02
    assert stds.max() <= 0.52 and stds.min() >= 0 and len(set(stds.tolist())) == 6


def test_blur_of_a_point_by_hand():
    """Weights exp(-x²/2) over their sum along x, nothing along y."""
    images = torch.zeros(1, 1, 9, 9)
    images[..., 4, 4] = 1
    images, _ = Blur(spacing=(1.0, 1.0)).apply(images, unlabelled(images), who=FIRST, std=torch.tensor([[0.0, 1.0]]))
    weights = [math.exp(-0.5 * x * x) for x in range(-3, 4)]
    expected = torch.tensor([0, *(weight / sum(weights) for weight in weights), 0])
    torch.testing.assert_close(images[0, 0, 4], expected)
    assert images[0, 0, [0, 1, 2, 3, 5, 6, 7, 8]].abs().max() == 0


def test_blur_keeps_constants_and_each_sample_has_its_own_width():
    """A flat image stays flat up to the border; the wider kernel has the lower peak."""
    flat = torch.full((2, 1, 5, 7), 3.0)
    std = torch.tensor([[0.5, 0.5], [1.0, 1.0]])
    images, _ = Blur(spacing=(1.0, 1.0)).apply(flat, unlabelled(flat), who=torch.tensor([0, 1]), std=std)
    torch.testing.assert_close(images, flat)
    points = torch.zeros(2, 1, 9, 9)
    points[..., 4, 4] = 1
    images, _ = Blur(spacing=(1.0, 1.0)).apply(points, unlabelled(points), who=torch.tensor([0, 1]), std=std)
    assert images[0].max() > 2 * images[1].max()
    torch.testing.assert_close(images.sum((1, 2, 3)), torch.ones(2))


def test_blur_has_one_width_in_space():
    """Slices four times as thick as a pixel get a quarter of the width."""
    std = Blur(spacing=(4.0, 1.0, 1.0), chance=1).draw(torch.zeros(3, 1, 4, 8, 8), torch.Generator())["std"]
    torch.testing.assert_close(std[:, 0] * 4, std[:, 1])
    assert std[:, 1].min() >= 0.5 and std[:, 1].max() <= 1


def test_low_resolution_by_hand():
    """Two of four pixels kept, those at 1 and 3, lines between their centres at 0.5 and 2.5 of the fine grid."""
    images, _ = LowResolution(spacing=(1.0, 1.0)).apply(
        ramp(), unlabelled(ramp()), who=FIRST, kept=torch.tensor([[1, 2]])
    )
    torch.testing.assert_close(images.flatten(), torch.tensor([1, 1.5, 2.5, 3]))


def test_low_resolution_with_all_pixels_kept_changes_nothing():
    """To the last bit, while the other sample loses detail."""
    images = torch.randn(2, 1, 7, 9, generator=torch.Generator().manual_seed(0))
    new_images, _ = LowResolution(spacing=(1.0, 1.0)).apply(
        images, unlabelled(images), who=torch.tensor([0, 1]), kept=torch.tensor([[7, 9], [4, 5]])
    )
    assert torch.equal(new_images[0], images[0])
    assert not torch.equal(new_images[1], images[1])


def test_low_resolution_spares_axes_that_are_coarse_already():
    """Slices three times as thick as the pixels are never fewer when at least half the pixels are kept."""
    kept = LowResolution(spacing=(3.0, 1.0, 1.0), chance=1).draw(torch.zeros(9, 1, 6, 20, 20), torch.Generator())[
        "kept"
    ]
    assert (kept[:, 0] == 6).all()
    assert kept[:, 1:].min() >= 10 and kept[:, 1:].max() <= 20


def test_colour_jitter_by_hand():
    """Half saturation about the mean of 2, then a gain and a shift for each channel."""
    images = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    images, _ = ColourJitter().apply(
        images,
        unlabelled(images),
        who=FIRST,
        gain=torch.tensor([[2.0, 1.0, 1.0]]),
        shift=torch.tensor([[0.0, 0.0, 1.0]]),
        saturation=torch.tensor([0.5]),
    )
    assert images.flatten().tolist() == [3.0, 2.0, 3.5]


@pytest.mark.parametrize("kind", [Brightness, Contrast, Gamma])
def test_channels_change_together_where_asked(kind):
    """Equal channels stay equal with per_channel off, and part with it on."""
    images = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)).repeat(1, 3, 1, 1)
    for per_channel in (False, True):
        change = kind(chance=1, per_channel=per_channel)
        changed, _ = change.apply(images, unlabelled(images), **change.draw(images, torch.Generator().manual_seed(0)))
        assert torch.equal(changed[:, 0], changed[:, 1]) is not per_channel
