"""The host's mended functions against polygon overlap and against the host where it works."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmcv.ops import box_iou_rotated, diff_iou_rotated_2d
from mmrotate.core.anchor import RotatedAnchorGenerator
from shapely import affinity
from shapely.geometry import box

import fdam_rotate.models  # noqa: F401


def polygon_iou(a, b) -> float:
    polygons = []
    for x, y, w, h, angle in (a, b):
        shape = affinity.rotate(box(-w / 2, -h / 2, w / 2, h / 2), angle, origin=(0, 0), use_radians=True)
        polygons.append(affinity.translate(shape, x, y))
    return polygons[0].intersection(polygons[1]).area / polygons[0].union(polygons[1]).area


def test_differentiable_iou_on_the_cpu_equals_polygon_overlap():
    rng = np.random.default_rng(0)
    first = np.column_stack([rng.uniform(0, 20, (300, 2)), rng.uniform(2, 30, (300, 2)), rng.uniform(-4, 4, 300)])
    second = np.column_stack([rng.uniform(0, 20, (300, 2)), rng.uniform(2, 30, (300, 2)), rng.uniform(-4, 4, 300)])
    ours = diff_iou_rotated_2d(*(torch.tensor(x)[None] for x in (first, second)))[0].numpy()
    expected = [polygon_iou(a, b) for a, b in zip(first, second, strict=True)]
    assert min(expected) == 0
    assert max(expected) > 0.5
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        ((0, 0, 8, 4, 0), 1.0),  # the same box: 8 corners on each other
        ((0, 0, 4, 8, math.pi / 2), 1.0),
        ((0, 0, 4, 2, 0), 0.25),  # inside: 8 of 32
        ((8, 0, 8, 4, 0), 0.0),  # touching
        ((4, 0, 8, 4, 0), 1 / 3),  # half over: 16 of 48, with edges on one line
        ((0, 0, 4, 8, 0), 1 / 3),  # a cross: 4 x 4 of 32 + 32 - 16
        ((50, 50, 8, 4, 1), 0.0),
    ],
)
def test_differentiable_iou_of_special_pairs(other, iou):
    first = torch.tensor([[[0, 0, 8, 4, 0]]], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([[other]], dtype=torch.float64)
    value = diff_iou_rotated_2d(first, second)
    assert value.item() == pytest.approx(iou, abs=1e-4)
    value.sum().backward()
    assert torch.isfinite(first.grad).all()


def test_gradient_of_the_iou_is_that_of_finite_differences():
    first = torch.tensor([[[3.0, 2, 9, 5, 0.3]]], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([[[4.0, 3, 8, 6, 1.0]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: diff_iou_rotated_2d(x, second), (first,))
    host = box_iou_rotated(first[0].detach().float(), second[0].float(), aligned=True)
    assert diff_iou_rotated_2d(first, second).item() == pytest.approx(host.item(), abs=1e-5)


def test_anchors_are_made_on_the_device_that_is_asked_for():
    generator = RotatedAnchorGenerator(strides=[8], ratios=[1.0], scales=[4])
    expected = torch.tensor([[0, 0, 32, 32, 0], [8, 0, 32, 32, 0]], dtype=torch.float32)  # centre offset 0
    for arguments in (((("cpu"),), {}), ((), {"device": "cpu"}), ((torch.float32, "cpu"), {})):
        (anchors,) = generator.grid_priors([(1, 2)], *arguments[0], **arguments[1])
        assert torch.equal(anchors, expected)
