"""The moving average against values worked by hand, and through save and load."""

import pytest
import torch
from torch import nn

from uvea.errors import ModelError
from uvea.training.average import Average


def network(value=0.0):
    """One weight and a batch norm, which has float and integer buffers."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(net[0].weight, value)
    return net


def test_the_first_updates_by_hand():
    """Decays 1/10 and 2/11: 0 becomes 0.9, then 0.9 * 2/11 + 9/11."""
    net = network(0.0)
    average = Average(net, 0.999)
    nn.init.constant_(net[0].weight, 1.0)
    average.update(net)
    assert average.weights_of()["0.weight"].item() == pytest.approx(0.9)
    average.update(net)
    assert average.weights_of()["0.weight"].item() == pytest.approx(0.9 * 2 / 11 + 9 / 11)


def test_the_decay_is_never_above_the_one_asked_for():
    """A decay of zero copies the weights."""
    net = network(0.0)
    average = Average(net, 0.0)
    nn.init.constant_(net[0].weight, 3.0)
    average.update(net)
    assert average.weights_of()["0.weight"].item() == 3.0


def test_statistics_are_averaged_and_counters_copied():
    """Batch norm's running mean moves like a weight, its counter is the network's."""
    net = network(1.0)
    average = Average(net, 0.999)
    net(torch.tensor([[10.0], [20.0]]))
    average.update(net)
    kept = average.weights_of()
    assert kept["1.running_mean"].item() == pytest.approx(0.9 * net[1].running_mean.item())
    assert kept["1.num_batches_tracked"].item() == 1
    assert kept["1.num_batches_tracked"].dtype == torch.int64


def test_the_average_is_a_copy_and_loads_into_a_network():
    """Neither training on nor editing the result changes the average."""
    net = network(2.0)
    average = Average(net)
    average.weights_of()["0.weight"].fill_(7.0)
    nn.init.constant_(net[0].weight, 5.0)
    other = network()
    other.load_state_dict(average.weights_of())
    assert other[0].weight.item() == 2.0


def test_a_half_precision_network_is_averaged_in_float32():
    """Small steps would be lost in bfloat16."""
    net = network(1.0).to(torch.bfloat16)
    average = Average(net, 0.999)
    average.updates = 10**6
    nn.init.constant_(net[0].weight, 1.0078125)  # the next bfloat16
    average.update(net)
    kept = average.weights_of()["0.weight"]
    assert kept.dtype == torch.float32
    assert kept.item() == pytest.approx(1 + 0.0078125 / 1000, abs=2e-7)


def test_a_resumed_average_goes_on_where_it_stopped():
    """Two updates, save, load, one more: as three without a break, to the last bit."""
    net = network(0.0)
    unbroken, first = Average(net), Average(net)
    resumed = Average(network(9.0))
    nn.init.constant_(net[0].weight, 1.0)
    for average in (unbroken, unbroken, unbroken, first, first):
        average.update(net)
    resumed.load_state_dict(first.state_dict())
    resumed.update(net)
    for name, value in unbroken.weights_of().items():
        assert torch.equal(value, resumed.weights_of()[name])


def test_an_average_of_another_network_is_refused_and_changes_nothing():
    """The message names what differs."""
    average = Average(network(2.0))
    with pytest.raises(ModelError, match=r"does not fit this network: 0.bias differs"):
        average.load_state_dict(Average(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))).state_dict())
    assert average.weights_of()["0.weight"].item() == 2.0


def test_a_decay_of_one_is_refused():
    """It would never learn."""
    with pytest.raises(ModelError, match="decay of 1"):
        Average(network(), 1)
