"""An image flipped and turned, to be detected on several times: test-time augmentation.

The detector sees each view as an image of its own; `turn_back` brings what it finds there into the image.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets.builder import PIPELINES
from mmdet.datasets.pipelines import Compose

from fdam_rotate.dota.errors import DotaError

__all__ = ["FLIPS", "FlipTurnAug", "check_views", "turn_back"]

#: What a direction mirrors: (x, y).
FLIPS = {"horizontal": (True, False), "vertical": (False, True), "diagonal": (True, True)}
_TURNS = (90, 180, 270)


@PIPELINES.register_module()
class FlipTurnAug:
    """MMDetection's ``MultiScaleFlipAug`` with quarter turns; it flips by itself, so that ``transforms`` must not.

    Args:
        transforms: steps for each view.
        img_scale: (width, height) or several; each gives all views. Either this or ``scale_factor``.
        scale_factor: a factor, or several.
        flip: detect on the flipped image too.
        flip_direction: one or several of ``'horizontal'``, ``'vertical'``, ``'diagonal'``.
        turns: degrees counter-clockwise to turn the image by, of 90, 180 and 270; each is one view more.
    """

    def __init__(
        self,
        transforms: Sequence[dict[str, Any]],
        img_scale: tuple[int, int] | Sequence[tuple[int, int]] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        flip: bool = False,
        flip_direction: str | Sequence[str] = "horizontal",
        turns: Sequence[int] = (),
    ) -> None:
        if (img_scale is None) == (scale_factor is None):
            raise ValueError("give either img_scale or scale_factor")
        if any(step["type"] in ("RandomFlip", "RRandomFlip") for step in transforms):
            raise ValueError("FlipTurnAug flips by itself; drop RandomFlip from its transforms")
        directions = [flip_direction] if isinstance(flip_direction, str) else list(flip_direction)
        if unknown := [d for d in directions if d not in FLIPS] + [t for t in turns if t not in _TURNS]:
            raise ValueError(f"flip_direction is one of {', '.join(FLIPS)}, turns are of {_TURNS}; got {unknown[0]!r}")
        self.transforms = Compose(transforms)
        self.scale_key = "scale" if scale_factor is None else "scale_factor"
        if img_scale is not None:
            sizes = img_scale if isinstance(img_scale[0], Sequence) else [img_scale]
            self.scales: list[Any] = [tuple(size) for size in sizes]
        else:
            factors = scale_factor if isinstance(scale_factor, Sequence) else [scale_factor]
            self.scales = [float(factor) for factor in factors]  # a whole number stops MMDetection's Resize
        self.views: list[str | int] = [0, *(directions if flip else []), *turns]

    def __call__(self, results: dict[str, Any]) -> dict[str, list[Any]]:
        """Lists of what ``transforms`` give for each view, the plain image first."""
        made = []
        for scale in self.scales:
            for view in self.views:
                own = copy.copy(results)
                own["img"] = _view(results["img"], view)
                own["img_shape"] = own["ori_shape"] = own["img"].shape
                own.update({self.scale_key: scale, "flip": False, "flip_direction": None})
                one = self.transforms(own)
                one["img_metas"].data["view"] = view
                made.append(one)
        return {key: [one[key] for one in made] for key in made[0]}


def _view(image: np.ndarray, view: str | int) -> np.ndarray:
    if isinstance(view, str):
        mirror_x, mirror_y = FLIPS[view]
        image = image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
    else:
        image = np.rot90(image, view // 90)
    return np.ascontiguousarray(image)


def turn_back(boxes: np.ndarray, meta: dict[str, Any]) -> np.ndarray:
    """Boxes of a view in pixels of the image.

    Args:
        boxes: (N, 6) of cx, cy, w, h, angle (radians, clockwise on the screen), score, in continuous pixels of the view
            at its original scale.
        meta: of the view, as ``FlipTurnAug``, or ``MultiScaleFlipAug`` with a ``RandomFlip`` step, leave it.

    Returns:
        (N, 6), the same dtype; the angle is in [-pi/2, pi/2).
    """
    boxes = boxes.copy()
    height, width = meta["ori_shape"][:2]  # of the view
    view: str | int = meta.get("view", 0)
    flips: list[str] = [meta["flip_direction"]] if meta.get("flip") else []
    if isinstance(view, str):
        flips.append(view)
    for direction in flips:
        mirror_x, mirror_y = FLIPS[direction]
        if mirror_x:
            boxes[:, 0] = width - boxes[:, 0]
        if mirror_y:
            boxes[:, 1] = height - boxes[:, 1]
        if mirror_x != mirror_y:
            boxes[:, 4] = -boxes[:, 4]
    if not isinstance(view, str):
        for _ in range(view // 90):  # a quarter clockwise: what was on top comes to the right
            boxes[:, 0], boxes[:, 1] = height - boxes[:, 1], boxes[:, 0].copy()
            boxes[:, 4] += math.pi / 2
            height, width = width, height
    boxes[:, 4] = (boxes[:, 4] + math.pi / 2) % math.pi - math.pi / 2
    return boxes


def check_views(steps: Sequence[dict[str, Any]]) -> None:
    """Refuse a ``MultiScaleFlipAug`` that only says that it flips: its boxes would be turned back all the same.

    Raises:
        DotaError: ``flip=True`` without a flipping step in its transforms.
    """
    for step in steps:
        if step["type"] == "MultiScaleFlipAug" and step.get("flip"):
            if not any(inner["type"] in ("RandomFlip", "RRandomFlip") for inner in step["transforms"]):
                raise DotaError(
                    "MultiScaleFlipAug with flip=True needs a step RRandomFlip in its transforms; or take FlipTurnAug"
                )
