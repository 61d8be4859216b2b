"""A run that was stopped and resumed does the steps of one that was not, in either runner."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.parallel import DataContainer
from scripts import ROOT, load_script
from small_training import make_parts, small_options

from fdam_rotate.apis import loading
from fdam_rotate.apis.hooks import Interruption
from fdam_rotate.apis.loading import SeededBatches, SeededDataset, seed_draw, seeded_loader
from fdam_rotate.dota.errors import DotaError, ScoreError, Stopped

CONFIG = ROOT / "configs" / "lsknet" / "lsk_s_fpn_1x_dota_le90.py"
BY_STEP = "_base_ = {base!r}\nrunner = dict(_delete_=True, type='IterBasedRunner', max_iters={steps})\n"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("data"), train=5, val=2, test=1)


def _train(config: Path, data: Path, work: Path, *words: str, **options: object) -> int:
    small = small_options(config, data)
    small += [f"{key}={value}" for key, value in {"data.samples_per_gpu": 2, **options}.items()]
    if "--validate" in words:
        words = tuple(word for word in words if word != "--validate")
    else:
        words = (*words, "--no-validate")
    return load_script("tools/train.py").main([str(config), "--work-dir", str(work), *words, "--cfg-options", *small])


def _losses(work: Path) -> dict[tuple[int, int], float]:
    """(epoch, step) -> loss of that step, of all logs of a work folder."""
    found = {}
    for path in sorted(work.glob("*.log.json")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if row.get("mode") == "train":
                found[row["epoch"], row["iter"]] = row["loss"]
    return found


def _stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """SIGTERM in the middle of step number ``steps``."""
    from fdam_rotate.apis import runners

    for runner in runners.RUNNERS.values():
        call = runner.call_hook

        def hook(self, name, call=call):
            call(self, name)
            if name == "before_train_iter" and self.iter + 1 == steps:
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(runner, "call_hook", hook)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """By kind of runner: (config, options of a run of 6 steps, work folder of such a run that was not stopped)."""
    folder = tmp_path_factory.mktemp("whole")
    by_step = folder / "by_step.py"
    by_step.write_text(BY_STEP.format(base=str(CONFIG), steps=6))
    runs = {
        "epochs": (CONFIG, {"runner.max_epochs": 2}, folder / "epochs"),
        "steps": (by_step, {"runner.max_iters": 6, "checkpoint_config.interval": 3}, folder / "steps"),
    }
    for config, options, work in runs.values():
        assert _train(config, data, work, "--seed", "5", **options) == 0
        assert len(_losses(work)) == 6
    return runs


@pytest.mark.parametrize(("kind", "stop", "workers"), [("epochs", 2, 0), ("epochs", 3, 0), ("steps", 4, 2)])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    kind, stop, workers, whole, data, tmp_path, monkeypatch, capsys
):
    config, options, unbroken = whole[kind]
    work = tmp_path / "work"
    with monkeypatch.context() as patch:
        _stop_after(patch, stop)
        with pytest.raises(Stopped, match=f"SIGTERM after {stop} steps; .* go on with --auto-resume") as stopped:
            _train(config, data, work, "--seed", "5", **options)
    assert stopped.value.exit_code == 143
    assert _train(config, data, work, "--auto-resume", **{**options, "data.workers_per_gpu": workers}) == 0

    assert _losses(work) == _losses(unbroken)
    states = [torch.load(folder / "latest.pth", weights_only=False) for folder in (unbroken, work)]
    assert states[0]["meta"]["iter"] == states[1]["meta"]["iter"] == 6
    for key, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][key]), key

    before = {path: path.stat().st_mtime_ns for path in work.iterdir()}
    capsys.readouterr()
    assert _train(config, data, work, "--auto-resume", **options) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in work.iterdir()} == before


def test_rate_and_decay_of_a_resumed_run_are_the_configs(data, tmp_path):
    work, options = tmp_path / "work", {"lr_config.warmup": None, "optimizer.lr": 8e-4}
    assert _train(CONFIG, data, work, **options) == 0
    options = {**options, "runner.max_epochs": 2, "optimizer.lr": 4e-4, "optimizer.weight_decay": 0.125}
    assert _train(CONFIG, data, work, "--auto-resume", **options) == 0
    rates = {}
    for path in work.glob("*.log.json"):
        rows = [row for row in map(json.loads, path.read_text().splitlines()) if row.get("mode") == "train"]
        rates.update({row["epoch"]: row["lr"] for row in rows})
    assert rates == pytest.approx({1: 2e-4, 2: 1e-4}), "2 images a step of 8"
    groups = torch.load(work / "latest.pth", weights_only=False)["optimizer"]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.125}


def test_what_no_run_wrote_is_not_resumed(data, tmp_path):
    assert _train(CONFIG, data, tmp_path / "first") == 0
    first = torch.load(tmp_path / "first" / "latest.pth", weights_only=False)
    weights = "holds weights, and not where a run stood: --cfg-options load_from="
    optimizer = {**first["optimizer"], "param_groups": first["optimizer"]["param_groups"] * 2}
    for content, message in (
        ({"state_dict": first["state_dict"]}, weights),
        ({**first, "meta": {"CLASSES": first["meta"]["CLASSES"]}}, weights),
        (
            {**first, "optimizer": optimizer},
            "its optimizer is not the config's: loaded state dict has a different number",
        ),
    ):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(DotaError, match=message):
            _train(
                CONFIG,
                data,
                tmp_path / "work",
                "--resume-from",
                str(tmp_path / "other.pth"),
                **{"runner.max_epochs": 2},
            )


def test_the_config_says_what_to_resume(data, tmp_path):
    assert _train(CONFIG, data, tmp_path / "first") == 0
    config = tmp_path / "second.py"
    config.write_text(f"_base_ = {str(CONFIG)!r}\nresume_from = {str(tmp_path / 'first' / 'epoch_1.pth')!r}\n")
    assert _train(config, data, tmp_path / "second", **{"runner.max_epochs": 2}) == 0
    assert {epoch for epoch, _ in _losses(tmp_path / "second")} == {2}
    assert torch.load(tmp_path / "second" / "epoch_2.pth", weights_only=False)["meta"]["iter"] == 6


@pytest.mark.parametrize("by_step", [False, True])
def test_the_best_score_is_not_forgotten(by_step, data, tmp_path, monkeypatch):
    """The checkpoint of the step with the best score was written before that step was scored."""
    config, work = CONFIG, tmp_path / "work"
    options = {"evaluation.interval": 1, "checkpoint_config.interval": 1, "data.val.gt_dir": data / "val" / "annfiles"}
    if by_step:
        config = tmp_path / "by_step.py"
        config.write_text(BY_STEP.format(base=str(CONFIG), steps=2))
    length = "runner.max_iters" if by_step else "runner.max_epochs"
    scores = iter([0.3, 0.9, 0.5])

    def evaluate(dataset, results, logger, **settings):
        return {"mAP": 0.0 if logger == "silent" else next(scores)}  # a first look, that nothing is missing

    monkeypatch.setattr("fdam_rotate.datasets.dota.DOTAPatchDataset.evaluate", evaluate)
    assert _train(config, data, work, "--validate", **options, **{length: 2}) == 0
    assert _train(config, data, work, "--validate", "--auto-resume", **options, **{length: 3}) == 0
    assert next(scores, None) is None
    assert [path.name for path in work.glob("best_*")] == [f"best_mAP_{'iter' if by_step else 'epoch'}_2.pth"]


def test_a_validation_is_cut_short(data, tmp_path, monkeypatch):
    from fdam_rotate.apis import inference

    predict = inference.predict_batch
    batches = []

    def first_then_stop(model, batch):
        batches.append(batch)
        signal.raise_signal(signal.SIGINT)
        return predict(model, batch)

    monkeypatch.setattr(inference, "predict_batch", first_then_stop)
    options = {"runner.max_epochs": 2, "checkpoint_config.interval": 2, "evaluation.interval": 1}
    with pytest.raises(Stopped, match=r"SIGINT after 3 steps; .*epoch_1\.pth holds them") as stopped:
        _train(CONFIG, data, tmp_path / "work", "--validate", **options)
    assert stopped.value.exit_code == 130
    assert len(batches) == 1
    assert not list((tmp_path / "work").glob("best_*"))
    monkeypatch.setattr(inference, "predict_batch", predict)
    assert _train(CONFIG, data, tmp_path / "work", "--auto-resume", **options) == 0
    assert set(_losses(tmp_path / "work")) == {(epoch, step) for epoch in (1, 2) for step in (1, 2, 3)}


def test_gradients_of_steps_not_taken_are_resumed(data, tmp_path, monkeypatch):
    options = {
        "runner.max_epochs": 2,
        "optimizer_config.type": "GradientCumulativeOptimizerHook",
        "optimizer_config.cumulative_iters": 2,
    }
    assert _train(CONFIG, data, tmp_path / "whole", **options) == 0
    with monkeypatch.context() as patch:
        _stop_after(patch, 1)
        with pytest.raises(Stopped):
            _train(CONFIG, data, tmp_path / "halved", **options)
    assert _train(CONFIG, data, tmp_path / "halved", "--auto-resume", **options) == 0
    assert _losses(tmp_path / "halved") == _losses(tmp_path / "whole")


def test_what_a_step_draws_depends_on_its_place_alone():
    class Numbers:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return index, np.random.rand(), torch.rand(1).item(), random.random()  # noqa: NPY002

    batches = SeededBatches(5, 2, seed=3)
    images = SeededDataset(Numbers(), 3)
    epoch = [[images[draw] for draw in batch] for batch in batches]
    assert len(epoch) == len(batches) == 3
    flat = [one for batch in epoch for one in batch]
    assert sorted(one[0] for one in flat[:5]) == [0, 1, 2, 3, 4]
    assert [len({one[kind] for one in flat}) for kind in (1, 2, 3)] == [6, 6, 6]
    batches.start(0, 1)
    assert [[images[draw] for draw in batch] for batch in batches] == epoch[1:]
    batches.start(1, 0)
    assert [[images[draw] for draw in batch] for batch in batches] != epoch
    endless = SeededBatches(5, 2, seed=3, endless=True)
    endless.start(0, 4)
    batches.start(1, 1)
    assert next(iter(endless)) == next(iter(batches))
    other = SeededBatches(5, 2, seed=4)
    assert list(other) != list(SeededBatches(5, 2, seed=3))
    seeds = [seed_draw(3, place) or torch.initial_seed() for place in range(5)]
    assert len({seed >> 32 for seed in seeds}) == len({seed % 2**32 for seed in seeds}) == 5, "all bits of torch's"
    again = [images[draw][1:] for draw in ((0, 0, 0), (0, 1, 0), (0, 0, 5), (1, 0, 0))]
    again.append(SeededDataset(Numbers(), 4)[0, 0, 0][1:])
    assert again[0] == again[3], "whatever image it is"
    assert len({one[0] for one in again}) == 4, "by the epoch, the place and the seed"


def test_an_endless_order_is_that_of_its_epochs():
    batches = SeededBatches(5, 2, seed=3, endless=True)
    found = [batch for batch, _ in zip(batches, range(9), strict=False)]
    epochs = []
    for epoch in range(3):
        one = SeededBatches(5, 2, seed=3)
        one.start(epoch, 0)
        epochs += list(one)
    assert found == epochs
    orders = [[index for batch in epochs[k : k + 3] for index, _, _ in batch] for k in (0, 3, 6)]
    assert len({tuple(order) for order in orders}) > 1, "each in an order of its own"


def test_the_last_step_is_filled_up_from_the_beginning():
    batches = list(SeededBatches(5, 3, seed=3))
    order = [index for batch in batches for index, _, _ in batch]
    assert order[5:] == order[:1]
    assert [place for batch in batches for _, _, place in batch] == list(range(6))
    for world in (1, 2):
        assert len(SeededBatches(2, 8, seed=0, world=world)) == 1


def test_settings_of_a_loader_reach_it():
    loader = seeded_loader([0, 1], SeededBatches(2, 1, seed=0), {"workers_per_gpu": 3, "prefetch_factor": 7})
    assert (loader.num_workers, loader.prefetch_factor) == (3, 7)
    assert seeded_loader([0, 1], SeededBatches(2, 1, seed=0), {}).num_workers == 2


def test_loading_workers_are_mended_and_leave_signals_to_the_run(monkeypatch):
    mended = []
    monkeypatch.setattr(loading, "mend_host", lambda: mended.append(True))
    loader = seeded_loader([0, 1], SeededBatches(2, 1, seed=0), {"workers_per_gpu": 1})
    before = signal.getsignal(signal.SIGTERM)
    try:
        loader.worker_init_fn(0)
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert mended, "the steps of one that is spawned draw as here"
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("name", ["shuffle", "sampler", "batch_sampler", "drop_last", "class_aware_sampler"])
def test_the_order_is_no_setting(name):
    with pytest.raises(DotaError, match=f"data loaders take no {name}"):
        seeded_loader([0, 1], SeededBatches(2, 1, seed=0), {name: False})


def test_processes_share_an_epoch():
    parts = [list(SeededBatches(10, 2, seed=1, rank=rank, world=2)) for rank in (0, 1)]
    draws = [draw for part in parts for batch in part for draw in batch]
    assert len(parts[0]) == len(parts[1]) == 3
    assert {index for index, _, _ in draws} == set(range(10))
    assert sorted(place for _, _, place in draws) == list(range(12))
    for rank, part in enumerate(parts):
        assert [[place % 2 for _, _, place in batch] for batch in part] == [[rank] * 2] * 3, "dealt out in turn"


def test_a_batch_holds_its_images_together():
    images = [{"img": DataContainer(torch.zeros(3, 4), stack=True, pad_dims=1)}] * 4
    loader = seeded_loader(images, SeededBatches(4, 2, seed=0), {"workers_per_gpu": 0})
    assert [[part.shape for part in batch["img"].data] for batch in loader] == [[(2, 3, 4)]] * 2


def test_a_second_signal_acts_at_once():
    interruption = Interruption()
    with interruption.watched():
        signal.raise_signal(signal.SIGINT)
        assert interruption.agreed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"runner.type": "MyRunner"}, "runner.type is MyRunner"),
        ({"runner.max_epochs": 0}, "runner.max_epochs is 0"),
        ({"workflow": "[('test',1)]"}, "workflow is"),
        ({"fp16.loss_scale": 512.0}, "fp16 needs a GPU"),
        ({"data.train.classes": 853}, "853 is no name"),
        ({"evaluation.metric": "bbox"}, "evaluation: metric must be 'mAP', got 'bbox'"),
        ({"evaluation.gpu_collect": True}, "evaluation: .*unexpected keyword argument 'gpu_collect'"),
        ({"evaluation.ap": "voc10"}, "evaluation: metric is one of voc07"),
        ({"evaluation.save_best": "bbox_mAP"}, "evaluation.save_best is bbox_mAP; expected auto or patch_mAP"),
    ],
)
def test_settings_that_cannot_be_are_one_line(option, message, data, tmp_path):
    if "fp16.loss_scale" in option and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(DotaError, match=message):
        _train(CONFIG, data, tmp_path / "work", *(["--validate"] if "evaluation" in message else []), **option)
    assert not list((tmp_path / "work").glob("*.pth")), "told before the first step"


def test_there_is_something_to_score_before_the_first_step(data, tmp_path):
    part = tmp_path / "data" / "val"
    shutil.copytree(data, tmp_path / "data")
    for path in (part / "annfiles").iterdir():
        path.write_text("")
    with pytest.raises(ScoreError, match=r"data\.val: no labelled object in .*; --no-validate trains without"):
        _train(CONFIG, tmp_path / "data", tmp_path / "work", "--validate")
    assert not list((tmp_path / "work").glob("*.pth"))


def test_fp16_is_not_for_the_cpu_where_there_is_a_gpu(data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DotaError, match="fp16 needs a GPU, and this is to run on the CPU"):
        _train(CONFIG, data, tmp_path / "work", "--device", "cpu", **{"fp16.loss_scale": 512.0})


@pytest.mark.parametrize("hook", ["LinearMomentumEMAHook", "EMAHook"])  # mmdet's and mmcv's
@pytest.mark.filterwarnings("ignore:This overload of add_ is deprecated")  # mmcv's
def test_averaged_weights_are_resumed_within_an_epoch(hook, data, tmp_path, monkeypatch):
    config = tmp_path / "averaged.py"
    config.write_text(f"_base_ = {str(CONFIG)!r}\ncustom_hooks = [dict(type={hook!r}, momentum=0.3, priority=49)]\n")
    options = {"runner.max_epochs": 2, "optimizer.lr": 0.01}
    assert _train(config, data, tmp_path / "whole", **options) == 0
    with monkeypatch.context() as patch:
        _stop_after(patch, 2)
        with pytest.raises(Stopped):
            _train(config, data, tmp_path / "halved", **options)
    assert _train(config, data, tmp_path / "halved", "--auto-resume", **options) == 0
    states = [
        torch.load(tmp_path / name / "latest.pth", weights_only=False)["state_dict"] for name in ("whole", "halved")
    ]
    assert [key for key, value in states[0].items() if not torch.equal(value, states[1][key])] == []
