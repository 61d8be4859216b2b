"""What to deploy with: precision, recall and F1 by score threshold, the best threshold of each class, object counts.

A detection is kept where its score is at least the threshold. Verdicts do not depend on what has a lower score, so
those of the evaluation hold for every threshold. F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen, "Information Retrieval",
1979); neutral detections and difficult objects count nowhere.

A threshold that was chosen where it is judged looks better than it is. So thresholds are chosen on one list of images
and reported on the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import ScoreError
from fdam_rotate.dota.scoring.matching import FALSE_POSITIVE, TRUE_POSITIVE
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.scoring.tables import Table, percent

__all__ = [
    "At",
    "ClassThreshold",
    "CountError",
    "best_thresholds",
    "count_errors",
    "curve_table",
    "scores_at",
    "threshold_table",
]

#: Thresholds at which precision, recall and F1 are tabled.
GRID = tuple(round(0.05 * k, 2) for k in range(1, 20))

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class At:
    """True positives, false positives and missed objects at a threshold."""

    tp: int
    fp: int
    missed: int

    @property
    def precision(self) -> float | None:
        """Share of the kept detections that are right; None where none is kept."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Share of the objects that are found; None where there are none."""
        return self.tp / (self.tp + self.missed) if self.tp + self.missed else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None where there is neither an object nor a detection."""
        total = 2 * self.tp + self.fp + self.missed
        return 2 * self.tp / total if total else None

    def __add__(self, other: At) -> At:
        return At(self.tp + other.tp, self.fp + other.fp, self.missed + other.missed)


@dataclass(frozen=True)
class CountError:
    """How the number of kept detections differs from that of objects, over images.

    Attributes:
        objects: number of objects.
        detections: number of detections kept, neutral ones left out.
        bias: mean over images of detections minus objects.
        absolute: mean over images of the absolute difference.
    """

    objects: int
    detections: int
    bias: float
    absolute: float


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of a class, and what it gives.

    Attributes:
        threshold: detections of at least this score are kept.
        own: whether it was chosen for the class; False: for all classes together, as the class had no hit to choose by.
        chosen: on the images that it was chosen on.
        reported: on the others.
        counts: on the others.
    """

    threshold: float
    own: bool
    chosen: At
    reported: At
    counts: CountError


def scores_at(
    result: EvalResult, thresholds: Mapping[str, float], images: Mask | None = None, t: int = 0
) -> dict[str, At]:
    """What each class keeps and misses at its score threshold, on some images ((I,) mask; None: all)."""
    out = {}
    for name, r in result.per_class.items():
        kept = r.scores >= thresholds[name]
        counted = ~r.truth_difficult
        if images is not None:
            kept, counted = kept & images[r.image], counted & images[r.truth_image]
        tp = int(np.count_nonzero(r.outcome[t][kept] == TRUE_POSITIVE))
        fp = int(np.count_nonzero(r.outcome[t][kept] == FALSE_POSITIVE))
        out[name] = At(tp, fp, int(np.count_nonzero(counted)) - tp)
    return out


def count_errors(
    result: EvalResult, thresholds: Mapping[str, float], images: Mask | None = None, t: int = 0
) -> dict[str, CountError]:
    """How each class's count by image differs from the objects'; ``'all'`` adds the classes up image by image."""
    count = len(result.images)
    chosen = np.ones(count, dtype=np.bool_) if images is None else images
    tables = {}
    for name, r in result.per_class.items():
        kept = (r.scores >= thresholds[name]) & (r.outcome[t] != 0)
        tables[name] = (
            np.bincount(r.truth_image[~r.truth_difficult], minlength=count)[chosen],
            np.bincount(r.image[kept], minlength=count)[chosen],
        )
    tables["all"] = tuple(np.sum([table[k] for table in tables.values()], axis=0) for k in (0, 1))
    return {
        name: CountError(
            int(objects.sum()), int(found.sum()), float(np.mean(found - objects)), float(np.mean(abs(found - objects)))
        )
        for name, (objects, found) in tables.items()
    }


