"""Label Studio JSON (https://labelstud.io/guide/export): a list of tasks, turned rectangles in percent.

    OUT/data.json             [{"data": {"image": ".../P0003.png"}, "annotations": [{"result": [
                                {"type": "rectanglelabels", "original_width": 1147, "original_height": 1023,
                                 "value": {"x", "y", "width", "height", "rotation", "rectanglelabels": ["ship"]}}]}]}]
    OUT/images/P0003.png
    OUT/labeling_config.xml   the tags of a project that takes the file

``x`` and ``y`` are the first corner, in percent of the image's width and height; the rectangle, whose sides are in
percent of the same, is turned by ``rotation`` degrees, clockwise about that corner. A rectangle is written so, any
other quadrangle as ``polygonlabels``; detections as ``predictions`` with scores, which the tool shows as proposals. A
task without annotation was not looked at, so it is left out and counted; one with an empty annotation is background.
Uploaded images are called ``1a2b3c4d-P0003.png``: the first part is the tool's and is dropped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.formats.boxes import corners_of, rectangle_of
from fdam_rotate.dota.formats.interchange import (
    DataPart,
    Item,
    Objects,
    Reading,
    Writing,
    is_lone,
    make_item,
    place_image,
)
from fdam_rotate.dota.formats.sidecars import ImageFinder
from fdam_rotate.dota.jsontext import RECORD_ERRORS, read_json, reason_of
from fdam_rotate.dota.layout import IMAGE_SUFFIXES
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over

__all__ = ["read", "uploaded_name", "write"]

_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


def read(source: Path, reading: Reading) -> list[DataPart]:
    """Read exported tasks: a JSON file, or a folder of them, each of which is one part (a lone one is ``data``).

    Images are looked for in ``reading.img_dir``, or else in ``images/<part>/``, ``images/`` and beside the file.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DotaError: no JSON file, or one that is no list of tasks.
    """
    if source.is_file():
        files = [source]
    elif source.is_dir():
        files = sorted(source.glob("[!.]*.json"))
    else:
        raise FileNotFoundError(f"{source} does not exist; expected Label Studio's JSON")
    if not files:
        raise DotaError(f"{source}: no JSON file; expected Label Studio's export")
    return [_read_file(path, "data" if len(files) == 1 else path.stem, reading) for path in files]


def write(parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
    """Write ``folder/<part>.json``, ``folder/images/<part>/`` and the project's tags."""
    for part in parts:
        lone = is_lone(parts)
        inner = "images" if lone else f"images/{part.name}"
        tasks = []
        for item in progress_over(part.items, f"writing {part.name}", "image", shown=writing.progress):
            place_image(item, folder / inner, writing.placement)
            writing.losses.add("header lines (source and gsd of an image)", len(item.labels.header))
            writing.losses.add("marks of difficult objects", int((item.labels.difficult != 0).sum()))
            results = [_result(item, k) for k in range(len(item.labels))]
            made = "annotations" if item.scores is None else "predictions"
            address = f"/data/local-files/?d={quote(f'{inner}/{item.file_name}')}"
            tasks.append({"data": {"image": address}, made: [{"result": results}]})
        write_text(folder / f"{part.name}.json", json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in writing.classes)
    text = (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <RectangleLabels name="box" toName="image" canRotate="true">\n{labels}  </RectangleLabels>\n'
        f'  <PolygonLabels name="polygon" toName="image">\n{labels}  </PolygonLabels>\n</View>\n'
    )
    write_text(folder / "labeling_config.xml", text)


def _result(item: Item, k: int) -> dict[str, Any]:
    """One object as Label Studio has it."""
    rectangle = rectangle_of(item.labels.polys[k])
    share = np.array([100 / item.width, 100 / item.height])
    if rectangle is not None:
        x, y = rectangle.corners[:2] * share
        kind, tag = "rectanglelabels", "box"
        value: dict[str, Any] = {
            "x": float(x),
            "y": float(y),
            "width": rectangle.width * float(share[0]),
            "height": rectangle.height * float(share[1]),
            "rotation": math.degrees(rectangle.angle) % 360,
        }
    else:
        kind, tag = "polygonlabels", "polygon"
        value = {"points": (item.labels.polys[k].reshape(4, 2) * share).tolist(), "closed": True}
    result: dict[str, Any] = {
        "id": f"object{k + 1}",
        "type": kind,
        "from_name": tag,
        "to_name": "image",
        "original_width": item.width,
        "original_height": item.height,
        "image_rotation": 0,
        "value": {**value, kind: [item.labels.names[k]]},
    }
    if item.scores is not None:
        result["score"] = float(item.scores[k])
    return result


