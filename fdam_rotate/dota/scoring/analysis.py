"""Where an average precision comes from: confused classes, and the images with the most mistakes.

All of it is read off an :class:`~fdam_rotate.dota.scoring.scores.EvalResult`. None of it is part of DOTA's protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.scoring.matching import FALSE_POSITIVE, TRUE_POSITIVE, iou_pairs
from fdam_rotate.dota.scoring.scores import EvalResult

__all__ = ["Confusion", "ImageErrors", "confusion", "worst_images"]


@dataclass(frozen=True)
class Confusion:
    """Which classes are taken for which.

    Attributes:
        classes: C class names.
        matrix: (C + 1, C + 1) int64; entry [a, b] counts objects of class a that a detection of class b found. The last
            row holds detections on the background, the last column missed objects.
        iou_thr: a pair needs an IoU greater than this.
        score_thr: detections below this are left out.
    """

    classes: tuple[str, ...]
    matrix: NDArray[np.int64]
    iou_thr: float
    score_thr: float


@dataclass(frozen=True)
class ImageErrors:
    """Mistakes on one image, over all classes: objects that count, found, missed, and false positives."""

    image_id: str
    objects: int
    found: int
    missed: int
    false_positives: int

    @property
    def errors(self) -> int:
        """Missed objects and false positives."""
        return self.missed + self.false_positives


def confusion(result: EvalResult, *, score_thr: float = 0.3, t: int = 0) -> Confusion:
    """Count which class's detection finds which class's object, at threshold number ``t``.

    Detections of all classes choose in order of falling score, each the object that it overlaps most and that is still
    free. Difficult objects are neutral: what finds one is not counted.
    """
    per_class = list(result.per_class.values())
    count = len(per_class)
    kept = [r.scores >= score_thr for r in per_class]
    det_cls = np.repeat(np.arange(count), [int(np.count_nonzero(k)) for k in kept])
    det_image = np.concatenate([r.image[k] for r, k in zip(per_class, kept, strict=True)])
    det_polys = np.concatenate([r.polys[k] for r, k in zip(per_class, kept, strict=True)])
    scores = np.concatenate([r.scores[k] for r, k in zip(per_class, kept, strict=True)])
    gt_cls = np.repeat(np.arange(count), [len(r.truth_image) for r in per_class])
    gt_image = np.concatenate([r.truth_image for r in per_class])
    gt_polys = np.concatenate([r.truth_polys for r in per_class])
    difficult = np.concatenate([r.truth_difficult for r in per_class])

    iou_thr = result.iou_thrs[t]
    i, j, iou = iou_pairs(det_polys, det_image, gt_polys, gt_image, least=iou_thr, task=result.task)
    order = np.lexsort((j, -iou, i, -scores[i]))
    found_by = np.full(len(gt_cls), count, dtype=np.intp)
    free = np.ones(len(det_cls), dtype=bool)
    for d, g in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if free[d] and found_by[g] == count:
            free[d] = False
            found_by[g] = det_cls[d]
    matrix = np.zeros((count + 1, count + 1), dtype=np.int64)
    np.add.at(matrix, (gt_cls[~difficult], found_by[~difficult]), 1)
    np.add.at(matrix[count], det_cls[free], 1)
    return Confusion(result.classes, matrix, iou_thr, score_thr)


def worst_images(result: EvalResult, *, score_thr: float = 0.3, t: int = 0, limit: int = 20) -> list[ImageErrors]:
    """The images with the most missed objects and false positives together, worst first; images without any left out.

    Args:
        result: what :func:`~fdam_rotate.dota.scoring.evaluation.evaluate` returned.
        score_thr: detections below this are left out.
        t: number of the threshold.
        limit: greatest number of images.
    """
    count = len(result.images)
    objects, found, false = (np.zeros(count, dtype=np.int64) for _ in range(3))
    for r in result.per_class.values():
        shown = r.scores >= score_thr
        objects += np.bincount(r.truth_image[~r.truth_difficult], minlength=count)
        found += np.bincount(r.image[shown & (r.outcome[t] == TRUE_POSITIVE)], minlength=count)
        false += np.bincount(r.image[shown & (r.outcome[t] == FALSE_POSITIVE)], minlength=count)
    errors = objects - found + false
    order = np.argsort(-errors, kind="stable")[:limit]
    return [
        ImageErrors(result.images[k], int(objects[k]), int(found[k]), int(objects[k] - found[k]), int(false[k]))
        for k in order
        if errors[k]
    ]
