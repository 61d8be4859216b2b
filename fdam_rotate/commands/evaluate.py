"""Score detections on whole images as the DOTA server does: AP by class and the mAP, how sure they are, and why.

Examples:
    fdam-rotate evaluate work_dirs/demo/merged --gt data/val/labelTxt --bootstrap 1000 --json scores.json
    fdam-rotate evaluate a_seed0 a_seed1 --versus b_seed0 b_seed1 --gt data/val/labelTxt

DETECTIONS is a folder or zip of Task1_<class>.txt (image_id score x1 y1 ... x4 y4) or, with --task 2,
Task2_<class>.txt (image_id score xmin ymin xmax ymax), in pixels of the original images; or the JSON of Ultralytics, of
COCO or GeoJSON. The labels are a folder of one <image_id>.txt per image (x1 y1 ... x4 y4 class difficult), a YOLO-OBB
data set or a COCO file. Every image that has labels is scored; one whose labels are empty is background, where every
detection is false. Difficult objects are neutral. A class without objects has no AP and is left out of the mean.

Exit code: 0 scored; 1 scored, but lines could not be read (each is named); 2 wrong usage, or the number would mean
nothing (no ground truth, no detections, none of the images labelled, patches against whole images).
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.cli import print_problems
from fdam_rotate.commands.arguments import add_classes, add_iou_thr, add_overwrite, add_score_thr, add_task
from fdam_rotate.commands.parser import CommandParser, command_parser, usage_errors
from fdam_rotate.commands.values import (
    existing_file,
    existing_folder,
    existing_path,
    non_negative_int,
    output_file,
    output_folder,
    positive_int,
)
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.formats.table import FORMATS

if TYPE_CHECKING:
    from fdam_rotate.dota.detections import Detections
    from fdam_rotate.dota.labels import Labels
    from fdam_rotate.dota.problems import Problem
    from fdam_rotate.dota.scoring.assessment import Files, Questions
    from fdam_rotate.dota.scoring.scores import EvalResult


def build_parser() -> CommandParser:
    """Return the command line's parser."""
    parser = command_parser("evaluate", __doc__, "tools/evaluate.py", _check_usage)
    parser.add_argument(
        "detections",
        type=existing_path,
        nargs="+",
        metavar="DETECTIONS",
        help="folder, zip or JSON; several runs with --versus",
    )
    parser.add_argument(
        "--gt",
        type=existing_path,
        required=True,
        metavar="LABELS",
        help="folder of label files (labelTxt), data set or COCO file",
    )
    parser.add_argument(
        "--metric",
        choices=("voc07", "voc12", "coco"),
        default="voc07",
        help="voc07: 11 points, as the DOTA server (default); voc12: area under the curve, as several papers quote; "
        "coco: COCO's matching and 101 points",
    )
    overlaps = "overlaps above which an object is found (default: 0.5 to 0.95 in steps of 0.05); 'map' is of the first"
    add_iou_thr(parser, overlaps, None, nargs="+")
    parser.add_former("--iou", "--iou-thr", _expand, many=True)
    parser.add_former("--html", "--page")
    add_classes(parser)
    add_task(parser)
    _add_image_options(parser)
    _add_format_options(parser)
    sure = parser.add_argument_group("how sure it is")
    sure.add_argument(
        "--bootstrap", type=positive_int, metavar="N", help="intervals from N draws of source images (1000 is usual)"
    )
    sure.add_argument("--seed", type=non_negative_int, default=0, help="of the draws (default: 0)")
    sure.add_argument(
        "--versus",
        type=existing_path,
        nargs="+",
        metavar="DETECTIONS",
        help="compare with these runs on the same images: what they gain by class, and how sure that is",
    )
    _add_cause_options(parser)
    _add_more_options(parser)
    _add_output_options(parser)
    return parser


