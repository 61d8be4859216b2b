"""X-AnyLabeling JSON (https://github.com/CVHub520/X-AnyLabeling): labelme's, with turned boxes of their own kind.

A rectangle is written as ``"shape_type": "rotation"`` with its corners and ``direction``, its angle in radians
(clockwise, in [0, 2 pi)), so that the tool can turn it; any other quadrangle as a polygon. Detections carry ``score``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.formats.boxes import rectangle_of
from fdam_rotate.dota.formats.interchange import DataPart, Writing
from fdam_rotate.dota.formats.labelme import read, write_files

__all__ = ["read", "write"]


def write(parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
    """Write ``folder/<part>/<id>.json`` and the images beside them."""
    write_files(parts, folder, writing, "2.3.6", _rotation)


def _rotation(poly: NDArray[np.float64]) -> Mapping[str, Any]:
    rectangle = rectangle_of(poly)
    if rectangle is None:
        return {"shape_type": "polygon", "points": poly.reshape(4, 2).tolist()}
    points = poly.reshape(4, 2).tolist()
    return {"shape_type": "rotation", "points": points, "direction": rectangle.angle % (2 * math.pi)}
