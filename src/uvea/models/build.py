"""From a plan to a network."""

from uvea.models.graph import GraphNetwork
from uvea.models.unet import UNet
from uvea.plan.plan import Plan


def build_network(plan: Plan) -> UNet | GraphNetwork:
    """Make the network that a plan describes, with fresh weights. Two classes and more have one logit each.

    Only a network that is given by its layers may have a single logit for two classes.
    """
    if plan.graph is not None:
        return GraphNetwork(plan.graph)
    return UNet(
        in_channels=plan.channels,
        classes=plan.outputs,
        dims=plan.dims,
        channels=plan.width,
        strides=plan.strides,
        kernels=plan.kernels,
        convs_per_level=plan.convs,
        norm=plan.norm,
        block=plan.block,
        activation=plan.activation,
        deep_supervision=plan.deep_supervision,
    )
