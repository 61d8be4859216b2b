"""Greedy suppression of upright boxes as one operation: torchvision's here, ``NonMaxSuppression`` in an ONNX file.

The operator answers with as many rows as there are boxes left, and everything after it would have a size that no
runtime knows in advance. What is kept is written as a mask instead, whose size is that of the boxes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

__all__ = ["kept_mask", "kept_mask_onnx"]

#: Boxes scored at or below this are left out; they are marked by a score of -1.
_LEFT_OUT = -0.5


@torch.library.custom_op("fdam_rotate::kept_mask", mutates_args=())
def kept_mask(boxes: Tensor, scores: Tensor, iou_thr: float, max_kept: int) -> Tensor:
    """Which boxes the greedy rule keeps, as 1 and 0.

    Args:
        boxes: (B, N, 4) x1, y1, x2, y2.
        scores: (B, N) float32; a box scored below -0.5 is not kept and suppresses none.
        iou_thr: a box goes where it overlaps a better one that stays by more than this.
        max_kept: the most boxes kept in an image, the best.

    Returns:
        (B, N) float32.
    """
    mask = torch.zeros_like(scores)
    for image, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        present = torch.nonzero(score > _LEFT_OUT)[:, 0]
        mask[image, present[nms(box[present], score[present], iou_thr)[:max_kept]]] = 1
    return mask


@kept_mask.register_fake
def _(boxes: Tensor, scores: Tensor, iou_thr: float, max_kept: int) -> Tensor:
    return torch.empty_like(scores)


def kept_mask_onnx(boxes: Any, scores: Any, iou_thr: float, max_kept: int) -> Any:
    """`kept_mask` for ``torch.onnx.export``."""
    from onnxscript import opset18 as op

    picked = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[max_kept]),
        op.Constant(value_floats=[iou_thr]),
        op.Constant(value_floats=[_LEFT_OUT]),
    )  # rows of image, class, box; there is one class, so its column is all zeros
    places = op.Gather(picked, op.Constant(value_ints=[0, 2]), axis=1)
    zeros = op.Squeeze(op.Gather(picked, op.Constant(value_ints=[1]), axis=1), op.Constant(value_ints=[1]))
    ones = op.Add(op.Cast(zeros, to=1), op.Constant(value_float=1.0))  # 1 is float32
    return op.ScatterND(op.Sub(scores, scores), places, ones)
