"""Features of a trained model, layer by layer, on images from a folder."""

from __future__ import annotations

import copy
import difflib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fdam_rotate.apis.checkpoints.checkpoint import load_into
from fdam_rotate.apis.compat import load_config, revert_sync_bn, setting_errors
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.layout import IMAGE_SUFFIXES, image_files
from fdam_rotate.dota.rasters.images import read_image

__all__ = [
    "build_model",
    "check_layers",
    "default_layers",
    "has_fdam",
    "list_images",
    "load_images",
    "record_layers",
    "to_maps",
    "without_fdam",
]

#: LSKNet and VAN call blocks block1.0; ViT blocks.0; MiT layers.0.1.0; Swin stages.0.blocks.1; ResNet layer1.0
BLOCKS = re.compile(r"backbone\.(block\d+\.\d+|blocks\.\d+|layers\.\d+\.1\.\d+|stages\.\d+\.blocks\.\d+|layer\d+\.\d+)")
FDAM_SWITCHES = ("lf_gamma", "hf_gamma", "complex_weights")


def build_model(
    config: str | Path,
    checkpoint: str | Path | None = None,
    *,
    unsafe: bool = False,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> tuple[nn.Module, Any]:
    """The detector of a config in eval mode, and the config, with ``options`` merged in as ``--cfg-options``.

    Without a checkpoint the weights are random (seeded, ``init_cfg`` without pretrained files). With one, tensors that
    are missing or refused are an error: an analysis of half a model would mean nothing.

    Raises:
        CheckpointError: the checkpoint does not fit the model exactly.
    """
    from mmrotate.models import build_detector

    import fdam_rotate.models  # noqa: F401 - registers ours

    cfg = load_config(config, options, needs=("model",))
    revert_sync_bn(cfg.model)
    cfg.model.backbone.init_cfg = None
    logging.getLogger("mmcv").setLevel(logging.ERROR)  # one line for each parameter otherwise
    torch.manual_seed(seed)
    with setting_errors(f"{config}: model"):
        model = build_detector(copy.deepcopy(cfg.model), train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
        model.init_weights()
    if checkpoint is not None:
        load_into(model, checkpoint, strict=True, unsafe=unsafe)
    return model.eval(), cfg


def has_fdam(model: nn.Module) -> bool:
    """Whether any parameter belongs to AttInv or FreqScale."""
    return any(name.endswith(FDAM_SWITCHES) for name, _ in model.named_parameters())


def without_fdam(model: nn.Module) -> nn.Module:
    """A copy with AttInv's gammas and FreqScale's filters at zero: the same weights, FDAM switched off."""
    plain = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name.endswith(FDAM_SWITCHES):
                parameter.zero_()
    return plain.eval()


def list_images(folder: str | Path, limit: int | None = None) -> list[Path]:
    """Image files of ``folder`` in the order of their names, the first ``limit`` of them.

    Raises:
        FileNotFoundError: there is no such folder.
        DotaError: it holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of images: {folder}")
    found = image_files(folder)
    if not found:
        raise DotaError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return found[:limit]


def load_images(paths: Sequence[Path], size: int, norm: dict[str, Any]) -> Iterator[Tensor]:
    """Each image as (1, 3, size, size) float32, normalised as the config's ``img_norm_cfg`` says.

    The centre is cut out; images smaller than ``size`` are mirrored at their borders, so that no edge is added.
    """
    mean, std = (np.array(norm[k], dtype=np.float32) for k in ("mean", "std"))
    for path in paths:
        image: np.ndarray = read_image(path)[0]
        height, width = image.shape[:2]
        if min(height, width) < size:
            down, right = max(size - height, 0), max(size - width, 0)
            image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REFLECT)
            height, width = image.shape[:2]
        top, left = (height - size) // 2, (width - size) // 2
        image = image[top : top + size, left : left + size].astype(np.float32)
        if norm.get("to_rgb", True):
            image = image[..., ::-1]
        yield torch.from_numpy(np.ascontiguousarray(((image - mean) / std).transpose(2, 0, 1)))[None]


def default_layers(model: nn.Module) -> list[str]:
    """Names of the backbone's blocks, in order, then the neck where there is one.

    Raises:
        DotaError: no block is recognised by its name; give a pattern then.
    """
    names = [name for name, _ in model.named_modules() if BLOCKS.fullmatch(name)]
    if not names:
        raise DotaError(f"no block of {type(model.backbone).__name__} is known by its name; name layers with --layers")
    return names + (["neck"] if getattr(model, "with_neck", False) else [])


def check_layers(model: nn.Module, layers: Sequence[str]) -> None:
    """Refuse names that no module of ``model`` has.

    Raises:
        DotaError: says which, and some that there are.
    """
    known = [name for name, _ in model.named_modules() if name]
    if unknown := [name for name in layers if name not in known]:
        blocks = [name for name in known if BLOCKS.fullmatch(name) or name == "neck"]
        alike = [near for name in unknown for near in difflib.get_close_matches(name, blocks or known, n=3)]
        named = list(dict.fromkeys([*alike, *(blocks or known)]))[:5]
        raise DotaError(
            f"no layer {', '.join(unknown)} in {type(model).__name__}; it has {', '.join(named)} and others"
        )


@torch.no_grad()
def record_layers(model: nn.Module, image: Tensor, layers: Sequence[str], use: Callable[[str, Tensor], None]) -> None:
    """Run ``model.extract_feat(image)`` and hand each layer's output, as maps, to ``use(name, maps)``.

    A layer with several outputs (the neck) is handed over once for each, as ``neck.0``, ``neck.1`` ...

    Args:
        model: detector in eval mode.
        image: (1, 3, H, W) on the model's device.
        layers: module names, as :func:`default_layers` gives them.
        use: called with (B, C, h, w) tensors as soon as they are there; nothing is kept.

    Raises:
        DotaError: a layer is not in the model, does not run in backbone or neck, or gives no maps.
    """
    check_layers(model, layers)
    modules = dict(model.named_modules())
    seen: set[str] = set()

    def hook(name: str) -> Callable[..., None]:
        def run(_module: nn.Module, _inputs: Any, output: Any) -> None:
            several = isinstance(output, (tuple, list))
            for i, part in enumerate(output if several else [output]):
                if isinstance(part, Tensor) and part.dim() in (3, 4):
                    use(f"{name}.{i}" if several else name, to_maps(part, image.shape[-2:]))
                    seen.add(name)

        return run

    handles = [modules[name].register_forward_hook(hook(name)) for name in layers]
    try:
        model.extract_feat(image)
    finally:
        for handle in handles:
            handle.remove()
    if silent := [name for name in layers if name not in seen]:
        raise DotaError(
            f"no maps from {', '.join(silent)}: only layers of backbone and neck run, and some give no maps"
        )


def to_maps(output: Tensor, image_size: Sequence[int]) -> Tensor:
    """(B, C, h, w) float32 of maps, or of tokens (B, N, C) that lie on a grid of the image's shape.

    Raises:
        DotaError: N tokens do not make such a grid.
    """
    if output.dim() == 4:
        return output.float()
    count, (height, width) = output.shape[1], image_size
    rows = round((count * height / width) ** 0.5)
    if rows == 0 or count % rows:
        raise DotaError(f"{count} tokens do not lie on a grid of an image of {height} x {width}")
    return output.transpose(1, 2).unflatten(2, (rows, count // rows)).float()
