"""Write a detector as one ONNX file that predicts without torch (fdam-rotate predict model.onnx IMAGE... --out DIR).

    fdam-rotate export CONFIG CHECKPOINT --out lsk_s_fdam.onnx --shape 1024 1024 --check
    fdam-rotate export CONFIG CHECKPOINT --out features.onnx --features
    fdam-rotate export CONFIG CHECKPOINT --out features.pt --features

Input: `image`, (batch, 3, H, W) uint8, RGB. Outputs: `boxes` (batch, M, 5) cx, cy, w, h in pixels and the angle in
radians, clockwise; `scores` and `labels` (batch, M), best first; `count` (batch,), the rows scored above the config's
threshold. Standard operators only; the suppression of rotated boxes is left to whoever runs it (fdam_rotate.dota does).
The file's metadata holds the model card: classes, size, thresholds, checksum of the checkpoint, versions.

With --for deepness: the form that the QGIS plugin Deepness (0.6.5 and later) opens, its settings in the metadata.
With --features: backbone and neck alone, to ONNX or TorchScript; `image` is then float32, normalised as the config
says. FFTs become products with fixed matrices, so that any runtime can run them; hence one size.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.commands.arguments import command_parser, config_file, parse_options, require_files


def build_parser() -> argparse.ArgumentParser:
    """A model, a file and a size."""
    parser = command_parser("export", __doc__, "tools/export.py")
    parser.add_argument("config", type=config_file, help="config file (Python)")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="checkpoint; without it the weights are random")
    parser.add_argument("--out", type=Path, required=True, help="file to write: .onnx (with --features .pt too)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--features", action="store_true", help="backbone and neck only")
    form.add_argument(
        "--for", dest="form", choices=("deepness",), help="the form of a program: Deepness, a QGIS plugin"
    )
    parser.add_argument("--shape", nargs=2, type=int, default=[1024, 1024], metavar=("H", "W"), help="pixels (1024)")
    parser.add_argument("--batch", type=int, default=1, help="images in a call (default: 1)")
    parser.add_argument(
        "--gap", type=int, default=200, metavar="PX", help="overlap of windows, kept in the card (default: 200)"
    )
    parser.add_argument("--trained-on", metavar="TEXT", help="the training data in words, kept in the card")
    parser.add_argument("--licence", metavar="TEXT", help="licence of these data, kept in the card")
    parser.add_argument("--gsd", type=float, metavar="M", help="metres per pixel that it was trained at, for the card")
    parser.add_argument("--check", action="store_true", help="run the file and compare it with the detector")
    parser.add_argument(
        "--tolerance", type=float, help="largest difference that passes (default: 1e-3 of a score, 1e-4 of features)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --out")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="override settings of the config")
    parser.add_argument("--unsafe-load", action="store_true", help="open a checkpoint that carries code")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Export, and say what was written."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if min(args.batch, *args.shape) < 1:
        parser.error("--batch and --shape must be at least 1")
    cfg_options = parse_options(parser, args.cfg_options)
    require_files(args.config, args.checkpoint)
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.exporting.writing import check_export_target

    suffixes = (".onnx", ".pt") if args.features else (".onnx",)
    check_export_target(args.out, suffixes=suffixes, overwrite=args.overwrite, inputs=[args.config, args.checkpoint])
    detector, cfg = build_model(args.config, args.checkpoint, unsafe=args.unsafe_load, options=cfg_options)
    if args.features:
        from fdam_rotate.apis.exporting.features import export_features

        features = export_features(
            detector,
            args.out,
            args.shape,
            batch=args.batch,
            check=args.check,
            tolerance=1e-4 if args.tolerance is None else args.tolerance,
            norm=cfg.get("img_norm_cfg"),
            overwrite=args.overwrite,
        )
        lines = [f"{name}: {' x '.join(map(str, shape))}" for name, shape in features.outputs]
        layers, difference = features.freq_layers, features.difference
    else:
        from fdam_rotate.apis.exporting.detector import class_names, export_detector, normalisation
        from fdam_rotate.dota.files import sha256_of

        report = export_detector(
            detector,
            args.out,
            args.shape,
            norm=normalisation(cfg),
            classes=class_names(cfg),
            config=args.config.name,
            batch=args.batch,
            gap=args.gap,
            checkpoint_sha256=None if args.checkpoint is None else sha256_of(args.checkpoint),
            trained_on=args.trained_on,
            licence=args.licence,
            gsd=args.gsd,
            check=args.check,
            tolerance=1e-3 if args.tolerance is None else args.tolerance,
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
    print(f"wrote {args.out}, {size:.1f} MB, {layers} FFT layers as matrix products, {checked}")
    return 0
