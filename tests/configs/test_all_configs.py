"""Every config builds at full size; every different model trains one step and predicts once, made small, on the CPU."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import Config
from mmcv.runner import HOOKS, build_optimizer
from mmcv.utils import build_from_cfg
from mmdet.datasets.pipelines import Compose
from mmrotate.models import build_detector
from scripts import ROOT
from small_training import train_data

import fdam_rotate.apis.optimizer
import fdam_rotate.datasets
import fdam_rotate.models  # noqa: F401
from fdam_rotate.apis.compat import dataset_settings, revert_sync_bn
from fdam_rotate.dota.classes import resolve_classes

CONFIGS = ROOT / "configs"
FILES = sorted(p for p in CONFIGS.rglob("*.py") if "_base_" not in p.parts)
NAMES = [str(p.relative_to(CONFIGS)) for p in FILES]
#: Width and other settings of the small models; a value that is a key here stands for its size everywhere it occurs.
SMALL = {256: 32, 1024: 64, 2000: 60, 512: 32}
RANGES = {"le90": (-math.pi / 2, math.pi / 2), "le135": (-math.pi / 4, 3 * math.pi / 4), "oc": (0.01, math.pi / 2)}
pytestmark = pytest.mark.usefixtures("one_thread")


def load(path: Path) -> Config:
    cfg = Config.fromfile(str(path))
    revert_sync_bn(cfg.model)
    cfg.model.backbone.init_cfg = None
    return cfg


def build(cfg: Config) -> torch.nn.Module:
    return build_detector(copy.deepcopy(cfg.model), train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))


def shrink(node):
    """The model's settings with narrow layers and few proposals; every structure stays."""
    if isinstance(node, dict):
        return {k: shrink(v) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(shrink(v) for v in node)
    return SMALL.get(node, node) if isinstance(node, int) and not isinstance(node, bool) else node


def small_model(cfg: Config) -> dict:
    model = shrink(cfg.model.to_dict() if hasattr(cfg.model, "to_dict") else dict(cfg.model))
    backbone, neck = model["backbone"], model["neck"]
    if backbone["type"] == "ViTFDAM":
        backbone["arch"] = dict(embed_dims=64, depth=4, num_heads=1)
        neck["in_channels"] = 64
    elif backbone["type"] == "MiTFDAM":
        backbone["arch"] = dict(embed_dims=16, depths=[1, 1, 1, 1])
        neck["in_channels"] = [16, 32, 80, 128]
    else:
        backbone.update(embed_dims=[16, 32, 80, 128], depths=[1, 1, 1, 1])
        neck["in_channels"] = [16, 32, 80, 128]
    return model


def different_models() -> dict[str, tuple[str, str]]:
    """Of configs whose small models are equal, the first: name -> (model as JSON, version of the boxes' angle)."""
    found: dict[str, str] = {}
    for path, name in zip(FILES, NAMES, strict=True):
        cfg = load(path)
        text = json.dumps([small_model(cfg), train_data(cfg).version], sort_keys=True, default=str)
        if text not in found.values():
            found[name] = text
    return found


MODELS = different_models()


def batch(version: str, num_classes: int, size: int = 128, images: int = 2) -> dict:
    rng = np.random.default_rng(0)
    low, high = RANGES[version]
    boxes = []
    for count in (3, 1)[:images]:
        sides = np.sort(rng.uniform(12, 50, (count, 2)))[:, ::-1]
        centres, angles = rng.uniform(30, size - 30, (count, 2)), rng.uniform(low, high, (count, 1))
        boxes.append(torch.tensor(np.hstack([centres, sides, angles]), dtype=torch.float32))
    meta = dict(
        img_shape=(size, size, 3),
        ori_shape=(size, size, 3),
        pad_shape=(size, size, 3),
        scale_factor=np.ones(4, dtype=np.float32),
        filename="a.png",
        flip=False,
        flip_direction=None,
    )
    return dict(
        img=torch.tensor(rng.normal(size=(images, 3, size, size)), dtype=torch.float32),
        img_metas=[dict(meta) for _ in range(images)],
        gt_bboxes=boxes,
        gt_labels=[torch.tensor(rng.integers(0, num_classes, len(b))) for b in boxes],
    )


def count_classes(cfg: Config) -> int:
    train = train_data(cfg)
    return 1 if train.type == "HRSC2016Dataset" else len(resolve_classes(train.get("classes", "v1.0")))


def all_values(node, key: str):
    if isinstance(node, dict):
        for k, v in node.items():
            yield from ([v] if k == key else all_values(v, key))
    elif isinstance(node, (list, tuple)):
        for v in node:
            yield from all_values(v, key)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_config_is_consistent(path):
    cfg = load(path)
    assert set(all_values(cfg.model, "num_classes")) == {count_classes(cfg)}
    angles = {*all_values(cfg.model, "angle_range"), *all_values(cfg.model, "angle_version")}
    assert angles == {train_data(cfg).version}, "the heads' and the data's definition of the angle"
    for split in ("train", "val", "test"):
        for _, part in dataset_settings(cfg.data.get(split), split):
            Compose(part.pipeline)
            assert part.version == train_data(cfg).version
    if cfg.data.get("val") is not None:
        assert cfg.data.val.ann_file != train_data(cfg).ann_file
    for hook in cfg.get("custom_hooks", []):
        build_from_cfg({k: v for k, v in hook.items() if k != "priority"}, HOOKS)


@pytest.fixture(scope="module")
def built():
    """Levels and optimized parameters of full-size models, kept because configs share them."""
    return {}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_config_builds_at_full_size(path, built):
    cfg = load(path)
    key = json.dumps([cfg.model, cfg.optimizer.get("constructor")], sort_keys=True, default=str)
    key = re.sub(r'"num_classes": \d+', "", key)
    if key not in built:
        model = build(cfg).eval()
        with torch.inference_mode():
            levels = model.extract_feat(torch.zeros(1, 3, 64, 64))
        optimizer = build_optimizer(model, copy.deepcopy(cfg.optimizer))
        ids = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(ids) == sorted(id(p) for p in model.parameters() if p.requires_grad)
        built[key] = [tuple(x.shape) for x in levels]
    strides = next(all_values(cfg.model, "strides"))
    assert built[key] == [(1, cfg.model.neck.out_channels, math.ceil(64 / s), math.ceil(64 / s)) for s in strides]


@pytest.mark.parametrize("name", MODELS)
def test_model_trains_a_step_and_predicts(name):
    torch.manual_seed(0)
    cfg = load(CONFIGS / name)
    cfg.model = Config(dict(model=json.loads(MODELS[name])[0])).model
    version, classes = train_data(cfg).version, count_classes(cfg)
    model = build(cfg)
    model.init_weights()
    model.train()
    optimizer = build_optimizer(model, copy.deepcopy(cfg.optimizer))
    data = batch(version, classes)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    step = model.train_step(data, optimizer)
    assert step["num_samples"] == 2
    assert torch.isfinite(step["loss"])
    step["loss"].backward()
    without = [k for k, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    optimizer.step()
    moved = [k for k, p in model.named_parameters() if not torch.equal(p, before[k])]
    assert any("backbone" in k for k in moved)
    assert any("head" in k for k in moved)

    model.eval()
    with torch.no_grad():
        found = model(return_loss=False, rescale=True, img=[data["img"]], img_metas=[data["img_metas"]])
    assert len(found) == 2
    for image in found:
        assert len(image) == classes
        assert all(boxes.ndim == 2 and boxes.shape[1] == 6 and np.isfinite(boxes).all() for boxes in image)
