"""Drawings of things that move: cars, lorries, aeroplanes, helicopters, ships. Sizes in metres, as in life."""

from __future__ import annotations

import math

import numpy as np

from fdam_rotate.dota.synthetic.sketch import Colour, Sketch, ellipse_points, pick, shade, tint

__all__ = ["car", "helicopter", "lorry", "plane", "ship"]

Rng = np.random.Generator

_CAR_PAINT: tuple[Colour, ...] = (
    (235, 235, 232), (225, 226, 228), (178, 182, 186), (120, 124, 128), (58, 60, 64), (28, 29, 33), (150, 32, 30),
    (36, 58, 112), (92, 28, 30), (176, 164, 138), (60, 88, 70), (190, 190, 186),
)  # fmt: skip
_GLASS: Colour = (38, 46, 56)


def _rounded(length: float, width: float, nose: float) -> list[tuple[float, float]]:
    """An outline along x with cut corners of size ``nose``; it touches all four sides of length x width."""
    a, b = length / 2, width / 2
    return [
        (a, -b + nose), (a, b - nose), (a - nose, b), (-a + nose * 0.6, b), (-a, b - nose * 0.6), (-a, -b + nose * 0.6),
        (-a + nose * 0.6, -b), (a - nose, -b),
    ]  # fmt: skip


def car(rng: Rng) -> Sketch:
    """A car or van (DOTA: small-vehicle), 3.8 to 5.6 m long."""
    van = rng.random() < 0.2
    length = float(rng.uniform(4.9, 5.6) if van else rng.uniform(3.8, 4.9))
    width = float(rng.uniform(1.9, 2.1) if van else rng.uniform(1.7, 1.95))
    paint = tint(rng, pick(rng, _CAR_PAINT), 8)
    sketch = Sketch(height=2.0 if van else 1.4)
    sketch.add(_rounded(length, width, 0.35), paint)
    if van:
        sketch.rect(length * 0.28, 0, length * 0.11, width * 0.8, _GLASS)
        sketch.rect(-length * 0.14, 0, length * 0.62, width * 0.82, shade(paint, 1.06))
    else:
        front, rear = length * 0.17, -length * 0.36
        half = width * 0.41
        sketch.add([(front, -half), (front, half), (rear, half), (rear, -half)], _GLASS)
        roof = half * 0.86
        sketch.add(
            [(front - length * 0.12, -roof), (front - length * 0.12, roof), (rear + length * 0.1, roof),
             (rear + length * 0.1, -roof)], shade(paint, 1.1),
        )  # fmt: skip
        if rng.random() < 0.15:  # pick-up: an open load floor
            sketch.rect(-length * 0.3, 0, length * 0.32, width * 0.76, shade(paint, 0.55))
    return sketch


def lorry(rng: Rng) -> Sketch:
    """A lorry, articulated lorry or bus (DOTA: large-vehicle), 7 to 17 m long."""
    kind = rng.random()
    width = float(rng.uniform(2.4, 2.65))
    if kind < 0.25:  # bus: one body, hatches on the roof
        length = float(rng.uniform(9.5, 13.0))
        paint = tint(rng, pick(rng, ((232, 232, 230), (196, 60, 44), (226, 176, 50), (60, 110, 170))), 8)
        sketch = Sketch(height=3.2)
        sketch.add(_rounded(length, width, 0.3), paint)
        sketch.rect(length * 0.485, 0, length * 0.03, width * 0.86, _GLASS)
        for at in (-0.28, 0.02, 0.3):
            sketch.rect(length * at, 0, length * 0.09, width * 0.5, shade(paint, 0.82))
        return sketch
    length = float(rng.uniform(7.0, 10.0) if kind < 0.5 else rng.uniform(12.5, 17.0))
    cab = float(rng.uniform(1.9, 2.5))
    paint = tint(rng, pick(rng, _CAR_PAINT), 8)
    box = tint(rng, pick(rng, ((236, 236, 234), (214, 214, 210), (178, 60, 48), (52, 92, 148), (92, 120, 84))), 10)
    sketch = Sketch(height=3.6)
    front = length / 2
    sketch.rect(front - cab / 2, 0, cab, width * 0.96, paint)
    sketch.rect(front - 0.35, 0, 0.5, width * 0.82, _GLASS)
    sketch.rect(front - cab - 0.3, 0, 0.8, width * 0.5, (52, 52, 54))
    load = length - cab - 0.6
    sketch.rect(-front + load / 2, 0, load, width, box)
    if rng.random() < 0.35:  # flat bed or tipper: a darker load with cross bars
        sketch.rect(-front + load / 2, 0, load * 0.95, width * 0.84, shade(box, 0.6))
        for step in range(1, 5):
            sketch.stripe(
                -front + load * step / 5, -width * 0.42, -front + load * step / 5, width * 0.42, 0.2, shade(box, 0.8)
            )
    else:
        sketch.stripe(-front + 0.2, 0, -front + load - 0.2, 0, 0.25, shade(box, 0.9))
    return sketch


