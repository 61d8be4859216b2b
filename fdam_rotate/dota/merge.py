"""From detections on patches to detections on whole images.

Each box is moved to its place in the original image, ``(point of the patch + (x, y)) / scale``; then, for each image
and class, greedy non-maximum suppression removes what several patches saw (as DOTA_devkit: polygon IoU above 0.1).
Where a patch lies is told by the split's manifest, or by its name in MMRotate's or DOTA_devkit's convention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdam_rotate.dota.detections import Detections, concatenate
from fdam_rotate.dota.errors import DotaError, WorkerError
from fdam_rotate.dota.nms import greedy_nms
from fdam_rotate.dota.windows import parse_patch_name

__all__ = [
    "FUSIONS",
    "NMS_KINDS",
    "Locator",
    "Placer",
    "limit_per_image",
    "merge_patches",
    "merge_placed",
    "nms_polygons",
]

#: obb: by the IoU of the quadrangles; hbb: by that of their upright bounds; none: keep every box.
NMS_KINDS = ("obb", "hbb", "none")

#: How several inputs become one: suppression over all of them together, or weighted box fusion after each one's own.
FUSIONS = ("nms", "wbf")

#: Boxes handed to one call of the suppression, unless one image alone has more: its arrays then stay near the caches
#: (93,000 boxes took a quarter longer all at once, or by fives of thousands).
_TASK_BOXES = 32_000

#: Fewer boxes than this are merged faster by one process than a pool of processes starts.
_POOL_BOXES = 300_000


class Locator(Protocol):
    """What tells where a patch lies, such as `fdam_rotate.dota.prep.manifest.Manifest`."""

    def locate(self, patch_id: str) -> Any:
        """(image id, x, y, scale, ...) of the patch; raises DotaError if there is no such patch."""


Locate = Locator | Callable[[str], Any] | None


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
    _check_threshold(iou_thr)
    kept = np.flatnonzero(greedy_nms(boxes, values, iou_thr))
    return kept[np.argsort(-values[kept], kind="stable")]


def merge_patches(
    detections: Mapping[str, Detections] | Sequence[Mapping[str, Detections]],
    *,
    locate: Locate = None,
    iou_thr: float = 0.1,
    nms: str = "obb",
    score_thr: float = 0.0,
    max_per_image: int | None = None,
    nproc: int = 1,
    weights: Sequence[float] | None = None,
    fuse: str = "nms",
    fuse_iou_thr: float = 0.55,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Detections]:
    """Merge patch detections, of one input or several (scales, models), into detections of whole images.

    Args:
        detections: class -> detections whose ids are patch ids; or a sequence of such inputs.
        locate: a callable or manifest that maps a patch id to (image id, x, y, scale); None goes by the names.
        iou_thr: in [0, 1]; a kept box suppresses those of its image and class whose IoU with it is above this.
        nms: one of `NMS_KINDS`.
        score_thr: detections scored below this are left out at the start.
        max_per_image: at most so many detections of an image are kept, over all classes together, the best first.
        nproc: processes to use at most (spawned, never forked; a small job is done in this one). Same result.
        weights: one positive number for each input, by which its scores are multiplied after division by the largest.
        fuse: one of `FUSIONS`; see `fdam_rotate.dota.fusion` for ``'wbf'``.
        fuse_iou_thr: in [0, 1]; ``'wbf'`` joins boxes whose IoU is above this.
        progress: called with the number of boxes just done.

    Returns:
        Class -> detections sorted by image id, then by falling score, ties in the order of the inputs.

    Raises:
        DotaError: an id tells no place.
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
    merged = merge_placed(
        placed,
        iou_thr=iou_thr,
        nms=nms,
        score_thr=score_thr,
        nproc=nproc,
        weights=weights,
        fuse=fuse,
        fuse_iou_thr=fuse_iou_thr,
        progress=progress,
    )
    return merged if max_per_image is None else limit_per_image(merged, max_per_image)


