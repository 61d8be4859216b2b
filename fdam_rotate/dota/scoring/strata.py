"""For whom a detector is good: AP by size, shape, angle, neighbours and distance to the border of the image.

As COCO's AP by area: for each stratum objects of the others are neutral, and so are detections that point to one of
them, or to none and are of another stratum themselves. What is measured, of objects and detections alike:

* ``size``: square root of the area, in pixels; COCO's bounds, with what is below 16 apart;
* ``aspect``: the longer side over the shorter;
* ``angle``: degrees by which the longer side is turned from the x axis, clockwise on the screen, modulo 180, in bins
  around 0, 30 ... 150. Of rectangles only whose longer side is at least 1.1 times the shorter; others have no angle;
* ``density``: other objects, of any class, whose centre lies within twice the longer side of its own;
* ``border``: least distance of a corner to the border of the image, in pixels; below 0 for what reaches out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.geometry import poly_to_le90, polygon_area
from fdam_rotate.dota.scoring.matching import NEUTRAL
from fdam_rotate.dota.scoring.scores import ClassResult, EvalResult, average_precision, recall_precision
from fdam_rotate.dota.scoring.tables import Table, percent
from fdam_rotate.dota.words import counted

__all__ = ["SIZES", "STRATA", "StratumScore", "score_by", "score_by_size", "strata_table"]

Bounds = tuple[float, float]

#: Names and bounds of the object sizes, lower bound included.
SIZES: dict[str, Bounds] = {
    "tiny": (0.0, 16.0),
    "small": (16.0, 32.0),
    "medium": (32.0, 96.0),
    "large": (96.0, math.inf),
}

#: Kind -> name -> bounds, lower bound included. Angles are given from -15 to 165.
STRATA: dict[str, dict[str, Bounds]] = {
    "size": SIZES,
    "aspect": {
        "below 1.5": (0.0, 1.5),
        "1.5 to 3": (1.5, 3.0),
        "3 to 6": (3.0, 6.0),
        "from 6": (6.0, math.inf),
    },
    "angle": {f"{a - 15} to {a + 15}": (a - 15.0, a + 15.0) for a in range(0, 180, 30)},
    "density": {"alone": (0.0, 1.0), "1 or 2": (1.0, 3.0), "3 to 9": (3.0, 10.0), "from 10": (10.0, math.inf)},
    "border": {
        "touching": (-math.inf, 1.0),
        "1 to 50": (1.0, 50.0),
        "50 to 200": (50.0, 200.0),
        "from 200": (200.0, math.inf),
    },
}

_UNITS = {
    "size": "object size (px)",
    "aspect": "aspect ratio",
    "angle": "angle (degrees)",
    "density": "neighbours",
    "border": "distance to the border (px)",
}

#: The longer side must be this many times the shorter one for a box to have an angle.
_LEAST_ASPECT = 1.1
# Diagonals of a rectangle are equal and halve each other, up to this share of their length, or this many pixels.
_SQUARENESS = 0.02
_ROUNDING = 1.5
# Neighbours are looked for within this many times the longer side.
_REACH = 2.0

Polys = NDArray[np.float64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class StratumScore:
    """Scores of the objects of one stratum.

    Attributes:
        name: a key of ``STRATA[kind]``.
        ap: AP by class at the threshold asked for; None where no object of this stratum counts.
        npos: number of objects that count, by class.
    """

    name: str
    ap: dict[str, float | None]
    npos: dict[str, int]

    @property
    def map(self) -> float | None:
        """Mean over the classes that have objects here; None where no class has."""
        values = [ap for ap in self.ap.values() if ap is not None]
        return float(np.mean(values)) if values else None


def score_by(
    result: EvalResult, kind: str, *, t: int = 0, sizes: Mapping[str, tuple[int, int]] | None = None
) -> list[StratumScore]:
    """AP for each stratum of a kind, at threshold number ``t``.

    Args:
        result: what :func:`~fdam_rotate.dota.scoring.evaluation.evaluate` returned.
        kind: a key of ``STRATA``.
        t: number of the threshold.
        sizes: width and height of the images, for ``border``; objects of other images belong to no stratum.
    """
    if kind not in STRATA:
        raise ValueError(f"kind must be one of {', '.join(STRATA)}, got {kind!r}")
    if kind == "border" and sizes is None:
        raise ValueError("border needs the sizes of the images")
    measured = {name: _measure(result, r, kind, sizes or {}) for name, r in result.per_class.items()}
    scores = []
    for stratum, (low, high) in STRATA[kind].items():
        ap: dict[str, float | None] = {}
        npos: dict[str, int] = {}
        for name, r in result.per_class.items():
            of_objects, of_detections = measured[name]
            # what has no value (NaN) is in no stratum
            other = r.truth_difficult | ~((of_objects >= low) & (of_objects < high))
            outcome = _outcome_within(
                r, t, result.iou_thrs[t], other, ~((of_detections >= low) & (of_detections < high))
            )
            npos[name] = int(np.count_nonzero(~other))
            curve = recall_precision(outcome, npos[name])
            ap[name] = average_precision(*curve, result.metric) if npos[name] else None
        scores.append(StratumScore(stratum, ap, npos))
    return scores


def score_by_size(result: EvalResult, t: int = 0) -> list[StratumScore]:
    """AP for each object size, at threshold number ``t``."""
    return score_by(result, "size", t=t)


def strata_table(result: EvalResult, kind: str, scores: Sequence[StratumScore], t: int = 0) -> Table:
    """Objects and mean AP of each stratum."""
    header = [_UNITS[kind], "objects", f"mAP{100 * result.iou_thrs[t]:g}"]
    rows = [[_label(kind, one.name), str(sum(one.npos.values())), percent(one.map)] for one in scores]
    notes = []
    left = sum(r.npos for r in result.per_class.values()) - sum(sum(one.npos.values()) for one in scores)
    if left:
        reason = "no clear rectangles" if kind == "angle" else "on images of unknown size"
        notes.append(f"{counted(left, 'object')} left out: {reason}")
    content = {
        one.name: {
            "bounds": [bound if math.isfinite(bound) else None for bound in STRATA[kind][one.name]],
            "map": one.map,
            "ap": one.ap,
            "objects": one.npos,
        }
        for one in scores
    }
    return Table(f"by_{kind}", f"By {_UNITS[kind].split(' (')[0]}", header, rows, notes, content=content)


def _label(kind: str, name: str) -> str:
    if kind != "size":
        return name
    low, high = SIZES[name]
    return f"{name} ({low:g} to {high:g})" if math.isfinite(high) else f"{name} (from {low:g})"


def _outcome_within(
    r: ClassResult, t: int, thr: float, other_object: NDArray[np.bool_], other_detection: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """The verdicts when the objects, and the unmatched detections, of other strata are neutral."""
    points_to = np.where(r.match[t] >= 0, r.match[t], np.where(r.iou > thr, r.truth, -1))
    neutral = np.where(points_to >= 0, np.append(other_object, False)[points_to], other_detection)
    outcome: NDArray[np.int8] = np.where(neutral, NEUTRAL, r.outcome[t]).astype(np.int8)
    return outcome


def _measure(
    result: EvalResult, r: ClassResult, kind: str, sizes: Mapping[str, tuple[int, int]]
) -> tuple[Values, Values]:
    """What a kind measures, for the objects and for the detections of a class; NaN where there is no such thing."""
    if kind == "density":
        return _neighbours(result, r.truth_polys, r.truth_image) - 1, _neighbours(result, r.polys, r.image)
    if kind == "border":
        table = np.array([sizes.get(name, (np.nan, np.nan)) for name in result.images], np.float64).reshape(-1, 2)
        return _to_border(r.truth_polys, table[r.truth_image]), _to_border(r.polys, table[r.image])
    measure = {"size": _side, "aspect": _aspect, "angle": _angle}[kind]
    return measure(r.truth_polys), measure(r.polys)


def _side(polys: Polys) -> Values:
    """Square root of the area, (N,) pixels."""
    side: Values = np.sqrt(polygon_area(polys))
    return side


def _aspect(polys: Polys) -> Values:
    boxes = poly_to_le90(polys)
    return np.asarray(boxes[:, 2] / np.maximum(boxes[:, 3], 1e-9))


def _angle(polys: Polys) -> Values:
    """Degrees from -15 to 165; NaN of what is no rectangle, or nearly a square."""
    boxes = poly_to_le90(polys)
    corners = polys.reshape(-1, 4, 2)
    first, second = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    lengths = np.hypot(first[:, 0], first[:, 1]), np.hypot(second[:, 0], second[:, 1])
    apart = (corners[:, 0] + corners[:, 2] - corners[:, 1] - corners[:, 3]) / 2
    slack = np.maximum(_SQUARENESS * lengths[0], _ROUNDING)
    rectangle = (np.abs(lengths[0] - lengths[1]) <= slack) & (np.hypot(apart[:, 0], apart[:, 1]) <= slack)
    clear = rectangle & (boxes[:, 2] >= _LEAST_ASPECT * boxes[:, 3])
    degrees = (np.degrees(boxes[:, 4]) + 15.0) % 180.0 - 15.0
    return np.where(clear, degrees, np.nan)


def _neighbours(result: EvalResult, polys: Polys, image: NDArray[np.intp]) -> Values:
    """Number of objects of all classes with their centre near each box, (N,); an object counts itself."""
    import shapely

    everything = list(result.per_class.values())
    centres = _centres(np.concatenate([r.truth_polys for r in everything]))
    owner = np.concatenate([r.truth_image for r in everything])
    reach = _REACH * poly_to_le90(polys)[:, 2]
    points = shapely.points(_centres(polys))
    counts = np.zeros(len(polys))
    for number in np.unique(image):
        rows, own = np.flatnonzero(image == number), owner == number
        if own.any():
            tree = shapely.STRtree(shapely.points(centres[own]))
            found, _ = tree.query(points[rows], predicate="dwithin", distance=reach[rows])
            counts[rows] = np.bincount(found, minlength=len(rows))
    return counts


def _centres(polys: Polys) -> NDArray[np.float64]:
    centres: NDArray[np.float64] = polys.reshape(-1, 4, 2).mean(axis=1)
    return centres


def _to_border(polys: Polys, sizes: NDArray[np.float64]) -> Values:
    """Least distance of a corner to the border of its image of ``sizes`` (N, 2), width and height."""
    x, y = polys[:, 0::2], polys[:, 1::2]
    return (
        np.min([x.min(1), y.min(1), sizes[:, 0] - x.max(1), sizes[:, 1] - y.max(1)], axis=0) if len(polys) else x[:, 0]
    )
