"""Steps of convolutions have equal singular values and the length of AdamW's; all else is AdamW."""

import numpy as np
import pytest
import torch
from torch import nn

from uvea.training.muon import Muon, nearly_orthogonal


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16), (64, 576)])
def test_singular_values_come_near_to_one_and_directions_stay(shape, dtype):
    """Of a matrix whose values spread from 3 to 100."""
    left, _, right = np.linalg.svd(np.random.default_rng(0).normal(size=shape), full_matrices=False)
    values = np.geomspace(3, 100, min(shape))
    found = nearly_orthogonal(torch.from_numpy(left * values @ right).float(), dtype).numpy()
    assert found.dtype == np.float32
    turned = left.T @ found @ right.T
    assert 0.3 < np.diag(turned).min() < np.diag(turned).max() < 1.25
    assert abs(turned - np.diag(np.diag(turned))).max() < 0.05


def network():
    """A first layer, a convolution, an enlarging one of one pixel, a norm and a head."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.Conv2d(12, 6, 1), nn.Conv2d(6, 2, 3)
    )


def stepped(optimizer, layers, *, times=1):
    """The layers after some steps with seeded gradients."""
    rng = torch.Generator().manual_seed(1)
    for _ in range(times):
        for weight in layers.parameters():
            weight.grad = torch.randn(weight.shape, generator=rng)
        optimizer.step()
    return layers


def test_only_inner_convolutions_are_turned_all_else_is_adamw():
    """To the bit."""
    ours, theirs = network(), network()
    decayed = [weight for weight in theirs.parameters() if weight.ndim > 1]
    kept = [weight for weight in theirs.parameters() if weight.ndim == 1]
    adamw = torch.optim.AdamW([{"params": decayed}, {"params": kept, "weight_decay": 0}], lr=0.1, weight_decay=0.1)
    stepped(Muon(ours, lr=0.1, weight_decay=0.1, heads=[ours[4]]), ours, times=3)
    stepped(adamw, theirs, times=3)
    equal = {
        name: torch.allclose(a, b, atol=1e-6)
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True)
    }
    assert [name for name, same in equal.items() if not same] == ["1.weight"]


def test_a_step_by_hand():
    """The first: half the rate on average over the elements, whatever the gradient's size; and decay."""
    layer = nn.Conv2d(8, 12, 3, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = 1000 * torch.randn_like(before)
    Muon(layer, lr=0.01, weight_decay=0.5).step()
    step = before * (1 - 0.01 * 0.5) - layer.weight
    assert step.square().mean().sqrt().item() == pytest.approx(0.01 * 0.5, rel=0.3)
    assert torch.nn.functional.cosine_similarity(step.flatten(), layer.weight.grad.flatten(), dim=0) > 0.8


def test_the_rate_may_be_a_tensor_and_the_state_can_be_carried_on():
    """As a recorded step and a resumed run need it."""
    whole, parts = network(), network()
    stepped(Muon(whole, lr=0.1, weight_decay=0.1), whole, times=2)
    first = Muon(parts, lr=torch.tensor(0.1), weight_decay=0.1)
    rng = torch.Generator().manual_seed(1)
    for turn in range(2):
        for weight in parts.parameters():
            weight.grad = torch.randn(weight.shape, generator=rng)
        first.step()
        if not turn:
            kept = first.state_dict()
            first = Muon(parts, lr=torch.tensor(0.1), weight_decay=0.1)
            first.load_state_dict(kept)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_momentum_turns_with_the_gradients():
    """A gradient that comes back every other time with the other sign moves less than one that stays."""
    layer = nn.Conv2d(8, 8, 3, bias=False)
    gradient = torch.randn_like(layer.weight)

    def moved(signs):
        nn.init.zeros_(layer.weight)
        optimizer = Muon(layer, lr=0.01, weight_decay=0.0)
        for sign in signs:
            layer.weight.grad = sign * gradient
            optimizer.step()
        return layer.weight.norm().item()

    assert moved([1, 1, 1, 1]) > 3 * moved([1, -1, 1, -1])
