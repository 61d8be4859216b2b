"""Score detections on whole images as the DOTA server does: AP by class and the mAP.

Example:
    python tools/evaluate.py work_dirs/demo/merged --gt data/val/labelTxt --iou 0.5 0.75 --json scores.json

DETECTIONS is a folder or zip of Task1_<class>.txt (image_id score x1 y1 ... x4 y4) or, with --task 2,
Task2_<class>.txt (image_id score xmin ymin xmax ymax), in pixels of the original images. The labels are one
<image_id>.txt an image (x1 y1 ... x4 y4 class difficult). Every image that has a label file is scored; one whose file
is empty is background, where every detection is false. Difficult objects are neutral. A class without objects has no
AP and is left out of the mean.

Exit code: 0 scored; 1 scored, but lines could not be read (each is named); 2 wrong usage, or the number would mean
nothing (no ground truth, no detections, none of the images labelled, patches against whole images).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.cli import add_class_options, run

if TYPE_CHECKING:
    from fdam_rotate.dota.labels import Labels
    from fdam_rotate.dota.problems import Problem


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detections", type=Path, metavar="DETECTIONS", help="folder or zip with one file a class")
    parser.add_argument("--gt", type=Path, required=True, metavar="LABEL_DIR", help="folder of label files (labelTxt)")
    parser.add_argument(
        "--metric",
        choices=("voc07", "voc12"),
        default="voc07",
        help="voc07: 11 points, as the DOTA server (default); voc12: area under the curve, as several papers quote",
    )
    parser.add_argument(
        "--iou",
        nargs="+",
        default=["0.5"],
        metavar="THR",
        help="IoU thresholds in [0, 1), or 0.5:0.95 for steps of 0.05; the first is the one of 'map' (default: 0.5)",
    )
    add_class_options(parser)
    parser.add_argument(
        "--image-list",
        type=Path,
        metavar="FILE",
        help="score these images only (one id a line, or the manifest.json of a split); each needs a label file",
    )
    parser.add_argument(
        "--train-list",
        type=Path,
        metavar="FILE",
        help="images trained on (one id a line, or the manifest.json of their split): a warning where they are scored",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write {'ap': {class: value}, 'map': value, ...}; with --plot-dir the confusion too; FILE is replaced",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown; FILE is replaced")
    parser.add_argument(
        "--plot-dir", type=Path, metavar="DIR", help="draw curves, AP by class and size, confusion and worst images"
    )
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="least score for the confusion matrix and the list of worst images; AP counts all scores (default: 0.3)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read, score, print and write; return the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)

    from fdam_rotate.dota.detections import read_detections
    from fdam_rotate.dota.errors import DotaError, ScoreError
    from fdam_rotate.dota.files import write_text
    from fdam_rotate.dota.layout import read_image_list
    from fdam_rotate.dota.scoring.analysis import confusion, score_by_size, worst_images
    from fdam_rotate.dota.scoring.evaluation import evaluate, parse_iou_thrs
    from fdam_rotate.dota.scoring.report import format_markdown, format_notes, format_table, to_json, write_json

    try:
        thrs = parse_iou_thrs(args.iou)
    except DotaError as error:
        parser.error(str(error))
    for option, path in (("--json", args.json), ("--markdown", args.markdown)):
        if path and path.is_dir():
            parser.error(f"{option} {path} is a folder; give a file")
    if math.isnan(args.score_thr):
        parser.error("--score-thr must be a number")
    if args.plot_dir and args.plot_dir.exists() and not args.plot_dir.is_dir():
        parser.error(f"--plot-dir {args.plot_dir} is a file; give a folder")

    trained_on = read_image_list(args.train_list) if args.train_list else ()
    from fdam_rotate.dota.problems import format_problems

    problems: list[Problem] = []
    truths = _read_truths(args.gt, read_image_list(args.image_list) if args.image_list else None, problems)
    try:
        detections = read_detections(args.detections, task=args.task, problems=problems)
    except FileNotFoundError as error:
        if not args.detections.exists():
            raise
        raise ScoreError(str(error)) from error
    if not any(len(found) for name, found in detections.items() if name in args.classes):
        raise ScoreError(
            f"{args.detections} holds no detection of the classes {', '.join(args.classes)}: nothing to score"
        )
    result = evaluate(detections, truths, args.classes, iou_thrs=thrs, metric=args.metric, task=args.task)

    print(format_table(result))
    for note in format_notes(result, trained_on):
        print(note)
    if args.json or args.markdown or args.plot_dir:
        sizes = score_by_size(result)
        # The confusion matrix costs about half as much as reading and scoring: a JSON file alone does without.
        confused = confusion(result, score_thr=args.score_thr) if args.plot_dir else None
        worst = worst_images(result, score_thr=args.score_thr)
    if args.json:
        write_json(args.json, to_json(result, sizes, confused, worst, trained_on))
    if args.markdown:
        title = f"Scores of {args.detections.name}"
        write_text(args.markdown, format_markdown(result, sizes, worst, title, trained_on))
    if args.plot_dir and confused:
        from fdam_rotate.dota.scoring.plots import write_plots

        paths = write_plots(args.plot_dir, result, sizes, confused, worst)
        print(f"wrote {', '.join(path.name for path in paths)} to {args.plot_dir}")
    print(f"mAP {result.map:.4f}")
    for line in format_problems(problems):
        print(line, file=sys.stderr)
    return 1 if problems else 0


def _read_truths(folder: Path, image_ids: Sequence[str] | None, problems: list[Problem]) -> dict[str, Labels]:
    """The labels of a folder, or of some images of it; one of them without label file is a problem."""
    from fdam_rotate.dota.labels import read_label_dir
    from fdam_rotate.dota.problems import line_problem

    if image_ids is None:
        return read_label_dir(folder, problems=problems)
    present = [image_id for image_id in image_ids if (folder / f"{image_id}.txt").is_file()]
    for image_id in sorted(set(image_ids) - set(present)):
        reason = "a listed image has no label file, so it is not scored; an empty file would make it background"
        problems.append(line_problem("malformed", folder / f"{image_id}.txt", 0, reason))
    return read_label_dir(folder, problems=problems, image_ids=present)


if __name__ == "__main__":
    run(main)
