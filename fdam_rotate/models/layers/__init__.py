"""Layers: frequency dynamic scaling, attention inversion and their activation. They need torch only, no mmcv."""

from fdam_rotate.models.layers.add_fdam import add_fdam
from fdam_rotate.models.layers.att_inv import AttInvAttention
from fdam_rotate.models.layers.freq_fusion import FreqFusion
from fdam_rotate.models.layers.freq_scale import FreqScale, set_freq_impl
from fdam_rotate.models.layers.star_relu import StarReLU

__all__ = [
    "AttInvAttention",
    "FreqFusion",
    "FreqScale",
    "StarReLU",
    "add_fdam",
    "set_freq_impl",
]
