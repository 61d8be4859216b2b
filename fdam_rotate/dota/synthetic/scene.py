"""One generated aerial scene: blocks of land use between roads, objects with labels, light and sensor.

The scene is laid out in metres in a frame that is turned at random: a rectangle around the image is cut again and again
into blocks, roads run along the cuts, and each block gets a land use that hosts wanted classes or only background. The
ground sampling distance (metres per pixel) sets how large everything appears. All randomness comes from one generator,
so a seed gives one scene, whatever process draws it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.errors import UnknownClassError
from fdam_rotate.dota.labels import Labels, unknown_class
from fdam_rotate.dota.synthetic import landuse, structures, vehicles
from fdam_rotate.dota.synthetic.canvas import Canvas, PlacedObject, smooth_noise
from fdam_rotate.dota.synthetic.sketch import Colour, Frame, rect_points, tint

__all__ = ["CLASSES", "GSD_RANGE", "Scene", "generate_scene"]

#: The classes that can be drawn: the fifteen of DOTA-v1.0.
CLASSES = DOTA_CLASSES["v1.0"]

#: Ground sampling distances in metres per pixel, as in most of DOTA's Google Earth pictures.
GSD_RANGE = (0.13, 0.45)

#: Objects of which less than this share lies in the image are not labelled; below the second they are difficult.
_INSIDE_LEAST, _INSIDE_EASY = 0.15, 0.5
#: The same for the share of the drawn pixels that nothing hides.
_SEEN_LEAST, _SEEN_EASY = 0.2, 0.6
#: An object narrower than this many pixels is labelled as difficult.
_NARROW = 4.0
#: Classes on which others lawfully stand: a pitch within a track, cars on a bridge or on a roundabout.
_HOSTS = frozenset({"ground-track-field", "bridge", "roundabout"})

_LINE: Colour = (214, 214, 206)


@dataclass(frozen=True)
class Scene:
    """A generated picture and its truth.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        labels: the objects, with ``imagesource`` and ``gsd`` as header.
        instances: (H, W) int32, 0 for background, else the number of the object that is seen there.
        numbers: for each label its number in ``instances``.
        gsd: metres per pixel.
    """

    image: NDArray[np.uint8]
    labels: Labels
    instances: NDArray[np.int32]
    numbers: tuple[int, ...]
    gsd: float


@dataclass(frozen=True)
class _Road:
    frame: Frame
    length: float
    width: float


@dataclass
class _Plan:
    """Blocks (frame, length, width), roads and junctions (frame, road width), in the order in which they were cut."""

    blocks: list[tuple[Frame, float, float]]
    roads: list[_Road]
    junctions: list[tuple[Frame, float]]


def generate_scene(
    seed: int | Sequence[int],
    width: int,
    height: int,
    *,
    classes: Sequence[str] = CLASSES,
    gsd_range: tuple[float, float] = GSD_RANGE,
) -> Scene:
    """Draw one scene.

    Args:
        seed: what numpy's ``default_rng`` takes; equal seeds and settings give equal pixels.
        width: pixels, at least 64.
        height: pixels, at least 64.
        classes: the classes to draw and label. Other classes' objects are left out; piers, bridges and roundabouts,
            which belong to the ground, may still be there, unlabelled.
        gsd_range: the ground sampling distance in metres per pixel is drawn from this range, evenly in its logarithm.

    Raises:
        UnknownClassError: a class that cannot be drawn.
        ValueError: an image smaller than 64 pixels, or a range that is empty or not positive.
    """
    for name in classes:
        if name not in CLASSES:
            raise UnknownClassError(unknown_class(name, CLASSES))
    if min(width, height) < 64:
        raise ValueError(f"a scene is at least 64 pixels wide and high, got {width} x {height}")
    low, high = gsd_range
    if not 0 < low <= high:
        raise ValueError(f"the range of ground sampling distances must be positive and rising, got {low} to {high}")
    rng = np.random.default_rng(seed)
    gsd = round(math.exp(float(rng.uniform(math.log(low), math.log(high)))), 6)
    azimuth, elevation = float(rng.uniform(-math.pi, math.pi)), math.radians(float(rng.uniform(35, 65)))
    reach = 1 / math.tan(elevation)
    sun = (reach * math.cos(azimuth), reach * math.sin(azimuth))
    canvas = Canvas(width, height, rng, sun, classes)
    root = Frame(width / 2, height / 2, float(rng.uniform(-math.pi, math.pi)), 1 / gsd)
    everything = np.array([(-9.0, -9.0), (width + 9.0, -9.0), (width + 9.0, height + 9.0), (-9.0, height + 9.0)])
    canvas.region(everything, tint(rng, (118, 128, 92), 10), "grass")
    plan = _cut(rng, root, math.hypot(width, height) / 2 * gsd + 5)
    asphalt = tint(rng, (106, 106, 106), 12)
    reserved = _reserve_roundabouts(canvas, rng, plan)
    _draw_roads(canvas, rng, plan, asphalt)
    _fill_blocks(canvas, rng, plan)
    _draw_roundabouts(canvas, rng, reserved, asphalt)
    labels, numbers = _label(canvas, gsd)
    return Scene(_develop(canvas, rng), labels, canvas.instances, numbers, gsd)


def _cut(rng: np.random.Generator, root: Frame, reach: float) -> _Plan:
    """Cut the square of half-side ``reach`` metres into blocks with roads between them."""
    plan = _Plan([], [], [])
    todo = [
        (-reach, -reach, reach, reach, (0.0, 0.0, 0.0, 0.0))
    ]  # a block, and how far beyond it each road's middle lies
    while todo:
        x0, y0, x1, y1, beyond = todo.pop()
        long = max(x1 - x0, y1 - y0)
        limit = float(rng.choice([60.0, 80.0, 110.0, 160.0, 210.0]))
        if long <= limit or min(x1 - x0, y1 - y0) < 24:
            plan.blocks.append((root.at((x0 + x1) / 2, (y0 + y1) / 2), x1 - x0, y1 - y0))
            continue
        road = float(rng.choice([6.5, 7.5, 9.0, 13.0]))
        share = float(rng.uniform(0.36, 0.64))
        half = road / 2 + 2
        left, top, right, bottom = beyond
        if x1 - x0 >= y1 - y0:
            at = x0 + share * (x1 - x0)
            low, high = y0 - top, y1 + bottom
            plan.roads.append(_Road(root.at(at, (low + high) / 2, math.pi / 2), high - low, road))
            plan.junctions += [(root.at(at, y), road) for y, joins in ((low, top), (high, bottom)) if joins]
            todo += [
                (x0, y0, at - half, y1, (left, top, half, bottom)),
                (at + half, y0, x1, y1, (half, top, right, bottom)),
            ]
        else:
            at = y0 + share * (y1 - y0)
            low, high = x0 - left, x1 + right
            plan.roads.append(_Road(root.at((low + high) / 2, at), high - low, road))
            plan.junctions += [(root.at(x, at), road) for x, joins in ((low, left), (high, right)) if joins]
            todo += [
                (x0, y0, x1, at - half, (left, top, right, half)),
                (x0, at + half, x1, y1, (left, half, right, bottom)),
            ]
    return plan


def _draw_roads(canvas: Canvas, rng: np.random.Generator, plan: _Plan, asphalt: Colour) -> None:
    for road in plan.roads:
        canvas.ground_rect(road.frame, road.length, road.width + 3.6, tint(rng, (164, 160, 152), 6), "concrete")
    for road in plan.roads:
        canvas.ground_rect(road.frame, road.length, road.width, asphalt, "asphalt")
        for u in np.arange(-road.length / 2 + 2, road.length / 2 - 4, 7.0):
            canvas.line(road.frame, float(u), 0, float(u) + 3.0, 0, 0.25, _LINE)
    for road in plan.roads:
        busy = float(rng.uniform(10, 60))
        for lane in (-1.0, 1.0):  # traffic keeps to the right
            u = -road.length / 2 + float(rng.exponential(busy))
            while u < road.length / 2:
                lorry = rng.random() < 0.15
                sketch = vehicles.lorry(rng) if lorry else vehicles.car(rng)
                at = road.frame.at(
                    u, lane * road.width * 0.24 + float(rng.normal(0, 0.15)), 0.0 if lane > 0 else math.pi
                )
                canvas.put("large-vehicle" if lorry else "small-vehicle", sketch, at, margin=0.5)
                u += 9.0 + float(rng.exponential(busy))


def _reserve_roundabouts(canvas: Canvas, rng: np.random.Generator, plan: _Plan) -> list[tuple[Frame, float]]:
    """Choose junctions for roundabouts and keep their ground free."""
    chosen: list[tuple[Frame, float]] = []
    for at, road in plan.junctions:
        radius = float(rng.uniform(10.0, 17.0)) + 0.3 * road
        wanted = "roundabout" in canvas.wanted and rng.random() < 0.12
        apart = all(math.hypot(at.x - o.x, at.y - o.y) > (radius + r + 6) * at.scale for o, r in chosen)
        if wanted and apart:
            chosen.append((at, radius))
            canvas.take(at.points(rect_points(0, 0, 2 * radius + 3, 2 * radius + 3)))
    return chosen


def _draw_roundabouts(
    canvas: Canvas, rng: np.random.Generator, reserved: list[tuple[Frame, float]], asphalt: Colour
) -> None:
    for at, radius in reserved:
        canvas.put("roundabout", structures.roundabout(rng, radius, asphalt), at.upright(), force=True)
        for _ in range(int(rng.integers(0, 4))):
            angle = float(rng.uniform(0, 2 * math.pi))
            ring = radius * 0.86
            spot = at.at(ring * math.cos(angle), ring * math.sin(angle), angle - math.pi / 2)
            canvas.put("small-vehicle", vehicles.car(rng), spot, force=True)


def _fill_blocks(canvas: Canvas, rng: np.random.Generator, plan: _Plan) -> None:
    """Give each block that the image shows a land use; every use that hosts a wanted class comes round in turn."""
    hosting = [use for use, names in landuse.LAND_USES.items() if canvas.wanted & set(names)]
    background: list[landuse.LandUse] = [
        landuse.fields,
        landuse.fields,
        landuse.woodland,
        landuse.housing,
        landuse.business_park,
    ]
    deck: list[landuse.LandUse] = []
    for frame, length, width in plan.blocks:
        corners = frame.points(rect_points(0, 0, length, width))
        if (corners.max(axis=0) < 0).any() or (corners.min(axis=0) > (canvas.width, canvas.height)).any():
            continue
        if not deck:
            deck = [hosting[int(i)] for i in rng.permutation(len(hosting))]
        if min(length, width) < 16 or not hosting or rng.random() < 0.18:
            use = background[int(rng.integers(len(background)))] if min(length, width) >= 16 else landuse.fields
        else:
            use = deck.pop()
        use(canvas, rng, frame, length, width)


def _label(canvas: Canvas, gsd: float) -> tuple[Labels, tuple[int, ...]]:
    """The labels of what can be seen, in the order of painting."""
    border = np.array([(0, 0), (canvas.width, 0), (canvas.width, canvas.height), (0, canvas.height)], np.float32)
    seen = np.bincount(canvas.instances.ravel(), minlength=1)
    kept: list[tuple[PlacedObject, int]] = []
    for thing in canvas.objects:
        area = float(cv2.contourArea(thing.corners.astype(np.float32)))
        inside = float(cv2.intersectConvexConvex(thing.corners.astype(np.float32), border)[0]) / area
        visible = (int(seen[thing.number]) if thing.number < len(seen) else 0) / thing.drawn
        if inside < _INSIDE_LEAST or visible < _SEEN_LEAST:
            continue
        narrow = float(np.linalg.norm(np.diff(thing.corners[:3], axis=0), axis=1).min())
        hidden = visible < _SEEN_EASY and thing.name not in _HOSTS
        kept.append((thing, int(inside < _INSIDE_EASY or hidden or narrow < _NARROW)))
    polys = np.array([thing.corners.ravel() for thing, _ in kept], np.float64).reshape(-1, 8)
    # quarters of a pixel are exact in binary, and so are areas: a splitter that compares the share of an object within
    # a window with 1 (MMRotate's does) then finds whole objects whole
    polys = np.rint(polys * 4) / 4
    labels = Labels(
        polys,
        tuple(thing.name for thing, _ in kept),
        np.array([hard for _, hard in kept], np.int64),
        header=("imagesource:synthetic", f"gsd:{gsd}"),
    )
    return labels, tuple(thing.number for thing, _ in kept)


def _develop(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light, haze, blur and noise of the sensor; a few scenes are panchromatic, as DOTA's GF-2 pictures."""
    height, width = canvas.height, canvas.width
    image = canvas.image.astype(np.float32)
    slope = smooth_noise(rng, height, width, max(height, width)) * 0.05 + float(rng.uniform(0.82, 1.15))
    cast = rng.normal(1.0, 0.035, 3).astype(np.float32)
    contrast, haze = float(rng.uniform(0.85, 1.12)), float(rng.uniform(0, 26))
    image = (image - 118) * contrast + 118
    image *= slope[..., None] * cast
    image = image * (1 - haze / 255) + haze
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.35, 0.8))), np.float32)
    if rng.random() < 0.06:
        image[:] = image.mean(axis=2, keepdims=True)
        image += rng.standard_normal((height, width, 1), dtype=np.float32) * float(rng.uniform(2, 5))
    else:
        image += rng.standard_normal((height, width, 1), dtype=np.float32) * float(rng.uniform(1.5, 4))
        image += rng.standard_normal((height, width, 3), dtype=np.float32) * float(rng.uniform(0.5, 1.5))
    return np.ascontiguousarray(np.clip(np.round(image), 0, 255).astype(np.uint8)[..., ::-1])
