"""The torch detector behind the prediction library's interface, with one whose answer is known."""

from __future__ import annotations

import math
import pickle
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv import Config

import fdam_rotate.datasets  # noqa: F401
from fdam_rotate.apis import predict as module
from fdam_rotate.apis.predict import TorchModel
from fdam_rotate.dota.errors import DotaError

SIDE = 8


class SquareFinder(torch.nn.Module):
    """A box round each bright spot, scored by its brightness; ships are red, planes are not."""

    CLASSES = ("plane", "ship")

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, img, img_metas, return_loss, rescale):
        assert rescale
        assert not return_loss
        results = []
        for pixels, meta in zip(img[0], img_metas[0], strict=True):
            assert meta["ori_shape"] == (64, 64, 3)
            bright = (pixels.amax(0).numpy() > 0.3).astype(np.uint8)
            boxes = [[], []]
            for x, y, w, h, _ in cv2.connectedComponentsWithStats(bright)[2][1:]:
                red, blue = pixels[0, y, x].item(), pixels[2, y, x].item()
                boxes[int(red > blue)].append([x + w / 2, y + h / 2, w, h, math.pi / 4, max(red, blue)])
            results.append([np.array(b, np.float32).reshape(-1, 6) for b in boxes])
        return results


@pytest.fixture
def cfg() -> Config:
    steps = [dict(type="RResize"), dict(type="Normalize", mean=[0.0] * 3, std=[255.0] * 3, to_rgb=True)]
    steps += [dict(type="DefaultFormatBundle"), dict(type="Collect", keys=["img"])]
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="MultiScaleFlipAug", scale_factor=1.0, flip=False, transforms=steps),
    ]
    test = dict(type="DOTAPatchDataset", classes=["plane", "ship"], pipeline=pipeline)
    return Config(dict(model=dict(type="SquareFinder"), data=dict(test=test)))


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("batch_size", [1, 3])
def test_boxes_scores_and_classes_come_through(cfg, checkpoint, monkeypatch, batch_size):
    monkeypatch.setattr(module, "load_detector", lambda *_, **__: SquareFinder())
    model = TorchModel(cfg, checkpoint, batch_size=batch_size)
    assert model.classes == ("plane", "ship")
    windows = [np.zeros((64, 64, 3), np.uint8) for _ in range(batch_size)]
    windows[-1][20 : 20 + SIDE, 10 : 10 + SIDE] = 0, 0, 204  # red: files are blue, green, red
    windows[-1][40 : 40 + SIDE, 30 : 30 + SIDE] = 153, 0, 0
    *before, found = model.detect(windows)
    assert [len(one.scores) for one in before] == [0] * (batch_size - 1)
    assert found.labels.tolist() == [0, 1]
    np.testing.assert_allclose(found.scores, [0.6, 0.8], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [[34, 44, 8, 8, math.pi / 4], [14, 24, 8, 8, math.pi / 4]], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_views_of_a_window_are_merged(cfg, checkpoint, monkeypatch, batch_size):
    class Finder(SquareFinder):
        test_cfg = Config(dict(nms=dict(iou_thr=0.1), max_per_img=100))

    monkeypatch.setattr(module, "load_detector", lambda *_, **__: Finder())
    cfg.data.test.pipeline[1].update(type="FlipTurnAug", flip=True, flip_direction=["horizontal", "vertical"])
    cfg.data.test.pipeline[1].turns = [90, 180, 270]
    windows = [np.zeros((64, 64, 3), np.uint8) for _ in range(batch_size)]
    windows[-1][20 : 20 + SIDE, 10 : 10 + SIDE] = 0, 0, 204
    *before, found = TorchModel(cfg, checkpoint, batch_size=batch_size).detect(windows)
    assert [len(one.scores) for one in before] == [0] * (batch_size - 1)
    assert found.labels.tolist() == [1]
    np.testing.assert_allclose(found.scores, [0.8], atol=1e-6)
    np.testing.assert_allclose(found.boxes[:, :4], [[14, 24, 8, 8]], atol=1e-6)


def test_identity_tells_weights_and_settings_apart(cfg, checkpoint):
    first = TorchModel(cfg, checkpoint).identity
    assert first == TorchModel(cfg, checkpoint).identity
    checkpoint.write_bytes(b"other weights")
    second = TorchModel(cfg, checkpoint).identity
    assert first["model"] == second["model"]
    assert first["checkpoint"] != second["checkpoint"]
    cfg.model.width = 3
    assert TorchModel(cfg, checkpoint).identity["model"] != second["model"]


def test_the_precision_is_part_of_the_identity(cfg, checkpoint):
    first, second = (TorchModel(cfg, checkpoint, precision=kind).identity for kind in ("fp32", "bf16"))
    assert {key for key in first if first[key] != second[key]} == {"precision"}


def test_two_windows_at_a_time_are_put_together(cfg, checkpoint, monkeypatch):
    """``ImageToTensor``, which many configs have, makes tensors that cannot be."""

    class Finder(SquareFinder):
        def forward(self, img, img_metas, return_loss, rescale):
            shapes.append(tuple(img[0].shape))
            metas = [{**meta, "ori_shape": (64, 64, 3)} for meta in img_metas[0]]
            return super().forward(img, [metas], return_loss, rescale)

    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(module, "load_detector", lambda *_, **__: Finder())
    cfg.data.test.pipeline[1].transforms[2] = dict(type="ImageToTensor", keys=["img"])
    windows = [np.zeros((40, 50, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]
    windows[1][20 : 20 + SIDE, 10 : 10 + SIDE] = 0, 0, 204
    for kind in ("MultiScaleFlipAug", "FlipTurnAug"):
        cfg.data.test.pipeline[1].type = kind
        model = TorchModel(cfg, checkpoint, batch_size=2)
        assert [len(one.scores) for one in model.detect(windows)] == [0, 1]
        assert shapes.pop() == (2, 3, 64, 64), "the smaller one is filled up"
        assert cfg.data.test.pipeline[1].transforms[2]["type"] == "ImageToTensor", "the config itself is left as it was"


def test_what_a_model_is_made_ready_with(cfg, checkpoint, tmp_path, monkeypatch):
    """In a process that did not read the config, started in another folder."""
    seen = {}

    def load(cfg, path, classes, *, unsafe_load):
        seen.update(path=path, unsafe=unsafe_load, classes=classes)
        assert "module_of_a_user" in sys.modules, "registers the user's backbone"
        return SquareFinder().train()

    def runtime(launcher, device):
        seen.update(launcher=launcher, device=device)
        return SimpleNamespace(device="cpu", gpu_id=0)

    monkeypatch.setattr(module, "load_detector", load)
    monkeypatch.setattr(module, "start_runtime", runtime)
    monkeypatch.setattr(module, "set_precision", lambda model, kind: seen.update(precision=kind) or model)
    (tmp_path / "module_of_a_user.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg.custom_imports = dict(imports=["module_of_a_user"], allow_failed_imports=False)
    cfg.opencv_num_threads = 3
    monkeypatch.chdir(tmp_path)
    model = TorchModel(cfg, checkpoint.name, device="cuda:1", precision="bf16", unsafe_load=True)
    monkeypatch.chdir("/")
    model = pickle.loads(pickle.dumps(model))
    threads = torch.get_num_threads()
    try:
        model.prepare(threads=threads + 1)
        assert torch.get_num_threads() == threads + 1
        assert cv2.getNumThreads() == 3
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(0)
    assert seen == {
        "path": checkpoint, "unsafe": True, "classes": ("plane", "ship"), "launcher": "none", "device": "cuda:1",
        "precision": "bf16",
    }  # fmt: skip
    assert not model._model.training


def test_processes_give_their_results_back_in_the_order_of_the_data(monkeypatch):
    """Patches are dealt out in turn, the first once more where the last round lacks one."""
    from fdam_rotate.apis import inference

    shares = {0: [0, 2, 4], 1: [1, 3, 0]}

    def gather_object(results, parts):
        assert results == shares[rank]
        if parts is not None:
            parts[:] = shares.values()

    monkeypatch.setattr(inference, "predict_batch", lambda model, batch: [batch])
    monkeypatch.setattr(inference.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(inference.dist, "get_rank", lambda: rank)
    monkeypatch.setattr(inference.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(inference.dist, "gather_object", gather_object)
    for rank, expected in ((0, [0, 1, 2, 3, 4]), (1, None)):

        class Loader(list):
            dataset = range(5)

        assert inference.predict(SquareFinder(), Loader(shares[rank])) == expected


def test_predicting_keeps_nothing_for_gradients(cfg, checkpoint, monkeypatch):
    grads = []

    class Finder(SquareFinder):
        def forward(self, *arguments, **named):
            grads.append(torch.is_grad_enabled())
            return super().forward(*arguments, **named)

    monkeypatch.setattr(module, "load_detector", lambda *_, **__: Finder())
    TorchModel(cfg, checkpoint).detect([np.zeros((64, 64, 3), np.uint8)])
    assert grads == [False]


def test_how_a_detector_is_loaded(monkeypatch, tmp_path):
    from random_detectors import DEMO, random_detector

    from fdam_rotate.apis import inference
    from fdam_rotate.apis.checkpoints.checkpoint import LoadReport, save_checkpoint_file

    opened, warned = [], []
    load, install = inference.load_checkpoint_file, inference.install_safe_loader
    monkeypatch.setattr(
        inference, "load_checkpoint_file", lambda path, unsafe=False: opened.append(unsafe) or load(path, unsafe=unsafe)
    )
    monkeypatch.setattr(inference, "install_safe_loader", lambda unsafe=False: opened.append(unsafe) or install(unsafe))
    monkeypatch.setattr(inference, "get_root_logger", lambda: SimpleNamespace(warning=warned.append))
    detector, _ = random_detector(seed=4)
    save_checkpoint_file(tmp_path / "c.safetensors", detector.state_dict())
    classes = tuple(map(str, range(15)))
    for unsafe in (False, True):
        cfg = Config.fromfile(str(DEMO))
        cfg.model.backbone.norm_cfg = dict(type="SyncBN", requires_grad=True)
        cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="gone.pth")
        # where older configs have them
        cfg.test_cfg = cfg.model.pop("test_cfg")
        model = inference.load_detector(cfg, tmp_path / "c.safetensors", classes, unsafe_load=unsafe)
        assert not any(isinstance(part, torch.nn.SyncBatchNorm) for part in model.modules())
        assert (model.CLASSES, model.test_cfg.rcnn.max_per_img) == (classes, 2000)
        assert not hasattr(model.rpn_head, "assigner"), "without the parts of training"
    assert opened == [False, False, True, True]
    assert not warned
    report = LoadReport("c", "m", ("pos_embed",), resized={"pos_embed": ((1, 16, 2), (1, 4, 2))})
    monkeypatch.setattr(inference, "load_into", lambda *_, **__: report)
    inference.load_detector(Config.fromfile(str(DEMO)), tmp_path / "c.safetensors", classes)
    assert warned == [report.table()]
    for part in ("missing", "unexpected"):
        report = LoadReport("c", "m", ("a",), **{part: ("b",)})
        with pytest.raises(DotaError, match="first b"):
            inference.load_detector(Config.fromfile(str(DEMO)), tmp_path / "c.safetensors", classes)


def test_16_bits_are_for_a_gpu_that_is_used_not_for_one_that_is_there(monkeypatch, tmp_path):
    from random_detectors import DEMO, random_detector

    from fdam_rotate.apis import inference
    from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file
    from fdam_rotate.apis.runtime import Runtime

    def halved() -> bool:
        return any(getattr(part, "fp16_enabled", False) for part in model.modules())

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    save_checkpoint_file(tmp_path / "c.safetensors", random_detector(seed=4)[0].state_dict())
    cfg = Config.fromfile(str(DEMO))
    cfg.model.backbone.init_cfg = None
    cfg.fp16 = dict(loss_scale="dynamic")
    model = inference.load_detector(cfg, tmp_path / "c.safetensors", tuple(map(str, range(15))))
    assert inference.put_on(model, Runtime("cpu", 0, 0, 1), cfg) is model
    assert not halved()
    places = []
    monkeypatch.setattr(type(model), "to", lambda self, place: places.append(place) or self)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    inference.put_on(model, Runtime("cuda", 1, 0, 1), Config(dict(fp16=None)))
    assert not halved()
    assert not torch.backends.cudnn.benchmark
    cfg.cudnn_benchmark = True
    inference.put_on(model, Runtime("cuda", 1, 0, 1), cfg)
    assert halved()
    assert torch.backends.cudnn.benchmark
    assert places == ["cuda:1"] * 2


def test_a_pipeline_that_does_not_load_images_is_refused(cfg, checkpoint):
    cfg.data.test.pipeline = cfg.data.test.pipeline[1:]
    with pytest.raises(DotaError, match="begins with MultiScaleFlipAug"):
        TorchModel(cfg, checkpoint)


def test_a_flip_that_does_not_flip_is_refused(cfg, checkpoint):
    cfg.data.test.pipeline[1].flip = True
    with pytest.raises(DotaError, match="needs a step RRandomFlip"):
        TorchModel(cfg, checkpoint)


def test_a_model_for_other_classes_is_refused(cfg, checkpoint):
    cfg.model.bbox_head = dict(num_classes=3)
    with pytest.raises(DotaError, match=r"bbox_head\.num_classes is 3, but the data set has 2 classes"):
        TorchModel(cfg, checkpoint)


def test_the_pipeline_is_part_of_the_identity(cfg, checkpoint):
    first = TorchModel(cfg, checkpoint).identity
    cfg.data.test.pipeline[1].scale_factor = 0.5
    assert TorchModel(cfg, checkpoint).identity["model"] != first["model"]


@pytest.mark.parametrize(("iou_thr", "left"), [(0.1, 1), (0.5, 2)])
def test_views_are_merged_by_the_detectors_own_threshold(iou_thr, left):
    from fdam_rotate.apis.inference import _merge_views

    # 10 x 10 boxes, 5 apart: an overlap of 50 / 150
    views = [[np.array([[x, 20, 10, 10, 0, score]], np.float32)] for x, score in ((20, 0.9), (25, 0.8))]
    settings = {"nms": {"iou_thr": iou_thr}, "max_per_img": 9}
    (merged,) = _merge_views(views, [{"ori_shape": (64, 64, 3)}] * 2, settings)
    assert merged[:, 5].tolist() == pytest.approx([0.9, 0.8][:left])


def test_the_best_of_an_image_are_kept_over_all_classes():
    from fdam_rotate.apis.inference import _best

    by_class = [
        np.array([[0, 0, 1, 1, 0, score] for score in scores], np.float32) for scores in ((0.9, 0.2), (0.5, 0.7))
    ]
    assert _best(by_class, 4) is by_class
    kept = [part[:, 5].tolist() for part in _best(by_class, 2)]
    assert kept == [[pytest.approx(0.9)], [pytest.approx(0.7)]]


@pytest.mark.parametrize("two_stages", [False, True])
def test_the_last_step_tells_its_limits(cfg, checkpoint, two_stages):
    """What prediction asks for beyond them reaches nothing, and is told."""
    assert (TorchModel(cfg, checkpoint).score_thr, TorchModel(cfg, checkpoint).iou_thr) == (0, 1)
    last = dict(score_thr=0.2, nms=dict(iou_thr=0.3))
    cfg.model.test_cfg = dict(rpn=dict(score_thr=0.9), rcnn=last) if two_stages else last
    model = TorchModel(cfg, checkpoint)
    assert (model.score_thr, model.iou_thr) == (0.2, 0.3)
