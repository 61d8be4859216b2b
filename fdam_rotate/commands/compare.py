r"""Compare configs fairly: the same data, order, augmentation and start, several seeds, one report with intervals.

    fdam-rotate compare configs/evidence/vhr10_lsk.py configs/evidence/vhr10_fdam.py --seeds 0 1 2 \
        --work-dir work_dirs/evidence

Trains every config with every seed, seed by seed, scores merged whole images of data.val, and writes report.md,
report.json and report.png to the work folder: mean and spread over the seeds, what each config gains over the first
(paired over source images, 95% intervals that account for seeds and images), and the cost; and switches.png, how far
FDAM is switched on by step, where a side has it. Shared weights start equal.
Each run leaves its log in runs/NAME-seedN and a record in records/NAME-seedN.json. Killed at any moment, the same
command goes on; records in --records count as finished, so that it goes on on another machine too. The same config
given twice is compared with itself, the second time on seeds 50 higher.

Exit code: 0 done; 1 a run failed (the others are done) or data is missing; 2 wrong usage.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.commands.arguments import add_cfg_options
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import config_file, non_negative_int, positive_int


def build_parser() -> CommandParser:
    """Configs, seeds, folders."""
    parser = command_parser("compare", __doc__, "tools/compare.py")
    parser.add_argument(
        "configs", nargs="+", type=config_file, metavar="CONFIG", help="config files; the first is the base"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=non_negative_int, default=[0, 1, 2], metavar="N", help="seeds (default: 0 1 2)"
    )
    parser.add_argument("--work-dir", type=Path, required=True, metavar="DIR", help="runs, records and the report")
    parser.add_argument(
        "--records",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders of records of finished runs; one that does not exist yet holds none",
    )
    parser.add_argument("--dry-run", action="store_true", help="name the missing runs and their hours, and stop")
    parser.add_argument("--report-only", action="store_true", help="train nothing; report what is finished")
    parser.add_argument(
        "--jobs", type=positive_int, metavar="N", help="runs at a time (default: one per GPU, or one on the CPU)"
    )
    parser.add_argument(
        "--resamples", type=positive_int, default=2000, metavar="N", help="draws behind an interval (default: 2000)"
    )
    add_cfg_options(parser, "override settings of every config")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Plan, run what is missing, report."""
    args = build_parser().parse_args(argv)
    options = dict(args.cfg_options)
    for folder in args.records:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"--records {folder} is not a folder")
        if not folder.exists():
            print(f"{folder}: no such folder, so no records from there")

    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    from fdam_rotate.apis.compare.plan import check_protocol, make_plan
    from fdam_rotate.apis.compare.report import write_report

    folders = [args.work_dir / "records", *args.records]
    configs = [Path(config) for config in args.configs]
    plan = make_plan(configs, args.seeds, folders, options)
    print(f"{len(plan.records)} runs are finished, {len(plan.missing)} are missing")
    failed = []
    if plan.missing and not args.report_only:
        check_protocol(plan)
        import torch

        from fdam_rotate.apis.compare.execute import estimate, execute

        gpus = torch.cuda.device_count()
        jobs = args.jobs or max(1, gpus)
        if args.dry_run:
            found = estimate(plan, args.work_dir, options)
            for item in found:
                print(f"{item.run.name}: {item.steps:,} steps of {item.seconds_per_step:.2f} s, {item.hours:.2f} hours")
            print(f"{sum(item.hours for item in found) / jobs:.2f} hours of training in all, {jobs} at a time")
            return 0
        failed = execute(plan, args.work_dir, options, jobs=jobs, gpus=gpus)
        plan = make_plan(configs, args.seeds, folders, options)
    if args.dry_run:
        return 0
    words = ["fdam-rotate", "compare", *map(str, argv if argv is not None else sys.argv[1:])]
    write_report(plan, args.work_dir, shlex.join(words), resamples=args.resamples)
    print((args.work_dir / "report.md").read_text(encoding="utf-8"))
    print(f"report: {args.work_dir / 'report.md'}; report.json, and pictures of finished runs, are beside it")
    for run, line in failed:
        print(f"{run.name} failed: {line}", file=sys.stderr)
    return 1 if failed else 0
