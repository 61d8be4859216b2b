"""``irfft2(rfft2(x) * M)`` with M resized from small filters, and its gradient: FreqScale's arithmetic.

Two ways to the same numbers: operations of torch, on any device, and C++ for the CPU
(``fdam_rotate.models.layers.cpu``), taken there wherever nobody traces the operations. For exporters, which know no
FFT, there is a third: ``fdam_rotate.models.layers.dft``.

Bicubic resizing is linear and separable, so the filters come here already mixed for each map, at their own 14 x 8 size,
and are resized by two small fixed matrices. That needs no cache of resized weights, and its gradient is a matrix
product too, hence deterministic on a GPU, where that of ``F.interpolate`` is not. X * M is one real product on the
interleaved (real, imaginary) values; the resize matrix writes M interleaved already. The gradient is written out: it
keeps the spectrum and makes M again, and ``irfft2(rfft2(.) * M)`` is its own transpose, where autograd would go through
a full complex FFT.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fdam_rotate.models.layers import cpu
from fdam_rotate.models.layers.autograd import records_gradient
from fdam_rotate.models.layers.resize import bicubic_matrix

__all__ = ["scale_spectrum"]


def scale_spectrum(x: Tensor, kernels: Tensor, residual: bool = False) -> Tensor:
    """Return ``irfft2(rfft2(x) * M)``, with ``x`` added where ``residual`` is true.

    Args:
        x: Features (B, C, H, W), any float dtype.
        kernels: Mixed filters (B, C, S, S2), float64 with ``x`` of float64, else float32; all is computed in this type.
            M is their bicubic resize to (H, W // 2 + 1).
        residual: Add ``x`` to the result, before it is rounded to the dtype of ``x``.

    Returns:
        Tensor (B, C, H, W) in the dtype of ``x``.
    """
    if records_gradient(x, kernels):
        return _ScaleSpectrum.apply(x, kernels, residual)
    scaled = cpu.scaled if _on_cpu(x, kernels) else _scaled
    return scaled(x, kernels, residual, False)[0]


def _on_cpu(x: Tensor, kernels: Tensor) -> bool:
    return cpu.quick(*x.shape[2:]) and cpu.serves(x, others=[kernels])


class _ScaleSpectrum(torch.autograd.Function):
    """``scale_spectrum`` with its gradient; keeps the kernels and the spectra."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, residual: bool) -> Tensor:
        ctx.on_cpu, ctx.residual = _on_cpu(x, kernels), residual
        scaled = cpu.scaled if ctx.on_cpu else _scaled
        y, spectra = scaled(x, kernels, residual, ctx.needs_input_grad[1])
        ctx.save_for_backward(kernels, spectra)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        kernels, spectra = ctx.saved_tensors
        gradient = cpu.scaled_gradient if ctx.on_cpu else _scaled_gradient
        return *gradient(grad, kernels, ctx.residual, spectra), None


def _scaled(x: Tensor, kernels: Tensor, residual: bool, keep: bool) -> tuple[Tensor, Tensor | None]:
    """``cpu.scaled`` in operations of torch, for ``x`` of any dtype."""
    wide = x.to(kernels.dtype)
    spectra = _spectrum(wide)
    modulation = _interleaved_modulation(kernels, *x.shape[2:])
    # In place on whichever is not needed any more.
    y = _maps(modulation.mul_(spectra) if keep else spectra.mul_(modulation), *x.shape[2:])
    return (y.add_(wide) if residual else y).to(x.dtype), (spectra if keep else None)


def _scaled_gradient(
    grad: Tensor, kernels: Tensor, residual: bool, spectra: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """``cpu.scaled_gradient`` in operations of torch."""
    # The map from x to y is symmetric, so the gradient passes through it like the features.
    grad_x, grad_spectra = _scaled(grad, kernels, residual, keep=spectra is not None)
    if spectra is None:
        return grad_x, None
    height, width = grad.shape[2:]
    rows, cols = _resize_matrices(*kernels.shape[2:], height, width, kernels.device, kernels.dtype)
    # dM is the real part of conj(X) * G, counted twice where a column stands for its mirror image too.
    cols = (cols * _column_weights(width, cols.device, cols.dtype)).T
    return grad_x, torch.matmul(rows.T, torch.matmul(grad_spectra.mul_(spectra), cols))


def _spectrum(x: Tensor) -> Tensor:
    """Half spectrum of real maps, (..., H, W) -> (..., H, 2 * (W // 2 + 1)), real and imaginary parts interleaved."""
    return torch.view_as_real(torch.fft.rfft2(x, norm="ortho")).flatten(-2)


def _maps(spectrum: Tensor, height: int, width: int) -> Tensor:
    """Real maps (..., H, W) of an interleaved half spectrum (..., H, 2 * (W // 2 + 1))."""
    spectrum = torch.view_as_complex(spectrum.unflatten(-1, (-1, 2)))
    return torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")


def _interleaved_modulation(kernels: Tensor, height: int, width: int) -> Tensor:
    """Resize mixed filters (..., S, S2) to (..., H, 2 * (W // 2 + 1)), each column twice."""
    rows, cols = _resize_matrices(*kernels.shape[-2:], height, width, kernels.device, kernels.dtype)
    return torch.matmul(torch.matmul(rows, kernels), cols)


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
