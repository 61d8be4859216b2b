"""Export backbone and neck of a detector to ONNX or TorchScript at a fixed image size, and check the result.

    fdam-rotate export CONFIG CHECKPOINT --out lsk_s_fdam.onnx --shape 1024 1024 --check
    fdam-rotate export CONFIG CHECKPOINT --out lsk_s_fdam.pt --shape 1024 1024

Input: `image`, (batch, 3, H, W) float32, RGB, normalised as the config's img_norm_cfg says (kept in the ONNX metadata).
Outputs: `level0` ... fine to coarse, the maps of the neck. The heads are not exported: the two-stage head of Oriented
R-CNN needs rotated RoIAlign and rotated NMS, which ONNX does not have. FFTs become products with fixed matrices, so
that any runtime can run them; hence one size.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.commands.arguments import command_parser, config_file


def build_parser() -> argparse.ArgumentParser:
    """A model, a file and a size."""
    parser = command_parser("export", __doc__, "tools/export.py")
    parser.add_argument("config", type=config_file, help="config file (Python)")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="checkpoint; without it the weights are random")
    parser.add_argument("--out", type=Path, required=True, help="file to write: .onnx or .pt (TorchScript)")
    parser.add_argument("--shape", nargs=2, type=int, default=[1024, 1024], metavar=("H", "W"), help="pixels (1024)")
    parser.add_argument("--batch", type=int, default=1, help="images in a call (default: 1)")
    parser.add_argument("--check", action="store_true", help="run the file and compare it with the detector")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference that passes (default: 1e-4)")
    parser.add_argument("--overwrite", action="store_true", help="replace --out")
    parser.add_argument("--unsafe-load", action="store_true", help="open a checkpoint that carries code")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Export, and say what was written."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if min(args.batch, *args.shape) < 1:
        parser.error("--batch and --shape must be at least 1")
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.export import check_export_target, export_features

    check_export_target(args.out, overwrite=args.overwrite, inputs=[args.config, args.checkpoint])
    detector, cfg = build_model(args.config, args.checkpoint, unsafe=args.unsafe_load)
    report = export_features(
        detector,
        args.out,
        args.shape,
        batch=args.batch,
        check=args.check,
        tolerance=args.tolerance,
        norm=cfg.get("img_norm_cfg"),
        overwrite=args.overwrite,
    )
    for name, shape in report.outputs:
        print(f"{name}: {' x '.join(map(str, shape))}")
    checked = "not checked" if report.difference is None else f"differs from the detector by {report.difference:.1e}"
    size = report.path.stat().st_size / 1e6
    print(f"wrote {report.path}, {size:.1f} MB, {report.freq_layers} FFT layers as matrix products, {checked}")
    return 0
