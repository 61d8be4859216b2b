"""What FDAM costs: the networks that are compared, their tasks, and times taken by turns.

'published form' is the network with FDAM's formulas written as the paper's code has them (rfft2, bicubic resize,
einsum, multiply, irfft2; weights repeated over each head's channels). The public code (github.com/Linwei-Chen/FDAM, no
licence) was consulted for the formulas; none of it is used.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdam_rotate.models.backbones import LSKNet, LSKNetFDAM
from fdam_rotate.models.backbones.lsknet_fdam import InvertedLSKAttention
from fdam_rotate.models.layers import FreqScale

__all__ = [
    "MODELS",
    "build_backbone",
    "forward_task",
    "paired_ratio",
    "published_freq_scale",
    "ratio_line",
    "step_task",
    "time_by_turns",
]

MODELS = ("LSKNet-S", "LSKNetFDAM-S", "published form")


def build_backbone(name: str, **settings: Any) -> nn.Module:
    """One of `MODELS`, with the weights that seed 0 gives.

    Args:
        name: of the model.
        settings: of LSKNet, such as ``channels_last``; the defaults are LSKNet-S.
    """
    if name not in MODELS:
        raise ValueError(f"expected one of {', '.join(MODELS)}, got {name!r}")
    torch.manual_seed(0)
    if name == "LSKNet-S":
        return LSKNet(**settings)
    model = LSKNetFDAM(**settings)
    return _as_published(model) if name == "published form" else model


class _PublishedFreqScale(FreqScale):
    def forward(self, x: Tensor, residual: bool = False) -> Tensor:
        y = published_freq_scale(self, x)
        return x + y if residual else y


class _PublishedAttention(InvertedLSKAttention):
    def gate(self, x: Tensor, u: Tensor, selection: Tensor) -> Tensor:
        y = u * selection
        z = self.dy_freq_starrelu(x)
        repeats = u.shape[1] // self.num_heads
        alpha = self.dy_freq_2(z).tanh().repeat_interleave(repeats, dim=1)
        t = F.softplus(self.dy_freq(z)) ** 2
        beta = (2 * t / (t + 0.3678)).repeat_interleave(repeats, dim=1)
        gammas = (gamma[:, None, None] for gamma in (self.lf_gamma, self.hf_gamma))
        low, high = (gamma * weight for gamma, weight in zip(gammas, (alpha, beta), strict=True))
        return y + low * y + high * (u - y)


def _as_published(model: nn.Module) -> nn.Module:
    """Swap the arithmetic of FDAM's layers for the published form, in place; weights and keys stay."""
    for module in model.modules():
        if isinstance(module, FreqScale):
            module.__class__ = _PublishedFreqScale
        elif isinstance(module, InvertedLSKAttention):
            module.__class__ = _PublishedAttention
    return model


def published_freq_scale(layer: FreqScale, x: Tensor) -> Tensor:
    """FreqScale's formula written plainly, with ``layer``'s weights: (B, C, H, W) -> (B, C, H, W)."""
    spectrum = torch.fft.rfft2(x.float(), norm="ortho")
    routing = layer.reweight(x.mean((2, 3))).view(len(x), layer.group, layer.num_filters).tanh()
    filters: Tensor = layer.complex_weights
    if filters.shape[2:] != spectrum.shape[2:]:
        filters = F.interpolate(filters, size=spectrum.shape[2:], mode="bicubic", align_corners=True)
    modulation = torch.einsum("bgf,fchw->bgchw", routing.to(filters.dtype), filters).reshape(spectrum.shape)
    return torch.fft.irfft2(spectrum * modulation, s=x.shape[2:], norm="ortho")


def forward_task(model: nn.Module, images: Tensor, amp: torch.dtype | None = None) -> Callable[[], None]:
    """Inference on ``images``, under autocast to ``amp`` if that is given."""

    def call() -> None:
        model.eval()
        with torch.no_grad(), _autocast(images.device, amp):
            model(images)

    return call


def step_task(model: nn.Module, images: Tensor, amp: torch.dtype | None = None) -> Callable[[], None]:
    """A step of AdamW on the mean squares of the outputs, the forward pass under autocast to ``amp`` if given."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def call() -> None:
        model.train()
        with _autocast(images.device, amp):
            outs = model(images)
        sum(out.float().square().mean() for out in outs).backward()
        optimizer.step()
        optimizer.zero_grad()

    return call


def _autocast(device: torch.device, amp: torch.dtype | None) -> torch.autocast:
    return torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None)


def time_by_turns(
    tasks: Mapping[str, Callable[[], None]], rounds: int, device: torch.device, *, warmup: int = 2
) -> dict[str, list[float]]:
    """Run the tasks by turns; return the milliseconds of each round, the warm-up rounds left out."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + warmup):
        for name, task in sorted(tasks.items(), reverse=number % 2 == 1):  # each follows each other one
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            task()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= warmup:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def paired_ratio(times: Mapping[str, list[float]], ours: str, other: str) -> dict[str, Any]:
    """Medians of two tasks of `time_by_turns`, and median and quartiles of their ratio in each round."""
    ratios = [a / b for a, b in zip(times[ours], times[other], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    first, second = statistics.median(times[ours]), statistics.median(times[other])
    return {"ours_value": first, "other_value": second, "ratio": middle, "quartiles": (low, high)}


def ratio_line(row: Mapping[str, Any]) -> str:
    """A line of a table: ``what``, ``ours`` and ``other`` with their values in ``unit``, and their ratio."""
    ours, other = (f"{row[key]} {row[key + '_value']:.1f} {row['unit']}" for key in ("ours", "other"))
    spread = " ({:.3f} to {:.3f})".format(*row["quartiles"]) if "quartiles" in row else ""
    return f"{row['what']:<36} {ours:<34} {other:<34} ratio {row['ratio']:.3f}{spread}"
