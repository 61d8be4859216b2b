"""Detections and objects drawn on an image, right and wrong ones told apart by shape, classes by colour.

* found: solid outline, and a thin white line where the object itself is;
* false positive: solid outline, crossed out, on a red tint;
* missed object: dashed outline on a yellow tint;
* difficult object, and what found one: dotted outline.

Lines have a dark rim, so that they show on any ground. Widths and letters grow with the image and shrink with small
boxes, down to one pixel without rim. Images are (H, W, 3) uint8 in OpenCV's order (blue, green, red); coordinates are
pixels, x right, y down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.classes import colour_of
from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.examples import Example
from fdam_rotate.dota.scoring.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE, best_matches, iou_pairs, judge

__all__ = ["Verdicts", "draw_detections", "draw_example", "judge_image"]

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

# Coordinates are handed to OpenCV in sixteenths of a pixel.
_SHIFT = 4
_RIM: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (30, 30, 30)
_FALSE_TINT: Colour = (60, 60, 255)
_MISSED_TINT: Colour = (0, 230, 255)
_TINT = 0.35
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Height of a capital letter of the font at scale 1, in pixels.
_FONT_HEIGHT = 22.0
# Least distance from the middle of an example to the edge of its picture, in pixels of the image.
_LEAST_REACH = 40.0


@dataclass(frozen=True)
class Verdicts:
    """What the detections of one image are worth: N detections, M objects.

    Attributes:
        cls: (N,) intp, class number of each detection.
        scores: (N,) float64, falling.
        polys: (N, 8) float64.
        outcome: (N,) int8: 1 found its object, -1 false positive, 0 found a difficult object; 1 if nothing is known.
        truth_cls: (M,) intp, class number of each object.
        truth_polys: (M, 8) float64.
        difficult: (M,) bool.
        found: (M,) bool, whether a detection found the object.
    """

    cls: NDArray[np.intp]
    scores: NDArray[np.float64]
    polys: NDArray[np.float64]
    outcome: NDArray[np.int8]
    truth_cls: NDArray[np.intp]
    truth_polys: NDArray[np.float64]
    difficult: NDArray[np.bool_]
    found: NDArray[np.bool_]


def judge_image(
    detections: Mapping[str, Detections],
    classes: Sequence[str],
    truth: Labels | None = None,
    *,
    score_thr: float = 0.0,
    iou_thr: float = 0.5,
    task: int = 1,
) -> Verdicts:
    """Decide which detections of one image are right, by the rules of :func:`.evaluation.evaluate`.

    Args:
        detections: detections by class, all of this image; classes that are not in ``classes`` are left out.
        classes: class names.
        truth: the objects of the image; None if they are not known.
        score_thr: detections below this are left out.
        iou_thr: a match needs an IoU greater than this.
        task: 1 for polygons, 2 for upright boxes.
    """
    own = [(c, detections[name]) for c, name in enumerate(classes) if name in detections]
    cls = np.repeat(np.array([c for c, _ in own], dtype=np.intp), [len(d) for _, d in own])
    scores = np.concatenate([np.empty(0), *(d.scores for _, d in own)])
    polys = np.concatenate([np.empty((0, 8)), *(d.polys for _, d in own)])
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= score_thr]
    cls, scores, polys = cls[order], scores[order], polys[order]
    number = {name: c for c, name in enumerate(classes)}
    names = truth.names if truth else ()
    rows = np.array([k for k, name in enumerate(names) if name in number], dtype=np.intp)
    truth_cls = np.array([number[names[k]] for k in rows], dtype=np.intp)
    truth_polys = truth.polys[rows] if truth else np.empty((0, 8))
    difficult = truth.difficult[rows] != 0 if truth else np.empty(0, dtype=bool)
    best, _ = best_matches(len(polys), *iou_pairs(polys, cls, truth_polys, truth_cls, least=iou_thr, task=task))
    if truth is None:
        outcome = np.full(len(polys), TRUE_POSITIVE, dtype=np.int8)
    else:
        outcome = judge(best >= 0, best, difficult)
    found = np.zeros(len(truth_cls), dtype=bool)
    found[best[best >= 0]] = True
    return Verdicts(cls, scores, polys, outcome, truth_cls, truth_polys, difficult, found)


def draw_detections(
    image: Image,
    detections: Mapping[str, Detections] | None = None,
    *,
    classes: Sequence[str],
    truth: Labels | None = None,
    score_thr: float = 0.0,
    iou_thr: float = 0.5,
    task: int = 1,
    show_scores: bool = False,
    legend: bool = True,
) -> Image:
    """Draw the detections and objects of one image; see the module for how.

    Args:
        image: (H, W, 3) uint8, blue, green, red; it is not changed.
        detections: detections by class, all of this image; None draws the objects alone.
        classes: class names.
        truth: the objects of the image; None draws detections without a verdict.
        score_thr: detections below this are left out.
        iou_thr: IoU above which a detection has found an object.
        task: 1 for polygons, 2 for upright boxes.
        show_scores: write its score at each detection where there is room, the best first.
        legend: add a strip below the image that explains colours and shapes, with counts.

    Returns:
        A new image: as wide, and as high or higher by the legend.

    Raises:
        ValueError: ``image`` is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be (H, W, 3) uint8, blue green red; got {image.shape} {image.dtype}")
    v = judge_image(detections or {}, classes, truth, score_thr=score_thr, iou_thr=iou_thr, task=task)
    colours = [colour_of(name, classes)[::-1] for name in classes]
    right, wrong, neutral = (v.outcome == code for code in (TRUE_POSITIVE, FALSE_POSITIVE, NEUTRAL))
    if detections is None:
        plain, missed = ~v.difficult, np.zeros(len(v.found), dtype=bool)
    else:
        plain, missed = np.zeros(len(v.found), dtype=bool), ~v.found & ~v.difficult

    canvas = image.copy()
    pen = _Pen(canvas)
    pen.tint(v.polys[wrong], _FALSE_TINT)
    pen.tint(v.truth_polys[missed], _MISSED_TINT)
    pen.dotted(v.truth_polys[v.difficult], [colours[c] for c in v.truth_cls[v.difficult]])
    pen.dotted(v.polys[neutral], [colours[c] for c in v.cls[neutral]])
    pen.dashed(v.truth_polys[missed], [colours[c] for c in v.truth_cls[missed]])
    hit = v.found & ~v.difficult
    pen.solid(v.truth_polys[plain], [colours[c] for c in v.truth_cls[plain]])
    pen.thin(v.truth_polys[hit], _WHITE)
    pen.crossed(v.polys[wrong], [colours[c] for c in v.cls[wrong]])
    pen.solid(v.polys[right], [colours[c] for c in v.cls[right]])
    if show_scores:
        written = np.zeros(canvas.shape[:2], dtype=bool)
        for k in range(len(v.scores)):  # the best first: where boxes are dense, the others find no room
            pen.label(v.polys[k], f"{v.scores[k]:.2f}", colours[v.cls[k]], written)
    if not legend:
        return canvas
    strip = _legend(v, classes, colours, canvas.shape[1], detections is not None, truth is not None)
    return np.concatenate([canvas, strip])


