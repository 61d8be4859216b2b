"""mmcv's CUDA operations that the detectors here call, each against what the same gives on the CPU.

mmcv has these as C++ for the CPU and as CUDA; its focal loss runs in torch on the CPU. Values and gradients are
compared, relative to the largest of the CPU's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fdam_rotate.apis.doctor import check_ops
from fdam_rotate.apis.gpu_check.plan import Sizes
from fdam_rotate.apis.gpu_check.sheet import Sheet

__all__ = ["random_boxes", "relative_error", "run", "worst"]

#: Float32 sums in another order differ by less; a wrong index or sign, by far more.
LIMIT = 1e-3
IOU_THR = 0.3


def run(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    """Compare all of them."""
    with sheet.case("values worked out by hand"):
        wrong = check_ops(str(device))
        sheet.check("values worked out by hand", len(wrong), 0, "wrong", "; ".join(wrong))
    for check in (_overlaps, _suppression, _align, _features, _losses):
        check(sheet, device, sizes)


def random_boxes(count: int, seed: int, size: float = 1024.0) -> Tensor:
    """Boxes (count, 5) in a square of ``size`` pixels: centre, sides from 8 to an eighth of it, angle in le90."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(count, 5, generator=generator)
    sides = 8 * (size / 64) ** u[:, 2:4]
    return torch.cat((u[:, :2] * size, sides, (u[:, 4:] - 0.5) * 3.14), dim=1)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a part of the largest expected value; NaN where shapes or finiteness differ."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    if found.shape != expected.shape:
        return float("nan")
    if not expected.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def worst(errors: Sequence[float]) -> float:
    """The largest, or NaN where there is one."""
    return max(errors, key=lambda error: (error != error, error))


