"""Layers, backbones and necks; importing this registers them with MMRotate (``custom_imports`` in the configs does)."""

from fdam_rotate.host.fixes import mend_host
from fdam_rotate.models import backbones, layers, necks

mend_host()

__all__ = ["backbones", "layers", "necks"]
