"""FreqScale, FDAM's frequency dynamic scaling: scale each frequency of a feature map by a filter mixed for the image.

Chen, Gu, Fu, "Frequency-Dynamic Attention Modulation for Dense Prediction", ICCV 2025, arXiv 2507.12006, section 3.3.
The public code (github.com/Linwei-Chen/FDAM, ``GroupDynamicScale``, no licence) was consulted for the formula and the
parameter names; none of it is used. With ``X = rfft2(x)`` and routing weights ``r = tanh(MLP(mean of x))`` of shape
(B, group, num_filters)::

    M[b, g, c] = sum_f r[b, g, f] * resize(complex_weights[f, c])        y = irfft2(X * M)

Differences from the published form, none of which changes the result beyond rounding:

* Bicubic resizing is linear and separable, so the filters are combined at their own 14 x 8 size and the sum is resized
  by two small fixed matrices. That costs less than resizing each filter, needs no cache of resized weights, and its
  gradient is a matrix product too, hence deterministic on a GPU, where that of ``F.interpolate`` is not.
* X * M is one real product on the interleaved (real, imaginary) values; the resize matrix writes M interleaved already.
* The gradient is written out: it keeps the spectrum and recomputes the rest, and ``irfft2(rfft2(.) * M)`` is its own
  transpose, where autograd would go through a full complex FFT.
* ``impl='dft'`` replaces the FFT by products with fixed cosine and sine matrices, for exporters that know no FFT.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fdam_rotate.models.layers.autograd import records_gradient
from fdam_rotate.models.layers.star_relu import StarReLU

__all__ = ["FreqScale", "bicubic_matrix", "combine_filters", "freq_modulation", "scale_spectrum", "set_freq_impl"]

_CUBIC_A = -0.75  # the kernel of F.interpolate(mode='bicubic')
_IMPLS = ("fft", "dft")
# Values of maps that the CPU transforms at a time: buffers of 4 MiB stay in the cache and in malloc's hands. In one
# go, 64 maps of 256 x 256 take 15 ms and 7300 page faults on two cores, in chunks 12 ms and none; smaller chunks pay
# more for calls.
_CPU_CHUNK = 2**20


def bicubic_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Return the (size_out, size_in) float64 matrix of F.interpolate's bicubic resize with ``align_corners=True``.

    Each row sums to 1. Samples outside the input repeat its border. Equal sizes give the identity.
    """
    matrix = np.zeros((size_out, size_in))
    step = (size_in - 1) / (size_out - 1) if size_out > 1 else 0.0
    for row in range(size_out):
        position = row * step
        left = min(math.floor(position), size_in - 1)
        fraction = position - left
        for offset in (-1, 0, 1, 2):
            matrix[row, min(max(left + offset, 0), size_in - 1)] += _cubic(abs(offset - fraction))
    return matrix


def _cubic(distance: float) -> float:
    """Cubic convolution kernel (Keys 1981) at a distance of 0 to 2 samples."""
    d = distance
    if d <= 1:
        return ((_CUBIC_A + 2) * d - (_CUBIC_A + 3)) * d * d + 1
    return ((_CUBIC_A * d - 5 * _CUBIC_A) * d + 8 * _CUBIC_A) * d - 4 * _CUBIC_A


