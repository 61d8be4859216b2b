"""Checkpoints: read as tensors only, loaded with a report, written whole or not at all.

A ``.pth`` file is a pickle, and a pickle can run any program when it is opened. :func:`load_checkpoint_file` opens
one with torch's restricted unpickler, which knows tensors and plain containers. ``argparse.Namespace`` (timm keeps its
arguments) is allowed besides, because making one runs nothing; so are numpy scalars and arrays (mmcv keeps scores in
``meta``) of booleans, numbers and text, for which the file calls stand-ins (``plain_numpy.py``).
Anything else is refused before it runs. ``unsafe=True`` opts out, for files whose author you trust.

mmcv 1.7.2 opens checkpoints in ways that this alone does not cover: an ``http(s)://`` checkpoint goes through
``torch.utils.model_zoo``, which unpickles everything, and ``resume`` executes the config text that the file carries.
:func:`install_safe_loader` closes both, and makes ``load_from``, ``resume_from`` and ``init_cfg`` use this module.

The restricted unpickler is no sandbox: torch before 2.10 had memory-safety bugs in it (CVE-2026-24747). Prefer
``.safetensors``, which :func:`save_checkpoint_file` writes and every function here reads.
"""

from __future__ import annotations

import argparse
import ast
import json
import logging
import math
import os
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from fdam_rotate.apis.checkpoints import plain_numpy
from fdam_rotate.apis.checkpoints.checkpoint_keys import find_state_dict, group_keys, match_keys
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.outputs import claim_file

__all__ = [
    "CheckpointError",
    "LoadReport",
    "check_target",
    "install_safe_loader",
    "load_checkpoint_file",
    "load_into",
    "save_checkpoint_file",
]

MapLocation = str | torch.device | Callable[..., Any] | None


class CheckpointError(DotaError):
    """A checkpoint that cannot be read, carries code, or does not fit the model."""


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of the file and of the model.

    Attributes:
        source: the file.
        target: the model's class name.
        loaded: keys of the model that took their value from the file.
        missing: keys of the model that the file does not have; they keep their initial values.
        unexpected: keys of the file that the model does not have.
        mismatched: keys in both with different shapes, as key -> (shape in the file, shape in the model).
        dropped: left out on purpose, as reason -> keys of the file (classifier heads, EMA copies, other parts).
        renamed: prefixes taken off (``-module.``) or put on (``+backbone.``).
        resized: loaded keys whose tensor the model itself brought to its own shape (position embeddings), as
            key -> (shape in the file, shape in the model).
        unused: other top-level entries of the file that hold tensors (``optimizer``, ``state_dict_ema``).
    """

    source: str
    target: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    dropped: Mapping[str, list[str]] = field(default_factory=dict)
    renamed: tuple[str, ...] = ()
    resized: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Every tensor of the model was loaded and nothing of the file was refused."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def exact(self) -> bool:
        """As `complete`, and no tensor was resized: the model holds the file's own values."""
        return self.complete and not self.resized

    def table(self, max_rows: int = 40) -> str:
        """The report as text: one line for each kind and, below it, key patterns with their counts."""
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        renamed = f" ({', '.join(self.renamed)})" if self.renamed else ""
        lines = [f"{self.source} -> {self.target}{renamed}", f"  loaded   {len(self.loaded):5d} of {total} tensors"]
        lines += [f"  resized: {_resize_text(key, *shapes)}" for key, shapes in self.resized.items()]
        lines.append(f"  new      {len(self.missing):5d} not in the file, keep their initial values")
        lines += _rows(group_keys(self.missing), max_rows)
        lines.append(f"  refused  {len(self.unexpected) + len(self.mismatched):5d}")
        for key, (theirs, ours) in list(self.mismatched.items())[:max_rows]:
            lines.append(f"    {key}: {_shape(theirs)} in the file, {_shape(ours)} in the model")
        lines += _rows({f"{k} (unknown to the model)": n for k, n in group_keys(self.unexpected).items()}, max_rows)
        for reason, keys in self.dropped.items():
            few = f": {', '.join(keys)}" if len(keys) <= 3 else ""
            lines.append(f"  dropped  {len(keys):5d} {reason}{few}")
        if self.unused:
            lines.append(f"  not used: {', '.join(self.unused)} (other entries of the file that hold tensors)")
        return "\n".join(lines)


