"""Write generated scenes as a data set in DOTA's layout, with any number of processes and the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.labels import write_labels
from fdam_rotate.dota.outputs import claim_folder
from fdam_rotate.dota.progress import progress_over
from fdam_rotate.dota.synthetic.scene import CLASSES, GSD_RANGE, generate_scene
from fdam_rotate.dota.workers import WorkerDied, run_tasks

__all__ = ["SizeRange", "SyntheticSummary", "parse_size", "write_synthetic"]

#: Width and height, each as (least, most) in pixels.
SizeRange = tuple[tuple[int, int], tuple[int, int]]

#: First letter of the image ids, and the part of the seed, of each split: the ids of two splits never meet.
_SPLITS = {"train": ("T", 0), "val": ("V", 1), "test": ("E", 2)}


@dataclass
class SyntheticSummary:
    """What was written."""

    images: int = 0
    difficult: int = 0
    objects: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Task:
    folder: Path
    image_id: str
    seed: tuple[int, ...]
    size: SizeRange
    classes: tuple[str, ...]
    gsd_range: tuple[float, float]


def parse_size(text: str) -> SizeRange:
    """``800`` (square), ``1024x768`` (width x height), ``600-1000`` or ``600-1000x500-800`` (drawn from the range).

    Raises:
        ValueError: not of these forms, below 64 or above 20,000 pixels.
    """
    ranges = []
    for part in text.lower().split("x"):
        low, dash, high = part.partition("-")
        if not (low.isdigit() and (high.isdigit() if dash else True)):
            raise ValueError(f"size must be like 800, 1024x768 or 600-1000, got {text!r}")
        ranges.append((int(low), int(high or low)))
    if len(ranges) > 2 or any(not 64 <= low <= high <= 20000 for low, high in ranges):
        raise ValueError(f"size must be one or two values or ranges within 64 to 20000 pixels, got {text!r}")
    return ranges[0], ranges[-1]


def write_synthetic(
    out_dir: str | Path,
    counts: Mapping[str, int],
    *,
    size: SizeRange = ((800, 800), (800, 800)),
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    gsd_range: tuple[float, float] = GSD_RANGE,
    nproc: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> SyntheticSummary:
    """Write ``out_dir/<split>/images/*.png`` and ``labelTxt/*.txt``.

    Scene k of a split depends on the seed, the split and k alone: asking for more scenes keeps the earlier ones.

    Args:
        out_dir: a new or empty folder.
        counts: split (train, val or test) -> number of scenes.
        size: ranges from which each scene's width and height are drawn.
        seed: any integer of at least 0.
        classes: the classes to draw, of DOTA-v1.0's fifteen.
        gsd_range: metres per pixel, from and to; smaller makes objects larger.
        nproc: processes; any number gives the same bytes.
        overwrite: replace the scenes of an earlier run in the folder; other files stay.
        progress: show a progress bar on stderr.

    Raises:
        OutputExistsError: the folder holds something and ``overwrite`` is False.
        UnknownClassError: a class that cannot be drawn.
        DotaError: a split of another name, or nothing asked for.
    """
    unknown = sorted(set(counts) - set(_SPLITS))
    if unknown or sum(counts.values()) < 1 or min(counts.values()) < 0:
        raise DotaError(f"ask for at least one scene of {', '.join(_SPLITS)}; got {dict(counts)}")
    generate_scene(
        0, 64, 64, classes=classes, gsd_range=gsd_range
    )  # bad settings end here, before the output is touched
    root = Path(out_dir)
    tasks = []
    for split in (name for name in _SPLITS if counts.get(name, 0)):
        letter, code = _SPLITS[split]
        tasks += [
            _Task(root / split, f"{letter}{k:04d}", (seed, code, k), size, tuple(classes), gsd_range)
            for k in range(counts[split])
        ]
    files = [Path(task.folder.name, *file) for task in tasks for file in _files_of(task.image_id)]
    claim_folder(root, [file.as_posix() for file in files], record="synthetic", overwrite=overwrite)
    for parent in sorted({file.parent for file in files}):
        (root / parent).mkdir(parents=True, exist_ok=True)
    summary = SyntheticSummary()
    results = _run(tasks, nproc)
    for objects, difficult in progress_over(results, "draw", "scene", shown=progress, total=len(tasks)):
        summary.images += 1
        summary.difficult += difficult
        summary.objects.update(objects)
    return summary


def _files_of(image_id: str) -> tuple[tuple[str, str], ...]:
    return ("images", f"{image_id}.png"), ("labelTxt", f"{image_id}.txt")


def _run(tasks: list[_Task], nproc: int) -> Iterator[tuple[Counter[str], int]]:
    for number, result in run_tasks(_write_scene, tasks, nproc=nproc):
        if isinstance(result, WorkerDied):
            raise DotaError(f"scene {tasks[number].image_id} of {tasks[number].folder}: {result}")
        yield result


def _write_scene(task: _Task) -> tuple[Counter[str], int]:
    rng = np.random.default_rng((*task.seed, 7))
    (w0, w1), (h0, h1) = task.size
    width = int(rng.integers(w0, w1 + 1))
    height = width if task.size[0] == task.size[1] and w0 == w1 else int(rng.integers(h0, h1 + 1))
    scene = generate_scene(task.seed, width, height, classes=task.classes, gsd_range=task.gsd_range)
    with atomic_path(task.folder / "images" / f"{task.image_id}.png") as temporary:
        if not cv2.imwrite(str(temporary), scene.image):
            raise OSError(f"could not write {temporary}: is the disk full?")
    write_labels(task.folder / "labelTxt" / f"{task.image_id}.txt", scene.labels)
    return Counter(scene.labels.names), int(scene.labels.difficult.sum())