@lru_cache(maxsize=128)
def _resize_matrices(
    rows_in: int, cols_in: int, height: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Matrices (H, rows_in) and (cols_in, 2 * (W // 2 + 1)) that resize a filter to a half spectrum, each column twice.

    The doubled columns match the interleaved real and imaginary parts of ``view_as_real``.
    """
    rows = bicubic_matrix(rows_in, height)
    cols = np.repeat(bicubic_matrix(cols_in, width // 2 + 1), 2, axis=0).T
    # Made outside inference mode: a cached inference tensor could not take part in training later.
    with torch.inference_mode(False):
        return tuple(torch.tensor(m, dtype=dtype, device=device) for m in (rows, cols))


@lru_cache(maxsize=128)
def _column_weights(width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """How often each stored column stands in the full spectrum, (2 * (W // 2 + 1),): 1 for DC and Nyquist, else 2."""
    weights = np.full(width // 2 + 1, 2.0)
    weights[0] = 1.0
    if width % 2 == 0:
        weights[-1] = 1.0
    with torch.inference_mode(False):
        return torch.tensor(np.repeat(weights, 2), dtype=dtype, device=device)


def combine_filters(filters: Tensor, routing: Tensor) -> Tensor:
    """Mix the filters of each image and group: (F, c, S, S2), (B, G, F) -> (B, G * c, S, S2), channel ``g * c + i``."""
    mixed = torch.matmul(routing, filters.flatten(1))  # (B, G, c * S * S2)
    return mixed.view(routing.shape[0], -1, *filters.shape[2:])


def freq_modulation(kernels: Tensor, height: int, width: int) -> Tensor:
    """Resize mixed filters (..., S, S2) to the half spectrum: (..., H, W // 2 + 1)."""
    return _interleaved_modulation(kernels, height, width)[..., ::2]


def _interleaved_modulation(kernels: Tensor, height: int, width: int) -> Tensor:
    """Resize mixed filters (..., S, S2) to (..., H, 2 * (W // 2 + 1)), each column twice."""
    rows, cols = _resize_matrices(*kernels.shape[-2:], height, width, kernels.device, kernels.dtype)
    return torch.matmul(torch.matmul(rows, kernels), cols)


def _spectrum(x: Tensor) -> Tensor:
    """Half spectrum of real maps, (N, H, W) -> (N, H, 2 * (W // 2 + 1)), real and imaginary parts interleaved."""
    return torch.view_as_real(torch.fft.rfft2(x, norm="ortho")).flatten(-2)


def _maps(spectrum: Tensor, height: int, width: int) -> Tensor:
    """Real maps (N, H, W) of an interleaved half spectrum (N, H, 2 * (W // 2 + 1))."""
    spectrum = torch.view_as_complex(spectrum.unflatten(-1, (-1, 2)))
    return torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")


def _chunk(x: Tensor) -> int:
    """How many of the maps (N, H, W) to transform at a time."""
    return max(1, _CPU_CHUNK // x[0].numel()) if x.device.type == "cpu" else len(x)


def _scaled_maps(x: Tensor, kernels: Tensor, residual: bool, keep: list[Tensor] | None) -> Tensor:
    """Return ``irfft2(rfft2(x) * M)``, plus x if ``residual``; x (N, H, W), kernels (N, S, S2).

    The spectra of x are appended to ``keep``, if there is one.
    """
    size, chunk = x.shape[1:], _chunk(x)
    out = torch.empty_like(x) if chunk < len(x) else None
    for i, (part, kernel) in enumerate(zip(x.split(chunk), kernels.split(chunk), strict=True)):
        spectrum = _spectrum(part)
        modulation = _interleaved_modulation(kernel, *size)
        if keep is None:
            spectrum.mul_(modulation)
        else:
            keep.append(spectrum)
            spectrum = modulation.mul_(spectrum)
        y = _maps(spectrum, *size)
        if out is None:
            return y.add_(part) if residual else y
        target = out[i * chunk : (i + 1) * chunk]
        torch.add(y, part, out=target) if residual else target.copy_(y)
    return out


class _ScaleSpectrum(torch.autograd.Function):
    """``_scaled_maps`` with its gradient; it keeps the spectrum and the kernels, and resizes the kernels again."""

    @staticmethod
    def forward(ctx, x: Tensor, kernels: Tensor, residual: bool) -> Tensor:
        spectra: list[Tensor] = []
        out = _scaled_maps(x, kernels, residual, spectra if ctx.needs_input_grad[1] else None)
        ctx.save_for_backward(kernels, *spectra)
        ctx.residual = residual
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        kernels, *spectra = ctx.saved_tensors
        grad_spectra: list[Tensor] = []
        # The map from x to y is symmetric, so the gradient passes through it like the features.
        grad_x = _scaled_maps(grad, kernels, ctx.residual, grad_spectra if spectra else None)
        if not spectra:
            return grad_x, None, None
        height, width = grad.shape[1:]
        rows, cols = _resize_matrices(*kernels.shape[1:], height, width, kernels.device, kernels.dtype)
        # dM is the real part of conj(X) * G, counted twice where a column stands for its mirror image too.
        cols = (cols * _column_weights(width, cols.device, cols.dtype)).T
        parts = [torch.matmul(x.mul_(g), cols) for x, g in zip(grad_spectra, spectra, strict=True)]
        return grad_x, torch.matmul(rows.T, torch.cat(parts)), None


def scale_spectrum(x: Tensor, kernels: Tensor, residual: bool = False) -> Tensor:
    """Return ``irfft2(rfft2(x) * M)``, with ``x`` added where ``residual`` is true.

    Args:
        x: Features (B, C, H, W), float32 or float64.
        kernels: Mixed filters (B, C, S, S2) in the dtype of ``x``; M is their bicubic resize to (H, W // 2 + 1).
        residual: Add ``x`` to the result.

    Returns:
        Tensor (B, C, H, W) in the dtype of ``x``.
    """
    maps, kernels = x.flatten(0, 1), kernels.flatten(0, 1)
    if records_gradient(maps, kernels):
        return _ScaleSpectrum.apply(maps, kernels, residual).view(x.shape)
    return _scaled_maps(maps, kernels, residual, None).view(x.shape)


@lru_cache(maxsize=128)
def _dft_matrices(
    height: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Cosine and sine matrices of a 2-D real DFT and its inverse, orthonormal.

    Returns:
        Row transform (W, W2) cos and sin; column transform (H, H) cos and sin; inverse row transform (W2, W) cos and
        sin, the columns that stand for their mirror image counted twice. W2 = W // 2 + 1.
    """
    half = width // 2 + 1
    row = 2 * np.pi / width * (np.outer(np.arange(width), np.arange(half)) % width)
    col = 2 * np.pi / height * (np.outer(np.arange(height), np.arange(height)) % height)
    weights = _column_weights(width, torch.device("cpu"), torch.float64).numpy()[::2, None]
    matrices = (np.cos(row), np.sin(row), np.cos(col), np.sin(col), weights * np.cos(row.T), weights * np.sin(row.T))
    scales = [1 / math.sqrt(n) for n in (width, width, height, height, width, width)]
    with torch.inference_mode(False):
        return tuple(torch.tensor(m * s, dtype=dtype, device=device) for m, s in zip(matrices, scales, strict=True))


def _scale_spectrum_dft(x: Tensor, kernels: Tensor) -> Tensor:
    """``scale_spectrum`` without residual by matrix products only; same shapes."""
    height, width = map(int, x.shape[-2:])  # tracers hand out tensors here; an exported model has one size
    modulation = freq_modulation(kernels, height, width)
    row_cos, row_sin, col_cos, col_sin, inv_cos, inv_sin = _dft_matrices(height, width, x.device, x.dtype)
    real, imag = x @ row_cos, -(x @ row_sin)  # (B, C, H, W2)
    real, imag = col_cos @ real + col_sin @ imag, col_cos @ imag - col_sin @ real
    real, imag = real * modulation, imag * modulation
    real, imag = col_cos @ real - col_sin @ imag, col_cos @ imag + col_sin @ real
    return real @ inv_cos - imag @ inv_sin


class _Routing(nn.Module):
    """Two linear layers without bias and StarReLU between them: (B, dim) -> (B, out_dim)."""

    def __init__(self, dim: int, hidden: int, out_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden, bias=False)
        self.act = StarReLU()
        self.fc2 = nn.Linear(hidden, out_dim, bias=False)

    def reset_parameters(self) -> None:
        for layer in (self.fc1, self.act, self.fc2):
            layer.reset_parameters()
        # Hidden units in pairs of opposite sign: one of each passes StarReLU. The layer is narrow (2 units at 32
        # channels, 4 at 64), and with all of them cut off, which random signs give often, neither filters nor routing
        # would get a gradient.
        with torch.no_grad():
            mirrored = self.fc1.weight[1::2]
            mirrored.copy_(-self.fc1.weight[: 2 * len(mirrored) : 2])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class FreqScale(nn.Module):
    """Scale the spectrum of (B, C, H, W) features by filters mixed for each image; see the module's docstring.

    Args:
        dim: Channels C.
        group: Groups of channels that share a mixture; divides ``dim``.
        num_filters: Learned filters F that are mixed.
        size: Side of the stored filters, (size, size // 2 + 1) on the half spectrum.
        reweight_ratio: Hidden width of the routing, as a share of ``dim``.
        init_scale: Standard deviation of the filters at the start.
        impl: 'fft', or 'dft' for matrix products that every exporter knows (equal to 1e-4 in float32, slow for large
            maps).

    Raises:
        ValueError: Where ``group`` does not divide ``dim``, a size is below 1, or ``impl`` is unknown.
    """

    def __init__(
        self,
        dim: int,
        group: int = 16,
        num_filters: int = 4,
        size: int = 14,
        reweight_ratio: float = 0.0625,
        init_scale: float = 1e-5,
        impl: str = "fft",
    ) -> None:
        super().__init__()
        if min(dim, group, num_filters, size) < 1:
            sizes = f"{dim}, {group}, {num_filters}, {size}"
            raise ValueError(f"dim, group, num_filters and size must be at least 1, got {sizes}")
        if dim % group:
            raise ValueError(f"group must divide dim, got dim={dim} and group={group}")
        hidden = int(dim * reweight_ratio)
        if hidden < 1:
            raise ValueError(f"dim * reweight_ratio must be at least 1, got {dim} * {reweight_ratio}")
        self.dim, self.group, self.num_filters, self.init_scale = dim, group, num_filters, init_scale
        self.impl = impl
        self.reweight = _Routing(dim, hidden, group * num_filters)
        self.complex_weights = nn.Parameter(torch.empty(num_filters, dim // group, size, size // 2 + 1))
        self.reset_parameters()

    @property
    def impl(self) -> str:
        """'fft' or 'dft'."""
        return self._impl

    @impl.setter
    def impl(self, value: str) -> None:
        if value not in _IMPLS:
            raise ValueError(f"impl must be one of {', '.join(_IMPLS)}, got {value!r}")
        self._impl = value

    def reset_parameters(self) -> None:
        """Set the filters near zero, so that the layer starts as (almost) no change, and the routing to its start."""
        self.reweight.reset_parameters()
        nn.init.trunc_normal_(self.complex_weights, std=self.init_scale)

    def init_weights(self) -> None:
        """Undo what a parent's ``init_cfg`` did to the layers inside; mmcv calls this after it."""
        self.reset_parameters()

    def forward(self, x: Tensor, residual: bool = False) -> Tensor:
        """Return the scaled features y, or ``x + y``.

        Args:
            x: (B, C, H, W), any float dtype, any H and W from 1 up. The FFT and the sum run in float32 (float64 stays
                float64), also under autocast.
            residual: Return ``x + y``; the sum is made before rounding to the dtype of ``x``.

        Returns:
            Tensor of the shape and dtype of ``x``.

        Raises:
            ValueError: Where ``x`` is not 4-D, is empty, or has not ``dim`` channels.
        """
        if x.dim() != 4 or x.shape[1] != self.dim or x.numel() == 0:
            raise ValueError(f"expected non-empty features of shape (B, {self.dim}, H, W), got {tuple(x.shape)}")
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            kernels = self.mixed_filters(wide)
            if self.impl == "fft":
                y = scale_spectrum(wide, kernels, residual)
            else:
                y = _scale_spectrum_dft(wide, kernels)
                y = wide + y if residual else y
            return y.to(x.dtype)

    def mixed_filters(self, x: Tensor) -> Tensor:
        """Return the filters mixed for each image and group, (B, C, size, size // 2 + 1), for features (B, C, H, W)."""
        mean = x.mean((2, 3)).to(self.complex_weights.dtype)
        routing = self.reweight(mean).tanh().view(-1, self.group, self.num_filters)
        return combine_filters(self.complex_weights, routing).to(x.dtype)

    def extra_repr(self) -> str:
        """Show what distinguishes one layer from another."""
        return f"dim={self.dim}, group={self.group}, num_filters={self.num_filters}, impl={self.impl!r}"


def set_freq_impl(model: nn.Module, impl: str) -> int:
    """Set ``impl`` ('fft' or 'dft') of every FreqScale in ``model``; return how many there are."""
    layers = [module for module in model.modules() if isinstance(module, FreqScale)]
    for layer in layers:
        layer.impl = impl
    return len(layers)
