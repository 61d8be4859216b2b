"""Whether a score of 0.8 means that 8 of 10 are right: reliability by bins of scores, and the calibration error.

Expected calibration error (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017): the scores from 0 to 1
are cut into equal bins, and the distance between mean score and share of true positives in each bin is averaged,
weighted by the number of detections. Of a detector only the detections are asked, missed objects do not enter (Kueppers
et al., "Multivariate Confidence Calibration for Object Detection", CVPR Workshops 2020). Neutral detections are left
out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.scoring.matching import NEUTRAL, TRUE_POSITIVE
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.scoring.tables import Table, percent

__all__ = ["Calibration", "calibrate", "calibration_table"]


@dataclass(frozen=True)
class Calibration:
    """Reliability of the scores of all classes together, at one IoU threshold; B bins.

    Attributes:
        edges: (B + 1,) of the bins.
        count: (B,) detections in each.
        score: (B,) their mean score; NaN where there is none.
        precision: (B,) share of true positives; NaN where there is none.
        ece: expected calibration error, from 0 to 1.
        ece_by_class: of each class by itself; None where it has no detection that counts.
        iou_thr: the threshold.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    score: NDArray[np.float64]
    precision: NDArray[np.float64]
    ece: float
    ece_by_class: dict[str, float | None]
    iou_thr: float


def calibrate(result: EvalResult, *, t: int = 0, bins: int = 10) -> Calibration:
    """Compare scores with shares of true positives at threshold number ``t``, in ``bins`` bins of equal width.

    Raises:
        DotaError: a score does not lie in [0, 1], so that it is no probability, or no detection counts.
    """
    edges = np.arange(bins + 1) / bins  # linspace would give 0.30000000000000004
    by_class: dict[str, float | None] = {}
    scores, hits = [], []
    for name, r in result.per_class.items():
        counts = r.outcome[t] != NEUTRAL
        own, right = r.scores[counts], r.outcome[t][counts] == TRUE_POSITIVE
        if len(own) and not (own.min() >= 0 and own.max() <= 1):
            raise DotaError(
                f"calibration needs scores in [0, 1]; those of {name} go from {own.min():g} to {own.max():g}"
            )
        by_class[name] = _error(*_bins(own, right, edges)) if len(own) else None
        scores.append(own)
        hits.append(right)
    if not sum(map(len, scores)):
        raise DotaError("calibration needs detections that count; there are none")
    count, score, precision = _bins(np.concatenate(scores), np.concatenate(hits), edges)
    return Calibration(edges, count, score, precision, _error(count, score, precision), by_class, result.iou_thrs[t])


def _bins(
    scores: NDArray[np.float64], hits: NDArray[np.bool_], edges: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Detections, mean score and share of hits of each bin; a bin holds its lower edge, the last one both."""
    bins = len(edges) - 1
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins).astype(np.int64)
    total = np.where(count > 0, count, np.nan)
    return count, np.bincount(place, scores, bins) / total, np.bincount(place, hits, bins) / total


def _error(count: NDArray[np.int64], score: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    return float(np.nansum(count * np.abs(score - precision)) / count.sum())


def calibration_table(calibration: Calibration) -> Table:
    """Bin by bin the mean score and the share of true positives."""
    rows, records = [], []
    for k, count in enumerate(calibration.count.tolist()):
        low, high = calibration.edges[k], calibration.edges[k + 1]
        record = {"low": float(low), "high": float(high), "detections": count, "score": None, "precision": None}
        if count:
            record |= {"score": float(calibration.score[k]), "precision": float(calibration.precision[k])}
        records.append(record)
        rows.append([f"{low:.2g} to {high:.2g}", str(count), percent(record["score"]), percent(record["precision"])])
    notes = [
        f"expected calibration error {percent(calibration.ece)} (IoU > {calibration.iou_thr:g}): the average distance "
        "of mean score and precision; 0 is best",
    ]
    content = {"ece": calibration.ece, "ece_by_class": calibration.ece_by_class, "bins": records}
    header = ["score", "detections", "mean score", "precision"]
    return Table("calibration", "Calibration of the scores", header, rows, notes, content=content)
