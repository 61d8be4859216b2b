"""ViTFDAM: the plain Vision Transformer of DeiT-III with FDAM, for images of any size.

Chen, Gu, Fu, "Frequency-Dynamic Attention Modulation for Dense Prediction", ICCV 2025, arXiv 2507.12006, on Touvron,
Cord, Jégou, "DeiT III: Revenge of the ViT", ECCV 2022, arXiv 2204.07118. State-dict keys and arithmetic are those of
FDAM's public code (github.com/Linwei-Chen/FDAM, FDAM_mmseg, commit 529ed50, no licence, consulted for facts only). Two
kinds of checkpoints load:

* FDAM's own, under ``backbone.``, every key, with ``img_size=512, window_size=0``;
* DeiT-III's from ImageNet (Apache-2.0), with only FDAM's parameters missing. As in FDAM's code their class token is not
  used, nor are the final norm and the classifier; DeiT-III gives the class token no position, so its positions fit as
  they are.

Differences from FDAM's code, each with its reason:

* windowed attention with a few global blocks between (Li et al., "Exploring Plain Vision Transformer Backbones for
  Object Detection", ECCV 2022, arXiv 2203.16527), since attention among all 4096 patches of a 1024 x 1024 image in
  every block is slow. FDAM's windows have no AttInv; ours have, FreqScale always sees the whole grid, and the windows
  divide the grid evenly instead of padding it, so that no padding is attended to;
* images need not be multiples of the patch: they are padded with zeros at the right and bottom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmcv.runner import BaseModule, ModuleList
from mmrotate.models.builder import ROTATED_BACKBONES
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fdam_rotate.models.layers.add_fdam import scale_tokens
from fdam_rotate.models.layers.att_inv import AttInvAttention
from fdam_rotate.models.layers.freq_scale import FreqScale

__all__ = ["ARCHS", "ViTBlock", "ViTFDAM", "attend_in_windows", "even_runs", "resize_positions"]

# DeiT-III's sizes; the patch is 16 pixels in all of them
ARCHS: dict[str, dict[str, int]] = {
    "small": {"embed_dims": 384, "depth": 12, "num_heads": 6},
    "medium": {"embed_dims": 512, "depth": 12, "num_heads": 8},
    "base": {"embed_dims": 768, "depth": 12, "num_heads": 12},
    "large": {"embed_dims": 1024, "depth": 24, "num_heads": 16},
}


def even_runs(length: int, size: int) -> list[tuple[int, int, int]]:
    """Divide ``length`` places into the fewest windows of at most ``size``, as even as can be.

    Returns:
        At most two runs of equal windows, (start, stop, window): [(0, 26, 13), (26, 38, 12)] for 38 in windows of 16.
    """
    count = -(-length // size)
    short, longer = divmod(length, count)
    middle = longer * (short + 1)
    return [(a, b, w) for a, b, w in ((0, middle, short + 1), (middle, length, short)) if b > a]


def attend_in_windows(attention: Callable[[Tensor], Tensor], x: Tensor, hw: tuple[int, int], size: int) -> Tensor:
    """Let tokens attend within windows only.

    Args:
        attention: Maps (windows, tokens, C) to the same shape.
        x: Tokens (B, H * W, C), row by row.
        hw: H and W of the grid.
        size: Largest side of a window in tokens; windows divide the grid as :func:`even_runs` tells.

    Returns:
        Tokens (B, H * W, C).
    """
    grid = x.unflatten(1, hw)
    batch, dim = len(x), x.shape[-1]
    rows = []
    for top, bottom, tall in even_runs(hw[0], size):
        row = []
        for left, right, wide in even_runs(hw[1], size):
            part = grid[:, top:bottom, left:right].unflatten(2, (-1, wide)).unflatten(1, (-1, tall))
            count = part.shape[1], part.shape[3]  # part: (B, windows down, tall, windows across, wide, C)
            out = attention(part.transpose(2, 3).reshape(-1, tall * wide, dim))
            out = out.reshape(batch, *count, tall, wide, dim).transpose(2, 3)
            row.append(out.reshape(batch, bottom - top, right - left, dim))
        rows.append(torch.cat(row, dim=2))
    return torch.cat(rows, dim=1).flatten(1, 2)


def resize_positions(positions: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize position embeddings (1, N, C) of a square grid to (1, H * W, C), bicubic.

    N may be one more than a square: the first position, of a class token, is left out.

    Raises:
        ValueError: Where N is neither a square nor one more.
    """
    count = positions.shape[1]
    side = math.isqrt(count)
    if count - side * side > 1:
        raise ValueError(f"expected position embeddings of a square grid, got {count}")
    grid = positions[:, count - side * side :].transpose(1, 2).unflatten(2, (side, side))
    if hw != (side, side):
        grid = F.interpolate(grid.float(), hw, mode="bicubic", align_corners=False).to(positions.dtype)
    return grid.flatten(2).transpose(1, 2)


