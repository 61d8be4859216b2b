"""Split DOTA images into patches, as MMRotate's img_split.py or as DOTA_devkit's ImgSplit does.

``fdam-rotate split`` for a checkout; see fdam_rotate/commands/split.py.
"""

from fdam_rotate.cli import run
from fdam_rotate.commands.split import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run(main)
