"""The folders that configs read are those that the split presets write."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmcv import Config

from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.splitting.presets import PRESETS


@pytest.mark.parametrize("scale", ["ss", "ms"])
@pytest.mark.parametrize(("version", "stem"), [("v1.0", "dotav1"), ("v1.5", "dotav15"), ("v2.0", "dotav2")])
def test_configs_read_what_the_presets_write(repo, version, stem, scale):
    cfg = Config.fromfile(repo / "configs/_base_/datasets" / (stem + ("_ms" if scale == "ms" else "") + ".py"))
    for part in ("train", "val", "test"):
        preset = PRESETS[f"dota-{version}-{scale}-{part}"]
        root = Path(cfg.data[part].data_root)
        assert root / cfg.data[part].img_prefix == Path(preset["out"]) / "images"
        labels = "images" if part == "test" else "annfiles"
        assert root / cfg.data[part].ann_file == Path(preset["out"]) / labels
        assert resolve_classes(cfg.data[part].classes) == resolve_classes(preset["classes"])
    assert Path(cfg.data.val.gt_dir) == Path(PRESETS[f"dota-{version}-{scale}-val"]["ann_dirs"][0])
