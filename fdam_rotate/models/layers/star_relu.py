"""StarReLU: ``scale * relu(x)^2 + bias`` with one learnable scale and one learnable bias.

Yu et al., "MetaFormer Baselines for Vision", TPAMI 2024, arXiv 2210.13452, section 3.4. FDAM (arXiv 2507.12006) starts
it at scale 1 and bias 0, where the original has 0.8944 and -0.4472.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["StarReLU", "star_relu"]


def star_relu(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return ``scale * relu(x)^2 + bias``; any shape, the same shape out; ``scale`` and ``bias`` have shape (1,)."""
    return scale * F.relu(x).square() + bias


class StarReLU(nn.Module):
    """``scale * relu(x)^2 + bias``, elementwise, on any shape.

    Args:
        scale_value: Start of the learnable ``scale``, shape (1,).
        bias_value: Start of the learnable ``bias``, shape (1,).
    """

    def __init__(self, scale_value: float = 1.0, bias_value: float = 0.0) -> None:
        super().__init__()
        self.scale_value = scale_value
        self.bias_value = bias_value
        self.scale = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set scale and bias to their start."""
        nn.init.constant_(self.scale, self.scale_value)
        nn.init.constant_(self.bias, self.bias_value)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to ``x`` of any shape; same shape out."""
        return star_relu(x, self.scale, self.bias)

    def extra_repr(self) -> str:
        """Show the start values."""
        return f"scale_value={self.scale_value}, bias_value={self.bias_value}"
