"""Weighted box fusion against a slow reference written from the module's rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_iou
from fdam_rotate.dota.merging.fusion import align_corners, fuse_boxes
from fdam_rotate.dota.merging.merge import merge_patches
from fdam_rotate.dota.merging.options import MergeOptions


def slow_fusion(inputs: list[Detections], weights: list[float], thr: float) -> list[tuple[str, float, list[float]]]:
    boxes = [
        (one.image_ids[one.image[k]], -weights[n] * one.scores[k], n, k)
        for n, one in enumerate(inputs)
        for k in range(len(one))
    ]
    clusters: list[dict] = []
    for image, strength, n, k in sorted(boxes, key=lambda box: (box[0], box[1])):
        poly = inputs[n].polys[k]
        best, best_iou = None, thr
        for cluster in clusters:
            if cluster["image"] == image and n not in cluster["inputs"]:
                iou = pairwise_iou([poly], [cluster["fused"]])[0]
                if iou > best_iou:
                    best, best_iou = cluster, iou
        if best is None:
            clusters.append({"image": image, "inputs": {n}, "polys": [poly], "ws": [-strength], "fused": poly})
            continue
        first = best["polys"][0].reshape(4, 2)
        shifts = [np.roll(poly.reshape(4, 2), -s, axis=0) for s in range(4)]
        best["polys"].append(min(shifts, key=lambda p: ((p - first) ** 2).sum()).ravel())
        best["ws"].append(-strength)
        best["inputs"].add(n)
        best["fused"] = np.average(best["polys"], axis=0, weights=best["ws"])
    return [(c["image"], sum(c["ws"]) / sum(weights), c["fused"].tolist()) for c in clusters]


def test_equals_slow_reference() -> None:
    rng = np.random.default_rng(4)
    base = np.column_stack([rng.uniform(0, 300, (60, 2)), rng.uniform(20, 50, 60), rng.uniform(10, 20, 60)])
    base = np.column_stack([base, rng.uniform(-math.pi / 2, math.pi / 2, 60)])
    inputs = []
    for _ in range(3):
        seen = rng.random(60) < 0.8
        polys = le90_to_poly(base[seen] + rng.normal(0, 1, (int(seen.sum()), 5)) * [1, 1, 1, 1, 0.03])
        polys = np.stack([np.roll(p, 2 * s) for p, s in zip(polys, rng.integers(0, 4, len(polys)), strict=True)])
        inputs.append(Detections(("P", "Q"), np.flatnonzero(seen) % 2, rng.uniform(0.1, 1, len(polys)), polys))
    weights = [2.0, 1.0, 0.5]
    found = fuse_boxes(inputs, weights=weights, iou_thr=0.55)
    expected = slow_fusion(inputs, weights, 0.55)
    assert 50 < len(expected) < sum(map(len, inputs)) - 40
    assert [found.image_ids[k] for k in found.image] == [one[0] for one in expected]
    np.testing.assert_allclose(found.scores, [one[1] for one in expected], rtol=1e-12)
    np.testing.assert_allclose(found.polys, [one[2] for one in expected], atol=1e-8)


def test_fused_by_hand() -> None:
    """0.9 at x = 0 and weight 1/2 times 0.6 at x = 1: x = 0.3 / 1.2; score 1.2 / 1.5; a lone box 0.5 / 1.5."""
    square = np.array([[0, 0, 10, 0, 10, 10, 0, 10]], float)
    shift = np.array([1, 0] * 4)
    one = Detections(("P__1024__0___0",), np.zeros(2, np.intp), np.array([0.9, 0.5]), np.vstack([square, square + 100]))
    turned = np.roll(square + shift, 4).reshape(4, 2)[::-1].reshape(1, 8)
    two = Detections(("P__1024__0___0",), np.zeros(1, np.intp), np.array([0.6]), turned)
    merged = merge_patches([{"ship": one}, {"ship": two}], MergeOptions(weights=(2, 1), fuse="wbf"))["ship"]
    assert merged.scores.tolist() == pytest.approx([1.2 / 1.5, 0.5 / 1.5])
    assert merged.polys[0].tolist() == pytest.approx((square[0] + 0.25 * shift).tolist())
    apart = merge_patches([{"ship": one}, {"ship": two}], MergeOptions(fuse="wbf", fuse_iou_thr=0.9))["ship"]
    assert len(apart) == 3


def test_align_and_empty() -> None:
    square = np.array([[0, 0, 2, 0, 2, 1, 0, 1]], float)
    assert align_corners(np.roll(square, 2), square).tolist() == square.tolist()
    assert align_corners(square.reshape(4, 2)[::-1].reshape(1, 8), square).tolist() == square.tolist()
    assert len(fuse_boxes([Detections.empty(), Detections.empty()], weights=[1, 1])) == 0
