"""What a training run is put together from: hooks, loaders, rates, weights to begin with; its stop at a lost loss."""

from __future__ import annotations

import ast
import json
import logging
from types import SimpleNamespace

import pytest
import torch
from mmcv import Config
from mmcv.runner import HOOKS, Hook
from scripts import ROOT, load_script
from small_training import make_parts, small_options
from torch import nn

from fdam_rotate.apis import hooks, runners, train
from fdam_rotate.apis.checkpoints.checkpoint import CheckpointError
from fdam_rotate.apis.compat import load_config
from fdam_rotate.apis.hooks import PatchEvalHook, SeedHook
from fdam_rotate.apis.runtime import Runtime
from fdam_rotate.dota.errors import DotaError

CONFIG = ROOT / "configs" / "lsknet" / "lsk_s_fpn_1x_dota_le90.py"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("data"), train=2, val=1, test=1)


def _main(data, work, *words, **options) -> int:
    small = [*small_options(CONFIG, data), *(f"{key}={value}" for key, value in options.items())]
    return load_script("tools/train.py").main([str(CONFIG), "--work-dir", str(work), *words, "--cfg-options", *small])


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _rows(work) -> list[dict]:
    lines = [line for path in work.glob("*.log.json") for line in path.read_text().splitlines()]
    return [row for row in map(json.loads, lines) if row.get("mode") == "train"]


@HOOKS.register_module(force=True)
class HookOfAUser(Hook):
    pass


def test_hooks_and_their_order(data, tmp_path, monkeypatch):
    seen = {}

    def run(self, loaders, workflow):
        seen["runner"], seen["workflow"] = self, workflow

    def parallel(model, runtime, *, find_unused_parameters):
        seen["unused"] = find_unused_parameters
        return plain(model, runtime, find_unused_parameters=find_unused_parameters)

    plain = train.data_parallel
    monkeypatch.setattr(runners.EpochRunner, "run", run)
    monkeypatch.setattr(train, "data_parallel", parallel)
    options = {
        "custom_hooks": "[{'type':'HookOfAUser'}]",
        "momentum_config.policy": "step",
        "momentum_config.step": "[1]",
        "find_unused_parameters": True,
        "evaluation.interval": 7,
        "evaluation.save_best": None,
    }
    assert _main(data, tmp_path / "work", "--seed", "11", **options) == 0
    names = [type(hook).__name__ for hook in seen["runner"].hooks]
    assert names == [
        "SeedHook",
        "StepLrUpdaterHook",
        "NonFiniteLossHook",
        "StepMomentumUpdaterHook",
        "OptimizerHook",
        "CheckpointHook",
        "HookOfAUser",
        "IterTimerHook",
        "PatchEvalHook",
        "TextLoggerHook",
        "TensorboardLoggerHook",
        "StopHook",
    ]
    evaluation = seen["runner"].hooks[names.index("PatchEvalHook")]
    assert (evaluation.interval, evaluation.save_best, evaluation.by_epoch) == (7, None, True)
    assert seen["runner"].hooks[0].seed == 11
    assert seen["unused"] is True
    assert seen["workflow"] == [("train", 1)]
    assert seen["runner"].meta["seed"] == 11


def test_each_process_gets_its_own_images():
    cfg = Config(dict(runner=dict(type="EpochBasedRunner", max_epochs=1), workflow=[("train", 1)]))
    cfg.data = dict(train_dataloader=dict(samples_per_gpu=2, workers_per_gpu=0))
    orders = []
    for rank in (0, 1):
        (loader,) = train._loaders(cfg, Runtime("cpu", 0, rank, 2), list(range(8)), seed=4)
        assert len(loader) == 2
        orders.append([index for batch in loader.batch_sampler for index, _, _ in batch])
    assert sorted(orders[0] + orders[1]) == list(range(8))
    assert orders[0] + orders[1] != list(range(8)), "in an order of its own"


