"""Time detectors side by side: images per second, ratio to the first, and peak memory, on a CPU or a GPU.

    fdam-rotate benchmark configs/lsknet/lsk_s_fpn_1x_dota_le90.py \
        configs/lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py --shape 512 512
    fdam-rotate benchmark A.py B.py --device cuda --amp float16 --batch-size 8 --backward

Every round runs each model once, so that all share the machine's moods; the median of the rounds counts. Peak memory is
what a call needs beyond what was there before it. Images are noise, and weights are random unless --checkpoints are
given; for backbone and features that costs the same. Not for --part detector: how many boxes reach NMS depends on the
weights and on the image, so give checkpoints, and expect other times on real images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from fdam_rotate.commands.arguments import add_device, add_unsafe_load
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import config_file, existing_file, non_negative_int, positive_int


def build_parser() -> CommandParser:
    """Configs, and what to run of them."""
    parser = command_parser("benchmark", __doc__, "tools/analysis/benchmark.py", _check)
    parser.add_argument("configs", nargs="+", type=config_file, help="config files (Python)")
    parser.add_argument(
        "--checkpoints", nargs="+", type=existing_file, help="one per config, in their order (default: random weights)"
    )
    parser.add_argument(
        "--shape", nargs=2, type=positive_int, default=[1024, 1024], metavar=("H", "W"), help="pixels (1024 1024)"
    )
    parser.add_argument("--batch-size", type=positive_int, default=1, metavar="N", help="images in a call (default: 1)")
    parser.add_argument(
        "--part",
        choices=["backbone", "features", "detector"],
        default="features",
        help="features: backbone and neck (default); detector: with heads and NMS",
    )
    parser.add_argument("--backward", action="store_true", help="forward and backward instead of inference")
    add_device(parser)
    parser.add_argument("--amp", choices=["float16", "bfloat16"], help="run under autocast")
    parser.add_argument("--threads", type=positive_int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--rounds", type=positive_int, default=10, help="rounds that count (default: 10)")
    parser.add_argument("--warmup", type=non_negative_int, default=2, help="rounds before them (default: 2)")
    add_unsafe_load(parser)
    parser.add_former("--batch", "--batch-size")
    parser.add_former("--train", "--backward")
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    if args.backward and args.part == "detector":
        parser.error("--backward times the backbone or the features; the detector is inference only")
    if args.checkpoints and len(args.checkpoints) != len(args.configs):
        parser.error(f"--checkpoints: expected {len(args.configs)}, one per config, got {len(args.checkpoints)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Time and print."""
    args = build_parser().parse_args(argv)
    checkpoints = args.checkpoints or [None] * len(args.configs)
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    import torch

    from fdam_rotate.apis.analysis.benchmark import benchmark, make_call
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.runtime import find_device
    from fdam_rotate.host.memory import keep_freed_memory

    device = find_device(args.device)
    if device.type == "cpu":
        keep_freed_memory()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    amp = getattr(torch, args.amp) if args.amp else None
    calls: dict[str, Callable[[], None]] = {}
    for path, checkpoint in zip(args.configs, checkpoints, strict=True):
        model, _ = build_model(path, checkpoint, unsafe=args.unsafe_load)
        name = path.stem if path.stem not in calls else str(path)
        if name in calls:  # one config with several checkpoints
            name = f"{path} ({len(calls) + 1})"
        calls[name] = make_call(
            model.to(device), args.shape, batch=args.batch_size, part=args.part, train=args.backward, amp=amp
        )
    timings = benchmark(calls, batch=args.batch_size, rounds=args.rounds, warmup=args.warmup)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    what = f"{'training step' if args.backward else 'inference'} of {args.part}"
    images = f"{args.batch_size} image(s) of {args.shape[0]} x {args.shape[1]}, {args.amp or 'float32'}"
    print(f"{what}, {images}, {where}, median of {args.rounds}")
    width = max(map(len, calls))
    print(f"{'config':{width}}  {'images/s':>9}  {'ms':>9}  {'ratio':>6}  {'peak memory':>11}")
    for t in timings:
        peak = f"{t.peak_bytes / 2**20:.0f} MiB" if t.peak_bytes is not None else "unknown"
        ms = 1000 * args.batch_size / t.images_per_second
        print(f"{t.name:{width}}  {t.images_per_second:9.2f}  {ms:9.1f}  {t.ratio:6.3f}  {peak:>11}")
    return 0
