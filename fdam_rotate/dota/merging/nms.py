"""Greedy non-maximum suppression of quadrangles in near-linear time, equal to the plain loop over all pairs.

The plain rule: take boxes by falling score (ties in the order given), keep a box unless one kept before it overlaps it
with IoU > ``iou_thr``. Here the pairs come from a grid, most of them are decided by bounds of their intersection, the
rest by the exact IoU of `geometry`, and the greedy rule then runs over the pairs that suppress.

The grid holds one layer for each power of two of box size; a cell is no smaller than the largest box of its layer, so
boxes that meet lie in neighbouring cells, and a few large boxes do not spoil the cells of the small ones. Where boxes
lie so densely that the pairs would fill the memory, the best ones are settled first, and only what they leave is
looked at again: kept boxes overlap little, so few of them meet any one box.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.geometry import area_of, iou_of, is_convex, overlap_of, poly_to_hbb

__all__ = ["greedy_nms"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

#: Candidate pairs looked at together; about 200 bytes each.
_CHUNK_PAIRS = 1 << 16

#: Candidate pairs of boxes settled in one go; more than that, and the boxes are taken in portions by score.
_MAX_PAIRS = 1 << 23

#: Bounds are widened by this much (pixels, and relatively) before they decide, far more than rounding needs.
_SLACK = 1e-6
_RELATIVE = 1e-9

#: Boxes that `_neighbours_together` lays together.
_TILE_BOXES = 64

#: Rounds of settling many boxes at once before the rest is settled one by one.
_ROUNDS = 8


def greedy_nms(
    polys: Array, scores: Array, iou_thr: float, *, groups: Ints | None = None, horizontal: bool = False
) -> Bools:
    """Which boxes survive, (N,) bool.

    Args:
        polys: (N, 8), finite.
        scores: (N,), finite.
        iou_thr: in [0, 1]; a pair suppresses where IoU > this.
        groups: (N,) non-negative; only boxes of one group meet (an image and class). None: all are one group.
        horizontal: compare the upright bounds instead of the quadrangles.
    """
    if not len(polys):
        return np.zeros(0, np.bool_)
    if groups is None:
        groups = np.zeros(len(polys), np.intp)
    by_score = np.argsort(-scores, kind="stable")
    rank = np.empty(len(polys), np.intp)
    rank[by_score] = np.arange(len(polys))
    order = _neighbours_together(polys, groups)
    boxes = _Boxes(polys[order], groups[order], rank[order], iou_thr, horizontal)
    place = np.empty(len(polys), np.intp)
    place[order] = np.arange(len(polys))
    keep = boxes.area <= 0  # a box without area overlaps nothing
    rest = place[by_score]
    rest = rest[~keep[rest]]
    while len(rest):
        portion = len(rest)
        runs = _Grid(boxes, rest).runs()
        pairs = sum(int((high - low).sum()) for _, _, low, high in runs)
        if pairs > _MAX_PAIRS:
            portion = max(1, int(portion * (_MAX_PAIRS / pairs) ** 0.5))
            runs = _Grid(boxes, rest[:portion]).runs()
        best, rest = rest[:portion], rest[portion:]
        edges = [boxes.suppressing(i, j) for layer, *run in runs for i, j in layer.expand(*run)]
        first = np.concatenate([e[0] for e in edges]) if edges else np.zeros(0, np.intp)
        second = np.concatenate([e[1] for e in edges]) if edges else np.zeros(0, np.intp)
        lost = np.zeros(len(polys), np.bool_)
        _settle(first, second, boxes.rank, lost)
        kept = best[~lost[best]]
        keep[kept] = True
        if len(rest):
            for i, j in _Grid(boxes, kept).pairs_with(rest):
                lost[boxes.suppressing(i, j)[1]] = True
            rest = rest[~lost[rest]]
    survives: Bools = keep[place]
    return survives


def _neighbours_together(polys: Array, groups: Ints) -> Ints:
    """An order of the boxes in which those of one group that lie near each other stand near each other.

    The pairs then find the numbers of their boxes in the caches: 64,000 boxes of one image took 40% longer without.
    """
    x, y = polys[:, 0], polys[:, 1]
    (x0, x1), (y0, y1) = _extent(groups, x), _extent(groups, y)
    tiles = np.maximum(1, np.sqrt(np.bincount(groups) / _TILE_BOXES)).astype(np.int64)
    column = (x - x0[groups]) * (tiles / np.maximum(x1 - x0, _SLACK))[groups]
    row = (y - y0[groups]) * (tiles / np.maximum(y1 - y0, _SLACK))[groups]
    base = np.cumsum(tiles * tiles) - tiles * tiles
    tile = base[groups] + row.astype(np.int64) * tiles[groups] + column.astype(np.int64)
    order: Ints = np.argsort(tile, kind="stable")
    return order


def _settle(first: Ints, second: Ints, rank: Ints, lost: Bools) -> None:
    """Mark in ``lost`` what the greedy rule drops, given the pairs (``first`` before ``second``) that suppress."""
    for _ in range(_ROUNDS):
        if not len(first):
            return
        open_ = np.zeros(len(lost), np.bool_)
        open_[second] = True
        sure = ~open_[first]  # nothing before them can suppress these
        lost[second[sure]] = True
        left = ~(sure | lost[first] | lost[second])
        first, second = first[left], second[left]
    order = np.argsort(rank[first], kind="stable")
    first, second = first[order], second[order]
    starts = np.flatnonzero(np.concatenate([[True], first[1:] != first[:-1]])) if len(first) else np.zeros(0, np.intp)
    bounds = [*starts.tolist(), len(first)]
    for box, begin, end in zip(first[starts].tolist(), bounds[:-1], bounds[1:], strict=True):
        if not lost[box]:
            lost[second[begin:end]] = True


class _Boxes:
    """Boxes with what the bounds of a pair need, laid out one quantity a row; of lower ``rank`` is the better one."""

    def __init__(self, polys: Array, groups: Ints, rank: Ints, iou_thr: float, horizontal: bool) -> None:
        self.polys = polys
        self.groups = groups
        self.rank = rank
        self.iou_thr = iou_thr
        self.horizontal = horizontal
        bounds = poly_to_hbb(polys)
        self.bounds = np.ascontiguousarray(bounds.T)
        self.size = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
        self.centre = 0.5 * (self.bounds[:2] + self.bounds[2:])
        (x0, x1), (y0, y1) = _extent(self.groups, self.centre[0]), _extent(self.groups, self.centre[1])
        self.corner, self.spread = (x0, y0), (x1 - x0, y1 - y0)
        self.area: Array
        if horizontal:
            self.area = (bounds[:, 2:] - bounds[:, :2]).prod(1)
        else:
            self.convex = is_convex(polys)
            self.area = area_of(polys, self.convex)
            self._frames()
        # inter / (a + b - inter) > t  <=>  inter > t / (1 + t) * (a + b)
        self.share: Array = iou_thr / (1 + iou_thr) * self.area

    def _frames(self) -> None:
        """The frame of each box along its first side: outer and inner rectangle in it."""
        x, y = np.ascontiguousarray(self.polys.T[0::2]), np.ascontiguousarray(self.polys.T[1::2])
        ux, uy = (x[1] - x[0]) + (x[2] - x[3]), (y[1] - y[0]) + (y[2] - y[3])
        length = np.hypot(ux, uy)
        length[length == 0] = 1.0
        ux, uy = ux / length, uy / length
        flip = np.where(-uy * (x[3] - x[0]) + ux * (y[3] - y[0]) < 0, -1.0, 1.0)
        vx, vy = -uy * flip, ux * flip
        u, v = ux * x + uy * y, vx * x + vy * y
        outer = [u.min(0), u.max(0), v.min(0), v.max(0)]
        inner = [
            np.maximum(u[0], u[3]),
            np.minimum(u[1], u[2]),
            np.maximum(v[0], v[1]),
            np.minimum(v[2], v[3]),
        ]
        self.frame = np.stack([ux, uy, vx, vy, *outer, *inner])
        self.corners = np.concatenate([x, y, x.mean(0, keepdims=True), y.mean(0, keepdims=True)])

    def suppressing(self, i: Ints, j: Ints) -> tuple[Ints, Ints]:
        """Those of the pairs whose IoU is above the threshold, the better box first."""
        x0, y0, x1, y1 = self.bounds
        wide = np.minimum(x1.take(i), x1.take(j)) - np.maximum(x0.take(i), x0.take(j))
        meet = np.flatnonzero(wide > 0)
        i, j, wide = i[meet], j[meet], wide[meet]
        high = np.minimum(y1.take(i), y1.take(j)) - np.maximum(y0.take(i), y0.take(j))
        inter = wide * np.maximum(high, 0)
        need = self.share.take(i) + self.share.take(j)
        open_ = np.flatnonzero(inter > need * (1 - _RELATIVE))
        i, j, need = i[open_], j[open_], need[open_]
        ahead = self.rank.take(i) < self.rank.take(j)
        i, j = np.where(ahead, i, j), np.where(ahead, j, i)
        if self.horizontal:
            hit = self._above(inter[open_], i, j)
            return i[hit], j[hit]
        sure = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
        for a, b in ((0, 1), (1, 0)):
            pair = (i, j)
            upper, lower = self._bracket(pair[a], pair[b])
            yes = lower > need * (1 + _RELATIVE)
            sure[0].append(i[yes])
            sure[1].append(j[yes])
            left = np.flatnonzero(~yes & (upper > need * (1 - _RELATIVE)))
            i, j, need = i[left], j[left], need[left]
        convex = self.convex[i] & self.convex[j]
        inter = overlap_of(self.polys[i], self.polys[j], convex)
        hit = self._above(inter, i, j)
        return np.concatenate([*sure[0], i[hit]]), np.concatenate([*sure[1], j[hit]])

    def _above(self, inter: Array, i: Ints, j: Ints) -> Bools:
        above: Bools = iou_of(inter, self.area[i], self.area[j]) > self.iou_thr
        return above

    def _bracket(self, i: Ints, j: Ints) -> tuple[Array, Array]:
        """Upper and lower bound of the intersection area, from box ``j`` in the frame of box ``i``.

        Above: ``j``'s extent along the frame's axes, cut to ``i``'s outer rectangle. Below: the largest copy of ``j``,
        shrunk about its middle, that fits ``i``'s inner rectangle lies in both (both boxes convex).
        """
        ux, uy, vx, vy, u0, u1, v0, v1, iu0, iu1, iv0, iv1 = self.frame.take(i, 1)
        corners = self.corners.take(j, 1)
        x, y, mx, my = corners[:4], corners[4:8], corners[8], corners[9]
        upper = np.ones(len(i))
        shrink = np.ones(len(i))
        for ax, ay, low, high, inner_low, inner_high in ((ux, uy, u0, u1, iu0, iu1), (vx, vy, v0, v1, iv0, iv1)):
            along = ax * x + ay * y
            least = np.minimum(np.minimum(along[0], along[1]), np.minimum(along[2], along[3])) - _SLACK
            most = np.maximum(np.maximum(along[0], along[1]), np.maximum(along[2], along[3])) + _SLACK
            middle = ax * mx + ay * my
            upper *= np.maximum(np.minimum(most, high) - np.maximum(least, low), 0)
            room = np.minimum((middle - inner_low) / (middle - least), (inner_high - middle) / (most - middle))
            np.minimum(shrink, room, out=shrink)
        np.maximum(shrink, 0, out=shrink)
        lower = shrink * shrink * self.area[j]
        odd = ~(self.convex[i] & self.convex[j])
        upper[odd], lower[odd] = np.inf, 0
        return upper, lower


class _Grid:
    """Some of the boxes, sorted into cells, layer by layer."""

    def __init__(self, boxes: _Boxes, members: Ints) -> None:
        level = np.frexp(boxes.size[members])[1]
        self.layers = [_Layer(boxes, members[level == one]) for one in np.flatnonzero(np.bincount(level + 1100)) - 1100]

    def runs(self) -> list[tuple[_Layer, Ints, Ints, Ints]]:
        """Where the boxes that may meet each member lie, each pair once: (layer, members, low, high)."""
        found = []
        for index, layer in enumerate(self.layers):
            found += [(layer, *run) for run in layer.within()]
            for smaller in self.layers[:index]:
                found += [(layer, *run) for run in layer.around(smaller.members)]
        return found

    def pairs_with(self, others: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Pairs of one of ``others`` and a member whose upright bounds may meet."""
        for layer in self.layers:
            for run in layer.around(others):
                yield from layer.expand(*run)


