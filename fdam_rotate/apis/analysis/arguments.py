"""Options that the analysis tools share, and their checks; imports nothing heavy, so that --help is instant."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

__all__ = ["add_device", "add_run_arguments", "check_run_arguments"]


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
    add_device(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the files of an earlier run in --out")
    parser.add_argument("--unsafe-load", action="store_true", help="open checkpoints that carry code; only if trusted")


def check_run_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Leave with a usage error (code 2) where a number of :func:`add_run_arguments` makes no sense."""
    if min(args.size, args.max_images) < 1:
        parser.error("--size and --max-images must be at least 1")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``; whether this machine has it, ``features.find_device`` says."""
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)")


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, got {text!r}")
    return text
