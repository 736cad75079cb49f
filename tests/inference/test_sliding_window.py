"""Tiling must be invisible: the answer is the one a single big pass would give."""

import numpy as np
import pytest
import torch
from torch import nn

from uvea.inference.sliding_window import labels_of, predict
from uvea.models.fold import fold_batch_norm
from uvea.models.unet import UNet


def image_of(*shape, seed=0):
    """Seeded normal noise, (c, ...)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolution(dims, *, channels=1, classes=3, size=5):
    """One convolution that sees `size // 2` pixels to each side."""
    torch.manual_seed(0)
    return {2: nn.Conv2d, 3: nn.Conv3d}[dims](channels, classes, size, padding=size // 2)


def unet(dims=2, *, classes=3, strides=(2, 2)):
    """A real U-Net with total stride 4 and running statistics of its own, in evaluation mode."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, classes=classes, dims=dims, channels=(4, 6, 8), strides=strides, convs_per_level=1)
    network(image_of(2, 1, *[16] * dims))
    return network.eval()


def whole(network, image):
    """One pass over everything."""
    with torch.inference_mode():
        return network(image[None])[0].softmax(0)


@pytest.mark.parametrize("shape", [(1, 40, 50), (2, 9, 30, 31)])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_give_the_answer_of_one_big_pass(shape, batch):
    """A convolution that sees 2 pixels around itself needs a context of 2, no more."""
    dims = len(shape) - 1
    network, image = convolution(dims, channels=shape[0]), image_of(*shape)
    tiled = predict(network, image, tile=(16,) * dims, overlap=(6,) * dims, context=(2,) * dims, batch=batch)
    torch.testing.assert_close(tiled, whole(network, image), atol=1e-6, rtol=0)


def test_less_context_than_the_network_sees_shows():
    """The test above could otherwise not fail."""
    network, image = convolution(2), image_of(1, 40, 50)
    tiled = predict(network, image, tile=(16, 16), overlap=(6, 6), context=(1, 1))
    assert (tiled - whole(network, image)).abs().max() > 1e-3


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("size", [(160, 200), (129, 163)])
def test_a_unet_with_its_receptive_field_as_context_is_exact(size, folded):
    """Sizes that are multiples of the stride and others; tiles begin where pooling cells begin."""
    network, image = unet(), image_of(1, *size)
    context = network.receptive_field
    assert max(context) <= 24
    tiled = predict(
        fold_batch_norm(network) if folded else network,
        image,
        tile=(96, 96),
        overlap=tuple(2 * n + 4 for n in context),
        context=context,
        stride=network.total_stride,
    )
    torch.testing.assert_close(tiled, whole(network, image), atol=1e-5, rtol=0)


def test_a_volume_with_a_stride_per_axis_is_exact():
    """Thin slices, halved along y and x only."""
    network, image = unet(3, strides=((1, 2, 2), (1, 2, 2))), image_of(1, 30, 70, 61)
    context = network.receptive_field
    tiled = predict(
        network,
        image,
        tile=(26, 60, 60),
        overlap=tuple(2 * n for n in context),
        context=context,
        stride=network.total_stride,
    )
    torch.testing.assert_close(tiled, whole(network, image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_blended_probabilities_sum_to_one(classes):
    """Without context tiles differ at their borders; the blend is a probability all the same."""
    found = predict(unet(classes=classes), image_of(1, 61, 50), tile=(32, 32), overlap=(8, 8), stride=(4, 4))
    assert found.shape == (max(classes, 2), 61, 50) and found.dtype == torch.float32
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(0), torch.ones(61, 50), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (2, 3), (5, 4), (33, 8)])
def test_any_size_from_one_pixel_up(size):
    """Padded to the stride by repeating the edge, which is what the network does itself."""
    network, image = unet(), image_of(1, *size)
    found = predict(network, image, tile=(32, 32), overlap=(8, 8), stride=(4, 4))
    assert found.shape == (3, *size)
    if max(size) <= 32:
        torch.testing.assert_close(found, whole(network, image), atol=1e-6, rtol=0)


