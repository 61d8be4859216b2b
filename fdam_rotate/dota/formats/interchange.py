"""A data set between formats: parts of images with their objects, what a reader is given, and what a writer is.

What a format cannot hold is counted in ``Losses``, never dropped in silence; what is wrong in the input is a
``Problem``, and the rest goes on. Pixels are never touched: images are linked or copied.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError, ImageReadError, LabelFormatError
from fdam_rotate.dota.files import check_file_name, move_file
from fdam_rotate.dota.labels import MAX_COORDINATE, Labels, unknown_class
from fdam_rotate.dota.layout import image_problem
from fdam_rotate.dota.names import class_name, id_problem
from fdam_rotate.dota.outputs import check_folder, claim_folder
from fdam_rotate.dota.problems import Problem

__all__ = [
    "PLACEMENTS",
    "DataPart",
    "Item",
    "Losses",
    "Objects",
    "Reading",
    "Writing",
    "drop_difficult",
    "inner_path",
    "is_lone",
    "make_item",
    "only_classes",
    "place_image",
    "staged",
]  # fmt: skip

#: How the images get into the new folder.
PLACEMENTS = ("symlink", "copy", "none")


@dataclass(frozen=True)
class Item:
    """One image with its objects.

    Attributes:
        image_id: the image file's name without extension.
        path: the image; None where only its size is known.
        width: in pixels.
        height: in pixels.
        labels: the objects.
        scores: (N,) in [0, 1] where the objects are detections; None where they were drawn.
    """

    image_id: str
    path: Path | None
    width: int
    height: int
    labels: Labels
    scores: NDArray[np.float64] | None = None

    @property
    def file_name(self) -> str:
        """The image file's name in a converted data set."""
        return self.image_id + (self.path.suffix if self.path else ".png")


@dataclass(frozen=True)
class DataPart:
    """One part (train, val, ...) of a data set, items sorted by id.

    Raises:
        DotaError: the name, which writers give to files and folders, would leave the output folder.
    """

    name: str
    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        check_file_name(self.name)


def is_lone(parts: Sequence[DataPart]) -> bool:
    """Whether the data set has one part without a name of its own, which needs no folder of its own either."""
    return len(parts) == 1 and parts[0].name == "data"


@dataclass
class Losses:
    """What a conversion could not keep, and what it took for granted: counts by a phrase that reads on from the number.

    Attributes:
        counts: of what was not kept.
        notes: of what was kept, but deserves a word, such as images without label file.
    """

    counts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, count: int = 1) -> None:
        """Count ``count`` more of ``what``; nothing is noted of a count of 0."""
        if count:
            self.counts[what] += count

    def note(self, what: str, count: int = 1) -> None:
        """The same for what was kept."""
        if count:
            self.notes[what] += count


@dataclass
class Reading:
    """What the reader of a format is given, and where it reports.

    Attributes:
        classes: class names in the order of their numbers, where the format does not hold them (YOLO-OBB).
        img_dir: folder of the images, if they are not where the format has them.
        need_images: an image that is not found is a problem; else the size that the labels give will do.
        progress: draw progress bars.
        losses: collects what the reader leaves out or reads in another form.
        problems: collects what cannot be read; it is left out.
    """

    classes: Sequence[str] | None = None
    img_dir: Path | None = None
    need_images: bool = True
    progress: bool = False
    losses: Losses = field(default_factory=Losses)
    problems: list[Problem] = field(default_factory=list)
    _spaced: set[str] = field(default_factory=set)

    def class_name(self, text: str) -> str:
        """``text`` as a class name: DOTA's text has no place for white space within one.

        Raises:
            LabelFormatError: it is empty, or cannot be a class all the same (`fdam_rotate.dota.names`).
        """
        name = "-".join(text.split())
        if not name:
            raise LabelFormatError("an object without a class name")
        try:
            name = class_name(name)
        except DotaError as error:
            raise LabelFormatError(str(error)) from None
        if len(text.split()) > 1 and text not in self._spaced:
            self._spaced.add(text)
            self.losses.add("class names with spaces (written with - instead)")
        return name


@dataclass
class Writing:
    """What the writer of a format is given, and where it reports.

    Attributes:
        classes: class names; objects of others were taken out before (`only_classes`).
        placement: how images get into the new folder, one of ``PLACEMENTS``.
        outside: YOLO-OBB: what becomes of objects with a corner outside the image.
        progress: draw progress bars.
        losses: collects what the format cannot hold.
    """

    classes: Sequence[str]
    placement: str = "none"
    outside: str = "clip"
    progress: bool = False
    losses: Losses = field(default_factory=Losses)


