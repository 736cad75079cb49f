"""Tiling must be invisible: the answer is the one a single big pass would give."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from uvea.inference.sliding_window import (
    Batch,
    TileTooLarge,
    Window,
    bands,
    labels_of,
    predict,
    probabilities_of,
)
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


WINDOW = Window(tile=(16, 16), overlap=(6, 6), stride=(4, 4))


def read_from(image, seen=None):
    """Tiles of an image whose sides are whole strides."""

    def read(ranges):
        if seen is not None:
            seen.append(len(ranges))
        return torch.stack([image[(slice(None), *where)] for where in ranges])

    return read


def all_rows(networks, image, *, batch=1, **changes):
    """Probabilities put together from bands."""
    window = Window(**{**vars(WINDOW), **changes})
    found = bands(networks, read_from(image), image.shape[1:], window=window, batch=Batch(batch))
    return torch.cat([probabilities_of(band.shares).clone() for band in found], 1)


@pytest.mark.parametrize(("tile", "overlap", "stride"), [(160, 40, 16), (136, 34, 8), (16, 6, 4), (32, 16, 32)])
def test_smaller_tiles_are_never_more(tile, overlap, stride):
    """Nor do they share less than was asked for. Also where what they share is no multiple of the stride."""
    for length in range(1, 5 * tile, 3):
        windows = (Window(tile=(tile,), overlap=(overlap,), stride=(stride,), least=least) for least in (True, False))
        small, large = (window.tiles((length,)) for window in windows)
        assert len(small) == len(large)
        ranges = [tile[0].read for tile in small]
        least = min(overlap, ranges[0].stop - ranges[0].start - stride)
        assert all(one.stop - other.start >= least for one, other in pairwise(ranges))


def test_bands_come_in_order_and_are_never_higher_than_a_tile():
    """All memory for classes that there is: rows of the image's width, as many as a tile has at most."""
    image, rows = image_of(1, 100, 40), []
    for band in bands([unet()], read_from(image), (100, 40), window=WINDOW, batch=Batch(3)):
        assert band.shares.shape == (3, band.rows.stop - band.rows.start, 40)
        assert band.shares.shape[1] <= 16
        assert band.shares.untyped_storage().nbytes() <= 4 * 3 * 16 * 40
        rows += range(band.rows.start, band.rows.stop)
    assert rows == list(range(100))


