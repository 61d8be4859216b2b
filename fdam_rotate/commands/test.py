"""Predict every patch of a data set once; then score, submit or draw from what was written.

    fdam-rotate test CONFIG CHECKPOINT --split val --eval mAP
    fdam-rotate test CONFIG CHECKPOINT --format-only --eval-options submission_dir=work_dirs/submission
    torchrun --nproc_per_node=8 -m fdam_rotate.commands test CONFIG CHECKPOINT --launcher pytorch --format-only

Writes WORK_DIR/patch_detections/: Task1_<class>.txt with lines `patch_id score x1 y1 ... x4 y4` in patch pixels, and
patches.txt, the ids of all tested patches. fdam-rotate merge and fdam-rotate evaluate read the same files later.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.commands.arguments import add_precision, command_parser, config_file, parse_options, require_files


def build_parser() -> argparse.ArgumentParser:
    """MMRotate's flags; results are text, so that --out names a folder and never a pickle."""
    parser = command_parser("test", __doc__, "tools/test.py")
    parser.add_argument("config", type=config_file, help="config file (Python), or the name of one of ours")
    parser.add_argument("checkpoint", help="checkpoint file (.pth or .safetensors)")
    parser.add_argument("--work-dir", help="where results go (default: work_dirs/<config name>)")
    parser.add_argument("--out", metavar="DIR", help="folder of patch detections (default: WORK_DIR/patch_detections)")
    parser.add_argument(
        "--split", choices=["test", "val"], default="test", help="which of the config's data (default: test)"
    )
    parser.add_argument("--eval", nargs="+", metavar="mAP", help="score merged whole images (patches without gt_dir)")
    parser.add_argument("--format-only", action="store_true", help="merge and write a submission folder and zip")
    parser.add_argument(
        "--eval-options",
        nargs="+",
        metavar="KEY=VALUE",
        help="for --eval: iou_thr=0.5 (or [0.5,0.75]) ap=voc07|voc12; for --format-only: submission_dir=DIR",
    )
    parser.add_argument("--show-dir", metavar="DIR", help="draw the detections on every patch into this folder")
    parser.add_argument("--show-score-thr", type=float, default=0.3, help="draw from this score up (default: 0.3)")
    parser.add_argument("--fuse-conv-bn", action="store_true", help="fold BatchNorm into convolutions: a little faster")
    add_precision(parser)
    parser.add_argument("--gpu-id", type=int, default=0, help="number of the GPU, without a launcher (default: 0)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the files of an earlier test in the output folders"
    )
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="override settings of the config")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="pytorch: under torchrun"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--unsafe-load", action="store_true", help="open a checkpoint that carries code")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check outputs and inputs before the model is loaded; predict; then score, submit or draw."""
    parser = build_parser()
    args = parser.parse_args(argv)
    options = parse_options(parser, args.cfg_options)
    eval_options = parse_options(parser, args.eval_options) or {}
    if args.eval not in (None, ["mAP"]):
        parser.error(f"--eval takes mAP, not {' '.join(args.eval)}")
    allowed = ({"iou_thr", "ap"} if args.eval else set()) | ({"submission_dir"} if args.format_only else set())
    if unknown := sorted(set(eval_options) - allowed):
        parser.error(f"--eval-options {', '.join(unknown)}: not known with these flags; known: {sorted(allowed)}")
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    require_files(args.config, args.checkpoint)

    from fdam_rotate.apis.compat import load_config
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.testing import Outputs, run_test

    cfg = load_config(args.config, options)
    work_dir = Path(args.work_dir or cfg.get("work_dir") or Path("work_dirs") / Path(args.config).stem)
    outputs = Outputs(
        detections=Path(args.out) if args.out else work_dir / "patch_detections",
        submission=Path(eval_options.pop("submission_dir", work_dir / "submission")) if args.format_only else None,
        pictures=Path(args.show_dir) if args.show_dir else None,
    )
    return run_test(
        cfg,
        args.checkpoint,
        outputs,
        split=args.split,
        score=eval_options if args.eval else None,
        score_thr=args.show_score_thr,
        fuse_conv_bn=args.fuse_conv_bn,
        precision=args.precision,
        launcher=args.launcher,
        gpu_id=args.gpu_id,
        overwrite=args.overwrite,
        unsafe_load=args.unsafe_load,
    )
