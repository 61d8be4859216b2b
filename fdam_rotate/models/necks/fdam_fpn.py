"""FDAMFPN: mmdet's feature pyramid with FreqScale on its levels.

FDAM's frequency dynamic scaling (Chen, Gu, Fu, ICCV 2025, arXiv 2507.12006; see ``layers.freq_scale``) put to the
neck: the top-down sum of an FPN adds maps of several sharpnesses, and a learned filter rebalances their frequencies
before the output convolution. The paper has no such neck; the idea is ours. FPN's own keys are unchanged, so that an
FPN checkpoint loads with only ``freq_scale`` missing, and the neck starts as (almost) that FPN.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.runner import ModuleList, auto_fp16
from mmdet.models.necks import FPN
from mmrotate.models.builder import ROTATED_NECKS
from torch import Tensor, nn
from torch.nn import functional as F

from fdam_rotate.models.layers.freq_scale import FreqScale
from fdam_rotate.models.necks.extra_levels import extra_levels

__all__ = ["FDAMFPN"]

_PLACES = ("lateral", "fused", "output")


@ROTATED_NECKS.register_module()
class FDAMFPN(FPN):
    """Feature pyramid network whose maps are rescaled by frequency: ``x + FreqScale(x)`` on each chosen level.

    Args:
        in_channels: Channels of the backbone's outputs, fine to coarse.
        out_channels: Channels of every output, a multiple of 16.
        num_outs: Number of outputs.
        start_level: Finest backbone output used; this and all down to ``init_cfg`` are those of mmdet's FPN.
        freq_place: Where FreqScale acts: on the 'lateral' maps before the top-down sum, on the 'fused' maps after it,
            or on the 'output' convolutions' results (extra levels are made after it).
        freq_levels: Levels that have it, counted from the finest that the neck uses; None for all. No extra levels.

    Raises:
        ValueError: Where a place or level is unknown.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        upsample_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
        *,
        freq_place: str = "fused",
        freq_levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            list(in_channels),
            out_channels,
            num_outs,
            start_level=start_level,
            end_level=end_level,
            add_extra_convs=add_extra_convs,
            relu_before_extra_convs=relu_before_extra_convs,
            no_norm_on_lateral=no_norm_on_lateral,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            upsample_cfg=upsample_cfg or dict(mode="nearest"),
            init_cfg=init_cfg or dict(type="Xavier", layer="Conv2d", distribution="uniform"),
        )
        if freq_place not in _PLACES:
            raise ValueError(f"freq_place must be one of {', '.join(_PLACES)}, got {freq_place!r}")
        count = len(self.lateral_convs)
        levels = set(range(count)) if freq_levels is None else set(freq_levels)
        if not levels <= set(range(count)):
            raise ValueError(f"freq_levels must be some of 0 to {count - 1}, got {tuple(freq_levels)}")
        self.freq_place = freq_place
        # One entry per level, so that the keys name the level whichever are chosen.
        self.freq_scale = ModuleList([FreqScale(out_channels) if i in levels else nn.Identity() for i in range(count)])

    def init_weights(self) -> None:
        """Start FreqScale afresh, whatever a parent's ``init_cfg`` did to it, then apply ``init_cfg``."""
        if not self.is_init:
            for layer in self.freq_scale:
                if isinstance(layer, FreqScale):
                    layer.reset_parameters()
        super().init_weights()

    @auto_fp16()
    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: The backbone's outputs, (B, in_channels[i], H_i, W_i), fine to coarse.

        Returns:
            ``num_outs`` maps (B, out_channels, H_i, W_i), fine to coarse, extra levels at the end.
        """
        if len(inputs) != self.num_ins:
            raise ValueError(f"expected {self.num_ins} feature maps, got {len(inputs)}")
        used = inputs[self.start_level : self.backbone_end_level]
        maps = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        maps = self._scale("lateral", maps)
        for i in range(len(maps) - 1, 0, -1):
            size = {} if "scale_factor" in self.upsample_cfg else {"size": maps[i - 1].shape[2:]}
            maps[i - 1] = maps[i - 1] + F.interpolate(maps[i], **size, **self.upsample_cfg)
        maps = self._scale("fused", maps)
        outs = [conv(x) for conv, x in zip(self.fpn_convs, maps, strict=False)]
        outs = self._scale("output", outs)
        return tuple(outs + extra_levels(self, inputs, maps, outs))

    def _scale(self, place: str, maps: list[Tensor]) -> list[Tensor]:
        """Apply FreqScale to the chosen levels, if it acts at ``place``."""
        if place != self.freq_place:
            return maps
        return [
            layer(x, residual=True) if isinstance(layer, FreqScale) else x
            for layer, x in zip(self.freq_scale, maps, strict=True)
        ]
