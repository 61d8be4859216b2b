"""Turn a published checkpoint into a tensors-only file for one model, and say what became of every tensor.

``fdam-rotate convert-checkpoint`` for a checkout; see fdam_rotate/commands/convert_checkpoint.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.convert_checkpoint import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
