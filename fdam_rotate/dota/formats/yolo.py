"""YOLO-OBB, the oriented format of Ultralytics (https://docs.ultralytics.com/datasets/obb/).

    OUT/data.yaml                 train: images/train, val: images/val, names: {0: plane, ...}
    OUT/images/train/P0003.png
    OUT/labels/train/P0003.txt    class_index x1 y1 x2 y2 x3 y3 x4 y4

Corners are divided by the image's width and height and written with ten decimals; read back they are rounded to 1e-4
pixel, so that a round trip keeps them to 1e-3 pixel (and text of up to four decimals exactly). The format has no
difficulty and no header. Ultralytics leaves an image with all its labels out of training where one corner lies outside
[0, 1] ("ignoring corrupt image/label", ultralytics/ultralytics#13924): ``outside`` says what to do with such objects.

Read are also the layouts of tools that export it: Roboflow's (``train/images`` beside ``train/labels``, named
``../train/images`` in data.yaml), CVAT's (``train: train.txt``, a list of images) and Label Studio's (``classes.txt``
in place of data.yaml). An image without label file is background.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.formats.boxes import corners_of, upright_corners
from fdam_rotate.dota.formats.interchange import (
    DataPart,
    Item,
    Losses,
    Objects,
    Reading,
    Writing,
    make_item,
    place_image,
)
from fdam_rotate.dota.formats.sidecars import ImageFinder, Sidecar, pair
from fdam_rotate.dota.geometry import polygon_area
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.layout import label_files
from fdam_rotate.dota.problems import Problem, line_problem
from fdam_rotate.dota.progress import progress_over

__all__ = ["OUTSIDE", "read", "write"]

#: What becomes of objects with a corner outside the image: corners moved to its border, left as they are, left out.
OUTSIDE = ("clip", "keep", "drop")

_SPLITS = ("train", "val", "test")


def write(parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
    """Write ``data.yaml``, ``images/<part>`` and ``labels/<part>``; the order of the classes gives the indices.

    Parts that are not called train, val or test are to be named in ``data.yaml`` by hand.
    """
    if writing.outside not in OUTSIDE:
        raise DotaError(f"corners outside the image are treated by one of {', '.join(OUTSIDE)}: {writing.outside!r}")
    index = {name: k for k, name in enumerate(writing.classes)}
    for part in parts:
        (folder / "labels" / part.name).mkdir(parents=True)
        for item in progress_over(part.items, f"writing {part.name}", "image", shown=writing.progress):
            place_image(item, folder / "images" / part.name, writing.placement)
            rows = []
            corners, inside = _normalise(item, writing.outside, writing.losses)
            writing.losses.add("header lines (source and gsd of an image)", len(item.labels.header))
            for k in np.flatnonzero(inside).tolist():
                numbers = " ".join(f"{value:.10f}" for value in corners[k])
                rows.append(f"{index[item.labels.names[k]]} {numbers}\n")
            writing.losses.add("marks of difficult objects", int((item.labels.difficult[inside] != 0).sum()))
            write_text(folder / "labels" / part.name / f"{item.image_id}.txt", "".join(rows))
    write_text(folder / "data.yaml", _data_yaml([part.name for part in parts], writing.classes))


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
    if names and "train" not in keys:
        keys = {"train": names[0], **keys}
    lines += [f"{key}: {json.dumps(f'images/{name}', ensure_ascii=False)}" for key, name in keys.items()]
    if "val" not in keys:
        lines.append("# val: needed to train; there was no part of that name")
    lines.append("names:")
    lines += [f"  {k}: {json.dumps(name, ensure_ascii=False)}" for k, name in enumerate(classes)]
    return "\n".join(lines) + "\n"


def read(source: Path, reading: Reading) -> list[DataPart]:
    """Read a YOLO-OBB data set: Ultralytics' own, or as Roboflow, CVAT or Label Studio export it.

    Class names are those of ``data.yaml`` or ``classes.txt``; where neither has any, ``reading.classes``, in the order
    of the indices.

    Raises:
        FileNotFoundError: a folder does not exist.
        DotaError: no class names, a ``data.yaml`` that is none, or no label file at all.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"folder {source} does not exist")
    settings = _read_yaml(source / "data.yaml")
    listed = _class_names(source, settings) or reading.classes
    if not listed:
        raise DotaError(f"{source / 'data.yaml'}: no class names (names: [a, b] or 0: a, 1: b); give --classes")
    names = [reading.class_name(name) for name in listed]
    found = _sidecars(source, settings, reading)
    if not any(one.label for sidecars in found.values() for one in sidecars):
        raise DotaError(f"{source}: no label file; expected labels/<part>/*.txt beside images/<part>")
    parts = []
    for part, sidecars in found.items():
        items = []
        for one in progress_over(sidecars, f"reading {part}", "image", shown=reading.progress):
            item = _read_one(one, names, reading)
            if item is not None:
                items.append(item)
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # not UTF-8, a date that is none, nested too deeply
        raise DotaError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DotaError(f"{path}: expected keys such as train, val and names")
    return content


