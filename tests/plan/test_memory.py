"""The estimate of memory follows sizes, and what torch keeps."""

import pytest
import torch
from torch.nn import functional

from uvea.models.unet import UNet
from uvea.plan.memory import Network, kept_numbers, patch_bytes, prediction_bytes, step_bytes, weight_bytes

SMALL = Network(
    channels=1,
    classes=2,
    width=(4, 8),
    strides=((2, 2),),
    kernels=((3, 3), (3, 3)),
    convs=2,
    residual=False,
)


def test_what_is_kept_worked_by_hand():
    """8×8 pixels: four convolutions of 4 channels and three joined maps above, two convolutions of 8 below."""
    above, below = 64 * 4 * (2 * 4 + 3), 16 * 8 * 2 * 2
    assert kept_numbers(SMALL, (8, 8)) == above + below


def test_weights_worked_by_hand():
    """Five copies of four bytes for each weight of nine-pixel kernels, and of the 1×1 on the way up."""
    down = 9 * (1 * 4 + 4 * 4) + 9 * (4 * 8 + 8 * 8)
    up = 8 * 4 + 9 * (8 * 4 + 4 * 4)
    assert weight_bytes(SMALL) == 4 * 5 * (down + up)


def test_a_batch_adds_patches_to_the_weights():
    """Nothing else grows with it."""
    one, three = (step_bytes(SMALL, (32, 32), batch) for batch in (1, 3))
    assert three - one == 2 * patch_bytes(SMALL, (32, 32))
    assert one == weight_bytes(SMALL) + patch_bytes(SMALL, (32, 32))


def test_predicting_a_tile_takes_less_than_training_on_it():
    """Nothing is kept for a backward pass."""
    assert prediction_bytes(SMALL, (64, 64)) < step_bytes(SMALL, (64, 64), 1)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("patch", [(32, 48), (8, 16, 24)])
def test_the_estimate_is_what_torch_keeps(patch, residual):
    """Within a tenth, in two and three dimensions."""
    dims = len(patch)
    network = Network(
        channels=1,
        classes=2,
        width=(8, 16, 32),
        strides=((2,) * dims, (1, *(2,) * (dims - 1))),
        kernels=((3,) * dims,) * 3,
        convs=2,
        residual=residual,
    )
    unet = UNet(
        in_channels=1,
        classes=2,
        dims=dims,
        channels=network.width,
        strides=network.strides,
        kernels=network.kernels,
        block="residual" if residual else "plain",
    )
    weights = {weight.untyped_storage().data_ptr() for weight in unet.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        functional.relu(unet(torch.zeros(1, 1, *patch)))
    assert sum(kept.values()) == pytest.approx(4 * kept_numbers(network, patch), rel=0.1)
