"""Rotated RetinaNet and Rotated FCOS as exported find what MMRotate's own code finds; what is not exported says why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv import Config
from random_detectors import NORM, host_detections, random_detector
from scripts import ROOT

from fdam_rotate.apis.exporting.detector import REASONS, candidates_of, export_detector
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.dota.geometry import le90_to_poly, polygon_iou
from fdam_rotate.dota.merging.nms import greedy_nms
from fdam_rotate.dota.predicting.onnx_model import OnnxModel

SHAPE = (128, 160)
KINDS = {
    "RotatedRetinaNet": "rotated_retinanet/rotated_retinanet_obb_lsk_s_fdam_fpn_1x_dota_le90.py",
    "RotatedFCOS": "rotated_fcos/rotated_fcos_lsk_s_fdam_fpn_1x_dota_le90.py",
}
WIDTHS = [16, 32, 80, 128]


def small(kind: str) -> torch.nn.Module:
    cfg = Config.fromfile(str(ROOT / "configs" / KINDS[kind]))
    cfg.merge_from_dict({
        "model.backbone.embed_dims": WIDTHS, "model.backbone.depths": [1, 1, 1, 1], "model.neck.in_channels": WIDTHS,
        "model.neck.out_channels": 64, "model.bbox_head.in_channels": 64, "model.bbox_head.feat_channels": 64,
        "model.bbox_head.stacked_convs": 1, "model.test_cfg.nms_pre": 100,
    })  # fmt: skip
    detector = random_detector(cfg)[0]
    if kind == "RotatedFCOS":
        torch.nn.init.constant_(detector.bbox_head.conv_reg.bias, 1.5)  # else half of the boxes have no area
    return detector


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, *SHAPE), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def compare(host: list[np.ndarray], boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> int:
    """Every detection of the host with some area has one of ours; their number."""
    count = 0
    for label, rows in enumerate(host):
        rows = rows[(rows[:, 2:4] > 0.5).all(1)]
        mine = labels == label
        iou = polygon_iou(le90_to_poly(rows[:, :5]), le90_to_poly(boxes[mine]))
        close = (iou >= 0.99) & (abs(rows[:, 5, None] - scores[mine]) <= 1e-3)
        assert close.any(1).all(), (label, rows[~close.any(1)])
        count += len(rows)
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_finds_what_the_host_finds(kind, images):
    detector = small(kind)
    model = candidates_of(detector, NORM, 6000)
    host = host_detections(detector, images)
    with torch.no_grad():
        outputs = [x.numpy() for x in model(images)]
    for theirs, boxes, scores, labels, count in zip(host, *outputs, strict=True):
        assert count < len(scores), "no candidate was cut off"
        boxes, scores, labels = boxes[:count].astype(float), scores[:count].astype(float), labels[:count]
        stays = greedy_nms(le90_to_poly(boxes), scores, 0.1, groups=labels)
        found = compare(theirs, boxes[stays], scores[stays], labels[stays])
        assert found > 50
        assert abs(int(stays.sum()) - sum(map(len, theirs))) <= 0.02 * found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_finds_it_too(kind, images, tmp_path):
    detector = small(kind)
    names = tuple(f"class-{k}" for k in range(15))
    report = export_detector(
        detector, tmp_path / "m.onnx", SHAPE, norm=NORM, classes=names, config="c.py", batch=2, max_boxes=6000
    )
    windows = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1]) for image in images]
    for runtime in ("onnxruntime", "openvino"):
        found = OnnxModel(report.path, runtime=runtime, threads=1).detect(windows)
        for theirs, ours in zip(host_detections(detector, images), found, strict=True):
            assert compare(theirs, ours.boxes, ours.scores, ours.labels) > 50


@pytest.mark.parametrize("kind", REASONS)
def test_others_say_why_not(kind):
    other = type(kind, (torch.nn.Identity,), {})()
    with pytest.raises(ExportError, match=rf"^{kind} is not exported whole: it.*; --features writes"):
        candidates_of(other, NORM)
