"""Train a detector: on the CPU, on one GPU, or on several under torchrun.

    fdam-rotate train configs/lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py
    torchrun --nproc_per_node=8 -m fdam_rotate.commands train CONFIG --launcher pytorch

Reads the patches that fdam-rotate split wrote; writes checkpoints (epoch_N.pth, latest.pth, best_mAP_epoch_N.pth),
the log and the full config to the work folder. Validates on merged whole images where the config names their labels.
A config file is Python and runs: use configs that you trust.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.commands.arguments import add_cfg_options, add_device, add_unsafe_load
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import config_file, existing_file, gpu_number, non_negative_int


def build_parser() -> CommandParser:
    """MMRotate's flags."""
    parser = command_parser("train", __doc__, "tools/train.py")
    parser.add_argument("config", type=config_file, help="config file (Python), or the name of one of ours")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where logs and checkpoints go (default: work_dirs/<config name>)"
    )
    resume = parser.add_mutually_exclusive_group()
    resume.add_argument(
        "--resume-from",
        type=existing_file,
        metavar="FILE",
        help="checkpoint to go on from, with its optimizer and epoch",
    )
    resume.add_argument("--auto-resume", action="store_true", help="go on from the work folder's latest checkpoint")
    parser.add_argument("--no-validate", action="store_true", help="do not score data.val during training")
    add_device(parser, "; under a launcher each process has its own GPU")
    parser.add_former("--gpu-id", "--device", gpu_number)
    parser.add_argument(
        "--seed", type=non_negative_int, help="random seed (default: that of the run to resume, else 0)"
    )
    parser.add_argument("--deterministic", action="store_true", help="deterministic algorithms where torch has them")
    example = "optimizer.lr=5e-5 model.backbone.init_cfg=None data.samples_per_gpu=2"
    add_cfg_options(parser, f"override settings of the config: {example}")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="pytorch: under torchrun"
    )
    parser.add_argument("--local_rank", "--local-rank", type=non_negative_int, default=0, help=argparse.SUPPRESS)
    add_unsafe_load(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that can be checked, then train."""
    args = build_parser().parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from fdam_rotate.apis.compat import TRAINING_PARTS, load_config
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from mmrotate.utils import get_root_logger, setup_multi_processes

    from fdam_rotate.apis.checkpoints.checkpoint import install_safe_loader, load_checkpoint_file
    from fdam_rotate.apis.doctor import versions
    from fdam_rotate.apis.runtime import start_runtime
    from fdam_rotate.apis.train import (
        check_training_config,
        checkpoint_to_resume,
        dump_config,
        is_finished,
        train,
    )

    cfg = load_config(args.config, dict(args.cfg_options), needs=TRAINING_PARTS)
    cfg.work_dir = str(args.work_dir or cfg.get("work_dir") or Path("work_dirs") / args.config.stem)
    cfg.resume_from = str(args.resume_from) if args.resume_from else cfg.get("resume_from")
    cfg.auto_resume = args.resume_from is None and (args.auto_resume or cfg.get("auto_resume", False))
    check_training_config(cfg, validate=not args.no_validate, device=args.device)
    setup_multi_processes(cfg)
    install_safe_loader(args.unsafe_load)
    runtime = start_runtime(args.launcher, args.device, cfg.get("dist_params"))

    work_dir, resumed = Path(cfg.work_dir), checkpoint_to_resume(cfg)
    meta = {} if resumed is None else load_checkpoint_file(resumed, unsafe=args.unsafe_load).get("meta", {})
    if is_finished(cfg, meta):
        if runtime.rank == 0:
            print(f"nothing to do: {resumed} is the end of this run; a larger runner.max_epochs or max_iters goes on")
        return 0
    seed = args.seed if args.seed is not None else int(meta.get("seed") or 0)
    work_dir.mkdir(parents=True, exist_ok=True)
    log_file = work_dir / f"{time.strftime('%Y%m%d_%H%M%S')}.log" if runtime.rank == 0 else None
    logger = get_root_logger(log_file=log_file and str(log_file), log_level=cfg.get("log_level", "INFO"))
    logger.info("command: " + " ".join(["fdam-rotate train", *(argv if argv is not None else sys.argv[1:])]))
    logger.info("versions: " + ", ".join(f"{name} {version}" for name, version in versions().items()))
    if runtime.rank == 0:
        dump_config(cfg, work_dir / Path(args.config).name)
    train(cfg, runtime, logger, validate=not args.no_validate, seed=seed, deterministic=args.deterministic)
    logger.info(f"done: {work_dir}")
    return 0
