"""What mAP would gain if the mistakes of one cause were mended, TIDE's way (section 2.3 of the paper in `causes`).

One cause is mended at a time, the score computed again, and the difference is the gain; the gains do not add up.

* ``class``, ``centre``, ``size``, ``angle``, ``seam``: each such detection becomes what it meant: a true positive of
  its object, in the object's class and with its own score. Where several point to one object, or it is found already,
  or it is difficult, the others go.
* ``both``, ``duplicate``, ``background``: the detections go.
* ``miss``, and objects with cause ``seam`` that no piece points to: the objects go. No score is known that a detection
  of them would have.
* ``lost``: the best detection that was lost comes back, with its score.

Beside these stand two sums: no false positive at all (``false``), and no object missed (``missed``: those go).
A class of which no object would be left keeps its AP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.scoring.causes import CAUSES, LOST, MISS, SEAM, Mistakes
from fdam_rotate.dota.scoring.examples import Example, examples_to_json
from fdam_rotate.dota.scoring.matching import FALSE_POSITIVE, TRUE_POSITIVE
from fdam_rotate.dota.scoring.scores import EvalResult, average_precision, recall_precision
from fdam_rotate.dota.scoring.tables import Table

__all__ = ["DESCRIPTIONS", "CauseReport", "cause_table", "mend_causes"]

_MOVED = frozenset({"class", "centre", "size", "angle", "seam"})

#: What each cause is called in tables.
DESCRIPTIONS = {
    "class": "wrong class",
    "centre": "centre off",
    "size": "size off",
    "angle": "angle off",
    "both": "wrong class and place",
    "duplicate": "found twice",
    "background": "nothing there",
    "seam": "cut at a seam of windows",
    "lost": "lost in merging",
    "miss": "missed altogether",
    "false": "all false positives",
    "missed": "all missed objects",
}


@dataclass(frozen=True)
class CauseReport:
    """How often each cause occurs and what it costs, at one threshold.

    Attributes:
        map: the mean AP as it is.
        gain: by cause, and for ``'false'`` and ``'missed'``, what the mean AP gains when mended.
        gain_by_class: by cause, then class; classes without AP are absent.
        detections: number of false positives by cause, of a score of at least ``score_thr``.
        objects: number of missed objects by cause.
        score_thr: see ``detections``; the gains count all scores.
        iou_thr: the threshold.
    """

    map: float
    gain: Mapping[str, float]
    gain_by_class: Mapping[str, Mapping[str, float]]
    detections: Mapping[str, int]
    objects: Mapping[str, int]
    score_thr: float
    iou_thr: float


def mend_causes(result: EvalResult, mistakes: Mistakes, *, score_thr: float = 0.3) -> CauseReport:
    """Count the causes that :func:`~fdam_rotate.dota.scoring.causes.find_causes` named, and mend each by itself."""
    plain = {name: ap for name, ap in result.ap_at(mistakes.t).items() if ap is not None}
    gain_by_class: dict[str, dict[str, float]] = {}
    for cause in [*CAUSES, "false", "missed"]:
        mended = _mended_ap(result, mistakes, cause)
        gain_by_class[cause] = {name: mended[name] - ap for name, ap in plain.items()}
    scores = np.concatenate([r.scores for r in result.per_class.values()])
    shown = mistakes.det_cause[(mistakes.det_cause >= 0) & (scores >= score_thr)]
    missed = mistakes.obj_cause[mistakes.obj_cause >= 0]
    return CauseReport(
        map=result.map_at(mistakes.t),
        gain={cause: float(np.mean(list(gains.values()))) for cause, gains in gain_by_class.items()},
        gain_by_class=gain_by_class,
        detections={cause: int(np.count_nonzero(shown == k)) for k, cause in enumerate(CAUSES)},
        objects={cause: int(np.count_nonzero(missed == k)) for k, cause in enumerate(CAUSES)},
        score_thr=score_thr,
        iou_thr=result.iou_thrs[mistakes.t],
    )


def _mended_ap(result: EvalResult, m: Mistakes, cause: str) -> dict[str, float]:
    """AP by class when the mistakes of one cause are mended; classes without objects that count are absent."""
    scores = np.concatenate([r.scores for r in result.per_class.values()])
    outcome = np.concatenate([r.outcome[m.t] for r in result.per_class.values()])
    stays, gone, new = _mend(m, cause, scores, outcome)
    new_cls, new_scores = new
    mended = {}
    for c, (name, r) in enumerate(result.per_class.items()):
        if not r.npos:
            continue
        npos = r.npos - int(np.count_nonzero(gone & (m.obj_cls == c)))
        own = stays & (m.det_cls == c)
        added = new_scores[new_cls == c]
        all_scores = np.concatenate([scores[own], added])
        all_outcomes = np.concatenate([outcome[own], np.full(len(added), TRUE_POSITIVE, np.int8)])
        order = np.argsort(-all_scores, kind="stable")
        ap = r.ap[m.t]
        if npos:
            ap = average_precision(*recall_precision(all_outcomes[order], npos), result.metric)
        assert ap is not None
        mended[name] = ap
    return mended


def _mend(
    m: Mistakes, cause: str, scores: NDArray[np.float64], outcome: NDArray[np.int8]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Which detections stay (D,), which objects go (M,), and class and score of the true positives that come."""
    missed = m.obj_cause >= 0
    nothing = np.zeros(len(missed), dtype=np.bool_)
    none = np.empty(0, np.intp), np.empty(0)
    if cause == "false":
        return outcome != FALSE_POSITIVE, nothing, none
    if cause == "missed":
        return np.ones(len(scores), dtype=np.bool_), missed, none
    number = CAUSES.index(cause)
    mended = m.det_cause == number
    best = np.full(len(missed), -np.inf)
    if cause in _MOVED:
        rows = np.flatnonzero(mended)
        np.maximum.at(best, m.det_object[rows], scores[rows])
    if number == LOST:
        best = np.where(np.isnan(m.lost_score), -np.inf, m.lost_score)
    come = missed & (best > -np.inf)
    gone = nothing
    if number in (MISS, SEAM):
        gone = (m.obj_cause == number) & ~come
    return ~mended, gone, (m.obj_cls[come], best[come])


