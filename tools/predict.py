"""Detect objects on whole images of any size, your own too: no splitting, no labels, no data set.

``fdam-rotate predict`` for a checkout; see fdam_rotate/commands/predict.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.predict import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
