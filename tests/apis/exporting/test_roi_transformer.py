"""RoI Transformer as exported finds what MMRotate's own code finds; its first stage's parts do what the hosts' do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv import Config
from random_detectors import NORM, host_detections, random_detector
from scripts import ROOT

from fdam_rotate.apis.exporting.boxes import upright_boxes
from fdam_rotate.apis.exporting.detector import candidates_of, export_detector
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.roi_align import pool_upright
from fdam_rotate.dota.geometry import le90_to_poly, polygon_iou
from fdam_rotate.dota.merging.nms import greedy_nms
from fdam_rotate.dota.predicting.model import Found
from fdam_rotate.dota.predicting.onnx_model import OnnxModel

SHAPE = (128, 160)
CONFIG = ROOT / "configs" / "roi_trans" / "roi_trans_lsk_s_fdam_fpn_1x_dota_le90.py"
WIDTHS = [16, 32, 80, 128]


def small(**changes: object) -> torch.nn.Module:
    cfg = Config.fromfile(str(CONFIG))
    cfg.merge_from_dict({
        "model.backbone.embed_dims": WIDTHS, "model.backbone.depths": [1, 1, 1, 1], "model.neck.in_channels": WIDTHS,
        "model.neck.out_channels": 32, "model.rpn_head.in_channels": 32, "model.rpn_head.feat_channels": 32,
        "model.test_cfg.rpn.max_per_img": 150,
    })  # fmt: skip
    for extractor, head in zip(cfg.model.roi_head.bbox_roi_extractor, cfg.model.roi_head.bbox_head, strict=True):
        extractor.out_channels = head.in_channels = 32
        head.fc_out_channels = 64
    return random_detector(cfg, **changes)[0]


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    return small()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, *SHAPE), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def check_same(host: list[np.ndarray], found: Found) -> int:
    """Every detection of the host of some area has one of ours of its class, at IoU >= 0.99 and a score within 1e-3.

    But for one: of a bin h x w, ceil(h) x ceil(w) points are sampled, so that a last bit can decide on a box.
    """
    count, missing = 0, []
    for label, rows in enumerate(host):
        rows = rows[(rows[:, 2:4] > 0.5).all(1)]  # proposals without a side, at the image's edge, give such boxes
        count += len(rows)
        mine = found.labels == label
        iou = polygon_iou(le90_to_poly(rows[:, :5]), le90_to_poly(found.boxes[mine]))
        close = (iou >= 0.99) & (abs(rows[:, 5, None] - found.scores[mine]) <= 1e-3)
        missing += [(label, row) for row in rows[~close.any(1)]]
    assert len(missing) <= 1, missing
    assert abs(int((found.boxes[:, 2:4] > 0.5).all(1).sum()) - count) <= 1, "one may have a side of nearly that"
    return count


def test_finds_what_the_host_finds(detector, images):
    with torch.no_grad():
        outputs = [x.numpy() for x in candidates_of(detector, NORM, 2250)(images)]
    for theirs, boxes, scores, labels, count in zip(host_detections(detector, images), *outputs, strict=True):
        assert count < len(scores), "no candidate was cut off"
        boxes, scores, labels = boxes[:count].astype(float), scores[:count].astype(float), labels[:count]
        stays = greedy_nms(le90_to_poly(boxes), scores, 0.1, groups=labels)
        assert check_same(theirs, Found(boxes[stays], scores[stays], labels[stays])) > 50


@pytest.mark.slow
def test_the_file_finds_it_too(detector, images, tmp_path):
    names = tuple(f"class-{k}" for k in range(15))
    report = export_detector(
        detector, tmp_path / "m.onnx", SHAPE, steps=NORM, classes=names, config="c.py", batch=2, max_boxes=2250
    )
    assert report.card.detector == "RoITransformer"
    windows = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1]) for image in images]
    host = host_detections(detector, images)
    for runtime in ("onnxruntime", "openvino"):
        if runtime == "openvino":
            pytest.importorskip("openvino")
        for theirs, ours in zip(host, OnnxModel(report.path, runtime=runtime, threads=1).detect(windows), strict=True):
            assert check_same(theirs, ours) > 50


def test_proposals_are_the_hosts(detector, images):
    model = candidates_of(detector, NORM)
    shape = (*SHAPE, 3)
    with torch.no_grad():
        maps = detector.extract_feat(images.float() / 64 - 2)
        expected = detector.rpn_head.simple_test_rpn(maps, [dict(img_shape=shape, scale_factor=[1.0] * 4)] * 2)
        boxes, scores = model.proposals(maps, SHAPE)
    for rows, box, score in zip(expected, boxes, scores, strict=True):
        assert int((score >= 0).sum()) == len(rows) > 50
        torch.testing.assert_close(score[: len(rows)], rows[:, 4], atol=1e-6, rtol=0)
        torch.testing.assert_close(box[: len(rows)], rows[:, :4], atol=1e-3, rtol=0)
    assert float(boxes.min()) == 0, "some box was cut off at the image's edge"
    assert float(boxes[..., 2].max()) == SHAPE[1]


def test_proposals_that_reach_beyond_the_image_stay_so(images):
    """Where the config's coder does not cut them off."""
    detector = small(model__rpn_head__bbox_coder__clip_border=False)
    shape = (*SHAPE, 3)
    with torch.no_grad():
        maps = detector.extract_feat(images.float() / 64 - 2)
        expected = detector.rpn_head.simple_test_rpn(maps, [dict(img_shape=shape, scale_factor=[1.0] * 4)] * 2)
        boxes, _ = candidates_of(detector, NORM).proposals(maps, SHAPE)
    assert float(boxes.min()) < -5
    for rows, box in zip(expected, boxes, strict=True):
        torch.testing.assert_close(box[:20], rows[:20, :4], atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [None, (90, 120)])
