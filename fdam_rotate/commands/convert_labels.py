"""Convert data sets of oriented boxes between DOTA, training frameworks and the tools that people draw with.

Examples:
  fdam-rotate convert-labels data/split_ss_dota --out data/dota_yolo --to yolo-obb
  fdam-rotate convert-labels cvat_export --out data/mine --to dota
  fdam-rotate convert-labels data/mine --out data/mine_json --to x-anylabeling --images copy

SOURCE is a folder or a label file: DOTA (images/ with labelTxt/ or annfiles/, or train/ and val/ of such), YOLO-OBB (of
Ultralytics, Roboflow, CVAT or Label Studio), COCO JSON (CVAT's with rotation), CVAT for images 1.1 (XML), labelme and
X-AnyLabeling JSON, roLabelImg XML, Label Studio JSON. Its format is found by its files; --from names it. An image
without label file is background (in DOTA's layout a problem). What the new format cannot hold is counted and reported.
Exit code: 0 done, 1 some input was bad (the rest is converted), 2 usage.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.cli import print_problems
from fdam_rotate.commands.arguments import add_classes, add_out, add_overwrite
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import existing_folder, existing_path
from fdam_rotate.dota.formats.table import FORMATS
from fdam_rotate.dota.words import counted

if TYPE_CHECKING:
    from fdam_rotate.dota.formats.interchange import DataPart, Reading


def build_parser() -> CommandParser:
    """The command line."""
    parser = command_parser("convert-labels", __doc__, "data_prep/convert_labels.py", _check)
    parser.add_argument("source", type=existing_path, metavar="SOURCE", help="data set to read")
    add_out(parser, "new or empty folder")
    parser.add_former_out("OUT_DIR")
    formats = "; ".join(f"{one.name}: {one.what}" for one in FORMATS.values())
    parser.add_argument(
        "--from", dest="source_format", choices=tuple(FORMATS), help="format to read (default: by its files)"
    )
    parser.add_argument("--to", choices=tuple(FORMATS), required=True, help=formats)
    found = "the shortest list of DOTA's versions that holds every name found, else the names found, sorted"
    add_classes(parser, None, what="classes and their order", without=found)
    outside = (
        "YOLO-OBB only, for objects with a corner outside the image, whose images Ultralytics ignores: clip moves "
        "the corners to the border, drop leaves the objects out, keep writes them (default clip)"
    )
    parser.add_argument("--outside", choices=("clip", "keep", "drop"), default="clip", help=outside)
    parser.add_argument("--drop-difficult", action="store_true", help="leave objects with difficult > 0 out")
    placement = "how images get into --out: links (default), copies, or not at all"
    parser.add_argument("--images", choices=("symlink", "copy", "none"), default="symlink", help=placement)
    parser.add_argument(
        "--img-dir", type=existing_folder, metavar="DIR", help="folder of images, if not where the format has them"
    )
    add_overwrite(parser, "the files of an earlier conversion in --out")
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    if args.source_format == args.to:
        parser.error(f"--from and --to are both {args.to}: nothing to convert")


def main(argv: Sequence[str] | None = None) -> int:
    """Read, write, report; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.formats.interchange import (
        Losses,
        Reading,
        Writing,
        drop_difficult,
        only_classes,
        staged,
    )
    from fdam_rotate.dota.formats.sniff import sniff_format

    source_format = args.source_format or sniff_format(args.source)
    if source_format is None:
        raise DotaError(f"{args.source}: no format that is known here ({', '.join(FORMATS)}); name it with --from")
    if source_format == args.to:
        parser.error(f"{args.source} and --to are both {args.to}: nothing to convert")

    started = time.monotonic()
    losses = Losses()
    reading = Reading(
        classes=args.classes, img_dir=args.img_dir, need_images=args.images != "none", progress=True, losses=losses
    )
    problems = reading.problems
    with staged(args.out, overwrite=args.overwrite, inputs=[args.source, args.img_dir]) as folder:
        parts = _read(args.source, source_format, reading)
        if not problems and not any(part.items for part in parts):
            raise DotaError(f"{args.source}: names no image: nothing to convert")
        classes = args.classes or _class_list(parts)
        parts = only_classes(parts, classes, problems)
        if args.drop_difficult:
            parts = drop_difficult(parts, losses)
        writing = Writing(classes, args.images, outside=args.outside, progress=True, losses=losses)
        FORMATS[args.to].write(parts, folder, writing)
    print_problems(problems, "fdam-rotate verify lists all of a data set in DOTA's layout", counted=False)
    for what, count in sorted(losses.notes.items()):
        print(f"note: {what}: {count:,}")
    for what, count in sorted(losses.counts.items()):
        print(f"not kept: {what}: {count:,}")
    images = sum(len(part.items) for part in parts)
    objects = sum(len(item.labels) for part in parts for item in part.items)
    seconds = time.monotonic() - started
    print(
        f"wrote {args.out} as {args.to}: {counted(images, 'image')}, {counted(objects, 'object')} of "
        f"{counted(len(classes), 'class')} read; {counted(len(problems), 'problem')}; {seconds:.1f} s"
    )
    return 1 if problems else 0


def _read(source: Path, source_format: str, reading: Reading) -> list[DataPart]:
    """The parts of the source; an error says what else it looks like."""
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.formats.sniff import sniff_format

    try:
        return FORMATS[source_format].read(source, reading)
    except DotaError as error:
        found = sniff_format(source)
        hint = f"; it looks like {FORMATS[found].what}: --from {found}" if found not in (None, source_format) else ""
        raise DotaError(f"{error}{hint}") from error


def _class_list(parts: Sequence[DataPart]) -> tuple[str, ...]:
    """The shortest of DOTA's lists that holds every class found, else those found, sorted."""
    from fdam_rotate.dota.classes import DOTA_CLASSES

    names = {name for part in parts for item in part.items for name in item.labels.names}
    fitting = next((version for version in DOTA_CLASSES.values() if names <= set(version)), None)
    if fitting is None:
        print(f"classes: {', '.join(sorted(names))} (no version of DOTA; --classes sets the list and its order)")
    return fitting or tuple(sorted(names))
