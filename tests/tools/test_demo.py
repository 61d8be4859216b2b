"""What the demo decides before it trains: steps, start weights, and what it says to expect."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmcv import Config

import fdam_rotate.models  # noqa: F401
from fdam_rotate.commands import demo
from fdam_rotate.dota.errors import DotaError, OutputExistsError
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
    assert "MINUTES=N with a larger N, for 24 passes" in text
    text = demo.outlook(521, 6252, own_data=True, pretrained=True)
    assert "24.0 passes" in text
    assert "INIT" not in text
    assert "MINUTES" not in text
    assert "generated scenes" in demo.outlook(180, 1000, own_data=False, pretrained=False)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_start_weights_decide_the_backbone(prefix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = LSKNet(embed_dims=(16, 32, 80, 64), depths=(1, 2, 1, 1), mlp_ratios=(2, 4, 2, 2))
    checkpoint = tmp_path / "weights.pth"
    torch.save({"state_dict": {prefix + key: value for key, value in model.state_dict().items()}}, checkpoint)
    (tmp_path / "config.py").write_text(
        demo._config(tmp_path, tmp_path / "patches", ("ship",), iters=7, init=demo._init(Path(checkpoint.name)))
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


LABEL = "1 1 2 1 2 2 1 2 {} 0\n"


@pytest.fixture
def scenes(tmp_path):
    """Data in DOTA's layout, of classes that are not in the order of their names, eight images to look at."""
    for part, name in (("train", "ship"), ("val", "plane")):
        for folder in ("images", "labelTxt"):
            (tmp_path / "scenes" / part / folder).mkdir(parents=True)
        for number in range(8):
            (tmp_path / "scenes" / part / "images" / f"{number}.png").touch()
            (tmp_path / "scenes" / part / "labelTxt" / f"{number}.txt").write_text(LABEL.format(name))
    (tmp_path / "scenes/val/labelTxt/0.txt").write_text(LABEL.format("boat") + LABEL.format("small-vehicle"))
    (tmp_path / "timing").mkdir()
    times = [{"mode": "train", "time": seconds} for seconds in (50.0, 1.0, 3.0)] + [{"mode": "val", "time": 9.0}]
    (tmp_path / "timing/1.log.json").write_text("\n".join(map(json.dumps, times)) + "\n")
    return tmp_path / "scenes"


def steps_of(work, monkeypatch, *words) -> list[list[str]]:
    steps: list[list[str]] = []
    monkeypatch.setattr(demo, "_step", lambda what, *step: steps.append(list(map(str, step))))
    demo._run_steps(demo.build_parser().parse_args(["--work-dir", str(work), *map(str, words)]))
    return steps


def test_the_steps_on_generated_scenes(scenes, monkeypatch, capsys):
    work = scenes.parent
    steps = steps_of(work, monkeypatch, "--seed", 5, "--scenes", 40)
    assert [step[0] for step in steps] == [
        "synthetic", "predict", "show", "split", "split", "train", "test", "merge", "submit", "evaluate", "show",
    ]  # fmt: skip
    made, first, _, split, _, train, *_, score, _ = steps
    assert made[made.index("--train") : made.index("--size")] == ["--train", "40", "--val", "5"]
    assert made[made.index("--seed") + 1] == train[train.index("--seed") + 1] == "5"
    assert first[3:-2] == [str(scenes / f"val/images/{number}.png") for number in range(6)], "some of them"
    assert split[split.index("--sizes") : split.index("--out")] == [
        "--sizes",
        "256",
        "--gaps",
        "64",
        "--padding-value",
        "104",
        "116",
        "124",
    ]
    assert score[score.index("--classes") + 1] == "plane,small-vehicle,ship,boat", "DOTA's order, others behind it"
    cfg = Config.fromfile(str(work / "config.py"))
    assert (cfg.runner.max_iters, list(cfg.classes)) == (1000, ["plane", "small-vehicle", "ship", "boat"])
    assert "1000 steps of 2 patches" in capsys.readouterr().out
    few = steps_of(work, monkeypatch, "--scenes", 4, "--iters", 30)[0]
    assert few[few.index("--val") + 1] == "2"
    assert Config.fromfile(str(work / "config.py")).runner.max_iters == 30


@pytest.mark.parametrize(("words", "steps"), [((), 450), (("--minutes", 2), 60), (("--iters", 7), 7)])
def test_the_steps_on_own_data(words, steps, scenes, monkeypatch, capsys):
    """2 s a step, the first left out: 15 minutes where nothing is said."""
    monkeypatch.setattr(demo, "_count_with_objects", lambda folder: 10**6)
    taken = steps_of(scenes.parent, monkeypatch, "--data", scenes, *words)
    timed = [step for step in taken if "log_config.interval=4" in step]
    assert len(timed) == (0 if "--iters" in words else 1)
    assert Config.fromfile(str(scenes.parent / "config.py")).runner.max_iters == steps
    split = next(step for step in taken if step[0] == "split")
    assert split[split.index("--sizes") : split.index("--out")] == [
        "--sizes",
        "512",
        "--gaps",
        "100",
        "--padding-value",
        "104",
        "116",
        "124",
    ]
    assert ("A step takes 2.00 s here" in capsys.readouterr().out) == bool(timed)


def test_a_step_that_fails_ends_the_tour(monkeypatch):
    for code in (1, 2, -9):
        monkeypatch.setattr(demo.subprocess, "run", lambda *_, code=code, **__: SimpleNamespace(returncode=code))
        with pytest.raises(DotaError, match=f"ended with exit code {code}; the demo stops here"):
            demo._step("what", "split")


def test_the_layout_of_own_data_is_looked_at_first(scenes, tmp_path):
    (scenes / "val" / "labelTxt").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"val/labelTxt does not exist; --data takes a folder with train/"):
        demo.main(["--data", str(scenes), "--work-dir", str(tmp_path / "work")])
    init = tmp_path / "work" / "a.pth"
    init.parent.mkdir()
    init.touch()
    with pytest.raises(OutputExistsError, match=r"holds the input .*a\.pth"):
        demo.main(["--data", str(scenes), "--work-dir", str(init.parent), "--init", str(init)])


def test_only_patches_with_objects_count(tmp_path):
    (tmp_path / "a.txt").write_text("1 1 2 1 2 2 1 2 ship 0\n")
    (tmp_path / "b.txt").write_text("")
    assert demo._count_with_objects(tmp_path) == 1
