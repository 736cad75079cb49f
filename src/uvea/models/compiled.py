"""Networks of which torch makes kernels of their own: fewer ones, for one network and one size of batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from uvea.errors import PlanError

Forward = Callable[[Tensor], Any]
"""Images (b, c, ...) to what the network gives."""


def compiled(network: nn.Module) -> Forward:
    """Have `torch.compile` make the passes of a network, forward and backward, over its own weights.

    The first call takes a minute or more, and so does that with another size of batch.

    Raises:
        PlanError: by the first call, where there is nothing to compile with.
    """
    from torch._dynamo.exc import TorchDynamoException

    run = torch.compile(network, dynamic=False)

    def forward(images: Tensor) -> Any:
        try:
            return run(images)
        except TorchDynamoException as error:
            problem = " ".join(str(error).split())[:200]
            raise PlanError(
                f"the network cannot be compiled for {images.device}: {problem}",
                hint="train again with --overwrite and without --set compiled",
            ) from None

    return forward
