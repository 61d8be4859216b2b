"""One-stage detectors as exported find what MMRotate's own code finds; what is not exported says why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv import Config
from random_detectors import NORM, host_detections, random_detector
from scripts import ROOT

from fdam_rotate.apis.exporting.detector import candidates_of, export_detector
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.refining import aligned_convolution, aligned_features
from fdam_rotate.dota.geometry import le90_to_poly, polygon_iou
from fdam_rotate.dota.merging.nms import greedy_nms
from fdam_rotate.dota.predicting.onnx_model import OnnxModel

SHAPE = (128, 160)
#: On LSKNet alone, which is quicker to write; FDAM's layers are written by `test_detector` and `test_features`.
KINDS = {
    "RotatedRetinaNet": "rotated_retinanet/rotated_retinanet_obb_lsk_s_fpn_1x_dota_le90.py",
    "RotatedFCOS": "rotated_fcos/rotated_fcos_lsk_s_fpn_1x_dota_le90.py",
    "S2ANet": "s2anet/s2anet_lsk_s_fpn_1x_dota_le135.py",
    "R3Det": "r3det/r3det_lsk_s_fpn_1x_dota_oc.py",
}
LEVELS = 3
WIDTHS = [16, 32, 80, 128]


def small(kind: str) -> torch.nn.Module:
    cfg = Config.fromfile(str(ROOT / "configs" / KINDS[kind]))
    cfg.merge_from_dict({
        "model.backbone.embed_dims": WIDTHS, "model.backbone.depths": [1, 1, 1, 1], "model.neck.in_channels": WIDTHS,
        "model.neck.out_channels": 64, "model.neck.num_outs": LEVELS, "model.test_cfg.nms_pre": 100,
    })  # fmt: skip
    model = cfg.model
    heads = [model[name] for name in ("bbox_head", "fam_head", "odm_head") if name in model]
    for head in [*heads, *model.get("refine_heads", [])]:
        head.update(in_channels=64, feat_channels=64, stacked_convs=1)
        place = head.get("anchor_generator", head)
        place.strides = place.strides[:LEVELS]
    for part in model.get("frm_cfgs", []):
        part.update(in_channels=64, featmap_strides=part.featmap_strides[:LEVELS])
    if "align_cfgs" in model:
        model.align_cfgs.update(channels=64, featmap_strides=model.align_cfgs.featmap_strides[:LEVELS])
    detector = random_detector(cfg)[0]
    if kind == "RotatedFCOS":
        torch.nn.init.constant_(detector.bbox_head.conv_reg.bias, 1.5)  # else half of the boxes have no area
    if kind == "S2ANet":
        torch.nn.init.normal_(detector.odm_head.or_conv.bias, std=0.3)  # zero at the start
    for part in getattr(detector, "align_conv", torch.nn.Module()).modules():
        if hasattr(part, "deform_conv"):
            torch.nn.init.normal_(part.deform_conv.weight, std=0.05)
    return detector


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, *SHAPE), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def compare(host: list[np.ndarray], boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> int:
    """Every detection of the host of some area and not far larger than the image has one of ours; their number."""
    count = 0
    for label, rows in enumerate(host):
        rows = rows[((rows[:, 2:4] > 0.5) & (rows[:, 2:4] < 1000)).all(1)]
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


def test_all_places_and_all_pairs_may_be_given(images):
    """A limit of 0 is none, as in MMDetection; no more pairs are given than there are."""
    detector = small("RotatedRetinaNet")
    model = candidates_of(detector, NORM)
    assert model.max_boxes == 2 * 2000
    model = candidates_of(detector, NORM, 10**9)
    found = []
    with torch.no_grad():
        for model.before in (0, -1, 10**6):
            found.append(model(images))
    for a, b, c in zip(*found, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    anchors = 9 * sum(h * w for h, w in ((16, 20), (8, 10), (4, 5)))
    assert found[0][1].shape == (2, anchors * 15)


def test_one_stages_that_are_not_exported_are_said_in_one_line():
    def refused(kind: str, words: str, change) -> None:
        detector = small(kind)
        change(detector)
        with pytest.raises(ExportError, match=words):
            candidates_of(detector, NORM)

    refused("RotatedFCOS", "bbox_head: exported are heads with sigmoid scores",
            lambda d: setattr(d.bbox_head, "use_sigmoid_cls", False))  # fmt: skip
    refused("RotatedFCOS", "bbox_head is Kind; the whole of a detector is exported with RotatedFCOSHead",
            lambda d: setattr(d.bbox_head, "__class__", type("Kind", (type(d.bbox_head),), {})))  # fmt: skip
    refused("S2ANet", "fam_head: exported is one anchor at each place, got 2",
            lambda d: setattr(d.fam_head, "num_anchors", 2))  # fmt: skip
    refused("R3Det", "bbox_head is Kind; the whole of a detector is exported with RotatedRetinaHead",
            lambda d: setattr(d.bbox_head, "__class__", type("Kind", (type(d.bbox_head),), {})))  # fmt: skip


def test_the_last_of_several_refinements_counts():
    model = candidates_of(small("R3Det"), NORM)
    assert len(model.detector.refine_head) == 2
    assert model.head is model.detector.refine_head[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_finds_it_too(kind, images, tmp_path):
    detector = small(kind)
    names = tuple(f"class-{k}" for k in range(15))
    report = export_detector(
        detector, tmp_path / "m.onnx", SHAPE, steps=NORM, classes=names, config="c.py", batch=2, max_boxes=6000
    )
    windows = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1]) for image in images]
    for runtime in ("onnxruntime", "openvino"):
        found = OnnxModel(report.path, runtime=runtime, threads=1).detect(windows)
        for theirs, ours in zip(host_detections(detector, images), found, strict=True):
            assert compare(theirs, ours.boxes, ours.scores, ours.labels) > 50


@pytest.mark.parametrize("away", [0.3, 1.0])
def test_samplings_are_mmcvs(away):
    """Where boxes leave the map too."""
    from mmcv.ops import rotated_feature_align
    from mmrotate.models.detectors.utils import AlignConv

    generator = torch.Generator().manual_seed(0)
    height, width, stride = 6, 9, 8
    level = torch.randn(2, 5, height, width, generator=generator)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([x, y], -1).reshape(1, -1, 2).float() * stride
    spread = torch.tensor([40.0, 40, 30, 30, 1]) * torch.tensor([away, away, 1, 1, 1])
    boxes = torch.randn(2, height * width, 5, generator=generator) * spread
    boxes[..., :2] += places
    boxes[..., 2:4] = boxes[..., 2:4].abs() + 1
    align = AlignConv(5, 7, stride=stride)
    with torch.no_grad():
        align.deform_conv.weight.normal_(generator=generator)
        expected = align(level, boxes)
        torch.testing.assert_close(aligned_convolution(level, boxes, align), expected, atol=1e-4, rtol=1e-4)
        assert 0.05 < (expected > 0).float().mean() < 0.8
        expected = rotated_feature_align(level, boxes.view(2, height, width, 5), 1 / stride, 1)
        torch.testing.assert_close(aligned_features(level, boxes, stride), expected, atol=1e-4, rtol=1e-4)
    assert (expected == level).any(), "some centres lie outside"
