"""From a plan to a network."""

from threading import Lock

import torch

from uvea.models.graph import GraphNetwork
from uvea.models.unet import UNet
from uvea.plan.plan import Plan

_DRAWING = Lock()
"""Layers draw their weights with the one generator that all threads share."""


def build_network(plan: Plan) -> UNet | GraphNetwork:
    """Make the network that a plan describes, with the first weights that its seed gives.

    Two classes and more have one logit each; only a network that is given by its layers may have a single logit for
    two. Torch's random numbers go on afterwards as if nothing had been drawn.
    """
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(plan.seed)  # that of the processor; torch.manual_seed sets GPUs' as well
        return _drawn(plan)


def _drawn(plan: Plan) -> UNet | GraphNetwork:
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
