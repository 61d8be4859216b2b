"""The whole path on tiny generated data: scenes, patches, training, test, merge, submission, score, picture."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def _run(repo: Path, *words: object, code: int = 0, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd or repo,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}\n{text[-4000:]}"
    return text


@pytest.fixture(scope="module")
def demo(repo, tmp_path_factory):
    """A demo of a few training steps, run once for all tests here."""
    work = tmp_path_factory.mktemp("demo") / "work"
    text = _run(repo, "tools/demo.py", "--work-dir", work, "--scenes", 6, "--iters", 6)
    return work, text


def test_demo_leaves_what_it_promises(demo):
    work, text = demo
    assert "$ fdam-rotate train" in text
    assert 0 <= json.loads((work / "scores.json").read_text())["map"] <= 1
    with zipfile.ZipFile(work / "submission.zip") as archive:
        assert archive.namelist() == [
            p.name for p in sorted((work / "submission").iterdir(), key=_class_order(archive))
        ]
    assert list((work / "pictures").glob("*.*g"))
    assert text.index("$ fdam-rotate predict") < text.index("$ fdam-rotate train"), (
        "the released model, before training"
    )
    assert len(list((work / "before_training" / "pictures").glob("*.jpg"))) == 2  # a scene of val each
    log = next((work / "train").glob("*.log")).read_text()
    assert "auto_scale_lr is off" in log
    patches = (work / "test" / "patch_detections" / "patches.txt").read_text().split()
    assert len(patches) == len(list((work / "patches" / "val" / "images").iterdir()))


def _class_order(archive: zipfile.ZipFile):
    names = archive.namelist()
    return lambda path: names.index(path.name)


def test_demo_replaces_only_its_own(demo, repo, tmp_path):
    (tmp_path / "thesis.tex").write_text("two years of work")
    text = _run(repo, "tools/demo.py", "--work-dir", tmp_path, code=1)
    assert "not empty" in text
    assert (tmp_path / "thesis.tex").exists()


def test_training_resumes_and_is_reproducible(demo, repo, tmp_path):
    import torch

    work, _ = demo
    options = ["--no-validate", "--seed", 3, "--cfg-options", "runner.max_iters=4", "checkpoint_config.interval=2"]
    first, second = tmp_path / "a", tmp_path / "b"
    _run(repo, "tools/train.py", work / "config.py", "--work-dir", first, *options)
    _run(repo, "tools/train.py", work / "config.py", "--work-dir", second, *options)
    a, b = (torch.load(d / "latest.pth", weights_only=False)["state_dict"] for d in (first, second))
    assert all(torch.equal(a[key], b[key]) for key in a)
    text = _run(repo, "tools/train.py", work / "config.py", "--work-dir", first, code=1)
    assert "holds checkpoints; go on with --auto-resume" in text
    text = _run(
        repo, "tools/train.py", work / "config.py", "--work-dir", first, "--auto-resume", "--no-validate",
        "--cfg-options", "runner.max_iters=6", "checkpoint_config.interval=2",
    )  # fmt: skip
    assert "4 steps done" in text
    assert (first / "iter_6.pth").exists()


def test_averaged_and_raw_weights_are_both_resumed(demo, repo, tmp_path):
    import torch

    work, _ = demo
    config, folder, few = tmp_path / "ema.py", tmp_path / "train", tmp_path / "annfiles"
    few.mkdir()
    labels = sorted((work / "patches" / "train" / "annfiles").iterdir(), key=lambda path: -path.stat().st_size)
    for path in labels[:4]:
        shutil.copy(path, few)
    # the average hardly moves, so that it stays at the start while the raw weights go their way
    config.write_text(
        f"_base_ = {str(work / 'config.py')!r}\n"
        "runner = dict(_delete_=True, type='EpochBasedRunner', max_epochs=1)\n"
        "checkpoint_config = dict(interval=1)\n"
        f"data = dict(train=dict(ann_file={str(few)!r}))\n"
        "custom_hooks = [dict(type='LinearMomentumEMAHook', momentum=1e-8, priority=49)]\n"
    )

    def weights(epoch):
        state = torch.load(folder / f"epoch_{epoch}.pth", weights_only=False)["state_dict"]
        name = "backbone.patch_embed1.proj.weight"
        return state[name], state["ema_" + name.replace(".", "_")]

    command = ["tools/train.py", config, "--work-dir", folder, "--no-validate"]
    _run(repo, *command)
    _run(repo, *command, "--auto-resume", "--cfg-options", "runner.max_epochs=2")
    (mean, raw), (next_mean, next_raw) = weights(1), weights(2)
    assert torch.allclose(mean, next_mean, atol=1e-6)
    assert (raw - mean).abs().max() > 1e-4
    assert (next_raw - raw).norm() < (next_raw - mean).norm()


def test_validation_scores_whole_images_and_keeps_the_best(demo, repo, tmp_path):
    work, _ = demo
    text = _run(
        repo, "tools/train.py", work / "config.py", "--work-dir", tmp_path,
        "--cfg-options", "runner.max_iters=2", "checkpoint_config.interval=2", "evaluation.interval=2",
    )  # fmt: skip
    assert "scored on merged whole images" in text
    assert "mAP: " in text


def test_two_processes_on_the_cpu_train_and_predict_as_one(demo, repo, tmp_path):
    work, _ = demo
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29533"]
    text = _run(
        repo, *torchrun, "tools/train.py", work / "config.py", "--launcher", "pytorch",
        "--work-dir", tmp_path / "train", "--no-validate", "--cfg-options", "runner.max_iters=2",
        "checkpoint_config.interval=2", "auto_scale_lr.enable=True", "data.samples_per_gpu=1", "data.workers_per_gpu=0",
    )  # fmt: skip
    assert "2 process(es) x 1 image(s) = 2 images per step" in text
    assert (tmp_path / "train" / "latest.pth").exists()
    one, two = tmp_path / "one", tmp_path / "two"
    options = [work / "config.py", work / "train" / "latest.pth"]
    _run(repo, "tools/test.py", *options, "--work-dir", one)
    _run(repo, *torchrun, "tools/test.py", *options, "--launcher", "pytorch", "--work-dir", two)
    for path in sorted((one / "patch_detections").iterdir()):
        assert path.read_bytes() == (two / "patch_detections" / path.name).read_bytes(), path.name


def test_test_scores_submits_and_draws_in_one_run(demo, repo, tmp_path):
    work, _ = demo
    text = _run(
        repo, "tools/test.py", work / "config.py", work / "train" / "latest.pth", "--split", "val",
        "--work-dir", tmp_path, "--eval", "mAP", "--eval-options", "iou_thr=[0.5,0.75]",
        f"submission_dir={tmp_path / 'sub'}", "--format-only", "--show-dir", tmp_path / "pictures",
    )  # fmt: skip
    assert "mAP of merged whole images" in text
    assert (tmp_path / "sub.zip").exists()
    assert len(list((tmp_path / "pictures").glob("*.png"))) == len(
        list((work / "patches" / "val" / "images").iterdir())
    )
    # the merged files are those that the demo's own merge made of the same detections
    for path in sorted((work / "submission").glob("Task1_*.txt")):
        assert path.read_bytes() == (tmp_path / "sub" / path.name).read_bytes()
    text = _run(repo, "tools/test.py", work / "config.py", tmp_path / "no.pth", code=1)
    assert "no such file" in text
    text = _run(
        repo, "tools/test.py", work / "config.py", work / "train" / "latest.pth", "--work-dir", tmp_path, code=1
    )
    assert "patch_detections exists and is not empty" in text


def test_predict_gives_what_splitting_testing_and_merging_give(demo, repo, tmp_path):
    work, _ = demo
    text = _run(
        repo, "tools/predict.py", work / "config.py", work / "train" / "latest.pth", work / "scenes" / "val" / "images",
        "--out", tmp_path, "--sizes", 256, "--gaps", 64, "--score-thr", 0,
    )  # fmt: skip
    assert "0 images left out" in text
    expected = {path.name: path.read_bytes() for path in (work / "submission").glob("Task1_*.txt")}
    assert any(expected.values())
    assert {path.name: path.read_bytes() for path in tmp_path.glob("Task1_*.txt")} == expected


def test_wrong_inputs_end_in_one_line(demo, repo, tmp_path):
    work, _ = demo
    checkpoint = work / "train" / "latest.pth"
    cases = [
        (["tools/train.py", tmp_path / "none.py"], "no such file"),
        (["tools/train.py", work / "config.py", "--work-dir", tmp_path / "w", "--cfg-options",
          f"data.train.ann_file={tmp_path}/none"], "data.train.ann_file is"),
        (["tools/train.py", work / "config.py", "--work-dir", tmp_path / "w", "--cfg-options",
          "model.roi_head.bbox_head.num_classes=3"], "num_classes is 3, but the data set has 4 classes"),
        (["tools/train.py", work / "config.py", "--work-dir", tmp_path / "w", "--cfg-options",
          f"data.val.ann_file={work}/patches/train/annfiles", f"data.val.img_prefix={work}/patches/train/images"],
         "both in data.train and in data.val"),
        (["tools/test.py", work / "config.py", checkpoint, "--work-dir", tmp_path / "t2", "--cfg-options",
          "model.backbone.mlp_ratios=[2,2,2,2]"], "is not the one that"),
        (["tools/test.py", work / "config.py", checkpoint, "--work-dir", tmp_path / "t2", "--cfg-options",
          "model.backbone.freq_scale=False"], "of the file's are not in the model, first backbone.block1.0.freq_scale"),
        (["tools/test.py", work / "config.py", checkpoint, "--work-dir", tmp_path / "t", "--eval", "mAP"],
         "nothing to score against"),
        (["tools/test.py", work / "config.py", checkpoint, "--work-dir", tmp_path / "t", "--cfg-options",
          f"data.test.ann_file={tmp_path}", f"data.test.img_prefix={tmp_path}"], "the data set is empty"),
    ]  # fmt: skip
    for words, message in cases:
        done = subprocess.run([sys.executable, *map(str, words)], cwd=repo, capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2), (words, done.stderr[-2000:])
        assert "Traceback" not in done.stderr, done.stderr[-2000:]
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: "), last
        assert message in last
    assert not (tmp_path / "t").exists()
