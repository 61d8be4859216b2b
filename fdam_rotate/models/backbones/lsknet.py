"""LSKNet: a convolutional backbone that selects its receptive field at each place.

Li et al., "Large Selective Kernel Network for Remote Sensing Object Detection", ICCV 2023, arXiv 2303.09030; "LSKNet:
A Foundation Lightweight Backbone for Remote Sensing", IJCV 2024, arXiv 2403.11735. State-dict keys and arithmetic are
those of the public fork of MMRotate (github.com/zcablii/LSKNet, CC BY-NC 4.0), so that its published checkpoints load
unchanged; its code is not used. Those checkpoints stay non-commercial.

Differences from the fork: ``out_indices``, ``frozen_stages``, ``norm_eval`` and ``with_cp`` as in mmdet's backbones;
frozen stages freeze; an unknown keyword is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmcv.runner import BaseModule, ModuleList
from mmrotate.models.builder import ROTATED_BACKBONES
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fdam_rotate.models.layers.layout import fast_layout

__all__ = ["LSKAttention", "LSKBlock", "LSKNet", "SpatialSelection"]

_NUM_STAGES = 4


class _DepthwiseConv(BaseModule):
    """3 x 3 depthwise convolution, in a module of its own because the published keys are ``dwconv.dwconv``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x)


class _Mlp(BaseModule):
    """1 x 1 convolution, depthwise convolution, GELU and 1 x 1 convolution: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, dim: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.dwconv = _DepthwiseConv(hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.dwconv(self.fc1(x))))))


class SpatialSelection(BaseModule):
    """The selection map of LSK: two receptive fields, 5 and 23 pixels wide, weighted at each place.

    Args:
        dim: Channels C, even.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, dilation=3, groups=dim)
        self.conv1 = nn.Conv2d(dim, dim // 2, 1)
        self.conv2 = nn.Conv2d(dim, dim // 2, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(dim // 2, dim, 1)

    def forward(self, u: Tensor) -> Tensor:
        """Return the map s, (B, C, H, W), by which the attention multiplies ``u``, (B, C, H, W)."""
        near = self.conv0(u)
        far = self.conv2(self.conv_spatial(near))  # (B, C / 2, H, W)
        near = self.conv1(near)
        both = torch.cat((near, far), dim=1)
        pooled = torch.cat((both.mean(1, keepdim=True), both.amax(1, keepdim=True)), dim=1)
        choice = self.conv_squeeze(pooled).sigmoid()  # (B, 2, H, W)
        return self.conv(near * choice[:, :1] + far * choice[:, 1:])


class LSKAttention(BaseModule):
    """Large selective kernel attention: ``x + proj_2(u * s)``; u = GELU(proj_1(x)), s the selection map of u."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.activation = nn.GELU()
        self.spatial_gating_unit = SpatialSelection(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, C, H, W) -> (B, C, H, W)."""
        u = self.activation(self.proj_1(x))
        return self.proj_2(self.gate(x, u, self.spatial_gating_unit(u))) + x

    def gate(self, x: Tensor, u: Tensor, selection: Tensor) -> Tensor:
        """Return what ``proj_2`` sees: ``u * selection``. ``x`` is the attention's input; all are (B, C, H, W)."""
        return u * selection


class LSKBlock(BaseModule):
    """``x + layer_scale_1 * attn(norm1(x))``, then ``x + layer_scale_2 * mlp(norm2(x))``.

    Args:
        dim: Channels C.
        mlp_ratio: Hidden channels of the MLP over C.
        drop_rate: Dropout in the MLP.
        drop_path_rate: Share of images of a batch whose branch is dropped in training.
        norm_cfg: Config of ``norm1`` and ``norm2``.
    """

    def __init__(self, dim: int, mlp_ratio: float, drop_rate: float, drop_path_rate: float, norm_cfg: dict) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, dim)[1]
        self.norm2 = build_norm_layer(norm_cfg, dim)[1]
        self.attn = LSKAttention(dim)
        self.drop_path = DropPath(drop_path_rate)
        self.mlp = _Mlp(dim, int(dim * mlp_ratio), drop_rate)
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), 1e-2))

    def forward(self, x: Tensor) -> Tensor:
        """Run the block: (B, C, H, W) -> (B, C, H, W)."""
        x = x + self.drop_path(self.layer_scale_1[:, None, None] * self.attn_branch(x))
        return x + self.drop_path(self.layer_scale_2[:, None, None] * self.mlp_branch(x))

    def attn_branch(self, x: Tensor) -> Tensor:
        """Return ``attn(norm1(x))``."""
        return self.attn(self.norm1(x))

    def mlp_branch(self, x: Tensor) -> Tensor:
        """Return ``mlp(norm2(x))``."""
        return self.mlp(self.norm2(x))


