"""Why detections are wrong and objects are missed: one cause each, after TIDE, for oriented boxes and tiled images.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, sorts the mistakes of
detectors of upright boxes. Here its localisation error is taken apart into centre, size and angle, and two causes are
added that only detection by windows has. Let `thr` be the IoU threshold and `LEAST_OVERLAP` 0.1 as in TIDE. A false
positive has the first of these causes that holds (in the order of TIDE's code):

* ``seam``: matches (IoU > thr) the part of an object of its class that one window shows, and no whole object;
* ``centre``, ``size``, ``angle``: overlaps objects of its class by more than 0.1, but none by more than thr; named is
  what, when taken from the object (centre; both sides; angle), raises the IoU most. Both are seen as rectangles, the
  longer side first;
* ``class``: overlaps an object of another class by more than thr;
* ``duplicate``: overlaps an object of its class by more than thr, which a better detection has found;
* ``both``: overlaps an object of another class by more than 0.1: wrong class and place;
* ``background``: overlaps nothing by more than 0.1.

A missed object has the first of these:

* ``lost``: a patch has a detection of it (its class, IoU > thr), and merging did not keep it;
* ``seam``: it is complete in no window, or the best detection that points to it is a piece of it;
* ``class``, ``centre``, ``size``, ``angle``: of the best detection with that cause which points to it;
* ``miss``: nothing points to it.

``seam`` needs the windows, ``lost`` the detections before merging; without them these causes do not occur. Difficult
objects are no mistakes when missed; a detection that points to one is judged like others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_iou, poly_to_hbb, poly_to_le90
from fdam_rotate.dota.scoring.matching import FALSE_POSITIVE, TRUE_POSITIVE, best_matches, iou_pairs
from fdam_rotate.dota.scoring.scores import EvalResult

__all__ = ["CAUSES", "LEAST_OVERLAP", "Mistakes", "find_causes"]

#: The causes; their places here are the numbers in `Mistakes`.
CAUSES = ("class", "centre", "size", "angle", "both", "duplicate", "background", "seam", "lost", "miss")
CLASS, CENTRE, SIZE, ANGLE, BOTH, DUPLICATE, BACKGROUND, SEAM, LOST, MISS = range(len(CAUSES))

#: IoU above which a detection is taken to mean an object (TIDE's background threshold).
LEAST_OVERLAP = 0.1

# A piece of an object may overlap the whole by less than LEAST_OVERLAP; below this it is not looked at.
_LEAST_PIECE = 0.02
# Share of a detection that must lie in a window for the detection to come from it.
_INSIDE = 0.9

Index = NDArray[np.intp]
Polys = NDArray[np.float64]


@dataclass(frozen=True)
class Mistakes:
    """The causes of all mistakes at one threshold: D detections and M objects of all classes, class after class.

    Attributes:
        t: number of the threshold.
        det_cls: (D,) class number of each detection; within a class the order is that of its `ClassResult`.
        det_cause: (D,) int8, place in ``CAUSES``; -1 where the detection is no false positive.
        det_object: (D,) the object that a false positive points to; -1 if none.
        obj_cls: (M,) class number of each object.
        obj_cause: (M,) int8, place in ``CAUSES``; -1 where the object is found or difficult.
        lost_score: (M,) best score of the detections lost in merging; NaN where none was.
    """

    t: int
    det_cls: Index
    det_cause: NDArray[np.int8]
    det_object: Index
    obj_cls: Index
    obj_cause: NDArray[np.int8]
    lost_score: NDArray[np.float64]


def find_causes(
    result: EvalResult,
    *,
    t: int = 0,
    windows: Mapping[str, Polys] | None = None,
    unmerged: Mapping[str, Detections] | None = None,
) -> Mistakes:
    """Name the cause of each false positive and missed object at threshold number ``t``.

    Args:
        result: what :func:`~fdam_rotate.dota.scoring.evaluation.evaluate` returned.
        t: number of the threshold.
        windows: (W, 4) xmin ymin xmax ymax of the windows by image id, in pixels of the whole image.
        unmerged: the detections of all patches before merging by class, in pixels of the whole images.
    """
    thr = result.iou_thrs[t]
    per_class = list(result.per_class.values())
    det_cls = np.repeat(np.arange(len(per_class)), [len(r.scores) for r in per_class])
    obj_cls = np.repeat(np.arange(len(per_class)), [len(r.truth_image) for r in per_class])
    first_object = np.searchsorted(obj_cls, np.arange(len(per_class)))
    image = np.concatenate([r.image for r in per_class])
    scores = np.concatenate([r.scores for r in per_class])
    polys = np.concatenate([r.polys for r in per_class])
    obj_image = np.concatenate([r.truth_image for r in per_class])
    obj_polys = np.concatenate([r.truth_polys for r in per_class])
    if result.task == 2:  # upright boxes are compared, and the outer one of a label that is turned
        polys, obj_polys = _upright(polys), _upright(obj_polys)
    outcome = np.concatenate([r.outcome[t] for r in per_class])
    overlapped, matched = (
        np.concatenate(
            [np.where(rows >= 0, rows + first, -1) for rows, first in zip(columns, first_object, strict=True)]
        )
        for columns in (
            [np.where(r.iou > thr, r.truth, -1) for r in per_class],
            [r.match[t] for r in per_class],
        )
    )

    det_cause = np.full(len(det_cls), -1, dtype=np.int8)
    det_object = np.full(len(det_cls), -1, dtype=np.intp)
    wrong = np.flatnonzero(outcome == FALSE_POSITIVE)
    i, j, iou = iou_pairs(polys[wrong], image[wrong], obj_polys, obj_image, least=_LEAST_PIECE, task=result.task)
    i = wrong[i]
    same = det_cls[i] == obj_cls[j]
    own, own_iou = best_matches(len(det_cls), i[same], j[same], iou[same])
    other, other_iou = best_matches(len(det_cls), i[~same], j[~same], iou[~same])
    piece_of = np.full(len(det_cls), -1, dtype=np.intp)
    if windows is not None:
        small = same & (iou <= thr)
        names = [windows.get(name, np.empty((0, 4))) for name in result.images]
        piece_of = _pieces(polys, obj_polys, obj_image, names, i[small], j[small], iou[small], thr)

    false = outcome == FALSE_POSITIVE
    open_ = false.copy()
    for cause, holds, points_to in (
        (SEAM, (piece_of >= 0) & (overlapped < 0), piece_of),
        (CENTRE, (own_iou > LEAST_OVERLAP) & (overlapped < 0), own),
        (CLASS, other_iou > thr, other),
        (DUPLICATE, overlapped >= 0, overlapped),
        (BOTH, other_iou > LEAST_OVERLAP, other),
        (BACKGROUND, false, np.full(len(false), -1, dtype=np.intp)),
    ):
        rows = np.flatnonzero(open_ & holds)
        det_cause[rows] = cause
        det_object[rows] = points_to[rows]
        open_[rows] = False
    placed = np.flatnonzero(det_cause == CENTRE)
    det_cause[placed] = _what_is_off(polys[placed], obj_polys[det_object[placed]], result.task)

    missed = ~np.concatenate([r.truth_difficult for r in per_class])
    missed[matched[outcome == TRUE_POSITIVE]] = False
    obj_cause = np.where(missed, MISS, -1).astype(np.int8)
    pointing = np.flatnonzero(np.isin(det_cause, (CLASS, SEAM, CENTRE, SIZE, ANGLE)))
    pointing = pointing[np.lexsort((-pointing, scores[pointing]))]  # the last write wins: the best score
    explained = np.full(len(obj_cls), MISS, dtype=np.int8)
    explained[det_object[pointing]] = det_cause[pointing]
    obj_cause[missed] = explained[missed]
    if windows is not None:
        whole = _complete(obj_polys, obj_image, names)
        obj_cause[missed & ~whole] = SEAM
    lost_score = np.full(len(obj_cls), np.nan)
    if unmerged is not None:
        lost_score = _lost_scores(result, unmerged, obj_cls, obj_image, obj_polys, missed, thr)
        obj_cause[~np.isnan(lost_score)] = LOST
    return Mistakes(t, det_cls, det_cause, det_object, obj_cls, obj_cause, lost_score)


def _what_is_off(polys: Polys, objects: Polys, task: int) -> NDArray[np.int8]:
    """CENTRE, SIZE or ANGLE for pairs of a detection and its object, (K, 8) each; the earlier of equal ones."""
    det, obj = _rectangles(polys, task), _rectangles(objects, task)
    gains = []
    for columns in ([0, 1], [2, 3], [4]):
        mended = det.copy()
        mended[:, columns] = obj[:, columns]
        gains.append(pairwise_iou(le90_to_poly(mended), objects))
    # rounding must not decide between causes that mend a box equally well
    numbers: NDArray[np.int8] = np.array([CENTRE, SIZE, ANGLE], np.int8)[np.argmax(np.round(gains, 9), axis=0)]
    return numbers


def _rectangles(polys: Polys, task: int) -> Polys:
    """Centre, sides and angle (K, 5); of upright boxes the angle is 0."""
    if task == 1:
        return poly_to_le90(polys)
    low_x, low_y, high_x, high_y = poly_to_hbb(polys).T
    return np.stack(
        [(low_x + high_x) / 2, (low_y + high_y) / 2, high_x - low_x, high_y - low_y, np.zeros(len(polys))], axis=1
    )


def _upright(polys: Polys) -> Polys:
    """The outer upright boxes of polygons, as corners (N, 8)."""
    return poly_to_hbb(polys)[:, [0, 1, 2, 1, 2, 3, 0, 3]]


def _pieces(
    polys: Polys,
    obj_polys: Polys,
    obj_image: Index,
    windows: list[Polys],
    i: Index,
    j: Index,
    iou: NDArray[np.float64],
    thr: float,
) -> Index:
    """For each detection the object of which it is the part that one window shows; -1 where it is no such part.

    Args:
        polys: (D, 8) detections.
        obj_polys: (M, 8) objects.
        obj_image: (M,) their images.
        windows: by image.
        i: (K,) detection of each pair to look at.
        j: (K,) object of each pair.
        iou: (K,) of the pair.
        thr: the IoU threshold.
    """
    import shapely

    found = np.full(len(polys), -1, dtype=np.intp)
    bounds = poly_to_hbb(obj_polys)
    pair, frame = [np.empty(0, np.intp)], [np.empty((0, 4))]
    for k, obj in enumerate(j):
        own = windows[obj_image[obj]]
        cut = own[_touches(own, bounds[obj]) & ~_holds(own, bounds[obj])]
        pair.append(np.full(len(cut), k, np.intp))
        frame.append(cut)
    pairs, frames = np.concatenate(pair), np.concatenate(frame)
    if not len(pairs):
        return found
    boxes = shapely.box(*frames.T)
    dets = shapely.make_valid(shapely.polygons(polys[i[pairs]].reshape(-1, 4, 2)))
    parts = shapely.intersection(shapely.make_valid(shapely.polygons(obj_polys[j[pairs]].reshape(-1, 4, 2))), boxes)
    shared = shapely.area(shapely.intersection(dets, parts))
    area = shapely.area(dets)
    part_iou = shared / np.maximum(area + shapely.area(parts) - shared, 1e-9)
    inside = shapely.area(shapely.intersection(dets, boxes)) >= _INSIDE * area
    fits = np.flatnonzero(inside & (part_iou > thr) & (part_iou > iou[pairs]))
    best, _ = best_matches(len(polys), i[pairs[fits]], j[pairs[fits]], part_iou[fits])
    return np.where(best >= 0, best, found)


def _touches(windows: Polys, box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which windows share area with a box, rows xmin ymin xmax ymax."""
    touching: NDArray[np.bool_] = ((windows[:, :2] < box[2:]) & (windows[:, 2:] > box[:2])).all(axis=1)
    return touching


