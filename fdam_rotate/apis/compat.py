"""Configs: read, and fitted to the machine they run on (processes, batch size); each change is one log line."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fdam_rotate.dota.errors import DotaError

__all__ = [
    "dataset_settings",
    "load_config",
    "loader_settings",
    "revert_sync_bn",
    "scale_lr",
]


def load_config(path: str | Path, options: dict[str, Any] | None = None) -> Any:
    """Read a config file (which is Python, and runs) with ``--cfg-options`` merged in.

    Raises:
        FileNotFoundError: there is no such file.
        DotaError: a module of ``custom_imports`` cannot be imported, or a setting does not fit its ``_base_``, or an
            option names an index or key that the config cannot take.
    """
    from mmcv import Config

    if not Path(path).is_file():
        raise FileNotFoundError(f"no such config: {path}")
    try:
        cfg = Config.fromfile(str(path))
    except ImportError as error:  # mmcv's own says nothing; what it met says which module
        raise DotaError(
            f"{path}: {error.__context__ or error}; where custom_imports names a module of yours, say where it lies: "
            "PYTHONPATH=FOLDER python ..."
        ) from error
    except (KeyError, TypeError) as error:  # a setting that does not fit what _base_ has in its place
        raise DotaError(f"{path}: {error}") from error
    if options:
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError, AttributeError) as error:
            raise DotaError(f"--cfg-options {options}: {error}") from error
    return cfg


def loader_settings(cfg: Any) -> Any:
    """A copy of ``cfg`` in mmdet's present form, where each part of the data has its ``*_dataloader`` settings.

    mmdet 2.28's ``compat_cfg`` looks into ``data.val`` and ``data.test`` whether they are there or not.
    """
    from mmdet.utils import compat_cfg

    cfg = copy.deepcopy(cfg)
    absent = [part for part in ("val", "test") if cfg.data.get(part) is None]
    for part in absent:
        cfg.data[part] = {}
    cfg = compat_cfg(cfg)
    for part in absent:
        cfg.data[part] = None
    return cfg


def dataset_settings(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Each data set that ``node`` builds and its place in the config, through lists and mmdet's wrappers.

    ``node`` is what stands under ``path``: a data set, a list of them, or a RepeatDataset, ConcatDataset and so on.
    """
    if isinstance(node, (list, tuple)):
        for number, part in enumerate(node):
            yield from dataset_settings(part, f"{path}.{number}")
    elif node:
        inner = [key for key in ("dataset", "datasets") if key in node]
        for key in inner:
            yield from dataset_settings(node[key], f"{path}.{key}")
        if not inner:
            yield path, node


def revert_sync_bn(cfg: Any) -> int:
    """Turn every ``SyncBN`` into ``BN``, in place; returns how many. SyncBN needs several GPU processes."""
    cfg = getattr(cfg, "_cfg_dict", cfg)  # a whole Config is no dict
    changed = 0
    if isinstance(cfg, dict):
        if cfg.get("type") in ("SyncBN", "MMSyncBN"):
            cfg["type"] = "BN"
            changed += 1
        changed += sum(revert_sync_bn(value) for value in cfg.values())
    elif isinstance(cfg, (list, tuple)):
        changed += sum(revert_sync_bn(value) for value in cfg)
    return changed


def scale_lr(cfg: Any, world_size: int) -> str:
    """Scale ``cfg.optimizer.lr`` in place from ``auto_scale_lr.base_batch_size`` to the images in a step.

    Linear rule (Goyal et al., arXiv 1706.02677): lr = base lr * (processes * images each * accumulated steps) / base.

    Returns:
        The line for the log.
    """
    samples = cfg.data.get("train_dataloader", {}).get("samples_per_gpu", cfg.data.get("samples_per_gpu", 2))
    accumulate = cfg.get("optimizer_config", {}).get("cumulative_iters", 1)
    batch = world_size * samples * accumulate
    steps = f"{world_size} process(es) x {samples} image(s)" + (f" x {accumulate} steps" if accumulate > 1 else "")
    rule = cfg.get("auto_scale_lr") or {}
    if not rule.get("enable", False):
        return (
            f"learning rate {cfg.optimizer.lr:g} as configured, auto_scale_lr is off: {steps} = {batch} images per step"
        )
    base, before = rule["base_batch_size"], cfg.optimizer.lr
    cfg.optimizer.lr = before * batch / base
    return f"learning rate {cfg.optimizer.lr:g} = {before:g} x {batch}/{base}: {steps} = {batch} images per step"
