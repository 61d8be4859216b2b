"""tools/convert_checkpoint.py on checkpoints laid out as their authors publish them."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scripts import ROOT, load_script
from small_config import write_small_config

SIZES = {"embed_dims": [32, 32, 80, 64], "depths": [1, 2, 1, 1], "mlp_ratios": [2, 3, 2, 1]}


@pytest.fixture(scope="module")
def convert():
    return load_script("tools/convert_checkpoint.py")


def make_backbone(kind: str, **settings):
    from mmrotate.models import build_backbone

    import fdam_rotate.models  # noqa: F401

    torch.manual_seed(len(kind))
    return build_backbone({"type": kind, **settings})


def imagenet_file(path: Path, state: dict) -> Path:
    """LSKNet's pretraining checkpoints: timm's layout with its arguments, optimizer and classifier."""
    head = {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    args = argparse.Namespace(model="lsk_s", epochs=300, lr=1e-3)
    torch.save({"epoch": 299, "arch": "lsk_s", "state_dict": {**state, **head}, "optimizer": {}, "args": args}, path)
    return path


def detector_file(path: Path, state: dict) -> Path:
    """A whole Oriented R-CNN as MMRotate saves it, trained with an EMA hook."""
    body = {f"backbone.{k}": v for k, v in state.items()}
    body |= {
        "neck.lateral_convs.0.conv.weight": torch.zeros(8, 32, 1, 1),
        "roi_head.bbox_head.fc_cls.bias": torch.zeros(16),
    }
    body |= {"ema_" + k.replace(".", "_"): torch.zeros_like(v) for k, v in body.items()}
    meta = {"epoch": 12, "iter": 100, "CLASSES": ("plane", "ship"), "PALETTE": [(1, 2, 3), (4, 5, 6)], "config": "a=1"}
    torch.save({"meta": meta, "state_dict": body, "optimizer": {"state": {0: torch.zeros(9)}}}, path)
    return path


@pytest.mark.parametrize("make", [imagenet_file, detector_file])
@pytest.mark.parametrize("to", ["LSKNet", "LSKNetFDAM"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_lsknet_weights_reach_both_backbones(convert, tmp_path, capsys, make, to, suffix):
    from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file, load_into

    source = make_backbone("LSKNet", **SIZES).state_dict()
    path = make(tmp_path / "published.pth.tar", source)
    target = tmp_path / f"out{suffix}"
    assert convert.main([str(path), "--out", str(target), "--to", to]) == 0
    printed = capsys.readouterr().out
    written = load_checkpoint_file(target)
    assert written["state_dict"].keys() == source.keys()
    assert all(torch.equal(written["state_dict"][k], v) for k, v in source.items())
    assert written["meta"]["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "CC BY-NC 4.0" in printed
    assert f"wrote {target}: {len(source)} tensors" in printed
    report = load_into(model := make_backbone(to, **SIZES), target)
    new = {k.split(".", 2)[2] for k in report.missing}
    if to == "LSKNet":
        assert not report.missing
    else:
        assert not report.unexpected
        assert not report.mismatched
        expected = {k for k in model.state_dict() if k not in source}
        assert set(report.missing) == expected
        assert {"attn.dy_freq.weight", "attn.lf_gamma", "freq_scale_1.complex_weights"} <= new
        assert "freq_scale_*.complex_weights" in printed


def test_sizes_are_read_off_the_tensors():
    from fdam_rotate.apis.checkpoints.convert import infer_backbone

    state = {f"module.backbone.{k}": v for k, v in make_backbone("LSKNet", **SIZES).state_dict().items()}
    assert infer_backbone(state, "LSKNetFDAM") == {"type": "LSKNetFDAM", "in_channels": 3, **SIZES}


def test_published_t_and_s_have_their_published_size():
    """4.0 M and 13.8 M parameters: the family's tables, through inference from a state dict."""
    from fdam_rotate.apis.checkpoints.convert import infer_backbone

    for embed, depths, millions in (
        ([32, 64, 160, 256], [3, 3, 5, 2], 4.0),
        ([64, 128, 320, 512], [2, 2, 4, 2], 13.8),
    ):
        model = make_backbone("LSKNet", embed_dims=embed, depths=depths, mlp_ratios=[8, 8, 4, 4])
        inferred = infer_backbone(model.state_dict(), "LSKNet")
        assert inferred["embed_dims"] == embed
        assert inferred["depths"] == depths
        assert inferred["mlp_ratios"] == [8, 8, 4, 4]
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