def _holds(windows: Polys, box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which windows hold a whole box, as far as it lies within any window: objects may reach out of the image."""
    if not len(windows):
        return np.zeros(0, dtype=np.bool_)
    low, high = np.maximum(box[:2], windows[:, :2].min(axis=0)), np.minimum(box[2:], windows[:, 2:].max(axis=0))
    held: NDArray[np.bool_] = ((windows[:, :2] <= low) & (windows[:, 2:] >= high)).all(axis=1)
    return held


def _complete(obj_polys: Polys, obj_image: Index, windows: list[Polys]) -> NDArray[np.bool_]:
    """Which objects are complete in some window; those of images without windows count as complete."""
    bounds = poly_to_hbb(obj_polys)
    whole = np.ones(len(obj_polys), dtype=np.bool_)
    for k, number in enumerate(obj_image):
        if len(windows[number]):
            whole[k] = _holds(windows[number], bounds[k]).any()
    return whole


def _lost_scores(
    result: EvalResult,
    unmerged: Mapping[str, Detections],
    obj_cls: Index,
    obj_image: Index,
    obj_polys: Polys,
    missed: NDArray[np.bool_],
    thr: float,
) -> NDArray[np.float64]:
    """The best score of the detections before merging that match each missed object, NaN where there is none."""
    number = {name: k for k, name in enumerate(result.images)}
    best = np.full(len(obj_cls), np.nan)
    for c, name in enumerate(result.per_class):
        objects = np.flatnonzero(missed & (obj_cls == c))
        if name not in unmerged or not len(objects):
            continue
        found = unmerged[name]
        lookup = np.array([number.get(image_id, -1) for image_id in found.image_ids] or [-1], dtype=np.intp)
        image = lookup[found.image]
        rows = np.flatnonzero(np.isin(image, obj_image[objects]))
        i, j, _ = iou_pairs(
            found.polys[rows], image[rows], obj_polys[objects], obj_image[objects], least=thr, task=result.task
        )
        np.fmax.at(best, objects[j], found.scores[rows[i]])
    return best
