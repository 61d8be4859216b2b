"""Backbones, registered in MMRotate's ``ROTATED_BACKBONES``."""

from fdam_rotate.models.backbones.lsknet import LSKNet
from fdam_rotate.models.backbones.lsknet_fdam import LSKNetFDAM
from fdam_rotate.models.backbones.mit_fdam import MiTFDAM
from fdam_rotate.models.backbones.vit_fdam import ViTFDAM

__all__ = [
    "LSKNet",
    "LSKNetFDAM",
    "MiTFDAM",
    "ViTFDAM",
]
