"""Show which frequencies each layer of a trained detector keeps, with FDAM and with FDAM switched off.

``fdam-rotate spectrum`` for a checkout; see fdam_rotate/commands/spectrum.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.spectrum import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
