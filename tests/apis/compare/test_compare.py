"""The instrument as one would use it, on two tiny networks: runs, a kill, records on another machine, the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from mmcv import Config
from scripts import ROOT, load_script
from small_training import make_patches

from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file
from fdam_rotate.apis.compare.plan import make_plan
from fdam_rotate.apis.compare.worker import Job, data_identity, perform, start_weights
from fdam_rotate.dota.errors import DotaError

main = load_script("tools/compare.py").main
CLASSES = ["plane", "ship"]
CONFIG = """\
_base_ = {base!r}

classes = {classes!r}
model = dict(
    backbone=dict(depths=[1, 1, 1, 1]{extra}),
    roi_head=dict(bbox_head=dict(num_classes=2, fc_out_channels=32)))
data = dict(
    samples_per_gpu=2,
    train=dict(
        _delete_=True,
        type='RepeatDataset',
        times=2,
        dataset=dict(type='DOTAPatchDataset', version='le90', classes=classes, data_root={data!r},
                     ann_file='train/annfiles/', img_prefix='train/images/', pipeline={{{{_base_.train_pipeline}}}})),
    val=dict(classes=classes, data_root={data!r}, gt_dir=None),
    test=dict(classes=classes, data_root={data!r}))
runner = dict(max_iters={steps})
lr_config = dict(warmup_iters=2)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "data"
    make_patches(folder / "train", 5, classes=CLASSES)
    make_patches(folder / "val", 3, classes=CLASSES, seed=1)
    return folder


@pytest.fixture(scope="module")
def configs(data):
    """A plain network and one with AttInv."""
    paths = []
    for name, extra in (("plain", ""), ("attinv", ", type='LSKNetFDAM', freq_scale=False")):
        base = str(ROOT / "configs" / "evidence" / "vhr10_lsk.py")
        path = data / f"{name}.py"
        path.write_text(CONFIG.format(base=base, classes=CLASSES, extra=extra, data=str(data), steps=6))
        paths.append(path)
    return paths


def job(folder, config, reference, **other):
    values = dict(
        name="a", config=str(config), reference=str(reference), seed=3, settings="s", folder=str(folder / "run"),
        record=str(folder / "record.json"), options={},
    )  # fmt: skip
    return Job(**{**values, **other})


def test_shared_weights_start_equal(configs):
    plain, attinv = (start_weights(Config.fromfile(str(c)), Config.fromfile(str(configs[0])), 3) for c in configs)
    own = start_weights(Config.fromfile(str(configs[1])), Config.fromfile(str(configs[1])), 3)
    other = start_weights(Config.fromfile(str(configs[1])), Config.fromfile(str(configs[0])), 4)
    assert set(plain) < set(attinv)
    assert all(torch.equal(plain[key], attinv[key]) for key in plain)
    new = set(attinv) - set(plain)
    assert all(torch.equal(own[key], attinv[key]) for key in new)
    head = "roi_head.bbox_head.fc_cls.weight"
    assert not torch.equal(own[head], attinv[head]), "without sharing, the networks' other layers move the draws"
    assert not torch.equal(other[head], attinv[head])


