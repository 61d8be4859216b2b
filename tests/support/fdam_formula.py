"""FDAM's formulas written plainly, on a module's own weights: the reference of the host networks' tests."""

from __future__ import annotations

import torch
from torch.nn import functional as F

NEW = {"dy_freq", "dy_freq_2", "dy_freq_starrelu", "lf_gamma", "hf_gamma", "freq_scale_1", "freq_scale_2"}


def is_new(key):
    """Whether a state-dict key is one of FDAM's."""
    return bool(NEW & set(key.split(".")))


def strengthen(module, scale=0.3, seed=7):
    """Give FDAM's parameters a size that matters; at their start they change next to nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if is_new(name):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module


def silence(module):
    """Set the gammas and filters to zero: FDAM does nothing."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("lf_gamma", "hf_gamma", "complex_weights")):
                parameter.zero_()
    return module


def assert_small_start(module):
    for name, parameter in module.named_parameters():
        if name.endswith(("lf_gamma", "hf_gamma")):
            assert (parameter == 1e-5).all(), name
        elif name.endswith("complex_weights"):
            assert 0 < parameter.abs().max() < 1e-4, name


def assert_gradients(module, only_new=False):
    for name, parameter in module.named_parameters():
        if only_new and not is_new(name):
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def freq_scale_by_formula(layer, x):
    """``x + irfft2(rfft2(x) * M)`` for (B, C, H, W)."""
    b, c, h, w = x.shape
    spectrum = torch.fft.rfft2(x, norm="ortho")
    hidden = layer.reweight.fc1(x.mean((2, 3)))
    hidden = layer.reweight.act.scale * hidden.relu() ** 2 + layer.reweight.act.bias
    routing = layer.reweight.fc2(hidden).tanh().view(b, 16, 4)
    filters = F.interpolate(layer.complex_weights, spectrum.shape[-2:], mode="bicubic", align_corners=True)
    modulation = torch.einsum("bgf,fchw->bgchw", routing, filters).reshape(b, c, *spectrum.shape[-2:])
    return x + torch.fft.irfft2(spectrum * modulation, s=(h, w), norm="ortho")


def scale_tokens_by_formula(layer, x, hw):
    """The same for tokens (B, N, C), the leading ones beyond the grid unchanged."""
    extra = x.shape[1] - hw[0] * hw[1]
    grid = x[:, extra:].transpose(1, 2).reshape(len(x), -1, *hw)
    return torch.cat((x[:, :extra], freq_scale_by_formula(layer, grid).flatten(2).transpose(1, 2)), 1)


def softmax_attention(q, k, v, heads):
    """(B, N, C), (B, M, C), (B, M, C) -> (B, N, C), head by head."""
    c = q.shape[-1]
    out = torch.zeros_like(q)
    for head in range(heads):
        s = slice(head * c // heads, (head + 1) * c // heads)
        out[..., s] = (q[..., s] @ k[..., s].transpose(1, 2) / (c / heads) ** 0.5).softmax(-1) @ v[..., s]
    return out


def invert_by_formula(attn, x, y, v, heads):
    """``y + lf_gamma * alpha * y + hf_gamma * beta * (v - y)`` for (B, N, C)."""
    each = x.shape[-1] // heads
    star = attn.dy_freq_starrelu.scale * x.relu() ** 2 + attn.dy_freq_starrelu.bias
    alpha = attn.dy_freq_2(star).tanh().repeat_interleave(each, dim=-1)
    square = F.softplus(attn.dy_freq(star)) ** 2
    beta = (2 * square / (square + 0.3678)).repeat_interleave(each, dim=-1)
    return y + attn.lf_gamma * alpha * y + attn.hf_gamma * beta * (v - y)
