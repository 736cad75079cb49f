"""A network follows from its plan, whoever else draws random numbers."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import torch

from uvea.models.build import build_network
from uvea.models.presets import tutorial


def built(seed: int) -> torch.Tensor:
    """All weights of a network of layers."""
    plan = SimpleNamespace(graph=tutorial(channels=1, classes=1), seed=seed)
    return torch.cat([weight.detach().flatten() for weight in build_network(plan).parameters()])


def test_networks_that_are_made_at_the_same_time_have_the_weights_of_their_seeds():
    """As many trainings in threads repeat as one alone does; another seed has other weights."""
    alone = [built(seed) for seed in range(4)]
    assert not torch.equal(alone[0], alone[1])
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(built, [*range(4)] * 8))
    for number, weights in enumerate(together):
        assert torch.equal(weights, alone[number % 4])


def test_making_a_network_draws_none_of_the_random_numbers_of_others():
    """What torch draws next is what it would have drawn."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    built(1)
    assert torch.equal(torch.rand(3), expected)
