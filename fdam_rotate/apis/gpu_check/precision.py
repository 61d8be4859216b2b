"""Training steps in float16 with loss scaling and in bfloat16: finite, and their losses near float32's."""

from __future__ import annotations

import copy
import math
import statistics
from pathlib import Path

import torch
from torch import nn

from fdam_rotate.apis.compat import load_config
from fdam_rotate.apis.gpu_check import scenes
from fdam_rotate.apis.gpu_check.detectors import DETECTORS, build, fit
from fdam_rotate.apis.gpu_check.plan import Sizes
from fdam_rotate.apis.gpu_check.sheet import Sheet
from fdam_rotate.apis.precision import autocast_parts

__all__ = ["LIMIT", "run", "train_steps"]

#: Between the means of the last fifth of the losses; sampled boxes and rounding move them apart.
LIMIT = 0.1
_PRECISIONS = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
_ON_CPU = "bfloat16 with loss scaling, since float16 takes minutes on a CPU"
_BATCHES = 5


def run(sheet: Sheet, device: torch.device, sizes: Sizes, configs: Path) -> None:
    """Train Oriented R-CNN with LSKNet-FDAM as often, from the same weights on the same images."""
    with sheet.case("the detector"):
        cfg = load_config(configs / DETECTORS["Oriented R-CNN"])
        fit(cfg, sizes)
        model = build(cfg)
        means: dict[str, float] = {}
        for name, dtype in _PRECISIONS.items():
            with sheet.case(name):
                scaled, rehearsed = dtype is torch.float16, ""
                if scaled and device.type == "cpu":
                    dtype, rehearsed = torch.bfloat16, f"; {_ON_CPU}"
                losses, skipped = train_steps(copy.deepcopy(model), dtype, scaled, device, sizes.precision, sizes.steps)
                bad = sum(not math.isfinite(loss) for loss in losses)
                note = f"loss {losses[0]:.4f} at first{rehearsed}"
                sheet.check(f"{name}, {len(losses)} steps", bad, 0, "not finite", note)
                last = losses[-max(1, len(losses) // 5) :]
                means[name] = statistics.fmean(last)
                if scaled:
                    most = max(3, len(losses) // 5)
                    sheet.check(f"{name}, steps without an update", skipped, most, "steps", "by the loss scaling")
                note = f"mean of the last {len(last)} losses: {means[name]:.4f}"
                if dtype is None:
                    sheet.measure(f"{name}, loss", means[name], note=note)
                else:
                    apart = abs(means[name] / means["float32"] - 1)
                    sheet.check(f"{name}, loss beside float32", apart, LIMIT, note=note)


def train_steps(
    model: nn.Module, dtype: torch.dtype | None, scaled: bool, device: torch.device, side: int, steps: int
) -> tuple[list[float], int]:
    """The losses of AdamW on a few fixed batches, and how many steps the loss scaling skipped.

    Args:
        model: a detector.
        dtype: of its networks; None for float32.
        scaled: by a factor that grows until gradients overflow, and halves then.
        device: to train on.
        side: of the images.
        steps: as many.
    """
    model.to(device).train()
    if dtype is not None:
        autocast_parts(model, dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    scaler = torch.amp.GradScaler(device.type, enabled=scaled)
    batches = []
    for number in range(_BATCHES):
        images, boxes, labels = scenes.batch(side, number)
        batches.append((images.to(device), [b.to(device) for b in boxes], [x.to(device) for x in labels]))
    losses, skipped = [], 0
    for step in range(steps):
        images, boxes, labels = batches[step % _BATCHES]
        torch.manual_seed(step)  # of the samplers
        found = model.forward_train(images, scenes.metas(side), boxes, labels)
        loss, _ = model._parse_losses(found)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 35)
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped += int(scaler.get_scale() < before)
        losses.append(float(loss.detach()))
    return losses, skipped
