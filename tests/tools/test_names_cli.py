"""Odd names through the commands: carried with what they name, or told in one line before any work."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from square_model import square_card, write_square_model

from fdam_rotate.commands import evaluate, merge, predict, show, split, submit, verify
from fdam_rotate.dota.detections import read_detections
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.manifest import read_manifest

NAMES = ("scene (0)", "Bildschirmfoto 2024-05-01 um 10.00.00\u202fAM", "100%25", "a")
#: Where the squares are: the model finds one on each bright cell of 8 x 8 pixels.
CELLS = [(8, 16), (48, 40)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images of 64 pixels with two red squares each, and their labels, as class car/van."""
    for folder in ("images", "labelTxt"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for k, name in enumerate(NAMES):
        image = np.full((64, 64, 3), 20 + k, np.uint8)
        lines = []
        for x, y in CELLS:
            image[y : y + 8, x : x + 8, 2] = 250
            lines.append(f"{x} {y} {x + 8} {y} {x + 8} {y + 8} {x} {y + 8} car/van 0\n")
        assert cv2.imwrite(str(tmp_path / "set/images" / f"{name}.png"), image)
        (tmp_path / "set/labelTxt" / f"{name}.txt").write_text("".join(lines))
    write_square_model(tmp_path / "model.onnx", card=square_card(classes=("plane", "car/van")))
    return tmp_path


def test_odd_names_from_pictures_to_scores(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = "plane,car/van"
    assert verify.main([str(data / "set"), "--classes", classes, "--nproc", "1"]) == 0
    words = ["--img-dirs", data / "set/images", "--ann-dirs", data / "set/labelTxt", "--out", data / "split"]
    assert split.main([*map(str, words), "--nproc", "1", "--sizes", "64", "--gaps", "0"]) == 0
    assert {image["id"] for image in read_manifest(data / "split").images} == set(NAMES)
    assert predict.main([str(data / "model.onnx"), str(data / "set/images"), "--out", str(data / "found")]) == 0
    found = read_detections(data / "found")
    assert {name: len(one) for name, one in found.items()} == {"plane": 0, "car/van": 2 * len(NAMES)}
    assert "3 image ids are written with escapes ('100%25' as 100%2525); DOTA's server" in capsys.readouterr().err
    assert (data / "found/Task1_car%2Fvan.txt").read_bytes().count(b"scene%20(0) 0.9803") == 2
    gt = ["--gt", str(data / "set/labelTxt"), "--classes", classes]
    capsys.readouterr()
    assert evaluate.main([str(data / "found"), *gt]) == 0
    assert "mAP 1.0000" in capsys.readouterr().out
    assert merge.main([str(data / "found"), "--out", str(data / "merged"), "--classes", classes]) == 0
    told = capsys.readouterr().out
    assert "note: 3 image ids are written with escapes ('100%25' as 100%2525); DOTA's server does not know" in told
    assert evaluate.main([str(data / "merged.zip"), *gt]) == 0
    assert "mAP 1.0000" in capsys.readouterr().out
    assert show.main([str(data / "set/images"), str(data / "merged"), *gt, "--out", str(data / "pictures")]) == 0
    assert {path.stem for path in (data / "pictures").glob("[!.]*")} == set(NAMES)
    with pytest.raises(DotaError, match=r"out\.zip was not written: it would not pass"):
        submit.main([str(data / "merged"), "--out", str(data / "out.zip"), "--classes", classes])
    assert (
        "'100%2525' stands for '100%25': DOTA's server knows no such id; rename the image (and 5 more lines)"
        in capsys.readouterr().err
    )
    assert not (data / "out.zip").exists()


@pytest.mark.parametrize(
    ("name", "reason"), [(" a", "begins or ends with a blank"), ("b\nc", "U\\+000A"), ("classes", "list of classes")]
)
def test_names_that_are_refused_are_told_first(
    name: str, reason: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = data / "set/images"
    (images / "a.png").rename(images / f"{name}.png")
    with pytest.raises(DotaError, match=f"image id .* {reason}.*; rename the file"):
        predict.main([str(data / "model.onnx"), str(images / f"{name}.png"), "--out", str(data / "found")])
    assert predict.main([str(data / "model.onnx"), str(images), "--out", str(data / "found")]) == 1
    out, err = capsys.readouterr()
    assert "3 images" in out
    assert "1 image left out" in out
    assert err.count("; rename the file; it is left out") == 1
    words = ["--img-dirs", images, "--out", data / "split", "--nproc", "1", "--sizes", "64", "--gaps", "0"]
    assert split.main(list(map(str, words))) == 1
    assert capsys.readouterr().err.count("; rename the file; it is left out [id]") == 1
    assert verify.main([str(data / "set"), "--classes", "car/van", "--nproc", "1", "--accept", "no-image"]) == 1
    assert "id: " in capsys.readouterr().out


def test_labels_that_nothing_reads_are_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "set/labelTxt").rename(data / "set/labels")
    assert verify.main([str(data / "set"), "--classes", "car/van", "--nproc", "1"]) == 1
    told = capsys.readouterr().out
    assert f"unread: {data / 'set/labels'}: 4 .txt files are not read: labels are read from labelTxt or ann" in told
    assert "; rename the folder" in told
    (data / "set/labels/100%25.txt").write_text("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n")
    verify.main([str(data / "set"), "--classes", "car/van", "--nproc", "1"])
    assert "this looks like YOLO-OBB" in capsys.readouterr().out
    (data / "set/labels").rename(data / "set/labelTxt")
    (data / "set/labels").mkdir()
    (data / "set/labels/a.txt").write_text("")
    verify.main([str(data / "set"), "--classes", "car/van", "--nproc", "1"])
    assert "labels: 1 .txt file is not read: the labels are those in labelTxt" in capsys.readouterr().out


def test_folders_and_files_that_are_not_read_are_counted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = data / "set/images"
    (images / "more").mkdir()
    (images / "a.png").rename(images / "more/a.png")
    (images / "b.npy").write_bytes(b"")
    line = f"{images}: not read: 1 folder with images (more) and 1 file of another kind (1 .npy)"
    assert predict.main([str(data / "model.onnx"), str(images), "--out", str(data / "found")]) == 0
    assert line in capsys.readouterr().err
    words = ["--img-dirs", images, "--out", data / "split", "--nproc", "1", "--sizes", "64", "--gaps", "0"]
    assert split.main(list(map(str, words))) == 0
    assert line in capsys.readouterr().err
    assert show.main([str(images), str(data / "found"), "--out", str(data / "out"), "--classes", "car/van,plane"]) == 0
    assert line in capsys.readouterr().err
    assert verify.main([str(data / "set"), "--classes", "car/van", "--nproc", "1", "--accept", "no-image"]) == 1
    assert f"unread: {line}" in capsys.readouterr().out
