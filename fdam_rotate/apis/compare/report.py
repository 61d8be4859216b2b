"""The report of a comparison, from records alone: Markdown, JSON and a picture."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdam_rotate.apis.compare.plan import Plan, Side
from fdam_rotate.apis.compare.records import IOU_THRS, Record
from fdam_rotate.dota.figures import figure_file
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.scoring.bootstrap import Difference, ScoreDifference, compare_records

__all__ = [
    "SCORES",
    "against_itself",
    "compare_sides",
    "summarise",
    "to_markdown",
    "write_picture",
    "write_report",
    "write_switches",
]

#: Name of each score and the thresholds that it is the mean over.
SCORES: dict[str, tuple[float, ...]] = {"AP50": (0.5,), "AP75": (0.75,), "AP50:95": IOU_THRS}
SWITCHES_PICTURE = "switches.png"

# Of each run, by its name: step, and the largest value of each kind of FDAM's switches then.
Switches = Mapping[str, Sequence[tuple[int, Mapping[str, float]]]]


def write_report(plan: Plan, folder: Path, command: str, *, resamples: int = 2000) -> dict[str, Any]:
    """Write ``report.md``, ``report.json`` and ``report.png`` to ``folder``; returns what the JSON holds."""
    summary = summarise(plan, command, resamples=resamples)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "report.json", json.dumps(summary, indent=1) + "\n")
    write_text(folder / "report.md", to_markdown(summary))
    if summary["runs"]:
        write_picture(folder / "report.png", summary)
    if summary["switches"]:
        write_switches(folder / SWITCHES_PICTURE, summary["switches"])
    return summary


def summarise(plan: Plan, command: str, *, resamples: int = 2000) -> dict[str, Any]:
    """All that the report says, as plain values."""
    by_side = {
        side.name: [r for seed in side.seeds if (r := plan.records.get(f"{side.name}-seed{seed}"))]
        for side in plan.sides
    }
    first = plan.sides[0]
    compared = []
    for side in plan.sides[1:]:
        if by_side[first.name] and by_side[side.name]:
            gains = compare_sides(by_side[first.name], by_side[side.name], resamples=resamples)
            compared.append({"first": first.name, "second": side.name, **gains})
    return {
        "command": command,
        "sides": [_side(side, by_side[side.name]) for side in plan.sides],
        "differences": compared,
        "against_itself": [
            {"name": name, **against_itself(records, resamples=resamples)}
            for name, records in by_side.items()
            if len(records) >= 2
        ],
        "differing": list(plan.differing),
        "switches": {
            f"{record.name}-seed{record.seed}": rows
            for records in by_side.values()
            for record in records
            if (rows := record.training.get("switches_by_step"))
        },
        "missing": [run.name for run in plan.missing],
        "runs": [
            {
                "name": f"{record.name}-seed{record.seed}",
                **{score: record.scores[score] for score in SCORES},
                "steps": record.training["steps"],
                "device": record.machine["device"],
            }
            for records in by_side.values()
            for record in records
        ],
        "resamples": resamples,
    }


def compare_sides(first: Sequence[Record], second: Sequence[Record], *, resamples: int) -> dict[str, Any]:
    """What the second side gains, for each score; with the classes for AP50."""
    found: dict[str, Any] = {"seeds": [[record.seed for record in side] for side in (first, second)]}
    for name, thresholds in SCORES.items():
        gain = _gain(first, second, thresholds, resamples)
        found[name] = _plain(gain.map)
        if len(thresholds) == 1:
            found[f"{name}_by_class"] = {c: d and _plain(d) for c, d in gain.ap.items()}
    return found


def against_itself(records: Sequence[Record], *, resamples: int, at_most: int = 20) -> dict[str, Any]:
    """An A/A test: the runs of one side parted in two, every way (at most ``at_most``), and compared.

    There is nothing to find, so that an interval that leaves out 0 is a false alarm.
    """
    numbers = range(len(records))
    half = len(records) // 2
    parts = [
        (chosen, rest)
        for chosen in itertools.combinations(numbers, half)
        if (rest := tuple(n for n in numbers if n not in chosen)) and (len(rest) > half or chosen < rest)
    ][:at_most]
    gains = [
        _gain([records[n] for n in one], [records[n] for n in other], SCORES["AP50"], resamples).map
        for one, other in parts
    ]
    return {"splits": len(gains), "alarms": sum(gain.clear for gain in gains), "AP50": [_plain(gain) for gain in gains]}


def to_markdown(summary: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["# Comparison", "", f"    {summary['command']}", ""]
    if summary["missing"]:
        lines += [f"**Unfinished**: {len(summary['missing'])} runs are missing: {', '.join(summary['missing'])}.", ""]
    lines += [
        "Scores are of merged whole images, area under the curve, mean over the seeds; ± is the standard deviation "
        "over the seeds.",
        "",
        "| | runs | AP50 | AP75 | AP50:95 | parameters | multiply-adds | s a step | s a window |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for side in summary["sides"]:
        if side["seeds"]:
            scores = " | ".join(_spread(side[score]) for score in SCORES)
            lines.append(
                f"| {side['name']} | {len(side['seeds'])} | {scores} | {side['parameters'] / 1e6:.2f} M | "
                f"{side['multiply_adds'] / 1e9:.2f} G | {side['seconds_per_step']:.3f} | "
                f"{side['seconds_per_window']:.3f} |"
            )
    lines += ["", "Seconds are of processor time where a run had no GPU.", ""]
    if summary["differences"]:
        lines += [
            "## What the others gain",
            "",
            f"Paired over source images, {summary['resamples']} draws of images and runs (hierarchical bootstrap), 95% "
            "intervals, in points. An interval that holds 0 shows no difference.",
            "",
            "| | over | runs | AP50 | AP75 | AP50:95 |",
            "|---|---|---|---|---|---|",
        ]
        for item in summary["differences"]:
            gains = " | ".join(_points(item[score]) for score in SCORES)
            runs = " / ".join(str(len(seeds)) for seeds in item["seeds"])
            lines.append(f"| {item['second']} | {item['first']} | {runs} | {gains} |")
        lines += ["", "AP50 by class:", ""]
        classes = list(summary["differences"][0]["AP50_by_class"])
        lines += ["| | " + " | ".join(item["second"] for item in summary["differences"]) + " |"]
        lines += ["|---" * (len(summary["differences"]) + 1) + "|"]
        for name in classes:
            cells = [item["AP50_by_class"][name] for item in summary["differences"]]
            lines.append(f"| {name} | " + " | ".join(_points(cell) if cell else "no object" for cell in cells) + " |")
        lines.append("")
    if summary["against_itself"]:
        lines += [
            "## Each side against itself",
            "",
            "Its runs parted in two, every way: there is nothing to find, so that an interval without 0 is a false "
            "alarm.",
            "",
            "| | ways | false alarms | largest difference of AP50 |",
            "|---|---|---|---|",
        ]
        for item in summary["against_itself"]:
            largest = max(item["AP50"], key=lambda gain: abs(gain["value"]))
            lines.append(f"| {item['name']} | {item['splits']} | {item['alarms']} | {_points(largest)} |")
        lines.append("")
    if summary["switches"]:
        kinds = _kinds(summary["switches"])
        lines += [
            "## How far FDAM was switched on",
            "",
            f"Largest gamma of AttInv and largest filter value of FreqScale at a run's end; {SWITCHES_PICTURE} has all "
            "steps.",
            "",
            f"| | {' | '.join(kinds)} |",
            "|---" * (len(kinds) + 1) + "|",
        ]
        for name, rows in summary["switches"].items():
            cells = [f"{rows[-1][1][kind]:.2g}" if kind in rows[-1][1] else "" for kind in kinds]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    if summary["differing"]:
        lines += ["## What differs besides the model", "", *(f"* {line}" for line in summary["differing"]), ""]
    lines += ["## Runs", "", "| | AP50 | AP75 | AP50:95 | steps | device |", "|---|---|---|---|---|---|"]
    for run in summary["runs"]:
        scores = " | ".join(f"{100 * run[score]:.1f}" for score in SCORES)
        lines.append(f"| {run['name']} | {scores} | {run['steps']} | {run['device']} |")
    return "\n".join(lines) + "\n"


def write_picture(path: Path, summary: dict[str, Any]) -> None:
    """Two panels: every run's AP50 by side, and what the others gain with its interval. Needs matplotlib."""
    sides = [side for side in summary["sides"] if side["seeds"]]
    with figure_file(path, (9, 1.6 + 0.45 * len(sides)), dpi=120, format="png") as figure:
        scores, gains = figure.subplots(1, 2, sharey=True)
        for row, side in enumerate(sides):
            values = [100 * value for value in side["AP50"]["values"]]
            scores.plot(values, [row] * len(values), "o", color="#3b6fb6", alpha=0.6)
            scores.plot([statistics.fmean(values)] * 2, [row - 0.25, row + 0.25], color="#222222")
        scores.set_yticks(range(len(sides)), [side["name"] for side in sides])
        scores.invert_yaxis()
        scores.set_xlabel("AP50 of each run; line: mean")
        place = {side["name"]: row for row, side in enumerate(sides)}
        for item in summary["differences"]:
            gain, row = item["AP50"], place[item["second"]]
            gains.plot([100 * gain["low"], 100 * gain["high"]], [row, row], color="#e08a3c", linewidth=2)
            gains.plot([100 * gain["value"]], [row], "o", color="#e08a3c")
        gains.axvline(0, color="#222222", linewidth=0.8)
        gains.set_xlabel(f"gain over {sides[0]['name']},\npoints of AP50, 95% interval")
        for axes in (scores, gains):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="x", color="#dddddd")
            axes.set_axisbelow(True)


