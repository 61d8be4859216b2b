"""One small detector of each kind that the configs have, with random weights, and what to feed it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmcv import Config
from mmdet.apis import set_random_seed
from mmrotate.models import build_detector
from scripts import ROOT
from small_training import SIZE, small_options

from fdam_rotate.apis.compat import revert_sync_bn
from fdam_rotate.commands.values import key_value
from fdam_rotate.host.quiet import init_weights_quietly

__all__ = ["DETECTORS", "METAS", "images_of", "small_detector"]

METAS = [
    dict(img_shape=(SIZE, SIZE, 3), pad_shape=(SIZE, SIZE, 3), ori_shape=(SIZE, SIZE, 3), scale_factor=np.ones(4))
    for _ in range(2)
]
DETECTORS = [
    "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py",
    "lsknet_fdam/lsk_s_plain_fdam_fpn_1x_dota_le90.py",
    "freqfusion/lsk_s_fdam_freqfusion_fpn_1x_dota_le90.py",
    "roi_trans/roi_trans_lsk_s_fdam_fpn_1x_dota_le90.py",
    "rotated_retinanet/rotated_retinanet_obb_lsk_s_fdam_fpn_1x_dota_le90.py",
    "rotated_fcos/rotated_fcos_lsk_s_fdam_fpn_1x_dota_le90.py",
    "r3det/r3det_lsk_s_fdam_fpn_1x_dota_oc.py",
    "s2anet/s2anet_lsk_s_fdam_fpn_1x_dota_le135.py",
]


def small_detector(name: str) -> torch.nn.Module:
    """The detector of a config of ``configs/``, small, at its start, without dropout."""
    path = ROOT / "configs" / name
    cfg = Config.fromfile(str(path))
    cfg.merge_from_dict(dict(map(key_value, small_options(path, Path("data")))))
    revert_sync_bn(cfg.model)
    set_random_seed(0)
    model = build_detector(cfg.model, train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
    init_weights_quietly(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):  # its random numbers go in the order of the memory
            module.p = 0.0
    return model


def images_of(count: int) -> torch.Tensor:
    """Noise, (count, 3, SIZE, SIZE)."""
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
