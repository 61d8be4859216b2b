"""Generate aerial scenes in DOTA's layout: pictures with oriented objects, and their labels.

Example:
  fdam-rotate synthetic --out data/synthetic --train 40 --val 8 --size 1024 --seed 1 --nproc 2

Writes OUT/train and OUT/val, each with images/*.png (8-bit RGB) and labelTxt/*.txt (imagesource and gsd as
header, then x1 y1 ... x4 y4 class difficult). Ground, roads, parked and moving vehicles, ships at piers, aeroplanes on
aprons and so on are drawn at random; things that only resemble objects are not labelled; objects that trees or the
image's border hide in part are difficult (1). No two scenes are alike; a seed gives the same bytes with any --nproc.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from fdam_rotate.commands.arguments import add_classes, add_out, add_overwrite
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import non_negative_int, positive_float, positive_int
from fdam_rotate.dota.words import counted
from fdam_rotate.dota.workers import core_count


def build_parser() -> CommandParser:
    """The command line."""
    parser = command_parser("synthetic", __doc__, "data_prep/synthetic.py", _check)
    add_out(parser, "new or empty folder for train/ and val/")
    parser.add_former_out("OUT_DIR")
    parser.add_argument("--train", type=non_negative_int, default=20, metavar="N", help="training scenes (default: 20)")
    parser.add_argument("--val", type=non_negative_int, default=5, metavar="N", help="validation scenes (default: 5)")
    parser.add_argument(
        "--size",
        type=_size_range,
        default="800",
        help="pixels: 800, WIDTHxHEIGHT, or ranges such as 600-1200 or 600-1200x800 (default: 800)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        help="integer of at least 0; another seed, other scenes (default: 0)",
    )
    add_classes(parser, what="classes to draw and label, of DOTA-v1.0's fifteen")
    parser.add_former("--classes", "--classes", lambda names: [",".join(names)], many=True)
    parser.add_argument(
        "--gsd", type=positive_float, nargs=2, metavar=("FROM", "TO"), default=(0.13, 0.45),
        help="ground sampling distance in metres per pixel, drawn for each scene; a car is 4.5 m long, so 15 pixels at "
        "0.3 (default: 0.13 0.45)",
    )  # fmt: skip
    parser.add_argument("--nproc", type=positive_int, default=min(4, core_count()), help="processes (default: up to 4)")
    add_overwrite(parser, "the scenes of an earlier run in --out")
    return parser


def _size_range(text: str) -> object:
    """Type of ``--size``."""
    from fdam_rotate.dota.synthetic import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    if args.train + args.val == 0:
        parser.error("--train and --val are both 0")
    if not 0.02 <= args.gsd[0] <= args.gsd[1] <= 5:
        parser.error("--gsd takes two rising numbers within 0.02 and 5 metres per pixel")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, write the scenes, say what was written."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.dota.synthetic import write_synthetic

    start = time.perf_counter()
    summary = write_synthetic(
        args.out,
        {"train": args.train, "val": args.val},
        size=args.size,
        seed=args.seed,
        classes=args.classes,
        gsd_range=tuple(args.gsd),
        nproc=args.nproc,
        overwrite=args.overwrite,
        progress=True,
    )
    objects = ", ".join(f"{name} {count}" for name, count in sorted(summary.objects.items(), key=lambda item: -item[1]))
    print(
        f"wrote {counted(summary.images, 'scene')} to {args.out}: {counted(summary.objects.total(), 'object')}, "
        f"{summary.difficult:,} of them difficult ({objects}), {time.perf_counter() - start:.1f} s"
    )
    return 0
