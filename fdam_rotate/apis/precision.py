"""Fewer bits: the networks under autocast, everything between and after them in float32."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["autocast_parts", "set_precision"]


def set_precision(model: nn.Module, precision: str) -> nn.Module:
    """Let a detector predict in ``precision``, in place; its weights stay float32.

    'bf16' runs backbone, neck and heads under autocast, on the CPU or a GPU. What the heads return becomes float32
    again: boxes, scores and suppression in 8 bits of mantissa would be off by pixels.

    Args:
        model: a detector of MMRotate.
        precision: 'fp32' or 'bf16'.

    Raises:
        ValueError: it is none of them.
    """
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be fp32 or bf16, got {precision!r}")
    if precision == "bf16":
        autocast_parts(model, torch.bfloat16)
    return model


def autocast_parts(model: nn.Module, dtype: torch.dtype) -> None:
    """Run a detector's backbone, neck and heads under autocast to ``dtype``, in place, in training too.

    What the heads return is float32 again.
    """
    for name, part in model.named_children():
        _wrap(part, dtype, keep=name in ("backbone", "neck"))


def _wrap(part: nn.Module, dtype: torch.dtype, *, keep: bool) -> None:
    """Wrap ``part``, or the parts of which it is a mere list; ``keep``: its results stay in ``dtype``."""
    if isinstance(part, nn.ModuleList) or hasattr(part, "bbox_roi_extractor"):
        for child in part.children():
            _wrap(child, dtype, keep=keep)
    elif next(part.parameters(), None) is not None:
        part.forward = _autocast(part.forward, dtype, keep=keep)


def _autocast(forward: Callable[..., Any], dtype: torch.dtype, *, keep: bool) -> Callable[..., Any]:
    @functools.wraps(forward)
    def run(*arguments: Any, **settings: Any) -> Any:
        with torch.autocast(_device(arguments), dtype=dtype):
            results = forward(*arguments, **settings)
        return results if keep else _in_float32(results)

    return run


def _device(arguments: Any) -> str:
    """The kind of device of the first tensor, which may stand in a list."""
    while not isinstance(arguments, Tensor):
        arguments = arguments[0]
    return arguments.device.type


def _in_float32(results: Any) -> Any:
    if isinstance(results, Tensor):
        return results.float() if results.dtype in (torch.bfloat16, torch.float16) else results
    if isinstance(results, (list, tuple)):
        return type(results)(map(_in_float32, results))
    return results
