"""Detect objects on whole images of any size, your own too: no splitting, no labels, no data set.

    fdam-rotate predict model.onnx photo.png scenes/ --out work_dirs/found
    fdam-rotate predict CONFIG CHECKPOINT photo.png scenes/ --out work_dirs/found
    fdam-rotate predict CONFIG CHECKPOINT city.tif --out work_dirs/city --rates 0.5 1.0 --batch-size 8 --nproc 4
    torchrun --nproc_per_node=4 -m fdam_rotate.commands predict CONFIG CHECKPOINT city.tif --out DIR --launcher pytorch

The model is a file of fdam-rotate export, which needs neither torch nor MMRotate, or a config and its checkpoint.
Windows are read one by one (images above 64 megapixels never lie in memory whole), predicted, merged by polygon NMS.
Written to the output folder: Task1_<class>.txt (image_id score x1 y1 ... x4 y4, pixels of the image), which
fdam-rotate show, submit and evaluate read; geojson/<image_id>.geojson for each georeferenced image, in longitude and
latitude; and patches/, the windows done so far: a killed run goes on when its command is repeated. --labels also writes
label files of another tool, to be corrected there; fdam-rotate convert-labels reads them back.

Exit code: 0 done; 1 an image could not be read (each is named, the rest is done); 2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.commands.arguments import (
    add_cfg_options,
    add_detection_files,
    add_device,
    add_iou_thr,
    add_nms_agnostic,
    add_out,
    add_overwrite,
    add_padding_value,
    add_precision,
    add_raster_arguments,
    add_score_thr,
    add_unsafe_load,
    add_workers,
    raster_options,
)
from fdam_rotate.commands.parser import CommandParser, command_parser, usage_errors
from fdam_rotate.commands.values import (
    class_list,
    config_file,
    existing_path,
    gpu_number,
    non_negative_int,
    positive_float,
    positive_int,
)
from fdam_rotate.dota.splitting.presets import MEAN_COLOUR
from fdam_rotate.dota.words import counted

if TYPE_CHECKING:
    from fdam_rotate.apis.predict import TorchModel
    from fdam_rotate.dota.layout import SourceImage
    from fdam_rotate.dota.predicting.onnx_model import OnnxModel
    from fdam_rotate.dota.workers import Pool


def build_parser() -> CommandParser:
    """The command line; windows have the flags of data_prep/split.py."""
    parser = command_parser("predict", __doc__, "tools/predict.py", _check)
    parser.usage = "%(prog)s (MODEL.onnx | CONFIG CHECKPOINT) IMAGE [IMAGE ...] --out DIR [options]"
    parser.add_argument(
        "model",
        type=config_file,
        help="model.onnx of fdam-rotate export, or a config (Python; ours also by name) with its checkpoint after it",
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=existing_path,
        metavar="IMAGE",
        help="images, or folders of images; before them the checkpoint (.pth or .safetensors) where a config is given",
    )
    add_out(parser, "output folder, or a run to go on with")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=positive_int,
        metavar="PX",
        help="windows (default: what model.onnx says, else 1024)",
    )
    parser.add_argument(
        "--gaps",
        nargs="+",
        type=non_negative_int,
        metavar="PX",
        help="their overlap, one per size (default: what model.onnx says, else 200)",
    )
    parser.add_argument(
        "--rates",
        nargs="+",
        type=positive_float,
        default=[1.0],
        metavar="RATE",
        help="scales: windows of size/rate (default: 1)",
    )
    add_padding_value(parser, MEAN_COLOUR, "104 116 124, the mean colour that the presets of split take")
    add_raster_arguments(parser)
    parser.add_argument(
        "--batch-size", type=positive_int, default=1, metavar="N", help="windows at a time (default: 1)"
    )
    scores = parser.add_mutually_exclusive_group()
    add_score_thr(scores, "least score that is written", 0.05)
    scores.add_argument(
        "--score-thr-file",
        type=_class_scores,
        metavar="FILE",
        help="least score per class, as fdam-rotate evaluate --thresholds writes them",
    )
    add_iou_thr(parser, "overlap above which the box of the lower score goes", 0.1)
    add_nms_agnostic(parser)
    classes = "keep these classes only: names with commas, a .txt file with one per line, or v1.0, v1.5, v2.0"
    parser.add_argument("--classes", type=class_list, metavar="LIST", help=f"{classes} (default: all of the model)")
    parser.add_argument("--keep-crs", action="store_true", help="GeoJSON in the image's own coordinate system")
    parser.add_argument("--gpkg", action="store_true", help="a GeoPackage beside each GeoJSON file, gpkg/<id>.gpkg")
    parser.add_argument(
        "--html",
        action="store_true",
        help="a page per image, html/<id>.html, with the image inside: pan, zoom, choose by score and class",
    )
    add_detection_files(parser)
    parser.add_argument(
        "--runtime",
        choices=("auto", "onnxruntime", "openvino"),
        default="auto",
        help="what runs model.onnx (default: auto, OpenVINO where it is installed)",
    )
    add_device(parser, "; auto runs model.onnx on the CPU")
    add_precision(parser)
    add_workers(parser, "processes, each with its own model; they share the cores, or have a GPU each where there are")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch"),
        default="none",
        help="pytorch: under torchrun, with a checkpoint; its processes share the work",
    )
    parser.add_argument("--local_rank", "--local-rank", type=non_negative_int, default=0, help=argparse.SUPPRESS)
    add_overwrite(parser, "a finished run; what it has predicted alike is not repeated")
    add_cfg_options(parser)
    add_unsafe_load(parser)
    parser.add_former("--gpu-id", "--device", gpu_number)
    return parser


def _class_scores(text: str) -> dict[str, float]:
    """Type of an option: a JSON file of class -> least score in [0, 1]."""
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.jsontext import read_json

    try:
        content = read_json(Path(text))
    except (OSError, DotaError):
        content = None
    if not isinstance(content, dict):
        raise argparse.ArgumentTypeError(f"{text} is no JSON file of class: least score")
    for name, value in content.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise argparse.ArgumentTypeError(f"{text}: {name}: expected a number from 0 to 1, got {value!r}")
    return {name: float(value) for name, value in content.items()}


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    exported = args.model.suffix == ".onnx"
    if not exported and len(args.images) < 2:
        parser.error("give CONFIG CHECKPOINT IMAGE..., or MODEL.onnx IMAGE...")
    if exported and args.precision != "fp32":
        parser.error(f"--precision {args.precision} needs CONFIG CHECKPOINT: an exported model has its own precision")

    if args.launcher != "none" and exported:
        parser.error("--launcher is for CONFIG CHECKPOINT; give --nproc")
    several = [args.nproc > 1, args.scheduler is not None, args.launcher != "none"]
    if sum(several) > 1:
        parser.error("give one of --nproc, --scheduler and --launcher")
    if ":" in args.device and any(several):
        parser.error(f"--device {args.device} is for one process; CUDA_VISIBLE_DEVICES says which GPUs several share")


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that can be checked, then predict."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.launcher == "pytorch":
        from fdam_rotate.dota.predicting.parts import choose_gpu

        choose_gpu()
        from fdam_rotate.apis.ranks import Ranks, join_ranks, serve

        met = join_ranks()
        if not isinstance(met, Ranks):
            return serve(met)
        with met:
            return _predict(parser, args, met)
    return _predict(parser, args, None)


def _predict(parser: CommandParser, args: argparse.Namespace, pool: Pool | None) -> int:
    exported = args.model.suffix == ".onnx"
    checkpoint, images = (None, args.images) if exported else (args.images[0], args.images[1:])

    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.names import escape_note
    from fdam_rotate.dota.outputs import check_inputs
    from fdam_rotate.dota.splitting.options import SplitOptions

    model: OnnxModel | TorchModel
    size, gap = 1024, 200
    if exported:
        from fdam_rotate.dota.predicting.onnx_model import OnnxModel

        model = OnnxModel(args.model, runtime=args.runtime, device=args.device)
        size, gap = model.card.height, model.card.gap
        if model.card.width != size:
            raise DotaError(f"{args.model} takes {size} x {model.card.width} pixels; windows are square: export it so")
    raster = raster_options(parser, args)
    with usage_errors(parser):
        options = SplitOptions(
            sizes=tuple(args.sizes or [size]),
            gaps=tuple(args.gaps or [gap]),
            rates=tuple(args.rates),
            padding_value=tuple(args.padding_value),
            raster=raster,
        )
    check_inputs(args.out, [args.model, *args.images])
    failures: list[str] = []
    notes: list[str] = []
    sources = _sources(images, failures, notes)
    for line in [*notes, *failures]:
        print(line, file=sys.stderr)
    if checkpoint is not None:
        model = _torch_model(args, checkpoint)
        if args.bands is None and list(args.scale_range) == ["auto"]:
            options = replace(options, raster=model.raster)
    for line in _beyond_model(model, args):
        print(line, file=sys.stderr)

    from fdam_rotate.dota.predicting.predict import predict_images

    started = time.monotonic()
    summary = predict_images(
        model,
        sources,
        args.out,
        options,
        batch_size=args.batch_size,
        score_thr=args.score_thr if args.score_thr_file is None else args.score_thr_file,
        iou_thr=args.iou_thr,
        nms_agnostic=args.nms_agnostic,
        only=args.classes,
        csv=args.csv,
        keep_crs=args.keep_crs,
        gpkg=args.gpkg,
        html=args.html,
        nproc=args.nproc,
        scheduler=args.scheduler,
        pool=pool,
        overwrite=args.overwrite,
        progress=True,
    )
    failures += summary.failures
    resumed = f" ({summary.resumed:,} of them earlier)" if summary.resumed else ""
    empty = f", {summary.empty:,} without data" if summary.empty else ""
    pages = f", {counted(summary.pages, 'page')} in {args.out / 'html'}" if args.html else ""
    print(
        f"{counted(summary.images, 'image')}, {counted(summary.windows, 'patch')}{resumed}{empty}: "
        f"{counted(summary.detections, 'detection')} in {args.out}, {counted(summary.geojson, 'GeoJSON file')}{pages}; "
        f"{counted(len(failures), 'image')} left out; "
        f"{time.monotonic() - started:.1f} s"
    )
    if args.labels is not None:
        _write_labels(args.labels, args.out, sources, summary.classes, args.overwrite)
    escaped = escape_note(source.image_id for source in sources)
    for line in [*([escaped] if escaped else []), *summary.notes, *summary.failures]:
        print(line, file=sys.stderr)
    return 1 if failures else 0


def _beyond_model(model: OnnxModel | TorchModel, args: argparse.Namespace) -> Iterator[str]:
    """What is asked for that the model's own last step, which comes before, has thrown away already."""
    scores = args.score_thr_file or {"": args.score_thr}
    kept = [score for name, score in scores.items() if not name or name in (args.classes or scores)]
    least = min(kept, default=1.0)  # of a file that lacks them all is said below
    how = "; see model.test_cfg of the config" + (" that it is exported with" if args.model.suffix == ".onnx" else "")
    if least < model.score_thr:
        yield f"the model itself leaves out what it scores {model.score_thr:g} or less, {least:g} is below{how}"
    if args.iou_thr > model.iou_thr:
        yield (
            f"the model itself drops boxes that overlap a better one of their window by more than {model.iou_thr:g}; "
            f"--iou-thr {args.iou_thr:g} is more and acts between windows only{how}"
        )


