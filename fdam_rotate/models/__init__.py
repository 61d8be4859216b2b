"""Layers, backbones and necks; importing this registers them with MMRotate (``custom_imports`` in the configs does)."""

from fdam_rotate.models import backbones, layers, necks
from fdam_rotate.models.host_fixes import mend_host

mend_host()

__all__ = ["backbones", "layers", "necks"]
