"""Config files of Oriented R-CNN with a network of 16 to 128 channels, on top of a shipped config."""

from __future__ import annotations

from pathlib import Path

from scripts import ROOT

TEXT = """
_base_ = '{base}'
model = dict(
    backbone=dict(embed_dims=[16, 32, 80, 128], depths=[1, 1, 1, 1]),
    neck=dict(in_channels=[16, 32, 80, 128], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16), bbox_head=dict(in_channels=16, fc_out_channels=32{head})){more})
"""


def write_small_config(path: Path, base: str, *, head: str = "", more: str = "") -> Path:
    """Write ``path``: the config ``base``, such as 'lsknet/lsk_s_fpn_1x_dota_le90', made small.

    Args:
        path: to write.
        base: folder and name in configs/.
        head: further settings of the last head, each after a comma.
        more: of the model.
    """
    path.write_text(TEXT.format(base=ROOT / "configs" / f"{base}.py", head=head, more=more))
    return path
