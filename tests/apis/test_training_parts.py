"""What a training run is put together from: hooks, loaders, rates, weights to begin with; its stop at a lost loss."""

from __future__ import annotations

import ast
import json
import logging
import os
import random
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv import Config
from mmcv.runner import HOOKS, Hook
from scripts import ROOT, load_script
from small_training import make_parts, small_options
from torch import nn

from fdam_rotate.apis import hooks, loading, runners, train
from fdam_rotate.apis.checkpoints.checkpoint import CheckpointError
from fdam_rotate.apis.compat import load_config
from fdam_rotate.apis.hooks import Interruption, PatchEvalHook, SeedHook, StopHook
from fdam_rotate.apis.runtime import Runtime
from fdam_rotate.dota.errors import DotaError, Stopped

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
        "cudnn_benchmark": True,
    }
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
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
    assert torch.backends.cudnn.benchmark
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


def test_the_seed_decides_the_weights_at_the_start_and_is_written_down(data, tmp_path, monkeypatch):
    starts = []
    monkeypatch.setattr(runners.EpochRunner, "run", lambda self, *_: starts.append(self))
    asked = []
    seed = train.seed_everything
    monkeypatch.setattr(
        train, "seed_everything", lambda number, **how: asked.append(how) or seed(number, deterministic=False)
    )
    for number, words in ((3, ["--deterministic"]), (3, []), (4, [])):
        work = tmp_path / f"work{len(starts)}"
        assert _main(data, work, "--seed", str(number), "--no-validate", *words) == 0
    weights = [runner.model.module.backbone.patch_embed1.proj.weight for runner in starts]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert [how["deterministic"] for how in asked] == [True, False, False]
    starts[2].save_checkpoint(str(tmp_path))
    meta = torch.load(tmp_path / "epoch_1.pth", weights_only=False)["meta"]
    assert (meta["seed"], meta["exp_name"]) == (4, "work2")
    config = Config.fromstring(meta["config"], ".py")
    assert (config.seed, config.model.type, config.data.train.data_root) == (4, "OrientedRCNN", str(data))


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
    monkeypatch.setattr(loading, "build_dataset", lambda cfg, more=None: built.append((cfg, more)) or Images([1, 2, 3]))
    cfg = Config(dict(data=dict(val=dict(ann_file="a", pipeline=[dict(type="ImageToTensor", keys=["img"])]))))
    cfg.data.train, cfg.data.test = {}, {}
    cfg.data.workers_per_gpu, cfg.runner = 0, dict(type="EpochBasedRunner", max_epochs=1)
    loader = train._val_loader(cfg, Runtime("cpu", 0, 0, 1))
    assert loader.batch_size == 1
    assert built[0][1] == {"test_mode": True}
    assert built[0][0].pipeline[0]["type"] == "ImageToTensor"
    cfg.data.val_dataloader = {"samples_per_gpu": 3}
    assert train._val_loader(cfg, Runtime("cpu", 0, 0, 1)).batch_size == 3
    assert built[1][0].pipeline[0]["type"] == "DefaultFormatBundle"
    monkeypatch.setattr(loading, "build_dataset", lambda *_: Images())
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
    assert report["lr"] == [pytest.approx(1e-4 / 8 / 3)], "of the first step of the warm-up"
    assert len(report["patches"]) == 1
    assert report["patches"][0].startswith("train"), "without its folder"
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


