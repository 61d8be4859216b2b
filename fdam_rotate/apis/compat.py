"""Configs: read, and fitted to the machine they run on (processes, batch size); each change is one log line."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fdam_rotate.dota.errors import DotaError

__all__ = [
    "TESTING_PARTS",
    "TRAINING_PARTS",
    "dataset_settings",
    "load_config",
    "loader_settings",
    "named_paths",
    "revert_sync_bn",
    "scale_lr",
    "setting_errors",
    "steps_for_batches",
    "test_data",
]


#: What the parts of a config are that commands read, in Python and in words.
_PARTS: dict[str, tuple[Any, str]] = {
    "model": (dict, "dict(type=..., backbone=dict(...), ...)"),
    "data": (dict, "dict(train=..., val=..., test=...)"),
    "runner": (dict, "dict(type='EpochBasedRunner', max_epochs=N), or by max_iters"),
    "optimizer": (dict, "dict(type=..., lr=...)"),
    "optimizer_config": (dict, "dict(...)"),
    "lr_config": (dict, "dict(policy=...)"),
    "evaluation": (dict, "dict(interval=N, ...)"),
    "checkpoint_config": (dict, "dict(interval=N)"),
    "log_config": (dict, "dict(interval=N, hooks=[...])"),
    "workflow": ((list, tuple), "[('train', 1)]"),
    "custom_hooks": ((list, tuple), "a list of dict(type=..., ...)"),
    "fp16": (dict, "dict(loss_scale=...)"),
    "load_from": (str, "the name of a checkpoint"),
    "resume_from": (str, "the name of a checkpoint"),
    "work_dir": (str, "the name of a folder"),
}

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")

#: The parts that testing reads, and those that training reads.
TESTING_PARTS = ("model", "data")
TRAINING_PARTS = ("model", "data", "runner", "optimizer", "workflow")

#: What the host raises where it cannot make something of a setting.
_HOST_ERRORS = (LookupError, TypeError, ValueError, AttributeError, AssertionError, ImportError, RuntimeError)


@contextmanager
def setting_errors(place: str) -> Iterator[None]:
    """Turn what the host raises while it builds something from settings into one line.

    Args:
        place: what is built, as the config names it.

    Raises:
        DotaError: the settings do not fit.
    """
    try:
        yield
    except (DotaError, NotImplementedError):
        raise
    except _HOST_ERRORS as error:
        raise DotaError(f"{place} cannot be built: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    """What an exception says, with its kind where that says more."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    first = text.splitlines()[0][:300] if text else ""
    plain = isinstance(error, (ValueError, AssertionError)) and first
    return first if plain else f"{type(error).__name__}: {first}"


def load_config(path: str | Path, options: dict[str, Any] | None = None, *, needs: Sequence[str] = ()) -> Any:
    """Read a config file (which is Python, and runs) with ``--cfg-options`` merged in, and look at its parts.

    Args:
        path: the file.
        options: key, with dots, -> value.
        needs: the parts that must be there, such as ``'runner'``.

    Raises:
        FileNotFoundError: there is no such file.
        DotaError: it is no config, a module of ``custom_imports`` cannot be imported, a setting does not fit its
            ``_base_``, an option names an index or key that the config cannot take, or a part is missing or of the
            wrong kind.
    """
    from mmcv import Config

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such config: {path}")
    if path.suffix.lower() not in (".py", ".json", ".yaml", ".yml"):
        raise DotaError(f"{path}: a config is a Python file (.py); it comes first, a checkpoint after it")
    try:
        cfg = Config.fromfile(str(path))
    except ImportError as error:  # mmcv's own says nothing; what it met says which module
        raise DotaError(
            f"{path}: {error.__context__ or error}; where custom_imports names a module of yours, say where it lies: "
            "PYTHONPATH=FOLDER python ..."
        ) from error
    except UnicodeDecodeError as error:
        raise DotaError(f"{path}: not UTF-8 text ({error.reason}), so no config") from None
    except OSError:
        raise
    except Exception as error:  # it is a program, which may raise anything
        raise DotaError(f"{path}: {_one_line(error)}") from error
    if options:
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DotaError(f"--cfg-options {options}: {_one_line(error)}") from error
    _check_parts(cfg._cfg_dict, path, needs)
    return cfg


