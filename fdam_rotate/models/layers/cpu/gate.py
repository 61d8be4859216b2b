"""AttInv's gate on the CPU, in one trip to memory; the work is in gate.h."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fdam_rotate.models.layers.cpu.library import call, computed_in, dense, expect, is_channels_last, job_type

__all__ = ["inverted_gate", "inverted_gate_gradient"]

_BLOCK, _BLOCK_CHANNELS_LAST = 1024, 128  # gate_block in gate.h
_GateJob = job_type(
    "GateJob",
    "u s alpha beta lf_gamma hf_gamma out grad grad_u grad_s grad_alpha grad_beta grad_gammas",
    "images channels heads positions channels_last",
)


def inverted_gate(u: Tensor, s: Tensor, alpha: Tensor, beta: Tensor, lf_gamma: Tensor, hf_gamma: Tensor) -> Tensor:
    """``u * (s * (1 + lf_gamma * alpha - hf_gamma * beta) + hf_gamma * beta)``.

    ``u`` and ``s`` are (B, C, H, W), ``alpha`` and ``beta`` (B, h, H, W), for C / h neighbouring channels each, the
    gammas (C,); where ``u`` and ``s`` are bfloat16, these are float32. The result has the layout of ``u``.
    """
    sizes = _gate_sizes(u, s, alpha, beta, lf_gamma, hf_gamma)
    tensors = dense(u, s, alpha, beta, lf_gamma, hf_gamma, channels_last=sizes.channels_last)
    out = torch.empty_like(tensors[0])
    call("gate", _GateJob, (*tensors, out, *[None] * 6), sizes)
    return out


def inverted_gate_gradient(grad: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of ``inverted_gate`` to its arguments, in their order; ``grad`` is (B, C, H, W)."""
    sizes = _gate_sizes(*arguments)
    expect(arguments[0].dtype, grad=(grad, arguments[0].shape))
    *tensors, grad = dense(*arguments, grad, channels_last=sizes.channels_last)
    found = [torch.empty_like(t) for t in tensors[:4]]
    blocks = -(-sizes.positions // (_BLOCK_CHANNELS_LAST if sizes.channels_last else _BLOCK))
    gammas = tensors[4].new_empty(sizes.images * blocks, 2, sizes.channels)
    call("gate", _GateJob, (*tensors, None, grad, *found, gammas), sizes)
    return *found, *gammas.sum(0)


class _Sizes(NamedTuple):
    images: int
    channels: int
    heads: int
    positions: int
    channels_last: bool


def _gate_sizes(u: Tensor, s: Tensor, alpha: Tensor, beta: Tensor, *gammas: Tensor) -> _Sizes:
    images, channels, height, width = u.shape
    heads = alpha.shape[1]
    weights = (images, heads, height, width)
    expect(u.dtype, s=(s, u.shape))
    each = {"lf_gamma": (gammas[0], (channels,)), "hf_gamma": (gammas[1], (channels,))}
    expect(computed_in(u.dtype), alpha=(alpha, weights), beta=(beta, weights), **each)
    if channels % heads:
        raise ValueError(f"the heads must divide the channels, got {heads} heads for {channels} channels")
    return _Sizes(images, channels, heads, height * width, is_channels_last(u))
