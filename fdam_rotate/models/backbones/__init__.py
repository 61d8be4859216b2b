"""Backbones, registered in MMRotate's ``ROTATED_BACKBONES``."""

from fdam_rotate.models.backbones.lsknet import LSKNet
from fdam_rotate.models.backbones.lsknet_fdam import LSKNetFDAM

__all__ = [
    "LSKNet",
    "LSKNetFDAM",
]
