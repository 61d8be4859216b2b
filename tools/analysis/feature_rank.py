"""Show by depth how many directions the features of a detector span, and how alike its places have become.

``fdam-rotate feature-rank`` for a checkout; see fdam_rotate/commands/feature_rank.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.feature_rank import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
