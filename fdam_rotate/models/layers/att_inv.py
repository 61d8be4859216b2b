"""AttInv: mix a low-pass operator's output with its inversion, by weights that depend on place and head (FDAM's attention inversion).

Chen, Gu, Fu, "Frequency-Dynamic Attention Modulation for Dense Prediction", ICCV 2025, arXiv 2507.12006, section 3.2. The public
code (github.com/Linwei-Chen/FDAM, no licence) was consulted for the formula and the parameter names; none of it is used. With a
low-pass output ``y`` of an input ``v``, and alpha, beta from ``z = StarReLU(x)``::

    alpha = tanh(dy_freq_2(z))    t = softplus(dy_freq(z))    beta = 2 t^2 / (t^2 + 0.3678)
    out = y + lf_gamma * alpha * y + hf_gamma * beta * (v - y)

In self-attention ``y = softmax(q k^T / sqrt(d)) v``. Where the low-pass operator is a gate, ``y = u * s`` and ``v = u`` (LSKNet, see
``fdam_rotate.models.backbones.lsknet_fdam``), ``out = u * (s * (1 + lf_gamma * alpha - hf_gamma * beta) + hf_gamma * beta)``.

Differences from the published form, none of which changes the result beyond rounding: one linear map makes both weights, with
StarReLU's scale and bias folded into it; alpha and beta are broadcast over their head's channels, not repeated; attention runs in
``scaled_dot_product_attention``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdam_rotate.models.layers.star_relu import StarReLU

__all__ = ["AttInvAttention", "att_inv_weights", "blend_inversion", "head_logits"]

_INV_E = 0.3678  # 1/e to four digits, as published


def att_inv_weights(low_logits: Tensor, high_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits of any shape into (alpha in (-1, 1), beta in (0, 2)), same shapes, at least float32."""
    low_logits, high_logits = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (low_logits, high_logits))
    square = F.softplus(high_logits).square()
    return low_logits.tanh(), 2 * square / (square + _INV_E)


def head_logits(x: Tensor, high: nn.Module, low: nn.Module, star: StarReLU) -> tuple[Tensor, Tensor]:
    """Return ``low(star(x))`` and ``high(star(x))`` for linear maps over channels.

    Args:
        x: (B, C, N), channels first.
        high: ``dy_freq``, a Linear or 1 x 1 convolution C -> h.
        low: ``dy_freq_2``, of the same shape.
        star: StarReLU; its scale and bias are folded into the maps.

    Returns:
        Two tensors (B, h, N): low and high logits.
    """
    weight = torch.cat((low.weight, high.weight)).flatten(1)  # (2h, C)
    bias = torch.cat((low.bias, high.bias)) + star.bias * weight.sum(1)
    logits = torch.matmul(star.scale * weight, F.relu(x).square()) + bias[:, None]
    return logits.chunk(2, dim=1)


def blend_inversion(y: Tensor, v: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return ``y * (1 + low - high) + v * high`` = ``y + low * y + high * (v - y)``; shapes that broadcast to that of ``y``."""
    return torch.addcmul(v * high, y, 1 + low - high)


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
