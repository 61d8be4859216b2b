"""The report of the check: one JSON file, and the same as a table in Markdown."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fdam_rotate.apis.gpu_check.plan import PARTS
from fdam_rotate.apis.gpu_check.sheet import STATES, Row
from fdam_rotate.dota.files import write_text

__all__ = ["NAMES", "Report", "summary", "write_report"]

#: JSON and Markdown.
NAMES = ("gpu_check.json", "gpu_check.md")


@dataclass
class Report:
    """What was found.

    Attributes:
        command: that made it.
        device: that was checked.
        rehearsal: on the CPU, with small sizes: no number in it says anything about a GPU.
        machine: the system's name.
        rows: in their order.
        seconds: that each part took, and all together.
    """

    command: str
    device: str
    rehearsal: bool
    machine: str
    rows: list[Row]
    seconds: dict[str, float]


def summary(report: Report) -> str:
    """One line: how many rows there are of each state."""
    counts = Counter(row.state for row in report.rows)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{len(report.rows)} rows: {told or 'none'}; {report.seconds.get('all', 0.0):.0f} s"


def write_report(folder: Path, report: Report) -> None:
    """Both files, written over those of this run."""
    content: dict[str, Any] = asdict(report)
    write_text(folder / NAMES[0], json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(folder / NAMES[1], _markdown(report))


def _markdown(report: Report) -> str:
    lines = ["# Check of the GPU", ""]
    if report.rehearsal:
        lines += [f"**Rehearsal on {report.device}, with small sizes: no number here says anything about a GPU.**", ""]
    lines += [f"`{report.command}` on {report.machine}", "", summary(report), ""]
    bad = [row for row in report.rows if row.bad]
    if bad:
        lines += ["What went wrong:", ""]
        lines += [f"- {row.part}: {row.what}: {_wrong(row)}" for row in bad]
        lines += [""]
    told = {part.name: part.what for part in PARTS}
    for part in dict.fromkeys(row.part for row in report.rows):
        lines += [f"## {part}: {told.get(part, '')}", ""]
        if part in report.seconds:
            lines += [f"{report.seconds[part]:.1f} s", ""]
        lines += ["| what | value | at most | | note |", "|---|---|---|---|---|"]
        lines += [_line(row) for row in report.rows if row.part == part]
        lines += [""]
    return "\n".join(lines)


def _wrong(row: Row) -> str:
    if row.state == "failed":
        return row.note
    note = f" ({row.note})" if row.note else ""
    return f"{_number(row.value)} {row.unit}".rstrip() + f", at most {_number(row.limit)} is right{note}"


def _line(row: Row) -> str:
    cells = (row.what, f"{_number(row.value)} {row.unit}".strip(), _number(row.limit), row.state, row.note)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _number(value: float | str | None) -> str:
    """To four digits; nothing for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.4g}" if isinstance(value, float) else str(value)
