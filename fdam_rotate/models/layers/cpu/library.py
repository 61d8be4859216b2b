"""The compiled kernels: where they are, when they serve, and how they are called."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["available", "call", "dense", "expect", "is_channels_last", "job_type", "serves"]

_INTERFACE = 3  # kInterface in kernels.cpp


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


def serves(*tensors: Tensor) -> bool:
    """Whether the kernels can take ``tensors``: plain ones on the CPU, all float32 or all float64, and nobody watches.

    Tracers, exporters, counters (``torch.utils.flop_counter``), function transforms (``torch.func``) and forward-mode
    differentiation see torch's operations only, and so do subclasses of Tensor, whose values may lie anywhere.
    """
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64) or not available():
        return False
    if not all(type(t) in (Tensor, Parameter) and t.device.type == "cpu" and t.dtype == dtype for t in tensors):
        return False
    return not (
        torch.jit.is_tracing()
        or torch.compiler.is_compiling()
        or is_in_torch_dispatch_mode()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of each place of ``x``, (B, C, H, W), lie side by side, and not each channel's places."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def dense(*tensors: Tensor, channels_last: bool = False) -> list[Tensor]:
    """Return ``tensors`` with their values in memory, in order; those of four dimensions with channels last if asked.

    A view may be transposed or negated lazily, and the zeros that autograd makes have no memory at all.
    """
    orders = [torch.channels_last if channels_last and t.dim() == 4 else torch.contiguous_format for t in tensors]
    values = [t.clone() if t._is_zerotensor() else t.resolve_neg() for t in tensors]
    return [t.contiguous(memory_format=order) for t, order in zip(values, orders, strict=True)]


def job_type(name: str, tensors: str, numbers: str) -> type[ctypes.Structure]:
    """Make the structure ``name`` of kernels.cpp: pointers, then integers, both as lists of names, then ``threads``."""
    fields = [(field, ctypes.c_void_p) for field in tensors.split()]
    fields += [(field, ctypes.c_int) for field in [*numbers.split(), "threads"]]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def expect(like: Tensor, **tensors: tuple[Tensor, Sequence[int]]) -> None:
    """Raise ValueError where one of ``tensors`` is not on the CPU in the dtype of ``like``, or has not the shape told.

    The kernels get bare pointers: what is not checked here would be read and written out of bounds.
    """
    for name, (tensor, shape) in tensors.items():
        if tensor.device.type != "cpu" or tensor.dtype != like.dtype or tuple(tensor.shape) != tuple(shape):
            got = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
            raise ValueError(f"expected {name} of shape {tuple(shape)} and {like.dtype} on the CPU, got {got}")


def call(function: str, job: type[ctypes.Structure], tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> bool:
    """Run ``function`` in the dtype of the first of ``tensors``, all ``dense``; False where memory was short."""
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    dtype = str(tensors[0].dtype).removeprefix("torch.")
    run = getattr(_library(), f"fdam_{function}_{dtype}")
    return run(ctypes.byref(job(*pointers, *numbers, torch.get_num_threads()))) == 0
