"""A trained detector, and its prediction loop over the patches of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmcv.parallel import scatter_kwargs
from mmcv.runner import wrap_fp16_model
from mmrotate.models import build_detector
from mmrotate.utils import get_root_logger

from fdam_rotate.apis.checkpoints.checkpoint import (
    CheckpointError,
    install_safe_loader,
    load_checkpoint_file,
    load_into,
)
from fdam_rotate.apis.compat import revert_sync_bn, setting_errors
from fdam_rotate.apis.runtime import Runtime
from fdam_rotate.datasets.views import turn_back
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.merging.merge import nms_polygons
from fdam_rotate.dota.progress import progress_bar

__all__ = ["load_detector", "predict", "predict_batch", "put_on"]


def load_detector(
    cfg: Any, checkpoint: str | Path, classes: Sequence[str], *, unsafe_load: bool = False
) -> torch.nn.Module:
    """The detector of ``cfg`` with the weights of ``checkpoint``, on the CPU; ``cfg`` is left without training parts.

    Args:
        cfg: MMRotate config.
        checkpoint: file, read as tensors only unless ``unsafe_load``.
        classes: of the data it is to run on.
        unsafe_load: open a checkpoint that carries code.

    Raises:
        DotaError: it was trained on other classes.
        CheckpointError: it cannot be read, or its tensors are not those of the model.
    """
    install_safe_loader(unsafe_load)
    cfg.model.train_cfg = None
    revert_sync_bn(cfg.model)
    with setting_errors("the config's model"):
        model = build_detector(cfg.model, test_cfg=cfg.get("test_cfg"))
    content = load_checkpoint_file(checkpoint, unsafe=unsafe_load)
    trained_on = content.get("meta", {}).get("CLASSES")
    if trained_on is not None and tuple(trained_on) != tuple(classes):
        raise DotaError(
            f"{checkpoint} was trained on the classes {', '.join(trained_on)}, the data set has {', '.join(classes)}"
        )
    report = load_into(model, content, name=str(checkpoint))
    if not report.exact:
        get_root_logger().warning(report.table())
    if report.missing or report.mismatched or report.unexpected:
        first = next(iter([*report.mismatched, *report.missing, *report.unexpected]))
        raise CheckpointError(
            f"the config's model is not the one that {checkpoint} was trained as: {len(report.missing)} of its tensors "
            f"are not in the file, {len(report.mismatched)} have another shape there, {len(report.unexpected)} of the "
            f"file's are not in the model, first {first}"
        )
    model.CLASSES = tuple(classes)
    return model


def put_on(model: torch.nn.Module, runtime: Runtime, cfg: Any) -> torch.nn.Module:
    """A detector on the device of ``runtime``; on a GPU as ``fp16`` and ``cudnn_benchmark`` of the config say."""
    if runtime.device == "cpu":  # which casts nothing to 16 bits by itself, whether the machine has a GPU or not
        return model.to("cpu")
    if cfg.get("fp16") is not None:
        wrap_fp16_model(model)
    if cfg.get("cudnn_benchmark"):
        torch.backends.cudnn.benchmark = True
    return model.to(f"cuda:{runtime.gpu_id}")


@torch.no_grad()
def predict_batch(model: torch.nn.Module, batch: Any) -> list[list[np.ndarray]]:
    """Results of one collated test batch, views merged; see `predict`. ``model`` is in evaluation mode."""
    device = next(model.parameters()).device
    _, (inputs,) = scatter_kwargs((), batch, [device.index if device.type == "cuda" else -1])
    views = []
    for images, metas in zip(inputs["img"], inputs["img_metas"], strict=True):
        views.append(model(return_loss=False, rescale=True, img=[images], img_metas=[metas]))
    if len(views) == 1:
        found: list[list[np.ndarray]] = views[0]
        return found
    settings = model.test_cfg.get("rcnn", model.test_cfg)
    return [
        _merge_views([found[i] for found in views], [metas[i] for metas in inputs["img_metas"]], settings)
        for i in range(len(views[0]))
    ]


def _merge_views(
    views: Sequence[Sequence[np.ndarray]], metas: Sequence[dict[str, Any]], settings: dict[str, Any]
) -> list[np.ndarray]:
    """One image's detections by class from those in its views, after the suppression that the detector itself does."""
    merged = []
    for of_class in zip(*views, strict=True):
        boxes = np.concatenate([turn_back(boxes, meta) for boxes, meta in zip(of_class, metas, strict=True)])
        kept = nms_polygons(le90_to_poly(boxes[:, :5].astype(np.float64)), boxes[:, 5], settings["nms"]["iou_thr"])
        merged.append(boxes[kept])
    return _best(merged, settings["max_per_img"])


def _best(by_class: list[np.ndarray], most: int) -> list[np.ndarray]:
    """The ``most`` best detections of an image over all classes."""
    scores = np.concatenate([boxes[:, 5] for boxes in by_class])
    if len(scores) <= most:
        return by_class
    keep = np.zeros(len(scores), bool)
    keep[np.argsort(-scores, kind="stable")[:most]] = True
    parts = np.split(keep, np.cumsum([len(boxes) for boxes in by_class])[:-1])
    return [boxes[part] for boxes, part in zip(by_class, parts, strict=True)]


def predict(
    model: torch.nn.Module, loader: Any, *, what: str = "predict", interruption: Any = None
) -> list[list[np.ndarray]] | None:
    """Results for every patch of ``loader.dataset``, in its order.

    Args:
        model: the bare detector (no parallel wrapper), on its device; left in the mode it came in.
        loader: test-mode loader; under a process group each process sees its share.
        what: label of the progress bar.
        interruption: `fdam_rotate.apis.hooks.Interruption`; asked to stop, prediction ends early.

    Returns:
        For each patch, for each class, (n, 6) float32 of cx, cy, w, h (pixels), angle (radians), score;
        None in all processes but the first, and where it was asked to stop.
    """
    grouped = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
    was_training = model.training
    model.eval()
    results: list[list[np.ndarray]] = []
    with progress_bar(len(loader.dataset), what, "patch", shown=rank == 0, mininterval=1.0) as bar:
        for batch in loader:
            found = predict_batch(model, batch)
            results.extend(found)
            bar.update(min(len(found) * world, bar.total - bar.n))
            if interruption is not None and interruption.signal is not None:
                break
    model.train(was_training)
    if interruption is not None and interruption.agreed():
        return None
    if not grouped:
        return results
    parts: list[list[list[np.ndarray]]] | None = [[] for _ in range(world)] if rank == 0 else None
    dist.gather_object(results, parts)
    # the sampler deals patches out in turn, and repeats some at the end so that all processes get as many
    return None if parts is None else [parts[i % world][i // world] for i in range(len(loader.dataset))]