def test_a_volume_of_one_voxel():
    """Three dimensions as well."""
    assert predict(unet(3), image_of(1, 1, 1, 1), tile=(8, 8, 8), overlap=(2, 2, 2), stride=(4, 4, 4)).shape == (
        3,
        1,
        1,
        1,
    )


@pytest.mark.parametrize("overlap", [0, 7, 15, 16, 100])
def test_an_overlap_larger_than_tiles_allow_is_made_smaller(overlap):
    """The plan's overlap may come from larger tiles; tiles still advance."""
    found = predict(unet(), image_of(1, 50, 50), tile=(16, 16), overlap=(overlap,) * 2, stride=(4, 4))
    torch.testing.assert_close(found.sum(0), torch.ones(50, 50), atol=1e-5, rtol=0)


def test_a_tile_that_is_no_multiple_of_the_stride_is_made_one():
    """A tile of 18 becomes 20 and no larger."""
    sizes = []

    def network(pieces):
        sizes.append(tuple(pieces.shape[2:]))
        return torch.zeros(len(pieces), 2, *pieces.shape[2:])

    predict(network, image_of(1, 50, 10), tile=(18, 18), overlap=(4, 4), stride=(4, 4))
    assert set(sizes) == {(20, 12)}


def test_the_mirror_average_by_hand():
    """A network that favours class 1 on the left half: log 3 there, 0 on the right, so 3/4 and 1/2.

    Mirrored along x the halves change places and back: the mean is 5/8 everywhere.
    """

    def network(pieces):
        logits = torch.zeros(len(pieces), 2, *pieces.shape[2:])
        logits[:, 1, :, :2] = np.log(3)
        return logits

    settings = {"tile": (8, 8), "overlap": (2, 2)}
    plain = predict(network, image_of(1, 2, 4), **settings)
    assert plain[1, 0].tolist() == pytest.approx([0.75, 0.75, 0.5, 0.5])
    mirrored = predict(network, image_of(1, 2, 4), mirror_axes=(1,), **settings)
    assert mirrored[1].ravel().tolist() == pytest.approx([0.625] * 8)
    assert predict(network, image_of(1, 2, 4), mirror_axes=(0,), **settings)[1, 0].tolist() == pytest.approx(
        [0.75, 0.75, 0.5, 0.5]
    )


@pytest.mark.parametrize("axes", [(0,), (0, 1), (0, 1, 2)])
def test_a_mirrored_image_gives_the_mirrored_answer(axes):
    """Averaged over all combinations, none is left out."""
    network, image = convolution(3), image_of(1, 6, 7, 8)
    flipped = tuple(axis + 1 for axis in axes)
    settings = {"tile": (8, 8, 8), "overlap": (2, 2, 2), "mirror_axes": axes}
    found = predict(network, image, **settings)
    torch.testing.assert_close(predict(network, image.flip(flipped), **settings), found.flip(flipped))


def test_one_logit_is_a_sigmoid_by_hand():
    """A logit of log 3 is a foreground of 3/4 and a background of 1/4."""
    found = predict(
        lambda pieces: torch.full((len(pieces), 1, *pieces.shape[2:]), float(np.log(3))),
        image_of(1, 3, 3),
        tile=(4, 4),
        overlap=(1, 1),
    )
    assert found[:, 0, 0].tolist() == pytest.approx([0.25, 0.75])


def test_half_precision_logits_are_averaged_in_float32():
    """Under autocast a network returns bfloat16."""
    found = predict(
        lambda pieces: torch.zeros(len(pieces), 3, *pieces.shape[2:], dtype=torch.bfloat16),
        image_of(1, 20, 20),
        tile=(8, 8),
        overlap=(2, 2),
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full_like(found, 1 / 3))


def test_the_image_is_not_changed():
    """Neither by mirroring nor by padding."""
    image = image_of(1, 9, 9)
    before = image.clone()
    predict(unet(), image, tile=(8, 8), overlap=(2, 2), stride=(4, 4), mirror_axes=(0, 1))
    assert torch.equal(image, before)


def test_labels_take_the_first_of_equals():
    """Ties go to the background."""
    found = torch.tensor([[0.5, 0.2], [0.5, 0.3], [0.0, 0.5]])
    assert labels_of(found).tolist() == [0, 2]
    assert labels_of(found).dtype == np.int16
