"""The pixels of source images, and their sizes.

Every image becomes (H, W, 3) uint8 in OpenCV's order (blue, green, red), the pixels that ``cv2.imread`` gives:

* one band: the same value in all three; a palette: its colours;
* four bands: the fourth (alpha) is dropped; a TIFF that names it alpha has its colours multiplied by it first;
* 16 bits: the upper byte of each value, ``value // 256``; in a TIFF of several bands ``value / 257``, rounded;
* an orientation in EXIF is applied.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.prep.png import decode_plain_png

if TYPE_CHECKING:
    from fdam_rotate.dota.prep.bands import BandReader

__all__ = ["WholeImage", "image_size", "open_pixels", "read_image"]

#: Images of more pixels than this are cut from a band of rows, where their kind allows it.
LARGEST_WHOLE = 64_000_000


class WholeImage:
    """An image in memory, with the attributes and ``crops`` of :class:`fdam_rotate.dota.prep.bands.BandReader`."""

    def __init__(self, pixels: NDArray[np.uint8], digest: str) -> None:
        self.pixels = pixels
        self.digest = digest
        self.height, self.width = pixels.shape[:2]

    def crops(self, windows: Sequence[Sequence[int]]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Number and pixels of each window (x0, y0, x1, y1), clipped to the image."""
        for number, (x0, y0, x1, y1) in enumerate(windows):
            yield number, self.pixels[y0:y1, x0:x1]

    def resized(self, scale: float) -> WholeImage:
        """This image resized by ``scale``, with cubic interpolation as DOTA_devkit does it."""
        if scale == 1:
            return self
        resized = cv2.resize(self.pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return WholeImage(np.asarray(resized, np.uint8), self.digest)


@contextmanager
def open_pixels(path: Path, *, whole: bool = False) -> Iterator[WholeImage | BandReader]:
    """The pixels of ``path``: in memory, or read in bands where there are more than ``LARGEST_WHOLE`` of them.

    Args:
        path: an image file.
        whole: hold the image in memory whatever its size.

    Raises:
        ImageReadError: the file is empty, truncated, damaged or no image.
    """
    width, height = image_size(path)
    if width * height > LARGEST_WHOLE and not whole:
        from fdam_rotate.dota.prep.bands import open_bands

        with open_bands(path) as reader:
            if reader is not None:
                yield reader
                return
    yield WholeImage(*read_image(path))


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
    image: Any = decode_plain_png(data)
    if image is not None:
        return image, digest
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
    with path.open("rb") as file:
        head = file.read(24)
    if head.startswith(b"\x89PNG") and len(head) == 24:  # nearly all of DOTA: no need to load Pillow
        width, height = struct.unpack(">2I", head[16:])
        return int(width), int(height)
    from PIL import BmpImagePlugin, JpegImagePlugin, TiffImagePlugin

    # the plug-ins themselves: Image.open refuses images above its own limit, which is a setting of the whole process
    kinds: dict[bytes, Any] = {
        b"\xff\xd8": JpegImagePlugin.JpegImageFile,
        b"BM": BmpImagePlugin.BmpImageFile,
        b"II": TiffImagePlugin.TiffImageFile,
        b"MM": TiffImagePlugin.TiffImageFile,
    }
    for magic, kind in kinds.items():
        if head.startswith(magic):
            try:
                with path.open("rb") as file:
                    width, height = kind(file).size
            except Exception as error:
                raise ImageReadError(f"{path}: its header cannot be read: {error}") from None
            return int(width), int(height)
    raise ImageReadError(f"{path}: {'not a known kind of image' if head else 'the file is empty (0 bytes)'}")
