"""Run the whole path once: data, patches, training, test, merge, submission, score, picture.

``fdam-rotate demo`` for a checkout; see fdam_rotate/commands/demo.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.demo import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
