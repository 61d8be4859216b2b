"""Write a detector as one ONNX file that predicts without torch (fdam-rotate predict model.onnx IMAGE... --out DIR).

    fdam-rotate export CONFIG CHECKPOINT --out lsk_s_fdam.onnx --shape 1024 1024 --check
    fdam-rotate export CONFIG CHECKPOINT --out features.onnx --features
    fdam-rotate export CONFIG CHECKPOINT --out features.pt --features

Input: `image`, (batch, 3, H, W) uint8, RGB, of the size of the windows that will be predicted; it is resized inside as
the config's test pipeline says. Outputs: `boxes` (batch, M, 5) cx, cy, w, h in pixels of the input and the angle in
radians, clockwise; `scores` and `labels` (batch, M), best first; `count` (batch,), the rows scored above the config's
threshold. Standard operators only; the suppression of rotated boxes is left to whoever runs it (fdam_rotate.dota does).
The file's metadata holds the model card: classes, size, thresholds, checksum of the checkpoint, versions.

With --precision fp16 the weights take half the room; with int8 convolutions are computed in 8 bits, whose ranges are
seen on the images that --calibrate names. docs/predict.md says what that costs in AP, and in time.
With --for deepness: the form that the QGIS plugin Deepness (0.6.5 and later) opens, its settings in the metadata.
With --features: backbone and neck alone, to ONNX or TorchScript; `image` is then float32, normalised as the config
says. FFTs become products with fixed matrices, so that any runtime can run them; hence one size.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.commands.arguments import add_cfg_options, add_out, add_overwrite, add_unsafe_load
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import (
    config_file,
    existing_file,
    existing_path,
    non_negative_int,
    positive_float,
    positive_int,
)

#: Names of precisions on the command line, as predict has them, and in model cards.
_PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


def build_parser() -> CommandParser:
    """A model, a file and a size."""
    parser = command_parser("export", __doc__, "tools/export.py", _check)
    parser.add_argument("config", type=config_file, help="config file (Python)")
    parser.add_argument(
        "checkpoint", type=existing_file, nargs="?", help="checkpoint; without it the weights are random"
    )
    add_out(parser, "file to write: .onnx (with --features .pt too)", metavar="FILE")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--features", action="store_true", help="backbone and neck only")
    form.add_argument(
        "--for", dest="form", choices=("deepness",), help="the form of a program: Deepness, a QGIS plugin"
    )
    parser.add_argument(
        "--shape", nargs=2, type=positive_int, default=[1024, 1024], metavar=("H", "W"), help="pixels (1024)"
    )
    parser.add_argument("--batch-size", type=positive_int, default=1, metavar="N", help="images in a call (default: 1)")
    parser.add_former("--batch", "--batch-size")
    parser.add_argument(
        "--gap",
        type=non_negative_int,
        default=200,
        metavar="PX",
        help="overlap of windows, kept in the card (default: 200)",
    )
    parser.add_argument(
        "--precision",
        choices=_PRECISIONS,
        default="fp32",
        help="of weights, and with int8 of convolutions (default: fp32)",
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        type=existing_path,
        default=[],
        metavar="IMAGE",
        help="for int8: images, or folders of them",
    )
    parser.add_argument("--trained-on", metavar="TEXT", help="the training data in words, kept in the card")
    parser.add_argument("--licence", metavar="TEXT", help="licence of these data, kept in the card")
    parser.add_argument(
        "--gsd", type=positive_float, metavar="M", help="metres per pixel that it was trained at, for the card"
    )
    parser.add_argument("--check", action="store_true", help="run the file and compare it with the detector")
    parser.add_argument(
        "--tolerance",
        type=positive_float,
        help="largest difference that passes (default: of a score 1e-3, with fp16 1e-2, with int8 0.2; features 1e-4)",
    )
    add_overwrite(parser, "--out")
    add_cfg_options(parser)
    add_unsafe_load(parser)
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    if args.features and args.precision != "fp32":
        parser.error(f"--precision {args.precision} is for the whole detector, not for --features")
    if (args.precision == "int8") != bool(args.calibrate):
        parser.error("--precision int8 and --calibrate IMAGE... go together: the ranges of 8 bits are seen on images")


def main(argv: Sequence[str] | None = None) -> int:
    """Export, and say what was written."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.exporting.writing import check_export_target

    suffixes = (".onnx", ".pt") if args.features else (".onnx",)
    check_export_target(args.out, suffixes=suffixes, overwrite=args.overwrite, inputs=[args.config, args.checkpoint])
    detector, cfg = build_model(args.config, args.checkpoint, unsafe=args.unsafe_load, options=dict(args.cfg_options))
    if args.features:
        from fdam_rotate.apis.exporting.features import export_features

        features = export_features(
            detector,
            args.out,
            args.shape,
            batch=args.batch_size,
            check=args.check,
            tolerance=1e-4 if args.tolerance is None else args.tolerance,
            norm=cfg.get("img_norm_cfg"),
            overwrite=args.overwrite,
        )
        lines = [f"{name}: {' x '.join(map(str, shape))}" for name, shape in features.outputs]
        layers, difference = features.freq_layers, features.difference
    else:
        from fdam_rotate.apis.exporting.detector import class_names, export_detector, preparation
        from fdam_rotate.dota.files import sha256_of

        calibration = [image for path in args.calibrate for image in _images(path)]
        report = export_detector(
            detector,
            args.out,
            args.shape,
            steps=preparation(cfg),
            classes=class_names(cfg),
            config=args.config.name,
            batch=args.batch_size,
            gap=args.gap,
            checkpoint_sha256=None if args.checkpoint is None else sha256_of(args.checkpoint),
            trained_on=args.trained_on,
            licence=args.licence,
            gsd=args.gsd,
            precision=_PRECISIONS[args.precision],
            calibration=calibration,
            check=args.check,
            tolerance=args.tolerance,
            deepness=args.form == "deepness",
            overwrite=args.overwrite,
        )
        card = report.card
        lines = [f"{card.detector}, {len(card.classes)} classes, {card.max_boxes:,} candidates for an image"]
        layers, difference = report.freq_layers, report.difference
    for line in lines:
        print(line)
    checked = "not checked" if difference is None else f"differs from the detector by {difference:.1e}"
    size = args.out.stat().st_size / 1e6
    print(f"wrote {args.out}, {size:.1f} MB ({args.precision}), {layers} FFT layers as matrix products, {checked}")
    return 0


def _images(path: Path) -> list[Path]:
    """An image, or those of a folder."""
    if not path.is_dir():
        return [path]
    from fdam_rotate.apis.analysis.features import list_images

    return list_images(path)
