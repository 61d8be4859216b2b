"""Windows of images, read and detected: all of them in this process, or some of them by a worker in another.

Windows are dealt with in batches that depend on the image and the settings only, never on who does them, and a batch
is never cut; so one process and many give the same numbers. A worker keeps its model from one part to the next, and
the image that it read last; the next batches are read, from the next images too, while the model works.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.predicting.ahead import ahead
from fdam_rotate.dota.predicting.journal import Rows, rows_by_class
from fdam_rotate.dota.predicting.model import Found, WindowModel
from fdam_rotate.dota.rasters.images import open_pixels
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.rasters.padding import pad_patch
from fdam_rotate.dota.rasters.source import PixelSource
from fdam_rotate.dota.rasters.tone import Tone
from fdam_rotate.dota.splitting.options import Level, SplitOptions, plan_levels
from fdam_rotate.dota.workers import worker_index, worker_threads

__all__ = ["Answer", "Part", "Piece", "choose_gpu", "cut", "detect", "detect_part", "divide"]


@dataclass(frozen=True)
class Piece:
    """Some windows of one image.

    Attributes:
        image: its number in the run.
        image_id: as in the names of the windows.
        path: absolute, so that workers elsewhere find it.
        raster: how its values become pixels.
        batches: numbers of the windows, batch by batch, in the order in which the file is best read.
    """

    image: int
    image_id: str
    path: Path
    raster: RasterOptions
    batches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Part:
    """What one worker is asked for at a time.

    Attributes:
        model: pickled, not prepared.
        threads: to compute with; None: as many as it likes, or as a Dask worker was given.
        options: of the windows.
        pieces: of one image or of several; none only asks for the model to be loaded.
        alone: it has one window, and the model was loaded in the process that is to do it.
    """

    model: bytes
    threads: int | None
    options: SplitOptions
    pieces: tuple[Piece, ...]
    alone: bool = False


@dataclass(frozen=True)
class Answer:
    """What became of a batch.

    Attributes:
        image: number of the image in the run.
        windows: name -> detections, for all windows of the batch.
        empty: names of those without data (nodata, mask, alpha), which the model has not seen.
        tone: of those read.
        failure: why the image cannot be read.
    """

    image: int
    windows: dict[str, Rows] = field(default_factory=dict)
    empty: frozenset[str] = frozenset()
    tone: Tone = field(default_factory=Tone)
    failure: str | None = None


@dataclass(frozen=True)
class _Batch:
    """An answer but for the detections: names and pixels of the windows that hold data."""

    answer: Answer
    names: Sequence[str] = ()
    patches: Sequence[NDArray[np.uint8]] = ()


class Reader:
    """A thread that reads, and the image that it holds open; files are opened, read and closed by that thread only."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._held = ExitStack()
        self._key: Any = None
        self._opened: tuple[PixelSource, Level, list[list[int]]] | None = None

    def close(self) -> None:
        """Close the image, and end the thread."""
        self.thread.submit(self._held.close)
        self.thread.shutdown()

    def batches(self, pieces: Iterable[Piece], options: SplitOptions) -> Generator[_Batch, None, None]:
        """Batch after batch, filled up to the windows' size; to be taken in the reader's thread."""
        for piece in pieces:
            if not piece.batches:
                yield _Batch(Answer(piece.image))
                continue
            try:
                yield from self._batches(piece, options)
            except (ImageReadError, OSError) as error:
                yield _Batch(Answer(piece.image, failure=str(error)))

    def _batches(self, piece: Piece, options: SplitOptions) -> Iterator[_Batch]:
        image, level, windows = self._open(piece, options)
        sizes = level.patch_sizes(options.padding).tolist()
        batch_of = {number: k for k, batch in enumerate(piece.batches) for number in batch}
        held: list[tuple[int, NDArray[np.uint8]]] = []
        at = 0

        def batch() -> _Batch:
            names = [level.names[number] for number, _ in held]
            windows: dict[str, Rows] = {level.names[number]: {} for number in piece.batches[at]}
            tone, image.tone = image.tone, Tone()
            return _Batch(
                Answer(piece.image, windows, frozenset(windows) - set(names), tone), names, [p for _, p in held]
            )

        for number, crop in image.crops(windows, wanted=list(batch_of), skippable=batch_of):
            while at < batch_of[number]:
                yield batch()
                held, at = [], at + 1
            held.append((number, np.ascontiguousarray(pad_patch(crop, sizes[number], options.padding_value))))
        while at < len(piece.batches):
            yield batch()
            held, at = [], at + 1

    def _open(self, piece: Piece, options: SplitOptions) -> tuple[PixelSource, Level, list[list[int]]]:
        state = piece.path.stat()
        key = piece.path, piece.image_id, piece.raster, options, state.st_mtime_ns, state.st_size
        if self._opened is None or key != self._key:
            self._opened, self._key = None, key
            self._held.close()
            image = self._held.enter_context(open_pixels(piece.path, piece.raster))
            (level,) = plan_levels(options, piece.image_id, image.width, image.height)
            self._opened = image, level, level.windows.tolist()
        return self._opened


