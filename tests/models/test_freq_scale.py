"""FreqScale against its formula written plainly, in float64, on sizes of all kinds."""

import pytest
import torch
from fdam_formula import freq_scale_by_formula
from mmcv.runner import BaseModule
from torch.nn import functional as F

from fdam_rotate.models.layers import FreqScale, cpu, dft, set_freq_impl, spectrum
from fdam_rotate.models.layers.cpu import scale
from fdam_rotate.models.layers.resize import bicubic_matrix

SIZES = [(14, 14), (7, 9), (8, 8), (33, 32), (50, 31), (1, 1), (1, 6), (5, 1), (2, 2)]


def strong(dim=32, dtype=torch.float64, **settings):
    """Build a layer whose result is of the size of its input."""
    torch.manual_seed(1)
    return FreqScale(dim, init_scale=1.0, **settings).to(dtype)


def features(*shape, dtype=torch.float64, seed=2):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) + 0.5


@pytest.fixture(params=["cpu kernels", "torch", "dft"])
def impl(request, monkeypatch):
    """Each way to compute: C++, torch's FFT (what a GPU runs) and matrix products."""
    if request.param == "torch":
        monkeypatch.setattr(cpu, "serves", lambda *_, **__: False)
    return "dft" if request.param == "dft" else "fft"


