"""From an image as read to probabilities on its own grid."""

import contextlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from uvea.arrays.labels import LabelMap
from uvea.arrays.normalize import Normalization
from uvea.errors import ImageError, ShapeError
from uvea.images.image import Image
from uvea.inference.segment import (
    Engine,
    Fit,
    _places,
    _spread,
    classify_prepared,
    segment,
    segment_prepared,
    segment_source,
    to_grid,
)
from uvea.inference.sliding_window import labels_of
from uvea.inference.source import Source, source_of
from uvea.models.settle import settler
from uvea.models.unet import UNet
from uvea.plan.fingerprint import Fingerprint
from uvea.plan.plan import Plan

ENGINE = Engine(device=torch.device("cpu"), channels_last=False)


def plan_for(**changes):
    """What prediction reads of a plan: one gray channel as it is, no resampling, tiles of 8 with 2 shared."""
    dims = changes.get("dims", 2)
    settings = {
        "dims": dims,
        "channels": 1,
        "colour": False,
        "spacing": None,
        "unit": "px",
        "normalization": (Normalization(kind="none"),) * changes.get("channels", 1),
        "tile": (8,) * dims,
        "overlap": (2,) * dims,
        "strides": (),
        "norm": "batch",
        "mirror_axes": (),
        "fingerprint": Fingerprint.unmeasured(channels=1, shape=(8, 8)),
    }
    return Plan.model_construct(**{**settings, **changes})


def image_of(array, **geometry):
    """An image around (c, y, x) or (c, z, y, x)."""
    return Image(array=array, **{"axes": "yx" if array.ndim == 3 else "zyx", **geometry})


