"""MiTFDAM: SegFormer's encoder, the Mix Transformer, with FDAM.

Chen, Gu, Fu, "Frequency-Dynamic Attention Modulation for Dense Prediction", ICCV 2025, arXiv 2507.12006, on Xie et al.,
"SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203.
State-dict keys and arithmetic are those of MMSegmentation's MixVisionTransformer (Apache-2.0, commit 027eca0, consulted
for facts), so that the mit_b0 to mit_b5 checkpoints that MMSegmentation hosts load with only FDAM's parameters missing.
Those weights are NVIDIA's and non-commercial.

The paper reports SegFormer with FDAM but gives no code for it; this is our reading. Attention here is between all N
tokens and keys and values of a reduced grid, so its output y has N tokens where the values have fewer, and the
published inversion v - y is not defined. What y is a low-pass of is the value that each token itself has to offer: so
the high-pass is ``W_v x - y``, the values projected from the tokens at full resolution, before the reduction. Where
nothing is reduced (the last stage) this is v - y. Values brought up from the reduced grid would lack the very detail
that the high-pass is to keep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmcv.runner import BaseModule, ModuleList, Sequential
from mmrotate.models.builder import ROTATED_BACKBONES
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fdam_rotate.models.layers.add_fdam import give_att_inv, invert, scale_tokens
from fdam_rotate.models.layers.att_inv import reset_modulation
from fdam_rotate.models.layers.freq_scale import FreqScale

__all__ = ["ARCHS", "MiTBlock", "MiTFDAM", "ReducedAttention"]

ARCHS: dict[str, dict[str, Any]] = {
    "b0": {"embed_dims": 32, "depths": (2, 2, 2, 2)},
    "b1": {"embed_dims": 64, "depths": (2, 2, 2, 2)},
    "b2": {"embed_dims": 64, "depths": (3, 4, 6, 3)},
    "b3": {"embed_dims": 64, "depths": (3, 4, 18, 3)},
    "b4": {"embed_dims": 64, "depths": (3, 8, 27, 3)},
    "b5": {"embed_dims": 64, "depths": (3, 6, 40, 3)},
}
_NUM_HEADS = (1, 2, 5, 8)
_SR_RATIOS = (8, 4, 2, 1)
_NUM_STAGES = 4


class _Projections(BaseModule):
    """The projections of ``torch.nn.MultiheadAttention``, by its names: ``in_proj_*`` makes q, k and v."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)


class ReducedAttention(BaseModule):
    """Self-attention with keys and values of a grid reduced by a strided convolution, mixed with its inversion.

    Args:
        dim: Channels C.
        num_heads: Attention heads; divides ``dim``.
        sr_ratio: Side of the square of tokens that becomes one key and value; 1 for none.
        att_inv: Mix the output with its inversion.
    """

    def __init__(self, dim: int, num_heads: int, sr_ratio: int, att_inv: bool) -> None:
        super().__init__()
        self.num_heads, self.sr_ratio, self.att_inv = num_heads, sr_ratio, att_inv
        self.attn = _Projections(dim)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(dim, eps=1e-6)
        if att_inv:
            give_att_inv(self, dim, num_heads)

    def init_weights(self) -> None:
        """Undo what a parent's ``init_cfg`` did to the modulation."""
        super().init_weights()
        if self.att_inv:
            reset_modulation(self)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """Attend: tokens (B, H * W, C) to the same shape; ``hw`` is (H, W), each at least ``sr_ratio``."""
        dim = x.shape[-1]
        weight, bias = self.attn.in_proj_weight, self.attn.in_proj_bias
        reduced = x
        if self.sr_ratio > 1:
            reduced = self.norm(self.sr(x.transpose(1, 2).unflatten(2, hw)).flatten(2).transpose(1, 2))
        q = F.linear(x, weight[:dim], bias[:dim])
        kv = F.linear(reduced, weight[dim:], bias[dim:])
        k, v = kv[..., :dim], kv[..., dim:]
        q, k, heads_v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))  # (B, h, N, d)
        y = F.scaled_dot_product_attention(q, k, heads_v).transpose(1, 2).flatten(2)
        if self.att_inv:
            own = v if self.sr_ratio == 1 else F.linear(x, weight[2 * dim :], bias[2 * dim :])
            y = invert(self, x, y, own)
        return self.attn.out_proj(y)


