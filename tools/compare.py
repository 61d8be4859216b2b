"""Compare configs fairly: the same data, order, augmentation and start, several seeds, one report with intervals.

``fdam-rotate compare`` for a checkout; see fdam_rotate/commands/compare.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.compare import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
