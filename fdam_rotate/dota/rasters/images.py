"""The pixels of source images, and their sizes.

Every image becomes (H, W, 3) uint8 in OpenCV's order (blue, green, red). Plain pictures (PNG, JPEG, BMP) of 8 bits are
decoded by OpenCV, an orientation in EXIF applied; all others, and those too large to hold, are read in windows by
`fdam_rotate.dota.rasters.windowed`, which says what becomes of their bands and values.
"""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.files import sha256_of
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.rasters.source import PixelSource

__all__ = ["Header", "WholeImage", "image_size", "open_pixels", "read_header", "read_image"]

#: Plain pictures of more pixels than this are read in windows.
LARGEST_WHOLE = 64_000_000


class WholeImage(PixelSource):
    """An image in memory."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        digest: str,
        bands: tuple[int, ...] | None = None,
        scale_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(pixels.shape[1], pixels.shape[0], digest, bands, scale_range)
        self.pixels = pixels

    def crops(
        self,
        windows: Sequence[Sequence[int]],
        *,
        wanted: Sequence[int] | None = None,
        skippable: Container[int] = (),
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Number and pixels of each window, clipped to the image; all of a plain picture is data."""
        for number in range(len(windows)) if wanted is None else sorted(wanted):
            x0, y0, x1, y1 = windows[number]
            crop = self.pixels[y0:y1, x0:x1]
            self.tone.add(crop)
            yield number, crop

    def resized(self, scale: float) -> WholeImage:
        """This image resized by ``scale``, with cubic interpolation as DOTA_devkit does it."""
        if scale == 1:
            return self
        resized = cv2.resize(self.pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return WholeImage(np.asarray(resized, np.uint8), self.digest, self.bands, self.scale_range)


class _Unread(PixelSource):
    """A plain picture of which only the header is read."""

    def crops(
        self,
        windows: Sequence[Sequence[int]],
        *,
        wanted: Sequence[int] | None = None,
        skippable: Container[int] = (),
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        raise ValueError("opened without its pixels")


@contextmanager
def open_pixels(
    path: Path, options: RasterOptions | None = None, *, whole: bool = False, decode: bool = True
) -> Iterator[PixelSource]:
    """The pixels of ``path``: in memory if it is a plain picture of at most ``LARGEST_WHOLE`` pixels, else in windows.

    Args:
        path: an image file.
        options: bands and range of rasters.
        whole: hold the image in memory whatever its kind and size.
        decode: False: what the file says of itself is wanted, and no window will be read.

    Raises:
        ImageReadError: the file is empty, truncated, damaged, no image, or lacks the bands that ``options`` names.
    """
    options = options or RasterOptions()
    header = read_header(path)
    if header.plain and header.width * header.height <= LARGEST_WHOLE and options.bands is None:
        if decode:
            yield WholeImage(*_decode(path))
        else:
            yield _Unread(*_shown_size(header), lambda: sha256_of(path))
        return
    from fdam_rotate.dota.rasters.windowed import open_windowed

    with open_windowed(path, options, header.orientation) as image:
        if not whole:
            yield image
            return
        ((_, pixels),) = image.crops([[0, 0, image.width, image.height]])
        held = WholeImage(pixels, image.digest, image.bands, image.scale_range)
    yield held


def read_image(path: Path, options: RasterOptions | None = None) -> tuple[NDArray[np.uint8], str]:
    """The pixels of an image, (H, W, 3) uint8 in the order blue, green, red, and the file's SHA-256.

    Raises:
        ImageReadError: the file is empty, truncated, damaged, no image, or lacks the bands that ``options`` names.
    """
    with open_pixels(path, options, whole=True) as image:
        assert isinstance(image, WholeImage)
        return image.pixels, image.digest


def _decode(path: Path) -> tuple[NDArray[np.uint8], str]:
    """The pixels of a plain picture as OpenCV decodes them, and the file's SHA-256."""
    data = path.read_bytes()
    if data.startswith(b"\xff\xd8") and not _jpeg_is_whole(data):
        raise ImageReadError(f"{path}: the JPEG file is truncated (no end-of-image marker)")
    digest = hashlib.sha256(data).hexdigest()
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
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
    return _shown_size(read_header(path))


def _shown_size(header: Header) -> tuple[int, int]:
    return (header.height, header.width) if header.orientation >= 5 else (header.width, header.height)


@dataclass(frozen=True)
class Header:
    """Width and height as the file stores them.

    ``orientation`` is that of EXIF or TIFF: 1 as stored, 2 to 8 turned. ``plain`` means a picture of 8 bits without
    alpha, which OpenCV decodes.
    """

    width: int
    height: int
    orientation: int = 1
    plain: bool = True


def read_header(path: Path) -> Header:
    """Size, orientation and kind of an image file.

    Raises:
        ImageReadError: the header cannot be read.
    """
    if path.suffix.lower() == ".vrt":
        return _gdal_header(path)
    with path.open("rb") as file:
        magic = file.read(4)
        for start, read in _HEADERS.items():
            if magic.startswith(start):
                file.seek(0)
                try:
                    header = read(file)
                except Exception as error:  # damaged headers fail in many ways, few of which help a user
                    raise ImageReadError(f"{path}: its header cannot be read: truncated or damaged") from error
                return header if 1 <= header.orientation <= 8 else replace(header, orientation=1)
    if magic in _JPEG_2000:
        return _gdal_header(path)
    kinds = "not a known kind of image: expected PNG, JPEG, TIFF, JPEG 2000 or BMP"
    raise ImageReadError(f"{path}: {kinds if magic else 'the file is empty (0 bytes)'}")


def _png_header(file: BinaryIO) -> Header:
    width, height, depth, colour = struct.unpack(">2I2B", file.read(26)[16:])
    plain = depth <= 8 and colour not in (4, 6)  # those have alpha
    file.seek(33)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return Header(width, height, _exif_orientation(file.read(length)), plain)
        file.seek(length + 4, os.SEEK_CUR)
    return Header(width, height, 1, plain)


def _jpeg_header(file: BinaryIO) -> Header:
    from PIL.JpegImagePlugin import JpegImageFile

    image = JpegImageFile(file)
    return Header(*image.size, _exif_orientation(image.info.get("exif", b"")))


def _bmp_header(file: BinaryIO) -> Header:
    from PIL.BmpImagePlugin import BmpImageFile

    return Header(*BmpImageFile(file).size)


def _tiff_header(file: BinaryIO) -> Header:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    # the directory alone: TiffImageFile refuses kinds of pixels that GDAL reads, such as three bands of 16 bits
    start = file.read(8)
    directory = ImageFileDirectory_v2(start + file.read(8) if 43 in start[2:4] else start)
    file.seek(directory.next)
    with warnings.catch_warnings():  # of a damaged directory; what is missing then is reported
        warnings.simplefilter("ignore")
        directory.load(file)
    return Header(int(directory[256]), int(directory[257]), int(directory.get(274, 1)), plain=False)


def _gdal_header(path: Path) -> Header:
    from fdam_rotate.dota.rasters.windowed import open_dataset

    with open_dataset(path) as dataset:
        return Header(dataset.width, dataset.height, 1, plain=False)


def _exif_orientation(exif: bytes) -> int:
    from PIL.Image import Exif

    content = Exif()
    content.load(exif)
    return int(content.get(274, 1))


#: How each kind of file begins, and the reader of its header. Pillow's plug-ins themselves: ``Image.open`` refuses
#: images above its own limit, which is a setting of the whole process.
_HEADERS: dict[bytes, Callable[[BinaryIO], Header]] = {
    b"\x89PNG": _png_header,
    b"\xff\xd8": _jpeg_header,
    b"BM": _bmp_header,
    b"II": _tiff_header,
    b"MM": _tiff_header,
}

#: How JPEG 2000 files begin, with boxes and without.
_JPEG_2000 = (b"\0\0\0\x0c", b"\xff\x4f\xff\x51")
