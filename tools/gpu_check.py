"""Check on a GPU everything that only a GPU can show, in at most eight minutes.

``fdam-rotate gpu-check`` for a checkout; see fdam_rotate/commands/gpu_check.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.gpu_check import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