def detect(
    find: Callable[[Sequence[NDArray[np.uint8]]], list[Found]],
    classes: Sequence[str],
    pieces: Iterable[Piece],
    options: SplitOptions,
    reader: Reader,
) -> Generator[Answer, None, None]:
    """An answer for each batch of ``pieces``; one without windows for a piece that has none.

    Args:
        find: windows to detections, a batch at a time.
        classes: names of the labels.
        pieces: taken by the reader's thread.
        options: of the windows.
        reader: reads the next batches while ``find`` works on these.
    """
    with closing(reader.batches(pieces, options)) as made, ahead(made, thread=reader.thread) as batches:
        for batch in batches:
            if batch.patches:
                for name, found in zip(batch.names, find(batch.patches), strict=True):
                    batch.answer.windows[name] = rows_by_class(found, classes)
            yield batch.answer


class _Worker:
    """What a process keeps from one part to the next: its model, and a reader for each of its threads."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._computing = threading.Lock()
        self._key = b""
        self._model: WindowModel | None = None
        self._of_thread = threading.local()
        # a Dask worker of many threads computes in one of them, and reads for the next part in another
        self.places = threading.BoundedSemaphore(2)

    def reader(self) -> Reader:
        if not hasattr(self._of_thread, "reader"):
            self._of_thread.reader = Reader()
        reader: Reader = self._of_thread.reader
        return reader

    def model(self, part: Part) -> WindowModel:
        with self._loading:
            key = sha256(part.model).digest()
            if self._model is None or key != self._key:
                self._model = None
                choose_gpu()
                cv2.setNumThreads(1)  # the workers share the cores already
                model: WindowModel = pickle.loads(part.model)
                model.prepare(worker_threads() or part.threads)
                self._model, self._key = model, key
            return self._model

    def find(self, model: WindowModel, windows: Sequence[NDArray[np.uint8]]) -> list[Found]:
        with self._computing:
            return model.detect(windows)


_worker = _Worker()


def detect_part(part: Part) -> list[Answer]:
    """The answers of a part, in whichever process this is."""
    with _worker.places:
        model = _worker.model(part)
        found = detect(
            lambda some: _worker.find(model, some), model.classes, part.pieces, part.options, _worker.reader()
        )
        with closing(found):
            return list(found)


def cut(piece: Piece, most: int) -> Iterator[Piece]:
    """A piece in pieces of at most ``most`` windows, or one batch."""
    batches: list[tuple[int, ...]] = []
    for batch in piece.batches:
        if batches and sum(map(len, batches)) + len(batch) > most:
            yield replace(piece, batches=tuple(batches))
            batches = []
        batches.append(batch)
    if batches:
        yield replace(piece, batches=tuple(batches))


def divide(part: Part) -> list[Part]:
    """To find what kills the worker of a part: one that only loads the model, then one for each window."""
    if part.alone or not part.pieces:
        return []
    single = [
        replace(part, pieces=(replace(piece, batches=((number,),)),), alone=True)
        for piece in part.pieces
        for batch in piece.batches
        for number in batch
    ]
    return [replace(part, pieces=()), *single]


def choose_gpu() -> None:
    """Let this worker see one GPU, its own, where there are several; before anything of CUDA begins."""
    index = worker_index()
    if index is None:
        return
    present = sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*"))
    own = _gpu_of(index, os.environ.get("CUDA_VISIBLE_DEVICES"), present)
    if own is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = own


def _gpu_of(index: int, visible: str | None, present: int) -> str | None:
    """The GPU of a worker among those that are visible (CUDA_VISIBLE_DEVICES), or present; None: nothing to choose."""
    devices = [str(k) for k in range(present)] if visible is None else [k.strip() for k in visible.split(",")]
    return devices[index % len(devices)] if len(devices) > 1 else None
