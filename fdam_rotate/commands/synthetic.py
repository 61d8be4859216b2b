"""Generate aerial scenes in DOTA's layout: pictures with oriented objects, and their labels.

Example:
  fdam-rotate synthetic data/synthetic --train 40 --val 8 --size 1024 --seed 1 --nproc 2

Writes OUT_DIR/train and OUT_DIR/val, each with images/*.png (8-bit RGB) and labelTxt/*.txt (imagesource and gsd as
header, then x1 y1 ... x4 y4 class difficult). Ground, roads, parked and moving vehicles, ships at piers, aeroplanes on
aprons and so on are drawn at random; things that only resemble objects are not labelled; objects that trees or the
image's border hide in part are difficult (1). No two scenes are alike; a seed gives the same bytes with any --nproc.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.commands.arguments import command_parser


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser("synthetic", __doc__, "data_prep/synthetic.py")
    parser.add_argument("out_dir", type=Path, help="new or empty folder for train/ and val/")
    parser.add_argument("--train", type=int, default=20, metavar="N", help="training scenes (default: 20)")
    parser.add_argument("--val", type=int, default=5, metavar="N", help="validation scenes (default: 5)")
    parser.add_argument(
        "--size",
        default="800",
        help="pixels: 800, WIDTHxHEIGHT, or ranges such as 600-1200 or 600-1200x800 (default: 800)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="integer of at least 0; another seed, other scenes (default: 0)"
    )
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME",
        help="classes to draw and label, such as plane ship storage-tank (default: the fifteen of DOTA-v1.0)",
    )  # fmt: skip
    parser.add_argument(
        "--gsd", type=float, nargs=2, metavar=("FROM", "TO"), default=(0.13, 0.45),
        help="ground sampling distance in metres per pixel, drawn for each scene; a car is 4.5 m long, so 15 pixels at "
        "0.3 (default: 0.13 0.45)",
    )  # fmt: skip
    parser.add_argument("--nproc", type=int, default=min(4, os.cpu_count() or 1), help="processes (default: up to 4)")
    parser.add_argument("--overwrite", action="store_true", help="replace the scenes of an earlier run in OUT_DIR")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, write the scenes, say what was written."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.train < 0 or args.val < 0 or args.train + args.val == 0:
        parser.error("--train and --val must be at least 0, and not both 0")
    if args.seed < 0 or args.nproc < 1:
        parser.error("--seed must be at least 0 and --nproc at least 1")
    if not 0.02 <= args.gsd[0] <= args.gsd[1] <= 5:
        parser.error("--gsd takes two rising numbers within 0.02 and 5 metres per pixel")
    from fdam_rotate.dota.classes import resolve_classes
    from fdam_rotate.dota.synthetic import CLASSES, parse_size, write_synthetic

    try:
        size = parse_size(args.size)
    except ValueError as error:
        parser.error(f"--size: {error}")
    classes = resolve_classes(",".join(args.classes)) if args.classes else CLASSES
    start = time.perf_counter()
    summary = write_synthetic(
        args.out_dir,
        {"train": args.train, "val": args.val},
        size=size,
        seed=args.seed,
        classes=classes,
        gsd_range=tuple(args.gsd),
        nproc=args.nproc,
        overwrite=args.overwrite,
        progress=True,
    )
    objects = ", ".join(f"{name} {count}" for name, count in sorted(summary.objects.items(), key=lambda item: -item[1]))
    print(
        f"wrote {summary.images} scenes to {args.out_dir}: {summary.objects.total()} objects, {summary.difficult} "
        f"of them difficult ({objects}), {time.perf_counter() - start:.1f} s"
    )
    return 0
