"""AttInv against its formula written plainly, in float64."""

import pytest
import torch
from fdam_formula import invert_by_formula, softmax_attention, strengthen
from mmcv.runner import BaseModule
from torch import nn
from torch.nn import functional as F

from fdam_rotate.models.backbones.lsknet_fdam import InvertedLSKAttention
from fdam_rotate.models.layers import AttInvAttention, StarReLU, att_inv


def by_formula(layer, x):
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    y = softmax_attention(q, k, v, layer.num_heads)
    return layer.proj(invert_by_formula(layer, x, y, v, layer.num_heads))


@pytest.mark.parametrize(("dim", "heads", "tokens", "bias"), [(12, 3, 7, True), (8, 1, 1, False), (8, 8, 5, True)])
def test_equals_the_formula_with_its_gradients(dim, heads, tokens, bias):
    torch.manual_seed(0)
    layer = strengthen(AttInvAttention(dim, heads, qkv_bias=bias).double())
    x = torch.randn(2, tokens, dim, dtype=torch.float64, requires_grad=True)
    expected, out = by_formula(layer, x), layer(x)
    assert torch.allclose(out, expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(layer(x), expected, rtol=1e-10, atol=1e-12)
    inputs, grad = [x, *layer.parameters()], torch.randn_like(x)
    wanted = torch.autograd.grad(expected, inputs, grad)
    for a, b in zip(torch.autograd.grad(out, inputs, grad), wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-11)


def test_weights_by_hand():
    low, high = torch.tensor([0.0, 100.0, -100.0]), torch.tensor([-100.0, 0.0, 100.0])
    alpha, beta = att_inv.att_inv_weights(low, high)
    assert alpha.tolist() == [0.0, 1.0, -1.0]
    # t = softplus: 0, ln 2, 100; 2 t^2 / (t^2 + 0.3678): 0, 0.960906 / 0.848253, 20000 / 10000.3678
    assert beta.tolist() == pytest.approx([0.0, 1.132805, 1.999926], abs=1e-6)
    assert att_inv.att_inv_weights(low.half(), high.half())[1].dtype == torch.float32


@pytest.mark.parametrize("heads", [1, 3, 6])
def test_inverted_gate_equals_the_formula(heads):
    torch.manual_seed(0)
    u, s = (torch.randn(2, 6, 3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    alpha, beta = (torch.randn(2, heads, 3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    gammas = [torch.randn(6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    y, repeats = u * s, 6 // heads
    low, high = (
        gamma[:, None, None] * weight.repeat_interleave(repeats, dim=1)
        for gamma, weight in zip(gammas, (alpha, beta), strict=True)
    )
    expected = y + low * y + high * (u - y)
    inputs = (u, s, alpha, beta, *gammas)
    out = att_inv.inverted_gate(*inputs)
    assert torch.allclose(out, expected, atol=1e-13)
    with torch.no_grad():
        assert torch.equal(att_inv.inverted_gate(*inputs), out)
    grad = torch.randn_like(u)
    wanted = torch.autograd.grad(expected, inputs, grad)
    for a, b in zip(torch.autograd.grad(out, inputs, grad), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_gate_without_inversion_is_exact():
    u, s = torch.randn(2, 6, 3, 5), torch.randn(2, 6, 3, 5)
    alpha, beta, zero = torch.rand(2, 2, 3, 5), torch.rand(2, 2, 3, 5), torch.zeros(6)
    assert torch.equal(att_inv.inverted_gate(u, s, alpha, beta, zero, zero), u * s)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_head_logits_equal_the_layers(kind):
    torch.manual_seed(0)
    make = (lambda: nn.Linear(6, 2)) if kind == "linear" else (lambda: nn.Conv2d(6, 2, 1))
    high, low, star = make().double(), make().double(), StarReLU(1.7, -0.4).double()
    x = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    z = star(x)

    def plain(layer):
        return layer(z.transpose(1, 2)).transpose(1, 2) if kind == "linear" else layer(z[..., None])[..., 0]

    outs, wanted = att_inv.head_logits(x, high, low, star), (plain(low), plain(high))
    parameters = [x, *high.parameters(), *low.parameters(), *star.parameters()]
    for out, expected in zip(outs, wanted, strict=True):
        assert torch.allclose(out, expected, atol=1e-13)
        assert out.is_contiguous() or out.mT.is_contiguous()  # torch is many times slower on a part of a tensor
    grads = torch.autograd.grad(sum(out.cos().sum() for out in outs), parameters)
    for a, b in zip(grads, torch.autograd.grad(sum(out.cos().sum() for out in wanted), parameters), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 3])
def test_the_gate_for_exporters_is_the_gate(heads, monkeypatch):
    torch.manual_seed(0)
    attention = InvertedLSKAttention(6, heads).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    x, u, s = torch.randn(3, 2, 6, 3, 5, dtype=torch.float64)
    logits = att_inv.head_logits(x.flatten(2), attention.dy_freq, attention.dy_freq_2, attention.dy_freq_starrelu)
    alpha, beta = (weight.view(2, heads, 3, 5) for weight in att_inv.att_inv_weights(*logits))
    expected = att_inv.inverted_gate(u, s, alpha, beta, attention.lf_gamma, attention.hf_gamma)
    assert torch.allclose(att_inv.convolved_gate(x, u, s, attention, heads), expected, atol=1e-12)
    monkeypatch.setattr(att_inv, "_inverted_gate", None)  # which the other way needs
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    with torch.no_grad():
        assert torch.allclose(attention.gate(x, u, s), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(dtype):
    torch.manual_seed(0)
    layer = strengthen(AttInvAttention(32, 4))
    x = torch.randn(2, 9, 32)
    expected = layer(x)
    with torch.autocast("cpu", dtype=dtype):
        mixed = layer(x)
    half = layer.to(dtype)(x.to(dtype))
    for out in (mixed, half):
        assert out.dtype == dtype
        assert (out.float() - expected).abs().max() < 0.03 * expected.abs().max()


def test_start_is_plain_attention_nearly_and_survives_a_parent():
    class Parent(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type="Constant", layer="Linear", val=7.0))
            self.attn = AttInvAttention(16, 4)

    parent = Parent()
    parent.init_weights()
    attn = parent.attn
    assert (attn.qkv.weight == 7).all()  # the projections are the parent's to start
    assert attn.dy_freq.weight.abs().max() <= 0.25
    assert (attn.lf_gamma == 1e-5).all()
    assert (attn.hf_gamma == 1e-5).all()
    layer, x = AttInvAttention(16, 4), torch.randn(1, 6, 16)
    q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in layer.qkv(x).chunk(3, dim=-1))
    plain = layer.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    assert 0 < (layer(x) - plain).abs().max() < 1e-4


def test_keys():
    layer = AttInvAttention(8, 2)
    shapes = {key: tuple(value.shape) for key, value in layer.state_dict().items()}
    assert shapes == {
        "lf_gamma": (8,),
        "hf_gamma": (8,),
        "qkv.weight": (24, 8),
        "proj.weight": (8, 8),
        "proj.bias": (8,),
        "dy_freq.weight": (2, 8),
        "dy_freq.bias": (2,),
        "dy_freq_2.weight": (2, 8),
        "dy_freq_2.bias": (2,),
        "dy_freq_starrelu.scale": (1,),
        "dy_freq_starrelu.bias": (1,),
    }


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_heads must divide dim, got dim=10 and num_heads=3"):
        AttInvAttention(10, 3)
    layer = AttInvAttention(8, 2)
    for shape in [(0, 3, 8), (2, 0, 8), (2, 3, 7), (3, 8)]:
        with pytest.raises(ValueError, match=r"expected non-empty tokens of shape \(B, N, 8\), got"):
            layer(torch.zeros(shape))