class Brightness(nn.Module):
    """Class 1 has the logit of `factor` times the first channel, class 0 that of 0."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor
        self.seen = []

    def forward(self, pieces):
        """Logits, and the shapes that were asked for."""
        self.seen.append(tuple(pieces.shape))
        return torch.cat((torch.zeros_like(pieces[:, :1]), self.factor * pieces[:, :1]), 1)


@pytest.mark.parametrize("shape", [(10, 11), (17, 7)])
def test_classes_are_the_most_probable_ones_on_the_grid_that_is_asked_for(rng, shape):
    """Slice by slice, in tiles, also where they are resized."""
    volume, network = rng.normal(size=(1, 3, 10, 11)).astype(np.float32), [Brightness()]
    found = classify_prepared(network, volume, plan_for(labels=LABELS), shape=(3, *shape), engine=ENGINE)
    wanted = [
        to_grid(segment_prepared(network, part, plan_for(labels=LABELS), engine=ENGINE), shape)
        for part in volume[0][:, None]
    ]
    assert found.dtype == np.int16 and set(np.unique(found)) == {0, 1}
    np.testing.assert_array_equal(found, [labels_of(probabilities) for probabilities in wanted])


def test_no_memory_beside_the_networks_is_an_error_of_that_image(monkeypatch):
    """As where a tile does not fit: other images can still be predicted."""

    def add(*given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr("uvea.inference.sliding_window._Blend.add", add)
    with pytest.raises(MemoryError, match="20.00 MiB"):
        segment([Brightness()], image_of(np.zeros((1, 20, 20), np.float32)), plan_for(), engine=ENGINE)


@pytest.mark.parametrize("axes", ["zyx", "tyx"])
def test_a_volume_goes_slice_by_slice_under_a_2d_plan(rng, axes):
    """Each slice gets what it would get as an image of its own; so do the frames of a series."""
    volume = rng.normal(size=(1, 3, 10, 11)).astype(np.float32)
    network = Brightness()
    found = segment([network], image_of(volume, axes=axes), plan_for(), engine=ENGINE)
    assert found.shape == (2, 3, 10, 11) and found.dtype == torch.float32
    assert {len(shape) for shape in network.seen} == {4}
    for index in range(3):
        alone = segment([network], image_of(volume[:, index]), plan_for(), engine=ENGINE)
        torch.testing.assert_close(found[:, index], alone)


def test_the_mean_of_two_networks_by_hand():
    """Foreground 3/4 and 1/4 make 1/2, where the mean of the logits would too; 3/4 and 1/2 make 5/8, where not."""
    image = image_of(np.full((1, 2, 2), np.log(3), np.float32))
    for factors, expected in (((1, -1), 0.5), ((1, 0), 0.625), ((1,), 0.75)):
        found = segment([Brightness(f) for f in factors], image, plan_for(), engine=ENGINE)
        assert found[1].ravel().tolist() == pytest.approx([expected] * 4)


def test_an_image_of_another_spacing_comes_back_on_its_own_grid():
    """Pixels of 0.5 where the plan has 1: the network sees half the size, the answer has the whole."""
    array = np.zeros((1, 12, 20), np.float32)
    array[:, :, 10:] = 8
    network = Brightness()
    plan = plan_for(spacing=(1.0, 1.0), unit="mm", tile=(16, 16))
    found = segment([network], image_of(array, spacing=(0.5, 0.5), unit="mm"), plan, engine=ENGINE)
    assert network.seen == [(1, 1, 6, 10)]
    assert found.shape == (2, 12, 20)
    assert found[1, :, :9].max() < 0.6 and found[1, :, 11:].min() > 0.9
    torch.testing.assert_close(found.sum(0), torch.ones(12, 20))


def test_an_image_without_a_physical_size_is_left_as_it_is():
    """Its pixels are taken for those of the training."""
    network = Brightness()
    plan = plan_for(spacing=(4.0, 4.0), unit="mm", tile=(16, 16))
    assert segment([network], image_of(np.zeros((1, 9, 9), np.float32)), plan, engine=ENGINE).shape == (2, 9, 9)
    assert network.seen == [(1, 1, 9, 9)]


def test_a_volume_of_anisotropic_slices_keeps_their_number_under_a_2d_plan():
    """Resampled within the slices only."""
    image = image_of(np.zeros((1, 5, 8, 8), np.float32), spacing=(7.0, 0.5, 1.0), unit="mm")
    network = Brightness()
    found = segment([network], image, plan_for(spacing=(1.0, 1.0), unit="mm"), engine=ENGINE)
    assert network.seen == [(5, 1, 4, 8)]
    assert found.shape == (2, 5, 8, 8)


def test_mirroring_uses_the_axes_of_the_plan():
    """And only when it is asked for."""
    network = Brightness()
    plan = plan_for(mirror_axes=(1,))
    image = image_of(np.zeros((1, 4, 4), np.float32))
    segment([network], image, plan, engine=ENGINE)
    segment([network], image, plan, engine=ENGINE, mirror=True)
    assert network.seen == [(1, 1, 4, 4), (2, 1, 4, 4)]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", ">u2", "uint32", "uint64", "float16", "float64", ">f4"])
def test_every_type_of_pixel_is_taken(dtype):
    """Also those torch does not know."""
    found = segment([Brightness()], image_of(np.ones((1, 3, 3), dtype)), plan_for(), engine=ENGINE)
    torch.testing.assert_close(found[1], torch.full((3, 3), 1 / (1 + np.exp(-1))), check_dtype=False)


def test_a_mirrored_view_of_an_array_is_taken():
    """Torch knows no negative strides."""
    array = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    found = segment([Brightness()], image_of(array[:, ::-1, ::-1]), plan_for(), engine=ENGINE)
    torch.testing.assert_close(found.flip((1, 2)), segment([Brightness()], image_of(array), plan_for(), engine=ENGINE))


def test_channels_last_gives_the_same():
    """The layout is the machine's business."""
    torch.manual_seed(0)
    network = nn.Conv2d(1, 3, 3, padding=1)
    image = image_of(np.ones((1, 9, 9), np.float32))
    other = Engine(device=torch.device("cpu"), channels_last=True)
    torch.testing.assert_close(
        segment([network], image, plan_for(), engine=ENGINE), segment([network], image, plan_for(), engine=other)
    )


def test_a_gray_image_is_repeated_for_a_colour_model():
    """Three equal channels."""
    network = Brightness()
    segment([network], image_of(np.zeros((1, 4, 4), np.uint8)), plan_for(channels=3, colour=True), engine=ENGINE)
    assert network.seen == [(1, 3, 4, 4)]


@pytest.mark.parametrize(
    ("shape", "settings", "error", "words"),
    [
        ((2, 4, 4), {}, ShapeError, r"slide.tif has 2 channel\(s\), the model was trained on 1"),
        ((1, 4, 4), {"dims": 3}, ShapeError, r"slide.tif has axes yx \(4×4\), the model works on volumes"),
    ],
)
def test_an_image_that_does_not_fit_is_named(shape, settings, error, words):
    """With both sides of the disagreement."""
    with pytest.raises(error, match=words):
        segment(
            [Brightness()], image_of(np.zeros(shape, np.uint8)), plan_for(**settings), engine=ENGINE, where="slide.tif"
        )