def test_deit_iii_and_fdams_own_vit_reach_vit_fdam(convert, tmp_path, capsys):
    """DeiT-III: under 'model', class token, final norm and classifier, none of FDAM's keys, and 224 pixels."""
    from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file, load_into
    from fdam_rotate.apis.checkpoints.convert import infer_backbone

    arch = {"embed_dims": 128, "depth": 2, "num_heads": 2}
    whole = make_backbone("ViTFDAM", arch=arch, img_size=224).state_dict()
    inferred = infer_backbone({f"module.{k}": v for k, v in whole.items()}, "ViTFDAM")
    assert inferred.pop("type") == "ViTFDAM"
    assert inferred == dict(arch=arch, img_size=224, patch_size=16, in_channels=3, mlp_ratio=4, qkv_bias=True)
    added = ("dy_freq", "gamma", "freq_scale")
    deit = {k: v for k, v in whole.items() if not any(a in k for a in added) or "gamma_" in k}
    extra = {"cls_token": torch.zeros(1, 1, 128), "norm.weight": torch.ones(128), "norm.bias": torch.zeros(128)}
    torch.save(
        {"model": {**deit, **extra, "head.weight": torch.zeros(9, 128), "head.bias": torch.zeros(9)}},
        tmp_path / "d.pth",
    )
    assert convert.main([str(tmp_path / "d.pth"), "--out", str(tmp_path / "o.safetensors"), "--to", "ViTFDAM"]) == 0
    printed = capsys.readouterr().out
    written = load_checkpoint_file(tmp_path / "o.safetensors")["state_dict"]
    assert written.keys() == deit.keys()
    assert "class token" in printed
    assert "Apache-2.0" in printed
    report = load_into(make_backbone("ViTFDAM", arch=arch, img_size=512), tmp_path / "o.safetensors")
    assert not report.mismatched, "positions are resized as they are loaded"
    assert not report.unexpected
    assert all(any(a in k for a in added) for k in report.missing)

    body = {f"backbone.{k}": v for k, v in whole.items()} | {"decode_head.conv_seg.weight": torch.zeros(3)}
    torch.save({"meta": {}, "state_dict": body}, tmp_path / "fdam.pth")
    assert convert.main([str(tmp_path / "fdam.pth"), "--out", str(tmp_path / "f.pth"), "--to", "ViTFDAM"]) == 0
    assert load_checkpoint_file(tmp_path / "f.pth")["state_dict"].keys() == whole.keys()
    assert re.search(r"new +0 ", capsys.readouterr().out)


def test_mit_reaches_mit_fdam(convert, tmp_path, capsys):
    from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file
    from fdam_rotate.apis.checkpoints.convert import infer_backbone

    arch = {"embed_dims": 16, "depths": [1, 2, 1, 1]}
    whole = make_backbone("MiTFDAM", arch=arch).state_dict()
    inferred = infer_backbone(whole, "MiTFDAM")
    assert inferred == {"type": "MiTFDAM", "arch": arch, "in_channels": 3, "mlp_ratio": 4}
    mit = {k: v for k, v in whole.items() if not any(a in k for a in ("dy_freq", "gamma", "freq_scale"))}
    torch.save({"state_dict": mit}, tmp_path / "mit.pth")
    assert convert.main([str(tmp_path / "mit.pth"), "--out", str(tmp_path / "o.pth"), "--to", "MiTFDAM"]) == 0
    assert load_checkpoint_file(tmp_path / "o.pth")["state_dict"].keys() == mit.keys()
    assert "NVIDIA" in capsys.readouterr().out


def test_a_whole_detector_is_converted_by_its_config(convert, tmp_path, capsys):
    """The config says LSKNetFDAM and FDAMFPN; the file is LSKNet with FPN, and another number of classes is refused."""
    from mmcv import Config
    from mmrotate.models import build_detector

    from fdam_rotate.apis.checkpoints.checkpoint import CheckpointError, load_checkpoint_file

    plain, fdam, other = (
        write_small_config(tmp_path / f"{name}.py", base, head=f", num_classes={classes}")
        for name, base, classes in (
            ("plain", "lsknet/lsk_s_fpn_1x_dota_le90", 15),
            ("fdam", "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90", 15),
            ("other", "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90", 3),
        )
    )
    cfg = Config.fromfile(str(plain))
    cfg.model.backbone.update(init_cfg=None, norm_cfg=dict(type="BN"))
    state = build_detector(cfg.model).state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "optimizer": {}}, tmp_path / "d.pth")
    assert convert.main([str(tmp_path / "d.pth"), "--out", str(tmp_path / "o.pth"), "--config", str(fdam)]) == 0
    assert load_checkpoint_file(tmp_path / "o.pth")["state_dict"].keys() == state.keys()
    assert "neck.freq_scale.*.complex_weights" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"2 tensors of .* refused(?s:.*)fc_cls\.weight: 16x32 in the file, 4x32"):
        convert.main([str(tmp_path / "d.pth"), "--out", str(tmp_path / "p.pth"), "--config", str(other)])


