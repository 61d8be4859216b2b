"""The former name of tools/convert_checkpoint.py, kept for one version."""

import sys

from fdam_rotate.cli import run
from fdam_rotate.commands.convert_checkpoint import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    print(
        "note: tools/convert.py is now tools/convert_checkpoint.py, or fdam-rotate convert-checkpoint", file=sys.stderr
    )
    run(main)
