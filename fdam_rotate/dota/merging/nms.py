"""Greedy non-maximum suppression of quadrangles, equal to the plain loop over all pairs.

The rule: take boxes by falling score (ties in the order given), keep a box unless one kept before it overlaps it with
IoU > ``iou_thr``. Here the neighbours of many boxes are looked up at once in a spatial index, the IoU of those pairs is
computed at once, and then the rule runs over the few pairs that suppress. All pairs of an image would fill the memory
where boxes lie densely, so the best boxes come first, few at a time: what they suppress never asks for its neighbours,
and leaves the index when half of it is gone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.geometry import poly_to_hbb
from fdam_rotate.dota.pairs import Neighbours, PairIoU, polygon_iou, upright_iou

__all__ = ["greedy_nms"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

#: Boxes taken in the first round; each later round takes twice as many, up to the second number. In a crowd of
#: thousands of boxes in one place, the first few suppress nearly all.
_FIRST_ROUND, _LARGEST_ROUND = 256, 1 << 14

#: Pairs whose IoU is computed together; about 600 bytes each.
_CHUNK_PAIRS = 1 << 16


def greedy_nms(
    polys: Array, scores: Array, iou_thr: float, *, groups: Ints | None = None, horizontal: bool = False
) -> Bools:
    """Which boxes survive, (N,) bool.

    Args:
        polys: (N, 8), finite.
        scores: (N,), finite.
        iou_thr: in [0, 1]; a pair suppresses where IoU > this.
        groups: (N,) non-negative; only boxes of one group meet (an image and class). None: all are one group.
        horizontal: compare the upright bounds instead of the quadrangles.
    """
    survives = np.ones(len(polys), np.bool_)
    if not len(polys):
        return survives
    order = np.argsort(-scores, kind="stable")
    polys = polys[order]
    bounds = poly_to_hbb(polys)
    group = np.zeros(len(polys), np.intp) if groups is None else groups[order]
    iou = upright_iou(bounds, bounds) if horizontal else polygon_iou(polys, bounds, polys, bounds, iou_thr)
    left, right, last = bounds[:, 0].min(), bounds[:, 2].max(), int(group.max())

    lost = np.zeros(len(polys), np.bool_)
    begin, count = 0, _FIRST_ROUND
    indexed = np.arange(0)
    while begin < len(polys):
        waiting = begin + np.flatnonzero(~lost[begin:])  # neither settled nor suppressed, best first
        if not len(waiting):
            break
        if not len(indexed) or 2 * len(waiting) < len(indexed):
            indexed = waiting
            index = Neighbours(bounds[indexed], group[indexed], left=left, right=right, last=last)
        best = waiting[:count]
        i, j = index.of(bounds[best], group[best])
        better, worse = best[i], indexed[j]
        useful = (better < worse) & ~lost[worse]
        better, worse = _suppressing(better[useful], worse[useful], iou, iou_thr)
        _settle(better, worse, lost)
        begin = int(best[-1]) + 1
        count = min(2 * count, _LARGEST_ROUND)
    survives[order] = ~lost
    return survives


def _suppressing(better: Ints, worse: Ints, iou: PairIoU, iou_thr: float) -> tuple[Ints, Ints]:
    """The pairs whose IoU is above the threshold, the better boxes in order."""
    order = np.argsort(better, kind="stable")
    better, worse = better[order], worse[order]
    above = [np.zeros(0, np.bool_)]
    for begin in range(0, len(better), _CHUNK_PAIRS):
        part = slice(begin, begin + _CHUNK_PAIRS)
        above.append(iou(better[part], worse[part]) > iou_thr)
    hit = np.concatenate(above)
    return better[hit], worse[hit]


def _settle(better: Ints, worse: Ints, lost: Bools) -> None:
    """Mark in ``lost`` what the greedy rule drops, given all pairs that suppress, sorted by the better box."""
    starts = np.flatnonzero(np.diff(better, prepend=-1))
    bounds = [*starts.tolist(), len(better)]
    for box, begin, end in zip(better[starts].tolist(), bounds[:-1], bounds[1:], strict=True):
        if not lost[box]:
            lost[worse[begin:end]] = True
