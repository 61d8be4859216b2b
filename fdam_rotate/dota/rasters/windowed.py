"""Windows of an image file read by GDAL (rasterio): rasters of any size, type and number of bands, in little memory.

Read so: every TIFF and JPEG 2000, a VRT if its own name says so, and plain pictures (PNG, JPEG, BMP) that are too large
to hold, of 16 bits, or with alpha.

* Bands: those that ``--bands`` names; else those that the file names red, green and blue; else its first three; of a
  file with one or two the first, as grey. A palette gives its colours. Alpha says where there is data, and changes no
  colour. CMYK is refused.
* 8-bit values stay as they are; of fewer bits, 0 to the largest become 0 to 255. All others are scaled by
  ``--scale-range`` (`fdam_rotate.dota.rasters.scaling`); where the file says that a value stands for no data, it is 0.
* A window holds no data where every pixel of it has the nodata value (or NaN) in each band read, alpha or mask 0, or
  lies in blocks that the file leaves out; the latter are never read.

The file is read once from the top down, in lanes of limited width if it is tiled: memory holds as many rows of a lane
as the largest window has, whatever the size of the image. Files without tiles are read in whole rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.files import sha256_of
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.rasters.orientation import shown_pixels, stored_window
from fdam_rotate.dota.rasters.scaling import auto_range, scaled
from fdam_rotate.dota.rasters.source import PixelSource

__all__ = ["WindowedImage", "open_windowed"]

Window = tuple[int, int, int, int]

# GDAL's own cache of blocks, in bytes; its default is a share of the machine's memory.
_CACHE = 64 * 2**20

# Bytes of stored values read at a time, if one row of blocks is not more.
_CHUNK = 16 * 2**20

# Widest lane of a tiled file, in pixels, if one window is not wider.
_LANE = 16384

# Rows of blocks higher than this are not read to their end ahead of need.
_HIGHEST_BLOCK = 1024

# The range of --scale-range auto is taken from squares of this side, evenly spaced, so many in each direction. Where
# they hold fewer values than _ENOUGH (most of the image is no data), more are taken.
_SQUARE = 64
_SQUARES = (16, 64, 256)
_ENOUGH = 10_000

# How files begin, and the one driver that may open them: some of GDAL's formats are text that points to other files.
_DRIVERS = {
    b"\x89PNG": "PNG",
    b"\xff\xd8": "JPEG",
    b"BM": "BMP",
    b"II": "GTiff",
    b"MM": "GTiff",
    b"\0\0\0\x0cjP": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}

_PLAIN = ("PNG", "JPEG", "BMP")


class WindowedImage(PixelSource):
    """An image file whose windows are read when they are asked for.

    The digest of a VRT is that of it and of the files that it names.
    """

    def __init__(self, path: Path, dataset: Any, options: RasterOptions, orientation: int) -> None:
        self._path = path
        self._dataset = dataset
        self._orientation = orientation
        self._stored_size = int(dataset.width), int(dataset.height)
        width, height = self._stored_size if orientation < 5 else self._stored_size[::-1]
        files = [path] if dataset.driver != "VRT" else sorted(Path(name) for name in dataset.files)
        colours = _colours_of(dataset)
        bands = _choose_bands(path, dataset, colours, options)
        super().__init__(width, height, lambda: " ".join(dict.fromkeys(map(sha256_of, files))), bands)
        self._colour_bands, first = bands, bands[0]
        alpha = next((k for k, name in enumerate(colours, 1) if name == "alpha"), None)
        self._alpha = alpha if alpha not in self._colour_bands else None
        # in a VRT alpha may be of another type than the colours, and bands of two types are not read at once
        self._alpha_alone = self._alpha is not None and dataset.dtypes[self._alpha - 1] != dataset.dtypes[first - 1]
        flags = {flag.name for flag in dataset.mask_flag_enums[first - 1]}
        self._mask = "per_dataset" in flags and alpha is None
        self._apart = dataset.interleaving is not None and dataset.interleaving.name == "band"
        self._nodata = [dataset.nodatavals[band - 1] for band in self._colour_bands]
        self._masked = (
            self._alpha is not None
            or self._mask
            or any(value is not None for value in self._nodata)
            or np.dtype(dataset.dtypes[first - 1]).kind == "f"
        )
        self._inverted = dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        self._palette = _palette(dataset) if colours[first - 1] == "palette" else None
        block_height, block_width = dataset.block_shapes[first - 1]
        self._tiled = block_width < dataset.width
        self._block_height = min(block_height, dataset.height) if block_height <= _HIGHEST_BLOCK else 1
        # of a strip that GDAL splits into rows, it is not known whether the file leaves it out
        self._may_be_sparse = dataset.driver == "GTiff" and (self._tiled or block_height > 1)
        self._range = self._find_range(options)
        if np.dtype(dataset.dtypes[first - 1]) != np.uint8:
            self.scale_range = self._range
        elif dataset.driver in _PLAIN and options.bands is None:
            self.bands = None  # as of a plain picture that is held in memory

    def crops(
        self,
        windows: Sequence[Sequence[int]],
        *,
        wanted: Sequence[int] | None = None,
        skippable: Container[int] = (),
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """As `PixelSource.crops`; each answer is an array of its own."""
        stored = self._stored_windows(windows)
        asked = range(len(stored)) if wanted is None else set(wanted)
        for lane in self._lanes(stored):
            here = [k for k in lane if k in asked and (k not in skippable or self._may_hold_data(stored[k]))]
            for number, pixels, has_data in self._read_lane(here, stored) if here else ():
                if has_data or number not in skippable:
                    crop = np.ascontiguousarray(shown_pixels(pixels, self._orientation))
                    # the rows in memory move on: the answer is its own
                    crop = crop.copy() if np.shares_memory(crop, pixels) else crop
                    self.tone.add(crop)
                    yield number, crop

    def order(self, windows: Sequence[Sequence[int]]) -> list[int]:
        """As `PixelSource.order`: lane by lane, each from the top down."""
        return [number for lane in self._lanes(self._stored_windows(windows)) for number in lane]

    def _stored_windows(self, windows: Sequence[Sequence[int]]) -> list[Window]:
        """Windows of the image as shown, clipped, as windows of the file."""
        stored = []
        for x0, y0, x1, y1 in windows:
            clipped = x0, y0, min(x1, self.width), min(y1, self.height)
            stored.append(stored_window(clipped, self._orientation, *self._stored_size))
        return stored

    def _lanes(self, stored: Sequence[Window]) -> list[list[int]]:
        """Numbers of windows, lane by lane, each from the top down."""
        lanes = _lanes(range(len(stored)), stored, _LANE if self._tiled else self._stored_size[0])
        return [sorted(lane, key=lambda k: (stored[k][1], stored[k][0])) for lane in lanes]

    def _read_lane(
        self, numbers: Sequence[int], stored: Sequence[Window]
    ) -> Iterator[tuple[int, NDArray[np.uint8], bool]]:
        """Number, pixels (a view) and whether there is data, of windows of one lane, from the top down."""
        left, right = min(stored[k][0] for k in numbers), max(stored[k][2] for k in numbers)
        needed, highest = 0, 0
        for k in numbers:
            needed = max(needed, self._block_end(stored[k][3]))
            highest = max(highest, needed - stored[k][1])
        rows = np.empty((highest, right - left, 3), np.uint8)
        valid = np.empty((highest, right - left), np.bool_) if self._masked else None
        top, end = stored[numbers[0]][1], stored[numbers[0]][1]
        for k in numbers:
            x0, y0, x1, y1 = stored[k]
            if y0 > top:
                _move_up(rows, y0 - top, end - top)
                if valid is not None:
                    _move_up(valid, y0 - top, end - top)
                top, end = y0, max(end, y0)
            while end < y1:
                stop = min(self._chunk_end(end, right - left), self._block_end(y1))
                values, here = self._read((left, end, right, stop))
                rows[end - top : stop - top] = self._pixels(values)
                if valid is not None:
                    valid[end - top : stop - top] = here
                end = stop
            part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            yield k, rows[part], valid is None or bool(valid[part].any())

    def _block_end(self, row: int) -> int:
        """The end of the row of blocks that ends at or after ``row``, so that no block is decoded twice."""
        return min(-(-row // self._block_height) * self._block_height, self._stored_size[1])

    def _chunk_end(self, row: int, width: int) -> int:
        size = np.dtype(self._dataset.dtypes[self._colour_bands[0] - 1]).itemsize * self._dataset.count
        blocks = max(_CHUNK // (width * size * self._block_height), 1)
        end = self._block_end((row // self._block_height + blocks) * self._block_height)
        if self._dataset.driver == "PNG":  # of a truncated PNG that is read in one piece GDAL says nothing
            end = min(end, row + max(self._stored_size[1] // 2, 1))
        return end

    def _read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Values (bands, rows, columns) as stored, and where there is data; None: everywhere."""
        together = [*self._colour_bands, *([self._alpha] if self._alpha and not self._alpha_alone else [])]
        stored = self._stored(window, together)
        values = stored[: len(self._colour_bands)]
        if not self._masked:
            return values, None
        valid: NDArray[np.bool_] = ~self._missing(values).all(axis=0)
        if self._alpha:
            valid &= (self._stored(window, [self._alpha])[0] if self._alpha_alone else stored[-1]) != 0
        if self._mask:
            valid &= self._stored(window, None) != 0
        return values, valid

    def _stored(self, window: Window, bands: list[int] | None) -> NDArray[Any]:
        """Values (bands, rows, columns) of some bands as they are stored, or with None the mask (rows, columns)."""
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as Part

        x0, y0, x1, y1 = window
        part = Part(x0, y0, x1 - x0, y1 - y0)
        try:
            with _strict():  # of this thread: it need not be the one that opened the file
                found: NDArray[Any] = (
                    self._dataset.read_masks(self._colour_bands[0], window=part)
                    if bands is None
                    else self._dataset.read(bands, window=part)
                )
        except RasterioError as error:
            cause = error.__cause__ or error
            raise ImageReadError(f"{self._path}: cannot be decoded: truncated or damaged ({cause})") from None
        return found

    def _missing(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which values (bands, rows, columns) stand for no data."""
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)
        for k, nodata in enumerate(self._nodata):
            if nodata is not None:
                missing[k] |= values[k] == np.asarray(nodata, np.float64).astype(values.dtype)
        return missing

    def _pixels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values (bands, rows, columns) as (rows, columns, 3), blue, green, red."""
        if self._palette is not None:
            colours: NDArray[np.uint8] = self._palette[values[0]]
            return colours
        levels = values
        if self._range is not None:
            levels = scaled(values, *self._range)
            if any(nodata is not None for nodata in self._nodata):
                levels[self._missing(values)] = 0
        if self._inverted:
            levels = 255 - levels
        return np.broadcast_to(np.moveaxis(levels[::-1], 0, -1), (*levels.shape[1:], 3))

    def _find_range(self, options: RasterOptions) -> tuple[float, float] | None:
        """The values that become 0 and 255; None where values are levels already."""
        kind = np.dtype(self._dataset.dtypes[self._colour_bands[0] - 1])
        if self._palette is not None:
            return None
        if kind == np.uint8:
            bits = int(self._dataset.tags(self._colour_bands[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
            return None if bits >= 8 else (0.0, 2.0**bits - 1)
        if options.scale_range != "auto":
            low, high = options.scale_range
            return float(low), float(high)
        samples: list[NDArray[Any]] = []
        for side in _SQUARES:
            samples = list(self._sample(side))
            if sum(sample.size for sample in samples) >= _ENOUGH:
                break
        return auto_range(samples)

    def _sample(self, side: int) -> Iterator[NDArray[Any]]:
        """Values that are data, of all bands read, in up to ``side`` squares in each direction."""
        width, height = self._stored_size
        for y in _places(height, side):
            for x in _places(width, side):
                window = x, y, min(x + _SQUARE, width), min(y + _SQUARE, height)
                if self._has_blocks(window):
                    values, valid = self._read(window)
                    yield values if valid is None else values[~self._missing(values) & valid]

    def _may_hold_data(self, window: Window) -> bool:
        """False where a window is seen to hold no data without its colours being decoded."""
        if not self._has_blocks(window):
            return False
        if self._mask:
            return bool(self._stored(window, None).any())
        if self._alpha and self._apart:
            return bool(self._stored(window, [self._alpha]).any())
        return True

    def _has_blocks(self, window: Window) -> bool:
        """Whether the file holds any of the blocks in which a window lies."""
        if not self._may_be_sparse:
            return True
        x0, y0, x1, y1 = window
        for band in self._colour_bands:
            high, wide = self._dataset.block_shapes[band - 1]
            for row in range(y0 // high, -(-y1 // high)):
                for column in range(x0 // wide, -(-x1 // wide)):
                    if self._dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band) is not None:
                        return True
        return False


@contextmanager
def open_windowed(path: Path, options: RasterOptions | None = None, orientation: int = 1) -> Iterator[WindowedImage]:
    """The image ``path``, open for reading windows.

    Args:
        path: a file of a kind that this module names.
        options: bands and range.
        orientation: of EXIF or TIFF, 1 to 8; GDAL itself applies none.

    Raises:
        ImageReadError: it is damaged, of another kind, CMYK or complex, or has not the bands asked for; or rasterio is
            not installed.
    """
    with open_dataset(path) as dataset:
        yield WindowedImage(path, dataset, options or RasterOptions(), orientation)


@contextmanager
def open_dataset(path: Path, *, side_files: bool = False) -> Iterator[Any]:
    """The file as rasterio's dataset, opened by the one driver that suits it; no file is written.

    Args:
        path: the file.
        side_files: read GDAL's ``.aux.xml`` beside it too.

    Raises:
        ImageReadError: it is of another kind or damaged, or rasterio is not installed.
    """
    try:
        import rasterio
    except ImportError:
        raise ImageReadError(f"{path}: an image of this kind is read with rasterio: pip install rasterio") from None
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with path.open("rb") as file:
        head = file.read(12)
    driver = next((name for magic, name in _DRIVERS.items() if head.startswith(magic)), None)
    if path.suffix.lower() == ".vrt":
        driver = "VRT"
    if driver is None:
        raise ImageReadError(f"{path}: not a known kind of image: expected TIFF, JPEG 2000, PNG, JPEG or BMP")

    with _strict(GDAL_CACHEMAX=_CACHE, GDAL_PAM_ENABLED=side_files):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                dataset = rasterio.open(path, driver=driver)
            except RasterioError as error:
                kinds = "truncated, damaged, or of a kind that GDAL does not read"
                raise ImageReadError(f"{path}: cannot be decoded: {kinds} ({error})") from None
        with dataset:
            yield dataset


def _strict(**settings: Any) -> Any:
    """GDAL in this thread: truncated lines of a PNG or JPEG are errors, not grey pixels."""
    import rasterio

    return rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING=True, **settings)


def _colours_of(dataset: Any) -> list[str]:
    """What the bands are called: red, gray, alpha, palette, undefined, ..."""
    from rasterio._err import CPLE_BaseError

    with suppress(CPLE_BaseError):  # raises what GDAL warned of when the file was opened, such as a bad tag; once
        _ = dataset.colorinterp
    return [colour.name for colour in dataset.colorinterp]


def _choose_bands(path: Path, dataset: Any, colours: list[str], options: RasterOptions) -> tuple[int, ...]:
    """Numbers of the bands that are red, green and blue, or of the one that is grey."""
    if options.bands is not None:
        if max(options.bands) > dataset.count:
            asked = " ".join(map(str, options.bands))
            raise ImageReadError(f"{path}: has {dataset.count} bands, and --bands asks for {asked}")
        bands = tuple(options.bands)
    elif "cyan" in colours or (dataset.photometric is not None and dataset.photometric.name == "cmyk"):
        raise ImageReadError(f"{path}: its colours are those of printing (CMYK); convert it to RGB first")
    elif {"red", "green", "blue"} <= set(colours):
        bands = tuple(colours.index(name) + 1 for name in ("red", "green", "blue"))
    else:
        others = [number for number, name in enumerate(colours, 1) if name != "alpha"] or [1]
        bands = tuple(others[:3] if len(others) >= 3 and colours[0] != "palette" else others[:1])
    kinds = {str(dataset.dtypes[band - 1]) for band in bands}
    if any("complex" in kind for kind in kinds):
        raise ImageReadError(f"{path}: its values are complex (radar); give an image of amplitudes")
    if len(kinds) > 1:
        raise ImageReadError(f"{path}: bands {' '.join(map(str, bands))} are of several types: {', '.join(kinds)}")
    return bands


def _palette(dataset: Any) -> NDArray[np.uint8]:
    """The colours of a palette by value, blue, green, red; values without a colour are black."""
    bits = 8 * np.dtype(dataset.dtypes[0]).itemsize
    table = np.zeros((2**bits, 3), np.uint8)
    for value, (red, green, blue, *_) in dataset.colormap(1).items():
        table[value] = blue, green, red
    return table


def _places(length: int, count: int) -> list[int]:
    """Where squares along one side begin: all of them, or ``count`` evenly spaced from border to border."""
    if length <= count * _SQUARE:
        return list(range(0, length, _SQUARE))
    return [k * (length - _SQUARE) // (count - 1) for k in range(count)]


def _lanes(numbers: Sequence[int], windows: Sequence[Window], width: int) -> Iterator[list[int]]:
    """The numbers of windows grouped from left to right; a group spans ``width``, or one window if that is wider."""
    lane: list[int] = []
    for k in sorted(numbers, key=lambda k: (windows[k][0], k)):
        if lane and windows[k][2] - windows[lane[0]][0] > width:
            yield lane
            lane = []
        lane.append(k)
    if lane:
        yield lane


def _move_up(rows: NDArray[Any], by: int, have: int) -> None:
    """Move rows ``by`` to ``have`` to the top, in place and without a copy of them all."""
    for start in range(by, have, by):
        stop = min(start + by, have)
        rows[start - by : stop - by] = rows[start:stop]
