"""Export backbone and neck of a detector to ONNX or TorchScript at a fixed image size, and check the result.

``fdam-rotate export`` for a checkout; see fdam_rotate/commands/export.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.export import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
