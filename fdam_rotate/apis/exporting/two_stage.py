"""Oriented R-CNN and RoI Transformer, from pixels to candidates in operations that exporters know and of known sizes.

They compute what MMRotate's detectors do up to the last suppression: proposals per level by score, suppression of their
upright bounds, RoIAlign, the heads, and decoding; RoI Transformer does the last three twice. A proposal that
suppression drops stays in its row, with a score of -1, so that every tensor has one size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdam_rotate.apis.exporting.boxes import midpoint_boxes, upright_bounds, upright_boxes
from fdam_rotate.apis.exporting.candidates import Pixels, best_candidates, expect, take
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.roi_align import pool_rotated, pool_upright
from fdam_rotate.apis.exporting.suppression import kept_mask

__all__ = ["OrientedRCNNCandidates", "RoITransformerCandidates"]


class OrientedProposals(nn.Module):
    """The proposals of MMRotate's ``OrientedRPNHead``, best first.

    Args:
        head: the head, with its test settings.

    Raises:
        ExportError: it has settings that this form does not know.
    """

    kind, coder, deltas = "OrientedRPNHead", "MidpointOffsetCoder", 6

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        cfg = head.test_cfg
        nms = dict(cfg.nms)
        expect(type(head).__name__, self.kind, "rpn_head")
        expect(type(head.bbox_coder).__name__, self.coder, "rpn_head.bbox_coder")
        expect(nms.pop("type", "nms"), "nms", "test_cfg.rpn.nms.type")
        self.head = head
        self.before, self.count, self.least_side = int(cfg.nms_pre), int(cfg.max_per_img), float(cfg.min_bbox_size)
        self.iou_thr = float(nms.pop("iou_threshold"))
        if nms:
            raise ExportError(f"test_cfg.rpn.nms has {', '.join(nms)}, which the exported form does not know")

    def decode(self, anchors: Tensor, deltas: Tensor, shape: Sequence[int]) -> Tensor:
        """Anchors (B, k, 4) and what the head says of them to boxes (B, k, 5), in an image of ``shape``."""
        coder = self.head.bbox_coder
        return midpoint_boxes(anchors, deltas, coder.means, coder.stds, coder.version)

    def sides(self, boxes: Tensor) -> Tensor:
        """Widths and heights (..., 2)."""
        return boxes[..., 2:4]

    def bounds(self, boxes: Tensor) -> Tensor:
        """The upright boxes (..., 4) round boxes."""
        return upright_bounds(boxes)

    def forward(self, maps: Sequence[Tensor], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Levels (B, C, H, W) to proposals (B, P, ...) and scores (B, P), which are -1 where there is no proposal."""
        levels = [self._level(number, level, shape) for number, level in enumerate(maps)]
        boxes, scores = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        if self.least_side > 0:
            small = self.sides(boxes).amin(-1) < self.least_side
            scores = torch.where(small, -torch.ones_like(scores), scores)
        # As mmcv does, boxes of different levels are moved apart; its rounding is part of the result.
        bounds = self.bounds(boxes)
        number = torch.repeat_interleave(
            torch.arange(len(levels), dtype=boxes.dtype), torch.tensor([level[1].shape[1] for level in levels])
        )
        apart = number * (bounds.amax((1, 2))[:, None] + 1)
        kept = kept_mask(bounds + apart[..., None], scores, self.iou_thr, self.count)
        scores = torch.where(kept > 0, scores, -torch.ones_like(scores))
        scores, index = scores.topk(min(self.count, scores.shape[1]), dim=1)
        return take(boxes, index), scores

    def _level(self, number: int, features: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The best anchors of one level: boxes (B, k, ...) and scores (B, k)."""
        head = self.head
        logits, deltas = head.forward_single(features)
        batch, width = features.shape[0], features.shape[3]
        if head.use_sigmoid_cls:
            scores = logits.permute(0, 2, 3, 1).reshape(batch, -1).sigmoid()
        else:
            scores = logits.permute(0, 2, 3, 1).reshape(batch, -1, 2).softmax(-1)[..., 0]
        deltas = deltas.permute(0, 2, 3, 1).reshape(batch, -1, self.deltas)
        if scores.shape[1] > self.before > 0:
            scores, index = scores.topk(self.before, dim=1)
            deltas = take(deltas, index)
        else:
            index = torch.arange(scores.shape[1]).expand(batch, -1)
        anchors = _anchors(head.anchor_generator, number, width, index)
        return self.decode(anchors, deltas, shape), scores


class UprightProposals(OrientedProposals):
    """The proposals of MMRotate's ``RotatedRPNHead``, which are upright: (B, P, 4) x1, y1, x2, y2."""

    kind, coder, deltas = "RotatedRPNHead", "DeltaXYWHBBoxCoder", 4

    def __init__(self, head: nn.Module) -> None:
        super().__init__(head)
        if head.bbox_coder.add_ctr_clamp:
            raise ExportError("rpn_head.bbox_coder has add_ctr_clamp, which is not exported")

    def decode(self, anchors: Tensor, deltas: Tensor, shape: Sequence[int]) -> Tensor:
        """Anchors (B, k, 4) and what the head says of them to boxes (B, k, 4), in an image of ``shape``."""
        coder = self.head.bbox_coder
        return upright_boxes(anchors, deltas, coder.means, coder.stds, shape if coder.clip_border else None)

    def sides(self, boxes: Tensor) -> Tensor:
        """Widths and heights (..., 2)."""
        return boxes[..., 2:4] - boxes[..., :2]

    def bounds(self, boxes: Tensor) -> Tensor:
        """The boxes themselves."""
        return boxes


class OrientedRCNNCandidates(nn.Module):
    """Images to candidates: Oriented R-CNN without its last suppression.

    Args:
        detector: MMRotate's, in evaluation mode.
        steps: of the test pipeline, see `Pixels`.
        max_boxes: candidates given for an image.

    Raises:
        ExportError: the detector has parts that this form does not know.
    """

    def __init__(self, detector: nn.Module, steps: Mapping[str, Any], max_boxes: int | None = None) -> None:
        super().__init__()
        self.detector = detector
        self.test_cfg = detector.roi_head.test_cfg
        self.score_thr = float(self.test_cfg.score_thr)
        self.pixels = Pixels(steps)
        self.proposals, self.head = self._stages(detector.rpn_head, detector.roi_head)
        last = self.head.head
        self.coder, self.classes = last.bbox_coder, int(last.num_classes)
        most = self.proposals.count * self.classes
        #: Every proposal is of one class at most, nearly always; twice as many rows lose none.
        self.max_boxes = min(max_boxes or 2 * self.proposals.count, most)

    def _stages(self, rpn_head: nn.Module, roi_head: nn.Module) -> tuple[OrientedProposals, BinHead]:
        """Make what comes after the neck; the proposals and the last head are given back."""
        expect(type(roi_head).__name__, "OrientedStandardRoIHead", "roi_head")
        if roi_head.with_shared_head:
            raise ExportError("roi_head has a shared head, which is not exported")
        self.pool = RotatedPool(roi_head.bbox_roi_extractor)
        return OrientedProposals(rpn_head), BinHead(roi_head.bbox_head)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """RGB images (B, 3, H, W), uint8 or float from 0 to 255, to their best candidates.

        Returns:
            boxes (B, M, 5) cx, cy, w, h, angle in pixels; scores (B, M), falling; labels (B, M); how many of each image
            are scored above the threshold (B,).
        """
        shape = self.pixels.seen(image)
        maps = self.detector.extract_feat(self.pixels(image))
        proposals, found = self.proposals(maps, shape)
        boxes, logits, deltas = self.regions(maps, proposals, shape)
        boxes = self.coder.decode(boxes.flatten(0, 1), deltas, max_shape=shape)
        scores = F.softmax(logits, -1)[:, :-1].reshape(*found.shape, self.classes)
        scores = scores * (found >= 0).to(scores.dtype)[..., None]
        boxes = boxes.reshape(*found.shape, -1, 5)
        best, *rest = best_candidates(boxes, scores, self.max_boxes, self.score_thr)
        return self.pixels.placed(best, image), *rest

    def regions(self, maps: Sequence[Tensor], proposals: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """What the last head sees and says: boxes (B, P, 5), logits (B * P, classes + 1), deltas of the boxes."""
        return proposals, *self.head(self.pool(maps, proposals))


class RoITransformerCandidates(OrientedRCNNCandidates):
    """Images to candidates: RoI Transformer without its last suppression.

    Its first stage turns upright proposals into rotated boxes, which the second looks at; the classes' logits are the
    mean of both.
    """

    def _stages(self, rpn_head: nn.Module, roi_head: nn.Module) -> tuple[OrientedProposals, BinHead]:
        expect(type(roi_head).__name__, "RoITransRoIHead", "roi_head")
        if roi_head.num_stages != 2:
            raise ExportError(f"roi_head: exported are two stages, got num_stages={roi_head.num_stages}")
        upright, rotated = roi_head.bbox_roi_extractor
        first, last = roi_head.bbox_head
        if not first.reg_class_agnostic:
            raise ExportError("roi_head.bbox_head: exported is a first stage with reg_class_agnostic=True")
        self.first_pool, self.pool = UprightPool(upright), RotatedPool(rotated)
        self.first_head, self.first_coder = BinHead(first, by_bins=False), first.bbox_coder
        return UprightProposals(rpn_head), BinHead(last)

    def regions(self, maps: Sequence[Tensor], proposals: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """What the last head sees and says: boxes (B, P, 5), logits (B * P, classes + 1), deltas of the boxes."""
        first, deltas = self.first_head(self.first_pool(maps, proposals))
        boxes = self.first_coder.decode(proposals.flatten(0, 1), deltas, max_shape=shape)
        boxes = boxes.reshape(*proposals.shape[:2], 5)
        logits, deltas = self.head(self.pool(maps, boxes))
        return boxes, (first + logits) / 2, deltas


class _Pool(nn.Module):
    """What both extractors have; their layers, one for each level that they look at, are all alike."""

    def __init__(self, extractor: nn.Module, kind: str, layer_kind: str) -> None:
        super().__init__()
        layer = extractor.roi_layers[0]
        expect(type(extractor).__name__, kind, "roi_head.bbox_roi_extractor")
        expect(type(layer).__name__, layer_kind, "roi_layer")
        self.side, self.strides = int(layer.output_size[0]), [int(stride) for stride in extractor.featmap_strides]
        self.finest_scale = float(extractor.finest_scale)


class UprightPool(_Pool):
    """mmdet's ``SingleRoIExtractor`` over ``RoIAlign``, by `pool_upright`."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__(extractor, "SingleRoIExtractor", "RoIAlign")
        layer = extractor.roi_layers[0]
        side, other = layer.output_size
        if side != other or layer.sampling_ratio > 0 or not layer.aligned or layer.pool_mode != "avg":
            raise ExportError(
                "roi_layer: exported are square outputs, sampling_ratio=0, pool_mode='avg' and aligned=True, got "
                f"{layer.output_size}, {layer.sampling_ratio}, {layer.pool_mode!r} and {layer.aligned}"
            )

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Levels and (B, P, 4) boxes to (B * P, C, side, side)."""
        maps = maps[: len(self.strides)]
        return pool_upright(maps, boxes, self.strides, finest_scale=self.finest_scale, side=self.side)


class RotatedPool(_Pool):
    """MMRotate's ``RotatedSingleRoIExtractor`` over ``RoIAlignRotated``, by `pool_rotated`."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__(extractor, "RotatedSingleRoIExtractor", "RoIAlignRotated")
        layer = extractor.roi_layers[0]
        side, other = layer.output_size
        if side != other or layer.sampling_ratio < 1 or not layer.aligned:
            raise ExportError(
                "roi_layer: exported are square outputs, sample_num of at least 1 and aligned=True, "
                f"got {layer.output_size}, {layer.sampling_ratio} and {layer.aligned}"
            )
        self.samples, self.clockwise = int(layer.sampling_ratio), bool(layer.clockwise)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Levels and (B, P, 5) boxes to (B * P, side * side, C)."""
        return pool_rotated(
            maps[: len(self.strides)],
            boxes,
            self.strides,
            finest_scale=self.finest_scale,
            side=self.side,
            samples=self.samples,
            clockwise=self.clockwise,
        )


class BinHead(nn.Module):
    """MMRotate's ``RotatedConvFCBBoxHead`` fed with bins (N, side * side, C): class logits and deltas.

    The columns of the linear layer over all bins, with which the head begins, are put in the order of the bins, so that
    the features of all boxes, a hundred megabytes for an image, need not be transposed.

    Args:
        head: of the detector.
        by_bins: False where it is fed with (N, C, side, side), as the head itself is.

    Raises:
        ExportError: it has parts that this form does not know.
    """

    def __init__(self, head: nn.Module, by_bins: bool = True) -> None:
        super().__init__()
        self.head = head
        if head.custom_cls_channels:
            raise ExportError("bbox_head has a loss with its own scores, which is not exported")
        if head.num_shared_convs or not head.num_shared_fcs or head.with_avg_pool:
            raise ExportError("bbox_head: exported are heads that begin with shared linear layers")
        if len(head.cls_convs) + len(head.cls_fcs) + len(head.reg_convs) + len(head.reg_fcs):
            raise ExportError("bbox_head: exported are heads without layers of their own for classes and boxes")
        self.first = first = head.shared_fcs[0]
        if not by_bins:
            return
        weight = first.weight.detach().reshape(first.out_features, -1, head.roi_feat_area)
        self.first = nn.Linear(first.in_features, first.out_features)
        self.first.weight = nn.Parameter(weight.transpose(1, 2).flatten(1).contiguous(), requires_grad=False)
        self.first.bias = first.bias

    def forward(self, bins: Tensor) -> tuple[Tensor, Tensor]:
        """Bins of N boxes to logits (N, classes + 1) and deltas (N, 5) or (N, 5 * classes)."""
        x = F.relu(self.first(bins.flatten(1)))
        for layer in self.head.shared_fcs[1:]:
            x = F.relu(layer(x))
        return self.head.fc_cls(x), self.head.fc_reg(x)


def _anchors(generator: Any, level: int, width: int, index: Tensor) -> Tensor:
    """The anchors (B, k, 4) numbered (B, k) of a level ``width`` columns wide, as mmdet's AnchorGenerator has them."""
    base = generator.base_anchors[level].float()
    number = len(base)
    place = torch.div(index, number, rounding_mode="floor")
    step_x, step_y = generator.strides[level]
    x = (place % width).float() * step_x
    y = torch.div(place, width, rounding_mode="floor").float() * step_y
    base = base.index_select(0, (index % number).flatten()).view(*index.shape, 4)
    return base + torch.stack([x, y, x, y], -1)