def _check_parts(content: Any, path: Path, needs: Sequence[str]) -> None:
    """Check that what a config holds can be what commands take it for.

    Raises:
        DotaError: a part is missing or of the wrong kind.
    """
    for name, (kind, words) in _PARTS.items():
        value = content.get(name)
        if value is None and name in needs:
            raise DotaError(f"{path}: no {name} in it: it is no config of a detector; expected {name} = {words}")
        if value is not None and not isinstance(value, kind):
            raise DotaError(f"{path}: {name} is {_shown(value)}; expected {words}")
    level = content.get("log_level")
    if level is not None and level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise DotaError(f"{path}: log_level is {_shown(level)}; expected DEBUG, INFO, WARNING, ERROR or CRITICAL")
    model = content.get("model")
    if model is not None and not isinstance(model.get("type"), str):
        raise DotaError(f"{path}: model.type is {_shown(model.get('type'))}; expected the name of a detector")
    if model is not None and not isinstance(model.get("backbone"), dict):
        raise DotaError(f"{path}: model.backbone is {_shown(model.get('backbone'))}; expected dict(type=..., ...)")
    data = content.get("data") or {}
    for part in ("train", "val", "test"):
        _check_data(data.get(part), f"{path}: data.{part}")
    for name, least in (("samples_per_gpu", 1), ("workers_per_gpu", 0)):
        for place, node in (("data", data), *((f"data.{key}", data.get(key)) for key in _LOADERS)):
            value = node.get(name, least) if isinstance(node, dict) else least
            if not isinstance(value, int) or value < least:
                raise DotaError(
                    f"{path}: {place}.{name} is {_shown(value)}; expected a whole number of at least {least}"
                )


def _check_data(node: Any, place: str) -> None:
    if node is None:
        return
    if isinstance(node, (list, tuple)):
        for number, one in enumerate(node):
            _check_data(one, f"{place}.{number}")
        return
    if not isinstance(node, dict) or not isinstance(node.get("type"), str):
        raise DotaError(f"{place} is {_shown(node)}; expected a data set, dict(type=..., ...)")
    for key in ("dataset", "datasets"):
        _check_data(node.get(key), f"{place}.{key}")
    steps = node.get("pipeline")
    if steps is not None and not (isinstance(steps, (list, tuple)) and all(_is_step(step) for step in steps)):
        raise DotaError(f"{place}.pipeline is {_shown(steps)}; expected a list of dict(type=..., ...)")


def _is_step(step: Any) -> bool:
    return isinstance(step, dict) and isinstance(step.get("type"), str)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def test_data(cfg: Any) -> Any:
    """The settings of the test set, whose classes and pipeline are those of the model.

    Raises:
        DotaError: there is none, or it is a list of several.
    """
    node = (cfg.get("data") or {}).get("test")
    if not isinstance(node, dict):
        raise DotaError(f"the config's data.test is {_shown(node)}; its classes and pipeline are needed")
    return node


def loader_settings(cfg: Any) -> Any:
    """A copy of ``cfg`` in mmdet's present form, where each part of the data has its ``*_dataloader`` settings.

    mmdet 2.28's ``compat_cfg`` looks into ``data.val`` and ``data.test`` whether they are there or not, and for the
    length of a training.

    Raises:
        DotaError: a setting stands in two places.
    """
    from mmdet.utils import compat_cfg

    cfg = copy.deepcopy(cfg)
    absent = [part for part in ("val", "test") if cfg.data.get(part) is None]
    for part in absent:
        cfg.data[part] = {}
    if "runner" not in cfg and "total_epochs" not in cfg:
        cfg.runner = {}
    with setting_errors("data"):
        cfg = compat_cfg(cfg)
    for part in absent:
        cfg.data[part] = None
    return cfg


def steps_for_batches(steps: Sequence[Any]) -> list[Any]:
    """A pipeline whose images can be put together: ``ImageToTensor`` makes bare tensors, which must be of one size.

    mmdet's ``replace_ImageToTensor`` knows no step with steps of its own but ``MultiScaleFlipAug``.
    """
    found = []
    for step in steps:
        if "transforms" in step:
            step = {**step, "transforms": steps_for_batches(step["transforms"])}
        elif step["type"] == "ImageToTensor":
            step = {"type": "DefaultFormatBundle"}
        found.append(step)
    return found


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


def named_paths(settings: Any, key: str) -> list[str]:
    """The folders or files that a setting of a data set names: none, one, or several in a list."""
    named = settings.get(key) or []
    return [named] if isinstance(named, str) else list(named)


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
