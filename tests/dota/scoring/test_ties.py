"""The range that equal scores leave open, against every order there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.matching import judge
from fdam_rotate.dota.scoring.report import tie_notes
from fdam_rotate.dota.scoring.scores import ClassResult, EvalResult, average_precision, recall_precision
from fdam_rotate.dota.scoring.ties import tie_bounds


def square(x: float, side: float = 20.0) -> list[float]:
    return [x, 0, x + side, 0, x + side, side, x, side]


def scored(
    scores: list[float], objects: list[int], difficult: list[int], metric: str, classes: tuple[str, ...] = ("ship",)
) -> EvalResult:
    """Objects stand in a row; each detection lies on the object that is named, -1 on none."""
    truth = Labels(
        np.array([square(100.0 * k) for k in range(len(difficult))]),
        ("ship",) * len(difficult),
        np.array(difficult, np.int64),
    )
    polys = np.array([square(100.0 * k if k >= 0 else 5000.0) for k in objects])
    found = Detections(("a",), np.zeros(len(scores), np.intp), np.array(scores), polys)
    return evaluate({"ship": found}, {"a": truth}, classes, metric=metric)


def every_order(r: ClassResult, metric: str, thr: float = 0.5) -> tuple[float, float]:
    """The least and greatest AP over all orders of the detections that their scores allow."""
    groups = [list(rows) for _, rows in itertools.groupby(range(len(r.scores)), key=lambda k: r.scores[k])]
    values = []
    for orders in itertools.product(*(list(itertools.permutations(rows)) for rows in groups)):
        order = np.array([row for rows in orders for row in rows], dtype=np.intp)
        outcome = judge(r.iou[order] > thr, r.truth[order], r.truth_difficult)
        values.append(average_precision(*recall_precision(outcome, r.npos), metric))
    return min(values), max(values)


@pytest.mark.parametrize("metric", ["voc07", "voc12"])
@pytest.mark.parametrize("seed", range(12))
def test_bounds_are_those_of_all_orders(metric: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 7
    scores = rng.choice([0.9, 0.6, 0.3], count, p=[0.5, 0.4, 0.1]).tolist()
    objects = rng.integers(-1, 4, count).tolist()
    result = scored(scores, objects, [0, 0, int(seed % 3 == 0), 0], metric)
    bounds = tie_bounds(result)
    assert bounds.ap["ship"] == pytest.approx(every_order(result.per_class["ship"], metric), abs=1e-12)
    assert bounds.map == bounds.ap["ship"]
    assert bounds.map[0] <= result.map <= bounds.map[1]


def test_bounds_of_the_random_cases_do_differ() -> None:
    """Two of an object each, two false: 1, 1 at best; false, false, then a duplicate before the second at worst."""
    result = scored([0.5] * 5, [0, 0, 1, -1, -1], [0, 0], "voc12")
    bounds = tie_bounds(result)
    assert bounds.ap["ship"] == pytest.approx((0.5 * (2 / 5 + 2 / 5), 1.0))
    assert bounds.tied == 5


def test_no_tie_no_range() -> None:
    result = scored([0.9, 0.8, 0.7], [0, -1, 1], [0, 0, 0], "voc12", ("ship", "plane"))
    bounds = tie_bounds(result)
    assert bounds.ap == {"ship": (result.map, result.map), "plane": None}
    assert bounds.tied == 0
    assert not bounds.matter()
    assert tie_notes(bounds) == []


def test_ties_are_told_where_they_matter() -> None:
    (note,) = tie_notes(tie_bounds(scored([0.5, 0.5], [0, -1], [0], "voc12")))
    assert note.startswith("warning: 2 detections share their score")
    assert "mAP 50.00 to 100.00 (ship 50.00 to 100.00)" in note
    # tied, yet all of them right
    assert tie_notes(tie_bounds(scored([0.5, 0.5], [0, 1], [0, 0], "voc12"))) == []


def test_lines_in_another_order_give_the_same_number() -> None:
    rng = np.random.default_rng(3)
    scores, objects = rng.choice([0.9, 0.6], 12).tolist(), rng.integers(-1, 5, 12).tolist()
    first = scored(scores, objects, [0] * 5, "voc12")
    for _ in range(5):
        order = rng.permutation(12)
        other = scored([scores[k] for k in order], [objects[k] for k in order], [0] * 5, "voc12")
        assert other.map == first.map
        assert tie_bounds(other) == tie_bounds(first)
