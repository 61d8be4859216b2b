"""The page's scripts run by node, compared with the same worked out here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fdam_rotate.dota.viewing as viewing
from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.viewing.boxes import best_first, box_columns

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")

FOLDER = Path(viewing.__file__).parent
CLASSES = ("plane", "ship", "harbor")


def run(name: str, code: str, values: Any) -> Any:
    """What ``code`` makes of ``values`` with the script ``name`` before it."""
    program = f"{(FOLDER / name).read_text()}\nconst given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n{code}"
    done = subprocess.run(
        ["node", "-e", program], input=json.dumps(values), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def columns(scores: np.ndarray, cls: np.ndarray, polys: np.ndarray) -> dict[str, Any]:
    detections = {
        name: Detections(("a",), np.zeros((cls == k).sum(), np.intp), scores[cls == k], polys[cls == k])
        for k, name in enumerate(CLASSES)
    }
    return box_columns(*best_first(detections, CLASSES), CLASSES, None)


def test_counts_choice_and_order() -> None:
    rng = np.random.default_rng(3)
    count = 400
    scores = rng.integers(5, 100, count) / 100  # many ties, many equal to a threshold
    cls = rng.integers(0, 3, count)
    boxes = np.stack([*rng.uniform(0, 300, (2, count)), *rng.uniform(5, 40, (2, count)), rng.uniform(-1.5, 1.5, count)])
    polys = le90_to_poly(boxes.T)
    content = columns(scores, cls, polys)
    points = rng.uniform(0, 300, (200, 2))
    code = """
      const boxes = new Boxes(given.content);
      const shown = { least: 0.3, on: [true, false, true] };
      const order = [];
      for (let box = boxes.beside(-1, 1, shown); box >= 0; box = boxes.beside(box, 1, shown)) order.push(box);
      const back = [];
      for (let box = boxes.beside(-1, -1, shown); box >= 0; box = boxes.beside(box, -1, shown)) back.push(box);
      console.log(JSON.stringify({
        counts: given.least.map((least) => boxes.counts(least)),
        at: given.points.map(([x, y]) => boxes.at(x, y, given.reach, shown)),
        order, back, scores: [...boxes.scores], classes: [...boxes.scores.keys()].map((box) => boxes.classOf(box)),
        corners: [...boxes.corners], bounds: [...boxes.bounds],
      }));"""
    least = [0.0, 0.05, 0.29, 0.3, 0.57, 0.58, 0.99, 1.0]
    told = run("boxes.js", code, {"content": content, "points": points.tolist(), "least": least, "reach": 4})

    assert told["counts"] == [[int(((cls == k) & (scores >= one)).sum()) for k in range(3)] for one in least]
    place = np.lexsort((-scores, cls))  # stable
    assert told["classes"] == cls[place].tolist()
    assert told["scores"] == scores[place].tolist()
    corners = polys[place].astype(np.float32).reshape(-1, 4, 2)
    assert told["corners"] == corners.ravel().tolist()
    assert told["bounds"] == np.concatenate([corners.min(1), corners.max(1)], axis=1).ravel().tolist()
    shown = (scores[place] >= 0.3) & (cls[place] != 1)
    assert told["order"] == [i for i in np.argsort(-scores[place], kind="stable").tolist() if shown[i]]
    assert told["back"] == told["order"][::-1]

    import shapely

    shapes = shapely.polygons(corners.astype(float))
    middles = (corners.min(1) + corners.max(1)) / 2
    expected = []
    for x, y in points:
        inside = np.flatnonzero(shapely.contains_xy(shapes, x, y) & shown)
        away = np.where(shown, np.hypot(*(middles - (x, y)).T), np.inf)
        near = int(away.argmin()) if away.min() < 4 else -1
        expected.append(int(inside[shapely.area(shapes[inside]).argmin()]) if len(inside) else near)
    assert told["at"] == expected
    assert -1 in expected


def test_nothing_to_show_and_nothing_to_choose() -> None:
    code = """
      const boxes = new Boxes(given);
      const shown = { least: 0, on: [] };
      const found = [boxes.length, boxes.counts(0), boxes.at(1, 1, 9, shown), boxes.beside(-1, 1, shown)];
      console.log(JSON.stringify(found));"""
    assert run("boxes.js", code, columns(np.empty(0), np.empty(0), np.empty((0, 8)))) == [0, [], -1, -1]


def test_lines_are_drawn_where_they_lie_and_nowhere_else() -> None:
    rng = np.random.default_rng(5)
    width, height = 60, 40
    lines = rng.uniform(-40, 100, (300, 4)).round(3).tolist()
    lines += [[5, 5, 5, 5], [10, -20, 10, 90], [-9, 7, 99, 7], [59, 0, 59, 39], [0, 39, 59, 39], [-5, -5, -1, -9]]
    code = """
      const drawn = given.lines.map(([ax, ay, bx, by]) => {
        const pixels = new Uint32Array(60 * 40);
        new Lines(pixels, 60, 40).line(ax, ay, bx, by, 7);
        return [...pixels.keys()].filter((at) => pixels[at]);
      });
      console.log(JSON.stringify(drawn));"""
    for (ax, ay, bx, by), drawn in zip(lines, run("lines.js", code, {"lines": lines}), strict=True):
        places = {(at % width, at // width) for at in drawn}
        t = np.linspace(0, 1, 4000)[:, None]
        points = np.array([[ax, ay]]) + t * np.array([[bx - ax, by - ay]])
        inside = points[(points >= 0).all(1) & (points[:, 0] <= width - 1) & (points[:, 1] <= height - 1)]
        for x, y in places:
            assert np.hypot(*(points - (x, y)).T).min() < 0.72, "a pixel beside the line"
        for x, y in inside:
            assert any(abs(x - px) < 1.01 and abs(y - py) < 1.01 for px, py in places), "a gap"


def test_dots_outlines_and_colours() -> None:
    code = """
      const pixels = new Uint32Array(100);
      const lines = new Lines(pixels, 10, 10);
      lines.dot(0, 5, 3, 1);
      lines.outline([0, 0, 9, 9, 1, 1, 3, 1, 3, 2, 1, 2].slice(4), 0, 2, 2, 0, 2);
      console.log(JSON.stringify([[...pixels], Lines.pixel("#a52a0b")]));"""
    pixels, colour = run("lines.js", code, None)
    expected = np.zeros((10, 10), int)
    expected[4:7, 0:2] = 1  # a square of three round (0, 5), cut at the border
    expected[2:5, 4:9] = 2  # (1, 1) to (3, 2), twice as large, moved by 2
    expected[3, 5:8] = 0
    assert np.reshape(pixels, (10, 10)).tolist() == expected.tolist()
    assert colour == 0xFF0B2AA5
