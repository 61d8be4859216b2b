"""Every kind of detector, narrow: its losses on the device against the CPU's, and a prediction.

Samplers take all that they could draw from, so that both sides train on the same boxes. The suppression of proposals
still hangs on the last bits, hence the wide limit.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fdam_rotate.apis.compat import load_config, revert_sync_bn
from fdam_rotate.apis.gpu_check import scenes
from fdam_rotate.apis.gpu_check.networks import without_tf32
from fdam_rotate.apis.gpu_check.plan import Sizes
from fdam_rotate.apis.gpu_check.sheet import Sheet
from fdam_rotate.host.quiet import init_weights_quietly

__all__ = ["DETECTORS", "build", "fit", "run"]

DETECTORS = {
    "Oriented R-CNN": "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90.py",
    "Oriented R-CNN, FreqFusion": "freqfusion/lsk_s_fdam_freqfusion_fpn_1x_dota_le90.py",
    "RoI Transformer": "roi_trans/roi_trans_lsk_s_fdam_fpn_1x_dota_le90.py",
    "Rotated RetinaNet": "rotated_retinanet/rotated_retinanet_obb_lsk_s_fdam_fpn_1x_dota_le90.py",
    "Rotated FCOS": "rotated_fcos/rotated_fcos_lsk_s_fdam_fpn_1x_dota_le90.py",
    "R3Det": "r3det/r3det_lsk_s_fdam_fpn_1x_dota_oc.py",
    "S2ANet": "s2anet/s2anet_lsk_s_fdam_fpn_1x_dota_le135.py",
}
LIMIT = 0.02
_WIDTHS, _DEPTHS = (16, 32, 80, 128), (1, 1, 1, 1)


def run(sheet: Sheet, device: torch.device, sizes: Sizes, configs: Path) -> None:
    """Compare all of them."""
    with without_tf32():
        for name, path in DETECTORS.items():
            with sheet.case(name):
                cfg = load_config(configs / path)
                narrow = dataclasses.replace(sizes, widths=_WIDTHS, depths=_DEPTHS, proposals=200)
                fit(cfg, narrow)
                _see_all(cfg.model)
                _compare(sheet, name, build(cfg), device, sizes.detector)


def fit(cfg: Any, sizes: Sizes) -> None:
    """Give the detector of a config the widths and numbers of ``sizes``, no start weights and no dropout, in place."""
    cfg.model.backbone.update(
        embed_dims=list(sizes.widths), depths=list(sizes.depths), drop_rate=0.0, drop_path_rate=0.0, init_cfg=None
    )
    cfg.model.neck.in_channels = list(sizes.widths)
    _fit_heads(cfg.model, sizes)


def _fit_heads(node: Any, sizes: Sizes) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "fc_out_channels":
                node[key] = sizes.hidden
            elif key == "max_per_img":
                node[key] = min(value, sizes.proposals)
            elif key == "num" and "Sampler" in str(node.get("type")):
                node[key] = min(value, max(1, sizes.proposals // 2))
            _fit_heads(value, sizes)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _fit_heads(value, sizes)


def build(cfg: Any) -> nn.Module:
    """The detector of a config, its weights from seed 0."""
    from mmdet.apis import set_random_seed
    from mmrotate.models import build_detector

    revert_sync_bn(cfg.model)
    set_random_seed(0)
    model = build_detector(cfg.model, train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
    init_weights_quietly(model)
    return model


def _see_all(node: Any) -> None:
    """Let samplers take all boxes, and boxes of an untrained network be reported."""
    if isinstance(node, dict):
        if "Sampler" in str(node.get("type")) and "num" in node:
            node["num"] = 10**6
        if "score_thr" in node:
            node["score_thr"] = 0.005
        for value in node.values():
            _see_all(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _see_all(value)


def _compare(sheet: Sheet, name: str, model: nn.Module, device: torch.device, side: int) -> None:
    images, boxes, labels = scenes.batch(side, 0)
    there = copy.deepcopy(model).to(device)
    totals = []
    for detector, place in ((there, device), (model, torch.device("cpu"))):
        detector.train()
        torch.manual_seed(0)
        losses = detector.forward_train(
            images.to(place), scenes.metas(side), [b.to(place) for b in boxes], [x.to(place) for x in labels]
        )
        loss, _ = detector._parse_losses(losses)
        loss.backward()
        totals.append(float(loss.detach()))
    sheet.check(f"{name}, loss", abs(totals[0] / totals[1] - 1), LIMIT, note=f"{totals[0]:.4f}, CPU {totals[1]:.4f}")
    found, expected = (
        [p.grad.double().norm().cpu() for p in detector.parameters() if p.grad is not None]
        for detector in (there, model)
    )
    ratio = float(torch.stack(found).norm() / torch.stack(expected).norm())
    sheet.check(f"{name}, length of the gradient", abs(ratio - 1), 5 * LIMIT, note=f"{len(found)} parameters")
    there.eval()
    with torch.no_grad():
        results = there.simple_test(images.to(device), scenes.metas(side), rescale=True)
    rows = np.concatenate([rows for image in results for rows in image])
    sheet.check(f"{name}, prediction", int((~np.isfinite(rows)).sum()), 0, "not finite", f"{len(rows)} boxes")
