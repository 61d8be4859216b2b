"""Check a DOTA data set, or a split of one: what is in it, and what is wrong with it.

``fdam-rotate verify`` for a checkout; see fdam_rotate/commands/verify.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.verify import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