def _read_file(path: Path, part: str, reading: Reading) -> DataPart:
    tasks = read_json(path)
    if isinstance(tasks, Mapping) and "data" in tasks:
        tasks = [tasks]
    if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
        raise DotaError(f"{path}: not Label Studio's JSON: expected a list of tasks")
    if tasks and not all("data" in task for task in tasks):
        hint = "; this is its JSON-MIN, export as JSON" if "annotation_id" in tasks[0] else ""
        raise DotaError(f"{path}: not Label Studio's JSON: a task without data{hint}")
    root = path.parent
    folders = [root / "images" / path.stem, root / "images" / part, root / "images", root]
    finder = ImageFinder([reading.img_dir] if reading.img_dir else folders, reading.problems)
    items: dict[str, Item] = {}
    for number, task in enumerate(progress_over(tasks, f"reading {path.name}", "image", shown=reading.progress)):
        shown = f"task {task.get('id', number)}"
        name = _image_name(task)
        if name is None:
            reading.problems.append(Problem("id", str(path), 0, f"{shown}: its data names no image"))
            continue
        try:
            annotations = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
            done = [list(one.get("result") or []) for one in annotations]
        except RECORD_ERRORS as error:
            reading.problems.append(Problem("malformed", str(path), 0, f"{shown}: annotations: {reason_of(error)}"))
            continue
        if not done:
            proposed = ", only proposals that nobody has accepted" if task.get("predictions") else ""
            reading.losses.add(f"tasks without an annotation{proposed}, left out")
            continue
        reading.losses.add("further annotations of a task (the last is taken)", len(done) - 1)
        image = finder.find(name) or finder.find(uploaded_name(name))
        image_id = Path(uploaded_name(name)).stem if image is None else image.stem
        item = _item(path, shown, image_id, image, done[-1], reading)
        if item is not None and image_id in items:
            text = f"{shown}: image {name}: its id is taken; it is left out"
            reading.problems.append(Problem("clash", str(path), 0, text))
        elif item is not None:
            items[image_id] = item
    return DataPart(part, tuple(items[key] for key in sorted(items)))


def _item(
    path: Path, shown: str, image_id: str, image: Path | None, results: Sequence[Any], reading: Reading
) -> Item | None:
    objects = Objects()
    stated: tuple[int, int] | None = None
    for number, result in enumerate(results):
        try:
            if result.get("image_rotation"):
                raise ValueError("the image was turned in the tool; turn it back and export again")
            size = _read_result(result, objects, reading)
            stated = stated or size
        except RECORD_ERRORS as error:
            text = f"{shown}, result {number}: {reason_of(error)}"
            reading.problems.append(Problem("malformed", str(path), 0, text))
    missing = f"no image of this name beside {path} or in images/; left out"
    return make_item(image_id, image, stated, objects.labels(), reading, missing)


def _read_result(result: Mapping[str, Any], objects: Objects, reading: Reading) -> tuple[int, int] | None:
    """Add the object of one result, if it is a box; the size of its image."""
    kind = result.get("type")
    is_box = kind in ("rectanglelabels", "polygonlabels")
    if kind == "labels":  # of a project with the tags Rectangle or Polygon beside Labels
        is_box = "width" in result["value"] or "points" in result["value"]
    if not is_box:
        reading.losses.add(f"results of type {kind} (no boxes with a label), left out")
        return None
    value = result["value"]
    size = (int(result["original_width"]), int(result["original_height"]))
    unit = np.array(size, np.float64) / 100
    poly, own = corners_of(np.array(value["points"]) * unit) if "points" in value else _corners(value, unit)
    if not own:
        reading.losses.add("polygons of other than four corners (their smallest turned rectangle is taken)")
    names = value[kind]
    if not names:
        raise ValueError("an object without a class name")
    reading.losses.add("further labels of an object (the first is taken)", len(names) - 1)
    objects.add(poly, reading.class_name(str(names[0])))
    return size


def _corners(value: Mapping[str, Any], unit: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Corners (8,) of a rectangle turned about its first corner; ``unit`` is a percent in pixels, x and y."""
    x, y = float(value["x"]) * unit[0], float(value["y"]) * unit[1]
    width, height = float(value["width"]) * unit[0], float(value["height"]) * unit[1]
    angle = math.radians(float(value.get("rotation") or 0))
    along = np.array([math.cos(angle), math.sin(angle)]) * width
    across = np.array([-math.sin(angle), math.cos(angle)]) * height
    first = np.array([x, y])
    return np.concatenate([first, first + along, first + along + across, first + across]), True


def _image_name(task: Mapping[str, Any]) -> str | None:
    """The file name of a task's image: of an uploaded file, of a path on the server, or of an address."""
    data = task["data"]
    values = [data.get("image"), *data.values()] if isinstance(data, Mapping) else [data]
    for value in values:
        if not isinstance(value, str):
            continue
        try:
            address = urlsplit(value.replace("\\", "/"))
        except ValueError:  # a bracket where a host would stand
            continue
        inner = parse_qs(address.query).get("d")  # /data/local-files/?d=folder/P0003.png
        name = (inner[0] if inner else unquote(address.path)).rsplit("/", 1)[-1]
        if name.lower().endswith(IMAGE_SUFFIXES):
            return name
    return None


def uploaded_name(name: str) -> str:
    """A file name without the eight hexadecimal digits that Label Studio puts before those of uploaded images."""
    return _UPLOADED.sub("", name, count=1) if _UPLOADED.match(name) else name
