"""Generate aerial scenes in DOTA's layout: pictures with oriented objects, and their labels.

``fdam-rotate synthetic`` for a checkout; see fdam_rotate/commands/synthetic.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.synthetic import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
