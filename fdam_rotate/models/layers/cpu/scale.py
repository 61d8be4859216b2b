"""FreqScale on the CPU: ``irfft2(rfft2(x) * M)``, eight or sixteen maps at a time; the work is in freq_scale.h."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fdam_rotate.models.layers.cpu.library import (
    call,
    computed_in,
    dense,
    expect,
    float32_lanes,
    is_channels_last,
    job_type,
)
from fdam_rotate.models.layers.resize import bicubic_matrix

__all__ = ["quick", "scaled", "scaled_gradient"]

_EIGHT = 8
_TAPS = 4  # nonzero weights of a cubic kernel
_ALIGNMENT = 64  # bytes, of the vectors in `spectra`
# The kernels take p^2 steps for a prime factor p above 5. Beside torch, 64 maps on two cores: 0.4 to 0.6 of its time up
# to 2 * 47 and 67 rows and columns, 0.9 at 2 * 61, 1.4 at 127.
_LARGEST_PRIME = 53
_Job = job_type(
    "ScaleJob",
    "x kernels y spectra grad_kernels row_taps row_starts resize_columns row_roots column_roots",
    "maps height width size half residual channels lanes",
)


@lru_cache(maxsize=128)
def quick(height: int, width: int) -> bool:
    """Whether the kernels are faster than torch at this size of maps: a large prime factor is a plain sum to them."""
    return max(_largest_prime_factor(height), _largest_prime_factor(width)) <= _LARGEST_PRIME


def _largest_prime_factor(number: int) -> int:
    factor = 2
    while factor * factor <= number:
        if number % factor:
            factor += 1
        else:
            number //= factor
    return number


def scaled(x: Tensor, kernels: Tensor, residual: bool, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Return ``irfft2(rfft2(x) * M)``, plus ``x`` if ``residual``, and what ``scaled_gradient`` wants if ``keep``.

    Args:
        x: Features (B, C, H, W), float32, float64 or bfloat16, which is computed in float32.
        kernels: (B, C, S, S // 2 + 1), float64 with ``x`` of float64, else float32; M is their bicubic resize to
            (H, W // 2 + 1).
        residual: Add ``x``.
        keep: Return the spectra of x too, in the kernels' own order: ``_lanes`` maps side by side.

    Returns:
        Tensor (B, C, H, W) in the dtype of ``x``, with channels last if ``x`` has them so and C is a multiple of eight;
        the spectra or None.
    """
    spectra = kernels.new_empty(_spectra_shape(x, _lanes(x, kernels.dtype))) if keep else None
    return _run(x, kernels, residual, spectra, None), spectra


def scaled_gradient(
    grad: Tensor, kernels: Tensor, residual: bool, spectra: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of ``scaled`` to ``x``, and to ``kernels`` where there are ``spectra``.

    Args:
        grad: Gradient of the result, (B, C, H, W).
        kernels: As in ``scaled``.
        residual: As in ``scaled``.
        spectra: What ``scaled`` kept.
    """
    grad_kernels = torch.empty_like(kernels, memory_format=torch.contiguous_format) if spectra is not None else None
    # The map from x to y is symmetric, so the gradient passes through it like the features.
    return _run(grad, kernels, residual, spectra, grad_kernels), grad_kernels


def _run(x: Tensor, kernels: Tensor, residual: bool, spectra: Tensor | None, grad_kernels: Tensor | None) -> Tensor:
    (batch, channels, height, width), (size, half) = x.shape, kernels.shape[2:]
    expect(computed_in(x.dtype), kernels=(kernels, (batch, channels, size, half)))
    lanes = _lanes(x, kernels.dtype)
    if spectra is not None:  # of features whose layout may have been another
        lanes = _EIGHT if spectra.shape[-1] == _EIGHT else float32_lanes()
    channels_last = is_channels_last(x) and channels % lanes == 0
    (x,) = dense(x, channels_last=channels_last)
    (kernels,) = dense(kernels)
    if grad_kernels is not None:  # hooks on saved tensors may hand back another copy than was kept
        expect(kernels.dtype, spectra=(spectra, _spectra_shape(x, lanes)))
        (spectra,) = dense(spectra)
        if spectra.data_ptr() % _ALIGNMENT:
            spectra = spectra.clone()
    y = torch.empty_like(x)
    tensors = (x, kernels, y, spectra, grad_kernels, *_tables(size, half, height, width, kernels.dtype))
    sizes = (batch * channels, height, width, size, half, residual, channels if channels_last else 0, lanes)
    if not call("scale", _Job, tensors, sizes):
        raise MemoryError(f"no memory for the spectra of {height} x {width} maps, {lanes} maps for each thread")
    return y


def _lanes(x: Tensor, dtype: torch.dtype) -> int:
    """Maps that are worked on at a time: eight, or as many as the processor takes where they lie side by side."""
    widest = float32_lanes() if dtype == torch.float32 and is_channels_last(x) else _EIGHT
    return _EIGHT if x.shape[1] % widest else widest


def _spectra_shape(x: Tensor, lanes: int) -> tuple[int, ...]:
    batch, channels, height, width = x.shape
    return -(-batch * channels // lanes), width // 2 + 1, height, 2, lanes


@lru_cache(maxsize=128)
def _tables(size: int, half: int, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """``row_taps``, ``row_starts``, ``resize_columns``, ``row_roots`` and ``column_roots`` of ``ScaleJob``."""
    taps = min(_TAPS, size)
    rows = bicubic_matrix(size, height)
    starts = np.minimum((rows != 0).argmax(1), size - taps)
    arrays = (
        np.take_along_axis(rows, starts[:, None] + np.arange(taps), 1),
        starts.astype(np.int32),
        bicubic_matrix(half, width // 2 + 1).T,
        *(np.stack((np.cos(angles), np.sin(angles)), 1) for angles in map(_angles, (width, height))),
    )
    # Made outside inference mode: a cached inference tensor could not take part in training later.
    with torch.inference_mode(False):
        tensors = (torch.tensor(a, dtype=torch.int32 if a.dtype == np.int32 else dtype, device="cpu") for a in arrays)
        return tuple(tensor.contiguous() for tensor in tensors)  # torch.tensor keeps the order of a transposed array


def _angles(count: int) -> np.ndarray:
    return 2 * np.pi / count * np.arange(count)
