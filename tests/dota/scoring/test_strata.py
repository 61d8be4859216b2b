"""AP by stratum: what is measured, by hand; and that a stratum's AP is that of its objects alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring import strata
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.scores import METRICS, EvalResult
from fdam_rotate.dota.scoring.strata import STRATA, score_by, strata_table

Box = tuple[float, float, float, float, float]


def polys(boxes: list[Box]) -> np.ndarray:
    array = np.array(boxes, float).reshape(-1, 5)
    array[:, 4] = np.radians(array[:, 4])
    return le90_to_poly(array)


def scored(objects: list[Box], found: list[Box], metric: str = "voc12", difficult: tuple[int, ...] = ()) -> EvalResult:
    """Ships on image a; detections of falling score."""
    level = np.array([k in difficult for k in range(len(objects))], np.int64)
    truth = Labels(polys(objects), ("ship",) * len(objects), level)
    scores = np.linspace(0.9, 0.1, len(found))
    detections = Detections(("a",), np.zeros(len(found), np.intp), scores, polys(found))
    return evaluate({"ship": detections}, {"a": truth}, ["ship"], metric=metric)


@pytest.mark.parametrize(
    ("kind", "boxes", "names"),
    [
        ("size", [(50, 50, 15, 15, 0), (50, 150, 16, 16, 0), (50, 250, 32, 32, 0), (50, 400, 96.1, 96.1, 0)], "all"),
        ("aspect", [(50, 50, 40, 30, 0), (50, 150, 40, 26, 9), (50, 250, 40, 13, 0), (50, 350, 60, 9, 0)], "all"),
        (
            "angle",
            [(50, 50, 40, 20, -14), (50, 150, 40, 20, 16), (50, 250, 40, 20, 74), (50, 350, 20, 40, 0),
             (50, 450, 40, 20, 106), (50, 550, 40, 20, 164), (50, 650, 40, 20, 166)],
            ["-15 to 15", "15 to 45", "45 to 75", "75 to 105", "105 to 135", "135 to 165", "-15 to 15"],
        ),
    ],
)  # fmt: skip
def test_each_object_is_in_its_stratum(kind: str, boxes: list[Box], names: list[str] | str) -> None:
    expected = list(STRATA[kind]) if names == "all" else list(names)
    for box, name in zip(boxes, expected, strict=True):
        counts = {one.name: one.npos["ship"] for one in score_by(scored([box], [box]), kind)}
        assert {key for key, count in counts.items() if count} == {name}, box


def test_the_bounds_are_those_of_the_names() -> None:
    """And of docs/evaluate.md: COCO's 32 and 96 with one at 16; angles in six bins round multiples of 30 degrees."""
    bounds = {kind: [low for low, _ in own.values()] for kind, own in STRATA.items()}
    assert bounds == {
        "size": [0, 16, 32, 96],
        "aspect": [0, 1.5, 3, 6],
        "angle": [-15, 15, 45, 75, 105, 135],
        "density": [0, 1, 3, 10],
        "border": [-np.inf, 1, 50, 200],
    }
    for own in STRATA.values():
        rows = list(own.values())
        assert [high for _, high in rows[:-1]] == [low for low, _ in rows[1:]]
        assert rows[-1][1] in (np.inf, 165)


def test_only_clear_rectangles_have_an_angle() -> None:
    kite = [0, 0, 40, 10, 60, 0, 40, -10]
    slanted = [0, 0, 40, 0, 60, 20, 20, 20]  # a parallelogram: the diagonals halve each other, yet differ
    trapezium = [0, 0, 60, 0, 50, 20, 10, 20]  # equal diagonals that do not halve each other
    square = [0, 0, 20, 0, 20, 20, 0, 20]
    box = [0, 0, 40, 0, 40, 20, 0, 20]
    drawn = [0, 0, 40, 1, 40, 21, 0, 20]  # whole pixels
    angles = strata._angle(np.array([kite, slanted, trapezium, square, box, drawn], float))
    assert np.isnan(angles[:4]).all()
    assert angles[4] == 0
    assert angles[5] == pytest.approx(1, abs=1)
    result = scored([(50, 50, 40, 20, 0), (50, 150, 20, 20, 0)], [])
    table = strata_table(result, "angle", score_by(result, "angle"))
    assert table.notes == ["1 object left out: no clear rectangles"]


def test_neighbours_are_counted_within_twice_the_longer_side() -> None:
    """A long one in the middle sees what lies within 80 pixels; the short ones see within 20 and 40."""
    boxes: list[Box] = [(100, 100, 40, 10, 0), (179, 100, 10, 10, 0), (181, 100, 20, 10, 0), (100, 25, 10, 10, 0)]
    result = scored(boxes, boxes)
    r = result.per_class["ship"]
    objects, detections = strata._measure(result, r, "density", {})
    by_centre = {round(float(poly[0::2].mean())): int(n) for poly, n in zip(r.truth_polys[:, :8], objects, strict=True)}
    assert by_centre[179] == 1
    assert by_centre[181] == 1
    assert sorted(objects.tolist()) == [0, 1, 1, 2]
    assert sorted(detections.tolist()) == [1, 2, 2, 3]


