"""tools/analysis/*.py on a small detector and generated images."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scripts import ROOT, load_script
from small_config import write_small_config

TOOLS = ("spectrum", "feature_rank", "flops", "benchmark")


def tool(name: str):
    return load_script(f"tools/analysis/{name}.py")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """plain.py, fdam.py, fdam.pth (FDAM far from zero) and images/ with a jpg and a png."""
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file

    folder = tmp_path_factory.mktemp("analysis")
    for name, base in (("plain", "lsknet/lsk_s_fpn_1x_dota_le90"), ("fdam", "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90")):
        write_small_config(folder / f"{name}.py", base)
    for name in ("plain", "fdam"):
        model, _ = build_model(folder / f"{name}.py")
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key.endswith(("gamma", "complex_weights", "layer_scale_1", "layer_scale_2")):
                    parameter.normal_()
        save_checkpoint_file(folder / f"{name}.pth", model.state_dict())
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(folder / "images" / name), rng.integers(0, 255, (80, 90, 3), dtype=np.uint8))
    return folder


@pytest.mark.parametrize("name", ["spectrum", "feature_rank"])
def test_layers_with_and_without_fdam(workplace, tmp_path, capsys, name):
    out = tmp_path / "out"
    arguments = [str(workplace / "fdam.py"), str(workplace / "fdam.pth"), "--img-dir", str(workplace / "images")]
    arguments += ["--crop", "64", "--out", str(out)]
    assert tool(name).main(arguments) == 0
    printed = capsys.readouterr().out
    runs = json.loads((out / f"{name}.json").read_text())
    assert list(runs) == ["with FDAM", "FDAM off"]
    names = [f"backbone.block{i}.0" for i in range(1, 5)] + [f"neck.{i}" for i in range(5)]
    key, value = ("layer", "high_frequency_energy") if name == "spectrum" else ("name", "cosine")
    for rows in runs.values():
        assert [row[key] for row in rows] == names
        assert [row["shape"][1] for row in rows] == [16, 8, 4, 2, 16, 8, 4, 2, 1]
    assert all(name in printed for name in names)
    # block4 has 2 x 2 places: all of its energy is above half of Nyquist, with or without FDAM
    assert all(a[value] != b[value] for a, b in zip(*(rows[:3] for rows in runs.values()), strict=True))
    assert cv2.imread(str(out / f"{name}.png")).shape[0] > 300
    from fdam_rotate.dota.errors import OutputExistsError

    with pytest.raises(OutputExistsError):
        tool(name).main(arguments)
    versus = ["--second", str(workplace / "plain.py"), str(workplace / "plain.pth"), "--max-images", "1", "--overwrite"]
    assert tool(name).main([*arguments, *versus]) == 0
    assert list(json.loads((out / f"{name}.json").read_text())) == ["fdam", "plain"]


@pytest.mark.parametrize("name", ["spectrum", "feature_rank"])
def test_versus_a_model_of_other_depth(workplace, tmp_path, capsys, name):
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.checkpoints.checkpoint import save_checkpoint_file

    text = (workplace / "plain.py").read_text().replace("depths=[1, 1, 1, 1]", "depths=[1, 1, 2, 1]")
    (tmp_path / "deep.py").write_text(text)
    save_checkpoint_file(tmp_path / "deep.pth", build_model(tmp_path / "deep.py")[0].state_dict())
    out = tmp_path / "out"
    arguments = [str(workplace / "plain.py"), str(workplace / "plain.pth"), "--img-dir", str(workplace / "images")]
    arguments += ["--crop", "64", "--max-images", "1", "--out", str(out)]
    assert tool(name).main([*arguments, "--second", str(tmp_path / "deep.py"), str(tmp_path / "deep.pth")]) == 0
    table = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if "x" in line}
    blocks = [f"backbone.block{i}" for i in ("1.0", "2.0", "3.0", "3.1", "4.0")]
    assert [n for n in table if n.startswith(("backbone", "neck"))] == blocks + [f"neck.{i}" for i in range(5)]
    assert table["backbone.block3.1"].split()[2] == "-"
    key, value = ("layer", "high_frequency_energy") if name == "spectrum" else ("name", "effective_rank")
    digits = 4 if name == "spectrum" else 1
    for run, column in (("plain", 2), ("deep", 2 + (1 if name == "spectrum" else 3))):
        for row in json.loads((out / f"{name}.json").read_text())[run]:
            cells = table[row[key]].split()
            if cells[2] != "-":
                assert cells[column] == f"{row[value]:.{digits}f}"


@pytest.mark.parametrize("name", ["spectrum", "feature_rank"])
@pytest.mark.parametrize("size", [1, 16])
def test_small_images_give_json_without_nan(workplace, tmp_path, name, size):
    arguments = [str(workplace / "plain.py"), "--img-dir", str(workplace / "images"), "--out", str(tmp_path / "out")]
    assert tool(name).main([*arguments, "--crop", str(size), "--max-images", "1"]) == 0
    text = (tmp_path / "out" / f"{name}.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["plain"]
    assert "null" in text


def test_wrong_numbers_and_devices_are_usage_errors(workplace, tmp_path, capsys):
    config = str(workplace / "plain.py")
    run = [config, "--img-dir", str(workplace / "images"), "--out", str(tmp_path / "out")]
    cases = [
        *(
            (name, [*run, *words])
            for name in ("spectrum", "feature_rank")
            for words in (("--crop", "0"), ("--crop", "-5"))
        ),
        ("spectrum", [*run, "--max-images", "0"]),
        ("feature_rank", [*run, "--max-images", "-1"]),
        ("spectrum", [*run, "--device", "foo"]),
        ("benchmark", [config, "--device", "foo"]),
        ("benchmark", [config, "--threads", "-1"]),
        ("benchmark", [config, "--threads", "0"]),
        ("benchmark", [config, "--checkpoints", "a.pth", "b.pth"]),
        ("flops", [config, "--shape", "0", "10"]),
    ]
    for name, words in cases:
        with pytest.raises(SystemExit) as caught:
            tool(name).main(words)
        assert caught.value.code == 2, words
        assert next(word for word in words if word.startswith("--") and word not in run) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_gpu_and_wrong_layers_are_one_line(workplace, tmp_path):
    from fdam_rotate.dota.errors import DotaError

    config = str(workplace / "plain.py")
    run = [
        config,
        "--img-dir",
        str(workplace / "images"),
        "--out",
        str(tmp_path / "out"),
        "--crop",
        "64",
        "--overwrite",
    ]
    with pytest.raises(DotaError, match="no device cuda:99"):
        tool("feature_rank").main([*run, "--device", "cuda:99"])
    with pytest.raises(DotaError, match="no device cuda:99"):
        tool("benchmark").main([config, "--device", "cuda:99"])
    with pytest.raises(DotaError, match=r"no layer backbone\.block9\.0 in OrientedRCNN; it has backbone\.block"):
        tool("spectrum").main([*run, "--layers", "backbone.block9.0"])
    with pytest.raises(DotaError, match="no maps from rpn_head"):
        tool("spectrum").main([*run, "--layers", "rpn_head"])


def test_a_checkpoint_of_another_config_is_refused(workplace, tmp_path):
    from fdam_rotate.apis.checkpoints.checkpoint import CheckpointError

    arguments = [str(workplace / "fdam.py"), str(workplace / "plain.pth"), "--img-dir", str(workplace / "images")]
    with pytest.raises(CheckpointError, match="does not fit OrientedRCNN exactly"):
        tool("spectrum").main([*arguments, "--out", str(tmp_path / "out")])


def test_random_weights_come_from_the_seed_and_the_config_stays_as_it_is(workplace):
    from fdam_rotate.apis.analysis.features import build_model
    from fdam_rotate.apis.compat import load_config, revert_sync_bn

    def first(seed: int) -> torch.Tensor:
        return build_model(workplace / "plain.py", seed=seed)[0].backbone.patch_embed1.proj.weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    expected = load_config(workplace / "plain.py")
    revert_sync_bn(expected.model)
    expected.model.backbone.init_cfg = None
    assert build_model(workplace / "plain.py")[1].model == expected.model


def test_flops_table(workplace, capsys):
    assert tool("flops").main([str(workplace / "plain.py"), str(workplace / "fdam.py"), "--shape", "64", "96"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[0], row[1]) for row in rows] == [
        (config, part) for config in ("plain", "fdam") for part in ("backbone", "neck", "heads", "total")
    ]


def test_benchmark_table(workplace, capsys):
    from fdam_rotate.apis.checkpoints.checkpoint import CheckpointError

    configs = [str(workplace / "plain.py"), str(workplace / "fdam.py")]
    options = ["--shape", "64", "64", "--rounds", "2", "--warmup", "1"]
    assert tool("benchmark").main([*configs, *options, "--batch-size", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("inference of features, 2 image(s) of 64 x 64, float32")
    assert re.fullmatch(r"plain +[\d.]+ +[\d.]+ +1\.000 +(\d+ MiB|unknown)", lines[2])
    assert lines[3].startswith("fdam")
    assert tool("benchmark").main([*configs, *options, "--backward", "--amp", "bfloat16"]) == 0
    assert "training step of features, 1 image(s) of 64 x 64, bfloat16" in capsys.readouterr().out
    assert tool("benchmark").main([configs[0], *options, "--part", "detector"]) == 0
    checkpoints = [str(workplace / f"{name}.pth") for name in ("plain", "fdam")]
    assert tool("benchmark").main([*configs, *options, "--part", "detector", "--checkpoints", *checkpoints]) == 0
    with pytest.raises(CheckpointError, match="does not fit"):
        tool("benchmark").main([*configs, *options, "--checkpoints", *reversed(checkpoints)])
    with pytest.raises(SystemExit) as caught:
        tool("benchmark").main([*configs, "--backward", "--part", "detector"])
    assert caught.value.code == 2


def test_help_needs_no_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('blocked')")
    for name in (*(f"analysis/{n}" for n in TOOLS), "export"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / f"{name}.py"), "--help"],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(tmp_path), "PATH": ""},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "python tools/" in done.stdout
