"""COCO JSON with oriented boxes as four-corner polygons.

    OUT/annotations/train.json    images, annotations, categories
    OUT/train/P0003.png

An annotation holds ``segmentation`` (one polygon of eight numbers, the corners as in DOTA), ``bbox`` (x, y, width,
height of its upright bounds), ``area`` (of the polygon), ``iscrowd`` 0 and, beyond COCO, ``difficult`` (DOTA's number).
Difficulty is a field of its own because neither of COCO's means the same: pycocotools pays no heed to ``ignore``, mmdet
leaves such objects out of training, and ``iscrowd`` promises a run-length mask of a group. ``dota_header`` of an image
holds its header lines. Category ids count from 1 in the order of the class list. A round trip is exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fdam_rotate.dota.errors import DotaError, ImageReadError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.formats.interchange import DataPart, Item, Losses, place_image, turned_rectangle
from fdam_rotate.dota.geometry import poly_to_hbb, polygon_area
from fdam_rotate.dota.labels import Labels, unknown_class
from fdam_rotate.dota.layout import image_problem
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.rasters.images import image_size

__all__ = ["read_coco", "write_coco"]


def write_coco(
    parts: Sequence[DataPart],
    folder: Path,
    classes: Sequence[str],
    placement: str,
    problems: list[Problem],
) -> None:
    """Write ``annotations/<part>.json`` and the images into ``folder/<part>``.

    Args:
        parts: the data set.
        folder: the output folder.
        classes: class names; category ids are 1, 2, ... in this order.
        placement: how images get there, one of ``PLACEMENTS``.
        problems: collects objects of other classes, which are left out.
    """
    index = {name: k for k, name in enumerate(classes, start=1)}
    for part in parts:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        bar = tqdm(part.items, desc=f"writing {part.name}", unit="image", disable=None)
        for image_number, item in enumerate(bar, start=1):
            place_image(item, folder / part.name, placement)
            record = {"id": image_number, "file_name": item.file_name, "width": item.width, "height": item.height}
            images.append({**record, "dota_header": list(item.labels.header)} if item.labels.header else record)
            bounds, areas = poly_to_hbb(item.labels.polys), polygon_area(item.labels.polys)
            for k, name in enumerate(item.labels.names):
                if name not in index:
                    line = int(item.labels.lines[k])
                    problems.append(Problem("class", f"{item.image_id}.txt", line, unknown_class(name, classes)))
                    continue
                x0, y0, x1, y1 = bounds[k].tolist()
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_number,
                        "category_id": index[name],
                        "segmentation": [item.labels.polys[k].tolist()],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": float(areas[k]),
                        "iscrowd": 0,
                        "difficult": int(item.labels.difficult[k]),
                    }
                )
        categories = [{"id": number, "name": name, "supercategory": "object"} for name, number in index.items()]
        content = {
            "info": {"description": "oriented boxes as polygons of four corners; difficult as in DOTA"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        write_text(folder / "annotations" / f"{part.name}.json", json.dumps(content, ensure_ascii=False) + "\n")


def read_coco(
    source: Path, img_dir: Path | None, losses: Losses, problems: list[Problem], *, need_images: bool = True
) -> list[DataPart]:
    """Read COCO JSON files with polygons (or boxes) as oriented objects.

    Args:
        source: a JSON file, or a folder with ``annotations/*.json`` or ``*.json``; each file is one part.
        img_dir: the folder of images; None looks in ``<part>/``, ``images/<part>/`` and ``images/`` beside the JSON.
        losses: collects what is read in another form: polygons of other than four corners and masks.
        problems: collects records that cannot be read; they are left out.
        need_images: an image that is not found is a problem; else the size that the JSON gives will do.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DotaError: no JSON file, or one that is no COCO file.
    """
    if source.is_file():
        files = [source]
    elif source.is_dir():
        files = sorted((source / "annotations").glob("*.json")) or sorted(source.glob("*.json"))
    else:
        raise FileNotFoundError(f"{source} does not exist; expected a COCO JSON file or a folder of them")
    if not files:
        raise DotaError(f"{source}: no JSON file, neither in it nor in annotations/")
    return [_read_file(path, img_dir, losses, problems, need_images) for path in files]


def _read_file(
    path: Path, img_dir: Path | None, losses: Losses, problems: list[Problem], need_images: bool
) -> DataPart:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        categories = {int(c["id"]): "-".join(str(c["name"]).split()) for c in content["categories"]}
        spaced = sum(len(str(c["name"]).split()) > 1 for c in content["categories"])
        images, annotations = list(content["images"]), list(content["annotations"])
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DotaError(f"{path}: not JSON: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DotaError(f"{path}: not a COCO file: expected images, annotations and categories: {error!r}") from None
    losses.add("class names with spaces (written with - instead)", spaced)
    name = path.stem.removeprefix("instances_")
    objects: dict[Any, list[tuple[NDArray[np.float64], str, int]]] = {}
    known = _image_records(path, images, problems)
    for number, annotation in enumerate(annotations):
        result = _read_annotation(annotation, categories, known, losses)
        if isinstance(result, str):
            shown = annotation.get("id", f"number {number}") if isinstance(annotation, Mapping) else f"number {number}"
            problems.append(Problem("malformed", str(path), 0, f"annotation {shown}: {result}"))
        else:
            objects.setdefault(annotation["image_id"], []).append(result)
    items = []
    for image_id, record in tqdm(known.items(), desc=f"reading {name}", unit="image", disable=None):
        item = _item(record, objects.get(image_id, []), _image_folders(path, name, img_dir), problems, need_images)
        if item is not None:
            items.append(item)
    return DataPart(name, tuple(sorted(items, key=lambda item: item.image_id)))


def _image_records(path: Path, images: list[Any], problems: list[Problem]) -> dict[Any, Mapping[str, Any]]:
    """Image records by id; those without a usable file name, or whose id or name is taken, are left out."""
    known: dict[Any, Mapping[str, Any]] = {}
    stems: set[str] = set()
    for number, record in enumerate(images):
        name = record.get("file_name") if isinstance(record, Mapping) else None
        pure = PurePosixPath(str(name).replace("\\", "/"))
        if (
            not name
            or pure.is_absolute()
            or ".." in pure.parts
            or ":" in str(name)
            or not pure.stem
            or "\0" in str(name)
        ):
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


def _item(
    record: Mapping[str, Any],
    objects: list[tuple[NDArray[np.float64], str, int]],
    folders: list[Path],
    problems: list[Problem],
    need_images: bool,
) -> Item | None:
    name = str(record["file_name"]).replace("\\", "/")
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        width, height = (
            value if isinstance(value, int) else 0 for value in (record.get("width"), record.get("height"))
        )
        if need_images or min(width, height) < 1:
            problems.append(Problem("no-image", name, 0, f"not in {', '.join(map(str, folders))}; it is left out"))
            return None
    else:
        try:
            width, height = image_size(found)
        except (ImageReadError, OSError) as error:
            problems.append(image_problem(found, error))
            return None
        if (record.get("width", width), record.get("height", height)) != (width, height):
            text = f"{width} x {height} pixels, the JSON says {record.get('width')} x {record.get('height')}"
            problems.append(Problem("size", str(found), 0, text))
    labels = Labels(
        np.array([poly for poly, _, _ in objects], np.float64).reshape(-1, 8),
        tuple(name for _, name, _ in objects),
        np.array([difficult for _, _, difficult in objects], np.int64),
        header=tuple(str(line) for line in record.get("dota_header", ())),
    )
    return Item(PurePosixPath(name).stem, found, width, height, labels)


def _read_annotation(
    annotation: Any, categories: Mapping[int, str], known: Mapping[Any, Any], losses: Losses
) -> tuple[NDArray[np.float64], str, int] | str:
    """Corners (8,), class and difficulty of one annotation, or what is wrong with it."""
    if not isinstance(annotation, Mapping):
        return "not an object"
    if not _is_id(annotation.get("image_id")) or annotation["image_id"] not in known:
        return f"image_id {annotation.get('image_id')!r} is not among the images"
    category = annotation.get("category_id")
    name = categories.get(category) if isinstance(category, int) else None
    if name is None:
        return f"category_id {annotation.get('category_id')!r} is not among the categories"
    try:
        poly = _corners(annotation, losses)
    except (KeyError, TypeError, ValueError) as error:
        return f"no usable segmentation or bbox: {error}"
    crowd = int(bool(annotation.get("iscrowd", 0)))
    difficult = annotation.get("difficult", crowd)
    if not isinstance(difficult, int) or difficult < 0:
        return f"difficult must be an integer of at least 0, got {difficult!r}"
    return poly, name, int(difficult)


def _corners(annotation: Mapping[str, Any], losses: Losses) -> NDArray[np.float64]:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        numbers = [float(value) for polygon in segmentation for value in polygon]
        if len(numbers) < 6 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a polygon needs three or more finite points, got {len(numbers)} numbers")
        if len(numbers) == 8:
            return np.array(numbers)
        losses.add("polygons of other than four corners (their smallest turned rectangle is taken)")
        return turned_rectangle(np.array(numbers).reshape(-1, 2))
    x, y, width, height = (float(value) for value in annotation["bbox"])
    if not all(map(math.isfinite, (x, y, width, height))):
        raise ValueError("bbox holds no finite numbers")
    losses.add("objects without polygon (their upright bbox is taken)")
    return np.array([x, y, x + width, y, x + width, y + height, x, y + height])
