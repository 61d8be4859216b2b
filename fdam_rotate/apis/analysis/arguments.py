"""The command line that spectrum and feature rank share; imports nothing heavy, so that --help is instant."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_run_arguments"]


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a model, perhaps a second, images, and a folder for the results."""
    parser.add_argument("config", type=Path, help="config file (Python)")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="checkpoint; without it the weights are random")
    parser.add_argument("--images", type=Path, required=True, help="folder of images; the centre of each is used")
    parser.add_argument("--out", type=Path, required=True, help="folder for picture and JSON; must be new or empty")
    parser.add_argument("--versus", nargs=2, metavar=("CONFIG", "CHECKPOINT"), help="a second model beside the first")
    parser.add_argument("--layers", nargs="+", help="modules, such as backbone.block1.0 (default: blocks and neck)")
    parser.add_argument("--size", type=int, default=512, help="side of the square cut from each image, pixels (512)")
    parser.add_argument("--max-images", type=int, default=16, help="how many images, by name (default: 16)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in --out")
    parser.add_argument("--unsafe-load", action="store_true", help="open checkpoints that carry code; only if trusted")
