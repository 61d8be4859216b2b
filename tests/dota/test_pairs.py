"""Candidate pairs: none that overlaps is lost, none of another group is found; the bound spares no pair that counts."""

from __future__ import annotations

import numpy as np
import pytest

from fdam_rotate.dota.geometry import le90_to_poly, poly_to_hbb
from fdam_rotate.dota.geometry import polygon_iou as matrix_iou
from fdam_rotate.dota.pairs import overlapping_pairs, polygon_iou, upright_iou

ONE, NONE = np.zeros(1, np.intp), np.zeros(0, np.intp)


@pytest.mark.parametrize("shift", [0.0, 0.37, 12345.678])
def test_the_bound_keeps_pairs_just_above_it(shift: float) -> None:
    """Of upright boxes the bound is the IoU itself: rounding must not put a pair below what it exceeds."""
    a = np.array([[0, 0, 10, 0, 10, 10, 0, 10]], float) + shift
    b = np.array([[3, 0, 13, 0, 13, 10, 3, 10]], float) + shift
    exact = 70 / 130  # 7 x 10 of 100 + 100 - 70
    for share in (0.9, 1 - 1e-6, 1 - 5e-10):
        pair = polygon_iou(a, poly_to_hbb(a), b, poly_to_hbb(b), exact * share)
        assert pair(ONE, ONE)[0] == pytest.approx(exact, rel=1e-9)
    # what cannot reach the bound is not computed
    assert polygon_iou(a, poly_to_hbb(a), b, poly_to_hbb(b), exact * 1.01)(ONE, ONE)[0] == 0


def test_iou_of_pairs_is_that_of_the_matrix() -> None:
    rng = np.random.default_rng(3)
    a, b = (le90_to_poly(rng.uniform([0, 0, 5, 5, -1.5], [60, 60, 40, 20, 1.5], (40, 5))) for _ in range(2))
    expected = matrix_iou(a, b)
    i, j = (index.ravel() for index in np.indices(expected.shape))
    found = polygon_iou(a, poly_to_hbb(a), b, poly_to_hbb(b), 0.2)(i, j).reshape(expected.shape)
    assert (expected > 0.2).sum() > 50
    np.testing.assert_allclose(found[expected > 0.2], expected[expected > 0.2], atol=1e-12)
    assert (found[expected <= 0.2] <= 0.2).all()
    assert (found[expected <= 0.2] == 0).any()


@pytest.mark.parametrize("offset", [0.0, -1e6, 1e7])
def test_pairs_are_those_of_a_plain_loop(offset: float) -> None:
    rng = np.random.default_rng(5)
    corners = (
        rng.integers(0, 60, (150, 2)) / 3 + offset
    )  # thirds: many boxes touch to the last digit, and rounding shows
    boxes = np.concatenate([corners, corners + rng.integers(1, 12, (150, 2)) / 3], axis=1)
    groups = rng.integers(0, 4, 150)
    a, a_group, b, b_group = boxes[:70], groups[:70], boxes[70:], groups[70:]
    expected = {
        (i, j)
        for i in range(len(a))
        for j in range(len(b))
        if a_group[i] == b_group[j] and (np.minimum(a[i, 2:], b[j, 2:]) >= np.maximum(a[i, :2], b[j, :2])).all()
    }
    i, j = overlapping_pairs(a, a_group, b, b_group)
    found = set(zip(i.tolist(), j.tolist(), strict=True))
    assert len(i) == len(found)
    assert expected <= found
    # a box is found at most a rounding away, and never in another group
    apart = np.maximum(a[i, :2], b[j, :2]) - np.minimum(a[i, 2:], b[j, 2:])
    assert apart.max() < 1e-6
    assert (a_group[i] == b_group[j]).all()


def test_nothing_meets_nothing() -> None:
    box = np.array([[0.0, 0, 1, 1]])
    for a, b in ((box, np.zeros((0, 4))), (np.zeros((0, 4)), box)):
        i, j = overlapping_pairs(a, np.zeros(len(a), np.intp), b, np.zeros(len(b), np.intp))
        assert len(i) == len(j) == 0


def test_upright_pairs_by_hand() -> None:
    a, b = np.array([[0.0, 0, 4, 4]]), np.array([[2.0, 0, 6, 4]])
    assert upright_iou(a, b)(ONE, ONE)[0] == pytest.approx(8 / 24)
    assert upright_iou(a, b)(NONE, NONE).tolist() == []
