"""COCO's matching and 101 points against a peer's stored numbers and against pycocotools' steps written out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.bootstrap import bootstrap_ap, match_records
from fdam_rotate.dota.scoring.causes import CAUSES, find_causes
from fdam_rotate.dota.scoring.coco import match_coco, outcome_coco
from fdam_rotate.dota.scoring.evaluation import evaluate, parse_iou_thrs
from fdam_rotate.dota.scoring.mending import mend_causes
from fdam_rotate.dota.scoring.scores import EvalResult, average_precision
from fdam_rotate.dota.scoring.ties import tie_bounds

THRS = parse_iou_thrs(["0.5:0.95"])


@pytest.fixture(scope="module")
def case(repo: Path) -> dict:
    return json.loads((repo / "tests" / "data" / "hotcoco_rectangles.json").read_text())


def scored(case: dict, metric: str, thrs: tuple[float, ...] = THRS) -> EvalResult:
    images, classes = case["images"], case["classes"]
    objects, found = np.array(case["objects"]), np.array(case["detections"])
    truths = {}
    for k, image_id in enumerate(images):
        own = objects[objects[:, 0] == k]
        names = tuple(classes[int(c)] for c in own[:, 1])
        truths[image_id] = Labels(le90_to_poly(own[:, 2:]), names, np.zeros(len(own), np.int64))
    detections = {}
    for c, name in enumerate(classes):
        own = found[found[:, 1] == c]
        detections[name] = Detections(tuple(images), own[:, 0].astype(np.intp), own[:, 2], le90_to_poly(own[:, 3:]))
    return evaluate(detections, truths, classes, iou_thrs=thrs, metric=metric)


def test_equals_hotcoco_on_rectangles(case: dict) -> None:
    result = scored(case, "coco")
    for t, thr in enumerate(THRS):
        for name in case["classes"]:
            assert result.ap_at(t)[name] == pytest.approx(case["ap"][name][f"{thr:g}"], abs=1e-6), (name, thr)
    assert result.map_mean == pytest.approx(case["mean"], abs=1e-6)
    assert result.map == pytest.approx(case["mean50"], abs=1e-6)
    assert result.map_at(5) == pytest.approx(case["mean75"], abs=1e-6)
    # the case tells the two ways of matching apart
    other = scored(case, "voc12")
    assert any(not np.array_equal(a.outcome, b.outcome) for a, b in zip(
        result.per_class.values(), other.per_class.values(), strict=True))  # fmt: skip


def by_the_book(iou: np.ndarray, crowd: np.ndarray, thr: float) -> list[int]:
    """pycocotools' evaluateImg for one image: detections in order of score, objects with the crowds last."""
    order = np.argsort(crowd, kind="stable")
    taken: set[int] = set()
    match = []
    for row in iou:
        best, m = min(thr, 1 - 1e-10), -1
        for g in order.tolist():
            if g in taken and not crowd[g]:
                continue
            if m > -1 and not crowd[m] and crowd[g]:
                break
            if row[g] < best:
                continue
            best, m = row[g], g
        match.append(m)
        if m >= 0:
            taken.add(m)
    return match


@pytest.mark.parametrize("seed", range(20))
def test_matching_follows_pycocotools_step_by_step(seed: int) -> None:
    """Overlaps in tenths, so that many are equal and many just reach the threshold."""
    rng = np.random.default_rng(seed)
    iou = rng.integers(0, 10, (8, 5)) / 10
    crowd = rng.random(5) < 0.3
    i, j = np.nonzero(iou >= 0)
    match = match_coco(i, j, iou[i, j], crowd, 0.5, 8)
    assert match.tolist() == by_the_book(iou, crowd, 0.5)
    # the same detections, given in another order
    order = rng.permutation(8)
    rank = np.argsort(order)
    again = match_coco(rank[i], j, iou[i, j], crowd, 0.5, 8, rank=order)
    assert again[rank].tolist() == match.tolist()


def test_outcomes() -> None:
    assert outcome_coco(np.array([1, -1, 0]), np.array([True, False])).tolist() == [1, -1, 0]


def test_the_threshold_itself_counts() -> None:
    """Two boxes of 30 x 10, one moved by a third of 30: IoU 0.5."""
    box = np.array([[50, 50, 30, 10, 0.0]])
    truth = Labels(le90_to_poly(box), ("ship",), np.zeros(1, np.int64))
    found = Detections(("a",), np.zeros(1, np.intp), np.ones(1), le90_to_poly(box + np.array([10, 0, 0, 0, 0])))
    for metric, ap in (("coco", 1.0), ("voc12", 0.0)):
        assert evaluate({"ship": found}, {"a": truth}, ["ship"], metric=metric).map == pytest.approx(ap)


def test_101_points_by_hand() -> None:
    """Found at once, then the second of two objects as the fourth detection: 1 up to recall 0.5, then 1/2."""
    ap = average_precision(np.array([0.5, 0.5, 0.5, 1.0]), np.array([1.0, 1 / 2, 1 / 3, 1 / 2]), "coco")
    assert ap == pytest.approx((51 * 1 + 50 * 0.5) / 101)


def test_bootstrap_and_causes_follow_the_matching(case: dict) -> None:
    result = scored(case, "coco")
    ap = bootstrap_ap(match_records(result), np.ones((1, len(case["images"])), np.int32))[0]
    assert ap.tolist() == pytest.approx([result.ap[name] for name in case["classes"]])
    m = find_causes(result)
    objects = sum(r.npos for r in result.per_class.values())
    assert np.count_nonzero(m.obj_cause >= 0) == objects - sum(r.tp() for r in result.per_class.values())
    assert np.count_nonzero(m.det_cause >= 0) == sum(r.fp() for r in result.per_class.values())
    assert set(np.unique(m.det_cause)) <= set(range(-1, len(CAUSES)))


def test_bounds_of_ties_come_from_seeded_orders() -> None:
    """Equal scores, one right and one false: the AP is 1 or 1/2."""
    boxes = np.array([[50, 50, 30, 10, 0.0], [250, 50, 30, 10, 0.0]])
    truth = Labels(le90_to_poly(boxes[:1]), ("ship",), np.zeros(1, np.int64))
    found = Detections(("a",), np.zeros(2, np.intp), np.full(2, 0.5), le90_to_poly(boxes))
    bounds = tie_bounds(evaluate({"ship": found}, {"a": truth}, ["ship"], metric="coco"))
    assert bounds.ap["ship"] == pytest.approx((0.5, 1.0))
    assert not bounds.exact


def test_causes_and_gains_equal_hotcocos_tide(case: dict) -> None:
    """Its 'Loc' is our centre, size and angle together; seams and merging it does not know."""
    result = scored(case, "coco", (0.5,))
    report = mend_causes(result, find_causes(result), score_thr=0)
    theirs = case["tide"]
    names = {"class": "Cls", "both": "Both", "duplicate": "Dupe", "background": "Bkg"}
    for ours, name in names.items():
        assert report.detections[ours] == theirs["counts"][name], ours
        assert report.detections[ours] > 0, ours
    placed = [report.detections[cause] for cause in ("centre", "size", "angle")]
    assert sum(placed) == theirs["counts"]["Loc"]
    assert min(placed) > 0
    assert report.objects["miss"] == theirs["counts"]["Miss"]
    assert report.objects["miss"] > 0
    for ours, name in {**names, "miss": "Miss", "false": "FP", "missed": "FN"}.items():
        assert report.gain[ours] == pytest.approx(theirs["delta_ap"][name], abs=1e-6), ours
