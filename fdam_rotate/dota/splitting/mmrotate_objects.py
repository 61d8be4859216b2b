"""Which objects of an image belong to which window, in MMRotate's convention, and their text.

The share of an object in a window (IoF) is ``area(object ∩ window) / area(object)``. An object belongs to every window
that holds a share of at least ``iof_thr``; its vertices are shifted, not clipped. Where the share is below 1 the object
is cut, and its difficulty is written as 2.

To give the same bytes as MMRotate's img_split the arithmetic follows it: coordinates are rounded to float32, areas of
intersections are GEOS's in float64, and the area of the object is rounded to float32 (so an object that lies wholly
inside may still count as cut, by rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["Assignment", "Overlaps", "assign_objects", "label_lines", "overlap_windows", "round_as_mmrotate"]

Indices = NDArray[np.intp]

# MMRotate divides by at least this area (square pixels).
_SMALLEST_AREA = 1e-6


@dataclass(frozen=True)
class Overlaps:
    """What objects share with windows, for the pairs whose bounding boxes overlap, ordered by window, then object.

    Attributes:
        objects: (P,) index of the object.
        windows: (P,) index of the window.
        shapes: (P,) the shared regions, shapely geometries.
        areas: (P,) their areas in square pixels.
        whole: (N,) areas of the objects.
        crossing: (N,) whether an object has an area, but crosses or touches itself.
    """

    objects: Indices
    windows: Indices
    shapes: NDArray[np.object_]
    areas: NDArray[np.float64]
    whole: NDArray[np.float64]
    crossing: NDArray[np.bool_]

    def touched(self) -> NDArray[np.bool_]:
        """Which of the N objects share an area with any window."""
        touched = np.zeros(len(self.whole), np.bool_)
        touched[self.objects[self.areas > 0]] = True
        return touched


@dataclass(frozen=True)
class Assignment:
    """The objects of the windows, ordered by window and then by object.

    Attributes:
        objects: (P,) index of the object.
        windows: (P,) index of the window.
        cut: (P,) whether the window holds less than the whole object.
    """

    objects: Indices
    windows: Indices
    cut: NDArray[np.bool_]


def overlap_windows(polys: NDArray[np.float64], windows: NDArray[np.int64]) -> Overlaps:
    """Regions that objects (N, 8) share with windows (W, 4).

    A polygon that GEOS cannot intersect, because it crosses itself, counts as the region that ``shapely.make_valid``
    gives it.
    """
    rings = shapely.polygons(polys.reshape(-1, 4, 2))
    boxes = shapely.box(*windows.T)
    objects, wins = _overlapping_boxes(polys, windows, boxes)
    whole = np.asarray(shapely.area(rings), np.float64).reshape(len(polys))
    valid = np.asarray(shapely.is_valid(rings)).reshape(len(polys))
    sound = valid[objects]
    shapes = np.empty(len(objects), np.object_)
    shapes[sound] = shapely.intersection(rings[objects[sound]], boxes[wins[sound]])
    areas = np.asarray(shapely.area(shapes), np.float64).reshape(len(objects))
    crossing = ~valid
    for index in np.flatnonzero(~valid):  # few: about one object in ten thousand
        pairs = objects == index
        window = windows[wins[pairs]]
        try:
            shapes[pairs] = shapely.intersection(rings[index], boxes[wins[pairs]])
            areas[pairs] = shapely.area(shapes[pairs])
        except shapely.errors.GEOSException:
            mended = shapely.make_valid(rings[index])
            shapes[pairs] = shapely.intersection(mended, boxes[wins[pairs]])
            whole[index] = mended.area
            # rounding must not cut an object that lies wholly inside
            areas[pairs] = np.where(_holds(window, polys[index]), mended.area, shapely.area(shapes[pairs]))
        crossing[index] = whole[index] > 0 or shapely.make_valid(rings[index]).area > 0
    return Overlaps(objects, wins, shapes, areas, whole, crossing)


def _overlapping_boxes(
    polys: NDArray[np.float64], windows: NDArray[np.int64], boxes: NDArray[np.object_]
) -> tuple[Indices, Indices]:
    """Object and window indices of the pairs whose bounding boxes share an area, ordered by window, then object."""
    points = polys.reshape(-1, 4, 2)
    low, high = points.min(axis=1), points.max(axis=1)
    hulls = shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])
    objects, wins = shapely.STRtree(boxes).query(hulls)
    side = np.minimum(high[objects], windows[wins, 2:]) - np.maximum(low[objects], windows[wins, :2])
    real = (side > 0).all(axis=1)
    objects, wins = objects[real], wins[real]
    order = np.lexsort((objects, wins))
    return objects[order], wins[order]


def _holds(windows: NDArray[np.int64], poly: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which windows (W, 4) hold every vertex of one polygon (8,)."""
    x, y = poly[0::2], poly[1::2]
    x0, y0, x1, y1 = windows.T
    held: NDArray[np.bool_] = (x0 <= x.min()) & (x1 >= x.max()) & (y0 <= y.min()) & (y1 >= y.max())
    return held


def round_as_mmrotate(polys: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates as MMRotate keeps them: rounded to float32."""
    return polys.astype(np.float32).astype(np.float64)


def assign_objects(overlaps: Overlaps, num_windows: int, iof_thr: float) -> Assignment:
    """The objects of each window in MMRotate's convention, from the overlaps of rounded coordinates."""
    objects, wins, whole = overlaps.objects, overlaps.windows, overlaps.whole
    shares = overlaps.areas / np.maximum(whole.astype(np.float32), np.float32(_SMALLEST_AREA))[objects]
    if iof_thr <= 0:  # a share of 0 is enough: every object belongs to every window
        full = np.zeros((num_windows, len(whole)))
        full[wins, objects] = shares
        wins, objects = (axis.ravel() for axis in np.indices(full.shape))
        shares = full.ravel()
    keep = shares >= iof_thr
    return Assignment(objects[keep], wins[keep], shares[keep] < 1)


def label_lines(
    polys: NDArray[np.float32], names: Sequence[str], difficult: NDArray[np.int64], cut: NDArray[np.bool_]
) -> list[str]:
    """One annotation line per object: eight coordinates as NumPy prints float32, class, difficulty (2 where cut)."""
    level = np.where(cut, 2, difficult).tolist()
    # repr of a float prints a whole number as str of a float32 does, and much faster
    whole = bool((polys == np.rint(polys)).all() and (np.abs(polys) < 2**24).all())
    text = map(repr, polys.ravel().tolist()) if whole else map(str, polys.ravel())
    return [
        f"{' '.join(row)} {name} {d}" for row, name, d in zip(zip(*[text] * 8, strict=True), names, level, strict=True)
    ]
