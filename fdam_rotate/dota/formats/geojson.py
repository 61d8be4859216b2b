"""Detections on a georeferenced image as GeoJSON (RFC 7946): one polygon a box, for QGIS, PostGIS and web maps.

A pixel coordinate is continuous: (0, 0) is the upper left corner of the upper left pixel, and the image's affine
transform maps it to the ground. Rings are closed and run counter-clockwise. Coordinates are longitude and latitude
(WGS 84); ``keep_crs`` writes those of the image's own coordinate system instead, named in the ``crs`` member that
GeoJSON had before RFC 7946 and that GDAL and QGIS still read.

Each feature has the properties ``image``, ``class``, ``score``, and ``angle_deg``: the bearing of the box's longer
side, in degrees clockwise from true north, in [0, 180).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.rasters.georeference import GeoReference

__all__ = ["write_geojson"]

#: Decimals of a degree and of a projected unit, about a tenth of a millimetre both.
_DEGREE_DECIMALS, _UNIT_DECIMALS = 9, 4


def write_geojson(
    path: str | Path,
    detections: Mapping[str, Detections],
    image_id: str,
    reference: GeoReference,
    *,
    keep_crs: bool = False,
) -> int:
    """Write the detections of one image, best first in each class; returns how many.

    Args:
        path: the file to write, all or nothing.
        detections: class -> detections in pixels of the original image.
        image_id: whose detections to take.
        reference: of that image.
        keep_crs: write coordinates of the image's own system.
    """
    decimals = _UNIT_DECIMALS if keep_crs and not reference.crs.is_geographic else _DEGREE_DECIMALS
    features: list[dict[str, Any]] = []
    for name, found in detections.items():
        if image_id not in found.image_ids:
            continue
        own = found.take(found.image == found.image_ids.index(image_id))
        own = own.take(np.argsort(-own.scores, kind="stable"))
        ground = reference.ground(own.polys.reshape(-1, 2))
        degrees = reference.lon_lat(ground).reshape(-1, 4, 2)
        rings = (ground.reshape(-1, 4, 2) if keep_crs else degrees).round(decimals)
        for ring, score, bearing in zip(
            _counter_clockwise(rings).tolist(), own.scores, _bearings(degrees), strict=True
        ):
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                    "properties": {
                        "image": image_id,
                        "class": name,
                        "score": round(float(score), 6),
                        "angle_deg": round(float(bearing), 3) % 180,
                    },
                }
            )
    collection: dict[str, Any] = {"type": "FeatureCollection", "name": image_id}
    if keep_crs:
        code = reference.crs.to_epsg()
        system = f"urn:ogc:def:crs:EPSG::{code}" if code else reference.crs.to_wkt()
        collection["crs"] = {"type": "name", "properties": {"name": system}}
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features)
    head = json.dumps(collection, ensure_ascii=False)[:-1]
    write_text(path, f'{head}, "features": [\n{lines}\n]}}\n')
    return len(features)


def _counter_clockwise(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rings (N, 4, 2) with x to the right and y up, turned where they run clockwise; the first point stays first."""
    x, y = (rings - rings[:, :1]).transpose(2, 0, 1)  # (N, 4) each
    area = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)
    return np.where((area < 0)[:, None, None], rings[:, [0, 3, 2, 1]], rings)


def _bearings(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bearing in degrees, [0, 180), of the longer side of each box (N, 4, 2) of longitudes and latitudes."""
    sides = degrees[:, 1:3] - degrees[:, 0:2]  # the first two sides
    east, north = sides[..., 0] * np.cos(np.radians(degrees[:, :1, 1])), sides[..., 1]
    longer = np.hypot(east, north).argmax(axis=1)[:, None]
    east, north = (np.take_along_axis(side, longer, axis=1)[:, 0] for side in (east, north))
    bearing: NDArray[np.float64] = np.degrees(np.arctan2(east, north)) % 180
    return bearing
