"""When our written-out gradients are used, and when the plain operations, which tracers and exporters can follow."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["records_gradient"]


def records_gradient(*tensors: Tensor) -> bool:
    """Whether a gradient may be asked for through these tensors; never while tracing."""
    return torch.is_grad_enabled() and not torch.jit.is_tracing() and any(tensor.requires_grad for tensor in tensors)
