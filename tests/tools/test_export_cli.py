"""tools/export.py from the command line."""

from __future__ import annotations

import pytest
import torch
from scripts import ROOT, load_script


@pytest.fixture(scope="module")
def export():
    return load_script("tools/export.py")


def test_demo_config_is_exported_and_checked(export, tmp_path, capsys):
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file

    config = ROOT / "configs" / "demo" / "lsk_fdam_demo.py"
    model, _ = build_model(config, seed=3)
    save_checkpoint_file(tmp_path / "c.safetensors", model.state_dict())
    arguments = [
        str(config),
        str(tmp_path / "c.safetensors"),
        "--out",
        str(tmp_path / "f.pt"),
        "--shape",
        "64",
        "96",
        "--features",
    ]
    assert export.main([*arguments, "--check"]) == 0
    printed = capsys.readouterr().out
    assert "level0: 1 x 64 x 16 x 24" in printed
    assert "FFT layers as matrix products, differs from the detector by" in printed
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = model.extract_feat(image)
    for a, b in zip(expected, torch.jit.load(str(tmp_path / "f.pt"))(image), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)

    from fdam_rotate.dota.errors import OutputExistsError

    with pytest.raises(OutputExistsError):
        export.main(arguments)
    with pytest.raises(SystemExit) as caught:
        export.main([*arguments, "--batch-size", "0"])
    assert caught.value.code == 2


def test_settings_reach_the_exporter_and_the_card(export, tmp_path, monkeypatch, capsys):
    """Writing takes half a minute and is tested with the exporter; here it is left out."""
    import fdam_rotate.apis.exporting.detector as module

    monkeypatch.setattr(module, "write_onnx", lambda model, image, path, *_: path.write_bytes(b"a model"))
    config = ROOT / "configs" / "demo" / "lsk_fdam_demo.py"
    cards = []
    made = module.ModelCard

    def card(**values):
        cards.append(made(**values))
        return cards[-1]

    monkeypatch.setattr(module, "ModelCard", card)
    words = [
        "--out",
        str(tmp_path / "m.onnx"),
        "--shape",
        "96",
        "64",
        "--batch-size",
        "2",
        "--gap",
        "7",
        "--gsd",
        "0.5",
    ]
    words += ["--trained-on", "noise", "--licence", "none"]
    options = ["model.test_cfg.rpn.max_per_img=10", "model.test_cfg.rcnn.score_thr=0.2"]
    assert export.main([str(config), *words, "--cfg-options", *options]) == 0
    (found,) = cards
    assert (found.height, found.width, found.batch, found.gap, found.gsd) == (96, 64, 2, 7, 0.5)
    assert (found.trained_on, found.licence, found.checkpoint_sha256) == ("noise", "none", None)
    assert (found.max_boxes, found.score_thr, found.config) == (20, 0.2, "lsk_fdam_demo.py")
    assert found.classes[0] == "plane"
    assert "OrientedRCNN, 15 classes, 20 candidates for an image" in capsys.readouterr().out
    from fdam_rotate.apis.exporting.errors import ExportError

    with pytest.raises(ExportError, match=r"name that ends in \.onnx \(ONNX\)$"):
        export.main([str(config), "--out", str(tmp_path / "m.pt")])
