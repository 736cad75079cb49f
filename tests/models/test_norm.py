"""Instance norm out of other kernels is torch's instance norm: outputs, gradients and memory layout."""

import pytest
import torch
from torch.nn import functional

from uvea.models.norm import InstanceNorm

LAYOUTS = {4: (torch.contiguous_format, torch.channels_last), 5: (torch.contiguous_format, torch.channels_last_3d)}


def made(shape, dtype, layout, *, seed=0):
    """Values far from mean 0 and spread 1, and a norm that does not pass them through."""
    rng = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=rng) * 3 + 2).to(dtype).contiguous(memory_format=layout)
    norm = InstanceNorm(shape[1]).to(torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(shape[1], generator=rng) + 0.5)
        norm.bias.copy_(torch.randn(shape[1], generator=rng))
    return x, norm


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 8, 6, 7), (2, 4, 32, 33), (2, 4, 3, 4, 5)])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_it_equals_the_norm_of_torch_forward_and_backward(shape, layout, dtype, tolerance):
    """Also without gradients, where another kernel runs."""
    x, norm = made(shape, dtype, LAYOUTS[len(shape)][layout])
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    results = []
    for exact in (False, True):
        given = (x.double() if exact else x.clone(memory_format=torch.preserve_format)).requires_grad_()
        weight = (norm.weight.detach().double() if exact else norm.weight.detach()).requires_grad_()
        bias = (norm.bias.detach().double() if exact else norm.bias.detach()).requires_grad_()
        if exact:
            y = functional.instance_norm(given, weight=weight, bias=bias)
            y.backward(gradient.double())
        else:
            norm.weight, norm.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
            y = norm(given)
            y.backward(gradient)
            weight, bias = norm.weight, norm.bias
        results.append((y, given.grad, weight.grad, bias.grad))
    for ours, theirs in zip(*results):
        # Sums over all pixels are as exact as the largest of them: where the others are small, parts cancelled out.
        largest = max(1.0, float(theirs.detach().abs().max()))
        assert torch.allclose(ours.double(), theirs, atol=tolerance * largest, rtol=tolerance)
    with torch.no_grad():
        assert torch.allclose(norm(x).double(), results[1][0], atol=tolerance, rtol=tolerance)


def test_the_gradient_is_that_of_finite_differences():
    """For the input, the weight and the bias."""
    x, norm = made((2, 3, 2, 3), torch.float64, torch.channels_last)
    inputs = (x.requires_grad_(), norm.weight, norm.bias)

    def normalise(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(normalise, inputs)


@pytest.mark.parametrize("shape", [(2, 8, 4, 4), (2, 8, 4, 4, 4)])
def test_the_memory_layout_is_kept(shape):
    """Channels last in, channels last out, so that no convolution has to reorder; gradients too."""
    layout = LAYOUTS[len(shape)][1]
    x, norm = made(shape, torch.float32, layout)
    y = norm(x.requires_grad_())
    y.square().sum().backward()
    assert y.is_contiguous(memory_format=layout)
    assert x.grad.is_contiguous(memory_format=layout)
