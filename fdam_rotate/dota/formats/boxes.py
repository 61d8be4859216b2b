"""Turned rectangles as tools write them, and outlines of any number of points, from and to four corners.

Pixels are continuous, x right, y down; angles turn clockwise on the screen. Corners are (8,) float64, x1 y1 ... x4 y4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.geometry import le90_to_poly, poly_to_le90

__all__ = [
    "RECTANGLE_PIXELS",
    "Rectangle",
    "corners_of",
    "rectangle_around",
    "rectangle_of",
    "turned_rectangle",
    "upright_corners",
]

#: Four corners this near to a rectangle's (in pixels) are written as one.
RECTANGLE_PIXELS = 0.01


class Rectangle(NamedTuple):
    """A turned rectangle: its centre, its sides, and the angle of its first side in radians, clockwise."""

    cx: float
    cy: float
    width: float
    height: float
    angle: float

    @property
    def corners(self) -> NDArray[np.float64]:
        """(8,), from the upper left before turning, onwards clockwise."""
        poly: NDArray[np.float64] = le90_to_poly([self])[0]
        return poly


def rectangle_of(poly: NDArray[np.float64]) -> Rectangle | None:
    """The rectangle whose corners (8,) these are, its first side from the first corner; None where they are none's.

    Corners that run counter-clockwise are taken in the other order, from the same first one.
    """
    points = poly.reshape(4, 2)
    (x, y), (u, v) = points[2] - points[0], points[3] - points[1]
    if x * v - y * u < 0:
        points = points[[0, 3, 2, 1]]
    along = (points[1] - points[0] + points[2] - points[3]) / 2
    across = (points[3] - points[0] + points[2] - points[1]) / 2
    width, height = math.hypot(*along), math.hypot(*across)
    angle = math.atan2(along[1], along[0]) if width else math.atan2(-across[0], across[1])
    cx, cy = points.mean(0).tolist()
    found = Rectangle(cx, cy, width, height, angle)
    return found if np.abs(found.corners.reshape(4, 2) - points).max() <= RECTANGLE_PIXELS else None


def rectangle_around(poly: NDArray[np.float64]) -> Rectangle:
    """The smallest rectangle around four corners (8,)."""
    return Rectangle(*poly_to_le90(poly[None])[0].tolist())


def corners_of(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Corners (8,) of an outline (n, 2), and whether they are its own.

    An outline of four points has them; of any other the smallest turned rectangle is taken. A ring that repeats its
    first point at the end has one point less.

    Raises:
        ValueError: there are fewer than three points, or one is not finite.
    """
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not finite")
    if len(points) > 2 and (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) == 4:
        return points.reshape(8), True
    if len(points) < 3:
        raise ValueError(f"a polygon needs three points or more, got {len(points)}")
    return turned_rectangle(points), False


def upright_corners(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float64]:
    """Corners (8,) of the upright box between two opposite points."""
    x0, x1 = sorted((x0, x1))
    y0, y1 = sorted((y0, y1))
    return np.array([x0, y0, x1, y0, x1, y1, x0, y1], np.float64)


def turned_rectangle(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest turned rectangle (8,) around points (n, 2)."""
    import cv2  # costs a tenth of a second

    corners = cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32)))
    return np.asarray(corners, np.float64).reshape(8)
