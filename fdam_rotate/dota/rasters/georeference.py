"""Where the pixels of an image lie on the ground.

A pixel coordinate is continuous: (0, 0) is the upper left corner of the upper left pixel, and the image's affine
transform maps it to the ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GeoReference", "read_georeference"]

_WGS84 = "EPSG:4326"


@dataclass(frozen=True)
class GeoReference:
    """Where the pixels of an image lie.

    Attributes:
        crs: rasterio's coordinate reference system.
        transform: (6,) a b c d e f; x = a * column + b * row + c, y = d * column + e * row + f in units of ``crs``.
    """

    crs: Any
    transform: tuple[float, ...]

    def ground(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixel points (N, 2) as column and row, to (N, 2) x and y in ``crs``."""
        a, b, c, d, e, f = self.transform
        column, row = points.T
        return np.stack([a * column + b * row + c, d * column + e * row + f], axis=1)

    def lon_lat(self, ground: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 2) in ``crs`` to (N, 2) longitude and latitude in degrees, WGS 84."""
        from rasterio.warp import transform

        if not len(ground):
            return ground
        return np.stack(transform(self.crs, _WGS84, *ground.T), axis=1)


def read_georeference(path: str | Path) -> GeoReference | None:
    """Where an image lies; None if it is no GeoTIFF with a coordinate system."""
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED=False):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path, driver="GTiff") as dataset:
                if dataset.crs is None or dataset.transform.is_identity:
                    return None
                return GeoReference(dataset.crs, tuple(dataset.transform)[:6])
        except RasterioError:
            return None
