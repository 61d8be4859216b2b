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


needs_images = pytest.mark.skipif(
    not IMAGES.is_dir(), reason="VHR-10 is not beside this checkout (../shared/real/vhr10)"
)
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the released weights are not there")


def windows(step: int) -> dict[str, np.ndarray]:
    """The corners of every so many images of val, by name."""
    return {
        file.name: np.ascontiguousarray(pad_patch(cv2.imread(str(file))[:SIDE, :SIDE], (SIDE, SIDE), (104, 116, 124)))
        for file in sorted(IMAGES.iterdir())[::step]
    }


def check_same(model: OnnxModel, seen: dict[str, np.ndarray]) -> None:
    """The file finds what the checkpoint finds, at IoU >= 0.99 and scores within 1e-3."""
    expected = TorchModel(Config.fromfile(str(CONFIG)), WEIGHTS).detect(list(seen.values()))
    assert sum(len(one.scores) for one in expected) > 20
    found = model.detect(list(seen.values()))
    for name, theirs, ours in zip(seen, expected, found, strict=True):
        assert len(ours.scores) == len(theirs.scores), (model.runtime, name)
        for box, score, label in zip(theirs.boxes, theirs.scores, theirs.labels, strict=True):
            same = ours.labels == label
            iou = polygon_iou(le90_to_poly(box[None]), le90_to_poly(ours.boxes[same]))[0]
            close = (iou >= 0.99) & (abs(ours.scores[same] - score) <= 1e-3)
            assert close.any(), (model.runtime, name, box, score)


@pytest.mark.slow
@needs_weights
@needs_images
def test_file_and_checkpoint_find_the_same_on_real_images(tmp_path):
    path = tmp_path / "m.onnx"
    assert export([str(CONFIG), str(WEIGHTS), "--out", str(path), "--shape", str(SIDE), str(SIDE)]) == 0
    for runtime in ("onnxruntime", "openvino"):
        check_same(OnnxModel(path, runtime=runtime, threads=1), windows(25))


@pytest.mark.slow
@needs_weights
@needs_images
def test_the_released_file_finds_in_openvino_what_the_checkpoint_finds():
    pytest.importorskip("openvino")
    seen = windows(11)
    assert len(seen) == 10
    check_same(OnnxModel(CONFIG.with_suffix(".onnx"), runtime="openvino", threads=1), seen)


@pytest.mark.slow
@needs_images
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_number_of_threads_changes_no_bit(runtime):
    """So that processes which share the cores write the bytes of one that has them all."""
    pytest.importorskip(runtime)
    one, two = (
        OnnxModel(CONFIG.with_suffix(".onnx"), runtime=runtime, threads=threads).detect(list(windows(50).values()))
        for threads in (1, 2)
    )
    assert sum(len(found.scores) for found in one) > 20
    for first, second in zip(one, two, strict=True):
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