def load_checkpoint_file(path: str | Path, map_location: MapLocation = "cpu", unsafe: bool = False) -> dict[str, Any]:
    """Read a ``.pth``, ``.pt``, ``.tar`` or ``.safetensors`` checkpoint.

    Returns:
        The file's dict with the tensors under ``state_dict``, wherever the file had them (``model``, bare, ...).
        A safetensors file yields ``state_dict`` and ``meta``.

    Raises:
        CheckpointError: the file carries code (and ``unsafe`` is False), is damaged, or holds no tensors.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the checkpoint file in it")
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes); the download or copy did not finish")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, map_location)
    checkpoint = _unpickle(path, map_location, unsafe)
    try:
        state, nesting = find_state_dict(checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{path} is no checkpoint: {error}") from None
    rest = {k: v for k, v in checkpoint.items() if k not in nesting} if nesting else {}
    return {**rest, "state_dict": state}


def save_checkpoint_file(
    path: str | Path, state: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None, *, overwrite: bool = False
) -> None:
    """Write tensors and plain ``meta`` (JSON's types), as safetensors if the suffix says so, else as torch's zip.

    Raises:
        OutputExistsError: ``path`` is there and ``overwrite`` is False.
        CheckpointError: the suffix is none of .safetensors, .pth, .pt.
    """
    path = check_target(path, overwrite=overwrite)
    meta = dict(meta or {})
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            tensors = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in state.items()}
            save_file(tensors, temporary, metadata={"format": "pt", "meta": json.dumps(meta)})
        else:
            torch.save({"meta": meta, "state_dict": {k: v.detach().cpu() for k, v in state.items()}}, temporary)


def check_target(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> Path:
    """``path``, if :func:`save_checkpoint_file` would write it; call it before long work, for the same errors."""
    path = Path(path)
    if path.suffix not in {".safetensors", ".pth", ".pt"}:
        raise CheckpointError(f"{path}: a checkpoint is written as .pth, .pt or .safetensors")
    return claim_file(path, overwrite=overwrite, inputs=inputs)


def load_into(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    *,
    unsafe: bool = False,
    strict: bool = False,
    prefix: str | None = None,
    map_location: MapLocation = "cpu",
    name: str | None = None,
) -> LoadReport:
    """Load a checkpoint into ``model``, whatever layout it was published in, and report what happened.

    Args:
        model: a detector or a bare backbone; a DataParallel wrapper is looked through.
        source: a file, or what :func:`load_checkpoint_file` returned.
        unsafe: allow a pickle that carries code.
        strict: raise unless every tensor of the model is loaded and none of the file is refused.
        prefix: load only what lies under this prefix of the file.
        map_location: as for ``torch.load``.
        name: what to call a ``source`` that is not a path, in messages.

    Raises:
        CheckpointError: nothing in the file fits the model, or ``strict`` and something does not.
    """
    if isinstance(source, Mapping):
        checkpoint, label = source, name or "checkpoint"
    else:
        checkpoint, label = load_checkpoint_file(source, map_location, unsafe), name or str(source)
    inner = model.module if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else model
    try:
        state, nesting = find_state_dict(checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{label} is no checkpoint: {error}") from None
    own = {k: tuple(v.shape) for k, v in inner.state_dict().items()}
    match = match_keys(state, own, prefix=prefix)
    common = [k for k in match.state if k in own]
    if not common:
        theirs, ours = ", ".join(list(match.state)[:3]), ", ".join(list(own)[:3])
        raise CheckpointError(
            f"{label}: no tensor fits {type(inner).__name__}; the file has {theirs or 'nothing'} ..., the model "
            f"{ours} ...; is it a checkpoint of another network?"
        )
    mismatched = _load_matching(inner, {k: match.state[k] for k in common})
    loaded = tuple(k for k in common if k not in mismatched)
    report = LoadReport(
        source=label,
        target=type(inner).__name__,
        loaded=loaded,
        missing=tuple(k for k in own if k not in match.state),
        unexpected=tuple(k for k in match.state if k not in own),
        mismatched={k: (tuple(match.state[k].shape), own[k]) for k in mismatched},
        dropped=match.dropped,
        renamed=match.renamed,
        resized={
            k: (tuple(match.state[k].shape), own[k]) for k in loaded if match.state[k].numel() != math.prod(own[k])
        },
        unused=tuple(sorted(str(k) for k, v in checkpoint.items() if nesting and k != nesting[0] and _has_tensor(v))),
    )
    for key, shapes in report.resized.items():
        if _is_shrunk(key, *shapes):
            logging.getLogger("fdam_rotate").warning(
                "%s: resized to fewer positions than it was trained with: %s", label, _resize_text(key, *shapes)
            )
    if not report.loaded:
        raise CheckpointError(f"{label}: every tensor has another shape in {type(inner).__name__}\n{report.table(10)}")
    if strict and not report.complete:
        raise CheckpointError(f"{label} does not fit {type(inner).__name__} exactly\n{report.table()}")
    return report


def install_safe_loader(unsafe: bool = False) -> None:
    """Make mmcv open every checkpoint through this module: ``load_from``, ``resume_from``, ``init_cfg``, URLs.

    ``init_cfg=dict(type="Pretrained")`` then also takes every published layout, logs a :class:`LoadReport` (as a
    warning where tensors have another shape), and raises where nothing fits (mmcv only warns). Config text in
    ``meta``, which mmcv's ``resume`` would execute, is moved to ``meta["config_text"]``; only the list of GPU ids
    stays. May be called again, to change ``unsafe``.
    """
    from mmcv.cnn.utils import weight_init
    from mmcv.runner import checkpoint as mmcv_checkpoint
    from mmcv.utils import get_logger

    # torch.load in mmcv's loaders for other stores has no weights_only; this variable would make it unsafe
    if not unsafe:
        os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)

    def load_local(filename: str, map_location: MapLocation = "cpu") -> dict[str, Any]:
        return _without_code(load_checkpoint_file(filename, map_location or "cpu", unsafe))

    def load_url(
        url: str, model_dir: str | None = None, map_location: MapLocation = "cpu", **_: object
    ) -> dict[str, Any]:
        folder = Path(model_dir or Path(torch.hub.get_dir()) / "checkpoints")
        cached = folder / (Path(urlparse(url).path).name or "checkpoint.pth")
        if not cached.exists():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(url, str(cached))
            except (OSError, HTTPException, RuntimeError) as error:
                raise CheckpointError(
                    f"{url}: cannot be fetched: {_first_line(error)}; fetch it where there is a network and name the "
                    f"file in place of the address (model.backbone.init_cfg.checkpoint=FILE, load_from=FILE), or "
                    f"put it at {cached}"
                ) from None
        return load_local(str(cached), map_location)

    mmcv_checkpoint.CheckpointLoader.register_scheme(prefixes="", loader=load_local, force=True)
    mmcv_checkpoint.load_url = load_url  # http(s), torchvision://, open-mmlab:// and mmcls:// all end here

    class PretrainedInit(weight_init.PretrainedInit):
        """mmcv's initialiser with our key matching and report."""

        def __call__(self, module: nn.Module) -> None:
            loaded = mmcv_checkpoint.CheckpointLoader.load_checkpoint(self.checkpoint, self.map_location or "cpu")
            report = load_into(module, loaded, prefix=self.prefix, name=str(self.checkpoint))
            level = logging.WARNING if report.mismatched else logging.INFO
            get_logger("mmcv").log(level, "init_cfg: %s", report.table())
            if hasattr(module, "_params_init_info"):
                weight_init.update_init_info(module, init_info=self._get_init_info())

    weight_init.INITIALIZERS.register_module(name="Pretrained", module=PretrainedInit, force=True)


def _unpickle(path: Path, map_location: MapLocation, unsafe: bool) -> Any:
    """What ``torch.load`` gives, or a :class:`CheckpointError` in one sentence."""
    allowed = torch.serialization.safe_globals(_harmless())
    try:
        with allowed:
            return torch.load(path, map_location=map_location, weights_only=not unsafe)
    except pickle.UnpicklingError as error:
        refusal = re.search(rf"{plain_numpy.REFUSED}(.*)", str(error))
        if refusal:
            raise CheckpointError(
                f"{path} was refused: it has {refusal[1]}, and only plain numbers and text are read. If you "
                "trust its author, open it once with --unsafe-load"
            ) from None
        names = _foreign_globals(path, str(error))
        if names:
            raise CheckpointError(
                f"{path} was refused and not run: it names {', '.join(names)}, which is code, not tensors. If you "
                f"trust its author, open it once with --unsafe-load (tools/convert_checkpoint.py --unsafe-load "
                f"{path.name} {path.stem}.safetensors keeps the tensors only)"
            ) from None
        raise CheckpointError(
            f"{path} is not a checkpoint: {_head(path) or 'it is damaged, or of another format'}"
        ) from None
    except (ImportError, AttributeError) as error:
        if not unsafe:  # nothing is imported then: the file's own structure is broken
            raise CheckpointError(
                f"{path} cannot be read as a checkpoint ({_first_line(error)}); is the download complete?"
            ) from None
        names = _foreign_globals(path, "")
        raise CheckpointError(
            f"{path} holds objects of a class that cannot be imported here ({_first_line(error)})"
            f"{'; it names ' + ', '.join(names) if names else ''}. Install the package that defines it, or save the "
            "file's state_dict alone where it was trained"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({_first_line(error)}); is the download complete?"
        ) from None


def _harmless() -> list[Any]:
    """What besides torch's own list may be made: timm's arguments, and plain numpy values."""
    return [argparse.Namespace, *plain_numpy.STAND_INS]


def _foreign_globals(path: Path, message: str) -> list[str]:
    """Names in the pickle that torch does not allow; found without running any of it."""
    try:
        with torch.serialization.safe_globals(_harmless()):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if names:
            return sorted(names)[:5]
    except Exception:  # older file layouts cannot be scanned: the loader's own message names the first
        pass
    return re.findall(r"GLOBAL ([\w.]+)", message) or re.findall(r"unrecognized function (.+)", message)


def _head(path: Path) -> str:
    """A hint from the first bytes: web pages and Git LFS pointers are what people mistake for checkpoints."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page (the link led to a page, not to the file)"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer (run git lfs pull)"
    return ""


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0][:200]


def _read_safetensors(path: Path, map_location: MapLocation) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
            meta = json.loads((file.metadata() or {}).get("meta", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {_head(path) or _first_line(error)}") from None
    if not state:
        raise CheckpointError(f"{path} holds no tensors")
    if isinstance(map_location, (str, torch.device)) and str(map_location) != "cpu":
        state = {k: v.to(map_location) for k, v in state.items()}
    return {"meta": meta if isinstance(meta, dict) else {}, "state_dict": state}


def _load_matching(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """``load_state_dict`` of what has the right shape (after the modules' own hooks); the keys that have not.

    torch copies everything that fits before it raises; the second call, without the misfits, gives modules that act
    after loading (caches of resized filters) a clean finish.
    """
    try:
        model.load_state_dict(state, strict=False)
        return []
    except RuntimeError as error:
        misfits = re.findall(r"size mismatch for (\S+?):", str(error))
        if not misfits:
            raise
    model.load_state_dict({k: v for k, v in state.items() if k not in misfits}, strict=False)
    return misfits


def _without_code(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Move ``meta["config"]``, which mmcv's ``resume`` executes, out of its way, keeping what resume reads of it."""
    meta = checkpoint.get("meta")
    if isinstance(meta, dict) and isinstance(meta.get("config"), str):
        text = meta.pop("config")
        meta["config_text"] = text
        count = _count_gpus(text)
        if count:
            meta["config"] = f"gpu_ids = {list(range(count))}"
    return checkpoint


def _count_gpus(config: str) -> int:
    """How many ids ``gpu_ids = [0, 1]`` or ``gpu_ids = range(0, 2)`` lists, read without executing; 0 if none."""
    try:
        tree = ast.parse(config)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["gpu_ids"]:
            try:
                call = node.value
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "range":
                    return min(len(range(*(ast.literal_eval(a) for a in call.args))), 4096)
                return min(len(ast.literal_eval(call)), 4096)
            except (ValueError, TypeError, SyntaxError, OverflowError):
                return 0
    return 0


def _rows(groups: Mapping[str, int], max_rows: int) -> list[str]:
    rows = [f"    {key}  x{count}" if count > 1 else f"    {key}" for key, count in groups.items()]
    return rows if len(rows) <= max_rows else [*rows[:max_rows], f"    ... and {len(rows) - max_rows} more kinds"]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _has_tensor(value: Any) -> bool:
    """Whether there is a tensor anywhere in nested containers, which may contain themselves."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            return True
        if isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value
    return False


def _grid_side(key: str, shape: tuple[int, ...]) -> int | None:
    """Side of the square grid that position embeddings (1, N, C) are for; N may count a class token."""
    if key.rpartition(".")[2] != "pos_embed" or len(shape) != 3:
        return None
    side = math.isqrt(shape[1])
    return side if shape[1] - side * side <= 1 else None


def _is_shrunk(key: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    """Whether a resized tensor has lost positions, a class token's aside."""
    before, after = _grid_side(key, theirs), _grid_side(key, ours)
    if before and after:
        return after < before
    return math.prod(ours) < math.prod(theirs)


def _resize_text(key: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> str:
    """``pos_embed 32x32 -> 14x14``, or the shapes where the grid is the same or there is none."""
    before, after = _grid_side(key, theirs), _grid_side(key, ours)
    if before and after and before != after:
        return f"{key} {before}x{before} -> {after}x{after}"
    return f"{key} {_shape(theirs)} -> {_shape(ours)}"