def test_upright_boxes_are_the_hosts(shape):
    from mmdet.core.bbox.coder import DeltaXYWHBBoxCoder

    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(500, 2, generator=generator) * 100
    anchors = torch.cat([corner, corner + 4 + 60 * torch.rand(500, 2, generator=generator)], 1)
    deltas = 1.5 * torch.randn(500, 4, generator=generator)
    deltas[:9, 2:] = 9.0  # more than sides may change
    means, stds = [0.1, 0.0, 0.2, 0.0], [1.0, 1.0, 0.5, 0.5]
    coder = DeltaXYWHBBoxCoder(means, stds)
    expected = coder.decode(anchors, deltas, max_shape=shape)
    torch.testing.assert_close(upright_boxes(anchors, deltas, means, stds, shape), expected, atol=1e-3, rtol=1e-5)


def test_upright_pool_is_mmcvs_roi_align():
    """Boxes long and thin, over the edges, without an area, on every level and with many points a bin."""
    from mmcv.ops import RoIAlign

    generator = torch.Generator().manual_seed(1)
    strides = [4, 8, 16]
    maps = [torch.randn(2, 5, 96 // s, 160 // s, generator=generator) for s in strides]
    corner = torch.rand(2, 80, 2, generator=generator) * torch.tensor([150.0, 90.0]) - 10
    boxes = torch.cat([corner, corner + 1 + 120 * torch.rand(2, 80, 2, generator=generator) ** 2], 2)
    boxes[0, 0] = torch.tensor([0.0, 10.0, 160.0, 12.0])
    boxes[0, 1] = torch.tensor([20.0, 10.0, 20.0, 60.0])
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    level = torch.floor(torch.log2(area.sqrt() / 20 + 1e-6)).clamp(0, 2)
    assert set(level.unique().tolist()) == {0, 1, 2}
    found = pool_upright(maps, boxes, strides, finest_scale=20, side=7).reshape(2, 80, 5, 7, 7)
    assert float(found[0, 1].abs().max()) == 0
    for image in range(2):
        for number, stride in enumerate(strides):
            mine = level[image] == number
            rois = torch.cat([torch.full((int(mine.sum()), 1), float(image)), boxes[image, mine]], 1)
            expected = RoIAlign((7, 7), 1 / stride, 0, "avg", True)(maps[number], rois)
            torch.testing.assert_close(found[image, mine], expected, atol=1e-5, rtol=1e-5)


def test_what_is_not_exported_is_said_in_one_line():
    def refused(change: str, value: object, words: str) -> None:
        other = small(**{change: value})
        with pytest.raises(ExportError, match=words):
            candidates_of(other, NORM)

    extractor, head = "model__roi_head__bbox_roi_extractor__0__roi_layer__", "model__roi_head__bbox_head__0__"
    refused(f"{extractor}sampling_ratio", 2, r"exported are square outputs, sampling_ratio=0.*got \(7, 7\), 2")
    refused(f"{extractor}aligned", False, "aligned=True, got .* and False")
    refused(f"{extractor}pool_mode", "max", "pool_mode='avg' .* 'max'")
    refused(f"{head}reg_class_agnostic", False, "a first stage with reg_class_agnostic=True")
    refused("model__rpn_head__bbox_coder__add_ctr_clamp", True, "add_ctr_clamp, which is not exported")
    other = small()
    other.roi_head.bbox_roi_extractor[0].roi_layers[0].output_size = (7, 5)
    with pytest.raises(ExportError, match=r"square outputs, .* got \(7, 5\)"):
        candidates_of(other, NORM)
    other.roi_head.num_stages = 3
    with pytest.raises(ExportError, match="exported are two stages, got num_stages=3"):
        candidates_of(other, NORM)
