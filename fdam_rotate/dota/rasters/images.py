"""The pixels of source images, and their sizes.

Every image becomes (H, W, 3) uint8 in OpenCV's order (blue, green, red), the pixels that ``cv2.imread`` gives:

* one band: the same value in all three; a palette: its colours;
* four bands: the fourth (alpha) is dropped; a TIFF that names it alpha has its colours multiplied by it first;
* 16 bits: the upper byte of each value, ``value // 256``; in a TIFF of several bands ``value / 257``, rounded;
* an orientation in EXIF or TIFF is applied.
"""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.rasters.png import decode_plain_png

if TYPE_CHECKING:
    from fdam_rotate.dota.rasters.bands import BandReader

__all__ = ["WholeImage", "image_size", "open_pixels", "read_image"]

#: Images of more pixels than this are cut from a band of rows, where their kind allows it.
LARGEST_WHOLE = 64_000_000


class WholeImage:
    """An image in memory, with the attributes and ``crops`` of :class:`fdam_rotate.dota.rasters.bands.BandReader`."""

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
    width, height, orientation = _read_header(path)
    if width * height > LARGEST_WHOLE and orientation == 1 and not whole:
        from fdam_rotate.dota.rasters.bands import open_bands

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
        raise ImageReadError(f"{path}: cannot be decoded: truncated, damaged, or of a kind that OpenCV does not read")
    return np.asarray(image, np.uint8), digest


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end-of-image marker follows the scan (decoders fill what is missing with grey and say nothing)."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) >= 0


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as :func:`read_image` gives them, from the file's header.

    Raises:
        ImageReadError: the header cannot be read.
    """
    width, height, orientation = _read_header(path)
    return (height, width) if orientation >= 5 else (width, height)


def _read_header(path: Path) -> tuple[int, int, int]:
    """Width and height as the file stores them, and the orientation of EXIF or TIFF: 1 as stored, 2 to 8 turned."""
    with path.open("rb") as file:
        magic = file.read(4)
        for start, read in _HEADERS.items():
            if magic.startswith(start):
                file.seek(0)
                try:
                    width, height, orientation = read(file)
                except Exception as error:  # damaged headers fail in many ways, few of which tell a user anything
                    raise ImageReadError(f"{path}: its header cannot be read: truncated or damaged") from error
                return width, height, orientation if 1 <= orientation <= 8 else 1
    kinds = "not a known kind of image: expected PNG, JPEG, TIFF or BMP"
    raise ImageReadError(f"{path}: {kinds if magic else 'the file is empty (0 bytes)'}")


def _png_header(file: BinaryIO) -> tuple[int, int, int]:
    width, height = struct.unpack(">2I", file.read(24)[16:])
    file.seek(33)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return width, height, _exif_orientation(file.read(length))
        file.seek(length + 4, os.SEEK_CUR)
    return width, height, 1


def _jpeg_header(file: BinaryIO) -> tuple[int, int, int]:
    from PIL.JpegImagePlugin import JpegImageFile

    image = JpegImageFile(file)
    return *image.size, _exif_orientation(image.info.get("exif", b""))


def _bmp_header(file: BinaryIO) -> tuple[int, int, int]:
    from PIL.BmpImagePlugin import BmpImageFile

    return *BmpImageFile(file).size, 1


def _tiff_header(file: BinaryIO) -> tuple[int, int, int]:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    # the directory alone: TiffImageFile refuses kinds of pixels that OpenCV reads, such as three bands of 16 bits
    start = file.read(8)
    directory = ImageFileDirectory_v2(start + file.read(8) if 43 in start[2:4] else start)
    file.seek(directory.next)
    with warnings.catch_warnings(action="ignore"):  # of a damaged directory; what is missing then is told
        directory.load(file)
    return int(directory[256]), int(directory[257]), int(directory.get(274, 1))


def _exif_orientation(exif: bytes) -> int:
    from PIL.Image import Exif

    content = Exif()
    content.load(exif)
    return int(content.get(274, 1))


#: How each kind of file begins, and the reader of its header. Pillow's plug-ins themselves: ``Image.open`` refuses
#: images above its own limit, which is a setting of the whole process.
_HEADERS: dict[bytes, Callable[[BinaryIO], tuple[int, int, int]]] = {
    b"\x89PNG": _png_header,
    b"\xff\xd8": _jpeg_header,
    b"BM": _bmp_header,
    b"II": _tiff_header,
    b"MM": _tiff_header,
}
