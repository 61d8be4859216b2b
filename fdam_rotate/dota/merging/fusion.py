"""Weighted box fusion of oriented boxes: several inputs (models, scales) agree on boxes instead of one winning.

After Solovyev, Wang and Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object detection models",
Image and Vision Computing 107, 2021 (arXiv 1910.13302), with these rules, each made for corners in place of upright
boxes and for inputs whose own duplicates are already suppressed:

* Boxes of one image and class are taken by falling ``w s`` (weight of the input times score; ties by input, then by
  order). A box joins the cluster whose fused box has the largest IoU with it, if that is above the threshold and the
  cluster holds no box of the same input yet (ties go to the older cluster); else it begins a new one.
* The corners of a box are numbered anew to lie nearest to those of its cluster's first box: of the four cyclic shifts
  in that box's winding order, the one with the least sum of squared distances.
* A cluster's fused corners are ``sum(w s p) / sum(w s)`` over its boxes. Rectangles of different proportions give a
  parallelogram, which stands as it is.
* Its score is ``sum(w s) / sum(w)``, the upper sum over its boxes and the lower over *all* inputs, so that an input
  which does not see the object counts with score 0. (The paper's mean score times T / N.)

Time grows with the square of the boxes of one image and class; all images advance together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections, unify_ids
from fdam_rotate.dota.geometry import pairwise_iou, poly_to_hbb

__all__ = ["align_corners", "fuse_boxes"]

Array = NDArray[np.float64]


def fuse_boxes(inputs: Sequence[Detections], *, weights: Sequence[float], iou_thr: float = 0.55) -> Detections:
    """Fuse the detections of one class.

    Args:
        inputs: one for each model or scale, in pixels of the original images, duplicates suppressed.
        weights: one positive number for each input.
        iou_thr: in [0, 1]; boxes whose IoU with a fused box is above this join it.

    Returns:
        One detection for each cluster, image by image, in the order in which the clusters began.
    """
    ids, image = unify_ids(inputs)
    source = np.repeat(np.arange(len(inputs)), [len(one) for one in inputs])
    strength = np.concatenate([one.scores for one in inputs]) * np.asarray(weights, np.float64)[source]
    polys = np.concatenate([one.polys for one in inputs])
    order = np.lexsort((-strength, image))
    image, source, strength, polys = image[order], source[order], strength[order], polys[order]
    first = np.flatnonzero(np.diff(image, prepend=-1))
    size = np.diff([*first.tolist(), len(image)])

    # Box number `step` of every image at a time. A cluster is stored where its first box stands.
    leader = np.full(len(image), -1, np.intp)
    fused, total = polys.copy(), strength.copy()
    seen = np.zeros((len(image), len(inputs)), np.bool_)
    bounds = poly_to_hbb(polys)
    for step in range(int(size.max(initial=0))):
        going = first[size > step]
        box = going + step
        cluster = _best_cluster(box, going, leader, fused, bounds, seen, source, polys, iou_thr)
        own = cluster < 0
        leader[box] = np.where(own, box, cluster)
        seen[leader[box], source[box]] = True
        box, cluster = box[~own], cluster[~own]
        moved = align_corners(polys[box], polys[cluster])
        old, new = total[cluster, None], strength[box, None]
        whole = old + new
        share = np.divide(new, whole, out=np.full_like(new, 0.5), where=whole > 0)
        fused[cluster] += share * (moved - fused[cluster])
        total[cluster] += strength[box]
        bounds[cluster] = poly_to_hbb(fused[cluster])
    begun = np.flatnonzero(leader == np.arange(len(image)))
    return Detections(ids, image[begun], total[begun] / float(np.sum(weights)), fused[begun])


def align_corners(polys: Array, targets: Array) -> Array:
    """Number the corners of (N, 8) quadrangles anew so that they lie nearest to those of their targets (N, 8)."""
    corners, goal = polys.reshape(-1, 4, 2), targets.reshape(-1, 4, 2)

    def turn(p: Array) -> Array:
        diagonal, other = p[:, 2] - p[:, 0], p[:, 3] - p[:, 1]
        side: Array = diagonal[:, 0] * other[:, 1] - diagonal[:, 1] * other[:, 0]
        return side

    against = turn(corners) * turn(goal) < 0
    corners = np.where(against[:, None, None], corners[:, ::-1], corners)
    shifted = np.stack([np.roll(corners, -k, axis=1) for k in range(4)])
    distance = ((shifted - goal) ** 2).sum((2, 3))
    best: Array = shifted[distance.argmin(0), np.arange(len(corners))].reshape(-1, 8)
    return best


def _best_cluster(
    box: NDArray[np.intp],
    begin: NDArray[np.intp],
    leader: NDArray[np.intp],
    fused: Array,
    bounds: Array,
    seen: NDArray[np.bool_],
    source: NDArray[np.intp],
    polys: Array,
    iou_thr: float,
) -> NDArray[np.intp]:
    """For each of the boxes the cluster to join, -1 for none; the clusters of its image lie from ``begin`` to it."""
    count = box - begin
    query = np.repeat(np.arange(len(box)), count)
    at = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)
    mine, other = poly_to_hbb(polys[box])[query], bounds[at]
    open_ = (leader[at] == at) & ~seen[at, source[box][query]]
    open_ &= (mine[:, :2] < other[:, 2:]).all(1) & (other[:, :2] < mine[:, 2:]).all(1)
    query, at = query[open_], at[open_]
    iou = pairwise_iou(polys[box[query]], fused[at])
    good = iou > iou_thr
    query, at, iou = query[good], at[good], iou[good]
    order = np.lexsort((at, -iou, query))
    query, at = query[order], at[order]
    best = np.full(len(box), -1, np.intp)
    top = np.flatnonzero(np.diff(query, prepend=-1))
    best[query[top]] = at[top]
    return best
