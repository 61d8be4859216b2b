"""How the values of a raster become 8-bit pixels: which bands are red, green and blue, and which range is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fdam_rotate.dota.errors import DotaError

__all__ = ["RasterOptions"]


@dataclass(frozen=True)
class RasterOptions:
    """What decides the pixels that are read from a file of more than three bands or more than 8 bits.

    Attributes:
        bands: numbers, from 1, of the bands that are red, green and blue, or of one that is grey; None takes those
            that the file names so, else its first three.
        scale_range: the values that become 0 and 255 in files of other than 8 bits; values beyond are clipped. ``auto``
            takes them from each file by `fdam_rotate.dota.rasters.scaling.auto_range`.

    Raises:
        DotaError: a value is out of range.
    """

    bands: Sequence[int] | None = None
    scale_range: tuple[float, float] | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            raise DotaError(f"bands must be 3 numbers (red, green, blue) or 1 (grey), from 1, got {list(self.bands)}")
        if self.scale_range != "auto":
            low, high = self.scale_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise DotaError(f"scale_range must be auto or a low and a higher value, got {low:g} {high:g}")

    def to_json(self) -> dict[str, Any]:
        """As manifests and journals keep them."""
        scale = self.scale_range
        return {
            "bands": None if self.bands is None else list(self.bands),
            "scale_range": scale if scale == "auto" else [float(value) for value in scale],
        }
