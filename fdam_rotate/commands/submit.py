"""Pack detections for the DOTA evaluation server, or check a zip before it is uploaded.

Examples:
    fdam-rotate submit work_dirs/demo/merged --out submission.zip
    fdam-rotate submit submission.zip --check --image-list test_ids.txt

DETECTIONS is a folder of merged Task1_<class>.txt (image_id score x1 y1 ... x4 y4) or, with --task 2,
Task2_<class>.txt (image_id score xmin ymin xmax ymax), in pixels of the original images. The zip holds one file for
every class at its top level, empty ones too, and is written only if it passes the check: ten fields per line (six for
task 2), finite numbers, scores from 0 to 1, no ids of patches, ids of the image list if one is given, no line twice,
UTF-8 without byte order mark, no folders, no other files, and not too large. Equal detections give equal bytes.

Exit code: 0 the zip may be uploaded; 1 it may not, or lines could not be read (each is named); 2 wrong usage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.cli import print_problems
from fdam_rotate.commands.arguments import add_classes, add_out, add_overwrite, add_task
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import existing_path, positive_float
from fdam_rotate.dota.words import counted

if TYPE_CHECKING:
    from fdam_rotate.dota.problems import Problem


def build_parser() -> CommandParser:
    """Return the command line's parser."""
    parser = command_parser("submit", __doc__, "tools/submit.py", _check)
    what = "folder with one file per class; with --check a zip"
    parser.add_argument("detections", type=existing_path, metavar="DETECTIONS", help=what)
    add_out(parser, "the zip to write (needed without --check)", metavar="FILE", required=False)
    parser.add_former_out("OUT.zip")
    parser.add_argument("--check", action="store_true", help="check the zip DETECTIONS and write nothing")
    add_classes(parser)
    add_task(parser)
    parser.add_argument(
        "--image-list",
        type=existing_path,
        metavar="FILE",
        help="ids of the test images, one per line, or their split's manifest.json",
    )
    parser.add_argument(
        "--max-mb", type=positive_float, default=100.0, metavar="MB", help="largest zip, in 10^6 bytes (default: 100)"
    )
    add_overwrite(parser, "--out if it is there")
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    if args.check and args.out is not None:
        parser.error("--check takes one zip and writes nothing; leave out --out")
    if not args.check and args.out is None:
        parser.error("give --out FILE, the zip to write, or --check")


def main(argv: Sequence[str] | None = None) -> int:
    """Pack or check; return the exit code."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.files import atomic_path
    from fdam_rotate.dota.layout import read_image_list
    from fdam_rotate.dota.submission import check_submission

    image_ids = None if args.image_list is None else read_image_list(args.image_list)

    def check(path: Path) -> int:
        """Print the problems of the zip; the number of its errors."""
        found = check_submission(path, args.classes, image_ids, args.task, max_megabytes=args.max_mb, progress=True)
        print_problems(sorted(found, key=lambda problem: problem.severity != "error"), counted=False)
        return sum(problem.severity == "error" for problem in found)

    if args.check:
        errors = check(args.detections)
        print(
            f"{args.detections}: " + (f"{counted(errors, 'error')}; do not upload it" if errors else "may be uploaded")
        )
        return 1 if errors else 0

    from fdam_rotate.dota.detections import read_detections
    from fdam_rotate.dota.outputs import claim_file
    from fdam_rotate.dota.submission import write_submission

    claim_file(args.out, overwrite=args.overwrite, inputs=[args.detections, args.image_list])
    unreadable: list[Problem] = []
    detections = read_detections(args.detections, classes=args.classes, task=args.task, problems=unreadable)
    with atomic_path(args.out) as temporary:
        write_submission(temporary, detections, args.classes, args.task)
        if check(temporary):
            raise DotaError(f"{args.out} was not written: it would not pass")
    count = sum(len(found) for found in detections.values())
    what = f"{counted(count, 'detection')}, {counted(len(args.classes), 'file')}"
    print(f"wrote {args.out}: {what}, {args.out.stat().st_size / 1e6:.2f} MB")
    print_problems(unreadable)
    return 1 if unreadable else 0
