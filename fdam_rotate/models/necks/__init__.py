"""Necks, registered in MMRotate's ``ROTATED_NECKS``."""

from fdam_rotate.models.necks.fdam_fpn import FDAMFPN
from fdam_rotate.models.necks.freq_fusion_fpn import FreqFusionFPN
from fdam_rotate.models.necks.simple_pyramid import SimplePyramid

__all__ = [
    "FDAMFPN",
    "FreqFusionFPN",
    "SimplePyramid",
]