def _overlaps(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    from mmcv.ops import box_iou_rotated

    a, b = random_boxes(sizes.boxes, 0), random_boxes(sizes.boxes, 1)
    for mode in ("iou", "iof"):
        what = f"box_iou_rotated, {mode}, {sizes.boxes} x {sizes.boxes}"
        with sheet.case(what):
            expected = box_iou_rotated(a, b, mode)
            found = box_iou_rotated(a.to(device), b.to(device), mode)
            sheet.check(what, float((found.cpu() - expected).abs().max()), LIMIT, note="largest difference")


def _suppression(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    from mmcv.ops import box_iou_rotated, nms, nms_rotated

    boxes = random_boxes(sizes.boxes, 2)
    boxes[:, :2] /= 4  # closer together: many are suppressed
    boxes = _apart(boxes, box_iou_rotated)
    scores = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(3)).float() / len(boxes)
    classes = torch.arange(len(boxes)) % 5
    for what, extra in (("nms_rotated", ()), ("nms_rotated, 5 classes", (classes,))):
        with sheet.case(what):
            expected = nms_rotated(boxes, scores, IOU_THR, *extra)[1]
            found = nms_rotated(boxes.to(device), scores.to(device), IOU_THR, *(x.to(device) for x in extra))[1]
            sheet.check(what, _apart_from(found, expected), 0, "boxes", f"kept by one only; {len(expected)} kept")
    with sheet.case("nms"):
        upright = torch.cat((boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2), dim=1)
        from torchvision.ops import box_iou

        upright = _apart(upright, box_iou)
        scores = scores[: len(upright)]
        expected = nms(upright, scores, IOU_THR)[1]
        found = nms(upright.to(device), scores.to(device), IOU_THR)[1]
        sheet.check("nms", _apart_from(found, expected), 0, "boxes", f"kept by one only; {len(expected)} kept")


def _apart(boxes: Tensor, iou: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The boxes without those whose overlap with another is so near the threshold that rounding decides."""
    return boxes[~((iou(boxes, boxes) - IOU_THR).abs() < 1e-3).any(1)]


def _apart_from(found: Tensor, expected: Tensor) -> int:
    return len(set(found.tolist()) ^ set(expected.tolist()))


def _align(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    """RoIAlignRotated as the heads call it, in the layouts and dtypes that maps have."""
    from mmcv.ops import RoIAlignRotated

    side = 64
    maps = torch.randn(2, 16, side, side, generator=torch.Generator().manual_seed(4))
    boxes = random_boxes(sizes.boxes // 4, 5, 4.0 * side)
    rois = torch.cat((torch.arange(len(boxes))[:, None] % 2, boxes), dim=1)
    align = RoIAlignRotated(7, 0.25, sampling_ratio=2, clockwise=True)
    _compare(sheet, "RoIAlignRotated", device, lambda x: align(x, rois.to(x.device)), [maps])
    last = maps.contiguous(memory_format=torch.channels_last)
    _compare(sheet, "RoIAlignRotated, channels last", device, lambda x: align(x, rois.to(x.device)), [last])
    for dtype in (torch.float16, torch.bfloat16):
        what = f"RoIAlignRotated, {str(dtype).removeprefix('torch.')}"
        with sheet.case(what):
            found = align(maps.to(device, dtype), rois.to(device))
            sheet.check(what, relative_error(found, align(maps, rois)), 2e-2, note="against float32; 8 bits are 4e-3")


def _features(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    """What S2ANet and R3Det sample maps with."""
    from mmcv.ops import deform_conv2d, rotated_feature_align

    def normal(*shape: int, seed: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    tensors = [normal(2, 16, 32, 32, seed=6), normal(2, 18, 32, 32, seed=7), normal(16, 16, 3, 3, seed=8)]
    _compare(sheet, "deform_conv2d", device, lambda x, offset, w: deform_conv2d(x, offset, w, 1, 1), tensors)
    boxes = random_boxes(2 * 32 * 32, 9, 128.0).view(2, 32 * 32, 5)
    _compare(
        sheet,
        "rotated_feature_align",
        device,
        lambda x: rotated_feature_align(x, boxes.to(x.device), spatial_scale=0.25, points=5),
        [normal(2, 16, 32, 32, seed=10)],
    )


def _losses(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    """The losses that have a CUDA operation of their own."""
    from mmcv.ops import diff_iou_rotated_2d
    from mmdet.models.losses import FocalLoss

    boxes = random_boxes(sizes.boxes, 11)
    moved = boxes + torch.tensor([1.0, 2.0, 0.5, 0.5, 0.05])
    _compare(sheet, "diff_iou_rotated_2d", device, lambda a, b: diff_iou_rotated_2d(a[None], b[None]), [boxes, moved])
    logits = torch.randn(sizes.boxes, 15, generator=torch.Generator().manual_seed(12))
    target = torch.arange(sizes.boxes) % 16
    loss = FocalLoss(use_sigmoid=True)
    _compare(sheet, "focal loss", device, lambda x: loss(x, target.to(x.device))[None], [logits])


def _compare(
    sheet: Sheet, what: str, device: torch.device, function: Callable[..., Tensor], tensors: Sequence[Tensor]
) -> None:
    """Rows for the values of ``function(*tensors)`` and its gradients, on the device and on the CPU."""
    with sheet.case(what):
        (found, found_grads), (expected, grads) = (_with_gradients(function, tensors, d) for d in (device, "cpu"))
        sheet.check(f"{what}, forward", relative_error(found, expected), LIMIT)
        errors = [relative_error(a, b) for a, b in zip(found_grads, grads, strict=True)]
        sheet.check(f"{what}, backward", worst(errors), LIMIT)


def _with_gradients(function: Callable[..., Tensor], tensors: Sequence[Tensor], device: Any) -> tuple[Tensor, Any]:
    leaves = [tensor.to(device).detach().requires_grad_() for tensor in tensors]
    out = function(*leaves)
    weights = torch.linspace(0.5, 1.5, out.numel()).view(out.shape).to(device)  # a plain sum hides permutations
    return out, torch.autograd.grad((out * weights).sum(), leaves)
