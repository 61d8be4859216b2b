"""Check a DOTA data set, or a split of one: what is in it, and what is wrong with it.

Examples:
  fdam-rotate verify data/DOTA --picture dota.png --json dota.json
  fdam-rotate verify data/split_ss_dota/train data/split_ss_dota/val --accept zero-area

DIR is images/ with labelTxt/ (or, after fdam-rotate split, with annfiles/ and manifest.json), or a folder of such
folders (train/, val/). Several parts are compared with each other: a picture in train and in val spoils the score.
Prints objects by class and part, then each problem with file and line. Exit code: 0 nothing wrong, 1 something is
(problems of --accept apart), 2 usage.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.commands.arguments import add_classes, add_overwrite, add_raster_arguments, raster_options
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import existing_folder, output_file, positive_int, problem_kind
from fdam_rotate.dota.words import counted
from fdam_rotate.dota.workers import core_count

if TYPE_CHECKING:
    from fdam_rotate.dota.checking.verify import VerifyReport

# Problems of a kind that are printed unless --all is given; --json holds all of them.
_SHOWN = 10

# Kinds of file that --picture writes.
_PICTURES = (".png", ".pdf", ".svg")


def build_parser() -> CommandParser:
    """The command line."""
    parser = command_parser("verify", __doc__, "data_prep/verify.py")
    parser.add_argument(
        "dirs", nargs="+", type=existing_folder, metavar="DIR", help="data sets or splits to check, together if several"
    )
    parser.add_argument(
        "--picture", type=_picture, metavar="FILE", help="write one page of charts and examples (.png, .pdf, .svg)"
    )
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write everything that was found as JSON")
    add_overwrite(parser, "the files of --picture and --json")
    add_classes(parser, "v2.0", what="allowed classes", without="v2.0, which holds all")
    accept = (
        "kinds of problem that are expected: reported, but no reason for exit code 1; DOTA's own files hold zero-area"
    )
    kind = problem_kind("fdam_rotate.dota.checking.verify")
    parser.add_argument("--accept", nargs="+", type=kind, default=[], metavar="KIND", help=accept)
    parser.add_argument("--all", action="store_true", help=f"print every problem, not only {_SHOWN} of each kind")
    add_raster_arguments(parser)
    nproc = min(8, core_count())
    parser.add_argument("--nproc", type=positive_int, default=nproc, metavar="N", help=f"processes (default: {nproc})")
    return parser


def _picture(text: str) -> Path:
    """Type of ``--picture``."""
    if Path(text).suffix.lower() not in _PICTURES:
        raise argparse.ArgumentTypeError(f"{text}: the name must end in one of {' '.join(_PICTURES)}")
    return output_file(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Check, print, write; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    from fdam_rotate.dota.checking.verify import verify
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.files import write_text
    from fdam_rotate.dota.outputs import claim_file

    if args.picture is not None and importlib.util.find_spec("matplotlib") is None:
        raise DotaError("--picture needs matplotlib: pip install matplotlib")
    for path in (args.picture, args.json):
        if path is not None:
            claim_file(path, overwrite=args.overwrite, inputs=args.dirs)
    raster = raster_options(parser, args)
    started = time.monotonic()
    report = verify(
        args.dirs,
        classes=args.classes,
        accept=args.accept,
        raster=raster,
        nproc=args.nproc,
        progress=True,
    )
    _print_classes(report)
    _print_problems(report, None if args.all else _SHOWN)
    _print_unknown_classes(report, args.classes)
    if args.json is not None:
        write_text(args.json, json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    if args.picture is not None:
        from fdam_rotate.dota.checking.verify_picture import draw_report

        draw_report(report, args.picture)
    images = sum(len(part.images) for part in report.parts)
    objects = sum(part.class_counts.total() for part in report.parts)
    counts = ", ".join(f"{kind} {count}" for kind, count in report.counts.items()) or "none"
    verdict = "ok" if report.ok else "not ok"
    found = f"{counted(images, 'image')}, {counted(objects, 'object')} in {counted(len(report.parts), 'part')}"
    print(f"{verdict}: {found}; problems: {counts}; {time.monotonic() - started:.1f} s")
    return 0 if report.ok else 1


def _print_classes(report: VerifyReport) -> None:
    """A table of objects by class and part."""
    counts = [part.class_counts for part in report.parts]
    names = sorted(set().union(*counts))
    width = max([len(name) for name in [*names, "images without objects"]])
    columns = [max(8, len(part.name)) for part in report.parts]
    rows = [("", [part.name for part in report.parts])]
    rows += [(name, [str(count[name]) for count in counts]) for name in names]
    facts = [part.images for part in report.parts]
    rows.append(("all objects", [str(count.total()) for count in counts]))
    rows.append(("difficult", [str(sum(int((f.labels.difficult > 0).sum()) for f in images)) for images in facts]))
    rows.append(("images", [str(len(images)) for images in facts]))
    rows.append(("images without objects", [str(sum(not len(f.labels) for f in images)) for images in facts]))
    for name, cells in rows:
        print(f"{name:{width}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(cells, columns, strict=True)))


def _print_unknown_classes(report: VerifyReport, classes: Sequence[str]) -> None:
    """The option that names the classes of a data set which is not DOTA's."""
    found = sorted(set().union(*(part.class_counts for part in report.parts)))
    if unknown := [name for name in found if name not in classes]:
        print(f"if {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} right: --classes {','.join(found)}")


def _print_problems(report: VerifyReport, most: int | None) -> None:
    for kind, count in report.counts.items():
        shown = [problem for problem in report.problems if problem.kind == kind][:most]
        for problem in shown:
            print(f"{kind}: {problem}")
        if len(shown) < count:
            print(f"{kind}: {count - len(shown)} more (--all prints them)")
