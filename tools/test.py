"""Predict every patch of a data set once; then score, submit or draw from what was written.

``fdam-rotate test`` for a checkout; see fdam_rotate/commands/test.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.test import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
