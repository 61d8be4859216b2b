"""AP against DOTA_devkit's stored values, against a slow evaluator of our own, and against hand arithmetic."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.detections import Detections, read_detections
from fdam_rotate.dota.errors import DotaError, ScoreError
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.labels import Labels, read_label_dir
from fdam_rotate.dota.scoring import matching
from fdam_rotate.dota.scoring.evaluation import evaluate, parse_iou_thrs
from fdam_rotate.dota.scoring.scores import EvalResult, average_precision

Row = tuple[str, float, list[float]]  # image id, score, polygon
Truth = tuple[list[float], str, int]  # polygon, class, difficult


def square(x: float, y: float = 0.0, side: float = 10.0) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def labels(*rows: Truth) -> Labels:
    polys = np.array([row[0] for row in rows], dtype=float).reshape(-1, 8)
    return Labels(polys, tuple(row[1] for row in rows), np.array([row[2] for row in rows], dtype=np.int64))


def detections(*rows: Row) -> Detections:
    ids = tuple(dict.fromkeys(row[0] for row in rows))
    return Detections(
        ids,
        np.array([ids.index(row[0]) for row in rows], dtype=np.intp),
        np.array([row[1] for row in rows], dtype=float),
        np.array([row[2] for row in rows], dtype=float).reshape(-1, 8),
    )


# -- DOTA_devkit's own numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["voc07", "voc12"])
@pytest.mark.parametrize("source", ["det", "merged"])
def test_equals_the_devkit(devkit_case: Path, source: str, metric: str) -> None:
    expected = json.loads((devkit_case / "expected.json").read_text())
    classes = DOTA_CLASSES["v1.0"]
    result = evaluate(
        read_detections(devkit_case / source),
        read_label_dir(devkit_case / "labelTxt"),
        classes,
        iou_thrs=(0.5, 0.75),
        metric=metric,
    )
    for t, thr in enumerate(("0.5", "0.75")):
        ours, theirs = result.ap_at(t), expected[f"{source}-{metric}-{thr}"]
        assert list(ours) == list(theirs)
        assert max(abs(ours[name] - theirs[name]) for name in classes) < 1e-9
        assert result.map_at(t) == pytest.approx(sum(theirs.values()) / 15, abs=1e-9)


# -- a slow evaluator, one detection at a time ----------------------------------------------------------------------


def slow_iou(a: Sequence[float], b: Sequence[float], task: int) -> float:
    if task == 1:
        p, q = (shapely.make_valid(shapely.Polygon(np.reshape(v, (4, 2)))) for v in (a, b))
        if p.area == 0 or q.area == 0:
            return 0.0
        return float(p.intersection(q).area / p.union(q).area)
    boxes = [(min(v[0::2]), min(v[1::2]), max(v[0::2]), max(v[1::2])) for v in (a, b)]
    boxes[1] = tuple(float(int(v)) for v in boxes[1])
    w, h = (min(boxes[0][2 + k], boxes[1][2 + k]) - max(boxes[0][k], boxes[1][k]) + 1 for k in (0, 1))
    inter = max(w, 0.0) * max(h, 0.0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in boxes]
    return inter / (sum(areas) - inter)


def slow_ap(
    found: Sequence[Row], truths: Mapping[str, Sequence[Truth]], name: str, thr: float, metric: str, task: int
) -> float | None:
    """AP of one class, from the protocol's words; rows and objects in the order that ties are settled in."""
    objects = {i: sorted((t for t in ts if t[1] == name), key=lambda t: (t[2] > 0, t[0])) for i, ts in truths.items()}
    count = sum(t[2] == 0 for ts in objects.values() for t in ts)
    if not count:
        return None
    taken: set[tuple[str, int]] = set()
    points: list[tuple[float, float]] = []
    tp = fp = 0
    for image_id, _, poly in sorted((r for r in found if r[0] in truths), key=lambda r: (-r[1], r[0], r[2])):
        ious = [slow_iou(poly, t[0], task) for t in objects[image_id]]
        best = max(range(len(ious)), key=lambda k: (ious[k], -k), default=-1)
        if best >= 0 and ious[best] > thr:
            if objects[image_id][best][2] == 0:
                if (image_id, best) in taken:
                    fp += 1
                else:
                    tp += 1
                    taken.add((image_id, best))
        else:
            fp += 1
        points.append((tp / count, tp / (tp + fp) if tp + fp else 0.0))
    if metric == "voc07":
        levels = [0.1 * k for k in range(11)]  # the products of arange: 0.1 * 3 is 0.30000000000000004
        return sum(max((p for r, p in points if r >= level), default=0.0) for level in levels) / 11
    area, last = 0.0, 0.0
    for k, (recall, _) in enumerate(points):
        area += (recall - last) * max(p for _, p in points[k:])
        last = recall
    return area


