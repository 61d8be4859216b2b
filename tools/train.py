"""Train a detector: on the CPU, on one GPU, or on several under torchrun.

``fdam-rotate train`` for a checkout; see fdam_rotate/commands/train.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.train import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
