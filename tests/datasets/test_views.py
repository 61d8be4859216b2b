"""Boxes of flipped and turned images come back to where they are in the image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmdet.datasets.pipelines import Compose

import fdam_rotate.datasets  # noqa: F401
from fdam_rotate.datasets.views import FlipTurnAug, check_views, turn_back
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_iou, poly_to_le90

WIDTH, HEIGHT = 90, 60
STEPS = [
    {"type": "RResize"},
    {"type": "Pad", "size_divisor": 32},
    {"type": "DefaultFormatBundle"},
    {"type": "Collect", "keys": ["img"]},
]
FLIP = {"type": "RRandomFlip"}


def _image() -> tuple[np.ndarray, np.ndarray]:
    """A bright oblong that is not symmetric to any axis, and its corners in continuous pixels."""
    corners = cv2.boxPoints(((30.0, 20.0), (40.0, 12.0), 25.0))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    fixed = np.round((corners - 0.5) * 256).astype(np.int32)  # fillPoly's coordinates are those of pixel centres
    cv2.fillPoly(image, [fixed], (255, 255, 255), shift=8)
    return image, corners.reshape(1, 8)


def _found(image: np.ndarray) -> np.ndarray:
    """The oblong as (1, 6), found without knowing of flips."""
    y, x = np.nonzero(image.max(2) > 100)
    centre = np.array([x.mean() + 0.5, y.mean() + 0.5])
    values, vectors = np.linalg.eigh(np.cov(x, y))
    sides = np.sqrt(12 * values)  # of an even oblong
    along = vectors[:, 1] * sides[1] / 2
    across = vectors[:, 0] * sides[0] / 2
    poly = np.concatenate([centre + s * along + t * across for s, t in ((1, 1), (1, -1), (-1, -1), (-1, 1))])
    return np.concatenate([poly_to_le90(poly[None]), [[0.9]]], axis=1)


@pytest.mark.parametrize("scale", [{"scale_factor": 1.0}, {"img_scale": (180, 180)}])
def test_every_view_finds_the_same_box(scale):
    image, corners = _image()
    aug = FlipTurnAug(
        STEPS, flip=True, flip_direction=["horizontal", "vertical", "diagonal"], turns=[90, 180, 270], **scale
    )
    views = aug({"img": image, "img_fields": ["img"], "filename": "a.png", "ori_filename": "a.png"})
    assert len(views["img"]) == len(views["img_metas"]) == 7
    seen = set()
    for pixels, wrapped in zip(views["img"], views["img_metas"], strict=True):
        meta, shown = wrapped.data, pixels.data.numpy().transpose(1, 2, 0)
        seen.add(shown.tobytes())
        assert meta["ori_shape"] == ((WIDTH, HEIGHT, 3) if meta["view"] in (90, 270) else (HEIGHT, WIDTH, 3))
        boxes = _found(shown)
        boxes[:, :4] /= meta["scale_factor"][0]  # as detectors do
        before = boxes.copy()
        back = turn_back(boxes, meta)
        assert (boxes == before).all(), "a detector's results are its own"
        assert pairwise_iou(le90_to_poly(back[:, :5]), corners) > 0.93, meta["view"]
        np.testing.assert_allclose(back[0, :2], (30, 20), atol=0.3)
        assert back[0, 5] == 0.9
        assert -np.pi / 2 <= back[0, 4] < np.pi / 2
    assert len(seen) == 6, "diagonal is half a turn"


def test_the_flips_of_mmdetection_are_turned_back_too():
    image, corners = _image()
    aug = Compose(
        [{"type": "MultiScaleFlipAug", "scale_factor": 1.0, "flip": True, "flip_direction": ["vertical", "diagonal"],
          "transforms": [STEPS[0], FLIP, *STEPS[1:]]}]
    )  # fmt: skip
    views = aug({"img": image, "img_shape": image.shape, "ori_shape": image.shape, "img_fields": ["img"],
                 "filename": "a.png", "ori_filename": "a.png"})  # fmt: skip
    assert [wrapped.data["flip_direction"] for wrapped in views["img_metas"]] == [None, "vertical", "diagonal"]
    for pixels, wrapped in zip(views["img"], views["img_metas"], strict=True):
        back = turn_back(_found(pixels.data.numpy().transpose(1, 2, 0)), wrapped.data)
        assert pairwise_iou(le90_to_poly(back[:, :5]), corners) > 0.93


def test_a_flip_that_does_not_flip_is_refused():
    steps = [{"type": "MultiScaleFlipAug", "flip": True, "transforms": STEPS}]
    with pytest.raises(DotaError, match="needs a step RRandomFlip"):
        check_views(steps)
    check_views([{**steps[0], "flip": False}])
    for kind in ("RRandomFlip", "RandomFlip"):
        check_views([{**steps[0], "transforms": [*STEPS, {"type": kind}]}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale_factor": 1.0, "turns": [45]}, "got 45"),
        ({"scale_factor": 1.0, "flip_direction": "left"}, "got 'left'"),
        ({"scale_factor": 1.0, "img_scale": (8, 8)}, "either img_scale or scale_factor"),
        ({}, "either img_scale or scale_factor"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        FlipTurnAug(STEPS, **settings)


def test_it_flips_by_itself():
    with pytest.raises(ValueError, match="drop RandomFlip"):
        FlipTurnAug([*STEPS, FLIP], scale_factor=1.0)


def test_several_scales_give_all_views():
    aug = FlipTurnAug(STEPS, img_scale=[(64, 64), (128, 128)], turns=[90])
    assert aug.scales == [(64, 64), (128, 128)]
    assert aug.views == [0, 90]
    for scale in ((64, 96), [64, 96]):  # as Python and JSON write one
        assert FlipTurnAug(STEPS, img_scale=scale).scales == [(64, 96)]
    assert FlipTurnAug(STEPS, img_scale=[[64, 64], [128, 128]]).scales == aug.scales
    assert FlipTurnAug(STEPS, img_scale=((64, 64), (128, 128))).scales == aug.scales
    for factors in ([0.5, 1.0], (0.5, 1.0)):
        assert FlipTurnAug(STEPS, scale_factor=factors).scales == [0.5, 1.0]
    for whole in (2, [2]):
        image = dict(img=np.zeros((32, 64, 3), np.uint8), img_fields=["img"], filename="a.png", ori_filename="a.png")
        found = FlipTurnAug(STEPS, scale_factor=whole)(image)
        assert found["img"][0].data.shape == (3, 64, 128), "a whole number is a factor too"


def test_a_flip_is_horizontal_where_nothing_is_said():
    assert FlipTurnAug(STEPS, scale_factor=1.0, flip=True).views == [0, "horizontal"]
    assert FlipTurnAug(STEPS, scale_factor=1.0).views == [0]


@pytest.mark.parametrize("turn", [0, 45, 360, -90])
def test_turns_are_quarters_of_their_own(turn):
    with pytest.raises(ValueError, match=rf"turns are of \(90, 180, 270\); got {turn}"):
        FlipTurnAug(STEPS, scale_factor=1.0, turns=[turn])
