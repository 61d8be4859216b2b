"""Average precision on whole images, equal to DOTA_devkit's ``dota_evaluation_task1.py`` and ``task2.py``.

The protocol, class by class: the detections of all images, in order of falling score, each look at the object of their
class and image that they overlap most. Where that IoU is greater than the threshold, the detection is a true positive
if the object was not found yet, a false positive if it was, and neither if the object is marked difficult; otherwise it
is a false positive. A detection never falls back to its second-best object. Recall counts the objects that are not
difficult. ``'voc07'`` is the mean of the best precision at the recalls 0, 0.1 ... 1 (the server's); ``'voc12'`` is the
area under the precision envelope. ``'coco'`` matches and integrates as COCO does.

Task 1 compares polygons. Task 2 compares upright boxes as the devkit does: the object's corners cut to whole pixels,
and widths and heights counted with the last pixel (+1). Where a label holds a rotated polygon, its outer box counts.

Two things that the devkit leaves to chance, or to division by zero, are fixed here:

* Equal scores are taken in the order of image id, then of coordinates; among objects of equal IoU one that is not
  difficult comes first, then coordinates decide. So no result depends on the order of lines.
* A class without an object that counts has no AP: it is None, and the mean leaves it out (as MMRotate does). The devkit
  adds 0 or NaN there. On DOTA's own sets every class has objects, and the two means are the same.

Whatever image ids the truths have are scored, images without any object too: all detections there are false positives.
Detections of other images are left out, and named in the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import DotaError, ScoreError
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.coco import COCO_SLACK, match_coco, outcome_coco
from fdam_rotate.dota.scoring.matching import best_matches, iou_pairs, judge
from fdam_rotate.dota.scoring.scores import METRICS, ClassResult, EvalResult, average_precision, recall_precision
from fdam_rotate.dota.windows import parse_patch_name

__all__ = ["evaluate", "parse_iou_thrs"]


def parse_iou_thrs(words: Iterable[str | float]) -> tuple[float, ...]:
    """Thresholds from numbers and ranges: ``['0.5', '0.75']``, or ``['0.5:0.95']``, which goes in steps of 0.05.

    Raises:
        DotaError: a word is neither, a threshold is not in [0, 1), or the list is empty.
    """
    thrs: list[float] = []
    for word in words:
        try:
            ends = [float(part) for part in str(word).split(":")]
        except ValueError:
            ends = []
        if len(ends) == 2 and ends[0] <= ends[1]:
            steps = int(round((ends[1] - ends[0]) / 0.05, 6)) + 1
            ends = [round(ends[0] + 0.05 * k, 6) for k in range(steps)]
        elif len(ends) != 1:
            raise DotaError(f"IoU threshold {word!r}: expected a number such as 0.5 or a range such as 0.5:0.95")
        thrs += [thr for thr in ends if thr not in thrs]
    _check_thrs(thrs)
    return tuple(thrs)


def evaluate(
    detections: Mapping[str, Detections],
    truths: Mapping[str, Labels],
    classes: str | Sequence[str],
    *,
    iou_thrs: Sequence[float] = (0.5,),
    metric: str = "voc07",
    task: int = 1,
) -> EvalResult:
    """Score detections of whole images against their labels, for all thresholds at once.

    Args:
        detections: detections by class, in pixels of the original images; a class may be absent.
        truths: labels by image id, for every image to score; empty Labels for an image without objects.
        classes: classes to score, or a version such as ``'v1.0'``; the mean AP is over those that have objects.
        iou_thrs: thresholds in [0, 1); a match needs an IoU greater than it.
        metric: ``'voc07'``, ``'voc12'`` or ``'coco'`` (see :mod:`fdam_rotate.dota.scoring.coco` for its matching).
        task: 1 for polygons, 2 for upright boxes.

    Raises:
        ScoreError: the number would mean nothing: no object of ``classes`` counts, or there are detections and none of
            them is of an image in ``truths``, or they have ids of patches where the truths have those of whole images.
        DotaError: a threshold, the metric or the task is not one of those above, a class is named twice, or a number
            is not finite.
    """
    classes = resolve_classes(classes)
    _check_thrs(iou_thrs)
    if metric not in METRICS:
        raise DotaError(f"metric is one of {', '.join(METRICS)}, not {metric!r}")
    if task not in (1, 2):
        raise DotaError(f"task is 1 (oriented boxes) or 2 (horizontal boxes), not {task!r}")
    images = tuple(sorted(truths))
    gt, unknown_truth = _gather_truths(truths, images, classes)
    if not np.count_nonzero(~gt.difficult):
        raise ScoreError(_no_truth(len(images), len(gt.cls), unknown_truth, classes))
    det, foreign = _gather_detections(detections, images, classes)
    if foreign:
        _check_ids(sorted(foreign), images, len(det.cls))

    groups = det.cls * len(images) + det.image, gt.cls * len(images) + gt.image
    # COCO counts the threshold itself
    least = min(iou_thrs) - (2 * COCO_SLACK if metric == "coco" else 0.0)
    pairs = iou_pairs(det.polys, groups[0], gt.polys, groups[1], least=least, task=task)
    best, iou = best_matches(len(det.cls), *pairs)
    per_class = {}
    det_ends = np.searchsorted(det.cls, np.arange(len(classes) + 1))
    gt_ends = np.searchsorted(gt.cls, np.arange(len(classes) + 1))
    for c, name in enumerate(classes):
        d, g = slice(*det_ends[c : c + 2]), slice(*gt_ends[c : c + 2])
        truth = np.where(best[d] >= 0, best[d] - gt_ends[c], -1)
        neutral = gt.difficult[g]
        if metric == "coco":
            own = (pairs[0] >= d.start) & (pairs[0] < d.stop)
            i, j, pair_iou = pairs[0][own] - d.start, pairs[1][own] - g.start, pairs[2][own]
            match = np.stack([match_coco(i, j, pair_iou, neutral, thr, len(truth)) for thr in iou_thrs])
            outcome = np.stack([outcome_coco(row, neutral) for row in match])
        else:
            match = np.stack([np.where(iou[d] > thr, truth, -1) for thr in iou_thrs])
            outcome = np.stack([judge(row >= 0, row, neutral) for row in match])
        npos = int(np.count_nonzero(~neutral))
        ap = tuple(average_precision(*recall_precision(row, npos), metric) if npos else None for row in outcome)
        per_class[name] = ClassResult(
            name, det.image[d], det.scores[d], det.polys[d], iou[d], truth, match, outcome,
            gt.image[g], gt.polys[g], neutral, ap,
        )  # fmt: skip

    holds_truth = np.bincount(gt.image, minlength=len(images)) > 0
    has_det = np.bincount(det.image, minlength=len(images)) > 0
    return EvalResult(
        classes=tuple(classes),
        iou_thrs=tuple(float(thr) for thr in iou_thrs),
        metric=metric,
        task=task,
        per_class=per_class,
        images=images,
        background=tuple(images[i] for i in np.flatnonzero(~holds_truth)),
        without_detections=tuple(images[i] for i in np.flatnonzero(holds_truth & ~has_det)),
        detections_only=tuple(sorted(foreign)),
        left_out=sum(foreign.values()),
        unknown_truth=unknown_truth,
        unknown_detections={name: len(d.scores) for name, d in sorted(detections.items()) if name not in classes},
        without_file=tuple(name for name in classes if name not in detections),
    )


def _check_thrs(iou_thrs: Sequence[float]) -> None:
    if not len(iou_thrs):
        raise DotaError("no IoU threshold; give at least one, such as 0.5")
    for thr in iou_thrs:
        if not 0.0 <= thr < 1.0:
            raise DotaError(f"IoU threshold {thr} is not in [0, 1)")


@dataclass(frozen=True)
class _Truths:
    """All objects of the classes, sorted by class, image, difficulty and coordinates."""

    cls: NDArray[np.intp]
    image: NDArray[np.intp]
    polys: NDArray[np.float64]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True)
class _Detections:
    """All detections of the classes and images, sorted by class, falling score, image and coordinates."""

    cls: NDArray[np.intp]
    image: NDArray[np.intp]
    polys: NDArray[np.float64]
    scores: NDArray[np.float64]


def _gather_truths(
    truths: Mapping[str, Labels], images: Sequence[str], classes: Sequence[str]
) -> tuple[_Truths, dict[str, int]]:
    number = {name: c for c, name in enumerate(classes)}
    cls = np.array([number.get(name, -1) for i in images for name in truths[i].names], dtype=np.intp)
    image = np.repeat(np.arange(len(images)), [len(truths[i].names) for i in images])
    polys = np.concatenate([np.empty((0, 8)), *(truths[i].polys for i in images)])
    difficult = np.concatenate([np.empty(0), *(truths[i].difficult for i in images)]) != 0
    unknown: dict[str, int] = {}
    if (cls < 0).any():
        for i in images:
            for name in truths[i].names:
                if name not in number:
                    unknown[name] = unknown.get(name, 0) + 1
    order = _sorted_rows((cls, image, difficult), polys)[np.count_nonzero(cls < 0) :]
    return _Truths(cls[order], image[order], polys[order], difficult[order]), dict(sorted(unknown.items()))


def _gather_detections(
    detections: Mapping[str, Detections], images: Sequence[str], classes: Sequence[str]
) -> tuple[_Detections, dict[str, int]]:
    number = {image_id: i for i, image_id in enumerate(images)}
    present = [(c, detections[name]) for c, name in enumerate(classes) if name in detections]
    foreign: dict[str, int] = {}
    image_parts = [np.empty(0, dtype=np.intp)]
    for _, d in present:
        lookup = np.array([number.get(image_id, -1) for image_id in d.image_ids] or [-1], dtype=np.intp)
        image_parts.append(lookup[d.image])
        counts = np.bincount(d.image, minlength=len(lookup))
        for k in np.flatnonzero((lookup < 0) & (counts > 0)):
            foreign[d.image_ids[k]] = foreign.get(d.image_ids[k], 0) + int(counts[k])
    image = np.concatenate(image_parts)
    cls = np.repeat(np.array([c for c, _ in present], dtype=np.intp), [len(d.scores) for _, d in present])
    polys = np.concatenate([np.empty((0, 8)), *(d.polys for _, d in present)])
    scores = np.concatenate([np.empty(0), *(d.scores for _, d in present)])
    if not (np.isfinite(polys).all() and np.isfinite(scores).all()):
        raise DotaError("a score or coordinate of the detections is not finite; did the model diverge?")
    kept = image >= 0
    cls, image, polys, scores = cls[kept], image[kept], polys[kept], scores[kept]
    order = _sorted_rows((cls, -scores, image), polys)
    return _Detections(cls[order], image[order], polys[order], scores[order]), foreign


def _sorted_rows(keys: tuple[NDArray[Any], ...], polys: NDArray[np.float64]) -> NDArray[np.intp]:
    """Order of rows by the keys, the first before the others, then by coordinates."""
    columns = [*keys, *polys.T]
    quick = [*keys, *polys.T[:2]]
    order = np.lexsort(quick[::-1])
    tied = np.ones(max(len(order) - 1, 0), dtype=bool)
    for column in quick:
        tied &= np.diff(column[order].astype(np.float64)) == 0
    # Ties are seldom, and the other coordinates cost six more sorts.
    result: NDArray[np.intp] = np.lexsort(columns[::-1]) if tied.any() else order
    return result


def _no_truth(nimages: int, nobjects: int, unknown: Mapping[str, int], classes: Sequence[str]) -> str:
    """Why there is no ground truth."""
    if not nimages:
        return "no image to score: there is no label file"
    if nobjects:
        return f"no ground truth: all {nobjects} objects of the {nimages} label files are marked difficult"
    others = ", ".join(f"{name} ({count})" for name, count in unknown.items())
    return (
        f"no ground truth: the {nimages} label files hold no object of the classes {', '.join(classes)}"
        + (f"; they hold {others}" if others else "")
        + "; give the classes of these labels, and note that test images come without labels"
    )


def _check_ids(foreign: Sequence[str], images: Sequence[str], known: int) -> None:
    """Raise where ids of detections show that they belong to patches or to another set of images."""
    truth_ids = set(images)
    for image_id in foreign:
        try:
            whole = parse_patch_name(image_id).image_id
        except DotaError:
            continue
        if whole in truth_ids:
            raise ScoreError(
                f"detections have ids of patches, such as {image_id!r}, and the labels those of whole images, such as "
                f"{whole!r}; merge the patches first: fdam-rotate merge PATCH_DETECTIONS --out DIR"
            )
    if not known:
        raise ScoreError(
            f"none of the {len(foreign)} image ids of the detections, such as {foreign[0]!r}, has a label; "
            f"the labels have ids such as {images[0]!r}"
        )
