"""Patches filled up to their size, and as files."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.rasters.png import encode_png

__all__ = ["encode_patch", "pad_patch"]


def pad_patch(patch: NDArray[np.uint8], size: Sequence[int], padding_value: Sequence[int]) -> NDArray[np.uint8]:
    """A patch (H, W, 3) filled up to ``size`` (width, height), to the right and below."""
    width, height = size
    if patch.shape[:2] == (height, width):
        return patch
    padded = np.empty((height, width, 3), np.uint8)
    padded[:] = padding_value
    padded[: patch.shape[0], : patch.shape[1]] = patch
    return padded


def encode_patch(patch: NDArray[np.uint8], extension: str) -> bytes:
    """The file of a patch: our PNG, or what OpenCV writes by default for the other kinds."""
    if extension == ".png":
        return encode_png(patch)
    return cv2.imencode(extension, patch)[1].tobytes()
