"""YOLO-OBB, the oriented format of Ultralytics (https://docs.ultralytics.com/datasets/obb/).

    OUT/data.yaml                 train: images/train, val: images/val, names: {0: plane, ...}
    OUT/images/train/P0003.png
    OUT/labels/train/P0003.txt    class_index x1 y1 x2 y2 x3 y3 x4 y4

Corners are divided by the image's width and height and written with ten decimals; read back they are rounded to 1e-4
pixel, so that a round trip keeps them to 1e-3 pixel (and text of up to four decimals exactly). The format has no
difficulty and no header. Ultralytics leaves an image with all its labels out of training where one corner lies outside
[0, 1] ("ignoring corrupt image/label", ultralytics/ultralytics#13924): ``outside`` says what to do with such objects.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fdam_rotate.dota.errors import DotaError, ImageReadError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.formats.interchange import DataPart, Item, Losses, place_image
from fdam_rotate.dota.geometry import polygon_area
from fdam_rotate.dota.labels import Labels, unknown_class
from fdam_rotate.dota.layout import image_problem, list_sources
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.rasters.images import image_size

__all__ = ["OUTSIDE", "read_yolo", "write_yolo"]

#: What becomes of objects with a corner outside the image: corners moved to its border, left as they are, left out.
OUTSIDE = ("clip", "keep", "drop")

_SPLITS = ("train", "val", "test")


def write_yolo(
    parts: Sequence[DataPart],
    folder: Path,
    classes: Sequence[str],
    placement: str,
    losses: Losses,
    problems: list[Problem],
    *,
    outside: str = "clip",
) -> None:
    """Write a YOLO-OBB data set.

    Args:
        parts: the data set; parts that are not called train, val or test are named so in ``data.yaml`` by hand.
        folder: the output folder.
        classes: class names; their order gives the indices.
        placement: how images get there, one of ``PLACEMENTS``.
        losses: collects what the format cannot hold.
        problems: collects objects of other classes, which are left out.
        outside: one of ``OUTSIDE``.
    """
    if outside not in OUTSIDE:
        raise DotaError(f"corners outside the image are treated by one of {', '.join(OUTSIDE)}, got {outside!r}")
    index = {name: k for k, name in enumerate(classes)}
    for part in parts:
        (folder / "labels" / part.name).mkdir(parents=True)
        for item in tqdm(part.items, desc=f"writing {part.name}", unit="image", disable=None):
            place_image(item, folder / "images" / part.name, placement)
            rows = []
            corners, inside = _normalise(item, outside, losses)
            losses.add("header lines (source and gsd of an image)", len(item.labels.header))
            for k, name in enumerate(item.labels.names):
                if name not in index:
                    line = int(item.labels.lines[k])
                    problems.append(Problem("class", f"{item.image_id}.txt", line, unknown_class(name, classes)))
                elif inside[k]:
                    rows.append(f"{index[name]} {' '.join(f'{value:.10f}' for value in corners[k])}\n")
                    losses.add("marks of difficult objects", int(item.labels.difficult[k] != 0))
            write_text(folder / "labels" / part.name / f"{item.image_id}.txt", "".join(rows))
    write_text(folder / "data.yaml", _data_yaml([part.name for part in parts], classes))


def _normalise(item: Item, outside: str, losses: Losses) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Corners (N, 8) over width and height, and which objects to write."""
    size = np.array([item.width, item.height] * 4, np.float64)
    corners = item.labels.polys / size
    beyond = ((corners < 0) | (corners > 1)).any(axis=1)
    kept = np.ones(len(corners), np.bool_)
    if outside == "keep":
        losses.add("objects with a corner outside the image (Ultralytics ignores such images)", int(beyond.sum()))
    elif outside == "drop":
        kept = ~beyond
        losses.add("objects with a corner outside the image left out", int(beyond.sum()))
    else:
        clipped = np.clip(corners, 0, 1)
        kept = ~beyond | (polygon_area(clipped * size) > 0)
        losses.add("objects without area inside the image left out", int((~kept).sum()))
        losses.add("objects with corners moved to the image's border", int((beyond & kept).sum()))
        corners = clipped
    return corners, kept


def _data_yaml(names: Sequence[str], classes: Sequence[str]) -> str:
    lines = ["# YOLO-OBB data set; folders are relative to this file"]
    keys = {name: name for name in names if name in _SPLITS}
    if "train" not in keys:
        keys = {"train": names[0], **keys}
    lines += [f"{key}: {json.dumps(f'images/{name}')}" for key, name in keys.items()]
    if "val" not in keys:
        lines.append("# val: needed to train; there was no part of that name")
    lines.append("names:")
    lines += [f"  {k}: {json.dumps(name)}" for k, name in enumerate(classes)]
    return "\n".join(lines) + "\n"


