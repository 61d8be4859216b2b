"""Draw detections on whole images: what was found, what is false, and what was missed.

``fdam-rotate show`` for a checkout; see fdam_rotate/commands/show.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.show import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
