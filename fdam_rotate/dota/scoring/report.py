"""The scores as a table on the screen, as Markdown and as JSON, with what was scored said beside them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.names import nearest_name
from fdam_rotate.dota.scoring.analysis import Confusion, ImageErrors
from fdam_rotate.dota.scoring.bootstrap import ScoreDifference, ScoreIntervals
from fdam_rotate.dota.scoring.repeated import Repeated
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.scoring.strata import SIZES, StratumScore, strata_table
from fdam_rotate.dota.scoring.tables import Table, percent, percent_interval, to_markdown, to_text
from fdam_rotate.dota.scoring.ties import TieBounds
from fdam_rotate.dota.words import counted

__all__ = [
    "comparison_table",
    "format_markdown",
    "format_notes",
    "format_table",
    "headline",
    "interval_notes",
    "repeated_notes",
    "score_table",
    "tie_notes",
    "to_json",
    "worst_table",
    "write_json",
]

#: Recalls at which the JSON gives the precision.
RECALLS = np.linspace(0.0, 1.0, 101)
# Lists of names and of bad lines on the screen stop here.
_SHOWN = 5
# Percentile intervals of fewer images hold the truth less often than they say (400 simulated
# detectors, nominal 95%: 82% of 5 images, 84% of 10, 92% of 20).
_FEW_IMAGES = 20


def score_table(result: EvalResult, intervals: ScoreIntervals | None = None) -> Table:
    """AP in percent by class, and the mean; with ``intervals`` those of the AP at the first threshold."""
    header, rows = _table(result)
    if intervals:
        column = header.index(f"AP{_thr_name(result.iou_thrs[0])}") + 1
        header.insert(column, f"{100 * intervals.level:g}% interval")
        for row, one in zip(rows, [*intervals.ap.values(), intervals.map], strict=True):
            row.insert(column, "-" if one is None else percent_interval(one.low, one.high))
    return Table("scores", "Scores", header, rows, total=True)


def format_table(result: EvalResult, intervals: ScoreIntervals | None = None) -> str:
    """AP in percent by class, and the mean, as plain text."""
    return to_text(score_table(result, intervals))


def format_markdown(
    result: EvalResult,
    sizes: Sequence[StratumScore] = (),
    worst: Sequence[ImageErrors] = (),
    title: str = "Scores",
    trained_on: Collection[str] = (),
    more: Sequence[Table] = (),
    intervals: ScoreIntervals | None = None,
) -> str:
    """The tables of classes, object sizes and worst images, ``more`` tables, and what was scored, as Markdown."""
    notes = format_notes(result, trained_on)
    parts = [f"# {title}", to_markdown(score_table(result, intervals)), "\n".join(f"- {note}" for note in notes)]
    tables = [*more]
    if sizes:
        tables.append(strata_table(result, "size", sizes))
    if worst:
        tables.append(worst_table(worst))
    for table in tables:
        parts += [f"## {table.title}", to_markdown(table)]
        if table.notes:
            parts.append("\n".join(f"- {note}" for note in table.notes))
    return "\n\n".join(parts) + "\n"


def worst_table(worst: Sequence[ImageErrors]) -> Table:
    """Objects, found and missed ones and false positives of the worst images."""
    header = ["image", "objects", "found", "missed", "false positives"]
    rows = [[w.image_id, *map(str, (w.objects, w.found, w.missed, w.false_positives))] for w in worst]
    return Table("worst_images", "Images with the most mistakes", header, rows)


def headline(result: EvalResult, intervals: ScoreIntervals | None = None) -> dict[str, str]:
    """The few numbers that matter most, in percent."""
    numbers = {f"mAP{_thr_name(result.iou_thrs[0])}": percent(result.map)}
    if intervals:
        numbers[f"{100 * intervals.level:g}% interval"] = percent_interval(intervals.map.low, intervals.map.high)
    if 0.75 in result.iou_thrs[1:]:
        numbers["mAP75"] = percent(result.map_at(result.iou_thrs.index(0.75)))
    if len(result.iou_thrs) > 1:
        numbers["mean over IoU"] = percent(result.map_mean)
    return numbers


def repeated_notes(repeated: Sequence[Repeated]) -> list[str]:
    """A warning where labels occur twice."""
    if not repeated:
        return []
    shown = _some([f"{one.count} {one.name} on {one.image_id}" for one in repeated])
    total = sum(one.count for one in repeated)
    count = counted(total, "label", "repeats|repeat")
    return [f"warning: {count} another one of their image{shown}; no detection can find both"]


def format_notes(result: EvalResult, trained_on: Collection[str] = ()) -> list[str]:
    """What was scored and what was left out, one sentence each; what may be a mistake starts with 'warning: '.

    Args:
        result: what was scored.
        trained_on: ids of the images that the model was trained on, as far as known.
    """
    scored = [result.per_class[name] for name in result.classes]
    objects, difficult = sum(r.npos for r in scored), sum(r.ndifficult for r in scored)
    thrs = f"{result.iou_thrs[0]:g}"
    if len(result.iou_thrs) > _SHOWN:
        thrs += f" (mAP) to {result.iou_thrs[-1]:g}, {len(result.iou_thrs)} thresholds"
    elif len(result.iou_thrs) > 1:
        thrs += f" (mAP), {', '.join(f'{t:g}' for t in result.iou_thrs[1:])}"
    count = len(result.background)
    without = f"{count} of them without objects (all detections there are false)" if count else "none without objects"
    notes = [
        f"{_METRIC_NAMES[result.metric]}, task {result.task}, IoU > {thrs}",
        f"{counted(len(result.images), 'image')} scored, {without}",
        f"{counted(objects, 'object')} and {difficult:,} difficult (neutral), "
        f"{counted(sum(len(r.scores) for r in scored), 'detection')}",
    ]
    if learned := _learned(result, trained_on):
        notes.append(
            f"warning: {len(learned)} of the {len(result.images)} scored images were trained on{_some(learned)}; "
            "the score does not say how well other images are done"
        )
    if silent := result.without_detections:
        rest = "holds objects and has no detection|hold objects and have no detection"
        notes.append(f"{counted(len(silent), 'image', rest)}{_some(silent)}")
    if foreign := result.detections_only:
        rest = "has detections and no label, or is not listed|have detections and no label, or are not listed"
        notes.append(
            f"warning: {counted(len(foreign), 'image id', rest)}{_some(foreign)}; left out: "
            f"{counted(result.left_out, 'detection')}"
        )
    if absent := result.without_truth:
        notes.append(
            f"warning: {counted(len(absent), 'class', 'has|have')} no object that counts{_some(absent)}, so no AP (-); "
            f"mAP is the mean over the other {len(result.classes) - len(absent)}"
        )
    if missing := result.without_file:
        notes.append(
            f"warning: {counted(len(missing), 'class', 'has|have')} no file Task{result.task}_<class>.txt "
            f"({', '.join(missing)}); scored as without detections"
        )
    named = {*result.without_file, *result.without_truth}
    empty = [name for name in result.classes if name not in named and not len(result.per_class[name].scores)]
    if empty:
        notes.append(f"warning: no detection on a scored image of {counted(len(empty), 'class')}{_some(empty)}")
    for kind, counts in (("object", result.unknown_truth), ("detection", result.unknown_detections)):
        for name, count in counts.items():
            near = nearest_name(name, result.classes)
            hint = f" (did you mean {near}?)" if near else ""
            notes.append(
                f"warning: {counted(count, kind)} of class {name!r}, which is not in the class list, "
                f"{'was' if count == 1 else 'were'} left out{hint}"
            )
    if sum(len(r.scores) for r in scored) and not any((r.iou > 0).any() for r in scored):
        notes.append(
            "warning: no detection overlaps an object of its class enough; are the coordinates pixels of whole images?"
        )
    return notes


def tie_notes(bounds: TieBounds) -> list[str]:
    """What equal scores leave open: nothing where no AP would move in the second decimal of a percentage."""
    if not bounds.matter():
        return []
    wide = {name: pair for name, pair in bounds.ap.items() if pair is not None and pair[1] - pair[0] > 5e-5}
    names = sorted(wide, key=lambda name: wide[name][0] - wide[name][1])  # the widest first
    shown = ", ".join(f"{name} {percent_interval(*wide[name])}" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more classes" if len(names) > _SHOWN else ""
    return [
        f"warning: {bounds.tied} detections share their score with others of their class, and such have no order: "
        f"other orders give mAP {percent_interval(*bounds.map)} ({shown}{more}); here image ids, then coordinates, "
        "break ties"
    ]


def comparison_table(difference: ScoreDifference) -> Table:
    """Both sides' AP by class, what the second gains, and how sure that is."""
    header = ["class", "A", "B", "B - A", f"{100 * difference.level:g}% interval", "B better", "clear"]
    rows = []
    for name, one in [*difference.ap.items(), ("mean", difference.map)]:
        if one is None:
            rows.append([name, *["-"] * (len(header) - 1)])
            continue
        rows.append(
            [
                name,
                percent(one.first),
                percent(one.second),
                f"{100 * one.value:+.2f}",
                percent_interval(one.low, one.high, signed=True),
                f"{100 * one.better:.1f}%",
                "yes" if one.clear else "no",
            ]
        )
    first, second = difference.runs
    drawn = "" if difference.runs == (1, 1) else f", and of the runs ({first} of A, {second} of B)"
    notes = [
        f"paired bootstrap: {difference.resamples} draws of {difference.images} source images{drawn}, seed "
        f"{difference.seed}, IoU > {difference.iou_thr:g}",
        "clear: the interval leaves out 0; of many classes without any difference, one in twenty is clear by chance",
    ]
    return Table("versus", "Comparison", header, rows, notes, total=True, content=dataclasses.asdict(difference))


