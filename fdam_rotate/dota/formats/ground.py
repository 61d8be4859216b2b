"""Detections of a georeferenced image as polygons on the ground: what GeoJSON and GeoPackage files hold.

Rings run counter-clockwise; they are closed when they are written. In longitude and latitude, a box that crosses 180
degrees is cut there into two polygons (RFC 7946, section 3.1.9), with longitudes of -180 to 180.

The bearing of a box is that of its longer side, in degrees clockwise from north, in [0, 180): true north, or with
``keep_crs`` the y axis of the image's own coordinate system, which needs no transformation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.rasters.georeference import GeoReference

__all__ = ["GroundBox", "GroundBoxes", "place_boxes"]

#: Decimals of a degree and of a projected unit, about a tenth of a millimetre both.
_DEGREE_DECIMALS, _UNIT_DECIMALS = 9, 4


@dataclass(frozen=True)
class GroundBox:
    """One detection.

    Attributes:
        name: its class.
        score: in [0, 1].
        bearing: of the longer side, degrees.
        rings: outlines of one polygon or two, each (n, 2), not closed.
    """

    name: str
    score: float
    bearing: float
    rings: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class GroundBoxes:
    """The detections of one image, best first in each class.

    Attributes:
        image_id: the image.
        boxes: those that have a place.
        left_out: how many have none: outside the domain of the image's projection, or round a pole.
        crs: rasterio's coordinate system if it is the image's own (None: unknown); not used if ``lon_lat``.
        lon_lat: whether coordinates are longitude and latitude.
    """

    image_id: str
    boxes: tuple[GroundBox, ...]
    left_out: int
    crs: Any
    lon_lat: bool


def place_boxes(
    detections: Mapping[str, Detections], image_id: str, reference: GeoReference, *, keep_crs: bool = False
) -> GroundBoxes:
    """Put the detections of one image on the ground.

    Args:
        detections: class -> detections in pixels of the original image.
        image_id: whose detections to take.
        reference: of that image.
        keep_crs: coordinates of the image's own system, instead of longitude and latitude.

    Raises:
        GeoReferenceError: the image's system has no longitude and latitude.
    """
    boxes: list[GroundBox] = []
    left_out = 0
    for name, found in detections.items():
        if image_id not in found.image_ids:
            continue
        own = found.take(found.image == found.image_ids.index(image_id))
        own = own.take(np.argsort(-own.scores, kind="stable"))
        points = reference.ground(own.polys.reshape(-1, 2))
        if not keep_crs:
            points = reference.lon_lat(points)
        rings = points.reshape(-1, 4, 2)
        if not keep_crs:
            rings = _unwrapped(rings)
        placed = np.isfinite(rings).all(axis=(1, 2))
        left_out += int((~placed).sum())
        degrees = reference.is_geographic or not keep_crs
        bearings = _bearings(rings[placed], degrees)
        decimals = _DEGREE_DECIMALS if degrees else _UNIT_DECIMALS
        for ring, score, bearing in zip(rings[placed], own.scores[placed].tolist(), bearings.tolist(), strict=True):
            parts = [ring] if keep_crs else _cut(ring)
            outlines = tuple(_counter_clockwise(part.round(decimals)) for part in parts)
            boxes.append(GroundBox(name, round(score, 6), round(bearing, 3) % 180, outlines))
    return GroundBoxes(image_id, tuple(boxes), left_out, reference.crs, not keep_crs)


def _unwrapped(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rings (N, 4, 2) of degrees without leaps of longitude, beginning in [-180, 180); NaN where one rounds a pole."""
    out = rings.copy()
    steps = np.diff(rings[..., 0], axis=1, append=rings[:, :1, 0])
    steps = (steps + 180) % 360 - 180
    out[:, 1:, 0] = out[:, :1, 0] + np.cumsum(steps[:, :3], axis=1)
    out[..., 0] -= 360 * np.floor((out[..., 0].min(axis=1, keepdims=True) + 180) / 360)
    out[np.abs(steps.sum(axis=1)) > 180] = np.nan
    return out


def _cut(ring: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """A ring (4, 2) of degrees whose least longitude is in [-180, 180), cut at 180 where it reaches beyond."""
    if ring[:, 0].max() <= 180:
        return [ring]
    parts = []
    for low, high, shift in ((-180.0, 180.0, 0.0), (180.0, 540.0, -360.0)):
        clipped = shapely.clip_by_rect(shapely.polygons(ring), low, -90, high, 90)
        for part in shapely.get_parts(clipped):
            if part.geom_type == "Polygon" and part.area > 0:
                parts.append(shapely.get_coordinates(part)[:-1] + np.array([shift, 0.0]))
    return parts


def _counter_clockwise(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring (n, 2) with x to the right and y up, turned if it runs clockwise; the first point stays first."""
    x, y = (ring - ring[:1]).T
    area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
    return np.concatenate([ring[:1], ring[:0:-1]]) if area < 0 else ring


def _bearings(rings: NDArray[np.float64], degrees: bool) -> NDArray[np.float64]:
    """Bearing in degrees, [0, 180), of the longer side of each box (N, 4, 2)."""
    sides = rings[:, 1:3] - rings[:, 0:2]  # the first two sides
    east, north = sides[..., 0], sides[..., 1]
    if degrees:
        east = east * np.cos(np.radians(rings[:, :1, 1]))
    longer = np.hypot(east, north).argmax(axis=1)[:, None]
    east, north = (np.take_along_axis(side, longer, axis=1)[:, 0] for side in (east, north))
    bearing: NDArray[np.float64] = np.degrees(np.arctan2(east, north)) % 180
    return bearing
