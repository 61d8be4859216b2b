"""Measure what FDAM costs, side by side in one run, on the CPU or a GPU.

Example: python tools/bench/fdam.py --device cpu --threads 2

Each row compares our network or layer with another: 'LSKNet-S' is this package's, without FDAM; 'published form' is
the same network with FDAM's formulas written as the paper's code has them (rfft2, bicubic resize, einsum, multiply,
irfft2; weights repeated over each head's channels). Each round runs all by turns; a row gives the medians of the times,
and the median and quartiles of the rounds' ratios, so that a machine that changes its speed meanwhile does no harm.
On the CPU networks run with their channels last; rows say what they take planar and in bfloat16, and what the
detectors' last step takes beside mmcv's. Memory is the process's peak above what it held before the model was built, in
a process of its own (on a GPU the allocator's peak).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fdam_rotate.cli import run

_PAIRS = (("LSKNetFDAM-S", "LSKNet-S"), ("LSKNetFDAM-S", "published form"), ("published form", "LSKNet-S"))
_FORWARD_SIZE, _STEP_SIZE, _STEP_BATCH = 1024, 512, 2  # a window of DOTA, and a step that two cores take in seconds


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="torch device: cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each measurement, at least 2 (default: 15)")
    parser.add_argument("--amp", action="store_true", help="mixed precision: bfloat16 on the CPU, float16 on a GPU")
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    parser.add_argument("--peak-memory", nargs=2, metavar=("MODEL", "TASK"), help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.rounds < 2 or args.threads < 1:
        parser.error("--rounds must be at least 2 and --threads at least 1")
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import ratio_line
    from fdam_rotate.host.memory import keep_freed_memory

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch sees no CUDA device")
    if device.type == "cpu":
        keep_freed_memory()  # as training and prediction do
    if args.peak_memory:
        print(_peak_memory(*args.peak_memory, device, args.amp))
        return 0
    precision = "float32" if not args.amp else "float16 AMP" if device.type == "cuda" else "bfloat16 AMP"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} threads"
    print(f"{where}, {precision}")
    rows = []
    for what, ours, other, unit, result in _measure(args, device):
        rows.append({"what": what, "ours": ours, "other": other, "unit": unit, **result})
        print(ratio_line(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"device": str(device), "precision": precision, "rows": rows}, indent=1) + "\n")
    return 0


def _measure(args: argparse.Namespace, device):
    """Yield (what, ours, other, unit, values) for each row."""
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import MODELS, build_backbone, paired_ratio, time_by_turns

    for what, backward in (("FreqScale 64x256x256, forward", False), ("FreqScale 64x256x256, and gradients", True)):
        tasks = _layer_tasks(device, args.amp, backward)
        yield what, "ours", "plain", "ms", paired_ratio(time_by_turns(tasks, args.rounds * 3, device), "ours", "plain")
    models = {name: build_backbone(name).to(device) for name in MODELS}
    for name in MODELS[1:]:
        models[name].load_state_dict(models["LSKNet-S"].state_dict(), strict=False)
    jobs = {
        f"backbone S forward, {_FORWARD_SIZE}": _forward_task,
        f"backbone S training step, {_STEP_BATCH}x{_STEP_SIZE}": _step_task,
    }
    for what, make in jobs.items():
        tasks = {name: make(model, device, args.amp) for name, model in models.items()}
        results = time_by_turns(tasks, args.rounds, device)
        for ours, other in _PAIRS:
            yield what, ours, other, "ms", paired_ratio(results, ours, other)
    del models
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif not args.amp:
        yield from _layouts(args, device)
        yield from _suppression(args)
    for task in ("forward", "step"):
        peaks = {name: _in_own_process(name, task, args) for name in MODELS}
        for ours, other in _PAIRS:
            values = {"ours_value": peaks[ours], "other_value": peaks[other], "ratio": peaks[ours] / peaks[other]}
            yield f"backbone S peak memory, {task}", ours, other, "MiB", values


def _layouts(args: argparse.Namespace, device):
    """Yield rows of both networks with their channels last (as they are on the CPU), planar, and in bfloat16."""
    from fdam_rotate.apis.analysis.fdam_cost import MODELS, build_backbone, paired_ratio, time_by_turns

    names = MODELS[:2]
    for what, make in (
        (f"channels last, forward, {_FORWARD_SIZE}", _forward_task),
        (f"channels last, step, {_STEP_BATCH}x{_STEP_SIZE}", _step_task),
    ):
        tasks = {}
        for name in names:
            for layout, last in (("", True), (" planar", False)):
                tasks[name + layout] = make(build_backbone(name, channels_last=last), device, False)
            if make is _forward_task:
                tasks[name + " bf16"] = make(build_backbone(name, channels_last=True), device, True)
        results = time_by_turns(tasks, args.rounds, device)
        pairs = [("LSKNetFDAM-S", "LSKNet-S")]
        pairs += [(name, f"{name} planar") for name in names]
        if make is _forward_task:
            pairs += [(f"{name} bf16", name) for name in names] + [("LSKNetFDAM-S bf16", "LSKNet-S bf16")]
        for ours, other in pairs:
            yield what, ours, other, "ms", paired_ratio(results, ours, other)


def _suppression(args: argparse.Namespace):
    """Yield rows of the detectors' last step: ours beside mmcv's, and 15 classes of 2,000 boxes beside one."""
    import numpy as np
    import torch
    from mmcv.ops import nms_rotated

    from fdam_rotate.apis.analysis.fdam_cost import paired_ratio, time_by_turns
    from fdam_rotate.host.suppression import suppress

    def boxes(count: int, classes: int):
        rng = np.random.default_rng(0)
        sides = np.exp(rng.uniform(np.log(16), np.log(512), (count, 2)))
        rows = np.column_stack([rng.uniform(0, 1024, (count, 2)), sides, rng.uniform(-1.57, 1.57, count)])
        shifts = np.arange(classes)[:, None, None] * np.array([2000, 2000, 0, 0, 0])  # as MMRotate moves classes apart
        dets = torch.tensor((rows + shifts).reshape(-1, 5), dtype=torch.float32)
        return dets, torch.tensor(rng.permutation(len(dets)) / len(dets), dtype=torch.float32)

    for count in (100, 1000):
        case = boxes(count, 1)
        tasks = {"ours": lambda case=case: suppress(*case, 0.1), "mmcv": lambda case=case: nms_rotated(*case, 0.1)}
        results = time_by_turns(tasks, args.rounds, torch.device("cpu"))
        yield f"last step, {count} boxes", "ours", "mmcv", "ms", paired_ratio(results, "ours", "mmcv")
    many, few = boxes(2000, 15), boxes(2000, 1)
    tasks = {"30,000": lambda: suppress(*many, 0.1), "2,000": lambda: suppress(*few, 0.1)}
    results = time_by_turns(tasks, args.rounds, torch.device("cpu"))
    yield "last step, 15 classes and 1", "30,000", "2,000", "ms", paired_ratio(results, "30,000", "2,000")


def _layer_tasks(device, amp: bool, backward: bool) -> dict[str, Callable[[], None]]:
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import published_freq_scale
    from fdam_rotate.models.layers import FreqScale

    torch.manual_seed(0)
    layer = FreqScale(64).to(device)
    x = torch.randn(1, 64, 256, 256, device=device, requires_grad=backward)

    def task(function):
        def call() -> None:
            with torch.autocast(device.type, dtype=_dtype(device, True), enabled=amp), torch.set_grad_enabled(backward):
                y = function(x)
            if backward:
                y.backward(y.detach())
                x.grad = None
                layer.zero_grad()

        return call

    return {"ours": task(layer), "plain": task(lambda x: published_freq_scale(layer, x))}


def _forward_task(model, device, amp: bool) -> Callable[[], None]:
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import forward_task

    return forward_task(model, torch.randn(1, 3, _FORWARD_SIZE, _FORWARD_SIZE, device=device), _dtype(device, amp))


def _step_task(model, device, amp: bool) -> Callable[[], None]:
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import step_task

    return step_task(model, torch.randn(_STEP_BATCH, 3, _STEP_SIZE, _STEP_SIZE, device=device), _dtype(device, amp))


def _dtype(device, amp: bool):
    import torch

    if not amp:
        return None
    return torch.float16 if device.type == "cuda" else torch.bfloat16


def _in_own_process(name: str, task: str, args: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--device", args.device, "--threads", str(args.threads)]
    command += ["--peak-memory", name, task] + ["--amp"] * args.amp
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # mmcv's notice, once a process
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(done.stdout.split()[-1])


def _peak_memory(name: str, task: str, device, amp: bool) -> float:
    """Return the peak of two forward passes or training steps in MiB: model included, interpreter and libraries not."""
    import torch

    from fdam_rotate.apis.analysis.fdam_cost import build_backbone

    if device.type == "cuda":
        model = build_backbone(name).to(device)
    else:
        torch.fft.irfft2(torch.fft.rfft2(torch.zeros(1, 16, 16, 16)))
        torch.nn.functional.conv2d(torch.zeros(1, 16, 16, 16), torch.zeros(16, 16, 1, 1))
        before = _memory_kib("VmRSS")
        model = build_backbone(name)
    make = _forward_task if task == "forward" else _step_task
    call = make(model, device, amp)
    for _ in range(2):
        call()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return (_memory_kib("VmHWM") - before) / 2**10


def _memory_kib(field: str) -> int:
    """Read a line such as ``VmHWM:  123 kB`` of Linux's process status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"no {field} in /proc/self/status")


if __name__ == "__main__":
    run(main)
