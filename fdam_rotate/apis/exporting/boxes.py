"""Boxes from what heads predict, in operations that exporters know."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["midpoint_boxes", "normalized_angle", "upright_bounds", "upright_boxes"]

#: Sides change by a factor of 62.5 at most, as in MMDetection's coders.
_LIMIT = abs(math.log(16 / 1000))


def normalized_angle(angle: Tensor, version: str) -> Tensor:
    """Angles (radians) in the range of ``version``: 'le90' [-pi/2, pi/2), 'le135' [-pi/4, 3/4 pi), 'oc' as they are."""
    if version == "oc":
        return angle
    start = {"le90": math.pi / 2, "le135": math.pi / 4}[version]
    return torch.remainder(angle + start, math.pi) - start


def upright_bounds(boxes: Tensor) -> Tensor:
    """(..., 5) oriented boxes to the (..., 4) upright ones round them: x1, y1, x2, y2."""
    half_w, half_h = boxes[..., 2] / 2, boxes[..., 3] / 2
    cosine, sine = torch.cos(boxes[..., 4]), torch.sin(boxes[..., 4])
    dx = torch.abs(half_w * cosine) + torch.abs(half_h * sine)
    dy = torch.abs(half_w * sine) + torch.abs(half_h * cosine)
    x, y = boxes[..., 0], boxes[..., 1]
    return torch.stack([x - dx, y - dy, x + dx, y + dy], -1)


def upright_boxes(
    anchors: Tensor, deltas: Tensor, means: Sequence[float], stds: Sequence[float], shape: Sequence[int] | None
) -> Tensor:
    """Upright boxes moved and scaled as in Faster R-CNN (Ren et al., 2015, section 3.1.2), cut off at the image.

    Args:
        anchors: (..., 4) x1, y1, x2, y2.
        deltas: (..., 4) dx, dy, dw, dh.
        means: of the deltas.
        stds: of the deltas.
        shape: (H, W) of the image; None cuts nothing off.

    Returns:
        (..., 4) x1, y1, x2, y2.
    """
    x, y, width, height = _moved(anchors, *(deltas * deltas.new_tensor(stds) + deltas.new_tensor(means)).unbind(-1))
    half_w, half_h = width * 0.5, height * 0.5
    across, down = [x - half_w, x + half_w], [y - half_h, y + half_h]
    if shape is not None:
        across, down = [side.clamp(0, shape[1]) for side in across], [side.clamp(0, shape[0]) for side in down]
    return torch.stack([across[0], down[0], across[1], down[1]], -1)


def midpoint_boxes(
    anchors: Tensor, deltas: Tensor, means: Sequence[float], stds: Sequence[float], version: str
) -> Tensor:
    """Oriented boxes of Oriented R-CNN's midpoint offsets (Xie et al., ICCV 2021, section 3.1).

    An upright box is moved and scaled as in Faster R-CNN; two more numbers say where the oriented box touches its top
    and its right side. The parallelogram of these points and their mirror images becomes a rectangle by making its
    diagonals equal, as in MMRotate's ``MidpointOffsetCoder``, whose results these are.

    Args:
        anchors: (..., 4) x1, y1, x2, y2.
        deltas: (..., 6) dx, dy, dw, dh, and the two offsets in shares of width and height.
        means: of the deltas.
        stds: of the deltas.
        version: range of the angle.

    Returns:
        (..., 5) cx, cy, w, h, angle with w >= h.
    """
    dx, dy, dw, dh, top, right = (deltas * deltas.new_tensor(stds) + deltas.new_tensor(means)).unbind(-1)
    x, y, width, height = _moved(anchors, dx, dy, dw, dh)
    # from the centre to the point on the top side, and to the one on the right side
    top_x, top_y = top.clamp(-0.5, 0.5) * width, -0.5 * height
    right_x, right_y = 0.5 * width, right.clamp(-0.5, 0.5) * height
    top_length, right_length = _length(top_x, top_y), _length(right_x, right_y)
    longest = torch.maximum(top_length, right_length)
    top_x, top_y = top_x * (longest / top_length), top_y * (longest / top_length)
    right_x, right_y = right_x * (longest / right_length), right_y * (longest / right_length)
    first_x, first_y = right_x - top_x, right_y - top_y  # the side from the top to the right point
    second_x, second_y = -right_x - top_x, -right_y - top_y  # the side from the top to the left point
    first, second = _length(first_x, first_y), _length(second_x, second_y)
    angle = torch.where(first > second, torch.atan2(first_y, first_x), torch.atan2(second_y, second_x))
    sides = torch.maximum(first, second), torch.minimum(first, second)
    return torch.stack([x, y, *sides, normalized_angle(angle, version)], -1)


def _length(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)  # ONNX has no hypot


def _moved(anchors: Tensor, dx: Tensor, dy: Tensor, dw: Tensor, dh: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centres and sides of anchors (..., 4) after shifts in sides and logarithms of growth, (...) each."""
    width, height = anchors[..., 2] - anchors[..., 0], anchors[..., 3] - anchors[..., 1]
    x = (anchors[..., 0] + anchors[..., 2]) * 0.5 + width * dx
    y = (anchors[..., 1] + anchors[..., 3]) * 0.5 + height * dy
    return x, y, width * dw.clamp(-_LIMIT, _LIMIT).exp(), height * dh.clamp(-_LIMIT, _LIMIT).exp()
