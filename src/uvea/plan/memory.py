"""How much memory a training step takes, estimated from sizes alone.

Counted in numbers of 4 bytes; half precision takes less, so the estimate is high there.

    kept for the backward pass   per level, in the encoder and again in the decoder: two maps per convolution (its
                                 output, and that after norm and activation), half a map more with residual blocks;
                                 in the decoder also the enlarged map and both joined: three maps
    on the way                   the largest joined map once more, with its gradient and a copy for the convolution;
                                 twice that with residual blocks
    around the network           six copies of the images for the augmentation, six of the logits for the loss
    weights                      themselves, gradients, up to two moments of the optimizer, their moving average: five

Measured on a processor, 2026-11: what is kept is estimated within 3 %, a whole step from 12 % below (residual) to
5 % above, over patches of 256×256 and 32×48×48. `tests/plan/test_memory.py` holds the first line against torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

FLOAT_BYTES = 4

WEIGHT_COPIES = 5
IMAGE_COPIES = 6
LOGIT_COPIES = 6


@dataclass(frozen=True, kw_only=True)
class Network:
    """What of a network decides its size."""

    channels: int
    """Of the image."""

    classes: int
    width: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    convs: int
    residual: bool


def step_bytes(network: Network, patch: Sequence[int], batch: int) -> int:
    """Memory for one training step on `batch` patches, weights included."""
    return weight_bytes(network) + batch * patch_bytes(network, patch)


def patch_bytes(network: Network, patch: Sequence[int]) -> int:
    """What each further patch of a batch takes."""
    around = (IMAGE_COPIES * network.channels + LOGIT_COPIES * network.classes) * prod(patch)
    passing = (6 if network.residual else 3) * 2 * network.width[0] * prod(patch)
    return FLOAT_BYTES * (kept_numbers(network, patch) + passing + around)


def kept_numbers(network: Network, patch: Sequence[int]) -> int:
    """Numbers that one patch leaves in memory for the backward pass."""
    per_block = network.convs * (2.5 if network.residual else 2.0)
    total = 0.0
    for level, (width, pixels) in enumerate(zip(network.width, _pixels(network, patch), strict=True)):
        in_decoder = level < len(network.width) - 1
        total += pixels * width * (per_block + (per_block + 3 if in_decoder else 0))
    return round(total)


def prediction_bytes(network: Network, tile: Sequence[int]) -> int:
    """Memory for one pass over a tile: the skip connections, and a few maps of the full grid."""
    skips = sum(pixels * width for pixels, width in zip(_pixels(network, tile), network.width, strict=True))
    passing = (4 * 2 * network.width[0] + 3 * network.classes + network.channels) * prod(tile)
    return weight_bytes(network) // WEIGHT_COPIES + FLOAT_BYTES * (skips + passing)


def weight_bytes(network: Network) -> int:
    """Weights of all convolutions with everything that the optimiser keeps of them."""
    count, given = 0, network.channels
    for width, kernel in zip(network.width, network.kernels, strict=True):
        count += prod(kernel) * width * (given + (network.convs - 1) * width)
        given = width
    for width, below, kernel in zip(network.width, network.width[1:], network.kernels, strict=False):
        count += below * width + prod(kernel) * width * (2 * width + (network.convs - 1) * width)
    return FLOAT_BYTES * WEIGHT_COPIES * count


def _pixels(network: Network, patch: Sequence[int]) -> list[int]:
    """Pixels of a patch on each level."""
    size, found = list(patch), [prod(patch)]
    for step in network.strides:
        size = [ceil(length / stride) for length, stride in zip(size, step, strict=True)]
        found.append(prod(size))
    return found
