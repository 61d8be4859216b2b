"""Pairs of boxes that may overlap, found by a spatial index, and the IoU of such pairs.

Scoring asks it for pairs of detections and objects, suppression for pairs of detections. Arrays: polygons (N, 8),
x1 y1 ... x4 y4; upright boxes (N, 4), xmin ymin xmax ymax; groups (N,), at least 0: only boxes of one group meet.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely
from numpy.typing import NDArray

from fdam_rotate.dota.geometry import area_of, iou_of, is_convex, overlap_of, pairwise_hbb_iou

__all__ = ["Neighbours", "PairIoU", "overlapping_pairs", "polygon_iou", "upright_iou"]

Polys = NDArray[np.float64]
Index = NDArray[np.intp]

#: From indices of the first and of the second boxes, (K,) each, to the IoU of each pair.
PairIoU = Callable[[Index, Index], NDArray[np.float64]]


def upright_iou(det_boxes: Polys, gt_boxes: Polys) -> PairIoU:
    """IoU of pairs of upright boxes, rows xmin ymin xmax ymax."""
    return lambda i, j: pairwise_hbb_iou(det_boxes[i], gt_boxes[j])


def polygon_iou(det: Polys, det_boxes: Polys, gt: Polys, gt_boxes: Polys, least: float) -> PairIoU:
    """IoU of pairs of polygons; 0 for a pair that cannot exceed ``least``, which saves most of the polygon work.

    The intersection lies in both outer boxes and in both polygons, so it is at most m, the least of the three areas,
    and the IoU is at most m / (area a + area b - m).
    """
    det_convex, gt_convex = is_convex(det), is_convex(gt)
    det_area, gt_area = area_of(det, det_convex), area_of(gt, gt_convex)

    def iou_of_pairs(i: Index, j: Index) -> NDArray[np.float64]:
        sides = np.minimum(det_boxes[i, 2:], gt_boxes[j, 2:]) - np.maximum(det_boxes[i, :2], gt_boxes[j, :2])
        area_i, area_j = det_area[i], gt_area[j]
        most = np.minimum(np.maximum(sides, 0.0).prod(1), np.minimum(area_i, area_j))
        near = np.flatnonzero(most * (1.0 + 1e-9) >= least * (area_i + area_j - most))
        i, j = i[near], j[near]
        inter = overlap_of(det[i], gt[j], det_convex[i] & gt_convex[j])
        iou = np.zeros(len(most))
        iou[near] = iou_of(inter, area_i[near], area_j[near])
        return iou

    return iou_of_pairs


class Neighbours:
    """A spatial index of upright boxes, in which boxes of one group find each other.

    Groups are laid out side by side along x, so that one index serves all of them.
    """

    def __init__(self, boxes: Polys, group: Index, *, left: float, right: float, last: int) -> None:
        """Index ``boxes``; all boxes ever asked for lie from ``left`` to ``right`` and in groups up to ``last``."""
        self._left, self._stride = left, right - left + 1.0
        # Moving a box rounds its edges; this much wider it keeps every neighbour.
        pad = 4.0 * np.spacing(self._stride * (last + 2.0))
        shift = self._shift(group)
        self._tree = shapely.STRtree(
            shapely.box(boxes[:, 0] + shift - pad, boxes[:, 1], boxes[:, 2] + shift + pad, boxes[:, 3])
        )

    def of(self, boxes: Polys, group: Index) -> tuple[Index, Index]:
        """Indices (i, j), (K,) each: box i of ``boxes`` overlaps or touches box j of the index."""
        shift = self._shift(group)
        i, j = self._tree.query(shapely.box(boxes[:, 0] + shift, boxes[:, 1], boxes[:, 2] + shift, boxes[:, 3]))
        return i.astype(np.intp), j.astype(np.intp)

    def _shift(self, group: Index) -> NDArray[np.float64]:
        return group * self._stride - self._left


def overlapping_pairs(a: Polys, a_group: Index, b: Polys, b_group: Index) -> tuple[Index, Index]:
    """Indices (i, j), (K,) each, of all boxes of equal group that overlap or touch: rows xmin ymin xmax ymax."""
    if not len(a) or not len(b):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    index = Neighbours(
        b,
        b_group,
        left=min(a[:, 0].min(), b[:, 0].min()),
        right=max(a[:, 2].max(), b[:, 2].max()),
        last=max(a_group.max(), b_group.max()),
    )
    return index.of(a, a_group)
