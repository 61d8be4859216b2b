"""Bicubic resizing as a matrix, equal to F.interpolate's with ``align_corners=True``."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["bicubic_matrix"]

_CUBIC_A = -0.75  # the kernel of F.interpolate(mode='bicubic')


def bicubic_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Return the (size_out, size_in) float64 matrix of F.interpolate's bicubic resize with ``align_corners=True``.

    Each row sums to 1 and has at most four entries other than 0, side by side. Samples outside the input repeat its
    border. Equal sizes give the identity.
    """
    matrix = np.zeros((size_out, size_in))
    step = (size_in - 1) / (size_out - 1) if size_out > 1 else 0.0
    for row in range(size_out):
        position = row * step
        left = min(math.floor(position), size_in - 1)
        fraction = position - left
        for offset in (-1, 0, 1, 2):
            matrix[row, min(max(left + offset, 0), size_in - 1)] += _cubic(abs(offset - fraction))
    return matrix


def _cubic(distance: float) -> float:
    """Cubic convolution kernel (Keys 1981) at a distance of 0 to 2 samples."""
    d = distance
    if d <= 1:
        return ((_CUBIC_A + 2) * d - (_CUBIC_A + 3)) * d * d + 1
    return ((_CUBIC_A * d - 5 * _CUBIC_A) * d + 8 * _CUBIC_A) * d - 4 * _CUBIC_A
