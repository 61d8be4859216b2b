"""Every backbone and neck of ours, forward and backward in float32, against the same on the CPU.

FDAM is moved away from its start, where it changes next to nothing. TF32 is off: it has 10 bits of mantissa.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fdam_rotate.apis.gpu_check.operations import relative_error, worst
from fdam_rotate.apis.gpu_check.plan import Sizes
from fdam_rotate.apis.gpu_check.sheet import Sheet
from fdam_rotate.models.backbones import LSKNet, LSKNetFDAM, MiTFDAM, ViTFDAM
from fdam_rotate.models.layers import FreqScale
from fdam_rotate.models.necks import FDAMFPN, FreqFusionFPN, SimplePyramid

__all__ = ["Case", "cases", "move_fdam", "run", "without_tf32"]

#: Of outputs, relative to the largest; of all gradients together, relative to their length.
OUTPUT_LIMIT, GRADIENT_LIMIT = 2e-3, 5e-3


@dataclass(frozen=True)
class Case:
    """A network and what it is fed.

    Attributes:
        name: for the report.
        kind: its class.
        settings: of it.
        inputs: shapes of the maps that it takes; a backbone takes one.
        on_gpu: settings that differ on the device.
    """

    name: str
    kind: type[nn.Module]
    settings: dict[str, Any]
    inputs: tuple[tuple[int, ...], ...]
    on_gpu: dict[str, Any]


def cases(sizes: Sizes) -> Iterator[Case]:
    """All of them."""
    side, widths = sizes.network, sizes.widths
    image = ((2, 3, side, side),)
    lsk: dict[str, Any] = {"embed_dims": widths, "depths": sizes.depths}
    for kind in (LSKNet, LSKNetFDAM):
        yield Case(kind.__name__, kind, lsk, image, {})
        yield Case(f"{kind.__name__}, channels last", kind, lsk, image, {"channels_last": True})
    yield Case("LSKNetFDAM, recomputing", LSKNetFDAM, lsk, image, {"with_cp": True})
    yield Case("MiTFDAM", MiTFDAM, {"arch": "b0"}, image, {})
    vit: Any = "small" if widths[0] >= 64 else {"embed_dims": 64, "depth": 2, "num_heads": 2}
    yield Case("ViTFDAM", ViTFDAM, {"arch": vit}, image, {})
    maps = tuple((2, dim, side // stride, side // stride) for dim, stride in zip(widths, (4, 8, 16, 32), strict=True))
    neck: dict[str, Any] = {"in_channels": list(widths), "out_channels": widths[-1] // 2, "num_outs": 5}
    for place in ("lateral", "fused", "output"):
        yield Case(f"FDAMFPN, {place}", FDAMFPN, {**neck, "freq_place": place}, maps, {})
    yield Case("FreqFusionFPN", FreqFusionFPN, neck, maps, {})
    yield Case("SimplePyramid", SimplePyramid, {**neck, "in_channels": widths[-1]}, maps[-1:], {})


def run(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    """Compare all of them."""
    with without_tf32():
        for case in cases(sizes):
            with sheet.case(case.name):
                _compare(sheet, case, device)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Float32 products and convolutions with all their bits, inside the block."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _compare(sheet: Sheet, case: Case, device: torch.device) -> None:
    torch.manual_seed(0)
    model = case.kind(**case.settings)
    move_fdam(model)
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(*shape, generator=generator) for shape in case.inputs]
    there = case.kind(**case.settings, **case.on_gpu)
    there.load_state_dict(copy.deepcopy(model.state_dict()))
    expected, grads = _run(model, inputs)
    found, found_grads = _run(there.to(device), [x.to(device) for x in inputs])
    errors = [relative_error(a, b) for a, b in zip(found, expected, strict=True)]
    sheet.check(f"{case.name}, forward", worst(errors), OUTPUT_LIMIT, note=f"of {len(errors)} maps")
    missing = [name for name, grad in grads.items() if (grad is None) != (found_grads[name] is None)]
    if missing:
        sheet.fail(f"{case.name}, backward", f"only one of both has a gradient for {', '.join(missing)}")
        return
    names = [name for name, grad in grads.items() if grad is not None]
    a, b = (torch.cat([g[name].double().cpu().flatten() for name in names]) for g in (found_grads, grads))
    note = f"of {len(names)} gradients, {len(b):,} numbers"
    sheet.check(f"{case.name}, backward", float((a - b).norm() / b.norm()), GRADIENT_LIMIT, note=note)


def move_fdam(model: nn.Module) -> None:
    """Let FDAM's parameters that begin at (almost) zero count: gammas about 0.5, filters about 0.3."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("lf_gamma", "hf_gamma")):
                parameter.normal_(0.5, 0.1)
            elif name.endswith(("layer_scale_1", "layer_scale_2")):
                parameter.fill_(0.5)
        for module in model.modules():
            if isinstance(module, FreqScale):
                module.complex_weights.normal_(0, 0.3)


def _run(model: nn.Module, inputs: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """Outputs in training mode, and the gradients of parameters and inputs for fixed weights of the outputs."""
    model.train()
    leaves = [x.detach().requires_grad_() for x in inputs]
    outs = list(model(leaves[0] if len(leaves) == 1 and not hasattr(model, "num_outs") else leaves))
    generator = torch.Generator().manual_seed(2)
    total = sum((out * torch.randn(out.shape, generator=generator).to(out.device)).mean() for out in outs)
    total.backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    grads.update({f"input {number}": leaf.grad for number, leaf in enumerate(leaves)})
    return outs, grads
