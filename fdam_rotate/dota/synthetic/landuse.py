"""What stands on a block of land: each function fills one rectangle of a scene with a kind of land use.

All take ``(canvas, rng, frame, length, width)``: the frame at the block's middle, its size in metres along the frame's
x and y. They lay out objects of the classes that they host and the clutter that goes with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fdam_rotate.dota.synthetic import structures as st
from fdam_rotate.dota.synthetic import vehicles as vh
from fdam_rotate.dota.synthetic.canvas import Canvas
from fdam_rotate.dota.synthetic.placing import quarter, scatter_trees, spot
from fdam_rotate.dota.synthetic.sketch import Colour, Frame, Sketch, pick, rect_points, shade, tint
from fdam_rotate.dota.synthetic.waterside import marina, open_water, river_crossing

__all__ = ["LAND_USES", "LandUse", "fields", "woodland"]

LandUse = Callable[[Canvas, np.random.Generator, Frame, float, float], None]

_PAINT: Colour = (222, 222, 214)


def apron(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """An airport apron: aeroplanes in rows or alone, helicopters on their pads, painted lines and crosses."""
    concrete = tint(rng, (168, 168, 162), 10)
    canvas.ground_rect(frame, length, width, concrete, "concrete")
    for u in np.arange(-length / 2 + 7.5, length / 2, 7.5):
        canvas.line(frame, u, -width / 2, u, width / 2, 0.2, shade(concrete, 0.9))
    for v in np.arange(-width / 2 + 7.5, width / 2, 7.5):
        canvas.line(frame, -length / 2, v, length / 2, v, 0.2, shade(concrete, 0.9))
    small = min(length, width)
    largest = small * 0.6
    options = [(9.0, 13.0), (14.0, 20.0), (24.0, 36.0), (36.0, 52.0)]
    options = [o for o in options if o[0] < largest] or [(8.0, 11.0)]
    low, high = options[int(rng.integers(len(options)))]
    size = float(rng.uniform(low, min(high, max(low, largest))))
    pitch = size * float(rng.uniform(1.18, 1.5))
    heading = quarter(rng) + float(rng.normal(0, 0.05))
    rows = max(1, int(width / (pitch * 1.25)))
    yellow = (206, 172, 60)
    if rng.random() < 0.75:
        columns = max(1, int(length / pitch))
        for r in range(rows):
            v = -width / 2 + (r + 0.5) * width / rows
            canvas.line(frame, -length / 2, v, length / 2, v, 0.35, yellow)
            for c in range(columns):
                u = -length / 2 + (c + 0.5) * length / columns
                span = size * float(rng.uniform(0.9, 1.0))
                turn = heading + float(rng.normal(0, 0.04)) + (0.35 if rng.random() < 0.04 else 0.0)
                if rng.random() < 0.78:
                    canvas.put(
                        "plane", vh.plane(rng, span), frame.at(u, v + float(rng.normal(0, 0.6)), turn), margin=0.5
                    )
    else:
        for _ in range(int(rng.integers(1, 4))):
            u, v = spot(rng, length, width, size * 0.5)
            canvas.put("plane", vh.plane(rng, size), frame.at(u, v, float(rng.uniform(-math.pi, math.pi))), margin=1.0)
    for _ in range(int(rng.integers(0, 4))):
        u, v = spot(rng, length, width, 8)
        if "helicopter" in canvas.wanted:
            pad = Sketch()
            pad.ring(0, 0, 8.5, 0.5, _PAINT, 24)
            pad.disc(0, 0, 0.4, _PAINT)
            if canvas.is_free(frame.at(u, v).points(rect_points(0, 0, 18, 18))):
                canvas.mark(pad, frame.at(u, v))
                canvas.put("helicopter", vh.helicopter(rng), frame.at(u, v, float(rng.uniform(-math.pi, math.pi))))
    for _ in range(int(rng.integers(1, 5))):  # painted crosses: as wide as a small aeroplane
        u, v = spot(rng, length, width, 6)
        cross, arm = Sketch(), float(rng.uniform(3.0, 7.0))
        cross.stripe(-arm, 0, arm, 0, 0.9, _PAINT, body=True)
        cross.stripe(0, -arm * 0.8, 0, arm * 0.8, 0.9, _PAINT, body=True)
        canvas.clutter(cross, frame.at(u, v, float(rng.uniform(0, math.pi))))
    for _ in range(int(rng.integers(0, 5))):  # service cars
        u, v = spot(rng, length, width, 3)
        name, sketch = ("small-vehicle", vh.car(rng)) if rng.random() < 0.6 else ("large-vehicle", vh.lorry(rng))
        canvas.put(name, sketch, frame.at(u, v, quarter(rng)), margin=0.6)


def car_park(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Dense rows of cars on marked bays; cars on the aisles, lamp posts, islands with trees, skips."""
    asphalt = tint(rng, (100, 100, 102), 12)
    canvas.ground_rect(frame, length, width, asphalt, "asphalt")
    bay, depth, aisle = float(rng.uniform(2.5, 2.8)), 5.2, float(rng.uniform(6.0, 7.5))
    full = float(rng.uniform(0.35, 0.95))
    slant = float(rng.choice([0.0, 0.0, 0.0, 0.5]))
    v = -width / 2 + depth / 2 + 1.0
    side = 0
    while v < width / 2 - depth / 2:
        for u in np.arange(-length / 2 + 3.0, length / 2 - 3.0, bay):
            canvas.line(frame, u - bay / 2, v - depth / 2, u - bay / 2 + slant * depth / 2, v + depth / 2, 0.16, _PAINT)
            roll = rng.random()
            if roll < full:
                turn = math.pi / 2 * (1 if rng.random() < 0.5 else -1) + slant * -0.5 + float(rng.normal(0, 0.03))
                at = frame.at(float(u) + slant * depth / 4, v + float(rng.normal(0, 0.18)), turn)
                canvas.put("small-vehicle", vh.car(rng), at, force=True)
            elif roll > 0.985:
                canvas.clutter(st.shed(rng), frame.at(float(u), v, math.pi / 2))
            elif roll > 0.97:
                canvas.clutter(st.tree(rng, float(rng.uniform(1.8, 3.4))), frame.at(float(u), v), over=True)
        side += 1
        v += depth + (0.3 if side % 2 == 0 else aisle)
    for _ in range(int(rng.integers(0, 4))):
        u, w = spot(rng, length, width, 3)
        canvas.put("small-vehicle", vh.car(rng), frame.at(u, w, float(rng.choice([0.0, math.pi]))), margin=0.4)


