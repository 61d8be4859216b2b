"""The levels that mmdet's FPN adds beyond the backbone's, for necks that replace its top-down path."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.necks import FPN
from torch import Tensor
from torch.nn import functional as F

__all__ = ["extra_levels"]


def extra_levels(neck: FPN, inputs: Sequence[Tensor], maps: Sequence[Tensor], outs: Sequence[Tensor]) -> list[Tensor]:
    """Make the ``num_outs - len(outs)`` coarser levels of ``neck`` by its ``add_extra_convs``.

    Args:
        neck: An FPN; its convolutions beyond the first ``len(maps)`` make the extra levels.
        inputs: The backbone's outputs.
        maps: The fused maps before the output convolutions.
        outs: The output convolutions' results.

    Returns:
        Maps (B, out_channels, H, W), each half the size of the one before: strided convolutions, or every other pixel
        of the last output where ``add_extra_convs`` is false.
    """
    extra: list[Tensor] = []
    if neck.add_extra_convs:
        sources = {"on_input": inputs[neck.backbone_end_level - 1], "on_lateral": maps[-1], "on_output": outs[-1]}
        x = sources[neck.add_extra_convs]
        for conv in neck.fpn_convs[len(maps) :]:
            x = conv(F.relu(x) if extra and neck.relu_before_extra_convs else x)
            extra.append(x)
        return extra
    x = outs[-1]
    for _ in range(neck.num_outs - len(outs)):
        x = F.max_pool2d(x, 1, stride=2)
        extra.append(x)
    return extra
