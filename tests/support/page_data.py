"""What a page of detections holds, read back from its HTML without its script."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np

__all__ = ["Elements", "page_data", "page_parts", "tile_pixels"]


class Elements(HTMLParser):
    """Names and attributes of all elements, and the text within style, script and title."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._within = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag in ("style", "script", "title")
        if self._within:
            self.texts.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self._within = False

    def handle_data(self, data: str) -> None:
        if self._within:
            tag, text = self.texts[-1]
            self.texts[-1] = (tag, text + data)


def page_parts(page: str) -> Elements:
    """The page, parsed."""
    elements = Elements()
    elements.feed(page)
    return elements


def page_data(page: str) -> dict[str, Any]:
    """The JSON block, with the columns as arrays under their names and ``cls``, the class name of each box."""
    blocks = [text for tag, text in page_parts(page).texts if tag == "script"]
    data: dict[str, Any] = json.loads(blocks[0])
    columns = data["boxes"]
    for name, kind, width in (("scores", "<f8", 1), ("corners", "<f4", 8), ("sides", "<f4", 3), ("metres", "<f4", 2)):
        if columns[name] is not None:
            values = np.frombuffer(base64.b64decode(columns[name]), kind)
            columns[name] = values if width == 1 else values.reshape(-1, width)
    columns["cls"] = [one["name"] for one in columns["classes"] for _ in range(one["count"])]
    return data


def tile_pixels(data: dict[str, Any], scale: int, column: int, row: int) -> np.ndarray:
    """A tile, decoded."""
    (level,) = (one for one in data["levels"] if one["scale"] == scale)
    jpeg = base64.b64decode(level["tiles"][str(row * level["columns"] + column)])
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
