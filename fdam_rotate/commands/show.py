"""Draw detections on whole images: what was found, what is false, and what was missed.

Examples:
    fdam-rotate show data/val/images work_dirs/demo/merged --gt data/val/labelTxt --out pictures
    fdam-rotate show data/val/images --gt data/val/labelTxt --out pictures
    fdam-rotate show data/val/images work_dirs/demo/merged --html --out pages
    fdam-rotate show data/val/images --examples scores.json --out worst

IMAGES is a folder of .png .jpg .jpeg .tif .tiff .jp2 .j2k .bmp. DETECTIONS is a folder or zip of Task1_<class>.txt
(image_id score x1 y1 ... x4 y4), in pixels of these images; without it the objects alone are drawn. With --gt, found
objects are outlined, false positives crossed out on red, missed objects dashed on yellow, difficult ones dotted.
Classes have MMRotate's colours. One picture per image goes to the output folder, with a legend below. With --html it is
one page, <image_id>.html, that needs nothing beside it: pan and zoom, least score by a slider, classes on and off, and
a click on a box shows its class, score, length, width and angle. With --examples,
which takes what evaluate.py --causes --json wrote, each of the worst mistakes is cut out:
<cause>_<number>_<image_id>.

Exit code: 0 done; 1 an image or a line could not be read (each is named, the rest is drawn); 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fdam_rotate.cli import print_problems
from fdam_rotate.commands.arguments import (
    add_classes,
    add_iou_thr,
    add_out,
    add_overwrite,
    add_raster_arguments,
    add_score_thr,
    add_task,
    raster_options,
)
from fdam_rotate.commands.parser import CommandParser, command_parser, usage_errors
from fdam_rotate.commands.values import existing_file, existing_folder, existing_path
from fdam_rotate.dota.words import counted

if TYPE_CHECKING:
    from fdam_rotate.dota.detections import Detections
    from fdam_rotate.dota.layout import SourceImage
    from fdam_rotate.dota.problems import Problem
    from fdam_rotate.dota.rasters.options import RasterOptions


def build_parser() -> CommandParser:
    """Return the command line's parser."""
    parser = command_parser("show", __doc__, "tools/show.py", _check)
    parser.add_argument("images", type=existing_folder, metavar="IMAGES", help="folder of images")
    parser.add_argument(
        "detections", type=existing_path, nargs="?", metavar="DETECTIONS", help="folder or zip, one file per class"
    )
    parser.add_argument("--gt", type=existing_path, metavar="LABEL_DIR", help="folder of label files (labelTxt)")
    parser.add_argument(
        "--examples",
        type=existing_file,
        metavar="FILE",
        help="draw the worst mistakes of evaluate.py --causes --json FILE instead",
    )
    add_out(parser, "folder for the pictures")
    add_score_thr(parser, "least score that is drawn", 0.3)
    add_iou_thr(parser, "overlap above which an object is found", 0.5)
    parser.add_former("--iou", "--iou-thr")
    add_classes(parser)
    add_task(parser)
    add_raster_arguments(parser)
    parser.add_argument("--scores", action="store_true", help="write the score at each detection, where there is room")
    parser.add_argument("--no-legend", action="store_true", help="leave out the strip below the image")
    parser.add_argument(
        "--image-list",
        type=existing_path,
        metavar="FILE",
        help="draw only these images: one id per line, or a manifest.json",
    )
    parser.add_argument("--ext", choices=(".jpg", ".png"), default=".jpg", help="file type (default: .jpg, quality 92)")
    parser.add_argument(
        "--html", action="store_true", help="write pages in place of pictures; --score-thr is where their slider begins"
    )
    add_overwrite(parser, "the pictures or pages of an earlier run in --out")
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    if args.examples and (args.detections or args.gt):
        parser.error("--examples holds the boxes to draw: give neither DETECTIONS nor --gt")
    if args.detections is None and args.gt is None and args.examples is None:
        parser.error("nothing to draw: give DETECTIONS, --gt LABEL_DIR, or both")
    if args.html and (args.detections is None or args.gt or args.scores or args.no_legend):
        parser.error("--html shows detections: give DETECTIONS, and neither --gt, --scores nor --no-legend")
    from fdam_rotate.dota.scoring.evaluation import parse_iou_thrs

    with usage_errors(parser):
        parse_iou_thrs([args.iou_thr])


