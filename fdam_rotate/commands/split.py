r"""Split DOTA images into patches, as MMRotate's img_split.py or as DOTA_devkit's ImgSplit does.

Flags, defaults and output are those of MMRotate's img_split.py (names, label text and pixels are equal), so its
commands and JSON configs work unchanged; --out is its --save-dir. DOTA-v1.0 for training, at one scale:

    fdam-rotate split --preset dota-v1.0-ss-train \
        --img-dirs DOTA/train/images --ann-dirs DOTA/train/labelTxt --out data/split_ss_dota/train

Reads .png .jpg .jpeg .tif .tiff .jp2 .j2k .bmp of any size, type and number of bands, and labelTxt files. Writes
OUT/images, OUT/annfiles, and OUT/manifest.json, which records where each patch and each object went.
Stopped at any moment, the same command goes on where it stopped. Exit code: 0 done, 1 some input was bad (the rest is
done), 2 usage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdam_rotate.cli import print_problems
from fdam_rotate.commands.arguments import (
    add_classes,
    add_out,
    add_padding_value,
    add_raster_arguments,
    add_workers,
    raster_options,
)
from fdam_rotate.commands.parser import CommandParser, command_parser, usage_errors
from fdam_rotate.commands.values import (
    existing_file,
    fraction,
    non_negative_int,
    positive_float,
    positive_int,
    problem_kind,
)
from fdam_rotate.dota.splitting.presets import PRESETS
from fdam_rotate.dota.words import counted
from fdam_rotate.dota.workers import core_count

if TYPE_CHECKING:
    from fdam_rotate.dota.rasters.options import RasterOptions
    from fdam_rotate.dota.splitting.options import SplitOptions


def build_parser() -> CommandParser:
    """The command line."""
    parser = command_parser("split", __doc__, "data_prep/split.py")
    group = parser.add_argument_group("input and output")
    add = group.add_argument
    # folders are looked for when they are read: those of a preset or a JSON file may be replaced here
    add("--img-dirs", nargs="+", metavar="DIR", help="folders of images (needed)")
    add("--ann-dirs", nargs="+", metavar="DIR", help="as many folders of labelTxt files; leave out for a test set")
    out = "output folder: new, empty, or a run to go on with (default: this folder)"
    add_out(group, out, mmrotate="--save-dir", required=False)
    extensions = [".png", ".jpg", ".bmp", "bmp", ".tif"]
    add("--save-ext", default=".png", choices=extensions, help="kind of the patch files (default .png)")
    add(
        "--base-json",
        type=existing_file,
        metavar="FILE",
        help="JSON file of these options, such as MMRotate's split_configs",
    )
    preset = (
        "a usual split of DOTA, with its folders data/DOTA/...: dota-VERSION-SCALE-SET; VERSION v1.0, v1.5 or v2.0; "
        "SCALE ss (1024, overlap 200) or ms (rates 0.5 1.0 1.5, overlap 500); SET train, val, trainval or test"
    )
    add("--preset", choices=sorted(PRESETS), metavar="NAME", help=preset)

    group = parser.add_argument_group("windows and objects")
    add = group.add_argument
    style = "mmrotate: windows of size/rate over the original; devkit: image resized by the rate, polygons clipped"
    add("--style", default="mmrotate", choices=["mmrotate", "devkit"], help=f"{style} (default mmrotate)")
    add(
        "--sizes",
        nargs="+",
        type=positive_int,
        default=[1024],
        metavar="PX",
        help="sides of the windows (default 1024)",
    )
    gaps = "overlap of neighbouring windows, not the stride; one for each size (default 512)"
    add("--gaps", nargs="+", type=non_negative_int, default=[512], metavar="PX", help=gaps)
    rates = "scales, above 0 and below 16; --style says how they are taken (default 1.0)"
    add("--rates", nargs="+", type=positive_float, default=[1.0], metavar="RATE", help=rates)
    rate = "a window needs more than this share of image, 0 to 1 (default 0.6)"
    add("--img-rate-thr", type=fraction, default=0.6, metavar="SHARE", help=rate)
    iof = "a window takes the objects of which it holds at least this share, 0 to 1 (default 0.7)"
    add("--iof-thr", type=fraction, default=0.7, metavar="SHARE", help=iof)
    add("--no-padding", action="store_true", help="do not fill up patches at the border")
    add_padding_value(group, [0], "0")
    add_classes(group, None, what="allowed classes", without="any")

    add_raster_arguments(parser)
    group = parser.add_argument_group("running")
    add = group.add_argument
    add_workers(group, "local processes, one per core up to 10", min(10, core_count()))
    add("--dry-run", action="store_true", help="print how many patches and bytes it would be; write nothing")
    add("--strict", action="store_true", help="stop at the first problem of the input")
    accept = (
        "kinds of problem (in brackets behind each) that are expected: reported, but no reason for exit code 1; for "
        "instance zero-area self-crossing, which DOTA's own files hold (a preset accepts those)"
    )
    kind = problem_kind("fdam_rotate.dota.splitting.split")
    add("--accept", nargs="+", type=kind, default=[], metavar="KIND", help=accept)
    parser.set_defaults(out=Path())
    return parser


def parse_args(argv: Sequence[str] | None) -> tuple[CommandParser, argparse.Namespace]:
    """Parse; the command line overrides --base-json, and that overrides --preset."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.preset is not None:
        parser.set_defaults(**PRESETS[args.preset])
    if args.base_json is not None:
        with usage_errors(parser):
            parser.set_defaults(**_read_base_json(parser, args))
    args = parser.parse_args(argv)
    if not args.img_dirs:
        parser.error("--img-dirs is needed: the folders of images")
    if args.ann_dirs is not None and len(args.ann_dirs) != len(args.img_dirs):
        parser.error(f"--ann-dirs: expected {len(args.img_dirs)}, one for each of --img-dirs, got {len(args.ann_dirs)}")
    return parser, args


