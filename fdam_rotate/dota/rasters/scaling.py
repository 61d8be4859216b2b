"""Values of other than 8 bits as 8-bit pixels, by a rule that gives the same pixels each time.

A value ``v`` becomes ``255 * (v - low) / (high - low)``, rounded to the nearest, clipped to 0 to 255. The range is the
same for all bands of an image, so that its colours stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["auto_range", "scaled"]

#: The shares of the values that ``auto`` lets become 0 and 255.
QUANTILES = (0.005, 0.995)


def auto_range(samples: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """The range of ``--scale-range auto``: the values below which 0.5 % and 99.5 % of the sampled values lie.

    Args:
        samples: values of all bands that are read, in any shapes, without those that are no data.

    Returns:
        low and high, values of the file (none between two); ``high > low`` always.
    """
    values = np.concatenate([np.empty(0), *(sample.ravel().astype(np.float64) for sample in samples)])
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, QUANTILES, method="inverted_cdf").tolist()
    return low, max(high, low + 1.0) if high == low else high


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values of any real type and shape as uint8; what is no number becomes 0."""
    if values.dtype in (np.uint16, np.int16):  # a table of all values is five times as fast
        table = _scaled(np.arange(65536, dtype=np.uint16).view(values.dtype), low, high)
        found: NDArray[np.uint8] = table[values.view(np.uint16)]
        return found
    return _scaled(values, low, high)


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    levels = (values.astype(np.float64) - low) * (255.0 / (high - low)) + 0.5
    np.nan_to_num(levels, copy=False, nan=0.0)
    return np.clip(levels, 0.0, 255.0, out=levels).astype(np.uint8)
