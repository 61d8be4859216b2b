"""Which detection goes with which object: the pairs that overlap enough, and DOTA's verdict on each detection.

A detection looks only at the object of its group (class and image) that it overlaps most; see
:mod:`fdam_rotate.dota.scoring.evaluation` for the protocol.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.geometry import poly_to_hbb
from fdam_rotate.dota.pairs import overlapping_pairs, polygon_iou, upright_iou

__all__ = ["FALSE_POSITIVE", "NEUTRAL", "TRUE_POSITIVE", "best_matches", "iou_pairs", "judge"]

#: Verdicts on a detection; NEUTRAL: its best match is an object that does not count.
TRUE_POSITIVE, NEUTRAL, FALSE_POSITIVE = 1, 0, -1

Polys = NDArray[np.float64]
Index = NDArray[np.intp]

#: Pairs of boxes compared together; about 600 bytes each.
_CHUNK_PAIRS = 1 << 17


def best_matches(count: int, i: Index, j: Index, iou: NDArray[np.float64]) -> tuple[Index, NDArray[np.float64]]:
    """For each of ``count`` detections the object that it overlaps most.

    Args:
        count: N, the number of detections.
        i: (K,) detection of each pair; see `iou_pairs`.
        j: (K,) object of each pair; among those of equal IoU the first counts.
        iou: (K,) of the pair.

    Returns:
        (N,) index of the object, -1 where there is no pair; (N,) that IoU, 0 where there is none.
    """
    truth = np.full(count, -1, dtype=np.intp)
    best = np.zeros(count)
    # The last write wins, so the pairs go from the worst to the best, and objects of equal IoU from last to first.
    order = np.lexsort((-j, iou))
    truth[i[order]] = j[order]
    best[i[order]] = iou[order]
    return truth, best


def judge(above: NDArray[np.bool_], truth: NDArray[np.intp], neutral: NDArray[np.bool_]) -> NDArray[np.int8]:
    """True positive (1), false positive (-1) or neutral (0), for the detections of one class in order of falling score.

    Args:
        above: (N,) whether the IoU with the best object is enough.
        truth: (N,) index of the best object; read only where ``above``.
        neutral: (M,) whether an object does not count.
    """
    outcome = np.full(len(above), FALSE_POSITIVE, dtype=np.int8)
    hits = np.flatnonzero(above)
    skipped = neutral[truth[hits]]
    outcome[hits[skipped]] = NEUTRAL
    hits = hits[~skipped]
    _, first = np.unique(truth[hits], return_index=True)
    outcome[hits[first]] = TRUE_POSITIVE
    return outcome


def iou_pairs(
    det: Polys, det_group: Index, gt: Polys, gt_group: Index, *, least: float, task: int
) -> tuple[Index, Index, NDArray[np.float64]]:
    """All pairs of a detection and an object of equal group, (N, 8) and (M, 8), whose IoU is greater than ``least``.

    Returns:
        Indices of the detections and of the objects, and the IoU by the rules of the task; (K,) each.
    """
    det_boxes, gt_boxes = poly_to_hbb(det), poly_to_hbb(gt)
    if task == 2:
        gt_boxes = np.trunc(gt_boxes)
        det_boxes[:, 2:] += 1.0  # the last pixel counts
        gt_boxes[:, 2:] += 1.0
    i, j = overlapping_pairs(det_boxes, det_group, gt_boxes, gt_group)
    iou_of_pairs = upright_iou(det_boxes, gt_boxes) if task == 2 else polygon_iou(det, det_boxes, gt, gt_boxes, least)
    parts = []
    for begin in range(0, len(i), _CHUNK_PAIRS):
        part_i, part_j = i[begin : begin + _CHUNK_PAIRS], j[begin : begin + _CHUNK_PAIRS]
        iou = iou_of_pairs(part_i, part_j)
        above = iou > least
        parts.append((part_i[above], part_j[above], iou[above]))
    if not parts:
        return i, j, np.empty(0)
    first, second, ious = zip(*parts, strict=True)
    return np.concatenate(first), np.concatenate(second), np.concatenate(ious)
