"""Bounds of the splitter's rules, each on both sides, by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.splitting.mmrotate_objects import overlap_windows
from fdam_rotate.dota.splitting.options import SplitOptions, differences, plan_levels
from fdam_rotate.dota.splitting.split import run_split

WINDOWS = np.array([[0, 0, 100, 100], [100, 0, 200, 100], [0, 100, 100, 200], [100, 100, 200, 200]])


def test_windows_that_only_touch_a_box_share_nothing_with_it() -> None:
    square = np.array([[40, 40, 100, 40, 100, 100, 40, 100]], float)
    found = overlap_windows(square, WINDOWS)
    assert (found.objects.tolist(), found.windows.tolist(), found.areas.tolist()) == ([0], [0], [3600])


@pytest.mark.parametrize(("shift", "expected"), [
    ((0, 0), [(0, 200.0)]),
    ((90, 0), [(0, 100.0), (1, 100.0)]),
    ((0, 90), [(0, 100.0), (2, 100.0)]),
    ((90, 90), [(0, 50.0), (1, 50.0), (2, 50.0), (3, 50.0)]),
])  # fmt: skip
def test_a_polygon_that_crosses_itself_is_shared_by_area(
    shift: tuple[int, int], expected: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bow-tie of two triangles of 100 square pixels within 20 x 20, which GEOS refuses; by area as mended."""
    bow = np.array([[0, 0, 20, 20, 20, 0, 0, 20]], float) + np.tile(shift, 4)
    inner = shapely.intersection

    def refusing(a: object, b: object) -> object:
        if isinstance(a, shapely.Polygon) and not a.is_valid:
            raise shapely.errors.GEOSException("TopologyException")
        return inner(a, b)

    monkeypatch.setattr(shapely, "intersection", refusing)
    found = overlap_windows(bow, WINDOWS)
    assert found.whole.tolist() == [200]
    assert found.crossing.tolist() == [True]
    assert list(zip(found.windows.tolist(), found.areas.tolist(), strict=True)) == expected


@pytest.mark.parametrize("values", [
    {"rates": [1.0, 16.0]}, {"rates": [0.0, 1.0]}, {"padding_value": [0, 0, 256]}, {"padding_value": [-1, 0, 0]},
    {"padding_value": [0, 0]}, {"img_rate_thr": 1.01}, {"img_rate_thr": -0.01}, {"iof_thr": 1.0}, {"iof_thr": -0.01},
    {"sizes": [64, 32], "gaps": [8]}, {"sizes": [64], "gaps": [64]}, {"sizes": [64], "gaps": [-1]},
    {"style": "devkit", "sizes": [64, 32], "gaps": [8, 8]}, {"save_ext": ".gif"}, {"sizes": [], "gaps": []},
    {"sizes": [64, 32], "gaps": [8, 8], "rates": [1.0, 0.5]}, {"style": "other"},
])  # fmt: skip
def test_settings_out_of_range(values: dict[str, list[float]]) -> None:
    with pytest.raises(DotaError):
        SplitOptions(**values)


@pytest.mark.parametrize("values", [
    {"rates": [0.01, 15.9]}, {"padding_value": [0, 255, 1]}, {"img_rate_thr": 1.0}, {"img_rate_thr": 0.0},
    {"iof_thr": 0.0}, {"iof_thr": 0.99}, {"sizes": [64], "gaps": [63]}, {"sizes": [64], "gaps": [0]},
    {"sizes": [64, 32], "gaps": [8, 8]},
])  # fmt: skip
def test_settings_at_the_ends_of_their_ranges(values: dict[str, list[float]]) -> None:
    options = SplitOptions(**({"sizes": [64], "gaps": [8]} | values))
    for name, value in values.items():
        assert options.to_json()[name] == value


def test_sides_of_a_resized_image_are_rounded_as_opencv_does() -> None:
    """Halves to the even number, and never to 0."""
    levels = plan_levels(SplitOptions(style="devkit", sizes=[8], gaps=[0], rates=[0.5, 0.1]), "a", 5, 7)
    assert [(level.scale, level.width, level.height) for level in levels] == [(0.5, 2, 4), (0.1, 1, 1)]


def test_differences_name_settings_of_either_side() -> None:
    assert differences({"a": 1, "b": 2}, {"b": 2, "a": 1}) == ""
    assert differences({"a": 1}, {"a": 1, "c": [3]}) == "c None there and [3] here"
    assert differences({"a": 1, "d": 0}, {"a": 2}) == "a 1 there and 2 here, d 0 there and None here"


def test_as_many_label_folders_as_image_folders(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DotaError, match="got 2 and 1"):
        run_split([tmp_path / "images"], [tmp_path, tmp_path], tmp_path / "out")


@pytest.mark.parametrize("style", ["mmrotate", "devkit"])
def test_an_object_that_reaches_half_a_pixel_into_the_image_is_not_outside(style: str, tmp_path: Path) -> None:
    """One at each of the four borders, and beside it one that ends at the border."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((50, 60, 3), np.uint8))
    boxes = []
    for inside in (0.5, 0.0) if style == "mmrotate" else (2, 0):
        boxes += [(-30, 5, inside, 9), (60 - inside, 5, 90, 9), (5, -30, 9, inside), (5, 50 - inside, 9, 80)]
    lines = [f"{x0} {y0} {x1} {y0} {x1} {y1} {x0} {y1} ship 0\n" for x0, y0, x1, y1 in boxes]
    (tmp_path / "labels/a.txt").write_text("".join(lines))
    options = SplitOptions(style=style, sizes=[64], gaps=[0])
    manifest = run_split([tmp_path / "images"], [tmp_path / "labels"], tmp_path / "out", options)
    outside = [problem["line"] for problem in manifest.all_problems() if problem["kind"] == "outside"]
    assert outside == [5, 6, 7, 8]
