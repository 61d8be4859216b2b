"""Large images, read in bands: the pixels of cv2.imread, with little memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from prep_scenes import make_dataset, texture, tree

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.files import sha256_of
from fdam_rotate.dota.rasters import images, windowed
from fdam_rotate.dota.rasters.images import WholeImage, open_pixels
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.rasters.windowed import WindowedImage, open_windowed
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split

rasterio = pytest.importorskip("rasterio")
Window = rasterio.windows.Window


def scene() -> np.ndarray:
    return texture(np.random.default_rng(0), 211, 173)


def write(path: Path, name: str) -> Path:
    colour = scene()
    deep = (colour.astype(np.uint16) << 8) + np.arange(211, dtype=np.uint16)[None, :, None]
    flat = {"grey": colour[..., 0], "colour": colour, "deep": deep[..., 0], "deep-colour": deep,
            "alpha": np.dstack([colour, colour[..., :1]]), "deep-alpha": np.dstack([deep, deep[..., :1]])}  # fmt: skip
    kind, extension = name.split(".")
    target = path / f"a.{extension}"
    if kind == "tiled":
        layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
        with rasterio.open(
            target, "w", driver="GTiff", width=211, height=173, count=3, dtype="uint8", **layout
        ) as file:
            file.write(np.moveaxis(colour[..., ::-1], -1, 0))
    else:
        assert cv2.imwrite(str(target), flat[kind])
    return target


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", [
    "grey.png", "colour.png", "alpha.png", "deep.png", "deep-colour.png", "deep-alpha.png", "colour.bmp", "grey.bmp",
    "grey.tif", "colour.tif", "alpha.tif", "deep.tif", "deep-colour.tif", "tiled.tif",
])  # fmt: skip
def test_crops_equal_the_pixels_of_the_whole(name: str, tmp_path: Path) -> None:
    """8-bit values are those of OpenCV (alpha dropped); 16-bit values of full range are divided by 257."""
    path = write(tmp_path, name)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    image = np.rint(image / 257).astype(np.uint8) if image.dtype == np.uint16 else image
    image = np.dstack([image] * 3) if image.ndim == 2 else image[..., :3]
    rng = np.random.default_rng(1)
    corners = rng.integers(0, (211, 173), size=(40, 2))
    windows = np.concatenate([corners, corners + rng.integers(1, 90, size=(40, 1))], axis=1).tolist()
    with open_windowed(path, RasterOptions(scale_range=(0, 65535))) as reader:
        assert (reader.width, reader.height) == (211, 173)
        seen = dict(reader.crops(windows))
    assert sorted(seen) == list(range(40))
    for number, (x0, y0, x1, y1) in enumerate(windows):
        assert seen[number].shape == image[y0:y1, x0:x1].shape
        assert (seen[number] == image[y0:y1, x0:x1]).all()


def test_text_that_names_other_files_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text('<VRTDataset rasterXSize="9" rasterYSize="9"></VRTDataset>')
    with pytest.raises(ImageReadError, match="not a known kind of image"), open_windowed(tmp_path / "a.png"):
        pass


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_fills_the_range(bits: int, tmp_path: Path) -> None:
    """GDAL gives 0 to 15 where OpenCV gives 0 to 255: the patches would be black."""
    bytes_a_row, path = (40 * bits) // 8, tmp_path / "a.png"
    rows = np.random.default_rng(0).integers(0, 256, size=(30, bytes_a_row), dtype=np.uint8)
    chunks = [(b"IHDR", struct.pack(">2I5B", 40, 30, bits, 0, 0, 0, 0)),
              (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), (b"IEND", b"")]  # fmt: skip
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert cv2.imread(str(path)).max() == 255
    with open_windowed(path) as reader:
        ((_, pixels),) = reader.crops([[0, 0, 40, 30]])
        assert (pixels == cv2.imread(str(path))).all()
        assert reader.notes() == []


@pytest.mark.parametrize("extension", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_of_a_turned_image(
    extension: str, orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{extension}"
    picture = Image.fromarray(scene())
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)
    whole = cv2.imread(str(path)).astype(int)
    monkeypatch.setattr(images, "LARGEST_WHOLE", 0)
    windows = [[0, 0, 50, 40], [100, 70, 150, 500], [20, 60, 90, 90], [0, 0, 900, 900]]
    with open_pixels(path) as image:
        assert isinstance(image, WindowedImage)
        assert (image.height, image.width) == whole.shape[:2]
        for number, pixels in image.crops(windows):
            x0, y0, x1, y1 = windows[number]
            difference = np.abs(pixels - whole[y0:y1, x0:x1])
            assert pixels.flags.c_contiguous
            assert difference.mean() < 4 if extension == "jpg" else difference.max() == 0, number


def test_without_rasterio_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ImageReadError, match="pip install rasterio"), open_windowed(write(tmp_path, "colour.png")):
        pass


def test_a_large_jpeg_is_close_to_opencvs(tmp_path: Path) -> None:
    path = write(tmp_path, "colour.jpg")
    with open_windowed(path) as reader:
        ((_, crop),) = reader.crops([[0, 0, 211, 173]])
    assert np.abs(crop.astype(int) - cv2.imread(str(path))).mean() < 4


def test_the_limit_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "colour.png")
    monkeypatch.setattr(images, "LARGEST_WHOLE", 211 * 173)
    with open_pixels(path) as image:
        assert isinstance(image, WholeImage)
    monkeypatch.setattr(images, "LARGEST_WHOLE", 211 * 173 - 1)
    with open_pixels(path) as image:
        assert isinstance(image, WindowedImage)
    with open_pixels(path, whole=True) as image:
        assert isinstance(image, WholeImage)


@pytest.mark.parametrize("style", ["mmrotate", "devkit"])
def test_a_split_in_bands_gives_the_same_bytes(style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(tmp_path / "data", [(190, 150), (64, 200)], 4)
    if style == "mmrotate":
        options = SplitOptions(sizes=[96], gaps=[30], rates=[0.5, 1.0, 1.5], img_rate_thr=0.2)
    else:
        options = SplitOptions(style="devkit", sizes=[64], gaps=[20])
    run_split([data / "images"], [data / "labelTxt"], tmp_path / "whole", options)
    monkeypatch.setattr(images, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(images, "_decode", lambda path: pytest.fail("decoded whole"))
    run_split([data / "images"], [data / "labelTxt"], tmp_path / "bands", options)
    assert tree(tmp_path / "bands") == tree(tmp_path / "whole")


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp"])
def test_truncated_files(extension: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"colour.{extension}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_windowed(path) as reader:
        crops = reader.crops([[0, 0, 211, 100], [0, 73, 211, 173]])
        with pytest.raises(ImageReadError, match="truncated or damaged"):
            list(crops)


# One process reads every window of a file; run alone, because other tests' peaks would hide its own.
_PEAK = """
import sys
from pathlib import Path
from typing import Any
import rasterio
from fdam_rotate.dota.rasters.images import open_pixels
from fdam_rotate.dota.splitting.options import SplitOptions, plan_levels
def peak():  # not ru_maxrss, which a process inherits from the one that starts it
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
with open_pixels(Path(sys.argv[1])) as image:
    before = peak()
    (level,) = plan_levels(SplitOptions(sizes=(1024,), gaps=(200,)), "a", image.width, image.height)
    count = sum(crop.shape == (1024, 1024, 3) for _, crop in image.crops(level.windows.tolist()))
