"""DOTA's own layout: ``images/`` beside ``labelTxt/`` (or ``annfiles/``), or train/ and val/ of such folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.dota.formats.interchange import DataPart, Objects, Reading, Writing, is_lone, make_item, place_image
from fdam_rotate.dota.labels import read_labels, write_labels
from fdam_rotate.dota.layout import Part, find_parts, label_folder, list_sources
from fdam_rotate.dota.progress import progress_over

__all__ = ["read", "write"]


def read(source: Path, reading: Reading) -> list[DataPart]:
    """Read a data set as ``verify.py`` finds it; images are looked for in ``reading.img_dir``, if that is given.

    Raises:
        FileNotFoundError: there is no such folder.
        DotaError: it holds no data set, or no image.
    """
    parts = []
    for part in _parts(source, reading.img_dir):
        items = []
        sources = list_sources([_images(part, source, reading.img_dir)], [part.annotations], reading.problems)
        for one in progress_over(sources, f"reading {part.name}", "image", shown=reading.progress):
            labels = Objects().labels()
            if one.label is not None:
                labels = read_labels(one.label, problems=reading.problems)
            item = make_item(one.image_id, one.path, None, labels, reading, "")
            if item is not None:
                items.append(item)
        parts.append(DataPart("data" if part.folder == source else part.name, tuple(items)))
    return parts


def _parts(source: Path, img_dir: Path | None) -> list[Part]:
    """The parts of a data set, whose images may lie elsewhere."""
    labels = label_folder(source)
    if img_dir is not None and labels is not None:
        return [Part(source.name, source, labels)]
    return find_parts([source])


def _images(part: Part, source: Path, img_dir: Path | None) -> Path:
    """The folder of the images of a part: train's may lie in IMG_DIR/train, or IMG_DIR/train/images."""
    if img_dir is None:
        return part.folder / "images"
    if part.folder == source:
        return img_dir
    inside = (img_dir / part.name / "images", img_dir / part.name)
    return next((folder for folder in inside if folder.is_dir()), part.folder / "images")


def write(parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
    """Write ``folder/<part>/images`` and ``labelTxt``; a lone part named ``data`` goes into ``folder`` itself."""
    for part in parts:
        root = folder if is_lone(parts) else folder / part.name
        for name in ("images", "labelTxt"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for item in progress_over(part.items, f"writing {part.name}", "image", shown=writing.progress):
            place_image(item, root / "images", writing.placement)
            write_labels(root / "labelTxt" / f"{item.image_id}.txt", item.labels)
