"""Rasters through predict, verify and show: the same answer from every form of a scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scripts import ROOT, load_script

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def scene() -> np.ndarray:
    """(3, 64, 112) red, green, blue: a blue square in each of two windows of 64, and one red in both."""
    bands = np.zeros((3, 64, 112), np.uint8)
    bands[2, 8:16, 8:16] = 204
    bands[2, 16:24, 104:112] = 153
    bands[0, 32:40, 48:56] = 255
    return bands


def store(path: Path, bands: np.ndarray, **profile: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    layout = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": bands.dtype}
    with rasterio.open(path, "w", **(layout | profile)) as file:
        file.write(bands)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from square_model import write_square_model

    return write_square_model(tmp_path / "m.onnx")


def predict(model: Path, image: Path, out: Path, *arguments: str) -> dict[str, bytes]:
    """The Task1 files of a run of the command line."""
    words = [str(model), str(image), "--out", str(out), "--runtime", "onnxruntime", *arguments]
    assert load_script("tools/predict.py").main(words) == 0
    return {path.name: path.read_bytes() for path in sorted(out.glob("Task1_*.txt"))}


def test_predict_finds_the_same_in_every_form(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgb = scene()
    nir = np.full((1, 64, 112), 200, np.uint8)
    deep = rgb.astype(np.uint16) * 8
    forms: dict[str, tuple[np.ndarray, dict[str, Any], list[str]]] = {
        "rgb": (rgb, {}, []),
        "rgb-nir-as-alpha": (np.concatenate([rgb, nir]), {}, []),
        "rgb-nir": (np.concatenate([rgb, nir]), {"photometric": "RGB", "alpha": "NO"}, []),
        "eleven-bits": (deep, {}, ["--scale-range", "0", "2040"]),
        "eleven-bits-nir": (np.concatenate([deep, nir.astype(np.uint16)]), {}, ["--scale-range", "0", "2040"]),
        "float": ((rgb / 255).astype(np.float32), {"compress": "zstd"}, ["--scale-range", "0", "1"]),
        "bgr": (rgb[::-1], {}, ["--bands", "3", "2", "1"]),
        "auto": (deep, {}, []),  # 0.5 % of the values are above 0: the highest of them becomes 255
    }
    found = {}
    for name, (bands, profile, options) in forms.items():
        image = store(tmp_path / name / "a.tif", bands, **profile)
        found[name] = predict(model, image, tmp_path / f"out-{name}", *options)
        said = capsys.readouterr()
        assert "3 detections" in said.out, name
        assert ("read as 0 to 255" in said.err) == (name in ("eleven-bits", "eleven-bits-nir", "float", "auto"))
    for name in forms:
        if name != "auto":
            assert found[name] == found["rgb"], name


def test_an_unfinished_run_goes_on_with_its_own_range_only(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fdam_rotate.dota.errors import DotaError

    image = store(tmp_path / "a.tif", scene().astype(np.uint16) * 8)
    first = predict(model, image, tmp_path / "out", "--scale-range", "0", "2040")
    for path in (tmp_path / "out").glob("Task1_*.txt"):
        path.unlink()
    head = json.loads((tmp_path / "out/patches/a.jsonl").read_text().splitlines()[0])
    assert (head["scale_range"], head["bands"]) == ([0, 2040], None)
    assert head["read"] == {"bands": [1, 2, 3], "scale_range": [0, 2040]}
    for other in ([], ["--scale-range", "0", "4080"], ["--scale-range", "0", "2040", "--bands", "1", "1", "1"]):
        with pytest.raises(DotaError, match="other settings"):
            predict(model, image, tmp_path / "out", *other)
    capsys.readouterr()
    assert predict(model, image, tmp_path / "out", "--scale-range", "0", "2040") == first
    assert "2 patches (2 of them earlier)" in capsys.readouterr().out


def test_windows_without_data_are_counted_and_never_reach_the_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fdam_rotate.dota.predicting.onnx_model import OnnxModel

    seen: list[int] = []
    inner = OnnxModel.detect
    monkeypatch.setattr(OnnxModel, "detect", lambda self, windows: seen.append(len(windows)) or inner(self, windows))
    bands = np.concatenate([scene(), np.full((1, 64, 112), 255, np.uint8)])
    bands[3, :, :64] = 0
    predict(model, store(tmp_path / "a.tif", bands), tmp_path / "out", "--gaps", "0")
    assert "2 patches, 1 without data: 2 detections" in capsys.readouterr().out
    assert seen == [1]


def test_a_vrt_is_read_only_if_it_is_named(model: Path, tmp_path: Path) -> None:
    from fdam_rotate.dota.errors import DotaError

    store(tmp_path / "parts/a.tif", scene())
    (tmp_path / "images").mkdir()
    vrt = tmp_path / "images/city.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{k}"><ColorInterp>{name}</ColorInterp><SimpleSource><SourceFilename '
        f'relativeToVRT="1">../parts/a.tif</SourceFilename><SourceBand>{k}</SourceBand></SimpleSource></VRTRasterBand>'
        for k, name in enumerate(("Red", "Green", "Blue"), 1)
    )
    vrt.write_text(f'<VRTDataset rasterXSize="112" rasterYSize="64">{bands}</VRTDataset>')
    found = predict(model, vrt, tmp_path / "out")
    assert found["Task1_plane.txt"].count(b"\n") == 2
    with pytest.raises(DotaError, match="no image"):
        predict(model, tmp_path / "images", tmp_path / "none")
    # the journal knows the files that a VRT names, not its text alone
    (tmp_path / "out/Task1_plane.txt").unlink()
    (tmp_path / "out/Task1_ship.txt").unlink()
    store(tmp_path / "parts/a.tif", scene() // 2)
    with pytest.raises(DotaError, match="image_sha256"):
        predict(model, vrt, tmp_path / "out")


def test_predict_writes_geopackages_beside_geojson(model: Path, tmp_path: Path) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)}
    image = store(tmp_path / "a.tif", scene(), **place)
    predict(model, image, tmp_path / "out", "--gpkg", "--keep-crs")
    info = pyogrio.read_info(tmp_path / "out/gpkg/a.gpkg")
    assert (info["features"], info["crs"]) == (3, "EPSG:32633")
    assert pyogrio.read_info(tmp_path / "out/geojson/a.geojson")["features"] == 3
    predict(model, image, tmp_path / "out", "--overwrite")
    assert not (tmp_path / "out/gpkg/a.gpkg").exists()
    assert pyogrio.read_info(tmp_path / "out/geojson/a.geojson")["crs"] == "EPSG:4326"


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.PNG"])
def test_a_world_file_without_numbers_is_named(
    name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / name
    if image.suffix == ".tif":
        store(image, scene())
    else:
        cv2.imwrite(str(image), scene().transpose(1, 2, 0))
    world = image.with_suffix(f".{name[2].lower()}{name[-1].lower()}w")
    world.write_text("hello\n")
    predict(model, image, tmp_path / "out")
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{image}: no GeoJSON: {world.name} is no world file (six numbers, one on each line)"
    )
    assert not (tmp_path / "out/geojson").exists()


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (0.5, 0, 0.5, 0), (0.5, 0, 0, 0)])
def test_a_transformation_to_one_line_places_nothing(
    matrix: tuple[float, ...], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, d, e = matrix
    image = store(tmp_path / "a.tif", scene(), crs="EPSG:32633", transform=rasterio.Affine(a, b, 4e5, d, e, 58e5))
    predict(model, image, tmp_path / "out", "--keep-crs")
    line = f"{image}: no GeoJSON: its transformation puts all its pixels on one line or point"
    assert line in capsys.readouterr().err.splitlines()
    assert not (tmp_path / "out/geojson").exists()


def test_verify_tells_of_a_scaled_image_that_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    store(tmp_path / "data/images/a.tif", rng.integers(100, 2000, size=(3, 80, 90)).astype(np.uint16))
    store(tmp_path / "data/images/b.tif", np.zeros((3, 80, 90), np.uint8))  # 8 bits: black on purpose
    verify = load_script("data_prep/verify.py")
    assert verify.main([str(tmp_path / "data"), "--nproc", "1"]) == 0
    capsys.readouterr()
    assert verify.main([str(tmp_path / "data"), "--nproc", "1", "--scale-range", "0", "65535"]) == 1
    said = capsys.readouterr().out
    assert "a.tif: nearly black" in said
    assert "the values 0 to 65535 as 0 to 255" in said
    assert "b.tif" not in said
    wrong = ["--scale-range", "0", "65535", "--accept", "tone"]
    assert verify.main([str(tmp_path / "data"), "--nproc", "1", *wrong]) == 0


def test_verify_finds_a_scene_again_whose_copy_has_more_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb = np.moveaxis(cv2.resize(np.random.default_rng(1).integers(0, 256, (20, 24, 3), np.uint8), (240, 200)), -1, 0)
    store(tmp_path / "data/train/images/a.tif", rgb)
    store(tmp_path / "data/val/images/b.tif", rgb.astype(np.uint16) * 257)
    verify = load_script("data_prep/verify.py")
    assert verify.main([str(tmp_path / "data"), "--nproc", "1", "--scale-range", "0", "65535"]) == 1
    assert "duplicate: " in capsys.readouterr().out


def test_show_draws_on_the_bands_that_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    bands = rng.integers(100, 2000, size=(4, 80, 90)).astype(np.uint16)
    store(tmp_path / "images/a.tif", bands)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("")
    words = [str(tmp_path / "images"), "--gt", str(tmp_path / "labels"), "--out", str(tmp_path / "out"), "--no-legend"]
    options = ["--ext", ".png", "--bands", "4", "2", "1", "--scale-range", "0", "2040"]
    assert load_script("tools/show.py").main([*words, *options]) == 0
    drawn = cv2.imread(str(tmp_path / "out/a.png"))
    expected = np.floor(bands[[0, 1, 3]] / 8 + 0.5)  # blue, green, red
    assert (drawn == np.moveaxis(expected, 0, -1)).all()
    assert "a.tif: bands 4 2 1, values 0 to 2040 read as 0 to 255" in capsys.readouterr().err


def test_every_command_of_the_page_runs_as_typed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyogrio")
    from fdam_rotate.commands import COMMANDS

    rng = np.random.default_rng(0)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)}
    store(tmp_path / "city.tif", rng.integers(0, 2047, size=(4, 64, 112)).astype(np.uint16), **place)
    for folder in ("scenes", "data/mine/images"):
        store(tmp_path / folder / "a.tif", rng.integers(0, 65535, size=(3, 90, 100)).astype(np.uint16))
    model.rename(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in (ROOT / "docs/rasters.md").read_text().splitlines() if line.startswith("    ")]
    assert len(lines) == 6
    for line in lines:
        program, command, *words = line.split()
        assert program == "fdam-rotate"
        assert command in COMMANDS
        script = "data_prep" if command in ("split", "verify") else "tools"
        assert load_script(f"{script}/{command}.py").main(words) == 0, line
    for name in ("city", "false_colour", "maps", "own_system"):
        assert (tmp_path / f"work_dirs/{name}/geojson/city.geojson").is_file()
    assert (tmp_path / "work_dirs/maps/gpkg/city.gpkg").is_file()
    assert json.loads((tmp_path / "data/scenes/manifest.json").read_text())["images"][0]["scale_range"] == [0, 65535]
