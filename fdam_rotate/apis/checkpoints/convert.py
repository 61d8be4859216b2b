"""Published checkpoints turned into files that hold exactly one model's tensors, under its own keys."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fdam_rotate.apis.checkpoints.checkpoint import (
    CheckpointError,
    LoadReport,
    check_target,
    load_checkpoint_file,
    load_into,
    save_checkpoint_file,
)
from fdam_rotate.apis.checkpoints.checkpoint_keys import find_state_dict, match_keys
from fdam_rotate.dota.files import sha256_of

__all__ = ["TARGETS", "convert_checkpoint", "infer_backbone", "licence_note"]

LICENCES = {
    "spatial_gating_unit": "LSKNet's authors publish their weights under CC BY-NC 4.0 (no commercial use)",
    "attn.attn.in_proj_weight": "SegFormer's weights are under NVIDIA's Source Code License (no commercial use)",
    "attn.qkv.weight": "DeiT-III's weights are under Apache-2.0; FDAM's repository names no licence for its own",
}


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    to: str | None = None,
    config: str | Path | None = None,
    unsafe: bool = False,
    drop_refused: bool = False,
    overwrite: bool = False,
) -> LoadReport | None:
    """Read ``source``, keep the tensors that the target model has a place for, and write ``target``.

    Optimizer state, EMA copies, classifier heads and (with ``to``) the rest of a detector are left behind. Tensors that
    the model has and the file lacks are not written: they start as the model starts them.

    Args:
        source: .pth, .pt, .tar or .safetensors file, in any layout that ``checkpoint_keys`` lists.
        target: .pth, .pt or .safetensors file to write.
        to: one of :data:`TARGETS`; its size (T, S, ...) is read off the tensors.
        config: a detector's config file instead of ``to``. Without either, every tensor is kept as it is named.
        unsafe: open a pickle that carries code.
        drop_refused: write what fits although tensors are refused.
        overwrite: replace ``target``.

    Returns:
        What was loaded, is new, was refused and dropped; None without ``to`` and ``config``.

    Raises:
        CheckpointError: tensors of the file are refused and ``drop_refused`` is False, or nothing fits.
        OutputExistsError: ``target`` exists.
    """
    check_target(target, overwrite=overwrite, inputs=[source, config])
    checkpoint = load_checkpoint_file(source, unsafe=unsafe)
    state, _ = find_state_dict(checkpoint)
    meta = _plain_meta(checkpoint.get("meta"), Path(source), licence_note(state))
    if to is None and config is None:
        save_checkpoint_file(target, state, meta, overwrite=overwrite)
        return None
    model = _build(state, to, config)
    report = load_into(model, checkpoint, name=str(source))
    if (report.unexpected or report.mismatched) and not drop_refused:
        raise CheckpointError(
            f"{target} not written: {len(report.unexpected) + len(report.mismatched)} tensors of {source} were "
            f"refused; --drop-refused writes the rest\n{report.table()}"
        )
    spelled = match_keys(state, model.state_dict().keys()).state
    save_checkpoint_file(target, {k: spelled[k] for k in report.loaded}, meta, overwrite=overwrite)
    return report


def infer_backbone(state: Mapping[str, Tensor], to: str) -> dict[str, Any]:
    """Constructor settings (a config dict) of backbone ``to`` whose tensors ``state`` holds, under any prefix.

    Raises:
        CheckpointError: ``state`` holds no backbone of that family.
    """
    marker, infer = TARGETS[to]
    prefix = next((key.removesuffix(marker) for key in state if key.endswith(marker)), None)
    if prefix is None:
        raise CheckpointError(f"no {to} in the file: none of its tensors is named ...{marker}")
    return {"type": to, **infer({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})}


def licence_note(state: Mapping[str, Tensor]) -> str:
    """What is known of the licence of published weights with such keys; conversion changes none of it."""
    return next((note for mark, note in LICENCES.items() if any(mark in key for key in state)), "")


def _build(state: Mapping[str, Tensor], to: str | None, config: str | Path | None) -> Any:
    """The model to fill, with no pretrained weights asked for."""
    import mmrotate.models

    import fdam_rotate.models  # noqa: F401 - registers the backbones
    from fdam_rotate.apis.compat import load_config, revert_sync_bn, setting_errors

    if to is not None:
        return mmrotate.models.build_backbone(infer_backbone(state, to))
    cfg = load_config(config, needs=("model",))
    revert_sync_bn(cfg.model)
    cfg.model.backbone.init_cfg = None
    with setting_errors(f"{config}: model"):
        return mmrotate.models.build_detector(cfg.model, train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))


def _lsknet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    dims = [state[f"patch_embed{i}.proj.weight"].shape[0] for i in range(1, 5)]
    return {
        "in_channels": state["patch_embed1.proj.weight"].shape[1],
        "embed_dims": dims,
        "depths": [_count(state, rf"block{i}\.(\d+)\.") for i in range(1, 5)],
        "mlp_ratios": [state[f"block{i}.0.mlp.fc1.weight"].shape[0] // dim for i, dim in enumerate(dims, 1)],
    }


def _vit(state: Mapping[str, Tensor]) -> dict[str, Any]:
    dim, channels, _, patch = state["patch_embed.proj.weight"].shape
    grid = math.isqrt(state["pos_embed"].shape[1])  # a class token's position, if any, makes one more than a square
    return {
        "arch": {"embed_dims": dim, "depth": _count(state, r"blocks\.(\d+)\."), "num_heads": dim // 64},
        "img_size": grid * patch,
        "patch_size": patch,
        "in_channels": channels,
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
    }


def _mit(state: Mapping[str, Tensor]) -> dict[str, Any]:
    dim, channels = state["layers.0.0.projection.weight"].shape[:2]
    return {
        "arch": {"embed_dims": dim, "depths": [_count(state, rf"layers\.{i}\.1\.(\d+)\.") for i in range(4)]},
        "in_channels": channels,
        "mlp_ratio": state["layers.0.1.0.ffn.layers.0.weight"].shape[0] // dim,
    }


TARGETS: dict[str, tuple[str, Callable[[Mapping[str, Tensor]], dict[str, Any]]]] = {
    "LSKNet": ("block1.0.attn.spatial_gating_unit.conv0.weight", _lsknet),
    "LSKNetFDAM": ("block1.0.attn.spatial_gating_unit.conv0.weight", _lsknet),
    "ViTFDAM": ("blocks.0.attn.qkv.weight", _vit),
    "MiTFDAM": ("layers.0.0.projection.weight", _mit),
}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many blocks there are: the numbers that ``pattern`` finds at the start of keys run from 0."""
    return 1 + max(int(found[1]) for key in state if (found := re.match(pattern, key)))


def _plain_meta(meta: Any, source: Path, note: str) -> dict[str, Any]:
    """What is worth keeping of a checkpoint's ``meta``, as JSON's types, and where the tensors came from."""
    kept: dict[str, Any] = {}
    if isinstance(meta, Mapping):
        for key in ("CLASSES", "PALETTE"):
            if isinstance(meta.get(key), (list, tuple)):
                kept[key] = [list(v) if isinstance(v, (list, tuple)) else v for v in meta[key]]
        for key in ("epoch", "iter"):
            if meta.get(key) is not None:
                kept[key] = int(meta[key])
    return {**kept, "source": source.name, "source_sha256": sha256_of(source), "licence": note}