def best_thresholds(result: EvalResult, choose_on: Collection[str], t: int = 0) -> dict[str, ClassThreshold]:
    """The threshold of the greatest F1 by class, chosen on some of the scored images, reported on the others.

    Of equal F1 the highest threshold is taken. It lies halfway to the next lower score, so that rounding of scores
    changes nothing. A class without a true positive to choose by gets the threshold that is best for all together.

    Raises:
        ScoreError: none of the images is scored, or all are, or none of them has a true positive.
    """
    chosen = np.isin(np.array(result.images), list(choose_on))
    if not chosen.any():
        raise ScoreError(f"none of the {len(choose_on)} images to choose thresholds on is scored")
    if chosen.all():
        raise ScoreError("all scored images are in the list to choose thresholds on; none is left to report them on")
    parts = []
    for r in result.per_class.values():
        own = chosen[r.image] & (r.outcome[t] != 0)
        npos = int(np.count_nonzero(~r.truth_difficult & chosen[r.truth_image]))
        parts.append((r.scores[own], r.outcome[t][own] == TRUE_POSITIVE, npos))
    order = np.argsort(-np.concatenate([part[0] for part in parts]), kind="stable")
    scores, hits = (np.concatenate([part[k] for part in parts])[order] for k in (0, 1))
    common = _best(scores, hits, sum(part[2] for part in parts))
    if common is None:
        raise ScoreError("no detection on the images to choose thresholds on is right")
    own_best = {name: _best(*part) for name, part in zip(result.per_class, parts, strict=True)}
    thresholds = {name: common if best is None else best for name, best in own_best.items()}
    at_chosen, at_reported = (scores_at(result, thresholds, mask, t) for mask in (chosen, ~chosen))
    counts = count_errors(result, thresholds, ~chosen, t)
    return {
        name: ClassThreshold(thr, own_best[name] is not None, at_chosen[name], at_reported[name], counts[name])
        for name, thr in thresholds.items()
    }


def _best(scores: NDArray[np.float64], hits: Mask, npos: int) -> float | None:
    """The threshold of the greatest F1 for detections of falling score; None without a hit."""
    if not hits.any():
        return None
    tp = np.cumsum(hits)
    f1 = 2 * tp / (np.arange(1, len(hits) + 1) + npos)
    last = np.append(scores[1:] < scores[:-1], True)  # equal scores are kept or left out together
    places = np.flatnonzero(last)
    place = places[np.argmax(f1[places])]
    lower = scores[place + 1] if place + 1 < len(scores) else 0.0
    middle = float(scores[place] + lower) / 2
    rounded = round(middle, 6)
    return rounded if lower < rounded <= scores[place] else middle


def threshold_table(choices: Mapping[str, ClassThreshold]) -> Table:
    """Thresholds by class with F1 where they were chosen and precision, recall, F1 and counts elsewhere."""
    header = ["class", "threshold", "F1 chosen", "precision", "recall", "F1", "objects", "count", "count error"]
    rows = []
    for name, one in choices.items():
        at = one.reported
        rows.append(
            [
                name,
                f"{one.threshold:.3f}" + ("" if one.own else "*"),
                *map(percent, (one.chosen.f1, at.precision, at.recall, at.f1)),
                str(one.counts.objects),
                str(one.counts.detections),
                f"{one.counts.bias:+.2f} +- {one.counts.absolute:.2f}",
            ]
        )
    total = sum((one.reported for one in choices.values()), At(0, 0, 0))
    chosen = sum((one.chosen for one in choices.values()), At(0, 0, 0))
    sums = [sum(getattr(one.counts, key) for one in choices.values()) for key in ("objects", "detections")]
    rows.append(["all", "", *map(percent, (chosen.f1, total.precision, total.recall, total.f1)), *map(str, sums), ""])
    notes = [
        "thresholds have the greatest F1 on the images of the list; all other columns are of the other images",
        "count error: mean over images of detections minus objects, and of its absolute value",
    ]
    if not all(one.own for one in choices.values()):
        notes.append("*: no hit to choose by; the threshold that is best for all classes together")
    content = {
        name: {
            "threshold": one.threshold,
            "own": one.own,
            "f1_chosen": one.chosen.f1,
            "precision": one.reported.precision,
            "recall": one.reported.recall,
            "f1": one.reported.f1,
            "objects": one.counts.objects,
            "count": one.counts.detections,
            "count_bias": one.counts.bias,
            "count_error": one.counts.absolute,
        }
        for name, one in choices.items()
    }
    return Table("thresholds", "Thresholds to deploy with", header, rows, notes, total=True, content=content)


def curve_table(result: EvalResult, grid: Sequence[float] = GRID, t: int = 0) -> Table:
    """Precision, recall and F1 of all classes together at the thresholds of ``grid``, and by class in the content."""
    rows = []
    by_class: dict[str, list[list[float | None]]] = {name: [] for name in [*result.classes, "all"]}
    for thr in grid:
        at = scores_at(result, dict.fromkeys(result.classes, thr), t=t)
        at["all"] = sum(at.values(), At(0, 0, 0))
        for name, one in at.items():
            by_class[name].append([one.precision, one.recall, one.f1])
        whole = at["all"]
        rows.append([f"{thr:g}", str(whole.tp + whole.fp), *map(percent, (whole.precision, whole.recall, whole.f1))])
    header = ["score threshold", "detections", "precision", "recall", "F1"]
    notes = ["all classes together; one threshold for all of them, judged where it might be chosen"]
    content = {"thresholds": list(grid), "precision_recall_f1": by_class}
    return Table("by_threshold", "By score threshold", header, rows, notes, content=content)