def _torch_model(args: argparse.Namespace, checkpoint: Path) -> TorchModel:
    from fdam_rotate.apis.compat import TESTING_PARTS, load_config
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.predict import TorchModel

    return TorchModel(
        load_config(args.model, dict(args.cfg_options), needs=TESTING_PARTS),
        checkpoint,
        batch_size=args.batch_size,
        device=args.device,
        precision=args.precision,
        unsafe_load=args.unsafe_load,
    )


def _write_labels(
    format: str, out: Path, sources: Sequence[SourceImage], classes: Sequence[str], overwrite: bool
) -> None:
    """The detections that were written to ``out`` as label files; images that could not be read have none."""
    from fdam_rotate.dota.detections import read_detections
    from fdam_rotate.dota.errors import ImageReadError
    from fdam_rotate.dota.formats.from_detections import write_labels
    from fdam_rotate.dota.rasters.images import image_size

    sizes = {}
    for source in sources:
        with contextlib.suppress(ImageReadError, OSError):  # reported before
            sizes[source.image_id] = image_size(source.path)
    names = {source.image_id: source.path.name for source in sources}
    found = read_detections(out, classes=classes)
    for line in write_labels(format, out / "labels", found, sizes, classes, file_names=names, overwrite=overwrite):
        print(line)


