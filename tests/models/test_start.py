"""Weights that come with uvea fit networks of any number of channels and classes."""

from types import SimpleNamespace

import pytest
import torch

from uvea.errors import ModelError
from uvea.models.start import _fitted, start_from
from uvea.models.unet import UNet
from uvea.plan.start import NETWORKS, OBJECTS


def started(start, *, channels=1, classes=2, width=NETWORKS[OBJECTS]["width"]):
    """A network before and after it was given the weights that a plan names."""
    settings = {name: value for name, value in NETWORKS[OBJECTS].items() if name not in ("task", "width", "convs")}
    torch.manual_seed(0)
    network = UNet(
        in_channels=channels,
        classes=classes + 2,
        channels=width,
        convs_per_level=NETWORKS[OBJECTS]["convs"],
        deep_supervision=True,
        **settings,
    ).eval()
    drawn = {name: weight.clone() for name, weight in network.state_dict().items()}
    start_from(network, SimpleNamespace(start=start, channels=channels, classes=classes))
    return drawn, network


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 2), (4, 4)])
def test_a_training_of_objects_starts_from_learnt_weights(channels, classes):
    """All of them are replaced, and what comes out is a guess at objects: a bright disc on black, and nothing else."""
    drawn, network = started(OBJECTS, channels=channels, classes=classes)
    assert not any(torch.equal(weight, drawn[name]) for name, weight in network.state_dict().items())
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = (y - 30) ** 2 + (x - 34) ** 2 < 14**2
    image = disc + 0.05 * torch.randn(64, 64)
    with torch.no_grad():
        logits = network(((image - image.mean()) / image.std()).expand(1, channels, 64, 64))[0, :classes]
    found = logits.softmax(0)[0] < 0.5
    assert (found & disc).sum() / (found | disc).sum() > 0.7


def test_random_weights_stay():
    """Where the plan says so, or was made before there were others."""
    drawn, network = started("random")
    assert all(torch.equal(weight, drawn[name]) for name, weight in network.state_dict().items())


def test_weights_that_no_longer_come_with_uvea_are_named():
    """Where a fold of an older training was not begun yet, say."""
    with pytest.raises(ModelError, match="no network can start from objects-1: these weights no longer come with uvea"):
        started("objects-1")


def test_one_channel_is_seen_as_three_equal_ones():
    """And of two, each as their mean."""
    torch.manual_seed(0)
    sizes = {"classes": 4, "channels": (4, 4), "norm": "instance"}
    three = UNet(in_channels=3, **sizes)
    gray = torch.randn(1, 1, 16, 16)
    for channels in (1, 2):
        other = UNet(in_channels=channels, **sizes)
        other.load_state_dict(_fitted(three.state_dict(), channels=channels, classes=2))
        torch.testing.assert_close(other(gray.expand(1, channels, 16, 16)), three(gray.expand(1, 3, 16, 16)))


def test_classes_of_objects_begin_alike():
    """Three classes: each as probable as the one of the weights, border and centre last."""
    torch.manual_seed(0)
    one = UNet(in_channels=3, classes=4, channels=(4, 4), norm="instance")
    several = UNet(in_channels=3, classes=6, channels=(4, 4), norm="instance")
    several.load_state_dict(_fitted(one.state_dict(), channels=3, classes=4))
    image = torch.randn(1, 3, 16, 16)
    ground, thing, border, centre = one(image)[0]
    torch.testing.assert_close(several(image)[0], torch.stack([ground, thing, thing, thing, border, centre]))


def test_a_wider_network_begins_with_what_the_weights_give():
    """The other channels are there, random, and not heard yet."""
    _, narrow = started(OBJECTS)
    drawn, wide = started(OBJECTS, width=(24, 48, 64, 130, 300))
    image = torch.randn(1, 1, 48, 32)
    with torch.no_grad():
        for found, expected in zip(wide.train()(image), narrow.train()(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(wide.state_dict()["encoder.1.conv1.weight"][32:], drawn["encoder.1.conv1.weight"][32:])
