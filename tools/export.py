"""Write a detector as an ONNX file that predicts without torch, or its backbone and neck alone.

``fdam-rotate export`` for a checkout; see fdam_rotate/commands/export.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.export import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
