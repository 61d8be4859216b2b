"""The PNG encoder, judged by two decoders that are not ours: OpenCV and Pillow."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from prep_scenes import texture

from fdam_rotate.dota.rasters.png import encode_png, filter_rows


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    return texture(np.random.default_rng(seed), width, height)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 3), (33, 17), (64, 64), (65, 5), (129, 5)])
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


def test_two_rows_are_enough_for_the_choice() -> None:
    row = np.random.default_rng(0).integers(0, 256, size=(1, 90), dtype=np.uint8)
    assert filter_rows(np.tile(row, (2, 1)), 3)[:, 0].tolist() == [2, 2]
    assert filter_rows(row, 3)[:, 0].tolist() == [1]


def test_files_are_no_larger_than_opencvs() -> None:
    for seed in range(3):
        image = scene(256, 256, seed)
        assert len(encode_png(image)) <= len(cv2.imencode(".png", image)[1])


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
                                 np.zeros((0, 4, 3), np.uint8)])  # fmt: skip
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        encode_png(bad)