def _class_names(root: Path, settings: dict[str, Any]) -> Sequence[str]:
    """The names that the data set itself gives its class numbers; none: it has none."""
    names = settings.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[k] for k in range(len(names))]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    # beside labels/ (Label Studio), or in it (labelImg, X-AnyLabeling)
    listed = next((path for path in (root / "classes.txt", root / "labels/classes.txt") if path.is_file()), None)
    if not settings and listed is not None:
        return [line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return []


def _sidecars(root: Path, settings: dict[str, Any], reading: Reading) -> dict[str, list[Sidecar]]:
    """Part -> its images with their label files. What ``data.yaml`` names must lie in ``root``."""
    named = {key: settings[key] for key in _SPLITS if settings.get(key)}
    if not named:
        images, labels = root / "images", root / "labels"
        if not images.is_dir() and not labels.is_dir():
            raise DotaError(f"{root} is no YOLO-OBB data set: expected data.yaml, or images/ and labels/")
        inner = sorted(path.name for path in (images if images.is_dir() else labels).iterdir() if path.is_dir())
        return {name: _folder(images / name if inner else images, name, reading) for name in inner or ["data"]}
    found = {}
    for key, value in named.items():
        target = _inside(root, settings.get("path"), value)
        if target is None:
            raise DotaError(f"{root / 'data.yaml'}: {key}: {value!r} is no folder in {root}; lists are not read")
        found[key] = _listed(root, target, reading) if target.is_file() else _folder(target, key, reading)
    return found


def _inside(root: Path, base: Any, value: Any) -> Path | None:
    """The folder of images, or the text file that lists them, that ``data.yaml`` means; None if none in ``root``.

    Roboflow writes ``../train/images``, meant from a folder beside the data set; the images lie in ``train/images``.
    """
    if not isinstance(value, str):
        return None
    value = value.replace("\\", "/")
    plain = value
    while plain.startswith("../"):
        plain = plain[3:]
    forms = [root / value, root / base / value if isinstance(base, str) else root / value, root / plain]
    for form in forms:
        path: Path = form.resolve()
        if root.resolve() in path.parents and (path.is_file() or path.is_dir() or _has_labels(path)):
            return path
    return None


def _has_labels(images: Path) -> bool:
    return "images" in images.parts and _label_folder(images).is_dir()


def _folder(images: Path, part: str, reading: Reading) -> list[Sidecar]:
    """The images of a folder, or of those that ``reading`` names, with the label files beside ``images``."""
    labels = _label_folder(images)
    folders = [images] if reading.img_dir is None else [reading.img_dir / part, reading.img_dir]
    found = label_files(labels, ".txt") if labels.is_dir() else []
    return pair(found, ImageFinder(folders, reading.problems))


def _listed(root: Path, path: Path, reading: Reading) -> list[Sidecar]:
    """The images that a text file lists, one path per line (CVAT), with their label files."""
    finder = ImageFinder([reading.img_dir] if reading.img_dir else [], reading.problems)
    sidecars: dict[str, Sidecar] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        # CVAT before 2.13 begins its paths with data/, as from the folder that holds the archive's
        forms = [line.strip(), line.strip().removeprefix("./").removeprefix("data/")]
        images = [one for one in (_within(root, form) for form in forms) if one is not None]
        if not images or "images" not in images[-1].parts:
            text = f"{line.strip()!r} is no image in a folder images within {root}"
            reading.problems.append(Problem("id", str(path), number, text))
            continue
        image = next((one for one in images if one.is_file()), None) or finder.find(images[-1].name)
        label = _label_folder(images[-1] if image is None or reading.img_dir else image).with_suffix(".txt")
        stem = images[-1].stem
        if stem in sidecars:
            reading.problems.append(Problem("clash", str(path), number, f"{stem}: its id is taken; it is left out"))
        else:
            sidecars[stem] = Sidecar(stem, image, label if label.is_file() else None)
    return [sidecars[stem] for stem in sorted(sidecars)]


def _within(root: Path, name: str) -> Path | None:
    path = (root / name).resolve()
    return path if root.resolve() in path.parents else None


def _label_folder(images: Path) -> Path:
    """As Ultralytics finds it: the last ``images`` in the path becomes ``labels``."""
    parts = list(images.parts)
    last = max((k for k, name in enumerate(parts) if name == "images"), default=None)
    if last is None:
        raise DotaError(f"{images}: expected a folder named images in the path, beside labels")
    parts[last] = "labels"
    return Path(*parts)


def _read_one(one: Sidecar, names: Sequence[str], reading: Reading) -> Item | None:
    if one.label is None:
        reading.losses.note("images without a label file, taken as background")
    missing = f"there is no image for the label file {one.label}" if one.label else "listed, but not there"
    item = make_item(one.image_id, one.image, None, Objects().labels(), reading, missing)
    if item is None or one.label is None:
        return item
    labels = _read_labels(one.label, names, item.width, item.height, reading)
    return Item(item.image_id, item.path, item.width, item.height, labels)


def _read_labels(path: Path, names: Sequence[str], width: int, height: int, reading: Reading) -> Labels:
    objects = Objects()
    rows = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for lineno, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        try:
            name, poly = _parse_row(row.split(), names, reading.losses)
            # to 1e-4 pixel: what lies beyond is the rounding of shares, such as 936.9999999
            objects.add((poly * ([width, height] * 4)).round(4), name, line=lineno)
        except ValueError as error:
            reading.problems.append(line_problem("malformed", path, lineno, str(error), row.strip()))
    return objects.labels()


def _parse_row(fields: Sequence[str], names: Sequence[str], losses: Losses) -> tuple[str, NDArray[np.float64]]:
    """The class and the corners (8,), in shares of the image, of one line.

    Raises:
        ValueError: what is wrong with it, and what it looks like.
    """
    if len(fields) == 6:
        raise ValueError("this is cx cy w h angle (or a confidence): expected a class index and the four corners")
    if len(fields) in (9, 10) and not _is_number(fields[8]) and max(map(_magnitude, fields[:8])) > 2:
        raise ValueError("this is DOTA's text, x1 y1 ... x4 y4 class difficult in pixels (--from dota)")
    if len(fields) != 5 and (len(fields) < 7 or len(fields) % 2 == 0):
        raise ValueError(f"expected a class index and 8 coordinates (or 4 of an upright box), got {len(fields)} fields")
    if not all(map(_is_number, fields[1:])):
        raise ValueError("a coordinate is no number")
    values = np.array([float(text) for text in fields[1:]])
    if not (np.abs(values) < 100).all():  # NaN fails too
        raise ValueError("a coordinate is no finite share of the image's size; these are pixels, or no coordinates")
    index = int(fields[0]) if fields[0].isdecimal() else -1
    if not 0 <= index < len(names):
        raise ValueError(f"class index {fields[0]!r} is not within 0 to {len(names) - 1}")
    if len(values) == 4:
        losses.add("upright boxes (centre and size), read as oriented ones")
        x, y, w, h = values.tolist()
        return names[index], upright_corners(x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    poly, own = corners_of(values.reshape(-1, 2))
    if not own:
        losses.add("polygons of other than four corners (their smallest turned rectangle is taken)")
    return names[index], poly


def _is_number(text: str) -> bool:
    return _magnitude(text) >= 0


def _magnitude(text: str) -> float:
    """The size of a number; -1 for what is none, and infinity for NaN."""
    try:
        value = abs(float(text))
    except ValueError:
        return -1
    return math.inf if math.isnan(value) else value