class _PatchEmbed(BaseModule):
    """Strided convolution and norm: (B, in, H, W) -> (B, dim, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, in_channels: int, dim: int, kernel_size: int, stride: int, norm_cfg: dict) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size, stride=stride, padding=kernel_size // 2)
        self.norm = build_norm_layer(norm_cfg, dim)[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


@ROTATED_BACKBONES.register_module()
class LSKNet(BaseModule):
    """LSKNet; the defaults are LSKNet-S, and LSKNet-T has ``embed_dims=(32, 64, 160, 256), depths=(3, 3, 5, 2)``.

    ===== ====== ============
    stage stride channels (S)
    ===== ====== ============
    1     4      64
    2     8      128
    3     16     320
    4     32     512
    ===== ====== ============

    Args:
        in_channels: Channels of the image.
        embed_dims: Channels of each stage, even.
        mlp_ratios: Hidden channels of the MLPs over the stage's, for each stage.
        depths: Blocks of each stage.
        drop_rate: Dropout in the MLPs.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
        norm_cfg: Config of the norms of patch embeddings and blocks. SyncBN needs a process group; ``tools/train.py``
            replaces it by BN where there is one process.
        out_indices: Stages whose output is returned, 0 to 3.
        frozen_stages: The first so many stages are not trained and keep their norm statistics; -1 or 0 for none.
        norm_eval: Keep the statistics of all BatchNorms fixed in training too.
        with_cp: Gradient checkpointing: recompute each block in the backward pass. Less memory, more time.
        layer_scale: Start of the layer scales. 1e-2 is the published one; a short training from scratch wants 1.
        channels_last: Compute on maps with their channels side by side in memory, and return such; None where that is
            faster (``layers.layout``). The values, weights and shapes are the same.
        init_cfg: MMCV's initialisation config, e.g. ``dict(type='Pretrained', checkpoint='lsk_s_backbone.pth')``.

    Raises:
        ValueError: Where a setting is out of range or a list has not four entries.
    """

    def __init__(
        self,
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
        super().__init__(init_cfg)
        check_stages(embed_dims=embed_dims, mlp_ratios=mlp_ratios, depths=depths)
        if any(dim < 2 or dim % 2 for dim in embed_dims):
            raise ValueError(f"embed_dims must be positive and even, got {tuple(embed_dims)}")
        if not out_indices or not set(out_indices) <= set(range(_NUM_STAGES)):
            raise ValueError(f"out_indices must be some of 0 to {_NUM_STAGES - 1}, got {tuple(out_indices)}")
        if not -1 <= frozen_stages <= _NUM_STAGES:
            raise ValueError(f"frozen_stages must be -1 to {_NUM_STAGES}, got {frozen_stages}")
        norm_cfg = dict(type="BN", requires_grad=True) if norm_cfg is None else norm_cfg
        self.embed_dims = tuple(embed_dims)
        self.out_indices = tuple(sorted(out_indices))
        self.out_channels = tuple(embed_dims[i] for i in self.out_indices)
        self.out_strides = tuple(4 * 2**i for i in self.out_indices)
        self.frozen_stages, self.norm_eval, self.with_cp = frozen_stages, norm_eval, with_cp
        self.layer_scale, self.channels_last = layer_scale, channels_last

        rates = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
        channels = in_channels
        for stage, (dim, ratio, depth) in enumerate(zip(embed_dims, mlp_ratios, depths, strict=True)):
            kernel_size, stride = (7, 4) if stage == 0 else (3, 2)
            embed = _PatchEmbed(channels, dim, kernel_size, stride, norm_cfg)
            blocks = [self.make_block(stage, dim, ratio, drop_rate, next(rates), norm_cfg) for _ in range(depth)]
            setattr(self, f"patch_embed{stage + 1}", embed)
            setattr(self, f"block{stage + 1}", ModuleList(blocks))
            setattr(self, f"norm{stage + 1}", nn.LayerNorm(dim, eps=1e-6))
            channels = dim
        self.reset_parameters()
        self._freeze()

    def make_block(
        self, stage: int, dim: int, mlp_ratio: float, drop_rate: float, drop_path_rate: float, norm_cfg: dict
    ) -> LSKBlock:
        """Build one block of ``stage`` (0 to 3); the constructor calls this, and a subclass may build another kind."""
        return LSKBlock(dim, mlp_ratio, drop_rate, drop_path_rate, norm_cfg)

    def reset_parameters(self) -> None:
        """Set all weights to their start: convolutions normal with variance 2 / fan-out and bias 0, norms 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, _BatchNorm, nn.GroupNorm)):
                module.reset_parameters()
            elif isinstance(module, LSKBlock):
                nn.init.constant_(module.layer_scale_1, self.layer_scale)
                nn.init.constant_(module.layer_scale_2, self.layer_scale)

    def init_weights(self) -> None:
        """Start afresh, then apply ``init_cfg``.

        A detector's own ``init_cfg`` may have rewritten the convolutions, and a checkpoint of ``init_cfg`` may lack
        some weights.
        """
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def train(self, mode: bool = True) -> LSKNet:
        """Set training mode; frozen stages, and all BatchNorms under ``norm_eval``, stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the chosen stages' features.

        Args:
            x: Images (B, in_channels, H, W), H and W from 32 up, in pixels, not necessarily multiples of 32.

        Returns:
            For each of ``out_indices``, in order, (B, C, ceil(H / stride), ceil(W / stride)).
        """
        layout = self._layout(x)
        x = x.contiguous(memory_format=layout)
        outs = []
        for stage in range(self.out_indices[-1] + 1):
            embed, blocks, norm = self._stage(stage)
            x = embed(x)
            for block in blocks:
                x = _recomputed(block, x) if self.with_cp and x.requires_grad else block(x)
            x = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous(memory_format=layout)
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _layout(self, x: Tensor) -> torch.memory_format:
        if self.channels_last is None:
            return fast_layout(x)
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def _stage(self, stage: int) -> tuple[nn.Module, ModuleList, nn.LayerNorm]:
        return tuple(getattr(self, f"{name}{stage + 1}") for name in ("patch_embed", "block", "norm"))

    def _freeze(self) -> None:
        for stage in range(self.frozen_stages):
            for module in self._stage(stage):
                module.eval()
                module.requires_grad_(False)


def _recomputed(block: LSKBlock, x: Tensor) -> Tensor:
    """Run ``block`` with gradient checkpointing; recomputing leaves BatchNorm's statistics as the first run did."""
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(block)))


@contextmanager
def _statistics_kept(block: LSKBlock) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    settings = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, settings, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def check_stages(**settings: Sequence) -> None:
    """Raise ValueError, naming the setting, where one of ``settings`` has not four entries."""
    for name, values in settings.items():
        if len(values) != _NUM_STAGES:
            raise ValueError(f"{name} must have {_NUM_STAGES} entries, one for each stage, got {tuple(values)}")