def main(argv: Sequence[str] | None = None) -> int:
    """Draw every image; return the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    raster = raster_options(parser, args)
    if args.examples:
        return _draw_examples(args, raster)

    from fdam_rotate.dota.detections import by_image
    from fdam_rotate.dota.layout import list_sources, passed_over, read_image_list
    from fdam_rotate.dota.outputs import check_folder, claim_folder
    from fdam_rotate.dota.viewing.pages import page_name, write_pages

    check_folder(args.out, overwrite=args.overwrite, inputs=[args.images, args.detections, args.gt, args.image_list])
    lines: list[Problem] = []
    problems: list[Problem] = []
    sources = list_sources([args.images], [args.gt], problems)
    failures = [str(problem) for problem in problems if problem.kind in ("clash", "id")]
    notes = [str(problem) for problem in [passed_over(args.images)] if problem]
    if args.image_list:
        wanted = set(read_image_list(args.image_list))
        failures += [f"{args.images}: no image {name}" for name in sorted(wanted - {s.image_id for s in sources})]
        sources = [source for source in sources if source.image_id in wanted]
    found = None
    if args.detections is not None:
        found = by_image(_read(args, lines))
        _check_ids(found, [source.image_id for source in sources])
    names = [page_name(source.image_id) if args.html else f"{source.image_id}{args.ext}" for source in sources]
    out = claim_folder(args.out, names, record="show", overwrite=args.overwrite)
    if args.html:
        assert found is not None
        written = write_pages(
            sources, found, out, classes=args.classes, raster=raster, least=args.score_thr, progress=True
        )
        print(f"wrote {counted(written.pages, 'page')} to {out}")
        notes += written.notes
        failures += written.failures
    else:
        count = _draw_pictures(args, raster, sources, found, notes, failures, lines)
        without = sum(problem.kind == "no-label" for problem in problems)
        note = f", {without} without label file and so without a verdict" if without else ""
        print(f"wrote {counted(count, 'picture')} to {out}{note}")
    for line in [*notes, *failures]:
        print(line, file=sys.stderr)
    print_problems(lines)
    return 1 if failures or lines else 0


def _read(args: argparse.Namespace, lines: list[Problem]) -> dict[str, Detections]:
    """The detections of --classes; the classes that are left out are told, as those of objects are.

    Raises:
        DotaError: none of the detections' classes is among them.
    """
    from fdam_rotate.dota.detections import detection_files, read_detection_files
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.names import did_you_mean

    files = detection_files(args.detections, task=args.task, problems=lines)
    others = [f"{name}{did_you_mean(name, args.classes)}" for name in files if name not in args.classes]
    if len(others) == len(files):
        raise DotaError(f"{args.detections}: none of its classes is in --classes: {', '.join(others)}")
    if others:
        print(f"warning: detections of classes that are not in --classes were left out: {', '.join(others)}")
    wanted = {name: files[name] for name in args.classes if name in files}
    return read_detection_files(args.detections, wanted, task=args.task, problems=lines)


def _draw_pictures(
    args: argparse.Namespace,
    raster: RasterOptions,
    sources: Sequence[SourceImage],
    found: Mapping[str, Mapping[str, Detections]] | None,
    notes: list[str],
    failures: list[str],
    lines: list[Problem],
) -> int:
    """Draw each image; return how many; add notes, and images and lines that could not be read."""
    import cv2

    from fdam_rotate.dota.errors import ImageReadError
    from fdam_rotate.dota.files import atomic_path
    from fdam_rotate.dota.labels import read_labels
    from fdam_rotate.dota.layout import image_problem
    from fdam_rotate.dota.progress import progress_over
    from fdam_rotate.dota.rasters.images import open_pixels
    from fdam_rotate.dota.scoring.drawing import draw_detections

    quality = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    written = 0
    unknown: Counter[str] = Counter()
    for source in progress_over(sources, "draw", "image", shown=True):
        try:
            with open_pixels(source.path, raster, whole=True) as whole:
                ((_, image),) = whole.crops([[0, 0, whole.width, whole.height]])
        except (ImageReadError, OSError) as error:
            failures.append(str(image_problem(source.path, error)))
            continue
        notes += [f"{source.path}: {note}" for note in whole.notes()]
        truth = None if source.label is None else read_labels(source.label, problems=lines)
        unknown.update(name for name in (truth.names if truth else ()) if name not in args.classes)
        picture = draw_detections(
            image,
            None if found is None else found.get(source.image_id, {}),
            classes=args.classes,
            truth=truth,
            score_thr=args.score_thr,
            iou_thr=args.iou_thr,
            task=args.task,
            show_scores=args.scores,
            legend=not args.no_legend,
        )
        with atomic_path(args.out / f"{source.image_id}{args.ext}") as temporary:
            if not cv2.imwrite(str(temporary), picture, quality if args.ext == ".jpg" else []):
                raise OSError(f"cannot write {args.out / source.image_id}{args.ext}")
        written += 1
    for name, count in sorted(unknown.items()):
        left_out = "was left out" if count == 1 else "were left out"
        print(f"warning: {counted(count, 'object')} of class {name!r}, which is not in --classes, {left_out}")
    return written


def _draw_examples(args: argparse.Namespace, raster: RasterOptions) -> int:
    """Cut out and draw each example; return the exit code."""
    import cv2

    from fdam_rotate.dota.errors import ImageReadError
    from fdam_rotate.dota.files import atomic_path
    from fdam_rotate.dota.layout import image_problem, list_sources
    from fdam_rotate.dota.outputs import check_folder, claim_folder
    from fdam_rotate.dota.rasters.images import read_image
    from fdam_rotate.dota.scoring.drawing import draw_example
    from fdam_rotate.dota.scoring.examples import read_examples

    check_folder(args.out, overwrite=args.overwrite, inputs=[args.images, args.examples])
    examples = read_examples(args.examples)
    named = {name for one in examples for name in (one.found, one.meant) if name is not None}
    classes = [*args.classes, *sorted(named - set(args.classes))]
    sources = {source.image_id: source for source in list_sources([args.images], [None], [])}
    numbers: Counter[str] = Counter()
    names = []
    for one in examples:
        numbers[one.cause] += 1
        names.append(f"{one.cause}_{numbers[one.cause]:02d}_{one.image_id}{args.ext}")
    out = claim_folder(args.out, names, record="show", overwrite=args.overwrite)
    failures, written = [], 0
    for image_id in sorted({one.image_id for one in examples}):
        if image_id not in sources:
            failures.append(f"{args.images}: no image {image_id}")
            continue
        try:
            image, _ = read_image(sources[image_id].path, raster)
        except (ImageReadError, OSError) as error:
            failures.append(str(image_problem(sources[image_id].path, error)))
            continue
        for name, one in zip(names, examples, strict=True):
            if one.image_id == image_id:
                with atomic_path(out / name) as temporary:
                    if not cv2.imwrite(str(temporary), draw_example(image, one, classes=classes)):
                        raise OSError(f"cannot write {out / name}")
                written += 1
    print(f"wrote {counted(written, 'picture')} to {out}")
    for line in failures:
        print(line, file=sys.stderr)
    return 1 if failures else 0


def _check_ids(found: Mapping[str, object], image_ids: Sequence[str]) -> None:
    """Refuse detections of which none is of an image here; report some."""
    from fdam_rotate.dota.errors import DotaError

    missing = sorted(set(found) - set(image_ids))
    if missing and len(missing) == len(found):
        raise DotaError(
            f"none of the {len(found)} image ids of the detections, such as {missing[0]!r}, has an image; ids such as "
            f"P0001__1024__0___0 name patches, which fdam-rotate merge maps to whole images"
        )
    if missing:
        rest = "of the detections has no image here|of the detections have no image here"
        print(f"{counted(len(missing), 'image id', rest)}, for instance {missing[0]}")