def test_class_names_survive_and_code_text_does_not(convert, tmp_path):
    from safetensors import safe_open

    path = detector_file(tmp_path / "d.pth", make_backbone("LSKNet", **SIZES).state_dict())
    assert convert.main([str(path), "--out", str(tmp_path / "d.safetensors")]) == 0
    with safe_open(tmp_path / "d.safetensors", "pt") as file:
        meta = json.loads(file.metadata()["meta"])
        assert "neck.lateral_convs.0.conv.weight" in file.keys()
    assert meta["CLASSES"] == ["plane", "ship"]
    assert meta["epoch"] == 12
    assert "config" not in meta


def test_refused_tensors_stop_the_conversion_unless_dropped(convert, tmp_path, capsys):
    from fdam_rotate.apis.checkpoints.checkpoint import CheckpointError, load_checkpoint_file

    state = make_backbone("LSKNetFDAM", **SIZES).state_dict()
    torch.save(state, tmp_path / "fdam.pth")
    with pytest.raises(CheckpointError, match=r"not written: \d+ tensors of .* were refused(?s:.*)attn\.lf_gamma"):
        convert.main([str(tmp_path / "fdam.pth"), "--out", str(tmp_path / "o.pth"), "--to", "LSKNet"])
    assert not (tmp_path / "o.pth").exists()
    assert (
        convert.main([str(tmp_path / "fdam.pth"), "--out", str(tmp_path / "o.pth"), "--to", "LSKNet", "--drop-refused"])
        == 0
    )
    assert (
        load_checkpoint_file(tmp_path / "o.pth")["state_dict"].keys()
        == make_backbone("LSKNet", **SIZES).state_dict().keys()
    )
    capsys.readouterr()


def test_tensors_of_another_shape_stop_the_conversion_too(convert, tmp_path):
    from fdam_rotate.apis.checkpoints.checkpoint import CheckpointError

    state = make_backbone("LSKNet", **SIZES).state_dict()
    state["block1.0.layer_scale_1"] = torch.zeros(3)
    torch.save(state, tmp_path / "odd.pth")
    words = [str(tmp_path / "odd.pth"), "--out", str(tmp_path / "o.pth"), "--to", "LSKNet"]
    with pytest.raises(CheckpointError, match=r"not written: 1 tensors of .* were refused"):
        convert.main(words)
    assert not (tmp_path / "o.pth").exists()
    assert convert.main([*words, "--drop-refused"]) == 0


def test_another_familys_checkpoint_is_refused(convert, tmp_path):
    from fdam_rotate.apis.checkpoints.checkpoint import CheckpointError

    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "r50.pth")
    with pytest.raises(CheckpointError, match="no LSKNet in the file"):
        convert.main([str(tmp_path / "r50.pth"), "--out", str(tmp_path / "o.pth"), "--to", "LSKNet"])


def test_an_existing_target_is_refused_before_the_source_is_read(convert, tmp_path):
    from fdam_rotate.dota.errors import OutputExistsError

    (tmp_path / "o.pth").write_text("precious")
    (tmp_path / "noise.pth").write_text("no checkpoint")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        convert.main([str(tmp_path / "noise.pth"), "--out", str(tmp_path / "o.pth")])
    assert (tmp_path / "o.pth").read_text() == "precious"


def test_command_line_reports_code_in_one_line(tmp_path):
    class Bomb:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"state_dict": {"w": torch.zeros(1)}, "x": Bomb()}, tmp_path / "evil.pth")
    tool = str(ROOT / "tools" / "convert_checkpoint.py")
    command = [sys.executable, tool, str(tmp_path / "evil.pth"), "--out", str(tmp_path / "o.pth")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "refused and not run: it names" in done.stderr
    assert "exec" in done.stderr
    assert not (tmp_path / "ran").exists()
    done = subprocess.run([*command, "--unsafe-load"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ran").exists()


def test_help_needs_no_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('blocked')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "convert_checkpoint.py"), "--help"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CC BY-NC 4.0" in done.stdout
