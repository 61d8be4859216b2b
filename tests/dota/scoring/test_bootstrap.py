"""Intervals and differences against physical resampling of labels and detections, and against the truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import ScoreError
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring import bootstrap
from fdam_rotate.dota.scoring.bootstrap import (
    ClassRecords,
    MatchRecords,
    bootstrap_ap,
    compare_records,
    compare_scores,
    draw_images,
    match_records,
    mean_ap,
    score_intervals,
)
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.scores import METRICS, EvalResult

CLASSES = ("ship", "plane", "harbor")


def scene(rng: np.random.Generator, objects: int) -> tuple[Labels, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """One image's labels, and by class the scores (all different) and polygons of its detections."""
    boxes = np.stack(
        [*rng.uniform(0, 400, (2, objects)), *rng.uniform(10, 40, (2, objects)), rng.uniform(-1.5, 1.5, objects)], 1
    )
    cls = rng.integers(0, 3, objects)
    truth = Labels(le90_to_poly(boxes), tuple(CLASSES[c] for c in cls), (rng.random(objects) < 0.2).astype(np.int64))
    found = {}
    for c, name in enumerate(CLASSES):
        near = boxes[rng.permutation(np.flatnonzero(cls == c))]
        near = np.concatenate([near, near[:2], boxes[:2] + 300.0])
        near = near + rng.normal(0, 1, near.shape) * (2, 2, 2, 2, 0.05)
        found[name] = (rng.random(len(near)), le90_to_poly(near))
    return truth, found


def scored(parts: list, metric: str = "voc07", thr: float = 0.5) -> EvalResult:
    """Score the scenes as images 0, 1, ..."""
    ids = tuple(f"{k:03d}" for k in range(len(parts)))
    detections = {
        name: Detections(
            ids,
            np.repeat(np.arange(len(parts)), [len(p[1][name][0]) for p in parts]),
            np.concatenate([p[1][name][0] for p in parts]),
            np.concatenate([p[1][name][1] for p in parts]),
        )
        for name in CLASSES
    }
    truths = {image_id: p[0] for image_id, p in zip(ids, parts, strict=True)}
    return evaluate(detections, truths, CLASSES, iou_thrs=(thr,), metric=metric)


@pytest.fixture(scope="module")
def scenes() -> list:
    rng = np.random.default_rng(5)
    return [scene(rng, int(n)) for n in rng.integers(0, 9, 12)]


@pytest.mark.parametrize("metric", METRICS)
def test_a_draw_scores_as_its_images_would(scenes: list, metric: str) -> None:
    """Each draw is made anew from copies of labels and detections, matched and scored."""
    weights = draw_images(len(scenes), 25, seed=3)
    assert (weights.sum(axis=1) == len(scenes)).all()
    assert weights.max() > 1
    fast = bootstrap_ap(match_records(scored(scenes, metric)), weights)
    for row, drawn in zip(fast, weights, strict=True):
        copies = [scenes[k] for k in np.repeat(np.arange(len(scenes)), drawn)]
        slow = [np.nan if ap is None else ap for ap in scored(copies, metric).ap.values()]
        assert row == pytest.approx(slow, abs=1e-12, nan_ok=True)
    assert len(np.unique(fast[:, 0])) > 5