def merge_placed(
    inputs: Sequence[Mapping[str, Detections]],
    *,
    iou_thr: float = 0.1,
    nms: str = "obb",
    score_thr: float = 0.0,
    nproc: int = 1,
    weights: Sequence[float] | None = None,
    fuse: str = "nms",
    fuse_iou_thr: float = 0.55,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Detections]:
    """`merge_patches` for detections that are already in pixels of the original images."""
    _check_threshold(iou_thr)
    _check_threshold(fuse_iou_thr, "fuse_iou_thr")
    if nms not in NMS_KINDS:
        raise ValueError(f"nms must be one of {', '.join(NMS_KINDS)}; got {nms!r}")
    if fuse not in FUSIONS:
        raise ValueError(f"fuse must be one of {', '.join(FUSIONS)}; got {fuse!r}")
    if nproc < 1:
        raise ValueError(f"nproc must be at least 1, got {nproc}")
    shares = _shares(weights, len(inputs))
    classes = list(dict.fromkeys(name for one in inputs for name in one))

    def gathered(pick: Sequence[int], name: str, factors: Sequence[float]) -> Detections:
        parts = [_above(inputs[k][name], score_thr, factors[k]) for k in pick if name in inputs[k]]
        return _canonical(concatenate(parts))

    if fuse == "nms":
        merged = {name: gathered(range(len(inputs)), name, shares) for name in classes}
        return _suppress(merged, iou_thr, nms, nproc, progress)
    from fdam_rotate.dota.fusion import fuse_boxes

    plain = [1.0] * len(inputs)
    single = [
        _suppress({name: gathered([k], name, plain) for name in inputs[k]}, iou_thr, nms, nproc, progress)
        for k in range(len(inputs))
    ]
    empty = Detections.empty()
    return {
        name: _canonical(fuse_boxes([one.get(name, empty) for one in single], weights=shares, iou_thr=fuse_iou_thr))
        for name in classes
    }