def interval_notes(intervals: ScoreIntervals) -> list[str]:
    """How the intervals came about."""
    one = intervals.map
    notes = [
        f"mAP {percent(one.value)}, {100 * intervals.level:g}% interval {percent_interval(one.low, one.high)}: "
        f"{intervals.resamples} draws of {intervals.images} source images, seed {intervals.seed}"
    ]
    if intervals.images < _FEW_IMAGES:
        notes.append(f"warning: intervals from {intervals.images} images are too narrow; give {_FEW_IMAGES} or more")
    return notes


def to_json(
    result: EvalResult,
    sizes: Sequence[StratumScore] = (),
    confusion: Confusion | None = None,
    worst: Sequence[ImageErrors] = (),
    trained_on: Collection[str] = (),
    more: Sequence[Table] = (),
    intervals: ScoreIntervals | None = None,
    ties: TieBounds | None = None,
) -> dict[str, Any]:
    """Everything as plain lists, numbers and strings; AP from 0 to 1, None where a class has no object that counts.

    ``ap``, ``map``, ``classes`` and ``precision_at_recall`` are at ``iou``, the first threshold; ``by_iou`` has all.
    """
    out: dict[str, Any] = {
        "ap": result.ap,
        "map": result.map,
        "metric": result.metric,
        "task": result.task,
        "iou": result.iou_thrs[0],
        "by_iou": {
            f"{thr:g}": {"ap": result.ap_at(t), "map": result.map_at(t)} for t, thr in enumerate(result.iou_thrs)
        },
        "map_mean": result.map_mean,
        "classes": {
            name: {
                "objects": r.npos,
                "difficult": r.ndifficult,
                "detections": len(r.scores),
                "tp": r.tp(),
                "fp": r.fp(),
                "ignored": r.ignored(),
                "recall": r.tp() / r.npos if r.npos else None,
            }
            for name, r in result.per_class.items()
        },
        "images": {
            "scored": len(result.images),
            "background": list(result.background),
            "without_detections": list(result.without_detections),
            "detections_only": list(result.detections_only),
            "trained_on": _learned(result, trained_on),
        },
        "left_out": {
            "detections_of_other_images": result.left_out,
            "objects_of_other_classes": result.unknown_truth,
            "detections_of_other_classes": result.unknown_detections,
            "classes_without_file": list(result.without_file),
        },
        "recalls": [round(float(recall), 2) for recall in RECALLS],
        "precision_at_recall": {
            name: precision_at(*r.curve()) if r.npos else None for name, r in result.per_class.items()
        },
    }
    if sizes:
        out["by_size"] = {
            s.name: {
                "side": [bound if math.isfinite(bound) else None for bound in SIZES[s.name]],
                "map": s.map,
                "ap": s.ap,
                "objects": s.npos,
            }
            for s in sizes
        }
    if confusion:
        out["confusion"] = {
            "labels": [*confusion.classes, "background"],
            "matrix": confusion.matrix.tolist(),
            "iou": confusion.iou_thr,
            "score": confusion.score_thr,
        }
    if worst:
        out["worst_images"] = [dataclasses.asdict(w) for w in worst]
    if intervals:
        out["intervals"] = dataclasses.asdict(intervals)
    if ties:
        out["ties"] = dataclasses.asdict(ties)
    out |= {table.key: table.content for table in more}
    return out


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write ``content`` as indented JSON, all or nothing."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def precision_at(recall: np.ndarray[Any, Any], precision: np.ndarray[Any, Any]) -> list[float]:
    """The best precision at each of ``RECALLS`` or a greater recall; 0 where the curve does not get there."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # A recall of 35/100 must reach the grid's 0.35, which is 0.35000000000000003.
    return [round(float(p), 6) for p in envelope[np.searchsorted(recall, RECALLS - 1e-9, side="left")]]


_METRIC_NAMES = {
    "voc07": "VOC07 (11 points, as the DOTA server)",
    "voc12": "VOC12 (area under the curve)",
    "coco": "COCO (101 points, COCO's matching)",
}


def _table(result: EvalResult) -> tuple[list[str], list[list[str]]]:
    """Header and rows, the mean last. Many thresholds are shown as the first, 0.75 and the mean."""
    count = len(result.iou_thrs)
    shown = [t for t, thr in enumerate(result.iou_thrs) if count <= 4 or t == 0 or thr == 0.75]
    header = [
        "class",
        "objects",
        "difficult",
        "detections",
        "recall",
        *(f"AP{_thr_name(result.iou_thrs[t])}" for t in shown),
    ]
    if count > 1:
        header.append("AP mean")
    rows = []
    for name, r in result.per_class.items():
        recall = r.tp() / r.npos if r.npos else None
        aps = [r.ap[t] for t in shown]
        if count > 1:
            values = [ap for ap in r.ap if ap is not None]
            aps.append(float(np.mean(values)) if values else None)
        counts = [str(r.npos), str(r.ndifficult), str(len(r.scores))]
        rows.append([name, *counts, percent(recall), *map(percent, aps)])
    totals = [str(sum(int(row[k]) for row in rows)) for k in (1, 2, 3)]
    means: list[float | None] = [result.map_at(t) for t in shown]
    if count > 1:
        means.append(result.map_mean)
    rows.append(["mean", *totals, "", *map(percent, means)])
    return header, rows


def _learned(result: EvalResult, trained_on: Collection[str]) -> list[str]:
    """The scored images that the model was trained on, sorted."""
    return sorted(set(result.images) & set(trained_on))


def _thr_name(thr: float) -> str:
    """``50`` of 0.5, as in AP50."""
    return f"{100 * thr:g}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" ({', '.join(names[:_SHOWN])}{more})"
