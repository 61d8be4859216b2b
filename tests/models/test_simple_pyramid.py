"""SimplePyramid: ViTDet's levels, at any size."""

from __future__ import annotations

import pytest
import torch
from mmrotate.models.builder import build_neck
from torch.nn import functional as F

from fdam_rotate.models.necks import SimplePyramid


def neck(**settings):
    torch.manual_seed(0)
    return SimplePyramid(**{"in_channels": [16], "out_channels": 8, **settings})


@pytest.mark.parametrize(("size", "num_outs"), [((8, 8), 5), ((5, 3), 4), ((2, 2), 6), ((1, 1), 5)])
def test_shapes(size, num_outs):
    outs = neck(num_outs=num_outs)([torch.randn(2, 16, *size)])
    assert isinstance(outs, tuple)
    expected = [(4 * size[0], 4 * size[1]), (2 * size[0], 2 * size[1]), size]
    while len(expected) < num_outs:
        expected.append(tuple(-(-n // 2) for n in expected[-1]))
    assert [tuple(out.shape) for out in outs] == [(2, 8, *s) for s in expected]


def channel_norm(x, layer):
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return (x - mean) / (var + 1e-6).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]


def test_levels_equal_the_paper():
    module = neck()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    first, x = torch.randn(1, 16, 3, 3), torch.randn(1, 16, 3, 4)

    def up(x, conv):
        return F.conv_transpose2d(x, conv.weight, conv.bias, stride=2)

    four, two, one, half = module.levels
    made = [
        up(F.gelu(channel_norm(up(x, four[0]), four[1])), four[3]),
        up(x, two[0]),
        x,
        F.max_pool2d(F.pad(x, (0, 0, 0, 1), value=-torch.inf), 2),
    ]
    outs = module([first, x])
    for level, y, out in zip((four, two, one, half), made, outs, strict=False):
        conv1, norm1, conv3, norm3 = level[-4:]
        y = channel_norm(F.conv2d(y, conv1.weight), norm1)
        y = channel_norm(F.conv2d(y, conv3.weight, padding=1), norm3)
        torch.testing.assert_close(out, y, atol=1e-5, rtol=1e-4)
    assert torch.equal(outs[4], outs[3][..., ::2, ::2])


def test_gradients_and_dtype():
    module = neck()
    sum(((out - 1) ** 2).mean() for out in module([torch.randn(1, 16, 4, 4)])).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())
    for dtype in (torch.float16, torch.bfloat16):
        outs = module.to(dtype)([torch.randn(1, 16, 4, 4, dtype=dtype)])
        assert all(out.dtype == dtype for out in outs)


def test_channels_may_be_one_number():
    assert neck(in_channels=16)([torch.randn(1, 16, 2, 2)])[0].shape == (1, 8, 8, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"in_channels": [18]}, "multiple of 4, got 18"), ({"num_outs": 3}, "num_outs must be at least 4, got 3")],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        neck(**settings)


def test_registered():
    assert isinstance(build_neck(dict(type="SimplePyramid", in_channels=[16])), SimplePyramid)
    with pytest.raises(TypeError, match="norm"):
        build_neck(dict(type="SimplePyramid", in_channels=[16], norm="LN"))
