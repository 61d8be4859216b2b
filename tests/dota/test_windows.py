"""Windows and patch names against a plain loop, hand-worked tables and the installed MMRotate's own function."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from prep_scenes import mmrotate_splitter

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.windows import (
    PatchName,
    devkit_name,
    mmrotate_name,
    parse_patch_name,
    scaled_sizes,
    slide_windows,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("P0001__1024__824___0", PatchName("P0001", 824, 0, 1.0, 1024), id="mmrotate"),
        pytest.param("P0001__0.5__824___0", PatchName("P0001", 824, 0, 0.5, None), id="devkit"),
        pytest.param("P0001__1__0___824", PatchName("P0001", 0, 824, 1.0, None), id="devkit-rate-1"),
        pytest.param("P0001__15__0___0", PatchName("P0001", 0, 0, 15.0, None), id="below-16-is-a-rate"),
        pytest.param("P0001__16__0___0", PatchName("P0001", 0, 0, 1.0, 16), id="16-is-a-size"),
        pytest.param("P0001__682.0__3___4", PatchName("P0001", 3, 4, 682.0, None), id="a-dot-is-a-rate"),
        pytest.param("A__B__1024__1___2", PatchName("A__B", 1, 2, 1.0, 1024), id="id-with-underscores"),
        pytest.param("A___512__1___2", PatchName("A_", 1, 2, 1.0, 512), id="id-ends-in-underscore"),
        pytest.param("a__1024__5___6__256__7___8", PatchName("a__1024__5___6", 7, 8, 1.0, 256), id="patch-of-a-patch"),
        pytest.param("Zürich 1.tif__1024__0___0", PatchName("Zürich 1.tif", 0, 0, 1.0, 1024), id="dots-spaces"),
    ],
)
def test_parse_patch_name(name: str, expected: PatchName) -> None:
    assert parse_patch_name(name) == expected


@pytest.mark.parametrize(
    "name",
    ["P0001", "P0001__1024__824", "P0001__1024__824__0", "__1024__0___0", "P__1024__-1___0", "P__x__0___0",
     "P__0__1___2", "P__0.0__1___2", "P__1024__0___0.png", "P__\u0661\u0660\u0662\u0664__0___0"],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DotaError, match="is not a patch name"):
        parse_patch_name(name)


def test_names_read_back() -> None:
    assert mmrotate_name("P", 1024, 824, 0) == "P__1024__824___0"
    assert devkit_name("P", 1.0, 0, 5) == "P__1__0___5"
    assert devkit_name("P", 0.5, 0, 5) == "P__0.5__0___5"
    for size, x, y in [(16, 0, 0), (1024, 824, 31)]:
        assert parse_patch_name(mmrotate_name("P__1", size, x, y)) == ("P__1", x, y, 1.0, size)
    for rate in (0.4, 1, 1.5, 2.0):
        assert parse_patch_name(devkit_name("P__1", rate, 7, 9)) == ("P__1", 7, 9, rate, None)


def test_windows_by_hand() -> None:
    # 1147 wide: starts 0 and 824, the second moved back to 1147 - 1024 = 123; 512 high: one row that reaches past
    assert slide_windows(1147, 512, [1024], [200]).tolist() == [[0, 0, 1024, 1024], [123, 0, 1147, 1024]]
    # exactly one window
    assert slide_windows(1024, 1024, [1024], [200]).tolist() == [[0, 0, 1024, 1024]]
    # columns first
    assert slide_windows(3, 3, [2], [1])[:, :2].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    # a 2 x 2 image is a quarter of the window: not above 0.6, yet the only one, so it stays
    assert slide_windows(2, 2, [4], [0], img_rate_thr=0.6).tolist() == [[0, 0, 4, 4]]
    # 4 x 2: the windows of 2 are full (1.0), the one of 4 is half full and goes
    assert slide_windows(4, 2, [2, 4], [0, 0], img_rate_thr=0.6)[:, 2].tolist() == [2, 4]
    # 6 x 10: the window of 10 holds a share of exactly 0.6, which is not above 0.6
    assert set(slide_windows(6, 10, [2, 10], [0, 0], img_rate_thr=0.6)[:, 2] % 2) == {0}
    assert len(slide_windows(6, 10, [2, 10], [0, 0], img_rate_thr=0.6)) == 15
    # equal sizes give a window once
    assert len(slide_windows(9, 9, [4, 4], [1, 1])) == len(slide_windows(9, 9, [4], [1]))


def test_where_no_window_holds_enough_those_near_the_best_stay() -> None:
    # 10 rows of image: a share of 10/64 of the large windows, 10/40 of the small ones, 10/39.8 would be as good
    few = slide_windows(100, 10, [64, 40], [4, 4], img_rate_thr=0.9)
    assert {x1 - x0 for x0, _, x1, _ in few.tolist()} == {40}
    near = slide_windows(100, 10, [41, 40], [4, 4], img_rate_thr=0.9)  # 10/41 lies 0.006 below
    assert {x1 - x0 for x0, _, x1, _ in near.tolist()} == {40, 41}


def test_rates_divide_sizes_and_gaps() -> None:
    assert scaled_sizes([1024], [500], [0.5, 1.0, 1.5]) == ([2048, 1024, 682], [1000, 500, 333])


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ((0, 5, [4], [1]), "holds no window"),
        ((5, 5, [], []), "one gap for each size"),
        ((5, 5, [4], [1, 2]), "one gap for each size"),
        ((5, 5, [4], [4]), "0 <= overlap < size"),
        ((5, 5, [4], [-1]), "0 <= overlap < size"),
        ((5, 5, [0], [0]), "0 <= overlap < size"),
    ],
)
def test_bad_settings(args: tuple[int, int, list[int], list[int]], match: str) -> None:
    with pytest.raises(DotaError, match=match):
        slide_windows(*args)


def plain_windows(width: int, height: int, size: int, gap: int) -> list[list[int]]:
    """Slide by hand until the border is reached, as DOTA_devkit words it."""

    def starts(length: int) -> list[int]:
        out, at = [], 0
        while at + size < length:
            out.append(at)
            at += size - gap
        return [*out, max(length - size, 0)]

    return [[x, y, x + size, y + size] for x, y in product(starts(width), starts(height))]


def test_windows_equal_a_plain_loop_and_cover_every_pixel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        width, height, size = rng.integers(1, 60, size=3)
        gap = int(rng.integers(0, size))
        windows = slide_windows(int(width), int(height), [int(size)], [gap])
        assert windows.tolist() == plain_windows(int(width), int(height), int(size), gap)
        seen = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in windows:
            seen[y0:y1, x0:x1] = True
        assert seen.all()


def test_windows_equal_the_installed_mmrotate() -> None:
    peer = mmrotate_splitter()
    rng = np.random.default_rng(1)
    for _ in range(500):
        width, height = (int(v) for v in rng.integers(1, 4000, size=2))
        count = int(rng.integers(1, 4))
        sizes = rng.choice(np.arange(300, 2500), size=count, replace=False).tolist()
        gaps = [int(rng.integers(0, size // 2)) for size in sizes]
        thr = float(rng.choice([0.0, 0.3, 0.6, 0.9, 0.999]))
        expected = peer.get_sliding_window({"width": width, "height": height}, sizes, gaps, thr)
        got = slide_windows(width, height, sizes, gaps, img_rate_thr=thr)
        assert got.tolist() == expected.tolist()
