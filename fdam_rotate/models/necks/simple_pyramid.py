"""SimplePyramid: feature levels for a backbone of one scale, such as a plain Vision Transformer.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022, arXiv 2203.16527, section 3:
every level is made of the last map alone, by transposed convolutions or pooling, then a 1 x 1 and a 3 x 3 convolution
with LayerNorm. detectron2's ViTDet (Apache-2.0) was consulted for kernel sizes and channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.runner import BaseModule, ModuleList, Sequential, auto_fp16
from mmrotate.models.builder import ROTATED_NECKS
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SimplePyramid"]


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@ROTATED_NECKS.register_module()
class SimplePyramid(BaseModule):
    """Pyramid at 4, 2, 1 and 1/2 times the scale of the backbone's last map, coarser ones by skipping pixels.

    For stride 16 these are strides 4, 8, 16, 32 and, with five outputs, 64.

    Args:
        in_channels: Channels of the backbone's outputs; the last is used. A multiple of 4.
        out_channels: Channels of every output.
        num_outs: Number of outputs, from 4.
        init_cfg: MMCV's initialisation config.

    Raises:
        ValueError: Where a setting is out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int] | int,
        out_channels: int = 256,
        num_outs: int = 5,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        dim = in_channels if isinstance(in_channels, int) else in_channels[-1]
        if dim % 4:
            raise ValueError(f"in_channels must be a multiple of 4, got {dim}")
        if num_outs < 4:
            raise ValueError(f"num_outs must be at least 4, got {num_outs}")
        self.num_outs = num_outs
        self.fp16_enabled = False  # mmcv's fp16 switch
        ups: tuple[list[nn.Module], ...] = (
            [
                nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
                _ChannelNorm(dim // 2, eps=1e-6),
                nn.GELU(),
                nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2),
            ],
            [nn.ConvTranspose2d(dim, dim // 2, 2, stride=2)],
            [],
            [nn.MaxPool2d(2, stride=2, ceil_mode=True)],  # rounding up: a map of one pixel still has a coarser level
        )
        self.levels = ModuleList(
            Sequential(
                *layers,
                nn.Conv2d(channels, out_channels, 1, bias=False),
                _ChannelNorm(out_channels, eps=1e-6),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                _ChannelNorm(out_channels, eps=1e-6),
            )
            for layers, channels in zip(ups, (dim // 4, dim // 2, dim, dim), strict=True)
        )

    @auto_fp16()
    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: The backbone's outputs; the last, (B, C, h, w), is used.

        Returns:
            ``num_outs`` maps (B, out_channels, H_i, W_i) with heights 4h, 2h, h, ceil(h / 2), ceil(h / 4) and so on,
            widths likewise.
        """
        x = inputs[-1]
        outs = [level(x) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
