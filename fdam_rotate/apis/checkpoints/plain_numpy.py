"""Numpy's scalars and arrays of booleans, numbers and text, as a checkpoint's pickle may hold them, made safely.

The file calls none of numpy: what stands here is called in its place and checks what it gives, since numpy itself would
take bytes of the file for pointers to objects. Arrays are written as plain numpy's again.
"""

from __future__ import annotations

import math
import pickle
import re
import sys
from typing import Any

import numpy as np

__all__ = ["REFUSED", "STAND_INS"]

REFUSED = "not a plain numpy value: "  # how these errors are told from torch's


class _Dtype:
    """What ``numpy.dtype`` in a file makes: an inert holder of the dtype of a boolean, a number or text.

    Slots, so that no other object can be made to pass for one; and ``numpy.dtype.__setstate__`` is never called, with
    which a file could clear the flags that tell of objects.
    """

    __slots__ = ("dtype",)
    dtype: np.dtype[Any]

    def __new__(cls, code: Any = None, *_: Any) -> _Dtype:
        """Read ``code``, such as f8 or U12."""
        if not isinstance(code, str) or not re.fullmatch(r"[biufcSU]\d{1,6}", code):
            raise pickle.UnpicklingError(f"{REFUSED}the dtype {str(code)[:20]!r}")
        self = super().__new__(cls)
        self.dtype = np.dtype(code)
        return self

    def __setstate__(self, state: Any) -> None:
        """Take the byte order; there may be no fields, and sizes and flags follow from the code."""
        plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
        if not plain or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"{REFUSED}a dtype with fields")
        if state[1] != "|":
            self.dtype = self.dtype.newbyteorder(state[1])

    def __reduce__(self) -> tuple[Any, ...]:
        """Be written as the dtype that this stands for."""
        return tuple(self.dtype.__reduce__())


class _Array(np.ndarray[Any, Any]):
    """What ``numpy.ndarray`` in a file makes: an array that only :func:`_reconstruct` makes, filled at most once.

    A second filling would free memory that a tensor may share by then. It is written as a plain array again.
    """

    def __new__(cls, *_: Any, **__: Any) -> _Array:
        """Refuse: the constructor would take a dtype of objects, and bytes as their addresses."""
        raise pickle.UnpicklingError(f"{REFUSED}a call of numpy.ndarray")

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, dtype, Fortran order, bytes), where the bytes are as many as shape and dtype say."""
        if not isinstance(state, tuple) or len(state) != 5 or vars(self).get("filled"):
            raise pickle.UnpicklingError(f"{REFUSED}an array that is filled twice or with the wrong things")
        _, shape, dtype, fortran, data = state
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 32
        if not whole or type(dtype) is not _Dtype or type(data) is not bytes:
            raise pickle.UnpicklingError(f"{REFUSED}an array of objects, or of no possible shape")
        size = dtype.dtype.itemsize
        fits = size > 0 and math.prod(n or 1 for n in shape) * size < 2**62  # numpy multiplies them in 64 bits
        if not fits or math.prod(shape) * size != len(data):
            raise pickle.UnpicklingError(f"{REFUSED}an array of {len(data)} bytes that claims another size")
        _check_text(dtype.dtype, data)
        super().__setstate__((1, shape, dtype.dtype, bool(fortran), data))
        self.filled = True

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be written as a plain array."""
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _reconstruct(kind: Any = None, shape: Any = None, code: Any = None) -> _Array:
    """Stand in for numpy's function of this name: an empty array, which its state then fills."""
    if kind is not _Array or shape != (0,):
        raise pickle.UnpicklingError(f"{REFUSED}an array that does not start empty")
    return np.zeros(0, np.uint8).view(_Array)


def _scalar(dtype: Any = None, data: Any = None) -> Any:
    """Stand in for numpy's function of this name."""
    if type(dtype) is not _Dtype or type(data) is not bytes or len(data) != dtype.dtype.itemsize:
        raise pickle.UnpicklingError(f"{REFUSED}a scalar that is no boolean, number or text")
    _check_text(dtype.dtype, data)
    return np.frombuffer(data, dtype.dtype)[0] if data else dtype.dtype.type()


def _check_text(dtype: np.dtype[Any], data: bytes) -> None:
    """Refuse numbers that are no characters: Python makes an internal error of them when they are first read."""
    if dtype.kind == "U" and data:
        codes = np.frombuffer(data, f"{dtype.byteorder}u4")
        if codes.max() > sys.maxunicode:
            raise pickle.UnpicklingError(f"{REFUSED}text that is none")


#: (what is called, the name that a file calls it by); numpy 1 and 2 differ in the module's name.
STAND_INS: list[tuple[Any, str]] = [(_Array, "numpy.ndarray"), (_Dtype, "numpy.dtype")]
STAND_INS += [
    (function, f"numpy.{module}.multiarray.{name}")
    for module in ("core", "_core")
    for name, function in (("scalar", _scalar), ("_reconstruct", _reconstruct))
]