def random_scene(seed: int) -> tuple[dict[str, list[Row]], dict[str, list[Truth]]]:
    """Objects in a crowd, detections near them and astray; some difficult, some scores equal, one image empty."""
    rng = np.random.default_rng(seed)
    names = ("ship", "plane", "harbor")
    truths: dict[str, list[Truth]] = {"empty": []}
    found: dict[str, list[Row]] = {name: [] for name in names}
    for image_id in ("a", "b", "c__1"):
        boxes = np.column_stack([rng.uniform(0, 60, (14, 2)), rng.uniform(4, 20, (14, 2)), rng.uniform(-2, 2, 14)])
        kinds = rng.integers(0, 3, 14)
        truths[image_id] = [
            (poly, names[k], int(rng.random() < 0.2))
            for poly, k in zip(le90_to_poly(boxes).tolist(), kinds, strict=True)
        ]
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 1, (28, 5)) * rng.uniform(0.1, 3, (28, 1)) * [
            1,
            1,
            1,
            1,
            0.1,
        ]
        near[:, 2:4] = np.abs(near[:, 2:4])
        for poly, k in zip(le90_to_poly(near).tolist(), np.repeat(kinds, 2), strict=True):
            found[names[k]].append((image_id, round(float(rng.random()), 1), poly))
    found["plane"].append(("empty", 0.95, square(3)))
    found["ship"] += [("a", 0.55, square(200)), ("elsewhere", 0.99, square(0))]
    return found, truths


