"""Any config of configs/ made small enough for a test: generated patches, and the options that shrink it to them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv import Config
from scripts import ROOT

from fdam_rotate.apis.compat import dataset_settings
from fdam_rotate.dota.classes import DOTA_CLASSES

__all__ = ["CONFIGS", "SIZE", "make_hrsc", "make_parts", "make_patches", "small_options", "train_data"]

CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts)
SIZE = 128
#: Width and other settings of a small model: a value that is a key here stands for its size everywhere it occurs.
SMALL = {256: 64, 1024: 128, 2000: 60, 512: 32}  # 64: GroupNorm has 32 groups, and the last level one pixel
WIDTHS = [16, 32, 80, 128]


def make_patches(folder: Path, count: int = 2, *, classes: Sequence[str] = DOTA_CLASSES["v1.0"], seed: int = 0) -> Path:
    """``folder/images`` and ``folder/annfiles``: patches of SIZE pixels with one bright box each, named after folder.

    Args:
        folder: its last part must differ between sets that are to share no image.
        count: of patches.
        classes: the boxes take them in turn.
        seed: of pixels and places.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "annfiles").mkdir()
    for number in range(count):
        image, poly = _scene(rng)
        name = f"{folder.name}{number}__{SIZE}__0___0"
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
        text = " ".join(f"{v:.1f}" for v in poly.ravel()) + f" {classes[number % len(classes)]} 0\n"
        (folder / "annfiles" / f"{name}.txt").write_text(text)
    return folder


def make_parts(root: Path, classes: Sequence[str] = DOTA_CLASSES["v1.0"], **counts: int) -> Path:
    """``root/train``, ``root/val`` and so on: `make_patches` for each of ``counts``, each with a seed of its own."""
    for seed, (part, count) in enumerate(counts.items()):
        make_patches(root / part, count, classes=classes, seed=seed)
    return root


def make_hrsc(folder: Path) -> Path:
    """HRSC2016's layout with two training images and one each to validate and test on."""
    rng = np.random.default_rng(1)
    for part in ("ImageSets", "FullDataSet/Annotations", "FullDataSet/AllImages"):
        (folder / part).mkdir(parents=True)
    names = {"train": ["1", "2"], "val": ["3"], "trainval": ["1", "2", "3"], "test": ["4"]}
    for part, members in names.items():
        (folder / "ImageSets" / f"{part}.txt").write_text("\n".join(members) + "\n")
    for name in ("1", "2", "3", "4"):
        image, poly = _scene(rng)
        cv2.imwrite(str(folder / "FullDataSet/AllImages" / f"{name}.bmp"), image)
        (cx, cy), (w, h), angle = cv2.minAreaRect(poly.astype(np.float32))
        values = zip(("cx", "cy", "w", "h", "ang"), (cx, cy, w, h, np.radians(angle)), strict=True)
        box = "".join(f"<mbox_{key}>{value}</mbox_{key}>" for key, value in values)
        (folder / "FullDataSet/Annotations" / f"{name}.xml").write_text(
            f"<HRSC_Image><HRSC_Objects><HRSC_Object>{box}</HRSC_Object></HRSC_Objects></HRSC_Image>"
        )
    return folder


def train_data(cfg: Any) -> Any:
    """The data set that a config trains on, behind its wrappers."""
    return next(node for _, node in dataset_settings(cfg.data.train, "data.train"))


def small_options(config: Path, data: Path) -> list[str]:
    """``--cfg-options`` for one epoch of ``config``, tiny, on the CPU, with the patches of ``data``.

    ``data`` holds train/, val/ and test/ of `make_patches`, or is of `make_hrsc`.
    """
    cfg = Config.fromfile(str(config))
    options: dict[str, Any] = {}
    model = cfg._cfg_dict["model"]
    options.update(_differences(model, _small_model(model), "model"))
    options["model.backbone.init_cfg"] = None
    for split in ("train", "val", "test"):
        for place, node in dataset_settings(cfg.data.get(split), f"data.{split}"):
            options[f"{place}.data_root"] = str(data)
            if "gt_dir" in node:
                options[f"{place}.gt_dir"] = None
            for number, step in enumerate(node["pipeline"]):
                if "img_scale" in step:
                    options[f"{place}.pipeline.{number}.img_scale"] = (SIZE, SIZE)
    options["data.workers_per_gpu"] = 0
    options["load_from"] = None
    options["log_config.interval"] = 1
    if cfg.runner["type"] == "IterBasedRunner":
        options["runner.max_iters"] = options["checkpoint_config.interval"] = options["evaluation.interval"] = 2
    else:
        options["runner.max_epochs"] = options["checkpoint_config.interval"] = options["evaluation.interval"] = 1
    return [f"{key}={value}" for key, value in options.items()]


def _scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    image = rng.integers(60, 120, (SIZE, SIZE, 3), dtype=np.uint8)
    box = ((rng.uniform(45, 83), rng.uniform(45, 83)), (60.0, 30.0), rng.uniform(0, 90))
    poly = cv2.boxPoints(box)
    cv2.fillPoly(image, [poly.astype(np.int32)], (220, 220, 220))
    return image, poly


def _small_model(model: Any) -> Any:
    small = _shrink(copy.deepcopy(model))
    kind = small["backbone"]["type"]
    small["neck"]["in_channels"] = WIDTHS
    if kind == "ViTFDAM":
        small["backbone"]["arch"] = dict(_delete_=True, embed_dims=64, depth=4, num_heads=1)
        small["neck"]["in_channels"] = 64
    elif kind == "MiTFDAM":
        small["backbone"]["arch"] = dict(_delete_=True, embed_dims=16, depths=[1, 1, 1, 1])
    else:
        small["backbone"].update(embed_dims=WIDTHS, depths=[1, 1, 1, 1])
    return small


def _shrink(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _shrink(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_shrink(value) for value in node)
    return SMALL.get(node, node) if isinstance(node, int) and not isinstance(node, bool) else node


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any]]:
    for key, value in new.items() if isinstance(new, dict) else enumerate(new):
        before = old[key]
        if isinstance(value, dict) and isinstance(before, dict):
            yield from _differences(before, value, f"{path}.{key}")
        elif isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
            yield from _differences(before, value, f"{path}.{key}")
        elif value != before:
            yield f"{path}.{key}", value
