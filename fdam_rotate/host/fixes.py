"""Defects of MMRotate 0.3.4 and mmcv 1.7.2 that stop detectors on the CPU or with our backbones."""

from __future__ import annotations

import functools
from typing import Any

import torch
from mmcv.ops import diff_iou_rotated
from mmrotate.core.anchor.anchor_generator import RotatedAnchorGenerator
from mmrotate.datasets.pipelines import PolyRandomRotate
from mmrotate.models.dense_heads import RotatedFCOSHead
from mmrotate.models.detectors import s2anet
from torch import Tensor

from fdam_rotate.host.maps import read_any_map
from fdam_rotate.host.suppression import quick_nms_on_cpu

__all__ = [
    "anchors_on_any_device",
    "fcos_without_objects",
    "mend_host",
    "s2anet_on_any_backbone",
    "sort_vertices",
    "turns_without_memory",
    "vertices_on_cpu",
]

_CORNERS = 8  # of both boxes, before their crossings, in mmcv's list of 24 vertices


def sort_vertices(vertices: Tensor, mask: Tensor) -> Tensor:
    """Indices that walk once around the convex polygon of the valid vertices, and back to the first.

    Args:
        vertices: (B, N, 24, 2): 8 corners, then 16 crossings of edges, which are zero where they are not valid.
        mask: (B, N, 24), which of them are valid; at most 8 crossings ever are.

    Returns:
        (B, N, 25) int64. What follows the way back is a vertex at zero, which adds nothing to the shoelace sum; mmcv's
        op gives 9 of the same.
    """
    count = mask.sum(2, keepdim=True)  # (B, N, 1)
    centre = (vertices * mask.unsqueeze(-1)).sum(2, keepdim=True) / count.clamp(min=1).unsqueeze(-1)
    x, y = (vertices - centre).unbind(-1)
    order = torch.atan2(y, x).masked_fill(~mask, torch.inf).argsort(dim=2)
    order = torch.cat([order, order[..., :1]], dim=2)
    place = torch.arange(order.shape[2], device=order.device)
    nothing = _CORNERS + mask[..., _CORNERS:].int().argmin(2, keepdim=True)
    order = torch.where(place < count, order, nothing)
    return torch.where((place == count) & (count > 2), order[..., :1], order)


def mend_host() -> None:
    """Put the replacements in place; a second call changes nothing."""
    if getattr(diff_iou_rotated.sort_indices, "mended", False):
        return
    vertices_on_cpu()
    anchors_on_any_device()
    s2anet_on_any_backbone()
    fcos_without_objects()
    turns_without_memory()
    read_any_map()
    quick_nms_on_cpu()


def vertices_on_cpu() -> None:
    """Let ``diff_iou_rotated_2d``, the loss of Rotated FCOS, sort vertices on the CPU: mmcv has a CUDA op alone."""
    cuda_sort = diff_iou_rotated.sort_indices

    @functools.wraps(cuda_sort)
    def sort_indices(vertices: Tensor, mask: Tensor) -> Tensor:
        return cuda_sort(vertices, mask) if vertices.is_cuda else sort_vertices(vertices.detach(), mask)

    sort_indices.mended = True
    diff_iou_rotated.sort_indices = sort_indices


def anchors_on_any_device() -> None:
    """Let RetinaNet, R3Det and S2A-Net train on the CPU.

    ``RotatedAnchorHead.get_anchors`` hands its device to ``grid_priors`` as the second argument, which is the dtype, so
    that anchors are always made on the default GPU.
    """
    grid_priors = RotatedAnchorGenerator.grid_priors

    @functools.wraps(grid_priors)
    def priors(self: Any, featmap_sizes: Any, dtype: Any = torch.float32, device: Any = "cuda") -> list[Tensor]:
        if not isinstance(dtype, torch.dtype):
            dtype, device = torch.float32, dtype
        return grid_priors(self, featmap_sizes, dtype=dtype, device=device)

    RotatedAnchorGenerator.grid_priors = priors


def s2anet_on_any_backbone() -> None:
    """Let S2A-Net take a backbone without the argument ``pretrained``, which it sets to None."""
    build = s2anet.build_backbone

    @functools.wraps(build)
    def build_backbone(cfg: dict[str, Any]) -> torch.nn.Module:
        return build({key: value for key, value in cfg.items() if key != "pretrained" or value is not None})

    s2anet.build_backbone = build_backbone


def fcos_without_objects() -> None:
    """Let Rotated FCOS train on a batch without objects under several processes.

    Its loss then leaves the predicted angles out, and torch stops at parameters that got no gradient in one process.
    """
    host_loss = RotatedFCOSHead.loss

    @functools.wraps(host_loss)
    def loss(self: Any, cls_scores: Any, bbox_preds: Any, angle_preds: list[Tensor], *args: Any, **kwargs: Any) -> Any:
        losses = host_loss(self, cls_scores, bbox_preds, angle_preds, *args, **kwargs)
        losses["loss_bbox"] = losses["loss_bbox"] + 0 * sum(angles.sum() for angles in angle_preds)
        return losses

    RotatedFCOSHead.loss = loss


def turns_without_memory() -> None:
    """Let ``PolyRandomRotate`` turn an image by random numbers alone.

    It shuffles its list of quarter turns in place, so that a turn depends on all images that the process turned before.
    """
    turn = PolyRandomRotate.__call__

    @functools.wraps(turn)
    def call(self: Any, results: dict[str, Any]) -> Any:
        self.discrete_range = [90, 180, -90, -180]
        return turn(self, results)

    PolyRandomRotate.__call__ = call
