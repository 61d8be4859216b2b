"""The PNG encoder and the stored rewrapping, judged by two decoders that are not ours: OpenCV and Pillow."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
from isal import isal_zlib
from PIL import Image
from prep_scenes import texture

from fdam_rotate.dota.prep.png import encode_png, filter_rows, stored_png


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    return texture(np.random.default_rng(seed), width, height)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 3), (33, 17), (64, 64)])
def test_files_read_back(shape: tuple[int, int]) -> None:
    for image in (scene(*shape), scene(*shape).transpose(1, 0, 2), np.zeros((*shape, 3), np.uint8)):
        data = encode_png(image)
        assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) == image).all()
        assert (np.asarray(Image.open(io.BytesIO(data)))[..., ::-1] == image).all()


def test_a_view_that_is_not_contiguous() -> None:
    image = scene(40, 50)[3:20:2, 5:30]
    assert (cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_COLOR) == image).all()


def test_the_filter_follows_the_texture() -> None:
    rows = np.tile(np.random.default_rng(0).integers(0, 256, size=(1, 90), dtype=np.uint8), (40, 1))
    assert (filter_rows(rows, 3)[:, 0] == 2).all()  # every row repeats the one above: Up
    rows = np.tile(np.random.default_rng(0).integers(0, 256, size=(90, 1), dtype=np.uint8), (1, 60))
    assert (filter_rows(rows, 3)[:, 0] == 1).all()  # every pixel repeats its left neighbour: Sub


def test_files_are_no_larger_than_opencvs() -> None:
    for seed in range(3):
        image = scene(256, 256, seed)
        assert len(encode_png(image)) <= len(cv2.imencode(".png", image)[1])


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
                                 np.zeros((0, 4, 3), np.uint8)])  # fmt: skip
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        encode_png(bad)


KINDS = {
    "rgb": lambda im: Image.fromarray(im),
    "grey": lambda im: Image.fromarray(im[..., 0]),
    "alpha": lambda im: Image.fromarray(np.dstack([im, im[..., :1]])),
    "palette": lambda im: Image.fromarray(im).quantize(17),
    "bits": lambda im: Image.fromarray(im).convert("1"),
    "sixteen": lambda im: Image.fromarray(im[..., 0].astype(np.uint16) * 257 + 3),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_stored_files_decode_to_the_same_pixels(kind: str) -> None:
    file = io.BytesIO()
    KINDS[kind](scene(211, 233)).save(file, "PNG")
    data = file.getvalue()
    stored = stored_png(data)
    assert stored is not None
    assert len(stored) > len(data)
    for flag in (cv2.IMREAD_COLOR, cv2.IMREAD_UNCHANGED):
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        assert (cv2.imdecode(np.frombuffer(stored, np.uint8), flag) == expected).all()


def test_stored_blocks_are_what_the_specification_says() -> None:
    """The new pixel data inflate, with another library, to the old ones; 150 x 211 x 3 bytes need two blocks."""
    data = encode_png(scene(150, 211))
    stored = stored_png(data)
    assert stored is not None

    def pixels(file: bytes) -> bytes:
        start = file.index(b"IDAT")
        length = int.from_bytes(file[start - 4 : start], "big")
        return zlib.decompress(file[start + 4 : start + 4 + length])

    assert len(pixels(data)) == 150 * (3 * 211 + 1) > 65535
    assert pixels(stored) == pixels(data)


def test_damaged_files_are_left_to_the_decoder() -> None:
    data = cv2.imencode(".png", scene(60, 60))[1].tobytes()
    assert stored_png(data) is not None
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    for bad in (b"", data[:8], data[:middle], data[:-13], data[:-5], flipped, data + b"rest"):
        assert stored_png(bad) is None
    # a checksum that fits, but pixel data that do not inflate
    start = data.index(b"IDAT")
    junk = b"IDAT" + b"junk"
    broken = data[: start - 4] + b"\0\0\0\4" + junk + isal_zlib.crc32(junk).to_bytes(4, "big") + data[-12:]
    assert stored_png(broken) is None
