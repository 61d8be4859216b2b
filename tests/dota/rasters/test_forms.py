"""One scene as different sensors and tools store it: the command lines read the same pixels from all forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from prep_scenes import texture, tree
from scripts import load_script

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.rasters.images import open_pixels
from fdam_rotate.dota.rasters.options import RasterOptions

rasterio = pytest.importorskip("rasterio")
Window = rasterio.windows.Window
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

WIDTH, HEIGHT = 170, 130


def scene() -> np.ndarray:
    """(3, H, W) uint8: red, green, blue."""
    return np.moveaxis(texture(np.random.default_rng(3), WIDTH, HEIGHT)[..., ::-1], -1, 0)


def store(path: Path, bands: np.ndarray, *, colours: str | None = None, nodata: float | None = None,
          mask: np.ndarray | None = None, **layout: Any) -> Path:  # fmt: skip
    """A file of (bands, H, W) values, written by GDAL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": bands.dtype} | layout
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", nodata=nodata, **profile) as file:
        if colours:
            file.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours.split()]
        file.write(bands)
        if mask is not None:
            file.write_mask(mask)
    return path


def split(data: Path, out: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Split the images of a folder by the command line; returns the manifest."""
    words = ["--img-dirs", str(data), "--out", str(out), "--sizes", "64", "--gaps", "16", "--nproc", "1"]
    assert load_script("data_prep/split.py").main([*words, "--img-rate-thr", "0", *arguments]) == code
    return json.loads((out / "manifest.json").read_text())


def patches(out: Path) -> dict[str, np.ndarray]:
    return {path.name: cv2.imread(str(path)).astype(int) for path in sorted((out / "images").iterdir())}


def forms(name: str, path: Path) -> tuple[Path, list[str], float]:
    """The scene in one form; the options with which its pixels are those of the 8-bit form, and how exactly."""
    rgb = scene()
    other = np.full((1, HEIGHT, WIDTH), 7, np.uint8)  # a band that would show if it were taken for a colour
    deep = np.rint(rgb * (2047 / 255)).astype(np.uint16)
    eleven = ["--scale-range", "0", "2047"]
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 32}
    if name == "rgba":
        return store(path / "a.tif", np.concatenate([rgb, other])), [], 0
    if name == "rgb-nir":
        return store(path / "a.tif", np.concatenate([rgb, other]), colours="red green blue undefined"), [], 0
    if name == "bgr-nir-named":
        return store(path / "a.tif", np.concatenate([rgb[::-1], other]), colours="blue green red undefined"), [], 0
    if name == "nir-first":
        return store(path / "a.tif", np.concatenate([other, rgb])), ["--bands", "2", "3", "4"], 0
    if name == "eight-bands":
        bands = np.concatenate([other, rgb[2:], rgb[1:2], rgb[:1], other, other, other, other])
        return store(path / "a.tif", bands, photometric="MINISBLACK"), ["--bands", "4", "3", "2"], 0
    if name == "eleven-bits":
        return store(path / "a.tif", deep), eleven, 0
    if name == "eleven-bits-nir":
        nir = np.full((1, HEIGHT, WIDTH), 2000, np.uint16)
        return store(path / "a.tif", np.concatenate([deep, nir])), eleven, 0
    if name == "nbits-11":
        return store(path / "a.tif", deep, nbits=11, **tiled), eleven, 0
    if name == "sixteen-bits":
        return store(path / "a.tif", rgb.astype(np.uint16) * 257), ["--scale-range", "0", "65535"], 0
    if name == "sixteen-bits-png":
        cv2.imwrite(str(path / "a.png"), np.moveaxis(rgb[::-1], 0, -1).astype(np.uint16) * 257)
        return path / "a.png", ["--scale-range", "0", "65535"], 0
    if name == "uint32":
        return store(path / "a.tif", rgb.astype(np.uint32) * 100_000), ["--scale-range", "0", "25500000"], 0
    if name == "int16":
        return store(path / "a.tif", rgb.astype(np.int16) * 4 - 500), ["--scale-range", "-500", "520"], 0
    if name == "float32":
        return store(path / "a.tif", (rgb / 255).astype(np.float32)), ["--scale-range", "0", "1"], 0
    if name == "float64-planar":
        return store(path / "a.tif", rgb / 255.0, interleave="band", **tiled), ["--scale-range", "0", "1"], 0
    if name == "jp2":
        return store(path / "a.jp2", rgb, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES"), [], 0
    if name == "jp2-12-bits":
        found = store(path / "a.jp2", deep, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", NBITS=11)
        return found, eleven, 0
    if name == "webp":
        return store(path / "a.tif", rgb, compress="webp", WEBP_LOSSLESS=True, **tiled), [], 0
    if name == "jpeg":
        return store(path / "a.tif", rgb, compress="jpeg", photometric="YCbCr", jpeg_quality=100), [], 4
    return store(path / "a.tif", rgb, compress=name, **tiled), [], 0


FORMS = [
    "rgba", "rgb-nir", "bgr-nir-named", "nir-first", "eight-bands", "eleven-bits", "eleven-bits-nir", "nbits-11",
    "sixteen-bits", "sixteen-bits-png", "uint32", "int16", "float32", "float64-planar", "jp2", "jp2-12-bits", "webp",
    "jpeg", "zstd", "lerc", "lerc_zstd", "lzma", "packbits",
]  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_pixels_of_the_8_bit_scene(name: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    _, options, tolerance = forms(name, images)
    split(images, tmp_path / "out", *options)
    store(tmp_path / "plain/a.tif", scene())
    split(tmp_path / "plain", tmp_path / "expected")
    found, expected = patches(tmp_path / "out"), patches(tmp_path / "expected")
    assert list(found) == list(expected)
    assert len(found) == 12
    for patch, pixels in expected.items():
        x, y = (int(part) for part in patch[: -len(".png")].split("__64__")[1].split("___"))
        own = scene()[::-1, y : y + 64, x : x + 64]
        assert (pixels[: own.shape[1], : own.shape[2]] == np.moveaxis(own, 0, -1)).all()
        assert np.abs(found[patch] - pixels).mean() <= tolerance


def test_the_range_that_auto_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The values of ranks 0.5 % and 99.5 % of all bands together, by sorting; told, and kept in the manifest."""
    rng = np.random.default_rng(0)
    bands = np.stack([rng.normal(mean, 40, size=(90, 80)) for mean in (300, 420, 560)]).clip(1).astype(np.uint16)
    bands[:, 3, 5] = 2047  # a glint
    store(tmp_path / "images/a.tif", bands)
    manifest = split(tmp_path / "images", tmp_path / "out")
    ranked = np.sort(bands.ravel())
    low, high = int(ranked[bands.size * 5 // 1000 - 1]), int(ranked[bands.size * 995 // 1000 - 1])
    assert manifest["images"][0]["scale_range"] == [low, high]
    assert manifest["images"][0]["bands"] == [1, 2, 3]
    assert manifest["parameters"]["scale_range"] == "auto"
    assert f"a.tif: bands 1 2 3, values {low} to {high} read as 0 to 255\n" in capsys.readouterr().err
    expected = np.clip(np.floor((bands.astype(float) - low) * 255 / (high - low) + 0.5), 0, 255)
    patch = patches(tmp_path / "out")["a__64__0___0.png"]
    assert (patch == np.moveaxis(expected[::-1, :64, :64], 0, -1)).all()


def test_auto_of_a_large_image_comes_from_squares_across_it(tmp_path: Path) -> None:
    """16 x 16 squares of 64 pixels, the first at the upper left corner, the last at the lower right."""
    values = np.random.default_rng(0).integers(100, 3000, size=(1, 1300, 1500)).astype(np.uint16)
    store(tmp_path / "images/a.tif", values)
    places = [[k * (side - 64) // 15 for k in range(16)] for side in (1300, 1500)]
    squares = np.stack([values[0, y : y + 64, x : x + 64] for y in places[0] for x in places[1]])
    ranked = np.sort(squares.ravel())
    expected = [float(ranked[int(np.ceil(share * ranked.size)) - 1]) for share in (0.005, 0.995)]
    out = tmp_path / "out"
    manifest = split(tmp_path / "images", out, "--sizes", "1024")
    assert manifest["images"][0]["scale_range"] == expected


def test_another_range_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    store(tmp_path / "images/a.tif", scene().astype(np.uint16) * 8)
    first = split(tmp_path / "images", tmp_path / "out", "--scale-range", "0", "2047")
    assert first["parameters"]["scale_range"] == [0, 2047]
    before = tree(tmp_path / "out")
    for other in (["--scale-range", "0", "4095"], [], ["--scale-range", "0", "2047", "--bands", "3", "2", "1"]):
        with pytest.raises(DotaError, match=r"other settings: (scale_range|bands)"):
            split(tmp_path / "images", tmp_path / "out", *other)
    assert tree(tmp_path / "out") == before


def test_any_number_of_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    for k in range(3):
        store(tmp_path / f"images/a{k}.tif", scene().astype(np.uint16) * (3 + k))
    split(tmp_path / "images", tmp_path / "one")
    split(tmp_path / "images", tmp_path / "two", "--nproc", "2")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.parametrize(("values", "options", "said"), [
    (8, ["--scale-range", "0", "65535"], "nearly black"),
    (8, ["--scale-range", "-65535", "2000"], "nearly white"),
    (1, ["--scale-range", "-20000", "20000"], "nearly one grey"),
    (8, ["--scale-range", "0", "2047"], None),
    (8, [], None),
])  # fmt: skip
def test_a_picture_that_shows_nothing_is_warned_of(
    values: int, options: list[str], said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path / "images/a.tif", scene().astype(np.uint16) * values)
    manifest = split(tmp_path / "images", tmp_path / "out", *options)
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(told) == (said is not None)
    if said:
        assert said in told[0]
        assert said in manifest["images"][0]["tone"]
    else:
        assert manifest["images"][0]["tone"] is None


@pytest.mark.parametrize(("options", "said"), [
    (["--bands", "1", "2"], "3 numbers"), (["--bands", "0"], "at least 1"),
    (["--scale-range", "5"], "auto, or LOW HIGH"),
    (["--scale-range", "9", "3"], "a low and a higher value"), (["--scale-range", "0", "nan"], "higher value"),
    (["--scale-range", "low", "high"], "auto or a number, got 'low'"),
])  # fmt: skip
def test_impossible_options_are_usage_errors(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path / "images/a.tif", scene())
    with pytest.raises(SystemExit) as end:
        split(tmp_path / "images", tmp_path / "out", *options)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_files_that_cannot_be_read_as_asked_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgb = scene()
    store(tmp_path / "images/a.tif", rgb)
    store(tmp_path / "images/b.tif", rgb[:2])
    store(tmp_path / "images/c.tif", np.concatenate([rgb, rgb[:1]]), photometric="CMYK")
    store(tmp_path / "images/d.tif", rgb.astype(np.complex64))
    manifest = split(tmp_path / "images", tmp_path / "out", "--bands", "3", "2", "1", code=1)
    assert [image["id"] for image in manifest["images"]] == ["a", "c"]
    assert "b.tif: has 2 bands, and --bands asks for 3 2 1 [image]" in capsys.readouterr().err
    manifest = split(tmp_path / "images", tmp_path / "again", code=1)
    assert [image["id"] for image in manifest["images"]] == ["a", "b"]
    said = capsys.readouterr().err
    assert "c.tif: its colours are those of printing (CMYK); convert it to RGB first [image]" in said
    assert "d.tif: its values are complex (radar)" in said


def test_grey_palette_and_inverted_forms(tmp_path: Path) -> None:
    grey = scene()[:1]
    images = tmp_path / "images"
    store(images / "grey.tif", grey)
    store(images / "grey-alpha.tif", np.concatenate([grey, grey]), colours="gray alpha")
    store(images / "two.tif", np.concatenate([grey, 255 - grey]), photometric="MINISBLACK")
    store(images / "white-is-zero.tif", 255 - grey, photometric="MINISWHITE")
    store(images / "few-bits.tif", grey // 16, nbits=4)
    colours = {value: (value, 255 - value, value // 2, 255) for value in range(256)}
    with rasterio.open(store(images / "palette.tif", grey, photometric="palette"), "r+") as file:
        file.write_colormap(1, colours)
    split(images, tmp_path / "out")
    found = {name: pixels for name, pixels in patches(tmp_path / "out").items() if name.endswith("__64__0___0.png")}
    expected = grey[0, :64, :64].astype(int)
    for name in ("grey", "grey-alpha", "two", "white-is-zero"):
        assert (found[f"{name}__64__0___0.png"] == expected[..., None]).all(), name
    assert (found["few-bits__64__0___0.png"] == (expected // 16 * 17)[..., None]).all()
    blue_green_red = np.stack([expected // 2, 255 - expected, expected], axis=-1)
    assert (found["palette__64__0___0.png"] == blue_green_red).all()


def test_one_image_of_8_bits_beside_one_of_16_stays_as_it_is(tmp_path: Path) -> None:
    store(tmp_path / "images/a.tif", scene())
    store(tmp_path / "images/b.tif", scene().astype(np.uint16))
    manifest = split(tmp_path / "images", tmp_path / "out", "--scale-range", "0", "510")
    assert [image["scale_range"] for image in manifest["images"]] == [None, [0, 510]]
    found = patches(tmp_path / "out")
    assert (found["a__64__0___0.png"] == np.moveaxis(scene()[::-1, :64, :64], 0, -1)).all()
    assert np.abs(found["b__64__0___0.png"] - found["a__64__0___0.png"] / 2).max() <= 0.5


def empty_parts(name: str, path: Path) -> np.ndarray:
    """An image of 5 x 4 squares of 64 pixels, some without data; which they are, (4, 5) bool, True where there is."""
    data = np.random.default_rng(5).random((4, 5)) < 0.5
    data[0, 0] = True
    wide = np.kron(data, np.ones((64, 64))).astype(bool)
    rgb = np.moveaxis(texture(np.random.default_rng(2), 320, 256), -1, 0) | 1  # no value is 0
    target = path / "a.tif"
    squares = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    if name == "nodata":
        store(target, rgb * wide, nodata=0)
    elif name == "nodata-float":
        store(target, np.where(wide, rgb / 255, -9999).astype(np.float32), nodata=-9999)
    elif name == "nan":
        store(target, np.where(wide, rgb / 255, np.nan).astype(np.float32))
    elif name == "alpha":
        store(target, np.concatenate([rgb, wide[None] * np.uint8(255)]))
    elif name == "alpha-planar":
        store(target, np.concatenate([rgb, wide[None] * np.uint8(255)]), interleave="band", **squares)
    elif name == "alpha-png":
        cv2.imwrite(str(path / "a.png"), np.dstack([np.moveaxis(rgb, 0, -1), wide * np.uint8(255)]))
    elif name == "grey-alpha-png":
        Image.fromarray(np.dstack([rgb[0], wide * np.uint8(255)]), "LA").save(path / "a.png")
    elif name == "mask":
        store(target, rgb, mask=wide * np.uint8(255), **squares)
    else:
        assert name == "sparse"
        profile = {"driver": "GTiff", "width": 320, "height": 256, "count": 3, "dtype": "uint8", "sparse_ok": True}
        with rasterio.open(target, "w", **squares, **profile) as file:
            for row, column in np.argwhere(data).tolist():
                window = Window(64 * column, 64 * row, 64, 64)
                part = rgb[:, 64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
                file.write(part, window=window)
    return data


@pytest.mark.parametrize(
    "name", ["nodata", "nodata-float", "nan", "alpha", "alpha-planar", "alpha-png", "grey-alpha-png", "mask", "sparse"]
)
def test_windows_without_data_are_left_out_and_counted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    data = empty_parts(name, tmp_path / "images")
    manifest = split(tmp_path / "images", tmp_path / "out", "--gaps", "0")
    expected = {f"a__64__{64 * column}___{64 * row}.png" for row, column in np.argwhere(data).tolist()}
    assert set(patches(tmp_path / "out")) == expected
    assert manifest["totals"]["empty"] == manifest["images"][0]["empty"] == int((~data).sum()) > 3
    assert f"{int((~data).sum())} windows without data left out" in capsys.readouterr().out


def test_a_window_without_data_that_holds_an_object_stays(tmp_path: Path) -> None:
    data = empty_parts("nodata", (tmp_path / "images"))
    row, column = np.argwhere(~data)[0].tolist()
    x, y = 64 * column + 10, 64 * row + 10
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(f"{x} {y} {x + 20} {y} {x + 20} {y + 9} {x} {y + 9} ship 0\n")
    manifest = split(tmp_path / "images", tmp_path / "out", "--gaps", "0", "--ann-dirs", str(tmp_path / "labels"))
    assert manifest["totals"]["empty"] == int((~data).sum()) - 1
    assert manifest["totals"]["objects_kept"] == 1
    assert f"a__64__{64 * column}___{64 * row}.png" in patches(tmp_path / "out")


@pytest.mark.parametrize("name", ["sparse", "mask", "alpha-planar"])
def test_colours_are_not_decoded_where_blocks_or_masks_say_that_there_are_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fdam_rotate.dota.rasters import windowed

    (tmp_path / "images").mkdir()
    data = empty_parts(name, tmp_path / "images")
    read: list[tuple[int, ...]] = []
    inner = windowed.WindowedImage._read
    monkeypatch.setattr(windowed.WindowedImage, "_read", lambda self, at: read.append(at) or inner(self, at))
    monkeypatch.setattr(windowed, "_LANE", 64)
    split(tmp_path / "images", tmp_path / "out", "--gaps", "0")
    assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in read) == 64 * 64 * int(data.sum())


@pytest.mark.parametrize("name", ["eleven-bits", "float32"])
def test_nodata_does_not_move_the_range(name: str, tmp_path: Path) -> None:
    """A border of nodata as large as the scene: auto takes the same range, and the border becomes 0."""
    values = scene().astype(np.float32 if name == "float32" else np.uint16) * 8
    border = np.full_like(values, 65535)
    store(tmp_path / "plain/a.tif", values)
    store(tmp_path / "images/a.tif", np.concatenate([values, border], axis=2), nodata=65535)
    plain = split(tmp_path / "plain", tmp_path / "expected")
    found = split(tmp_path / "images", tmp_path / "out")
    assert found["images"][0]["scale_range"] == plain["images"][0]["scale_range"]
    patch = patches(tmp_path / "out")["a__64__144___0.png"]
    assert (patch[:, WIDTH - 144 :] == 0).all()
    assert patch[:, : WIDTH - 144].mean() > 50


@pytest.mark.parametrize("scale_range", [(0.0, 0.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_range_rises(scale_range: tuple[float, float]) -> None:
    with pytest.raises(DotaError, match="a low and a higher value"):
        RasterOptions(scale_range=scale_range)


def test_alpha_of_another_type_in_a_vrt_says_where_there_is_data(tmp_path: Path) -> None:
    """``gdalbuildvrt -addalpha`` over tiles of 16 bits gives a band of 8, and two types are not read at once."""
    values = scene().astype(np.uint16) * 8
    store(tmp_path / "deep.tif", values)
    alpha = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    alpha[:, :, :64] = 255
    store(tmp_path / "alpha.tif", alpha)
    source = (
        "<SimpleSource><SourceFilename relativeToVRT='1'>{}</SourceFilename><SourceBand>{}</SourceBand></SimpleSource>"
    )
    bands = [("UInt16", colour, "deep.tif", k) for k, colour in enumerate(("Red", "Green", "Blue"), 1)]
    text = "".join(
        f"<VRTRasterBand dataType='{kind}' band='{number}'><ColorInterp>{colour}</ColorInterp>"
        f"{source.format(name, k)}</VRTRasterBand>"
        for number, (kind, colour, name, k) in enumerate([*bands, ("Byte", "Alpha", "alpha.tif", 1)], 1)
    )
    path = tmp_path / "a.vrt"
    path.write_text(f"<VRTDataset rasterXSize='{WIDTH}' rasterYSize='{HEIGHT}'>{text}</VRTDataset>")
    windows = [[0, 0, 64, 64], [64, 0, 128, 64]]
    with open_pixels(path, RasterOptions(scale_range=(0, 2040))) as image:
        ((number, pixels),) = image.crops(windows, skippable=range(2))
    assert number == 0
    assert (pixels == np.moveaxis(scene()[::-1, :64, :64], 0, -1)).all()


@pytest.mark.parametrize(("seen", "expected"), [(9_999, (100, 1000)), (10_000, (100, 101))])
def test_more_squares_are_looked_at_where_few_values_are_seen(
    seen: int, expected: tuple[float, float], tmp_path: Path
) -> None:
    """Of 1,100 columns 16 squares of 64 leave out those from 64 to 68, which 64 squares see."""
    values = np.zeros((1, 1100, 1100), np.uint16)
    values[0, :, 64:69] = 1000
    squares = np.concatenate([values[0, :64, x : x + 64].ravel() for x in (0, 69, 138)])
    squares[:seen] = 100
    for part, x in zip(squares.reshape(3, 64, 64), (0, 69, 138), strict=True):
        values[0, :64, x : x + 64] = part
    path = store(tmp_path / "a.tif", values, nodata=0)
    with open_pixels(path) as image:
        assert image.scale_range == expected


def test_in_the_end_256_squares_are_looked_at(tmp_path: Path) -> None:
    """Of 4,200 columns 64 squares leave some out, 64 and 65 among them."""
    values = np.zeros((1, 64, 4200), np.uint16)
    values[0, :32, 64] = 300
    values[0, 32:, 64] = 700
    with open_pixels(store(tmp_path / "a.tif", values, nodata=0)) as image:
        assert image.scale_range == (300, 700)
