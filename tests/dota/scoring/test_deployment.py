"""Calibration and thresholds against plain loops and hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import DotaError, ScoreError
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.calibration import calibrate, calibration_table
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.scoring.tables import to_text
from fdam_rotate.dota.scoring.thresholds import (
    At,
    best_thresholds,
    count_errors,
    curve_table,
    scores_at,
    threshold_table,
)

CLASSES = ("ship", "plane")


def square(x: float) -> list[float]:
    return [x, 0, x + 20, 0, x + 20, 20, x, 20]


def scored(found: list[tuple[str, str, float, int]], objects: dict[str, int], difficult: int = -1) -> EvalResult:
    """Rows are class, image, score and number of the object that is hit, -1 for none; each image has ships only."""
    truths = {
        image: Labels(
            np.array([square(100.0 * k) for k in range(n)]).reshape(-1, 8),
            ("ship",) * n,
            np.array([k == difficult for k in range(n)], np.int64),
        )
        for image, n in objects.items()
    }
    ids = tuple(objects)
    detections = {}
    for name in CLASSES:
        own = [row for row in found if row[0] == name]
        detections[name] = Detections(
            ids,
            np.array([ids.index(row[1]) for row in own], np.intp),
            np.array([row[2] for row in own]),
            np.array([square(100.0 * row[3] if row[3] >= 0 else 5000.0) for row in own]).reshape(-1, 8),
        )
    return evaluate(detections, truths, CLASSES, metric="voc12")


# -- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_by_hand() -> None:
    """Bins of 0.1: two at 0.9 and 0.92 (one right), one at 0.3 (right), the neutral one left out."""
    found = [("ship", "a", 0.92, 0), ("ship", "a", 0.9, -1), ("ship", "a", 0.3, 1), ("ship", "a", 0.8, 2)]
    c = calibrate(scored(found, {"a": 3}, difficult=2))
    assert c.count.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 2]
    assert c.score[9] == pytest.approx(0.91)
    assert c.precision[9] == 0.5
    assert c.ece == pytest.approx((2 * 0.41 + 1 * 0.7) / 3)
    assert c.ece_by_class == {"ship": pytest.approx(c.ece), "plane": None}
    assert np.isnan(c.score[0])


def test_calibration_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    found = [("ship", "a", float(s), int(k)) for s, k in zip(rng.random(60), rng.integers(-1, 40, 60), strict=True)]
    result = scored(found, {"a": 40})
    r = result.per_class["ship"]
    total = 0.0
    for low in range(5):
        rows = [k for k, s in enumerate(r.scores) if low / 5 <= s < (low + 1) / 5]
        if rows:
            total += abs(sum(r.scores[k] - (r.outcome[0][k] == 1) for k in rows)) / 60
    assert calibrate(result, bins=5).ece == pytest.approx(total)


def test_the_ends_of_the_scores_are_in_the_outer_bins() -> None:
    c = calibrate(scored([("ship", "a", 1.0, 0), ("ship", "a", 0.0, -1)], {"a": 1}))
    assert (c.count[0], c.count[9], c.ece) == (1, 1, 0.0)
    lines = to_text(calibration_table(c)).splitlines()
    assert lines[1].split() == ["0", "to", "0.1", "1", "0.00", "0.00"]
    assert lines[2].split()[3:] == ["0", "-", "-"]
    assert calibration_table(c).content["bins"][9]["precision"] == 1.0


def test_scores_that_are_no_probabilities_have_no_calibration() -> None:
    with pytest.raises(DotaError, match=r"those of ship go from -1 to 0\.5"):
        calibrate(scored([("ship", "a", 0.5, 0), ("ship", "a", -1.0, 0)], {"a": 1}))
    with pytest.raises(DotaError, match="there are none"):
        calibrate(scored([], {"a": 1}))


# -- thresholds ------------------------------------------------------------------------------------------------------


def test_precision_recall_f1() -> None:
    at = At(3, 1, 2)
    assert (at.precision, at.recall, at.f1) == (0.75, 0.6, pytest.approx(6 / 9))
    assert (At(0, 0, 0).precision, At(0, 0, 0).recall, At(0, 0, 0).f1) == (None, None, None)
    assert (At(0, 0, 2).precision, At(0, 2, 0).recall, At(0, 0, 2).f1) == (None, None, 0)
    assert at + At(1, 1, 1) == At(4, 2, 3)


FOUND = [
    ("ship", "a", 0.9, 0), ("ship", "a", 0.8, -1), ("ship", "a", 0.7, 1), ("ship", "a", 0.2, -1),
    ("ship", "b", 0.95, -1), ("ship", "b", 0.75, 0), ("ship", "b", 0.7, 1), ("ship", "b", 0.5, 2),
    ("ship", "c", 0.6, 0), ("plane", "b", 0.99, -1),
]  # fmt: skip


def test_what_is_kept_at_a_threshold() -> None:
    result = scored(FOUND, {"a": 2, "b": 3, "c": 1})
    thr = {"ship": 0.7, "plane": 0.5}
    assert scores_at(result, thr) == {"ship": At(4, 2, 2), "plane": At(0, 1, 0)}
    assert scores_at(result, thr, np.array([True, False, False]))["ship"] == At(2, 1, 0)
    errors = count_errors(result, thr)
    # ships: 3 of 2, 3 of 3, 0 of 1; with the plane 4 of 3 on b
    assert (errors["ship"].objects, errors["ship"].detections) == (6, 6)
    assert errors["ship"].bias == pytest.approx(0)
    assert errors["ship"].absolute == pytest.approx(2 / 3)
    assert (errors["all"].bias, errors["all"].absolute) == (pytest.approx(1 / 3), pytest.approx(1))
    assert count_errors(result, thr, np.array([False, True, False]))["all"].bias == 1


def test_difficult_objects_and_neutral_detections_count_nowhere() -> None:
    result = scored([("ship", "a", 0.9, 0), ("ship", "a", 0.8, 1)], {"a": 3}, difficult=0)
    assert scores_at(result, dict.fromkeys(CLASSES, 0.0))["ship"] == At(1, 0, 1)
    error = count_errors(result, dict.fromkeys(CLASSES, 0.0))["ship"]
    assert (error.objects, error.detections, error.bias) == (2, 1, -1)


def test_thresholds_are_chosen_on_the_list_and_reported_on_the_others() -> None:
    """On a: F1 is 2/3 at 0.9, 1/2 at 0.8, 4/5 at 0.7, 2/3 at 0.2. So 0.7, halfway to 0.2."""
    result = scored(FOUND, {"a": 2, "b": 3, "c": 1})
    choice = best_thresholds(result, ["a", "elsewhere"])
    ship = choice["ship"]
    assert ship.threshold == pytest.approx(0.45)
    assert ship.chosen == At(2, 1, 0)
    assert ship.reported == At(4, 1, 0)
    assert (ship.counts.objects, ship.counts.detections, ship.own) == (4, 5, True)
    assert (choice["plane"].threshold, choice["plane"].own) == (pytest.approx(0.45), False)
    table = threshold_table(choice)
    rows = {row[0]: list(row[1:]) for row in table.rows}
    assert rows["ship"] == ["0.450", "80.00", "80.00", "100.00", "88.89", "4", "5", "+0.50 +- 0.50"]
    assert rows["plane"][0] == "0.450*"
    assert rows["all"] == ["", "80.00", "66.67", "100.00", "80.00", "4", "6", ""]
    assert any(note.startswith("*: ") for note in table.notes)
    assert table.content["ship"]["threshold"] == ship.threshold


def test_of_equal_f1_the_highest_threshold_and_equal_scores_together() -> None:
    # 0.9 gives 1/1 found of two: 2/3; all four give 4/6
    result = scored([("ship", "a", 0.9, 0), ("ship", "a", 0.5, 1), *[("ship", "a", 0.5, -1)] * 2], {"a": 2, "b": 1})
    assert best_thresholds(result, ["a"])["ship"].threshold == pytest.approx(0.7)
    # alone at the end: halfway to nothing
    result = scored([("ship", "a", 0.5, 0)], {"a": 1, "b": 1})
    assert best_thresholds(result, ["a"])["ship"].threshold == pytest.approx(0.25)
    # so close that six decimals do not tell them apart
    result = scored([("ship", "a", 0.50000002, 0), ("ship", "a", 0.50000001, -1)], {"a": 1, "b": 1})
    assert 0.50000001 < best_thresholds(result, ["a"])["ship"].threshold <= 0.50000002


def test_lists_by_which_nothing_can_be_chosen_are_refused() -> None:
    result = scored(FOUND, {"a": 2, "b": 3, "c": 1})
    with pytest.raises(ScoreError, match="none of the 1 images"):
        best_thresholds(result, ["z"])
    with pytest.raises(ScoreError, match="none is left"):
        best_thresholds(result, ["a", "b", "c"])
    with pytest.raises(ScoreError, match="is right"):
        best_thresholds(scored([("ship", "a", 0.5, -1)], {"a": 1, "b": 1}), ["a"])


def test_the_curve_by_threshold() -> None:
    table = curve_table(scored(FOUND, {"a": 2, "b": 3, "c": 1}), [0.7, 0.99])
    assert [list(row) for row in table.rows] == [
        ["0.7", "7", "57.14", "66.67", "61.54"],
        ["0.99", "1", "0.00", "0.00", "0.00"],
    ]
    assert table.content["precision_recall_f1"]["ship"][1] == [None, 0.0, 0.0]
    usual = curve_table(scored(FOUND, {"a": 2, "b": 3, "c": 1})).content["thresholds"]
    assert usual == [round(k / 20, 2) for k in range(1, 20)], "0.05 to 0.95"
