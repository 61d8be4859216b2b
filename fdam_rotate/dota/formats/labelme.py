"""labelme JSON (https://github.com/wkentaro/labelme), one file per image, and X-AnyLabeling's form of it.

    OUT/train/P0003.png
    OUT/train/P0003.json   {"imagePath": "P0003.png", "imageWidth": 1147, "imageHeight": 1023, "shapes":
                            [{"label": "ship", "shape_type": "polygon", "points": [[x1, y1], ..., [x4, y4]]}]}

Read are ``polygon`` (four points are the corners; of any other number the smallest turned rectangle is taken),
``rotation`` (X-AnyLabeling: four corners and ``direction``, the angle in radians, which says nothing new),
``oriented_rectangle`` (labelme: four corners) and ``rectangle`` (two opposite corners, or four). Difficulty stands in
X-AnyLabeling's ``difficult``, which labelme keeps as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import LabelFormatError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.formats.boxes import corners_of, upright_corners
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
from fdam_rotate.dota.formats.sidecars import Sidecar, read_sidecars
from fdam_rotate.dota.jsontext import RECORD_ERRORS, read_json, reason_of
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over

__all__ = ["read", "write", "write_files"]

_SHAPES = ("polygon", "rotation", "oriented_rectangle", "rectangle")


def read(source: Path, reading: Reading) -> list[DataPart]:
    """Read a folder of JSON files, beside the images or in a folder beside ``images/``, or a folder of such folders.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DotaError: no JSON file.
    """
    return read_sidecars(source, ".json", reading, _read_one)


def write(parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
    """Write ``folder/<part>/<id>.json`` and the images beside them, each object as a polygon of four points."""
    write_files(parts, folder, writing, "5.5.0", _polygon)


def write_files(
    parts: Sequence[DataPart],
    folder: Path,
    writing: Writing,
    version: str,
    shape_of: Callable[[NDArray[np.float64]], Mapping[str, Any]],
) -> None:
    """Write one JSON file per image.

    Args:
        parts: the data set; a lone part named ``data`` goes into ``folder`` itself.
        folder: the output folder.
        writing: placement of the images; collects header lines, which have no place.
        version: of the tool that shall read the files.
        shape_of: corners (8,) -> ``shape_type`` and ``points`` of a shape.
    """
    for part in parts:
        root = folder if is_lone(parts) else folder / part.name
        for item in progress_over(part.items, f"writing {part.name}", "image", shown=writing.progress):
            place_image(item, root, writing.placement)
            writing.losses.add("header lines (source and gsd of an image)", len(item.labels.header))
            shapes = []
            for k, name in enumerate(item.labels.names):
                shape: dict[str, Any] = {
                    "label": name,
                    **shape_of(item.labels.polys[k]),
                    "group_id": None,
                    "description": "",
                    "difficult": bool(item.labels.difficult[k]),
                    "flags": {},
                }
                if item.scores is not None:
                    shape["score"] = float(item.scores[k])
                shapes.append(shape)
            writing.losses.add("degrees of difficulty above 1 (written as 1)", int((item.labels.difficult > 1).sum()))
            content: dict[str, Any] = {
                "version": version,
                "flags": {},
                "shapes": shapes,
                "imagePath": item.file_name,
                "imageData": None,
                "imageHeight": item.height,
                "imageWidth": item.width,
            }
            write_text(root / f"{item.image_id}.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _polygon(poly: NDArray[np.float64]) -> Mapping[str, Any]:
    return {"shape_type": "polygon", "points": poly.reshape(4, 2).tolist()}


def _read_one(one: Sidecar, reading: Reading) -> Item | None:
    """The item of one image.

    Raises:
        LabelFormatError: the file is no labelme JSON.
    """
    objects = Objects()
    if one.label is None:
        reading.losses.note("images without a label file, taken as background")
        return make_item(one.image_id, one.image, None, objects.labels(), reading, "")
    content = _load(one.label)
    for number, shape in enumerate(content["shapes"]):
        try:
            _read_shape(shape, objects, reading)
        except RECORD_ERRORS as error:
            reading.problems.append(Problem("malformed", str(one.label), 0, f"shape {number}: {reason_of(error)}"))
    width, height = content.get("imageWidth"), content.get("imageHeight")
    stated = (width, height) if isinstance(width, int) and isinstance(height, int) else None
    named = str(content.get("imagePath") or "").replace("\\", "/").rsplit("/", 1)[-1]
    missing = f"no image of this name ({named or 'imagePath is empty'}) beside {one.label} or in images/; left out"
    return make_item(one.image_id, one.image, stated, objects.labels(), reading, missing)


def _load(path: Path) -> Mapping[str, Any]:
    content = read_json(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("shapes"), list):
        raise LabelFormatError(f"{path}: no labelme file: expected an object with shapes")
    return content


def _read_shape(shape: Mapping[str, Any], objects: Objects, reading: Reading) -> None:
    kind = shape.get("shape_type") or "polygon"  # labelme before 3.0 has polygons only
    if kind not in _SHAPES:
        reading.losses.add(f"shapes of type {kind} (no boxes), left out")
        return
    points = np.array([[float(x), float(y)] for x, y in shape["points"]], np.float64).reshape(-1, 2)
    if kind == "rectangle" and len(points) == 2:
        poly, own = upright_corners(*points[0], *points[1]), True
    else:
        poly, own = corners_of(points)
    if not own:
        reading.losses.add("polygons of other than four corners (their smallest turned rectangle is taken)")
    difficult = shape.get("difficult", False)
    # some scripts write the word
    is_difficult = difficult.lower() == "true" if isinstance(difficult, str) else bool(difficult)
    objects.add(poly, reading.class_name(str(shape["label"])), int(is_difficult))
