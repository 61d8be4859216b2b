"""One table, four ways to show it: plain text, Markdown, LaTeX (booktabs) and HTML.

Every part of an evaluation gives a `Table`; what is printed, written and put on the page is made from these alone.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Table", "percent", "percent_interval", "to_html", "to_latex", "to_markdown", "to_text"]


@dataclass(frozen=True)
class Table:
    """What one part of an evaluation found.

    Attributes:
        key: its name in JSON and in file names, such as ``by_angle``.
        title: its heading.
        header: names of the columns, the first of which is of text and the others of numbers.
        rows: cells as text, as many in each row as in ``header``.
        notes: sentences that go below it, on how it is to be read.
        total: whether the last row sums the others up and stands apart.
        content: the same as numbers, for JSON.
    """

    key: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    total: bool = False
    content: Any = field(default=None, compare=False)


def percent(value: float | None) -> str:
    """A share as a percentage of two decimals, ``-`` where there is none."""
    return "-" if value is None else f"{100 * value:.2f}"


def percent_interval(low: float, high: float, *, signed: bool = False) -> str:
    """The two ends of an interval in percent."""
    sign = "+" if signed else ""
    return f"{100 * low:{sign}.2f} to {100 * high:{sign}.2f}"


def to_text(table: Table) -> str:
    """Columns of equal width, without heading and notes."""
    widths = [max(len(row[k]) for row in [table.header, *table.rows]) for k in range(len(table.header))]
    lines = []
    for number, row in enumerate([table.header, *table.rows]):
        if table.total and number == len(table.rows):
            lines.append("-" * (sum(widths) + 2 * len(widths) - 2))
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def to_markdown(table: Table) -> str:
    """A Markdown table, without heading and notes."""
    ruler = ["---", *("---:" for _ in table.header[1:])]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [table.header, ruler, *table.rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def _latex(text: str) -> str:
    return "--" if text == "-" else "".join(_LATEX.get(letter, letter) for letter in text)


def to_latex(table: Table) -> str:
    """A ``table`` environment whose rules are those of booktabs, with the heading as caption."""
    lines = [
        r"\begin{table}[tb]",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\label{{tab:{table.key.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        " & ".join(map(_latex, table.header)) + r" \\",
        r"\midrule",
    ]
    for number, row in enumerate(table.rows, start=1):
        if table.total and number == len(table.rows):
            lines.append(r"\midrule")
        lines.append(" & ".join(map(_latex, row)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines)


def to_html(table: Table) -> str:
    """An HTML ``table``, without heading and notes."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
    body = []
    for number, row in enumerate(table.rows, start=1):
        mark = ' class="total"' if table.total and number == len(table.rows) else ""
        body.append(f"<tr{mark}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>")
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>\n</table>"
