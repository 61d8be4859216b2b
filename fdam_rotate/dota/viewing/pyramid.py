"""An image as JPEG tiles at several scales, bounded in number whatever its size.

A tile of scale s, a power of two, shows 256 s x 256 s pixels of the image as 256 x 256, each the mean of s x s; tiles
at the right and lower border are smaller. The image is covered whole at the smallest scale that gives at most
``WHOLE_PIXELS`` (1 up to 32 megapixels; 8 of a raster of 40,000 x 40,000), and at the coarser ones above it, up to
one tile. Of an image that is larger, up to ``DETAIL_TILES`` tiles at the scales 1, 2 and 4 show where boxes lie: those
of the first boxes first, of each at the scale that shows it within about one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.geometry import poly_to_hbb
from fdam_rotate.dota.rasters.source import PixelSource

__all__ = ["DETAIL_TILES", "TILE", "WHOLE_PIXELS", "Level", "build_pyramid"]

#: Pixels of a tile's side.
TILE = 256

#: The most pixels of the finest scale at which the image is covered whole.
WHOLE_PIXELS = 32_000_000

#: The most tiles that show more than that where boxes lie (as many pixels again).
DETAIL_TILES = 500

# Pixels of the image that are read at a time: a square of this side holds whole tiles of the scales of detail.
_WINDOW = 4 * TILE
_DETAIL_SCALES = (1, 2, 4)

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_OPTIMIZE, 1]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Level:
    """The tiles of one scale.

    Attributes:
        scale: pixels of the image a pixel of a tile, along one side.
        columns: of tiles, over the whole width.
        rows: of tiles.
        tiles: JPEG files by ``row * columns + column``; at the scales of detail some only.
    """

    scale: int
    columns: int
    rows: int
    tiles: dict[int, bytes]


def build_pyramid(image: PixelSource, polys: NDArray[np.float64]) -> list[Level]:
    """The tiles of an image, the finest scale first; the image is read once, from the top down.

    Args:
        image: open for reading.
        polys: (N, 8) corners of boxes, the most important first.

    Raises:
        ImageReadError: the file is truncated or damaged.
    """
    whole = whole_scale(image.width, image.height)
    wanted = _detail(image.width, image.height, polys, [scale for scale in _DETAIL_SCALES if scale < whole])
    levels = {scale: _empty_level(image, scale) for scale in wanted}
    side = max(_WINDOW, whole)
    overview = np.zeros((-(-image.height // whole), -(-image.width // whole), 3), np.uint8)
    windows = [
        (x, y, min(x + side, image.width), min(y + side, image.height))
        for y in range(0, image.height, side)
        for x in range(0, image.width, side)
    ]
    for number, pixels in image.crops(windows, skippable=range(len(windows))):
        left, top = windows[number][:2]
        small = _shrunk(pixels, whole)
        overview[top // whole :, left // whole :][: small.shape[0], : small.shape[1]] = small
        for scale, tiles in wanted.items():
            for column, row, part in _tiles_in(pixels, left, top, scale * TILE):
                if (column, row) in tiles:
                    levels[scale].tiles[row * levels[scale].columns + column] = _jpeg(_shrunk(part, scale))
    scale = whole
    while True:
        level = _empty_level(image, scale)
        for column, row, part in _tiles_in(overview, 0, 0, TILE):
            level.tiles[row * level.columns + column] = _jpeg(part)
        levels[scale] = level
        if level.columns == level.rows == 1:
            # windows came as the file is best read: their tiles are put in order
            ordered = [replace(one, tiles=dict(sorted(one.tiles.items()))) for one in levels.values() if one.tiles]
            return sorted(ordered, key=lambda one: one.scale)
        overview = _shrunk(overview, 2)
        scale *= 2


def whole_scale(width: int, height: int) -> int:
    """The smallest power of two by which an image of this size is shrunk to at most ``WHOLE_PIXELS``."""
    scale = 1
    while -(-width // scale) * -(-height // scale) > WHOLE_PIXELS:
        scale *= 2
    return scale


def _empty_level(image: PixelSource, scale: int) -> Level:
    return Level(scale, -(-image.width // (scale * TILE)), -(-image.height // (scale * TILE)), {})


def _detail(width: int, height: int, polys: NDArray[np.float64], scales: list[int]) -> dict[int, set[tuple[int, int]]]:
    """Column and row of the tiles of detail, by scale: at most ``DETAIL_TILES``, those of the first boxes."""
    chosen: dict[int, set[tuple[int, int]]] = {scale: set() for scale in scales}
    if not scales:
        return chosen
    bounds = poly_to_hbb(polys)
    inside = (bounds[:, 2:] > 0).all(axis=1) & (bounds[:, 0] < width) & (bounds[:, 1] < height)
    bounds = np.clip(bounds[inside], 0, [width - 1, height - 1] * 2)
    left = DETAIL_TILES
    for x0, y0, x1, y1 in bounds.tolist():
        reach = max(x1 - x0, y1 - y0)
        needed = {
            (scale, column, row)
            for scale in scales
            if reach <= scale * TILE
            for column in range(int(x0) // (scale * TILE), int(x1) // (scale * TILE) + 1)
            for row in range(int(y0) // (scale * TILE), int(y1) // (scale * TILE) + 1)
            if (column, row) not in chosen[scale]
        }
        if len(needed) <= left:
            left -= len(needed)
            for scale, column, row in needed:
                chosen[scale].add((column, row))
        if not left:
            break
    return chosen


def _tiles_in(pixels: Pixels, left: int, top: int, side: int) -> Iterator[tuple[int, int, Pixels]]:
    """Column, row and pixels of the squares of ``side`` in a piece of an image that begins at a multiple of it."""
    for y in range(0, pixels.shape[0], side):
        for x in range(0, pixels.shape[1], side):
            yield (left + x) // side, (top + y) // side, pixels[y : y + side, x : x + side]


def _shrunk(pixels: Pixels, scale: int) -> Pixels:
    """Means of ``scale`` x ``scale`` pixels; what is missing at the border is as the last row and column."""
    if scale == 1:
        return pixels
    height, width = pixels.shape[:2]
    below, right = -height % scale, -width % scale
    if below or right:
        pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
    size = pixels.shape[1] // scale, pixels.shape[0] // scale
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(pixels: Pixels) -> bytes:
    done, data = cv2.imencode(".jpg", pixels, _QUALITY)
    if not done:
        raise ValueError(f"a tile of shape {pixels.shape} cannot be written as JPEG")
    return data.tobytes()
