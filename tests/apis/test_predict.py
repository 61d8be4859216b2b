"""The torch detector behind the prediction library's interface, with one whose answer is known."""

from __future__ import annotations

import math

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


def test_the_best_of_an_image_are_kept_over_all_classes():
    from fdam_rotate.apis.inference import _best

    by_class = [
        np.array([[0, 0, 1, 1, 0, score] for score in scores], np.float32) for scores in ((0.9, 0.2), (0.5, 0.7))
    ]
    assert _best(by_class, 4) is by_class
    kept = [part[:, 5].tolist() for part in _best(by_class, 2)]
    assert kept == [[pytest.approx(0.9)], [pytest.approx(0.7)]]