def test_a_run_of_several_processes_on_the_cpu(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(runners.EpochRunner, "run", lambda self, loaders, workflow: seen.append((self, loaders)))
    options = dict(word.split("=", 1) for word in small_options(CONFIG, data))
    cfg = load_config(CONFIG, {key: _value(text) for key, text in options.items()})
    cfg.optimizer.lr, cfg.work_dir = 0.08, str(tmp_path)
    assert "SyncBN" in cfg.pretty_text
    train.train(cfg, Runtime("cpu", 0, 1, 2), logging.getLogger("test"), validate=False, seed=3)
    ((runner, (loader,)),) = seen
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in runner.model.modules())
    # 2 processes with 1 image each of 8; freq_scale's groups, if any, have twice the rate
    assert min(group["lr"] for group in runner.optimizer.param_groups) == pytest.approx(0.02)
    batches = loader.batch_sampler
    assert (batches.seed, batches.rank, batches.world) == (3, 1, 2)


@pytest.mark.parametrize("kind", ["EpochBasedRunner", "IterBasedRunner"])
def test_training_images_are_shuffled_and_those_of_val_are_not(kind, monkeypatch):
    cfg = Config(dict(runner=dict(type=kind), workflow=[("train", 1), ("val", 1)]))
    cfg.data = dict(train_dataloader=dict(samples_per_gpu=1, workers_per_gpu=0))
    monkeypatch.setattr(train, "_loss_set", lambda cfg: list(range(20, 30)))
    loaders = train._loaders(cfg, Runtime("cpu", 0, 0, 1), list(range(20)), seed=4)
    orders = []
    for loader in loaders:
        batches = iter(loader.batch_sampler)
        orders.append([next(batches)[0][0] for _ in range(len(loader))])
        assert (next(batches, None) is not None) == (kind == "IterBasedRunner"), "steps are counted over epochs"
    assert sorted(orders[0]) == list(range(20))
    assert orders[0] != list(range(20))
    assert orders[1] == list(range(10))
    assert [len(loader.dataset) for loader in loaders] == [20, 10]


def test_how_val_is_loaded(monkeypatch):
    class Images(list):
        CLASSES = ("ship",)

    built = []
    monkeypatch.setattr(train, "build_dataset", lambda cfg, more=None: built.append((cfg, more)) or Images([1, 2, 3]))
    cfg = Config(dict(data=dict(val=dict(ann_file="a", pipeline=[dict(type="ImageToTensor", keys=["img"])]))))
    cfg.data.train, cfg.data.test = {}, {}
    cfg.data.workers_per_gpu, cfg.runner = 0, dict(type="EpochBasedRunner", max_epochs=1)
    loader = train._val_loader(cfg, Runtime("cpu", 0, 0, 1))
    assert loader.batch_size == 1
    assert built[0][1] == {"test_mode": True}
    assert built[0][0].pipeline[0]["type"] == "ImageToTensor"
    cfg.data.val_dataloader = {"samples_per_gpu": 3}
    with pytest.warns(UserWarning, match="DefaultFormatBundle"):  # mmdet's, of several images at a time
        assert train._val_loader(cfg, Runtime("cpu", 0, 0, 1)).batch_size == 3
    assert built[1][0].pipeline[0]["type"] == "DefaultFormatBundle"
    monkeypatch.setattr(train, "build_dataset", lambda *_: Images())
    with pytest.raises(DotaError, match=r"no patch in a: nothing to validate on; use --no-validate"):
        train._val_loader(cfg, Runtime("cpu", 0, 0, 1))


def test_losses_of_val_see_images_prepared_as_for_training(monkeypatch):
    built = []
    monkeypatch.setattr(train, "build_dataset", lambda cfg: built.append(cfg) or [1])
    val = dict(ann_file="v", pipeline=[dict(type="Test")])
    cfg = Config(dict(data=dict(train=dict(dataset=dict(ann_file="t", pipeline=[dict(type="Train")])), val=val)))
    assert train._loss_set(cfg) == [1]
    assert (built[0].ann_file, built[0].pipeline) == ("v", [dict(type="Train")])
    assert cfg.data.val.pipeline == [dict(type="Test")], "the config itself is left as it was"
    monkeypatch.setattr(train, "build_dataset", lambda _: [])
    with pytest.raises(DotaError, match=r"no patch with objects in data\.val"):
        train._loss_set(cfg)