def test_pixels_that_are_no_numbers_are_counted():
    """One of them would spread over the whole answer."""
    array = np.zeros((1, 4, 4), np.float32)
    array[0, 0, :2] = np.nan, np.inf
    with pytest.raises(ImageError, match="slide.tif has 2 pixels that are NaN or infinite"):
        segment([Brightness()], image_of(array), plan_for(), engine=ENGINE, where="slide.tif")


def test_probabilities_are_resized_with_their_edges_in_place():
    """Two pixels to four, by hand: edges keep their value, between them a quarter and three quarters."""
    found = to_grid(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), (1, 4))
    torch.testing.assert_close(found[0], torch.tensor([[0.0, 0.25, 0.75, 1.0]]))
    torch.testing.assert_close(found.sum(0), torch.ones(1, 4))
    assert to_grid(torch.ones(2, 2, 3, 4), (4, 3, 2)).shape == (2, 4, 3, 2)


def test_a_prepared_image_is_not_changed(rng):
    """It stays in the cache for the next validation."""
    prepared = rng.normal(size=(1, 9, 9)).astype(np.float32)
    before = prepared.copy()
    prepared.setflags(write=True)
    segment_prepared([Brightness()], prepared, plan_for(mirror_axes=(0, 1)), engine=ENGINE, mirror=True)
    np.testing.assert_array_equal(prepared, before)


def masks_of(networks, image, plan, **settings):
    """Mask and probabilities of one pass."""
    source = source_of(image, plan, where="a")
    return segment_source(networks, source, plan, shape=image.shape, engine=ENGINE, probabilities=True, **settings)


LABELS = LabelMap(kind="values", values=(0, 70))


@pytest.mark.parametrize("spacing", [None, (1.0, 0.5, 0.5)])
def test_what_is_found_in_a_volume_lies_as_its_file_does(rng, spacing):
    """A network that sees where the head is finds the same whichever way a volume is stored; in 3D, and resampled."""
    seen = Fingerprint.unmeasured(channels=1, shape=(8, 8)).model_copy(update={"orientation": "RAS"})
    plan = plan_for(dims=3, spacing=spacing, unit="mm", fingerprint=seen, labels=LABELS)
    straight = Image(
        array=rng.normal(size=(1, 5, 6, 7)).astype(np.float32), axes="zyx", spacing=(2.0, 1.0, 1.0), unit="mm",
        direction=((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)), oriented=True,
    )  # fmt: skip
    # Columns first, from the right.
    turned = replace(
        straight, array=np.flip(np.transpose(straight.array, (0, 3, 1, 2)), 1), spacing=(1.0, 2.0, 1.0),
        direction=((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)),
    )  # fmt: skip

    def downwards(pieces):
        return torch.cat((torch.zeros_like(pieces), pieces - torch.roll(pieces, 1, dims=2)), 1)

    wanted = segment([downwards], straight, plan, engine=ENGINE).numpy()
    found = segment([downwards], turned, plan, engine=ENGINE).numpy()
    assert found.shape == (2, 7, 5, 6)
    assert np.array_equal(np.transpose(np.flip(found, 1), (0, 2, 3, 1)), wanted)
    source = source_of(turned, plan, where="a")
    both = segment_source([downwards], source, plan, shape=turned.shape, engine=ENGINE, classes=True)
    assert np.array_equal(np.transpose(np.flip(both.mask, 1), (0, 2, 3, 1))[0] > 0, wanted[1] > 0.5)
    assert both.classes.shape == turned.shape


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0), (0.4, 0.7)])
@pytest.mark.parametrize("shape", [(1, 30, 21), (1, 4, 19, 13)])
def test_a_mask_is_the_most_probable_class_of_the_probabilities(rng, shape, spacing):
    """Image and slices, on the plan's grid and on a finer and a coarser one: both are made in bands."""
    image = image_of(rng.normal(size=shape).astype(np.float32), spacing=(1.0,) * (len(shape) - 1), unit="mm")
    plan = plan_for(spacing=spacing, unit="mm", labels=LABELS)
    found = masks_of([Brightness(3)], image, plan)
    assert found.mask.shape == shape and found.mask.dtype == np.uint8
    assert found.probabilities.shape == (2, *shape[1:])
    np.testing.assert_array_equal(found.mask[0], 70 * labels_of(torch.from_numpy(found.probabilities)))
    assert 0.2 < (found.mask == 70).mean() < 0.8


