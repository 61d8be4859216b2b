"""Drawings of things that stand: tanks, courts, pitches, pools, piers, bridges, and clutter. Sizes in metres."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from fdam_rotate.dota.synthetic.sketch import Colour, Points, Sketch, ellipse_points, pick, shade, tint

__all__ = [
    "baseball_diamond", "basketball_court", "bridge", "container", "house", "pier", "roof_block", "roundabout",
    "running_track", "shed", "soccer_field", "storage_tank", "swimming_pool", "tennis_court", "tree",
]  # fmt: skip

Rng = np.random.Generator
_LINE: Colour = (232, 232, 226)
_COURT_PAINT: tuple[Colour, ...] = ((52, 104, 78), (56, 92, 142), (160, 78, 58), (70, 128, 92), (120, 86, 120))
_GRASS: Colour = (84, 122, 66)


def storage_tank(rng: Rng, diameter: float) -> Sketch:
    """A cylindrical tank: white or grey roof, rim, and a floating roof that the rim shades, or a cone with ribs."""
    r = diameter / 2
    paint = tint(rng, pick(rng, ((236, 236, 234), (222, 222, 216), (196, 198, 196), (168, 150, 122))), 6)
    sketch = Sketch(height=float(rng.uniform(0.35, 0.7)) * min(diameter, 22.0))
    sketch.disc(0, 0, r, shade(paint, 0.86))
    sketch.disc(0, 0, r * 0.94, paint)
    if rng.random() < 0.45:  # floating roof: a crescent of shade inside the rim
        sketch.disc(0, 0, r * 0.86, shade(paint, 0.62))
        turn = float(rng.uniform(0, 2 * math.pi))
        sketch.disc(0.12 * r * math.cos(turn), 0.12 * r * math.sin(turn), r * 0.74, shade(paint, 0.88))
        sketch.stripe(0, 0, 0.8 * r * math.cos(turn + 2), 0.8 * r * math.sin(turn + 2), r * 0.07, shade(paint, 1.05))
    else:
        for k in range(12):
            angle = 2 * math.pi * k / 12
            sketch.stripe(0, 0, 0.92 * r * math.cos(angle), 0.92 * r * math.sin(angle), r * 0.02, shade(paint, 0.9))
        sketch.disc(0, 0, r * 0.1, shade(paint, 0.7))
    return sketch


def tennis_court(rng: Rng) -> Sketch:
    """A tennis court, 23.77 x 10.97 m to its outer lines, on a larger painted ground."""
    play = tint(rng, pick(rng, _COURT_PAINT), 8)
    ground = tint(rng, pick(rng, _COURT_PAINT), 8)
    sketch = Sketch()
    sketch.rect(0, 0, 34.0, 16.6, ground, body=False)
    sketch.rect(0, 0, 23.77, 10.97, play)
    w = 0.28  # wider than the real 5 to 10 cm: as seen through the point spread of an aerial picture
    for y in (-5.485 + w / 2, -4.115, 4.115, 5.485 - w / 2):
        sketch.stripe(-11.885, y, 11.885, y, w, _LINE)
    for x, half in ((-11.885 + w / 2, 5.485), (11.885 - w / 2, 5.485), (-6.4, 4.115), (6.4, 4.115)):
        sketch.stripe(x, -half, x, half, w, _LINE)
    sketch.stripe(-6.4, 0, 6.4, 0, w, _LINE)
    sketch.stripe(0, -6.2, 0, 6.2, 0.2, (40, 44, 46))
    return sketch


def basketball_court(rng: Rng) -> Sketch:
    """A basketball court, 28 x 15 m, with keys, circles and arcs."""
    play = tint(rng, pick(rng, ((176, 120, 78), (150, 152, 150), (60, 100, 148), (96, 132, 104), (168, 84, 66))), 8)
    key = tint(rng, pick(rng, _COURT_PAINT), 10)
    sketch = Sketch()
    sketch.rect(0, 0, 31.0, 18.0, shade(play, 0.85), body=False)
    sketch.rect(0, 0, 28.0, 15.0, play)
    w = 0.28
    for side in (-1.0, 1.0):
        sketch.rect(side * 11.1, 0, 5.8, 4.9, key)
        sketch.ring(side * 8.2, 0, 1.8, w, _LINE, 20)
        arc = np.linspace(-1.25, 1.25, 13)
        line = [(side * (12.4 - 6.75 * math.cos(a)), 6.75 * math.sin(a)) for a in arc.tolist()]
        for (x0, y0), (x1, y1) in pairwise(line):
            sketch.stripe(x0, y0, x1, y1, w, _LINE)
        sketch.stripe(side * (14 - w / 2), -7.5, side * (14 - w / 2), 7.5, w, _LINE)
        sketch.stripe(-14, side * (7.5 - w / 2), 14, side * (7.5 - w / 2), w, _LINE)
    sketch.stripe(0, -7.5, 0, 7.5, w, _LINE)
    sketch.ring(0, 0, 1.8, w, _LINE, 20)
    return sketch


def soccer_field(rng: Rng, length: float = 100.0) -> Sketch:
    """A soccer pitch with mown bands and lines; width 0.62 to 0.68 of the length."""
    width = length * float(rng.uniform(0.62, 0.68))
    grass = tint(rng, _GRASS, 8)
    sketch = Sketch()
    sketch.rect(0, 0, length, width, grass)
    bands = 10
    for k in range(0, bands, 2):
        sketch.rect(-length / 2 + length * (k + 0.5) / bands, 0, length / bands, width, shade(grass, 1.12))
    w = length * 0.005
    a, b = length / 2 - w / 2, width / 2 - w / 2
    for side in (-1.0, 1.0):
        sketch.stripe(side * a, -b, side * a, b, w, _LINE)
        sketch.stripe(-a, side * b, a, side * b, w, _LINE)
        for depth, half in ((0.157, 0.192), (0.052, 0.087)):
            x = side * (a - depth * length)
            sketch.stripe(x, -half * length, x, half * length, w, _LINE)
            for y in (-half * length, half * length):
                sketch.stripe(side * a, y, x, y, w, _LINE)
    sketch.stripe(0, -b, 0, b, w, _LINE)
    sketch.ring(0, 0, length * 0.087, w, _LINE, 24)
    return sketch


def _stadium(length: float, width: float, steps: int = 16) -> Points:
    """Outline of a stadium shape (two straights, two half circles) of the given outer size."""
    r = width / 2
    angle = np.linspace(-math.pi / 2, math.pi / 2, steps)
    right = np.stack((length / 2 - r + r * np.cos(angle), r * np.sin(angle)), axis=1)
    return np.concatenate((right, -right))


def running_track(rng: Rng, length: float = 170.0) -> Sketch:
    """A running track (DOTA: ground-track-field) with its inner grass; width 0.52 of the length."""
    width = length * float(rng.uniform(0.5, 0.56))
    lane = length * 0.055
    clay = tint(rng, pick(rng, ((170, 82, 62), (178, 96, 74), (76, 104, 142))), 8)
    sketch = Sketch()
    sketch.add(_stadium(length, width), clay)
    for k in range(1, 6):
        inset = 2 * lane * k / 6
        sketch.add(_stadium(length - inset, width - inset), shade(clay, 1.3))
        sketch.add(_stadium(length - inset - 0.7, width - inset - 0.7), clay)
    sketch.add(_stadium(length - 2 * lane, width - 2 * lane), tint(rng, _GRASS, 8))
    return sketch


def baseball_diamond(rng: Rng, reach: float) -> Sketch:
    """A baseball field: a quarter fan of radius ``reach`` with its home plate at the rear, infield and bases."""
    angle = np.linspace(-math.pi / 4, math.pi / 4, 17)
    apex = -reach / 2
    fan = np.concatenate(([(apex, 0.0)], np.stack((apex + reach * np.cos(angle), reach * np.sin(angle)), axis=1)))
    soil = tint(rng, (176, 132, 92), 10)
    sketch = Sketch()
    sketch.add(fan, tint(rng, (92, 132, 70), 8))
    infield = reach * 0.5
    sketch.add(
        np.concatenate(([(apex, 0.0)], np.stack((apex + infield * np.cos(angle), infield * np.sin(angle)), axis=1))),
        soil,
    )
    d = reach * 0.34
    sketch.add([(apex + d * 0.12, 0), (apex + d * 0.66, d * 0.54), (apex + d * 1.2, 0), (apex + d * 0.66, -d * 0.54)],
               tint(rng, (92, 132, 70), 8))  # fmt: skip
    sketch.disc(apex + d * 0.66, 0, reach * 0.035, soil)
    for x, y in ((0.0, 0.0), (0.7, 0.7), (1.4, 0.0), (0.7, -0.7)):
        sketch.disc(apex + d * x + (reach * 0.02 if x == 0 else 0), d * y, reach * 0.016, (236, 236, 230))
    for side in (-1.0, 1.0):
        sketch.stripe(apex, 0, apex + reach * 0.7, side * reach * 0.7, reach * 0.006, _LINE)
    return sketch


def swimming_pool(rng: Rng) -> Sketch:
    """A garden pool, 6 to 15 m: rectangle, ellipse or kidney, on a light terrace."""
    length, width = float(rng.uniform(6.5, 15.0)), float(rng.uniform(3.6, 6.5))
    water = tint(rng, pick(rng, ((72, 172, 206), (96, 196, 210), (58, 146, 190))), 10)
    deck = tint(rng, pick(rng, ((214, 206, 190), (190, 180, 166), (200, 170, 140))), 8)
    style = rng.random()
    sketch = Sketch()
    if style < 0.5:
        sketch.rect(0, 0, length + 2.4, width + 2.4, deck, body=False)
        sketch.rect(0, 0, length, width, shade(water, 1.15))
        sketch.rect(0, 0, length - 0.7, width - 0.7, water)
        sketch.rect(-length * 0.25, 0, length * 0.4, width - 0.8, shade(water, 0.88))
    else:
        angle = np.arange(36) * (2 * math.pi / 36)
        bend = 0.0 if style < 0.7 else 0.28
        outline = np.stack(
            (np.cos(angle), np.sin(angle) * (1 - bend * np.cos(angle) ** 2 * (np.sin(angle) > 0))), axis=1
        )
        outline = (outline - (outline.max(0) + outline.min(0)) / 2) * 2 / (outline.max(0) - outline.min(0))
        sketch.add(outline * (length / 2 + 1.3, width / 2 + 1.3), deck, body=False)
        sketch.add(outline * (length / 2, width / 2), shade(water, 1.15))
        sketch.add(outline * (length / 2 - 0.4, width / 2 - 0.4), water)
    return sketch


def roundabout(rng: Rng, radius: float, asphalt: Colour) -> Sketch:
    """A roundabout's ring road, in its roads' colour, and island; the box is the outer edge of the ring."""
    island = radius * float(rng.uniform(0.52, 0.66))
    sketch = Sketch()
    sketch.disc(0, 0, radius, shade(asphalt, 1.25))
    sketch.disc(0, 0, radius - 0.6, asphalt)
    sketch.ring(0, 0, (radius + island) / 2, 0.25, _LINE, 20)
    sketch.disc(0, 0, island, (196, 194, 186))
    sketch.disc(0, 0, island - 0.6, tint(rng, (96, 124, 72), 10))
    if rng.random() < 0.6:
        sketch.disc(0, 0, island * 0.4, tint(rng, pick(rng, ((60, 92, 52), (176, 150, 110), (150, 90, 80))), 10))
    for _ in range(int(rng.integers(0, 5))):  # bushes
        a, d = float(rng.uniform(0, 2 * math.pi)), island * float(rng.uniform(0.5, 0.8))
        sketch.disc(d * math.cos(a), d * math.sin(a), float(rng.uniform(0.8, 1.8)), tint(rng, (62, 88, 50), 8))
    return sketch


def pier(rng: Rng, length: float, width: float) -> Sketch:
    """A pier or jetty (DOTA: harbor): planks or concrete with an edge."""
    paint = tint(rng, pick(rng, ((178, 170, 156), (150, 134, 112), (190, 188, 182))), 8)
    sketch = Sketch(height=1.6)
    sketch.rect(0, 0, length, width, shade(paint, 0.88))
    sketch.rect(0, 0, length - 0.5, width - min(0.6, width * 0.3), paint)
    return sketch


def bridge(rng: Rng, length: float, width: float) -> Sketch:
    """A road bridge: deck, parapets, centre line."""
    asphalt = tint(rng, (122, 120, 118), 8)
    sketch = Sketch(height=5.0)
    sketch.rect(0, 0, length, width, (196, 194, 188))
    sketch.rect(0, 0, length, width - 1.4, asphalt)
    for k in range(int(length / 6)):
        x = -length / 2 + 6 * k + 2
        sketch.stripe(x, 0, x + 3, 0, 0.25, _LINE)
    return sketch


# What follows is never labelled: it fills the scene, hides objects and tempts a detector.


def tree(rng: Rng, radius: float) -> Sketch:
    """A crown from above: an uneven disc with lit and dark clumps."""
    leaf = tint(rng, pick(rng, ((58, 84, 44), (70, 98, 50), (48, 72, 46), (92, 104, 54))), 8)
    angle = np.arange(14) * (2 * math.pi / 14)
    edge = radius * rng.uniform(0.78, 1.0, 14)
    sketch = Sketch(height=radius * 2.0)
    sketch.add(np.stack((edge * np.cos(angle), edge * np.sin(angle)), axis=1), leaf)
    for _ in range(5):
        a, d = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0, 0.55)) * radius
        sketch.add(
            ellipse_points(d * math.cos(a), d * math.sin(a), radius * 0.3, radius * 0.26, 9),
            shade(leaf, float(rng.uniform(0.75, 1.35))),
        )
    return sketch


def house(rng: Rng, length: float, width: float) -> Sketch:
    """A house with a gabled roof: one side lit, one in shade; some roofs are as blue as a pool."""
    roof = tint(rng, pick(rng, ((150, 84, 66), (128, 116, 106), (170, 160, 148), (96, 92, 92), (84, 118, 150))), 10)
    sketch = Sketch(height=float(rng.uniform(4.0, 7.0)))
    sketch.rect(0, -width / 4, length, width / 2, shade(roof, 1.1))
    sketch.rect(0, width / 4, length, width / 2, shade(roof, 0.8))
    sketch.stripe(-length / 2, 0, length / 2, 0, 0.3, shade(roof, 1.25))
    if rng.random() < 0.5:
        sketch.rect(length * float(rng.uniform(-0.3, 0.3)), -width * 0.2, 0.9, 0.7, (90, 80, 76))
    return sketch


def roof_block(rng: Rng, length: float, width: float) -> Sketch:
    """A flat roof with parapet, skylights and plant boxes about as large as cars."""
    roof = tint(
        rng, pick(rng, ((186, 184, 180), (160, 158, 154), (206, 206, 204), (140, 146, 152), (150, 110, 96))), 10
    )
    sketch = Sketch(height=float(rng.uniform(6.0, 14.0)))
    sketch.rect(0, 0, length, width, shade(roof, 1.1))
    sketch.rect(0, 0, length - 1.2, width - 1.2, roof)
    for _ in range(int(length * width / 110)):
        x, y = rng.uniform(-0.42, 0.42, 2) * (length, width)
        size = rng.uniform(1.2, 4.2, 2)
        tone = float(pick(rng, ((0.7, 0, 0), (1.2, 0, 0), (0.85, 0, 0)))[0])
        sketch.rect(float(x) + 0.4, float(y) + 0.4, float(size[0]), float(size[1]) * 0.6, shade(roof, 0.55))
        sketch.rect(float(x), float(y), float(size[0]), float(size[1]) * 0.6, shade(roof, tone))
    return sketch


def container(rng: Rng) -> Sketch:
    """A freight container, 6 or 12 m: a lorry's box without the lorry."""
    paint = tint(rng, pick(rng, ((178, 62, 46), (52, 92, 148), (196, 164, 60), (206, 206, 202), (84, 124, 90))), 10)
    length = 12.2 if rng.random() < 0.5 else 6.1
    sketch = Sketch(height=2.6)
    sketch.rect(0, 0, length, 2.44, paint)
    for k in range(1, int(length)):
        sketch.stripe(-length / 2 + k, -1.15, -length / 2 + k, 1.15, 0.18, shade(paint, 0.86))
    return sketch


def shed(rng: Rng) -> Sketch:
    """A plain low box of a car's or a lorry's size: skip, kiosk, generator, garage roof."""
    paint = tint(rng, pick(rng, ((150, 150, 148), (110, 118, 108), (180, 170, 150), (86, 90, 96), (200, 202, 204))), 10)
    sketch = Sketch(height=float(rng.uniform(1.0, 2.6)))
    sketch.rect(0, 0, float(rng.uniform(2.0, 6.5)), float(rng.uniform(1.6, 3.4)), paint)
    return sketch
