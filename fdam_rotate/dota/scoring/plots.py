"""The scores as pictures: precision-recall curves, AP by class and object size, confusion, and the worst images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fdam_rotate.dota.classes import class_colour
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.outputs import claim_folder
from fdam_rotate.dota.scoring.analysis import Confusion, ImageErrors
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.scoring.strata import SIZES, StratumScore
from fdam_rotate.dota.scoring.tables import Table

__all__ = ["draw_plots", "write_plots"]

#: Names that only `write_plots` gives to files.
PLOTS = tuple(
    f"{name}.png"
    for name in (
        *("pr_curves", "ap", "ap_by_size", "confusion", "worst_images"),
        *("causes", "calibration", "by_threshold"),
    )
)

_INK, _GRID, _BLUE, _ORANGE = "#222222", "#dddddd", "#3b6fb6", "#e08a3c"


def write_plots(
    folder: str | Path,
    result: EvalResult,
    sizes: Sequence[StratumScore],
    confusion: Confusion,
    worst: Sequence[ImageErrors],
    tables: Sequence[Table] = (),
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Draw what `draw_plots` draws, as files ``<name>.png``; with ``overwrite`` those in ``folder`` are replaced."""
    folder = Path(folder)
    pictures = draw_plots(result, sizes, confusion, worst, tables)
    claim_folder(folder, [f"{name}.png" for name in pictures], own=PLOTS, overwrite=overwrite)
    paths = []
    for name, png in pictures.items():
        path = folder / f"{name}.png"
        with atomic_path(path) as temporary:
            temporary.write_bytes(png)
        paths.append(path)
    return paths