def test_bands_on_another_grid_are_what_the_whole_would_be(rng):
    """Probabilities are resized by torch, linearly, as if all of them were there at once."""
    for shape, dims in (((1, 40, 31), 2), ((1, 14, 20, 18), 3), ((1, 3, 20, 18), 2)):
        image = image_of(rng.normal(size=shape).astype(np.float32), spacing=(1.0,) * (len(shape) - 1), unit="mm")
        plan = plan_for(dims=dims, spacing=(0.6,) * dims, unit="mm")
        coarse = segment_prepared([Brightness()], source_of(image, plan, where="a").array, plan, engine=ENGINE)
        assert coarse.shape[-1] > shape[-1]
        found = segment([Brightness()], image, plan, engine=ENGINE)
        torch.testing.assert_close(found, to_grid(coarse, image.shape), atol=1e-5, rtol=0)


def test_colours_and_ignored_values_are_decoded_in_bands(rng):
    """Three channels in the mask."""
    plan = plan_for(labels=LabelMap(kind="colours", colours=((0, 0, 0), (9, 8, 7))))
    found = masks_of([Brightness()], image_of(rng.normal(size=(1, 20, 20)).astype(np.float32)), plan)
    assert {tuple(colour) for colour in found.mask.reshape(3, -1).T.tolist()} == {(0, 0, 0), (9, 8, 7)}


class Narrow(Brightness):
    """As `Brightness`, for tiles of at most `most` pixels."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def forward(self, pieces):
        """Logits, or the error of torch."""
        if pieces.numel() > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return super().forward(pieces)


def test_a_tile_that_does_not_fit_is_halved_for_all_images_and_it_is_said(rng):
    """8×8, then 8×4 (or 4×8), then 4×4 fit; the next image starts there. A network that sees one pixel agrees."""
    engine, told = Engine(device=torch.device("cpu"), channels_last=False), []
    image, plan = image_of(rng.normal(size=(1, 30, 30)).astype(np.float32)), plan_for(labels=LABELS)
    network = Narrow(16)
    for _ in range(2):
        source = source_of(image, plan, where="a")
        found = segment_source(
            [network], source, plan, shape=image.shape, engine=engine, probabilities=True, tell=told.append
        )
        expected = segment([Brightness()], image, plan, engine=ENGINE)
        np.testing.assert_allclose(found.probabilities, expected.numpy(), atol=1e-6)
    assert engine.fit.tile == (4, 4)
    assert [text for text in told if "its size goes from" in text][-1].endswith(
        "results differ a little at tile borders"
    )
    assert sum("its size goes from" in text for text in told) == 2
    for _ in range(2):
        segment_source([network], source, plan, shape=image.shape, engine=(engine := engine.anew()), tell=told.append)
    assert [text.split(" from ")[1].split(";")[0] for text in told if "goes from" in text][2:] == ["8×8 to 4×4"] * 2


def test_no_memory_for_the_smallest_tile_is_an_error_in_the_end():
    """One pixel is the least."""
    with pytest.raises(MemoryError, match="DefaultCPUAllocator"):
        segment(
            [Narrow(0)],
            image_of(np.zeros((1, 9, 9), np.uint8)),
            plan_for(),
            engine=Engine(device=torch.device("cpu"), channels_last=False),
        )


# --- networks whose norms look at what they are given


ADAPTIVE = Engine(
    device=torch.device("cpu"), channels_last=False, settler=partial(settler, autocast=contextlib.nullcontext)
)


def adaptive_plan(**changes):
    """Patches of 16², tiles of 32² that share 16, no stride but the network's."""
    settings = {"patch": (16, 16), "tile": (32, 32), "overlap": (16, 16), "strides": ((2, 2),), "graph": None}
    return plan_for(**{**settings, "labels": LABELS, **changes})


def adaptive_network(**changes):
    """Two levels with instance norm, in evaluation mode."""
    torch.manual_seed(0)
    return UNet(**{"in_channels": 1, "classes": 2, "channels": (4, 6), "convs_per_level": 1, **changes}).eval()


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_tiles_of_any_size_give_what_the_whole_image_gives(rng, norm):
    """Bright on one side, dark on the other, so that each tile by itself would be normalised otherwise."""
    pixels = rng.normal(size=(1, 90, 100)) + np.linspace(0, 9, 100)
    network, image = adaptive_network(norm=norm), image_of(pixels.astype(np.float32))
    # What tiles share is four times as wide as what a pixel sees: the outer quarter counts nothing.
    plans = {size: adaptive_plan(tile=(size, size), overlap=(32, 32)) for size in (40, 64, 128)}
    found = {size: segment([network], image, plan, engine=ADAPTIVE) for size, plan in plans.items()}
    for size in (40, 64):
        torch.testing.assert_close(found[size], found[128], atol=1e-5, rtol=0)
    alone = segment([network], image, plans[40], engine=ENGINE)
    assert (alone - found[128]).abs().max() > 0.01


