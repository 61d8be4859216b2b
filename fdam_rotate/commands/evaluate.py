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
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.commands.arguments import (
    CommandParser,
    add_classes,
    add_iou_thr,
    add_overwrite,
    add_score_thr,
    add_task,
    command_parser,
    existing_file,
    existing_folder,
    existing_path,
    non_negative_int,
    output_file,
    output_folder,
    positive_int,
    usage_errors,
)
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.formats.table import FORMATS

if TYPE_CHECKING:
    from fdam_rotate.dota.detections import Detections
    from fdam_rotate.dota.labels import Labels
    from fdam_rotate.dota.problems import Problem
    from fdam_rotate.dota.scoring.scores import EvalResult
    from fdam_rotate.dota.scoring.tables import Table


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
        help="of the split that was predicted on: --causes then tells what was cut at the seams of its windows",
    )
    group.add_argument(
        "--patches",
        type=existing_path,
        metavar="DIR",
        help="detections before merging, with ids of patches: --causes then tells what was lost in merging",
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
    group = parser.add_argument_group("formats other than DOTA's (told by their contents where nothing is given)")
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
        "that can be told",
    )
    add_overwrite(group, "these files and pictures where they exist")


def _expand(words: list[str]) -> list[str]:
    """The thresholds of the former ``--iou``, which took ranges such as 0.5:0.95, each by itself."""
    from fdam_rotate.dota.scoring.evaluation import parse_iou_thrs

    with suppress(DotaError):  # what is no threshold is reported by the type of --iou-thr
        return [f"{thr:g}" for thr in parse_iou_thrs(words)]
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Read, score, print and write; return the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)

    from fdam_rotate.dota.outputs import check_folder, claim_file
    from fdam_rotate.dota.problems import format_problems
    from fdam_rotate.dota.scoring.evaluation import parse_iou_thrs

    with usage_errors(parser):
        thrs = parse_iou_thrs(args.iou_thr or ["0.5:0.95"])
    if args.page:
        args.bootstrap = args.bootstrap or 1000
        args.causes = args.calibration = True
        args.by = ["aspect", "angle", "density", *(["border"] if args.img_dir else [])]
    inputs = [*args.detections, *(args.versus or ()), args.gt, args.image_list, args.train_list, args.annotations]
    inputs += [args.manifest, args.patches, args.choose_on, args.img_dir, args.train_img_dir]
    for path in (args.json, args.markdown, args.latex, args.thresholds, args.page):
        if path is not None:
            claim_file(path, overwrite=args.overwrite, inputs=inputs)
    if args.plot_dir is not None:
        check_folder(args.plot_dir, overwrite=args.overwrite, inputs=inputs)
    problems: list[Problem] = []
    if args.versus:
        _compare(args, thrs, problems)
    else:
        _score(args, thrs, problems)
    for line in format_problems(problems):
        print(line, file=sys.stderr)
    return 1 if problems else 0


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


