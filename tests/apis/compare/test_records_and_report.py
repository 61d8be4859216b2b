"""Records and the report, on verdicts made by hand; no torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.apis.compare.records import IOU_THRS, Record, Verdicts, read_record, read_records, write_record
from fdam_rotate.apis.compare.report import against_itself, compare_sides, to_markdown, write_picture, write_switches
from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.bootstrap import bootstrap_ap, compare_scores, mean_ap
from fdam_rotate.dota.scoring.evaluation import evaluate

CLASSES = resolve_classes(["plane", "ship"])


def boxes(centres: np.ndarray) -> np.ndarray:
    corners = np.array([[-5, -5], [5, -5], [5, 5], [-5, 5]], float)
    return (centres[:, None] + corners).reshape(len(centres), 8)


def scored(seed: int, noise: float, images: int = 12):
    """Detections that lie ``noise`` pixels beside the objects, some objects without one, some false."""
    truth_rng, rng = np.random.default_rng(1), np.random.default_rng(seed)
    truths, found = {}, {name: [] for name in CLASSES}
    ids = tuple(f"P{k:04d}" for k in range(images))
    for k, image_id in enumerate(ids):
        centres = truth_rng.uniform(0, 400, (6, 2))
        names = tuple(CLASSES[i % 2] for i in range(6))
        truths[image_id] = Labels(boxes(centres), names, np.zeros(6, np.int64))
        for name, centre in zip(names, centres, strict=True):
            shift = rng.normal(0, noise, 2)
            found[name].append((k, rng.uniform(), centre + (shift if rng.uniform() < 0.8 else 50)))
    detections = {
        name: Detections(
            ids, np.array([r[0] for r in rows], np.intp), np.array([r[1] for r in rows]),
            boxes(np.array([r[2] for r in rows])),
        )
        for name, rows in found.items()
    }  # fmt: skip
    return evaluate(detections, truths, CLASSES, iou_thrs=IOU_THRS, metric="voc12")


def record(name: str, seed: int, noise: float) -> Record:
    result = scored(seed, noise)
    scores = {"AP50": result.map_at(0), "AP75": result.map_at(5), "AP50:95": result.map_mean}
    return Record(
        name=name, seed=seed, settings=name * 3, config_text="model = dict()\n",
        data={part: {"sha256": part, "images": 12} for part in ("train", "val")},
        machine={"device": "CPU, some", "threads": 1, "versions": {}},
        training={"steps": 5, "loss": [[5, 1.0]], "seconds_per_step": 1.0, "cpu_seconds_per_step": 0.5},
        cost={"parameters": 10, "multiply_adds": 20.0, "seconds_per_window": 0.2, "cpu_seconds_per_window": 0.1},
        scores=scores, verdicts=Verdicts.of(result),
    )  # fmt: skip


def test_a_record_comes_back_from_its_file(tmp_path):
    first = record("a", 3, 2.0)
    write_record(tmp_path / "a.json", first)
    again = read_record(tmp_path / "a.json")
    assert (again.name, again.seed, again.scores, again.training) == ("a", 3, first.scores, first.training)
    assert again.verdicts.images == first.verdicts.images
    for name, parts in first.verdicts.per_class.items():
        for one, other in zip(parts, again.verdicts.per_class[name], strict=True):
            np.testing.assert_array_equal(one, other)
    assert (tmp_path / "a.json").stat().st_size < 6_000


def test_verdicts_give_the_scores_of_the_run():
    result = scored(0, 1.5)
    verdicts = Verdicts.of(result)
    plain = np.ones((1, len(verdicts.images)), np.int32)
    assert mean_ap(bootstrap_ap(verdicts.at([0.75]), plain))[0] == pytest.approx(result.map_at(5))
    assert mean_ap(bootstrap_ap(verdicts.at(IOU_THRS), plain))[0] == pytest.approx(result.map_mean)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DotaError, match=r"x\.json: (no|a) record"):
        read_records([tmp_path])


def test_the_difference_is_the_bootstraps():
    sides = [[record("a", s, 3.0) for s in (0, 1)], [record("b", s, 0.5) for s in (2, 3)]]
    gain = compare_sides(*sides, resamples=200)
    direct = compare_scores([scored(s, 3.0) for s in (0, 1)], [scored(s, 0.5) for s in (2, 3)], resamples=200, t=5).map
    assert gain["AP75"]["value"] == pytest.approx(direct.value, abs=1e-6)
    assert gain["AP75"]["low"] == pytest.approx(direct.low, abs=1e-6)
    assert gain["AP75"]["clear"]
    assert gain["AP75"]["low"] > 0
    expected = np.mean([s.scores["AP50:95"] for s in sides[1]]) - np.mean([s.scores["AP50:95"] for s in sides[0]])
    assert gain["AP50:95"]["value"] == pytest.approx(expected, abs=1e-6)


def test_a_side_against_itself_is_parted_every_way():
    assert against_itself([record("a", s, 2.0) for s in range(4)], resamples=50)["splits"] == 3  # half of 4 over 2
    assert against_itself([record("a", s, 2.0) for s in range(3)], resamples=50)["splits"] == 3  # 3 over 1
    assert against_itself([record("a", s, 2.0) for s in range(2)], resamples=50)["splits"] == 1


def summary(tmp_path: Path):
    from fdam_rotate.apis.compare.plan import Plan, Run, Side
    from fdam_rotate.apis.compare.report import summarise

    sides = tuple(Side(name, Path(f"{name}.py"), (0, 1), name * 3, {}) for name in "ab")
    records = {f"{n}-seed{s}": record(n, s, noise) for n, noise in (("a", 3.0), ("b", 0.5)) for s in (0, 1)}
    missing = (Run(sides[1], 1),)
    del records["b-seed1"]
    records["a-seed0"].training["switches_by_step"] = [(1, {"lf_gamma": 0.01}), (2, {"lf_gamma": 0.04})]
    records["b-seed0"].training["switches_by_step"] = [(1, {"complex_weights": 0.5}), (2, {"complex_weights": 0.3})]
    return summarise(Plan(sides, records, missing, ("a and b: optimizer.lr: 1 against 2",)), "python x", resamples=100)


def test_the_report_says_all(tmp_path):
    pytest.importorskip("mmcv")
    values = summary(tmp_path)
    text = to_markdown(json.loads(json.dumps(values)))
    assert "**Unfinished**: 1 runs are missing: b-seed1." in text
    assert "| a | 2 |" in text
    assert "| b | a | 2 / 1 | **+" in text
    assert "optimizer.lr" in text
    assert "| a-seed1 |" in text
    assert "| a-seed0 | 0.04 |  |" in text
    assert "| b-seed0 |  | 0.3 |" in text
    write_picture(tmp_path / "p.png", values)
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    write_switches(tmp_path / "s.png", values["switches"])
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
