"""What the demo decides before it trains: steps, start weights, and what it says to expect."""

from __future__ import annotations

import pytest
import torch
from mmcv import Config

import fdam_rotate.models  # noqa: F401
from fdam_rotate.commands import demo
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.models.backbones import LSKNet


@pytest.mark.parametrize(
    ("images", "minutes", "seconds", "steps"),
    [
        (100, 60, 0.5, 1200),  # 24 passes over 100 patches, 2 a step
        (101, 60, 0.5, 1212),
        (100, 5, 0.5, 600),  # 300 s
        (3, 5, 0.5, 100),  # few patches: the least
        (3, 0.5, 0.5, 60),  # but never longer than one allows
        (100, 0.01, 2.0, 1),
    ],
)
def test_steps_follow_data_and_time(images, minutes, seconds, steps):
    assert demo.steps_for(images, minutes, seconds) == steps


def test_outlook_on_own_data():
    text = demo.outlook(521, 300, own_data=True, pretrained=False)
    assert "300 steps of 2 patches are 1.2 passes over the 521 training patches" in text
    assert "mAP 0.05" in text
    assert text.index("INIT=FILE") < text.index("MINUTES=N") < text.index("configs/lsknet_fdam")
    assert "the network gets the file's width" in text
    text = demo.outlook(521, 6252, own_data=True, pretrained=True)
    assert "24.0 passes" in text
    assert "INIT" not in text
    assert "MINUTES" not in text
    assert "generated scenes" in demo.outlook(180, 1000, own_data=False, pretrained=False)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_start_weights_decide_the_backbone(prefix, tmp_path):
    model = LSKNet(embed_dims=(16, 32, 80, 64), depths=(1, 2, 1, 1), mlp_ratios=(2, 4, 2, 2))
    checkpoint = tmp_path / "weights.pth"
    torch.save({"state_dict": {prefix + key: value for key, value in model.state_dict().items()}}, checkpoint)
    (tmp_path / "config.py").write_text(
        demo._config(tmp_path, tmp_path / "patches", ("ship",), iters=7, init=demo._init(checkpoint))
    )
    cfg = Config.fromfile(str(tmp_path / "config.py"))
    assert (cfg.model.backbone.type, cfg.model.neck.in_channels) == ("LSKNetFDAM", [16, 32, 80, 64])
    assert (cfg.model.backbone.depths, cfg.model.backbone.mlp_ratios) == ([1, 2, 1, 1], [2, 4, 2, 2])
    assert cfg.model.backbone.init_cfg == dict(type="Pretrained", checkpoint=str(checkpoint))
    assert (cfg.optimizer.lr, cfg.runner.max_iters, cfg.data.samples_per_gpu) == (2e-4, 7, 2)
    assert (cfg.evaluation.interval, cfg.checkpoint_config.interval) == (7, 7), "at the end, not after every step"
    plain = tmp_path / "plain.py"
    plain.write_text(demo._config(tmp_path, tmp_path / "patches", ("ship",), iters=7))
    cfg = Config.fromfile(str(plain))
    assert (cfg.model.backbone.init_cfg, cfg.optimizer.lr) == (None, 1e-3)


def test_start_weights_of_something_else_are_refused(tmp_path):
    torch.save({"state_dict": {"conv1.weight": torch.zeros(2)}}, tmp_path / "resnet.pth")
    with pytest.raises(DotaError, match="no LSKNetFDAM in the file"):
        demo._init(tmp_path / "resnet.pth")
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        demo.main(["--init", str(tmp_path / "nothing.pth"), "--work-dir", str(tmp_path / "work")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--iters", "3", "--minutes", "2"], "--minutes: not allowed with argument --iters"),
        (["--minutes", "0"], "--minutes: expected a number above 0, got '0'"),
        (["--iters", "-1"], "--iters: expected a whole number of at least 1, got '-1'"),
    ],
)
def test_contradictions_are_usage_errors(words, message, capsys):
    with pytest.raises(SystemExit) as error:
        demo.main(words)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_only_patches_with_objects_count(tmp_path):
    (tmp_path / "a.txt").write_text("1 1 2 1 2 2 1 2 ship 0\n")
    (tmp_path / "b.txt").write_text("")
    assert demo._count_with_objects(tmp_path) == 1