class _Costs:
    """CPU seconds of the parts of this run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what is spent inside towards ``part``."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - start

    def __str__(self) -> str:
        return "CPU seconds: " + ", ".join(f"{part} {seconds:.2f}" for part, seconds in self.seconds.items())


def _score(args: argparse.Namespace, thrs: Sequence[float], problems: list[Problem]) -> None:
    """Score one run, print and write."""
    from fdam_rotate.dota.files import write_text
    from fdam_rotate.dota.layout import read_image_list
    from fdam_rotate.dota.scoring.analysis import confusion, worst_images
    from fdam_rotate.dota.scoring.bootstrap import score_intervals
    from fdam_rotate.dota.scoring.calibration import calibrate, calibration_table
    from fdam_rotate.dota.scoring.evaluation import evaluate
    from fdam_rotate.dota.scoring.repeated import repeated_labels
    from fdam_rotate.dota.scoring.report import (
        format_markdown,
        format_notes,
        format_table,
        headline,
        interval_notes,
        repeated_notes,
        score_table,
        tie_notes,
        to_json,
        worst_table,
        write_json,
    )
    from fdam_rotate.dota.scoring.strata import score_by_size, strata_table
    from fdam_rotate.dota.scoring.tables import to_latex, to_text
    from fdam_rotate.dota.scoring.thresholds import best_thresholds, curve_table, threshold_table
    from fdam_rotate.dota.scoring.ties import tie_bounds

    costs = _Costs()
    trained_on = read_image_list(args.train_list) if args.train_list else ()
    with costs.of("reading"):
        truths = _read_truths(args, problems)
        detections = _read_run(args, args.detections[0], truths, problems)
    with costs.of("scoring"):
        result = evaluate(detections, truths, args.classes, iou_thrs=thrs, metric=args.metric, task=args.task)
        ties = tie_bounds(result)
    intervals = None
    if args.bootstrap:
        with costs.of("bootstrap"):
            intervals = score_intervals(result, resamples=args.bootstrap, seed=args.seed)

    parts: list[Table] = []
    if args.causes:
        with costs.of("causes"):
            parts.append(_causes(args, result, problems))
    if args.by:
        with costs.of("strata"):
            parts += _strata(args, result)
    if args.calibration:
        with costs.of("calibration"):
            parts.append(calibration_table(calibrate(result)))
    if args.thresholds:
        with costs.of("thresholds"):
            choice = best_thresholds(result, read_image_list(args.choose_on))
            parts += [threshold_table(choice), curve_table(result)]
        write_json(args.thresholds, {name: one.threshold for name, one in choice.items()})

    notes = [*format_notes(result, trained_on), *repeated_notes(repeated_labels(truths, args.classes))]
    notes += [*tie_notes(ties), *(interval_notes(intervals) if intervals else [])]
    if args.train_img_dir:
        with costs.of("copies"):
            notes += _copies(args, result, problems)
    print(format_table(result, intervals))
    for note in notes:
        print(note)
    for table in parts:
        print("\n".join(["", table.title, to_text(table), *table.notes]))
    parts = [table for table in parts if table.key != "by_size"]  # which the files have anyway
    if args.json or args.markdown or args.plot_dir or args.page:
        sizes = score_by_size(result)
        # The confusion matrix costs about half as much as reading and scoring: a JSON file alone does without.
        confused = confusion(result, score_thr=args.score_thr) if args.plot_dir or args.page else None
        worst = worst_images(result, score_thr=args.score_thr)
    if args.plot_dir and confused:
        from fdam_rotate.dota.scoring.plots import write_plots

        paths = write_plots(args.plot_dir, result, sizes, confused, worst, parts, overwrite=args.overwrite)
        print(f"wrote {', '.join(path.name for path in paths)} to {args.plot_dir}")
    if args.json:
        write_json(
            args.json,
            to_json(result, sizes, confused, worst, trained_on, parts, intervals=intervals, ties=ties),
        )
    title = f"Scores of {args.detections[0].name}"
    if args.markdown:
        write_text(args.markdown, format_markdown(result, sizes, worst, title, trained_on, parts, intervals))
    if args.latex:
        write_text(args.latex, "\n\n".join(map(to_latex, [score_table(result, intervals), *parts])) + "\n")
    if args.page and confused:
        from fdam_rotate.dota.scoring.page import html_page
        from fdam_rotate.dota.scoring.plots import draw_plots

        tables = [score_table(result, intervals), *parts, strata_table(result, "size", sizes), worst_table(worst)]
        pictures = draw_plots(result, sizes, confused, worst, parts)
        write_text(args.page, html_page(title, headline(result, intervals), notes, tables, pictures))
    if len(costs.seconds) > 2:
        print(costs)
    print(f"mAP {result.map:.4f}")


def _copies(args: argparse.Namespace, result: EvalResult, problems: list[Problem]) -> list[str]:
    """A warning where scored images show the same pictures as images trained on."""
    from fdam_rotate.dota.checking.leakage import find_copies
    from fdam_rotate.dota.layout import list_sources

    ids = set(result.images)
    scored = [source for source in list_sources([args.img_dir], [None], problems) if source.image_id in ids]
    copies = find_copies(scored, list_sources([args.train_img_dir], [None], problems), problems, progress=True)
    if not copies:
        return [f"none of {len(scored)} scored images shows the same picture as one in {args.train_img_dir}"]
    shown = ", ".join(f"{one.image_id} = {one.trained.name}" for one in copies[:5])
    more = f" and {len(copies) - 5} more" if len(copies) > 5 else ""
    return [f"warning: {len(copies)} of {len(scored)} scored images show a picture that was trained on ({shown}{more})"]


def _strata(args: argparse.Namespace, result: EvalResult) -> list[Table]:
    """AP by what --by names; the distance to the border needs the images' sizes."""
    from fdam_rotate.dota.layout import list_sources
    from fdam_rotate.dota.rasters.images import image_size
    from fdam_rotate.dota.scoring.strata import score_by, strata_table

    sizes = None
    if "border" in args.by:
        scored = set(result.images)
        sources = list_sources([args.img_dir], [None], [])
        sizes = {source.image_id: image_size(source.path) for source in sources if source.image_id in scored}
    return [strata_table(result, kind, score_by(result, kind, sizes=sizes)) for kind in dict.fromkeys(args.by)]