def _read_base_json(parser: CommandParser, args: argparse.Namespace) -> dict[str, Any]:
    """The options of a JSON file; each value has to be what the command line takes.

    Raises:
        DotaError: it is not such a file, or holds something else.
        OSError: it cannot be read.
    """
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.jsontext import read_json

    content = read_json(args.base_json, DotaError)
    if not isinstance(content, dict):
        raise DotaError(f"{args.base_json}: expected a JSON object of options")
    if "save_dir" in content:  # MMRotate's name
        content["out"] = content.pop("save_dir")
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "base_json", "preset")}
    if unknown := sorted(set(content) - set(actions)):
        raise DotaError(f"{args.base_json}: unknown {' '.join(unknown)}; known are {' '.join(sorted(actions))}")
    return {name: _typed(args.base_json, actions[name], value) for name, value in content.items()}


def _typed(path: Path, action: argparse.Action, value: Any) -> Any:
    """A value of a JSON file as the command line gives it.

    Raises:
        DotaError: it is none.
    """
    from fdam_rotate.dota.errors import DotaError

    where = f"{path}: {action.dest}"
    if value is None:
        return action.default
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise DotaError(f"{where}: expected true or false, got {value!r}")
        return value
    values = value if isinstance(value, list) else [value]
    if (isinstance(value, list) and action.nargs is None) or not all(
        isinstance(one, (str, int, float)) for one in values
    ):
        raise DotaError(
            f"{where}: expected {'text or numbers' if action.nargs else 'one text or number'}, got {value!r}"
        )
    if action.choices is not None and value not in action.choices:
        raise DotaError(f"{where}: expected one of {' '.join(map(str, action.choices))}, got {value!r}")
    kind = action.type if callable(action.type) else str
    try:
        typed = [kind(str(one)) for one in values]
    except argparse.ArgumentTypeError as error:
        raise DotaError(f"{where}: {error}") from None
    return typed if action.nargs else typed[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Split and report; returns the exit code."""
    parser, args = parse_args(argv)
    from fdam_rotate.dota.layout import passed_over
    from fdam_rotate.dota.problems import Problem
    from fdam_rotate.dota.splitting.split import NAME_PROBLEMS, run_split

    raster = raster_options(parser, args)
    with usage_errors(parser):
        options = _options(args, raster)
    if args.dry_run:
        return _dry_run(args, options)
    started = time.monotonic()
    for folder in args.img_dirs:
        if unread := passed_over(Path(folder)):
            print(unread, file=sys.stderr)
    manifest = run_split(
        args.img_dirs,
        args.ann_dirs,
        args.out,
        options,
        nproc=args.nproc,
        scheduler=args.scheduler,
        strict=args.strict,
        accept=args.accept,
        report=lambda problem: print_problems([problem], counted=False),
        progress=True,
    )
    problems = manifest.all_problems()
    others = [Problem.from_json(record) for record in problems if record["kind"] not in NAME_PROBLEMS]
    print_problems(others, f"all in {args.out}/manifest.json", counted=False)
    _print_rasters(manifest.images)
    totals = manifest.totals()
    empty = f", {counted(totals['empty'], 'window')} without data left out" if totals["empty"] else ""
    print(
        f"{counted(totals['images'], 'image')} -> {counted(totals['patches'], 'patch')} in {args.out}{empty}; "
        f"{counted(totals['skipped'], 'image')} skipped; objects: {totals['objects_in']:,} in, "
        f"{totals['objects_kept']:,} kept ({totals['objects_cut']:,} cut somewhere), "
        f"dropped: {_listed(totals['objects_dropped'])}; "
        f"problems: {_listed(totals['problems'])}; {time.monotonic() - started:.1f} s"
    )
    return int(any(problem["kind"] not in args.accept for problem in problems))


def _options(args: argparse.Namespace, raster: RasterOptions) -> SplitOptions:
    from fdam_rotate.dota.splitting.options import SplitOptions

    return SplitOptions(
        style=args.style,
        sizes=tuple(args.sizes),
        gaps=tuple(args.gaps),
        rates=tuple(args.rates),
        img_rate_thr=args.img_rate_thr,
        iof_thr=args.iof_thr,
        padding=not args.no_padding,
        padding_value=tuple(args.padding_value),
        save_ext=f".{args.save_ext.lstrip('.')}",
        classes=args.classes,
        raster=raster,
    )


def _dry_run(args: argparse.Namespace, options: SplitOptions) -> int:
    from fdam_rotate.dota.splitting.estimate import estimate_split

    found = estimate_split(args.img_dirs, args.ann_dirs, args.out, options)
    print_problems(found.problems, "not shown", counted=False)
    print(
        f"would write {counted(found.patches, 'patch')} of {counted(found.images, 'image')} to {args.out}: about "
        f"{_size(found.file_bytes)} as {args.save_ext} ({_size(found.raw_bytes)} of pixels); "
        f"{_size(found.free_bytes)} are free there; nothing was written"
    )
    return int(any(problem.kind not in args.accept for problem in found.problems))


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _print_rasters(images: Sequence[Mapping[str, Any]]) -> None:
    """A line for each image that was scaled to 8 bits, or whose patches show next to nothing."""
    from fdam_rotate.dota.problems import SHOWN_PROBLEMS
    from fdam_rotate.dota.rasters.source import reading_notes

    notes = [
        f"{image['file']}: {note}"
        for image in images
        for note in reading_notes(image.get("bands"), image.get("scale_range"), image.get("tone"))
    ]
    for note in notes[:SHOWN_PROBLEMS]:
        print(note, file=sys.stderr)
    if len(notes) > SHOWN_PROBLEMS:
        print(f"... and {len(notes) - SHOWN_PROBLEMS:,} more images that were scaled or show nothing", file=sys.stderr)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "none"
