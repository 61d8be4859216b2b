"""Our split against MMRotate's: stored reference outputs, and its own functions on generated data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from prep_scenes import assert_same_split, label_text, make_dataset, run_mmrotate, tree
from scripts import SHARED

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.manifest import read_manifest
from fdam_rotate.dota.splitting.mmrotate_objects import overlap_windows
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split
from fdam_rotate.dota.windows import slide_windows


def split(data: Path, out: Path, **options: object) -> dict[str, object]:
    return run_split([data / "images"], [data / "labelTxt"], out, SplitOptions(**options)).totals()


@pytest.mark.skipif(not (SHARED / "cases/mmrotate_split.json").is_file(), reason="needs the shared DOTA sample")
@pytest.mark.parametrize("case", ["ss_1024_200", "ms_512_256"])
def test_the_sample_equals_the_stored_output_of_mmrotate(case: str, tmp_path: Path) -> None:
    stored = json.loads((SHARED / "cases/mmrotate_split.json").read_text())[case]
    flags: dict[str, list[str]] = {}
    for word in stored["args"]:
        flags.setdefault(word, []) if word.startswith("--") else flags[list(flags)[-1]].append(word)
    numbers = {name[2:].replace("-", "_"): [float(v) for v in values] for name, values in flags.items()}
    options = SplitOptions(
        sizes=[int(v) for v in numbers["sizes"]],
        gaps=[int(v) for v in numbers["gaps"]],
        rates=numbers["rates"],
        img_rate_thr=numbers["img_rate_thr"][0],
        iof_thr=numbers["iof_thr"][0],
        padding_value=[int(v) for v in numbers["padding_value"]],
    )
    data = SHARED / "dota_sample/train"
    manifest = run_split([data / "images"], [data / "labelTxt"], tmp_path / "out", options)
    assert sorted(manifest.patch_ids()) == sorted(stored["patches"])
    for name, patch in stored["patches"].items():
        image = cv2.imread(str(tmp_path / f"out/images/{name}.png"))
        assert list(image.shape) == patch["shape"]
        assert hashlib.sha1(image.tobytes()).hexdigest() == patch["pixels_sha1"]
        text = "".join(line + "\n" for line in patch["annotations"])
        assert (tmp_path / f"out/annfiles/{name}.txt").read_bytes() == text.encode()


@pytest.mark.parametrize("seed", range(6))
def test_generated_images_equal_what_mmrotate_makes_of_them(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    sizes = [(int(w), int(h)) for w, h in rng.integers(1, 330, size=(4, 2))]
    data = make_dataset(tmp_path / "data", sizes, seed, objects=40)
    several = bool(rng.integers(2))
    window = [64, 97] if several else [int(rng.integers(20, 200))]
    options = SplitOptions(
        sizes=window,
        gaps=[int(rng.integers(0, size // 2)) for size in window],
        rates=[1.0] if several else [0.5, 1.0, 1.5],
        img_rate_thr=float(rng.choice([0.0, 0.6, 0.95])),
        iof_thr=[0.7, 0.0, 0.3, 0.5, 0.99, 0.7][seed],
        padding=seed != 3,
        padding_value=[(0,), (104, 116, 124), (255,)][seed % 3],
    )
    run_mmrotate(data, tmp_path / "theirs", options)
    manifest = run_split([data / "images"], [data / "labelTxt"], tmp_path / "ours", options)
    assert assert_same_split(tmp_path / "ours", tmp_path / "theirs") == manifest.totals()["patches"] > 0


@pytest.mark.parametrize("extension", [".jpg", ".bmp", ".tif"])
def test_other_extensions_equal_opencv_in_bytes(extension: str, tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(150, 90)], 7, ext=".jpg")
    options = SplitOptions(sizes=[64], gaps=[8], save_ext=extension)
    run_mmrotate(data, tmp_path / "theirs", options)
    run_split([data / "images"], [data / "labelTxt"], tmp_path / "ours", options)
    assert tree(tmp_path / "ours/images") == tree(tmp_path / "theirs/images")
    assert tree(tmp_path / "ours/annfiles") == tree(tmp_path / "theirs/annfiles")


def test_shares_equal_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    polys = rng.integers(-20, 120, size=(60, 8)).astype(float)
    polys[:3] = polys[:3, :2].repeat(4, axis=0).reshape(3, 8)  # without area
    windows = slide_windows(100, 80, [32], [10])
    found = overlap_windows(polys, windows)
    seen = {(w, o): area for o, w, area in zip(found.objects, found.windows, found.areas, strict=True)}
    assert list(seen) == sorted(seen)
    for o, poly in enumerate(polys):
        shape = shapely.Polygon(poly.reshape(4, 2))
        crossing = not shape.is_valid and shapely.make_valid(shape).area > 0
        assert found.crossing[o] == crossing
        region = shapely.make_valid(shape)
        for w, window in enumerate(windows):
            area = region.intersection(shapely.box(*window)).area
            assert seen.get((w, o), 0.0) == pytest.approx(area, abs=1e-9)


def write_one(root: Path, lines: list[str], size: tuple[int, int] = (100, 60)) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "labelTxt").mkdir()
    cv2.imwrite(str(root / "images/A.png"), np.full((size[1], size[0], 3), 9, np.uint8))
    (root / "labelTxt/A.txt").write_text("\n".join(lines) + "\n")
    return root


def test_objects_by_hand(tmp_path: Path) -> None:
    """Windows of 50 at x 0 and 50 (no overlap), y 0 and 10: four patches of a 100 x 60 image."""
    lines = [
        "10 20 20 20 20 30 10 30 ship 1",  # whole in both left patches
        "40 20 60 20 60 30 40 30 ship 0",  # half in each patch
        "45 20 65 20 65 30 45 30 plane 0",  # a quarter left, three quarters right: cut there
        "200 20 210 20 210 30 200 30 ship 0",  # outside
        "5 5 5 5 9 9 9 9 ship 0",  # no area
    ]
    data = write_one(tmp_path / "data", lines)
    totals = split(data, tmp_path / "out", sizes=[50], gaps=[0], iof_thr=0.7)
    read = {p.stem: p.read_text().splitlines() for p in (tmp_path / "out/annfiles").iterdir()}
    assert read == {
        "A__50__0___0": ["10.0 20.0 20.0 20.0 20.0 30.0 10.0 30.0 ship 1"],
        "A__50__0___10": ["10.0 10.0 20.0 10.0 20.0 20.0 10.0 20.0 ship 1"],
        "A__50__50___0": ["-5.0 20.0 15.0 20.0 15.0 30.0 -5.0 30.0 plane 2"],
        "A__50__50___10": ["-5.0 10.0 15.0 10.0 15.0 20.0 -5.0 20.0 plane 2"],
    }
    assert totals["objects_in"] == 5
    assert totals["objects_kept"] == 2
    assert totals["objects_cut"] == 1
    assert totals["objects_dropped"] == {"cut": 1, "outside": 1, "zero-area": 1}
    assert totals["problems"] == {"outside": 1, "zero-area": 1}
    patch = read_manifest(tmp_path / "out").images[0]["patches"][2]
    assert (patch["id"], patch["lines"], patch["difficult"], patch["cut"]) == ("A__50__50___0", [3], [0], [1])


def test_a_self_crossing_polygon_is_kept_and_told(tmp_path: Path) -> None:
    # a bow tie wholly inside, and one of which 2 x 12.5 of 2 x 50 square pixels lie right of x = 50
    lines = ["10 10 20 20 20 10 10 20 ship 0", "42.92893218813453 10 57.07106781186547 24.14213562373094 "
             "57.07106781186547 10 42.92893218813453 24.14213562373094 ship 0"]  # fmt: skip
    data = write_one(tmp_path / "data", lines, (100, 50))
    totals = split(data, tmp_path / "out", sizes=[50], gaps=[0], iof_thr=0.4)
    assert (tmp_path / "out/annfiles/A__50__0___0.txt").read_text().splitlines()[0] == (
        "10.0 10.0 20.0 20.0 20.0 10.0 10.0 20.0 ship 0"
    )
    assert totals["objects_kept"] == 2
    assert totals["problems"] == {"self-crossing": 2}
    assert [p["line"] for p in read_manifest(tmp_path / "out").all_problems()] == [1, 2]


def test_rounding_does_not_cut_a_self_crossing_polygon_that_lies_inside() -> None:
    poly = np.float32([[40.3, 31.1, 47.0, 18.7, 27.5, 29.5, 41.7, 8.0]]).astype(float)
    region = shapely.make_valid(shapely.Polygon(poly.reshape(4, 2)))
    assert region.intersection(shapely.box(0, 0, 50, 50)).area < region.area  # what GEOS alone would say
    found = overlap_windows(poly, np.array([[0, 0, 50, 50]]))
    assert found.areas.tolist() == found.whole.tolist() == [region.area]


def test_without_labels(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(70, 40)], 0)
    manifest = run_split([data / "images"], None, tmp_path / "out", SplitOptions(sizes=[32], gaps=[0]))
    assert manifest.totals()["patches"] == len(list((tmp_path / "out/annfiles").iterdir())) == 6
    assert all(p.stat().st_size == 0 for p in (tmp_path / "out/annfiles").iterdir())
    assert manifest.all_problems() == []


def test_the_class_list_drops_and_tells_other_classes(tmp_path: Path) -> None:
    data = write_one(tmp_path / "data", ["1 1 9 1 9 9 1 9 ship 0", "1 1 9 1 9 9 1 9 Plane 0"])
    totals = split(data, tmp_path / "listed", classes=["plane", "ship"])
    assert totals["objects_dropped"] == {"malformed": 1}
    assert "did you mean 'plane'?" in read_manifest(tmp_path / "listed").all_problems()[0]["text"]
    # without a list the object stays, and its odd name is told
    totals = split(data, tmp_path / "free")
    assert totals["objects_dropped"] == {}
    assert totals["problems"] == {"class": 1}
    # of a letter too many ten of eleven agree, which is a slip
    data = write_one(tmp_path / "more", ["1 1 9 1 9 9 1 9 ship 0", "1 1 9 1 9 9 1 9 planes 0"])
    assert split(data, tmp_path / "many")["problems"] == {"class": 1}


def test_own_classes_are_no_problem(tmp_path: Path) -> None:
    data = write_one(
        tmp_path / "data", ["1 1 9 1 9 9 1 9 airplane 0", "1 1 9 1 9 9 1 9 van 0", "1 1 9 1 9 9 1 9 lorry 0"]
    )
    assert split(data, tmp_path / "out")["problems"] == {}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"style": "other"}, "style must be"),
        ({"sizes": [64, 32], "gaps": [8]}, "one gap for each size"),
        ({"sizes": [64, 32], "gaps": [8, 8], "rates": [1.0, 2.0]}, "one size or one rate"),
        ({"style": "devkit", "sizes": [64, 32], "gaps": [8, 8]}, "takes one size"),
        ({"rates": [0.0]}, "rates must be"),
        ({"rates": [16.0]}, "rates must be"),
        ({"rates": []}, "rates must be"),
        ({"img_rate_thr": 1.1}, "img_rate_thr must be"),
        ({"iof_thr": 1.0}, "iof_thr must be"),
        ({"padding_value": [1, 2]}, "padding_value must be"),
        ({"padding_value": [256]}, "padding_value must be"),
        ({"save_ext": ".gif"}, "save_ext must be"),
        ({"sizes": [64], "gaps": [64]}, "0 <= overlap < size"),
    ],
)
def test_settings_at_odds_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(DotaError, match=match):
        SplitOptions(**options)


def test_label_text_helper_reads_back(tmp_path: Path) -> None:
    # the peer reads float32, so the helper must write what it was given
    assert (
        label_text(np.array([[1, 2.5, 3, 4, 5, 6, 7, 8]]), ["ship"], [1]).splitlines()[2] == "1 2.5 3 4 5 6 7 8 ship 1"
    )
