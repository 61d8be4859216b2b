"""Tiles of an image: which there are, at which scales, and that each pixel is the mean of those that it stands for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fdam_rotate.dota.rasters.images import WholeImage, open_pixels
from fdam_rotate.dota.viewing import pyramid
from fdam_rotate.dota.viewing.pyramid import Level, build_pyramid, whole_scale

NONE = np.empty((0, 8))


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture that JPEG changes little."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 200, (height // 60 + 2, width // 60 + 2), dtype=np.uint8)
    grey = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.stack([grey - 30, grey, grey + 50], axis=2)


def box(x: float, y: float, wide: float, high: float) -> list[float]:
    return [x, y, x + wide, y, x + wide, y + high, x, y + high]


def decoded(level: Level, column: int, row: int) -> np.ndarray:
    jpeg = level.tiles[row * level.columns + column]
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).astype(float)


def means(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Block means, the slow way; incomplete blocks at the border repeat the last row and column."""
    rows = np.minimum(np.arange(-(-pixels.shape[0] // scale) * scale), pixels.shape[0] - 1)
    columns = np.minimum(np.arange(-(-pixels.shape[1] // scale) * scale), pixels.shape[1] - 1)
    full = pixels[rows][:, columns].astype(float)
    return full.reshape(len(rows) // scale, scale, len(columns) // scale, scale, 3).mean((1, 3))


def check(levels: list[Level], pixels: np.ndarray) -> None:
    for level in levels:
        expected = means(pixels, level.scale)
        for key in level.tiles:
            row, column = divmod(key, level.columns)
            part = expected[256 * row : 256 * row + 256, 256 * column : 256 * column + 256]
            tile = decoded(level, column, row)
            assert tile.shape == part.shape
            assert np.abs(tile - part).mean() < 2.5, (level.scale, column, row)


def test_a_picture_is_covered_whole_at_every_scale() -> None:
    pixels = smooth(530, 1290)
    levels = build_pyramid(WholeImage(pixels, ""), NONE)
    assert [(one.scale, one.columns, one.rows) for one in levels] == [(1, 6, 3), (2, 3, 2), (4, 2, 1), (8, 1, 1)]
    assert all(list(one.tiles) == list(range(one.columns * one.rows)) for one in levels)
    check(levels, pixels)


def test_how_far_images_are_shrunk() -> None:
    assert whole_scale(8000, 4000) == 1
    assert whole_scale(8001, 4000) == 2
    assert whole_scale(40_000, 40_000) == 8
    assert whole_scale(1, 32_000_001) == 2


def test_a_large_image_has_detail_where_boxes_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "WHOLE_PIXELS", 100_000)
    pixels = smooth(2300, 2900)  # 6.7 megapixels: 1/16 of the side is the first that fits
    boxes = np.array([box(500, 300, 30, 20), box(1100, 1500, 300, 40), box(-50, -50, 20, 20), box(2890, 2290, 30, 30)])
    levels = {one.scale: one for one in build_pyramid(WholeImage(pixels, ""), boxes)}
    check(list(levels.values()), pixels)
    whole = levels[16]
    assert len(whole.tiles) == whole.columns * whole.rows == 1
    assert sorted(levels) == [1, 2, 4, 16]

    def places(scale: int) -> list[tuple[int, int]]:
        return [(key % levels[scale].columns, key // levels[scale].columns) for key in levels[scale].tiles]

    # the small box reaches from column 1 to 2; the long one (300 pixels) is not shown at full size
    assert places(1) == [(1, 1), (2, 1), (11, 8)]
    assert places(2) == [(0, 0), (1, 0), (2, 2), (2, 3), (5, 4)]
    assert places(4) == [(0, 0), (1, 1), (2, 2)]


def test_boxes_at_the_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that only touches the image has no detail; one as wide as a tile is shown at full size, a wider one not."""
    monkeypatch.setattr(pyramid, "WHOLE_PIXELS", 100_000)
    image = WholeImage(smooth(1100, 2048), "")

    def detail(*rows: list[float]) -> dict[int, list[int]]:
        levels = {one.scale: sorted(one.tiles) for one in build_pyramid(image, np.array(rows))}
        return {scale: levels[scale] for scale in (1, 2, 4) if scale in levels}

    touching = [box(-20, 10, 20, 9), box(10, -20, 9, 20), box(2048, 10, 9, 9), box(10, 1100, 9, 9)]
    assert detail(*touching) == {}
    assert detail(box(-20, 10, 21, 9)) == {1: [0], 2: [0], 4: [0]}
    assert detail(box(2047.5, 1099.5, 9, 9)) == {1: [39], 2: [11], 4: [3]}
    assert detail(box(10, 10, 256, 9)) == {1: [0, 1], 2: [0], 4: [0]}
    assert detail(box(10, 10, 9, 257)) == {2: [0], 4: [0]}


def test_an_image_that_shrinks_to_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its one pixel stands for more of the image than is read at a time elsewhere."""
    monkeypatch.setattr(pyramid, "WHOLE_PIXELS", 1)
    pixels = smooth(1100, 1500)
    levels = build_pyramid(WholeImage(pixels, ""), NONE)
    assert [(one.scale, len(one.tiles)) for one in levels] == [(2048, 1)]
    assert np.abs(decoded(levels[0], 0, 0)[0, 0] - means(pixels, 2048)[0, 0]).max() < 2


def test_tiles_have_libjpegs_quality_of_80() -> None:
    (level,) = build_pyramid(WholeImage(smooth(100, 100), ""), NONE)
    jpeg = level.tiles[0]
    at = jpeg.index(
        b"\xff\xdb"
    )  # the first table: of luminance; its first entries are 16, 11 and 12 at a quality of 50
    assert list(jpeg[at + 5 : at + 8]) == [round(value * 0.4 + 1e-9) for value in (16, 11, 12)]


def test_detail_is_bounded_and_the_first_boxes_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "WHOLE_PIXELS", 100_000)
    monkeypatch.setattr(pyramid, "DETAIL_TILES", 6)
    pixels = smooth(2048, 2048)
    boxes = np.array([box(1600, 1600, 9, 9), box(10, 10, 9, 9), box(60, 60, 9, 9), box(1000, 10, 9, 9)])
    levels = {one.scale: one for one in build_pyramid(WholeImage(pixels, ""), boxes)}
    assert [sorted(levels[scale].tiles) for scale in (1, 2, 4)] == [[0, 54], [0, 15], [0, 3]]
    monkeypatch.setattr(pyramid, "DETAIL_TILES", 5)  # the second box needs three more: a third that needs none is kept
    levels = {one.scale: one for one in build_pyramid(WholeImage(pixels, ""), boxes)}
    assert [sorted(levels[scale].tiles) for scale in (1, 2, 4)] == [[54], [15], [3]]


def test_a_raster_read_in_windows_gives_the_same_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setattr(pyramid, "WHOLE_PIXELS", 800_000)
    pixels = smooth(1500, 2600)
    boxes = np.array([box(1020, 1020, 20, 20)])
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=2600, height=1500, count=3, dtype="uint8", tiled=True,
        blockxsize=256, blockysize=256, photometric="rgb",
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels[..., ::-1], -1, 0))
    with open_pixels(tmp_path / "a.tif") as image:
        levels = build_pyramid(image, boxes)
    assert levels == build_pyramid(WholeImage(pixels, ""), boxes)
    assert [one.scale for one in levels] == [1, 2, 4, 8, 16]
    assert len(levels[0].tiles) == 4, "the box lies where four tiles, and four windows, meet"
    check(levels, pixels)


def test_windows_without_data_are_not_read_and_black(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=1100, height=256, count=3, dtype="uint8", tiled=True,
        blockxsize=256, blockysize=256, sparse_ok=True,
    ) as file:  # fmt: skip
        file.write(np.full((3, 256, 256), 200, np.uint8), window=rasterio.windows.Window(0, 0, 256, 256))
    with open_pixels(tmp_path / "a.tif") as image:
        levels = build_pyramid(image, NONE)
        assert sum(image.tone._counts) == 3 * 32 * 128, "the second window was skipped"
    assert abs(decoded(levels[0], 0, 0).mean() - 200) < 2
    assert decoded(levels[0], 4, 0).max() == 0
    assert decoded(levels[0], 4, 0).shape == (256, 76, 3)
