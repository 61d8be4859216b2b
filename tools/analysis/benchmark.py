"""Time detectors side by side: images per second, ratio to the first, and peak memory, on a CPU or a GPU.

    python tools/analysis/benchmark.py configs/lsknet/lsk_s_fpn_1x_dota_le90.py \
        configs/lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py --shape 512 512
    python tools/analysis/benchmark.py A.py B.py --device cuda --amp float16 --batch 8 --train

Every round runs each model once, so that all share the machine's moods; the median of the rounds counts. Weights are
random, which costs the same. Peak memory is what a call needs beyond what was there before it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.cli import run


def build_parser() -> argparse.ArgumentParser:
    """Configs, and what to run of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path, help="config files (Python)")
    parser.add_argument(
        "--shape", nargs=2, type=int, default=[1024, 1024], metavar=("H", "W"), help="pixels (1024 1024)"
    )
    parser.add_argument("--batch", type=int, default=1, help="images in a call (default: 1)")
    parser.add_argument(
        "--part",
        choices=["backbone", "features", "detector"],
        default="features",
        help="features: backbone and neck (default); detector: with heads and NMS",
    )
    parser.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--amp", choices=["float16", "bfloat16"], help="run under autocast")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count (default: 10)")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before them (default: 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Time and print."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.train and args.part == "detector":
        parser.error("--train times the backbone or the features; the detector is inference only")
    if min(args.batch, args.rounds, *args.shape) < 1 or args.warmup < 0:
        parser.error("--batch, --rounds and --shape must be at least 1, --warmup at least 0")
    from fdam_rotate.apis.compat import quiet_host

    quiet_host()
    import torch

    from fdam_rotate.apis.analysis.benchmark import benchmark, make_call
    from fdam_rotate.apis.analysis.features import build_model

    if args.threads:
        torch.set_num_threads(args.threads)
    amp = getattr(torch, args.amp) if args.amp else None
    calls = {}
    for path in args.configs:
        model, _ = build_model(path)
        name = path.stem if path.stem not in calls else str(path)
        calls[name] = make_call(
            model.to(args.device), args.shape, batch=args.batch, part=args.part, train=args.train, amp=amp
        )
    timings = benchmark(calls, batch=args.batch, rounds=args.rounds, warmup=args.warmup)
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"{torch.get_num_threads()} CPU threads"
    what = f"{'training step' if args.train else 'inference'} of {args.part}"
    images = f"{args.batch} image(s) of {args.shape[0]} x {args.shape[1]}, {args.amp or 'float32'}"
    print(f"{what}, {images}, {where}, median of {args.rounds}")
    width = max(map(len, calls))
    print(f"{'config':{width}}  {'images/s':>9}  {'ms':>9}  {'ratio':>6}  {'peak memory':>11}")
    for t in timings:
        peak = f"{t.peak_bytes / 2**20:.0f} MiB" if t.peak_bytes is not None else "unknown"
        ms = 1000 * args.batch / t.images_per_second
        print(f"{t.name:{width}}  {t.images_per_second:9.2f}  {ms:9.1f}  {t.ratio:6.3f}  {peak:>11}")
    return 0


if __name__ == "__main__":
    run(main)
