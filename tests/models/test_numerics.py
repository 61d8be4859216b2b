"""FDAM's numerics: exact gradients, many steps in mixed precision, determinism, checkpointing, odd inputs."""

import pytest
import torch
from fdam_formula import strengthen
from torch.autograd import gradcheck

from fdam_rotate.models.backbones import LSKNetFDAM
from fdam_rotate.models.layers import AttInvAttention, FreqScale, att_inv, cpu
from fdam_rotate.models.necks import FDAMFPN

SMALL = dict(embed_dims=(16, 16, 32, 32), mlp_ratios=(2, 2, 1, 1), depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 2))


def checked(layer, x):
    """Whether the gradients to input and parameters agree with finite differences."""
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    return gradcheck(call, (x, *(p.detach().requires_grad_() for p in layer.parameters())), fast_mode=True)


@pytest.mark.parametrize("size", [(3, 5), (4, 4), (14, 14)])
@pytest.mark.parametrize("impl", ["fft", "dft", "fft without C++"])
def test_gradcheck_freq_scale(size, impl, monkeypatch):
    if impl.endswith("without C++"):
        monkeypatch.setattr(cpu, "serves", lambda *_, **__: False)
        impl = "fft"
    torch.manual_seed(0)
    layer = FreqScale(4, group=2, num_filters=3, size=6, reweight_ratio=0.5, init_scale=0.5, impl=impl).double()
    assert checked(layer, torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True))


def test_gradcheck_attention():
    torch.manual_seed(0)
    layer = strengthen(AttInvAttention(6, 3, qkv_bias=True).double())
    assert checked(layer, torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True))


def test_gradcheck_gate_and_logits():
    def values(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)

    generator = torch.Generator().manual_seed(0)
    gate = (values(2, 6, 2, 3), values(2, 6, 2, 3), values(2, 3, 2, 3), values(2, 3, 2, 3), values(6), values(6))
    assert gradcheck(att_inv.inverted_gate, gate)
    assert gradcheck(att_inv._SquaredReLULinear.apply, (values(2, 6, 5), values(4, 6), values(4)))


def model_and_neck():
    torch.manual_seed(0)
    return torch.nn.ModuleList([LSKNetFDAM(**SMALL), FDAMFPN(SMALL["embed_dims"], 32, 5)])


on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("cpu", torch.bfloat16), pytest.param("cuda", torch.float16, marks=on_gpu)],
)
def test_fifty_mixed_precision_steps_stay_finite_and_learn(device, dtype):
    parts = model_and_neck().to(device)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=3e-3)
    x, losses = torch.randn(2, 3, 37, 50, device=device), []
    # mean squared distance of each level to a map of its own
    targets = [out.detach() + torch.randn_like(out) for out in parts[1](parts[0](x))]
    for _ in range(50):
        with torch.autocast(device, dtype=dtype):
            outs = parts[1](parts[0](x))
        loss = sum((out.float() - target).square().mean() for out, target in zip(outs, targets, strict=True))
        optimizer.zero_grad()
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in parts.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.isfinite(p).all() for p in parts.parameters())


def test_mixed_precision_is_close_to_float32():
    parts = strengthen(model_and_neck()).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wide = parts[1](parts[0](x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = parts[1](parts[0](x))
    for a, b in zip(wide, mixed, strict=True):
        assert b.dtype == torch.bfloat16
        assert (a - b.float()).abs().max() < 0.1 * a.abs().max()


def step(parts, x):
    parts.zero_grad()
    outs = parts[1](parts[0](x))
    sum(out.square().mean() for out in outs).backward()
    return [*outs, *(p.grad for p in parts.parameters())]


def test_deterministic_mode_repeats_itself():
    parts, x = strengthen(model_and_neck()), torch.randn(2, 3, 45, 64)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = ([t.clone() for t in step(parts, x)] for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_checkpointing_equals_the_plain_step():
    parts, saving = strengthen(model_and_neck()), strengthen(model_and_neck())
    saving[0].with_cp = True
    x = torch.randn(2, 3, 45, 64)
    assert all(torch.equal(a, b) for a, b in zip(step(parts, x), step(saving, x), strict=True))
    # recomputing a block must not count its batch a second time in BatchNorm's running statistics
    for (name, a), b in zip(parts.state_dict().items(), saving.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    norm = saving[0].block1[0].norm1
    assert (norm.momentum, norm.num_batches_tracked) == (0.1, 1)


@pytest.mark.parametrize("size", [(33, 61), (101, 32)])
def test_batch_of_one_at_odd_sizes(size):
    parts = strengthen(model_and_neck())
    assert all(torch.isfinite(value).all() for value in step(parts, torch.randn(1, 3, *size)))


def test_an_image_does_not_depend_on_its_batch():
    parts = strengthen(model_and_neck()).eval()
    x = torch.randn(3, 3, 40, 48)
    together = parts[1](parts[0](x))
    alone = parts[1](parts[0](x[1:2]))
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a[1:2], b, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"freq_scale": False}, {"att_inv": False}])
def test_empty_batch_is_refused(settings):
    with pytest.raises(ValueError, match="expected non-empty features"):
        LSKNetFDAM(**SMALL, **settings).eval()(torch.zeros(0, 3, 32, 32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu():
    parts, x = strengthen(model_and_neck()), torch.randn(2, 3, 45, 64)
    expected = [t.clone() for t in step(parts, x)]
    found = step(parts.cuda(), x.cuda())
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b.cpu(), rtol=1e-2, atol=1e-3 * a.abs().max().item())
