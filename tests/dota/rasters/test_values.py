"""Values, tones and places by hand: the bounds that the files of other tests do not reach."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fdam_rotate.dota.rasters.images import open_pixels
from fdam_rotate.dota.rasters.orientation import stored_affine, stored_window
from fdam_rotate.dota.rasters.scaling import auto_range, scaled
from fdam_rotate.dota.rasters.source import reading_notes
from fdam_rotate.dota.rasters.tone import Tone


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_scaled_rounds_to_the_nearest_and_clips(dtype: str) -> None:
    """100 to 610 become 0 to 255: two values a level, the half-way ones up."""
    values = np.array([[0, 99, 100, 101, 102], [609, 610, 611, 30000, 354]]).astype(dtype)
    assert scaled(values, 100, 610).tolist() == [[0, 0, 0, 1, 1], [255, 255, 255, 255, 127]]


@pytest.mark.filterwarnings("error")  # what NumPy makes of a NaN as uint8 is not defined
def test_what_is_no_number_is_0_and_what_is_infinite_is_at_the_end() -> None:
    assert scaled(np.array([np.nan, -np.inf, np.inf, 0.5], np.float32), 0, 1).tolist() == [0, 0, 255, 128]


def test_negative_ranges() -> None:
    assert scaled(np.array([-500, -245, 10, -501], np.int16), -500, 10).tolist() == [0, 128, 255, 0]


def test_auto_of_all_samples_together() -> None:
    """Of 1,000 values 0 to 999 in two samples, those of ranks 5 and 995 (counted from 1)."""
    values = np.random.default_rng(0).permutation(1000)
    assert auto_range([values[:300].reshape(3, 100), values[300:]]) == (4, 994)
    assert auto_range([np.full(50, 7)]) == (7, 8)
    assert auto_range([np.full(50, 0.25, np.float32)]) == (0.25, 1.25)
    assert auto_range([np.array([0.25, 0.5], np.float32)]) == (0.25, 0.5)
    assert auto_range([]) == (0, 1)
    assert auto_range([np.empty(0, np.uint16)]) == (0, 1)


def levels(*shares: tuple[int, int]) -> np.ndarray:
    """A picture of 800 x 800 with (level, pixels of 10,000) in the rows and columns that are counted."""
    seen = np.concatenate([np.full(count, level, np.uint8) for level, count in shares])
    picture = np.full((800, 800, 3), 77, np.uint8)  # what is not counted
    picture[::8, ::8] = seen.reshape(100, 100, 1)
    return picture


@pytest.mark.parametrize(("shares", "said"), [
    ([(12, 9500), (200, 500)], "nearly black: 95 % of the values are 12 or less"),
    ([(13, 9500), (200, 500)], None),
    ([(12, 9499), (13, 501)], "nearly one grey: 98 % of the values lie between 12 and 13"),
    ([(12, 9400), (200, 600)], None),
    ([(100, 499), (243, 9501)], "nearly white: 95 % of the values are 243 or more"),
    ([(100, 499), (242, 9501)], None),
    ([(100, 500), (243, 9500)], None),
    ([(50, 100), (100, 4900), (106, 4900), (250, 100)], None),
    ([(50, 99), (100, 4901), (106, 4900), (250, 100)], "nearly one grey: 98 % of the values lie between 100 and 106"),
    ([(50, 99), (100, 4901), (107, 4900), (250, 100)], None),
    ([(50, 99), (100, 4801), (106, 4900), (250, 200)], None),
])  # fmt: skip
def test_bounds_of_a_tone(shares: list[tuple[int, int]], said: str | None) -> None:
    tone = Tone()
    assert tone.warning() is None
    tone.add(levels(*shares))
    warning = tone.warning()
    assert (warning is None) == (said is None)
    if said is not None:
        assert warning.startswith(said)


def test_a_tone_counts_all_windows() -> None:
    tone = Tone()
    tone.add(np.zeros((80, 80, 3), np.uint8))
    assert "nearly black" in tone.warning()
    tone.add(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8))
    assert tone.warning() is None


def test_a_plain_picture_has_a_tone_too(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    with open_pixels(tmp_path / "a.png") as image:
        assert image.notes() == []
        list(image.crops([[0, 0, 40, 40]]))
        assert [note.split(":")[1] for note in image.notes()] == [" nearly black"]


def test_notes_from_what_a_manifest_keeps() -> None:
    assert reading_notes(None, None, None) == []
    assert reading_notes([1, 2, 3], None, None) == []
    assert reading_notes([4], [0.0, 0.5], "dark") == [
        "bands 4, values 0 to 0.5 read as 0 to 255",
        "warning: dark; --scale-range and --bands set what is read",
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_and_windows_turn_alike(orientation: int) -> None:
    """The corners of a window of the image as shown lie on the corners of its window in the stored one of 50 x 30."""
    x0, y0, x1, y1 = 3, 5, 17, 20
    left, top, right, bottom = stored_window((x0, y0, x1, y1), orientation, 50, 30)
    corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]]) @ stored_affine(orientation, 50, 30).T
    assert {tuple(point) for point in corners[:, :2]} == {(left, top), (right, top), (right, bottom), (left, bottom)}
    assert 0 <= left < right <= 50
    assert 0 <= top < bottom <= 30
