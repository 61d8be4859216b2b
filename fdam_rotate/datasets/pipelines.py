"""Steps of training pipelines that MMDetection and MMRotate lack."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmrotate.datasets.builder import ROTATED_PIPELINES

__all__ = ["DrawScale"]


@ROTATED_PIPELINES.register_module()
class DrawScale:
    """Draw the factor by which the ``RResize`` that follows resizes the image, evenly from a range.

    ``RResize`` itself knows target sizes only, so that a large image and a small one of the same resolution would be
    resized differently.

    Args:
        low: least factor, above 0.
        high: greatest factor, not below ``low``.
    """

    def __init__(self, low: float, high: float) -> None:
        if not 0 < low <= high:
            raise ValueError(f"expected 0 < low <= high, got low={low} and high={high}")
        self.low, self.high = low, high

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Set ``scale_factor``, which ``RResize`` takes where no ``scale`` is set."""
        results["scale_factor"] = float(np.random.uniform(self.low, self.high))  # noqa: NPY002 - as all steps, so that one seed rules
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(low={self.low}, high={self.high})"