def _sources(images: Sequence[Path], failures: list[str], notes: list[str]) -> list[SourceImage]:
    """The images named and those in the folders named, sorted by id.

    Args:
        images: as the user gave them.
        failures: gets a line for each image that is left out.
        notes: gets a line for each folder that holds what is not read, and for ids that are hardly different.
    """
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.layout import IMAGE_SUFFIXES, SourceImage, list_sources, passed_over
    from fdam_rotate.dota.names import check_image_id
    from fdam_rotate.dota.problems import Problem

    found: dict[str, SourceImage] = {}
    for path in images:
        if path.is_dir():
            problems: list[Problem] = []
            here = list_sources([path], [None], problems)
            failures += [str(problem) for problem in problems if problem.severity == "error"]
            problems += filter(None, [passed_over(path)])
            notes += [str(problem) for problem in problems if problem.severity == "warning"]
        elif path.suffix.lower() not in (*IMAGE_SUFFIXES, ".vrt"):  # a VRT names other files: never from a folder
            raise DotaError(f"{path}: expected one of {' '.join(IMAGE_SUFFIXES)} .vrt")
        else:
            here = [SourceImage(check_image_id(path.stem), path, None)]
        for source in here:
            if source.image_id in found and source.path.resolve() != found[source.image_id].path.resolve():
                failures.append(f"{source.path}: has the id of {found[source.image_id].path}; it is left out")
            else:
                found[source.image_id] = source
    return [found[image_id] for image_id in sorted(found)]