def run(
    found: Mapping[str, Sequence[Row]], truths: Mapping[str, Sequence[Truth]], classes: Sequence[str], **options: object
) -> EvalResult:
    return evaluate(
        {name: detections(*rows) for name, rows in found.items()},
        {image_id: labels(*rows) for image_id, rows in truths.items()},
        classes,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("task", [1, 2])
@pytest.mark.parametrize("metric", ["voc07", "voc12"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_slow_evaluator_at_all_thresholds_in_one_pass(seed: int, metric: str, task: int) -> None:
    found, truths = random_scene(seed)
    thrs = (0.5, 0.3, 0.75, 0.0)
    result = run(found, truths, tuple(found), iou_thrs=thrs, metric=metric, task=task)
    for t, thr in enumerate(thrs):
        expected = {name: slow_ap(rows, truths, name, thr, metric, task) for name, rows in found.items()}
        assert result.ap_at(t) == pytest.approx(expected, abs=1e-12)
    assert len({result.map_at(t) for t in range(4)}) >= 3  # the thresholds do differ


# -- hand arithmetic ------------------------------------------------------------------------------------------------


def test_pairs_taken_in_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found, truths = random_scene(3)
    whole = run(found, truths, tuple(found), iou_thrs=(0.3, 0.5))
    monkeypatch.setattr(matching, "_CHUNK_PAIRS", 3)
    parts = run(found, truths, tuple(found), iou_thrs=(0.3, 0.5))
    for name in found:
        assert parts.per_class[name].iou.tolist() == whole.per_class[name].iou.tolist()
        assert parts.per_class[name].truth.tolist() == whole.per_class[name].truth.tolist()
    assert max(result.iou.max(initial=0) for result in parts.per_class.values()) > 0.5


def test_counts_and_curve_by_hand() -> None:
    truths = {
        "a": [(square(0), "ship", 0), (square(100), "ship", 0), (square(200), "ship", 1)],
        "b": [(square(0), "ship", 0)],
        "none": [],
    }
    found = [
        ("a", 0.9, square(0)),  # true
        ("a", 0.8, square(1)),  # 90 / 110: the same object again, false
        ("a", 0.7, square(200)),  # difficult: neutral
        ("none", 0.6, square(0)),  # background image: false
        ("b", 0.5, square(2)),  # 80 / 120 > 0.5: true
        ("a", 0.4, square(104)),  # 60 / 140 < 0.5: false
    ]
    result = run({"ship": found}, truths, ["ship"], metric="voc12")
    ship = result.per_class["ship"]
    assert (ship.npos, ship.ndifficult) == (3, 1)
    assert (ship.tp(), ship.fp(), ship.ignored()) == (2, 3, 1)
    recall, precision = ship.curve()
    assert recall.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert precision.tolist() == pytest.approx([1, 1 / 2, 1 / 2, 1 / 3, 2 / 4, 2 / 5])
    assert result.map == pytest.approx(1 / 3 * 1 + 1 / 3 * 1 / 2)
    # recalls 0 to 0.3: precision 1; 0.4 to 0.6: 1/2; the rest are not reached
    assert run({"ship": found}, truths, ["ship"]).map == pytest.approx((4 * 1 + 3 * 0.5) / 11)
    assert result.background == ("none",)
    assert [result.images[k] for k in ship.image] == ["a", "a", "a", "none", "b", "a"]


def test_a_detection_does_not_fall_back_to_its_second_best_object() -> None:
    # both detections overlap the first object most; the second object stays unfound though it overlaps enough
    truths = {"a": [(square(0), "ship", 0), (square(2), "ship", 0)]}
    result = run({"ship": [("a", 0.9, square(0)), ("a", 0.8, square(0.5))]}, truths, ["ship"])
    assert (result.per_class["ship"].tp(), result.per_class["ship"].fp()) == (1, 1)


def test_iou_must_be_greater_than_the_threshold() -> None:
    # intersection 2 x 10 of two areas of 30: 20 / 40 = 0.5 exactly
    wide = [0.0, 0, 3, 0, 3, 10, 0, 10]
    truths = {"a": [([1.0, 0, 4, 0, 4, 10, 1, 10], "ship", 0)]}
    result = run({"ship": [("a", 0.9, wide)]}, truths, ["ship"], iou_thrs=(0.5, 0.4999))
    assert [result.per_class["ship"].tp(t) for t in (0, 1)] == [0, 1]


def test_recall_of_three_tenths_does_not_reach_the_level_0_3() -> None:
    # as in the devkit, where the fourth level is 0.1 * 3 = 0.30000000000000004
    recall, precision = np.array([0.1, 0.2, 0.3]), np.ones(3)
    assert average_precision(recall, precision, "voc07") == pytest.approx(3 / 11)
    assert average_precision(recall, precision, "voc12") == pytest.approx(0.3)
    assert average_precision(recall[:0], precision[:0], "voc07") == 0.0
    with pytest.raises(DotaError, match="voc10"):
        average_precision(recall, precision, "voc10")


def test_task_2_cuts_objects_to_whole_pixels_and_counts_the_last_one() -> None:
    # the object's box is 0 0 9 9 once cut: 10 x 10 pixels; the detection 5 0 14 9: 10 x 10; they share 5 x 10 = 50
    truths = {"a": [([0.9, 0.9, 9.9, 0.9, 9.9, 9.9, 0.9, 9.9], "ship", 0)]}
    found = {"ship": [("a", 0.9, [5.0, 0, 14, 0, 14, 9, 5, 9])]}
    for thr, hits in ((50 / 150 - 1e-9, 1), (50 / 150 + 1e-9, 0)):
        assert run(found, truths, ["ship"], iou_thrs=[thr], task=2).per_class["ship"].tp() == hits


def test_task_2_takes_the_outer_box_of_a_turned_object() -> None:
    diamond = [5.0, 0, 10, 5, 5, 10, 0, 5]
    found = {"ship": [("a", 0.9, square(0))]}
    truths = {"a": [(diamond, "ship", 0)]}
    assert run(found, truths, ["ship"], iou_thrs=[0.9], task=2).map == 1.0
    assert run(found, truths, ["ship"], iou_thrs=[0.5], task=1).map == 0.0  # 50 / 100 is not greater


@pytest.mark.parametrize("poly", [[0.0] * 8, [0.0, 0, 5, 5, 9, 9, 5, 5]], ids=["point", "line"])
def test_objects_without_area_are_never_found_and_count(poly: list[float]) -> None:
    truths = {"a": [(poly, "ship", 0), (square(50), "ship", 0)]}
    result = run(
        {"ship": [("a", 0.9, poly), ("a", 0.8, square(50))]}, truths, ["ship"], iou_thrs=(0.0,), metric="voc12"
    )
    assert result.map == pytest.approx(0.5 * 0.5)


def test_groups_far_apart_and_huge_coordinates_do_not_mix() -> None:
    # the same place in another image or class is no match, also where coordinates are large and negative
    for shift in (0.0, -5000.0, 9e6):
        truths = {f"i{k}": [(square(shift, shift), "ship", 0)] for k in range(5)}
        found = {
            "ship": [(f"i{k}", 0.9, square(shift, shift)) for k in (0, 2, 4)],
            "plane": [("i1", 0.9, square(shift, shift))],
        }
        result = run(found, truths, ["ship", "plane"], metric="voc12")
        assert result.per_class["ship"].tp() == 3
        assert result.per_class["plane"].tp() == 0


# -- order of lines -------------------------------------------------------------------------------------------------

corner, side = st.integers(0, 1), st.integers(1, 3)
boxes = st.builds(lambda x, y, w, h: [x, y, x + w, y, x + w, y + h, x, y + h], corner, corner, side, side)
rows = st.tuples(st.just("a"), st.sampled_from([0.5, 0.75]), boxes)
objects = st.tuples(boxes, st.just("ship"), st.sampled_from([0, 0, 1]))


@settings(max_examples=300, deadline=None)
@given(st.lists(rows, max_size=8), st.lists(objects, min_size=1, max_size=6), st.randoms(), st.sampled_from([1, 2]))
def test_order_of_lines_changes_nothing(found: list[Row], truth: list[Truth], order: random.Random, task: int) -> None:
    """Few places, sizes and scores: many equal scores, equal IoUs and doubled lines."""
    truth = [*truth, (square(50), "ship", 0)]
    results = []
    for _ in range(2):
        result = run({"ship": found}, {"a": truth}, ["ship"], iou_thrs=(0.3, 0.0), metric="voc12", task=task)
        results.append((result.ap_at(0), result.ap_at(1), result.per_class["ship"].outcome.tolist()))
        order.shuffle(found)
        order.shuffle(truth)
    assert results[0] == results[1]


def test_ties_are_settled_by_what_the_lines_say() -> None:
    # of two equal objects, one difficult, the one that counts is found, and the second detection is then false
    truths = {"a": [(square(0), "ship", 1), (square(0), "ship", 0)]}
    ship = run({"ship": [("a", 0.9, square(0)), ("a", 0.8, square(0))]}, truths, ["ship"]).per_class["ship"]
    assert ship.outcome[0].tolist() == [1, -1]
    # equal scores: by image id, then by coordinates, all eight of them
    truths = {"a": [(square(0), "ship", 0)], "b": [(square(0), "ship", 0)]}
    high = [0.0, 0, 10, 0, 10, 12, 0, 12]
    found = [("b", 0.5, square(0)), ("a", 0.5, high), ("a", 0.5, square(0))]
    ship = run({"ship": found}, truths, ["ship"]).per_class["ship"]
    assert ship.polys.tolist() == [square(0), high, square(0)]
    assert ship.outcome[0].tolist() == [1, -1, 1]


# -- what was scored ------------------------------------------------------------------------------------------------


def test_tells_what_was_scored_and_left_out() -> None:
    truths = {
        "a": [(square(0), "ship", 0), (square(50), "boat", 0)],
        "b": [(square(0), "ship", 0)],
        "c": [(square(0), "boat", 0)],
        "d": [],
    }
    found = {
        "ship": [("a", 0.9, square(0)), ("z", 0.9, square(0)), ("z", 0.8, square(0)), ("y", 0.9, square(0))],
        "car": [("a", 0.9, square(0))],
    }
    result = run(found, truths, ["ship", "plane"])
    assert result.images == ("a", "b", "c", "d")
    assert result.background == ("c", "d")
    assert result.without_detections == ("b",)
    assert result.detections_only == ("y", "z")
    assert result.left_out == 3
    assert result.unknown_truth == {"boat": 2}
    assert result.unknown_detections == {"car": 1}
    assert result.without_file == ("plane",)
    assert result.without_truth == ("plane",)
    assert result.ap == {"ship": pytest.approx(6 / 11), "plane": None}
    assert result.map == pytest.approx(6 / 11)  # plane is left out of the mean


def test_detections_of_a_class_without_objects_do_not_change_the_mean() -> None:
    truths = {"a": [(square(0), "ship", 0), (square(30), "plane", 1)]}
    found = {"ship": [("a", 0.9, square(0))], "plane": [("a", 0.9, square(60))]}
    result = run(found, truths, ["ship", "plane"])
    assert result.map == 1.0
    assert result.per_class["plane"].fp() == 1
    recall, precision = result.per_class["plane"].curve()
    assert recall.tolist() == precision.tolist() == [0.0]


def test_no_detection_at_all_scores_zero() -> None:
    assert run({}, {"a": [(square(0), "ship", 0)]}, ["ship"]).map == 0.0
    assert run({"ship": []}, {"a": [(square(0), "ship", 0)]}, ["ship"]).map == 0.0


@pytest.mark.parametrize(
    ("truths", "message"),
    [
        pytest.param({}, "no label file", id="no label"),
        pytest.param({"a": []}, "hold no object of the classes ship", id="no object"),
        pytest.param({"a": [(square(0), "boat", 0)]}, r"they hold boat \(1\)", id="other class"),
        pytest.param({"a": [(square(0), "ship", 1)]}, "all 1 objects .* difficult", id="all difficult"),
        pytest.param({"b": [(square(0), "ship", 0)]}, "none of the 1 image ids", id="other images"),
    ],
)
def test_a_number_that_would_mean_nothing_is_refused(truths: dict[str, list[Truth]], message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        run({"ship": [("a", 0.9, square(0))]}, truths, ["ship"])


def test_patches_against_whole_images_are_refused_and_patches_against_patches_scored() -> None:
    truths: dict[str, list[Truth]] = {"P1": [(square(0), "ship", 0)]}
    found = {"ship": [("P1__1024__0___0", 0.9, square(0)), ("P1", 0.9, square(0))]}
    with pytest.raises(ScoreError, match=r"'P1__1024__0___0'.*fdam-rotate merge"):
        run(found, truths, ["ship"])
    truths["P1__1024__0___0"] = truths["P1"]
    assert run(found, truths, ["ship"]).map == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_thrs": ()}, "no IoU threshold"),
        ({"iou_thrs": (1.0,)}, r"1\.0 is not in"),
        ({"iou_thrs": (math.nan,)}, "nan is not in"),
        ({"metric": "voc10"}, "voc07, voc12, coco"),
        ({"task": 3}, "task is 1"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(DotaError, match=message):
        run({}, {"a": [(square(0), "ship", 0)]}, ["ship"], **options)


def test_classes_may_be_a_version_or_one_name_but_no_name_twice() -> None:
    found, truths = {"ship": detections(("a", 0.9, square(0)))}, {"a": labels((square(0), "ship", 0))}
    assert evaluate(found, truths, "ship").classes == ("ship",)
    assert evaluate(found, truths, "v1.0").classes == DOTA_CLASSES["v1.0"]
    with pytest.raises(DotaError, match="'ship' more than once"):
        evaluate(found, truths, ("ship", "ship"))


@pytest.mark.parametrize("row", [("a", math.nan, square(0)), ("a", 0.5, [*square(0)[:7], math.inf])], ids=str)
def test_numbers_that_are_none_are_refused(row: Row) -> None:
    with pytest.raises(DotaError, match="not finite"):
        evaluate({"ship": detections(row)}, {"a": labels((square(0), "ship", 0))}, ("ship",))


def test_parse_iou_thrs() -> None:
    assert parse_iou_thrs(["0.5:0.95"]) == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert parse_iou_thrs(["0.75", 0.5, "0.7:0.8"]) == (0.75, 0.5, 0.7, 0.8)
    assert parse_iou_thrs(["0.5:0.5"]) == (0.5,)
    for bad in ("half", "0.9:0.5", "0.5:0.6:0.7:0.8", "1", "-0.1", "nan", ""):
        with pytest.raises(DotaError, match="IoU threshold"):
            parse_iou_thrs([bad])


def test_inputs_are_not_changed() -> None:
    found, truths = random_scene(0)
    dets = {name: detections(*rows) for name, rows in found.items()}
    gt = {image_id: labels(*rows) for image_id, rows in truths.items()}
    arrays = [a for d in dets.values() for a in (d.image, d.scores, d.polys)] + [t.polys for t in gt.values()]
    for array in arrays:
        array.setflags(write=False)
    evaluate(dets, gt, tuple(found), task=2)
    evaluate(dets, gt, tuple(found), task=1)
