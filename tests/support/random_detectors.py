"""Small detectors with random weights that nevertheless detect: scores far apart, boxes of all sizes and angles."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmcv import Config
from scripts import ROOT
from torch import nn

import fdam_rotate.models  # noqa: F401
from fdam_rotate.apis.compat import revert_sync_bn

__all__ = ["NORM", "host_detections", "random_detector"]

DEMO = ROOT / "configs" / "demo" / "lsk_fdam_demo.py"
#: Spread of what the last layers give.
GAINS = {"fc_cls": 6.0, "rpn_cls": 1.0, "rpn_reg": 0.3, "fc_reg": 1.0, "retina_cls": 1.0, "retina_reg": 0.3,
         "conv_cls": 3.0, "conv_reg": 0.5, "conv_angle": 1.0, "odm_cls": 2.0, "odm_reg": 0.3}  # fmt: skip
HEADS = ("rpn_head", "roi_head", "bbox_head", "fam_head", "odm_head", "refine_head", "feat_refine_module")
NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


def random_detector(config: Any = DEMO, *, seed: int = 0, **changes: Any) -> tuple[nn.Module, Config]:
    """The detector of a config, spread out by random weights, and the config.

    Args:
        config: file, or a Config.
        seed: of the weights.
        changes: settings of the config, dots in keys as double underscores.
    """
    from mmrotate.models import build_detector

    cfg = config if isinstance(config, Config) else Config.fromfile(str(config))
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in changes.items()})
    revert_sync_bn(cfg.model)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(seed)
    detector = build_detector(copy.deepcopy(cfg.model), test_cfg=cfg.get("test_cfg")).eval()
    detector.init_weights()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if name.endswith(("complex_weights", "lf_gamma", "hf_gamma")):  # FDAM starts as no change
                parameter.normal_(std=0.3, generator=generator)
        for name, module in detector.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and name.startswith(HEADS):
                fan = module.weight[0].numel()
                gain = GAINS.get(name.split(".")[-1], 1.4)
                module.weight.normal_(std=gain / fan**0.5, generator=generator)
                if name.endswith("fc_cls"):
                    module.bias[-1] = 3.0  # a box that sees nothing is background
    return detector, cfg


def host_detections(detector: nn.Module, image: torch.Tensor, norm: dict[str, Any] = NORM) -> list[list[Any]]:
    """What MMRotate's own code finds in RGB images (B, 3, H, W), uint8: per image and class (n, 6) boxes and scores."""
    mean, std = (torch.tensor(norm[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    shape = (*image.shape[-2:], 3)
    meta = dict(img_shape=shape, pad_shape=shape, ori_shape=shape, scale_factor=[1.0] * 4, flip=False)
    with torch.no_grad():
        return detector.simple_test((image.float() - mean) / std, [meta] * len(image), rescale=False)
