"""U-Nets, their presets and weights, and the device they run on."""

from uvea.models.device import Precision, choose_precision, describe_machine, find_device, keep_large_blocks
from uvea.models.fold import fold_batch_norm
from uvea.models.presets import PRESETS, preset
from uvea.models.unet import UNet
from uvea.models.weights import load_weights, read_weights, save_weights

__all__ = [
    "PRESETS",
    "Precision",
    "UNet",
    "choose_precision",
    "describe_machine",
    "find_device",
    "fold_batch_norm",
    "keep_large_blocks",
    "load_weights",
    "preset",
    "read_weights",
    "save_weights",
]
