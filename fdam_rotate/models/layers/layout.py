"""The order in which maps lie in memory: one channel after the other, or the channels of each place side by side."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fast_layout"]


def fast_layout(x: Tensor) -> torch.memory_format:
    """The layout in which a network of convolutions is fastest on ``x``; the values are the same in both.

    Channels last on the CPU, where oneDNN computes the convolutions: it works in blocks of channels, and has to sort
    maps of the other layout into them and back around every convolution. The usual layout on a GPU, in float64, which
    oneDNN does not compute, and while somebody traces the operations.
    """
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    if x.device.type == "cpu" and x.dtype != torch.float64 and torch.backends.mkldnn.is_available() and not traced:
        return torch.channels_last
    return torch.contiguous_format
