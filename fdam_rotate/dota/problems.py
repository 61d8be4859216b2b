"""What is wrong with a user's files: one type for every reader, one way to print a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """

    kind: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}" if self.line else f"{self.path}: {self.text}"


def line_problem(kind: str, path: str | Path, line: int, reason: str, content: str = "") -> Problem:
    """The problem of one line, with the line itself, cut short, after the reason."""
    if not content:
        return Problem(kind, str(path), line, reason)
    shown = content if len(content) <= _SHOWN_CHARACTERS else content[: _SHOWN_CHARACTERS - 3] + "..."
    return Problem(kind, str(path), line, f"{reason}: {shown!r}")


def format_problems(problems: Sequence[Problem], most: int = SHOWN_PROBLEMS) -> list[str]:
    """The first ``most`` problems, a line each, and how many more there are; empty if there are none."""
    lines = [str(problem) for problem in problems[:most]]
    if len(problems) > most:
        lines.append(f"... and {len(problems) - most} more")
    return lines
