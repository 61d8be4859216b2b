"""What an evaluation finds: precision and recall, average precision, and what was scored and left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.scoring.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE

__all__ = ["METRICS", "ClassResult", "EvalResult", "average_precision", "recall_points", "recall_precision"]

#: Names of the ways to match detections and to integrate a precision-recall curve.
METRICS = ("voc07", "voc12", "coco")


@dataclass(frozen=True)
class ClassResult:
    """How one class was matched and scored: N detections in the order of the protocol, M objects, T thresholds.

    Attributes:
        name: the class.
        image: (N,) intp, index of each detection's image in ``EvalResult.images``.
        scores: (N,) float64, falling.
        polys: (N, 8) float64, corners in pixels.
        iou: (N,) float64, IoU with the object overlapped most; 0 where that is not more than the least threshold.
        truth: (N,) intp, index of that object among the M; -1 where there is none.
        match: (T, N) intp, the object that made each detection a true positive, a duplicate or neutral; -1 where none
            did. By DOTA's protocol that is ``truth``; by COCO's it may be another, and a duplicate has none.
        outcome: (T, N) int8: 1 true positive, -1 false positive, 0 neutral (its match is a difficult object).
        truth_image: (M,) intp, index of each object's image in ``EvalResult.images``.
        truth_polys: (M, 8) float64, corners in pixels.
        truth_difficult: (M,) bool, not counted.
        ap: average precision for each threshold, from 0 to 1; None where no object counts.
    """

    name: str
    image: NDArray[np.intp]
    scores: NDArray[np.float64]
    polys: NDArray[np.float64]
    iou: NDArray[np.float64]
    truth: NDArray[np.intp]
    match: NDArray[np.intp]
    outcome: NDArray[np.int8]
    truth_image: NDArray[np.intp]
    truth_polys: NDArray[np.float64]
    truth_difficult: NDArray[np.bool_]
    ap: tuple[float | None, ...]

    @property
    def npos(self) -> int:
        """Number of objects that count."""
        return len(self.truth_difficult) - self.ndifficult

    @property
    def ndifficult(self) -> int:
        """Number of objects that do not count."""
        return int(np.count_nonzero(self.truth_difficult))

    def tp(self, t: int = 0) -> int:
        """Number of true positives at threshold number ``t``."""
        return int(np.count_nonzero(self.outcome[t] == TRUE_POSITIVE))

    def fp(self, t: int = 0) -> int:
        """Number of false positives at threshold number ``t``."""
        return int(np.count_nonzero(self.outcome[t] == FALSE_POSITIVE))

    def ignored(self, t: int = 0) -> int:
        """Number of neutral detections at threshold number ``t``."""
        return int(np.count_nonzero(self.outcome[t] == NEUTRAL))

    def curve(self, t: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Recall and precision, (N,) each, after each detection, at threshold number ``t``; recall 0 if npos is 0."""
        return recall_precision(self.outcome[t], self.npos)


@dataclass(frozen=True)
class EvalResult:
    """Scores by class and threshold, and what was scored.

    Attributes:
        classes: class names, in the order given.
        iou_thrs: IoU thresholds, in the order given; ``ap`` and ``map`` are at the first.
        metric: one of ``METRICS``.
        task: 1 for oriented, 2 for horizontal boxes.
        per_class: a ClassResult for each class.
        images: ids of the scored images, sorted.
        background: ids of those that hold no object of ``classes``.
        without_detections: ids of those that hold objects, yet have no detection.
        detections_only: sorted ids that have detections and no truth; they were left out.
        left_out: number of detections of those images.
        unknown_truth: number of objects by class name that is not in ``classes``; they were left out.
        unknown_detections: number of detections by class name that is not in ``classes``; they were left out.
        without_file: classes that ``detections`` does not hold; scored as having none.
    """

    classes: tuple[str, ...]
    iou_thrs: tuple[float, ...]
    metric: str
    task: int
    per_class: dict[str, ClassResult]
    images: tuple[str, ...]
    background: tuple[str, ...]
    without_detections: tuple[str, ...]
    detections_only: tuple[str, ...]
    left_out: int
    unknown_truth: dict[str, int]
    unknown_detections: dict[str, int]
    without_file: tuple[str, ...]

    def ap_at(self, t: int) -> dict[str, float | None]:
        """AP by class at threshold number ``t``."""
        return {name: result.ap[t] for name, result in self.per_class.items()}

    def map_at(self, t: int) -> float:
        """Mean of the classes' AP at threshold number ``t``; classes without objects are left out."""
        return float(np.mean([ap for ap in self.ap_at(t).values() if ap is not None]))

    @property
    def ap(self) -> dict[str, float | None]:
        """AP by class at the first threshold; None where the class has no object that counts."""
        return self.ap_at(0)

    @property
    def map(self) -> float:
        """Mean AP at the first threshold."""
        return self.map_at(0)

    @cached_property
    def map_mean(self) -> float:
        """Mean of the mean AP over all thresholds."""
        return float(np.mean([self.map_at(t) for t in range(len(self.iou_thrs))]))

    @property
    def without_truth(self) -> tuple[str, ...]:
        """Classes without an object that counts."""
        return tuple(name for name, result in self.per_class.items() if not result.npos)


def recall_precision(outcome: NDArray[np.int8], npos: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision, (N,) each, after each detection of falling score; see ``ClassResult.outcome``."""
    tp = np.cumsum(outcome == TRUE_POSITIVE).astype(np.float64)
    fp = np.cumsum(outcome == FALSE_POSITIVE).astype(np.float64)
    # The least positive step stands in for 0 while only neutral detections were met.
    return tp / max(npos, 1), tp / np.maximum(tp + fp, np.finfo(np.float64).eps)


def average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64], metric: str) -> float:
    """Integrate a precision-recall curve, (N,) each in order of falling score.

    ``'voc07'``: the mean over the recalls 0, 0.1 ... 1 of the best precision at that recall or a greater one, 0 where
    the curve does not get there. ``'voc12'``: the area under the precision made to fall. See Everingham et al.,
    "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, and the development kits of 2007 and 2012.
    ``'coco'``: as voc07, at the recalls 0, 0.01 ... 1 (cocoapi/PythonAPI/pycocotools/cocoeval.py).
    """
    if not len(recall):
        return 0.0
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    points = recall_points(metric)
    if points is None:
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope[:-1]))
    return float(envelope[np.searchsorted(recall, points, side="left")].sum() / len(points))


def recall_points(metric: str) -> NDArray[np.float64] | None:
    """The recalls at which a metric reads the precision; None for ``'voc12'``, which takes the whole area."""
    if metric == "voc07":
        # arange as in the devkit: its 0.30000000000000004 counts recall 3/10 as not reached, and so must we.
        return np.arange(0.0, 1.1, 0.1)
    if metric == "coco":
        return np.linspace(0.0, 1.0, 101)
    if metric != "voc12":
        raise DotaError(f"metric is one of {', '.join(METRICS)}, not {metric!r}")
    return None