class _MixFFN(BaseModule):
    """1 x 1 convolution, depthwise 3 x 3 (which gives positions), GELU, 1 x 1 convolution on (B, C, H, W)."""

    def __init__(self, dim: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.layers = Sequential(
            nn.Conv2d(dim, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Dropout(drop_rate),
            nn.Conv2d(hidden, dim, 1),
            nn.Dropout(drop_rate),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class MiTBlock(BaseModule):
    """``a = attn(norm1(x))``, ``x = x + a + freq_scale_1(a)``; then with ``ffn``, ``norm2`` and ``freq_scale_2``.

    Args:
        dim: Channels C.
        num_heads: Attention heads.
        sr_ratio: Reduction of keys and values, see ReducedAttention.
        mlp_ratio: Hidden channels of the FFN over C.
        drop_rate: Dropout in the FFN.
        drop_path_rate: Share of images of a batch whose branch is dropped in training.
        att_inv: Mix the attention's output with its inversion.
        freq_scale: Scale each branch by frequency.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        sr_ratio: int,
        mlp_ratio: int,
        drop_rate: float,
        drop_path_rate: float,
        att_inv: bool,
        freq_scale: bool,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = ReducedAttention(dim, num_heads, sr_ratio, att_inv)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = _MixFFN(dim, dim * mlp_ratio, drop_rate)
        self.drop_path = DropPath(drop_path_rate)
        self.freq_scale_1 = FreqScale(dim) if freq_scale else None
        self.freq_scale_2 = FreqScale(dim) if freq_scale else None

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """Run the block on tokens (B, H * W, C); ``hw`` is (H, W)."""
        a = self.attn(self.norm1(x), hw)
        x = x + self.drop_path(a if self.freq_scale_1 is None else scale_tokens(self.freq_scale_1, a, hw))
        m = self.ffn(self.norm2(x).transpose(1, 2).unflatten(2, hw))
        m = m if self.freq_scale_2 is None else self.freq_scale_2(m, residual=True)
        return x + self.drop_path(m.flatten(2).transpose(1, 2))


class _PatchEmbed(BaseModule):
    """Overlapping strided convolution and norm: (B, in, H, W) to tokens (B, N, dim) and their grid."""

    def __init__(self, in_channels: int, dim: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, dim, kernel_size, stride=stride, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.projection(x)
        return self.norm(x.flatten(2).transpose(1, 2)), tuple(x.shape[-2:])


@ROTATED_BACKBONES.register_module()
class MiTFDAM(BaseModule):
    """SegFormer's Mix Transformer with frequency-dynamic attention modulation.

    ===== ====== ============= ============= ===== ==================
    stage stride channels (b0) channels (b1+) heads keys and values of
    ===== ====== ============= ============= ===== ==================
    1     4      32            64            1     8 x 8 tokens
    2     8      64            128           2     4 x 4 tokens
    3     16     160           320           5     2 x 2 tokens
    4     32     256           512           8     each token
    ===== ====== ============= ============= ===== ==================

    Args:
        arch: 'b0' to 'b5', or a dict of embed_dims (channels of one head, and of stage 1), depths (blocks per stage).
        in_channels: Channels of the image.
        mlp_ratio: Hidden channels of the FFNs over the stage's.
        drop_rate: Dropout in the FFNs.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
        att_inv: Mix the attention's output with its inversion.
        freq_scale: Scale each branch by frequency; embed_dims must be a multiple of 16.
        out_indices: Stages whose output is returned, 0 to 3.
        frozen_stages: The first so many stages are not trained; -1 or 0 for none.
        with_cp: Gradient checkpointing: recompute each block in the backward pass. Less memory, more time.
        init_cfg: MMCV's initialisation config, e.g. ``dict(type='Pretrained', checkpoint='mit_b0.pth')``.

    Raises:
        ValueError: Where a setting is out of range or unknown.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "b0",
        in_channels: int = 3,
        mlp_ratio: int = 4,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        att_inv: bool = True,
        freq_scale: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        embed_dims, depths = _sizes(arch)
        if not out_indices or not set(out_indices) <= set(range(_NUM_STAGES)):
            raise ValueError(f"out_indices must be some of 0 to {_NUM_STAGES - 1}, got {tuple(out_indices)}")
        if not -1 <= frozen_stages <= _NUM_STAGES:
            raise ValueError(f"frozen_stages must be -1 to {_NUM_STAGES}, got {frozen_stages}")
        dims = tuple(embed_dims * heads for heads in _NUM_HEADS)
        self.out_indices = tuple(sorted(out_indices))
        self.out_channels = tuple(dims[i] for i in self.out_indices)
        self.out_strides = tuple(4 * 2**i for i in self.out_indices)
        self.frozen_stages, self.with_cp = frozen_stages, with_cp

        last = max(sum(depths) - 1, 1)
        rates = iter([drop_path_rate * index / last for index in range(last + 1)])
        self.layers = ModuleList()
        channels = in_channels
        for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            blocks = ModuleList(
                MiTBlock(
                    dim,
                    _NUM_HEADS[stage],
                    _SR_RATIOS[stage],
                    mlp_ratio=mlp_ratio,
                    drop_rate=drop_rate,
                    drop_path_rate=next(rates),
                    att_inv=att_inv,
                    freq_scale=freq_scale,
                )
                for _ in range(depth)
            )
            embed = _PatchEmbed(channels, dim, *((7, 4) if stage == 0 else (3, 2)))
            self.layers.append(ModuleList([embed, blocks, nn.LayerNorm(dim, eps=1e-6)]))
            channels = dim
        self.reset_parameters()
        self._freeze()

    def reset_parameters(self) -> None:
        """Set all weights to their start: convolutions by fan-out, linear layers std 0.02; what FDAM adds near zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, _Projections)):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, ReducedAttention) and module.att_inv:
                reset_modulation(module)
            elif isinstance(module, FreqScale):
                module.reset_parameters()

    def init_weights(self) -> None:
        """Start afresh, then apply ``init_cfg``: a detector's own ``init_cfg`` may have rewritten the layers."""
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def train(self, mode: bool = True) -> MiTFDAM:
        """Set training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the chosen stages' features.

        Args:
            x: Images (B, in_channels, H, W), H and W from 29 up, in pixels, not necessarily multiples of 32.

        Returns:
            For each of ``out_indices``, in order, (B, C, ceil(H / stride), ceil(W / stride)).

        Raises:
            ValueError: Where the image is smaller: the first stage reduces 8 x 8 tokens of 4 x 4 pixels to one.
        """
        if min(x.shape[-2:]) <= 4 * (_SR_RATIOS[0] - 1):
            raise ValueError(f"expected images from 29 x 29 pixels up, got {x.shape[-2]} x {x.shape[-1]}")
        outs = []
        for stage, (embed, blocks, norm) in enumerate(self.layers[: self.out_indices[-1] + 1]):
            x, hw = embed(x)
            for block in blocks:
                use_cp = self.with_cp and x.requires_grad
                x = checkpoint(block, x, hw, use_reentrant=False) if use_cp else block(x, hw)
            x = norm(x).transpose(1, 2).unflatten(2, hw).contiguous()
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _freeze(self) -> None:
        for stage in self.layers[: max(self.frozen_stages, 0)]:
            stage.eval()
            stage.requires_grad_(False)


def _sizes(arch: str | Mapping[str, Any]) -> tuple[int, Sequence[int]]:
    """Return embed_dims and depths."""
    names = ("embed_dims", "depths")
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}, or a dict, got {arch!r}")
        arch = ARCHS[arch]
    elif set(arch) != set(names):
        raise ValueError(f"arch must have the keys {', '.join(names)}, got {', '.join(arch)}")
    if len(arch["depths"]) != _NUM_STAGES:
        raise ValueError(f"depths must have {_NUM_STAGES} entries, one for each stage, got {tuple(arch['depths'])}")
    return arch["embed_dims"], arch["depths"]
