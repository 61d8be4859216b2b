"""FreqScale, FDAM's frequency dynamic scaling: scale each frequency of a feature map by a filter mixed for the image.

Chen, Gu, Fu, "Frequency-Dynamic Attention Modulation for Dense Prediction", ICCV 2025, arXiv 2507.12006, section 3.3.
The public code (github.com/Linwei-Chen/FDAM, ``GroupDynamicScale``, no licence) was consulted for the formula and the
parameter names; none of it is used. With ``X = rfft2(x)`` and routing weights ``r = tanh(MLP(mean of x))`` of shape
(B, group, num_filters)::

    M[b, g, c] = sum_f r[b, g, f] * resize(complex_weights[f, c])        y = irfft2(X * M)

Differences from the published form, none of which changes the result beyond rounding: the filters are mixed at their
own size and the mixture is resized, where each filter was resized and then mixed; FFTs, resizing and product are in
``fdam_rotate.models.layers.spectrum``, for exporters in ``fdam_rotate.models.layers.dft``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fdam_rotate.models.layers.autograd import records_gradient
from fdam_rotate.models.layers.dft import scale_spectrum_dft
from fdam_rotate.models.layers.spectrum import scale_spectrum
from fdam_rotate.models.layers.star_relu import StarReLU

__all__ = ["FreqScale", "combine_filters", "set_freq_impl"]

_IMPLS = ("fft", "dft")


def combine_filters(filters: Tensor, routing: Tensor) -> Tensor:
    """Mix the filters of each image and group: (F, c, S, S2), (B, G, F) -> (B, G * c, S, S2), channel ``g * c + i``."""
    mixed = torch.matmul(routing, filters.flatten(1))  # (B, G, c * S * S2)
    return mixed.view(routing.shape[0], -1, *filters.shape[2:])


class _Routing(nn.Module):
    """Two linear layers without bias and StarReLU between them: (B, dim) -> (B, out_dim)."""

    def __init__(self, dim: int, hidden: int, out_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden, bias=False)
        self.act = StarReLU()
        self.fc2 = nn.Linear(hidden, out_dim, bias=False)

    def reset_parameters(self) -> None:
        for layer in (self.fc1, self.act, self.fc2):
            layer.reset_parameters()
        # Hidden units in pairs of opposite sign: one of each passes StarReLU. The layer is narrow (2 units at 32
        # channels, 4 at 64), and with all of them cut off, which random signs give often, neither filters nor routing
        # would get a gradient.
        with torch.no_grad():
            mirrored = self.fc1.weight[1::2]
            mirrored.copy_(-self.fc1.weight[: 2 * len(mirrored) : 2])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


def _mean_of_maps(x: Tensor) -> Tensor:
    """Mean over H and W in float32 at least: (B, C, H, W) -> (B, C)."""
    return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


class _MeanOfMaps(torch.autograd.Function):
    """``_mean_of_maps`` with its gradient: one number for a whole map, which torch's own writes to each place of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return _mean_of_maps(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        places = ctx.shape[2] * ctx.shape[3]
        return (grad / places).to(ctx.dtype)[..., None, None].expand(ctx.shape)


