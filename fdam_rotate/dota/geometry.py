"""Exact overlap of quadrangles, and the ways to write an oriented box.

Frame: continuous pixels, x right, y down. ``polys`` is (N, 8) float64, x1 y1 ... x4 y4, vertices in either winding
order. ``boxes`` is (N, 5) float64 in MMRotate's le90 convention: cx, cy, w, h, angle with w >= h, the angle (radians,
in [-pi/2, pi/2)) turning the x axis towards the y axis, so clockwise on the screen.

The one rule of overlap: IoU = area(a and b) / area(a or b) in float64, and 0 where either polygon has no area. Convex
quadrangles are clipped in NumPy, all pairs at once. A quadrangle that is not convex counts as the region that
``shapely.make_valid`` gives it (both lobes of a self-crossing one); those few pairs go through shapely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "area_of",
    "iou_of",
    "is_convex",
    "le90_to_poly",
    "overlap_of",
    "pairwise_hbb_iou",
    "pairwise_iou",
    "pairwise_overlap",
    "poly_to_hbb",
    "poly_to_le90",
    "polygon_area",
    "polygon_iou",
]

Array = NDArray[np.float64]

#: Pairs clipped at once: the working set (about a kilobyte a pair) then stays in the second-level cache.
_CHUNK = 1024

#: The vertex after each vertex.
_FOLLOWING = [1, 2, 3, 0]

#: A turn or a distance below this share of the sizes involved is rounding noise and counts as zero.
_NOISE = 1e-12


def _as_polys(polys: ArrayLike, name: str = "polys") -> Array:
    array = np.asarray(polys, np.float64)
    if array.size == 0:
        return np.zeros((0, 8))
    if array.ndim != 2 or array.shape[1] != 8:
        raise ValueError(f"{name} must have shape (N, 8): x1 y1 ... x4 y4; got {array.shape}")
    return array


def _signed_area(x: Array, y: Array) -> Array:
    """Signed area (N,) of quadrangles given as x and y of shape (4, N): half the cross product of the diagonals."""
    area: Array = 0.5 * ((x[2] - x[0]) * (y[3] - y[1]) - (x[3] - x[1]) * (y[2] - y[0]))
    return area


def is_convex(polys: ArrayLike) -> NDArray[np.bool_]:
    """Which of (N, 8) quadrangles are convex, in either winding order; those without area count as convex."""
    p = _as_polys(polys)
    # one row a coordinate: sums over a short last axis would cost several times as much
    x, y = np.ascontiguousarray(p[:, 0::2].T), np.ascontiguousarray(p[:, 1::2].T)
    edge_x, edge_y = x[_FOLLOWING] - x, y[_FOLLOWING] - y
    after_x, after_y = edge_x[_FOLLOWING], edge_y[_FOLLOWING]
    turn = edge_x * after_y - edge_y * after_x
    square = edge_x * edge_x + edge_y * edge_y
    noise = _NOISE * np.sqrt(square * square[_FOLLOWING])
    left, right = turn > noise, turn < -noise
    straight = ~(left | right)
    back = straight & (edge_x * after_x + edge_y * after_y < 0)
    one_way = ~(left.any(0) & right.any(0))
    convex: NDArray[np.bool_] = (one_way & ~back.any(0)) | straight.all(0)
    return convex


def polygon_area(polys: ArrayLike) -> Array:
    """Area (N,) in square pixels of (N, 8) quadrangles; that of ``make_valid`` where one is not convex."""
    polys = _as_polys(polys)
    return area_of(polys, is_convex(polys))


def area_of(polys: Array, convex: NDArray[np.bool_]) -> Array:
    """`polygon_area` of (N, 8) quadrangles where `is_convex` has said which are convex."""
    p = polys.reshape(-1, 4, 2).transpose(2, 1, 0)
    area: Array = np.abs(_signed_area(p[0], p[1]))
    odd = np.flatnonzero(~convex)
    if len(odd):
        import shapely

        area[odd] = shapely.area(_regions(polys[odd]))
    return area


def pairwise_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """IoU (K,) of pair k: quadrangle ``a[k]`` with ``b[k]``, both (K, 8)."""
    return pairwise_overlap(a, b)[0]


def polygon_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """IoU of every quadrangle of ``a`` (N, 8) with every one of ``b`` (M, 8): (N, M) float64 in [0, 1].

    Only pairs whose upright bounds meet are clipped.

    >>> polygon_iou([[0, 0, 2, 0, 2, 2, 0, 2]], [[1, 0, 3, 0, 3, 2, 1, 2]])
    array([[0.33333333]])
    """
    a, b = _as_polys(a, "a"), _as_polys(b, "b")
    result = np.zeros((len(a), len(b)))
    box_a, box_b = poly_to_hbb(a), poly_to_hbb(b)
    rows = max(1, 4_000_000 // max(1, len(b)))  # keeps the masks below some tens of megabytes
    for start in range(0, len(a), rows):
        part = box_a[start : start + rows]
        meet = (
            (part[:, None, 0] < box_b[None, :, 2])
            & (box_b[None, :, 0] < part[:, None, 2])
            & (part[:, None, 1] < box_b[None, :, 3])
            & (box_b[None, :, 1] < part[:, None, 3])
        )
        i, j = np.nonzero(meet)
        result[start + i, j] = pairwise_iou(a[start + i], b[j])
    return result


def pairwise_overlap(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array, Array, Array]:
    """For pairs of quadrangles (K, 8): IoU, intersection area, area of ``a``, area of ``b``, each (K,)."""
    a, b = _as_polys(a, "a"), _as_polys(b, "b")
    if len(a) != len(b):
        raise ValueError(f"pairs need equally many polygons, got {len(a)} and {len(b)}")
    convex_a, convex_b = is_convex(a), is_convex(b)
    area_a, area_b = area_of(a, convex_a), area_of(b, convex_b)
    inter = overlap_of(a, b, convex_a & convex_b)
    return iou_of(inter, area_a, area_b), inter, area_a, area_b


def iou_of(inter: Array, area_a: Array, area_b: Array) -> Array:
    """The rule of overlap: intersection over union, at most 1, and 0 where either has no area."""
    inter = np.minimum(inter, np.minimum(area_a, area_b))  # rounding may leave a hair more than either area
    union = area_a + area_b - inter
    return np.divide(inter, union, out=np.zeros(len(inter)), where=(area_a > 0) & (area_b > 0))


def overlap_of(a: Array, b: Array, convex: NDArray[np.bool_]) -> Array:
    """Intersection area (K,) of pairs of quadrangles (K, 8); ``convex`` says of which pairs both are convex."""
    inter = np.empty(len(a))
    for start in range(0, len(a), _CHUNK):
        part = slice(start, start + _CHUNK)
        inter[part] = _clip_area(a[part], b[part])
    odd = np.flatnonzero(~convex)
    if len(odd):
        import shapely

        inter[odd] = shapely.area(shapely.intersection(_regions(a[odd]), _regions(b[odd])))
    return inter


def _regions(polys: Array) -> NDArray[np.object_]:
    import shapely

    regions: NDArray[np.object_] = shapely.make_valid(shapely.polygons(polys.reshape(-1, 4, 2)))
    return regions


def _clip_area(a: Array, b: Array) -> Array:
    """Area (K,) of the intersection of convex quadrangles, by clipping ``a`` against the four sides of ``b``.

    All pairs are clipped together (Sutherland and Hodgman, 1974), the polygon being kept as directed sides in no order:
    a half plane shortens each side by itself, to a point where it lies outside, and adds one side along its own line,
    from where the outline leaves to where it enters. Four sides become eight, and half the sum of their cross products
    is the area. Coordinates are relative to ``b``'s first vertex, which keeps the precision of small boxes far from
    the origin.
    """
    origin = b[:, :2]
    x, y, next_x, next_y = np.empty((4, 8, len(a)))
    np.subtract(a[:, 0::2].T, origin[:, 0], out=x[:4])
    np.subtract(a[:, 1::2].T, origin[:, 1], out=y[:4])
    next_x[:4], next_y[:4] = x[_FOLLOWING], y[_FOLLOWING]
    bx, by = b[:, 0::2].T - origin[:, 0], b[:, 1::2].T - origin[:, 1]
    winding = np.where(_signed_area(bx, by) < 0, -1.0, 1.0)
    side_x, side_y = winding * (bx[_FOLLOWING] - bx), winding * (by[_FOLLOWING] - by)
    reach = np.maximum(np.abs(x[:4]), np.abs(y[:4])).max(0) + np.maximum(np.abs(bx), np.abs(by)).max(0)
    # without the slack, a side that lies on the line could be left and entered again by rounding alone
    slack = -_NOISE * reach * (np.abs(side_x) + np.abs(side_y))
    for k in range(4):
        old, new = slice(0, 4 + k), 4 + k
        start = side_x[k] * (y[old] - by[k]) - side_y[k] * (x[old] - bx[k])
        end = side_x[k] * (next_y[old] - by[k]) - side_y[k] * (next_x[old] - bx[k])
        start_in, end_in = start >= slack[k], end >= slack[k]
        cross = start_in ^ end_in
        t = np.divide(start, start - end, out=np.zeros_like(start), where=cross)
        np.clip(t, 0, 1, out=t)
        cut_x, cut_y = x[old] + t * (next_x[old] - x[old]), y[old] + t * (next_y[old] - y[old])
        leaves, enters = cross & start_in, cross & end_in
        x[new], y[new] = _total(cut_x * leaves), _total(cut_y * leaves)
        next_x[new], next_y[new] = _total(cut_x * enters), _total(cut_y * enters)
        np.copyto(x[old], cut_x, where=~start_in)
        np.copyto(y[old], cut_y, where=~start_in)
        np.copyto(next_x[old], cut_x, where=~end_in)
        np.copyto(next_y[old], cut_y, where=~end_in)
    area: Array = 0.5 * np.abs(_total(x * next_y - y * next_x))
    return area


def _total(rows: Array) -> Array:
    """Sum (K,) of (R, K), row after row: ``rows.sum(0)`` takes another order where K is 1, and so rounds otherwise.

    An IoU must not depend on which pairs are clipped together.
    """
    total: Array = rows[0] + rows[1]
    for row in rows[2:]:
        total += row
    return total


def poly_to_hbb(polys: ArrayLike) -> Array:
    """Upright bounds (N, 4) xmin ymin xmax ymax of (N, 8) polygons."""
    polys = _as_polys(polys)
    x, y = polys[:, 0::2], polys[:, 1::2]
    lo_x, hi_x = np.minimum(x[:, :2], x[:, 2:]), np.maximum(x[:, :2], x[:, 2:])
    lo_y, hi_y = np.minimum(y[:, :2], y[:, 2:]), np.maximum(y[:, :2], y[:, 2:])
    return np.stack(
        [
            np.minimum(lo_x[:, 0], lo_x[:, 1]),
            np.minimum(lo_y[:, 0], lo_y[:, 1]),
            np.maximum(hi_x[:, 0], hi_x[:, 1]),
            np.maximum(hi_y[:, 0], hi_y[:, 1]),
        ],
        axis=1,
    )


def pairwise_hbb_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """IoU (K,) of pairs of upright boxes (K, 4) xmin ymin xmax ymax; 0 where either has no area."""
    a, b = np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4)
    size = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inter = np.clip(size, 0, None).prod(1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    union = area_a + area_b - inter
    iou: Array = np.divide(inter, union, out=np.zeros(len(a)), where=(area_a > 0) & (area_b > 0))
    return iou


def le90_to_poly(boxes: ArrayLike) -> Array:
    """Corners (N, 8) of (N, 5) oriented boxes cx cy w h angle: from the box's upper left, in its own frame, onwards."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 5)
    centre, half = boxes[:, None, :2], boxes[:, 2:4] / 2
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    along = np.stack([half[:, 0] * cos, half[:, 0] * sin], axis=1)[:, None]
    across = np.stack([-half[:, 1] * sin, half[:, 1] * cos], axis=1)[:, None]
    corners = np.concatenate(
        [centre - along - across, centre + along - across, centre + along + across, centre - along + across], axis=1
    )
    polys: Array = corners.reshape(-1, 8)
    return polys


