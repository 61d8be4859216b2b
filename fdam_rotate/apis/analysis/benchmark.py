"""Images per second and peak memory of several models, measured in turns so that they share the machine's moods."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from fdam_rotate.dota.progress import progress_bar

__all__ = ["PARTS", "Timing", "benchmark", "make_call"]

PARTS = ("backbone", "features", "detector")


@dataclass(frozen=True)
class Timing:
    """What one model took.

    Attributes:
        name: as given.
        seconds: of each round, for one batch.
        images_per_second: batch size over the median of ``seconds``.
        ratio: median of ``seconds`` over that of the first model.
        peak_bytes: memory that a call needs beyond what was there before it; None where the system does not report it.
    """

    name: str
    seconds: tuple[float, ...]
    images_per_second: float
    ratio: float
    peak_bytes: int | None


def make_call(
    model: nn.Module,
    shape: Sequence[int],
    *,
    batch: int = 1,
    part: str = "features",
    train: bool = False,
    amp: torch.dtype | None = None,
) -> Callable[[], None]:
    """A function that runs ``part`` of the detector once on noise.

    Args:
        model: a detector, on its device.
        shape: (H, W) of the images.
        batch: images in a call.
        part: ``backbone``, ``features`` (backbone and neck) or ``detector`` (with heads and NMS, inference only).
        train: forward and backward of the sum of squares of the outputs, in train mode; else inference.
        amp: dtype of autocast, or None.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if train and part == "detector":
        raise ValueError("training is timed for the backbone and the neck; part 'detector' is inference only")
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, *shape, generator=generator).to(device)
    model.train(train)
    meta = {
        "img_shape": (*shape, 3),
        "ori_shape": (*shape, 3),
        "pad_shape": (*shape, 3),
        "scale_factor": np.ones(4, dtype=np.float32),
        "flip": False,
        "filename": "noise",
    }

    def forward() -> Sequence[Tensor]:
        if part == "backbone":
            return model.backbone(image)
        if part == "features":
            return model.extract_feat(image)
        return model(return_loss=False, rescale=True, img=[image], img_metas=[[dict(meta) for _ in range(batch)]])

    def call() -> None:
        cast = torch.autocast(device.type, dtype=amp) if amp is not None else contextlib.nullcontext()
        with torch.set_grad_enabled(train):
            with cast:
                outputs = forward()
            if train:
                sum(out.float().square().sum() for out in outputs).backward()
                model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


def benchmark(
    calls: dict[str, Callable[[], None]], *, batch: int = 1, rounds: int = 10, warmup: int = 2, progress: bool = True
) -> list[Timing]:
    """Time each call once in every round, in turns, after ``warmup`` rounds that do not count.

    Peak memory is that of one more call, by itself: of torch's allocator on a GPU, of the process on a CPU.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    peaks: dict[str, int | None] = {}
    with progress_bar((rounds + warmup) * len(calls), "benchmark", "call", shown=progress) as bar:
        for turn in range(warmup + rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if turn >= warmup:
                    seconds[name].append(time.perf_counter() - start)
                bar.update()
    for name, call in calls.items():
        peaks[name] = peak_memory(call)
    first = median(next(iter(seconds.values())))
    return [
        Timing(name, tuple(times), batch / median(times), median(times) / first, peaks[name])
        for name, times in seconds.items()
    ]


def peak_memory(call: Callable[[], None]) -> int | None:
    """Bytes that ``call`` needs at its peak beyond what is in use before it."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that the process holds would hide the peak
        Path("/proc/self/clear_refs").write_text("5")  # sets the kernel's high-water mark to what is in use now
        before = _status("VmRSS")
        call()
        return max(_status("VmHWM") - before, 0)
    except (OSError, KeyError):
        return None


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)
