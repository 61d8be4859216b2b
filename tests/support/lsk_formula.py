"""LSKNet and its FDAM form written plainly on a state dict (evaluation mode): the reference of the backbones' tests."""

from __future__ import annotations

import types

import torch
from fdam_formula import freq_scale_by_formula
from torch.nn import functional as F


def lsknet_by_formula(state, x, depths, heads=None):
    """Return the four stages' features; with ``heads`` AttInv and FreqScale are applied where their keys are."""
    outs = []
    for stage, depth in enumerate(depths, 1):
        embed = f"patch_embed{stage}."
        kernel = state[embed + "proj.weight"].shape[-1]
        x = _conv(state, embed + "proj", x, stride=4 if stage == 1 else 2, padding=kernel // 2)
        x = _batch_norm(state, embed + "norm", x)
        for j in range(depth):
            block = f"block{stage}.{j}."
            a = _attention(state, block + "attn.", _batch_norm(state, block + "norm1", x), heads and heads[stage - 1])
            a = _freq_scale(state, block + "freq_scale_1.", a)
            x = x + state[block + "layer_scale_1"][:, None, None] * a
            m = _mlp(state, block + "mlp.", _batch_norm(state, block + "norm2", x))
            m = _freq_scale(state, block + "freq_scale_2.", m)
            x = x + state[block + "layer_scale_2"][:, None, None] * m
        mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        weight, bias = (state[f"norm{stage}.{name}"][:, None, None] for name in ("weight", "bias"))
        x = (x - mean) / (var + 1e-6).sqrt() * weight + bias
        outs.append(x)
    return outs


def _attention(state, key, x, heads):
    u = F.gelu(_conv(state, key + "proj_1", x))
    unit = key + "spatial_gating_unit."
    channels = u.shape[1]
    near = _conv(state, unit + "conv0", u, padding=2, groups=channels)
    far = _conv(state, unit + "conv_spatial", near, padding=9, dilation=3, groups=channels)
    near, far = _conv(state, unit + "conv1", near), _conv(state, unit + "conv2", far)
    both = torch.cat((near, far), 1)
    pooled = torch.stack((both.mean(1), both.max(1).values), 1)
    s1, s2 = _conv(state, unit + "conv_squeeze", pooled, padding=3).sigmoid().unbind(1)
    y = u * _conv(state, unit + "conv", near * s1[:, None] + far * s2[:, None])
    if heads:
        z = state[key + "dy_freq_starrelu.scale"] * x.relu() ** 2 + state[key + "dy_freq_starrelu.bias"]
        alpha = _conv(state, key + "dy_freq_2", z).tanh().repeat_interleave(channels // heads, 1)
        t = (1 + _conv(state, key + "dy_freq", z).exp()).log()
        beta = (2 * t**2 / (t**2 + 0.3678)).repeat_interleave(channels // heads, 1)
        lf, hf = (state[key + name][:, None, None] for name in ("lf_gamma", "hf_gamma"))
        y = y + lf * alpha * y + hf * beta * (u - y)
    return _conv(state, key + "proj_2", y) + x


def _mlp(state, key, x):
    x = _conv(state, key + "fc1", x)
    x = F.gelu(_conv(state, key + "dwconv.dwconv", x, padding=1, groups=x.shape[1]))
    return _conv(state, key + "fc2", x)


def _freq_scale(state, key, x):
    if key + "complex_weights" not in state:
        return x

    def linear(name):
        return lambda t: t @ state[f"{key}reweight.{name}.weight"].T

    act = types.SimpleNamespace(scale=state[key + "reweight.act.scale"], bias=state[key + "reweight.act.bias"])
    reweight = types.SimpleNamespace(fc1=linear("fc1"), fc2=linear("fc2"), act=act)
    layer = types.SimpleNamespace(complex_weights=state[key + "complex_weights"], reweight=reweight)
    return freq_scale_by_formula(layer, x)


def _conv(state, key, x, **settings):
    return F.conv2d(x, state[key + ".weight"], state[key + ".bias"], **settings)


def _batch_norm(state, key, x):
    mean, var, weight, bias = (
        state[f"{key}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias
