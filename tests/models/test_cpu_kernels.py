"""FDAM's C++ against torch's operations, which test_freq_scale.py and test_att_inv.py hold to the formulas."""

import ctypes
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad as fwAD
from torch.utils.flop_counter import FlopCounterMode

from fdam_rotate.models.backbones.lsknet_fdam import InvertedLSKAttention
from fdam_rotate.models.layers import FreqScale, att_inv, cpu, spectrum
from fdam_rotate.models.layers.cpu import library, scale

SOURCE = Path(cpu.__file__).with_name("kernels.cpp")

# maps, height, width, filter size: whole and broken groups of eight; radix 2, 3, 4, 5 and primes of 7 and above, in
# one factor and in two; rows and columns of one; filters narrower than the four taps of a cubic kernel
SHAPES = [
    (8, 16, 16, 14),
    (16, 14, 14, 14),
    (11, 24, 30, 14),
    (3, 25, 42, 14),
    (9, 67, 9, 14),
    (7, 49, 22, 6),
    (5, 8, 121, 14),
    (2, 1, 6, 14),
    (2, 5, 1, 14),
    (1, 1, 1, 14),
    (10, 12, 20, 3),
    (8, 9, 8, 2),
    (8, 9, 8, 1),
]


def values(*shape, dtype, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def case(n, height, width, size, dtype, images=1):
    x, grad = (values(images, n, height, width, dtype=dtype, seed=seed) for seed in (0, 1))
    return x, values(images, n, size, size // 2 + 1, dtype=dtype, seed=2), grad


def close(a, b):
    """Whether ``a`` equals ``b``, which torch computed in float64, within some roundings of its dtype."""
    return a.shape == b.shape and (a - b).abs().max() <= 30 * torch.finfo(a.dtype).eps * b.abs().max()


def assert_scale_equals_torch(shape, dtype, residual):
    x, kernels, grad = case(*shape, dtype)
    y, kept = cpu.scaled(x, kernels, residual, keep=True)
    wide, wide_kernels, wide_grad = (t.double() for t in (x, kernels, grad))
    expected, spectra = spectrum._scaled(wide, wide_kernels, residual, keep=True)
    assert close(y, expected)
    assert torch.equal(cpu.scaled(x, kernels, residual, keep=False)[0], y)
    pairs = zip(
        cpu.scaled_gradient(grad, kernels, residual, kept),
        spectrum._scaled_gradient(wide_grad, wide_kernels, residual, spectra),
        strict=True,
    )
    assert all(close(a, b) for a, b in pairs)
    grad_x, nothing = cpu.scaled_gradient(grad, kernels, residual, None)
    assert nothing is None
    assert close(grad_x, spectrum._scaled_gradient(wide_grad, wide_kernels, residual, None)[0])


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch(shape, dtype, residual):
    assert cpu.available(), "not built: make install"
    assert_scale_equals_torch(shape, dtype, residual)


def channels_last(*tensors):
    return [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors]


def same_order(a, b):
    return a.stride() == b.stride()


@pytest.fixture(params=[8, 16])
def lanes(request, monkeypatch):
    """As many maps at a time as most processors take, and as those with AVX-512 do."""
    if request.param > library.float32_lanes():
        pytest.skip("this processor has no AVX-512")
    monkeypatch.setattr(scale, "float32_lanes", lambda: request.param)
    return request.param


# images, channels, height, width: one, two and three groups of eight, one and more of sixteen, an odd row, rows and
# columns of one, a long row, lengths of radix 2, 3, 5 and 7
MAPS = [(2, 16, 24, 30), (1, 24, 7, 9), (3, 8, 5, 8), (2, 32, 1, 6), (1, 48, 5, 1), (1, 16, 14, 256)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", MAPS)
def test_channels_last_gives_the_same(shape, dtype, lanes):
    images, *rest = shape
    x, kernels, grad = case(*rest, 14, dtype, images)
    x_last, grad_last = channels_last(x, grad)
    same = torch.equal if lanes == 8 or dtype == torch.float64 or shape[1] % lanes else close
    for residual in (False, True):
        y, kept = cpu.scaled(x, kernels, residual, keep=True)
        y_last, kept_last = cpu.scaled(x_last, kernels, residual, keep=True)
        assert same(y_last, y)
        assert same_order(y_last, x_last)
        found = cpu.scaled_gradient(grad_last, kernels, residual, kept_last)
        assert same_order(found[0], x_last)
        expected = cpu.scaled_gradient(grad, kernels, residual, kept)
        assert all(same(a, b) for a, b in zip(found, expected, strict=True))
        # a gradient of another layout than the features had
        for grad_other, kept_other in ((grad, kept_last), (grad_last, kept)):
            found = cpu.scaled_gradient(grad_other, kernels, residual, kept_other)
            assert all(same(a, b) for a, b in zip(found, expected, strict=True))
            assert same_order(found[0], grad_other)


def test_spectra_of_another_number_of_maps_are_refused(lanes):
    x, kernels, grad = case(16, 6, 10, 14, torch.float32)
    _, kept = cpu.scaled(*channels_last(x), kernels, False, keep=True)
    assert kept.shape[-1] == lanes
    with pytest.raises(ValueError, match="expected spectra of shape"):
        cpu.scaled_gradient(grad, kernels, False, kept.reshape(-1, *kept.shape[1:4], 4))


def test_channels_last_with_a_broken_group_is_sorted_first():
    x, kernels, _ = case(12, 5, 8, 14, torch.float32, images=2)
    assert torch.equal(cpu.scaled(*channels_last(x), kernels, True, False)[0], cpu.scaled(x, kernels, True, False)[0])


# images, channels, heads, height, width: less than eight positions, a rest, a whole and a broken block of 128 and 1024
GATES = [(1, 4, 1, 1, 3), (2, 6, 3, 5, 5), (3, 10, 5, 16, 16), (1, 8, 8, 31, 34), (2, 2, 2, 32, 64)]


def gate_case(images, channels, heads, height, width, dtype):
    maps, weights = (images, channels, height, width), (images, heads, height, width)
    shapes = (maps, maps, weights, weights, (channels,), (channels,), maps)
    return [values(*shape, dtype=dtype, seed=seed) for seed, shape in enumerate(shapes)]


def assert_gate_equals_torch(shape, dtype, monkeypatch):
    *arguments, grad = gate_case(*shape, dtype)
    with monkeypatch.context() as patch:
        patch.setattr(cpu, "serves", lambda *_, **__: False)
        wide = [t.double() for t in arguments]
        expected = att_inv._inverted_gate(*wide)
        expected_gradient = att_inv._inverted_gate_gradient(grad.double(), *wide)
    for grad_given, *given in ((grad, *arguments), channels_last(grad, *arguments)):
        gated, found = cpu.inverted_gate(*given), cpu.inverted_gate_gradient(grad_given, *given)
        assert close(gated, expected)
        assert all(close(a, b) for a, b in zip(found, expected_gradient, strict=True))
        assert all(same_order(a, b) for a, b in zip((gated, *found[:4]), (given[0], *given[:4]), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", GATES)
def test_gate_equals_torch(shape, dtype, monkeypatch):
    assert_gate_equals_torch(shape, dtype, monkeypatch)


# images, tokens, channels, outputs: one of each; less than eight channels, and a rest; whole and broken blocks of 128
TOKENS = [(1, 1, 1, 1), (2, 5, 3, 2), (2, 130, 12, 5), (1, 256, 64, 2), (3, 43, 24, 16)]


def token_case(images, tokens, channels, outputs, dtype):
    """Tokens, weight, bias, and the gradient of the outputs; all but the tokens as the kernels want them for these."""
    others = cpu.computed_in(dtype)
    return (
        values(images, tokens, channels, dtype=dtype, seed=0),
        values(outputs, channels, dtype=others, seed=1),
        values(outputs, dtype=others, seed=2),
        values(images, tokens, outputs, dtype=others, seed=3),
    )


def assert_logits_equal_the_formula(shape, dtype):
    *given, grad = token_case(*shape, dtype)
    x, weight, bias = (t.double().requires_grad_() for t in given)
    expected = (x[:, :, None].relu() ** 2 * weight).sum(-1) + bias
    wanted = torch.autograd.grad(expected, (x, weight, bias), grad.double())
    assert close(cpu.squared_relu_linear(*given), expected)
    found = cpu.squared_relu_linear_gradient(grad, *given[:2])
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))
    # views of another order, and a gradient that is one number in memory
    odd = [torch.stack((t, t), dim=-1)[..., 0] for t in given]
    assert torch.equal(cpu.squared_relu_linear(*odd), cpu.squared_relu_linear(*given))
    ones = torch.ones((), dtype=weight.dtype).expand(grad.shape).to(grad.dtype)
    for a, b in zip(
        cpu.squared_relu_linear_gradient(ones, *odd[:2]),
        cpu.squared_relu_linear_gradient(torch.ones_like(grad), *given[:2]),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", TOKENS)
def test_logits_equal_the_formula(shape, dtype):
    assert_logits_equal_the_formula(shape, dtype)


def test_a_token_that_is_no_number_gives_none():
    x = torch.zeros(1, 2, 9)
    x[0, 1, 3] = torch.nan
    logits = cpu.squared_relu_linear(x, torch.ones(2, 9), torch.zeros(2))
    assert logits.isnan().tolist() == [[[False, False], [True, True]]]


def assert_rounded_only(found, expected):
    """``found`` is what float32 gives, rounded once where it is bfloat16; the compiler may contract a sum otherwise."""
    for a, b in zip(found, expected, strict=True):
        once = b.abs() * 2**-8 if a.dtype == torch.bfloat16 else 0
        assert ((a - b).abs() <= once + 1e-6 * b.abs().max()).all()


def assert_bfloat16_is_float32_rounded(layout):
    """Values in bfloat16 are exact in float32, and results are rounded once."""
    for shape in [(8, 16, 16, 14), (16, 24, 30, 14), (24, 7, 9, 14)]:
        x, kernels, grad = case(*shape, torch.float32, images=2)
        x, grad = (layout(t.bfloat16()) for t in (x, grad))
        y, kept = cpu.scaled(x, kernels, True, keep=True)
        y_wide, kept_wide = cpu.scaled(x.float(), kernels, True, keep=True)
        assert y.dtype == torch.bfloat16
        assert same_order(y, x)
        assert_rounded_only((y, kept), (y_wide, kept_wide))
        found = cpu.scaled_gradient(grad, kernels, True, kept)
        assert_rounded_only(found, cpu.scaled_gradient(grad.float(), kernels, True, kept))
        assert found[0].dtype == torch.bfloat16
    for shape in GATES:
        *arguments, grad = gate_case(*shape, torch.float32)
        u, s, grad = (layout(t.bfloat16()) for t in (*arguments[:2], grad))
        weights = [layout(t) if t.dim() == 4 else t for t in arguments[2:]]
        gated = cpu.inverted_gate(u, s, *weights)
        assert_rounded_only([gated], [cpu.inverted_gate(u.float(), s.float(), *weights)])
        found = cpu.inverted_gate_gradient(grad, u, s, *weights)
        assert_rounded_only(found, cpu.inverted_gate_gradient(grad.float(), u.float(), s.float(), *weights))
        assert [t.dtype for t in (gated, *found)] == [torch.bfloat16] * 3 + [torch.float32] * 4


@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, lambda t: channels_last(t)[0]], ids=["planar", "last"])
def test_bfloat16_is_float32_rounded(layout):
    assert_bfloat16_is_float32_rounded(layout)


@pytest.mark.parametrize("shape", TOKENS)
def test_logits_of_bfloat16_are_those_of_float32(shape):
    x, weight, bias, grad = token_case(*shape, torch.bfloat16)
    logits, wide = (cpu.squared_relu_linear(tokens, weight, bias) for tokens in (x, x.float()))
    assert_rounded_only([logits], [wide])
    found = cpu.squared_relu_linear_gradient(grad, x, weight)
    assert_rounded_only(found, cpu.squared_relu_linear_gradient(grad, x.float(), weight))
    assert [t.dtype for t in found] == [torch.bfloat16, torch.float32, torch.float32]


def test_bfloat16_rounds_all_kinds_of_numbers_as_torch_does():
    # halves between two neighbours, numbers that round up to infinity, subnormal ones, infinities and NaN
    bits = torch.arange(2**16, dtype=torch.int32) << 16
    factors = torch.tensor([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 0.5, -1.0])
    u = bits.view(torch.float32).bfloat16().view(1, 1, 256, 256)
    one, zero = torch.ones_like(u), torch.zeros(1)
    nothing = torch.zeros(u.shape)
    for factor in factors:  # out = u * (1 + alpha)
        out = cpu.inverted_gate(u, one, nothing + (factor - 1), nothing, zero + 1, zero)
        expected = (u.float() * (nothing + (factor - 1) + 1)).bfloat16()
        assert torch.equal(out.isnan(), expected.isnan())
        assert torch.equal(out.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("last", [False, True])
def test_empty_batches_give_empty_results(last):
    (u,) = channels_last(torch.zeros(0, 8, 3, 4)) if last else [torch.zeros(0, 8, 3, 4)]
    weights = [torch.zeros(0, 2, 3, 4)] * 2 + [torch.zeros(8)] * 2
    assert cpu.inverted_gate(u, u, *weights).shape == u.shape
    found = cpu.inverted_gate_gradient(u, u, u, *weights)
    assert [tuple(t.shape) for t in found] == [tuple(t.shape) for t in (u, u, *weights)]
    assert all((t == 0).all() for t in found)
    assert cpu.squared_relu_linear(torch.zeros(0, 5, 8), torch.zeros(2, 8), torch.zeros(2)).shape == (0, 5, 2)
    found = cpu.squared_relu_linear_gradient(torch.zeros(0, 5, 2), torch.zeros(0, 5, 8), torch.zeros(2, 8))
    assert [tuple(t.shape) for t in found] == [(0, 5, 8), (2, 8), (2,)]
    assert all((t == 0).all() for t in found)


def test_it_is_what_attention_runs(monkeypatch):
    runs = []
    for name in ("squared_relu_linear", "squared_relu_linear_gradient", "inverted_gate", "inverted_gate_gradient"):
        inner = getattr(cpu, name)
        watched = lambda *given, inner=inner, name=name: runs.append((name, given[-2].dtype)) or inner(*given)  # noqa: E731
        monkeypatch.setattr(cpu, name, watched)
    attention = InvertedLSKAttention(16, 4)
    x = torch.randn(2, 16, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    attention(x).sum().backward()
    names = ["squared_relu_linear", "inverted_gate", "inverted_gate_gradient", "squared_relu_linear_gradient"]
    assert [name for name, _ in runs] == names
    runs.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention(x.bfloat16()).float().sum().backward()
    assert [name for name, _ in runs] == names
    assert all(dtype != torch.bfloat16 for name, dtype in runs if "gate" in name)  # the gammas


def test_it_is_what_layers_run(monkeypatch):
    runs = []
    monkeypatch.setattr(scale, "_run", lambda x, *_: runs.append(x.shape) or torch.zeros_like(x))
    layer, x = FreqScale(16), torch.randn(1, 16, 4, 4)
    layer(x.requires_grad_()).sum().backward()
    with torch.no_grad():
        layer(x)
    assert runs == [(1, 16, 4, 4)] * 3
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # sees operations of torch only
        layer(x)
    assert counter.get_total_flops() > 0
    assert len(runs) == 3


def test_negated_views_and_function_transforms():
    layer, x = FreqScale(16, init_scale=1.0), torch.randn(3, 2, 16, 6, 7)
    gate = gate_case(2, 6, 3, 4, 5, torch.float32)[:6]
    with torch.no_grad():
        assert torch.equal(layer(torch._neg_view(x[0])), layer(-x[0]))
        assert torch.equal(cpu.inverted_gate(*map(torch._neg_view, gate)), cpu.inverted_gate(*(-t for t in gate)))
        expected = torch.stack([layer(part) for part in x])
        assert torch.allclose(torch.vmap(layer)(x), expected, atol=1e-5)
    step = 1e-3 * x[1]
    for chosen in (layer, layer.double()):
        kind = chosen.complex_weights.dtype
        y, slope = torch.func.jvp(chosen, (x[0].to(kind),), (step.to(kind),))
        with torch.no_grad(), fwAD.dual_level():
            tangent = fwAD.unpack_dual(chosen(fwAD.make_dual(x[0].to(kind), step.to(kind)))).tangent
        assert torch.allclose(tangent, slope)
    assert torch.allclose(chosen(x[0].double() + step) - y, slope, rtol=1e-2, atol=1e-6)


def test_inputs_of_any_layout_stay_as_they_are():
    x, kernels, grad = case(8, 10, 12, 14, torch.float32)
    y, kept = cpu.scaled(x, kernels, True, keep=True)
    gradients = cpu.scaled_gradient(grad, kernels, True, kept)
    turned = [t.transpose(2, 3).contiguous().transpose(2, 3) for t in (x, kernels, grad)]
    assert not turned[0].is_contiguous()
    before = [t.clone() for t in (*turned, kept)]
    assert torch.equal(cpu.scaled(*turned[:2], True, keep=False)[0], y)
    for a, b in zip(cpu.scaled_gradient(turned[2], turned[1], True, kept), gradients, strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip((*turned, kept), before, strict=True))


def layer_gradients(layer, x, grad=None):
    y = layer(x)
    return torch.autograd.grad(y, [x, *layer.parameters()], y.detach() if grad is None else grad)


def at_an_odd_address(t):
    return torch.empty(t.numel() + 1, dtype=t.dtype)[1:].view(t.shape).copy_(t)


def in_another_order(t):
    return t.contiguous(memory_format=torch.channels_last_3d) if t.dim() == 5 else t


@pytest.mark.parametrize("elsewhere", [at_an_odd_address, in_another_order])
def test_saved_spectra_may_come_back_elsewhere(elsewhere):
    layer, x = FreqScale(16, init_scale=1.0), torch.randn(2, 16, 6, 7).requires_grad_()
    expected = layer_gradients(layer, x)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), elsewhere):
        found = layer_gradients(layer, x)
    for a, b in zip(found, expected, strict=True):  # the routing's BLAS, too, sees other addresses
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


def test_tensors_without_memory():
    layer, x = FreqScale(16, init_scale=1.0), torch.randn(2, 16, 6, 7).requires_grad_()
    assert all((g == 0).all() for g in layer_gradients(layer, x, torch._efficientzerotensor(x.shape)))
    with FakeTensorMode():
        fake = torch.randn(1, 16, 6, 7)
    assert not cpu.serves(fake)  # outside the mode too
    scale._tables.cache_clear()
    with torch.device("meta"):  # where new tensors would go
        y = layer(x)
    assert torch.equal(y, layer(x))


def test_sizes_with_large_prime_factors_are_left_to_torch(monkeypatch):
    assert [n for n in range(1, 240) if not cpu.quick(16, n)][:6] == [59, 61, 67, 71, 73, 79]
    assert cpu.quick(106, 53 * 4)
    assert not cpu.quick(118, 8)
    monkeypatch.setattr(scale, "_run", None)
    layer = FreqScale(16)
    layer(torch.randn(1, 16, 59, 4).requires_grad_()).sum().backward()


def test_threads_do_not_change_a_bit():
    x, kernels, grad = case(37, 20, 22, 14, torch.float32)
    gate = gate_case(2, 6, 3, 40, 41, torch.float32)
    *tokens, grad_logits = token_case(2, 700, 20, 6, torch.float32)
    wide, wide_kernels, wide_grad = case(48, 20, 22, 14, torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            results.append([])
            for x_given, k_given, grad_given in ((x, kernels, grad), (*channels_last(wide), wide_kernels, wide_grad)):
                y, kept = cpu.scaled(x_given, k_given, True, keep=True)
                results[-1] += [y, *cpu.scaled_gradient(grad_given, k_given, True, kept)]
            for *given, grad_given in (gate, channels_last(*gate)):
                results[-1] += [cpu.inverted_gate(*given), *cpu.inverted_gate_gradient(grad_given, *given)]
            results[-1] += [
                cpu.squared_relu_linear(*tokens),
                *cpu.squared_relu_linear_gradient(grad_logits, *tokens[:2]),
            ]
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def build(folder, *flags):
    path = folder / "kernels.so"
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run([*command, *flags, str(SOURCE), "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


def test_processors_without_avx2(tmp_path, monkeypatch):
    plain = build(tmp_path, "-DFDAM_NO_AVX2", "-DFDAM_NO_AVX512")
    monkeypatch.setattr(library, "_library", lambda: plain)
    assert plain.fdam_float32_lanes() == 8
    monkeypatch.setattr(scale, "float32_lanes", lambda: 8)
    for shape in SHAPES[2:5]:
        assert_scale_equals_torch(shape, torch.float32, True)
        assert_scale_equals_torch(shape, torch.float64, False)
    for shape in GATES:
        assert_gate_equals_torch(shape, torch.float32, monkeypatch)
    for shape in TOKENS:
        assert_logits_equal_the_formula(shape, torch.float32)
    assert_bfloat16_is_float32_rounded(lambda t: channels_last(t)[0])
    test_bfloat16_rounds_all_kinds_of_numbers_as_torch_does()


def test_processors_of_another_kind_compile_all_but_what_is_for_x86(tmp_path):
    for file in SOURCE.parent.glob("*.*"):
        if file.suffix in (".cpp", ".h"):
            (tmp_path / file.name).write_text(file.read_text().replace("__x86_64__", "__another__"))
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fopenmp", "-fsyntax-only"]
    subprocess.run([*command, str(tmp_path / SOURCE.name)], check=True)


@pytest.mark.parametrize("state", ["missing", "older"])
def test_without_kernels_torch_serves(state, monkeypatch):
    layer, x = FreqScale(16, init_scale=1.0), torch.randn(2, 16, 9, 10)
    expected = layer(x)
    old = SimpleNamespace(fdam_interface=lambda: library._INTERFACE - 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: old)
    if state == "missing":
        monkeypatch.setattr(library, "EXTENSION_SUFFIXES", [".none"])
    library._library.cache_clear()
    try:
        assert not cpu.available()
        monkeypatch.setattr(scale, "_run", None)
        y = layer(x.requires_grad_())
        y.sum().backward()
    finally:
        library._library.cache_clear()
    assert torch.allclose(y, expected, atol=1e-5)
    assert x.grad is not None


def test_short_memory_is_told(monkeypatch):
    monkeypatch.setattr(library, "_library", lambda: SimpleNamespace(fdam_scale_float32=lambda job: 1))
    with pytest.raises(MemoryError, match="no memory for the spectra of 6 x 5 maps"):
        cpu.scaled(torch.zeros(1, 1, 6, 5), torch.zeros(1, 1, 14, 8), False, keep=False)


def test_wrong_shapes_and_dtypes_are_refused():
    x, kernels, _ = case(8, 6, 5, 14, torch.float32)
    y, kept = cpu.scaled(x, kernels, False, keep=True)
    with pytest.raises(ValueError, match=r"expected kernels of shape \(1, 8, 14, 8\) .*, got \(1, 7, 14, 8\)"):
        cpu.scaled(x, kernels[:, 1:], False, keep=False)
    with pytest.raises(ValueError, match=r"expected kernels of .*torch\.float32 on the CPU, got .*torch\.float64"):
        cpu.scaled(x, kernels.double(), False, keep=False)
    with pytest.raises(ValueError, match="expected spectra of shape"):
        cpu.scaled_gradient(y, kernels, False, kept[:, 1:])
    *gate, grad = gate_case(1, 6, 3, 4, 5, torch.float32)
    for i, name in enumerate(["s", "alpha", "beta", "lf_gamma", "hf_gamma"], start=1):
        if name != "alpha":  # which says how many heads there are
            with pytest.raises(ValueError, match=f"expected {name} of shape"):
                cpu.inverted_gate(*gate[:i], gate[i].repeat_interleave(2, dim=gate[i].dim() // 4), *gate[i + 1 :])
    with pytest.raises(ValueError, match="got 4 heads for 6 channels"):
        cpu.inverted_gate(*gate[:2], *[t.repeat(1, 2, 1, 1)[:, :4] for t in gate[2:4]], *gate[4:])
    with pytest.raises(ValueError, match="expected grad of shape"):
        cpu.inverted_gate_gradient(grad[:, :5], *gate)
    with pytest.raises(ValueError, match=r"expected alpha of .*torch\.float32 on the CPU, got .*torch\.bfloat16"):
        cpu.inverted_gate(*(t.bfloat16() for t in gate))
    x, weight, bias, grad = token_case(1, 3, 4, 2, torch.float32)
    with pytest.raises(ValueError, match=r"expected weight of shape \(2, 4\)"):
        cpu.squared_relu_linear(x, weight[:, :3], bias)
    with pytest.raises(ValueError, match=r"expected bias of shape \(2,\)"):
        cpu.squared_relu_linear(x, weight, bias[:1])
    with pytest.raises(ValueError, match=r"expected grad of shape \(1, 3, 2\)"):
        cpu.squared_relu_linear_gradient(grad[:, :2], x, weight)