class _Layer:
    """Boxes of about one size in square cells, which are numbered group by group and row by row.

    Attributes:
        members: the boxes, in order of their cells.
    """

    def __init__(self, boxes: _Boxes, members: Ints) -> None:
        self.boxes = boxes
        group, x, y = boxes.groups[members], boxes.centre[0][members], boxes.centre[1][members]
        self._x0, self._y0 = boxes.corner
        width, height = boxes.spread
        self._reach = float(boxes.size[members].max()) / 2
        # about a cell a box where boxes are sparse, no cell lower than a box where they are dense
        self._height = max(2 * self._reach, (float((width * height).sum()) / len(members)) ** 0.5)
        while True:
            self._width = self._height / 4  # cells of one row are searched together: narrow ones waste less
            self._columns = np.floor(width / self._width).astype(np.int64) + 1
            self._rows = np.floor(height / self._height).astype(np.int64) + 1
            cells = self._columns * self._rows
            if cells.sum() <= 16 * len(members) + 64 * len(cells):
                break
            self._height *= 2  # a long thin scatter
        self._base = np.cumsum(cells) - cells
        row = np.floor((y - self._y0[group]) / self._height).astype(np.int64)
        cell = self._base[group] + row * self._columns[group] + self._column_of(x, group).astype(np.int64)
        order = np.argsort(cell, kind="stable")
        self.members = members[order]
        self._row = row[order]
        self._start = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=int(cells.sum())))])

    def _column_of(self, x: Array, group: Ints) -> Array:
        column: Array = np.floor((x - self._x0[group]) / self._width)
        return column

    def within(self) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Runs ``members[low:high]`` that may meet a member and come after it: (member, low, high), in two parts."""
        group = self.boxes.groups[self.members]
        columns = self._columns[group]
        line = self._base[group] + self._row * columns
        left, right = self._columns_around(self.members, group)
        yield _some(self.members, np.arange(1, len(self.members) + 1), self._start[line + right])
        below = np.flatnonzero(self._row + 1 < self._rows[group])
        line = (line + columns)[below]
        yield _some(self.members[below], self._start[line + left[below]], self._start[line + right[below]])

    def _columns_around(self, others: Ints, group: Ints) -> tuple[Ints, Ints]:
        """First and last (exclusive) column whose members may meet each of ``others``."""
        reach = self.boxes.size[others] / 2 + self._reach
        x = self.boxes.centre[0][others]
        left = np.maximum(self._column_of(x - reach, group), 0).astype(np.int64)
        right = np.minimum(self._column_of(x + reach, group) + 1, self._columns[group]).astype(np.int64)
        return left, right

    def around(self, others: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Runs ``members[low:high]`` that may meet one of ``others``: (other, low, high), in parts by row of cells."""
        group = self.boxes.groups[others]
        left, right = self._columns_around(others, group)
        reach = self.boxes.size[others] / 2 + self._reach
        y = self.boxes.centre[1][others] - self._y0[group]
        row = np.maximum(np.floor((y - reach) / self._height), 0).astype(np.int64)
        bottom = np.minimum(np.floor((y + reach) / self._height) + 1, self._rows[group]).astype(np.int64)
        line, columns = self._base[group] + row * self._columns[group], self._columns[group]
        while len(others):
            yield _some(others, self._start[line + left], self._start[line + right])
            row, line = row + 1, line + columns
            more = np.flatnonzero(row < bottom)
            others, columns, left, right = others[more], columns[more], left[more], right[more]
            row, bottom, line = row[more], bottom[more], line[more]

    def expand(self, query: Ints, low: Ints, high: Ints) -> Iterator[tuple[Ints, Ints]]:
        """The pairs (query, member) of runs, in portions."""
        count = high - low
        total = np.cumsum(count)
        begin = 0
        while begin < len(query):
            done = total[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(total, done + _CHUNK_PAIRS, side="right")))
            part = count[begin:end]
            shift = low[begin:end] - (total[begin:end] - part - done)
            position = np.arange(int(total[end - 1] - done)) + np.repeat(shift, part)
            yield np.repeat(query[begin:end], part), self.members[position]
            begin = end


def _some(query: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints, Ints]:
    """Runs without the empty ones."""
    some = np.flatnonzero(high > low)
    return query[some], low[some], high[some]


def _extent(group: Ints, values: Array) -> tuple[Array, Array]:
    """Least and greatest value of each group, 0 and 0 where a group has none."""
    order = np.argsort(group, kind="stable")
    group, values = group[order], values[order]
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    low, high = np.zeros(int(group[-1]) + 1), np.zeros(int(group[-1]) + 1)
    low[group[starts]] = np.minimum.reduceat(values, starts)
    high[group[starts]] = np.maximum.reduceat(values, starts)
    return low, high
