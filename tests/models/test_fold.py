"""A folded network says the same with fewer layers."""

import pytest
import torch
from torch import nn

from uvea.models.fold import fold_batch_norm, for_tracing
from uvea.models.unet import UNet


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "settings", [{}, {"block": "residual", "pooling": "strided", "convs_per_level": 3}, {"norm": "instance"}], ids=str
)
def test_folding_changes_the_logits_by_rounding_only(dims, settings):
    """With running statistics and norm weights far from their start."""
    torch.manual_seed(0)
    network = UNet(in_channels=2, classes=3, dims=dims, channels=(4, 8, 8), **settings)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    for _ in range(3):
        network(3 + 2 * torch.randn(2, 2, *[12] * dims))
    network.eval()
    image = torch.randn(1, 2, *[10] * dims)
    folded = fold_batch_norm(network)
    with torch.no_grad():
        torch.testing.assert_close(folded(image), network(image), atol=1e-5, rtol=1e-5)
    left = [type(part).__name__ for part in folded.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)]
    assert left == []


def test_the_original_is_left_as_it_was():
    """Training goes on with the network that was folded for a validation."""
    network = UNet(in_channels=1, classes=2, channels=(4, 4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_batch_norm(network)
    assert network.training and not folded.training
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("dims", [2, 3])
def test_a_copy_for_tracing_does_the_same_for_every_size(dims):
    """No block of it takes its input in two parts, and the answer is the original's."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, classes=2, dims=dims, channels=(4, 6)).eval()
    copy = for_tracing(network)
    images = torch.randn(1, 1, *[96 if dims == 2 else 24] * dims)
    block = copy.decoder[0]
    assert not block.joins(torch.zeros(1, 4, *images.shape[2:]), (2,) * dims)
    torch.testing.assert_close(copy(images), network(images), atol=1e-5, rtol=1e-4)
