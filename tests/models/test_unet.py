"""Any size goes in, the same size comes out, and every pixel sees as far as the network says."""

import math

import numpy as np
import pytest
import torch

from uvea.errors import PlanError, ShapeError
from uvea.models import unet
from uvea.models.unet import UNet, recompute

KINDS = [
    {},
    {"norm": "instance"},
    {"norm": "group"},
    {"norm": "none", "activation": "leaky_relu"},
    {"block": "residual", "pooling": "strided"},
    {"block": "residual", "convs_per_level": 3, "upsampling": "transposed"},
    {"upsampling": "linear", "dropout": 0.2, "activation": "silu"},
    {"pooling": "strided", "convs_per_level": (1, 2, 3), "decoder_convs": 1},
]
SIGHTED = [
    {},
    {"kernels": (3, 5, 1)},
    {"strides": (3, 2), "upsampling": "linear"},
    {"upsampling": "linear"},
    {"upsampling": "transposed", "decoder_convs": 1},
    {"pooling": "strided", "strides": (4, 2)},
    {"pooling": "strided", "block": "residual", "convs_per_level": 3},
    {"pooling": "strided", "block": "residual", "kernels": (3, 1, 3), "strides": (2, 3)},
    {"channels": (2,)},
    {"channels": (2, 2), "convs_per_level": (2, 0)},
]


def make(dims=2, channels=(4, 6, 8), **settings):
    """A small seeded network from two channels to three classes."""
    torch.manual_seed(0)
    return UNet(in_channels=2, classes=3, dims=dims, channels=channels, **settings)


def batch(*shape, seed=0):
    """Seeded noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def positive(network):
    """The network without negative weights, so that nothing cancels and no activation is shut."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.abs_().add_(0.01)
    return network


@pytest.mark.parametrize("settings", KINDS, ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_computed_again_gives_the_same_gradients_and_statistics(dims, settings):
    """To the bit, and with fewer tensors kept between the passes."""

    def step(again):
        network = make(dims, deep_supervision=True, **settings)
        assert not again or (recompute(network) and not recompute(network))
        kept = []
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            cost = sum(piece.square().mean() for piece in network(batch(2, 2, *[16] * dims)))
        cost.backward()
        return [*(weight.grad for weight in network.parameters()), *network.buffers()], sum(kept)

    (kept_all, large), (kept_less, small) = step(False), step(True)
    assert all(torch.equal(a, b) for a, b in zip(kept_all, kept_less, strict=True)) and small < large


@pytest.mark.parametrize("settings", KINDS, ids=str)
@pytest.mark.parametrize(("dims", "sizes"), [(2, [1, 2, 7, 12]), (3, [1, 5])])
def test_a_training_step_works_for_every_kind_and_size(dims, sizes, settings):
    """A batch of one down to a single pixel: logits of the same size, finite gradients everywhere."""
    network = make(dims, **settings)
    for size in sizes:
        logits = network(batch(1, 2, *[size] * dims))
        assert logits.shape == (1, 3, *[size] * dims)
        network.zero_grad()
        logits.square().mean().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_every_size_from_1_to_40_comes_back():
    """Padding to whole strides and cropping leave no trace in the shape."""
    network = make(channels=(2, 2, 2, 2, 2)).eval()
    with torch.no_grad():
        for size in range(1, 41):
            assert network(batch(1, 2, size, 41 - size)).shape == (1, 3, size, 41 - size)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 9, 30), (5, 16, 3), (7, 7, 7)])