class FreqScale(nn.Module):
    """Scale the spectrum of (B, C, H, W) features by filters mixed for each image; see the module's docstring.

    Args:
        dim: Channels C.
        group: Groups of channels that share a mixture; divides ``dim``.
        num_filters: Learned filters F that are mixed.
        size: Side of the stored filters, (size, size // 2 + 1) on the half spectrum.
        reweight_ratio: Hidden width of the routing, as a share of ``dim``.
        init_scale: Standard deviation of the filters at the start.
        impl: 'fft', or 'dft' for matrix products that every exporter knows (equal to 1e-4 in float32).

    Raises:
        ValueError: Where ``group`` does not divide ``dim``, a size is below 1, or ``impl`` is unknown.
    """

    def __init__(
        self,
        dim: int,
        group: int = 16,
        num_filters: int = 4,
        size: int = 14,
        reweight_ratio: float = 0.0625,
        init_scale: float = 1e-5,
        impl: str = "fft",
    ) -> None:
        super().__init__()
        if min(dim, group, num_filters, size) < 1:
            sizes = f"{dim}, {group}, {num_filters}, {size}"
            raise ValueError(f"dim, group, num_filters and size must be at least 1, got {sizes}")
        if dim % group:
            raise ValueError(f"group must divide dim, got dim={dim} and group={group}")
        hidden = int(dim * reweight_ratio)
        if hidden < 1:
            raise ValueError(f"dim * reweight_ratio must be at least 1, got {dim} * {reweight_ratio}")
        self.dim, self.group, self.num_filters, self.init_scale = dim, group, num_filters, init_scale
        self.impl = impl
        self.reweight = _Routing(dim, hidden, group * num_filters)
        self.complex_weights = nn.Parameter(torch.empty(num_filters, dim // group, size, size // 2 + 1))
        self.reset_parameters()

    @property
    def impl(self) -> str:
        """'fft' or 'dft'."""
        return self._impl

    @impl.setter
    def impl(self, value: str) -> None:
        if value not in _IMPLS:
            raise ValueError(f"impl must be one of {', '.join(_IMPLS)}, got {value!r}")
        self._impl = value

    def reset_parameters(self) -> None:
        """Set the filters near zero, so that the layer starts as (almost) no change, and the routing to its start."""
        self.reweight.reset_parameters()
        nn.init.trunc_normal_(self.complex_weights, std=self.init_scale)

    def init_weights(self) -> None:
        """Undo what a parent's ``init_cfg`` did to the layers inside; mmcv calls this after it."""
        self.reset_parameters()

    def forward(self, x: Tensor, residual: bool = False) -> Tensor:
        """Return the scaled features y, or ``x + y``.

        Args:
            x: (B, C, H, W), any float dtype, any H and W from 1 up. The FFT and the sum run in float32 (float64 stays
                float64), also under autocast.
            residual: Return ``x + y``; the sum is made before rounding to the dtype of ``x``.

        Returns:
            Tensor of the shape and dtype of ``x``.

        Raises:
            ValueError: Where ``x`` is not 4-D, is empty, or has not ``dim`` channels.
        """
        if x.dim() != 4 or x.shape[1] != self.dim or x.numel() == 0:
            raise ValueError(f"expected non-empty features of shape (B, {self.dim}, H, W), got {tuple(x.shape)}")
        with torch.autocast(x.device.type, enabled=False):
            kernels = self.mixed_filters(x)
            if self.impl == "fft":
                return scale_spectrum(x, kernels, residual)
            return scale_spectrum_dft(x.to(kernels.dtype), kernels, residual).to(x.dtype)

    def mixed_filters(self, x: Tensor) -> Tensor:
        """Return the filters mixed for each image and group, for features (B, C, H, W).

        Returns:
            Tensor (B, C, size, size // 2 + 1), in float64 with ``x`` of float64, else in float32.
        """
        mean = (_MeanOfMaps.apply if records_gradient(x) else _mean_of_maps)(x)
        routing = self.reweight(mean.to(self.complex_weights.dtype)).tanh().view(-1, self.group, self.num_filters)
        return combine_filters(self.complex_weights, routing).to(mean.dtype)

    def extra_repr(self) -> str:
        """Show what distinguishes one layer from another."""
        return f"dim={self.dim}, group={self.group}, num_filters={self.num_filters}, impl={self.impl!r}"


def set_freq_impl(model: nn.Module, impl: str) -> int:
    """Set ``impl`` ('fft' or 'dft') of every FreqScale in ``model``; return how many there are."""
    layers = [module for module in model.modules() if isinstance(module, FreqScale)]
    for layer in layers:
        layer.impl = impl
    return len(layers)
