"""Prediction in bfloat16: every kind of detector runs, its networks in 16 bits and its boxes in 32."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scripts import ROOT, load_script
from small_detectors import DETECTORS, METAS, images_of, small_detector
from small_training import make_patches, small_options

from fdam_rotate.apis.precision import _in_float32, set_precision
from fdam_rotate.dota.detections import read_detections


def tensors(results):
    return [t for part in results for t in (tensors(part) if isinstance(part, (list, tuple)) else [part])]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_predicts_in_bfloat16(name):
    plain = small_detector(name).eval()
    short = set_precision(copy.deepcopy(plain), "bf16")
    assert all(p.dtype == torch.float32 for p in short.parameters())
    images = images_of(2)
    with torch.no_grad():
        features, short_features = plain.extract_feat(images), short.extract_feat(images)
        for a, b in zip(features, short_features, strict=True):
            assert b.dtype == torch.bfloat16
            assert (a - b).norm() < 0.05 * a.norm()
        heads = [part for part in ("rpn_head", "bbox_head", "fam_head") if hasattr(plain, part)]
        assert heads
        for head in heads:
            expected, found = (tensors(getattr(m, head)(f)) for m, f in ((plain, features), (short, short_features)))
            assert all(t.dtype == torch.float32 for t in found)
            a, b = (torch.cat([t.flatten() for t in outs]) for outs in (expected, found))
            assert (a - b).norm() < 0.05 * a.norm()
        results = short.simple_test(images, METAS)
    boxes = np.concatenate([rows for image in results for rows in image])
    assert boxes.dtype == np.float32
    assert np.isfinite(boxes).all()


def test_the_second_stage_too():
    plain = small_detector("roi_trans/roi_trans_lsk_s_fdam_fpn_1x_dota_le90.py").eval()
    short = set_precision(copy.deepcopy(plain), "bf16")
    rois = torch.tensor([[0, 60.0, 60, 50, 24, 0.5], [1, 30, 90, 20, 30, -0.3]])
    with torch.no_grad():
        expected = plain.roi_head._bbox_forward(1, plain.extract_feat(images_of(2)), rois)
        features = short.extract_feat(images_of(2))
        found = short.roi_head._bbox_forward(1, features, rois)
    for key in ("cls_score", "bbox_pred"):
        assert found[key].dtype == torch.float32
        assert not torch.equal(found[key], expected[key])
        assert (found[key] - expected[key]).abs().max() < 0.05 * expected[key].abs().max()


def test_what_comes_of_a_head_is_float32_and_of_the_same_kind():
    found = _in_float32(([torch.ones(2, dtype=torch.float16)], (torch.ones(1, dtype=torch.bfloat16), 3, None)))
    assert type(found) is tuple
    assert [type(part) for part in found] == [list, tuple]
    assert found[0][0].dtype == found[1][0].dtype == torch.float32
    assert found[1][1:] == (3, None)
    for kind in (torch.int64, torch.float64):
        assert _in_float32(torch.ones(1, dtype=kind)).dtype == kind


def test_parts_without_weights_are_left_alone():
    model = small_detector(DETECTORS[0])
    extractor = model.roi_head.bbox_roi_extractor
    forward = extractor.forward
    set_precision(model, "bf16")
    assert extractor.forward == forward
    assert model.rpn_head.forward.__name__ == "forward"
    assert model.rpn_head.forward.__wrapped__


def test_fp32_changes_nothing_and_other_words_are_refused():
    model = small_detector(DETECTORS[0])
    before = model.backbone.forward
    assert set_precision(model, "fp32") is model
    assert model.backbone.forward == before
    with pytest.raises(ValueError, match="precision must be fp32 or bf16, got 'fp16'"):
        set_precision(model, "fp16")


def test_through_the_command(tmp_path):
    config = ROOT / "configs" / DETECTORS[0]
    make_patches(tmp_path / "test", 1)
    checkpoint = tmp_path / "model.pth"
    model = small_detector(DETECTORS[0])
    model.roi_head.bbox_head.fc_cls.weight.data.mul_(100)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, checkpoint)
    options = ["--cfg-options", *small_options(config, tmp_path), "model.test_cfg.rcnn.score_thr=0.01"]
    main = load_script("tools/test.py").main
    found = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        assert main([str(config), str(checkpoint), "--out", str(out), "--precision", precision, *options]) == 0
        found[precision] = np.concatenate([d.scores for d in read_detections(out).values()])
    assert len(found["fp32"]) > 10
    assert len(found["bf16"]) > 10
    assert not np.array_equal(np.sort(found["fp32"]), np.sort(found["bf16"]))


def test_an_exported_model_has_its_own(tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / "a.png").write_bytes(b"x")
    main = load_script("tools/predict.py").main
    words = [str(tmp_path / "model.onnx"), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main([*words, "--precision", "bf16"])
    assert "--precision bf16 needs CONFIG CHECKPOINT" in capsys.readouterr().err
