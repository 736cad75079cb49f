"""An exponential moving average of a network: its weights and its buffers.

The average is often better than the last weights and always steadier. It knows nothing of steps, files or
optimizers; call `update` after each step.

Source: Polyak and Juditsky 1992; the warm-up of the decay as in TensorFlow's ExponentialMovingAverage.
"""

import torch
from torch import Tensor, nn

from uvea.errors import ModelError


class Average:
    """The moving average of one network, in float32, on the network's device.

    Floating-point parameters and buffers (such as the running statistics of batch norm) are averaged; integer
    buffers (such as its counter) are copied.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        """Start from the present weights.

        Args:
            network: read only.
            decay: share of the old average that one update keeps, 0 up to but not including 1. The first n updates
                use (1 + n) / (10 + n) where that is smaller, so that the start is forgotten quickly.
        """
        if not 0 <= decay < 1:
            raise ModelError(f"a decay of {decay} cannot average weights", hint="use 0 or more, below 1")
        self.decay = decay
        self.updates = 0
        self._values = {name: _kept(value).clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        old: list[Tensor] = []
        new: list[Tensor] = []
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                old.append(self._values[name])
                new.append(value.float())
            else:
                self._values[name].copy_(value)
        torch._foreach_lerp_(old, new, 1 - decay)

    def weights_of(self) -> dict[str, Tensor]:
        """The average as a state dict for `network.load_state_dict`: a copy, float32 except for integer buffers."""
        return {name: value.clone() for name, value in self._values.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """What `load_state_dict` needs to continue: the average and the number of updates, all tensors."""
        return {"updates": torch.tensor(self.updates), **{f"average.{k}": v.clone() for k, v in self._values.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            ModelError: if it was made for another network; this average is then unchanged.
        """
        values = {key.removeprefix("average."): value for key, value in state.items() if key != "updates"}
        ours = {name: tuple(value.shape) for name, value in self._values.items()}
        theirs = {name: tuple(value.shape) for name, value in values.items()}
        if "updates" not in state or ours != theirs:
            odd = sorted(name for name, _ in ours.items() ^ theirs.items()) or ["updates"]
            raise ModelError(
                f"the saved average does not fit this network: {odd[0]} differs",
                hint="resume with the plan that the run was started with",
            )
        for name, value in self._values.items():
            value.copy_(values[name])
        self.updates = int(state["updates"])


def _kept(value: Tensor) -> Tensor:
    return value.detach().float() if value.is_floating_point() else value.detach()