@pytest.mark.parametrize(("size_in", "size_out"), [(14, 64), (8, 33), (8, 5), (14, 1), (14, 14), (2, 9), (1, 4)])
def test_bicubic_matrix_equals_interpolate(size_in, size_out):
    eye = torch.eye(size_in, dtype=torch.float64)[:, None, None, :]  # one impulse per image
    expected = F.interpolate(eye, size=(1, size_out), mode="bicubic", align_corners=True)[:, 0, 0].T
    assert torch.allclose(torch.from_numpy(bicubic_matrix(size_in, size_out)), expected, atol=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_formula_with_its_gradients(size, impl):
    layer, x = strong(impl=impl), features(2, 32, *size).requires_grad_()
    expected = freq_scale_by_formula(layer, x) - x
    y = layer(x)
    assert y.shape == x.shape
    assert expected.abs().max() > 1e-3
    assert torch.allclose(y, expected, rtol=1e-9, atol=1e-12)
    assert torch.allclose(layer(x, residual=True), x + expected, rtol=1e-9, atol=1e-12)
    assert torch.allclose(layer(x.detach()).detach(), expected, rtol=1e-9, atol=1e-12)
    inputs, grad = [x, *layer.parameters()], features(2, 32, *size, seed=3)
    for residual in (False, True):
        wanted = torch.autograd.grad(expected + x * residual, inputs, grad, retain_graph=True)
        for a, b in zip(torch.autograd.grad(layer(x, residual=residual), inputs, grad), wanted, strict=True):
            assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


def test_without_gradient_equals_with(impl):
    layer, x = strong(impl=impl), features(2, 32, 12, 13)
    with torch.no_grad():
        plain, summed = layer(x), layer(x, residual=True)
    assert torch.equal(plain, layer(x))
    assert torch.equal(summed, layer(x, residual=True))


def test_channel_order_of_groups():
    # With one filter of ones and a routing of its own for each group, group g scales its neighbouring channels alike.
    layer = FreqScale(32, group=16, num_filters=1, size=14).double()
    x = features(1, 32, 6, 6)
    with torch.no_grad():
        layer.complex_weights.fill_(1.0)
    y = layer(x)
    ratios = (y / x).mean((0, 2, 3))
    assert torch.allclose(ratios[0::2], ratios[1::2])
    assert len(set(ratios.mul(1e6).round().tolist())) == 16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept_and_the_fft_is_wide(dtype):
    layer = strong(dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    x = features(2, 32, 21, 30).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    expected = freq_scale_by_formula(strong(), x.double()) - x.double()
    error = (y.double() - expected).abs().max() / expected.abs().max()
    # The result is rounded once: half a unit in the last place of its dtype, or float32's FFT error.
    assert error < max(torch.finfo(dtype).eps, 2e-6 if dtype != torch.float64 else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_runs(dtype):
    layer, x = strong(dtype=dtype), features(1, 32, 9, 8).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    expected = freq_scale_by_formula(strong(), x.double()) - x.double()
    assert (y.double() - expected).abs().max() < 0.05 * expected.abs().max()


def test_autocast_leaves_it_in_float32(impl):
    layer, x = strong(dtype=torch.float32, impl=impl), features(2, 32, 16, 15, dtype=torch.float32)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert torch.equal(y, expected)


def test_dft_is_close_in_float32_and_can_be_set_on_a_model():
    layer, x = strong(64, dtype=torch.float32), features(1, 64, 64, 64, dtype=torch.float32)
    model = torch.nn.Sequential(layer, torch.nn.Sequential(strong(64, dtype=torch.float32)))
    expected = model(x)
    assert set_freq_impl(model, "dft") == 2
    assert (layer.impl, model[1][0].impl) == ("dft", "dft")
    assert (model(x) - expected).abs().max() <= 1e-4
    with pytest.raises(ValueError, match="impl must be one of fft, dft, got 'matmul'"):
        set_freq_impl(model, "matmul")


@pytest.mark.parametrize(
    "size",
    [(32, 64), (66, 31), (74, 37), (49, 121), (96, 264), (128, 512), (504, 63)],  # strides 4 to 32 of sizes up to 2048
)
def test_dft_in_two_products_equals_torchs_fft(size):
    """Factors even and odd, primes, one factor of 1; each residue alone, mirrored, and both in one."""
    x, kernels = features(2, 3, *size), features(2, 3, 14, 8, seed=3)
    filters = F.interpolate(kernels, (size[0], size[1] // 2 + 1), mode="bicubic", align_corners=True)
    expected = torch.fft.irfft2(torch.fft.rfft2(x) * filters, s=size)
    assert (dft.scale_spectrum_dft(x, kernels) - expected).abs().max() < 1e-11
    assert (dft.scale_spectrum_dft(x, kernels, True) - expected - x).abs().max() < 1e-11


@pytest.mark.parametrize(
    ("size", "parts", "expected"),
    [
        (256, 1, 8),
        (256, 2, 16),
        (512, 2, 16),
        (128, 2, 8),
        (132, 1, 6),
        (32, 1, 1),
        (16, 2, 16),
        (37, 1, 1),
        (37, 2, 37),
    ],
)
def test_factors_of_dft_are_near_the_root_and_full_matrices_for_the_few_and_the_prime(size, parts, expected):
    assert dft._split(size, parts) == expected


def test_memory_formats_and_slices():
    layer, x = strong(), features(2, 32, 10, 11)
    expected = layer(x)
    assert torch.allclose(layer(x.contiguous(memory_format=torch.channels_last)), expected, atol=1e-12)
    wide = torch.cat((x, x), dim=3)
    assert torch.allclose(layer(wide[..., :11]), expected, atol=1e-12)
    before = x.clone()
    layer(x, residual=True)
    assert torch.equal(x, before)


@pytest.mark.parametrize("last", [False, True])
def test_gradients_of_bfloat16_maps(last, impl):
    layer, plain = strong(dtype=torch.float32, impl=impl), strong()
    x, grad = (features(2, 32, 9, 14, seed=seed).bfloat16() for seed in (2, 3))
    if last:
        x, grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
    wide = x.double().requires_grad_()
    wanted = torch.autograd.grad(freq_scale_by_formula(plain, wide), [wide, *plain.parameters()], grad.double())
    x.requires_grad_()
    found = torch.autograd.grad(layer(x, residual=True), [x, *layer.parameters()], grad)
    assert found[0].dtype == torch.bfloat16
    # grad_x is a sum of two numbers of bfloat16; all else is float32
    bounds = [2**-7] + [1e-5] * (len(wanted) - 1)
    for a, b, bound in zip(found, wanted, bounds, strict=True):
        assert (a.double() - b).abs().max() <= bound * b.abs().max()


def test_gradient_of_a_plain_sum():
    layer, x = strong(), features(2, 32, 6, 5).requires_grad_()
    (expected,) = torch.autograd.grad(freq_scale_by_formula(layer, x).sum(), x)
    (grad,) = torch.autograd.grad(layer(x, residual=True).sum(), x)  # an expanded, not a dense, gradient comes in
    assert torch.allclose(grad, expected, atol=1e-10)


def test_frozen_filters_need_no_gradient():
    layer, x = strong().requires_grad_(False), features(1, 32, 6, 5).requires_grad_()
    (expected,) = torch.autograd.grad(freq_scale_by_formula(layer, x).square().sum(), x)
    (grad,) = torch.autograd.grad(layer(x, residual=True).square().sum(), x)
    assert torch.allclose(grad, expected, atol=1e-10)


def test_training_after_inference_mode(impl):
    for caching in (scale._tables, spectrum._resize_matrices, spectrum._column_weights, dft._plan):
        caching.cache_clear()
    layer, x = strong(impl=impl), features(1, 32, 23, 17)
    with torch.inference_mode():
        layer(x)
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(dim=40), "group must divide dim, got dim=40 and group=16"),
        (dict(dim=16, reweight_ratio=0.05), "dim \\* reweight_ratio must be at least 1, got 16 \\* 0.05"),
        (dict(dim=16, num_filters=0), "must be at least 1"),
        (dict(dim=16, impl="cufft"), "impl must be one of fft, dft, got 'cufft'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        FreqScale(**settings)


@pytest.mark.parametrize("shape", [(0, 32, 4, 4), (2, 31, 4, 4), (32, 4, 4), (2, 32, 0, 4)])
def test_bad_features(shape):
    with pytest.raises(ValueError, match=r"expected non-empty features of shape \(B, 32, H, W\), got"):
        FreqScale(32)(torch.zeros(shape))


def test_settings_show_in_the_parameters():
    layer = FreqScale(64, group=8, num_filters=3, size=6, reweight_ratio=0.125)
    assert {key: tuple(value.shape) for key, value in layer.state_dict().items()} == {
        "complex_weights": (3, 8, 6, 4),
        "reweight.fc1.weight": (8, 64),
        "reweight.act.scale": (1,),
        "reweight.act.bias": (1,),
        "reweight.fc2.weight": (24, 8),
    }


def test_small_start_survives_a_parents_initialisation():
    class Parent(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type="Constant", layer="Linear", val=7.0))
            self.layer = FreqScale(256)
            self.linear = torch.nn.Linear(2, 2)

    parent = Parent()
    start = parent.layer.complex_weights.detach().clone()
    parent.init_weights()
    assert (parent.linear.weight == 7).all()
    for weights in (start, parent.layer.complex_weights):
        assert 0.8e-5 < weights.std() < 1.2e-5
    assert parent.layer.reweight.fc1.weight.abs().max() < 0.1
    x = torch.randn(1, 256, 16, 16)
    assert 0 < (parent.layer(x).abs().max() / x.abs().max()) < 1e-4
