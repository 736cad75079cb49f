"""A compiled network is the network; what cannot be compiled is said in one line."""

from functools import partial

import pytest
import torch

from uvea.errors import PlanError
from uvea.models.compiled import compiled
from uvea.models.unet import UNet


def trace_only(network, **settings):
    """Torch's tracing without its code generator, which takes a minute and needs a compiler of C++."""
    return COMPILE(network, backend="aot_eager", fullgraph=True, **settings)


COMPILE = torch.compile


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch, by its tracing
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_passes_of_a_network_are_traced_in_one_piece(monkeypatch, norm):
    """Same result, and same gradients on the same weights."""
    monkeypatch.setattr(torch, "compile", trace_only)
    torch.manual_seed(0)
    network = UNet(in_channels=1, classes=2, channels=(4, 8, 8), norm=norm, deep_supervision=True)
    images = torch.rand(2, 1, 30, 33)
    gradients = []
    for run in (network, compiled(network)):
        network.zero_grad()
        logits = run(images)
        sum(part.square().sum() for part in logits).backward()
        gradients.append([weight.grad.clone() for weight in network.parameters()])
    assert [tuple(part.shape) for part in logits] == [(2, 2, 30, 33), (2, 2, 15, 17)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_what_cannot_be_compiled_is_one_line_with_the_way_out(monkeypatch):
    """Such as a machine without a compiler."""

    def broken(graph, inputs):
        raise RuntimeError("no\ncompiler")

    monkeypatch.setattr(torch, "compile", partial(COMPILE, backend=broken))
    with pytest.raises(PlanError, match="cannot be compiled for cpu.*no compiler.*\n.*without --set compiled"):
        compiled(torch.nn.Conv2d(1, 1, 3))(torch.rand(1, 1, 8, 8))
