"""Every option of a command reaches the function that does the work: none is read and forgotten."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scripts import load_script


class Arrived(Exception):
    """Raised in place of the work; holds what it was given."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__()
        self.given = given
        self.named = named


def arrived(monkeypatch: pytest.MonkeyPatch, script: str, function: str, words: list[object]) -> Arrived:
    """What ``main`` of a script hands to a function, given as module:name."""
    module, name = function.split(":")

    def stop(*given: Any, **named: Any) -> None:
        raise Arrived(*given, **named)

    monkeypatch.setattr(importlib.import_module(module), name, stop)
    with pytest.raises(Arrived) as caught:
        load_script(script).main([str(word) for word in words])
    return caught.value


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An image with its labels and detections, files that stand for a config and a checkpoint."""
    for name in ("images", "labelTxt", "det", "more"):
        (tmp_path / name).mkdir()
    assert cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full((50, 60, 3), 90, np.uint8))
    (tmp_path / "labelTxt" / "a.txt").write_text("")
    for name in ("det", "more"):
        (tmp_path / name / "Task1_ship.txt").write_text("a 0.9 1 1 9 1 9 9 1 9\n")
    return tmp_path


def test_merge(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        data / "det",
        data / "more",
        "--out",
        data / "out",
        "--iou-thr",
        "0.2",
        "--nms",
        "hbb",
        "--score-thr",
        "0.3",
    ]
    words += ["--max-per-image", 7, "--fuse", "wbf", "--fuse-iou-thr", "0.4", "--weights", "1", "2.5", "--nproc", "3"]
    words += [
        "--classes",
        "ship,plane",
        "--task",
        "2",
        "--scheduler",
        "tcp://x:1",
        "--overwrite",
        "--csv",
        "--nms-agnostic",
    ]
    found = arrived(monkeypatch, "tools/merge.py", "fdam_rotate.dota.merging.merge_files:merge_files", words)
    sources, out, classes, options = found.given
    assert list(map(str, sources)) == [str(data / "det"), str(data / "more")]
    assert (str(out), classes) == (str(data / "out"), ("ship", "plane"))
    assert (options.iou_thr, options.nms, options.score_thr, options.max_per_image) == (0.2, "hbb", 0.3, 7)
    assert options.nms_agnostic is True
    assert (options.fuse, options.fuse_iou_thr, list(options.weights)) == ("wbf", 0.4, [1.0, 2.5])
    told = {name: found.named[name] for name in ("task", "locate", "nproc", "scheduler", "csv", "overwrite")}
    assert told == {"task": 2, "locate": None, "nproc": 3, "scheduler": "tcp://x:1", "csv": True, "overwrite": True}


def test_split(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--img-dirs", data / "images", "--ann-dirs", data / "labelTxt", "--out", data / "out", "--style", "devkit"]
    words += ["--sizes", "512", "--gaps", "100", "--rates", "0.5", "2", "--img-rate-thr", "0.11", "--iof-thr", "0.22"]
    words += [
        "--no-padding",
        "--padding-value",
        "1",
        "2",
        "3",
        "--save-ext",
        ".bmp",
        "--classes",
        "ship,plane",
        "--nproc",
        3,
    ]
    words += [
        "--scheduler",
        "tcp://x:1",
        "--strict",
        "--accept",
        "outside",
        "--bands",
        "3",
        "2",
        "1",
        "--scale-range",
        5,
        9,
    ]
    found = arrived(monkeypatch, "data_prep/split.py", "fdam_rotate.dota.splitting.split:run_split", words)
    img_dirs, ann_dirs, out, options = found.given
    assert [*map(str, img_dirs), *map(str, ann_dirs)] == [str(data / "images"), str(data / "labelTxt")]
    assert str(out) == str(data / "out")
    assert (options.style, options.sizes, options.gaps, options.rates) == ("devkit", (512,), (100,), (0.5, 2.0))
    assert (options.img_rate_thr, options.iof_thr, options.padding, options.padding_value) == (
        0.11,
        0.22,
        False,
        (1, 2, 3),
    )
    assert (options.save_ext, options.classes) == (".bmp", ("ship", "plane"))
    assert (list(options.raster.bands), options.raster.scale_range) == ([3, 2, 1], (5.0, 9.0))
    told = {name: found.named[name] for name in ("nproc", "scheduler", "strict", "accept")}
    assert told == {"nproc": 3, "scheduler": "tcp://x:1", "strict": True, "accept": ["outside"]}


def test_verify(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [data, "--classes", "ship,plane", "--accept", "unread", "--nproc", 3, "--bands", "2", "--scale-range", 5, 9]
    found = arrived(monkeypatch, "data_prep/verify.py", "fdam_rotate.dota.checking.verify:verify", words)
    assert list(map(str, found.given[0])) == [str(data)]
    assert (found.named["classes"], found.named["accept"], found.named["nproc"]) == (("ship", "plane"), ["unread"], 3)
    assert (list(found.named["raster"].bands), found.named["raster"].scale_range) == ([2], (5.0, 9.0))


@pytest.mark.parametrize(("images", "needed"), [("none", False), ("copy", True)])
def test_convert_labels(data: Path, monkeypatch: pytest.MonkeyPatch, images: str, needed: bool) -> None:
    words = [
        data,
        "--out",
        data / "out",
        "--from",
        "dota",
        "--to",
        "coco",
        "--classes",
        "ship,plane",
        "--images",
        images,
    ]
    words += ["--img-dir", data / "images", "--outside", "drop"]
    module = "fdam_rotate.dota.formats.interchange"
    with monkeypatch.context() as patch:
        read = arrived(patch, "data_prep/convert_labels.py", f"{module}:Reading", words).named
    assert (read["classes"], str(read["img_dir"])) == (("ship", "plane"), str(data / "images"))
    assert read["need_images"] is needed
    with monkeypatch.context() as patch:
        place = arrived(patch, "data_prep/convert_labels.py", f"{module}:staged", [*words, "--overwrite"])
    assert place.named["overwrite"] is True
    assert list(map(str, place.named["inputs"])) == [str(data), str(data / "images")]


def test_predict(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    from square_model import write_square_model

    model = write_square_model(data / "m.onnx")
    words = [
        model,
        data / "images",
        "--out",
        data / "out",
        "--sizes",
        "128",
        "--gaps",
        "32",
        "--rates",
        "0.5",
        "--bands",
        "1",
    ]
    words += [
        "--scale-range",
        5,
        9,
        "--batch-size",
        3,
        "--score-thr",
        "0.4",
        "--iou-thr",
        "0.6",
        "--keep-crs",
        "--gpkg",
    ]
    words += [
        "--html",
        "--overwrite",
        "--runtime",
        "onnxruntime",
        "--device",
        "cpu",
        "--nms-agnostic",
        "--csv",
        "--classes",
        "ship",
        "--nproc",
        3,
    ]
    found = arrived(monkeypatch, "tools/predict.py", "fdam_rotate.dota.predicting.predict:predict_images", words)
    _, sources, out, options = found.given
    assert ([source.image_id for source in sources], str(out)) == (["a"], str(data / "out"))
    assert (options.sizes, options.gaps, options.rates) == ((128,), (32,), (0.5,))
    assert (list(options.raster.bands), options.raster.scale_range) == ([1], (5.0, 9.0))
    expected = {
        "batch_size": 3, "score_thr": 0.4, "iou_thr": 0.6, "keep_crs": True, "gpkg": True, "html": True,
        "overwrite": True, "progress": True, "csv": True, "nms_agnostic": True, "only": ("ship",), "nproc": 3,
    }  # fmt: skip
    assert {name: found.named[name] for name in expected} == expected
    with monkeypatch.context() as patch:
        loaded = arrived(patch, "tools/predict.py", "fdam_rotate.dota.predicting.onnx_model:OnnxModel", words)
    assert (str(loaded.given[0]), loaded.named) == (str(model), {"runtime": "onnxruntime", "device": "cpu"})


def test_show(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [data / "images", data / "det", "--gt", data / "labelTxt", "--out", data / "out", "--score-thr", "0.2"]
    words += ["--iou-thr", "0.7", "--classes", "ship,plane", "--task", "1", "--scores", "--no-legend"]
    found = arrived(monkeypatch, "tools/show.py", "fdam_rotate.dota.scoring.drawing:draw_detections", words).named
    told = {name: found[name] for name in ("classes", "score_thr", "iou_thr", "task", "show_scores", "legend")}
    assert told == {
        "classes": ("ship", "plane"), "score_thr": 0.2, "iou_thr": 0.7, "task": 1, "show_scores": True, "legend": False,
    }  # fmt: skip


def test_show_html(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        data / "images",
        data / "det",
        "--html",
        "--out",
        data / "out",
        "--score-thr",
        "0.2",
        "--classes",
        "ship,plane",
    ]
    words += ["--bands", "3", "2", "1", "--scale-range", 5, 9]
    found = arrived(monkeypatch, "tools/show.py", "fdam_rotate.dota.viewing.pages:write_pages", words)
    assert ([source.image_id for source in found.given[0]], list(found.given[1])) == (["a"], ["a"])
    assert (str(found.given[2]), found.named["classes"], found.named["least"]) == (
        str(data / "out"),
        ("ship", "plane"),
        0.2,
    )
    assert (list(found.named["raster"].bands), found.named["raster"].scale_range) == ([3, 2, 1], (5.0, 9.0))


def test_test(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    monkeypatch.setenv("LOCAL_RANK", "0")  # main sets it where nothing has
    (data / "c.py").write_text(
        "model = dict(a=1, type='X', backbone=dict(type='Y'))\ndata = dict(val=dict(type='D'), test=dict(type='D'))\n"
    )
    (data / "c.pth").write_bytes(b"")
    words = [
        data / "c.py",
        data / "c.pth",
        "--out",
        data / "out",
        "--work-dir",
        data / "work",
        "--split",
        "val",
        "--eval",
    ]
    words += ["mAP", "--format-only", "--eval-options", "iou_thr=0.3", f"submission_dir={data / 'sub'}", "--show-dir"]
    words += [data / "shown", "--score-thr", "0.2", "--fuse-conv-bn", "--precision", "bf16", "--device", "cuda:1"]
    words += ["--overwrite", "--cfg-options", "model.a=2", "--launcher", "slurm", "--unsafe-load", "--nms-agnostic"]
    found = arrived(monkeypatch, "tools/test.py", "fdam_rotate.apis.testing:run_test", words)
    cfg, checkpoint, outputs = found.given
    assert (cfg.model.a, str(checkpoint)) == (2, str(data / "c.pth"))
    assert (str(outputs.detections), str(outputs.submission)) == (str(data / "out"), str(data / "sub"))
    assert str(outputs.pictures) == str(data / "shown")
    expected = {
        "split": "val", "score": {"iou_thr": 0.3}, "score_thr": 0.2, "fuse_conv_bn": True, "precision": "bf16",
        "launcher": "slurm", "device": "cuda:1", "overwrite": True, "unsafe_load": True, "nms_agnostic": True,
    }  # fmt: skip
    assert {name: found.named[name] for name in expected} == expected
    with monkeypatch.context() as patch:
        plain = arrived(patch, "tools/test.py", "fdam_rotate.apis.testing:run_test", [data / "c.py", data / "c.pth"])
    outputs = plain.given[2]
    assert str(outputs.detections) == "work_dirs/c/patch_detections"
    assert (outputs.submission, outputs.pictures, plain.named["score"]) == (None, None, None)
