"""The detectors' last step on the CPU against mmcv's own and against the rule written plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.ops import nms_rotated
from mmrotate.core import multiclass_nms_rotated
from shapely.geometry import Polygon

import fdam_rotate.models  # noqa: F401
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.host import suppression


def boxes_and_scores(count, *, size, seed, largest=60):
    rng = np.random.default_rng(seed)
    sides = rng.uniform(8, largest, (count, 2))
    boxes = np.column_stack([rng.uniform(0, size, (count, 2)), sides, rng.uniform(-np.pi / 2, np.pi / 2, count)])
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(rng.permutation(count) / count, dtype=torch.float32)


def plain_nms(boxes, scores, iou_thr):
    """Each box against each one kept before, as polygons of shapely; indices of those kept, best first."""
    polygons = [Polygon(poly.reshape(4, 2)) for poly in le90_to_poly(boxes.double().numpy())]
    kept = []
    for i in np.argsort(-scores.numpy(), kind="stable"):
        if all(
            polygons[i].intersection(polygons[k]).area <= iou_thr * polygons[i].union(polygons[k]).area for k in kept
        ):
            kept.append(int(i))
    return kept


@pytest.mark.parametrize("iou_thr", [0.1, 0.5])
@pytest.mark.parametrize("size", [150, 900])
def test_keeps_what_mmcv_and_the_plain_rule_keep(size, iou_thr):
    boxes, scores = boxes_and_scores(400, size=size, seed=size)
    dets, kept = suppression.suppress(boxes, scores, iou_thr)
    assert kept.tolist() == plain_nms(boxes, scores, iou_thr)
    assert 5 < len(kept) < 395
    host_dets, host_kept = nms_rotated(boxes, scores, iou_thr)
    assert torch.equal(kept, host_kept)
    assert torch.equal(dets, host_dets)


def test_few_boxes_go_mmcvs_way(monkeypatch):
    calls = []
    monkeypatch.setattr(suppression, "nms_rotated", lambda *arguments: calls.append(len(arguments[0])))
    monkeypatch.setattr(suppression, "greedy_nms", None)
    for count in (0, 1, suppression._ENOUGH - 1):
        suppression.suppress(*boxes_and_scores(count, size=50, seed=1), 0.1)
    assert calls == [0, 1, suppression._ENOUGH - 1]


@pytest.mark.parametrize("spoil", ["dets", "scores"])
def test_numbers_that_are_none_go_mmcvs_way(spoil, monkeypatch):
    boxes, scores = boxes_and_scores(200, size=50, seed=1)
    (boxes[3:4, 0] if spoil == "dets" else scores[3:4]).fill_(float("nan"))
    monkeypatch.setattr(suppression, "nms_rotated", lambda *arguments: "mmcv")
    assert suppression.suppress(boxes, scores, 0.1) == "mmcv"


def test_labels_and_the_other_way_round_are_mmcvs_own():
    boxes, scores = boxes_and_scores(300, size=200, seed=2)
    labels = torch.arange(300) % 3
    for arguments in ((labels,), (labels, False), (None, False)):
        ours = suppression.suppress(boxes, scores, 0.3, *arguments)
        assert all(torch.equal(a, b) for a, b in zip(ours, nms_rotated(boxes, scores, 0.3, *arguments), strict=True))
    assert torch.equal(
        suppression.suppress(boxes, scores, 0.3, clockwise=False)[1],
        nms_rotated(boxes, scores, 0.3, clockwise=False)[1],
    )


def test_equal_scores_keep_the_order_given():
    boxes, _ = boxes_and_scores(300, size=200, seed=3)
    scores = torch.full((300,), 0.5)
    assert suppression.suppress(boxes, scores, 0.2)[1].tolist() == plain_nms(boxes, scores, 0.2)


@pytest.mark.parametrize(("count", "size"), [(60, 600), (500, 250)])
def test_each_class_by_itself_as_the_detectors_call_it(count, size, monkeypatch):
    boxes, scores = boxes_and_scores(count, size=size, seed=4)
    classes = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    many = torch.cat((scores[:, None] * classes, torch.zeros(count, 1)), dim=1)  # the last column: background
    nms = type("Nms", (), {"iou_thr": 0.1})
    dets, labels = multiclass_nms_rotated(boxes, many, 0.05, nms, max_num=100)
    expected = []
    for label in range(3):
        rows = torch.nonzero(many[:, label] > 0.05)[:, 0]
        for i in plain_nms(boxes[rows], many[rows, label], 0.1):
            expected.append((many[rows[i], label].item(), label, int(rows[i])))
    expected.sort(reverse=True)
    assert len(expected) > 100
    assert labels.tolist() == [label for _, label, _ in expected[:100]]
    assert torch.equal(dets[:, :5], boxes[[i for _, _, i in expected[:100]]])
    monkeypatch.setattr("mmrotate.core.post_processing.bbox_nms_rotated.nms_rotated", nms_rotated)
    host_dets, host_labels = multiclass_nms_rotated(boxes, many, 0.05, nms, max_num=100)
    assert torch.equal(dets, host_dets)
    assert torch.equal(labels, host_labels)


def test_inputs_stay_as_they_are_and_the_best_come_first():
    boxes, scores = boxes_and_scores(300, size=200, seed=5)
    before = boxes.clone(), scores.clone()
    dets, kept = suppression.suppress(boxes, scores, 0.2)
    assert torch.equal(boxes, before[0])
    assert torch.equal(scores, before[1])
    assert torch.equal(dets, torch.cat((boxes[kept], scores[kept, None]), 1))
    assert (scores[kept].diff() <= 0).all()
