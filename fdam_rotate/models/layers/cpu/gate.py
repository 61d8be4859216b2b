"""AttInv's gate on the CPU, each part in one trip to memory; the work is in gate.h."""

from __future__ import annotations

import torch
from torch import Tensor

from fdam_rotate.models.layers.cpu.library import call, dense, expect, job_type

__all__ = [
    "MOST_OUTPUTS",
    "inverted_gate",
    "inverted_gate_gradient",
    "squared_relu_linear",
    "squared_relu_linear_gradient",
]

MOST_OUTPUTS = 64  # kMostLogits in kernels.cpp
_GRADIENT_BLOCK = 1024  # kGateBlock in gate.h
_LogitJob = job_type("LogitJob", "x weight bias logits grad grad_x grad_weight", "images channels outputs positions")
_GateJob = job_type(
    "GateJob",
    "u s alpha beta lf_gamma hf_gamma out grad grad_u grad_s grad_alpha grad_beta grad_gammas",
    "images channels heads positions",
)


def squared_relu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``weight @ relu(x)^2 + bias`` for (B, C, N), (K, C) and (K,): (B, K, N). K is at most ``MOST_OUTPUTS``."""
    sizes = _logit_sizes(x, weight)
    expect(x, bias=(bias, (len(weight),)))
    logits = x.new_empty(sizes[0], len(weight), sizes[3])
    call("logits", _LogitJob, (*dense(x, weight, bias), logits, None, None, None), sizes)
    return logits


def squared_relu_linear_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``squared_relu_linear`` to ``x`` and ``weight``; ``grad`` is (B, K, N)."""
    sizes = _logit_sizes(x, weight)
    expect(x, grad=(grad, (sizes[0], len(weight), sizes[3])))
    grad, x, weight = dense(grad, x, weight)
    found = torch.empty_like(x), torch.empty_like(weight)
    call("logits", _LogitJob, (x, weight, None, None, grad, *found), sizes)
    return found


def _logit_sizes(x: Tensor, weight: Tensor) -> tuple[int, int, int, int]:
    images, channels, positions = x.shape
    expect(x, weight=(weight, (min(len(weight), MOST_OUTPUTS), channels)))
    return images, channels, len(weight), positions


def inverted_gate(u: Tensor, s: Tensor, alpha: Tensor, beta: Tensor, lf_gamma: Tensor, hf_gamma: Tensor) -> Tensor:
    """``u * (s * (1 + lf_gamma * alpha - hf_gamma * beta) + hf_gamma * beta)``.

    ``u`` and ``s`` are (B, C, H, W), ``alpha`` and ``beta`` (B, h, H, W), for C / h neighbouring channels each, the
    gammas (C,).
    """
    sizes = _gate_sizes(u, s, alpha, beta, lf_gamma, hf_gamma)
    tensors = dense(u, s, alpha, beta, lf_gamma, hf_gamma)
    out = torch.empty_like(tensors[0])
    call("gate", _GateJob, (*tensors, out, *[None] * 6), sizes)
    return out


def inverted_gate_gradient(grad: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of ``inverted_gate`` to its arguments, in their order; ``grad`` is (B, C, H, W)."""
    images, channels, _, positions = sizes = _gate_sizes(*arguments)
    expect(arguments[0], grad=(grad, arguments[0].shape))
    *tensors, grad = dense(*arguments, grad)
    found = [torch.empty_like(t) for t in tensors[:4]]
    gammas = grad.new_empty(images * -(-positions // _GRADIENT_BLOCK), 2, channels)
    call("gate", _GateJob, (*tensors, None, grad, *found, gammas), sizes)
    return *found, *gammas.sum(0)


def _gate_sizes(u: Tensor, s: Tensor, alpha: Tensor, beta: Tensor, *gammas: Tensor) -> tuple[int, int, int, int]:
    images, channels, height, width = u.shape
    heads = alpha.shape[1]
    weights = (images, heads, height, width)
    expect(u, s=(s, u.shape), alpha=(alpha, weights), beta=(beta, weights))
    expect(u, lf_gamma=(gammas[0], (channels,)), hf_gamma=(gammas[1], (channels,)))
    if channels % heads:
        raise ValueError(f"the heads must divide the channels, got {heads} heads for {channels} channels")
    return images, channels, heads, height * width
