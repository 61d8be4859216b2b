"""--nms-agnostic, --classes and --csv through predict and merge, with a model whose answer is known."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from square_model import write_square_model

from fdam_rotate.commands import merge, predict
from fdam_rotate.dota.detections import read_detections
from fdam_rotate.dota.errors import DotaError, OutputExistsError, UnknownClassError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One image: a cell that is both red (ship, 0.98) and blue (plane, 0.59), one that is blue alone (0.78)."""
    image = np.full((64, 64, 3), 20, np.uint8)
    image[8:16, 16:24] = (150, 0, 250)
    image[40:48, 40:48] = (200, 0, 0)
    (tmp_path / "images").mkdir()
    assert cv2.imwrite(str(tmp_path / "images/a b.png"), image)
    write_square_model(tmp_path / "model.onnx")
    return tmp_path


def found(data: Path, out: str, *words: str) -> dict[str, list[float]]:
    argv = [str(data / "model.onnx"), str(data / "images"), "--out", str(data / out), *words]
    assert predict.main(argv) == 0
    return {name: one.scores.round(2).tolist() for name, one in read_detections(data / out).items()}


def test_predict_across_classes(data: Path) -> None:
    assert found(data, "plain") == {"plane": [0.78, 0.59], "ship": [0.98]}
    assert found(data, "agnostic", "--nms-agnostic") == {"plane": [0.78], "ship": [0.98]}


def test_predict_some_classes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(data, "plane", "--classes", "plane") == {"plane": [0.78, 0.59]}
    assert found(data, "both", "--classes", "ship,plane") == {"plane": [0.78, 0.59], "ship": [0.98]}
    assert [path.name for path in sorted((data / "plane").glob("Task1*"))] == ["Task1_plane.txt"]
    # a box of a class that is not kept suppresses none
    assert found(data, "alone", "--classes", "plane", "--nms-agnostic") == {"plane": [0.78, 0.59]}
    with pytest.raises(UnknownClassError, match="the model has no class 'plain'; did you mean 'plane'"):
        found(data, "none", "--classes", "plain")
    assert not (data / "none").exists()
    # the journal keeps all classes: another choice is made without predicting again
    capsys.readouterr()
    assert found(data, "plane", "--classes", "ship", "--overwrite") == {"ship": [0.98]}
    assert "(1 of them earlier)" in capsys.readouterr().out
    found(data, "labels", "--classes", "ship", "--labels", "yolo-obb")
    assert (data / "labels/labels/data.yaml").read_text().endswith('names:\n  0: "ship"\n')


def test_what_the_model_threw_away_is_not_asked_for_in_silence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file's own step keeps scores above 0.3 and drops overlaps above 0.1; less and more reach nothing."""
    found(data, "low", "--score-thr", "0.1")
    told = capsys.readouterr().err
    assert "the model itself leaves out what it scores 0.3 or less, 0.1 is below; see model.test_cfg of the" in told
    assert "config that it is exported with" in told
    found(data, "fits", "--score-thr", "0.3", "--iou-thr", "0.1")
    assert "the model itself" not in capsys.readouterr().err
    found(data, "loose", "--score-thr", "0.3", "--iou-thr", "0.5")
    assert "by more than 0.1; --iou-thr 0.5 is more and acts between windows only" in capsys.readouterr().err
    (data / "thr.json").write_text('{"plane": 0.2, "ship": 0.4}')
    found(data, "each", "--score-thr-file", str(data / "thr.json"))
    assert "0.2 is below" in capsys.readouterr().err
    found(data, "ships", "--score-thr-file", str(data / "thr.json"), "--classes", "ship")
    assert "the model itself" not in capsys.readouterr().err, "the plane's threshold is not used"


def test_a_threshold_of_no_class_is_named(data: Path) -> None:
    (data / "thr.json").write_text('{"plane": 0.4, "Ship": 0.4}')
    with pytest.raises(DotaError, match=r"^no score threshold for ship; .* \(the model has no class Ship\)$"):
        found(data, "out", "--score-thr-file", str(data / "thr.json"))
    (data / "thr.json").write_text('{"plane": 0.4}')
    with pytest.raises(DotaError, match=r"^no score threshold for ship; "):
        found(data, "out", "--score-thr-file", str(data / "thr.json"), "--classes", "ship")


def test_mmrotates_gpu_id_counts_for_nothing_to_an_exported_model(data: Path) -> None:
    assert found(data, "gpu", "--gpu-id", "0") == {"plane": [0.78, 0.59], "ship": [0.98]}


def test_predict_and_merge_write_the_table(data: Path) -> None:
    found(data, "table", "--csv", "--classes", "plane")
    with (data / "table/Task1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["class"], round(float(row["score"]), 2), row["x1"]) for row in rows] == [
        ("a b", "plane", 0.78, "40.00"), ("a b", "plane", 0.59, "16.00"),
    ]  # fmt: skip
    found(data, "table", "--overwrite")
    assert not (data / "table/Task1.csv").exists(), "of the earlier run"
    words = [str(data / "table"), "--out", str(data / "merged"), "--classes", "plane,ship", "--csv"]
    assert merge.main([*words, "--nms-agnostic"]) == 0
    text = (data / "merged/Task1.csv").read_text()
    assert [line.split(",")[:2] for line in text.splitlines()] == [
        ["image", "class"],
        ["a b", "plane"],
        ["a b", "ship"],
    ]
    with pytest.raises(OutputExistsError):
        merge.main(words)
    assert merge.main([*words[:-1], "--overwrite"]) == 0
    assert sorted(path.name for path in (data / "merged").iterdir()) == ["Task1_plane.txt", "Task1_ship.txt"]
    (data / "merged/Task1.csv").write_text("mine\n")
    with pytest.raises(SystemExit) as stop:
        merge.main([*words, "--nms", "none", "--nms-agnostic"])
    assert stop.value.code == 2
