"""S2ANet and R3Det as one module each: one-stage detectors that sample features where their first boxes lie.

Both samplings are `grid_sample` here, which ONNX has: mmcv's deformable convolution takes what lies outside as zero,
its ``rotated_feature_align`` repeats the border for a pixel and takes zero beyond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdam_rotate.apis.exporting.candidates import expect, take
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.one_stage import OneStageCandidates, rows

__all__ = ["R3DetCandidates", "S2ANetCandidates", "aligned_convolution", "aligned_features"]


class S2ANetCandidates(OneStageCandidates):
    """MMRotate's ``S2ANet``: one anchor at each place, refined, then a convolution that samples along the box."""

    head_name, head_kind = "odm_head", "ODMRefineHead"

    def __init__(self, detector: nn.Module, steps: Mapping[str, Any], max_boxes: int | None = None) -> None:
        super().__init__(detector, steps, max_boxes)
        expect(type(detector.fam_head).__name__, "RotatedRetinaHead", "fam_head")
        if detector.fam_head.num_anchors != 1:
            raise ExportError(f"fam_head: exported is one anchor at each place, got {detector.fam_head.num_anchors}")
        self.head.or_conv = _rotated_filters(self.head.or_conv)

    def levels(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The refined boxes are the places; there is no factor."""
        first = self.detector.fam_head
        anchors = first.anchor_generator.grid_priors([level.shape[-2:] for level in maps], device=maps[0].device)
        found = []
        for level, places, align in zip(maps, anchors, self.detector.align_conv.ac, strict=True):
            boxes = _decoded(
                first.bbox_coder, places.expand(len(level), -1, -1), rows(first.forward_single(level)[1], 5)
            )
            logits, deltas = self.head.forward_single(aligned_convolution(level, boxes, align))
            scores = rows(logits, self.classes).sigmoid()
            found.append((scores, torch.ones_like(scores[..., 0]), boxes, rows(deltas, 5)))
        return found


class R3DetCandidates(OneStageCandidates):
    """MMRotate's ``R3Det``: the best anchor of each place, refined with features from its centre, once or more."""

    head_name, head_kind = "refine_head", "RotatedRetinaRefineHead"

    def __init__(self, detector: nn.Module, steps: Mapping[str, Any], max_boxes: int | None = None) -> None:
        super().__init__(detector, steps, max_boxes)
        expect(type(detector.bbox_head).__name__, "RotatedRetinaHead", "bbox_head")

    def levels(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The boxes of the last but one stage are the places; there is no factor."""
        first = self.detector.bbox_head
        sizes = [level.shape[-2:] for level in maps]
        anchors = first.anchor_generator.grid_priors(sizes, device=maps[0].device)
        found = []
        for number, (level, places) in enumerate(zip(maps, anchors, strict=True)):
            logits, deltas = first.forward_single(level)
            best = rows(logits, self.classes).amax(-1).view(len(level), -1, first.num_anchors).argmax(-1)
            best = best + torch.arange(best.shape[1]) * first.num_anchors
            boxes = _decoded(
                first.bbox_coder, take(places.expand(len(level), -1, -1), best), take(rows(deltas, 5), best)
            )
            for stage, (module, head) in enumerate(
                zip(self.detector.feat_refine_module, self.detector.refine_head, strict=True)
            ):
                if stage > 0:
                    boxes = _decoded(head.bbox_coder, boxes, rows(deltas, 5))
                features = module.conv_5_1(module.conv_1_5(level)) + module.conv_1_1(level)
                refined = level + aligned_features(features, boxes, module.featmap_strides[number])
                logits, deltas = head.forward_single(refined)
            scores = rows(logits, self.classes).sigmoid()
            found.append((scores, torch.ones_like(scores[..., 0]), boxes, rows(deltas, 5)))
        return found


def aligned_convolution(level: Tensor, boxes: Tensor, align: Any) -> Tensor:
    """MMRotate's ``AlignConv``: a convolution whose points lie in a grid over the box of each place.

    Args:
        level: (B, C, H, W).
        boxes: (B, H * W, 5) cx, cy, w, h (pixels of the image), angle.
        align: the module, for its weights, stride and kernel size.

    Returns:
        (B, C', H, W).
    """
    batch, channels, height, width = level.shape
    side, layer = align.kernel_size, align.deform_conv
    center_x, center_y, box_w, box_h = (boxes[..., k] / align.stride for k in range(4))
    cosine, sine = torch.cos(boxes[..., 4]), torch.sin(boxes[..., 4])
    step = torch.arange(side, dtype=boxes.dtype) - (side - 1) // 2
    down, across = (part.reshape(-1, 1) for part in torch.meshgrid(step, step, indexing="ij"))  # (k * k, 1)
    x, y = across * (box_w / side)[:, None], down * (box_h / side)[:, None]  # (B, k * k, H * W)
    turned_x = cosine[:, None] * x - sine[:, None] * y + center_x[:, None]
    turned_y = sine[:, None] * x + cosine[:, None] * y + center_y[:, None]
    shape = (batch, side * side * height, width)
    sampled = F.grid_sample(
        level, _grid(turned_x.view(shape), turned_y.view(shape), height, width), align_corners=False
    )
    sampled = sampled.view(batch, channels * side * side, height, width)
    return F.relu(F.conv2d(sampled, layer.weight.view(len(layer.weight), -1, 1, 1)))


def aligned_features(features: Tensor, boxes: Tensor, stride: int) -> Tensor:
    """What mmcv's ``rotated_feature_align`` does with one point: features plus those at the centre of each place's box.

    It takes a box's first number as the row and its second as the column; that is how R3Det in MMRotate was trained.

    Args:
        features: (B, C, H, W).
        boxes: (B, H * W, 5), in pixels of the image.
        stride: pixels of the image to one of the features.
    """
    batch, _, height, width = features.shape
    y, x = (boxes[..., k].view(batch, height, width) / stride for k in (0, 1))
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    grid = _grid(x, y, height, width)
    sampled = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
    return features + sampled * inside.to(features.dtype)[:, None]


def _grid(x: Tensor, y: Tensor, height: int, width: int) -> Tensor:
    """Pixel coordinates as ``grid_sample`` wants them."""
    return torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)


def _decoded(coder: Any, boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (B, N, 5) moved by (B, N, 5)."""
    return coder.decode(boxes.flatten(0, 1), deltas.flatten(0, 1)).view(boxes.shape)


def _rotated_filters(layer: Any) -> nn.Conv2d:
    """MMRotate's ``ORConv2d`` as the plain convolution that it is once its filters have been turned."""
    with torch.no_grad():
        weight = layer.rotate_arf()
    plain = nn.Conv2d(weight.shape[1], weight.shape[0], layer.kernel_size, layer.stride, layer.padding)
    plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), layer.bias
    return plain
