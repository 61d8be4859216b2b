"""Detections on a georeferenced image as GeoJSON (RFC 7946), for QGIS, PostGIS and web maps.

A feature is a polygon, or two of a box that 180 degrees cut. Coordinates are longitude and latitude (WGS 84);
``keep_crs`` writes those of the image's own coordinate system instead, named in the ``crs`` member that GeoJSON had
before RFC 7946 and that GDAL and QGIS still read.

Each feature has the properties ``image``, ``class``, ``score``, and ``angle_deg``, the bearing of the box's longer
side (`fdam_rotate.dota.formats.ground`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.formats.ground import GroundBoxes, place_boxes
from fdam_rotate.dota.rasters.georeference import GeoReference

__all__ = ["write_boxes", "write_geojson"]


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

    Raises:
        GeoReferenceError: the image's system has no longitude and latitude.
    """
    placed = place_boxes(detections, image_id, reference, keep_crs=keep_crs)
    write_boxes(path, placed)
    return len(placed.boxes)


def write_boxes(path: str | Path, placed: GroundBoxes) -> None:
    """Write a GeoJSON file, all or nothing."""
    features: list[dict[str, Any]] = []
    for box in placed.boxes:
        polygons = [[[*ring.tolist(), ring[0].tolist()]] for ring in box.rings]
        single = len(polygons) == 1
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon" if single else "MultiPolygon",
                    "coordinates": polygons[0] if single else polygons,
                },
                "properties": {
                    "image": placed.image_id,
                    "class": box.name,
                    "score": box.score,
                    "angle_deg": box.bearing,
                },
            }
        )
    collection: dict[str, Any] = {"type": "FeatureCollection", "name": placed.image_id}
    if not placed.lon_lat and placed.crs is not None:
        code = placed.crs.to_epsg()
        system = f"urn:ogc:def:crs:EPSG::{code}" if code else placed.crs.to_wkt()
        collection["crs"] = {"type": "name", "properties": {"name": system}}
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features)
    head = json.dumps(collection, ensure_ascii=False)[:-1]
    write_text(path, f'{head}, "features": [\n{lines}\n]}}\n')