def lorry_yard(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """A depot: a hall, lorries in rows or at its docks, stacks of containers that resemble their loads."""
    canvas.ground_rect(frame, length, width, tint(rng, (140, 138, 134), 12), "concrete")
    hall = width * float(rng.uniform(0.2, 0.42)) if width > 40 else 0.0
    if hall:
        canvas.clutter(st.roof_block(rng, length * 0.88, hall), frame.at(0, -width / 2 + hall / 2 + 2))
        u = -length * 0.4
        while u < length * 0.4:
            if rng.random() < 0.45:
                sketch = vh.lorry(rng)
                at = frame.at(u, -width / 2 + hall + 3.5 + float(np.ptp(sketch.corners()[:, 0])) / 2, math.pi / 2)
                canvas.put("large-vehicle", sketch, at, margin=0.2)
            u += 3.6
    free = width - hall - 24
    rows = max(1, int(free / 22)) if free > 0 else 0
    for r in range(rows):
        v = width / 2 - 11 - r * 22
        pitch = float(rng.uniform(3.3, 4.2))
        stack = rng.random() < 0.35
        for u in np.arange(-length / 2 + 4, length / 2 - 4, pitch):
            roll = rng.random()
            if stack and roll < 0.8:
                canvas.clutter(st.container(rng), frame.at(float(u), v, math.pi / 2), margin=0.1)
            elif roll < 0.7:
                turn = math.pi / 2 * (1 if rng.random() < 0.7 else -1) + float(rng.normal(0, 0.02))
                canvas.put("large-vehicle", vh.lorry(rng), frame.at(float(u), v, turn), margin=0.1)
    for _ in range(int(rng.integers(2, 7))):
        u, v = spot(rng, length, width, 7)
        roll = rng.random()
        turn = float(rng.uniform(-math.pi, math.pi))
        if roll < 0.35:
            canvas.put("large-vehicle", vh.lorry(rng), frame.at(u, v, turn), margin=0.8)
        elif roll < 0.6:
            canvas.put("small-vehicle", vh.car(rng), frame.at(u, v, turn), margin=0.8)
        else:
            canvas.clutter(st.container(rng) if roll < 0.85 else st.shed(rng), frame.at(u, v, turn), margin=0.8)


def tank_farm(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Storage tanks in a grid within bunds, pipes between them; round plinths without a tank, and round trees."""
    soil = tint(rng, pick(rng, ((176, 166, 146), (150, 148, 140), (120, 128, 96))), 10)
    canvas.ground_rect(frame, length, width, soil, "soil")
    largest = min(length, width) * 0.8
    diameter = float(rng.uniform(6.0, max(6.5, min(34.0, largest))))
    pitch = diameter * float(rng.uniform(1.3, 1.7)) + 2
    columns, rows = max(1, int(length / pitch)), max(1, int(width / pitch))
    pipe = tint(rng, (190, 190, 186), 8)
    for r in range(rows):
        v = -width / 2 + (r + 0.5) * width / rows
        canvas.line(frame, -length / 2, v + diameter * 0.55, length / 2, v + diameter * 0.55, 0.7, pipe)
        for c in range(columns):
            u = -length / 2 + (c + 0.5) * length / columns
            bund = pitch * 0.96
            for a, b, e, f in ((-1, -1, 1, -1), (1, -1, 1, 1), (1, 1, -1, 1), (-1, 1, -1, -1)):
                canvas.line(
                    frame,
                    u + a * bund / 2,
                    v + b * bund / 2,
                    u + e * bund / 2,
                    v + f * bund / 2,
                    0.8,
                    shade(soil, 1.15),
                )
            canvas.line(frame, u, v, u, v + diameter * 0.55, 0.5, pipe)
            size = diameter * float(rng.uniform(0.8, 1.0))
            if rng.random() < 0.8:
                canvas.put("storage-tank", st.storage_tank(rng, size), frame.at(u, v).upright(), margin=0.3)
            else:  # a plinth: as round, but flat, dull and without a shadow
                plinth = Sketch()
                plinth.disc(0, 0, size / 2, shade(soil, 0.82))
                plinth.disc(0, 0, size * 0.4, shade(soil, 0.92))
                canvas.clutter(plinth, frame.at(u, v))
    for _ in range(int(rng.integers(1, 6))):
        u, v = spot(rng, length, width, 3)
        if rng.random() < 0.5:
            canvas.put(
                "storage-tank", st.storage_tank(rng, float(rng.uniform(3.5, 7.0))), frame.at(u, v).upright(), margin=0.5
            )
        else:
            canvas.clutter(st.shed(rng), frame.at(u, v, quarter(rng)), margin=0.5)
    scatter_trees(canvas, rng, frame, length, width, int(length * width / 700))


def courts(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Tennis and basketball courts in rows, and painted playgrounds of a court's size without lines."""
    canvas.ground_rect(frame, length, width, tint(rng, (108, 132, 78), 10), "grass")
    kinds = [name for name in ("tennis-court", "basketball-court") if name in canvas.wanted] or ["tennis-court"]
    kind = kinds[int(rng.integers(len(kinds)))]
    upright = rng.random() < 0.5
    cell_u, cell_v = (36.0, 18.6) if not upright else (18.6, 36.0)
    columns, rows = max(1, int(length / cell_u)), max(1, int(width / cell_v))
    turn = 0.0 if not upright else math.pi / 2
    style = np.random.default_rng(int(rng.integers(1 << 32)))
    state = style.bit_generator.state
    for c in range(columns):
        for r in range(rows):
            u = -length / 2 + (c + 0.5) * length / columns
            v = -width / 2 + (r + 0.5) * width / rows
            if rng.random() < 0.7:
                style.bit_generator.state = state  # courts of one ground share their paint
            if rng.random() < 0.82:
                kind = kinds[int(rng.integers(len(kinds)))] if rng.random() < 0.15 else kind
                sketch = st.tennis_court(style) if kind == "tennis-court" else st.basketball_court(style)
                canvas.put(kind, sketch, frame.at(u, v, turn + (math.pi if rng.random() < 0.5 else 0.0)))
            elif rng.random() < 0.6:
                plain = Sketch()
                paint = tint(rng, pick(rng, ((160, 78, 58), (70, 128, 92), (150, 150, 148), (56, 92, 142))), 8)
                plain.rect(0, 0, float(rng.uniform(14, 26)), float(rng.uniform(9, 14)), paint)
                canvas.clutter(plain, frame.at(u, v, turn))
    scatter_trees(canvas, rng, frame, length, width, int(length * width / 260))


def playing_fields(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """A running track with a soccer pitch inside, a pitch alone, or a baseball field, as large as the block allows."""
    canvas.ground_rect(frame, length, width, tint(rng, (110, 136, 80), 10), "grass")
    turn = 0.0 if length >= width else math.pi / 2
    longest = min(max(length, width), min(length, width) * 1.75) * 0.92
    options = []
    if longest >= 110 and canvas.wanted & {"ground-track-field", "soccer-ball-field"}:
        options.append("track")
    if longest >= 45 and "soccer-ball-field" in canvas.wanted:
        options.append("pitch")
    if min(length, width) >= 45 and "baseball-diamond" in canvas.wanted:
        options.append("baseball")
    kind = options[int(rng.integers(len(options)))] if options else ""
    if kind == "track":
        size = min(longest, 180.0)
        canvas.put("ground-track-field", st.running_track(rng, size), frame.at(0, 0, turn))
        canvas.put("soccer-ball-field", st.soccer_field(rng, size * 0.56), frame.at(0, 0, turn), force=True)
    elif kind == "pitch":
        canvas.put(
            "soccer-ball-field",
            st.soccer_field(rng, min(longest * 0.86, float(rng.uniform(45, 105)))),
            frame.at(0, 0, turn),
        )
    elif kind == "baseball":
        reach = min(min(length, width) * 0.62, float(rng.uniform(40, 100)))
        canvas.put("baseball-diamond", st.baseball_diamond(rng, reach), frame.at(0, 0, quarter(rng) + math.pi / 4))
    scatter_trees(canvas, rng, frame, length, width, int(length * width / 320))


def housing(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Houses in gardens with pools, cars in the drives, trees over some of them."""
    canvas.ground_rect(frame, length, width, tint(rng, (104, 124, 80), 10), "grass")
    columns, rows = max(1, round(length / 24)), max(1, round(width / 28))
    for r in range(rows):
        for c in range(columns):
            u = -length / 2 + (c + 0.5) * length / columns
            v = -width / 2 + (r + 0.5) * width / rows
            at = frame.at(u, v, (0.0 if r % 2 else math.pi) + float(rng.normal(0, 0.06)))
            drive = Sketch()
            drive.rect(-7.5, 8.5, 4.0, 9.0, tint(rng, (176, 172, 166), 8))
            canvas.mark(drive, at)
            canvas.clutter(
                st.house(rng, float(rng.uniform(10, 15)), float(rng.uniform(7.5, 10))), at.at(0, 1.0), margin=0.5
            )
            if rng.random() < 0.6:
                canvas.put("small-vehicle", vh.car(rng), at.at(-7.5, 9.4, math.pi / 2), margin=0.2)
            if rng.random() < 0.5:
                turn = float(rng.choice([0.0, math.pi / 2])) + float(rng.normal(0, 0.2))
                canvas.put(
                    "swimming-pool", st.swimming_pool(rng), at.at(float(rng.uniform(-3, 4)), -9.0, turn), margin=0.5
                )
            elif rng.random() < 0.3:
                canvas.clutter(st.shed(rng), at.at(float(rng.uniform(-6, 6)), -9.0), margin=0.3)
    scatter_trees(canvas, rng, frame, length, width, int(length * width / 110))


def business_park(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Flat-roofed halls whose roof plant looks like parked cars; a few real cars between them."""
    canvas.ground_rect(frame, length, width, tint(rng, (128, 128, 126), 10), "asphalt")
    for _ in range(max(2, int(length * width / 1300))):
        u, v = spot(rng, length, width, 9)
        block = st.roof_block(rng, float(rng.uniform(16, 40)), float(rng.uniform(12, 26)))
        canvas.clutter(block, frame.at(u, v, quarter(rng)), margin=2.5)
    for _ in range(max(3, int(length * width / 260))):
        u, v = spot(rng, length, width, 3)
        roll = rng.random()
        if roll < 0.55:
            canvas.put("small-vehicle", vh.car(rng), frame.at(u, v, quarter(rng)), margin=0.6)
        elif roll < 0.7:
            canvas.put("large-vehicle", vh.lorry(rng), frame.at(u, v, quarter(rng)), margin=0.6)
        else:
            canvas.clutter(st.shed(rng), frame.at(u, v, quarter(rng)), margin=0.4)
    scatter_trees(canvas, rng, frame, length, width, int(length * width / 500))


def fields(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Farm land in strips with furrows; hay bales as round as small tanks, and a barn."""
    strips = max(1, int(rng.integers(1, 4)))
    at = frame if rng.random() < 0.5 else frame.at(0, 0, math.pi / 2)
    long, short = (length, width) if at is frame else (width, length)
    for k in range(strips):
        crop = tint(
            rng, pick(rng, ((120, 132, 72), (166, 150, 98), (146, 122, 92), (90, 120, 66), (184, 172, 120))), 10
        )
        strip = at.at(0, -short / 2 + (k + 0.5) * short / strips)
        canvas.ground_rect(strip, long, short / strips, crop, "soil")
        if rng.random() < 0.7:
            step = float(rng.uniform(2.0, 5.0))
            for v in np.arange(-short / strips / 2 + step, short / strips / 2, step):
                canvas.line(strip, -long / 2, v, long / 2, v, step * 0.3, shade(crop, 0.92))
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(3, 14))):
            u, v = spot(rng, length, width, 2)
            bale = Sketch(height=1.3)
            bale.disc(0, 0, float(rng.uniform(0.8, 1.6)), tint(rng, (206, 188, 130), 8))
            canvas.clutter(bale, frame.at(u, v), margin=0.5)
    if rng.random() < 0.4:
        u, v = spot(rng, length, width, 10)
        canvas.clutter(st.house(rng, float(rng.uniform(14, 26)), 10.0), frame.at(u, v, quarter(rng)), margin=1.0)


def woodland(canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float) -> None:
    """Trees, close together."""
    canvas.ground_rect(frame, length, width, tint(rng, (66, 88, 50), 8), "wood")
    for _ in range(min(900, int(length * width / 30))):
        u, v = spot(rng, length, width)
        canvas.clutter(st.tree(rng, float(rng.uniform(2.0, 4.8))), frame.at(u, v), over=True)


#: Land use -> the classes that it may host.
LAND_USES: dict[LandUse, tuple[str, ...]] = {
    apron: ("plane", "helicopter"),
    car_park: ("small-vehicle",),
    lorry_yard: ("large-vehicle",),
    tank_farm: ("storage-tank",),
    courts: ("tennis-court", "basketball-court"),
    playing_fields: ("ground-track-field", "soccer-ball-field", "baseball-diamond"),
    housing: ("swimming-pool", "small-vehicle"),
    business_park: ("small-vehicle", "large-vehicle"),
    open_water: ("ship",),
    marina: ("ship", "harbor"),
    river_crossing: ("bridge", "ship"),
}
