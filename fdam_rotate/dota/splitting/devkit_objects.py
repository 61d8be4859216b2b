"""Objects of a patch as DOTA_devkit's ImgSplit cuts them: clipped polygons, at most four corners, whole coordinates.

The rules, for an image resized by ``rate``:

* coordinates of the label file are truncated to integers, then multiplied by the rate;
* the window ends one pixel before the image does (``min(x0 + size, width - 1)``);
* an object wholly inside (share exactly 1) keeps its polygon and its difficulty;
* any other that shares an area is clipped. A clipped polygon of four corners stays; of five, the two ends of its
  shortest side become their middle; with fewer or more the object is left out of this patch;
* the clipped polygon starts at the corner that brings it closest to the original, corner by corner;
* its difficulty stays where the share is above the threshold, and becomes 2 below;
* coordinates are shifted, truncated to integers, and, where clipped, kept within 1 and the window's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.splitting.mmrotate_objects import Overlaps, overlap_windows
from fdam_rotate.dota.splitting.options import Level

__all__ = ["ClippedObjects", "clip_objects"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClippedObjects:
    """The objects of the windows of one level, ordered by window and then by object.

    Attributes:
        objects: (P,) index of the object.
        windows: (P,) index of the window.
        cut: (P,) whether the polygon was clipped.
        lines: P annotation lines.
        overlaps: what the objects share with the windows.
    """

    objects: NDArray[np.intp]
    windows: NDArray[np.intp]
    cut: NDArray[np.bool_]
    lines: list[str]
    overlaps: Overlaps


def clip_objects(labels: Labels, level: Level, iof_thr: float, size: int) -> ClippedObjects:
    """The objects of every window of ``level``, whose side is ``size``, as annotation lines."""
    scaled = np.trunc(labels.polys) * level.scale
    windows = level.windows.copy()
    windows[:, 2:] = np.minimum(windows[:, 2:], (level.width - 1, level.height - 1))
    overlaps = overlap_windows(scaled, windows)
    share = overlaps.areas / np.where(overlaps.whole > 0, overlaps.whole, np.inf)[overlaps.objects]
    polys, usable = _four_corners(overlaps.shapes, scaled[overlaps.objects])
    inside = share == 1
    keep = inside | (usable & (share > 0))
    inside, share = inside[keep], share[keep]
    objects, wins = overlaps.objects[keep], overlaps.windows[keep]
    shifted = np.where(inside[:, None], scaled[objects], polys[keep]) - np.tile(windows[wins, :2], 4)
    whole = np.trunc(shifted)
    whole = np.where(inside[:, None], whole, np.clip(whole, 1, size)) + 0.0  # no minus zero
    difficult = np.where(inside | (share > iof_thr), labels.difficult[objects], 2).tolist()
    rows = whole.tolist()
    lines = [
        f"{' '.join(map(repr, row))} {labels.names[i]} {level_of}"
        for row, i, level_of in zip(rows, objects.tolist(), difficult, strict=True)
    ]
    return ClippedObjects(objects, wins, ~inside, lines, overlaps)


def _four_corners(shapes: NDArray[np.object_], originals: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Clipped polygons (P,) as (P, 8), and which of them have four or five corners."""
    rings = shapely.get_exterior_ring(shapely.orient_polygons(shapes))  # None for what is not one polygon
    corners = np.where(shapely.is_missing(rings), 0, shapely.get_num_points(rings) - 1)
    out = np.zeros((len(shapes), 8))
    four, five = corners == 4, corners == 5
    if four.any():
        out[four] = shapely.get_coordinates(rings[four]).reshape(-1, 5, 2)[:, :4].reshape(-1, 8)
    if five.any():
        out[five] = _merge_shortest(shapely.get_coordinates(rings[five]).reshape(-1, 6, 2)[:, :5])
    usable = four | five
    out[usable] = _closest_start(out[usable], originals[usable])
    return out, usable


def _merge_shortest(points: Array) -> Array:
    """Five corners (N, 5, 2) as four (N, 8): the ends of the first shortest side become their middle."""
    after = np.roll(points, -1, axis=1)
    step = after - points
    shortest = np.sqrt(step[..., 0] ** 2 + step[..., 1] ** 2).argmin(axis=1)
    rows = np.arange(len(points))
    merged = points.copy()
    merged[rows, shortest] = (points[rows, shortest] + after[rows, shortest]) / 2
    stay = np.ones(points.shape[:2], np.bool_)
    stay[rows, (shortest + 1) % 5] = False
    out: Array = merged[stay].reshape(-1, 8)
    return out


def _closest_start(polys: Array, originals: Array) -> Array:
    """Each of (N, 8) turned to the start whose corners lie closest to those of its original (sum of squares)."""
    turned = np.stack([np.roll(polys, -2 * k, axis=1) for k in range(4)], axis=1)
    best = ((turned - originals[:, None, :]) ** 2).sum(axis=2).argmin(axis=1)
    out: Array = turned[np.arange(len(polys)), best]
    return out
