"""Large images, read in bands: the pixels of cv2.imread, with little memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from prep_scenes import make_dataset, texture, tree

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.rasters import images
from fdam_rotate.dota.rasters.bands import BandReader, open_bands
from fdam_rotate.dota.rasters.images import WholeImage, open_pixels
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split

rasterio = pytest.importorskip("rasterio")


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
    "grey.png", "colour.png", "alpha.png", "deep.png", "deep-colour.png", "deep-alpha.png", "colour.bmp",
    "grey.tif", "colour.tif", "deep.tif", "tiled.tif",
])  # fmt: skip
def test_crops_equal_those_of_opencv(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name)
    image = cv2.imread(str(path))
    rng = np.random.default_rng(1)
    corners = rng.integers(0, (211, 173), size=(40, 2))
    windows = np.concatenate([corners, corners + rng.integers(1, 90, size=(40, 1))], axis=1).tolist()
    with open_bands(path) as reader:
        assert reader is not None
        assert (reader.width, reader.height) == (211, 173)
        seen = dict(reader.crops(windows))
    assert sorted(seen) == list(range(40))
    for number, (x0, y0, x1, y1) in enumerate(windows):
        assert seen[number].shape == image[y0:y1, x0:x1].shape
        assert (seen[number] == image[y0:y1, x0:x1]).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_kinds_whose_pixels_would_differ_are_decoded_whole(tmp_path: Path) -> None:
    for name in ("alpha.tif", "deep-colour.tif", "grey.bmp"):
        with open_bands(write(tmp_path, name)) as reader:
            assert reader is None, name
    (tmp_path / "a.png").write_text('<VRTDataset rasterXSize="9" rasterYSize="9"></VRTDataset>')
    with open_bands(tmp_path / "a.png") as reader:
        assert reader is None


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_decoded_whole(bits: int, tmp_path: Path) -> None:
    """GDAL gives 0 to 15 where OpenCV gives 0 to 255: the patches would be black."""
    bytes_a_row, path = (40 * bits) // 8, tmp_path / "a.png"
    rows = np.random.default_rng(0).integers(0, 256, size=(30, bytes_a_row), dtype=np.uint8)
    chunks = [(b"IHDR", struct.pack(">2I5B", 40, 30, bits, 0, 0, 0, 0)),
              (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), (b"IEND", b"")]  # fmt: skip
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert cv2.imread(str(path)).max() == 255
    with open_bands(path) as reader:
        assert reader is None


@pytest.mark.parametrize("extension", ["jpg", "png", "tif"])
def test_an_image_with_an_orientation_is_decoded_whole(
    extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{extension}"
    picture = Image.fromarray(scene())
    exif = picture.getexif()
    exif[0x0112] = 3
    picture.save(path, exif=exif)
    monkeypatch.setattr(images, "LARGEST_WHOLE", 0)
    with open_pixels(path) as image:
        assert isinstance(image, WholeImage)
        assert (image.pixels == cv2.imread(str(path))).all()


def test_without_rasterio_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ImageReadError, match="pip install rasterio"), open_bands(write(tmp_path, "colour.png")):
        pass


def test_a_large_jpeg_is_close_to_opencvs(tmp_path: Path) -> None:
    path = write(tmp_path, "colour.jpg")
    with open_bands(path) as reader:
        assert reader is not None
        ((_, crop),) = reader.crops([[0, 0, 211, 173]])
    assert np.abs(crop.astype(int) - cv2.imread(str(path))).mean() < 4


def test_the_limit_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "colour.png")
    monkeypatch.setattr(images, "LARGEST_WHOLE", 211 * 173)
    with open_pixels(path) as image:
        assert isinstance(image, WholeImage)
    monkeypatch.setattr(images, "LARGEST_WHOLE", 211 * 173 - 1)
    with open_pixels(path) as image:
        assert isinstance(image, BandReader)
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
    monkeypatch.setattr(images, "read_image", lambda path: pytest.fail("decoded whole"))
    run_split([data / "images"], [data / "labelTxt"], tmp_path / "bands", options)
    assert tree(tmp_path / "bands") == tree(tmp_path / "whole")


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp"])
def test_truncated_files(extension: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"colour.{extension}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_bands(path) as reader:
        assert reader is not None
        crops = reader.crops([[0, 0, 211, 100], [0, 73, 211, 173]])
        with pytest.raises(ImageReadError, match="truncated or damaged"):
            list(crops)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_memory_stays_far_below_the_size_of_the_image(tmp_path: Path) -> None:
    """An image of 8,000 x 12,000 pixels (288 MB) is split in a process that grows by less than 150 MB."""
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "compress": "deflate"}
    path = tmp_path / "images/big.tif"
    path.parent.mkdir()
    with rasterio.open(path, "w", driver="GTiff", width=8000, height=12000, count=3, dtype="uint8", **layout):
        pass
    code = f"""
import resource
from fdam_rotate.dota.rasters import bands
from fdam_rotate.dota.splitting import mmrotate_objects, worker
from fdam_rotate.dota.splitting.split import run_split
from fdam_rotate.dota.splitting.options import SplitOptions
import rasterio
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
manifest = run_split([{str(path.parent)!r}], None, {str(tmp_path / "out")!r}, SplitOptions(sizes=[1024], gaps=[0]))
assert len(manifest.patch_ids()) == 8 * 12
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
assert grown < 150, grown
print("grown", grown)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
