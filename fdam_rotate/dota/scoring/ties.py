"""What equal scores leave open: the least and greatest AP over all orders of tied detections.

AP looks at detections in order of falling score, and detections of equal score have no order. Which one the sort puts
first decides how many false positives stand before a true positive, and so the precision there. Whatever the order,
matching gives a group of tied detections the same number of true and false positives, because a detection looks at one
object only. So both bounds are reached, in all groups at once:

* greatest: of each group all true positives come first;
* least: first the false positives that no tied true positive is needed for; then the objects found in the group, the
  one with the most duplicates first, since a duplicate counts as false only after its true positive.

AP never falls where a false positive moves behind a true one, for any way to integrate the curve, so no order gives
less or more. The score reported, in which image id and coordinates break ties, lies between the two. By COCO's way to
match, the order decides too which object a detection takes: there the bounds are those of `COCO_ORDERS` random orders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.scoring.coco import COCO_SLACK, match_coco, outcome_coco
from fdam_rotate.dota.scoring.matching import FALSE_POSITIVE, TRUE_POSITIVE, iou_pairs
from fdam_rotate.dota.scoring.scores import ClassResult, EvalResult, average_precision, recall_precision

__all__ = ["COCO_ORDERS", "TieBounds", "tie_bounds"]

#: Random orders that are tried by COCO's way to match.
COCO_ORDERS = 20


@dataclass(frozen=True)
class TieBounds:
    """The APs that some order of the tied detections would give, at one IoU threshold.

    Attributes:
        ap: least and greatest AP by class; None where no object counts.
        map: least and greatest mean over the classes.
        tied: number of detections, of all classes, that share their score with another of their class.
        exact: whether no order gives less or more; False where they come from some orders only.
    """

    ap: dict[str, tuple[float, float] | None]
    map: tuple[float, float]
    tied: int
    exact: bool

    def matter(self, least: float = 5e-5) -> bool:
        """Whether some AP may differ by more than ``least``: with 5e-5 the second decimal of a percentage."""
        return any(pair is not None and pair[1] - pair[0] > least for pair in self.ap.values())


def tie_bounds(result: EvalResult, t: int = 0) -> TieBounds:
    """The least and greatest AP by class, and mAP, at threshold number ``t``."""
    ap: dict[str, tuple[float, float] | None] = {}
    tied = 0
    for name, r in result.per_class.items():
        group = np.cumsum(np.diff(r.scores, prepend=r.scores[:1]) != 0)
        members = np.bincount(group)
        tied += int(members[members > 1].sum())
        value = r.ap[t]
        if value is None:
            ap[name] = None
        elif len(group) == len(members):
            ap[name] = (value, value)
        elif result.metric == "coco":
            ap[name] = _seeded_bounds(r, t, group, result, value)
        else:
            least, greatest = (_ap_in_order(r, t, order, result.metric) for order in _orders(r, t, group, result))
            ap[name] = (least, greatest)
    pairs = [pair for pair in ap.values() if pair is not None]
    low, high = (float(np.mean([pair[side] for pair in pairs])) for side in (0, 1))
    return TieBounds(ap, (low, high), tied, result.metric != "coco")


def _seeded_bounds(
    r: ClassResult, t: int, group: NDArray[np.intp], result: EvalResult, value: float
) -> tuple[float, float]:
    """The least and greatest AP over random orders of the tied detections, matched again each time, and ``value``."""
    thr = result.iou_thrs[t]
    i, j, iou = iou_pairs(r.polys, r.image, r.truth_polys, r.truth_image, least=thr - 2 * COCO_SLACK, task=result.task)
    rng = np.random.default_rng(0)
    values = [value]
    for _ in range(COCO_ORDERS):
        order = np.lexsort((rng.random(len(group)), group))
        match = match_coco(i, j, iou, r.truth_difficult, thr, len(group), rank=np.argsort(order))
        outcome = outcome_coco(match, r.truth_difficult)[order]
        values.append(average_precision(*recall_precision(outcome, r.npos), result.metric))
    return min(values), max(values)


def _ap_in_order(r: ClassResult, t: int, order: NDArray[np.intp], metric: str) -> float:
    return average_precision(*recall_precision(r.outcome[t][order], r.npos), metric)


def _orders(
    r: ClassResult, t: int, group: NDArray[np.intp], result: EvalResult
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Orders of a class's detections that give the least and the greatest AP; neutral ones may stand anywhere."""
    outcome = r.outcome[t]
    hit = outcome == TRUE_POSITIVE
    greatest = np.lexsort((~hit, group))
    # the group in which each object was found, and with how many duplicates beside it
    found_in = np.full(len(r.truth_image) + 1, -1, dtype=np.intp)
    found_in[r.truth[hit]] = group[hit]
    duplicate = (outcome == FALSE_POSITIVE) & (r.iou > result.iou_thrs[t])
    beside = duplicate & (found_in[r.truth] == group)
    copies = np.bincount(r.truth[beside], minlength=len(r.truth_image) + 1)
    family = hit | beside
    least = np.lexsort((~hit, np.where(family, r.truth, -1), np.where(family, -copies[r.truth], 0), family, group))
    return least, greatest
