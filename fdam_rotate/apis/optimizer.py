"""FDAM's optimizer rule: twice the learning rate for ``freq_scale*``, no weight decay on 1-D parameters.

Source: training settings of Chen, Gu, Fu, "Frequency-Dynamic Attention Modulation for Dense Prediction", ICCV 2025.
mmcv's ``paramwise_cfg`` cannot say it: one custom key hides the rules for norms and biases, and layer scales are
neither.
"""

from __future__ import annotations

from typing import Any

from mmcv.runner import OPTIMIZER_BUILDERS, OPTIMIZERS
from mmcv.utils import build_from_cfg
from torch import nn

__all__ = ["FDAMOptimizerConstructor", "parameter_groups"]


def parameter_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """At most four groups: {plain, ``freq_scale``} x {decayed, 1-D}; each lists its parameters in the model's order."""
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        fast = any(part.startswith("freq_scale") for part in name.split("."))
        flat = parameter.ndim <= 1
        group = groups.setdefault(
            (fast, flat), {"params": [], "lr": 2 * lr if fast else lr, "weight_decay": 0.0 if flat else weight_decay}
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


@OPTIMIZER_BUILDERS.register_module()
class FDAMOptimizerConstructor:
    """mmcv optimizer constructor; takes any optimizer with ``lr`` and ``weight_decay``, and no ``paramwise_cfg``."""

    def __init__(self, optimizer_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        if paramwise_cfg:
            raise ValueError(f"FDAMOptimizerConstructor sets the groups itself; drop paramwise_cfg={paramwise_cfg}")
        self.optimizer_cfg = optimizer_cfg

    def __call__(self, model: nn.Module) -> Any:
        """The optimizer of ``model``, in a parallel wrapper or not."""
        cfg = dict(self.optimizer_cfg)
        cfg["params"] = parameter_groups(model, cfg["lr"], cfg.get("weight_decay", 0.0))
        return build_from_cfg(cfg, OPTIMIZERS)
