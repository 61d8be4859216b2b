"""The devkit's style against a plain version of DOTA_devkit's rules, object by object and window by window."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from prep_scenes import make_dataset, texture

from fdam_rotate.dota.labels import Labels, read_labels
from fdam_rotate.dota.splitting.devkit_objects import _closest_start, _merge_shortest, clip_objects
from fdam_rotate.dota.splitting.options import SplitOptions, plan_levels
from fdam_rotate.dota.splitting.split import run_split
from fdam_rotate.dota.windows import parse_patch_name


def plain_lines(
    labels: Labels, rate: float, width: int, height: int, x0: int, y0: int, size: int, thr: float
) -> list[str]:
    """The annotation lines of one window, one object after the other."""
    frame = shapely.box(x0, y0, min(x0 + size, width - 1), min(y0 + size, height - 1))
    lines = []
    for poly, name, difficult in zip(labels.polys, labels.names, labels.difficult, strict=True):
        scaled = [int(v) * rate for v in poly]
        shape = shapely.Polygon(np.reshape(scaled, (4, 2)))
        if shape.area <= 0:
            continue
        region = shape.intersection(frame)
        share = region.area / shape.area
        if share == 1:
            values = [float(int(v - (x0, y0)[i % 2])) for i, v in enumerate(scaled)]
            lines.append(f"{' '.join(map(str, values))} {name} {difficult}")
            continue
        if share == 0 or region.geom_type != "Polygon":
            continue
        ring = shapely.geometry.polygon.orient(region, 1.0).exterior.coords[:-1]
        if len(ring) == 5:
            sides = [math.dist(ring[i], ring[(i + 1) % 5]) for i in range(5)]
            a = sides.index(min(sides))
            b = (a + 1) % 5
            middle = ((ring[a][0] + ring[b][0]) / 2, (ring[a][1] + ring[b][1]) / 2)
            ring = [middle if i == a else ring[i] for i in range(5) if i != b]
        if len(ring) != 4:
            continue
        starts = [ring[i:] + ring[:i] for i in range(4)]
        target = np.reshape(scaled, (4, 2))
        best = min(starts, key=lambda start: float(((np.array(start) - target) ** 2).sum()))
        values = [float(int(v - (x0, y0)[i % 2])) for i, v in enumerate(np.ravel(best))]
        values = [min(max(v, 1.0), float(size)) for v in values]
        lines.append(f"{' '.join(map(str, values))} {name} {difficult if share > thr else 2}")
    return lines


@pytest.mark.parametrize(("rates", "thr", "seed"), [((1.0,), 0.7, 0), ((0.5, 1.0, 1.5), 0.5, 1), ((0.4, 2.0), 0.9, 2)])
def test_patches_equal_the_plain_version(rates: tuple[float, ...], thr: float, seed: int, tmp_path: Path) -> None:
    sizes = [(151, 130), (60, 97), (40, 33)]
    data = make_dataset(tmp_path / "data", sizes, seed, objects=70)
    options = SplitOptions(style="devkit", sizes=[64], gaps=[20], rates=rates, iof_thr=thr)
    manifest = run_split([data / "images"], [data / "labelTxt"], tmp_path / "out", options)
    compared = 0
    for patch in manifest.patch_ids():
        image_id, x0, y0, rate, _ = parse_patch_name(patch)
        labels = read_labels(data / f"labelTxt/{image_id}.txt")
        image = cv2.imread(str(data / f"images/{image_id}.png"))
        if rate != 1:
            image = cv2.resize(image, None, fx=rate, fy=rate, interpolation=cv2.INTER_CUBIC)
        height, width = image.shape[:2]
        padded = np.zeros((64, 64, 3), np.uint8)
        part = image[y0 : y0 + 64, x0 : x0 + 64]
        padded[: part.shape[0], : part.shape[1]] = part
        assert (cv2.imread(str(tmp_path / f"out/images/{patch}.png")) == padded).all()
        lines = plain_lines(labels, rate, width, height, x0, y0, 64, thr)
        assert (tmp_path / f"out/annfiles/{patch}.txt").read_text().splitlines() == lines
        compared += len(lines)
        assert manifest.locate(patch) == (image_id, x0, y0, rate)
    assert compared > 100
    totals = manifest.totals()
    assert totals["objects_in"] == totals["objects_kept"] + sum(totals["objects_dropped"].values())


def test_names_and_scale(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/P__1.png"), texture(np.random.default_rng(0), 100, 50))
    options = SplitOptions(style="devkit", sizes=[64], gaps=[0], rates=[0.5, 1, 2.0])
    manifest = run_split([tmp_path / "images"], None, tmp_path / "out", options)
    # 50 x 25 at rate 0.5: one patch; 100 x 50 at rate 1: x 0 and 36;
    # 200 x 100 at rate 2: x 0, 64, 128 and the last moved back to 136; y 0 and 36
    assert manifest.patch_ids() == [
        "P__1__0.5__0___0", "P__1__1__0___0", "P__1__1__36___0",
        *(f"P__1__2__{x}___{y}" for x in (0, 64, 128, 136) for y in (0, 36)),
    ]  # fmt: skip


def test_the_rules_by_hand() -> None:
    polys = np.array([
        [10, 10, 20, 10, 20, 20, 10, 20],  # inside: as it stands
        [60.9, 10, 80, 10, 80, 20, 60.9, 20],  # truncated to 60; 4 of 20 columns inside: clipped at 64, difficulty 2
        [44, 30, 69, 30, 69, 40, 44, 40],  # 20 of 25 columns inside (0.8): difficulty stays
        [5.7, 50, 9.2, 50, 9.2, 55, 5.7, 55],  # truncated to 5 and 9
    ], float)  # fmt: skip
    labels = Labels(polys, ("ship",) * 4, np.array([1, 1, 1, 0]))
    options = SplitOptions(style="devkit", sizes=[64], gaps=[0], iof_thr=0.7)
    (level,) = plan_levels(options, "P", 128, 64)
    found = clip_objects(labels, level, 0.7, 64)
    first = [line for line, window in zip(found.lines, found.windows, strict=True) if window == 0]
    assert first == [
        "10.0 10.0 20.0 10.0 20.0 20.0 10.0 20.0 ship 1",
        "60.0 10.0 64.0 10.0 64.0 20.0 60.0 20.0 ship 2",
        "44.0 30.0 64.0 30.0 64.0 40.0 44.0 40.0 ship 1",
        "5.0 50.0 9.0 50.0 9.0 55.0 5.0 55.0 ship 0",
    ]
    # in the second window the clipped left side lies at 0 and is written as 1
    second = [line for line, window in zip(found.lines, found.windows, strict=True) if window == 1]
    assert second == [
        "1.0 10.0 16.0 10.0 16.0 20.0 1.0 20.0 ship 1",
        "1.0 30.0 5.0 30.0 5.0 40.0 1.0 40.0 ship 2",
    ]
    assert found.cut.tolist() == [False, True, True, False, True, True]


def test_five_corners_become_four() -> None:
    # the shortest side is the one between (4, 0) and (5, 1): their middle is (4.5, 0.5)
    house = np.array([[[0, 0], [4, 0], [5, 1], [5, 9], [0, 9]]], float)
    assert _merge_shortest(house).tolist() == [[0, 0, 4.5, 0.5, 5, 9, 0, 9]]
    # the shortest side joins the last corner to the first: the middle takes the last place
    house = np.roll(house, -2, axis=1)
    assert _merge_shortest(house).tolist() == [[5, 9, 0, 9, 0, 0, 4.5, 0.5]]


def test_the_start_that_is_closest() -> None:
    original = np.array([[0, 0, 9, 0, 9, 9, 0, 9]], float)
    turned = np.array([[9, 9, 0, 9, 0, 0, 9, 0]], float)
    assert (_closest_start(turned, original) == original).all()


def test_what_no_patch_can_hold_is_dropped_for_its_shape(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labelTxt").mkdir()
    cv2.imwrite(str(tmp_path / "images/P.png"), np.zeros((64, 64, 3), np.uint8))
    # a triangle is left of the first (three corners); the diamond of the second keeps eight corners
    (tmp_path / "labelTxt/P.txt").write_text(
        "50 40 90 40 90 80 89 80 ship 0\n32 -10 74 32 32 74 -10 32 ship 0\n1 1 9 1 9 9 1 9 ship 0\n"
    )
    options = SplitOptions(style="devkit", sizes=[64], gaps=[0])
    manifest = run_split([tmp_path / "images"], [tmp_path / "labelTxt"], tmp_path / "out", options)
    assert manifest.images[0]["objects"] == {"in": 3, "kept": 1, "cut": 0, "dropped": {"shape": 2}}