def test_a_killed_run_comes_to_the_same_end(configs, tmp_path):
    """Killed after a checkpoint and after steps that it does not hold; the rest is the unbroken run's to the bit."""
    unbroken = job(tmp_path / "a", configs[1], configs[0], options={"custom_hooks": None})
    perform(unbroken)
    code = (
        "import os, sys; from fdam_rotate.host.quiet import quiet_host; quiet_host()\n"
        "from mmcv.runner import HOOKS, Hook\n"
        "from fdam_rotate.apis.compare import steps, worker\n"
        "class Stop(steps.StepCostHook):\n"
        "    def after_train_iter(self, runner):\n"
        "        super().after_train_iter(runner)\n"
        "        if runner.iter == 3: os._exit(9)\n"
        "HOOKS.register_module(name='StepCostHook', force=True, module=Stop)\n"
        f"worker.CHECKPOINTS = 2\nworker.perform(worker.{job(tmp_path / 'b', configs[1], configs[0])!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, env=_environment()).returncode == 9
    assert (tmp_path / "b" / "run" / "iter_3.pth").is_file()
    perform(job(tmp_path / "b", configs[1], configs[0]))
    one, other = (tmp_path / name / "run" / "final.safetensors" for name in "ab")
    one, other = (load_checkpoint_file(path)["state_dict"] for path in (one, other))
    assert all(torch.equal(one[key], other[key]) for key in one)
    records = [json.loads((tmp_path / name / "record.json").read_text()) for name in "ab"]
    assert records[0]["scores"] == records[1]["scores"]
    assert records[0]["training"]["loss"] == records[1]["training"]["loss"]
    assert len(records[0]["training"]["loss"]) == 6
    assert set(records[0]["training"]["switches"])
    switches = records[0]["training"]["switches_by_step"]
    assert switches == records[1]["training"]["switches_by_step"]
    assert [step for step, _ in switches] == [1, 2, 3, 4, 5, 6]
    last = {key.rpartition(".")[2]: value for key, value in records[0]["training"]["switches"].items()}
    assert set(switches[-1][1]) == set(last) == {"lf_gamma", "hf_gamma"}
    largest = max(value for key, value in records[0]["training"]["switches"].items() if key.endswith("lf_gamma"))
    assert switches[-1][1]["lf_gamma"] == largest > switches[0][1]["lf_gamma"] > 0
    assert not list((tmp_path / "a" / "run").glob("*.pth"))


def test_a_comparison_goes_on_from_records(configs, tmp_path, capsys):
    words = [str(path) for path in configs] + ["--seeds", "0", "--resamples", "20"]
    assert main([*words, "--work-dir", str(tmp_path / "a")]) == 0
    text = capsys.readouterr().out
    assert "plain-seed0: done in" in text
    assert "| attinv | plain | 1 / 1 |" in text
    assert "report.md; report.json, and pictures of finished runs, are beside it" in text
    summary = json.loads((tmp_path / "a" / "report.json").read_text())
    assert [run["name"] for run in summary["runs"]] == ["plain-seed0", "attinv-seed0"]
    assert summary["sides"][1]["parameters"] > summary["sides"][0]["parameters"] > 100_000
    assert (tmp_path / "a" / "report.png").is_file()
    assert (tmp_path / "a" / "switches.png").is_file()
    assert list(summary["switches"]) == ["attinv-seed0"], "the plain network has none"
    assert (tmp_path / "a" / "runs" / "plain-seed0" / "output.txt").stat().st_size > 100

    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "a" / "records", kept)
    (kept / "plain-seed0.json").unlink()
    arguments = [*words, "--work-dir", str(tmp_path / "b"), "--records", str(kept), "--dry-run"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "1 runs are finished, 1 are missing" in text
    assert "plain-seed0: 6 steps of" in text
    _change(kept / "attinv-seed0.json", protocol=1)
    with pytest.raises(DotaError, match="by rule 1 of drawing images"):
        main(arguments[:-1])
    (kept / "attinv-seed0.json").unlink()
    again = [*arguments[:-1], "--cfg-options", "optimizer.lr=2e-3"]
    (tmp_path / "b" / "runs" / "plain-seed0").mkdir(parents=True)
    shutil.copy(tmp_path / "a" / "runs" / "plain-seed0" / "job.json", tmp_path / "b" / "runs" / "plain-seed0")
    assert main([str(configs[0]), *again[2:]]) == 1
    assert "plain-seed0 holds a run with other settings" in capsys.readouterr().err
    begun = tmp_path / "b" / "runs" / "plain-seed0"
    (begun / "job.json").unlink()
    (begun / "iter_3.pth").touch()
    assert main([str(configs[0]), *again[2:]]) == 1, "weights of which nobody knows from where they are"
    assert "plain-seed0 holds a run with other settings" in capsys.readouterr().err
    shutil.copy(tmp_path / "a" / "records" / "attinv-seed0.json", kept)
    assert main([*arguments[:-1], "--report-only"]) == 0
    assert "**Unfinished**: 1 runs are missing: plain-seed0." in capsys.readouterr().out


def test_a_folder_of_records_that_is_not_there_yet_holds_none(configs, tmp_path, capsys):
    words = [str(configs[0]), "--seeds", "0", "--work-dir", str(tmp_path / "work"), "--dry-run", "--records"]
    assert main([*words, str(tmp_path / "soon")]) == 0
    text = capsys.readouterr().out
    assert f"{tmp_path / 'soon'}: no such folder, so no records from there" in text
    assert "0 runs are finished, 1 are missing" in text
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is not a folder"):
        main([*words, str(tmp_path / "file")])


def test_a_run_that_fails_is_named_and_the_others_are_done(configs, tmp_path, capsys):
    broken = configs[0].with_name("broken.py")
    broken.write_text(f"_base_ = {str(configs[0])!r}\nmodel = dict(neck=dict(in_channels=[16, 32, 80, 99]))\n")
    code = main([str(configs[0]), str(broken), "--seeds", "0", "--work-dir", str(tmp_path), "--resamples", "20"])
    shown = capsys.readouterr()
    assert code == 1
    assert "broken-seed0 failed" in shown.err
    assert (tmp_path / "records" / "plain-seed0.json").is_file()


def test_configs_with_other_data_or_schedule_are_refused(configs):
    longer = configs[0].with_name("longer.py")
    longer.write_text(f"_base_ = {str(configs[0])!r}\nrunner = dict(max_iters=7)\n")
    with pytest.raises(DotaError, match=r"cannot be compared: they differ in runner.max_iters: 6 against 7"):
        make_plan([configs[0], longer], [0], [])
    faster = configs[0].with_name("faster.py")
    faster.write_text(f"_base_ = {str(configs[0])!r}\noptimizer = dict(lr=5e-3)\n")
    assert make_plan([configs[0], faster], [0], []).differing == (
        "plain and faster: optimizer.lr: 0.001 against 0.005",
    )


def test_the_same_config_twice_takes_other_seeds(configs):
    plan = make_plan([configs[0], configs[0]], [1, 2], [])
    assert [run.name for run in plan.missing] == [
        "plain-seed1",
        "plain-again-seed51",
        "plain-seed2",
        "plain-again-seed52",
    ]
    with pytest.raises(DotaError, match="must lie closer together"):
        make_plan([configs[0], configs[0]], [0, 50], [])
    with pytest.raises(DotaError, match="twice"):
        make_plan([configs[0]], [1, 1], [])


def test_the_identity_of_data_is_labels_and_images(configs, data, tmp_path):
    repeated = Config.fromfile(str(configs[0])).data.train
    part = repeated.dataset
    first = data_identity(part)
    assert first["images"] == 5
    assert data_identity(repeated) == first
    assert data_identity([repeated, part])["images"] == 10
    assert data_identity({**part, "ann_file": [part.ann_file], "img_prefix": [part.img_prefix]}) == first
    copied = tmp_path / "copy"
    shutil.copytree(data / "train", copied)
    part.data_root, part.ann_file, part.img_prefix = None, str(copied / "annfiles"), str(copied / "images")
    assert data_identity(part) == first
    label = next((copied / "annfiles").iterdir())
    label.write_text(label.read_text().replace(" 0\n", " 1\n"))
    assert data_identity(part)["sha256"] != first["sha256"]


def test_what_cannot_be_scored_is_refused_before_the_training(configs, tmp_path):
    several = configs[0].with_name("several.py")
    val = "dict(_delete_=True, type='ConcatDataset', datasets=[{{_base_.data.val}}])"
    several.write_text(f"_base_ = {str(configs[0])!r}\ndata = dict(val={val})\n")
    with pytest.raises(DotaError, match=r"several\.py: data\.val is ConcatDataset, which cannot be scored"):
        perform(job(tmp_path, several, configs[0]))
    with pytest.raises(DotaError, match=r"there is no data\.val to score on"):
        perform(job(tmp_path, configs[0], configs[0], options={"data.val": None}))
    folders = {"data.val.ann_file": ["val/annfiles/"], "data.val.img_prefix": ["val/images/"]}
    with pytest.raises(DotaError, match=r"data\.val is of several folders, which cannot be scored"):
        perform(job(tmp_path, configs[0], configs[0], options=folders))
    make_patches(tmp_path / "one" / "val", 1, classes=CLASSES)
    with pytest.raises(DotaError, match=r"val/images holds 1 image; an interval needs at least two"):
        perform(job(tmp_path, configs[0], configs[0], options={"data.val.data_root": str(tmp_path / "one")}))
    assert not (tmp_path / "run" / "steps.jsonl").exists()


def _change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
