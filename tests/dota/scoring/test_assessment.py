"""What is asked of detections is answered, nothing else is computed, and each file is written once it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring import assessment
from fdam_rotate.dota.scoring.assessment import Costs, Files, Questions, assess, compare_sides
from fdam_rotate.dota.scoring.evaluation import evaluate

BOX = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]


def found(*scores: float) -> dict[str, Detections]:
    """One ship per image, of these scores; a score of 0 is none."""
    ids = tuple(f"i{k}" for k, score in enumerate(scores) if score)
    kept = np.array([score for score in scores if score])
    return {"ship": Detections(ids, np.arange(len(ids)), kept, np.tile(BOX, (len(ids), 1)))}


def truths(count: int) -> dict[str, Labels]:
    one = Labels(np.array([BOX]), ("ship",), np.zeros(1, np.int64))
    return {f"i{k}": one for k in range(count)}


def test_only_what_is_asked_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assessment, "confusion", lambda *_, **__: pytest.fail("nobody asked for the confusion matrix"))
    costs = Costs()
    plain = assess(found(0.9, 0.8, 0.7), truths(3), ["ship"], Questions(), costs=costs)
    assert plain.result.map == 1.0
    assert (plain.tables, plain.thresholds, plain.intervals) == ([], {}, None)
    assert list(costs.seconds) == ["scoring"]
    asked = Questions(bootstrap=20, causes=True, by=("size", "size", "aspect"), calibration=True, choose_on=["i0"])
    costs = Costs()
    full = assess(found(0.9, 0.8, 0.7), truths(3), ["ship"], asked, trained_on=["i1"], costs=costs)
    keys = ["causes", "by_size", "by_aspect", "calibration", "thresholds", "by_threshold"]
    assert [table.key for table in full.tables] == keys
    assert list(costs.seconds) == ["scoring", "bootstrap", "causes", "strata", "calibration", "thresholds"]
    assert full.thresholds["ship"].threshold == pytest.approx(0.45), "halfway below the only score that was chosen on"
    assert full.intervals is not None
    assert any(note.startswith("warning: 1 of the 3 scored images were trained on") for note in full.notes)
    text = "\n".join(full.lines())
    assert all(f"\n\n{table.title}\n" in text for table in full.tables)


def test_files_are_written_if_asked_for_and_hold_no_table_twice(tmp_path: Path) -> None:
    one = assess(found(0.9, 0, 0.7), truths(3), ["ship"], Questions(by=("size", "aspect"), choose_on=["i0", "i2"]))
    assert one.write(Files(), "nothing") == []
    assert list(tmp_path.iterdir()) == []
    files = Files(tmp_path / "s.json", tmp_path / "s.md", tmp_path / "s.tex", tmp_path / "t.json")
    assert one.write(files, "Mine") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.json", "s.md", "s.tex", "t.json"]
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["classes"]["ship"]["tp"] == 2
    assert "confusion" not in scores, "half the time of scoring, for pictures and pages only"
    assert list(json.loads((tmp_path / "t.json").read_text())) == ["ship"]
    text = (tmp_path / "s.md").read_text()
    assert text.startswith("# Mine\n")
    assert text.count("## By object size") == 1


def test_two_sides(tmp_path: Path) -> None:
    one, two = (evaluate(found(*scores), truths(4), ["ship"]) for scores in ((0.9, 0, 0, 0.6), (0.9, 0.8, 0.7, 0.6)))
    comparison = compare_sides([one], [two], bootstrap=50)
    assert comparison.difference.resamples == 50
    gain = two.map - one.map
    assert comparison.verdict().startswith(f"mAP {one.map:.4f} -> {two.map:.4f}: {gain:+.4f} (")
    comparison.write(Files(json=tmp_path / "v.json", latex=tmp_path / "v.tex"), {"a": ["x"], "b": ["y"]})
    content = json.loads((tmp_path / "v.json").read_text())
    assert content["runs"] == {"a": ["x"], "b": ["y"]}
    assert content["versus"]["map"]["value"] == pytest.approx(gain)
    assert (tmp_path / "v.tex").read_text().rstrip().endswith("\\end{table}")
    assert compare_sides([one], [two]).difference.resamples == 1000
