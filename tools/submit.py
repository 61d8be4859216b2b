"""Pack detections for the DOTA evaluation server, or check a zip before it is uploaded.

``fdam-rotate submit`` for a checkout; see fdam_rotate/commands/submit.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.submit import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
