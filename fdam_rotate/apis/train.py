"""Training as MMRotate's ``tools/train.py`` does it, on the CPU, one GPU or several processes.

mmrotate 0.3.4's ``train_detector`` always calls ``.cuda()`` and mmdet 2.28.2's cannot run several CPU processes; this
one builds the same mmcv runner from the same config keys.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmcv.runner import HOOKS
from mmcv.runner.optimizer import build_optimizer
from mmcv.utils import build_from_cfg
from mmdet.apis import set_random_seed
from mmrotate.datasets import build_dataset
from mmrotate.models import build_detector

from fdam_rotate.apis.compat import (
    dataset_settings,
    loader_settings,
    named_paths,
    revert_sync_bn,
    scale_lr,
    setting_errors,
)
from fdam_rotate.apis.hooks import Interruption, NonFiniteLossHook, PatchEvalHook, SeedHook, StopHook
from fdam_rotate.apis.loading import SeededBatches, ordered_loader, seeded_loader
from fdam_rotate.apis.runners import AVERAGING, RUNNERS, latest_checkpoint, progress_of
from fdam_rotate.apis.runtime import Runtime, data_parallel
from fdam_rotate.dota.errors import DotaError, OutputExistsError
from fdam_rotate.dota.outputs import check_names, earlier_files, recorded
from fdam_rotate.dota.words import counted
from fdam_rotate.host.quiet import init_weights_quietly

__all__ = ["check_classes", "check_training_config", "checkpoint_to_resume", "dump_config", "is_finished", "train"]


def dump_config(cfg: Any, path: Path) -> None:
    """Write the full config into the work folder; a file there that no training wrote is left alone.

    Raises:
        OutputExistsError: a file of that name is there, and no training wrote it.
    """
    if cfg.filename and Path(cfg.filename).resolve() == path.resolve():
        return  # the config that is run lies in the work folder
    check_names(path.parent, [path.name], earlier_files(path.parent, record="train"))
    with recorded(path.parent, "train"):
        cfg.dump(str(path))


def check_training_config(cfg: Any, *, validate: bool = True, device: str = "auto") -> None:
    """Look at every path that a training run needs, before anything is loaded.

    Args:
        cfg: MMRotate config with ``work_dir`` set.
        validate: ``data.val`` is needed too.
        device: to train on, as for ``start_runtime``.

    Raises:
        FileNotFoundError: a folder of patches, the pretrained backbone or a checkpoint is missing.
        OutputExistsError: the work folder holds checkpoints and nothing says to go on from them.
        DotaError: a runner, a workflow, a hook or a precision that there is not.
    """
    _check_runner(cfg)
    if cfg.get("fp16") is not None and (device == "cpu" or not torch.cuda.is_available()):
        why = "this is to run on the CPU" if device == "cpu" else "there is none"
        raise DotaError(f"fp16 needs a GPU, and {why}; --cfg-options fp16=None trains in full precision")
    work_dir = Path(cfg.work_dir)
    if not (cfg.get("resume_from") or cfg.get("auto_resume")) and latest_checkpoint(work_dir) is not None:
        raise OutputExistsError(f"{work_dir} holds checkpoints; go on with --auto-resume, or give another --work-dir")
    for split in ("train", "val") if validate else ("train",):
        for place, data in dataset_settings(cfg.data.get(split), f"data.{split}"):
            _check_folders(place, data)
    init = cfg.model.backbone.get("init_cfg") or {}
    pretrained = [
        *(("model.backbone.init_cfg", one.get("checkpoint")) for one in (init if isinstance(init, list) else [init])),
        *((key, cfg.get(key)) for key in ("load_from", "resume_from")),
    ]
    for key, path in pretrained:
        if path and "://" not in path and not Path(path).is_file():
            raise FileNotFoundError(
                f"{key} names {path}, which does not exist; or start without: --cfg-options {key}=None"
            )


def _check_runner(cfg: Any) -> None:
    kinds = {"EpochBasedRunner": "max_epochs", "IterBasedRunner": "max_iters"}
    kind = cfg.runner.get("type")
    if kind not in kinds:
        raise DotaError(f"runner.type is {kind}; it is one of {', '.join(kinds)}")
    length = cfg.runner.get(kinds[kind])
    if not isinstance(length, int) or length < 1:
        raise DotaError(f"runner.{kinds[kind]} is {length}; {kind} needs a number of at least 1 there")
    if elsewhere := (cfg.get("checkpoint_config") or {}).get("out_dir"):
        raise DotaError(  # no run would look there before it writes over another's
            f"checkpoint_config.out_dir is {elsewhere}; checkpoints lie in the work folder, where resumed runs look: "
            "give --work-dir"
        )
    for hook in (cfg.get("custom_hooks") or ()) if kind == "IterBasedRunner" else ():
        if issubclass(HOOKS.get(str(hook.get("type"))) or object, AVERAGING):
            raise DotaError(
                f"custom_hooks: {hook['type']} puts the averaged weights in place at the end of an epoch, and {kind} "
                "has none; take EpochBasedRunner, or drop the hook"
            )
    flows = [tuple(flow) if isinstance(flow, (list, tuple)) else (flow,) for flow in cfg.workflow]
    modes = [flow[0] for flow in flows if len(flow) == 2 and isinstance(flow[1], int)]
    if "train" not in modes or len(modes) < len(flows) or not set(modes) <= {"train", "val"}:
        raise DotaError(
            f"workflow is {cfg.workflow}; its parts are ('train', N) and, for validation losses, ('val', N)"
        )
    if "val" in modes and cfg.data.get("val") is None:
        raise DotaError(
            "workflow has a part 'val', but the config has no data.val; workflow=\"[('train',1)]\" drops it"
        )


def checkpoint_to_resume(cfg: Any) -> Path | None:
    """The checkpoint to go on from: the work folder's own with ``auto_resume``, if it has one, else ``resume_from``."""
    own = latest_checkpoint(cfg.work_dir) if cfg.get("auto_resume") else None
    return own or (Path(cfg.resume_from) if cfg.get("resume_from") else None)


