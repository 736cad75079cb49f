"""A network that was settled on an image treats all of its tiles as parts of that image."""

from contextlib import nullcontext

import pytest
import torch

from uvea.models.norm import InstanceNorm
from uvea.models.settle import _Measuring, settler
from uvea.models.unet import UNet


def network_with(**settings):
    """A network whose norms are far from their start, in evaluation mode."""
    torch.manual_seed(0)
    network = UNet(**{"in_channels": 2, "classes": 3, "channels": (8, 8), **settings})
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    return network.eval()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_settled_on_an_image_it_gives_what_it_gave_for_that_image(dims, norm, block):
    """Norms are numbers then, and gone into the convolutions; the original stays as it was."""
    network = network_with(dims=dims, norm=norm, block=block)
    image = 3 + 2 * torch.randn(1, 2, *[12] * dims)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settle = settler(network, autocast=nullcontext)
    settled = settle([image])
    with torch.no_grad():
        torch.testing.assert_close(settled(image), network(image), atol=1e-4, rtol=1e-4)
        part = image[..., :8, :]
        assert (settled(part) - network(part)).abs().max() > 0.01, "it must not look at what it is given any more"
    assert not any("norm" in name and weight.ndim for name, weight in settled.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_batches_count_alike():
    """Mean and spread of one norm over two batches, worked out on all of their pixels."""
    network = network_with(norm="instance", channels=(4,), convs_per_level=1, classes=1)
    conv, norm = network.encoder[0].conv1, network.encoder[0].norm1
    batches = [torch.randn(2, 2, 6, 6), 5 + 3 * torch.randn(2, 2, 6, 6)]
    settled = settler(network, autocast=nullcontext)(batches)
    with torch.no_grad():
        # Without the border, where the convolution sees zeros, there would be less to average: take it as it is.
        values = conv(torch.cat(batches)).transpose(0, 1).flatten(1)
        mean, spread = values.mean(1), values.var(1, correction=0)
        scale = norm.weight / (spread + 1e-5).sqrt()
        torch.testing.assert_close(settled.encoder[0].conv1.bias, norm.bias - mean * scale, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("offset", "spread"), [(30_000, 5), (1000, 0.3), (100, 0.1)])
def test_a_small_spread_far_from_zero_is_kept(offset, spread):
    """As of raw 16-bit values: the difference of two large squares would be nothing but rounding."""
    norm = _Measuring(InstanceNorm(1))
    for _ in range(8):
        norm(offset + spread * torch.randn(4, 1, 32, 32))
    assert norm.fixed().running_var.item() == pytest.approx(spread**2, rel=0.1)


@pytest.mark.parametrize("block", ["plain", "residual"])
def test_an_image_of_one_value_gives_numbers(block):
    """Far from zero, where the rounding of a square is more than a spread of nothing."""
    network = network_with(norm="instance", block=block)
    settled = settler(network, autocast=nullcontext)([torch.full((2, 2, 16, 16), 3e4 + 0.1)])
    with torch.no_grad():
        assert settled(torch.full((1, 2, 16, 16), 3e4 + 0.1)).isfinite().all()


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_norms_that_look_at_nothing_need_not_be_settled(norm):
    """Nor what is no network of torch."""
    assert settler(network_with(norm=norm), autocast=nullcontext) is None
    assert settler(lambda tiles: tiles, autocast=nullcontext) is None
