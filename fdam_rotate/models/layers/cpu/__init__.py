"""FreqScale's arithmetic in C++ for the CPU: ``irfft2(rfft2(x) * M)`` and its gradient, float32 and float64.

Written as operations of torch, the two FFTs cost less than what stands around them: making M, transposing copies in
``irfft2``, and a trip to memory for each step. Here eight maps at a time go through all steps in one core's cache. The
sources beside this file are built into ``_kernels*.so`` when the package is installed; where that was not possible (no
compiler), ``available()`` is false and ``fdam_rotate.models.layers.spectrum`` runs everywhere.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from fdam_rotate.models.layers.resize import bicubic_matrix

__all__ = ["available", "scaled", "scaled_gradient", "serves"]

_INTERFACE = 1  # kInterface in kernels.cpp
_LANES = 8  # maps that are worked on at a time
_TAPS = 4  # nonzero weights of a cubic kernel


class _Job(ctypes.Structure):
    """``Job`` in kernels.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "kernels", "y", "spectra", "grad_kernels")),
        *((name, ctypes.c_void_p) for name in ("row_taps", "row_starts", "resize_columns")),
        *((name, ctypes.c_void_p) for name in ("row_roots", "column_roots")),
        *((name, ctypes.c_int) for name in ("maps", "height", "width", "size", "half", "residual", "threads")),
    ]


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """Load what was built from these sources; None where there is nothing, or something older than this file."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name("_kernels" + suffix)
        if path.exists():
            library = ctypes.CDLL(str(path))
            return library if library.fdam_interface() == _INTERFACE else None
    return None


def available() -> bool:
    """Whether the kernels were built."""
    return _library() is not None


def serves(x: Tensor) -> bool:
    """Whether ``x`` can be given to the kernels: on the CPU, float32 or float64, and nobody follows the operations.

    Tracers, exporters and counters (``torch.utils.flop_counter``) see torch's operations only.
    """
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
        and available()
    )


def scaled(x: Tensor, kernels: Tensor, residual: bool, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Return ``irfft2(rfft2(x) * M)``, plus ``x`` if ``residual``, and what ``scaled_gradient`` wants if ``keep``.

    Args:
        x: Maps (N, H, W), float32 or float64.
        kernels: (N, S, S // 2 + 1) in the dtype of ``x``; M is their bicubic resize to (H, W // 2 + 1).
        residual: Add ``x``.
        keep: Return the spectra of x too, in the kernels' own order: eight maps side by side.

    Returns:
        Tensor (N, H, W), and the spectra or None.
    """
    n, height, width = x.shape
    spectra = x.new_empty(-(-n // _LANES), width // 2 + 1, height, 2, _LANES) if keep else None
    return _run(x, kernels, residual, spectra, None), spectra


def scaled_gradient(
    grad: Tensor, kernels: Tensor, residual: bool, spectra: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of ``scaled`` to ``x``, and to ``kernels`` where there are ``spectra``.

    Args:
        grad: Gradient of the result, (N, H, W).
        kernels: As in ``scaled``.
        residual: As in ``scaled``.
        spectra: What ``scaled`` kept.
    """
    grad_kernels = torch.empty_like(kernels, memory_format=torch.contiguous_format) if spectra is not None else None
    # The map from x to y is symmetric, so the gradient passes through it like the features.
    return _run(grad, kernels, residual, spectra, grad_kernels), grad_kernels


def _run(x: Tensor, kernels: Tensor, residual: bool, spectra: Tensor | None, grad_kernels: Tensor | None) -> Tensor:
    x, kernels = x.contiguous(), kernels.contiguous()
    y = torch.empty_like(x)
    (n, height, width), (size, half) = x.shape, kernels.shape[1:]
    tables = _tables(size, half, height, width, x.dtype)
    tensors = (x, kernels, y, spectra, grad_kernels, *tables)
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    job = _Job(*pointers, n, height, width, size, half, residual, torch.get_num_threads())
    library = _library()
    call = library.fdam_scale_float32 if x.dtype == torch.float32 else library.fdam_scale_float64
    if call(ctypes.byref(job)):
        raise MemoryError(f"no memory for the spectra of {height} x {width} maps, {_LANES} maps for each thread")
    return y


@lru_cache(maxsize=128)
def _tables(size: int, half: int, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """``row_taps``, ``row_starts``, ``resize_columns``, ``row_roots`` and ``column_roots`` of ``Job``."""
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
        tensors = (torch.tensor(a, dtype=torch.int32 if a.dtype == np.int32 else dtype) for a in arrays)
        return tuple(tensor.contiguous() for tensor in tensors)  # torch.tensor keeps the order of a transposed array


def _angles(count: int) -> np.ndarray:
    return 2 * np.pi / count * np.arange(count)
