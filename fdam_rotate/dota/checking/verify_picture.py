"""One page that shows what :func:`fdam_rotate.dota.checking.verify.verify` found, in charts and examples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.checking.verify import ImageFacts, PartReport, VerifyReport
from fdam_rotate.dota.classes import DOTA_CLASSES, class_colour
from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.figures import figure_file
from fdam_rotate.dota.geometry import poly_to_le90
from fdam_rotate.dota.rasters.images import open_pixels
from fdam_rotate.dota.words import counted

__all__ = ["draw_report"]

_EXAMPLES = 8
_SHOWN_KINDS = ("zero-area", "thin", "self-crossing", "huge", "class", "repeated")
#: Lines of the summary that there is room for at full size.
_SUMMARY_LINES = 22
_INK = "#333333"
_PART_COLOURS = ("#2a6f97", "#e07a1f", "#4c9f70", "#9b5094", "#8a8a8a")


def draw_report(report: VerifyReport, path: str | Path) -> None:
    """Write the page as an image file whose kind is the suffix of ``path`` (.png, .pdf, .svg), all or nothing."""
    with figure_file(path, (15, 11), dpi=110) as figure:
        upper: Any = figure.subfigures(2, 1, height_ratios=[3.6, 1])
        top, bottom = upper
        axes = top.subplots(2, 3)
        _draw_classes(axes[0, 0], report.parts)
        _draw_sizes(axes[0, 1], report.parts)
        _draw_angles(axes[0, 2], report.parts)
        _draw_per_image(axes[1, 0], report.parts)
        _draw_places(axes[1, 1], report.parts)
        _write_summary(axes[1, 2], report)
        _draw_examples(bottom, report)
        for axis in axes.flat[:5]:
            axis.spines[["top", "right"]].set_visible(False)
            axis.title.set_fontsize(11)


def _colour(index: int) -> str:
    return _PART_COLOURS[index % len(_PART_COLOURS)]


def _draw_classes(axis: Any, parts: list[PartReport]) -> None:
    counts = [part.class_counts for part in parts]
    total: Counter[str] = sum(counts, Counter())
    names = [name for name, _ in sorted(total.items(), key=lambda item: (item[1], item[0]))]
    height = 0.8 / max(1, len(parts))
    for k, (part, count) in enumerate(zip(parts, counts, strict=True)):
        at = np.arange(len(names)) + 0.4 - height * (k + 0.5)
        axis.barh(at, [count[name] for name in names], height, color=_colour(k), label=part.name)
    axis.set_yticks(np.arange(len(names)), names, fontsize=8)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_title("Objects by class")
    axis.set_xlabel("objects (logarithmic)")
    if parts:
        axis.legend(fontsize=8, loc="lower right")


def _draw_sizes(axis: Any, parts: list[PartReport]) -> None:
    bins = np.geomspace(1, 2048, 34)
    for k, part in enumerate(parts):
        boxes = poly_to_le90(part.polys)
        side = np.sqrt(boxes[:, 2] * boxes[:, 3])
        _steps(axis, np.clip(side, 1, 2047), bins, k)
    axis.set_xscale("log", base=2)
    axis.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    for edge in (32, 96):
        axis.axvline(edge, color="#bbbbbb", lw=0.8, zorder=0)
    axis.set_title("Box size (lines: COCO's small to 32, medium to 96)")
    axis.set_xlabel("square root of area, pixels")
    axis.set_ylabel("share of the part's objects, %")


def _draw_angles(axis: Any, parts: list[PartReport]) -> None:
    bins = np.linspace(-90, 90, 37)
    for k, part in enumerate(parts):
        _steps(axis, np.degrees(poly_to_le90(part.polys)[:, 4]), bins, k)
    axis.set_xticks(range(-90, 91, 30))
    axis.set_title("Angle of the long side (le90)")
    axis.set_xlabel("degrees, clockwise on the screen")
    axis.set_ylabel("share of the part's objects, %")


def _draw_per_image(axis: Any, parts: list[PartReport]) -> None:
    most = max((len(facts.labels) for part in parts for facts in part.images), default=0)
    bins = np.unique(np.round(np.geomspace(1, most + 2, 26))) - 0.5
    bins = np.concatenate(([-0.5], bins)) if bins[0] > -0.5 else bins
    for k, part in enumerate(parts):
        _steps(axis, np.array([len(facts.labels) for facts in part.images], float), bins, k)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlim(left=-0.5)
    axis.set_title("Objects in an image")
    axis.set_xlabel("objects (logarithmic)")
    axis.set_ylabel("share of the part's images, %")


def _steps(axis: Any, values: NDArray[np.float64], bins: NDArray[np.float64], index: int) -> None:
    if len(values):
        weights = np.full(len(values), 100.0 / len(values))
        axis.hist(values, bins, weights=weights, histtype="step", lw=1.6, color=_colour(index))


def _draw_places(axis: Any, parts: list[PartReport]) -> None:
    grid = np.zeros((40, 40))
    for part in parts:
        for facts in part.images:
            if facts.width and len(facts.labels):
                centre = facts.labels.polys.reshape(-1, 4, 2).mean(axis=1) / (facts.width, facts.height)
                grid += np.histogram2d(centre[:, 1], centre[:, 0], bins=40, range=((0, 1), (0, 1)))[0]
    axis.imshow(grid, extent=(0, 1, 1, 0), cmap="viridis", interpolation="nearest")
    axis.set_title(f"Where in the image objects lie (all parts; yellow: {grid.max():.0f} objects)")
    axis.set_xlabel("x / width")
    axis.set_ylabel("y / height")


def _write_summary(axis: Any, report: VerifyReport) -> None:
    axis.axis("off")
    lines = []
    for part in report.parts:
        empty = sum(not len(facts.labels) for facts in part.images)
        objects = sum(len(facts.labels) for facts in part.images)
        hard = sum(int((facts.labels.difficult > 0).sum()) for facts in part.images)
        sizes = np.array([(facts.width, facts.height) for facts in part.images if facts.width] or [(0, 0)])
        (w0, h0), (w1, h1) = sizes.min(axis=0), sizes.max(axis=0)
        lines.append(f"{part.name}: {counted(len(part.images), 'image')}, {counted(objects, 'object')}")
        lines.append(f"   {hard} difficult; {counted(empty, 'image')} without objects")
        lines.append(f"   {w0}x{h0} to {w1}x{h1} pixels" + ("" if part.labelled else "; no label folder"))
    counts = report.counts
    verdict = "nothing wrong" if not counts else "only accepted kinds" if report.ok else "needs a look"
    kinds = [
        f"{count:7d}  {kind}" + ("  (accepted)" if kind in report.accepted else "") for kind, count in counts.items()
    ]
    size = 9.5 * min(1.0, _SUMMARY_LINES / (len(lines) + len(kinds)))
    text = {"va": "top", "fontsize": size, "family": "monospace", "color": _INK}
    above = axis.text(0, 0.98, "\n".join(lines), transform=axis.transAxes, **text)
    heading = {**text, "fontsize": 11, "family": "sans-serif", "color": "#2e7d32" if report.ok else "#b3261e"}
    for words, style in ((f"Problems: {verdict}", {**heading, "weight": "bold"}), ("\n".join(kinds), text)):
        if words:  # each below the one before, however many lines that has
            above = axis.annotate(words, (0, 0), (0, -8), xycoords=above, textcoords="offset points", **style)


def _draw_examples(figure: Any, report: VerifyReport) -> None:
    """Crops of suspicious objects, and in the room that is left one object of each class."""
    chosen = [*_suspicious(report), *_one_of_each_class(report)][:_EXAMPLES]
    axes = figure.subplots(1, _EXAMPLES)
    known = DOTA_CLASSES["v2.0"]
    for axis in axes:
        axis.axis("off")
    for axis, (facts, row, title) in zip(axes, chosen, strict=False):
        corners = facts.labels.polys[row].reshape(4, 2)
        centre = np.clip(corners.mean(axis=0), 0, (facts.width, facts.height))
        reach = max(24.0, float(np.ptp(corners, axis=0).max()) * 0.75)
        x0, y0 = np.maximum(np.floor(centre - reach), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(centre + reach), (facts.width, facts.height)).astype(int)
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        try:
            with open_pixels(facts.source.path, report.raster) as image:
                ((_, crop),) = image.crops([[x0, y0, x1, y1]])
        except (ImageReadError, OSError):
            continue
        axis.imshow(crop[..., ::-1], extent=(x0, x1, y1, y0))
        name = facts.labels.names[row]
        red, green, blue = class_colour(known.index(name)) if name in known else (255, 0, 0)
        ring = np.concatenate((corners, corners[:1]))
        axis.plot(ring[:, 0], ring[:, 1], color=(red / 255, green / 255, blue / 255), lw=1.6)
        axis.plot(*corners[0], "o", color="yellow", ms=3)
        axis.set_xlim(x0, x1)
        axis.set_ylim(y1, y0)
        axis.set_title(title, fontsize=8, color=_INK)


def _suspicious(report: VerifyReport) -> list[tuple[ImageFacts, int, str]]:
    by_file = {str(facts.source.label): facts for part in report.parts for facts in part.images}
    found: list[tuple[ImageFacts, int, str]] = []
    shown: Counter[str] = Counter()
    problems = [problem for problem in report.problems if problem.kind in _SHOWN_KINDS and problem.line]
    kinds = len({problem.kind for problem in problems}) or 1
    for problem in problems:
        facts = by_file.get(problem.path)
        rows = np.flatnonzero(facts.labels.lines == problem.line).tolist() if facts else []
        if facts is not None and facts.width and len(rows) and shown[problem.kind] < max(1, _EXAMPLES // kinds):
            shown[problem.kind] += 1
            found.append((facts, int(rows[0]), f"{problem.kind}\n{facts.source.image_id}.txt:{problem.line}"))
    return found[:_EXAMPLES]


def _one_of_each_class(report: VerifyReport) -> list[tuple[ImageFacts, int, str]]:
    """The least difficult object of middle size of each of the most frequent classes."""
    total: Counter[str] = sum((part.class_counts for part in report.parts), Counter())
    found = []
    for name, _ in total.most_common(_EXAMPLES):
        rows = [
            (facts, row)
            for part in report.parts
            for facts in part.images
            for row in np.flatnonzero(np.array(facts.labels.names) == name).tolist()
            if facts.width
        ]
        rows.sort(
            key=lambda item: (int(item[0].labels.difficult[item[1]]), float(np.ptp(item[0].labels.polys[item[1]][::2])))
        )
        easy = [item for item in rows if item[0].labels.difficult[item[1]] == 0] or rows
        if easy:
            facts, row = easy[len(easy) // 2]
            found.append((facts, row, f"{name}\n{facts.source.image_id}"))
    return found
