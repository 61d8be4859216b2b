"""Patches of an image too large to hold: cut from a band of its rows, which moves down the image once.

Rows are read by GDAL (rasterio), which reads PNG, JPEG and BMP line by line and TIFF by strips or tiles. The band
reaches from the first row that a window still needs to the last row read, so memory holds about as many rows as the
largest window has.

Only kinds of image for which this gives the pixels of ``cv2.imread`` are read so (a test compares them): PNG and BMP
of 8 or 16 bits without palette, and TIFF of one band or three 8-bit bands without alpha. JPEG is read so too, though
GDAL's colours may differ from OpenCV's by a few levels. Others are decoded whole, as are images with an orientation.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.files import sha256_of

__all__ = ["BandReader", "open_bands"]

# GDAL's own cache of blocks, in bytes; its default is a share of the machine's memory.
_CACHE = 64 * 2**20

# Rows read at a time; a multiple of the usual heights of tiles.
_STEP = 512

# Named, so that GDAL opens nothing else: some of its formats are text that points to other files.
_DRIVERS = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"BM": "BMP", b"II": "GTiff", b"MM": "GTiff"}


class BandReader:
    """Windows of an image file in the order that reading allows.

    Attributes:
        width: of the image, in pixels.
        height: of the image, in pixels.
        digest: SHA-256 of the file.
    """

    def __init__(self, path: Path, dataset: Any) -> None:
        self._path = path
        self._dataset = dataset
        self.width = int(dataset.width)
        self.height = int(dataset.height)
        self.digest = sha256_of(path)

    def crops(self, windows: Sequence[Sequence[int]]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Number and pixels of each window (x0, y0, x1, y1), clipped to the image, from the top down.

        Raises:
            ImageReadError: the file is truncated or damaged.
        """
        band = np.empty((0, self.width, 3), np.uint8)
        top = 0
        for number in sorted(range(len(windows)), key=lambda i: (windows[i][1], windows[i][0])):
            x0, y0, x1, y1 = windows[number]
            band, top = band[max(y0 - top, 0) :], max(top, y0)
            bottom = min(y1, self.height)
            have = len(band)
            if top + have < bottom:
                longer = np.empty((bottom - top, self.width, 3), np.uint8)
                longer[:have] = band
                band = longer
                for start in range(top + have, bottom, _STEP):
                    stop = min(start + _STEP, bottom)
                    band[start - top : stop - top] = self._rows(start, stop)
            yield number, band[y0 - top : bottom - top, x0:x1]

    def _rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows ``start`` to ``stop`` of the image, (rows, width, 3) uint8, blue, green, red."""
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        bands = [3, 2, 1] if self._dataset.count >= 3 else [1]
        try:
            rows = self._dataset.read(bands, window=Window(0, start, self.width, stop - start))
        except RasterioError as error:
            cause = error.__cause__ or error
            raise ImageReadError(f"{self._path}: cannot be decoded: truncated or damaged ({cause})") from None
        if rows.dtype == np.uint16:
            rows = (rows >> 8).astype(np.uint8)
        return np.broadcast_to(np.moveaxis(rows, 0, -1), (stop - start, self.width, 3))


@contextmanager
def open_bands(path: Path) -> Iterator[BandReader | None]:
    """A reader of ``path``, or None if the file is not of a kind that can be read so.

    Raises:
        ImageReadError: rasterio is not installed.
    """
    try:
        import rasterio
    except ImportError:
        raise ImageReadError(f"{path}: an image of this size is read with rasterio: pip install rasterio") from None
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with path.open("rb") as file:
        head = file.read(4)
    driver = next((name for magic, name in _DRIVERS.items() if head.startswith(magic)), None)
    if driver is None:
        yield None
        return

    # truncated lines of a PNG or JPEG are errors, not grey pixels
    with rasterio.Env(GDAL_CACHEMAX=_CACHE, GDAL_PAM_ENABLED=False, GDAL_ERROR_ON_LIBJPEG_WARNING=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                dataset = rasterio.open(path, driver=driver)
            except RasterioError:
                yield None
                return
        with dataset:
            yield BandReader(path, dataset) if _same_pixels(dataset) else None


def _same_pixels(dataset: Any) -> bool:
    colours = [colour.name for colour in dataset.colorinterp]
    kind = (dataset.driver, dataset.count, dataset.dtypes[0])
    if "palette" in colours or len(set(dataset.dtypes)) > 1 or "cyan" in colours:
        return False
    if "NBITS" in dataset.tags(1, ns="IMAGE_STRUCTURE"):  # fewer bits than the type has, and not scaled up to it
        return False
    if dataset.driver == "GTiff":
        grey = kind in (("GTiff", 1, "uint8"), ("GTiff", 1, "uint16")) and colours == ["gray"]
        colour = kind == ("GTiff", 3, "uint8") and colours == ["red", "green", "blue"]
        return dataset.photometric is None and (grey or colour)
    return dataset.dtypes[0] in ("uint8", "uint16") and dataset.count <= (3 if dataset.driver == "JPEG" else 4)
