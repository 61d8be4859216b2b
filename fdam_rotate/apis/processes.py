"""Modules of this package that are run in processes of their own."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["last_line", "package_environment"]

_ROOT = Path(__file__).resolve().parents[2]


def package_environment() -> dict[str, str]:
    """This process's environment, with which ``python -m fdam_rotate...`` finds the same package from any folder."""
    paths = [str(_ROOT), os.environ.get("PYTHONPATH")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def last_line(log: Path) -> str:
    """The last line of what a process has said; empty if it said nothing."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
