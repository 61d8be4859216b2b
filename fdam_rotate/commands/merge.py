"""Merge detections on patches into detections on whole images, ready to submit.

Example:
    fdam-rotate merge work_dirs/demo/test/patch_detections --out work_dirs/demo/submission --manifest data/val

PATCH_DETECTIONS is a folder or zip of Task1_<class>.txt (patch_id score x1 y1 ... x4 y4) or, with --task 2,
Task2_<class>.txt (patch_id score xmin ymin xmax ymax); several of them, such as scales or models, merge in one go.
The manifest of the split says where a patch lies. Without one its name does: P0001__1024__824___0 (MMRotate: window
size, x, y in the image) or P0001__0.5__824___0 (DOTA_devkit: rate, x, y in the resized image; a number with a dot, or
below 16, is a rate). Then, for each image and class, a box goes if a better one overlaps it with IoU > --iou-thr.

Written: OUT with one file per class, empty ones too, and OUT.zip with the same files at its top level.
Exit code: 0 merged; 1 merged, but lines could not be read (each is named), or nothing was written; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.cli import print_problems
from fdam_rotate.commands.arguments import (
    add_classes,
    add_detection_files,
    add_iou_thr,
    add_nms_agnostic,
    add_out,
    add_overwrite,
    add_score_thr,
    add_task,
    add_workers,
)
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import existing_path, fraction, positive_float, positive_int
from fdam_rotate.dota.words import counted

if TYPE_CHECKING:
    from fdam_rotate.dota.problems import Problem


def build_parser() -> CommandParser:
    """Return the command line's parser."""
    parser = command_parser("merge", __doc__, "tools/merge.py", _check)
    parser.add_argument(
        "detections",
        type=existing_path,
        nargs="+",
        metavar="PATCH_DETECTIONS",
        help="folders or zips with one file per class",
    )
    add_out(parser, "folder for the merged files; DIR.zip beside it")
    parser.add_former_out("OUT_DIR")
    parser.add_argument(
        "--manifest",
        type=existing_path,
        metavar="FILE",
        help="manifest.json of the split, or its folder (default: by names)",
    )
    add_iou_thr(parser, "overlap above which the box of the lower score goes", 0.1)
    parser.add_argument(
        "--nms",
        choices=("obb", "hbb", "none"),
        default="obb",
        help="obb: by the IoU of the boxes (default); hbb: by that of their upright bounds; none: keep all",
    )
    add_nms_agnostic(parser)
    add_score_thr(parser, "leave out detections scored below", 0.0)
    parser.add_argument(
        "--max-per-image",
        type=positive_int,
        metavar="N",
        help="keep the N best of an image over all classes (default: all)",
    )
    parser.add_argument(
        "--fuse",
        choices=("nms", "wbf"),
        default="nms",
        help="several inputs: suppress over all together (nms, default), or weighted box fusion after each one's own",
    )
    parser.add_argument(
        "--fuse-iou-thr", type=fraction, default=0.55, metavar="IOU", help="wbf joins boxes above this (default: 0.55)"
    )
    parser.add_argument(
        "--weights",
        type=positive_float,
        nargs="+",
        metavar="W",
        help="one positive number for each input (default: all equal)",
    )
    add_detection_files(parser, " (needs --manifest)")
    add_classes(parser)
    add_task(parser)
    add_workers(parser, "processes for large jobs; same result")
    add_overwrite(parser, "the files of an earlier merge in --out")
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    if args.weights is not None and len(args.weights) != len(args.detections):
        parser.error(f"--weights: expected {len(args.detections)} numbers, one for each input; got {len(args.weights)}")
    if args.labels is not None and args.manifest is None:
        parser.error("--labels needs the sizes of the images: give --manifest")
    if args.nms == "none" and args.nms_agnostic:
        parser.error("--nms none keeps every box: leave out --nms-agnostic")
    if args.fuse == "wbf" and len(args.detections) < 2:
        parser.error("--fuse wbf needs several inputs")


def main(argv: Sequence[str] | None = None) -> int:
    """Merge and pack; return the exit code."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.dota.merging.merge_files import merge_files, zip_path_of
    from fdam_rotate.dota.merging.options import MergeOptions
    from fdam_rotate.dota.names import escape_note
    from fdam_rotate.dota.outputs import check_inputs

    begin = time.perf_counter()
    locate = None
    check_inputs(args.out, [*args.detections, args.manifest])
    if args.manifest is not None:
        from fdam_rotate.dota.manifest import read_manifest

        locate = read_manifest(args.manifest)
    options = MergeOptions(
        iou_thr=args.iou_thr,
        nms=args.nms,
        nms_agnostic=args.nms_agnostic,
        score_thr=args.score_thr,
        max_per_image=args.max_per_image,
        weights=args.weights,
        fuse=args.fuse,
        fuse_iou_thr=args.fuse_iou_thr,
    )
    problems: list[Problem] = []
    summary = merge_files(
        args.detections,
        args.out,
        args.classes,
        options,
        task=args.task,
        locate=locate,
        nproc=args.nproc,
        scheduler=args.scheduler,
        csv=args.csv,
        overwrite=args.overwrite,
        problems=problems,
        progress=True,
    )
    if summary.empty_classes:
        print(f"note: no file for {', '.join(summary.empty_classes)}; wrote empty ones")
    if whole := summary.whole:
        rest = "is no patch's name and was taken as a whole image|are no patches' names and were taken as whole images"
        print(f"note: {counted(len(whole), 'id', rest)}, such as {whole[0]}")
    if note := escape_note(summary.escaped):
        print(f"note: {note}")
    if args.labels is not None:
        _write_labels(args.labels, args.out, args.manifest, args.classes, args.task, args.overwrite)
    print_problems(problems)
    print(f"{summary}; {time.perf_counter() - begin:.1f} s; wrote {args.out} and {zip_path_of(args.out).name}")
    return 1 if problems else 0


def _write_labels(format: str, out: Path, manifest: Path, classes: Sequence[str], task: int, overwrite: bool) -> None:
    """The detections that were written to ``out`` as label files."""
    from fdam_rotate.dota.detections import read_detections
    from fdam_rotate.dota.formats.from_detections import write_labels
    from fdam_rotate.dota.manifest import read_manifest

    images = read_manifest(manifest).images
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    names = {image["id"]: Path(image["file"]).name for image in images}
    found = read_detections(out, classes=classes, task=task)
    for line in write_labels(format, out / "labels", found, sizes, classes, file_names=names, overwrite=overwrite):
        print(line)
