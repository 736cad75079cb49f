"""Copies of a network for prediction: the same numbers up to rounding, and faster, or simpler to convert.

In eval mode a batch norm is a multiplication and an addition per channel, which the convolution
before it can do on the way.
"""

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fusion

from uvea.models.norm import InstanceNorm
from uvea.models.unet import ConvBlock


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Copy `network` in eval mode, with the batch norms of its blocks folded away.

    The output differs from that of `network.eval()` by rounding only. Other norms depend on the image
    and stay. The copy is for prediction: its weights do not fit the original network any more.
    """
    folded = copy.deepcopy(network).eval()
    fold_in_place(folded)
    return folded


def fold_in_place(network: nn.Module) -> None:
    """As `fold_batch_norm`, for a copy that was made already."""
    for block in network.modules():
        if isinstance(block, ConvBlock):
            for i in range(block.convs):
                _fold_pair(block, f"conv{i + 1}", f"norm{i + 1}")
            if block.shortcut is not None:
                _fold_pair(block, "shortcut", "shortcut_norm")


def for_tracing(network: nn.Module) -> nn.Module:
    """Copy `network` folded, and so that what it does depends on no size: a trace of it holds for images of any size.

    Decoder levels take their input whole, and instance norms have one kernel, instead of what is faster in PyTorch.
    """
    plain = fold_batch_norm(network)
    for block in plain.modules():
        if isinstance(block, ConvBlock):
            object.__setattr__(block, "joins", _never)
        elif isinstance(block, InstanceNorm):
            block.is_few = _never
    return plain


def _never(*sizes: object) -> bool:
    return False


@torch.no_grad()
def _fold_pair(block: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = block.get_submodule(conv_name), block.get_submodule(norm_name)
    if not isinstance(norm, _BatchNorm):
        return
    fused = fusion.fuse_conv_bn_eval(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm))
    setattr(block, conv_name, fused)
    setattr(block, norm_name, nn.Identity())
