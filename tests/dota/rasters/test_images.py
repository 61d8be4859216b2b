"""Which images there are, how large, and their pixels by the rule of cv2.imread."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from prep_scenes import texture

from fdam_rotate.dota.errors import DotaError, ImageReadError
from fdam_rotate.dota.layout import list_sources
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.rasters.images import image_size, read_image
from fdam_rotate.dota.rasters.options import RasterOptions


def scene(height: int = 31, width: int = 43) -> np.ndarray:
    return texture(np.random.default_rng(0), width, height)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".bmp"])
def test_pixels_and_sha256(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{extension}"
    cv2.imwrite(str(path), scene())
    image, digest = read_image(path)
    assert (image == cv2.imread(str(path))).all()
    assert image.shape == (31, 43, 3)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert image_size(path) == (43, 31)


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_bands_and_depth(extension: str, tmp_path: Path) -> None:
    """One band is repeated, alpha is dropped, 16 bits of full range become 8; by hand, not by cv2.imread."""
    colour = scene()
    deep = (colour.astype(np.uint16) << 8) + np.arange(43, dtype=np.uint16)[None, :, None] * 5  # lower byte: anything
    alpha = np.full((31, 43, 1), 77, np.uint8)
    cases = {
        "one": (colour[..., 0], colour[..., [0, 0, 0]]),
        "four": (np.concatenate([colour, alpha], axis=2), colour),
        "deep": (deep, np.rint(deep / 257).astype(np.uint8)),
        "deep-one": (deep[..., 0], np.rint(deep / 257).astype(np.uint8)[..., [0, 0, 0]]),
    }
    for name, (stored, expected) in cases.items():
        path = tmp_path / f"{name}{extension}"
        assert cv2.imwrite(str(path), stored)
        assert (read_image(path, RasterOptions(scale_range=(0, 65535)))[0] == expected).all(), name


@pytest.mark.parametrize("extension", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(9))
def test_an_orientation_is_applied_and_its_size_told(orientation: int, extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{extension}"
    picture = Image.fromarray(scene())
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)
    image, _ = read_image(path)
    assert image.shape == ((43, 31, 3) if orientation >= 5 else (31, 43, 3))
    assert image_size(path) == image.shape[1::-1]
    assert (image == cv2.imread(str(path))).all()


def test_an_orientation_of_a_png_behind_other_chunks(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = cv2.imencode(".png", scene())[1].tobytes()
    chunks = b""
    for kind, content in ((b"tEXt", b"Title\0scene of some length"), (b"eXIf", exif.tobytes()[6:])):
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "a.png").write_bytes(data[:33] + chunks + data[33:])
    assert image_size(tmp_path / "a.png") == (31, 43)
    assert read_image(tmp_path / "a.png")[0].shape == (43, 31, 3)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("options", [{"dtype": "uint16"}, {"dtype": "uint8", "BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}])
def test_sizes_of_tiffs_that_pillow_does_not_open(options: dict[str, str], tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    layout = {"driver": "GTiff", "width": 43, "height": 31, "count": 3, "dtype": "uint8"} | options
    with rasterio.open(tmp_path / "a.tif", "w", **layout) as file:
        file.write(np.moveaxis(scene()[..., ::-1].astype(layout["dtype"]), -1, 0))
    assert image_size(tmp_path / "a.tif") == (43, 31)
    assert read_image(tmp_path / "a.tif")[0].shape == (31, 43, 3)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("damage", ["empty", "half", "tail", "other"])
def test_damaged_files(extension: str, damage: str, tmp_path: Path) -> None:
    data = cv2.imencode(extension, scene(90, 90))[1].tobytes()
    cut = {"empty": b"", "half": data[: len(data) // 2], "tail": data[:-9], "other": b"<html>not found</html>"}[damage]
    path = tmp_path / f"a{extension}"
    path.write_bytes(cut)
    expected = {"empty": "is empty", "other": "not a known kind of image: expected PNG, JPEG"}.get(damage, "truncated")
    with pytest.raises(ImageReadError, match=expected):
        read_image(path)


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_truncated(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", scene(90, 90))[1].tobytes()
    thumbnail = cv2.imencode(".jpg", scene(8, 8))[1].tobytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + segment + data[2:])
    assert read_image(path)[0].shape == (90, 90, 3)
    path.write_bytes(data[:2] + segment + data[2 : len(data) // 2])
    with pytest.raises(ImageReadError, match="no end-of-image marker"):
        read_image(path)


def test_sizes_come_from_headers_without_a_limit(tmp_path: Path) -> None:
    # a header alone: 40,000 x 30,000 pixels, more than Pillow opens by default
    data = cv2.imencode(".png", scene(2, 2))[1].tobytes()
    header = b"IHDR" + struct.pack(">2I5B", 40_000, 30_000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    assert image_size(tmp_path / "a.png") == (40_000, 30_000)
    for name, content in {"b.png": b"", "c.tif": b"nothing known", "d.png": b"\x89PNG but no more"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageReadError, match=name):
            image_size(tmp_path / name)


def test_sources(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labelTxt"
    images.mkdir()
    labels.mkdir()
    names = [
        "b.PNG",
        "a.1.Tif",
        "c d.jpeg",
        "ü__x.BMP",
        "e.jpg",
        "e.tiff",
        ".hidden.png",
        "notes.doc",
        "back\\slash.png",
    ]
    for name in names:
        (images / name).write_bytes(b"")
    (images / "folder.png").mkdir()
    for stem in ("b", "a.1", "ü__x", "e", "orphan"):
        (labels / f"{stem}.txt").write_text("")
    problems: list[Problem] = []
    sources = list_sources([images], [labels], problems)
    assert [s.image_id for s in sources] == ["a.1", "b", "c d", "e", "ü__x"]
    assert [s.label and s.label.name for s in sources] == ["a.1.txt", "b.txt", None, "e.txt", "ü__x.txt"]
    told = {(p.kind, Path(p.path.strip("'")).name) for p in problems}
    assert told == {
        ("clash", "e.tiff"),
        ("no-label", "c d.jpeg"),
        ("no-image", "orphan.txt"),
        ("id", "back\\slash.png"),
    }
    assert "e.jpg" in next(p.text for p in problems if p.kind == "clash")


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / "ok.png").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")).write_bytes(b"")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/ok.txt").write_text("")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/labels/c\xff.txt")).write_bytes(b"")
    problems: list[Problem] = []
    assert [s.image_id for s in list_sources([tmp_path], [tmp_path / "labels"], problems)] == ["ok"]
    assert [p.kind for p in problems] == ["id", "no-image"]
    assert all("\\udcff" in str(p).encode("utf-8").decode() for p in problems)


def test_one_label_folder_may_serve_several_image_folders(tmp_path: Path) -> None:
    for part, name in (("part1", "a"), ("part2", "b")):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{name}.png").write_bytes(b"")
    (tmp_path / "labels").mkdir()
    for name in "ab":
        (tmp_path / "labels" / f"{name}.txt").write_text("")
    problems: list[Problem] = []
    labels = tmp_path / "labels"
    sources = list_sources([tmp_path / "part1", tmp_path / "part2"], [labels, labels], problems)
    assert [s.image_id for s in sources] == ["a", "b"]
    assert problems == []


def test_nothing_to_split(tmp_path: Path) -> None:
    with pytest.raises(DotaError, match="no image in"):
        list_sources([tmp_path], [None], [])
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        list_sources([tmp_path / "nowhere"], [None], [])