def test_a_small_image_is_seen_whole_whatever_the_tile(rng):
    """Four patches or less: what the network gives for all of it at once."""
    network, pixels = adaptive_network(norm="instance"), rng.normal(size=(1, 20, 50)).astype(np.float32)
    found = segment([network], image_of(pixels), adaptive_plan(tile=(8, 8)), engine=ADAPTIVE)
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)[None]).softmax(1)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_slices_are_images_of_their_own(rng):
    """One is much brighter: the others do not notice, with one tile or several."""
    network = adaptive_network(norm="instance")
    for size in (24, 80):
        stack = rng.normal(size=(1, 3, size, size)).astype(np.float32)
        stack[:, 1] *= 20
        found = segment([network], image_of(stack, axes="zyx"), adaptive_plan(), engine=ADAPTIVE)
        for index in range(3):
            alone = segment([network], image_of(stack[:, index]), adaptive_plan(), engine=ADAPTIVE)
            torch.testing.assert_close(found[:, index], alone, atol=1e-5, rtol=0)


def test_without_memory_to_look_at_an_image_fewer_patches_are_looked_at(rng):
    """It is said; and where not even one fits, the error is that of a tile."""
    network, told, most = adaptive_network(norm="instance"), [], [2]

    def greedy(network, settle=ADAPTIVE.settler):
        real = settle(network)

        def settle_some(batches):
            batches = list(batches)
            if max(map(len, batches)) > most[0]:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return real(batches)

        return settle_some

    engine = replace(ADAPTIVE, settler=greedy, fit=Fit(), said=set())
    image, plan = image_of(rng.normal(size=(1, 90, 100)).astype(np.float32)), adaptive_plan()
    source = source_of(image, plan, where="a")
    segment_source([network], source, plan, shape=image.shape, engine=engine, tell=told.append)
    assert [text.split("look at an image: ")[1].split()[0] for text in told] == ["4", "2"]
    segment_source([network], source, plan, shape=image.shape, engine=engine, tell=told.append)
    assert len(told) == 2  # remembered
    most[0], fit = 0, Fit()
    with pytest.raises(MemoryError):
        segment([network], image, plan, engine=replace(engine, fit=fit, said=set()))
    assert fit.tile is None  # the next image may be smaller


def spread(array, size, *, together=8):
    """The patches that an image (...) is judged by, batch by batch."""
    source = Source(array[None], array.ndim)
    return list(_spread(source, size, torch.contiguous_format, torch.device("cpu"), together=together))


def test_patches_are_spread_over_the_whole_image():
    """Eight at least, a sixteenth of the image, 64 at most; each batch takes them from all over it."""
    for shape, patches, batches in (((100, 100), 9, 2), ((300, 400), 30, 4), ((16, 400), 8, 1), ((900, 900), 64, 8)):
        found = spread(np.zeros(shape, np.float32), (16, 16))
        assert (sum(map(len, found)), len(found)) == (patches, batches), shape
        assert all(one.shape[1:] == (1, 16, 16) for one in found)


@pytest.mark.parametrize(
    ("shape", "size"), [((130, 512, 512), (80, 160, 160)), ((60, 500), (26, 26)), ((40, 9), (4, 8))]
)
def test_the_middle_of_an_image_counts_as_much_as_its_edges(shape, size):
    """Each patch lies in the middle of a share: where it is, the mean over patches is that of the image."""
    for wanted in (1, 8, 30):
        places = _places(shape, size, wanted)
        for axis, (n, s) in enumerate(zip(shape, size, strict=True)):
            middle = np.mean([(place[axis].start + place[axis].stop) / 2 for place in places])
            assert middle == pytest.approx(n / 2, abs=1)
            assert all(place[axis].start >= 0 and place[axis].stop == place[axis].start + s <= n for place in places)


