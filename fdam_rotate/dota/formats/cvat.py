"""CVAT for images 1.1: one XML file for many images (https://docs.cvat.ai/docs/other/xml_format).

    OUT/annotations.xml            <image id="0" name="P0003.png" width="1147" height="1023">
                                     <box label="ship" xtl ytl xbr ybr rotation="30.0"/> <polygon points="x,y;..."/>
    OUT/images/P0003.png

A ``box`` is given by two corners of before it was turned, and turned by ``rotation`` degrees, clockwise about its
centre. A rectangle is written as such a box, which CVAT can turn; any other quadrangle as a polygon. Difficulty is
an attribute ``difficult`` of the object, which CVAT keeps where its label has an attribute of that name. A project's
export names a ``subset`` per image: these are the parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import check_file_name, write_text
from fdam_rotate.dota.formats.boxes import Rectangle, corners_of, rectangle_of
from fdam_rotate.dota.formats.interchange import (
    DataPart,
    Item,
    Objects,
    Reading,
    Writing,
    inner_path,
    is_lone,
    make_item,
    place_image,
)
from fdam_rotate.dota.formats.sidecars import ImageFinder
from fdam_rotate.dota.formats.xmltext import read_xml
from fdam_rotate.dota.labels import MAX_COORDINATE
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over

__all__ = ["read", "write"]


def read(source: Path, reading: Reading) -> list[DataPart]:
    """Read CVAT's XML files.

    ``source`` is an XML file, or a folder with ``annotations.xml`` or several ``*.xml``. Images are looked for in
    ``reading.img_dir``, or else in ``images/<subset>/``, ``images/`` and beside the file.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DotaError: no XML file, or one that is not CVAT's for images.
    """
    if source.is_file():
        files = [source]
    elif source.is_dir():
        files = sorted(source.glob("[!.]*.xml")) or sorted((source / "annotations").glob("[!.]*.xml"))
    else:
        raise FileNotFoundError(f"{source} does not exist; expected CVAT's annotations.xml or its folder")
    if not files:
        raise DotaError(f"{source}: no XML file; expected CVAT's annotations.xml")
    found: dict[str, dict[str, Item]] = {}
    for path in files:
        _read_file(path, found, reading)
    return [DataPart(name, tuple(items[key] for key in sorted(items))) for name, items in found.items()]


def write(parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
    """Write ``folder/<part>.xml`` and ``folder/images/<part>/``; a lone part named ``data`` as ``annotations.xml``."""
    for part in parts:
        lone = is_lone(parts)
        root = ElementTree.Element("annotations")
        ElementTree.SubElement(root, "version").text = "1.1"
        items = progress_over(part.items, f"writing {part.name}", "image", shown=writing.progress)
        for number, item in enumerate(items):
            place_image(item, folder / "images" if lone else folder / "images" / part.name, writing.placement)
            writing.losses.add("header lines (source and gsd of an image)", len(item.labels.header))
            size = {"width": str(item.width), "height": str(item.height)}
            image = ElementTree.SubElement(root, "image", {"id": str(number), "name": item.file_name, **size})
            for k in range(len(item.labels)):
                _write_object(image, item, k)
        ElementTree.indent(root)
        text = '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode")
        write_text(folder / ("annotations.xml" if lone else f"{part.name}.xml"), text + "\n")


def _write_object(image: ElementTree.Element, item: Item, k: int) -> None:
    common = {"label": item.labels.names[k], "source": "manual" if item.scores is None else "auto", "occluded": "0"}
    rectangle = rectangle_of(item.labels.polys[k])
    if rectangle is not None:
        x, y, width, height, angle = rectangle
        corners = {"xtl": x - width / 2, "ytl": y - height / 2, "xbr": x + width / 2, "ybr": y + height / 2}
        numbers = {name: f"{value:.4f}" for name, value in corners.items()}
        degrees = {"rotation": f"{math.degrees(angle) % 360:.6f}"} if angle else {}
        shape = ElementTree.SubElement(image, "box", {**common, **numbers, **degrees, "z_order": "0"})
    else:
        points = ";".join(f"{x!r},{y!r}" for x, y in item.labels.polys[k].reshape(4, 2).tolist())
        shape = ElementTree.SubElement(image, "polygon", {**common, "points": points, "z_order": "0"})
    if item.labels.difficult[k]:
        ElementTree.SubElement(shape, "attribute", name="difficult").text = str(item.labels.difficult[k])


def _read_file(path: Path, found: dict[str, dict[str, Item]], reading: Reading) -> None:
    root = read_xml(path)
    if root.tag != "annotations":
        hint = "; this is roLabelImg's or Pascal VOC's" if root.tag == "annotation" else ""
        raise DotaError(f"{path}: not CVAT's XML: its root is <{root.tag}>, expected <annotations>{hint}")
    if root.find("track") is not None and root.find("image") is None:
        raise DotaError(f"{path}: this is CVAT for video 1.1; export as 'CVAT for images 1.1'")
    finders: dict[str, ImageFinder] = {}
    images = root.findall("image")
    default = "data" if path.stem == "annotations" else path.stem
    for image in progress_over(images, f"reading {path.name}", "image", shown=reading.progress):
        subset = image.get("subset", "")
        part = default if subset.lower() in ("", "default") else subset
        name = image.get("name", "")
        inner = inner_path(name)
        if inner is None:
            text = f"image name {name!r} is no path within the folder of images"
            reading.problems.append(Problem("id", str(path), 0, text))
            continue
        try:
            check_file_name(part)
        except DotaError:
            text = f"image {name}: its subset {subset!r} cannot be the name of a folder; it is left out"
            reading.problems.append(Problem("id", str(path), 0, text))
            continue
        items = found.setdefault(part, {})
        if inner.stem in items:
            reading.problems.append(Problem("clash", str(path), 0, f"image {name}: its id is taken; it is left out"))
            continue
        if part not in finders:
            base = path.parent.parent if path.parent.name == "annotations" else path.parent
            folders = [base / "images" / part, base / "images", base / part, base]
            finders[part] = ImageFinder([reading.img_dir] if reading.img_dir else folders, reading.problems)
        objects = Objects()
        for number, shape in enumerate(image):
            try:
                _read_shape(shape, objects, reading)
            except (KeyError, ValueError) as error:
                text = f"no {error}" if isinstance(error, KeyError) else str(error)
                reading.problems.append(
                    Problem("malformed", str(path), 0, f"image {name}, {shape.tag} {number}: {text}")
                )
        stated = _size(image)
        missing = f"{name} is not in {', '.join(map(str, finders[part].folders))}; it is left out"
        item = make_item(inner.stem, finders[part].find(str(inner)), stated, objects.labels(), reading, missing)
        if item is not None:
            items[inner.stem] = item


def _size(image: ElementTree.Element) -> tuple[int, int] | None:
    try:
        return int(image.attrib["width"]), int(image.attrib["height"])
    except (KeyError, ValueError):
        return None


def _read_shape(shape: ElementTree.Element, objects: Objects, reading: Reading) -> None:
    if shape.tag == "box":
        x0, y0, x1, y1 = _numbers([shape.attrib[name] for name in ("xtl", "ytl", "xbr", "ybr")])
        (degrees,) = _numbers([shape.get("rotation", "0")])
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        poly = Rectangle(*centre, abs(x1 - x0), abs(y1 - y0), math.radians(degrees)).corners
    elif shape.tag == "polygon":
        points = [_numbers(point.split(",")) for point in shape.attrib["points"].split(";")]
        if any(len(point) != 2 for point in points):
            raise ValueError("a point has other than two coordinates")
        poly, own = corners_of(np.array(points, np.float64))
        if not own:
            reading.losses.add("polygons of other than four corners (their smallest turned rectangle is taken)")
    elif shape.tag == "tag":
        return  # of the whole image
    else:
        reading.losses.add(f"shapes of type {shape.tag} (no boxes), left out")
        return
    objects.add(poly, reading.class_name(shape.attrib["label"]), _difficult(shape))


def _numbers(texts: Sequence[str]) -> list[float]:
    numbers = [float(text) for text in texts]
    if not all(abs(number) <= MAX_COORDINATE for number in numbers):  # NaN fails too
        raise ValueError(f"no finite coordinates: {', '.join(texts)}")
    return numbers


def _difficult(shape: ElementTree.Element) -> int:
    for attribute in shape.findall("attribute"):
        if attribute.get("name", "").lower() == "difficult":
            text = (attribute.text or "").strip().lower()
            return int(text) if text.isdecimal() else int(text == "true")
    return 0