class _PatchEmbed(BaseModule):
    """Patches as tokens, in a module of its own because the published keys are ``patch_embed.proj``."""

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        height, width = x.shape[-2:]
        x = self.proj(F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size)))
        return x.flatten(2).transpose(1, 2), tuple(map(int, x.shape[-2:]))  # tracers hand out tensors


class _Mlp(BaseModule):
    """Linear, GELU, linear on tokens."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Attention(BaseModule):
    """Multi-head self-attention without AttInv, of the same keys."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, h, N, d) each
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ViTBlock(BaseModule):
    """``a = attn(norm1(x))``, ``x = x + gamma_1 * (a + freq_scale_1(a))``; then with ``mlp`` and the second ones.

    Args:
        dim: Channels C.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP over C.
        qkv_bias: Give queries, keys and values a bias.
        layer_scale: Start of ``gamma_1`` and ``gamma_2``.
        drop_path_rate: Share of images of a batch whose branch is dropped in training.
        window_size: Largest side of the attention's windows in tokens; 0 for global attention.
        att_inv: Mix the attention's output with its inversion.
        freq_scale: Scale each branch by frequency.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        qkv_bias: bool,
        layer_scale: float,
        drop_path_rate: float,
        window_size: int,
        att_inv: bool,
        freq_scale: bool,
    ) -> None:
        super().__init__()
        self.window_size, self.layer_scale = window_size, layer_scale
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = (AttInvAttention if att_inv else _Attention)(dim, num_heads, qkv_bias=qkv_bias)
        self.drop_path = DropPath(drop_path_rate)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _Mlp(dim, int(dim * mlp_ratio))
        self.gamma_1 = nn.Parameter(torch.full((dim,), layer_scale))
        self.gamma_2 = nn.Parameter(torch.full((dim,), layer_scale))
        self.freq_scale_1 = FreqScale(dim) if freq_scale else None
        self.freq_scale_2 = FreqScale(dim) if freq_scale else None

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """Run the block on tokens (B, H * W, C); ``hw`` is (H, W)."""
        a = self.norm1(x)
        if self.window_size and max(hw) > self.window_size:
            a = attend_in_windows(self.attn, a, hw, self.window_size)
        else:
            a = self.attn(a)
        x = x + self.drop_path(self.gamma_1 * self._scaled(self.freq_scale_1, a, hw))
        return x + self.drop_path(self.gamma_2 * self._scaled(self.freq_scale_2, self.mlp(self.norm2(x)), hw))

    @staticmethod
    def _scaled(freq_scale: FreqScale | None, a: Tensor, hw: tuple[int, int]) -> Tensor:
        return a if freq_scale is None else scale_tokens(freq_scale, a, hw)


@ROTATED_BACKBONES.register_module()
class ViTFDAM(BaseModule):
    """Vision Transformer with frequency-dynamic attention modulation; every output has stride ``patch_size``.

    A detector needs a pyramid: ``SimplePyramid`` makes strides 4 to 64 of the last output.

    Args:
        arch: 'small', 'medium', 'base' or 'large', as in DeiT-III, or a dict of embed_dims, depth and num_heads.
        img_size: Side of the square images, in pixels, that the stored position embeddings are for: 224 for DeiT-III,
            512 for FDAM's segmentation checkpoint. Other inputs resize them at run time; a checkpoint for another size
            is resized once when loaded.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the image.
        mlp_ratio: Hidden channels of the MLPs over embed_dims.
        qkv_bias: Give queries, keys and values a bias.
        layer_scale: Start of the layer scales.
        drop_path_rate: Stochastic depth, the same in every block, as in DeiT-III.
        window_size: Largest side of attention windows in patches; 16 makes 4 x 4 windows of a 1024 x 1024 image, and 0
            makes all blocks global, the published form.
        global_blocks: Blocks with global attention, from 0; None for the last of each quarter.
        att_inv: Mix the attention's output with its inversion.
        freq_scale: Scale each branch by frequency; embed_dims must be a multiple of 16.
        out_indices: Blocks whose output is returned, from 0; None for the last.
        frozen_stages: -1 for none; 0 freezes the patch and position embeddings, n the first n blocks too.
        with_cp: Gradient checkpointing: recompute each block in the backward pass. Less memory, more time.
        init_cfg: MMCV's initialisation config, e.g. ``dict(type='Pretrained', checkpoint='deit_3_base_224_21k.pth')``.

    Raises:
        ValueError: Where a setting is out of range or unknown.
    """

    def __init__(
        self,
        arch: str | Mapping[str, int] = "base",
        img_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        layer_scale: float = 1e-4,
        drop_path_rate: float = 0.0,
        window_size: int = 16,
        global_blocks: Sequence[int] | None = None,
        att_inv: bool = True,
        freq_scale: bool = True,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        dim, depth, num_heads = _sizes(arch)
        if img_size % patch_size or img_size < patch_size:
            raise ValueError(f"img_size must be a multiple of patch_size = {patch_size}, got {img_size}")
        if window_size < 0:
            raise ValueError(f"window_size must be at least 0, got {window_size}")
        quarter = max(depth // 4, 1)
        global_blocks = range(quarter - 1, depth, quarter) if global_blocks is None else global_blocks
        out_indices = (depth - 1,) if out_indices is None else out_indices
        for name, indices in (("global_blocks", global_blocks), ("out_indices", out_indices)):
            if not set(indices) <= set(range(depth)):
                raise ValueError(f"{name} must be some of 0 to {depth - 1}, got {tuple(indices)}")
        if not out_indices:
            raise ValueError("out_indices must name at least one block")
        if not -1 <= frozen_stages <= depth:
            raise ValueError(f"frozen_stages must be -1 to {depth}, got {frozen_stages}")
        self.patch_size, self.frozen_stages, self.with_cp = patch_size, frozen_stages, with_cp
        self.out_indices = tuple(sorted(out_indices))
        self.out_channels = (dim,) * len(self.out_indices)
        self.out_strides = (patch_size,) * len(self.out_indices)

        self.patch_embed = _PatchEmbed(in_channels, dim, patch_size)
        self.pos_embed = nn.Parameter(torch.empty(1, (img_size // patch_size) ** 2, dim))
        self.blocks = ModuleList(
            ViTBlock(
                dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                layer_scale=layer_scale,
                drop_path_rate=drop_path_rate,
                window_size=0 if index in global_blocks else window_size,
                att_inv=att_inv,
                freq_scale=freq_scale,
            )
            for index in range(depth)
        )
        self.register_load_state_dict_pre_hook(_fit_positions)
        self.reset_parameters()
        self._freeze()

    def reset_parameters(self) -> None:
        """Set all weights to their start: linear layers and positions normal, std 0.02; what FDAM adds near zero."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.patch_embed.proj.reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, ViTBlock):
                nn.init.constant_(module.gamma_1, module.layer_scale)
                nn.init.constant_(module.gamma_2, module.layer_scale)
            elif isinstance(module, AttInvAttention):
                module.reset_modulation()
            elif isinstance(module, FreqScale):
                module.reset_parameters()

    def init_weights(self) -> None:
        """Start afresh, then apply ``init_cfg``: a detector's own ``init_cfg`` may have rewritten the layers."""
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def train(self, mode: bool = True) -> ViTFDAM:
        """Set training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the chosen blocks' features.

        Args:
            x: Images (B, in_channels, H, W), of any size from one patch up.

        Returns:
            For each of ``out_indices``, in order, (B, embed_dims, ceil(H / patch_size), ceil(W / patch_size)).
        """
        x, hw = self.patch_embed(x)
        x = x + resize_positions(self.pos_embed, hw)
        outs = []
        for index, block in enumerate(self.blocks[: self.out_indices[-1] + 1]):
            use_cp = self.with_cp and x.requires_grad
            x = checkpoint(block, x, hw, use_reentrant=False) if use_cp else block(x, hw)
            if index in self.out_indices:
                outs.append(x.transpose(1, 2).unflatten(2, hw).contiguous())
        return tuple(outs)

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        self.pos_embed.requires_grad_(False)
        for module in (self.patch_embed, *self.blocks[: self.frozen_stages]):
            module.eval()
            module.requires_grad_(False)


def _sizes(arch: str | Mapping[str, int]) -> tuple[int, int, int]:
    """Return embed_dims, depth, num_heads."""
    names = ("embed_dims", "depth", "num_heads")
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}, or a dict, got {arch!r}")
        arch = ARCHS[arch]
    elif set(arch) != set(names):
        raise ValueError(f"arch must have the keys {', '.join(names)}, got {', '.join(arch)}")
    return tuple(arch[name] for name in names)


def _fit_positions(model: ViTFDAM, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Resize the position embeddings of a checkpoint that was trained at another image size, before they are copied.

    Those of no square grid stay as they are, for the loader to refuse as it does any tensor of another shape.
    """
    key = prefix + "pos_embed"
    own, given = model.pos_embed, state.get(key)
    fits = isinstance(given, Tensor) and given.dim() == 3 and given.shape[2] == own.shape[2]
    fits = fits and given.shape[1] - math.isqrt(given.shape[1]) ** 2 <= 1
    if fits and given.shape[1] != own.shape[1]:
        side = math.isqrt(own.shape[1])
        state[key] = resize_positions(given, (side, side))