def limit_per_image(detections: Mapping[str, Detections], most: int) -> dict[str, Detections]:
    """Keep the ``most`` best detections of each image over all classes; ties by order of class, then of detection."""
    if most < 1:
        raise ValueError(f"at most {most} detections an image: expected at least 1")
    index: dict[str, int] = {}
    image = [
        np.array([index.setdefault(i, len(index)) for i in one.image_ids], np.intp)[one.image]
        for one in detections.values()
    ]
    keep = best_of_image(
        np.concatenate([*image, np.zeros(0, np.intp)]),
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


class Placer:
    """Moves detections from patches to images; remembers where each patch lies."""

    def __init__(self, locate: Locate = None) -> None:
        if locate is None:
            self._locate: Callable[[str], Any] = parse_patch_name
        else:
            self._locate = locate if callable(locate) else locate.locate
        self.places: dict[str, tuple[str, float, float, float] | None] = {}
        self._reasons: dict[str, str] = {}

    def place(self, detections: Detections) -> tuple[Detections, list[tuple[str, str]]]:
        """Detections in pixels of the images, in the order given; and (patch id, reason) of those without place."""
        images: dict[str, int] = {}
        index, offsets = [], []
        unplaced = []
        for patch_id in detections.image_ids:
            place = self.find(patch_id)
            if place is None:
                unplaced.append((patch_id, self._reasons[patch_id]))
                index.append(-1)
                offsets.append((0.0, 0.0, 1.0))
            else:
                index.append(images.setdefault(place[0], len(images)))
                offsets.append(place[1:])
        image = np.array(index, np.intp)[detections.image]
        shift = np.array(offsets, np.float64).reshape(-1, 3)
        polys = detections.polys + np.tile(shift[:, :2], 4)[detections.image]
        if (shift[:, 2] != 1).any():
            polys /= shift[detections.image, 2:]
        placed = Detections(tuple(images), image, detections.scores, polys)
        return (placed.take(image >= 0) if unplaced else placed), unplaced

    def find(self, patch_id: str) -> tuple[str, float, float, float] | None:
        """(image id, x, y, scale) of a patch, None if nothing tells its place."""
        if patch_id not in self.places:
            try:
                image_id, x, y, scale = self._locate(patch_id)[:4]
                self.places[patch_id] = (str(image_id), float(x), float(y), float(scale))
            except DotaError as error:
                self._reasons[patch_id] = str(error)
                self.places[patch_id] = None
        return self.places[patch_id]


def _check_threshold(value: float, name: str = "iou_thr") -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """The weights of ``count`` inputs over the largest of them."""
    if weights is None:
        return [1.0] * count
    if len(weights) != count or not all(np.isfinite(w) and w > 0 for w in weights):
        raise ValueError(f"expected {count} positive weights, one for each input; got {list(weights)}")
    return [float(w) / max(weights) for w in weights]


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


@dataclass(frozen=True)
class _Task:
    """Boxes for one call of the suppression: for each class, a run of whole images."""

    runs: tuple[tuple[str, int, int], ...]

    def boxes(self) -> int:
        return sum(end - begin for _, begin, end in self.runs)

    def arrays(
        self, detections: Mapping[str, Detections]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
        polys = [detections[name].polys[begin:end] for name, begin, end in self.runs]
        scores = [detections[name].scores[begin:end] for name, begin, end in self.runs]
        groups, used = [], 0
        for name, begin, end in self.runs:
            image = detections[name].image[begin:end]
            groups.append(image - image[0] + used)
            used += int(image[-1] - image[0]) + 1
        return np.concatenate(polys), np.concatenate(scores), np.concatenate(groups)

    def images(self, detections: Mapping[str, Detections]) -> list[str]:
        ids = {
            detections[name].image_ids[k] for name, begin, end in self.runs for k in detections[name].image[begin:end]
        }
        return sorted(ids)


def _tasks(detections: Mapping[str, Detections], most: int) -> list[_Task]:
    """Cut canonical detections into tasks of at most ``most`` boxes, or one image of one class."""
    tasks, runs, held = [], [], 0
    for name, one in detections.items():
        bounds = [*np.flatnonzero(np.diff(one.image, prepend=-1)).tolist(), len(one)]
        begin = 0
        for start, end in pairwise(bounds):
            if held and held + end - start > most:
                if start > begin:
                    runs.append((name, begin, start))
                tasks.append(_Task(tuple(runs)))
                runs, held, begin = [], 0, start
            held += end - start
        if len(one) > begin:
            runs.append((name, begin, len(one)))
    if runs:
        tasks.append(_Task(tuple(runs)))
    return tasks


def _suppress(
    detections: Mapping[str, Detections],
    iou_thr: float,
    kind: str,
    nproc: int,
    progress: Callable[[int], object] | None,
) -> dict[str, Detections]:
    """Suppress within each image of each class; ``detections`` are canonical, and so is the result."""
    if kind == "none":
        return dict(detections)
    total = sum(map(len, detections.values()))
    pooled = nproc > 1 and total >= _POOL_BOXES
    tasks = _tasks(detections, min(_TASK_BOXES, total // (4 * nproc) + 1) if pooled else _TASK_BOXES)
    keep = {name: np.zeros(len(one), np.bool_) for name, one in detections.items()}
    done = _in_pool(tasks, detections, iou_thr, kind, nproc) if pooled else _here(tasks, detections, iou_thr, kind)
    for task, kept in done:
        for name, begin, end in task.runs:
            keep[name][begin:end], kept = kept[: end - begin], kept[end - begin :]
        if progress is not None:
            progress(task.boxes())
    return {name: one.take(keep[name]) for name, one in detections.items()}


def _run(
    polys: NDArray[np.float64], scores: NDArray[np.float64], groups: NDArray[np.intp], iou_thr: float, kind: str
) -> NDArray[np.bool_]:
    return greedy_nms(polys, scores, iou_thr, groups=groups, horizontal=kind == "hbb")


def _here(
    tasks: Iterable[_Task], detections: Mapping[str, Detections], iou_thr: float, kind: str
) -> Iterator[tuple[_Task, NDArray[np.bool_]]]:
    for task in tasks:
        yield task, _run(*task.arrays(detections), iou_thr, kind)


def _in_pool(
    tasks: Sequence[_Task], detections: Mapping[str, Detections], iou_thr: float, kind: str, nproc: int
) -> Iterator[tuple[_Task, NDArray[np.bool_]]]:
    """Run tasks in spawned processes, no more of them under way than there are processes."""
    under_way: dict[Future[NDArray[np.bool_]], _Task] = {}
    waiting = iter(tasks)
    task: _Task | None = None
    with ProcessPoolExecutor(min(nproc, len(tasks)), mp_context=get_context("spawn")) as pool:
        try:
            while True:
                while len(under_way) < nproc and (task := next(waiting, None)) is not None:
                    under_way[pool.submit(_run, *task.arrays(detections), iou_thr, kind)] = task
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    kept = future.result()
                    yield under_way.pop(future), kept
        # a worker that dies while the next one starts shows as a closed handle
        except (BrokenProcessPool, OSError) as error:
            held = [*under_way.values(), *([task] if task is not None and task not in under_way.values() else [])]
            images = sorted({image for one in held for image in one.images(detections)})
            named = ", ".join(images[:8]) + (f" and {len(images) - 8} more" if len(images) > 8 else "")
            raise WorkerError(
                f"a worker process was killed while merging {named} (out of memory?); fewer processes need less"
            ) from error