@pytest.mark.parametrize("npos", [1, 3, 10, 35, 77, 100, 1000])
def test_recall_points_are_reached_by_the_rule_of_the_score(npos: int) -> None:
    """0.1 steps of arange are not all decimal: 3 of 10 objects do not reach the fourth point, and so in each draw."""
    hits = np.arange(1, npos + 1)
    for found in {1, npos // 3, npos // 2, (3 * npos) // 10, (7 * npos) // 10, npos} - {0}:
        outcome = np.where(np.isin(hits, np.arange(1, found + 1)), 1, -1).astype(np.int8)
        records = MatchRecords(("a",), "voc07", {"x": ClassRecords(np.zeros(npos, np.intp), outcome, np.array([npos]))})
        expected = sum(found / npos >= point for point in np.arange(0, 1.1, 0.1)) / 11
        assert bootstrap_ap(records, np.ones((1, 1), np.int32))[0, 0] == pytest.approx(expected, abs=1e-12)


def test_classes_without_hits_objects_or_detections() -> None:
    none = np.zeros(0, np.intp)
    records = MatchRecords(
        ("a", "b"),
        "voc07",
        {
            "missed": ClassRecords(none, none.astype(np.int8), np.array([1, 1])),
            "false": ClassRecords(np.array([0, 1]), np.array([-1, -1], np.int8), np.array([1, 0])),
            "absent": ClassRecords(np.array([0]), np.array([-1], np.int8), np.array([0, 0])),
            "found": ClassRecords(np.array([1]), np.array([1], np.int8), np.array([0, 1])),
            "neutral": ClassRecords(np.array([1, 1]), np.array([0, 1], np.int8), np.array([0, 1])),
        },
    )
    ap = bootstrap_ap(records, np.array([[1, 1], [2, 0], [0, 2]], np.int32))
    nan = np.nan
    assert ap == pytest.approx(np.array([[0, 0, nan, 1, 1], [0, 0, nan, nan, nan], [0, nan, nan, 1, 1]]), nan_ok=True)
    assert mean_ap(ap) == pytest.approx([0.5, 0.0, 2 / 3])
    only_false = dataclasses.replace(records, per_class={"false": records.per_class["false"]})
    assert bootstrap_ap(only_false, np.ones((1, 2), np.int32))[0, 0] == 0


def test_intervals_are_numpys_quantiles_of_the_draws_and_repeat_by_seed(scenes: list) -> None:
    result = scored(scenes)
    told = score_intervals(result, resamples=200, seed=7, level=0.9)
    ap = bootstrap_ap(match_records(result), draw_images(len(scenes), 200, 7))
    low, high = np.quantile(np.nanmean(ap, axis=1), [0.05, 0.95])
    assert (told.map.value, told.map.low, told.map.high) == pytest.approx((result.map, low, high))
    low, high = np.nanquantile(ap[:, 1], [0.05, 0.95])
    plane = told.ap["plane"]
    assert plane is not None
    assert (plane.value, plane.low, plane.high) == pytest.approx((result.ap["plane"], low, high))
    assert plane.draws == np.count_nonzero(~np.isnan(ap[:, 1]))
    assert told == score_intervals(result, resamples=200, seed=7, level=0.9)
    assert told.map != score_intervals(result, resamples=200, seed=8, level=0.9).map
    wider = score_intervals(result, resamples=200, seed=7, level=0.99)
    assert wider.map.low < told.map.low < told.map.value < told.map.high < wider.map.high
    assert (told.images, told.resamples, told.seed, told.iou_thr) == (len(scenes), 200, 7, 0.5)


def test_the_first_draws_do_not_depend_on_how_many_follow() -> None:
    assert np.array_equal(draw_images(9, 30, 1)[:10], draw_images(9, 10, 1))


def test_patches_of_an_image_stay_together(scenes: list) -> None:
    """Twelve patches of three images: three things to draw, and a draw counts all four patches of an image alike."""
    result = scored(scenes)
    named = dataclasses.replace(result, images=tuple(f"P{k // 4}__256__{k}___0" for k in range(len(scenes))))
    records = match_records(named)
    assert records.groups == ("P0", "P1", "P2")
    weights = draw_images(3, 20, seed=1)
    by_patch = bootstrap_ap(match_records(result), np.repeat(weights, 4, axis=1))
    assert bootstrap_ap(records, weights) == pytest.approx(by_patch, nan_ok=True)
    assert score_intervals(named, resamples=5).images == 3
    films = {image_id: image_id[1] for image_id in result.images}  # 000 to 011: films 0 and 1
    assert match_records(result, groups=films).groups == ("0", "1")


def test_one_source_image_has_no_interval(scenes: list) -> None:
    with pytest.raises(ScoreError, match="at least two source images"):
        score_intervals(scored(scenes[-1:]))


# -- comparison ------------------------------------------------------------------------------------------------------


def noisy(scenes: list, seed: int, lost: float) -> EvalResult:
    """The scenes with a share of their detections lost: another run, the worse the more is lost."""
    rng = np.random.default_rng(seed)
    worse = []
    for truth, found in scenes:
        kept = {name: rng.random(len(scores)) >= lost for name, (scores, _) in found.items()}
        worse.append((truth, {n: (s[kept[n]], p[kept[n]]) for n, (s, p) in found.items()}))
    return scored(worse)


def test_a_run_does_not_differ_from_itself(scenes: list) -> None:
    same = compare_scores([scored(scenes)], [scored(scenes)], resamples=50)
    assert (same.map.value, same.map.low, same.map.high, same.map.better) == (0, 0, 0, 0.5)
    assert not same.map.clear


def test_differences_are_those_of_the_same_draws(scenes: list) -> None:
    good, bad = scored(scenes), noisy(scenes, 1, 0.6)
    told = compare_scores([bad], [good], resamples=300, seed=2)
    weights = draw_images(len(scenes), 300, 2)
    first, second = (bootstrap_ap(match_records(result), weights) for result in (bad, good))
    gain = np.nanmean(second, axis=1) - np.nanmean(first, axis=1)
    assert (told.map.low, told.map.high) == pytest.approx(tuple(np.quantile(gain, [0.025, 0.975])))
    assert told.map.value == pytest.approx(good.map - bad.map)
    assert (told.map.first, told.map.second) == pytest.approx((bad.map, good.map))
    assert told.map.better == pytest.approx(np.mean(gain > 0) + np.mean(gain == 0) / 2)
    assert told.map.clear
    ship = told.ap["ship"]
    assert ship is not None
    low, high = np.nanquantile(second[:, 0] - first[:, 0], [0.025, 0.975])
    assert (ship.low, ship.high) == pytest.approx((low, high))
    # paired: far narrower than of two separate draws
    apart = np.nanmean(second, axis=1) - np.nanmean(bootstrap_ap(match_records(bad), draw_images(12, 300, 9)), axis=1)
    assert gain.std() < apart.std()


def test_runs_are_drawn_again(scenes: list) -> None:
    """One run a side: only images vary. Equal sides of three runs: the difference varies by the runs alone."""
    runs = [match_records(noisy(scenes, seed, 0.3)) for seed in range(3)]
    one = compare_records(runs[:1], runs[:1], resamples=50)
    assert one.map.low == one.map.high == 0
    told = compare_records(runs, runs, resamples=300, seed=4)
    assert told.runs == (3, 3)
    assert told.map.value == 0
    assert told.map.low < 0 < told.map.high
    plain = [float(mean_ap(bootstrap_ap(r, np.ones((1, 12), np.int32)))[0]) for r in runs]
    assert told.map.first == pytest.approx(np.mean(plain))
    assert compare_records(runs[:1], runs[1:], resamples=5).map.second == pytest.approx(np.mean(plain[1:]))


def test_drawing_runs_shows_their_whole_variance() -> None:
    """The mean of n runs has the variance s^2 / n, s^2 being the unbiased variance between the runs."""
    scores = np.array([0.61, 0.64, 0.70])
    pick = np.random.default_rng(0).integers(0, 3, (3, 100_000))
    draws = bootstrap._of_drawn_runs(np.repeat(scores[:, None], 100_000, axis=1), pick)
    assert draws.mean() == pytest.approx(scores.mean(), abs=1e-3)
    assert draws.var() == pytest.approx(scores.var(ddof=1) / 3, rel=0.02)


def test_runs_on_other_objects_are_refused(scenes: list) -> None:
    whole = match_records(scored(scenes))
    with pytest.raises(ScoreError, match="different images, such as 011"):
        compare_records([whole], [match_records(scored(scenes[:-1]))])
    with pytest.raises(ScoreError, match="metrics or classes"):
        compare_records([whole], [match_records(scored(scenes, "voc12"))])
    with pytest.raises(ScoreError, match="objects of class"):
        compare_records([whole], [match_records(scored([*scenes[1:], scenes[0]]))])
    with pytest.raises(ValueError, match="at least one run"):
        compare_records([whole], [])
    with pytest.raises(ValueError, match="resamples"):
        compare_records([whole], [whole], resamples=0)
    with pytest.raises(ValueError, match="level"):
        compare_records([whole], [whole], level=95)


# -- does it hold what it says ---------------------------------------------------------------------------------------


def simulated(rng: np.random.Generator, images: int, shift: float = 0.0) -> MatchRecords:
    """Verdicts of a detector on random images: easy and hard ones, found objects scored higher than false ones."""
    per_class = {}
    ease = rng.normal(0, 0.8, images)  # an image's objects share its difficulty
    for name, skill in (("a", 0.5), ("b", 1.5)):
        npos = rng.poisson(6, images)
        owner = np.repeat(np.arange(images), npos)
        found = owner[rng.random(len(owner)) < 1 / (1 + np.exp(-(skill + shift + ease[owner])))]
        false = np.repeat(np.arange(images), rng.poisson(5, images))
        scores = np.concatenate([rng.normal(1.2, 1, len(found)), rng.normal(0, 1, len(false))])
        order = np.argsort(-scores)
        outcome = np.repeat([1, -1], [len(found), len(false)]).astype(np.int8)
        per_class[name] = ClassRecords(np.concatenate([found, false])[order], outcome[order], npos)
    return MatchRecords(tuple(f"{k:05d}" for k in range(images)), "voc12", per_class)


def test_nominal_95_percent_intervals_cover_the_truth() -> None:
    """200 detectors' tests on 80 images each: the interval holds the score on 40,000 images in about 95 of 100."""
    ones = np.ones((1, 40000), np.int32)
    truth = float(mean_ap(bootstrap_ap(simulated(np.random.default_rng(0), 40000), ones))[0])
    held = 0
    for seed in range(200):
        records = simulated(np.random.default_rng([1, seed]), 80)
        draws = mean_ap(bootstrap_ap(records, draw_images(80, 300, seed)))
        low, high = np.quantile(draws, [0.025, 0.975])
        held += low <= truth <= high
    # 95% of 200 is 190, with a standard deviation of 3
    assert 181 <= held <= 199
