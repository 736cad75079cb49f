"""From a plan to a network."""

from uvea.models.unet import UNet
from uvea.plan.plan import Plan


def build_network(plan: Plan) -> UNet:
    """Make the network that a plan describes, with fresh weights. Two classes and more have one logit each."""
    return UNet(
        in_channels=plan.channels,
        classes=plan.classes,
        dims=plan.dims,
        channels=plan.width,
        strides=plan.strides,
        kernels=plan.kernels,
        convs_per_level=plan.convs,
        norm=plan.norm,
        block=plan.block,
        deep_supervision=plan.deep_supervision,
    )
