"""What is wrong with a user's files: one type for every reader, one way to print a list of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fdam_rotate.dota import words

__all__ = ["SHOWN_PROBLEMS", "Problem", "format_problems", "line_problem"]

#: Problems printed one by one; of more, only their number is.
SHOWN_PROBLEMS = 20

_SHOWN_CHARACTERS = 120


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file or with one of its lines.

    Attributes:
        kind: one word for counting and accepting, such as ``malformed``, ``class`` or ``image``.
        path: the file, as the user named it.
        line: 1-based; 0 where the whole file is meant.
        text: what is wrong, and where possible what to do.
        severity: ``'warning'`` where the rest works all the same.
    """

    kind: str
    path: str
    line: int
    text: str
    severity: Literal["error", "warning"] = "error"

    def to_json(self) -> dict[str, Any]:
        """The problem as manifests and reports hold it."""
        return {"kind": self.kind, "file": self.path, "line": self.line, "text": self.text}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Problem:
        """The problem that `to_json` gave."""
        return cls(record["kind"], record["file"], record["line"], record["text"])

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}" if self.line else f"{self.path}: {self.text}"


def line_problem(kind: str, path: str | Path, line: int, reason: str, content: str = "") -> Problem:
    """The problem of one line, with the line itself, cut short, after the reason."""
    if not content:
        return Problem(kind, str(path), line, reason)
    shown = content if len(content) <= _SHOWN_CHARACTERS else content[: _SHOWN_CHARACTERS - 3] + "..."
    return Problem(kind, str(path), line, f"{reason}: {shown!r}")


def format_problems(problems: Sequence[Problem], rest: str = "", *, counted: bool = True) -> list[str]:
    """The first problems, a line each with the kind at its end, and how many more there are; empty if there are none.

    Args:
        problems: in the order in which they are to be read.
        rest: where the others are, such as ``all in manifest.json``.
        counted: whether a last line says how many there are; not where the command's own last line does.
    """
    lines = []
    for problem in problems[:SHOWN_PROBLEMS]:
        warning = "warning: " if problem.severity == "warning" else ""
        lines.append(f"{warning}{problem} [{problem.kind}]")
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"... and {len(problems) - SHOWN_PROBLEMS:,} more{rest and f', {rest}'}")
    if problems and counted:
        which = "this line or file was" if len(problems) == 1 else "these lines or files were"
        lines.append(f"{words.counted(len(problems), 'problem')}; {which} not used, the rest was")
    return lines
