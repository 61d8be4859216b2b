"""The PNG encoder and decoder, judged by two decoders that are not ours: OpenCV and Pillow."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from prep_scenes import texture

from fdam_rotate.dota.rasters.png import decode_plain_png, encode_png, filter_rows


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


@pytest.mark.parametrize("shape", [(1, 2), (1, 7), (7, 2), (211, 233)])
def test_the_plain_form_is_decoded_as_opencv_does(shape: tuple[int, int]) -> None:
    image = scene(*shape)
    data = cv2.imencode(".png", image)[1].tobytes()
    decoded = decode_plain_png(data)
    assert decoded is not None
    assert decoded.flags.c_contiguous
    assert (decoded == image).all()
    assert (decoded == cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)).all()


def saved(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def test_other_forms_are_left_to_opencv() -> None:
    image = scene(40, 50)
    exif = Image.Exif()
    exif[0x0112] = 6
    others = {
        "up": encode_png(np.repeat(image[:1], 40, axis=0)),
        "mixed filters": saved(Image.fromarray(image)),
        "grey": cv2.imencode(".png", image[..., 0])[1].tobytes(),
        "alpha": cv2.imencode(".png", np.dstack([image, image[..., :1]]))[1].tobytes(),
        "sixteen": cv2.imencode(".png", image.astype(np.uint16) * 257)[1].tobytes(),
        "palette": saved(Image.fromarray(image).quantize(17)),
        "jpeg": cv2.imencode(".jpg", image)[1].tobytes(),
        "nothing": b"",
    }
    for name, data in others.items():
        assert decode_plain_png(data) is None, name
    # the plain form, but with an orientation or a transparent colour: put behind the header, at byte 33
    plain = cv2.imencode(".png", image)[1].tobytes()
    for kind, content in ((b"eXIf", exif.tobytes()[6:]), (b"tRNS", b"\0\1\0\2\0\3")):
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        chunk = len(content).to_bytes(4, "big") + kind + content + check
        assert decode_plain_png(plain[:33] + chunk + plain[33:]) is None, kind


def test_damaged_files_are_left_to_opencv() -> None:
    data = cv2.imencode(".png", scene(60, 60))[1].tobytes()
    assert decode_plain_png(data) is not None
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    wrong_check = data[:-16] + bytes([data[-16] ^ 1]) + data[-15:]  # right pixels, wrong CRC of the last IDAT
    for bad in (data[:8], data[:middle], data[:-13], data[:-5], flipped, wrong_check, data + b"rest"):
        assert decode_plain_png(bad) is None
    # checksums that fit, but pixel data that do not inflate, or to too little
    start = data.index(b"IDAT")
    for content in (b"junk", zlib.compress(bytes(100)), zlib.compress(bytes(60 * 181))[:-6]):
        junk = b"IDAT" + content
        check = zlib.crc32(junk).to_bytes(4, "big")
        broken = data[: start - 4] + len(content).to_bytes(4, "big") + junk + check + data[-12:]
        assert decode_plain_png(broken) is None
