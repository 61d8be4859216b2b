"""Suppression of many images and classes in portions that fit the caches, shared out among workers where it pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections, concatenate
from fdam_rotate.dota.errors import WorkerError
from fdam_rotate.dota.merging.nms import greedy_nms
from fdam_rotate.dota.workers import WorkerDied, run_tasks

__all__ = ["suppress"]

#: Boxes handed to one call of the suppression, unless one image alone has more: its arrays then stay near the caches
#: (93,000 boxes took a quarter longer all at once, or by fives of thousands).
_TASK_BOXES = 32_000

#: Fewer boxes than this are merged faster by one process than a pool of processes starts.
_POOL_BOXES = 300_000


#: polys, scores, groups, threshold and kind of one call.
_Call = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], float, str]


@dataclass(frozen=True)
class _Task:
    """Boxes for one call of the suppression: for each class, a run of whole images."""

    runs: tuple[tuple[str, int, int], ...]

    def boxes(self) -> int:
        return sum(end - begin for _, begin, end in self.runs)

    def call(self, detections: Mapping[str, Detections], iou_thr: float, kind: str) -> _Call:
        polys = [detections[name].polys[begin:end] for name, begin, end in self.runs]
        scores = [detections[name].scores[begin:end] for name, begin, end in self.runs]
        groups, used = [], 0
        for name, begin, end in self.runs:
            image = detections[name].image[begin:end]
            groups.append(image - image[0] + used)
            used += int(image[-1] - image[0]) + 1
        return np.concatenate(polys), np.concatenate(scores), np.concatenate(groups), iou_thr, kind

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


class _Calls(Sequence[_Call]):
    """The arguments of each task, gathered when they are asked for: all of them at once would double the memory."""

    def __init__(self, tasks: Sequence[_Task], detections: Mapping[str, Detections], iou_thr: float, kind: str) -> None:
        self._tasks = tasks
        self._fixed = (detections, iou_thr, kind)

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, number: int) -> _Call: ...
    @overload
    def __getitem__(self, number: slice) -> list[_Call]: ...
    def __getitem__(self, number: int | slice) -> _Call | list[_Call]:
        if isinstance(number, slice):
            return [task.call(*self._fixed) for task in self._tasks[number]]
        return self._tasks[number].call(*self._fixed)


def suppress(
    detections: Mapping[str, Detections],
    iou_thr: float,
    kind: str,
    *,
    agnostic: bool = False,
    nproc: int = 1,
    scheduler: str | None = None,
    advance: Callable[[int], object] = lambda boxes: None,
) -> dict[str, Detections]:
    """Suppress within each image of each class, or within each image.

    Args:
        detections: class -> detections sorted by image, then by falling score.
        iou_thr: in [0, 1]; a kept box suppresses those of lower score whose IoU with it is above this.
        kind: one of ``NMS_KINDS`` of `fdam_rotate.dota.merging.options`.
        agnostic: boxes of all classes suppress each other; of equal scores, the class that comes first wins.
        nproc: processes to use at most.
        scheduler: address of a Dask scheduler whose workers take the place of the processes.
        advance: called with the number of boxes just done.

    Returns:
        Class -> those that are kept, in their order.

    Raises:
        WorkerError: a worker process was killed, and killed again when it was tried alone.
    """
    total = sum(map(len, detections.values()))
    if kind == "none":
        advance(total)
        return dict(detections)
    if agnostic and len(detections) > 1:
        together = concatenate(list(detections.values()))
        order = np.lexsort((-together.scores, together.image))
        mixed = {"any class": together.take(order)}
        keep = np.zeros(total, np.bool_)
        keep[order] = _kept(mixed, iou_thr, kind, nproc, scheduler, advance)["any class"]
        ends = np.cumsum([len(one) for one in detections.values()]).tolist()
        rows = zip(detections.items(), ends, strict=True)
        return {name: one.take(keep[end - len(one) : end]) for (name, one), end in rows}
    kept = _kept(detections, iou_thr, kind, nproc, scheduler, advance)
    return {name: one.take(kept[name]) for name, one in detections.items()}


def _kept(
    detections: Mapping[str, Detections],
    iou_thr: float,
    kind: str,
    nproc: int,
    scheduler: str | None,
    advance: Callable[[int], object],
) -> dict[str, NDArray[np.bool_]]:
    """Which detections of each class survive; see `suppress`."""
    total = sum(map(len, detections.values()))
    if scheduler is None and total < _POOL_BOXES:
        nproc = 1
    shared = nproc > 1 or scheduler is not None
    tasks = _tasks(detections, min(_TASK_BOXES, total // (4 * nproc) + 1) if shared else _TASK_BOXES)
    keep = {name: np.zeros(len(one), np.bool_) for name, one in detections.items()}
    calls = _Calls(tasks, detections, iou_thr, kind)
    for number, kept in run_tasks(_suppress_one, calls, nproc=nproc, scheduler=scheduler):
        task = tasks[number]
        if isinstance(kept, WorkerDied):
            images = task.images(detections)
            named = ", ".join(images[:8]) + (f" and {len(images) - 8} more" if len(images) > 8 else "")
            raise WorkerError(
                f"a worker process was killed while merging {named} (out of memory?); fewer processes need less"
            )
        for name, begin, end in task.runs:
            keep[name][begin:end], kept = kept[: end - begin], kept[end - begin :]
        advance(task.boxes())
    return keep


def _suppress_one(call: _Call) -> NDArray[np.bool_]:
    polys, scores, groups, iou_thr, kind = call
    return greedy_nms(polys, scores, iou_thr, groups=groups, horizontal=kind == "hbb")