def write_switches(path: Path, switches: Switches) -> None:
    """A panel for each kind of FDAM's switches: its largest value by step, a line for each run. Needs matplotlib."""
    kinds = _kinds(switches)
    with figure_file(path, (3.4 * len(kinds), 3.8), dpi=120, format="png") as figure:
        panels = figure.subplots(1, len(kinds), sharex=True, squeeze=False)[0]
        colours = {side: f"C{n}" for n, side in enumerate(dict.fromkeys(map(_side_of, switches)))}
        lines = {}
        for axes, kind in zip(panels, kinds, strict=True):
            for name, rows in switches.items():
                steps = [step for step, values in rows if kind in values]
                largest = [values[kind] for _, values in rows if kind in values]
                lines[_side_of(name)] = axes.plot(steps, largest, color=colours[_side_of(name)])[0]
            axes.set(title=kind, xlabel="step", yscale="log")
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("largest absolute value")
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=len(lines), frameon=False)


def _kinds(switches: Switches) -> list[str]:
    return list(dict.fromkeys(kind for rows in switches.values() for _, values in rows for kind in values))


def _side_of(run: str) -> str:
    return run.rpartition("-seed")[0]


def _side(side: Side, records: Sequence[Record]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": side.name,
        "config": str(side.path),
        "settings": side.settings,
        "seeds": [record.seed for record in records],
    }
    if not records:
        return found
    for score in SCORES:
        values = [record.scores[score] for record in records]
        spread = statistics.stdev(values) if len(values) > 1 else None
        found[score] = {"mean": statistics.fmean(values), "spread": spread, "values": values}
    cpu = "cpu_" if all(record.machine["device"].startswith("CPU") for record in records) else ""
    for name, part in (("seconds_per_step", "training"), ("seconds_per_window", "cost")):
        found[name] = statistics.median(getattr(record, part)[cpu + name] for record in records)
    found["parameters"] = records[0].cost["parameters"]
    found["multiply_adds"] = records[0].cost["multiply_adds"]
    return found


def _gain(
    first: Sequence[Record], second: Sequence[Record], thresholds: Sequence[float], resamples: int
) -> ScoreDifference:
    sides = [[record.verdicts.at(thresholds) for record in side] for side in (first, second)]
    return compare_records(*sides, resamples=resamples, iou_thr=thresholds[0])


def _plain(gain: Difference) -> dict[str, Any]:
    values = {key: getattr(gain, key) for key in ("value", "low", "high", "first", "second", "better")}
    return {**{key: round(value, 6) for key, value in values.items()}, "clear": bool(gain.clear)}


def _spread(score: dict[str, Any]) -> str:
    spread = "" if score["spread"] is None else f" ± {100 * score['spread']:.1f}"
    return f"{100 * score['mean']:.1f}{spread}"


def _points(gain: dict[str, Any]) -> str:
    low, high = (100 * gain[key] for key in ("low", "high"))
    text = f"{100 * gain['value']:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"**{text}**" if gain["clear"] else text
