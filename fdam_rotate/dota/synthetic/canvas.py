"""The picture being painted: textured ground, stamped objects with shadows, and which pixels belong to which object."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.synthetic.sketch import Colour, Frame, Sketch, rect_points

__all__ = ["TEXTURES", "Canvas", "PlacedObject", "smooth_noise"]

_SHIFT = 4  # OpenCV takes polygon corners as fixed-point numbers with this many fractional bits
# OpenCV paints every pixel that a polygon's border touches: half a pixel too much all round, which on a small car is a
# third of its area. Objects are therefore painted this many times larger and averaged down, unless they are so large
# (in enlarged pixels) that it matters no more.
_FINE = 4
_LARGE = 1_000_000
_COARSE = 4  # the map of taken ground is kept at a quarter of the resolution

#: Strength of fine, middle and broad noise for each kind of surface.
TEXTURES: dict[str, tuple[float, float, float]] = {
    "asphalt": (0.045, 0.035, 0.05),
    "concrete": (0.03, 0.04, 0.04),
    "grass": (0.07, 0.09, 0.10),
    "soil": (0.05, 0.10, 0.10),
    "water": (0.025, 0.03, 0.10),
    "wood": (0.16, 0.16, 0.08),
}


@dataclass(frozen=True)
class PlacedObject:
    """An object that may be labelled: class, corners (4, 2) in pixels, its number in ``Canvas.instances``."""

    name: str
    corners: NDArray[np.float64]
    number: int
    drawn: int  # pixels that it had in the image when it was painted


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> NDArray[np.float32]:
    """Noise (height, width) of mean 0 and deviation about 1, whose patches are ``cell`` pixels wide."""
    rows, cols = max(2, math.ceil(height / cell) + 1), max(2, math.ceil(width / cell) + 1)
    small = rng.standard_normal((rows, cols), dtype=np.float32)
    if cell <= 1:
        return small[:height, :width]
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


class Canvas:
    """A picture in RGB with a map of instances.

    Args:
        width: pixels.
        height: pixels.
        rng: the scene's random generator; the noise fields are drawn from it at once.
        sun: shadow of a thing one metre high, as (dx, dy) in metres in the image's axes.
        wanted: the classes to draw; objects of other classes are left out.
    """

    def __init__(
        self, width: int, height: int, rng: np.random.Generator, sun: tuple[float, float], wanted: Collection[str]
    ) -> None:
        self.width, self.height = width, height
        self.image = np.zeros((height, width, 3), np.uint8)
        self.instances = np.zeros((height, width), np.int32)
        self.taken = np.zeros((height // _COARSE + 1, width // _COARSE + 1), np.uint8)
        self.wanted = frozenset(wanted)
        self.objects: list[PlacedObject] = []
        self._sun = sun
        self._count = 0
        self._fine = smooth_noise(rng, height, width, 1.6)
        self._middle = smooth_noise(rng, height, width, 6) * 0.6 + smooth_noise(rng, height, width, 22) * 0.8
        self._broad = smooth_noise(rng, height, width, 90) * 0.7 + smooth_noise(rng, height, width, 260) * 0.7

    # ------------------------------------------------------------------ ground

    def region(self, points: NDArray[np.float64], colour: Colour, texture: str) -> None:
        """Fill a polygon (n, 2) in pixels with a textured colour."""
        window = self._window(points)
        if window is None:
            return
        x0, y0, x1, y1 = window
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [_fixed(points, x0, y0)], (255,), cv2.LINE_AA, _SHIFT)
        fine, middle, broad = TEXTURES[texture]
        rows, cols = slice(y0, y1), slice(x0, x1)
        level = (
            1.0 + fine * self._fine[rows, cols] + middle * self._middle[rows, cols] + broad * self._broad[rows, cols]
        )
        level = np.ascontiguousarray(np.maximum(level, 0.05), dtype=np.float32)
        patch = cv2.merge([cv2.convertScaleAbs(level, alpha=channel) for channel in colour])
        weight = mask.astype(np.float32) / 255.0
        crop = np.ascontiguousarray(self.image[rows, cols])
        self.image[rows, cols] = cv2.blendLinear(patch, crop, weight, 1.0 - weight)

    def ground_rect(self, frame: Frame, length: float, width: float, colour: Colour, texture: str) -> None:
        """Fill a rectangle of the frame, in metres, with a textured colour."""
        self.region(frame.points(rect_points(0, 0, length, width)), colour, texture)

    def line(self, frame: Frame, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour) -> None:
        """A painted line on the ground, in metres of the frame."""
        if self._window(frame.points([(x0, y0), (x1, y1)]), 2 + math.ceil(width * frame.scale)) is None:
            return
        sketch = Sketch()
        sketch.stripe(x0, y0, x1, y1, width, colour)
        self.mark(sketch, frame)

    def mark(self, sketch: Sketch, frame: Frame) -> None:
        """Paint on the ground: no shadow, no instance, and the ground stays free."""
        points, rows = sketch.project(frame)
        _fill(self.image, sketch, _fixed(points), rows, cv2.LINE_AA)

    def veil(self, points: NDArray[np.float64], colour: Colour, strength: float) -> None:
        """Blend a polygon (n, 2) in pixels of one colour over the ground: foam, wakes, wet patches."""
        window = self._window(points)
        if window is not None:
            x0, y0, x1, y1 = window
            mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
            cv2.fillPoly(mask, [_fixed(points, x0, y0)], (255,), cv2.LINE_AA, _SHIFT)
            self._blend(window, mask, colour, strength)

    # ----------------------------------------------------------------- objects

    def put(self, name: str, sketch: Sketch, frame: Frame, *, margin: float = 0.0, force: bool = False) -> bool:
        """Draw an object of class ``name`` if it is wanted and its ground is free; it will be labelled.

        Args:
            name: a DOTA class name.
            sketch: the drawing.
            frame: where.
            margin: free ground asked for around it, in metres.
            force: skip the test for free ground (rows that are laid out without overlap).
        """
        if name not in self.wanted:
            return False
        corners = frame.points(sketch.corners())
        if self._window(corners) is None or not (force or self.is_free(corners, margin * frame.scale)):
            return False
        self._count += 1
        number = self._count
        self._stamp(sketch, frame, number)
        self.take(corners)
        x0, y0, x1, y1 = self._window(corners, 2) or (0, 0, 0, 0)
        drawn = int(np.count_nonzero(self.instances[y0:y1, x0:x1] == number))
        if drawn:
            self.objects.append(PlacedObject(name, corners, number, drawn))
        return True

    def clutter(
        self, sketch: Sketch, frame: Frame, *, margin: float = 0.0, force: bool = False, over: bool = False
    ) -> bool:
        """Draw something unlabelled where the ground is free; ``over`` lets it hide what is there (a tree's crown)."""
        corners = frame.points(sketch.corners())
        if self._window(corners) is None or not (force or over or self.is_free(corners, margin * frame.scale)):
            return False
        self._stamp(sketch, frame, 0)
        if not over:
            self.take(corners)
        return True

    def is_free(self, corners: NDArray[np.float64], margin: float = 0.0) -> bool:
        """True where nothing stands within ``margin`` pixels of the box; off the image everything is free."""
        centre = corners.mean(axis=0)
        reach = corners - centre
        norm = np.linalg.norm(reach, axis=1, keepdims=True) + 1e-9
        points = (centre + reach * (1 + margin * 1.414 / norm)) / _COARSE
        x0, y0 = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, self.taken.shape[::-1])
        if x1 <= x0 or y1 <= y0:
            return True
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [np.round(points - (x0, y0)).astype(np.int32)], (1,))
        return not bool(np.any(mask & self.taken[y0:y1, x0:x1]))

    def take(self, corners: NDArray[np.float64]) -> None:
        """Mark a polygon's ground as taken."""
        cv2.fillPoly(self.taken, [np.round(corners / _COARSE).astype(np.int32)], (1,))

    # ----------------------------------------------------------------- private

    def _stamp(self, sketch: Sketch, frame: Frame, number: int) -> None:
        points, rows = sketch.project(frame)
        body = [row for part, row in zip(sketch.parts, rows, strict=True) if part.body]
        if sketch.height > 0:
            self._shadow([points[row] for row in body], np.array(self._sun) * sketch.height * frame.scale)
        window = self._window(points)
        if window is None:
            return
        x0, y0, x1, y1 = window
        shape = ((x1 - x0) * _FINE, (y1 - y0) * _FINE)
        mask = np.zeros((shape[1], shape[0]), np.uint8)
        fixed = _fixed(points * _FINE, x0 * _FINE, y0 * _FINE)
        for row in body:
            cv2.fillPoly(mask, [fixed[row]], (255,), cv2.LINE_8, _SHIFT)
        owned = cv2.resize(mask, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA) >= 128
        self.instances[y0:y1, x0:x1][owned] = number
        if shape[0] * shape[1] > _LARGE:
            _fill(self.image, sketch, _fixed(points), rows, cv2.LINE_AA)
            return
        crop = self.image[y0:y1, x0:x1]
        large = cv2.resize(crop, shape, interpolation=cv2.INTER_NEAREST)
        _fill(large, sketch, fixed, rows, cv2.LINE_8)
        crop[:] = cv2.resize(large, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)

    def _shadow(self, outlines: list[NDArray[np.float64]], reach: NDArray[np.float64]) -> None:
        everything = np.concatenate(outlines)
        window = self._window(np.concatenate((everything, everything + reach)), 3)
        if window is None:
            return
        x0, y0, x1, y1 = window
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for outline in outlines:
            swept = cv2.convexHull(np.concatenate((outline, outline + reach)).astype(np.float32))[:, 0].astype(
                np.float64
            )
            cv2.fillPoly(mask, [_fixed(swept, x0, y0)], (255,), cv2.LINE_AA, _SHIFT)
        self._blend(window, cv2.blur(mask, (3, 3)), (10, 12, 18), 0.55)

    def _blend(self, window: tuple[int, int, int, int], mask: NDArray[Any], colour: Colour, strength: float) -> None:
        x0, y0, x1, y1 = window
        weight = mask.astype(np.float32) * np.float32(strength / 255.0)
        crop = np.ascontiguousarray(self.image[y0:y1, x0:x1])
        plain = np.full_like(crop, [round(c) for c in colour])
        self.image[y0:y1, x0:x1] = cv2.blendLinear(plain, crop, weight, 1.0 - weight)

    def _window(self, points: NDArray[np.float64], margin: int = 1) -> tuple[int, int, int, int] | None:
        """The pixels (x0, y0, x1, y1), ends exclusive, that a polygon can touch; None off the image."""
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        x0, y0 = max(math.floor(left) - margin, 0), max(math.floor(top) - margin, 0)
        x1, y1 = min(math.ceil(right) + margin, self.width), min(math.ceil(bottom) + margin, self.height)
        return None if x1 <= x0 or y1 <= y0 else (x0, y0, x1, y1)


def _fixed(points: NDArray[np.float64], x0: int = 0, y0: int = 0) -> NDArray[np.int32]:
    """Points in the fixed-point numbers of OpenCV, whose integer coordinates are pixel centres where ours are edges."""
    fixed: NDArray[np.int32] = np.rint((points - (x0 + 0.5, y0 + 0.5)) * (1 << _SHIFT)).astype(np.int32)
    return fixed


def _fill(image: Any, sketch: Sketch, fixed: NDArray[np.int32], rows: list[slice], line: int) -> None:
    """Paint the parts of a sketch, whose points are given in fixed-point pixels of ``image``."""
    for part, row in zip(sketch.parts, rows, strict=True):
        cv2.fillPoly(image, [fixed[row]], part.colour, line, _SHIFT)
