"""The detections of one image as columns of numbers in base64, which the page's script reads as typed arrays.

Rows go class by class, within a class by falling score: those above a threshold are the first of each class.
All numbers are little-endian, as every browser's machine has them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.classes import colour_of
from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.geometry import le90_to_poly, poly_to_le90
from fdam_rotate.dota.rasters.georeference import GeoReference

__all__ = ["MAX_BOXES", "best_first", "box_columns"]

#: The most detections that a page holds; the best are kept.
MAX_BOXES = 200_000

Array = NDArray[np.float64]


def best_first(detections: Mapping[str, Detections], classes: Sequence[str]) -> tuple[NDArray[np.intp], Array, Array]:
    """Class number (N,), scores (N,) and corners (N, 8) of one image's detections, the best `MAX_BOXES` by score.

    Args:
        detections: class -> detections, all of one image.
        classes: class names, in the order that numbers them; others are left out.
    """
    own = [(number, detections[name]) for number, name in enumerate(classes) if name in detections]
    cls = np.repeat(np.array([number for number, _ in own], np.intp), [len(found) for _, found in own])
    scores = np.concatenate([np.empty(0), *(found.scores for _, found in own)])
    polys = np.concatenate([np.empty((0, 8)), *(found.polys for _, found in own)])
    order = np.argsort(-scores, kind="stable")[:MAX_BOXES]
    return cls[order], scores[order], polys[order]


def box_columns(
    cls: NDArray[np.intp], scores: Array, polys: Array, classes: Sequence[str], reference: GeoReference | None
) -> dict[str, Any]:
    """What `best_first` gave, as JSON: the classes that occur, and the columns of their boxes.

    Columns: ``scores`` float64 (N,); ``corners`` float32 (N, 8) in pixels; ``sides`` float32 (N, 3), length, width and
    angle in degrees of the smallest rectangle around the corners, the angle from the x axis clockwise on the screen, in
    [-90, 90); ``metres`` float32 (N, 2), its length and width on the ground, or None without a place.
    """
    order = np.argsort(cls, kind="stable")
    cls, scores, polys = cls[order], scores[order], polys[order]
    present, counts = np.unique(cls, return_counts=True)
    boxes = poly_to_le90(polys)
    sides = np.concatenate([boxes[:, 2:4], np.degrees(boxes[:, 4:])], axis=1)
    metres = None if reference is None or not len(boxes) else _metres(boxes, reference)
    return {
        "classes": [
            {"name": classes[number], "colour": f"#{bytes(colour_of(classes[number], classes)).hex()}", "count": count}
            for number, count in zip(present.tolist(), counts.tolist(), strict=True)
        ],
        "scores": _base64(scores, "<f8"),
        "corners": _base64(polys, "<f4"),
        "sides": _base64(sides, "<f4"),
        "metres": None if metres is None else _base64(metres, "<f4"),
    }


def _metres(boxes: Array, reference: GeoReference) -> Array | None:
    """Length and width on the ground (N, 2) of oriented boxes (N, 5), through their centres."""
    corners = le90_to_poly(boxes).reshape(-1, 4, 2)
    middles = (corners + np.roll(corners, -1, axis=1)) / 2  # of the upper, right, lower and left side
    length = reference.metres(middles[:, 3], middles[:, 1])
    width = reference.metres(middles[:, 0], middles[:, 2])
    return None if length is None or width is None else np.stack([length, width], axis=1)


def _base64(values: Array, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode("ascii")
