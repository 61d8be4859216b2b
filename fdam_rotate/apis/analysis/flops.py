"""Parameters and multiply-adds of a detector's parts, FFTs included.

Counted: convolutions, linear layers, matrix products and attention as multiply-adds, and each real FFT of N values as
``1.25 N log2 N`` (a complex one as twice that; the usual ``5 N log2 N`` operations of a complex radix-2 FFT, two
operations to a multiply-add). Not counted, as in MMDetection's and fvcore's tables: activations, norms, sums, products
element by element, pooling, interpolation, RoI sampling and NMS.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

__all__ = ["PartCost", "count_flops", "detector_costs"]

PROPOSALS = 1000


@dataclass(frozen=True)
class PartCost:
    """Cost of one part for one image.

    Attributes:
        name: ``backbone``, ``neck``, ``heads`` or ``total``.
        params: number of parameters.
        macs: multiply-adds, those of FFTs included.
        fft_macs: those of FFTs alone.
    """

    name: str
    params: int
    macs: int
    fft_macs: int


def count_flops(model: nn.Module, call: Any) -> dict[str, dict[str, float]]:
    """Multiply-adds of ``call()`` by module name (``Global`` for all), each by operator name.

    Args:
        model: the module that ``call`` runs; its class name opens each key.
        call: runs it once, without gradients.
    """
    aten = torch.ops.aten
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            aten._fft_r2c: _r2c,
            aten._fft_c2r: _c2r,
            aten._fft_c2c: _c2c,
            aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        },
    )
    was_training = model.training
    model.eval()
    with torch.no_grad(), counter:
        call()
    model.train(was_training)
    counts = counter.get_flop_counts()
    return {name: {str(op): flops / 2 for op, flops in ops.items()} for name, ops in counts.items()}


def detector_costs(model: nn.Module, shape: tuple[int, int]) -> list[PartCost]:
    """Costs of the backbone, the neck, the heads and their sum, for one image of ``shape`` (H, W).

    The box head of a two-stage detector is counted on 1000 proposals, as MMRotate's own tables do.
    """
    image = torch.zeros(1, 3, *shape, device=next(model.parameters()).device)
    try:
        try:
            with FakeTensorMode(allow_non_fake_inputs=True):  # shapes only, nothing is computed
                counts = count_flops(model, lambda: _run_all(model, image))
        finally:
            _forget_fake_constants()
    except (RuntimeError, NotImplementedError):  # mmcv's own operators know no such tensors
        counts = count_flops(model, lambda: _run_all(model, image))

    def cost(name: str, keys: list[str], params: int) -> PartCost:
        ops = [counts.get(key, {}) for key in keys]
        fft = sum(macs for part in ops for op, macs in part.items() if "_fft_" in op)
        return PartCost(name, params, round(sum(sum(part.values()) for part in ops)), round(fft))

    def size(module: nn.Module | None) -> int:
        return sum(p.numel() for p in module.parameters()) if module is not None else 0

    parts = [cost("backbone", [type(model.backbone).__name__], size(model.backbone))]
    if getattr(model, "with_neck", False):
        parts.append(cost("neck", [type(model.neck).__name__], size(model.neck)))
    total = cost("total", ["Global"], size(model))
    left = {f: getattr(total, f) - sum(getattr(part, f) for part in parts) for f in ("params", "macs", "fft_macs")}
    return [*parts, PartCost("heads", **left), total]


def _forget_fake_constants() -> None:
    """Empty the layers' caches of fixed matrices: what was made without values must not serve a real run."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fdam_rotate.models."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _run_all(model: nn.Module, image: Tensor) -> None:
    """Run every layer once. MMRotate's ``forward_dummy`` makes proposals of negative size, which RoIAlign refuses."""
    if not getattr(model, "with_roi_head", False):
        model.forward_dummy(image)
        return
    model.rpn_head(model.extract_feat(image))
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
        head(image.new_zeros(PROPOSALS, head.in_channels, *head.roi_feat_size))


def _fft_flops(shape: Any, dims: Any, factor: float) -> float:
    """``factor * N log2 N`` for each of the transforms of N values that an FFT over ``dims`` of ``shape`` makes."""
    size = math.prod(shape[d] for d in dims)
    return factor * math.prod(shape) * math.log2(size) if size > 1 else 0.0


def _r2c(shape: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> float:
    return _fft_flops(shape, dims, 2.5)


def _c2r(_shape: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> float:
    return _fft_flops(out_shape, dims, 2.5)


def _c2c(shape: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> float:
    return _fft_flops(shape, dims, 5.0)


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)
