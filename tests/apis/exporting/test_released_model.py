"""The released detector as a file finds on real images what its checkpoint finds, at half their resolution too."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmcv import Config
from scripts import ROOT, SHARED

from fdam_rotate.apis.predict import TorchModel
from fdam_rotate.commands.demo import RELEASED
from fdam_rotate.commands.export import main as export
from fdam_rotate.dota.geometry import le90_to_poly, polygon_iou
from fdam_rotate.dota.predicting.onnx_model import OnnxModel
from fdam_rotate.dota.rasters.padding import pad_patch

CONFIG = ROOT / "configs" / "released" / RELEASED / f"{RELEASED}.py"
WEIGHTS = CONFIG.with_suffix(".safetensors")
IMAGES = SHARED / "real" / "vhr10" / "val" / "images"
SIDE = 1024


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the released weights are not there")
@pytest.mark.skipif(not IMAGES.is_dir(), reason="VHR-10 is not beside this checkout (../shared/real/vhr10)")
def test_file_and_checkpoint_find_the_same_on_real_images(tmp_path):
    path = tmp_path / "m.onnx"
    assert export([str(CONFIG), str(WEIGHTS), "--out", str(path), "--shape", str(SIDE), str(SIDE)]) == 0
    files = sorted(IMAGES.iterdir())[::25]
    windows = [pad_patch(cv2.imread(str(file))[:SIDE, :SIDE], (SIDE, SIDE), (104, 116, 124)) for file in files]
    torch_model = TorchModel(Config.fromfile(str(CONFIG)), WEIGHTS)
    expected = torch_model.detect([np.ascontiguousarray(window) for window in windows])
    assert sum(len(one.scores) for one in expected) > 20
    for runtime in ("onnxruntime", "openvino"):
        found = OnnxModel(path, runtime=runtime, threads=1).detect(windows)
        for file, theirs, ours in zip(files, expected, found, strict=True):
            assert len(ours.scores) == len(theirs.scores), (runtime, file.name)
            for box, score, label in zip(theirs.boxes, theirs.scores, theirs.labels, strict=True):
                same = ours.labels == label
                iou = polygon_iou(le90_to_poly(box[None]), le90_to_poly(ours.boxes[same]))[0]
                assert ((iou >= 0.99) & (abs(ours.scores[same] - score) <= 1e-3)).any(), (
                    runtime,
                    file.name,
                    box,
                    score,
                )
