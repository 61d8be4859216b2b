"""Score detections on whole images as the DOTA server does: AP by class and the mAP, how sure they are, and why.

``fdam-rotate evaluate`` for a checkout; see fdam_rotate/commands/evaluate.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.evaluate import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