def test_odd_volumes_come_back_with_strides_and_kernels_per_axis(size):
    """An anisotropic network for thin slices takes any volume, too."""
    network = make(3, kernels=((1, 3, 3), (1, 3, 3), 3), strides=((1, 2, 2), (2, 2, 2))).eval()
    assert network.total_stride == (2, 4, 4)
    assert network.encoder[0].conv1.weight.shape == (4, 2, 1, 3, 3)
    assert network(batch(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("settings", SIGHTED, ids=str)
def test_a_pixel_sees_exactly_as_far_as_the_receptive_field(settings, monkeypatch):
    """Measured by gradient over all phases of a pooling cell.

    Weights are positive, so that nothing cancels, and pools average, because the gradient of a maximum
    reaches only the pixel that happens to be largest.
    """
    monkeypatch.setattr(unet, "_POOL", unet._AVERAGE)
    network = positive(UNet(**{"in_channels": 1, "classes": 1, "channels": (2, 2, 2), "norm": "none", **settings}))
    stride = max(network.total_stride)
    (radius, _) = network.receptive_field
    center = math.ceil((radius + 1) / stride) * stride
    image = batch(1, 1, 2 * center + stride, 1).expand(-1, -1, -1, stride).abs().requires_grad_()
    logits = network(image)
    seen = 0
    for pixel in range(center, center + stride):
        (gradient,) = torch.autograd.grad(logits[0, 0, pixel, 0], image, retain_graph=True)
        rows = gradient[0, 0].sum(1).nonzero()[:, 0]
        seen = max(seen, pixel - int(rows.min()), int(rows.max()) - pixel)
    assert seen == radius


def test_the_receptive_field_of_max_pooling_by_hand():
    """Two levels with one convolution each.

    Output pixel 0 needs decoder inputs -1 to 1, that is cells -1 to 0 below, after the convolution -2 to 1,
    pixels -4 to 3, and after the top convolution -5 to 4.
    """
    network = UNet(in_channels=1, classes=1, channels=(2, 2), convs_per_level=1, norm="none")
    assert network.receptive_field == (5, 5)


def test_anisotropic_kernels_see_less_along_z():
    """Without kernels or strides along z a slice is alone."""
    network = make(3, kernels=[(1, 3, 3)] * 3, strides=[(1, 2, 2)] * 2)
    assert network.receptive_field == (0, *make(2).receptive_field)


@pytest.mark.parametrize("pooling", ["max", "strided"])
def test_shifting_by_the_total_stride_shifts_the_logits(pooling):
    """Where neither picture shows its border, the logits are the same."""
    network = make(channels=(4, 4, 4), pooling=pooling).eval()
    (stride, _), (radius, _) = network.total_stride, network.receptive_field
    scene = batch(1, 2, 2 * radius + 4 * stride, 2 * radius + 4 * stride)
    with torch.no_grad():
        whole, moved = network(scene), network(scene[..., stride:, stride:])
    inside = slice(radius, 2 * stride + radius)
    shifted = slice(radius + stride, 3 * stride + radius)
    torch.testing.assert_close(moved[..., inside, inside], whole[..., shifted, shifted], atol=1e-5, rtol=0)


def test_deep_supervision_gives_each_decoder_level_in_training_only():
    """Finest first, each half the size of the one before, rounded up; one tensor for prediction."""
    network = make(channels=(4, 4, 4, 4), deep_supervision=True)
    shapes = [tuple(piece.shape) for piece in network(batch(2, 2, 13, 20))]
    assert shapes == [(2, 3, 13, 20), (2, 3, 7, 10), (2, 3, 4, 5)]
    assert network.eval()(batch(2, 2, 13, 20)).shape == (2, 3, 13, 20)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_unpadded_networks_give_the_size_they_announce(dims, block):
    """`output_shape` and the network agree on every size, and on which sizes do not work."""
    network = make(dims, channels=(2, 2), padding="valid", block=block).eval()
    works = []
    for size in range(1, 30):
        shape = (size, *[20] * (dims - 1))
        try:
            announced = network.output_shape(shape)
        except ShapeError:
            continue
        works.append(size)
        with torch.no_grad():
            assert network(batch(1, 2, *shape)).shape[2:] == announced
    # Even sizes; 14 - 4 = 10, 5 - 4 = 1, 2 - 4 is too little; from 18 on 2 are left: (18 - 4) / 2 - 4 = 3, 6 - 4.
    assert works == [18, 20, 22, 24, 26, 28]


def test_unpadded_logits_are_the_middle_of_padded_ones():
    """Same weights, same phase: without padding only the border is missing."""
    settings = {"channels": (4, 4), "norm": "none"}
    padded, unpadded = make(**settings), make(**settings, padding="valid")
    unpadded.load_state_dict(padded.state_dict())
    image = batch(1, 2, 40, 40)
    with torch.no_grad():
        full, inner = padded(image), unpadded(image)
    assert inner.shape[2:] == (24, 24)
    torch.testing.assert_close(inner, full[..., 8:32, 8:32], atol=1e-5, rtol=0)


def test_an_unpadded_size_that_does_not_work_is_refused_with_those_that_do():
    """The hint has the nearest larger size and the one after, per axis."""
    network = make(channels=(2, 2), padding="valid")
    with pytest.raises(ShapeError, match=r"19×20 does not fit.*\n.*use 20×20 \(next: 22×22\)"):
        network(batch(1, 2, 19, 20))


def test_one_level_is_a_plain_stack_of_convolutions():
    """Nothing to pool, nothing to join."""
    network = make(channels=(4,))
    assert network.total_stride == (1, 1)
    assert network(batch(1, 2, 5, 6)).shape == (1, 3, 5, 6)


@pytest.mark.parametrize(("channels", "groups"), [(32, 8), (12, 6), (8, 4), (7, 1), (2, 1)])
def test_groups_divide_the_channels_and_hold_two_at_least(channels, groups):
    """Otherwise a 1x1 grid would have a single value per group."""
    assert make(channels=(channels,), norm="group").encoder[0].norm1.num_groups == groups


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_only_convolutions_without_a_norm_have_a_bias(norm):
    """A norm takes a constant away again."""
    names = make(norm=norm).state_dict().keys()
    assert ("encoder.0.conv1.bias" in names) == (norm == "none")
    assert {"encoder.2.conv2.weight", "upsamplers.0.conv.weight", "decoder.1.conv1.weight", "heads.0.bias"} <= names


def test_the_first_guess_is_undecided():
    """Small last weights: on average, no class starts with a probability far from its share."""
    with torch.no_grad():
        chances = make(channels=(16, 32))(batch(2, 2, 32, 32)).softmax(1)
    assert (chances - 1 / 3).abs().mean() < 0.1


def test_a_batch_of_one_pixel_leaves_running_statistics_alone():
    """One value has no spread; in training mode torch would refuse it."""
    network = make()
    network(batch(1, 2, 1, 1))
    bottom = network.encoder[2].norm1
    assert bottom.running_mean.abs().sum() == 0
    network(batch(2, 2, 1, 1))
    assert bottom.running_mean.abs().sum() > 0


def relative_error(found, right):
    """Distance as a share of the length of what is right."""
    return float((found - right).norm() / right.norm().clamp_min(1e-12))


@pytest.mark.parametrize(("kernels", "size"), [((3, 3), (4, 16, 16)), ((5, 5), (6, 16, 16)), ((3, 3), (2, 16, 16))])
def test_bfloat16_gradients_are_right_on_grids_smaller_than_the_kernel(kernels, size):
    """At the bottom, 2 or 3 deep, torch 2.13's own weight gradients are off by 60 % and more."""
    network = make(3, channels=(8, 8), kernels=kernels, norm="none").to(memory_format=torch.channels_last_3d)
    image = batch(2, 2, *size).contiguous(memory_format=torch.channels_last_3d)

    def gradients(enabled):
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = network(image)
        (logits.float() - 1).square().sum().backward()
        return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.ndim > 1}

    right, found = gradients(False), gradients(True)
    assert max(relative_error(found[name], right[name]) for name in right) < 0.1


def test_channels_last_changes_nothing():
    """Memory layout is a matter of speed."""
    network = make().eval()
    image = batch(2, 2, 20, 24)
    with torch.no_grad():
        plain = network(image)
        network.to(memory_format=torch.channels_last)
        last = network(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dims": 4}, "4 dimensions"),
        ({"classes": 0}, "classes is 0"),
        ({"in_channels": 1.5}, "in_channels is 1.5"),
        ({"channels": ()}, r"channels is \(\)"),
        ({"channels": (8, -1)}, r"channels is \(8, -1\)"),
        ({"strides": (2,)}, "strides has 1 entries where 3 levels need 2"),
        ({"strides": 2}, "strides has one number"),
        ({"strides": ((1, 2, 2), 2)}, r"strides has the entry \(1, 2, 2\) in a network of 2"),
        ({"kernels": (3, 2, 3)}, r"even size \(2, 2\)"),
        ({"kernels": (3, 0, 3)}, "entry 0"),
        ({"channels": 8}, "channels is 8"),
        ({"dims": 2.0}, "2.0 dimensions"),
        ({"strides": [2.0, 2.0]}, "strides has the entry 2.0"),
        ({"convs_per_level": True}, "convs_per_level is True"),
        ({"convs_per_level": 2.0}, "convs_per_level is 2.0"),
        ({"dropout": "0.5"}, "dropout is '0.5'"),
        ({"convs_per_level": 0}, "convs_per_level is 0"),
        ({"decoder_convs": (1, 1, 1)}, r"decoder_convs is \(1, 1, 1\)"),
        ({"norm": "layer"}, "norm is 'layer'"),
        ({"activation": "sine"}, "activation is 'sine'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"padding": "valid", "pooling": "strided"}, "line up"),
    ],
)
def test_nonsense_is_refused_with_the_value(settings, words):
    """Each message names the setting and what was given."""
    with pytest.raises(PlanError, match=words):
        UNet(**{"in_channels": 1, "classes": 2, "channels": (4, 4, 4), **settings})


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 8, 8), (1, 2, 8, 8, 8), (1, 2, 0, 8)])
def test_other_tensors_are_refused(shape):
    """Wrong channels, no batch axis, a volume, nothing at all."""
    with pytest.raises(ShapeError, match="×".join(map(str, shape))):
        make()(torch.zeros(shape))


