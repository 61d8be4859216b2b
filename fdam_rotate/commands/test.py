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

from fdam_rotate.commands.arguments import (
    add_cfg_options,
    add_device,
    add_nms_agnostic,
    add_out,
    add_overwrite,
    add_precision,
    add_score_thr,
    add_unsafe_load,
)
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import config_file, existing_file, gpu_number, key_value, non_negative_int


def build_parser() -> CommandParser:
    """MMRotate's flags; results are text, so that --out names a folder and never a pickle."""
    parser = command_parser("test", __doc__, "tools/test.py", _check)
    parser.add_argument("config", type=config_file, help="config file (Python), or the name of one of ours")
    parser.add_argument("checkpoint", type=existing_file, help="checkpoint file (.pth or .safetensors)")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where results go (default: work_dirs/<config name>)"
    )
    add_out(parser, "folder of patch detections (default: WORK_DIR/patch_detections)", required=False)
    parser.add_argument(
        "--split", choices=["test", "val"], default="test", help="which of the config's data (default: test)"
    )
    parser.add_argument(
        "--eval", nargs="+", choices=("mAP",), metavar="mAP", help="score merged whole images (patches without gt_dir)"
    )
    parser.add_argument("--format-only", action="store_true", help="merge and write a submission folder and zip")
    parser.add_argument(
        "--eval-options",
        nargs="+",
        type=key_value,
        default=(),
        metavar="KEY=VALUE",
        help="for --eval: iou_thr=0.5 (or [0.5,0.75]) ap=voc07|voc12; for --format-only: submission_dir=DIR",
    )
    parser.add_argument(
        "--show-dir", type=Path, metavar="DIR", help="draw the detections on every patch into this folder"
    )
    add_score_thr(parser, "least score that --show-dir draws", 0.3, mmrotate="--show-score-thr")
    add_nms_agnostic(parser)
    parser.add_argument("--fuse-conv-bn", action="store_true", help="fold BatchNorm into convolutions: a little faster")
    add_precision(parser)
    add_device(parser, "; under a launcher each process has its own GPU")
    parser.add_former("--gpu-id", "--device", gpu_number)
    add_overwrite(parser, "the files of an earlier test in the output folders")
    add_cfg_options(parser)
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="pytorch: under torchrun"
    )
    parser.add_argument("--local_rank", "--local-rank", type=non_negative_int, default=0, help=argparse.SUPPRESS)
    add_unsafe_load(parser)
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    allowed = ({"iou_thr", "ap"} if args.eval else set()) | ({"submission_dir"} if args.format_only else set())
    if unknown := sorted(set(dict(args.eval_options)) - allowed):
        parser.error(f"--eval-options {', '.join(unknown)}: not known with these flags; known: {sorted(allowed)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Check outputs and inputs before the model is loaded; predict; then score, submit or draw."""
    args = build_parser().parse_args(argv)
    eval_options = dict(args.eval_options)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from fdam_rotate.apis.compat import TESTING_PARTS, load_config
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.testing import Outputs, run_test

    cfg = load_config(args.config, dict(args.cfg_options), needs=TESTING_PARTS)
    work_dir = Path(args.work_dir or cfg.get("work_dir") or Path("work_dirs") / Path(args.config).stem)
    outputs = Outputs(
        detections=args.out or work_dir / "patch_detections",
        submission=Path(eval_options.pop("submission_dir", work_dir / "submission")) if args.format_only else None,
        pictures=args.show_dir,
    )
    return run_test(
        cfg,
        args.checkpoint,
        outputs,
        split=args.split,
        score=eval_options if args.eval else None,
        score_thr=args.score_thr,
        nms_agnostic=args.nms_agnostic,
        fuse_conv_bn=args.fuse_conv_bn,
        precision=args.precision,
        launcher=args.launcher,
        device=args.device,
        overwrite=args.overwrite,
        unsafe_load=args.unsafe_load,
    )
