"""Land uses with water: open water, marinas, rivers with bridges. The signature is that of ``landuse``."""

from __future__ import annotations

import math

import numpy as np

from fdam_rotate.dota.synthetic import structures as st
from fdam_rotate.dota.synthetic import vehicles as vh
from fdam_rotate.dota.synthetic.canvas import Canvas
from fdam_rotate.dota.synthetic.placing import scatter_trees, spot
from fdam_rotate.dota.synthetic.sketch import Frame, Sketch, pick, rect_points, shade, tint

__all__ = ["marina", "open_water", "river_crossing"]


def _water(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    colour = tint(rng, pick(rng, ((38, 66, 82), (46, 84, 92), (62, 88, 82), (30, 52, 74))), 8)
    canvas.ground_rect(frame, length, width, colour, "water")


def _under_way(canvas: Canvas, rng: np.random.Generator, at: Frame, length: float, room: float) -> None:
    """A ship at anchor, or with a wake of at most ``room`` metres behind it."""
    sketch = vh.ship(rng, length)
    half = float(sketch.corners()[1, 1])
    reach = min(length * float(rng.uniform(0.8, 2.4)), room)
    free = canvas.is_free(at.points(sketch.corners()), 1.0 * at.scale)
    tail = at.points(
        [(-length * 0.4, -half), (-length * 0.4, half), (-length * 0.5 - reach, half), (-length * 0.5 - reach, -half)]
    )
    if rng.random() < 0.6 and reach > 3 and free and "ship" in canvas.wanted and canvas.is_free(tail):
        steps = 12
        for k in range(steps):  # overlapping veils: foam that widens and fades
            x1 = -length * 0.45 - reach * (k + 1) / steps
            near, far = half * 0.55, half * (0.7 + 1.1 * (k + 1) / steps)
            canvas.veil(
                at.points([(-length * 0.4, -near), (-length * 0.4, near), (x1, far), (x1, -far)]),
                (226, 234, 236),
                0.075,
            )
    canvas.put("ship", sketch, at, margin=0.5)


def _rock(canvas: Canvas, rng: np.random.Generator, at: Frame) -> None:
    """A rock or shoal in foam: as bright and as long as a boat."""
    r, long = float(rng.uniform(0.8, 4.0)), float(rng.uniform(1.0, 2.6))
    angle = np.arange(12) * (2 * math.pi / 12)
    outline = np.stack((np.cos(angle) * long, np.sin(angle)), axis=1) * (r * rng.uniform(0.6, 1.0, (12, 1)))
    if not canvas.is_free(at.points(rect_points(0, 0, 2 * r * long, 2 * r)), at.scale):
        return
    for grow in (1.7, 1.45, 1.2):
        canvas.veil(at.points(outline * grow + rng.normal(0, 0.1 * r, 2)), (224, 232, 232), 0.22)
    rock = Sketch(height=0.8)
    paint = tint(rng, (108, 102, 92), 10)
    rock.add(outline, paint)
    rock.add(outline * 0.6 + rng.normal(0, 0.12 * r, 2), shade(paint, 1.25))
    canvas.clutter(rock, at)


def open_water(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Ships under way and at anchor; rocks and foam."""
    _water(canvas, rng, frame, length, width)
    short = min(length, width)
    for _ in range(max(2, int(length * width / 1500))):
        size = float(
            rng.uniform(6, 22) if rng.random() < 0.65 or short < 60 else rng.uniform(26, min(90.0, 0.5 * short))
        )
        u, v = spot(rng, length, width, size * 0.6)
        room = max(0.0, min(length / 2 - abs(u), width / 2 - abs(v)) - size * 0.6)
        _under_way(canvas, rng, frame.at(u, v, float(rng.uniform(-math.pi, math.pi))), size, room)
    for _ in range(int(rng.integers(1, 8))):
        u, v = spot(rng, length, width, 8)
        _rock(canvas, rng, frame.at(u, v, float(rng.uniform(0, math.pi))))


def marina(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Piers from a quay with boats berthed side by side along them, more boats at the quay and on the water."""
    _water(canvas, rng, frame, length, width)
    quay = min(14.0, width * 0.2)
    land = frame.at(0, -width / 2 + quay / 2)
    canvas.ground_rect(land, length, quay, tint(rng, (176, 172, 164), 8), "concrete")
    canvas.take(
        land.points(
            [(-length / 2, -quay / 2), (length / 2, -quay / 2), (length / 2, quay / 2), (-length / 2, quay / 2)]
        )
    )
    large = width > 70 and rng.random() < 0.35
    boat = float(rng.uniform(30, 60) if large else rng.uniform(7, 17))
    gap = boat * 0.34 + 2 if large else boat * 2.0 + float(rng.uniform(6, 12))
    pier_width = float(rng.uniform(7, 11) if large else rng.uniform(2.0, 3.4))
    pitch = (boat * 0.42 + pier_width + 8) if large else gap + pier_width
    reach = (width - quay) * float(rng.uniform(0.6, 0.9))
    u = -length / 2 + pitch * float(rng.uniform(0.3, 0.6))
    full = float(rng.uniform(0.45, 0.9))
    while u < length / 2:
        sketch = st.pier(rng, reach, pier_width)
        at = frame.at(u, -width / 2 + quay + reach / 2, math.pi / 2)
        if not canvas.put("harbor", sketch, at, force=True):
            canvas.clutter(sketch, at, force=True)
        for side in (-1.0, 1.0):
            along = -reach / 2 + boat * 0.3
            while along < reach / 2 - boat * 0.15:
                drawn = vh.ship(rng, boat * float(rng.uniform(0.75, 1.0)))
                size, beam = (float(s) for s in np.ptp(drawn.corners(), axis=0))
                if large:  # alongside
                    run, off = size + float(rng.uniform(4, 20)), pier_width / 2 + beam / 2 + 0.8
                    turn = 0.0 if rng.random() < 0.5 else math.pi
                else:  # bow or stern to the pier
                    run, off = beam + float(rng.uniform(0.5, 1.4)), pier_width / 2 + size / 2 + 0.5
                    turn = side * math.pi / 2 * (1 if rng.random() < 0.75 else -1) + float(rng.normal(0, 0.03))
                middle = along + (size if large else beam) / 2
                beyond = abs(u - side * (off + (beam if large else size) / 2)) > length / 2 - 0.5
                if rng.random() < full and not beyond and (middle + size / 2 < width * 0.48 if large else True):
                    canvas.put("ship", drawn, at.at(middle, side * off, turn), force=True)
                along += run
        u += pitch
    for _ in range(int(rng.integers(0, 4))):
        a, b = spot(rng, length, width, 6)
        _under_way(canvas, rng, frame.at(a, b, float(rng.uniform(-math.pi, math.pi))), float(rng.uniform(6, 12)), 0.0)
    for _ in range(int(length / 9)):  # cars, sheds and boats ashore do not float
        a = float(rng.uniform(-length / 2, length / 2))
        roll = rng.random()
        place = frame.at(
            a, -width / 2 + quay / 2 + float(rng.uniform(-0.3, 0.3)) * quay, float(rng.choice([0.0, math.pi / 2]))
        )
        if roll < 0.4 and "small-vehicle" in canvas.wanted:
            canvas.put("small-vehicle", vh.car(rng), place, force=True)
        elif roll < 0.6:
            canvas.clutter(st.shed(rng), place, force=True)


def river_crossing(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """A river along the longer side with one or two bridges over it and boats on it."""
    canvas.ground_rect(frame, length, width, tint(rng, (112, 130, 84), 10), "grass")
    along = frame if length >= width else frame.at(0, 0, math.pi / 2)
    run, across = (length, width) if length >= width else (width, length)
    river = across * float(rng.uniform(0.34, 0.55))
    bend = np.linspace(-run / 2, run / 2, 25)
    wave = np.sin(bend / run * 2 * math.pi * float(rng.uniform(0.4, 0.9)) + float(rng.uniform(0, 6))) * across * 0.08
    water = tint(rng, (58, 84, 84), 10)
    upper = np.stack((bend, wave - river / 2), axis=1)
    lower = np.stack((bend[::-1], wave[::-1] + river / 2), axis=1)
    bank = np.concatenate((upper - np.array((0, 2.5)), lower + np.array((0, 2.5))))
    canvas.region(along.points(bank), tint(rng, (168, 156, 128), 8), "soil")
    canvas.region(along.points(np.concatenate((upper, lower))), water, "water")
    for _ in range(1 if run < 110 else 2):
        u = float(rng.uniform(-0.38, 0.38)) * run
        v = float(np.interp(u, bend, wave))
        road = float(rng.uniform(7, 13))
        skew = float(rng.normal(0, 0.08))
        at = along.at(u, v, math.pi / 2 + skew)
        sketch = st.bridge(rng, river * 1.12 + 3, road)
        canvas.ground_rect(at, across * 1.02, road - 1.4, (112, 110, 108), "asphalt")
        if not canvas.put("bridge", sketch, at, force=True):
            canvas.clutter(sketch, at, force=True)
        for _ in range(int(rng.integers(0, 3))):
            lane = 1.0 if rng.random() < 0.5 else -1.0
            name, drawn = ("small-vehicle", vh.car(rng)) if rng.random() < 0.7 else ("large-vehicle", vh.lorry(rng))
            turn = 0.0 if lane > 0 else math.pi
            canvas.put(name, drawn, at.at(float(rng.uniform(-0.3, 0.3)) * river, lane * road * 0.2, turn), force=True)
    for _ in range(int(rng.integers(1, 5))):
        u = float(rng.uniform(-0.45, 0.45)) * run
        v = float(np.interp(u, bend, wave)) + float(rng.uniform(-0.3, 0.3)) * river
        size = float(rng.uniform(6, min(45.0, max(7.0, river * 1.2))))
        turn = float(rng.choice([0.0, math.pi])) + float(rng.normal(0, 0.15))
        _under_way(canvas, rng, along.at(u, v, turn), size, (run / 2 - abs(u)) * 0.5)
    for side in (-1.0, 1.0):
        strip = along.at(0, side * (across / 2 - across * 0.1))
        scatter_trees(canvas, rng, strip, run, across * 0.18, int(run * across * 0.18 / 90))
