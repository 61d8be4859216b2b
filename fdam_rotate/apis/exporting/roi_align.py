"""RoIAlign over the levels of a pyramid in operations that every runtime has.

Rotated boxes take one gather and small products. The rule is mmcv's ``RoIAlignRotated`` (after detectron2's
``ROIAlignRotated``) with ``aligned=True``: each bin averages ``samples`` x ``samples`` points, a point is interpolated
from four pixels, one more than a pixel outside counts zero. All levels lie below each other in one table of pixels, so
that a box finds its level by a row number and the sizes of everything are known in advance. The pixels of a bin are
gathered for some thousand bins at a time: for all boxes of an image at once they would take a gigabyte and more.

Upright boxes take ONNX's own operator, which knows the rule of RoI Transformer's first stage: the larger the box, the
more points a bin. It runs over each level with all boxes, those of other levels moved to one pixel and their result set
to zero. So all sizes are known, and of such a box only one point a bin is computed in vain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align

__all__ = ["level_pool", "level_pool_onnx", "pool_rotated", "pool_upright"]

#: Values gathered at a time, 8 MB of float32: what stays in a cache between gather and product costs half.
_CHUNK_VALUES = 1 << 21


def pool_rotated(
    maps: Sequence[Tensor],
    boxes: Tensor,
    strides: Sequence[int],
    *,
    finest_scale: float,
    side: int,
    samples: int,
    clockwise: bool,
) -> Tensor:
    """The features of boxes, averaged over ``side`` x ``side`` bins, from the level that fits each box's size.

    Args:
        maps: levels (B, C, H, W), fine to coarse.
        boxes: (B, P, 5) cx, cy, w, h (pixels of the image), angle (radians).
        strides: pixels of the image to one of each level.
        finest_scale: boxes with sqrt(w * h) below twice this take the first level, below four times this the second,
            and so on.
        side: bins along each side.
        samples: points along each side of a bin.
        clockwise: positive angles turn clockwise on the screen.

    Returns:
        (B * P, side * side, C), bins row by row, rows along the box's height.
    """
    batch, count = boxes.shape[:2]
    channels = maps[0].shape[1]
    table = torch.cat([level.flatten(2) for level in maps], 2).transpose(1, 2).reshape(-1, channels)
    pixels = [level.shape[2] * level.shape[3] for level in maps]
    starts = [sum(pixels[:k]) for k in range(len(maps))]

    level = _level_of(boxes[..., 2] * boxes[..., 3], finest_scale, len(maps))
    facts = boxes.new_tensor(
        [(1 / stride, m.shape[2], m.shape[3], start) for stride, m, start in zip(strides, maps, starts, strict=True)]
    )
    facts = facts.index_select(0, level.flatten()).view(batch, count, 4)
    scale, height, width, start = (facts[..., k, None, None] for k in range(4))  # (B, P, 1, 1) each
    center_x, center_y, box_w, box_h, angle = (boxes[..., k, None, None] for k in range(5))

    points = side * samples
    offsets = (torch.arange(points, dtype=boxes.dtype, device=boxes.device) + 0.5) / points - 0.5
    along_y, along_x = offsets[:, None] * (box_h * scale), offsets[None, :] * (box_w * scale)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    if not clockwise:
        sine = -sine
    y = along_y * cosine + along_x * sine + (center_y * scale - 0.5)  # (B, P, points, points)
    x = along_x * cosine - along_y * sine + (center_x * scale - 0.5)

    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = torch.minimum(y.clamp(min=0), height - 1), torch.minimum(x.clamp(min=0), width - 1)
    top, left = torch.floor(y), torch.floor(x)
    bottom, right = torch.minimum(top + 1, height - 1), torch.minimum(left + 1, width - 1)
    low_y, low_x = y - top, x - left
    share = inside.to(boxes.dtype) / samples**2
    high_y, high_x = (1 - low_y) * share, 1 - low_x
    low_y = low_y * share
    weights = torch.stack([high_y * high_x, high_y * low_x, low_y * high_x, low_y * low_x], -1)
    top, bottom = start + top * width, start + bottom * width
    rows = torch.stack([top + left, top + right, bottom + left, bottom + right], -1).long()
    image = torch.arange(batch, device=boxes.device)[:, None, None, None, None] * sum(pixels)
    rows, weights = _by_bins(rows + image, side, samples), _by_bins(weights, side, samples)

    step = max(1, _CHUNK_VALUES // (rows.shape[1] * channels))
    pooled = [
        torch.matmul(weight[:, None], table.index_select(0, row.flatten()).view(*row.shape, channels))[:, 0]
        for row, weight in ((rows[i : i + step], weights[i : i + step]) for i in range(0, len(rows), step))
    ]
    return torch.cat(pooled).reshape(batch * count, side * side, channels)


def pool_upright(
    maps: Sequence[Tensor], boxes: Tensor, strides: Sequence[int], *, finest_scale: float, side: int
) -> Tensor:
    """The features of upright boxes, averaged over ``side`` x ``side`` bins, from the level that fits each box's size.

    A bin of h x w pixels of the level has ceil(h) x ceil(w) points; a box without an area is all zeros.

    Args:
        maps: levels (B, C, H, W), fine to coarse.
        boxes: (B, P, 4) x1, y1, x2, y2 in pixels of the image.
        strides: pixels of the image to one of each level.
        finest_scale: as for `pool_rotated`.
        side: bins along each side.

    Returns:
        (B * P, C, side, side).
    """
    batch, count = boxes.shape[:2]
    image = torch.arange(batch, device=boxes.device)[:, None].expand(batch, count).reshape(-1)
    flat = boxes.reshape(-1, 4)
    area = (flat[:, 2] - flat[:, 0]) * (flat[:, 3] - flat[:, 1])
    level = _level_of(area, finest_scale, len(maps))
    total: Tensor | None = None
    for number, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        here = ((level == number) & (area > 0)).to(flat.dtype)[:, None]
        chosen = flat * here + flat.new_tensor([0.0, 0.0, stride, stride]) * (1 - here)
        pooled = level_pool(features, chosen, image, 1 / stride, side) * here[..., None, None]
        total = pooled if total is None else total + pooled
    assert total is not None
    return total


@torch.library.custom_op("fdam_rotate::level_pool", mutates_args=())
def level_pool(features: Tensor, boxes: Tensor, image: Tensor, scale: float, side: int) -> Tensor:
    """RoIAlign of one level, with points by the size of the box: ``RoiAlign`` in an ONNX file.

    Args:
        features: (B, C, H, W).
        boxes: (N, 4) x1, y1, x2, y2.
        image: (N,) int64, each box's image.
        scale: pixels of the level to one of the boxes' coordinates.
        side: bins along each side.

    Returns:
        (N, C, side, side).
    """
    return roi_align(features, torch.cat([image[:, None].to(boxes.dtype), boxes], 1), side, scale, aligned=True)


@level_pool.register_fake
def _(features: Tensor, boxes: Tensor, image: Tensor, scale: float, side: int) -> Tensor:
    return features.new_empty(len(boxes), features.shape[1], side, side)


def level_pool_onnx(features: Any, boxes: Any, image: Any, scale: float, side: int) -> Any:
    """`level_pool` for ``torch.onnx.export``."""
    from onnxscript import opset18 as op

    return op.RoiAlign(
        features,
        boxes,
        image,
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=side,
        output_width=side,
        sampling_ratio=0,
        spatial_scale=scale,
    )


def _level_of(area: Tensor, finest_scale: float, levels: int) -> Tensor:
    """Numbers of the levels for boxes of these areas."""
    scale = torch.sqrt(area) / finest_scale
    return torch.floor(torch.log2(scale + 1e-6)).clamp(0, levels - 1).long()


def _by_bins(values: Tensor, side: int, samples: int) -> Tensor:
    """(B, P, side * samples, side * samples, 4) -> (B * P * side * side, samples * samples * 4)."""
    values = values.reshape(-1, side, samples, side, samples, 4)
    return values.permute(0, 1, 3, 2, 4, 5).reshape(-1, samples * samples * 4)
