"""What FDAM adds to LSKNet-S in time and memory, beside the form that its authors published.

The aim is at most 10% more time than LSKNet-S. Float32 is torch's own: convolutions may use TF32 unless told not to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from fdam_rotate.apis.analysis.benchmark import peak_memory
from fdam_rotate.apis.analysis.fdam_cost import (
    MODELS,
    build_backbone,
    forward_task,
    paired_ratio,
    step_task,
    time_by_turns,
)
from fdam_rotate.apis.gpu_check.plan import Sizes
from fdam_rotate.apis.gpu_check.sheet import Sheet

__all__ = ["AIM", "run"]

AIM = 1.1
#: Seconds that compiling and timing two networks is taken to need before it has been seen.
COMPILING = 45.0
_PLAIN, _OURS, _ = MODELS
_TASKS = {"forward": forward_task, "step": step_task}
_LAYOUTS = {"usual layout": False, "channels last": True}


def run(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    """Time all forms by turns, then measure memory, then try torch.compile for as long as there is time."""
    amp = torch.float16 if device.type == "cuda" else torch.bfloat16
    precisions = {"float32": None, str(amp).removeprefix("torch."): amp}
    images = torch.randn(sizes.cost_batch, 3, sizes.cost, sizes.cost, generator=torch.Generator().manual_seed(0))
    images = images.to(device)
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for layout, last in _LAYOUTS.items():
        for what, dtype in precisions.items():
            for task in _TASKS:
                title = f"{task}, {what}, {layout}"
                with sheet.case(title):
                    times = _measure(sheet, title, _tasks(task, images, dtype, last, sizes), sizes.rounds, device)
                    ours = median(times[_OURS])
                    best[task, what] = min((ours, layout), best.get((task, what), (ours, layout)))
    for (task, what), (_, layout) in best.items():
        title = f"{task}, {what}, {layout}, memory"
        with sheet.case(title):
            _memory(sheet, title, _tasks(task, images, precisions[what], _LAYOUTS[layout], sizes))
    needed = COMPILING
    for number, (task, what) in enumerate(sorted(best, key=lambda key: (key[1] == "float32", key[0]))):
        ours, layout = best[task, what]
        title = f"{task}, {what}, {layout}, torch.compile"
        if number and device.type != "cuda":
            sheet.skip(title, "a rehearsal compiles once")
            continue
        if sheet.time_left() < needed:
            left = max(0.0, sheet.time_left())
            sheet.skip(title, f"{left:.0f} s are left of this part's time, about {needed:.0f} are needed")
            continue
        start = time.monotonic()
        with sheet.case(title):
            tasks = _tasks(task, images, precisions[what], _LAYOUTS[layout], sizes, compiled=True)
            gain = median(_measure(sheet, title, tasks, sizes.rounds, device)[_OURS]) / ours
            note = "of the time without it: it gains" if gain < 1 else "of the time without it: it does not gain"
            sheet.measure(f"{title}: {_OURS}, gain", gain, note=note)
        torch.compiler.reset()
        needed = max(needed, 1.2 * (time.monotonic() - start))


def _tasks(
    task: str,
    images: torch.Tensor,
    dtype: torch.dtype | None,
    last: bool,
    sizes: Sizes,
    *,
    compiled: bool = False,
) -> dict[str, Callable[[], None]]:
    """``task`` for each network, all with the weights of LSKNet-S where they have the same.

    Compiled, the published form is left out: it costs as long again, and nobody runs it so.
    """
    tasks = {}
    plain = build_backbone(_PLAIN, embed_dims=sizes.widths, depths=sizes.depths).state_dict()
    for name in MODELS[: 2 if compiled else None]:
        model: Any = build_backbone(name, embed_dims=sizes.widths, depths=sizes.depths, channels_last=last)
        model.load_state_dict(plain, strict=False)
        model.to(images.device)
        if compiled:
            # a rehearsal only records the operations: to compile them takes minutes on a CPU
            model = torch.compile(model, backend="inductor" if images.is_cuda else "eager")
        tasks[name] = _TASKS[task](model, images, dtype)
    return tasks


def _measure(
    sheet: Sheet, title: str, tasks: dict[str, Callable[[], None]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    times = time_by_turns(tasks, rounds, device, warmup=2 if device.type == "cuda" else 1)
    for name in tasks:
        if name == _PLAIN:
            sheet.measure(f"{title}: {name}", median(times[name]), "ms", f"median of {rounds}")
            continue
        ratio = paired_ratio(times, name, _PLAIN)
        share = "of {}: {:.3f} ({:.3f} to {:.3f})".format(_PLAIN, ratio["ratio"], *ratio["quartiles"])
        sheet.measure(f"{title}: {name}", median(times[name]), "ms", share)
        aim = f"the aim is {AIM:g}: {'met' if ratio['ratio'] <= AIM else 'missed'}" if name == _OURS else ""
        sheet.measure(f"{title}: {name} / {_PLAIN}", ratio["ratio"], note=aim)
    return times


def _memory(sheet: Sheet, title: str, tasks: dict[str, Callable[[], None]]) -> None:
    for name, call in tasks.items():
        call()  # what stays, such as the optimizer's state, is there before
        peak = peak_memory(call)
        if peak is None:
            sheet.skip(f"{title}: {name}", "this system does not report the peak of a process's memory")
        else:
            sheet.measure(f"{title}: {name}", peak / 2**20, "MiB", "above the weights and what else was held before")
