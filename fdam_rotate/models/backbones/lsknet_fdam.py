"""LSKNet with FDAM: its gate inverted and its branches scaled by frequency.

Chen, Gu, Fu, "Frequency-Dynamic Attention Modulation for Dense Prediction", ICCV 2025, arXiv 2507.12006, reports
LSKNet-S with FDAM on DOTA-v1.0, but gives neither code nor formulas for LSKNet; this is our reading. LSK's spatial
gating takes the place of attention as the low-pass operator: with u = GELU(proj_1(x)) and the gated y = u * s, its
inversion is u - y (``layers.att_inv``). FreqScale follows the attention and the MLP inside the layer-scaled branches,
as in the published block.

The new parameters have the published names inside each block; all others are LSKNet's, so that an LSKNet checkpoint
loads with only the new ones missing. With the gammas and ``complex_weights`` at zero the network equals LSKNet
exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmrotate.models.builder import ROTATED_BACKBONES
from torch import Tensor, nn

from fdam_rotate.models.backbones.lsknet import LSKAttention, LSKBlock, LSKNet, check_stages
from fdam_rotate.models.layers.att_inv import (
    att_inv_weights,
    convolved_gate,
    head_logits,
    inverted_gate,
    reset_modulation,
)
from fdam_rotate.models.layers.freq_scale import FreqScale
from fdam_rotate.models.layers.star_relu import StarReLU

__all__ = ["FDAMBlock", "InvertedLSKAttention", "LSKNetFDAM"]


class InvertedLSKAttention(LSKAttention):
    """LSK attention whose gated map is mixed with its inversion, by weights for each place and group of channels.

    Args:
        dim: Channels C.
        num_heads: Groups of channels that share their weights; divides ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim)
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads must divide the stage's channels, got {num_heads} heads for {dim} channels")
        self.num_heads = num_heads
        self.dy_freq = nn.Conv2d(dim, num_heads, 1)
        self.dy_freq_2 = nn.Conv2d(dim, num_heads, 1)
        self.dy_freq_starrelu = StarReLU()
        self.lf_gamma = nn.Parameter(torch.empty(dim))
        self.hf_gamma = nn.Parameter(torch.empty(dim))
        reset_modulation(self)

    def init_weights(self) -> None:
        """Undo what a parent's ``init_cfg`` did to the modulation."""
        super().init_weights()
        reset_modulation(self)

    def gate(self, x: Tensor, u: Tensor, selection: Tensor) -> Tensor:
        """Return the gated map mixed with its inversion; all are (B, C, H, W)."""
        if torch.compiler.is_exporting():
            return convolved_gate(x, u, selection, self, self.num_heads)
        logits = head_logits(x.flatten(2), self.dy_freq, self.dy_freq_2, self.dy_freq_starrelu)
        alpha, beta = (weight.unflatten(2, u.shape[2:]) for weight in att_inv_weights(*logits))  # (B, h, H, W)
        return inverted_gate(u, selection, alpha, beta, self.lf_gamma, self.hf_gamma)


class FDAMBlock(LSKBlock):
    """LSKNet's block with AttInv in its attention and FreqScale after its attention and MLP.

    Args:
        num_heads: Groups of channels in AttInv, or None for LSKNet's own attention.
        freq_scale: Add FreqScale.
        settings: LSKBlock's arguments.
    """

    def __init__(self, dim: int, *settings: Any, num_heads: int | None, freq_scale: bool) -> None:
        super().__init__(dim, *settings)
        if num_heads is not None:
            self.attn = InvertedLSKAttention(dim, num_heads)
        self.freq_scale_1 = FreqScale(dim) if freq_scale else None
        self.freq_scale_2 = FreqScale(dim) if freq_scale else None

    def attn_branch(self, x: Tensor) -> Tensor:
        """Return ``a + freq_scale_1(a)`` of ``a = attn(norm1(x))``."""
        a = super().attn_branch(x)
        return a if self.freq_scale_1 is None else self.freq_scale_1(a, residual=True)

    def mlp_branch(self, x: Tensor) -> Tensor:
        """Return ``a + freq_scale_2(a)`` of ``a = mlp(norm2(x))``."""
        a = super().mlp_branch(x)
        return a if self.freq_scale_2 is None else self.freq_scale_2(a, residual=True)


@ROTATED_BACKBONES.register_module()
class LSKNetFDAM(LSKNet):
    """LSKNet with frequency-dynamic attention modulation; stages and other settings as in LSKNet.

    Args:
        att_inv: Mix the gated map with its inversion.
        freq_scale: Scale each branch by frequency; the stages' channels must be multiples of 16.
        num_heads: Groups of channels of AttInv, for each stage; they divide its channels.
        in_channels: As in LSKNet, and so are all that follow.

    Raises:
        ValueError: As LSKNet, and where ``num_heads`` or 16 does not divide a stage's channels.
    """

    def __init__(
        self,
        att_inv: bool = True,
        freq_scale: bool = True,
        num_heads: Sequence[int] = (1, 2, 5, 8),
        *,
        in_channels: int = 3,
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        depths: Sequence[int] = (2, 2, 4, 2),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_cfg: dict | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        layer_scale: float = 1e-2,
        channels_last: bool | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        check_stages(num_heads=num_heads)
        # make_block, which the constructor of LSKNet calls, reads these.
        self.att_inv, self.freq_scale, self.num_heads = att_inv, freq_scale, tuple(num_heads)
        super().__init__(
            in_channels=in_channels,
            embed_dims=embed_dims,
            mlp_ratios=mlp_ratios,
            depths=depths,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            norm_cfg=norm_cfg,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            layer_scale=layer_scale,
            channels_last=channels_last,
            init_cfg=init_cfg,
        )

    def make_block(self, stage: int, dim: int, *settings: Any) -> FDAMBlock:
        """Build a block with FDAM in it."""
        heads = self.num_heads[stage] if self.att_inv else None
        return FDAMBlock(dim, *settings, num_heads=heads, freq_scale=self.freq_scale)

    def reset_parameters(self) -> None:
        """Set all weights to their start; that of FDAM's is near zero, whatever LSKNet gives its convolutions."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, InvertedLSKAttention):
                reset_modulation(module)
            elif isinstance(module, FreqScale):
                module.reset_parameters()
