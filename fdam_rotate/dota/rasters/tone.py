"""Whether pixels that were read show anything: a wrong range or band gives pictures that are nearly one value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tone"]

# Of each window every eighth pixel of every eighth row is counted.
_STEP = 8

# A picture is nearly black if 95 % of its values are at most this, and nearly white if 95 % are at least 255 less it.
_DARKEST = 12

# A picture is nearly one grey if the middle 98 % of its values span at most this.
_FLATTEST = 6


class Tone:
    """Counts of the 256 levels in the windows of one image that were read so far."""

    def __init__(self) -> None:
        self._counts = np.zeros(256, np.int64)

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Count the pixels of a window (H, W, 3)."""
        self._counts += np.bincount(pixels[::_STEP, ::_STEP].ravel(), minlength=256)

    def add_counts(self, other: Tone) -> None:
        """Count what ``other`` has counted."""
        self._counts += other._counts

    def warning(self) -> str | None:
        """What is amiss with the picture as a whole, in words; None where it shows something."""
        total = int(self._counts.sum())
        if not total:
            return None
        below = np.cumsum(self._counts) / total
        low, dark, bright, high = (int(np.searchsorted(below, share)) for share in (0.01, 0.05, 0.95, 0.99))
        if bright <= _DARKEST:
            return f"nearly black: 95 % of the values are {bright} or less of 255"
        if dark >= 255 - _DARKEST:
            return f"nearly white: 95 % of the values are {dark} or more of 255"
        if high - low <= _FLATTEST:
            return f"nearly one grey: 98 % of the values lie between {low} and {high} of 255"
        return None
