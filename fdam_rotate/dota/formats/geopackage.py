"""Detections on a georeferenced image as a GeoPackage (OGC 12-128), one layer named as the image.

The fields are those of GeoJSON: ``image``, ``class``, ``score``, ``angle_deg``. Equal detections give equal bytes: the
time that the format asks for is a fixed one.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.formats.ground import GroundBoxes

__all__ = ["check_geopackage", "write_geopackage"]

_SPECIAL = frozenset("`~!@#$%^&*()+-={}|[]\\:\";'<>?,./")
_TIME = {"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"}


def check_geopackage() -> None:
    """Find out before a long run whether GeoPackages can be written.

    Raises:
        DotaError: pyogrio is not installed.
    """
    try:
        import pyogrio  # noqa: F401
    except ImportError:
        raise DotaError("GeoPackages are written with pyogrio: pip install pyogrio") from None


def write_geopackage(path: str | Path, placed: GroundBoxes) -> None:
    """Write a GeoPackage, all or nothing; its polygons are all simple, or all multiple if 180 degrees cut one."""
    check_geopackage()
    import pyogrio

    polygons = [[shapely.Polygon(ring) for ring in box.rings] for box in placed.boxes]
    multiple = any(len(parts) > 1 for parts in polygons)
    shapes: list[Any] = [shapely.MultiPolygon(parts) if multiple else parts[0] for parts in polygons]
    fields: dict[str, Any] = {
        "image": np.array([placed.image_id] * len(shapes), object),
        "class": np.array([box.name for box in placed.boxes], object),
        "score": np.array([box.score for box in placed.boxes], np.float64),
        "angle_deg": np.array([box.bearing for box in placed.boxes], np.float64),
    }
    crs: str | None = "EPSG:4326"
    if not placed.lon_lat:
        crs = None if placed.crs is None else placed.crs.to_wkt()
    pyogrio.set_gdal_config_options(_TIME)
    try:
        with atomic_path(path) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            pyogrio.raw.write(
                temporary,
                geometry=np.array([shapely.to_wkb(shape) for shape in shapes], object),
                field_data=list(fields.values()),
                fields=list(fields),
                layer=_layer_name(placed.image_id),
                driver="GPKG",
                geometry_type="MultiPolygon" if multiple else "Polygon",
                crs=crs,
            )
    finally:
        pyogrio.set_gdal_config_options(dict.fromkeys(_TIME))


def _layer_name(image_id: str) -> str:
    """The layer of an image: its id, after an underscore where GDAL or SQLite would not have it as a table's name.

    GDAL refuses names that begin with a special character or with gpkg, SQLite those that begin with ``sqlite_``.
    """
    reserved = image_id.lower().startswith(("gpkg", "sqlite_")) or image_id[:1] in _SPECIAL
    return f"_{image_id}" if reserved else image_id
