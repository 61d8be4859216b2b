"""tools/predict.py with an exported model: no torch, no MMRotate."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from prep_scenes import tree
from scripts import ROOT, load_script

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from page_data import page_data, tile_pixels
from square_model import SIZE, square_card, write_square_model

from fdam_rotate.dota.detections import read_detections
from fdam_rotate.dota.errors import DotaError

#: Runs a script with the packages of the full stack out of reach.
BLOCKED = """
import runpy, sys
for name in ("torch", "mmcv", "mmdet", "mmrotate"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def image(tmp_path):
    """112 x 64: two windows of 64 with a gap of 16, a blue square in each and one red in both."""
    pixels = np.zeros((SIZE, 112, 3), np.uint8)
    pixels[8:16, 8:16] = 204, 0, 0
    pixels[16:24, 104:112] = 153, 0, 0
    pixels[32:40, 48:56] = 0, 0, 255
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "city.png"), pixels)
    return folder


def test_an_exported_model_predicts_without_torch(tmp_path, image):
    model = write_square_model(tmp_path / "m.onnx")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(ROOT / "tools/predict.py"), str(model), str(image),
         "--out", str(tmp_path / "out"), "--runtime", "onnxruntime"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 image, 2 patches: 3 detections" in done.stdout
    found = read_detections(tmp_path / "out", classes=("plane", "ship"))
    centers = {name: sorted(map(tuple, one.polys.reshape(-1, 4, 2).mean(1).tolist())) for name, one in found.items()}
    assert centers == {"plane": [(12.0, 12.0), (108.0, 20.0)], "ship": [(52.0, 36.0)]}


def test_windows_are_those_of_the_card_unless_told_otherwise(tmp_path, image, capsys):
    predict = load_script("tools/predict.py")
    model = write_square_model(tmp_path / "m.onnx")
    out = ["--out", str(tmp_path / "out"), "--runtime", "onnxruntime"]
    assert predict.main([str(model), str(image), *out, "--sizes", "128", "--gaps", "0"]) == 0
    assert "1 image, 1 patch" in capsys.readouterr().out
    wide = write_square_model(tmp_path / "wide.onnx", card=square_card(height=32))
    with pytest.raises(DotaError, match="as its card says"):
        predict.main([str(wide), str(image), "--out", str(tmp_path / "o2")])