def draw_example(image: Image, example: Example, *, classes: Sequence[str], side: int = 480) -> Image:
    """One mistake, cut out of its image with what lies around it, enlarged where it is small.

    The detection is crossed out on red, the object dashed on yellow; cause, score and classes stand above.

    Args:
        image: (H, W, 3) uint8, blue, green, red; it is not changed.
        example: a mistake on this image.
        classes: class names, which decide the colours.
        side: side of the picture in pixels, without the line of text.
    """
    boxes = np.array([poly for poly in (example.poly, example.truth) if poly is not None])
    points = boxes.reshape(-1, 2)
    reach = max(float(np.ptp(points, axis=0).max()) * 0.9, _LEAST_REACH)
    low = np.floor((points.min(axis=0) + points.max(axis=0)) / 2 - reach).astype(int)
    width = int(np.ceil(2 * reach))
    left, top = np.clip(low, 0, np.maximum(np.array(image.shape[1::-1]) - width, 0))
    crop = image[top : top + width, left : left + width]
    if not crop.size:  # the box lies outside its image
        crop = np.zeros((width, width, 3), np.uint8)
    scale = side / max(crop.shape[:2])
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    canvas: Image = np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8)
    pen = _Pen(canvas)
    for poly, name, tint, outline in (
        (example.truth, example.meant, _MISSED_TINT, pen.dashed),
        (example.poly, example.found, _FALSE_TINT, pen.crossed),
    ):
        if poly is not None and name is not None:
            drawn = ((np.array(poly).reshape(4, 2) - (left, top)) * scale).reshape(1, 8)
            pen.tint(drawn, tint)
            outline(drawn, [colour_of(name, classes)[::-1]])
    scale, thickness = _font(12.0)
    strip = np.full((24, canvas.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, _caption(example), (6, 17), _FONT, scale, _INK, thickness, cv2.LINE_AA)
    return np.concatenate([strip, canvas])


def _caption(example: Example) -> str:
    """For instance ``angle 0.93: ship`` or ``class 0.80: ship for harbor``."""
    score = "" if example.score is None else f" {example.score:.2f}"
    if example.found is None:
        return f"{example.cause}{score}: {example.meant}"
    other = f" for {example.meant}" if example.meant not in (None, example.found) else ""
    return f"{example.cause}{score}: {example.found}{other}"


class _Pen:
    """Draws on one image, with widths that suit its size and that of the boxes."""

    def __init__(self, canvas: Image):
        self.canvas = canvas
        side = max(canvas.shape[:2])
        self.width = float(np.clip(side / 1300, 1.6, 3.5))
        self.letters = float(np.clip(side / 170, 8.0, 24.0))

    def tint(self, polys: NDArray[np.float64], colour: Colour) -> None:
        """Lay a colour over the inside of polygons."""
        for poly in polys:
            corners = self._fixed(poly)
            x, y, w, h = cv2.boundingRect((corners >> _SHIFT).astype(np.int32))
            left, top = max(x - 1, 0), max(y - 1, 0)
            part = self.canvas[top : max(y + h + 2, 0), left : max(x + w + 2, 0)]
            if part.size:
                mask = np.zeros(part.shape[:2], dtype=np.uint8)
                shifted = corners - np.array([left, top]) * (1 << _SHIFT)
                cv2.fillPoly(mask, [shifted.astype(np.int32)], (255,), cv2.LINE_AA, _SHIFT)
                weight = (mask.astype(np.float32) * (_TINT / 255))[..., None]
                part[:] = (part * (1 - weight) + np.array(colour, np.float32) * weight + 0.5).astype(np.uint8)

    def solid(self, polys: NDArray[np.float64], colours: Iterable[Colour]) -> None:
        """Full outlines."""
        for poly, colour in zip(polys, colours, strict=True):
            self._lines([np.vstack([_corners(poly), _corners(poly)[:1]])], colour, self._width(poly))

    def thin(self, polys: NDArray[np.float64], colour: Colour) -> None:
        """Full outlines of the least width, without rim; small boxes, which they would hide, are left out."""
        for poly in polys:
            if self._width(poly) < 1.5:
                continue
            cv2.polylines(self.canvas, [self._fixed(poly)], True, colour, 1, cv2.LINE_AA, _SHIFT)

    def crossed(self, polys: NDArray[np.float64], colours: Iterable[Colour]) -> None:
        """Full outlines with both diagonals."""
        for poly, colour in zip(polys, colours, strict=True):
            p = _corners(poly)
            for diagonal in p[[0, 2]], p[[1, 3]]:
                self._lines([diagonal], colour, 0.6 * self._width(poly), rim=False)
            self._lines([np.vstack([p, p[:1]])], colour, self._width(poly))

    def dashed(self, polys: NDArray[np.float64], colours: Iterable[Colour]) -> None:
        """Outlines in dashes."""
        self._broken(polys, colours, dash=4.0, gap=4.0)

    def dotted(self, polys: NDArray[np.float64], colours: Iterable[Colour]) -> None:
        """Outlines in dots."""
        self._broken(polys, colours, dash=0.5, gap=3.5)

    def label(self, poly: NDArray[np.float64], text: str, colour: Colour, written: NDArray[np.bool_]) -> None:
        """Text on its own ground, above the highest corner; none where it would touch what is ``written``, (H, W)."""
        corner = _corners(poly)[np.argmin(_corners(poly)[:, 1])]
        scale, thickness = _font(self.letters)
        (width, height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
        pad = max(1, round(self.letters / 6))
        x = int(np.clip(corner[0] - width / 2, 0, max(self.canvas.shape[1] - width - 2 * pad, 0)))
        y = int(np.clip(corner[1] - self.width - pad, height + 2 * pad, max(self.canvas.shape[0], height + 2 * pad)))
        ground = (slice(max(y - height - 2 * pad, 0), y + 1), slice(x, x + width + 2 * pad + 1))
        if written[ground].any():
            return
        written[ground] = True
        self.canvas[ground] = colour
        ink = _INK if _light(colour) else _WHITE
        cv2.putText(self.canvas, text, (x + pad, y - pad), _FONT, scale, ink, thickness, cv2.LINE_AA)

    def _broken(self, polys: NDArray[np.float64], colours: Iterable[Colour], dash: float, gap: float) -> None:
        for poly, colour in zip(polys, colours, strict=True):
            width = self._width(poly)
            self._lines(_dashes(_corners(poly), dash * width, gap * width), colour, width)

    def _lines(self, lines: list[NDArray[np.float64]], colour: Colour, width: float, *, rim: bool = True) -> None:
        fixed = [self._fixed(line) for line in lines]
        pixels = max(1, round(width))
        if rim and pixels > 1:  # small boxes, which get one pixel, would be filled by it
            cv2.polylines(self.canvas, fixed, False, _RIM, pixels + 2 * max(1, pixels // 2), cv2.LINE_AA, _SHIFT)
        cv2.polylines(self.canvas, fixed, False, colour, pixels, cv2.LINE_AA, _SHIFT)

    def _width(self, poly: NDArray[np.float64]) -> float:
        """Line width for a box: a tenth of its short side at most, so that small objects stay visible."""
        p = _corners(poly)
        short = float(np.min(np.linalg.norm(p - np.roll(p, 1, axis=0), axis=1)))
        return float(np.clip(short / 10, 1.0, self.width))

    def _fixed(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        """Points as OpenCV takes them; far outside they are moved in, where 32 bits hold them."""
        far = 4.0 * max(self.canvas.shape[:2])
        fixed: NDArray[np.int32] = np.rint(np.clip(points.reshape(-1, 2), -far, far) * (1 << _SHIFT)).astype(np.int32)
        return fixed


def _legend(
    v: Verdicts, classes: Sequence[str], colours: Sequence[Colour], width: int, has_det: bool, has_truth: bool
) -> Image:
    """A white strip as wide as the image: what the shapes mean, then the classes in it, with counts."""
    letters = float(np.clip(width / 75, 9.0, 44.0))
    scale, thickness = _font(letters)
    pad = round(letters)
    swatch = round(2.2 * letters)

    def count(mask: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(mask))

    grey: Colour = (120, 120, 120)
    entries: list[tuple[str, str, Colour]] = []
    if has_det and has_truth:
        entries += [
            ("solid", f"found {count(v.outcome == TRUE_POSITIVE)}", grey),
            ("crossed", f"false positive {count(v.outcome == FALSE_POSITIVE)}", grey),
            ("dashed", f"missed {count(~v.found & ~v.difficult)}", grey),
        ]
    elif has_det:
        entries.append(("solid", f"detections {len(v.outcome)}", grey))
    else:
        entries.append(("solid", f"objects {count(~v.difficult)}", grey))
    if v.difficult.any():
        entries.append(("dotted", f"difficult {count(v.difficult)}", grey))
    shown = v.cls if has_det else v.truth_cls
    for c, name in enumerate(classes):
        number = count(shown == c)
        if number or (v.truth_cls == c).any():
            entries.append(("solid", f"{name} {number}", colours[c]))

    sizes = [swatch + pad // 2 + cv2.getTextSize(text, _FONT, scale, thickness)[0][0] + pad for _, text, _ in entries]
    places, x, row = [], pad, 0
    for size in sizes:
        if x > pad and x + size > width:
            x, row = pad, row + 1
        places.append((x, row))
        x += size
    step = round(2.2 * letters)
    strip = np.full((step * (row + 1) + pad, width, 3), 255, dtype=np.uint8)
    pen = _Pen(strip)
    pen.width = float(np.clip(letters / 8, 1.6, 4.0))
    for (kind, text, colour), (x, row) in zip(entries, places, strict=True):
        top = pad // 2 + step * row + round(0.4 * letters)
        box = np.array([[x, top, x + swatch, top, x + swatch, top + 1.4 * letters, x, top + 1.4 * letters]])
        if kind in ("crossed", "dashed"):
            pen.tint(box, _FALSE_TINT if kind == "crossed" else _MISSED_TINT)
        getattr(pen, kind)(box, [colour])
        place = (x + swatch + pad // 2, round(top + 1.2 * letters))
        cv2.putText(strip, text, place, _FONT, scale, _INK, thickness, cv2.LINE_AA)
    return strip


def _corners(poly: NDArray[np.float64]) -> NDArray[np.float64]:
    return poly.reshape(4, 2)


def _dashes(corners: NDArray[np.float64], dash: float, gap: float) -> list[NDArray[np.float64]]:
    """Pieces of the four sides, (2, 2) each: a dash at both ends of a side, so that corners show."""
    pieces = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        length = float(np.linalg.norm(b - a))
        count = max(1, min(200, round((length - dash) / (dash + gap))))
        share = min(dash / length, 1.0) if length else 1.0
        for start in np.linspace(0.0, 1.0 - share, count + 1):
            pieces.append(np.stack([a + (b - a) * start, a + (b - a) * (start + share)]))
    return pieces


def _font(height: float) -> tuple[float, int]:
    """OpenCV's scale and thickness of letters ``height`` pixels high."""
    return height / _FONT_HEIGHT, max(1, round(height / 11))


def _light(colour: Colour) -> bool:
    """Whether dark letters read better on the colour (blue, green, red) than white ones."""
    return 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 140
