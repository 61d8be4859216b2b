"""FreqFusion against loops over pixels in float64, at twice, odd and unrelated sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fdam_rotate.models.layers.freq_fusion import (
    FreqFusion,
    OffsetSampler,
    local_similarity,
    normalize_kernels,
    reassemble,
)

# fine size, coarse size: exact double, odd halves, equal, factor 4 with a remainder, and no whole ratio
SIZES = [((8, 6), (4, 3)), ((7, 9), (4, 5)), ((5, 4), (5, 4)), ((9, 12), (3, 3)), ((7, 8), (3, 5)), ((1, 1), (1, 1))]


def slow_kernels(logits):
    batch, taps, height, width = logits.shape
    k = round(math.sqrt(taps))
    window = [0.54 - 0.46 * math.cos(2 * math.pi * n / (k - 1)) for n in range(k)]
    out = np.zeros_like(logits)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                weights = [math.exp(z) * window[t // k] * window[t % k] for t, z in enumerate(logits[b, :, i, j])]
                out[b, :, i, j] = np.array(weights) / sum(weights)
    return out


def slow_reassemble(x, kernels):
    batch, channels, h, w = x.shape
    taps, height, width = kernels.shape[1:]
    k = round(math.sqrt(taps))
    out = np.zeros((batch, channels, height, width))
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                si, sj = math.floor(i * h / height + 1e-9), math.floor(j * w / width + 1e-9)
                for t in range(taps):
                    y = min(max(si + t // k - k // 2, 0), h - 1)
                    z = min(max(sj + t % k - k // 2, 0), w - 1)
                    out[b, :, i, j] += kernels[b, t, i, j] * x[b, :, y, z]
    return out


def slow_similarity(x, dilation=2):
    batch, _, height, width = x.shape
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    out = np.zeros((batch, 8, height, width))
    for b in range(batch):
        for n, (dy, dx) in enumerate(steps):
            for i in range(height):
                for j in range(width):
                    y, z = i + dy * dilation, j + dx * dilation
                    if 0 <= y < height and 0 <= z < width:
                        p, q = x[b, :, i, j], x[b, :, y, z]
                        out[b, n, i, j] = p @ q / (np.linalg.norm(p) * np.linalg.norm(q))
    return out


def slow_sample(x, offset, coarse_size):
    """``offset`` (B, 2, groups, H, W) in coarse pixels; bilinear with border values."""
    batch, channels, height, width = x.shape
    groups = offset.shape[2]
    out = np.zeros_like(x)
    for b in range(batch):
        for c in range(channels):
            g = c // (channels // groups)
            for i in range(height):
                for j in range(width):
                    px = j + offset[b, 0, g, i, j] * width / coarse_size[1]
                    py = i + offset[b, 1, g, i, j] * height / coarse_size[0]
                    px, py = min(max(px, 0), width - 1), min(max(py, 0), height - 1)
                    x0, y0 = math.floor(px), math.floor(py)
                    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
                    fx, fy = px - x0, py - y0
                    top = x[b, c, y0, x0] * (1 - fx) + x[b, c, y0, x1] * fx
                    bottom = x[b, c, y1, x0] * (1 - fx) + x[b, c, y1, x1] * fx
                    out[b, c, i, j] = top * (1 - fy) + bottom * fy
    return out


def slow_shuffle(x, size):
    """(B, 4n, h, w) to (B, n, *size): 2 x 2 blocks, then the nearest pixel."""
    batch, channels, h, w = x.shape
    out = np.zeros((batch, channels // 4, *size))
    for i in range(size[0]):
        for j in range(size[1]):
            y, z = i * 2 * h // size[0], j * 2 * w // size[1]
            out[:, :, i, j] = x[:, (y % 2) * 2 + z % 2 :: 4, y // 2, z // 2]
    return out


def slow_fusion(module, high, low):
    """FreqFusion's equations with every kernel and sample by loops; only convolutions and norms are torch's."""

    def conv(layer, x):
        return layer(torch.from_numpy(x)).detach().numpy()

    fine, coarse = conv(module.hr_channel_compressor, high), conv(module.lr_channel_compressor, low)
    size = high.shape[-2:]
    high_logits = conv(module.content_encoder2, fine)
    fine = fine + (fine - slow_reassemble(fine, slow_kernels(high_logits)))
    fine_low_logits = conv(module.content_encoder, fine)
    first = slow_reassemble(conv(module.content_encoder, coarse), slow_kernels(fine_low_logits))
    kernels = slow_kernels(fine_low_logits + first)
    up = slow_reassemble(low, kernels)
    high_logits = high_logits + slow_reassemble(conv(module.content_encoder2, coarse), kernels)
    high = high + (high - slow_reassemble(high, slow_kernels(high_logits)))

    sampler = module.dysampler
    fine, coarse = conv(sampler.norm_hr, fine), conv(sampler.norm_lr, coarse)
    fine = np.concatenate((fine, slow_similarity(fine)), axis=1)
    coarse = np.concatenate((coarse, slow_similarity(coarse)), axis=1)
    shift = conv(sampler.hr_offset, fine) + slow_shuffle(conv(sampler.offset, coarse), size)
    gate = conv(sampler.hr_direct_scale, fine) + slow_shuffle(conv(sampler.direct_scale, coarse), size)
    offset = (shift / (1 + np.exp(-gate))).reshape(len(high), 2, sampler.groups, *size)
    return high, slow_sample(up, offset, low.shape[-2:])


def randomize(module, seed=0, scale=0.3):
    """Give every parameter a size that matters: at the start offsets and kernel logits are nearly zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * scale)
    return module