def test_the_distance_to_the_border() -> None:
    boxes: list[Box] = [(50, 50, 20, 20, 0), (5, 50, 20, 20, 0), (160, 300, 20, 20, 0), (300, 388, 20, 20, 0)]
    result = scored(boxes, [])
    objects, _ = strata._measure(result, result.per_class["ship"], "border", {"a": (600, 400)})
    assert sorted(objects.tolist()) == pytest.approx([-5, 2, 40, 90])
    counts = {one.name: one.npos["ship"] for one in score_by(result, "border", sizes={"a": (600, 400)})}
    assert counts == {"touching": 1, "1 to 50": 2, "50 to 200": 1, "from 200": 0}
    unknown = score_by(result, "border", sizes={})
    assert sum(one.npos["ship"] for one in unknown) == 0
    assert strata_table(result, "border", unknown).notes == ["4 objects left out: on images of unknown size"]


@pytest.mark.parametrize("metric", METRICS)
def test_the_ap_of_a_stratum_is_that_of_its_objects_alone(metric: str) -> None:
    """Large and tiny ships far apart: each size scored in a run of its own, with the false detections of its size."""
    tiny: list[Box] = [(50, 100 * k, 14, 10, 0) for k in range(1, 6)]
    large: list[Box] = [(1000, 300 * k, 150, 90, 0) for k in range(1, 4)]
    false_tiny: list[Box] = [(500, 100 * k, 14, 10, 0) for k in range(1, 3)]
    mixed = [tiny[0], large[0], false_tiny[0], tiny[1], tiny[0], large[1], large[1], false_tiny[1], tiny[2]]
    result = scored([*tiny, *large], mixed, metric, difficult=(2,))
    found = {one.name: one.ap["ship"] for one in score_by(result, "size")}
    only = scored(tiny, [box for box in mixed if box in tiny or box in false_tiny], metric, difficult=(2,))
    assert found["tiny"] == pytest.approx(only.map)
    only = scored(large, [box for box in mixed if box in large], metric)
    assert found["large"] == pytest.approx(only.map)
    assert found["small"] is None
    assert 0 < found["tiny"] < 1


def test_a_wrong_kind_or_missing_sizes_is_an_error_of_the_caller() -> None:
    result = scored([(50, 50, 40, 20, 0)], [])
    with pytest.raises(ValueError, match="kind must be one of"):
        score_by(result, "colour")
    with pytest.raises(ValueError, match="border needs"):
        score_by(result, "border")


def test_the_table_names_objects_and_scores() -> None:
    result = scored([(50, 50, 40, 20, 0)], [(50, 50, 40, 20, 0)])
    table = strata_table(result, "aspect", score_by(result, "aspect"))
    assert list(table.rows[1]) == ["1.5 to 3", "1", "100.00"]
    assert table.content["1.5 to 3"] == {"bounds": [1.5, 3.0], "map": 1.0, "ap": {"ship": 1.0}, "objects": {"ship": 1}}
    assert table.content["from 6"]["bounds"] == [6.0, None]
    assert table.key == "by_aspect"


def test_a_detection_belongs_to_the_object_that_it_was_matched_with() -> None:
    """By COCO's way that need not be the one overlapped most: here object 0 though object 1 is."""
    base = scored([(50, 50, 40, 20, 0), (50, 52, 40, 20, 0)], [(50, 51, 40, 20, 0)], "coco").per_class["ship"]
    for matched, best in ((0, 1), (1, 0)):
        r = dataclasses.replace(base, match=np.array([[matched]]), truth=np.array([best]), iou=np.array([0.9]))
        for other, outcome in ((matched, 0), (best, 1)):
            neutral = np.arange(2) == other
            assert strata._outcome_within(r, 0, 0.5, neutral, np.array([False])).tolist() == [outcome]
    # a duplicate points to what it overlaps most; one that points to nothing goes by its own stratum
    r = dataclasses.replace(base, match=np.array([[-1]]), truth=np.array([1]), outcome=np.array([[-1]], np.int8))
    for iou, other, own, outcome in ((0.9, 1, False, 0), (0.9, 0, True, -1), (0.5, 1, False, -1), (0.5, 0, True, 0)):
        r = dataclasses.replace(r, iou=np.array([iou]))
        assert strata._outcome_within(r, 0, 0.5, np.arange(2) == other, np.array([own])).tolist() == [outcome]
