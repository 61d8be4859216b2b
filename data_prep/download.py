"""Fetch DOTA's train and val sets, or unpack the zip files of its page, into the layout that everything here reads.

``fdam-rotate download`` for a checkout; see fdam_rotate/commands/download.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.download import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
