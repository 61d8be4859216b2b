"""Sliding windows over an image, and the names of the patches cut from them.

Coordinates are pixels, x to the right and y down; a window is ``(x0, y0, x1, y1)`` with ``x1`` and ``y1`` exclusive.

Two conventions of names are in use, both ``id__FIELD__x___y``:

* MMRotate (``tools/data/dota/split/img_split.py``): ``P0001__1024__824___0``. FIELD is the window's size; x and y are
  in the original image, and the patch is not resized.
* DOTA_devkit (``ImgSplit``): ``P0001__0.5__824___0``. FIELD is the rate by which the whole image was resized first; x
  and y are in the resized image. The devkit writes rate 1 as ``1``.

Nothing else in the name tells them apart, so the rule here is: a FIELD with a dot, or below 16, is a rate; any other is
a window size. A manifest written when the images were split needs no such rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError

__all__ = [
    "PatchName",
    "devkit_name",
    "mmrotate_name",
    "parse_patch_name",
    "place_by_name",
    "scaled_sizes",
    "slide_windows",
]

#: A whole number in the second field of a patch name is a rate below this and a window size from it on.
SMALLEST_SIZE = 16

# The id is greedy, so that the last match counts where an id itself looks like a patch name or holds '__'.
_NAME = re.compile(r"(?P<id>.+)__(?P<field>[0-9]+(?:\.[0-9]+)?)__(?P<x>[0-9]+)___(?P<y>[0-9]+)", re.DOTALL)

# Windows whose share of image lies within this of the largest share count as equal to it (MMRotate's tolerance).
_RATE_TOLERANCE = 0.01


class PatchName(NamedTuple):
    """What a patch name says: a point of the original image is ``(point of the patch + (x, y)) / scale``.

    Attributes:
        image_id: id of the image that the patch was cut from.
        x: left edge of the patch, in pixels of the resized image.
        y: upper edge of the patch, in pixels of the resized image.
        scale: size of the resized image over that of the original; 1.0 in MMRotate's convention.
        size: side of the window in MMRotate's convention, None in DOTA_devkit's.
    """

    image_id: str
    x: int
    y: int
    scale: float
    size: int | None


def mmrotate_name(image_id: str, size: int, x: int, y: int) -> str:
    """The patch name of MMRotate's convention, for instance ``P0001__1024__824___0``."""
    return f"{image_id}__{size}__{x}___{y}"


def devkit_name(image_id: str, rate: float, x: int, y: int) -> str:
    """The patch name of DOTA_devkit's convention, for instance ``P0001__0.5__824___0`` (a whole rate has no dot)."""
    return f"{image_id}__{int(rate) if float(rate).is_integer() else rate}__{x}___{y}"


def parse_patch_name(name: str) -> PatchName:
    """Read a patch name of either convention (without file extension), from the right.

    Raises:
        DotaError: the name does not end in ``__SIZE__x___y`` or ``__RATE__x___y``, or the rate is 0.

    >>> parse_patch_name("P0001__1024__824___0")
    PatchName(image_id='P0001', x=824, y=0, scale=1.0, size=1024)
    >>> parse_patch_name("a__b__0.5__824___0")
    PatchName(image_id='a__b', x=824, y=0, scale=0.5, size=None)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DotaError(f"{name!r} is not a patch name: expected ID__SIZE__X___Y or ID__RATE__X___Y")
    field = match["field"]
    x, y = int(match["x"]), int(match["y"])
    if "." not in field and int(field) >= SMALLEST_SIZE:
        return PatchName(match["id"], x, y, 1.0, int(field))
    if float(field) == 0:
        raise DotaError(f"{name!r} is not a patch name: its rate is 0")
    return PatchName(match["id"], x, y, float(field), None)


def place_by_name(name: str) -> PatchName:
    """Where a patch lies, by its name alone; a name of neither convention is that of a whole image, at (0, 0).

    Raises:
        DotaError: the rate in the name is 0.

    >>> place_by_name("harbour_7")
    PatchName(image_id='harbour_7', x=0, y=0, scale=1.0, size=None)
    """
    return PatchName(name, 0, 0, 1.0, None) if _NAME.fullmatch(name) is None else parse_patch_name(name)


def scaled_sizes(sizes: Sequence[int], gaps: Sequence[int], rates: Sequence[float]) -> tuple[list[int], list[int]]:
    """Window sizes and overlaps of all rates, ``int(size / rate)`` each, the rates outermost (MMRotate's order)."""
    return (
        [int(size / rate) for rate in rates for size in sizes],
        [int(gap / rate) for rate in rates for gap in gaps],
    )


def _starts(length: int, size: int, step: int) -> list[int]:
    """Where the windows along one side begin; the last one is moved back to end at the border."""
    if length <= size:
        return [0]
    count = math.ceil((length - size) / step + 1)
    return [min(i * step, length - size) for i in range(count)]


def slide_windows(
    width: int, height: int, sizes: Sequence[int], gaps: Sequence[int], *, img_rate_thr: float = 0.0
) -> NDArray[np.int64]:
    """Square windows over an image of ``width`` by ``height`` pixels, as MMRotate's img_split places them.

    Column by column, top to bottom, one size after the other. A window may reach past an image smaller than itself.

    Args:
        width: of the image, at least 1.
        height: of the image, at least 1.
        sizes: sides of the windows in pixels.
        gaps: overlap in pixels of neighbouring windows, one for each size and smaller than it.
        img_rate_thr: windows whose share of image is not above this are left out; where none is above, those
            within 0.01 of the largest share stay.

    Returns:
        (N, 4) int64, N >= 1: x0, y0, x1, y1, no window twice.

    Raises:
        DotaError: an empty image, no size, or an overlap that is not in ``[0, size)``.
    """
    if width < 1 or height < 1:
        raise DotaError(f"an image of {width} x {height} pixels holds no window")
    if not sizes or len(sizes) != len(gaps):
        raise DotaError(f"expected one gap for each size, got sizes {list(sizes)} and gaps {list(gaps)}")
    parts = []
    for size, gap in zip(sizes, gaps, strict=True):
        if size < 1 or not 0 <= gap < size:
            raise DotaError(f"window size {size} with overlap {gap}: expected 0 <= overlap < size")
        x, y = np.meshgrid(_starts(width, size, size - gap), _starts(height, size, size - gap), indexing="ij")
        corner = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)
        parts.append(np.concatenate([corner, corner + size], axis=1))
    windows: NDArray[np.int64] = np.concatenate(parts)
    first = np.unique(windows, axis=0, return_index=True)[1]
    windows = windows[np.sort(first)]

    inside = np.minimum(windows[:, 2:], (width, height)) - windows[:, :2]
    share = inside.prod(axis=1) / (windows[:, 2:] - windows[:, :2]).prod(axis=1)
    keep = share > img_rate_thr
    if not keep.any():
        keep = np.abs(share - share.max()) < _RATE_TOLERANCE
    kept: NDArray[np.int64] = windows[keep]
    return kept
