"""The U-Net of uvea's presets in plain PyTorch, with the same names of weights: what a textbook would write.

Peers get the same weights through it and none of uvea's code. A test holds it against `uvea.models.UNet`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (32, 64, 128, 256, 512)
"""Of the `standard` preset."""


SLOPES = {"relu": 0.0, "leaky_relu": 0.1}
"""Of activations below zero."""


class Block(nn.Module):
    """Convolutions of one level, each with norm and activation."""

    def __init__(self, given: int, wanted: int, *, kernel: Sequence[int], convs: int, norm: str, slope: float) -> None:
        super().__init__()
        self.slope = slope
        dims = len(kernel)
        conv: Any = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.convs = convs
        for i in range(1, convs + 1):
            padding = tuple(size // 2 for size in kernel)
            self.add_module(f"conv{i}", conv(given, wanted, tuple(kernel), padding=padding, bias=norm == "none"))
            self.add_module(f"norm{i}", _norm(norm, wanted, dims))
            given = wanted

    def forward(self, x: Tensor) -> Tensor:
        """(b, given, ...) to (b, wanted, ...)."""
        for i in range(1, self.convs + 1):
            x = getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x))
            x = functional.leaky_relu(x, self.slope, inplace=True) if self.slope else functional.relu(x, inplace=True)
        return x


class Up(nn.Module):
    """A 1x1 convolution, then enlarging by repetition."""

    def __init__(self, given: int, wanted: int, *, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(float(step) for step in stride)
        self.conv = {2: nn.Conv2d, 3: nn.Conv3d}[len(stride)](given, wanted, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, given, ...) to (b, wanted, ...) with each axis `stride` times as long."""
        return functional.interpolate(self.conv(x), scale_factor=self.stride, mode="nearest")


class PlainUNet(nn.Module):
    """Encoder, decoder and skip connections for sizes that are multiples of the total stride."""

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        channels: Sequence[int] = WIDTHS,
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
        norm: str = "batch",
        convs: int = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        levels = len(channels)
        alike: Any = {"convs": convs, "norm": norm, "slope": SLOPES[activation]}
        self.strides = [tuple(stride) for stride in strides]
        inputs = (in_channels, *channels)
        self.encoder = nn.ModuleList(Block(inputs[i], channels[i], kernel=kernels[i], **alike) for i in range(levels))
        self.upsamplers = nn.ModuleList(Up(channels[i + 1], channels[i], stride=strides[i]) for i in range(levels - 1))
        self.decoder = nn.ModuleList(
            Block(2 * channels[i], channels[i], kernel=kernels[i], **alike) for i in range(levels - 1)
        )
        head = {2: nn.Conv2d, 3: nn.Conv3d}[len(kernels[0])]
        self.heads = nn.ModuleList([head(channels[0], classes, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """Images (b, c, ...) to logits (b, classes, ...)."""
        pool = {4: functional.max_pool2d, 5: functional.max_pool3d}[x.ndim]
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            if level:
                x = pool(x, self.strides[level - 1])
            x = block(x)
            skips.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat([skips[level], self.upsamplers[level](x)], dim=1))
        logits: Tensor = self.heads[0](x)
        return logits


def standard(dims: int, *, in_channels: int = 1, classes: int = 2, channels: Sequence[int] = WIDTHS) -> PlainUNet:
    """The network of uvea's `standard` preset."""
    levels = len(channels)
    return PlainUNet(
        in_channels=in_channels,
        classes=classes,
        channels=channels,
        strides=[(2,) * dims] * (levels - 1),
        kernels=[(3,) * dims] * levels,
    )


def load_plan(model: Path) -> Mapping[str, Any]:
    """The plan of a model folder that uvea wrote, as plain data."""
    plan: dict[str, Any] = json.loads((model / "plan.json").read_text())
    return plan


def load(model: Path) -> PlainUNet:
    """The network of a model folder that uvea wrote, with its weights, in evaluation mode."""
    from safetensors.torch import load_file

    plan = load_plan(model)
    network = PlainUNet(
        in_channels=len(plan["normalization"]),
        classes=len(plan["labels"]["names"]),
        channels=plan["width"],
        strides=plan["strides"],
        kernels=plan["kernels"],
        norm=plan["norm"],
        convs=plan["convs"],
        activation=plan.get("activation", "relu"),
    )
    network.load_state_dict(load_file(model / "weights.safetensors"))
    return network.eval()


def _norm(norm: str, channels: int, dims: int) -> nn.Module:
    kinds: dict[str, dict[int, Any]] = {
        "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
        "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    }
    if norm == "none":
        return nn.Identity()
    made: nn.Module = kinds[norm][dims](channels, affine=True)
    return made
