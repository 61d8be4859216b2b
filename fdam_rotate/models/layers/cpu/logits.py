"""AttInv's logits on the CPU, in one trip to memory; the work is in logits.h."""

from __future__ import annotations

import torch
from torch import Tensor

from fdam_rotate.models.layers.cpu.library import call, computed_in, dense, expect, job_type

__all__ = ["squared_relu_linear", "squared_relu_linear_gradient"]

_BLOCK = 128  # kTokenBlock in logits.h
_LogitsJob = job_type("LogitsJob", "x weight bias logits grad grad_x grad_weights", "tokens channels outputs")


def squared_relu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``weight @ relu(x)^2 + bias`` for tokens: (B, N, C), (K, C) and (K,) give (B, N, K).

    Where ``x`` is bfloat16, the others are float32, and so is the result.
    """
    tokens, channels, outputs = _sizes(x, weight, bias)
    logits = weight.new_empty(*x.shape[:2], outputs)
    call("logits", _LogitsJob, (*dense(x, weight, bias), logits, None, None, None), (tokens, channels, outputs))
    return logits


def squared_relu_linear_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of ``squared_relu_linear`` to ``x``, ``weight`` and ``bias``; ``grad`` is (B, N, K)."""
    tokens, channels, outputs = _sizes(x, weight, None)
    expect(weight.dtype, grad=(grad, (*x.shape[:2], outputs)))
    x, weight, grad = dense(x, weight, grad)
    grad_x, parts = torch.empty_like(x), weight.new_empty(-(-tokens // _BLOCK), outputs, channels)
    call("logits", _LogitsJob, (x, weight, None, None, grad, grad_x, parts), (tokens, channels, outputs))
    return grad_x, parts.sum(0), grad.sum((0, 1))


def _sizes(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[int, int, int]:
    channels, outputs = x.shape[2], len(weight)
    expect(computed_in(x.dtype), weight=(weight, (outputs, channels)))
    if bias is not None:
        expect(weight.dtype, bias=(bias, (outputs,)))
    return x.shape[0] * x.shape[1], channels, outputs