@dataclass
class Objects:
    """The objects of one image while they are read."""

    polys: list[NDArray[np.float64]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    difficult: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def add(self, poly: NDArray[np.float64], name: str, difficult: int = 0, line: int = 0) -> None:
        """Add one of corners (8,); ``line`` is 0 where there is none.

        Raises:
            ValueError: a coordinate is not finite or above ``MAX_COORDINATE``, or the difficulty is too large.
        """
        if not (np.abs(poly) <= MAX_COORDINATE).all():  # NaN fails too
            raise ValueError(f"a coordinate is not finite, or above {MAX_COORDINATE:.0f}")
        if difficult >= 2**63:
            raise ValueError(f"the difficulty {difficult} is too large")
        self.polys.append(poly)
        self.names.append(name)
        self.difficult.append(difficult)
        self.lines.append(line)

    def labels(self, header: Sequence[str] = ()) -> Labels:
        """All that were added."""
        return Labels(
            np.array(self.polys, np.float64).reshape(-1, 8),
            tuple(self.names),
            np.array(self.difficult, np.int64),
            np.array(self.lines, np.int64),
            tuple(header),
        )


def inner_path(name: object) -> PurePosixPath | None:
    """A file name as labels give it, if it is a path within some folder, else None; Windows' separators are taken."""
    text = str(name or "").replace("\\", "/")
    path = PurePosixPath(text)
    drive = re.match(r"[A-Za-z]:/", text) is not None
    outside = path.is_absolute() or ".." in path.parts or drive or "\0" in text or not path.stem
    return None if outside else path


def make_item(
    image_id: str,
    image: Path | None,
    stated: tuple[int, int] | None,
    labels: Labels,
    reading: Reading,
    missing: str,
) -> Item | None:
    """An item with the size of its image, or None with the problem reported.

    Args:
        image_id: the image file's name without extension.
        image: the image; None where it was not found.
        stated: width and height as the labels give them.
        labels: its objects.
        reading: where problems go, and whether an image is needed.
        missing: text of the problem that the image is not there.
    """
    problem = id_problem(image_id)
    if problem is not None:
        shown = repr(str(image or image_id))
        reading.problems.append(Problem("id", shown, 0, f"its image id {problem}; it is left out"))
        return None
    if image is None:
        if reading.need_images or stated is None or min(stated) < 1:
            reading.problems.append(Problem("no-image", image_id, 0, missing))
            return None
        return Item(image_id, None, *stated, labels)
    from fdam_rotate.dota.rasters.images import image_size  # OpenCV costs a tenth of a second

    try:
        size = image_size(image)
    except (ImageReadError, OSError) as error:
        reading.problems.append(image_problem(image, error))
        return None
    if stated is not None and stated != size:
        text = f"{size[0]} x {size[1]} pixels, its labels say {stated[0]} x {stated[1]}"
        reading.problems.append(Problem("size", str(image), 0, text))
    return Item(image_id, image, *size, labels)


def only_classes(parts: Sequence[DataPart], classes: Sequence[str], problems: list[Problem]) -> list[DataPart]:
    """The parts without the objects of other classes, each of which is a problem."""
    kept_parts = []
    for part in parts:
        items = []
        for item in part.items:
            known = np.array([name in classes for name in item.labels.names], np.bool_)
            for k in np.flatnonzero(~known).tolist():
                reason = unknown_class(item.labels.names[k], classes)
                problems.append(Problem("class", f"{item.image_id}.txt", int(item.labels.lines[k]), reason))
            items.append(item if known.all() else replace(item, labels=_take(item.labels, np.flatnonzero(known))))
        kept_parts.append(DataPart(part.name, tuple(items)))
    return kept_parts


def drop_difficult(parts: Sequence[DataPart], losses: Losses) -> list[DataPart]:
    """The parts without their difficult objects."""
    kept_parts = []
    for part in parts:
        items = []
        for item in part.items:
            easy = np.flatnonzero(item.labels.difficult == 0)
            losses.add("difficult objects left out", len(item.labels) - len(easy))
            items.append(replace(item, labels=_take(item.labels, easy)))
        kept_parts.append(DataPart(part.name, tuple(items)))
    return kept_parts


def _take(labels: Labels, rows: NDArray[np.intp]) -> Labels:
    names = tuple(labels.names[i] for i in rows.tolist())
    return Labels(labels.polys[rows], names, labels.difficult[rows], labels.lines[rows], labels.header)


def place_image(item: Item, folder: Path, placement: str) -> None:
    """Link or copy the image of ``item`` into ``folder``.

    Raises:
        DotaError: links cannot be made here, or an unknown placement.
    """
    if placement not in PLACEMENTS:
        raise DotaError(f"images are placed by one of {', '.join(PLACEMENTS)}, got {placement!r}")
    if placement == "none" or item.path is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / check_file_name(item.file_name)
    if placement == "copy":
        shutil.copyfile(item.path, target)
        return
    try:
        target.symlink_to(item.path.resolve())
    except OSError as error:
        raise DotaError(f"cannot link {target}: {error}; use --images copy") from None


@contextmanager
def staged(out_dir: Path, *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> Iterator[Path]:
    """A new folder beside ``out_dir``, whose files move there when the block ends; nothing is left if it fails.

    Raises:
        OutputExistsError: as `fdam_rotate.dota.outputs.claim_folder`; of what is there, only an earlier conversion is
            replaced.
    """
    check_folder(out_dir, overwrite=overwrite, inputs=inputs)
    place = out_dir.resolve()  # of '.', and of a link to another disc, what is beside the name is not beside the folder
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.parent / f".{place.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        paths = [path.relative_to(partial) for path in sorted(partial.rglob("*"))]
        folders = [path for path in paths if (partial / path).is_dir()]
        files = [path for path in paths if path not in set(folders)]
        claim_folder(out_dir, [path.as_posix() for path in files], record="convert-labels", overwrite=overwrite)
        for path in folders:
            (out_dir / path).mkdir(parents=True, exist_ok=True)
        for path in files:
            move_file(partial / path, out_dir / path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