@pytest.mark.parametrize(("shape", "size"), [((64, 200, 200), (32, 64, 64)), ((200, 560), (128, 128))])
def test_a_mirror_image_is_judged_alike(rng, shape, size):
    """Wherever an image is bright, its mirror image has the same patches, mirrored."""
    image = rng.normal(size=shape).astype(np.float32) + np.linspace(0, 10, shape[-1], dtype=np.float32)
    means = [torch.cat(spread(one, size)).mean().item() for one in (image, image[..., ::-1].copy())]
    assert means[0] == pytest.approx(means[1], abs=1e-3)


def test_what_is_rare_in_an_image_is_looked_at():
    """One bright corner in a dark slide of 1,024 patches, of which 64 are looked at."""
    slide = np.zeros((512, 512), np.float32)
    slide[40:52, 470:490] = np.indices((12, 20)).sum(0) % 2
    assert any(patch.std() > 0 for batch in spread(slide, (16, 16)) for patch in batch)


def test_an_image_that_there_is_no_memory_for_is_judged_by_patches(rng):
    """By an estimate, before the system would end the process; it is said once."""
    network, told = adaptive_network(norm="instance"), []
    pixels = rng.normal(size=(1, 30, 32)).astype(np.float32)
    sizes = {"width": (4, 6), "kernels": ((3, 3), (3, 3)), "convs": 1, "block": "plain"}
    plan = adaptive_plan(tile=(16, 16), overlap=(8, 8), **sizes)
    # Half of it may be taken; one patch needs 47,824.
    engine = replace(ADAPTIVE, memory=2 * 150_000, fit=Fit(), said=set())
    for _ in range(2):
        source = source_of(image_of(pixels), plan, where="a")
        segment_source([network], source, plan, shape=(30, 32), engine=engine, tell=told.append)
    assert told == [
        "there is no memory for 30×32 at once: tiles are 16×16",
        "there is no memory to look at an image: 3 of its patches at once; results differ a little",
    ]
    engine = replace(engine, memory=2 * 200_000, fit=Fit(), said=set())
    segment_source([network], source, plan, shape=(30, 32), engine=engine, tell=told.append)
    assert len(told) == 2


def test_a_lack_of_memory_for_mirrored_copies_is_said_once_for_all_images(rng):
    """Two tiles with four copies each are eight; there is memory for two."""
    engine, told, sizes = Engine(device=torch.device("cpu"), channels_last=False), [], []
    plan = plan_for(labels=LABELS, mirror_axes=(0, 1))

    def network(pieces):
        sizes.append(len(pieces))
        if len(pieces) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return torch.cat((-pieces, pieces), 1)

    for _ in range(2):
        source = source_of(image_of(rng.normal(size=(1, 8, 14)).astype(np.float32)), plan, where="a")
        segment_source([network], source, plan, shape=(8, 14), engine=engine, mirror=True, tell=told.append)
    assert sizes == [8, 4, *[2] * 8]
    assert len(told) == 2 and "2 from now on, with the same result" in told[1]


def test_it_is_said_once_that_mirroring_does_nothing(rng):
    """For a model whose plan has axes to mirror along, nothing is said."""
    for axes, count in (((), 1), ((1,), 0)):
        engine, told = replace(ENGINE, fit=Fit(), said=set()), []
        plan = plan_for(labels=LABELS, mirror_axes=axes)
        for _ in range(2):
            source = source_of(image_of(rng.normal(size=(1, 8, 8)).astype(np.float32)), plan, where="a")
            segment_source([Brightness()], source, plan, shape=(8, 8), engine=engine, mirror=True, tell=told.append)
        assert len([text for text in told if "mirror_axes" in text]) == count == len(told)


def test_what_is_free_on_a_gpu_is_asked_for_at_each_image(rng):
    """Of 2 × 150,000 bytes half may be taken, see above; the memory of the processor does not count then."""
    plan = adaptive_plan(tile=(16, 16), overlap=(8, 8), width=(4, 6), kernels=((3, 3), (3, 3)), convs=1, block="plain")
    pixels, told, free = rng.normal(size=(1, 30, 32)).astype(np.float32), [], [2 * 200_000, 2 * 150_000]
    engine = replace(ADAPTIVE, memory=1, free=lambda: free[0], fit=Fit(), said=set())
    for count in (0, 2):
        source = source_of(image_of(pixels), plan, where="a")
        segment_source(
            [adaptive_network(norm="instance")], source, plan, shape=(30, 32), engine=engine, tell=told.append
        )
        assert len(told) == count
        free.pop(0)
