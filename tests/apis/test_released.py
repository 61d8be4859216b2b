"""The released model: small, tensors only, found by name, and on val it scores what its card says."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from scripts import ROOT, SHARED

from fdam_rotate.commands.demo import RELEASED, RELEASED_CLASSES
from fdam_rotate.commands.evaluate import main as evaluate
from fdam_rotate.commands.predict import main as predict
from fdam_rotate.commands.values import config_file

FOLDER = ROOT / "configs" / "released" / RELEASED
WEIGHTS = FOLDER / f"{RELEASED}.safetensors"
CARD = FOLDER / "README.md"

needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"{WEIGHTS.name} is not there")


def test_the_config_is_found_by_name():
    from mmcv import Config

    assert config_file(RELEASED) == FOLDER / f"{RELEASED}.py"
    assert tuple(Config.fromfile(str(FOLDER / f"{RELEASED}.py")).data.test.classes) == RELEASED_CLASSES


@needs_weights
def test_the_weights_are_tensors_and_class_names_alone():
    content = WEIGHTS.read_bytes()
    assert len(content) <= 12_000_000
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    meta = head.pop("__metadata__")
    assert json.loads(meta["meta"]) == {"CLASSES": list(RELEASED_CLASSES)}
    assert {tensor["dtype"] for tensor in head.values()} <= {"F32", "I64"}


@needs_weights
def test_the_card_says_what_scores_json_says():
    scores, card = json.loads((FOLDER / "scores.json").read_text()), CARD.read_text()
    low, high = (100 * scores[f"AP50_{end}"] for end in ("low", "high"))
    assert f"| **{100 * scores['AP50']:.1f}** | {low:.1f} to {high:.1f} |" in card
    for name, value in scores["AP50_by_class"].items():
        assert f"| {name} | {value['objects']} | {100 * value['value']:.1f} |" in card


def test_the_file_for_runtimes_scores_on_val_what_the_card_says(tmp_path):
    pytest.importorskip("onnxruntime")
    data = SHARED / "real" / "vhr10" / "val"
    if not data.is_dir():
        pytest.skip("VHR-10 is not beside this checkout (../shared/real/vhr10)")
    out, measured = tmp_path / "found", tmp_path / "scores.json"
    model = str(FOLDER / f"{RELEASED}.onnx")
    assert predict([model, str(data / "images"), "--out", str(out), "--runtime", "onnxruntime"]) == 0
    words = [str(out), "--gt", str(data / "labelTxt"), "--metric", "voc12", "--classes", ",".join(RELEASED_CLASSES)]
    assert evaluate([*words, "--json", str(measured)]) == 0
    said, scores = json.loads((FOLDER / "scores.json").read_text()), json.loads(measured.read_text())
    assert scores["map"] == pytest.approx(said["AP50"], abs=5e-4), "0.05 points"
    assert scores["map_mean"] == pytest.approx(said["AP50_95"], abs=5e-4)


@needs_weights
@pytest.mark.slow
def test_on_val_the_model_scores_what_its_card_says(tmp_path):
    data = SHARED / "real" / "vhr10" / "val"
    if not data.is_dir():
        pytest.skip("VHR-10 is not beside this checkout (../shared/real/vhr10)")
    out, measured = tmp_path / "found", tmp_path / "scores.json"
    config = FOLDER / f"{RELEASED}.py"
    assert predict([str(config), str(WEIGHTS), str(data / "images"), "--out", str(out)]) == 0
    words = [str(out), "--gt", str(data / "labelTxt"), "--metric", "voc12", "--classes", ",".join(RELEASED_CLASSES)]
    assert evaluate([*words, "--json", str(measured)]) == 0
    said, scores = json.loads((FOLDER / "scores.json").read_text()), json.loads(measured.read_text())
    assert scores["map"] == pytest.approx(said["AP50"], abs=2e-3), "another CPU rounds otherwise, and no more"
    assert scores["map_mean"] == pytest.approx(said["AP50_95"], abs=2e-3)
    for name, value in said["AP50_by_class"].items():
        assert np.isclose(scores["ap"][name], value["value"], atol=1e-2), name
