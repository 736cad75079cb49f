"""U-Nets under a name: a tutorial's, the paper's, and two for daily use."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from uvea.errors import PlanError
from uvea.models.unet import PerAxis, UNet
from uvea.plan.graph import Concatenate, Conv, Graph, Input, MaxPool, Upsample

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # 64, 64 | pool | up, join | 64, 64 | 1: the network of many courses, see `tutorial` below.
        # 148,353 parameters for one input channel.
        "mini": MappingProxyType(
            {
                "classes": 1,
                "channels": (64, 64),
                "convs_per_level": (2, 0),
                "decoder_convs": 2,
                "norm": "none",
                "upsampling": "nearest",
            }
        ),
        # Ronneberger, Fischer, Brox 2015, figure 1, without its dropout, whose share is not given there.
        # 31,030,658 parameters for one input channel; 572x572 in, 388x388 out.
        "original": MappingProxyType(
            {
                "classes": 2,
                "channels": (64, 128, 256, 512, 1024),
                "norm": "none",
                "upsampling": "transposed",
                "padding": "valid",
            }
        ),
        # Batch norm, because it costs nothing in prediction, where it is folded into the convolutions.
        "standard": MappingProxyType({"classes": 2, "channels": (32, 64, 128, 256, 512), "norm": "batch"}),
        "residual": MappingProxyType(
            {
                "classes": 2,
                "channels": (32, 64, 128, 256, 512),
                "norm": "batch",
                "block": "residual",
                "pooling": "strided",
            }
        ),
    }
)
"""Settings of `UNet` by name; whatever is not listed has the default of `UNet`."""


def preset(
    name: str,
    *,
    in_channels: int = 1,
    classes: int | None = None,
    dims: int = 2,
    channels: Sequence[int] | None = None,
    strides: Sequence[PerAxis] | None = None,
    kernels: Sequence[PerAxis] | None = None,
    deep_supervision: bool = False,
    dropout: float = 0.0,
) -> UNet:
    """Make the U-Net called `name`, with fresh weights.

    Args:
        name: one of `PRESETS`.
        in_channels: channels of the image.
        classes: channels of the output; None takes the preset's own.
        dims: 2 or 3.
        channels: features per level, top first; None takes the preset's own.
        strides: see `UNet`.
        kernels: see `UNet`.
        deep_supervision: see `UNet`.
        dropout: see `UNet`.

    Raises:
        PlanError: for a name that is not a preset, or settings that make no network.

    Example:
        >>> sum(parameter.numel() for parameter in preset("mini").parameters())
        148353
    """
    if name not in PRESETS:
        raise PlanError(f"no preset called {name!r}", hint=f"choose one of: {', '.join(PRESETS)}")
    settings = dict(PRESETS[name])
    if classes is not None:
        settings["classes"] = classes
    if channels is not None:
        settings["channels"] = channels
    return UNet(
        **settings,
        in_channels=in_channels,
        dims=dims,
        strides=strides,
        kernels=kernels,
        deep_supervision=deep_supervision,
        dropout=dropout,
    )


def tutorial(*, channels: int = 1, classes: int = 1, width: int = 64) -> Graph:
    """The two-level U-Net of many courses, layer by layer as they write it in Keras, up to its logits.

    Two convolutions, pooled by 2, enlarged by 2, joined with the second convolution (the enlarged branch first),
    two convolutions, and a 1x1 convolution to the classes.

    Args:
        channels: of the image.
        classes: of the output; 1 means a single logit for a sigmoid.
        width: features of every 3x3 convolution; 64 makes 148,353 parameters for one channel and one class.
    """

    def conv(name: str, before: str) -> Conv:
        return Conv(name=name, inputs=(before,), channels=width, kernel=(3, 3), activation="relu")

    return Graph(
        layers=(
            Input(name="image", channels=channels),
            conv("encoder_1", "image"),
            conv("encoder_2", "encoder_1"),
            MaxPool(name="pool", inputs=("encoder_2",), size=(2, 2), stride=(2, 2)),
            Upsample(name="up", inputs=("pool",), size=(2, 2)),
            Concatenate(name="join", inputs=("up", "encoder_2")),
            conv("decoder_1", "join"),
            conv("decoder_2", "decoder_1"),
            Conv(name="logits", inputs=("decoder_2",), channels=classes, kernel=(1, 1)),
        )
    )