def _causes(args: argparse.Namespace, result: EvalResult, problems: list[Problem]) -> Table:
    """Why detections are wrong and objects missed, with the worst examples."""
    from fdam_rotate.dota.detections import read_detections
    from fdam_rotate.dota.manifest import read_manifest
    from fdam_rotate.dota.merging.placing import Placer
    from fdam_rotate.dota.problems import line_problem
    from fdam_rotate.dota.scoring.causes import find_causes
    from fdam_rotate.dota.scoring.examples import worst_examples
    from fdam_rotate.dota.scoring.mending import cause_table, mend_causes

    manifest = read_manifest(args.manifest) if args.manifest else None
    unmerged = None
    if args.patches:
        placer, unmerged = Placer(manifest), {}
        for name, found in read_detections(args.patches, task=args.task, problems=problems).items():
            unmerged[name], unplaced = placer.place(found)
            problems += [line_problem("patch", args.patches, 0, reason) for _, reason in unplaced]
    windows = manifest.windows() if manifest else None
    mistakes = find_causes(result, windows=windows, unmerged=unmerged)
    return cause_table(mend_causes(result, mistakes, score_thr=args.score_thr), worst_examples(result, mistakes))


def _compare(args: argparse.Namespace, thrs: Sequence[float], problems: list[Problem]) -> None:
    """Score the runs of both sides on the same images, and tell what the second gains."""
    from fdam_rotate.dota.files import write_text
    from fdam_rotate.dota.scoring.bootstrap import compare_scores
    from fdam_rotate.dota.scoring.evaluation import evaluate
    from fdam_rotate.dota.scoring.report import comparison_table, format_notes, write_json
    from fdam_rotate.dota.scoring.tables import to_latex, to_markdown, to_text

    costs = _Costs()
    truths = _read_truths(args, problems)
    sides: list[list[EvalResult]] = []
    for letter, paths in (("A", args.detections), ("B", args.versus)):
        runs = []
        for path in paths:
            with costs.of("reading and scoring"):
                found = _read_run(args, path, truths, problems)
                result = evaluate(found, truths, args.classes, iou_thrs=thrs[:1], metric=args.metric, task=args.task)
            print(f"{letter}: {path}: mAP {result.map:.4f}")
            for note in format_notes(result):
                if note.startswith("warning: "):
                    print(f"   {note}")
            runs.append(result)
        sides.append(runs)
    with costs.of("bootstrap"):
        difference = compare_scores(*sides, resamples=args.bootstrap or 1000, seed=args.seed)
    table = comparison_table(difference)
    print(to_text(table))
    for note in table.notes:
        print(note)
    if args.json:
        names = {"a": list(map(str, args.detections)), "b": list(map(str, args.versus))}
        write_json(args.json, {"runs": names, table.key: table.content})
    if args.markdown:
        notes = "\n".join(f"- {note}" for note in table.notes)
        write_text(args.markdown, f"# {table.title}\n\n{to_markdown(table)}\n\n{notes}\n")
    if args.latex:
        write_text(args.latex, to_latex(table) + "\n")
    print(costs)
    gain = difference.map
    print(f"mAP {gain.first:.4f} -> {gain.second:.4f}: {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})")


def _read_truths(args: argparse.Namespace, problems: list[Problem]) -> dict[str, Labels]:
    """The labels of all images, or of those listed."""
    from fdam_rotate.dota.formats.ground_truth import read_ground_truth
    from fdam_rotate.dota.layout import read_image_list

    return read_ground_truth(
        args.gt,
        args.gt_format,
        classes=args.classes,
        part=args.gt_part,
        image_ids=read_image_list(args.image_list) if args.image_list else None,
        problems=problems,
    )


def _read_run(
    args: argparse.Namespace, path: Path, truths: dict[str, Labels], problems: list[Problem]
) -> dict[str, Detections]:
    """The detections of one run in any format; detections of none of the classes are an error."""
    from fdam_rotate.dota.errors import ScoreError
    from fdam_rotate.dota.formats.predictions import read_predictions, sniff_predictions

    kind = args.format or sniff_predictions(path)
    annotations = args.annotations or (args.gt if args.gt.is_file() else None)
    numbered = kind == "ultralytics" or (kind == "coco" and annotations is None)
    try:
        detections = read_predictions(
            path,
            kind,
            classes=args.classes if numbered else None,  # else other classes are counted and told
            task=args.task,
            angle=args.angle,
            first_class=args.first_class,
            annotations=annotations,
            img_dir=args.img_dir,
            image_ids=truths,
            problems=problems,
        )
    except FileNotFoundError as error:
        if not path.exists():
            raise
        raise ScoreError(str(error)) from error
    if not any(len(found) for name, found in detections.items() if name in args.classes):
        raise ScoreError(f"{path} holds no detection of the classes {', '.join(args.classes)}: nothing to score")
    return detections
