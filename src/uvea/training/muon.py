"""Muon: the step of a convolution is its momentum with all singular values made equal; the rest is AdamW's.

    gradient -> momentum -> matrix (out, in × kernel) -> nearly orthogonal matrix -> step

Directions in which the gradient is always small are learnt as fast as those in which it is large. See docs/log.md for
what that is worth on our data.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks" (the iteration and its
coefficients); Liu et al. 2025, "Muon is scalable for LLM training" (weight decay, and steps whose length does not
depend on the shape, so that both parts share one learning rate).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS = 3
"""Of Newton and Schulz. Five, which are usual, took longer and were no better, see docs/log.md."""

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
LENGTH = 0.5
"""Root mean square of a step over the learning rate. AdamW's have 0.2, longer ones were better, see docs/log.md."""

FEWEST_ROWS = 64
"""From which on products may be of bfloat16: the rounding of X Xᵀ does not average out in smaller matrices, which take
no time anyway."""

FEWEST_INPUTS = 5
"""Channels from which on a convolution is turned: the first layer of an image has too few to speak of directions."""


class Muon(torch.optim.AdamW):
    """Muon for the convolutions of a network, AdamW for its first and last layers, norms and biases."""

    def __init__(
        self,
        network: nn.Module,
        *,
        lr: float | Tensor,
        weight_decay: float,
        heads: Sequence[nn.Module] = (),
        dtype: torch.dtype = torch.float32,
        capturable: bool = False,
    ) -> None:
        """Sort the weights of a network.

        Args:
            network: whose weights are trained.
            lr: learning rate of both parts.
            weight_decay: of all weights but norms and biases; a share of the weight per step at a learning rate of 1.
            heads: layers that give the result; they are left to AdamW.
            dtype: of the products of large matrices: bfloat16 where it is fast.
            capturable: see `torch.optim.AdamW`.
        """
        given = {id(weight) for head in heads for weight in head.parameters()}
        groups: dict[str, list[Tensor]] = {"turned": [], "decayed": [], "kept": []}
        for weight in network.parameters():
            groups[_kind(weight, of_head=id(weight) in given)].append(weight)
        settings: list[dict[str, Any]] = [
            {"params": groups["turned"], "weight_decay": weight_decay, "turned": True},
            {"params": groups["decayed"], "weight_decay": weight_decay, "turned": False},
            {"params": groups["kept"], "weight_decay": 0.0, "turned": False},
        ]
        self._dtype = dtype
        super().__init__([one for one in settings if one["params"]], lr=lr, fused=True, capturable=capturable)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change the weights by their gradients."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["turned"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            for weight in group["params"] if group["turned"] else ():
                if weight.grad is not None:
                    self._turn(weight, group["lr"], group["weight_decay"])

    def _turn(self, weight: Tensor, rate: float | Tensor, decay: float) -> None:
        state = self.state[weight]
        if "momentum" not in state:
            # AdamW looks for the counter when a state is loaded.
            state |= {"step": torch.zeros((), device=weight.device), "momentum": torch.zeros_like(weight)}
        state["step"] += 1
        assert weight.grad is not None
        momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
        matrix = weight.grad.lerp(momentum, MOMENTUM).flatten(1)
        length = LENGTH * max(matrix.shape) ** 0.5
        weight.mul_(1 - rate * decay)
        weight.sub_(nearly_orthogonal(matrix, self._dtype).view(weight.shape).mul_(rate * length))


def nearly_orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bring the singular values of a matrix (m, n) near to 1, by products of matrices alone; float32.

    Three iterations of Newton and Schulz with the coefficients of Jordan et al. 2024: values from a fiftieth
    of the norm of all on come between 0.7 and 1.2, and smaller ones become forty times as large.

    Each iteration multiplies X by a polynomial of X Xᵀ. The iterations are done on that small matrix alone, for
    polynomials of one matrix commute, and X is multiplied once, in the end: half of the work, for X is long.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    if min(matrix.shape) < FEWEST_ROWS:
        dtype = torch.float32
    x = (matrix if wide else matrix.T).to(dtype).contiguous()
    gram = x @ x.T
    scale = 1 / (gram.diagonal().float().sum().sqrt() + 1e-7)  # the norm of X is the root of the trace
    gram = gram * scale**2
    turn = factor = _factor(gram)
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram)
        turn = factor @ turn
    x = (turn * scale) @ x
    return (x if wide else x.T.contiguous()).float()


def _factor(gram: Tensor) -> Tensor:
    """What an iteration multiplies X by, of X Xᵀ (m, m)."""
    a, b, c = COEFFICIENTS
    found = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    found.diagonal().add_(a)
    return found


def _kind(weight: Tensor, *, of_head: bool) -> str:
    if weight.ndim <= 1:
        return "kept"
    spatial = weight.ndim > 2 and weight[0, 0].numel() > 1
    return "turned" if spatial and weight.shape[1] >= FEWEST_INPUTS and not of_head else "decayed"
