"""AttInv, FDAM's attention inversion: mix a low-pass operator's output with its complement, by place and by head.

Chen, Gu, Fu, "Frequency-Dynamic Attention Modulation for Dense Prediction", ICCV 2025, arXiv 2507.12006, section 3.2.
The public code (github.com/Linwei-Chen/FDAM, no licence) was consulted for the formula and the parameter names; none
of it is used. With a low-pass output ``y`` of an input ``v``, and alpha, beta from ``z = StarReLU(x)``::

    alpha = tanh(dy_freq_2(z))    t = softplus(dy_freq(z))    beta = 2 t^2 / (t^2 + 0.3678)
    out = y + lf_gamma * alpha * y + hf_gamma * beta * (v - y)

In self-attention ``y = softmax(q k^T / sqrt(d)) v``. Where the low-pass operator is a gate, ``y = u * s`` and ``v = u``
(LSKNet, see ``fdam_rotate.models.backbones.lsknet_fdam``), that is
``u * (s * (1 + lf_gamma * alpha - hf_gamma * beta) + hf_gamma * beta)``.

Differences from the published form, none of which changes the result beyond rounding: one linear map makes both
weights, with StarReLU's scale and bias folded into it; alpha and beta are broadcast over their head's channels, not
repeated; attention runs in ``scaled_dot_product_attention``. The gradients of that map and of the gate are written
out: they keep nothing for the backward pass that the layers around them do not keep anyway. On the CPU the gate runs in
C++ (``fdam_rotate.models.layers.cpu``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fdam_rotate.models.layers import cpu
from fdam_rotate.models.layers.autograd import records_gradient
from fdam_rotate.models.layers.star_relu import StarReLU

__all__ = [
    "AttInvAttention",
    "att_inv_weights",
    "blend_inversion",
    "convolved_gate",
    "head_logits",
    "inverted_gate",
    "reset_modulation",
]

_INV_E = 0.3678  # 1/e to four digits, as published


def att_inv_weights(low_logits: Tensor, high_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits of any shape into (alpha in (-1, 1), beta in (0, 2)), same shapes, at least float32."""
    low_logits, high_logits = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (low_logits, high_logits))
    square = F.softplus(high_logits).square()
    return low_logits.tanh(), 2 * square / (square + _INV_E)


def head_logits(x: Tensor, high: nn.Module, low: nn.Module, star: StarReLU) -> tuple[Tensor, Tensor]:
    """Return ``low(star(x))`` and ``high(star(x))`` for linear maps over channels.

    Args:
        x: (B, C, N), channels first; the map runs in its dtype, also under autocast, or in float32 where it is bfloat16
            and C++ serves.
        high: ``dy_freq``, a Linear or 1 x 1 convolution C -> h.
        low: ``dy_freq_2``, of the same shape.
        star: StarReLU; its scale and bias are folded into the maps.

    Returns:
        Two tensors (B, h, N) in the dtype that the map runs in: low and high logits.

    Raises:
        ValueError: Where ``x`` is empty.
    """
    if x.numel() == 0:
        raise ValueError(f"expected non-empty features of shape (B, C, N), got {tuple(x.shape)}")
    with torch.autocast(x.device.type, enabled=False):
        kind = cpu.computed_in(x.dtype) if _as_tokens_on_cpu(x) else x.dtype
        arguments = (x, *(part.to(kind) for part in _folded(low, high, star)))
        logits = (_SquaredReLULinear.apply if records_gradient(*arguments) else _squared_relu_linear)(*arguments)
        # Copied, because torch takes one number at a time, in one thread, from a part of a tensor.
        return logits[:, : len(low.weight)].clone(), logits[:, len(low.weight) :].clone()


def _folded(low: nn.Module, high: nn.Module, star: StarReLU) -> tuple[Tensor, Tensor]:
    """Weight (2h, C) and bias (2h,) of both maps of ``star(x)`` as one of ``relu(x)^2``."""
    weight = torch.cat((low.weight, high.weight)).flatten(1)
    return star.scale * weight, torch.cat((low.bias, high.bias)) + star.bias * weight.sum(1)


def _as_tokens_on_cpu(x: Tensor, *others: Tensor) -> bool:
    """Whether C++ serves for ``x``, (B, C, N) whose channels lie side by side: tokens, and maps with channels last."""
    return x.mT.is_contiguous() and cpu.serves(x, others=others)