@pytest.mark.parametrize("settings", [{}, {"block": "residual", "pooling": "strided"}])
def test_it_learns(settings):
    """Forty steps on one picture of a disc: the loss falls to a quarter."""
    y, x = np.mgrid[:24, :24]
    truth = torch.from_numpy(((y - 11) ** 2 + (x - 13) ** 2 < 49).astype(np.float32))[None, None]
    image = truth + 0.5 * batch(1, 1, 24, 24)
    torch.manual_seed(0)
    network = UNet(in_channels=1, classes=1, channels=(16, 16, 16), **settings)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(image), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize(
    "settings", [{"pooling": "strided"}, {"block": "residual"}, {"channels": (2, 3)}, {"channels": (2,)}]
)
def test_a_lowest_level_without_convolutions_only_pools(settings):
    """It can neither make the step, nor add a shortcut, nor change the number of channels."""
    levels = len(settings.get("channels", (2, 2)))
    with pytest.raises(PlanError, match="convs_per_level"):
        UNet(in_channels=1, classes=1, **{"channels": (2, 2), "convs_per_level": (2, 0)[-levels:], **settings})


def test_whole_numbers_of_numpy_are_whole_numbers():
    """As they come out of a table or an array; the network has Python's."""
    two = np.uint8(2)
    network = UNet(
        in_channels=two, classes=two, dims=two, channels=np.array([4, 4]), strides=[two], convs_per_level=two
    )
    assert network.channels == (4, 4) and network.strides == ((2, 2),)
    assert all(type(n) is int for n in (network.classes, network.dims, *network.channels, *network.strides[0]))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(8, 8, 8), (-1, 8), (8.0, 8.0), 8])
def test_what_is_no_size_of_an_image_has_no_output_shape(shape, padding):
    """A volume for a network of images, negative, not whole, one number."""
    with pytest.raises(ShapeError, match="no size of an image for a 2D network\n.*order yx"):
        make(padding=padding).output_shape(shape)