def maps(fine, coarse, channels=(4, 4), batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    high = torch.randn(batch, channels[0], *fine, generator=generator, dtype=torch.float64)
    low = torch.randn(batch, channels[1], *coarse, generator=generator, dtype=torch.float64)
    return high.to(dtype), low.to(dtype)


@pytest.mark.parametrize("taps", [9, 25])
def test_kernels_equal_the_formula_and_sum_to_one(taps):
    logits = torch.randn(2, taps, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    kernels = normalize_kernels(logits)
    np.testing.assert_allclose(kernels.numpy(), slow_kernels(logits.numpy()), rtol=1e-10)
    torch.testing.assert_close(kernels.sum(1), torch.ones(2, 3, 4, dtype=torch.float64))


def test_kernels_of_half_logits_are_float32():
    assert normalize_kernels(torch.zeros(1, 9, 2, 2, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize(("fine", "coarse"), SIZES)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_reassembly_equals_loops(fine, coarse, size):
    _, x = maps(fine, coarse)
    kernels = torch.randn(2, size * size, *fine, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    before = x.clone()
    np.testing.assert_allclose(reassemble(x, kernels).numpy(), slow_reassemble(x.numpy(), kernels.numpy()), atol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("fine", "coarse"), [((4, 6), (2, 3)), ((5, 3), (3, 2)), ((7, 4), (3, 3))])
def test_reassembly_gradients(fine, coarse):
    x = torch.randn(1, 2, *coarse, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(1, 9, *fine, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(reassemble, (x, kernels), fast_mode=True)


def test_many_channels_equal_channels_one_by_one():
    """Large maps are worked on in chunks of channels; their kernels' gradients must add up over the chunks."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 70, 32, 33, generator=generator, requires_grad=True)
    kernels = torch.randn(1, 9, 64, 66, generator=generator, requires_grad=True)
    outs, grads = [], []
    for parts in (x,), x.split(1, dim=1):
        out = torch.cat([reassemble(part, kernels) for part in parts], dim=1)
        outs.append(out)
        grads.append(torch.autograd.grad((out * torch.arange(70.0)[:, None, None]).sum(), (x, kernels)))
    torch.testing.assert_close(*outs)
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-2)


def test_reassembly_refuses_even_kernels():
    with pytest.raises(ValueError, match="k odd, got 16"):
        reassemble(torch.zeros(1, 1, 4, 4), torch.zeros(1, 16, 4, 4))


@pytest.mark.parametrize(("fine", "coarse"), SIZES)
def test_constant_maps_pass_low_and_vanish_high(fine, coarse):
    """A low-pass keeps a constant, its complement removes it, borders included."""
    module = randomize(FreqFusion(4, 4, compressed_channels=8).double())
    high, low = torch.full((1, 4, *fine), 3.0).double(), torch.full((1, 4, *coarse), -2.0).double()
    fused, up = module(high, low)
    torch.testing.assert_close(fused, high)
    torch.testing.assert_close(up, torch.full_like(high, -2.0))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 7)])
def test_similarity_equals_loops(size):
    x = torch.randn(2, 5, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    np.testing.assert_allclose(local_similarity(x).numpy(), slow_similarity(x.numpy()), atol=1e-12)


def test_similarity_of_zeros_is_zero_and_differentiable():
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    similarity = local_similarity(x)
    similarity.sum().backward()
    assert not similarity.any()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("fine", "coarse"), SIZES)
def test_fusion_equals_loops(fine, coarse):
    module = randomize(FreqFusion(6, 4, compressed_channels=8, feature_resample_group=2).double())
    high, low = maps(fine, coarse, channels=(6, 4))
    with torch.no_grad():
        ours = module(high, low)
    slow = slow_fusion(module, high.numpy(), low.numpy())
    for a, b in zip(ours, slow, strict=True):
        assert a.shape[-2:] == high.shape[-2:]
        np.testing.assert_allclose(a.numpy(), b, atol=1e-10)


def test_sampler_starts_as_the_identity_and_then_moves():
    sampler = OffsetSampler(8, groups=2)
    x, fine, coarse = torch.randn(1, 4, 9, 7), torch.randn(1, 8, 9, 7), torch.randn(1, 8, 5, 4)
    offsets = sampler.offsets(fine, coarse)
    assert offsets.shape == (1, 2, 2, 9, 7)
    assert 0 < offsets.abs().max() < 0.05
    assert (sampler(x, fine, coarse) - x).abs().max() < 0.2
    with torch.no_grad():
        for conv in (sampler.offset, sampler.hr_offset):
            conv.weight.zero_()
            conv.bias.zero_()
        torch.testing.assert_close(sampler(x, fine, coarse), x, atol=1e-5, rtol=0)
        sampler.hr_offset.bias[:2] = 2 * 4 / 7  # x offsets, halved by the gate: one fine pixel to the right
        torch.testing.assert_close(sampler(x, fine, coarse)[..., :-1], x[..., 1:], atol=1e-4, rtol=0)


def test_switches_change_the_result():
    high, low = maps((8, 8), (4, 4), dtype=torch.float32)
    full = randomize(FreqFusion(4, 4, 8))
    plain = FreqFusion(4, 4, 8, use_high_pass=False, feature_resample=False)
    plain.load_state_dict({k: v for k, v in full.state_dict().items() if k in plain.state_dict()})
    fused, up = full(high, low)
    fused_plain, up_plain = plain(high, low)
    assert torch.equal(fused_plain, high)
    assert not torch.allclose(fused, high)
    assert not torch.allclose(up, up_plain)
    grouped = randomize(FreqFusion(4, 4, 8, feature_resample_group=2))
    assert grouped.dysampler.hr_offset.out_channels == 4
    wide = FreqFusion(4, 4, 12, lowpass_kernel=7, highpass_kernel=5, encoder_kernel=1)
    assert wide.content_encoder.weight.shape == (49, 12, 1, 1)
    assert wide.content_encoder2.weight.shape == (25, 12, 1, 1)
    assert [m.shape for m in wide(high, low)] == [high.shape, high.shape]


def test_parameter_names_are_the_published_ones():
    names = {name.rsplit(".", 1)[0] for name in FreqFusion(8, 8).state_dict()}
    assert names == {
        "hr_channel_compressor", "lr_channel_compressor", "content_encoder", "content_encoder2",
        "dysampler.norm_hr", "dysampler.norm_lr", "dysampler.offset", "dysampler.direct_scale",
        "dysampler.hr_offset", "dysampler.hr_direct_scale",
    }  # fmt: skip


def test_every_parameter_gets_a_gradient_at_the_start():
    module = FreqFusion(8, 8, 16)
    high, low = maps((9, 8), (5, 4), channels=(8, 8), dtype=torch.float32)
    fused, up = module(high.requires_grad_(), low.requires_grad_())
    ((fused - 1) ** 2 + (up + 1) ** 2).mean().backward()
    for name, parameter in [*module.named_parameters(), ("high", high), ("low", low)]:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_dtype_and_the_values(dtype):
    module = FreqFusion(8, 8, 16)
    high, low = maps((8, 6), (4, 3), channels=(8, 8), dtype=torch.float32)
    exact = module(high, low)
    half = FreqFusion(8, 8, 16).to(dtype)
    half.load_state_dict(module.state_dict())
    for a, b in zip(half(high.to(dtype), low.to(dtype)), exact, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, atol=0.05, rtol=0.05)


def test_autocast_keeps_the_dtype():
    module = FreqFusion(8, 8, 16)
    high, low = maps((8, 6), (4, 3), channels=(8, 8), dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(out.dtype == torch.bfloat16 for out in module(high, low))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lowpass_kernel": 4}, "lowpass_kernel must be odd and positive, got 4"),
        ({"highpass_kernel": 0}, "highpass_kernel must be odd and positive, got 0"),
        ({"encoder_kernel": 2}, "encoder_kernel must be odd"),
        ({"feature_resample_group": 3}, "must divide lr_channels = 8, got 3"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FreqFusion(8, 8, **arguments)


def test_source_pixels_are_those_of_nearest_upsampling():
    """The convention promised in the docstring: a one-tap kernel of ones is FPN's nearest upsampling."""
    for fine, coarse in SIZES:
        x = torch.arange(float(math.prod(coarse))).reshape(1, 1, *coarse)
        torch.testing.assert_close(reassemble(x, torch.ones(1, 1, *fine)), F.interpolate(x, fine, mode="nearest"))