assert count == len(level.names), count
print((peak() - before) // 1024)
"""


def peak_of_reading(path: Path) -> int:
    """Megabytes by which a process grows that reads all windows of ``path``."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _PEAK, str(path)], check=True, capture_output=True)
    return int(done.stdout)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("count", "dtype", "layout", "bound"), [
    (4, "uint8", {"tiled": True, "blockxsize": 512, "blockysize": 512}, 300),
    (4, "uint16", {"tiled": True, "blockxsize": 256, "blockysize": 256}, 300),
    (3, "float32", {"blockysize": 16, "height": 3000}, 300),
], ids=["rgba", "uint16", "float-strips"])  # fmt: skip
def test_memory_does_not_depend_on_the_size(
    count: int, dtype: str, layout: dict[str, Any], bound: int, tmp_path: Path
) -> None:
    """14,000 x 14,000 pixels (0.8 and 1.6 GB as stored), or 3,000 rows: it grows by less than 300 MB."""
    path = tmp_path / "big.tif"
    profile = {"width": 14000, "height": 14000, "count": count, "dtype": dtype, "sparse_ok": True, **layout}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **profile) as file:
        corner = np.random.default_rng(0).integers(1, 200, size=(count, 1024, 1024)).astype(dtype)
        file.write(corner, window=Window(0, 0, 1024, 1024))
    assert peak_of_reading(path) < bound


def test_the_order_is_that_of_all_windows_whichever_are_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(windowed, "_LANE", 100)
    path = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(0, 256, (3, 130, 300), np.uint8)
    kind = {"driver": "GTiff", "tiled": True, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(path, "w", width=300, height=130, count=3, dtype="uint8", **kind) as file:
        file.write(values)
    windows = [[x, y, x + 40, y + 40] for x in range(0, 260, 30) for y in (90, 45, 0)]
    with open_windowed(path) as image:
        order = image.order(windows)
        assert [number for number, _ in image.crops(windows)] == order
        assert sorted(order) == list(range(len(windows)))
        assert order != sorted(order)
        wanted = order[4::3]
        some = dict(image.crops(windows, wanted=wanted[::-1]))
    assert list(some) == wanted
    for number, pixels in some.items():
        x0, y0, x1, y1 = windows[number]
        assert np.array_equal(pixels, np.moveaxis(values[::-1, y0:y1, x0:x1], 0, -1))


def test_a_truncated_picture_is_an_error_in_every_thread(tmp_path, monkeypatch):
    """GDAL's settings are those of a thread; the one that reads need not be the one that opened the file."""
    path = tmp_path / "a.jpg"
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")

    def read(image):
        list(image.crops([[0, 0, 64, 64]]))

    def use():
        with open_windowed(path) as image, ThreadPoolExecutor(1) as other, pytest.raises(ImageReadError):
            other.submit(read, image).result()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(use).result()


def test_a_plain_picture_is_described_without_being_decoded(tmp_path):
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), np.zeros((30, 40, 3), np.uint8))
    with open_pixels(path) as image:
        facts = (image.width, image.height, image.digest, image.reading(), image.order([[0, 0, 9, 9]] * 3))
    path.write_bytes(path.read_bytes()[:60])  # its header is whole
    with open_pixels(path, decode=False) as image:
        assert (image.width, image.height, image.reading(), image.order([[0, 0, 9, 9]] * 3)) == (*facts[:2], *facts[3:])
        assert image.digest == sha256_of(path)
        with pytest.raises(ValueError, match="without its pixels"):
            image.crops([[0, 0, 9, 9]])
