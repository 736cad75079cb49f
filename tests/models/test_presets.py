"""The presets are the networks their sources describe."""

import pytest
import torch

from uvea.errors import PlanError
from uvea.models.graph import GraphNetwork
from uvea.models.presets import PRESETS, preset, tutorial


def parameters(network):
    """How many numbers it learns."""
    return sum(weight.numel() for weight in network.parameters())


def test_mini_has_148353_parameters_and_one_logit():
    """1 to 64 to 64, in the decoder 128 to 64 to 64, and 64 to 1 with a 1x1 kernel; none below the pool."""
    network = preset("mini")
    assert parameters(network) == (640 + 36_928) + (73_792 + 36_928) + 65 == 148_353
    assert not list(network.encoder[1].parameters())
    assert network(torch.zeros(1, 1, 33, 18)).shape == (1, 1, 33, 18)


def test_mini_is_the_network_of_the_courses():
    """The same logits as layer by layer in Keras, once the halves of the joining weights are swapped."""
    mini, course = preset("mini"), GraphNetwork(tutorial())
    mine = list(mini.parameters())
    with torch.no_grad():
        for weight, other in zip(mine, course.parameters(), strict=True):
            # The course joins the enlarged branch first.
            weight.copy_(other.roll(64, dims=1) if other.shape[:2] == (64, 128) else other)
    images = torch.rand(2, 1, 20, 34, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mini(images), course(images), atol=1e-5, rtol=0)


def test_original_is_the_network_of_the_paper():
    """31,030,658 parameters, 572x572 in, 388x388 out, and 32x32 at the bottom before its convolutions."""
    with torch.device("meta"):
        network = preset("original")
        assert parameters(network) == 31_030_658
        assert network(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert network.output_shape((572, 572)) == (388, 388)
    assert network.total_stride == (16, 16)


def test_original_runs_on_its_smallest_tile():
    """188 is the smallest size whose lowest level is not empty after its convolutions and gives 4 pixels."""
    with torch.device("meta"):
        network = preset("original")
    assert network.output_shape((188, 188)) == (4, 4)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_preset_takes_channels_classes_and_dims(name, dims):
    """What depends on the data can be said for each."""
    with torch.device("meta"):
        network = preset(name, in_channels=3, classes=5, dims=dims)
    assert network.encoder[0].conv1.weight.shape[1] == 3
    assert network.heads[0].weight.shape[0] == 5
    assert network.dims == dims


def test_levels_can_be_overruled():
    """A plan says how deep a network is, whatever the preset says."""
    network = preset("residual", channels=(4, 8, 8), strides=(2, (1, 2)), dropout=0.1)
    assert network.total_stride == (2, 4)


def test_an_unknown_preset_is_refused_with_the_known():
    """A typo gets the list."""
    with pytest.raises(PlanError, match=r"'orignal'\n.*mini, original, standard, residual"):
        preset("orignal")