def test_one_process_is_asked_to_stop_and_all_do(monkeypatch):
    others = iter([0, signal.SIGTERM, signal.SIGINT])

    def all_reduce(asked, op):
        assert op == torch.distributed.ReduceOp.MAX
        asked.fill_(max(int(asked), next(others)))

    monkeypatch.setattr(hooks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(hooks.dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(hooks.dist, "all_reduce", all_reduce)
    interruption = Interruption()
    assert not interruption.agreed()
    assert interruption.signal is None
    assert interruption.agreed()
    assert interruption.signal == signal.SIGTERM
    assert interruption.agreed()
    assert interruption.signal == signal.SIGTERM


def _stopping(tmp_path, **settings):
    saved = []
    runner = SimpleNamespace(
        rank=0, iter=4, steps_saved=None, work_dir=str(tmp_path), save_checkpoint=saved.append,
        data_loader=[0] * 5, inner_iter=4,
    )  # fmt: skip
    vars(runner).update(settings)
    interruption = Interruption()
    interruption.signal = signal.SIGTERM
    return runner, saved, interruption


@pytest.mark.parametrize(
    ("settings", "writes"),
    [({}, 1), ({"rank": 1}, 0), ({"steps_saved": 5}, 0), ({"steps_saved": 4}, 1)],
    ids=["the first", "another process", "just saved", "a step more"],
)
def test_a_stop_saves_once_and_in_the_first_process(settings, writes, tmp_path):
    runner, saved, interruption = _stopping(tmp_path, **settings)
    with pytest.raises(Stopped, match="SIGTERM after 5 steps"):
        StopHook(interruption, by_epoch=False).after_train_iter(runner)
    assert saved == [str(tmp_path)] * writes


def test_a_stop_leaves_the_end_of_an_epoch_to_what_follows_it(tmp_path):
    runner, saved, interruption = _stopping(tmp_path)
    StopHook(interruption, by_epoch=True).after_train_iter(runner)
    assert not saved, "checkpoint and validation come first"
    runner.inner_iter = 3
    with pytest.raises(Stopped, match="after 5 steps"):
        StopHook(interruption, by_epoch=True).after_train_iter(runner)
    StopHook(interruption, by_epoch=False).after_train_epoch(runner)
    runner.iter = 5
    with pytest.raises(Stopped, match="after 5 steps"):
        StopHook(interruption, by_epoch=True).after_train_epoch(runner)
    interruption.signal = None
    StopHook(interruption, by_epoch=True).after_train_epoch(runner)
    assert len(saved) == 2


def test_the_best_score_is_that_of_the_steps_that_were_resumed(tmp_path):
    """Not of a run that went further than the checkpoint that is gone on from."""
    for steps, score in ((3, 0.4), (6, 0.9)):
        meta = {"iter": steps, "hook_msgs": {"best_score": score}}
        torch.save({"meta": meta, "state_dict": {"w": torch.zeros(1)}}, tmp_path / f"best_mAP_iter_{steps}.pth")
    for at, expected in ((2, {}), (3, 0.4), (5, 0.4), (6, 0.9)):
        hook = PatchEvalHook(torch.utils.data.DataLoader([0]), by_epoch=False, save_best="mAP")
        runner = SimpleNamespace(rank=0, iter=at, work_dir=str(tmp_path), meta={"hook_msgs": {}})
        hook.before_run(runner)
        if expected == {}:
            assert (runner.meta["hook_msgs"], hook.best_ckpt_path) == ({}, None)
        else:
            best = str(tmp_path / f"best_mAP_iter_{3 if at < 6 else 6}.pth")
            assert runner.meta["hook_msgs"] == {"best_score": expected, "best_ckpt": best}
            assert hook.best_ckpt_path == best


def test_the_best_checkpoint_of_another_run_stays(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    runner = SimpleNamespace(
        work_dir=str(tmp_path / "other"), rank=0, iter=3, epoch=1, logger=logging.getLogger("test"), saved=[]
    )
    runner.save_checkpoint = lambda folder, filename_tmpl, create_symlink: runner.saved.append((folder, filename_tmpl))
    for name, stays in (("one", True), ("other", False)):
        best = tmp_path / name / "best_mAP_epoch_1.pth"
        torch.save({"state_dict": {"a": torch.ones(1)}, "meta": {"iter": 2, "hook_msgs": {"best_score": 0.5}}}, best)
        runner.meta = {"hook_msgs": {"best_score": 0.5, "best_ckpt": str(best)}}
        hook = PatchEvalHook(torch.utils.data.DataLoader([0]), by_epoch=True, save_best="mAP")
        hook.before_run(runner)
        hook._save_ckpt(runner, 0.4)
        assert best.exists(), "the score is no better than that of the run gone on from"
        hook._save_ckpt(runner, 0.6)
        assert best.exists() == stays
        best.unlink(missing_ok=True)
    assert runner.saved == [(runner.work_dir, "best_mAP_epoch_2.pth")] * 2


def test_validation_comes_at_its_interval_and_counts_its_patches(monkeypatch):
    scored = []
    monkeypatch.setattr(hooks, "predict", lambda *_, **__: [1, 2, 3])
    monkeypatch.setattr(PatchEvalHook, "evaluate", lambda self, runner, results: scored.append(runner.epoch))
    hook = PatchEvalHook(torch.utils.data.DataLoader([0, 1, 2]), by_epoch=True, interval=2)
    for epoch in range(4):
        output: dict[str, int] = {}
        runner = SimpleNamespace(
            model=SimpleNamespace(module=nn.Identity()), epoch=epoch, iter=0, log_buffer=SimpleNamespace(output=output)
        )
        hook._do_evaluate(runner)
        assert output == ({"eval_iter_num": 3} if epoch % 2 else {})
    assert scored == [1, 3]


def test_deterministic_algorithms_are_asked_for(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # put back afterwards
    del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    try:
        train.seed_everything(0, deterministic=True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8"), "which cuBLAS asks for"
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic
        drawn = torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002
        train.seed_everything(0, deterministic=False)
        assert (torch.rand(1).item(), np.random.rand(), random.random()) == drawn  # noqa: NPY002
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_the_latest_checkpoint(tmp_path):
    assert runners.latest_checkpoint(tmp_path) is None
    for number, name in enumerate(("epoch_2.pth", "epoch_1.pth", "best_mAP_epoch_1.pth", ".tmp-x.pth")):
        (tmp_path / name).write_bytes(b"x")
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
        pytest.param({}, False, (0, 0, 0), id="weights that no run wrote"),
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
