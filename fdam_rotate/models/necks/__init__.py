"""Necks, registered in MMRotate's ``ROTATED_NECKS``."""

from fdam_rotate.models.necks.fdam_fpn import FDAMFPN

__all__ = [
    "FDAMFPN",
]
