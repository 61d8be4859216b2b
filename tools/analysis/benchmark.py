"""Time detectors side by side: images per second, ratio to the first, and peak memory, on a CPU or a GPU.

``fdam-rotate benchmark`` for a checkout; see fdam_rotate/commands/benchmark.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.benchmark import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
