"""A decoder level that takes its input in two parts computes what it computes from their concatenation."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from uvea.models import join, unet
from uvea.models.device import Precision
from uvea.models.join import JoinConv2d, JoinConv3d, enlarging_kernel, pays
from uvea.models.unet import UNet

KINDS = [
    ((6, 7), (2, 2), (3, 3)),
    ((5, 4), (3, 1), (3, 5)),
    ((3, 4), (4, 2), (5, 3)),
    ((4, 3, 3), (2, 2, 2), (3, 3, 3)),
    ((4, 3, 5), (1, 2, 2), (3, 3, 3)),
    ((3, 3, 4), (1, 2, 3), (1, 3, 3)),
]


@pytest.mark.parametrize(("grid", "stride", "kernel"), KINDS, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_both_ways_agree_forward_and_backward(grid, stride, kernel, bias):
    """In double precision: output, and gradients of both inputs and of the weights."""
    torch.manual_seed(0)
    around = tuple(size // 2 for size in kernel)
    conv = (JoinConv2d if len(grid) == 2 else JoinConv3d)(5, 4, kernel, padding=around, bias=bias).double()
    low = torch.randn(2, 2, *grid, dtype=torch.double, requires_grad=True)
    skip = torch.randn(
        2, 3, *(n * s for n, s in zip(grid, stride, strict=True)), dtype=torch.double, requires_grad=True
    )
    large = functional.interpolate(low, scale_factor=[float(step) for step in stride], mode="nearest")
    plain, joined = conv(torch.cat([skip, large], dim=1)), conv(skip, low)
    torch.testing.assert_close(joined, plain)
    wanted = (skip, low, *conv.parameters())
    of_output = torch.randn_like(plain)
    torch.testing.assert_close(
        torch.autograd.grad(joined, wanted, of_output), torch.autograd.grad(plain, wanted, of_output)
    )


def test_the_enlarged_channels_may_come_first():
    """As where the concatenation has them in that order."""
    torch.manual_seed(0)
    conv = JoinConv2d(5, 4, 3, padding=1).double()
    conv.low_first = True
    skip, low = torch.randn(1, 3, 8, 6).double(), torch.randn(1, 2, 4, 2).double()
    large = functional.interpolate(low, scale_factor=[2.0, 3.0], mode="nearest")
    torch.testing.assert_close(conv(skip, low), conv(torch.cat([large, skip], dim=1)))


def test_a_kernel_worked_by_hand():
    """Weights 1, 2, 3 over pixels doubled along x: 3, 5, 3, 1; the single row stays single."""
    weight = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    assert enlarging_kernel(weight, (1, 2)).flatten().tolist() == [3, 5, 3, 1]


@pytest.mark.parametrize(("shape", "taken"), [((1, 2, 32, 64), True), ((1, 2, 32, 63), False), ((9, 2, 1, 512), False)])
def test_small_and_thin_grids_go_the_plain_way(shape, taken):
    """8,192 pixels after enlarging are enough, of which no axis may be shorter than the kernel of 4."""
    assert pays(torch.empty(shape), (2, 2), (3, 3)) is taken
    assert not pays(torch.empty(shape, device="meta"), (2, 2), (3, 3))


@pytest.mark.parametrize(("dims", "size"), [(2, (20, 12)), (3, (8, 8, 12))])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_network_gives_the_same_logits_and_gradients_either_way(monkeypatch, dims, size, norm):
    """Same weights under the same names; the switch is made for speed alone."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, classes=2, dims=dims, channels=(4, 6, 8), norm=norm).double()
    images = torch.randn(2, 1, *size, dtype=torch.double)
    asked = []

    def run(joined):
        monkeypatch.setattr(unet, "pays", lambda *given: bool(asked.append(joined)) or joined)
        network.zero_grad()
        logits = network(images)
        logits.square().mean().backward()
        return logits.detach(), [weight.grad.clone() for weight in network.parameters()]

    torch.testing.assert_close(run(True), run(False))
    assert asked == [True, True, False, False]


def test_the_joined_way_keeps_the_memory_layout(monkeypatch):
    """Else each layer after it would change it back."""
    monkeypatch.setattr(join, "_PIXELS", 0)
    layout = Precision(dtype="float32", channels_last=True, reason="")
    network = layout.prepare(UNet(in_channels=1, classes=2, channels=(4, 8), norm="none"))
    seen = []
    conv = network.decoder[0].conv1
    conv.register_forward_hook(lambda _, given, made: seen.append((len(given), made)))
    network(layout.prepare(torch.zeros(2, 1, 16, 16)))
    ((parts, made),) = seen
    assert parts == 2
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_weights_are_those_of_a_plain_convolution():
    """Files written before load into it, by the same names and shapes."""
    ours, plain = JoinConv2d(4, 2, 3), nn.Conv2d(4, 2, 3)
    ours.load_state_dict(plain.state_dict())
    x = torch.ones(1, 4, 5, 5)
    assert torch.equal(ours(x), plain(x))
