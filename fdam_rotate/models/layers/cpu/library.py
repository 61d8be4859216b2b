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

__all__ = [
    "available",
    "call",
    "computed_in",
    "dense",
    "expect",
    "float32_lanes",
    "is_channels_last",
    "job_type",
    "serves",
]

_INTERFACE = 5  # kInterface in kernels.cpp
_MAP_TYPES = (torch.float32, torch.float64, torch.bfloat16)


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


@lru_cache(maxsize=1)
def float32_lanes() -> int:
    """How many numbers of float32 the kernels may work on at a time: 16 with AVX-512, else 8."""
    return _library().fdam_float32_lanes()


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """The type in which the kernels compute on maps of ``dtype``, and in which they take all else: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def serves(*maps: Tensor, others: Sequence[Tensor] = ()) -> bool:
    """Whether the kernels can take these tensors: plain ones on the CPU, of the right types, and nobody watches.

    Tracers, exporters, counters (``torch.utils.flop_counter``), function transforms (``torch.func``) and forward-mode
    differentiation see torch's operations only, and so do subclasses of Tensor, whose values may lie anywhere.

    Args:
        maps: All float32, all float64 or all bfloat16.
        others: In the type that these are computed in.
    """
    dtype = maps[0].dtype
    if dtype not in _MAP_TYPES or not available():
        return False
    wanted = [(dtype, maps), (computed_in(dtype), others)]
    if not all(_is_plain(t) and t.dtype == kind for kind, tensors in wanted for t in tensors):
        return False
    return not (
        torch.jit.is_tracing()
        or torch.compiler.is_compiling()
        or is_in_torch_dispatch_mode()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, Parameter) and tensor.device.type == "cpu"


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


def expect(dtype: torch.dtype, **tensors: tuple[Tensor, Sequence[int]]) -> None:
    """Raise ValueError where one of ``tensors`` is not on the CPU in ``dtype``, or has not the given shape.

    The kernels get bare pointers: what is not checked here would be read and written out of bounds.
    """
    for name, (tensor, shape) in tensors.items():
        if tensor.device.type != "cpu" or tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
            got = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
            raise ValueError(f"expected {name} of shape {tuple(shape)} and {dtype} on the CPU, got {got}")


def call(function: str, job: type[ctypes.Structure], tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> bool:
    """Run ``function`` in the dtype of the first of ``tensors``, all ``dense``; False where memory was short."""
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    dtype = str(tensors[0].dtype).removeprefix("torch.")
    run = getattr(_library(), f"fdam_{function}_{dtype}")
    return run(ctypes.byref(job(*pointers, *numbers, torch.get_num_threads()))) == 0