def _add_more_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for whom it is good, and what to deploy with")
    group.add_argument(
        "--by",
        nargs="+",
        choices=("size", "aspect", "angle", "density", "border"),
        default=[],
        metavar="KIND",
        help="AP by size, aspect (ratio), angle, density (neighbours) or border (distance to it; needs --img-dir)",
    )
    group.add_argument("--calibration", action="store_true", help="whether scores are shares of right detections")
    group.add_argument(
        "--thresholds",
        type=output_file,
        metavar="FILE",
        help="write {class: score threshold} of the greatest F1, chosen on --choose-on, reported on the others",
    )
    group.add_argument(
        "--choose-on", type=existing_path, metavar="LIST", help="images to choose --thresholds on, one id per line"
    )


def _add_cause_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("why it is wrong")
    group.add_argument(
        "--causes",
        action="store_true",
        help="the cause of each false positive and missed object, and what mAP would gain if each were mended",
    )
    group.add_argument(
        "--manifest",
        type=existing_path,
        metavar="FILE",
        help="of the split that was predicted on: --causes then reports what was cut at the seams of its windows",
    )
    group.add_argument(
        "--patches",
        type=existing_path,
        metavar="DIR",
        help="detections before merging, with ids of patches: --causes then reports what was lost in merging",
    )


def _add_image_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which images")
    group.add_argument(
        "--image-list",
        type=existing_path,
        metavar="FILE",
        help="score these images only (one id per line, or the manifest.json of a split); each needs labels",
    )
    group.add_argument(
        "--train-list",
        type=existing_path,
        metavar="FILE",
        help="images trained on (one id per line, or the manifest.json of their split): warned of where scored",
    )
    group.add_argument(
        "--train-img-dir",
        type=existing_folder,
        metavar="DIR",
        help="folder of the images trained on: a warning where one shows the same picture as one of --img-dir",
    )


def _add_format_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("formats other than DOTA's (found by their contents where nothing is given)")
    group.add_argument(
        "--format", choices=("dota", "ultralytics", "coco", "geojson"), help="of DETECTIONS; see docs/evaluate.md"
    )
    group.add_argument("--gt-format", choices=tuple(FORMATS), help="of the labels")
    group.add_argument("--gt-part", metavar="NAME", help="part of a data set of several, such as val")
    group.add_argument(
        "--angle",
        metavar="CONVENTION",
        help="of COCO boxes of five numbers: le90, le135, oc, ultralytics, opencv, detectron2 or odtk",
    )
    group.add_argument(
        "--first-class", type=int, choices=(0, 1), help="number of the first class of Ultralytics' or COCO's detections"
    )
    group.add_argument(
        "--annotations",
        type=existing_file,
        metavar="FILE",
        help="COCO file that names images and classes (default: --gt)",
    )
    group.add_argument(
        "--img-dir",
        type=existing_folder,
        metavar="DIR",
        help="the scored images: for GeoJSON, --by border, --train-img-dir",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--json",
        type=output_file,
        metavar="FILE",
        help="write {'ap': {class: value}, 'map': value, ...}; with --plot-dir the confusion too",
    )
    group.add_argument("--markdown", type=output_file, metavar="FILE", help="write the tables as Markdown")
    group.add_argument("--latex", type=output_file, metavar="FILE", help="write the tables for booktabs")
    group.add_argument(
        "--plot-dir",
        type=output_folder,
        metavar="DIR",
        help="draw curves, AP by class and size, confusion and worst images",
    )
    add_score_thr(group, "least score for the confusion matrix and the list of worst images; AP counts all scores", 0.3)
    group.add_argument(
        "--page",
        type=output_file,
        metavar="FILE",
        help="one page with all of it, pictures inside; adds --bootstrap 1000, --causes, --calibration and all of --by "
        "that can be known",
    )
    add_overwrite(group, "these files and pictures where they exist")


def _expand(words: list[str]) -> list[str]:
    """The thresholds of the former ``--iou``, which took ranges such as 0.5:0.95, each by itself."""
    from fdam_rotate.dota.scoring.evaluation import parse_iou_thrs

    with suppress(DotaError):  # what is no threshold is reported by the type of --iou-thr
        return [f"{thr:g}" for thr in parse_iou_thrs(words)]
    return words


