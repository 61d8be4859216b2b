"""A data set between formats: parts of images with their objects, read from and written to DOTA's layout.

What a format cannot hold is counted in ``Losses``, never dropped in silence; what is wrong in the input is a
``Problem``, and the rest goes on. Pixels are never touched: images are linked or copied.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fdam_rotate.dota.errors import DotaError, ImageReadError, OutputExistsError
from fdam_rotate.dota.files import check_id
from fdam_rotate.dota.labels import Labels, read_labels, write_labels
from fdam_rotate.dota.layout import find_parts, image_problem, list_sources
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.rasters.images import image_size

__all__ = [
    "PLACEMENTS",
    "DataPart",
    "Item",
    "Losses",
    "drop_difficult",
    "place_image",
    "read_dota",
    "staged",
    "turned_rectangle",
    "write_dota",
]  # fmt: skip

#: How the images get into the new folder.
PLACEMENTS = ("symlink", "copy", "none")


@dataclass(frozen=True)
class Item:
    """One image with its objects; ``path`` is None where only its size is known."""

    image_id: str
    path: Path | None
    width: int
    height: int
    labels: Labels

    @property
    def file_name(self) -> str:
        """The image file's name in a converted data set."""
        return self.image_id + (self.path.suffix if self.path else ".png")


@dataclass(frozen=True)
class DataPart:
    """One part (train, val, ...) of a data set, items sorted by id."""

    name: str
    items: tuple[Item, ...]


@dataclass
class Losses:
    """What a conversion could not keep: counts by a phrase that reads on from the number."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, count: int = 1) -> None:
        """Count ``count`` more of ``what``; nothing is noted of a count of 0."""
        if count:
            self.counts[what] += count


def read_dota(root: Path, classes: Sequence[str] | None, problems: list[Problem]) -> list[DataPart]:
    """Read ``images/`` with ``labelTxt/`` or ``annfiles/``, or a folder of such folders, as ``verify.py`` finds them.

    Args:
        root: the folder.
        classes: the allowed class names; None allows any.
        problems: collects what cannot be read; it is left out.

    Raises:
        FileNotFoundError: there is no such folder.
        DotaError: it holds no data set, or no image.
    """
    parts = []
    for part in find_parts([root]):
        items = []
        sources = list_sources([part.folder / "images"], [part.annotations], problems)
        for source in tqdm(sources, desc=f"reading {part.name}", unit="image", disable=None):
            labels = Labels.empty()
            lines: list[Problem] = []
            if source.label is not None:
                labels = read_labels(source.label, classes=classes, problems=lines)
            problems += lines
            try:
                width, height = image_size(source.path)
            except (ImageReadError, OSError) as error:
                problems.append(image_problem(source.path, error))
                continue
            items.append(Item(source.image_id, source.path, width, height, labels))
        parts.append(DataPart("data" if part.folder == root else part.name, tuple(items)))
    return parts


def write_dota(parts: Sequence[DataPart], folder: Path, placement: str, losses: Losses) -> None:
    """Write ``folder/<part>/images`` and ``labelTxt``; a lone part named ``data`` goes into ``folder`` itself."""
    del losses  # DOTA's text holds all that an item has
    for part in parts:
        root = folder if len(parts) == 1 and part.name == "data" else folder / part.name
        for name in ("images", "labelTxt"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for item in tqdm(part.items, desc=f"writing {part.name}", unit="image", disable=None):
            place_image(item, root / "images", placement)
            write_labels(root / "labelTxt" / f"{item.image_id}.txt", item.labels)


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
    target = folder / check_id(item.file_name)
    if placement == "copy":
        shutil.copyfile(item.path, target)
        return
    try:
        target.symlink_to(item.path.resolve())
    except OSError as error:
        raise DotaError(f"cannot link {target}: {error}; use --images copy") from None


@contextmanager
def staged(out_dir: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside ``out_dir`` that becomes ``out_dir`` when the block ends; nothing is left if it fails.

    Raises:
        OutputExistsError: ``out_dir`` is a file, or holds anything and ``overwrite`` is False.
    """
    if out_dir.is_file() or (out_dir.is_dir() and any(out_dir.iterdir()) and not overwrite):
        raise OutputExistsError(f"{out_dir} exists; give another folder, or --overwrite to replace it")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = out_dir.parent / f".{out_dir.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        if out_dir.exists():
            shutil.rmtree(out_dir)
        os.replace(partial, out_dir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def turned_rectangle(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest turned rectangle (8,) around points (n, 2)."""
    corners = cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32)))
    return np.asarray(corners, np.float64).reshape(8)
