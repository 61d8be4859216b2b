"""Every option of a command reaches the function that does the work: none is read and forgotten."""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from scripts import load_script

from fdam_rotate.dota.errors import OutputExistsError


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
        "--padding-value",
        "7",
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
    assert (options.sizes, options.gaps, options.rates, options.padding_value) == ((128,), (32,), (0.5,), (7,))
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
    assert (plain.named["score_thr"], plain.named["split"], plain.named["overwrite"]) == (0.3, "test", False)
    with (data / "c.py").open("a") as file:
        file.write(f"work_dir = {str(data / 'its')!r}\n")
    with monkeypatch.context() as patch:
        words = [data / "c.py", data / "c.pth", "--format-only", "--local_rank", 2]
        patch.delenv("LOCAL_RANK")
        formatted = arrived(patch, "tools/test.py", "fdam_rotate.apis.testing:run_test", words)
        assert os.environ["LOCAL_RANK"] == "2"
    outputs = formatted.given[2]
    assert [str(outputs.detections), str(outputs.submission)] == [
        str(data / "its/patch_detections"), str(data / "its/submission"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        (["--eval", "mAP", "--eval-options", "submission_dir=x"], "submission_dir"),
        (["--format-only", "--eval-options", "iou_thr=0.3", "ap=voc12"], "ap, iou_thr"),
        (["--eval-options", "iou_thr=0.3"], "iou_thr"),
    ],
)
def test_options_of_test_that_nothing_would_read(
    data: Path, words: list[str], unknown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("c.py", "c.pth"):
        (data / name).touch()
    with pytest.raises(SystemExit) as stop:
        load_script("tools/test.py").main([str(data / "c.py"), str(data / "c.pth"), *words])
    assert stop.value.code == 2
    assert f"--eval-options {unknown}: not known with these flags" in capsys.readouterr().err


TRAINING = """
model = dict(a=1, type='X', backbone=dict(type='Y'))
data = dict(train=dict(type='D'))
runner = dict(type='EpochBasedRunner', max_epochs=9)
optimizer = dict(type='SGD', lr=0.1)
workflow = [('train', 1)]
dist_params = dict(backend='gloo')
auto_resume = {auto_resume}
"""


def test_train(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    from fdam_rotate.apis.runtime import Runtime

    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.chdir(data)
    (data / "c.py").write_text(TRAINING.format(auto_resume=True))
    (data / "plain.py").write_text(TRAINING.format(auto_resume=False))
    (data / "c.pth").write_bytes(b"")
    check = "fdam_rotate.apis.train:check_training_config"
    words = ["--work-dir", "work", "--no-validate", "--device", "cuda:1", "--deterministic", "--launcher", "slurm"]
    words += ["--unsafe-load", "--cfg-options", "model.a=2"]
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/train.py", check, ["c.py", "--resume-from", "c.pth", *words])
        (cfg,) = found.given
        assert (cfg.model.a, cfg.work_dir, found.named) == (2, "work", {"validate": False, "device": "cuda:1"})
        assert (cfg.resume_from, cfg.auto_resume) == ("c.pth", False), "the checkpoint that is named, and no other"
        (cfg,) = arrived(patch, "tools/train.py", check, ["c.py"]).given
        assert (cfg.work_dir, cfg.resume_from, cfg.auto_resume) == ("work_dirs/c", None, True)
        (cfg,) = arrived(patch, "tools/train.py", check, ["plain.py"]).given
        assert cfg.auto_resume is False
        (cfg,) = arrived(patch, "tools/train.py", check, ["plain.py", "--auto-resume"]).given
        assert cfg.auto_resume is True
        options = ["--cfg-options", "resume_from=other.pth", "work_dir=its", "opencv_num_threads=3"]
        (cfg,) = arrived(patch, "tools/train.py", check, ["plain.py", *options]).given
        assert (cfg.resume_from, cfg.work_dir) == ("other.pth", "its")
    monkeypatch.setattr("fdam_rotate.apis.train.check_training_config", lambda *_, **__: None)
    started = "fdam_rotate.apis.runtime:start_runtime"
    with monkeypatch.context() as patch:
        assert arrived(patch, "tools/train.py", started, ["c.py", *words]).given == (
            "slurm", "cuda:1", {"backend": "gloo"},
        )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.delenv("LOCAL_RANK")
        arrived(patch, "tools/train.py", started, ["plain.py", "--local-rank", "3", *options])
        assert (os.environ["LOCAL_RANK"], cv2.getNumThreads()) == ("3", 3)
        cv2.setNumThreads(0)
    monkeypatch.setattr("fdam_rotate.apis.runtime.start_runtime", lambda *_: Runtime("cpu", 0, 0, 1))
    opened = []
    module = "fdam_rotate.apis.checkpoints.checkpoint"
    monkeypatch.setattr(f"{module}.install_safe_loader", opened.append)
    metas = iter([{"seed": 7}, {"seed": 7}, {"seed": None}])
    monkeypatch.setattr(
        f"{module}.load_checkpoint_file", lambda path, unsafe: opened.append(unsafe) or {"meta": next(metas)}
    )
    for more, seed in (([], 7), (["--seed", "0"], 0), ([], 0)):
        with monkeypatch.context() as patch:
            argv = ["c.py", "--resume-from", "c.pth", *words, *more]
            found = arrived(patch, "tools/train.py", "fdam_rotate.apis.train:train", argv)
        assert found.named == {"validate": False, "seed": seed, "deterministic": True}
    assert opened == [True] * 6
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/train.py", "fdam_rotate.apis.train:train", ["plain.py"])
    assert found.named == {"validate": True, "seed": 0, "deterministic": False}
    assert opened[6:] == [False]


def test_predict_with_a_checkpoint(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    (data / "c.py").write_text(TRAINING.format(auto_resume=False).replace("train=", "test="))
    (data / "c.pth").write_bytes(b"")
    words = [
        data / "c.py",
        data / "c.pth",
        data / "images",
        "--out",
        data / "out",
        "--batch-size",
        3,
        "--device",
        "cpu",
    ]
    words += ["--precision", "bf16", "--unsafe-load", "--cfg-options", "model.a=2"]
    found = arrived(monkeypatch, "tools/predict.py", "fdam_rotate.apis.predict:TorchModel", words)
    cfg, checkpoint = found.given
    assert (cfg.model.a, str(checkpoint)) == (2, str(data / "c.pth"))
    assert found.named == {"batch_size": 3, "device": "cpu", "precision": "bf16", "unsafe_load": True}


def test_predict_takes_windows_and_thresholds_as_the_card_and_the_docs_say(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    from square_model import square_card, write_square_model

    model = write_square_model(data / "m.onnx", card=square_card(gap=24))
    words = [model, data / "images", "--out", data / "out"]
    found = arrived(monkeypatch, "tools/predict.py", "fdam_rotate.dota.predicting.predict:predict_images", words)
    options, named = found.given[3], found.named
    assert (options.sizes, options.gaps, options.rates, options.raster.scale_range) == ((64,), (24,), (1.0,), "auto")
    assert (named["score_thr"], named["iou_thr"], named["batch_size"], named["nproc"]) == (0.05, 0.1, 1, 1)
    assert (named["only"], named["nms_agnostic"], named["pool"], named["overwrite"]) == (None, False, None, False)


def test_export(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    from mmcv import Config

    cfg = Config({"img_norm_cfg": {"mean": [1.0, 2, 3]}})
    built = []
    monkeypatch.setattr(
        "fdam_rotate.apis.analysis.features.build_model",
        lambda config, checkpoint, **named: built.append((checkpoint, named)) or ("the detector", cfg),
    )
    from fdam_rotate.apis.exporting.detector import TOLERANCES

    exporting = "fdam_rotate.apis.exporting.detector"
    monkeypatch.setattr(f"{exporting}.preparation", lambda cfg: {"mean": 0})
    monkeypatch.setattr(f"{exporting}.class_names", lambda cfg: ("ship",))
    for name in ("c.py", "c.pth"):
        (data / name).write_text("")
    words = [data / "c.py", data / "c.pth", "--out", data / "m.onnx", "--shape", 96, 64, "--batch-size", 2, "--gap", 7]
    words += ["--trained-on", "noise", "--licence", "none", "--gsd", 0.5, "--check", "--tolerance", 0.25, "--overwrite"]
    words += ["--unsafe-load", "--cfg-options", "model.a=2"]
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/export.py", f"{exporting}:export_detector", [*words, "--for", "deepness"])
    assert (found.given[0], str(found.given[1]), found.given[2]) == ("the detector", str(data / "m.onnx"), [96, 64])
    assert found.named == {
        "steps": {"mean": 0}, "classes": ("ship",), "config": "c.py", "batch": 2, "gap": 7, "trained_on": "noise",
        "checkpoint_sha256": hashlib.sha256(b"").hexdigest(), "licence": "none", "gsd": 0.5, "check": True,
        "tolerance": 0.25, "deepness": True, "overwrite": True, "precision": "float32", "calibration": [],
    }  # fmt: skip
    features = "fdam_rotate.apis.exporting.features:export_features"
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/export.py", features, [*words, "--features"])
    told = {"batch": 2, "check": True, "tolerance": 0.25, "norm": {"mean": [1.0, 2, 3]}, "overwrite": True}
    assert found.named == told
    assert built[0] == (data / "c.pth", {"unsafe": True, "options": {"model.a": 2}})
    plain = [data / "c.py", "--out", data / "m.onnx"]
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/export.py", f"{exporting}:export_detector", plain)
    defaults = {name: found.named[name] for name in ("gap", "check", "tolerance", "deepness", "checkpoint_sha256")}
    assert defaults == {"gap": 200, "check": False, "tolerance": None, "deepness": False, "checkpoint_sha256": None}
    assert TOLERANCES["float32"] == 1e-3, "what None stands for"
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/export.py", features, [*plain, "--features"])
    assert (found.given[2], found.named["tolerance"], found.named["batch"]) == ([1024, 1024], 1e-4, 1)
    (data / "m.onnx").write_bytes(b"")
    with pytest.raises(OutputExistsError, match="would be read and written"):
        load_script("tools/export.py").main(
            [str(word) for word in (data / "c.py", data / "m.onnx", *plain[1:], "--overwrite")]
        )


@pytest.mark.parametrize("name", ["spectrum", "feature_rank"])
def test_measures_of_layers(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    for file in ("c.py", "c.pth", "d.py", "d.pth"):
        (data / file).write_text("")
    words = [data / "c.py", data / "c.pth", "--img-dir", data / "images", "--out", data / "out", "--crop", 64]
    words += ["--max-images", 3, "--layers", "neck", "backbone", "--second", data / "d.py", data / "d.pth"]
    words += ["--device", "cuda:1", "--overwrite", "--unsafe-load"]
    script = f"tools/analysis/{name}.py"
    found = arrived(monkeypatch, script, "fdam_rotate.apis.analysis.runs:measure_runs", words)
    assert list(map(str, found.given[1:])) == [str(data / part) for part in ("c.py", "c.pth", "images", "out")]
    assert found.named == {
        "second": [data / "d.py", data / "d.pth"], "layers": ["neck", "backbone"], "size": 64, "max_images": 3,
        "device": "cuda:1", "names": [f"{name}.png", f"{name}.json"], "overwrite": True, "unsafe": True,
    }  # fmt: skip


def test_benchmark(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    import torch

    for file in ("c.py", "c.pth", "d.pth"):
        (data / file).write_text("")
    loaded, made = [], []
    module = "fdam_rotate.apis.analysis"
    monkeypatch.setattr(
        f"{module}.features.build_model",
        lambda path, checkpoint, unsafe: loaded.append((checkpoint, unsafe)) or (torch.nn.Identity(), None),
    )
    monkeypatch.setattr(f"{module}.benchmark.make_call", lambda model, shape, **named: made.append((shape, named)))
    threads = torch.get_num_threads()
    words = [
        *[data / "c.py"] * 3,
        "--checkpoints",
        data / "c.pth",
        data / "d.pth",
        data / "c.pth",
        "--shape",
        64,
        96,
        "--batch-size",
        3,
    ]
    words += ["--part", "backbone", "--backward", "--amp", "bfloat16", "--threads", threads + 1, "--rounds", 4]
    words += ["--warmup", 0, "--unsafe-load", "--device", "cpu"]
    found = arrived(monkeypatch, "tools/analysis/benchmark.py", f"{module}.benchmark:benchmark", words)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    assert loaded == [(data / "c.pth", True), (data / "d.pth", True), (data / "c.pth", True)]
    assert made == [([64, 96], {"batch": 3, "part": "backbone", "train": True, "amp": torch.bfloat16})] * 3
    assert len(found.given[0]) == 3, "one config with three checkpoints is three rows"
    assert found.named == {"batch": 3, "rounds": 4, "warmup": 0}


def test_convert_checkpoint(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    for file in ("c.py", "c.pth"):
        (data / file).write_text("")
    function = "fdam_rotate.apis.checkpoints.convert:convert_checkpoint"
    for words, told in (
        (["--to", "LSKNet", "--drop-refused"], {"to": "LSKNet", "drop_refused": True}),
        (
            ["--config", data / "c.py", "--unsafe-load", "--overwrite"],
            {"config": data / "c.py", "unsafe": True, "overwrite": True},
        ),
    ):
        with monkeypatch.context() as patch:
            argv = [data / "c.pth", "--out", data / "d.pth", *words]
            found = arrived(patch, "tools/convert_checkpoint.py", function, argv)
        plain = {"to": None, "config": None, "unsafe": False, "drop_refused": False, "overwrite": False}
        assert found.named == {**plain, **told}


def test_compare(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    for file in ("c.py", "d.py"):
        (data / file).write_text("")
    (data / "kept").mkdir()
    words = [data / "c.py", data / "d.py", "--seeds", 4, 5, "--work-dir", data / "work", "--records", data / "kept"]
    words += ["--jobs", 2, "--resamples", 30, "--cfg-options", "model.a=2"]
    module = "fdam_rotate.apis.compare"
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/compare.py", f"{module}.plan:make_plan", words)
    assert found.given == (
        [data / "c.py", data / "d.py"], [4, 5], [data / "work/records", data / "kept"], {"model.a": 2},
    )  # fmt: skip
    plan = SimpleNamespace(records={}, missing=["a run"])
    monkeypatch.setattr(f"{module}.plan.make_plan", lambda *_: plan)
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/compare.py", f"{module}.execute:execute", words)
    assert found.given == (plan, data / "work", {"model.a": 2})
    assert found.named == {"jobs": 2, "gpus": 0}
    with monkeypatch.context() as patch:
        assert arrived(patch, "tools/compare.py", f"{module}.execute:execute", words[:-6]).named["jobs"] == 1
        found = arrived(patch, "tools/compare.py", f"{module}.report:write_report", [*words, "--report-only"])
    assert (found.given[:2], found.named) == ((plan, data / "work"), {"resamples": 30})
    assert found.given[2].startswith(f"fdam-rotate compare {data / 'c.py'} {data / 'd.py'} --seeds 4 5")


def test_gpu_check(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmrotate")
    words = ["--out", data / "out", "--device", "cpu", "--parts", "cost", "machine", "cost"]
    found = arrived(monkeypatch, "tools/gpu_check.py", "fdam_rotate.apis.gpu_check.supervise:supervise", words)
    assert [part.name for part in found.named["parts"]] == ["cost", "machine"]
    assert found.named["device"] == "cpu"


def test_evaluate(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("list.txt", "manifest.json", "coco.json"):
        (data / name).write_text("a\n")
    words = [
        data / "det",
        "--gt",
        data / "labelTxt",
        "--metric",
        "voc12",
        "--iou-thr",
        0.5,
        0.75,
        "--task",
        2,
        "--seed",
        4,
    ]
    words += ["--bootstrap", 50, "--causes", "--by", "angle", "size", "--calibration", "--score-thr", 0.25, "--classes"]
    words += [
        "ship,plane",
        "--thresholds",
        data / "t.json",
        "--choose-on",
        data / "list.txt",
        "--json",
        data / "s.json",
    ]
    words += ["--markdown", data / "s.md", "--latex", data / "s.tex", "--plot-dir", data / "plots", "--overwrite"]
    module = "fdam_rotate.dota.scoring.assessment"
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/evaluate.py", f"{module}:Questions", words).named
    assert {**found, "iou_thrs": tuple(found["iou_thrs"]), "choose_on": list(found["choose_on"])} == {
        "metric": "voc12", "iou_thrs": (0.5, 0.75), "task": 2, "bootstrap": 50, "if_possible": [], "seed": 4,
        "causes": True, "by": ["angle", "size"], "calibration": True, "choose_on": ["a"], "score_thr": 0.25,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        files = arrived(patch, "tools/evaluate.py", f"{module}:Files", words).given
    parts = ("s.json", "s.md", "s.tex", "t.json", "plots")
    assert files == (*(data / part for part in parts), None, True)
    page = [data / "det", "--gt", data / "labelTxt", "--page", data / "p.html"]
    for more, by, draws in (
        ([], ["aspect", "angle", "density"], 1000),
        (["--img-dir", data / "images", "--bootstrap", 30], ["aspect", "angle", "density", "border"], 30),
    ):
        with monkeypatch.context() as patch:
            found = arrived(patch, "tools/evaluate.py", f"{module}:Questions", [*page, *more]).named
        assert (found["by"], found["bootstrap"], found["causes"], found["calibration"]) == (by, draws, True, True)
    formats = ["--format", "coco", "--angle", "le135", "--first-class", 1, "--annotations", data / "coco.json"]
    formats += [
        "--img-dir",
        data / "images",
        "--gt-format",
        "dota",
        "--gt-part",
        "val",
        "--image-list",
        data / "list.txt",
    ]
    with monkeypatch.context() as patch:
        reading = "fdam_rotate.dota.formats.ground_truth:read_ground_truth"
        found = arrived(patch, "tools/evaluate.py", reading, [*words[:3], *formats])
    assert (found.given[1], found.named["part"], list(found.named["image_ids"])) == ("dota", "val", ["a"])
    monkeypatch.setattr("fdam_rotate.dota.formats.ground_truth.read_ground_truth", lambda *_, **__: {"a": None})
    run = "fdam_rotate.dota.formats.predictions:read_run"
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/evaluate.py", run, [*words[:3], *formats])
    told = {name: found.named[name] for name in ("angle", "first_class", "annotations", "img_dir", "task")}
    assert found.given[1] == "coco"
    assert told == {
        "angle": "le135", "first_class": 1, "annotations": data / "coco.json", "img_dir": data / "images", "task": 1,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        found = arrived(patch, "tools/evaluate.py", run, [data / "det", "--gt", data / "coco.json"])
    assert found.named["annotations"] == data / "coco.json", "which names images and classes too"