def test_bands_blend_as_the_definition_says():
    """The sum over all tiles of weight times probability, worked out over the whole image at once."""
    from uvea.arrays.tiles import weight_of

    network, image = unet(), image_of(1, 60, 48)
    expected = torch.zeros(3, 60, 48)
    for tile in WINDOW.tiles((60, 48)):
        place = (slice(None), *(span.read for span in tile))
        expected[place] += whole(network, image[place]) * torch.from_numpy(np.ascontiguousarray(weight_of(tile)))
    torch.testing.assert_close(all_rows([network], image), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_batch_threads_and_mirrored_batches_do_not_change_the_answer(norm):
    """In float32, to 1e-5."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, classes=2, norm=norm, channels=(4, 8), convs_per_level=1).eval()
    image, threads, found = image_of(1, 80, 80), torch.get_num_threads(), []
    try:
        for count, batch in ((1, 1), (1, 7), (2, 1), (2, 3)):
            torch.set_num_threads(count)
            found.append(all_rows([network], image, batch=batch, mirror_axes=(0, 1), stride=(2, 2)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=0)


def test_networks_of_an_ensemble_share_one_pass_over_the_tiles():
    """Each tile is read once; the mean of their probabilities is what each alone would give, averaged."""
    first, second, image, seen = unet(), unet(strides=(4, 1)), image_of(1, 48, 48), []
    found = [
        probabilities_of(band.shares).clone()
        for band in bands([first, second], read_from(image, seen), (48, 48), window=WINDOW, batch=Batch(4))
    ]
    assert sum(seen) == len(WINDOW.tiles((48, 48)))
    expected = (all_rows([first], image) + all_rows([second], image)) / 2
    torch.testing.assert_close(torch.cat(found, 1), expected, atol=1e-6, rtol=0)


def test_slices_share_batches_and_keep_to_themselves():
    """Three slices of four tiles each, five tiles at once; every slice is what it is alone."""
    network, volume, seen = unet(), image_of(1, 3, 24, 24), []

    def read(ranges):
        seen.append(len(ranges))
        return torch.stack([volume[(slice(None), *where)][:, 0] for where in ranges])

    found = {0: [], 1: [], 2: []}
    for band in bands([network], read, (24, 24), window=WINDOW, batch=Batch(5), slices=3):
        found[band.index].append(band.shares.clone())
    assert seen == [5, 5, 2]
    for index, parts in found.items():
        torch.testing.assert_close(torch.cat(parts, 1), all_rows([network], volume[:, index]), atol=1e-6, rtol=0)


def test_two_logits_need_one_share_and_lose_nothing():
    """The sigmoid of their difference is the softmax."""
    network, image = unet(classes=2), image_of(1, 16, 16)
    (band,) = bands([network], read_from(image), (16, 16), window=WINDOW, batch=Batch(1))
    assert band.shares.shape == (1, 16, 16)
    torch.testing.assert_close(probabilities_of(band.shares), whole(network, image))
    np.testing.assert_array_equal(labels_of(band.shares), labels_of(probabilities_of(band.shares)))
    assert labels_of(torch.tensor([[0.5, 0.6]])).tolist() == [0, 1]


class Small:
    """A network for which there is memory for `most` tiles at once."""

    def __init__(self, most, error):
        self.most, self.error, self.network, self.tried = most, error, unet(), []

    def __call__(self, tiles):
        """Logits, or the error of a library that found no memory."""
        self.tried.append(len(tiles))
        if len(tiles) > self.most:
            raise self.error
        return self.network(tiles)


OUT_OF_MEMORY = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("Exception from src/inference: std::bad_alloc"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["torch", "cuda", "openvino", "numpy"])
def test_fewer_tiles_are_tried_where_memory_is_short_and_it_is_said(error):
    """Eight do not fit, four do not, two do; from then on two. The answer is the same."""
    network, image, told = Small(2, error), image_of(1, 48, 48), []
    batch = Batch(8, told.append)
    found = bands([network], read_from(image), (48, 48), window=WINDOW, batch=batch)
    parts = [band.shares.clone() for band in found]
    torch.testing.assert_close(torch.cat(parts, 1), all_rows([network.network], image), atol=1e-6, rtol=0)
    assert network.tried[:4] == [8, 4, 2, 2] and max(network.tried[8:]) == 2 and batch.tiles == 2
    assert len(told) == 2 and "2 from now on, with the same result" in told[1]


def test_a_lack_of_memory_for_mirrored_copies_is_remembered_and_said_once():
    """Four copies of a tile do not fit, two do: so it is for the next image. The answer is the same."""
    network, told = Small(2, OUT_OF_MEMORY[1]), []
    batch, image = Batch(1, told.append), image_of(1, 16, 16)
    window = Window(**{**vars(WINDOW), "mirror_axes": (0, 1)})
    for _ in range(2):
        (found,) = bands([network], read_from(image), (16, 16), window=window, batch=batch)
    assert network.tried == [4, 2, 2, 2, 2]
    assert told == ["there is no memory for 4 tiles at once: 2 from now on, with the same result"]
    torch.testing.assert_close(found.shares, all_rows([network.network], image, mirror_axes=(0, 1)))


def test_fewer_tiles_are_read_where_there_is_no_memory_for_more():
    """They take memory on a GPU before a network sees them; three are too many there."""
    image, seen, told = image_of(1, 48, 48), [], []
    plain = read_from(image, seen)

    def read(ranges):
        if len(ranges) > 2:
            raise OUT_OF_MEMORY[1]
        return plain(ranges)

    batch, network = Batch(8, told.append), unet()
    parts = [band.shares.clone() for band in bands([network], read, (48, 48), window=WINDOW, batch=batch)]
    torch.testing.assert_close(torch.cat(parts, 1), all_rows([network], image), atol=1e-6, rtol=0)
    assert max(seen) == 2 and batch.tiles == 2 and len(told) == 2


def test_a_tile_that_does_not_fit_alone_is_an_error_of_its_own():
    """A smaller tile is then for the caller to choose."""
    with pytest.raises(TileTooLarge, match="CUDA out of memory"):
        list(
            bands([Small(0, OUT_OF_MEMORY[1])], read_from(image_of(1, 16, 16)), (16, 16), window=WINDOW, batch=Batch(1))
        )


def test_other_errors_of_a_network_are_not_taken_for_a_lack_of_memory():
    """They are faults, and are not tried again."""
    network = Small(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        list(bands([network], read_from(image_of(1, 16, 16)), (16, 16), window=WINDOW, batch=Batch(4)))
    assert network.tried == [1]


def test_maps_behind_the_classes_are_probabilities_of_their_own():
    """Three classes sum to one, two maps are sigmoids; tiles that agree give what the whole gives."""
    values = torch.tensor([1.0, 2.0, 0.5, -3.0, 4.0]).view(1, 5, 1, 1)

    def network(pieces):
        return pieces[:, :1] * values

    image = torch.linspace(-1, 1, 20 * 22).view(1, 20, 22)
    window = Window(tile=(12, 12), overlap=(4, 4), stride=(1, 1))

    def read(ranges):
        return torch.stack([image[(slice(None), *one)] for one in ranges])

    found = torch.cat(
        [band.shares.clone() for band in bands([network], read, (20, 22), window=window, batch=Batch(2), maps=2)], 1
    )
    logits = image * values[0]
    torch.testing.assert_close(found[:3], logits[:3].softmax(0))
    torch.testing.assert_close(found[3:], logits[3:].sigmoid())
