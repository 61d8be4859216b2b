"""The orientation of EXIF and TIFF (1 as stored, 2 to 8 mirrored or turned), for windows, pixels and points.

An image as shown is its stored pixels with the rows reversed, the columns reversed, then transposed, each or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["shown_pixels", "stored_affine", "stored_window"]

_ROWS_REVERSED = (3, 4, 6, 7)
_COLUMNS_REVERSED = (2, 3, 7, 8)
_TRANSPOSED = (5, 6, 7, 8)


def stored_window(window: Sequence[int], orientation: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Where the window (x0, y0, x1, y1) of the image as shown lies in the stored one of ``width`` by ``height``."""
    x0, y0, x1, y1 = window
    if orientation in _TRANSPOSED:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in _COLUMNS_REVERSED:
        x0, x1 = width - x1, width - x0
    if orientation in _ROWS_REVERSED:
        y0, y1 = height - y1, height - y0
    return x0, y0, x1, y1


def shown_pixels(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels (H, W, ...) as they are shown."""
    if orientation in _ROWS_REVERSED:
        stored = stored[::-1]
    if orientation in _COLUMNS_REVERSED:
        stored = stored[:, ::-1]
    return np.swapaxes(stored, 0, 1) if orientation in _TRANSPOSED else stored


def stored_affine(orientation: int, width: int, height: int) -> NDArray[np.float64]:
    """(3, 3): takes a point (column, row, 1) of the image as shown to the stored one; corners of pixels to corners."""
    affine = np.eye(3)
    if orientation in _TRANSPOSED:
        affine = affine[[1, 0, 2]]
    if orientation in _COLUMNS_REVERSED:
        affine = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) @ affine
    if orientation in _ROWS_REVERSED:
        affine = np.array([[1.0, 0, 0], [0, -1, height], [0, 0, 1]]) @ affine
    return affine
