"""roLabelImg XML (https://github.com/cgvict/roLabelImg), one file per image: Pascal VOC with turned boxes.

    <annotation verified="no">
      <filename>P0003</filename> <size><width>1147</width><height>1023</height><depth>3</depth></size>
      <object><type>robndbox</type><name>ship</name> ... <difficult>0</difficult>
        <robndbox><cx>500.0</cx><cy>300.0</cy><w>100.0</w><h>50.0</h><angle>0.5236</angle></robndbox></object>

``w`` is the side along which the angle is measured: radians, clockwise on the screen, in [0, pi). Its numbers are
written with four decimals, the angle with six, as the tool does. It knows rectangles only: of any other quadrangle the
smallest rectangle around it is written, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from fdam_rotate.dota.errors import LabelFormatError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.formats.boxes import Rectangle, rectangle_around, rectangle_of, upright_corners
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
from fdam_rotate.dota.formats.xmltext import number_of, read_xml, text_of
from fdam_rotate.dota.labels import MAX_COORDINATE
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over

__all__ = ["read", "write"]


def read(source: Path, reading: Reading) -> list[DataPart]:
    """Read a folder of XML files, beside the images or in a folder beside ``images/``, or a folder of such folders.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DotaError: no XML file.
    """
    return read_sidecars(source, ".xml", reading, _read_one)


def write(parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
    """Write ``folder/<part>/<id>.xml`` and the images beside them; a lone part named ``data`` into ``folder``."""
    for part in parts:
        root = folder if is_lone(parts) else folder / part.name
        for item in progress_over(part.items, f"writing {part.name}", "image", shown=writing.progress):
            place_image(item, root, writing.placement)
            writing.losses.add("header lines (source and gsd of an image)", len(item.labels.header))
            annotation = ElementTree.Element("annotation", verified="no")
            _child(annotation, "folder", part.name)
            _child(annotation, "filename", item.image_id)
            _child(annotation, "path", item.file_name)
            _child(_child(annotation, "source"), "database", "Unknown")
            size = _child(annotation, "size")
            for name, value in (("width", item.width), ("height", item.height), ("depth", 3)):
                _child(size, name, str(value))
            _child(annotation, "segmented", "0")
            for k in range(len(item.labels)):
                _write_object(annotation, item, k, writing)
            ElementTree.indent(annotation)
            text = ElementTree.tostring(annotation, encoding="unicode")
            write_text(root / f"{item.image_id}.xml", text + "\n")


def _write_object(annotation: ElementTree.Element, item: Item, k: int, writing: Writing) -> None:
    rectangle = rectangle_of(item.labels.polys[k])
    if rectangle is None:
        rectangle = rectangle_around(item.labels.polys[k])
        writing.losses.add("quadrangles that are no rectangles (the smallest rectangle around is written)")
    element = _child(annotation, "object")
    for name, value in (
        ("type", "robndbox"),
        ("name", item.labels.names[k]),
        ("pose", "Unspecified"),
        ("truncated", "0"),
        ("difficult", str(item.labels.difficult[k])),
    ):
        _child(element, name, value)
    box = _child(element, "robndbox")
    sides = (("cx", rectangle.cx), ("cy", rectangle.cy), ("w", rectangle.width), ("h", rectangle.height))
    for name, number in sides:
        _child(box, name, f"{number:.4f}")
    _child(box, "angle", f"{rectangle.angle % math.pi:.6f}")


def _child(parent: ElementTree.Element, name: str, text: str | None = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name)
    element.text = text
    return element


def _read_one(one: Sidecar, reading: Reading) -> Item | None:
    """The item of one image.

    Raises:
        LabelFormatError: the file is no roLabelImg XML.
    """
    objects = Objects()
    if one.label is None:
        reading.losses.note("images without a label file, taken as background")
        return make_item(one.image_id, one.image, None, objects.labels(), reading, "")
    root = read_xml(one.label)
    if root.tag != "annotation":
        raise LabelFormatError(f"no roLabelImg file: its root is <{root.tag}>, expected <annotation>")
    for number, element in enumerate(root.findall("object")):
        try:
            _read_object(element, objects, reading)
        except ValueError as error:
            reading.problems.append(Problem("malformed", str(one.label), 0, f"object {number}: {error}"))
    try:
        stated = (int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0))
    except ValueError:
        stated = (0, 0)
    missing = f"no image of this name beside {one.label} or in images/; left out"
    return make_item(one.image_id, one.image, stated if min(stated) > 0 else None, objects.labels(), reading, missing)


def _read_object(element: ElementTree.Element, objects: Objects, reading: Reading) -> None:
    turned, upright = element.find("robndbox"), element.find("bndbox")
    if turned is not None:
        numbers = [number_of(turned, name) for name in ("cx", "cy", "w", "h", "angle")]
        if abs(numbers[4]) > 2 * math.pi + 0.01:
            raise ValueError(f"the angle {numbers[4]:g} looks like degrees; roLabelImg writes radians")
    elif upright is not None:
        numbers = [number_of(upright, name) for name in ("xmin", "ymin", "xmax", "ymax")]
    else:
        raise ValueError("neither robndbox nor bndbox")
    if not all(abs(number) <= MAX_COORDINATE for number in numbers):  # NaN fails too
        raise ValueError(f"no finite coordinates: {numbers}")
    poly = Rectangle(*numbers).corners if turned is not None else upright_corners(*numbers)
    difficult = text_of(element, "difficult") or "0"
    if not difficult.isdecimal():
        raise ValueError(f"difficult must be an integer of at least 0, got {difficult!r}")
    objects.add(poly, reading.class_name(text_of(element, "name")), int(difficult))