def test_samplers_keep_the_seed_they_are_given():
    from mmdet.datasets.samplers import class_aware_sampler, distributed_sampler, infinite_sampler

    from fdam_rotate.host.devices import share_seeds_on_cpu

    modules = class_aware_sampler, distributed_sampler, infinite_sampler
    before = [module.sync_random_seed for module in modules]
    try:
        share_seeds_on_cpu()
        assert [module.sync_random_seed(41, "cuda") for module in modules] == [41, 41, 41]
    finally:
        for module, function in zip(modules, before, strict=True):
            module.sync_random_seed = function


def test_each_process_draws_its_own_numbers():
    def numbers(seed: int, rank: int, step: int) -> float:
        SeedHook(seed).before_train_iter(SimpleNamespace(rank=rank, iter=step))
        return torch.rand(1).item()

    drawn = {(seed, rank, step): numbers(seed, rank, step) for seed in (0, 1) for rank in (0, 1) for step in (0, 1)}
    assert len(set(drawn.values())) == 8
    assert numbers(1, 1, 1) == drawn[1, 1, 1]

    def of_val(step: int, rank: int = 0) -> float:
        SeedHook(0).before_val_iter(SimpleNamespace(rank=rank, inner_iter=step))
        return torch.rand(1).item()

    assert of_val(0) == of_val(0) != of_val(1)
    assert of_val(0) not in drawn.values()
    assert of_val(0, rank=1) != of_val(0)


def test_the_rate_belongs_to_the_batch(data, tmp_path):
    assert _main(data, tmp_path / "work", "--no-validate", **{"optimizer.lr": 0.08}) == 0
    first, second = (row["lr"] for row in _rows(tmp_path / "work"))
    # 1 image of 8; the warm-up begins at a third and takes 500 steps; the log has five decimals
    assert first == pytest.approx(0.01 / 3, abs=6e-6)
    assert second == pytest.approx(0.01 * (1 / 3 + 2 / 3 / 500), abs=6e-6)


def test_weights_to_begin_with(data, tmp_path):
    assert _main(data, tmp_path / "first", "--no-validate", **{"optimizer.lr": 0.1}) == 0
    begin = torch.load(tmp_path / "first" / "latest.pth", weights_only=False)
    assert begin["meta"]["CLASSES"][:2] == ("plane", "baseball-diamond")
    options = {"load_from": tmp_path / "first" / "latest.pth", "optimizer.lr": 0.0}
    assert _main(data, tmp_path / "second", "--no-validate", **options) == 0
    end = torch.load(tmp_path / "second" / "latest.pth", weights_only=False)
    changed = [k for k, v in begin["state_dict"].items() if "running" not in k and "num_batches" not in k
               and not torch.equal(v, end["state_dict"][k])]  # fmt: skip
    assert changed == []
    assert end["meta"]["iter"] == 2, "begun, not resumed"


def test_a_lost_loss_stops_the_run(data, tmp_path, monkeypatch):
    from mmdet.models.detectors import BaseDetector

    parse = BaseDetector._parse_losses
    monkeypatch.setattr(
        BaseDetector,
        "_parse_losses",
        lambda self, losses: parse(self, {**losses, "loss_more": torch.tensor(torch.inf)}),
    )
    with pytest.raises(FloatingPointError, match=r"the loss became inf at iteration 1 on train\d__128__0___0\.png"):
        _main(data, tmp_path / "work", "--no-validate")
    report = json.loads((tmp_path / "work" / "non_finite_loss.json").read_text())
    assert (report["iteration"], report["epoch"]) == (1, 1)
    assert report["losses"]["loss_more"] == "inf"
    assert not list((tmp_path / "work").glob("*.pth"))