def test_what_is_missing_is_said(tmp_path, image, capsys):
    predict = load_script("tools/predict.py")
    with pytest.raises(SystemExit) as caught:
        predict.main(["config.py", "checkpoint.pth", "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert "CONFIG CHECKPOINT IMAGE..., or MODEL.onnx IMAGE..." in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"no such file: none\.onnx"):
        predict.main(["none.onnx", str(image), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("words", "count"),
    [
        pytest.param([], 3, id="the red square, found in both windows, once"),
        pytest.param(["--iou-thr", "1.0"], 4, id="nothing overlaps by more than 1"),
        pytest.param(["--score-thr", "0.7"], 2, id="one square scores 0.6"),
    ],
)
def test_thresholds_reach_the_merge(tmp_path, image, words, count, capsys):
    model = write_square_model(tmp_path / "m.onnx")
    assert load_script("tools/predict.py").main([str(model), str(image), "--out", str(tmp_path / "out"), *words]) == 0
    found = read_detections(tmp_path / "out", classes=("plane", "ship"))
    assert sum(len(one) for one in found.values()) == count


def test_a_threshold_for_each_class(tmp_path, image, capsys):
    model = str(write_square_model(tmp_path / "m.onnx"))
    predict = load_script("tools/predict.py").main
    assert predict([model, str(image), "--out", str(tmp_path / "all")]) == 0
    scores = {name: one.scores for name, one in read_detections(tmp_path / "all").items()}
    assert all(len(one) for one in scores.values())
    limits = {"plane": float(scores["plane"].max()), "ship": 0.0}
    (tmp_path / "thr.json").write_text(json.dumps(limits))
    assert (
        predict([model, str(image), "--out", str(tmp_path / "cut"), "--score-thr-file", str(tmp_path / "thr.json")])
        == 0
    )
    for name, one in read_detections(tmp_path / "cut").items():
        assert one.scores.tolist() == scores[name][scores[name] >= limits[name] - 1e-6].tolist()
    for few, missing in (('{"plane": 0.5}', "ship"), ("{}", "plane, ship")):
        (tmp_path / "half.json").write_text(few)
        with pytest.raises(DotaError, match=f"no score threshold for {missing};"):
            predict([
                model, str(image), "--out", str(tmp_path / "half"), "--score-thr-file", str(tmp_path / "half.json")
            ])  # fmt: skip
    for bad, message in (
        ('{"plane": 2}', "plane: expected a number from 0 to 1, got 2"),
        ("[1]", "no JSON file of"),
    ):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(SystemExit):
            predict([model, str(image), "--out", str(tmp_path / "bad"), "--score-thr-file", str(tmp_path / "bad.json")])
        assert message in capsys.readouterr().err


def test_pages_of_what_was_found(tmp_path, image, capsys):
    predict = load_script("tools/predict.py")
    model = write_square_model(tmp_path / "m.onnx")
    cv2.imwrite(str(image / "empty.png"), np.full((SIZE, SIZE, 3), 20, np.uint8))
    words = [str(model), str(image), "--out", str(tmp_path / "out"), "--runtime", "onnxruntime"]
    assert predict.main([*words, "--html"]) == 0
    assert f"0 GeoJSON files, 2 pages in {tmp_path / 'out' / 'html'};" in capsys.readouterr().out
    pages = {path.name: page_data(path.read_text()) for path in (tmp_path / "out" / "html").iterdir()}
    assert sorted(pages) == ["city.html", "empty.html"]
    found = read_detections(tmp_path / "out", classes=("plane", "ship"))
    columns = pages["city.html"]["boxes"]
    assert columns["cls"] == ["plane", "plane", "ship"]
    assert columns["corners"].tolist() == np.concatenate([found["plane"].polys, found["ship"].polys]).tolist()
    assert len(pages["empty.html"]["boxes"]["scores"]) == 0
    # the same page as of the files that were written
    show = load_script("tools/show.py")
    again = [str(image), str(tmp_path / "out"), "--classes", "plane,ship", "--html", "--out", str(tmp_path / "p")]
    assert show.main(again) == 0
    for name in pages:
        assert (tmp_path / "p" / name).read_bytes() == (tmp_path / "out" / "html" / name).read_bytes()
    # a run without pages leaves none of an earlier one behind, and other files alone
    (tmp_path / "out" / "html" / "mine.html").write_text("mine")
    assert predict.main([*words, "--overwrite"]) == 0
    assert [path.name for path in (tmp_path / "out" / "html").iterdir()] == ["mine.html"]
    assert " pages in " not in capsys.readouterr().out.splitlines()[-1]


def test_a_page_shows_the_bands_that_were_predicted_on(tmp_path, image):
    pytest.importorskip("rasterio")
    predict = load_script("tools/predict.py")
    model = write_square_model(tmp_path / "m.onnx")
    words = [str(model), str(image), "--out", str(tmp_path / "out"), "--runtime", "onnxruntime", "--html"]
    assert predict.main([*words, "--bands", "3", "2", "1"]) == 0
    data = page_data((tmp_path / "out" / "html" / "city.html").read_text())
    assert data["boxes"]["cls"] == ["plane", "ship", "ship"], "red and blue have changed places"
    blue, _, red = tile_pixels(data, 1, 0, 0)[12, 12].tolist()
    assert red > 150 > 60 > blue


def test_no_page_of_somebody_else_is_replaced(tmp_path, image):
    predict = load_script("tools/predict.py")
    model = write_square_model(tmp_path / "m.onnx")
    (tmp_path / "out" / "html").mkdir(parents=True)
    (tmp_path / "out" / "html" / "city.html").write_text("mine")
    words = [
        str(model),
        str(image),
        "--out",
        str(tmp_path / "out"),
        "--runtime",
        "onnxruntime",
        "--html",
        "--overwrite",
    ]
    with pytest.raises(DotaError, match=r"city\.html was not written by this command"):
        predict.main(words)
    assert (tmp_path / "out" / "html" / "city.html").read_text() == "mine"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_processes_share_the_work_and_write_the_same_bytes(tmp_path, image, runtime, capsys):
    pytest.importorskip(runtime)
    predict = load_script("tools/predict.py").main
    words = [str(write_square_model(tmp_path / "m.onnx")), str(image), "--runtime", runtime, "--out"]
    for name, more in (("one", []), ("two", ["--nproc", "2"])):
        assert predict([*words, str(tmp_path / name), *more]) == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    told = [line.split(" detections in ")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == ["1 image, 2 patches: 3"] * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nproc", "0"], "at least 1"),
        (["--nproc", "2", "--scheduler", "tcp://localhost:1"], "give one of --nproc, --scheduler and --launcher"),
        (["--nproc", "2", "--device", "cuda:1"], "--device cuda:1 is for one process; CUDA_VISIBLE_DEVICES says which"),
        (["--scheduler", "tcp://localhost:1", "--device", "cuda:1"], "--device cuda:1 is for one process"),
        (["--launcher", "pytorch"], "--launcher is for CONFIG CHECKPOINT; give --nproc"),
    ],
)
def test_workers_that_make_no_sense(tmp_path, image, words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        load_script("tools/predict.py").main(["m.onnx", str(image), "--out", str(tmp_path / "out"), *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