def plane(rng: Rng, span: float) -> Sketch:
    """An aeroplane of the given wing span in metres: light below 14, jet or airliner above, sometimes a delta wing."""
    light = span < 14
    delta = not light and span < 22 and rng.random() < 0.4
    length = span * float(
        rng.uniform(0.68, 0.8) if light else rng.uniform(1.3, 1.6) if delta else rng.uniform(0.98, 1.2)
    )
    girth = length * (0.12 if light else 0.1)
    skin = tint(rng, (126, 130, 132) if delta else (232, 233, 234), 8)
    accent = tint(rng, pick(rng, ((30, 60, 130), (170, 30, 34), (226, 130, 30), (36, 110, 74), (90, 92, 98))), 8)
    a, half = length / 2, span / 2
    sketch = Sketch(height=2.0 if light else 4.5)
    wing = shade(skin, 0.94)
    if delta:
        sketch.add(
            [(a * 0.35, 0), (-a * 0.72, half), (-a * 0.86, half * 0.92), (-a * 0.8, 0), (-a * 0.86, -half * 0.92),
             (-a * 0.72, -half)], wing,
        )  # fmt: skip
    else:
        lead = 0.36 if light else 0.24
        sweep = 0.02 if light else float(rng.uniform(0.34, 0.5))
        chord, tip = (0.3, 0.22) if light else (0.3, 0.09)
        for side in (-1.0, 1.0):
            tone = wing if side > 0 else shade(wing, 0.95)
            sketch.add(
                [(a * lead, 0), (a * (lead - sweep), side * half), (a * (lead - sweep - tip), side * half),
                 (a * (lead - chord - (0 if light else 0.1)), side * girth * 0.5), (a * (lead - chord), 0)], tone,
            )  # fmt: skip
            if not light:
                engines = (0.34, 0.58) if span > 36 and rng.random() < 0.4 else (0.34,)
                for at in engines:
                    x = a * (lead - sweep * at + 0.06)
                    sketch.add(ellipse_points(x, side * half * at, length * 0.05, girth * 0.27, 16), shade(skin, 0.7))
    if light and rng.random() < 0.7:
        sketch.stripe(a * 0.33, -half * 0.98, a * 0.33, half * 0.98, length * 0.015, accent)
    tail, root = half * (0.32 if light else 0.36), 0.8 if light else 0.9
    for side in (-1.0, 1.0):
        sketch.add(
            [(-a * 0.72, 0), (-a * root, side * tail), (-a * 0.97, side * tail), (-a * 0.92, 0)], shade(skin, 0.9)
        )
    xs = np.array([1.0, 0.97, 0.88, 0.7, 0.2, -0.45, -0.8, -1.0])
    ws = np.array([0.0, 0.24, 0.4, 0.5, 0.5, 0.46, 0.24, 0.06]) * girth
    outline = np.concatenate((np.stack((xs * a, -ws), 1), np.stack((xs[::-1] * a, ws[::-1]), 1)))
    sketch.add(outline, skin)
    sketch.stripe(a * 0.9, girth * 0.22, -a * 0.8, girth * 0.2, girth * 0.16, shade(skin, 0.82))
    sketch.add([(a * 0.93, -girth * 0.2), (a * 0.93, girth * 0.2), (a * 0.87, girth * 0.26), (a * 0.87, -girth * 0.26)],
               _GLASS)  # fmt: skip
    sketch.stripe(-a * 0.62, 0, -a * 0.99, 0, girth * 0.24, accent, body=True)
    return sketch


def helicopter(rng: Rng) -> Sketch:
    """A helicopter, rotor 9 to 15 m; the box holds rotor and tail."""
    radius = float(rng.uniform(4.5, 7.5))
    paint = tint(rng, pick(rng, ((60, 70, 58), (200, 40, 36), (230, 232, 232), (36, 56, 110), (224, 180, 40))), 8)
    sketch = Sketch(height=3.2)
    sketch.stripe(0, 0, -radius * 1.25, 0, radius * 0.1, shade(paint, 0.9), body=True)
    sketch.stripe(
        -radius * 1.2, -radius * 0.24, -radius * 1.2, radius * 0.24, radius * 0.07, shade(paint, 0.8), body=True
    )
    sketch.disc(radius * 0.1, 0, radius * 0.55, paint, ry=radius * 0.2)
    sketch.disc(radius * 0.46, 0, radius * 0.16, _GLASS, ry=radius * 0.14)
    blades = int(rng.integers(2, 6))
    start = float(rng.uniform(0, math.pi))
    for k in range(blades):
        angle = start + 2 * math.pi * k / blades
        sketch.stripe(0, 0, radius * math.cos(angle), radius * math.sin(angle), 0.32, (34, 34, 36), body=True)
    sketch.disc(0, 0, radius * 0.09, (50, 50, 52))
    return sketch


