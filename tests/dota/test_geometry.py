"""Overlap of quadrangles against shapely and hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely

from fdam_rotate.dota.geometry import (
    is_convex,
    le90_to_poly,
    pairwise_hbb_iou,
    pairwise_iou,
    pairwise_overlap,
    poly_to_hbb,
    poly_to_le90,
    polygon_area,
    polygon_iou,
)

SQUARE = [0, 0, 4, 0, 4, 4, 0, 4]


def boxes(rng: np.random.Generator, count: int, spread: float = 40.0) -> np.ndarray:
    return np.column_stack(
        [
            rng.uniform(0, spread, (count, 2)),
            rng.uniform(3, 60, count),
            rng.uniform(3, 30, count),
            rng.uniform(-math.pi / 2, math.pi / 2, count),
        ]
    )


def shapely_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    p, q = (shapely.make_valid(shapely.polygons(v.reshape(-1, 4, 2))) for v in (a, b))
    inter = shapely.area(shapely.intersection(p, q))
    union = shapely.area(p) + shapely.area(q) - inter
    solid = (shapely.area(p) > 0) & (shapely.area(q) > 0)
    return np.where(solid, inter / np.where(union > 0, union, 1), 0)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        pytest.param([0, 0, 4, 0, 4, 4, 0, 4], 1.0, id="equal"),
        pytest.param([0, 4, 4, 4, 4, 0, 0, 0], 1.0, id="reversed winding"),
        pytest.param([1, 0, 5, 0, 5, 4, 1, 4], 12 / 20, id="shifted"),  # 3 x 4 of 16 + 16 - 12
        pytest.param([1, 1, 3, 1, 3, 3, 1, 3], 4 / 16, id="contained"),
        pytest.param([4, 0, 8, 0, 8, 4, 4, 4], 0.0, id="touching"),
        pytest.param([2, 2, 2, 2, 2, 2, 2, 2], 0.0, id="point"),
        pytest.param([0, 0, 4, 4, 4, 4, 0, 0], 0.0, id="line"),
        pytest.param([2, -2, 6, 2, 2, 6, -2, 2], 16 / 32, id="turned: the diamond holds the square"),
        pytest.param([0, 0, 4, 4, 4, 0, 0, 4], 8 / 16, id="bow tie: two triangles of 4 each"),
        pytest.param([0, 0, 4, 0, 1, 1, 0, 4], 4 / 16, id="dart: 4 of the square"),
        pytest.param([-4, -4, 0, -4, 0, 0, -4, 0], 0.0, id="touching in a corner, negative"),
    ],
)
def test_iou_by_hand(other: list[float], expected: float) -> None:
    assert pairwise_iou([SQUARE], [other])[0] == pytest.approx(expected, abs=1e-12)
    assert polygon_iou([other], [SQUARE])[0, 0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, -700.0, 20_000.0])
def test_iou_equals_shapely(offset: float) -> None:
    """Random rectangles, whole-numbered ones, shared sides, quadrangles of any shape."""
    rng = np.random.default_rng(1)
    a, b = le90_to_poly(boxes(rng, 3000)), le90_to_poly(boxes(rng, 3000))
    a[:500], b[:500] = a[:500].round(), b[:500].round()
    corners = a[500:1000].reshape(-1, 4, 2)
    b[500:1000] = (corners + 0.3 * (corners[:, 1] - corners[:, 0])[:, None]).reshape(-1, 8)
    b[1000:1500] = b[1000:1500].reshape(-1, 4, 2)[:, ::-1].reshape(-1, 8)
    a[1500:2000], b[1500:2000] = rng.uniform(0, 20, (2, 500, 8))
    a[2000:2300], b[2000:2300] = rng.integers(0, 5, (2, 300, 8))
    expected = shapely_iou(a, b)
    assert (expected > 0.1).sum() > 500
    np.testing.assert_allclose(pairwise_iou(a + offset, b + offset), expected, atol=1e-9, rtol=0)


def test_nearly_equal_boxes_overlap_wholly() -> None:
    """Sides that differ by rounding alone; GEOS itself answers 0 for some of these."""
    rng = np.random.default_rng(0)
    polys = le90_to_poly(boxes(rng, 10_000))
    again = le90_to_poly(poly_to_le90(polys))
    assert pairwise_iou(polys, again).min() > 1 - 1e-9
    assert pairwise_iou(polys, polys).min() > 1 - 1e-12


def test_sides_that_differ_in_the_last_digit_are_not_crossed_twice() -> None:
    """One of nine in 400,000 boxes far from the origin for which clipping without slack gives 1.5 times the area."""
    box = [
        10215.720773918485, 10919.090770263283, 10221.830843324364, 10970.174920440286,
        10212.50975346868, 10971.289796693669, 10206.3996840628, 10920.205646516666,
    ]  # fmt: skip
    moved = [
        10215.720773918483, 10919.090770263278, 10221.830843324362, 10970.174920440282,
        10212.50975346868, 10971.289796693669, 10206.39968406281, 10920.205646516662,
    ]  # fmt: skip
    _, inter, area, _ = pairwise_overlap([box], [moved])
    assert inter[0] == pytest.approx(area[0], rel=1e-9)


def test_iou_does_not_depend_on_its_company() -> None:
    """To the last bit: a pair that lies exactly at a threshold must not be judged by what is computed beside it."""
    rng = np.random.default_rng(7)
    a, b = (le90_to_poly(rng.uniform(0, 20, (500, 5))) for _ in range(2))
    together = pairwise_iou(a, b)
    assert (together > 0).sum() > 50
    assert [float(pairwise_iou(a[k : k + 1], b[k : k + 1])[0]) for k in range(500)] == together.tolist()


def test_matrix_equals_pairs_and_handles_empty() -> None:
    rng = np.random.default_rng(2)
    a, b = le90_to_poly(boxes(rng, 20)), le90_to_poly(boxes(rng, 30))
    expected = pairwise_iou(np.repeat(a, 30, 0), np.tile(b, (20, 1))).reshape(20, 30)
    np.testing.assert_array_equal(polygon_iou(a, b), expected)
    assert polygon_iou(np.zeros((0, 8)), b).shape == (0, 30)
    assert polygon_iou(a, []).shape == (20, 0)
    assert pairwise_iou([], []).shape == (0,)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 8\).*got \(2, 5\)"):
        polygon_iou(np.zeros((2, 5)), np.zeros((1, 8)))
    with pytest.raises(ValueError, match="equally many"):
        pairwise_iou(np.zeros((2, 8)), np.zeros((1, 8)))


def test_overlap_areas() -> None:
    iou, inter, area_a, area_b = pairwise_overlap([SQUARE], [[2, 0, 6, 0, 6, 8, 2, 8]])
    assert (inter[0], area_a[0], area_b[0]) == (8, 16, 32)  # 2 x 4 in common
    assert iou[0] == pytest.approx(8 / 40)


def test_convexity_and_area() -> None:
    bow, dart, flat = [0, 0, 4, 4, 4, 0, 0, 4], [0, 0, 4, 0, 1, 1, 0, 4], [0, 0, 2, 2, 4, 4, 1, 1]
    triangle = [0, 0, 2, 0, 4, 0, 0, 4]
    polys = np.array([SQUARE, bow, dart, flat, triangle], float)
    assert is_convex(polys).tolist() == [True, False, False, True, True]
    assert polygon_area(polys).tolist() == pytest.approx([16, 8, 4, 0, 8])
    other_way = polys.reshape(-1, 4, 2)[:, ::-1].reshape(-1, 8)
    assert is_convex(other_way).tolist() == [True, False, False, True, True]
    assert polygon_area(other_way).tolist() == pytest.approx([16, 8, 4, 0, 8])
    # one corner pressed in from either side, whichever corner it is, in either order
    for corner in range(4):
        dart_at = np.roll(np.array([1, 1, 4, 0, 4, 4, 0, 4], float).reshape(4, 2), corner, axis=0)
        pressed = dart_at.copy()
        pressed[corner] = (3, 3)
        for points, convex in ((dart_at, True), (pressed, False)):
            assert is_convex([points.reshape(8), points[::-1].reshape(8)]).tolist() == [convex, convex]


def test_le90_round_trip_of_many_boxes() -> None:
    rng = np.random.default_rng(3)
    made = boxes(rng, 10_000, 5000)
    made[:300, 4] = np.repeat([0, -math.pi / 2, math.pi / 4], 100)
    made[300:500, 3] = made[300:500, 2]
    polys = le90_to_poly(made)
    found = poly_to_le90(polys)
    assert pairwise_iou(polys, le90_to_poly(found)).min() >= 0.999
    assert (found[:, 2] >= found[:, 3]).all()
    assert (found[:, 4] >= -math.pi / 2).all()
    assert (found[:, 4] < math.pi / 2).all()


def test_le90_of_any_quadrangle_holds_its_corners_and_touches_them() -> None:
    rng = np.random.default_rng(11)
    polys = rng.uniform(0, 100, (2000, 8))
    boxes_found = poly_to_le90(polys)
    cos, sin = np.cos(boxes_found[:, 4])[:, None], np.sin(boxes_found[:, 4])[:, None]
    x, y = polys[:, 0::2] - boxes_found[:, :1], polys[:, 1::2] - boxes_found[:, 1:2]
    along, across = np.abs(x * cos + y * sin), np.abs(y * cos - x * sin)
    np.testing.assert_allclose(along.max(axis=1), boxes_found[:, 2] / 2, atol=1e-9)
    np.testing.assert_allclose(across.max(axis=1), boxes_found[:, 3] / 2, atol=1e-9)


def test_le90_by_hand() -> None:
    # 4 wide, 2 high, upright: angle 0; 2 wide, 4 high: the long side stands, angle -90 degrees
    assert poly_to_le90([[0, 0, 4, 0, 4, 2, 0, 2]])[0].tolist() == pytest.approx([2, 1, 4, 2, 0])
    assert poly_to_le90([[0, 0, 2, 0, 2, 4, 0, 4]])[0].tolist() == pytest.approx([1, 2, 4, 2, -math.pi / 2])
    assert le90_to_poly([[2, 1, 4, 2, 0]])[0].tolist() == pytest.approx([0, 0, 4, 0, 4, 2, 0, 2])
    # turning the x axis towards y (down): the first corner of a 2 x 2 box goes from (-1, -1) to (0, -sqrt 2)
    assert le90_to_poly([[0, 0, 2, 2, math.pi / 4]])[0, :2].tolist() == pytest.approx([0, -math.sqrt(2)])
    assert poly_to_le90([[3, 3] * 4])[0, :4].tolist() == [3, 3, 0, 0]


def test_upright_bounds() -> None:
    bounds = poly_to_hbb([[2, -2, 6, 2, 2, 6, -2, 2], SQUARE])
    assert bounds.tolist() == [[-2, -2, 6, 6], [0, 0, 4, 4]]
    assert pairwise_hbb_iou(bounds[:1], bounds[1:])[0] == 16 / 64
    assert pairwise_hbb_iou([[0, 0, 0, 4]], [[0, 0, 4, 4]])[0] == 0
