"""Training runs through the command: losses of val, batches without objects, wrapped data sets, whole images."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import Config
from scripts import ROOT, load_script
from small_training import make_parts, make_patches, small_options

from fdam_rotate.apis.compat import load_config
from fdam_rotate.apis.inference import predict_batch
from fdam_rotate.apis.train import _check_disjoint
from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.detections import read_detections
from fdam_rotate.dota.errors import DotaError, OutputExistsError

CONFIG = ROOT / "configs" / "lsknet" / "lsk_s_fpn_1x_dota_le90.py"
DETECTORS = [
    "lsknet/lsk_s_fpn_1x_dota_le90",
    "roi_trans/roi_trans_lsk_s_fpn_1x_dota_le90",
    "r3det/r3det_lsk_s_fpn_1x_dota_oc",
    "s2anet/s2anet_lsk_s_fpn_1x_dota_le135",
    "rotated_retinanet/rotated_retinanet_obb_lsk_s_fpn_1x_dota_le90",
    "rotated_fcos/rotated_fcos_lsk_s_fpn_1x_dota_le90",
]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("data"), train=3, val=2, test=2)


def _words(config: Path, data: Path, work: Path, **options: object) -> list[str]:
    small = [*small_options(config, data), *(f"{key}={value}" for key, value in options.items())]
    return [str(config), "--work-dir", str(work), "--cfg-options", *small]


def _train(config: Path, data: Path, work: Path, *words: str, **options: object) -> int:
    return load_script("tools/train.py").main([*_words(config, data, work, **options), *words])


def _log(work: Path, mode: str) -> list[dict]:
    rows = [json.loads(line) for path in work.glob("*.log.json") for line in path.read_text().splitlines()]
    return [row for row in rows if row.get("mode") == mode]


@pytest.mark.parametrize("by_step", [False, True])
def test_losses_of_val_are_logged(by_step, data, tmp_path):
    config = CONFIG
    options = {"workflow": "[('train',1),('val',1)]", "runner.max_epochs": 2}
    if by_step:
        config = tmp_path / "by_step.py"
        config.write_text(
            f"_base_ = {str(CONFIG)!r}\nrunner = dict(_delete_=True, type='IterBasedRunner', max_iters=2)\n"
            "workflow = [('train', 1), ('val', 2)]\n"
        )
        options = {}
    assert _train(config, data, tmp_path / "work", "--no-validate", **options) == 0
    losses = [row["loss_val"] for row in _log(tmp_path / "work", "val")]
    assert len(losses) == 2
    assert [key for row in _log(tmp_path / "work", "train") for key in row if key.endswith("_val")] == []
    assert list((tmp_path / "work" / "tf_logs").glob("events.out.*")), "TensorBoard is on by default"
    assert all(np.isfinite(losses))
    weights = torch.load(tmp_path / "work" / "latest.pth", weights_only=False)["state_dict"]
    options = {**options, "workflow": "[('train',1)]"}
    assert _train(config, data, tmp_path / "plain", "--no-validate", **options) == 0
    plain = torch.load(tmp_path / "plain" / "latest.pth", weights_only=False)["state_dict"]
    assert all(torch.equal(plain[key], value) for key, value in weights.items()), "looking at val changes nothing"


def test_losses_of_val_need_val(data, tmp_path):
    config = ROOT / "configs" / "lsknet" / "lsk_s_fpn_1x_dota_trainval_le90.py"
    with pytest.raises(DotaError, match=r"workflow has a part 'val', but the config has no data\.val"):
        _train(config, data, tmp_path / "work", workflow="[('train',1),('val',1)]")


def _without_labels(folder: Path, keep: int) -> None:
    for path in sorted((folder / "annfiles").iterdir())[keep:]:
        path.write_text("")


@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_has_a_gradient_without_objects(name, data, tmp_path):
    """Else torch stops where one of several processes has such a batch."""
    from mmrotate.datasets import build_dataset
    from mmrotate.models import build_detector

    from fdam_rotate.apis.compat import revert_sync_bn
    from fdam_rotate.apis.loading import SeededBatches, seeded_loader

    make_patches(tmp_path / "train", 1)
    _without_labels(tmp_path / "train", 0)
    config = ROOT / "configs" / f"{name}.py"
    options = dict(word.split("=", 1) for word in _words(config, tmp_path, tmp_path)[4:])
    cfg = load_config(config, {key: _value(text) for key, text in options.items()})
    cfg.data.train.filter_empty_gt = False
    revert_sync_bn(cfg.model)
    torch.manual_seed(0)
    model = build_detector(cfg.model, train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
    model.init_weights()
    dataset = build_dataset(cfg.data.train)
    (batch,) = seeded_loader(dataset, SeededBatches(1, 1, seed=0), {"workers_per_gpu": 0})
    assert len(batch["gt_bboxes"].data[0][0]) == 0
    step = model.train_step({key: value.data[0] for key, value in batch.items()}, None)
    step["loss"].backward()
    assert torch.isfinite(step["loss"])
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def _value(text: str):
    import ast

    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


@pytest.mark.slow
def test_fcos_trains_on_two_processes_where_one_has_no_object(tmp_path):
    make_patches(tmp_path / "train", 2)
    _without_labels(tmp_path / "train", 1)
    config = ROOT / "configs" / "rotated_fcos" / "rotated_fcos_lsk_s_fpn_1x_dota_le90.py"
    options = {"data.samples_per_gpu": 1, "data.train.filter_empty_gt": False, "runner.max_epochs": 2}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = _words(config, tmp_path, tmp_path / "work", **options)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}",
         "tools/train.py", *words, "--launcher", "pytorch", "--no-validate"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(_log(tmp_path / "work", "train")) == 2


@pytest.mark.parametrize("asked", [True, False])
def test_background_reaches_the_model_when_asked_for(asked, tmp_path):
    from mmrotate.datasets import build_dataset

    from fdam_rotate.apis.loading import SeededBatches, SeededDataset

    make_patches(tmp_path / "train", 4)
    _without_labels(tmp_path / "train", 1)
    cfg = Config.fromfile(str(CONFIG))
    cfg.data.train.update(data_root=str(tmp_path), filter_empty_gt=not asked)
    cfg.data.train.pipeline[2].img_scale = (128, 128)
    cfg.data.train.pipeline[4].rotate_ratio = 1.0
    dataset = build_dataset(cfg.data.train)
    images = SeededDataset(dataset, 0)
    seen = [images[draw] for batch in SeededBatches(len(dataset), 1, seed=0) for draw in batch]
    names = [one["img_metas"].data["ori_filename"] for one in seen]
    empty = [name for name, one in zip(names, seen, strict=True) if len(one["gt_bboxes"].data) == 0]
    assert len(set(names)) == len(names) == (4 if asked else 1)
    assert len(empty) == (3 if asked else 0)


def test_a_turn_depends_on_its_random_numbers_alone():
    from mmrotate.datasets.pipelines import PolyRandomRotate

    def angle(turn) -> int:
        np.random.seed(1)  # noqa: NPY002
        results = {
            "img": np.zeros((32, 32, 3), np.uint8),
            "img_shape": (32, 32, 3),
            "gt_labels": np.array([9]),
            "gt_bboxes": np.array([[16, 16, 8, 8, 0.0]], np.float32),
        }
        return turn(results)["rotate_angle"]

    used, fresh = (PolyRandomRotate(rotate_ratio=1.0, rect_classes=[9]) for _ in range(2))
    assert len({angle(used) for _ in range(5)} | {angle(fresh)}) == 1
    turns = PolyRandomRotate(rotate_ratio=1.0, rect_classes=[9]).discrete_range
    assert sorted(used.discrete_range) == sorted(turns) == [-180, -90, 90, 180]


def _set(folder: Path, names: list[str]):
    class Plain:
        img_prefix = str(folder)
        img_ids = names

    return Plain()


def _wrapped(kind: str, *parts):
    class Wrapper:
        pass

    wrapper = Wrapper()
    if kind == "datasets":
        wrapper.datasets = list(parts)
    else:
        (wrapper.dataset,) = parts
    return wrapper


def test_a_shared_image_is_found_behind_wrappers(tmp_path):
    first, second = _set(tmp_path / "a", ["1", "2"]), _set(tmp_path / "b", ["3"])
    train = _wrapped("dataset", _wrapped("datasets", first, _wrapped("dataset", second)))
    _check_disjoint(train, _set(tmp_path / "a", ["3"]))
    _check_disjoint(train, _set(tmp_path / "c", ["1"]))
    _check_disjoint(_wrapped("datasets", first, object()), second)
    for val in (_set(tmp_path / "b", ["0", "3"]), _wrapped("datasets", _set(tmp_path / "c", ["1"]), second)):
        with pytest.raises(DotaError, match=r"1 patch is both in data\.train and in data\.val, first 3"):
            _check_disjoint(train, val)


@pytest.mark.parametrize("wrapper", ["RepeatDataset", "ClassBalancedDataset", "ConcatDataset"])
def test_wrapped_training_data(wrapper, data, tmp_path):
    config = tmp_path / "wrapped.py"
    inner = {"ConcatDataset": "datasets=[train]", "RepeatDataset": "times=2, dataset=train"}
    more = inner.get(wrapper, "oversample_thr=0.5, dataset=train")
    cfg = Config.fromfile(str(CONFIG))
    train = {**cfg.data.train.to_dict(), "data_root": str(data)}
    train["pipeline"][2]["img_scale"] = (128, 128)
    options = {word.split("=", 1)[0]: word.split("=", 1)[1] for word in _words(CONFIG, data, tmp_path)[4:]}
    options = [f"{key}={value}" for key, value in options.items() if not key.startswith("data.train")]

    def run(work: str, val_part: str) -> int:
        config.write_text(
            f"_base_ = {str(CONFIG)!r}\ntrain = {train!r}\n"
            f"data = dict(train=dict(_delete_=True, type={wrapper!r}, {more}),\n"
            f"    val=dict(ann_file='{val_part}/annfiles', img_prefix='{val_part}/images'))\n"
        )
        words = [str(config), "--work-dir", str(tmp_path / work), "--cfg-options", *options]
        return load_script("tools/train.py").main(words)

    assert run("fine", "val") == 0
    assert (tmp_path / "fine" / "epoch_1.pth").is_file()
    with pytest.raises(DotaError, match=r"3 patches are both in data\.train and in data\.val"):
        run("shared", "train")


def test_images_that_were_never_split(data, tmp_path, capfd):
    """Images of any name: trained, validated against whole-image truth, tested and merged without a manifest."""
    for part in ("train", "val", "test"):
        for folder in ("images", "annfiles"):
            (tmp_path / part / folder).mkdir(parents=True)
            for number, path in enumerate(sorted((data / part / folder).iterdir())):
                shutil.copy(path, tmp_path / part / folder / f"{part} harbour {number}{path.suffix}")
    work = tmp_path / "work"
    options = {"data.val.gt_dir": tmp_path / "val" / "annfiles"}
    assert _train(CONFIG, tmp_path, work, **options) == 0
    assert "mAP" in _log(work, "val")[-1], "of whole images, not patch_mAP"
    own = tmp_path / "own_labels"  # without gt_dir: the labels beside the images are those of whole images
    assert _train(CONFIG, tmp_path, own, **{"data.val.gt_dir": None}) == 0
    assert _log(own, "val")[-1]["mAP"] == _log(work, "val")[-1]["mAP"]
    scored = [
        str(CONFIG),
        str(own / "latest.pth"),
        "--split",
        "val",
        "--work-dir",
        str(tmp_path / "val_out"),
        "--eval",
        "mAP",
    ]
    capfd.readouterr()
    assert load_script("tools/test.py").main([*scored, "--cfg-options", *small_options(CONFIG, tmp_path)]) == 0
    assert "mAP of merged whole images" in capfd.readouterr().out
    words = _words(CONFIG, tmp_path, tmp_path / "test_out")
    submission = tmp_path / "submission"
    found = ["--format-only", "--eval-options", f"submission_dir={submission}"]
    words = [words[0], str(work / "latest.pth"), *words[1:], "model.test_cfg.rcnn.score_thr=0.0"]
    assert load_script("tools/test.py").main([*words, *found]) == 0
    merged = read_detections(submission, classes=DOTA_CLASSES["v1.0"])
    assert {one.image_ids[i] for one in merged.values() for i in one.image} == {"test harbour 0", "test harbour 1"}

    again = tmp_path / "again"
    capfd.readouterr()
    patches = tmp_path / "test_out" / "patch_detections"
    assert load_script("tools/merge.py").main([str(patches), "--out", str(again)]) == 0
    assert "2 ids are no patches' names and were taken as whole images" in capfd.readouterr().out
    for path in submission.glob("Task1_*.txt"):
        assert path.read_bytes() == (again / path.name).read_bytes()

    found = ["--format-only", "--nms-agnostic", "--eval-options", f"submission_dir={tmp_path / 'agnostic'}"]
    assert load_script("tools/test.py").main([*words, *found, "--overwrite"]) == 0
    assert load_script("tools/merge.py").main([str(patches), str(again), "--nms-agnostic", "--overwrite"]) == 0
    agnostic = {path.name: path.read_bytes() for path in (tmp_path / "agnostic").iterdir()}
    assert agnostic == {path.name: path.read_bytes() for path in again.iterdir()}
    assert sum(map(len, agnostic.values())) < sum(path.stat().st_size for path in submission.iterdir())


def test_the_folder_of_the_config_is_no_output_of_test(data, tmp_path):
    checkpoint = tmp_path / "model.pth"
    checkpoint.touch()
    config = tmp_path / "run" / "config.py"
    config.parent.mkdir()
    config.write_text(f"_base_ = {str(CONFIG)!r}\n")
    words = _words(CONFIG, data, tmp_path / "work")
    words = [str(config), str(checkpoint), "--out", str(config.parent), "--overwrite", *words[1:]]
    with pytest.raises(OutputExistsError, match=r"holds the input .*config\.py"):
        load_script("tools/test.py").main(words)


def test_views_are_merged_by_class_and_image():
    class Finder(torch.nn.Module):
        test_cfg = Config({"rcnn": {"nms": {"iou_thr": 0.1}, "max_per_img": 3}}).rcnn
        calls = 0

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, img, img_metas, return_loss, rescale):
            assert len(img) == len(img_metas) == 1
            assert rescale
            assert not return_loss
            self.calls += 1
            box = np.array([[10, 20, 8, 4, 0.0, 0.5 + self.calls / 10]], np.float32)
            if img_metas[0][0].get("view") == "horizontal":
                box[:, 0] = 100 - box[:, 0]
            return [[box, np.array([[50, 50, 9, 9, 0.0, 0.1 * self.calls]], np.float32)] for _ in img_metas[0]]

    class Wrapped:
        def __init__(self, data):
            self.data = data

    model = Finder()
    from mmcv.parallel import DataContainer

    metas = [{"ori_shape": (60, 100, 3), "view": view} for view in (0, "horizontal")]
    batch = {
        "img": [DataContainer([torch.zeros(2, 3, 4, 4)], stack=True) for _ in metas],
        "img_metas": [DataContainer([[meta, meta]], cpu_only=True) for meta in metas],
    }
    found = predict_batch(model.eval(), batch)
    assert model.calls == 2
    assert len(found) == 2
    for image in found:
        np.testing.assert_allclose(image[0], [[10, 20, 8, 4, 0, 0.7]], atol=1e-6)  # one box, of the better score
        np.testing.assert_allclose(image[1][:, [0, 5]], [[50, 0.2]], atol=1e-6)


def test_test_with_views_through_the_command(data, tmp_path):
    work = tmp_path / "work"
    assert _train(CONFIG, data, work, "--no-validate") == 0
    counts = {}
    for name, more in (("plain", []), ("views", ["data.test.pipeline.1.flip=True", "data.test.pipeline.1.turns=[90]"])):
        words = _words(CONFIG, data, tmp_path / name)
        words = [words[0], str(work / "latest.pth"), *words[1:], "model.test_cfg.rcnn.score_thr=0.0", *more]
        words.append("model.test_cfg.rcnn.max_per_img=5000")
        assert load_script("tools/test.py").main(words) == 0
        found = read_detections(tmp_path / name / "patch_detections", classes=DOTA_CLASSES["v1.0"])
        counts[name] = sum(len(one) for one in found.values())

        centres = np.concatenate([one.polys.reshape(-1, 4, 2).mean(1) for one in found.values()])
        assert ((centres > -16) & (centres < 144)).all()
    assert counts["views"] > counts["plain"] > 0
