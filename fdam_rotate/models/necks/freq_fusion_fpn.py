"""FreqFusionFPN: mmdet's feature pyramid, its top-down sum replaced by frequency-aware fusion.

Chen et al., "Frequency-aware Feature Fusion for Dense Image Prediction", TPAMI 2024, https://arxiv.org/abs/2408.12879;
see ``layers.freq_fusion`` for the module and how it differs from the authors'. Each lateral map takes its high-pass
residual, the coarser fused map comes up to its size through adaptive low-pass kernels and offsets, and the two are
added. FPN's own keys are unchanged, so that an FPN checkpoint loads with only ``fusions`` missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.runner import ModuleList, auto_fp16
from mmdet.models.necks import FPN
from mmrotate.models.builder import ROTATED_NECKS
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fdam_rotate.models.layers.freq_fusion import FreqFusion
from fdam_rotate.models.necks.extra_levels import extra_levels

__all__ = ["FreqFusionFPN"]


@ROTATED_NECKS.register_module()
class FreqFusionFPN(FPN):
    """Feature pyramid network with FreqFusion between neighbouring levels.

    The published detectors use the defaults: 64 compressed channels for 256, and 4 groups of offsets. Any sizes fit, so
    inputs need no padding to multiples of 64.

    Args:
        in_channels: Channels of the backbone's outputs, fine to coarse.
        out_channels: Channels of every output; a multiple of ``feature_resample_group``.
        num_outs: Number of outputs.
        start_level: Finest backbone output used; this and all down to ``init_cfg`` are those of mmdet's FPN, whose
            ``upsample_cfg`` has no meaning here.
        compressed_channels: Channels from which FreqFusion predicts kernels and offsets.
        lowpass_kernel: Side of the upsampling kernels, odd.
        highpass_kernel: Side of the kernels whose complement is the high-pass, odd.
        use_high_pass: Add the high-pass residual to the finer map.
        feature_resample: Sample the upsampled map again at learned offsets.
        feature_resample_group: Groups of channels with their own offsets.
        with_cp: Gradient checkpointing: recompute each fusion in the backward pass. Less memory, more time.

    Raises:
        ValueError: Where a kernel is even or the groups do not divide ``out_channels``.
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
        init_cfg: dict | list | None = None,
        *,
        compressed_channels: int = 64,
        lowpass_kernel: int = 5,
        highpass_kernel: int = 3,
        use_high_pass: bool = True,
        feature_resample: bool = True,
        feature_resample_group: int = 4,
        with_cp: bool = False,
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
            init_cfg=init_cfg or dict(type="Xavier", layer="Conv2d", distribution="uniform"),
        )
        self.with_cp = with_cp
        # mmcv's ModuleList passes init_weights on: FPN's Xavier rewrites all convolutions, these get their start back
        self.fusions = ModuleList(
            FreqFusion(
                out_channels,
                out_channels,
                compressed_channels=compressed_channels,
                lowpass_kernel=lowpass_kernel,
                highpass_kernel=highpass_kernel,
                use_high_pass=use_high_pass,
                feature_resample=feature_resample,
                feature_resample_group=feature_resample_group,
            )
            for _ in range(len(self.lateral_convs) - 1)
        )

    @auto_fp16()
    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: The backbone's outputs, (B, in_channels[i], H_i, W_i), fine to coarse, of any sizes.

        Returns:
            ``num_outs`` maps (B, out_channels, H_i, W_i), fine to coarse, extra levels at the end.
        """
        if len(inputs) != self.num_ins:
            raise ValueError(f"expected {self.num_ins} feature maps, got {len(inputs)}")
        if any(x.numel() == 0 for x in inputs):
            raise ValueError(f"expected non-empty features, got {[tuple(x.shape) for x in inputs]}")
        used = inputs[self.start_level : self.backbone_end_level]
        maps = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for i in range(len(maps) - 1, 0, -1):
            fusion, pair = self.fusions[i - 1], (maps[i - 1], maps[i])
            fine, coarse = checkpoint(fusion, *pair, use_reentrant=False) if self.with_cp else fusion(*pair)
            maps[i - 1] = fine + coarse
        outs = [conv(x) for conv, x in zip(self.fpn_convs, maps, strict=False)]
        return tuple(outs + extra_levels(self, inputs, maps, outs))
