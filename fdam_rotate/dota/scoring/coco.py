"""COCO's way to decide which detections are right, for oriented boxes too.

As ``COCOeval.evaluateImg`` of pycocotools does it (cocoapi/PythonAPI/pycocotools/cocoeval.py): the detections of a
class, in order of falling score, each take the object of their image that they overlap most among those still free, if
the IoU is at least the threshold; of equal ones the last. So other than in DOTA's protocol a detection whose best
object is taken may take the next best. Only where no object is free, a difficult one makes a detection neutral; like
COCO's crowds it may be taken any number of times. COCO looks at the 100 best detections of an image and class; aerial
images hold more objects than that, and here all count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.scoring.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE

__all__ = ["COCO_SLACK", "match_coco", "outcome_coco"]

#: An IoU this much below the threshold still counts; COCO's comparison includes the threshold itself.
COCO_SLACK = 1e-10

Index = NDArray[np.intp]


def match_coco(
    i: Index,
    j: Index,
    iou: NDArray[np.float64],
    neutral: NDArray[np.bool_],
    thr: float,
    count: int,
    rank: Index | None = None,
) -> Index:
    """The object that each detection takes, (N,), -1 where it takes none.

    Args:
        i: (K,) detection of each pair that overlaps.
        j: (K,) object of each pair, of the same class and image.
        iou: (K,) of the pair.
        neutral: (M,) whether an object does not count.
        thr: a pair needs this IoU or more.
        count: N, the number of detections.
        rank: (N,) place of each detection in the order of falling score; None: they are in it.
    """
    match = np.full(count, -1, dtype=np.intp)
    near = iou >= thr - COCO_SLACK
    i, j, iou = i[near], j[near], iou[near]
    order = np.lexsort((-j, -iou, neutral[j], i if rank is None else rank[i]))
    free = np.ones(len(neutral), dtype=np.bool_).tolist()
    taken = match.tolist()
    crowd = neutral.tolist()
    for d, g in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if taken[d] < 0 and free[g]:
            taken[d] = g
            free[g] = crowd[g]
    return np.array(taken, dtype=np.intp)


def outcome_coco(match: Index, neutral: NDArray[np.bool_]) -> NDArray[np.int8]:
    """True positive, neutral or false positive for each detection, by the object that it takes."""
    outcome = np.full(len(match), FALSE_POSITIVE, dtype=np.int8)
    hits = np.flatnonzero(match >= 0)
    outcome[hits] = np.where(neutral[match[hits]], NEUTRAL, TRUE_POSITIVE)
    return outcome
