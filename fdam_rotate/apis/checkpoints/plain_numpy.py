"""Numpy's scalars (booleans, numbers, text), as the ``meta`` of a checkpoint may hold them, made safely.

mmcv keeps a best score or a seed as such. The file calls none of numpy: what stands here is called in its place and
checks what it gives, since numpy itself would take bytes of the file for pointers to objects. Arrays are not read: no
checkpoint of the 0.x line that we know of holds one.
"""

from __future__ import annotations

import pickle
import re
import sys
from typing import Any

import numpy as np

__all__ = ["REFUSED", "STAND_INS"]

REFUSED = "not a plain numpy value: "  # by which these errors are known from torch's


class _Dtype:
    """What ``numpy.dtype`` in a file makes: an inert holder of the dtype of a boolean, a number or text.

    Slots, so that no other object can be made to pass for one; and ``numpy.dtype.__setstate__`` is never called, with
    which a file could clear the flags that mark objects.
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
STAND_INS: list[tuple[Any, str]] = [
    (_Dtype, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
]
