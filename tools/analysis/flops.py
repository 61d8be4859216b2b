"""Count parameters and multiply-adds of detectors, FFTs included, for one image.

``fdam-rotate flops`` for a checkout; see fdam_rotate/commands/flops.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.flops import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
