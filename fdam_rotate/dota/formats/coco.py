"""COCO JSON with oriented boxes as four-corner polygons.

    OUT/annotations/train.json    images, annotations, categories
    OUT/train/P0003.png

An annotation holds ``segmentation`` (one polygon of eight numbers, the corners as in DOTA), ``bbox`` (x, y, width,
height of its upright bounds), ``area`` (of the polygon), ``iscrowd`` 0 and, beyond COCO, ``difficult`` (DOTA's number).
Difficulty is a field of its own because neither of COCO's means the same: pycocotools pays no heed to ``ignore``, mmdet
leaves such objects out of training, and ``iscrowd`` promises a run-length mask of a group. ``dota_header`` of an image
holds its header lines. Category ids count from 1 in the order of the class list. A round trip is exact.

CVAT's COCO holds a turned box as the ``bbox`` that it was before turning, and ``attributes.rotation``, in degrees
clockwise about its centre (cvat-ai/cvat#4745). CVAT itself drops the rotation when it reads such a file; polygons
survive.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.formats.boxes import Rectangle, corners_of, upright_corners
from fdam_rotate.dota.formats.interchange import (
    DataPart,
    Item,
    Losses,
    Objects,
    Reading,
    Writing,
    inner_path,
    make_item,
    place_image,
)
from fdam_rotate.dota.geometry import poly_to_hbb, polygon_area
from fdam_rotate.dota.jsontext import RECORD_ERRORS, read_json, reason_of
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over

__all__ = ["read", "write"]


def write(parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
    """Write ``annotations/<part>.json`` and the images into ``folder/<part>``; ids are 1, 2, ... as in the classes."""
    index = {name: k for k, name in enumerate(writing.classes, start=1)}
    for part in parts:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        items = progress_over(part.items, f"writing {part.name}", "image", shown=writing.progress)
        for image_number, item in enumerate(items, start=1):
            place_image(item, folder / part.name, writing.placement)
            record = {"id": image_number, "file_name": item.file_name, "width": item.width, "height": item.height}
            images.append({**record, "dota_header": list(item.labels.header)} if item.labels.header else record)
            bounds, areas = poly_to_hbb(item.labels.polys), polygon_area(item.labels.polys)
            for k, name in enumerate(item.labels.names):
                x0, y0, x1, y1 = bounds[k].tolist()
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": image_number,
                    "category_id": index[name],
                    "segmentation": [item.labels.polys[k].tolist()],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(areas[k]),
                    "iscrowd": 0,
                    "difficult": int(item.labels.difficult[k]),
                }
                if item.scores is not None:
                    annotation["score"] = float(item.scores[k])
                annotations.append(annotation)
        categories = [{"id": number, "name": name, "supercategory": "object"} for name, number in index.items()]
        content = {
            "info": {"description": "oriented boxes as polygons of four corners; difficult as in DOTA"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        write_text(folder / "annotations" / f"{part.name}.json", json.dumps(content, ensure_ascii=False) + "\n")


def read(source: Path, reading: Reading) -> list[DataPart]:
    """Read COCO JSON files with polygons (or boxes) as oriented objects.

    ``source`` is a JSON file, or a folder with ``annotations/*.json`` or ``*.json``; each file is one part, named after
    it (without ``instances_``, unless another file has that name). Images are looked for in ``reading.img_dir``, or
    else in ``<part>/``, ``images/<part>/`` and ``images/`` beside the JSON.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DotaError: no JSON file, or one that is no COCO file.
    """
    if source.is_file():
        files = [source]
    elif source.is_dir():
        files = sorted((source / "annotations").glob("[!.]*.json")) or sorted(source.glob("[!.]*.json"))
    else:
        raise FileNotFoundError(f"{source} does not exist; expected a COCO JSON file or a folder of them")
    if not files:
        raise DotaError(f"{source}: no JSON file, neither in it nor in annotations/")
    short = [path.stem.removeprefix("instances_") for path in files]
    names = [one if one and short.count(one) == 1 else path.stem for one, path in zip(short, files, strict=True)]
    return [_read_file(path, name, reading) for path, name in zip(files, names, strict=True)]


def _read_file(path: Path, part: str, reading: Reading) -> DataPart:
    content = read_json(path)
    try:
        categories = {int(c["id"]): reading.class_name(str(c["name"])) for c in content["categories"]}
        images, annotations = list(content["images"]), list(content["annotations"])
    except RECORD_ERRORS as error:
        raise DotaError(f"{path}: not a COCO file: expected images, annotations and categories: {error!r}") from None
    objects: dict[Any, Objects] = {}
    known = _image_records(path, images, reading.problems)
    for number, annotation in enumerate(annotations):
        try:
            image_id, poly, name, difficult = _read_annotation(annotation, categories, known, reading.losses)
            objects.setdefault(image_id, Objects()).add(poly, name, difficult)
        except ValueError as error:
            shown = annotation.get("id", f"number {number}") if isinstance(annotation, Mapping) else f"number {number}"
            reading.problems.append(Problem("malformed", str(path), 0, f"annotation {shown}: {error}"))
    folders = _image_folders(path, part, reading.img_dir)
    items = []
    records = list(known.items())
    for image_id, record in progress_over(records, f"reading {part}", "image", shown=reading.progress):
        item = _item(record, objects.get(image_id, Objects()), folders, reading)
        if item is not None:
            items.append(item)
    return DataPart(part, tuple(sorted(items, key=lambda item: item.image_id)))


def _image_records(path: Path, images: list[Any], problems: list[Problem]) -> dict[Any, Mapping[str, Any]]:
    """Image records by id; those without a usable file name, or whose id or name is taken, are left out."""
    known: dict[Any, Mapping[str, Any]] = {}
    stems: set[str] = set()
    for number, record in enumerate(images):
        name = record.get("file_name") if isinstance(record, Mapping) else None
        pure = inner_path(name)
        if pure is None:
            text = f"image number {number}: file_name {name!r} is no path within the folder of images"
            problems.append(Problem("id", str(path), 0, text))
        elif not _is_id(record.get("id")):
            problems.append(Problem("id", str(path), 0, f"image number {number} ({name}): id {record.get('id')!r}"))
        elif record["id"] in known or pure.stem in stems:
            problems.append(Problem("clash", str(path), 0, f"image number {number} ({name}): its id or name is taken"))
        else:
            stems.add(pure.stem)
            known[record["id"]] = record
    return known


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str))


def _image_folders(path: Path, part: str, img_dir: Path | None) -> list[Path]:
    if img_dir is not None:
        return [img_dir]
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    return [root / part, root / "images" / part, root / "images", root]


def _item(record: Mapping[str, Any], objects: Objects, folders: list[Path], reading: Reading) -> Item | None:
    name = str(record["file_name"]).replace("\\", "/")
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    width, height = record.get("width"), record.get("height")
    stated = (width, height) if isinstance(width, int) and isinstance(height, int) else None
    header = record.get("dota_header")
    labels = objects.labels([str(line) for line in header] if isinstance(header, list) else ())
    missing = f"{name} is not in {', '.join(map(str, folders))}; it is left out"
    return make_item(PurePosixPath(name).stem, found, stated, labels, reading, missing)


def _read_annotation(
    annotation: Any, categories: Mapping[int, str], known: Mapping[Any, Any], losses: Losses
) -> tuple[Any, NDArray[np.float64], str, int]:
    """Image id, corners (8,), class and difficulty of one annotation.

    Raises:
        ValueError: what is wrong with it.
    """
    if not isinstance(annotation, Mapping):
        raise ValueError("not an object")
    image_id = annotation.get("image_id")
    if not _is_id(image_id) or image_id not in known:
        raise ValueError(f"image_id {image_id!r} is not among the images")
    category = annotation.get("category_id")
    name = categories.get(category) if isinstance(category, int) else None
    if name is None:
        raise ValueError(f"category_id {category!r} is not among the categories")
    try:
        poly = _corners(annotation, losses)
    except RECORD_ERRORS as error:
        raise ValueError(f"no usable segmentation or bbox: {reason_of(error)}") from None
    crowd = int(bool(annotation.get("iscrowd", 0)))
    difficult = annotation.get("difficult", crowd)
    if not isinstance(difficult, int) or difficult < 0:
        raise ValueError(f"difficult must be an integer of at least 0, got {difficult!r}")
    return image_id, poly, name, int(difficult)


def _corners(annotation: Mapping[str, Any], losses: Losses) -> NDArray[np.float64]:
    segmentation = annotation.get("segmentation")
    attributes = annotation.get("attributes")
    rotation = float(attributes.get("rotation", 0)) if isinstance(attributes, Mapping) else 0.0
    if isinstance(segmentation, list) and segmentation:
        rings = [np.array([float(value) for value in polygon]) for polygon in segmentation]
        if any(len(ring) % 2 for ring in rings):
            raise ValueError("a polygon holds an odd number of coordinates")
        poly, own = corners_of(np.concatenate(rings).reshape(-1, 2))
        if rotation == 0 or not own or not _is_bbox(poly, annotation):
            if not own:
                losses.add("polygons of other than four corners (their smallest turned rectangle is taken)")
            return poly
    x, y, width, height = (float(value) for value in annotation["bbox"])
    if not all(map(math.isfinite, (x, y, width, height, rotation))):
        raise ValueError("bbox holds no finite numbers")
    if rotation:
        return Rectangle(x + width / 2, y + height / 2, width, height, math.radians(rotation)).corners
    if not isinstance(attributes, Mapping) or "rotation" not in attributes:
        losses.add("objects without polygon (their upright bbox is taken)")
    return upright_corners(x, y, x + width, y + height)


def _is_bbox(poly: NDArray[np.float64], annotation: Mapping[str, Any]) -> bool:
    """Is the polygon no more than the corners of the upright bbox?"""
    x, y, width, height = (float(value) for value in annotation["bbox"])
    x0, y0, x1, y1 = poly_to_hbb(poly[None])[0]
    return bool(
        np.abs([x0 - x, y0 - y, x1 - x - width, y1 - y - height]).max() < 0.1
        and abs(polygon_area(poly[None])[0] - width * height) < 0.01 * width * height
    )
