"""Vector drawings of objects: flat coloured parts in metres, placed in an image by a frame.

Object frame: x points forward (bow, nose, bonnet), y to the object's right, origin at its middle, unit metre.
Image frame: x right, y down, continuous pixels (pixel i covers [i, i + 1)). With y down a positive angle turns
clockwise on the screen, and the right-hand side of +x is +y in both frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Colour", "Frame", "Part", "Points", "Sketch", "ellipse_points", "pick", "rect_points", "shade", "tint"]

Colour = tuple[float, float, float]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """Where a drawing's origin lies in the image: ``x``, ``y`` in pixels, ``angle`` in radians, ``scale`` in px/m."""

    x: float
    y: float
    angle: float
    scale: float

    def points(self, local: ArrayLike) -> Points:
        """Points (N, 2) in metres of this frame as image pixels (N, 2)."""
        u = np.asarray(local, dtype=np.float64)
        c, s = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        out = np.empty_like(u)
        out[:, 0] = self.x + c * u[:, 0] - s * u[:, 1]
        out[:, 1] = self.y + s * u[:, 0] + c * u[:, 1]
        return out

    def upright(self) -> Frame:
        """The same place, front to the top of the image: for round things, whose box DOTA's annotators draw upright."""
        return Frame(self.x, self.y, -math.pi / 2, self.scale)

    def at(self, u: float, v: float, angle: float = 0.0) -> Frame:
        """The frame at (u, v) metres of this one, turned by ``angle`` radians more."""
        x, y = self.points([(u, v)])[0]
        return Frame(float(x), float(y), self.angle + angle, self.scale)


@dataclass(frozen=True)
class Part:
    """One filled polygon, points (n, 2) in metres; ``body`` parts make the object's box, mask and shadow."""

    points: Points
    colour: Colour
    body: bool


@dataclass
class Sketch:
    """An object as parts, painted in their order; ``height`` in metres sets the length of its shadow."""

    height: float = 0.0
    parts: list[Part] = field(default_factory=list)

    def add(self, points: ArrayLike, colour: Colour, *, body: bool = True) -> None:
        """Add a polygon (n, 2)."""
        self.parts.append(Part(np.asarray(points, dtype=np.float64), colour, body))

    def rect(self, x: float, y: float, length: float, width: float, colour: Colour, *, body: bool = True) -> None:
        """Add a rectangle centred at (x, y), ``length`` along x."""
        self.add(rect_points(x, y, length, width), colour, body=body)

    def disc(
        self, x: float, y: float, radius: float, colour: Colour, *, ry: float | None = None, body: bool = True
    ) -> None:
        """Add a disc, or with ``ry`` an ellipse whose half-axes are ``radius`` along x and ``ry`` along y."""
        self.add(ellipse_points(x, y, radius, radius if ry is None else ry), colour, body=body)

    def stripe(
        self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour, *, body: bool = False
    ) -> None:
        """Add a straight line of the given width."""
        dx, dy = x1 - x0, y1 - y0
        norm = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / norm * width / 2, dx / norm * width / 2
        self.add([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], colour, body=body)

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour, steps: int = 28) -> None:
        """Add a circle line of the given width, as short stripes that are not body."""
        angles = np.linspace(0.0, 2 * math.pi, steps + 1)
        for a, b in pairwise(angles.tolist()):
            self.stripe(
                x + radius * math.cos(a), y + radius * math.sin(a), x + radius * math.cos(b), y + radius * math.sin(b),
                width, colour,
            )  # fmt: skip

    def corners(self) -> Points:
        """The tight box of the body parts, (4, 2): front left, front right, rear right, rear left.

        Clockwise on the screen, as DOTA asks, beginning at the object's front left.
        """
        points = np.concatenate([part.points for part in self.parts if part.body])
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return np.array([(x1, y0), (x1, y1), (x0, y1), (x0, y0)])

    def project(self, frame: Frame) -> tuple[Points, list[slice]]:
        """All outlines' points in image pixels (n, 2), and the rows of each part."""
        points = frame.points(np.concatenate([part.points for part in self.parts]))
        ends = list(accumulate(len(part.points) for part in self.parts))
        return points, [slice(a, b) for a, b in pairwise([0, *ends])]


def rect_points(x: float, y: float, length: float, width: float) -> Points:
    """Corners (4, 2) of a rectangle centred at (x, y)."""
    a, b = length / 2, width / 2
    return np.array([(x + a, y - b), (x + a, y + b), (x - a, y + b), (x - a, y - b)])


def ellipse_points(x: float, y: float, rx: float, ry: float, steps: int = 32) -> Points:
    """A polygon (steps, 2) on an ellipse; the four extreme points are on it, so that its box is tight."""
    return _circle(steps) * (rx, ry) + (x, y)


@lru_cache
def _circle(steps: int) -> Points:
    angle = np.arange(steps) * (2 * math.pi / steps)
    return np.stack((np.cos(angle), np.sin(angle)), axis=1)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, brighter (factor > 1) or darker, within 0..255."""
    r, g, b = (min(255.0, max(0.0, c * factor)) for c in colour)
    return r, g, b


def pick(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    """One of the colours."""
    return colours[int(rng.integers(len(colours)))]


def tint(rng: np.random.Generator, colour: Colour, spread: float = 10.0) -> Colour:
    """The colour (RGB 0..255) with a common and a small separate random change."""
    common = float(rng.normal(0.0, spread))
    r, g, b = (min(250.0, max(5.0, c + common + float(rng.normal(0.0, spread * 0.25)))) for c in colour)
    return r, g, b
