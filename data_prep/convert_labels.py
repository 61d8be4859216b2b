"""Convert data sets of oriented boxes between DOTA, training frameworks and the tools that people draw with.

``fdam-rotate convert-labels`` for a checkout; see fdam_rotate/commands/convert_labels.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.convert_labels import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