def _check_usage(parser: CommandParser, args: argparse.Namespace) -> None:
    """Stop with exit code 2 at what cannot be meant."""
    if len(args.detections) > 1 and not args.versus:
        parser.error("several runs are compared with others: give those with --versus")
    if args.versus and (args.plot_dir or args.causes):
        parser.error("--versus compares; give --plot-dir and --causes with one run alone")
    if args.versus and (args.by or args.calibration or args.thresholds or args.page):
        parser.error("--versus compares; give --by, --calibration, --thresholds and --page with one run alone")
    if args.train_img_dir and not args.img_dir:
        parser.error("--train-img-dir is compared with the scored images: give --img-dir")
    if "border" in args.by and not args.img_dir:
        parser.error("--by border needs the sizes of the images: give --img-dir")
    if bool(args.thresholds) != bool(args.choose_on):
        parser.error("--thresholds FILE and --choose-on LIST go together: chosen on the list, reported on the others")
    if (args.manifest or args.patches) and not (args.causes or args.page):
        parser.error("--manifest and --patches serve --causes: give that too")


def main(argv: Sequence[str] | None = None) -> int:
    """Read, score, print and write; return the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)

    from fdam_rotate.dota.layout import read_image_list
    from fdam_rotate.dota.outputs import check_folder, claim_file
    from fdam_rotate.dota.scoring.assessment import RESAMPLES, Files, Questions
    from fdam_rotate.dota.scoring.evaluation import parse_iou_thrs

    with usage_errors(parser):
        thrs = parse_iou_thrs(args.iou_thr or ["0.5:0.95"])
    asked_for = {"bootstrap": args.bootstrap is not None, "calibration": args.calibration}
    if_possible = [name for name, asked in asked_for.items() if not asked]  # what the page adds
    if args.page:
        args.bootstrap = args.bootstrap or RESAMPLES
        args.causes = args.calibration = True
        args.by = ["aspect", "angle", "density", *(["border"] if args.img_dir else [])]
    files = Files(args.json, args.markdown, args.latex, args.thresholds, args.plot_dir, args.page, args.overwrite)
    inputs = [*args.detections, *(args.versus or ()), args.gt, args.image_list, args.train_list, args.annotations]
    inputs += [args.manifest, args.patches, args.choose_on, args.img_dir, args.train_img_dir]
    for path in (files.json, files.markdown, files.latex, files.thresholds, files.page):
        if path is not None:
            claim_file(path, overwrite=args.overwrite, inputs=inputs)
    if files.plots is not None:
        check_folder(files.plots, overwrite=args.overwrite, inputs=inputs)
    questions = Questions(
        metric=args.metric,
        iou_thrs=thrs,
        task=args.task,
        bootstrap=args.bootstrap,
        if_possible=if_possible,
        seed=args.seed,
        causes=args.causes,
        by=args.by,
        calibration=args.calibration,
        choose_on=read_image_list(args.choose_on) if args.choose_on else None,
        score_thr=args.score_thr,
    )
    problems: list[Problem] = []
    if args.versus:
        _compare(args, questions, files, problems)
    else:
        _score(args, questions, files, problems)
    print_problems(problems)
    return 1 if problems else 0


def _score(args: argparse.Namespace, questions: Questions, files: Files, problems: list[Problem]) -> None:
    """Score one run, print and write."""
    from fdam_rotate.dota.layout import read_image_list
    from fdam_rotate.dota.manifest import read_manifest
    from fdam_rotate.dota.merging.placing import place_detections
    from fdam_rotate.dota.scoring.assessment import Costs, assess

    costs = Costs()
    trained_on = read_image_list(args.train_list) if args.train_list else ()
    sizes = unmerged = windows = None
    with costs.of("reading"):
        truths = _read_truths(args, problems)
        detections = _read_run(args, args.detections[0], truths, problems)
        if "border" in questions.by:
            sizes = _image_sizes(args.img_dir, truths, problems)
        if questions.causes:
            manifest = read_manifest(args.manifest) if args.manifest else None
            windows = manifest.windows() if manifest else None
            if args.patches:
                unmerged = place_detections(args.patches, manifest, task=args.task, problems=problems)
    found = assess(
        detections,
        truths,
        args.classes,
        questions,
        trained_on=trained_on,
        image_sizes=sizes,
        windows=windows,
        unmerged=unmerged,
        costs=costs,
    )
    if args.train_img_dir:
        from fdam_rotate.dota.checking.leakage import copy_note

        with costs.of("copies"):
            found.notes.append(copy_note(args.img_dir, args.train_img_dir, found.result.images, problems))
    print("\n".join(found.lines()))
    pictures = found.write(files, f"Scores of {args.detections[0].name}")
    if pictures:
        print(f"wrote {', '.join(path.name for path in pictures)} to {files.plots}")
    if len(costs.seconds) > 2:
        print(costs)
    print(f"mAP {found.result.map:.4f}")


def _image_sizes(img_dir: Path, image_ids: Collection[str], problems: list[Problem]) -> dict[str, tuple[int, int]]:
    """Width and height of those of the images that can be read."""
    from fdam_rotate.dota.errors import ImageReadError
    from fdam_rotate.dota.layout import image_problem, list_sources
    from fdam_rotate.dota.rasters.images import image_size

    sizes = {}
    for source in list_sources([img_dir], [None], []):
        if source.image_id in image_ids:
            try:
                sizes[source.image_id] = image_size(source.path)
            except (ImageReadError, OSError) as error:
                problems.append(image_problem(source.path, error))
    return sizes


def _compare(args: argparse.Namespace, questions: Questions, files: Files, problems: list[Problem]) -> None:
    """Score the runs of both sides on the same images, and print what the second gains."""
    from fdam_rotate.dota.scoring.assessment import Costs, compare_sides
    from fdam_rotate.dota.scoring.evaluation import evaluate
    from fdam_rotate.dota.scoring.report import format_notes

    costs = Costs()
    truths = _read_truths(args, problems)
    sides: list[list[EvalResult]] = []
    for letter, paths in (("A", args.detections), ("B", args.versus)):
        sides.append([])
        for path in paths:
            with costs.of("reading and scoring"):
                found = _read_run(args, path, truths, problems)
                thrs, metric = questions.iou_thrs[:1], questions.metric
                result = evaluate(found, truths, args.classes, iou_thrs=thrs, metric=metric, task=questions.task)
            print(f"{letter}: {path}: mAP {result.map:.4f}")
            for note in format_notes(result):
                if note.startswith("warning: "):
                    print(f"   {note}")
            sides[-1].append(result)
    with costs.of("bootstrap"):
        comparison = compare_sides(*sides, bootstrap=questions.bootstrap, seed=questions.seed)
    print("\n".join(comparison.lines()))
    comparison.write(files, {"a": list(map(str, args.detections)), "b": list(map(str, args.versus))})
    print(costs)
    print(comparison.verdict())


def _read_truths(args: argparse.Namespace, problems: list[Problem]) -> dict[str, Labels]:
    """The labels of all images, or of those listed."""
    from fdam_rotate.dota.formats.ground_truth import read_ground_truth
    from fdam_rotate.dota.layout import read_image_list

    listed = read_image_list(args.image_list) if args.image_list else None
    return read_ground_truth(
        args.gt, args.gt_format, classes=args.classes, part=args.gt_part, image_ids=listed, problems=problems
    )


def _read_run(
    args: argparse.Namespace, path: Path, truths: dict[str, Labels], problems: list[Problem]
) -> dict[str, Detections]:
    """The detections of one run."""
    from fdam_rotate.dota.formats.predictions import read_run

    return read_run(
        path,
        args.format,
        classes=args.classes,
        task=args.task,
        angle=args.angle,
        first_class=args.first_class,
        annotations=args.annotations or (args.gt if args.gt.is_file() else None),
        img_dir=args.img_dir,
        image_ids=truths,
        problems=problems,
    )
