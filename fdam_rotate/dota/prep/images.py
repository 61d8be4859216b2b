"""The pixels of source images, and their sizes.

Every image becomes (H, W, 3) uint8 in OpenCV's order (blue, green, red), the pixels that ``cv2.imread`` gives:

* one band: the same value in all three; a palette: its colours;
* four bands: the fourth (alpha) is dropped;
* 16 bits: the upper byte of each value, ``value // 256``; in a TIFF of several bands ``value / 257``, rounded;
* an orientation in EXIF is applied.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.prep.png import stored_png

__all__ = ["image_size", "read_image"]

def read_image(path: Path) -> tuple[NDArray[np.uint8], str]:
    """The pixels of an image, (H, W, 3) uint8 in the order blue, green, red, and the file's SHA-256.

    Raises:
        ImageReadError: the file is empty, truncated, damaged or no image.
    """
    data = path.read_bytes()
    if not data:
        raise ImageReadError(f"{path}: the file is empty (0 bytes)")
    if data.startswith(b"\xff\xd8") and not _jpeg_is_whole(data):
        raise ImageReadError(f"{path}: the JPEG file is truncated (no end-of-image marker)")
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(b"\x89PNG"):
        data = stored_png(data) or data
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageReadError(f"{path}: cannot be decoded: {str(error).strip()}") from None
    if image is None:
        raise ImageReadError(f"{path}: cannot be decoded: truncated, damaged, or not an image")
    return np.asarray(image, np.uint8), digest


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end-of-image marker follows the scan (decoders fill what is missing with grey and say nothing)."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) >= 0


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the file's header, as the file stores them (before any EXIF orientation).

    Raises:
        ImageReadError: the header cannot be read.
    """
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

    # the plug-ins themselves: Image.open refuses images above its own limit, which is a setting of the whole process
    kinds: dict[bytes, Any] = {
        b"\x89PNG": PngImagePlugin.PngImageFile,
        b"\xff\xd8": JpegImagePlugin.JpegImageFile,
        b"BM": BmpImagePlugin.BmpImageFile,
        b"II": TiffImagePlugin.TiffImageFile,
        b"MM": TiffImagePlugin.TiffImageFile,
    }
    with path.open("rb") as file:
        head = _peek(file, 4)
        for magic, kind in kinds.items():
            if head.startswith(magic):
                try:
                    width, height = kind(file).size
                except Exception as error:
                    raise ImageReadError(f"{path}: its header cannot be read: {error}") from None
                return int(width), int(height)
    raise ImageReadError(f"{path}: the file is empty (0 bytes)" if not head else f"{path}: not a known kind of image")


def _peek(file: BinaryIO, count: int) -> bytes:
    head = file.read(count)
    file.seek(0)
    return head
