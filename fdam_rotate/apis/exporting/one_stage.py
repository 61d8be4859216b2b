"""Rotated RetinaNet and Rotated FCOS as one module each, from pixels to candidates; see the module on two stages.

`fdam_rotate.apis.exporting.refining` has S2ANet and R3Det, which build on the same class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fdam_rotate.apis.exporting.candidates import Pixels, best_candidates, expect, take
from fdam_rotate.apis.exporting.errors import ExportError

__all__ = ["OneStageCandidates", "RotatedFCOSCandidates", "RotatedRetinaNetCandidates", "rows"]


class OneStageCandidates(nn.Module):
    """What both share: the best places of each level, then the best pairs of place and class.

    Args:
        detector: MMRotate's, in evaluation mode.
        steps: of the test pipeline, see `Pixels`.
        max_boxes: candidates given for an image.

    Raises:
        ExportError: the detector has parts that this form does not know.
    """

    #: The attribute of the detector that holds the head whose boxes count, the last of several; its kind.
    head_name, head_kind = "bbox_head", ""

    def __init__(self, detector: nn.Module, steps: Mapping[str, Any], max_boxes: int | None = None) -> None:
        super().__init__()
        head = getattr(detector, self.head_name)
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        expect(type(head).__name__, self.head_kind, self.head_name)
        if not head.use_sigmoid_cls:
            raise ExportError(f"{self.head_name}: exported are heads with sigmoid scores")
        self.detector, self.head, self.pixels = detector, head, Pixels(steps)
        self.test_cfg = head.test_cfg
        self.before, self.score_thr = int(self.test_cfg.nms_pre), float(self.test_cfg.score_thr)
        self.classes = int(head.num_classes)
        self.max_boxes = max_boxes or 2 * int(self.test_cfg.max_per_img)

    def levels(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Per level: scores (B, N, C), factors of them (B, N), places (N, p) or (B, N, p) and deltas (B, N, 5)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """RGB images (B, 3, H, W), uint8 or float from 0 to 255, to their best candidates.

        Returns:
            boxes (B, M, 5) cx, cy, w, h, angle in pixels; scores (B, M), falling; labels (B, M); how many of each image
            passed the threshold (B,).
        """
        shape = self.pixels.seen(image)
        boxes, scores = [], []
        for score, factor, places, deltas in self.levels(self.detector.extract_feat(self.pixels(image))):
            batch, count = factor.shape
            places = places.expand(batch, -1, -1)
            if count > self.before > 0:
                index = (score * factor[..., None]).amax(-1).topk(self.before, dim=1)[1]
                score, places, deltas = take(score, index), take(places, index), take(deltas, index)
                factor = take(factor[..., None], index)[..., 0]
            decoded = self.head.bbox_coder.decode(places.flatten(0, 1), deltas.flatten(0, 1), max_shape=shape)
            boxes.append(decoded.reshape(batch, -1, 1, 5))
            # MMRotate compares the score with the threshold before it applies the factor.
            scores.append(torch.where(score > self.score_thr, score * factor[..., None], torch.zeros_like(score)))
        joined = torch.cat(scores, 1)
        best, *rest = best_candidates(torch.cat(boxes, 1), joined, self.max_boxes, 0.0)
        return self.pixels.placed(best, image), *rest


class RotatedRetinaNetCandidates(OneStageCandidates):
    """MMRotate's ``RotatedRetinaNet`` with oriented or upright anchors."""

    head_kind = "RotatedRetinaHead"

    def levels(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Anchors are the places; there is no factor."""
        anchors = self.head.anchor_generator.grid_priors([level.shape[-2:] for level in maps], device=maps[0].device)
        found = []
        for level, places in zip(maps, anchors, strict=True):
            logits, deltas = self.head.forward_single(level)
            scores = rows(logits, self.classes).sigmoid()
            found.append((scores, torch.ones_like(scores[..., 0]), places, rows(deltas, 5)))
        return found


class RotatedFCOSCandidates(OneStageCandidates):
    """MMRotate's ``RotatedFCOS``; scores are multiplied by the centerness."""

    head_kind = "RotatedFCOSHead"

    def levels(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Points are the places."""
        head = self.head
        sizes = [level.shape[-2:] for level in maps]
        points = head.prior_generator.grid_priors(sizes, dtype=maps[0].dtype, device=maps[0].device)
        found = []
        for level, scale, stride, places in zip(maps, head.scales, head.strides, points, strict=True):
            logits, distances, angle, centerness = head.forward_single(level, scale, stride)
            deltas = torch.cat([rows(distances, 4), rows(angle, 1)], -1)
            found.append((rows(logits, self.classes).sigmoid(), rows(centerness, 1)[..., 0].sigmoid(), places, deltas))
        return found


def rows(maps: Tensor, width: int) -> Tensor:
    """(B, A * width, H, W) -> (B, H * W * A, width)."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width)
