"""Show what is installed and check that it works: versions, imports, compiled ops against hand-worked values.

``fdam-rotate doctor`` for a checkout; see fdam_rotate/commands/doctor.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.doctor import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
