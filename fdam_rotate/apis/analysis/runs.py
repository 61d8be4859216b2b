"""What spectrum and feature rank measure: a detector, itself with FDAM switched off or another one; and their rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from fdam_rotate.apis.analysis.features import (
    build_model,
    check_layers,
    default_layers,
    has_fdam,
    list_images,
    load_images,
    without_fdam,
)
from fdam_rotate.apis.runtime import find_device
from fdam_rotate.dota.outputs import claim_folder
from fdam_rotate.dota.progress import progress_bar

__all__ = ["join_layers", "layer_names", "layer_table", "measure_runs", "to_json"]


class Layer(Protocol):
    """What is measured of a layer; ``shape`` is (C, h, w)."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...


T = TypeVar("T", bound=Layer)


def measure_runs(
    measure: Callable[[nn.Module, Iterable[Tensor], Sequence[str]], list[T]],
    config: Path,
    checkpoint: Path | None,
    images: Path,
    out: Path,
    *,
    second: Sequence[Path] | None = None,
    layers: Sequence[str] | None = None,
    size: int = 512,
    max_images: int = 16,
    device: str = "auto",
    names: Sequence[str] = (),
    overwrite: bool = False,
    unsafe: bool = False,
) -> dict[str, list[T]]:
    """Name of each model -> ``measure(model, images, layers)``.

    ``out`` is made for the files ``names``, or refused, before a model is built.

    A model with FDAM is measured a second time with FDAM switched off, unless ``second``, a config and its checkpoint,
    is measured beside it.
    """
    where = find_device(device)
    paths = list_images(images, max_images)
    inputs = [config, checkpoint, images, *(second or ())]
    claim_folder(out, names, own=names, overwrite=overwrite, inputs=inputs)
    runs: dict[str, list[T]] = {}

    def add(name: str, model: nn.Module, norm: dict) -> None:
        model.to(where)
        with progress_bar(len(paths), name, "image", shown=True) as bar:

            def batches() -> Iterator[Tensor]:
                for image in load_images(paths, size, norm):
                    yield image.to(where)
                    bar.update()

            runs[name] = measure(model, batches(), layers or default_layers(model))

    model, cfg = build_model(config, checkpoint, unsafe=unsafe)
    norm = cfg.get("img_norm_cfg", {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True})
    with_fdam = has_fdam(model)
    check_layers(model, layers or ())
    if second is not None:
        other, other_cfg = build_model(*second, unsafe=unsafe)
        check_layers(other, layers or ())
        name, other_name = config.stem, second[0].stem
        add(name, model, norm)
        add(other_name if other_name != name else f"{name} (2)", other, other_cfg.get("img_norm_cfg", norm))
    else:
        add("with FDAM" if with_fdam else config.stem, model, norm)
        if with_fdam:
            add("FDAM off", without_fdam(model), norm)
    return runs


def layer_names(runs: Mapping[str, Sequence[Layer]]) -> list[str]:
    """Names of the layers of all runs, each once, in the order of depth.

    What only a later run has stands before the layer that follows it there, so that ``block1.2`` comes between
    ``block1.1`` and ``block2.0``, and blocks of another kind before the neck.
    """
    names: list[str] = []
    for layers in runs.values():
        place = len(names)
        for layer in reversed(layers):
            if layer.name in names:
                place = names.index(layer.name)
            else:
                names.insert(place, layer.name)
    return names


def join_layers(runs: Mapping[str, Sequence[T]]) -> list[tuple[str, list[T | None]]]:
    """Each name of :func:`layer_names` with the layer of that name in every run, None where a run lacks it."""
    by_name = [{layer.name: layer for layer in layers} for layers in runs.values()]
    return [(name, [layers.get(name) for layers in by_name]) for name in layer_names(runs)]


def layer_table(runs: Mapping[str, Sequence[T]], cell: Callable[[T], str]) -> list[str]:
    """Lines of a table: a row per layer, a column per run with ``cell(layer)``, or ``-`` where the run lacks the layer.

    Shapes that differ between runs stand side by side.
    """
    rows = [["layer", "shape", *runs]]
    for name, group in join_layers(runs):
        shapes = dict.fromkeys("x".join(map(str, layer.shape)) for layer in group if layer is not None)
        rows.append([name, " / ".join(shapes), *("-" if layer is None else cell(layer) for layer in group)])
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return ["  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows]


def to_json(rows: Any) -> str:
    """``rows`` as JSON, with ``null`` for NaN and infinities, which JSON does not have."""
    return json.dumps(_finite(rows), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
