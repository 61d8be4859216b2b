"""FreqScale's C++ against torch's operations, which test_freq_scale.py holds to the formula."""

import ctypes
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fdam_rotate.models.layers import FreqScale, cpu, spectrum

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


def case(n, height, width, size, dtype):
    x, grad = (values(n, height, width, dtype=dtype, seed=seed) for seed in (0, 1))
    return x, values(n, size, size // 2 + 1, dtype=dtype, seed=2), grad


def close(a, b):
    return torch.allclose(a, b, rtol=0, atol=(1e-12 if a.dtype == torch.float64 else 4e-6) * b.abs().max().item())


def assert_equal_to_torch(shape, dtype, residual):
    x, kernels, grad = case(*shape, dtype)
    y, kept = cpu.scaled(x, kernels, residual, keep=True)
    expected, spectra = spectrum._scaled(x, kernels, residual, keep=True)
    assert close(y, expected)
    assert torch.equal(cpu.scaled(x, kernels, residual, keep=False)[0], y)
    pairs = zip(
        cpu.scaled_gradient(grad, kernels, residual, kept),
        spectrum._scaled_gradient(grad, kernels, residual, spectra),
        strict=True,
    )
    assert all(close(a, b) for a, b in pairs)
    grad_x, nothing = cpu.scaled_gradient(grad, kernels, residual, None)
    assert nothing is None
    assert close(grad_x, spectrum._scaled_gradient(grad, kernels, residual, None)[0])


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch(shape, dtype, residual):
    assert cpu.available(), "not built: make install"
    assert_equal_to_torch(shape, dtype, residual)


def test_it_is_what_layers_run(monkeypatch):
    runs = []
    monkeypatch.setattr(cpu, "_run", lambda x, *_: runs.append(x.shape) or torch.zeros_like(x))
    layer, x = FreqScale(16), torch.randn(1, 16, 4, 4)
    layer(x.requires_grad_()).sum().backward()
    with torch.no_grad():
        layer(x)
    assert runs == [(16, 4, 4)] * 3
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # sees operations of torch only
        layer(x)
    assert counter.get_total_flops() > 0
    assert len(runs) == 3


def test_inputs_of_any_layout_stay_as_they_are():
    x, kernels, grad = case(8, 10, 12, 14, torch.float32)
    y, kept = cpu.scaled(x, kernels, True, keep=True)
    gradients = cpu.scaled_gradient(grad, kernels, True, kept)
    turned = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (x, kernels, grad)]
    assert not turned[0].is_contiguous()
    before = [t.clone() for t in (*turned, kept)]
    assert torch.equal(cpu.scaled(*turned[:2], True, keep=False)[0], y)
    for a, b in zip(cpu.scaled_gradient(turned[2], turned[1], True, kept), gradients, strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip((*turned, kept), before, strict=True))


def test_threads_do_not_change_a_bit():
    x, kernels, grad = case(37, 20, 22, 14, torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            y, kept = cpu.scaled(x, kernels, True, keep=True)
            results.append((y, kept, *cpu.scaled_gradient(grad, kernels, True, kept)))
    finally:
        torch.set_num_threads(threads)
    full = slice(0, 4)  # the fifth group of eight has five maps; what its spare lanes hold is nobody's
    for others in results[1:]:
        for a, b in zip(results[0], others, strict=True):
            assert torch.equal(a[full], b[full])
            assert a is results[0][1] or torch.equal(a, b)


def build(folder, *flags):
    path = folder / "kernels.so"
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run([*command, *flags, str(SOURCE), "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


def test_processors_without_avx2(tmp_path, monkeypatch):
    library = build(tmp_path, "-DFDAM_NO_AVX2")
    monkeypatch.setattr(cpu, "_library", lambda: library)
    for shape in SHAPES[2:5]:
        assert_equal_to_torch(shape, torch.float32, True)
        assert_equal_to_torch(shape, torch.float64, False)


@pytest.mark.parametrize("state", ["missing", "older"])
def test_without_kernels_torch_serves(state, monkeypatch):
    layer, x = FreqScale(16, init_scale=1.0), torch.randn(2, 16, 9, 10)
    expected = layer(x)
    old = SimpleNamespace(fdam_interface=lambda: cpu._INTERFACE - 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: old)
    if state == "missing":
        monkeypatch.setattr(cpu, "EXTENSION_SUFFIXES", [".none"])
    cpu._library.cache_clear()
    try:
        assert not cpu.available()
        monkeypatch.setattr(cpu, "_run", None)
        y = layer(x.requires_grad_())
        y.sum().backward()
    finally:
        cpu._library.cache_clear()
    assert torch.allclose(y, expected, atol=1e-5)
    assert x.grad is not None


def test_short_memory_is_told(monkeypatch):
    monkeypatch.setattr(cpu, "_library", lambda: SimpleNamespace(fdam_scale_float32=lambda job: 1))
    with pytest.raises(MemoryError, match="no memory for the spectra of 6 x 5 maps"):
        cpu.scaled(torch.zeros(1, 6, 5), torch.zeros(1, 14, 8), False, keep=False)