def _squared_relu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``weight @ relu(x)^2 + bias`` for (B, C, N), (K, C) and (K,): (B, K, N)."""
    if _as_tokens_on_cpu(x, weight, bias):
        return cpu.squared_relu_linear(x.mT, weight, bias).mT
    return torch.matmul(weight, F.relu(x).square_()).add_(bias[:, None])


class _SquaredReLULinear(torch.autograd.Function):
    """``_squared_relu_linear`` with its gradient; keeps x, not its square."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _squared_relu_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        if _as_tokens_on_cpu(x, weight, grad):
            grad_x, *others = cpu.squared_relu_linear_gradient(grad.mT, x.mT, weight)
            return grad_x.mT, *others
        positive = F.relu(x)
        # Tokens and maps with channels last come transposed; so should their gradient lie.
        transposed = x.transpose(1, 2).is_contiguous()
        product = torch.matmul(grad.mT, 2 * weight).mT if transposed else torch.matmul(2 * weight.T, grad)
        grad_x = product.mul_(positive)
        return grad_x, torch.matmul(grad, positive.square_().transpose(1, 2)).sum(0), grad.sum((0, 2))


def blend_inversion(y: Tensor, v: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return ``y + low * y + high * (v - y)``, all of shapes that broadcast to that of ``y``."""
    return torch.addcmul(v * high, y, 1 + low - high)


def inverted_gate(u: Tensor, s: Tensor, alpha: Tensor, beta: Tensor, lf_gamma: Tensor, hf_gamma: Tensor) -> Tensor:
    """Mix the gated map ``u * s`` with its inversion ``u - u * s``.

    Args:
        u: (B, C, H, W).
        s: The gate, (B, C, H, W).
        alpha: Low-pass weights (B, h, H, W); each serves C / h neighbouring channels.
        beta: High-pass weights (B, h, H, W).
        lf_gamma: (C,).
        hf_gamma: (C,).

    Returns:
        ``u * (s * (1 + lf_gamma * alpha - hf_gamma * beta) + hf_gamma * beta)``, of the shape and dtype of ``u``.
    """
    s = s.to(u.dtype)
    kind = cpu.computed_in(u.dtype) if cpu.serves(u, s) else u.dtype
    arguments = (u, s, *(weight.to(kind) for weight in (alpha, beta, lf_gamma, hf_gamma)))
    return (_InvertedGate.apply if records_gradient(*arguments) else _inverted_gate)(*arguments)


def _inverted_gate(u: Tensor, s: Tensor, *weights: Tensor) -> Tensor:
    if cpu.serves(u, s, others=weights):
        return cpu.inverted_gate(u, s, *weights)
    keep, high = _gate_factors(u, *weights)
    return high.addcmul_(s, keep).mul_(u)


class _InvertedGate(torch.autograd.Function):
    """``inverted_gate`` with its gradient; keeps its arguments only."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        ctx.save_for_backward(*arguments)
        return _inverted_gate(*arguments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        u, s, *weights = ctx.saved_tensors
        if cpu.serves(grad, u, s, others=weights):
            return cpu.inverted_gate_gradient(grad, u, s, *weights)
        return _inverted_gate_gradient(grad, u, s, *weights)


def _inverted_gate_gradient(
    grad: Tensor, u: Tensor, s: Tensor, alpha: Tensor, beta: Tensor, lf_gamma: Tensor, hf_gamma: Tensor
) -> tuple[Tensor, ...]:
    heads = alpha.shape[1]
    keep, high = _gate_factors(u, alpha, beta, lf_gamma, hf_gamma)
    grad_u = high.addcmul_(s, keep).mul_(grad)
    grad_gate = grad * u
    grad_s = keep.mul_(grad_gate)
    # In (B, h, C / h, H * W): the gradient of low = lf_gamma * alpha is both * s, that of high is both * (1 - s).
    both, low = (x.flatten(2).unflatten(1, (heads, -1)) for x in (grad_gate, grad_gate * s))
    gammas = torch.stack((lf_gamma, hf_gamma)).view(2, heads, -1).transpose(0, 1)  # (h, 2, C / h)
    weights = torch.stack((alpha, beta), dim=2).flatten(3)  # (B, h, 2, H * W)
    low_weights, low_gammas = torch.matmul(gammas, low), torch.matmul(weights, low.transpose(2, 3)).sum(0)
    grad_alpha = low_weights[:, :, 0].view_as(alpha)
    grad_beta = (torch.matmul(gammas[:, 1:], both)[:, :, 0] - low_weights[:, :, 1]).view_as(beta)
    grad_lf = low_gammas[:, 0].flatten()
    grad_hf = (torch.matmul(weights[:, :, 1:], both.transpose(2, 3)).sum(0)[:, 0] - low_gammas[:, 1]).flatten()
    return grad_u, grad_s, grad_alpha, grad_beta, grad_lf, grad_hf


def _gate_factors(u: Tensor, alpha: Tensor, beta: Tensor, lf_gamma: Tensor, hf_gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``1 + low - high`` and ``high``, shaped as ``u``; low = lf_gamma * alpha, high = hf_gamma * beta."""
    batch, dim, height, width = u.shape
    heads = alpha.shape[1]
    shape = (heads, dim // heads, 1, 1)
    high = hf_gamma.view(shape) * beta[:, :, None]  # (B, h, C / h, H, W)
    keep = (lf_gamma.view(shape) * alpha[:, :, None]).sub_(high).add_(1)
    return keep.view(batch, dim, height, width), high.view(batch, dim, height, width)


def convolved_gate(x: Tensor, u: Tensor, s: Tensor, modulation: nn.Module, heads: int) -> Tensor:
    """`head_logits` of ``x``, `att_inv_weights` and `inverted_gate` in 1 x 1 convolutions, for exporters.

    Runtimes keep maps with channels last between convolutions, and change the layout for what has other dimensions.

    Args:
        x: (B, C, H, W), of which alpha and beta are made.
        u: (B, C, H, W).
        s: The gate, (B, C, H, W).
        modulation: Holds ``dy_freq``, ``dy_freq_2``, ``dy_freq_starrelu`` and the gammas.
        heads: h; divides C.
    """
    weight, bias = _folded(modulation.dy_freq_2, modulation.dy_freq, modulation.dy_freq_starrelu)
    logits = F.conv2d(F.relu(x).square(), weight[..., None, None], bias)
    alpha, beta = att_inv_weights(logits[:, :heads], logits[:, heads:])
    own = torch.eye(heads, device=u.device).repeat_interleave(u.shape[1] // heads, 0)  # (C, h): 1 at a channel's head
    lf, hf = (gamma[:, None] * own for gamma in (modulation.lf_gamma, modulation.hf_gamma))
    keep = F.conv2d(torch.cat((alpha, beta), 1), torch.cat((lf, -hf), 1)[..., None, None], torch.ones_like(lf[:, 0]))
    return u * (s * keep + F.conv2d(beta, hf[..., None, None]))


class AttInvAttention(nn.Module):
    """Multi-head self-attention whose output is mixed with its inversion (v minus the output).

    Args:
        dim: Channels C of the tokens.
        num_heads: Attention heads h; divides ``dim``.
        qkv_bias: Give the query, key and value projection a bias.

    Raises:
        ValueError: Where ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = False) -> None:
        super().__init__()
        if num_heads < 1 or dim < 1 or dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim} and num_heads={num_heads}")
        self.dim, self.num_heads = dim, num_heads
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.dy_freq = nn.Linear(dim, num_heads)
        self.dy_freq_2 = nn.Linear(dim, num_heads)
        self.dy_freq_starrelu = StarReLU()
        self.lf_gamma = nn.Parameter(torch.empty(dim))
        self.hf_gamma = nn.Parameter(torch.empty(dim))
        self.reset_modulation()

    def reset_modulation(self) -> None:
        """Set what AttInv adds to its start: gammas of 1e-5, so that the layer is (almost) plain attention."""
        reset_modulation(self)

    def init_weights(self) -> None:
        """Undo what a parent's ``init_cfg`` did to the modulation; the projections keep what it gave them."""
        self.reset_modulation()

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Tokens (B, N, C), any float dtype.

        Returns:
            Tensor (B, N, C) in the dtype of ``x`` (of autocast, where that is on).

        Raises:
            ValueError: Where ``x`` is not 3-D, is empty, or has not ``dim`` channels.
        """
        if x.dim() != 3 or x.shape[2] != self.dim or x.numel() == 0:
            raise ValueError(f"expected non-empty tokens of shape (B, N, {self.dim}), got {tuple(x.shape)}")
        batch, tokens, _ = x.shape
        heads = (self.num_heads, self.dim // self.num_heads)
        q, k, v = self.qkv(x).view(batch, tokens, 3, *heads).permute(2, 0, 3, 1, 4)  # (B, h, N, d) each
        y = F.scaled_dot_product_attention(q, k, v)
        logits = head_logits(x.transpose(1, 2), self.dy_freq, self.dy_freq_2, self.dy_freq_starrelu)
        alpha, beta = (w[..., None].to(y.dtype) for w in att_inv_weights(*logits))  # (B, h, N, 1)
        low = alpha * self.lf_gamma.view(*heads)[:, None].to(y.dtype)  # (B, h, N, d)
        high = beta * self.hf_gamma.view(*heads)[:, None].to(y.dtype)
        out = blend_inversion(y, v, low, high).transpose(1, 2).reshape(batch, tokens, self.dim)
        return self.proj(out)


def reset_modulation(module: nn.Module) -> None:
    """Set ``dy_freq``, ``dy_freq_2``, ``dy_freq_starrelu`` and the gammas of ``module`` to their start."""
    for layer in (module.dy_freq, module.dy_freq_2, module.dy_freq_starrelu):
        layer.reset_parameters()
    nn.init.constant_(module.lf_gamma, 1e-5)
    nn.init.constant_(module.hf_gamma, 1e-5)
