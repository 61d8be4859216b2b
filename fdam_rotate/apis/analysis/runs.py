"""What spectrum and feature rank measure: a detector, itself with FDAM switched off, and perhaps another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn
from tqdm import tqdm

from fdam_rotate.apis.analysis.features import (
    build_model,
    default_layers,
    has_fdam,
    list_images,
    load_images,
    without_fdam,
)
from fdam_rotate.dota.files import prepare_output_dir

__all__ = ["measure_runs"]

T = TypeVar("T")


def measure_runs(
    measure: Callable[[nn.Module, Iterable[Tensor], Sequence[str]], list[T]],
    config: Path,
    checkpoint: Path | None,
    images: Path,
    out: Path,
    *,
    versus: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    size: int = 512,
    max_images: int = 16,
    device: str = "cpu",
    overwrite: bool = False,
    unsafe: bool = False,
) -> dict[str, list[T]]:
    """Name of each model -> ``measure(model, images, layers)``; ``out`` is made, or refused, before a model is built.

    A model with FDAM is measured a second time with FDAM switched off, unless ``versus`` names what to compare with.
    """
    paths = list_images(images, max_images)
    prepare_output_dir(out, overwrite=overwrite)
    runs: dict[str, list[T]] = {}

    def add(name: str, model: nn.Module, norm: dict) -> None:
        model.to(device)
        batches = (image.to(device) for image in tqdm(load_images(paths, size, norm), name, len(paths), unit="image"))
        runs[name] = measure(model, batches, layers or default_layers(model))

    model, cfg = build_model(config, checkpoint, unsafe=unsafe)
    norm = cfg.get("img_norm_cfg", {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True})
    with_fdam = has_fdam(model)
    if versus is not None:
        other, other_cfg = build_model(*versus, unsafe=unsafe)
        first, second = config.stem, Path(versus[0]).stem
        add(first, model, norm)
        add(second if second != first else f"{second} (2)", other, other_cfg.get("img_norm_cfg", norm))
    else:
        add("with FDAM" if with_fdam else config.stem, model, norm)
        if with_fdam:
            add("FDAM off", without_fdam(model), norm)
    return runs
