#!/usr/bin/env python
"""Convert data sets of oriented boxes: DOTA, YOLO-OBB (Ultralytics) and COCO (polygons), in every direction.

Examples:
  python data_prep/convert.py data/split_ss_dota data/dota_yolo --to yolo-obb
  python data_prep/convert.py data/DOTA data/dota_coco --to coco --classes v1.0
  python data_prep/convert.py data/dota_yolo data/back --from yolo-obb --to dota

SOURCE is a folder in DOTA's layout (images/ with labelTxt/ or annfiles/, or train/ and val/ of such), a YOLO-OBB folder
with data.yaml, or a COCO JSON file or folder. What the new format cannot hold is counted and told: YOLO-OBB knows no
difficult objects and no header lines; COCO keeps both in extra fields. Exit code: 0 done, 1 some input was bad (the
rest is converted), 2 usage.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.cli import run

if TYPE_CHECKING:
    from fdam_rotate.dota.formats.interchange import DataPart, Losses
    from fdam_rotate.dota.problems import Problem

FORMATS = ("dota", "yolo-obb", "coco")
_TOLD = 20


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="data set to read")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="new or empty folder")
    parser.add_argument("--from", dest="source_format", choices=FORMATS, default="dota", help="(default dota)")
    parser.add_argument("--to", dest="format", choices=FORMATS, required=True, help="format to write")
    classes = (
        "classes and their order: v1.0, v1.5, v2.0, a .txt file with one name a line, or names with commas (default: "
        "the shortest list of DOTA's versions that holds every name found, else the names found, sorted)"
    )
    parser.add_argument("--classes", metavar="LIST", help=classes)
    outside = (
        "YOLO-OBB only, for objects with a corner outside the image, whose images Ultralytics ignores: clip moves "
        "the corners to the border, drop leaves the objects out, keep writes them (default clip)"
    )
    parser.add_argument("--outside", choices=("clip", "keep", "drop"), default="clip", help=outside)
    parser.add_argument("--drop-difficult", action="store_true", help="leave objects with difficult > 0 out")
    placement = "how images get into OUT_DIR: links (default), copies, or not at all"
    parser.add_argument("--images", choices=("symlink", "copy", "none"), default="symlink", help=placement)
    parser.add_argument(
        "--img-dir", type=Path, metavar="DIR", help="COCO only: folder of images, if not beside the JSON"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT_DIR if it holds anything")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read, write, report; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.source_format == args.format:
        parser.error(f"--from and --to are both {args.format}: nothing to convert")
    if args.img_dir is not None and args.source_format != "coco":
        parser.error("--img-dir is for --from coco")
    from fdam_rotate.dota.formats.coco import write_coco
    from fdam_rotate.dota.formats.interchange import Losses, drop_difficult, staged, write_dota
    from fdam_rotate.dota.formats.yolo import write_yolo

    started = time.monotonic()
    losses = Losses()
    problems: list[Problem] = []
    with staged(args.out_dir, overwrite=args.overwrite) as folder:
        parts, classes = _read(args, losses, problems)
        if args.drop_difficult:
            parts = drop_difficult(parts, losses)
        if args.format == "dota":
            write_dota(parts, folder, args.images, losses)
        elif args.format == "coco":
            write_coco(parts, folder, classes, args.images, problems)
        else:
            write_yolo(parts, folder, classes, args.images, losses, problems, outside=args.outside)
    for problem in problems[:_TOLD]:
        print(f"{problem.kind}: {problem}")
    if len(problems) > _TOLD:
        print(f"{len(problems) - _TOLD} more problems; data_prep/verify.py tells all of a data set in DOTA's layout")
    for what, count in sorted(losses.counts.items()):
        print(f"not kept: {count} {what}")
    images = sum(len(part.items) for part in parts)
    objects = sum(len(item.labels) for part in parts for item in part.items)
    seconds = time.monotonic() - started
    print(
        f"wrote {args.out_dir} as {args.format}: {images} images, {objects} objects of {len(classes)} classes read; "
        f"{len(problems)} problems; {seconds:.1f} s"
    )
    return 1 if problems else 0


def _read(args: argparse.Namespace, losses: Losses, problems: list[Problem]) -> tuple[list[DataPart], list[str]]:
    """The parts of the source and the class list in force."""
    from fdam_rotate.dota.classes import DOTA_CLASSES, resolve_classes
    from fdam_rotate.dota.formats.coco import read_coco
    from fdam_rotate.dota.formats.interchange import read_dota
    from fdam_rotate.dota.formats.yolo import read_yolo

    given = None if args.classes is None else resolve_classes(args.classes)
    if args.source_format == "dota":
        parts = read_dota(args.source, None, problems)
    elif args.source_format == "coco":
        parts = read_coco(args.source, args.img_dir, losses, problems, need_images=args.images != "none")
    else:
        parts = read_yolo(args.source, given, losses, problems)
    if given is not None:
        return parts, list(given)
    names = {name for part in parts for item in part.items for name in item.labels.names}
    fitting = next((version for version in DOTA_CLASSES.values() if names <= set(version)), None)
    if fitting is None:
        print(f"classes: {', '.join(sorted(names))} (no version of DOTA; --classes sets the list and its order)")
    return parts, list(fitting or sorted(names))


if __name__ == "__main__":
    run(main)
