"""Merge detections on patches into detections on whole images, ready to submit.

``fdam-rotate merge`` for a checkout; see fdam_rotate/commands/merge.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.merge import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
