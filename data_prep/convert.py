"""The former name of data_prep/convert_labels.py, kept for one version."""

import sys

from fdam_rotate.cli import run
from fdam_rotate.commands.convert_labels import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    print(
        "note: data_prep/convert.py is now data_prep/convert_labels.py, or fdam-rotate convert-labels", file=sys.stderr
    )
    run(main)
