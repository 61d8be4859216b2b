"""What the detectors of the check are trained on: turned bright boxes on noise, with their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.geometry import le90_to_poly

__all__ = ["CLASSES", "batch", "metas", "scene", "write_patches"]

CLASSES = DOTA_CLASSES["v1.0"]
_OBJECTS = 6


def scene(side: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (side, side, 3), the le90 boxes (N, 5) in it, and their classes (N,)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 120, (side, side, 3), dtype=np.uint8)
    sides = np.sort(rng.uniform(side / 8, side / 4, (_OBJECTS, 2)))[:, ::-1]
    places = rng.uniform(side / 5, side * 4 / 5, (_OBJECTS, 2))
    boxes = np.column_stack([places, sides, rng.uniform(-1.5, 1.5, _OBJECTS)])
    for poly in le90_to_poly(boxes).reshape(-1, 4, 2):
        cv2.fillPoly(image, [poly.round().astype(np.int32)], (220, 220, 220))
    return image, boxes, rng.integers(0, len(CLASSES), _OBJECTS)


def batch(side: int, seed: int, count: int = 2) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Images (count, 3, side, side), normalised, with the boxes and labels of each."""
    parts = [scene(side, seed * count + number) for number in range(count)]
    images = torch.from_numpy(np.stack([image for image, _, _ in parts])).permute(0, 3, 1, 2).float()
    boxes = [torch.from_numpy(boxes).float() for _, boxes, _ in parts]
    return (images - 110) / 58, boxes, [torch.from_numpy(labels) for _, _, labels in parts]


def metas(side: int, count: int = 2) -> list[dict[str, Any]]:
    """What MMRotate wants to know of each image of a batch."""
    shape = (side, side, 3)
    one = {"img_shape": shape, "pad_shape": shape, "ori_shape": shape, "scale_factor": np.ones(4), "flip": False}
    return [{**one, "filename": f"scene {number}"} for number in range(count)]


def write_patches(folder: Path, side: int, count: int) -> None:
    """``folder/images`` and ``folder/annfiles`` with as many scenes, as patches of a split."""
    for part in ("images", "annfiles"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image, boxes, labels = scene(side, number)
        name = f"scene{number}__{side}__0___0"
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
        rows = zip(le90_to_poly(boxes), labels, strict=True)
        lines = [" ".join(f"{v:.1f}" for v in poly.ravel()) + f" {CLASSES[label]} 0\n" for poly, label in rows]
        (folder / "annfiles" / f"{name}.txt").write_text("".join(lines))