def poly_to_le90(polys: ArrayLike) -> Array:
    """Oriented boxes (N, 5) cx cy w h angle (le90) of (N, 8) quadrangles.

    A rectangle is given exactly; of any other quadrangle the smallest rectangle around it, one of whose sides lies
    along a side or diagonal of the quadrangle (of which the convex hull's sides are some).
    """
    p = _as_polys(polys).reshape(-1, 4, 2)
    if not len(p):
        return np.zeros((0, 5))
    centre = p.mean(1, keepdims=True)
    q = p - centre
    start, end = (0, 1, 2, 3, 0, 1), (1, 2, 3, 0, 2, 3)
    direction = q[:, end] - q[:, start]  # (N, 6, 2)
    length = np.hypot(direction[..., 0], direction[..., 1])
    unit = np.where(length[..., None] > 0, direction / np.where(length > 0, length, 1)[..., None], (1.0, 0.0))
    normal = np.stack([-unit[..., 1], unit[..., 0]], axis=-1)
    u, v = np.einsum("nkd,npd->nkp", unit, q), np.einsum("nkd,npd->nkp", normal, q)
    w, h = np.ptp(u, axis=2), np.ptp(v, axis=2)
    # a point or line has no area whatever the direction: then the shortest rim decides
    best = np.lexsort((np.broadcast_to(np.arange(6), w.shape), w + h, w * h), axis=1)[:, 0]
    rows = np.arange(len(p))
    u, v, w, h = u[rows, best], v[rows, best], w[rows, best], h[rows, best]
    unit, normal = unit[rows, best], normal[rows, best]
    middle = 0.5 * ((u.max(1) + u.min(1))[:, None] * unit + (v.max(1) + v.min(1))[:, None] * normal)
    angle = np.arctan2(unit[:, 1], unit[:, 0]) + np.where(w < h, np.pi / 2, 0)
    angle = (angle + np.pi / 2) % np.pi - np.pi / 2
    return np.concatenate(
        [centre[:, 0] + middle, np.maximum(w, h)[:, None], np.minimum(w, h)[:, None], angle[:, None]], axis=1
    )
