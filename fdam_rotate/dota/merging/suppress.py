"""Suppression of many images and classes, in portions that fit the caches, in this process or in spawned ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import WorkerError
from fdam_rotate.dota.merging.nms import greedy_nms

__all__ = ["suppress"]

#: Boxes handed to one call of the suppression, unless one image alone has more: its arrays then stay near the caches
#: (93,000 boxes took a quarter longer all at once, or by fives of thousands).
_TASK_BOXES = 32_000

#: Fewer boxes than this are merged faster by one process than a pool of processes starts.
_POOL_BOXES = 300_000


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


def suppress(
    detections: Mapping[str, Detections],
    iou_thr: float,
    kind: str,
    nproc: int,
    progress: Callable[[int], object] | None,
) -> dict[str, Detections]:
    """Suppress within each image of each class.

    Args:
        detections: class -> detections sorted by image, then by falling score.
        iou_thr: in [0, 1]; a kept box suppresses those of lower score whose IoU with it is above this.
        kind: one of ``NMS_KINDS`` of `fdam_rotate.dota.merging.merge`.
        nproc: processes to use at most.
        progress: called with the number of boxes just done.

    Returns:
        Class -> those that are kept, in their order.

    Raises:
        WorkerError: a worker process was killed.
    """
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