def test_all_processes_validate_with_the_statistics_of_the_first(monkeypatch):
    shared = []
    monkeypatch.setattr(hooks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(hooks.dist, "broadcast", lambda tensor, source: shared.append((tensor, source)))
    monkeypatch.setattr(hooks, "predict", lambda *_, **__: None)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False), nn.SyncBatchNorm(2))
    loader = torch.utils.data.DataLoader([0])
    hook = PatchEvalHook(loader, by_epoch=True)
    hook._do_evaluate(SimpleNamespace(model=SimpleNamespace(module=model), epoch=0, iter=0))
    expected = [model[0].running_mean, model[0].running_var, model[2].running_mean, model[2].running_var]
    assert [id(tensor) for tensor, _ in shared] == [id(tensor) for tensor in expected]
    assert {source for _, source in shared} == {0}


def test_deterministic_algorithms_are_asked_for():
    try:
        train.seed_everything(0, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_the_latest_checkpoint(tmp_path):
    assert runners.latest_checkpoint(tmp_path) is None
    for number, name in enumerate(("epoch_2.pth", "epoch_1.pth", "best_mAP_epoch_1.pth", ".tmp-x.pth")):
        (tmp_path / name).write_bytes(b"x")
        import os

        os.utime(tmp_path / name, (number, number))
    assert runners.latest_checkpoint(tmp_path).name == "epoch_1.pth", "the newest that a run can go on from"
    (tmp_path / "latest.pth").symlink_to("epoch_2.pth")
    assert runners.latest_checkpoint(tmp_path).name == "epoch_2.pth"


@pytest.mark.parametrize(
    ("meta", "by_epoch", "progress"),
    [
        ({}, True, (0, 0, 0)),
        ({"epoch": 2, "iter": 10, "step": 4}, True, (2, 10, 4)),
        ({"epoch": 2, "iter": 10}, True, (2, 10, 0)),
        ({"epoch": 1, "iter": 10, "step": 0}, False, (1, 10, 0)),
        pytest.param({"epoch": 1, "iter": 10}, False, (1, 11, 0), id="mmcv writes one step less than it did"),
    ],
)
def test_how_far_a_checkpoint_is(meta, by_epoch, progress):
    assert runners.progress_of(meta, by_epoch=by_epoch) == progress


def test_a_checkpoint_is_known_by_its_classes_and_their_order(data, tmp_path):
    from fdam_rotate.apis.inference import load_detector

    assert _main(data, tmp_path / "work", "--no-validate") == 0
    checkpoint = tmp_path / "work" / "latest.pth"
    classes = torch.load(checkpoint, weights_only=False)["meta"]["CLASSES"]

    def load(names):
        cfg = load_config(tmp_path / "work" / CONFIG.name)
        return load_detector(cfg, checkpoint, names)

    assert load(classes).CLASSES == classes
    with pytest.raises(
        DotaError, match=r"trained on the classes plane, baseball-diamond, .* the data set has helicopter"
    ):
        load(classes[::-1])
    cfg = load_config(tmp_path / "work" / CONFIG.name, {"model.backbone.type": "LSKNetFDAM"})
    with pytest.raises(CheckpointError, match="the config's model is not the one that"):
        load_detector(cfg, checkpoint, classes)
    cfg = load_config(tmp_path / "work" / CONFIG.name, {"model.rpn_head.feat_channels": 32})
    with pytest.raises(CheckpointError, match=r"0 of its tensors are not in the file, [1-9] have another shape there"):
        load_detector(cfg, checkpoint, classes)


def test_predicting_leaves_the_model_in_its_mode(monkeypatch):
    from fdam_rotate.apis import inference

    modes = []
    monkeypatch.setattr(inference, "predict_batch", lambda model, batch: modes.append(model.training) or [batch])
    loader = torch.utils.data.DataLoader([1, 2], batch_size=None)
    for training in (True, False):
        model = nn.Dropout().train(training)
        assert inference.predict(model, loader) == [1, 2]
        assert model.training is training
    assert modes == [False] * 4
