"""What training does to a config before it starts: learning rate, SyncBN, parameter groups, checks of paths."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmcv import Config
from scripts import ROOT
from torch import nn

from fdam_rotate.apis import compat
from fdam_rotate.apis.compat import dataset_settings, load_config, loader_settings, revert_sync_bn, scale_lr
from fdam_rotate.apis.optimizer import FDAMOptimizerConstructor, parameter_groups
from fdam_rotate.apis.runtime import Runtime
from fdam_rotate.apis.train import (
    _check_disjoint,
    _loaders,
    _optimizer_hook,
    check_classes,
    check_training_config,
    checkpoint_to_resume,
    dump_config,
    is_finished,
)
from fdam_rotate.dota.errors import DotaError, OutputExistsError


def _cfg(samples: int, *, enable: bool = True, **extra) -> Config:
    return Config(
        {
            "optimizer": {"lr": 1e-4},
            "data": {"samples_per_gpu": samples},
            "auto_scale_lr": {"enable": enable, "base_batch_size": 8},
            **extra,
        }
    )


@pytest.mark.parametrize(
    ("world", "samples", "lr"),
    [
        pytest.param(1, 2, 2.5e-5, id="one GPU, two images: 1e-4 * 2/8"),
        pytest.param(2, 4, 1e-4, id="2 x 4 = 8: as published"),
        pytest.param(8, 1, 1e-4, id="8 x 1 = 8: as published"),
        pytest.param(4, 4, 2e-4, id="16 images: 1e-4 * 16/8"),
    ],
)
def test_learning_rate_follows_the_batch(world, samples, lr):
    cfg = _cfg(samples)
    line = scale_lr(cfg, world)
    assert cfg.optimizer.lr == pytest.approx(lr)
    assert f"{world} process(es) x {samples} image(s) = {world * samples} images per step" in line


def test_accumulated_steps_count_as_images():
    cfg = _cfg(2, optimizer_config={"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 4})
    scale_lr(cfg, 1)
    assert cfg.optimizer.lr == pytest.approx(1e-4)


def test_scaling_can_be_turned_off():
    for rule in ({"enable": False, "base_batch_size": 8}, {"base_batch_size": 8}, None):
        cfg = _cfg(2, auto_scale_lr=rule)
        assert "auto_scale_lr is off: 1 process(es) x 2 image(s) = 2 images per step" in scale_lr(cfg, 1)
        assert cfg.optimizer.lr == 1e-4


def test_a_step_has_two_images_where_nothing_is_said():
    cfg = _cfg(1)
    del cfg.data["samples_per_gpu"]
    scale_lr(cfg, 1)
    assert cfg.optimizer.lr == pytest.approx(2.5e-5)
    cfg.runner, cfg.workflow = {"type": "EpochBasedRunner"}, [("train", 1)]
    cfg.data.train_dataloader = {"workers_per_gpu": 0}
    (loader,) = _loaders(cfg, Runtime("cpu", 0, 0, 1), list(range(4)), seed=0)
    assert [len(batch) for batch in loader.batch_sampler] == [2, 2]


def test_sync_bn_becomes_bn_at_any_depth():
    cfg = Config(
        {"a": {"norm_cfg": {"type": "SyncBN", "requires_grad": True}}, "b": [{"norm_cfg": {"type": "SyncBN"}}]}
    )
    assert revert_sync_bn(cfg) == 2
    assert cfg.a.norm_cfg == {"type": "BN", "requires_grad": True}
    assert cfg.b[0].norm_cfg.type == "BN"
    assert revert_sync_bn(cfg) == 0


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.freq_scale_1 = nn.Conv2d(4, 4, 1)
        self.conv = nn.Conv2d(3, 4, 1)
        self.gamma = nn.Parameter(torch.ones(4))
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)


def test_freq_scale_learns_twice_as_fast_and_flat_parameters_do_not_decay():
    net = _Net()
    groups = {(g["lr"], g["weight_decay"]): g["params"] for g in parameter_groups(net, 0.1, 0.05)}
    assert set(groups) == {(0.1, 0.05), (0.1, 0.0), (0.2, 0.05), (0.2, 0.0)}
    assert groups[0.1, 0.05] == [net.conv.weight]
    assert {id(p) for p in groups[0.1, 0.0]} == {id(net.conv.bias), id(net.gamma)}
    assert groups[0.2, 0.05] == [net.freq_scale_1.weight]
    inner = nn.ModuleDict({"block1": nn.ModuleDict({"freq_scale_2": nn.Linear(2, 2, bias=False)})})
    assert [group["lr"] for group in parameter_groups(inner, 0.1, 0.05)] == [0.2], "inside a block too"
    assert groups[0.2, 0.0] == [net.freq_scale_1.bias]


def test_optimizer_constructor_builds_what_the_config_names():
    optimizer = FDAMOptimizerConstructor({"type": "AdamW", "lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.05})(
        _Net()
    )
    assert isinstance(optimizer, torch.optim.AdamW)
    assert sorted(g["lr"] for g in optimizer.param_groups) == [0.1, 0.1, 0.2, 0.2]
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    wrapped = FDAMOptimizerConstructor({"type": "SGD", "lr": 0.1})(nn.DataParallel(_Net()))
    assert [(g["lr"], g["weight_decay"]) for g in wrapped.param_groups] == [(0.1, 0), (0.1, 0), (0.2, 0), (0.2, 0)]


def test_optimizer_constructor_refuses_paramwise_settings():
    with pytest.raises(ValueError, match="drop paramwise_cfg"):
        FDAMOptimizerConstructor({"type": "AdamW", "lr": 0.1}, {"norm_decay_mult": 0.0})


def test_a_head_for_other_classes_is_refused():
    model = {"rpn_head": {"num_classes": 1}, "roi_head": {"bbox_head": {"num_classes": 15}}}
    check_classes(model, ("a",) * 15)
    with pytest.raises(DotaError, match=r"model\.roi_head\.bbox_head\.num_classes is 15, but the data set has 1 class"):
        check_classes(model, ("ship",))


def _training_cfg(tmp_path, **data):
    for name in ("ann", "img"):
        (tmp_path / name).mkdir(exist_ok=True)
    train = {"ann_file": str(tmp_path / "ann"), "img_prefix": str(tmp_path / "img"), **data}
    settings = {"work_dir": str(tmp_path / "work"), "data": {"train": train}, "model": {"backbone": {}}}
    runner = {"type": "EpochBasedRunner", "max_epochs": 1}
    return Config({**settings, "runner": runner, "workflow": [("train", 1)]})


def test_training_paths_are_checked_first(tmp_path):
    check_training_config(_training_cfg(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"data\.train\.ann_file is .*nowhere, which does not exist"):
        check_training_config(_training_cfg(tmp_path, ann_file=str(tmp_path / "nowhere")))
    cfg = _training_cfg(tmp_path)
    cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "no.pth")}
    with pytest.raises(FileNotFoundError, match=r"model\.backbone\.init_cfg names .*no\.pth.*init_cfg=None"):
        check_training_config(cfg)
    cfg.model.backbone.init_cfg = [{"type": "Kaiming", "layer": "Conv2d"}, cfg.model.backbone.init_cfg]
    with pytest.raises(FileNotFoundError, match=r"model\.backbone\.init_cfg names .*no\.pth"):
        check_training_config(cfg)


def test_a_work_folder_with_checkpoints_is_not_trained_over(tmp_path):
    cfg = _training_cfg(tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "epoch_1.pth").write_bytes(b"x")
    with pytest.raises(OutputExistsError, match="--auto-resume"):
        check_training_config(cfg)
    cfg.auto_resume = True
    check_training_config(cfg)


def test_a_missing_config_is_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such config"):
        load_config(tmp_path / "none.py")


def test_a_module_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "c.py").write_text("custom_imports = dict(imports=['no_such_backbone'], allow_failed_imports=False)")
    with pytest.raises(DotaError, match=r"c\.py: No module named 'no_such_backbone'; .*PYTHONPATH=FOLDER"):
        load_config(tmp_path / "c.py")


def test_a_setting_that_does_not_fit_its_base_is_told(tmp_path):
    (tmp_path / "base.py").write_text("head = [1]")
    (tmp_path / "c.py").write_text("_base_ = 'base.py'\nhead = dict(num_classes=4)")
    with pytest.raises(DotaError, match=r"c\.py: TypeError: head=.* cannot inherit from base"):
        load_config(tmp_path / "c.py")


def test_missing_hrsc_data_are_not_to_be_split(tmp_path):
    cfg = load_config(ROOT / "configs" / "lsknet" / "lsk_s_fpn_3x_hrsc_le90.py")
    cfg.work_dir = str(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data\.train\.ann_file is .*; unpack the data set there"):
        check_training_config(cfg)
    cfg.data.train.ann_file = str(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data\.train\.ann_dir is "):
        check_training_config(cfg)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"names.5": "b"}, "KeyError: Index 5 exceeds the length of list ['a']"),
        ({"number.digits": 3}, "TypeError: number={'digits': 3} in child config cannot inherit from base"),
        ({"names.0": "b"}, "AttributeError: 'str' object has no attribute 'copy'"),
        ({"names.\N{SUPERSCRIPT TWO}": "b"}, "invalid literal for int() with base 10"),
    ],
)
def test_an_option_that_the_config_cannot_take_is_told(options, said, tmp_path):
    (tmp_path / "c.py").write_text("names = ['a']\nnumber = 1")
    with pytest.raises(DotaError) as error:
        load_config(tmp_path / "c.py", options)
    assert str(error.value).startswith(f"--cfg-options {options}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_wrong_with_a_file_is_told_as_it_is(tmp_path):
    (tmp_path / "c.py").write_text("_base_ = 'gone.py'")
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        load_config(tmp_path / "c.py")
    (tmp_path / "latin.py").write_bytes("name = 'caf\xe9'".encode("latin-1"))
    with pytest.raises(DotaError, match=r"latin\.py: not UTF-8 text \(invalid continuation byte|unexpected end"):
        load_config(tmp_path / "latin.py")
    (tmp_path / "c.json").write_text('{"model": {"type": "X", "backbone": {}}}')
    assert load_config(tmp_path / "c.json", needs=("model",)).model.type == "X"
    (tmp_path / "c.txt").write_text("a = 1")
    with pytest.raises(DotaError, match=r"a config is a Python file"):
        load_config(tmp_path / "c.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data = dict(samples_per_gpu=0)", "data.samples_per_gpu is 0; expected a whole number of at least 1"),
        ("data = dict(workers_per_gpu=-1)", "data.workers_per_gpu is -1; expected a whole number of at least 0"),
        ("data = dict(val_dataloader=dict(samples_per_gpu=0))", "data.val_dataloader.samples_per_gpu is 0; expected"),
        (
            "data = dict(train=dict(type='A', datasets=[dict(type='B'), 3]))",
            "data.train.datasets.1 is 3; expected a data",
        ),
        (
            "data = dict(train=dict(type='A', pipeline=[dict(type='B'), dict()]))",
            "data.train.pipeline is [{'type': 'B'}",
        ),
        ("model = dict(type='A', backbone=[" + "1, " * 60 + "])", "1, 1...; expected dict(type=..., ...)"),
        ("log_level = 'loud'", "log_level is 'loud'; expected DEBUG, INFO, WARNING, ERROR or CRITICAL"),
    ],
)
def test_parts_of_the_wrong_kind_are_told(text, said, tmp_path):
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(DotaError) as error:
        load_config(tmp_path / "c.py")
    assert said in str(error.value)
    assert len(str(error.value)) < len(str(tmp_path)) + 180


def test_the_least_numbers_and_no_log_level_are_fine(tmp_path):
    (tmp_path / "c.py").write_text("data = dict(samples_per_gpu=1, workers_per_gpu=0, test_dataloader=dict())\n")
    assert load_config(tmp_path / "c.py").data.samples_per_gpu == 1


@pytest.mark.parametrize("test", [None, [{"type": "A"}, {"type": "B"}], "test/"])
def test_the_test_set_is_one(test):
    with pytest.raises(DotaError, match=r"the config's data\.test is .*; its classes and pipeline are needed"):
        compat.test_data(Config({"data": {"test": test}}))


def test_what_the_host_raises_becomes_a_line_and_files_are_named_as_they_are():
    for error in (RuntimeError("no kernel\nmore"), ImportError("no module"), IndexError("of range")):
        with pytest.raises(DotaError, match=r"^model cannot be built: \w+: \w+ \w+$"), compat.setting_errors("model"):
            raise error
    for error in (FileNotFoundError("a.pth"), FloatingPointError("nan"), NotImplementedError("x"), DotaError("y")):
        with pytest.raises(type(error), match=str(error)), compat.setting_errors("model"):
            raise error
    with pytest.raises(DotaError) as told, compat.setting_errors("model"):
        raise ValueError("x" * 1000)
    assert len(str(told.value)) == len("model cannot be built: ") + 300


@pytest.mark.parametrize(
    ("kind", "fp16", "expected"),
    [
        (None, None, "OptimizerHook"),
        (None, {"loss_scale": 128.0}, "Fp16OptimizerHook"),
        ("GradientCumulativeOptimizerHook", None, "GradientCumulativeOptimizerHook"),
        ("GradientCumulativeOptimizerHook", {"loss_scale": 128.0}, "GradientCumulativeFp16OptimizerHook"),
    ],
)
def test_accumulation_and_mixed_precision_go_together(kind, fp16, expected):
    config = {"grad_clip": {"max_norm": 35}, **({"type": kind, "cumulative_iters": 8} if kind else {})}
    hook = _optimizer_hook(Config({"optimizer_config": config, "fp16": fp16}), distributed=False)
    assert type(hook).__name__ == expected
    assert hook.grad_clip == {"max_norm": 35}
    assert getattr(hook, "cumulative_iters", 1) == (8 if kind else 1)
    if fp16 is not None:
        assert hook._scale_update_param == 128.0
        for shared in (False, True):
            cfg = Config({"optimizer_config": config, "fp16": fp16})
            assert _optimizer_hook(cfg, distributed=shared).distributed is shared


def test_an_optimizer_hook_without_mixed_precision_is_refused_with_fp16():
    cfg = Config({"optimizer_config": {"type": "MyHook"}, "fp16": {"loss_scale": 512.0}})
    with pytest.raises(DotaError, match="MyHook has no fp16 form"):
        _optimizer_hook(cfg, distributed=False)


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_config_without_a_part_of_the_data_still_has_loader_settings(part):
    cfg = Config({"data": {"train": {}, "val": {}, "test": {}, "samples_per_gpu": 3, "workers_per_gpu": 5}})
    cfg.data[part] = None
    cfg.runner = {"type": "EpochBasedRunner", "max_epochs": 1}
    full = loader_settings(cfg)
    assert full.data[part] is None
    assert full.data.train_dataloader == {"samples_per_gpu": 3, "workers_per_gpu": 5}
    assert full.data[f"{part}_dataloader"] == {"workers_per_gpu": 5}
    assert cfg.data.samples_per_gpu == 3, "the config itself is left as it was"


def test_every_data_set_behind_wrappers_is_found():
    leaf = {"ann_file": "a"}
    node = {
        "type": "ConcatDataset",
        "datasets": [{"type": "RepeatDataset", "times": 2, "dataset": leaf}, {"ann_file": "b"}],
    }
    assert list(dataset_settings(node, "data.train")) == [
        ("data.train.datasets.0.dataset", leaf),
        ("data.train.datasets.1", {"ann_file": "b"}),
    ]
    assert list(dataset_settings([leaf, leaf], "data.val")) == [("data.val.0", leaf), ("data.val.1", leaf)]
    assert not list(dataset_settings(None, "data.val"))


def test_paths_of_val_are_asked_for_only_to_validate(tmp_path):
    cfg = _training_cfg(tmp_path)
    cfg.data.val = {"ann_file": str(tmp_path / "nowhere")}
    check_training_config(cfg, validate=False)
    with pytest.raises(FileNotFoundError, match=r"data\.val\.ann_file is .*nowhere"):
        check_training_config(cfg)


def test_paths_behind_a_wrapper_are_checked(tmp_path):
    cfg = _training_cfg(tmp_path)
    cfg.data.train = {"type": "RepeatDataset", "times": 2, "dataset": {"ann_file": str(tmp_path / "nowhere")}}
    with pytest.raises(FileNotFoundError, match=r"data\.train\.dataset\.ann_file is .*nowhere"):
        check_training_config(cfg)


@pytest.mark.parametrize("key", ["resume_from", "load_from"])
def test_a_checkpoint_to_begin_with_must_exist(key, tmp_path):
    cfg = _training_cfg(tmp_path)
    cfg[key] = str(tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match=rf"^{key} names .*gone\.pth"):
        check_training_config(cfg)
    cfg[key] = "https://example.org/gone.pth"
    check_training_config(cfg)


def test_each_folder_of_several_is_looked_for(tmp_path):
    both = [str(tmp_path / "ann"), str(tmp_path / "nowhere")]
    with pytest.raises(FileNotFoundError, match=r"data\.train\.ann_file is .*nowhere, which does not exist"):
        check_training_config(_training_cfg(tmp_path, ann_file=both))


def test_folders_are_named_by_the_setting_that_moves_them(tmp_path):
    """A folder under data_root is moved by data_root, an absolute one by itself; each of them is looked for."""
    absolute, relative = str(tmp_path / "nowhere"), "nowhere"
    for folder, setting in ((absolute, "img_prefix"), (relative, "data_root")):
        cfg = _training_cfg(tmp_path, img_prefix=folder, data_root=str(tmp_path))
        with pytest.raises(FileNotFoundError, match=rf"data\.train\.img_prefix is .*nowhere, .*{setting}=FOLDER"):
            check_training_config(cfg)
    check_training_config(_training_cfg(tmp_path, ann_file="ann", img_prefix="img", data_root=str(tmp_path)))


def test_weights_on_the_net_are_not_looked_for_on_the_disk(tmp_path):
    cfg = _training_cfg(tmp_path)
    cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": "https://example.org/lsk.pth"}
    check_training_config(cfg)


@pytest.mark.parametrize(
    ("workflow", "fine"),
    [
        ([("train", 1)], True),
        ([("train", 2), ("val", 1)], True),
        ([("val", 1)], False),
        ([("train", 1), ("test", 1)], False),
        ([("train", 1), "val"], False),
        ([("train", 1), ("val", "all")], False),
    ],
)
def test_a_workflow_trains_and_may_look_at_val(workflow, fine, tmp_path):
    cfg = _training_cfg(tmp_path)
    cfg.workflow = workflow
    cfg.data.val = cfg.data.train
    if fine:
        check_training_config(cfg)
    else:
        with pytest.raises(DotaError, match=r"workflow is .*; its parts are \('train', N\)"):
            check_training_config(cfg)


@pytest.mark.parametrize("hook", ["EMAHook", "ExpMomentumEMAHook"])
def test_averaged_weights_want_epochs(hook, tmp_path):
    """Their hooks put them in place between epochs: without these the average would be in no checkpoint."""
    cfg = _training_cfg(tmp_path)
    cfg.custom_hooks = [{"type": "NumClassCheckHook"}, {"type": hook}]
    check_training_config(cfg)
    cfg.runner = {"type": "IterBasedRunner", "max_iters": 3}
    with pytest.raises(DotaError, match=rf"custom_hooks: {hook} .*IterBasedRunner has none"):
        check_training_config(cfg)
    for others in (cfg.custom_hooks[:1], [{"type": "HookOfSomebody"}], None):
        cfg.custom_hooks = others
        check_training_config(cfg)


def test_checkpoints_lie_where_runs_look_for_them(tmp_path):
    cfg = _training_cfg(tmp_path)
    cfg.checkpoint_config = {"interval": 1, "out_dir": str(tmp_path / "elsewhere")}
    with pytest.raises(DotaError, match=r"checkpoint_config\.out_dir is .*elsewhere; .* give --work-dir"):
        check_training_config(cfg)
    for settings in ({"interval": 1}, {"interval": 1, "out_dir": None}, None):
        cfg.checkpoint_config = settings
        check_training_config(cfg)


@pytest.mark.parametrize("length", [0, -1, 1.5, None])
def test_a_run_has_a_length(length, tmp_path):
    cfg = _training_cfg(tmp_path)
    cfg.runner.max_epochs = length
    with pytest.raises(DotaError, match=r"runner\.max_epochs is .*needs a number of at least 1"):
        check_training_config(cfg)


def test_what_a_run_goes_on_from(tmp_path):
    cfg = _training_cfg(tmp_path)
    work = tmp_path / "work"
    assert checkpoint_to_resume(cfg) is None
    cfg.auto_resume = True
    assert checkpoint_to_resume(cfg) is None
    cfg.resume_from = str(tmp_path / "other.pth")
    assert checkpoint_to_resume(cfg) == tmp_path / "other.pth"
    work.mkdir()
    (work / "epoch_1.pth").write_bytes(b"x")
    assert checkpoint_to_resume(cfg) == work / "epoch_1.pth", "its own first"
    cfg.auto_resume = False
    assert checkpoint_to_resume(cfg) == tmp_path / "other.pth"
    (tmp_path / "other.pth").write_bytes(b"x")
    check_training_config(cfg)  # whoever names a checkpoint may go on in a folder that holds some


@pytest.mark.parametrize(
    ("runner", "done", "finished"),
    [
        ({"type": "EpochBasedRunner", "max_epochs": 3}, {"epoch": 2, "iter": 90}, False),
        ({"type": "EpochBasedRunner", "max_epochs": 3}, {"epoch": 3, "iter": 90}, True),
        ({"type": "IterBasedRunner", "max_iters": 9}, {"epoch": 90, "iter": 8, "step": 0}, False),
        ({"type": "IterBasedRunner", "max_iters": 9}, {"epoch": 90, "iter": 9, "step": 0}, True),
    ],
)
def test_a_run_is_finished_at_its_length(runner, done, finished):
    assert is_finished(Config({"runner": runner}), done) is finished


def test_a_config_is_written_over_what_training_wrote_and_over_nothing_else(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    source = tmp_path / "c.py"
    source.write_text("a = 1\n")
    for value in (1, 2):  # its own file of the run before is replaced
        dump_config(load_config(source, {"a": value}), work / "c.py")
        assert load_config(work / "c.py").a == value
    (work / "d.py").write_text("b = 1\n")
    with pytest.raises(OutputExistsError, match=r"d\.py"):
        dump_config(load_config(source), work / "d.py")
    assert (work / "d.py").read_text() == "b = 1\n"
    monkeypatch.chdir(tmp_path)
    before = source.read_text()
    dump_config(load_config("c.py"), source)  # the config that is run, by another spelling of its path
    assert source.read_text() == before


def test_images_are_shared_by_whatever_way_their_folder_is_written(tmp_path):
    def images(folder, *names):
        return SimpleNamespace(img_prefix=str(folder), img_ids=list(names))

    (tmp_path / "a").mkdir()
    with pytest.raises(DotaError, match="1 patch is both"):
        _check_disjoint(images(tmp_path / "a", "1"), images(tmp_path / "a" / ".." / "a", "1"))
    _check_disjoint(images(tmp_path / "a", "1"), images(tmp_path / "b", "1"))


def test_the_widest_head_counts_too():
    model = {"bbox_head": {"num_classes": 16}}
    with pytest.raises(DotaError, match=r"model\.bbox_head\.num_classes is 16, but the data set has 15 classes"):
        check_classes(model, ("a",) * 15)
    check_classes({"rpn_head": {"num_classes": 1}, "heads": [{"num_classes": 2}]}, ("a", "b"))


def test_a_loader_of_its_own_sets_the_images_of_a_step():
    cfg = _cfg(2)
    cfg.data.train_dataloader = {"samples_per_gpu": 4}
    scale_lr(cfg, 1)
    assert cfg.optimizer.lr == pytest.approx(5e-5)


def test_both_spellings_of_sync_bn_are_reverted():
    cfg = {"a": {"type": "MMSyncBN"}, "b": {"type": "SyncBN"}, "c": {"type": "GN"}}
    assert revert_sync_bn(cfg) == 2
    assert cfg == {"a": {"type": "BN"}, "b": {"type": "BN"}, "c": {"type": "GN"}}