def read_yolo(root: Path, classes: Sequence[str] | None, losses: Losses, problems: list[Problem]) -> list[DataPart]:
    """Read a YOLO-OBB data set.

    Args:
        root: the folder with ``data.yaml``, or without it with ``images/<part>`` and ``labels/<part>``.
        classes: class names in the order of the indices; None takes those of ``data.yaml``.
        losses: collects what is read in another form (upright boxes, class names with spaces).
        problems: collects lines that cannot be read; they are left out.

    Raises:
        FileNotFoundError: a folder does not exist.
        DotaError: no class names, a ``data.yaml`` that is none, or no image.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"folder {root} does not exist")
    settings = _read_yaml(root / "data.yaml")
    names = list(classes) if classes is not None else _class_names(root, settings)
    spaced = [name for name in names if name != "".join(name.split())]
    names = ["-".join(name.split()) for name in names]
    losses.add("class names with spaces (written with - instead)", len(spaced))
    parts = []
    for part, images in _image_folders(root, settings).items():
        items = []
        sources = list_sources([images], [_label_folder(images)], problems)
        for source in tqdm(sources, desc=f"reading {part}", unit="image", disable=None):
            try:
                width, height = image_size(source.path)
            except (ImageReadError, OSError) as error:
                problems.append(image_problem(source.path, error))
                continue
            labels = _read_labels(source.label, names, width, height, losses, problems)
            items.append(Item(source.image_id, source.path, width, height, labels))
        parts.append(DataPart(part, tuple(items)))
    return parts


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise DotaError("reading data.yaml needs PyYAML: pip install pyyaml") from None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DotaError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DotaError(f"{path}: expected keys such as train, val and names")
    return content


def _class_names(root: Path, settings: dict[str, Any]) -> list[str]:
    names = settings.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DotaError(f"{root / 'data.yaml'}: no class names (names: [a, b] or 0: a, 1: b); give --classes")
    return [str(name) for name in names]


def _image_folders(root: Path, settings: dict[str, Any]) -> dict[str, Path]:
    """Part -> folder of images; those of ``data.yaml`` must lie in ``root``."""
    named = {key: settings[key] for key in _SPLITS if settings.get(key)}
    if not named:
        images = root / "images"
        subfolders = sorted(p for p in images.iterdir() if p.is_dir()) if images.is_dir() else []
        if not images.is_dir():
            raise DotaError(f"{root} is no YOLO-OBB data set: expected data.yaml, or images/ and labels/")
        return {p.name: p for p in subfolders} or {"data": images}
    folders = {}
    for key, value in named.items():
        inside = root.resolve()
        folder = (root / value).resolve() if isinstance(value, str) else inside
        if folder == inside or inside not in folder.parents or not folder.is_dir():
            raise DotaError(f"{root / 'data.yaml'}: {key}: {value!r} is no folder in {root}; lists are not read")
        folders[key] = folder
    return folders


def _label_folder(images: Path) -> Path:
    """As Ultralytics finds it: the last ``images`` in the path becomes ``labels``."""
    parts = list(images.parts)
    last = max((k for k, name in enumerate(parts) if name == "images"), default=None)
    if last is None:
        raise DotaError(f"{images}: expected a folder named images in the path, beside labels")
    parts[last] = "labels"
    return Path(*parts)


def _read_labels(
    path: Path | None, names: Sequence[str], width: int, height: int, losses: Losses, problems: list[Problem]
) -> Labels:
    polys, found, lines = [], [], []
    rows = path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if path is not None else []
    for lineno, row in enumerate(rows, start=1):
        fields = row.split()
        if not fields:
            continue
        reason, name, values = _parse_row(fields, names)
        if reason:
            problems.append(Problem("malformed", str(path), lineno, f"{reason}: {row.strip()[:120]!r}"))
            continue
        if len(values) == 4:
            losses.add("upright boxes (centre and size), read as oriented ones")
            x, y, w, h = values
            values = [x - w / 2, y - h / 2, x + w / 2, y - h / 2, x + w / 2, y + h / 2, x - w / 2, y + h / 2]
        # to 1e-4 pixel: what lies beyond is the rounding of shares, such as 936.9999999
        polys.append((np.array(values) * ([width, height] * 4)).round(4))
        found.append(name)
        lines.append(lineno)
    return Labels(
        np.array(polys, np.float64).reshape(-1, 8),
        tuple(found),
        np.zeros(len(found), np.int64),
        np.array(lines, np.int64),
    )


def _parse_row(fields: Sequence[str], names: Sequence[str]) -> tuple[str, str, list[float]]:
    """What is wrong (or an empty text), the class and the numbers of one line."""
    if len(fields) not in (5, 9):
        return f"expected a class index and 8 coordinates (or 4 of an upright box), got {len(fields)} fields", "", []
    try:
        values = [float(text) for text in fields[1:]]
    except ValueError:
        return "a coordinate is no number", "", []
    if not all(abs(value) < 100 for value in values):  # NaN fails too
        return "a coordinate is no finite share of the image's size", "", []
    try:
        index = int(fields[0])
    except ValueError:
        index = -1
    if not 0 <= index < len(names):
        return f"class index {fields[0]!r} is not within 0 to {len(names) - 1}", "", []
    return "", names[index], values