def cause_table(report: CauseReport, examples: Sequence[Example] = ()) -> Table:
    """The causes with their counts and what mending each would give; causes that do not occur are left out."""
    rows = []
    for cause in CAUSES:
        if report.detections[cause] or report.objects[cause] or report.gain[cause]:
            counts = [str(report.detections[cause]), str(report.objects[cause])]
            rows.append([f"{cause}: {DESCRIPTIONS[cause]}", *counts, f"{100 * report.gain[cause]:+.2f}"])
    for cause, counted in (("false", report.detections), ("missed", report.objects)):
        counts = ["", ""]
        counts[1 if cause == "missed" else 0] = str(sum(counted.values()))
        rows.append([DESCRIPTIONS[cause], *counts, f"{100 * report.gain[cause]:+.2f}"])
    name = f"AP{100 * report.iou_thr:g}"
    notes = [
        f"wrong detections: of a score of at least {report.score_thr:g}; missed objects: found at no score",
        f"gain: what m{name} {100 * report.map:.2f} would gain if only these were mended; gains do not add up (TIDE)",
    ]
    header = ["cause", "wrong detections", "missed objects", f"m{name} gain"]
    content = {
        "map": report.map,
        "iou": report.iou_thr,
        "score": report.score_thr,
        "gain": dict(report.gain),
        "gain_by_class": {cause: dict(gains) for cause, gains in report.gain_by_class.items()},
        "detections": dict(report.detections),
        "objects": dict(report.objects),
        "examples": examples_to_json(examples),
    }
    return Table("causes", "Why it is wrong", header, rows, notes, content=content)
