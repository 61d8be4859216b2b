"""Properties that hold for any boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_iou
from fdam_rotate.dota.merging.merge import merge_patches, nms_polygons

BOX = st.tuples(
    st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 60), st.floats(1, 60), st.floats(-math.pi / 2, math.pi / 2)
)
QUAD = st.lists(st.integers(-8, 8), min_size=8, max_size=8)
BOXES = st.lists(st.tuples(BOX, st.sampled_from([0.1, 0.5, 0.9])), min_size=1, max_size=25)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(pairwise_iou(a.reshape(1, 8), b.reshape(1, 8))[0])


@settings(deadline=None, max_examples=60)
@given(BOX, BOX, st.floats(-3, 3), st.integers(0, 3), st.booleans())
def test_iou_is_symmetric_bounded_and_rigid(a: tuple, b: tuple, angle: float, shift: int, reverse: bool) -> None:
    p, q = le90_to_poly([a])[0], le90_to_poly([b])[0]
    value = iou(p, q)
    assert 0 <= value <= 1
    assert iou(q, p) == pytest.approx(value, abs=1e-9)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    moved = [(v.reshape(4, 2) @ turn + (31, -17)) for v in (p, q)]
    assert iou(*moved) == pytest.approx(value, abs=1e-9)
    other = np.roll(q.reshape(4, 2), shift, axis=0)
    assert iou(p, other[::-1] if reverse else other) == pytest.approx(value, abs=1e-9)


@settings(deadline=None, max_examples=80)
@given(QUAD, QUAD)
def test_iou_of_any_quadrangles_equals_shapely(a: list[int], b: list[int]) -> None:
    p, q = (shapely.make_valid(shapely.Polygon(np.reshape(v, (4, 2)))) for v in (a, b))
    inter = p.intersection(q).area
    expected = inter / (p.area + q.area - inter) if p.area > 0 and q.area > 0 else 0
    assert iou(np.array(a, float), np.array(b, float)) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(BOXES, st.sampled_from([0.0, 0.1, 0.5]))
def test_nms_is_idempotent_and_leaves_no_overlap(boxes: list, thr: float) -> None:
    polys = le90_to_poly([box for box, _ in boxes])
    scores = np.array([score for _, score in boxes])
    kept = nms_polygons(polys, scores, thr)
    assert kept.tolist() == kept[nms_polygons(polys[kept], scores[kept], thr)].tolist()
    i, j = np.triu_indices(len(kept), 1)
    assert (pairwise_iou(polys[kept[i]], polys[kept[j]]) <= thr).all()


@settings(deadline=None, max_examples=30)
@given(BOXES)
def test_merging_one_patch_is_nms(boxes: list) -> None:
    polys = le90_to_poly([box for box, _ in boxes])
    scores = np.array([score for _, score in boxes])
    found = Detections(("P__1024__0___0",), np.zeros(len(polys), np.intp), scores, polys)
    merged = merge_patches({"ship": found})["ship"]
    np.testing.assert_array_equal(merged.polys, polys[nms_polygons(polys, scores)])
