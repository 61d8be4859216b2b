"""Detect objects on whole images of any size, your own too: no splitting, no labels, no data set.

    fdam-rotate predict model.onnx photo.png scenes/ --out work_dirs/found
    fdam-rotate predict CONFIG CHECKPOINT photo.png scenes/ --out work_dirs/found
    fdam-rotate predict CONFIG CHECKPOINT city.tif --out work_dirs/city --rates 0.5 1.0 --batch-size 8

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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdam_rotate.commands.arguments import (
    add_precision,
    add_raster_arguments,
    command_parser,
    config_file,
    parse_options,
    raster_options,
    require_files,
)
from fdam_rotate.dota.formats.table import FORMATS

if TYPE_CHECKING:
    from fdam_rotate.dota.layout import SourceImage
    from fdam_rotate.dota.predicting.model import WindowModel


def build_parser() -> argparse.ArgumentParser:
    """The command line; windows have the flags of data_prep/split.py."""
    parser = command_parser("predict", __doc__, "tools/predict.py")
    parser.usage = "%(prog)s (MODEL.onnx | CONFIG CHECKPOINT) IMAGE [IMAGE ...] --out DIR [options]"
    parser.add_argument(
        "model",
        type=config_file,
        help="model.onnx of fdam-rotate export, or a config (Python; ours also by name) with its checkpoint after it",
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="images, or folders of images; before them the checkpoint (.pth or .safetensors) where a config is given",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder, or a run to go on with")
    parser.add_argument(
        "--sizes", nargs="+", type=int, metavar="PX", help="windows (default: what model.onnx says, else 1024)"
    )
    parser.add_argument(
        "--gaps",
        nargs="+",
        type=int,
        metavar="PX",
        help="their overlap, one per size (default: what model.onnx says, else 200)",
    )
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=[1.0],
        metavar="RATE",
        help="scales: windows of size/rate (default: 1)",
    )
    add_raster_arguments(parser)
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="windows at a time (default: 1)")
    parser.add_argument(
        "--score-thr",
        type=_score_thr,
        default=0.05,
        metavar="SCORE|FILE",
        help="least score that is written (default: 0.05), or a file with one per class (evaluate --thresholds)",
    )
    parser.add_argument(
        "--iou-thr", type=float, default=0.1, metavar="IOU", help="overlap above which a box goes (default: 0.1)"
    )
    parser.add_argument("--keep-crs", action="store_true", help="GeoJSON in the image's own coordinate system")
    parser.add_argument("--gpkg", action="store_true", help="a GeoPackage beside each GeoJSON file, gpkg/<id>.gpkg")
    parser.add_argument(
        "--html",
        action="store_true",
        help="a page an image, html/<id>.html, with the image inside: pan, zoom, choose by score and class",
    )
    labels = "also write OUT/labels, to correct by hand and train again: " + ", ".join(FORMATS)
    parser.add_argument("--labels", choices=tuple(FORMATS), metavar="FORMAT", help=labels)
    parser.add_argument(
        "--runtime",
        choices=("auto", "onnxruntime", "openvino"),
        default="auto",
        help="what runs model.onnx (default: auto, OpenVINO where it is installed)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of model.onnx (default: cpu)")
    add_precision(parser)
    parser.add_argument("--gpu-id", type=int, default=0, help="number of the GPU for a checkpoint (default: 0)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a finished run; what it has predicted alike is not repeated"
    )
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="override settings of the config")
    parser.add_argument("--unsafe-load", action="store_true", help="open a checkpoint that carries code")
    return parser


def _score_thr(text: str) -> float | dict[str, float]:
    """A threshold in [0, 1], or a JSON file of class -> threshold."""
    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.jsontext import read_json

    try:
        content: object = float(text)
    except ValueError:
        try:
            content = read_json(Path(text))
        except (OSError, DotaError):
            raise argparse.ArgumentTypeError(
                f"{text} is neither a number nor a JSON file of class: threshold"
            ) from None
    numbers = content if isinstance(content, dict) else {"": content}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            where = f"{text}: {name}: " if name else ""
            raise argparse.ArgumentTypeError(f"{where}expected a number in [0, 1], got {value!r}")
    return {name: float(value) for name, value in numbers.items()} if isinstance(content, dict) else numbers[""]


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that can be checked, then predict."""
    parser = build_parser()
    args = parser.parse_args(argv)
    cfg_options = parse_options(parser, args.cfg_options)
    if not 0 <= args.iou_thr <= 1:
        parser.error(f"--iou-thr must lie in [0, 1], got {args.iou_thr}")
    if args.batch_size < 1:
        parser.error(f"--batch-size must be at least 1, got {args.batch_size}")
    exported = args.model.suffix == ".onnx"
    checkpoint, images = (None, args.images) if exported else (args.images[0], args.images[1:])
    if not images:
        parser.error("give CONFIG CHECKPOINT IMAGE..., or MODEL.onnx IMAGE...")
    require_files(args.model, checkpoint)

    from fdam_rotate.dota.errors import DotaError
    from fdam_rotate.dota.outputs import check_inputs
    from fdam_rotate.dota.splitting.options import SplitOptions

    model: WindowModel
    size, gap = 1024, 200
    if exported:
        from fdam_rotate.dota.predicting.onnx_model import OnnxModel

        if args.precision != "fp32":
            parser.error(
                f"--precision {args.precision} needs CONFIG CHECKPOINT: an exported model has its own precision"
            )
        model = OnnxModel(args.model, runtime=args.runtime, device=args.device)
        size, gap = model.card.height, model.card.gap
        if model.card.width != size:
            raise DotaError(f"{args.model} takes {size} x {model.card.width} pixels; windows are square: export it so")
    try:
        options = SplitOptions(
            sizes=tuple(args.sizes or [size]),
            gaps=tuple(args.gaps or [gap]),
            rates=tuple(args.rates),
            raster=raster_options(parser, args),
        )
    except DotaError as error:
        parser.error(str(error))
    check_inputs(args.out, [args.model, *args.images])
    failures: list[str] = []
    notes: list[str] = []
    sources = _sources(images, failures, notes)
    for line in [*notes, *failures]:
        print(line, file=sys.stderr)
    if checkpoint is not None:
        model = _torch_model(args, checkpoint, cfg_options)

    from fdam_rotate.dota.predicting.predict import predict_images

    started = time.monotonic()
    summary = predict_images(
        model,
        sources,
        args.out,
        options,
        batch_size=args.batch_size,
        score_thr=args.score_thr,
        iou_thr=args.iou_thr,
        keep_crs=args.keep_crs,
        gpkg=args.gpkg,
        html=args.html,
        overwrite=args.overwrite,
        progress=True,
    )
    failures += summary.failures
    resumed = f" ({summary.resumed:,} of them earlier)" if summary.resumed else ""
    empty = f", {summary.empty:,} without data" if summary.empty else ""
    pages = f", {summary.pages:,} pages in {args.out / 'html'}" if args.html else ""
    print(
        f"{summary.images:,} images, {summary.windows:,} patches{resumed}{empty}: {summary.detections:,} detections in "
        f"{args.out}, {summary.geojson} GeoJSON files{pages}; {len(failures)} images left out; "
        f"{time.monotonic() - started:.1f} s"
    )
    if args.labels is not None:
        _write_labels(args.labels, args.out, sources, model.classes, args.overwrite)
    for line in [*summary.notes, *summary.failures]:
        print(line, file=sys.stderr)
    return 1 if failures else 0


def _torch_model(args: argparse.Namespace, checkpoint: Path, cfg_options: dict[str, Any]) -> WindowModel:
    from fdam_rotate.apis.compat import load_config
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.predict import TorchModel

    return TorchModel(
        load_config(args.model, cfg_options),
        checkpoint,
        batch_size=args.batch_size,
        gpu_id=args.gpu_id,
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
        notes: gets a line for each folder that holds what is not read, and for ids that are hardly told apart.
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
        elif not path.is_file():
            raise FileNotFoundError(f"no such image or folder: {path}")
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