def draw_plots(
    result: EvalResult,
    sizes: Sequence[StratumScore],
    confusion: Confusion,
    worst: Sequence[ImageErrors],
    tables: Sequence[Table] = (),
) -> dict[str, bytes]:
    """The pictures as PNG by name: ``pr_curves``, ``ap``, ``ap_by_size``, ``confusion``, and those of ``tables``.

    There is no ``worst_images`` where no image has a mistake; ``causes``, ``calibration`` and ``by_threshold`` are
    drawn from the tables of these keys. Needs matplotlib, which is imported here only.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {
        "font.size": 9,
        "axes.edgecolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": _GRID,
        "text.color": _INK,
        "text.parse_math": False,  # a $ in a name is a $
    }
    drawings: dict[str, Any] = {
        "pr_curves": lambda: _curves(Figure, result),
        "ap": lambda: _bars(Figure, result),
        "ap_by_size": lambda: _sizes(Figure, sizes, result),
        "confusion": lambda: _confusion(Figure, confusion),
    }
    if worst:
        drawings["worst_images"] = lambda: _worst(Figure, worst, confusion)
    of_tables = {"causes": _causes, "calibration": _calibration, "by_threshold": _by_threshold}
    for table in tables:
        if table.key in of_tables:
            drawings[table.key] = partial(of_tables[table.key], Figure, table.content)
    pictures = {}
    with rc_context(settings):
        for name, draw in drawings.items():
            figure = draw()
            FigureCanvasAgg(figure)
            stream = io.BytesIO()
            # No date or version inside, so that equal scores give equal bytes.
            figure.savefig(stream, format="png", dpi=130, facecolor="white", metadata={"Software": None})
            pictures[name] = stream.getvalue()
    return pictures


def _causes(figure_type: Any, content: dict[str, Any]) -> Any:
    """Gains by cause as bars, the greatest on top."""
    gains = {cause: 100 * gain for cause, gain in content["gain"].items() if cause not in ("false", "missed")}
    names = sorted(gains, key=lambda cause: (gains[cause], cause))
    figure = figure_type(figsize=(7.5, 0.32 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [gains[name] for name in names], color=_BLUE, height=0.7)
    most = max(*gains.values(), 0.1)
    for row, name in enumerate(names):
        counts = f"{content['detections'][name]} wrong, {content['objects'][name]} missed"
        axes.text(max(gains[name], 0) + 0.02 * most, row, f"{gains[name]:+.2f}   {counts}", va="center", fontsize=8)
    axes.set(xlim=(min(*gains.values(), 0), 1.45 * most), xlabel=f"gain of mAP{100 * content['iou']:g}")
    axes.set_title("What mending each cause would give", fontsize=11)
    axes.tick_params(axis="y", length=0)
    return figure


def _calibration(figure_type: Any, content: dict[str, Any]) -> Any:
    """Reliability diagram: precision of each bin over its mean score, with the number of detections below."""
    figure = figure_type(figsize=(5.2, 5.6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    full = [one for one in content["bins"] if one["detections"]]
    axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1)
    for one in full:
        axes.plot([one["score"]] * 2, [one["score"], one["precision"]], color=_ORANGE, linewidth=2, alpha=0.7)
    axes.plot([one["score"] for one in full], [one["precision"] for one in full], color=_BLUE, marker="o")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share of true positives")
    axes.grid(True, linewidth=0.6)
    axes.set_title(f"Calibration: expected error {100 * content['ece']:.2f}", fontsize=11)
    width = content["bins"][0]["high"]
    below.bar([one["low"] + width / 2 for one in content["bins"]], [one["detections"] for one in content["bins"]],
              width=0.9 * width, color=_BLUE)  # fmt: skip
    below.set(xlabel="score", ylabel="detections")
    return figure


def _by_threshold(figure_type: Any, content: dict[str, Any]) -> Any:
    """Precision, recall and F1 of all classes together."""
    figure = figure_type(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    rows = np.array(content["precision_recall_f1"]["all"], dtype=np.float64)
    for values, name, colour in zip(rows.T, ("precision", "recall", "F1"), (_BLUE, _ORANGE, _INK), strict=True):
        axes.plot(content["thresholds"], values, label=name, color=colour, linewidth=1.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score threshold")
    axes.grid(True, linewidth=0.6)
    axes.legend(frameon=False)
    axes.set_title("Precision, recall and F1 by score threshold, all classes", fontsize=11)
    return figure


def _curves(figure_type: Any, result: EvalResult) -> Any:
    """One small panel a class; the first threshold is drawn strong, some others fainter."""
    count = len(result.classes)
    columns = min(5, count)
    rows = -(-count // columns)
    figure = figure_type(figsize=(2.6 * columns + 0.6, 2.4 * rows + 1.0), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    last = len(result.iou_thrs) - 1
    shown = sorted({0, last // 2, last})
    for number, (panel, (name, r)) in enumerate(zip(panels, result.per_class.items(), strict=False)):
        colour = tuple(c / 255 for c in _dark(class_colour(number)))
        panel.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        panel.grid(True, linewidth=0.6)
        if r.npos and len(r.scores):
            for t in shown:
                recall, precision = r.curve(t)
                recall, precision = np.append(0.0, recall), np.append(precision[:1], precision)
                strong = t == 0
                panel.plot(
                    recall,
                    precision,
                    color=colour,
                    linewidth=1.8 if strong else 1.0,
                    alpha=1.0 if strong else 0.55,
                    linestyle="-" if strong else "--" if t == last else ":",
                )
                if strong:
                    panel.fill_between(recall, precision, color=colour, alpha=0.12, linewidth=0)
        else:
            reason = "no detections" if r.npos else "no objects"
            panel.text(0.5, 0.5, reason, ha="center", va="center", color="#888888")
        panel.set_title(f"{name}  -" if r.ap[0] is None else f"{name}  {100 * r.ap[0]:.1f}", fontsize=9)
    for panel in panels[count:]:
        panel.set_visible(False)
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    styles = ", ".join(
        f"IoU > {result.iou_thrs[t]:g} {'solid' if t == 0 else 'dashed' if t == last else 'dotted'}" for t in shown
    )
    figure.suptitle(f"Precision and recall; {_ap(result)} in the titles ({styles})", fontsize=11)
    return figure


def _bars(figure_type: Any, result: EvalResult) -> Any:
    """AP by class at the first threshold, best on top, the mean as a line."""
    scores = {name: ap for name, ap in result.ap.items() if ap is not None}
    names = sorted(scores, key=lambda name: (scores[name], name))
    figure = figure_type(figsize=(7.5, 0.32 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots()
    values = [100 * scores[name] for name in names]
    axes.barh(names, values, color=_BLUE, height=0.7)
    axes.axvline(100 * result.map, color=_ORANGE, linewidth=1.5)
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        axes.text(103, row, f"{value:.1f}", va="center", ha="left", fontsize=8, fontweight="bold")
        axes.text(111, row, f"{result.per_class[name].npos} objects", va="center", fontsize=8)
    axes.set(xlim=(0, 130), xticks=range(0, 101, 20), xlabel=f"{_ap(result)} ({result.metric.upper()})")
    axes.set_title(f"mAP {100 * result.map:.2f} over {len(names)} classes (line)", fontsize=11)
    axes.margins(y=0.01)
    axes.tick_params(axis="y", length=0)
    return figure


def _sizes(figure_type: Any, sizes: Sequence[StratumScore], result: EvalResult) -> Any:
    """AP by class and object size as a heat map, with the number of objects in each cell."""
    names = [*result.classes, "all"]
    values = np.full((len(names), len(sizes)), np.nan)
    counts = np.zeros((len(names), len(sizes)), dtype=int)
    for column, size in enumerate(sizes):
        for row, name in enumerate(result.classes):
            ap = size.ap[name]
            values[row, column] = np.nan if ap is None else 100 * ap
            counts[row, column] = size.npos[name]
        values[-1, column] = np.nan if size.map is None else 100 * size.map
        counts[-1, column] = sum(size.npos.values())
    figure = figure_type(figsize=(6.8, 0.36 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(values, cmap="YlGnBu", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(values):  # cells without a value stay white
        text = "-" if np.isnan(value) else f"{value:.1f}"
        colour = "white" if value > 60 else _INK
        axes.text(column, row, f"{text}  ({counts[row, column]})", ha="center", va="center", color=colour, fontsize=8)
    labels = [
        f"{s.name}\n{SIZES[s.name][0]:g} to {SIZES[s.name][1]:g} px".replace("to inf px", "px and more") for s in sizes
    ]
    axes.set_xticks(range(len(sizes)), labels)
    axes.set_yticks(range(len(names)), names)
    axes.axhline(len(result.classes) - 0.5, color="white", linewidth=3)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"{_ap(result)} by object size (square root of area), number of objects", fontsize=11)
    figure.colorbar(picture, ax=axes, label="AP", shrink=0.8)
    return figure


def _confusion(figure_type: Any, confusion: Confusion) -> Any:
    """Share of each row in percent; the last row counts detections on the background by share of all such."""
    names = confusion.classes
    matrix = confusion.matrix
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 0.42 * len(matrix) + 2.6
    figure = figure_type(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            text_colour = "white" if value > 55 else _INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color=text_colour)
    totals = matrix.sum(axis=1)
    axes.set_xticks(range(len(matrix)), [*names, "missed"], rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(matrix)), [f"{n} ({t})" for n, t in zip([*names, "background"], totals, strict=True)])
    for edge in (axes.axhline, axes.axvline):
        edge(len(names) - 0.5, color=_INK, linewidth=0.8)
    axes.set(xlabel="detected as", ylabel="object (count)")
    axes.tick_params(length=0)
    axes.set_title(
        f"Confusion, % of each row (IoU > {confusion.iou_thr:g}, score at least {confusion.score_thr:g})", fontsize=11
    )
    figure.colorbar(picture, ax=axes, shrink=0.7, label="%")
    return figure


def _worst(figure_type: Any, worst: Sequence[ImageErrors], confusion: Confusion) -> Any:
    """Missed objects and false positives of the worst images, at the thresholds of the confusion."""
    # ids often differ at their ends
    names = [w.image_id if len(w.image_id) <= 30 else f"{w.image_id[:10]}...{w.image_id[-17:]}" for w in worst]
    rows = np.arange(len(worst))
    missed = np.array([w.missed for w in worst])
    false = np.array([w.false_positives for w in worst])
    figure = figure_type(figsize=(7.5, 0.3 * len(worst) + 1.5), layout="constrained")
    axes = figure.subplots()
    axes.barh(rows, missed, color=_BLUE, label="missed objects", height=0.7)
    axes.barh(rows, false, left=missed, color=_ORANGE, label="false positives", height=0.7)
    for row, w in enumerate(worst):
        axes.text(w.errors, row, f"  {w.found} of {w.objects} found", va="center", fontsize=8)
    axes.set_yticks(rows, names)
    axes.set_ylim(len(worst) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max(w.errors for w in worst))
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    at = f"IoU > {confusion.iou_thr:g}, score at least {confusion.score_thr:g}"
    axes.set_title(f"Images with the most mistakes ({at})", fontsize=11)
    return figure


def _ap(result: EvalResult) -> str:
    """Name of the AP at the first threshold, for instance ``AP50``."""
    return f"AP{100 * result.iou_thrs[0]:g}"


def _dark(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """A darker shade of colours too light to be seen as a line on white."""
    light = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
    factor = min(1.0, 140.0 / max(light, 1.0))
    return int(rgb[0] * factor), int(rgb[1] * factor), int(rgb[2] * factor)
