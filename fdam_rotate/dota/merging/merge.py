"""From detections on patches to detections on whole images.

Each box is moved to its place in the original image, ``(point of the patch + (x, y)) / scale``; then, for each image
and class, greedy non-maximum suppression removes what several patches saw (as DOTA_devkit: polygon IoU above 0.1).
The split's manifest says where a patch lies; without one its name does, in MMRotate's or DOTA_devkit's convention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdam_rotate.dota.detections import Detections, concatenate, unify_ids
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.merging.nms import greedy_nms
from fdam_rotate.dota.merging.options import MergeOptions
from fdam_rotate.dota.merging.placing import Locate, Placer
from fdam_rotate.dota.merging.suppress import suppress
from fdam_rotate.dota.progress import progress_bar

__all__ = [
    "best_of_image",
    "limit_per_image",
    "merge_patches",
    "merge_placed",
    "nms_polygons",
]


def nms_polygons(polys: ArrayLike, scores: ArrayLike, iou_thr: float = 0.1) -> NDArray[np.intp]:
    """Greedy non-maximum suppression of quadrangles.

    Args:
        polys: (N, 8), x1 y1 ... x4 y4.
        scores: (N,).
        iou_thr: in [0, 1]; a kept box suppresses those of lower score whose IoU with it is above this.

    Returns:
        (K,) indices of the kept boxes by falling score, equal scores in the order given. A box without area is kept.

    >>> nms_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [1, 0, 5, 0, 5, 4, 1, 4], [9, 0, 13, 0, 13, 4, 9, 4]], [0.5, 0.9, 0.7])
    array([1, 2])
    """
    boxes = np.asarray(polys, np.float64).reshape(-1, 8)
    values = np.asarray(scores, np.float64)
    if values.shape != (len(boxes),):
        raise ValueError(f"expected one score for each of {len(boxes)} polygons, got shape {values.shape}")
    if not (np.isfinite(boxes).all() and np.isfinite(values).all()):
        raise ValueError("polygons and scores must be finite")
    if not 0 <= iou_thr <= 1:
        raise ValueError(f"iou_thr must lie in [0, 1], got {iou_thr}")
    kept = np.flatnonzero(greedy_nms(boxes, values, iou_thr))
    return kept[np.argsort(-values[kept], kind="stable")]


def merge_patches(
    detections: Mapping[str, Detections] | Sequence[Mapping[str, Detections]],
    options: MergeOptions = MergeOptions(),
    *,
    locate: Locate = None,
    nproc: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> dict[str, Detections]:
    """Merge patch detections, of one input or several (scales, models), into detections of whole images.

    Args:
        detections: class -> detections whose ids are patch ids; or a sequence of such inputs.
        options: thresholds, kind of suppression, weights.
        locate: a callable or manifest that maps a patch id to (image id, x, y, scale); None goes by the names.
        nproc: processes to use at most (a small job is done in this one). Same result.
        scheduler: address of a Dask scheduler whose workers take the place of the processes. Same result.
        progress: draw a progress bar.

    Returns:
        Class -> detections sorted by image id, then by falling score, ties in the order of the inputs.

    Raises:
        DotaError: an id says no place, a number is not finite, or there is not one weight for each input.
        WorkerError: a worker process was killed.
    """
    inputs = [detections] if isinstance(detections, Mapping) else list(detections)
    placer = Placer(locate)
    placed: list[dict[str, Detections]] = []
    for one in inputs:
        placed.append({})
        for name, found in one.items():
            placed[-1][name], unplaced = placer.place(found)
            if unplaced:
                raise DotaError(f"class {name}: {unplaced[0][1]}")
    total = sum(len(found) for one in placed for found in one.values())
    with progress_bar(total, "merge", "box", shown=progress) as bar:
        merged = merge_placed(placed, options, nproc=nproc, scheduler=scheduler, advance=bar.update)
    return merged if options.max_per_image is None else limit_per_image(merged, options.max_per_image)


def merge_placed(
    inputs: Sequence[Mapping[str, Detections]],
    options: MergeOptions = MergeOptions(),
    *,
    nproc: int = 1,
    scheduler: str | None = None,
    advance: Callable[[int], object] = lambda boxes: None,
) -> dict[str, Detections]:
    """`merge_patches` for detections that are already in pixels of the original images, without its limit per image.

    ``advance`` is called with the number of boxes just done.
    """
    for one in inputs:
        for name, found in one.items():
            if not np.isfinite(found.scores).all():
                raise DotaError(f"class {name}: a score is not finite; did the model diverge?")
    shares = options.shares(len(inputs))
    classes = list(dict.fromkeys(name for one in inputs for name in one))

    def gathered(pick: Sequence[int], name: str, factors: Sequence[float]) -> Detections:
        parts = [_above(inputs[k][name], options.score_thr, factors[k]) for k in pick if name in inputs[k]]
        return _canonical(concatenate(parts))

    def suppressed(
        found: Mapping[str, Detections], agnostic: bool, advance: Callable[[int], object] = advance
    ) -> dict[str, Detections]:
        return suppress(
            found, options.iou_thr, options.nms, agnostic=agnostic, nproc=nproc, scheduler=scheduler, advance=advance
        )

    if options.fuse == "nms":
        return suppressed({name: gathered(range(len(inputs)), name, shares) for name in classes}, options.nms_agnostic)
    from fdam_rotate.dota.merging.fusion import fuse_boxes

    plain = [1.0] * len(inputs)
    single = [suppressed({name: gathered([k], name, plain) for name in inputs[k]}, False) for k in range(len(inputs))]
    empty = Detections.empty()
    fused = {
        name: fuse_boxes([one.get(name, empty) for one in single], weights=shares, iou_thr=options.fuse_iou_thr)
        for name in classes
    }
    fused = {name: _canonical(one) for name, one in fused.items()}
    return suppressed(fused, True, lambda boxes: None) if options.nms_agnostic else fused


def limit_per_image(detections: Mapping[str, Detections], most: int) -> dict[str, Detections]:
    """Keep the ``most`` best detections of each image over all classes; ties by order of class, then of detection."""
    if most < 1:
        raise ValueError(f"at most {most} detections per image: expected at least 1")
    _, image = unify_ids(list(detections.values()))
    keep = best_of_image(
        image,
        np.concatenate([*(one.scores for one in detections.values()), np.zeros(0)]),
        most,
    )
    ends = np.cumsum([len(one) for one in detections.values()])
    return {
        name: one.take(keep[end - len(one) : end])
        for (name, one), end in zip(detections.items(), ends.tolist(), strict=True)
    }


def best_of_image(image: NDArray[np.intp], scores: NDArray[np.float64], most: int) -> NDArray[np.bool_]:
    """Which of (N,) detections are among the ``most`` best of their image, ties in the order given."""
    order = np.lexsort((-scores, image))
    sorted_image = image[order]
    first = np.flatnonzero(np.concatenate([[True], sorted_image[1:] != sorted_image[:-1]])) if len(image) else order
    position = np.arange(len(image)) - np.repeat(first, np.diff([*first.tolist(), len(image)]))
    keep = np.empty(len(image), np.bool_)
    keep[order] = position < most
    return keep


def _above(detections: Detections, score_thr: float, factor: float) -> Detections:
    if len(detections) and detections.scores.min() < score_thr:
        detections = detections.take(detections.scores >= score_thr)
    if factor == 1:
        return detections
    return Detections(detections.image_ids, detections.image, detections.scores * factor, detections.polys)


def _canonical(detections: Detections) -> Detections:
    """Image ids sorted; detections sorted by image, then by falling score, ties as they come."""
    ids = detections.image_ids
    by_name = sorted(range(len(ids)), key=ids.__getitem__)
    rank = np.empty(len(ids), np.intp)
    rank[by_name] = np.arange(len(ids))
    image = rank[detections.image]
    order = np.lexsort((-detections.scores, image))
    return Detections(tuple(ids[k] for k in by_name), image[order], detections.scores[order], detections.polys[order])