def ship(rng: Rng, length: float) -> Sketch:
    """A ship of the given length in metres: open boat or yacht below 25, else barge, tanker or container ship."""
    if length < 25:
        width = length * float(rng.uniform(0.26, 0.36))
        hull = tint(
            rng, pick(rng, ((238, 238, 236), (238, 238, 236), (226, 220, 204), (40, 60, 100), (150, 44, 40))), 6
        )
        deck = tint(rng, pick(rng, ((214, 200, 172), (226, 226, 222), (176, 140, 96))), 8)
    else:
        width = length * float(rng.uniform(0.14, 0.2))
        hull = tint(rng, pick(rng, ((120, 48, 40), (46, 52, 62), (30, 66, 88), (110, 112, 114))), 8)
        deck = tint(rng, pick(rng, ((132, 82, 66), (104, 122, 108), (150, 152, 150), (84, 96, 110))), 10)
    a, b = length / 2, width / 2
    bow = a * float(rng.uniform(0.3, 0.5) if length < 25 else rng.uniform(0.62, 0.78))
    shape = np.array(
        [(a, 0), (bow + (a - bow) * 0.55, b * 0.62), (bow, b * 0.96), (bow * 0.4, b), (-a * 0.8, b), (-a, b * 0.74)]
    )
    outline = np.concatenate((shape, shape[::-1][:-1] * (1, -1)))
    sketch = Sketch(height=2.0 if length < 25 else 7.0)
    sketch.add(outline, hull)
    sketch.add(outline * (0.94, 0.8) + (-0.005 * length, 0), deck)
    if length < 25:
        style = rng.random()
        if style < 0.5:  # cabin cruiser
            sketch.rect(-a * 0.08, 0, length * 0.34, width * 0.62, shade(hull, 1.05))
            sketch.rect(a * 0.2, 0, length * 0.07, width * 0.56, _GLASS)
            sketch.rect(-a * 0.66, 0, length * 0.2, width * 0.56, shade(deck, 0.8))
        elif style < 0.75:  # sailing boat: mast and boom
            sketch.rect(a * 0.05, 0, length * 0.3, width * 0.4, shade(hull, 0.96))
            sketch.stripe(a * 0.25, 0, -a * 0.6, 0, max(0.16, length * 0.016), (92, 84, 74))
            sketch.stripe(a * 0.22, -b * 0.9, a * 0.22, b * 0.9, 0.12, (236, 236, 236))
        else:  # open boat
            sketch.add(outline * (0.72, 0.56) + (-0.06 * length, 0), shade(deck, 0.6))
            sketch.rect(-a * 0.1, 0, length * 0.06, width * 0.5, shade(deck, 0.95))
            sketch.rect(-a * 0.9, 0, length * 0.07, width * 0.3, (36, 36, 38))
        return sketch
    sketch.rect(-a * 0.78, 0, length * 0.11, width * 0.82, (236, 236, 232))
    sketch.rect(-a * 0.8, 0, length * 0.04, width * 0.3, tint(rng, (170, 60, 40), 12))
    style = rng.random()
    holds = max(3, int(length / 11))
    for k in range(holds):
        x = -a * 0.6 + (bow + a * 0.6) * (k + 0.5) / holds
        step = (bow + a * 0.6) / holds
        if style < 0.4:  # hatches
            sketch.rect(x, 0, step * 0.74, width * 0.56, shade(deck, 0.72))
        elif style < 0.75:  # containers across
            for row in (-0.27, 0.0, 0.27):
                paint = tint(
                    rng, pick(rng, ((178, 62, 46), (52, 92, 148), (196, 164, 60), (206, 206, 202), (84, 124, 90))), 10
                )
                sketch.rect(x, row * width, step * 0.86, width * 0.24, paint)
        else:  # tanker: pipes along the deck
            sketch.stripe(x - step / 2, 0, x + step / 2, 0, width * 0.08, shade(deck, 1.35))
            sketch.stripe(x, -width * 0.3, x, width * 0.3, width * 0.05, shade(deck, 1.25))
    return sketch
