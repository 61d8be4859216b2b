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
    arguments = [str(config), str(tmp_path / "c.safetensors"), "--out", str(tmp_path / "f.pt"), "--shape", "64", "96"]
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
        export.main([*arguments, "--batch", "0"])
    assert caught.value.code == 2