def is_finished(cfg: Any, meta: dict[str, Any]) -> bool:
    """Whether the run of ``cfg`` ends where a checkpoint's ``meta`` stands."""
    by_epoch = cfg.runner["type"] != "IterBasedRunner"
    epochs, steps, _ = progress_of(meta, by_epoch=by_epoch)
    return epochs >= cfg.runner["max_epochs"] if by_epoch else steps >= cfg.runner["max_iters"]


def _check_folders(place: str, data: Any) -> None:
    root = data.get("data_root")
    for key in ("ann_file", "ann_dir", "img_prefix"):
        for folder in named_paths(data, key):
            path = Path(root or "") / folder  # an absolute folder stays
            if not path.exists():
                make = (
                    "unpack the data set there"
                    if data.get("type") == "HRSC2016Dataset"
                    else "make it with data_prep/split.py"
                )
                setting = f"{place}.{key}" if root is None or Path(folder).is_absolute() else f"{place}.data_root"
                raise FileNotFoundError(
                    f"{place}.{key} is {path}, which does not exist; {make}, or set --cfg-options {setting}=FOLDER"
                )


def train(
    cfg: Any,
    runtime: Runtime,
    logger: logging.Logger,
    *,
    validate: bool = True,
    seed: int = 0,
    deterministic: bool = False,
) -> Path:
    """Train ``cfg`` and return its work folder; all data and the config are checked before the model is built.

    What is drawn at random follows from the seed, the process and the step, whatever the number of loading workers, so
    that a run which was stopped and resumed does what one does that was not.

    Args:
        cfg: MMRotate config with ``work_dir`` set.
        runtime: from ``start_runtime``.
        logger: where every change to the config is reported.
        validate: score ``data.val`` as ``evaluation`` says; a config without ``data.val`` is not validated.
        seed: at least 0.
        deterministic: ask torch for deterministic algorithms, and warn where one has none.

    Raises:
        DotaError: the data set is empty, training and validation share patches, classes do not fit the head, or
            validation cannot be scored.
        FloatingPointError: the loss became NaN or infinite.
        Stopped: SIGTERM or Ctrl-C came, and a checkpoint was saved.
    """
    if runtime.world_size == 1 or runtime.device == "cpu":
        if changed := revert_sync_bn(cfg.model):
            logger.info(f"{changed} SyncBN setting(s) became BN: SyncBN needs several GPU processes")
    seed_everything(seed, deterministic=deterministic)
    if cfg.get("cudnn_benchmark") and not deterministic:
        torch.backends.cudnn.benchmark = True

    if cfg.data.get("train") is None:
        raise DotaError("the config has no data.train")
    with setting_errors("data.train"):
        train_set = build_dataset(cfg.data.train)
    check_classes(cfg.model, train_set.CLASSES)
    if len(train_set) == 0:
        raise DotaError(f"no patch with objects in {_places(cfg.data.train, 'data.train')}: nothing to train on")
    validate = validate and cfg.data.get("val") is not None
    val_loader = _val_loader(cfg, runtime) if validate else None
    if val_loader is not None:
        _check_disjoint(train_set, val_loader.dataset)
    logger.info(
        f"{counted(len(train_set), 'training patch')}, {len(val_loader.dataset) if val_loader else 'no'} for validation"
    )

    with setting_errors("model"):
        model = build_detector(cfg.model, train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
        init_weights_quietly(model)
    model.CLASSES = train_set.CLASSES

    cfg = loader_settings(cfg)
    cfg.seed = seed
    with setting_errors("what the settings of loading, optimizer, runner and hooks ask for"):
        loaders = _loaders(cfg, runtime, train_set, seed)
        logger.info(scale_lr(cfg, runtime.world_size))
        wrapped = data_parallel(model, runtime, find_unused_parameters=cfg.get("find_unused_parameters", False))
        length = {key: value for key, value in cfg.runner.items() if key != "type"}
        runner = RUNNERS[cfg.runner["type"]](
            model=wrapped,
            optimizer=build_optimizer(wrapped, cfg.optimizer),
            work_dir=cfg.work_dir,
            logger=logger,
            meta={"seed": seed, "exp_name": Path(cfg.work_dir).name, "config": cfg.pretty_text},
            **length,
        )
        runner.timestamp = time.strftime("%Y%m%d_%H%M%S")
        interruption = Interruption()
        _register_hooks(runner, cfg, runtime)
        runner.register_hook(SeedHook(seed), priority="HIGHEST")
        by_epoch = cfg.runner["type"] != "IterBasedRunner"
        if val_loader is not None:
            settings = {"by_epoch": by_epoch, **(cfg.get("evaluation") or {})}
            evaluation = PatchEvalHook(val_loader, interruption=interruption, **settings)
            if runtime.rank == 0:
                evaluation.check()
            runner.register_hook(evaluation, priority="LOW")
        runner.register_hook(StopHook(interruption, by_epoch=by_epoch), priority="LOWEST")

    resume_from = checkpoint_to_resume(cfg)
    averaging = [hook for hook in runner.hooks if isinstance(hook, AVERAGING)]
    if resume_from and averaging:  # it makes room for the second set of weights in the file first, then resumes
        averaging[0].checkpoint = str(resume_from)
    elif resume_from:
        runner.resume(str(resume_from), map_location="cpu")
    elif cfg.get("load_from"):
        runner.load_checkpoint(cfg.load_from)
    with interruption.watched():
        runner.run(loaders, [tuple(flow) for flow in cfg.workflow])
    return Path(cfg.work_dir)


def _loaders(cfg: Any, runtime: Runtime, train_set: Any, seed: int) -> list[Any]:
    """One loader for each part of ``cfg.workflow``: training images, or images of ``data.val`` for their losses."""
    endless = cfg.runner["type"] == "IterBasedRunner"
    loaders = []
    for mode, _ in cfg.workflow:
        settings = dict(cfg.data.train_dataloader)
        dataset = train_set if mode == "train" else _loss_set(cfg)
        batches = SeededBatches(
            len(dataset),
            settings.pop("samples_per_gpu", 2),
            seed=seed,
            rank=runtime.rank,
            world=runtime.world_size,
            shuffle=mode == "train",
            endless=endless,
        )
        loaders.append(seeded_loader(dataset, batches, settings))
    return loaders


def _loss_set(cfg: Any) -> Any:
    """``data.val`` as the training images are prepared, for its losses, as MMRotate takes it.

    Raises:
        DotaError: there is no object in it.
    """
    _, first = next(iter(dataset_settings(cfg.data.train, "data.train")))
    settings = copy.deepcopy(cfg.data.val)
    for _, part in dataset_settings(settings, "data.val"):
        part.pipeline = first.pipeline
    dataset = build_dataset(settings)
    if len(dataset) == 0:
        raise DotaError("no patch with objects in data.val: there is no loss to validate with")
    return dataset


def _places(node: Any, path: str) -> str:
    """Where the labels of a part of the data are, for a message."""
    return ", ".join(str(part.get("ann_file")) for _, part in dataset_settings(node, path))


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed Python, NumPy and torch; ``deterministic`` as ``torch.use_deterministic_algorithms`` with warnings."""
    set_random_seed(seed, deterministic=deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products on a GPU only warn
        torch.use_deterministic_algorithms(True, warn_only=True)


def check_classes(model: Any, classes: tuple[str, ...]) -> None:
    """Refuse a head whose ``num_classes`` is not the data set's.

    Raises:
        DotaError: naming the setting, both numbers and the classes.
    """

    def settings(node: Any, path: str) -> Any:
        if isinstance(node, dict):
            if "num_classes" in node and not path.endswith("rpn_head"):
                yield f"{path}.num_classes", node["num_classes"]
            for key, value in node.items():
                yield from settings(value, f"{path}.{key}")
        elif isinstance(node, (list, tuple)):
            for i, value in enumerate(node):
                yield from settings(value, f"{path}.{i}")

    for name, count in settings(model, "model"):
        if count != len(classes):
            raise DotaError(
                f"{name} is {count}, but the data set has {len(classes)} classes ({', '.join(classes)}); "
                f"set --cfg-options {name}={len(classes)}, or the data sets' classes"
            )


def _val_loader(cfg: Any, runtime: Runtime) -> Any:
    loader = ordered_loader(cfg, "val", runtime.distributed)
    if len(loader.dataset) == 0:
        places = _places(cfg.data.val, "data.val")
        raise DotaError(f"no patch in {places}: nothing to validate on; use --no-validate")
    return loader


def _check_disjoint(train_set: Any, val_set: Any) -> None:
    """Training images must not be validated on."""

    def keys(dataset: Any) -> set[tuple[str, str]]:
        found = set()
        for part in _plain_sets(dataset):
            if hasattr(part, "img_ids"):  # other data sets may not list their images
                folder = str(Path(part.img_prefix or ".").resolve())
                found |= {(folder, name) for name in part.img_ids}
        return found

    shared = keys(train_set) & keys(val_set)
    if shared:
        raise DotaError(
            f"{counted(len(shared), 'patch', 'is|are')} both in data.train and in data.val, first {min(shared)[1]}: "
            "a score on them would mean nothing; give data.val other images, or use --no-validate"
        )


def _plain_sets(dataset: Any) -> Iterator[Any]:
    """The data sets that a concatenated, repeated or balanced one is made of."""
    inner = getattr(dataset, "datasets", None) or ([dataset.dataset] if hasattr(dataset, "dataset") else [])
    for part in inner:
        yield from _plain_sets(part)
    if not inner:
        yield dataset


def _optimizer_hook(cfg: Any, *, distributed: bool) -> Any:
    """The hook that steps the optimizer: plain, in mixed precision (``fp16``), accumulating steps, or both."""
    settings, fp16 = dict(cfg.optimizer_config), cfg.get("fp16")
    kind = settings.pop("type", "OptimizerHook")
    if fp16 is None:
        return build_from_cfg({"type": kind, **settings}, HOOKS)
    mixed = {
        "OptimizerHook": "Fp16OptimizerHook",
        "GradientCumulativeOptimizerHook": "GradientCumulativeFp16OptimizerHook",
    }
    if kind not in mixed:
        raise DotaError(f"optimizer_config.type={kind} has no fp16 form; drop fp16, or use one of {', '.join(mixed)}")
    return build_from_cfg({"type": mixed[kind], **settings, **fp16, "distributed": distributed}, HOOKS)


def _register_hooks(runner: Any, cfg: Any, runtime: Runtime) -> None:
    runner.register_training_hooks(
        cfg.lr_config,
        _optimizer_hook(cfg, distributed=runtime.distributed),
        cfg.get("checkpoint_config"),
        cfg.get("log_config"),
        cfg.get("momentum_config"),
        custom_hooks_config=cfg.get("custom_hooks"),
    )
    runner.register_hook(NonFiniteLossHook(), priority="VERY_HIGH")
