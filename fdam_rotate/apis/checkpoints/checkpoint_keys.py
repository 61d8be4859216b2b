"""The key layouts in which checkpoints are published, brought to the keys of a model. No file is touched here.

Layouts met in the field, each of them handled by :func:`match_keys`:

========================================  =====================================================================
LSKNet, VAN, SegFormer on ImageNet        ``{"state_dict": {...}, "args": ..., ...}`` (timm), plus ``head.*``
DeiT-III on ImageNet                      ``{"model": {...}}``, plus ``head.*``, ``norm.*``, ``cls_token``
MMRotate, MMDetection, MMSegmentation     ``{"meta": ..., "state_dict": {...}, "optimizer": ...}``, ``backbone.*``
trained with mmcv's EMA hooks             the same, plus flat ``ema_backbone_...`` copies of every tensor
saved from DataParallel, torch.compile    every key after ``module.`` or ``_orig_mod.``
torch's AveragedModel                     the same, and a counter ``n_averaged``
========================================  =====================================================================
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["KeyMatch", "find_state_dict", "group_keys", "match_keys"]

NESTINGS = ("state_dict", "model", "model_state_dict", "module", "net")
WRAPPERS = ("module.", "_orig_mod.", "model.")
CLASSIFIERS = ("head.", "head_dist.", "fc.", "classifier.", "pre_logits.", "fc_norm.")
EMA = "ema_"
TOKENS = ("cls_token", "dist_token")
HOST = "backbone."


@dataclass(frozen=True)
class KeyMatch:
    """A state dict whose keys are spelled as the model's.

    Attributes:
        state: tensors to hand to the model, under the model's spelling. Keys that the model lacks are still in it.
        dropped: what was left out on purpose, as reason -> keys as the file spells them.
        renamed: the prefixes that were taken off or put on, in words, in order.
    """

    state: dict[str, Tensor]
    dropped: dict[str, list[str]] = field(default_factory=dict)
    renamed: tuple[str, ...] = ()


def find_state_dict(checkpoint: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a loaded checkpoint, and the keys that led to them, such as ``("model",)``.

    Non-tensors beside tensors (step counters, for instance) are left out.

    Raises:
        ValueError: there is no mapping of names to tensors in it.
    """
    path: list[str] = []
    while isinstance(checkpoint, Mapping):
        inner = next((k for k in NESTINGS if isinstance(checkpoint.get(k), Mapping) and checkpoint[k]), None)
        if inner is None:
            break
        path.append(inner)
        checkpoint = checkpoint[inner]
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"expected a dict of tensors, found {type(checkpoint).__name__}")
    state = {k: v for k, v in checkpoint.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        names = ", ".join(sorted(str(k) for k in checkpoint)[:8]) or "nothing"
        raise ValueError(f"expected a dict of tensors, plain or under one of {', '.join(NESTINGS)}; found {names}")
    return state, tuple(path)


def match_keys(state: Mapping[str, Tensor], model_keys: Collection[str], *, prefix: str | None = None) -> KeyMatch:
    """Spell the keys of ``state`` as the model does.

    Wrapper prefixes that all keys but a few carry come off, and those few are dropped. Then, of the keys as they are,
    those under ``backbone.``, and all of them put under ``backbone.``, that spelling is taken which meets most of the
    model's keys: so a detector's checkpoint fits a bare backbone, and a backbone's fits a detector. Classifier heads,
    class tokens and EMA copies that the model has no place for are dropped.

    Args:
        state: tensors by name, as :func:`find_state_dict` returns them.
        model_keys: names in the model's own state dict.
        prefix: take only the keys under this prefix (``init_cfg=dict(prefix="backbone.")``), and guess nothing.
    """
    wanted = set(model_keys)
    keys = {k: k for k in state}  # as the file spells it -> as the model does
    dropped: dict[str, list[str]] = {}
    renamed: list[str] = []

    _drop_ema(keys, wanted, dropped)  # beside a wrapper
    while keys and not wanted.intersection(keys.values()):
        few = max(1, len(keys) // 10)
        strays = {w: [old for old, new in keys.items() if not new.startswith(w)] for w in WRAPPERS}
        wrapper = next((w for w in WRAPPERS if len(strays[w]) <= few and len(strays[w]) < len(keys)), None)
        if wrapper is None:
            break
        _drop(keys, strays[wrapper], dropped, f"outside {wrapper}")
        keys = {old: new.removeprefix(wrapper) for old, new in keys.items()}
        renamed.append(f"-{wrapper}")
    _drop_ema(keys, wanted, dropped)  # within it

    if prefix is not None:
        prefix = prefix if prefix.endswith(".") else prefix + "."
        _drop(keys, [old for old, new in keys.items() if not new.startswith(prefix)], dropped, f"outside {prefix}")
        keys = {old: new.removeprefix(prefix) for old, new in keys.items()}
        renamed.append(f"-{prefix}")
    else:
        as_is = len(wanted.intersection(keys.values()))
        inside = {old: new.removeprefix(HOST) for old, new in keys.items() if new.startswith(HOST)}
        outside = {old: HOST + new for old, new in keys.items()}
        if len(wanted.intersection(inside.values())) > as_is:
            _drop(keys, [old for old in keys if old not in inside], dropped, "other parts of the detector")
            keys = inside
            renamed.append(f"-{HOST}")
        elif len(wanted.intersection(outside.values())) > as_is:
            keys = outside
            renamed.append(f"+{HOST}")

    host = HOST if f"+{HOST}" in renamed else ""
    heads = tuple(host + name for name in CLASSIFIERS)
    classifier = [old for old, new in keys.items() if new.startswith(heads) and new not in wanted]
    if classifier:  # the norm before a classifier belongs to it
        classifier += [old for old, new in keys.items() if new.startswith(f"{host}norm.") and new not in wanted]
    _drop(keys, classifier, dropped, "classifier")
    tokens = [old for old, new in keys.items() if new.removeprefix(host) in TOKENS and new not in wanted]
    _drop(keys, tokens, dropped, "class token")
    return KeyMatch({new: state[old] for old, new in keys.items()}, dropped, tuple(renamed))


def group_keys(keys: Iterable[str]) -> dict[str, int]:
    """Count keys by pattern, numbers being starred: ``block1.0.norm1.bias`` counts for ``block*.*.norm*.bias``."""
    return dict(Counter(re.sub(r"\d+", "*", key) for key in keys))


def _drop_ema(keys: dict[str, str], wanted: Collection[str], dropped: dict[str, list[str]]) -> None:
    """Drop EMA copies, unless nothing else is there."""
    ema = [old for old, new in keys.items() if new.startswith(EMA) and new not in wanted]
    if len(ema) < len(keys):
        _drop(keys, ema, dropped, "EMA copies")


def _drop(keys: dict[str, str], names: list[str], dropped: dict[str, list[str]], reason: str) -> None:
    if names:
        dropped[reason] = [*dropped.get(reason, []), *names]
        for name in names:
            del keys[name]
