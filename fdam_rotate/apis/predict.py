"""Prediction on whole images with a checkpoint: the torch detector behind `fdam_rotate.dota.predicting`'s interface."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.parallel import collate
from mmcv.utils import import_modules_from_strings
from mmdet.datasets.builder import DATASETS
from mmdet.datasets.pipelines import Compose
from mmrotate.utils import setup_multi_processes

from fdam_rotate.apis.compat import setting_errors, steps_for_batches, test_data
from fdam_rotate.apis.inference import load_detector, predict_batch, put_on
from fdam_rotate.apis.precision import set_precision
from fdam_rotate.apis.runtime import start_runtime
from fdam_rotate.apis.train import check_classes
from fdam_rotate.datasets.views import check_views
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import sha256_of
from fdam_rotate.dota.predicting.model import Found
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.host.quiet import restore_quietly

__all__ = ["TorchModel"]


class TorchModel:
    """A detector of MMRotate and its test pipeline, as `fdam_rotate.dota.predicting.model.WindowModel`.

    Args:
        cfg: MMRotate config; its test pipeline and classes are used.
        checkpoint: file, read as tensors only unless ``unsafe_load``.
        batch_size: the most windows that it will get at a time.
        device: as for ``start_runtime``.
        precision: as for ``set_precision``.
        unsafe_load: open a checkpoint that carries code.

    Attributes:
        raster: how the config's test set reads rasters.
        score_thr, iou_thr: of the detector's last step: lower scores, and greater overlaps within a window, are not
            reported.

    Raises:
        DotaError: the config's parts do not fit each other.
    """

    def __init__(
        self,
        cfg: Any,
        checkpoint: str | Path,
        *,
        batch_size: int = 1,
        device: str = "auto",
        precision: str = "fp32",
        unsafe_load: bool = False,
    ) -> None:
        dataset = test_data(cfg)
        with setting_errors("data.test"):
            self.classes: tuple[str, ...] = tuple(DATASETS.get(dataset.type).get_classes(dataset.get("classes")))
        check_classes(cfg.model, self.classes)
        last = cfg.model.get("test_cfg") or {}
        last = last.get("rcnn") or last
        self.score_thr, self.iou_thr = float(last.get("score_thr", 0)), float((last.get("nms") or {}).get("iou_thr", 1))
        self.raster = RasterOptions(dataset.get("bands"), dataset.get("scale_range", "auto"))
        self.identity: Mapping[str, Any] = {
            "checkpoint": sha256_of(checkpoint),
            "model": hashlib.sha256(repr((cfg.model, dataset.pipeline)).encode()).hexdigest(),
            "precision": precision,
        }
        with setting_errors("data.test.pipeline"):
            self._pipeline = _pipeline(dataset.pipeline, batch_size)
        self._cfg, self._checkpoint, self._device = cfg, Path(checkpoint).absolute(), device
        self._unsafe_load = unsafe_load
        self._precision = precision
        self._model: torch.nn.Module | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return restore_quietly, (type(self).__module__, type(self).__name__, pickle.dumps(vars(self)))

    def prepare(self, threads: int | None = None) -> None:
        """Build the detector and load the checkpoint, onto the device; ``threads``: of torch.

        Raises:
            DotaError: the checkpoint does not fit.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        if self._cfg.get("custom_imports"):  # a worker has the settings, but did not read the file
            import_modules_from_strings(**self._cfg.custom_imports)
        runtime = start_runtime("none", self._device)
        setup_multi_processes(self._cfg)
        model = load_detector(self._cfg, self._checkpoint, self.classes, unsafe_load=self._unsafe_load)
        self._model = set_precision(put_on(model, runtime, self._cfg).eval(), self._precision)

    def detect(self, windows: Sequence[np.ndarray]) -> list[Found]:
        """The detections in each of some windows (H, W, 3), blue, green, red, in pixels of the window."""
        if self._model is None:
            self.prepare()
        inputs = [self._pipeline({"img": patch}) for patch in windows]
        return [
            Found(
                boxes=np.concatenate([boxes[:, :5] for boxes in result]),
                scores=np.concatenate([boxes[:, 5] for boxes in result]),
                labels=np.repeat(np.arange(len(result)), [len(boxes) for boxes in result]),
            )
            for result in predict_batch(self._model, collate(inputs, samples_per_gpu=len(inputs)))
        ]


def _pipeline(steps: Sequence[dict[str, Any]], batch_size: int) -> Compose:
    """The test pipeline, fed with pixels instead of file names.

    Raises:
        DotaError: it does not begin by loading an image.
    """
    steps = copy.deepcopy(list(steps))
    check_views(steps)
    if batch_size > 1:
        steps = steps_for_batches(steps)
    first = steps[0]["type"] if steps else "nothing"
    if first != "LoadImageFromFile":
        raise DotaError(f"the test pipeline begins with {first}; LoadImageFromFile is expected")
    return Compose([{"type": "LoadImageFromWebcam"}, *steps[1:]])
