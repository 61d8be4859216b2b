"""A whole detector as one ONNX file: the test pipeline, backbone, neck, heads and decoding, with a model card.

Only the last suppression, of rotated boxes, is left to `fdam_rotate.dota.predicting`, which does it exactly; no runtime
has an operator for it. Everything else is standard operators of sizes known beforehand, so that any runtime runs the
file: input ``image``, (batch, 3, H, W) uint8, RGB; outputs ``boxes`` (batch, M, 5) cx, cy, w, h (pixels), angle
(radians, clockwise on the screen), ``scores`` (batch, M) falling, ``labels`` (batch, M) and ``count`` (batch,), the
number of rows scored above the card's threshold.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import fdam_rotate
from fdam_rotate.apis.compat import setting_errors, test_data
from fdam_rotate.apis.exporting.deepness import DeepnessForm, deepness_metadata
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.one_stage import RotatedFCOSCandidates, RotatedRetinaNetCandidates
from fdam_rotate.apis.exporting.precision import calibration_windows, halve_weights, quantize_convolutions
from fdam_rotate.apis.exporting.refining import R3DetCandidates, S2ANetCandidates
from fdam_rotate.apis.exporting.roi_align import level_pool_onnx
from fdam_rotate.apis.exporting.suppression import kept_mask_onnx
from fdam_rotate.apis.exporting.two_stage import OrientedRCNNCandidates, RoITransformerCandidates
from fdam_rotate.apis.exporting.writing import (
    EXPORTER_ERRORS,
    OLD_OPSET,
    OPSET,
    check_export_target,
    reason,
    write_onnx,
)
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.predicting.card import CARD_KEY, ModelCard

__all__ = ["TOLERANCES", "DetectorReport", "candidates_of", "class_names", "export_detector", "preparation"]

#: Steps that may make several views of an image.
_VIEWS = ("FlipTurnAug", "MultiScaleFlipAug")

#: Steps of a test pipeline that an exported model does by itself, or that leave the pixels of one view alone.
_STEPS = (
    *_VIEWS, "LoadImageFromFile", "LoadAnyImage", "Resize", "RResize", "RandomFlip", "RRandomFlip", "Normalize", "Pad",
    "ImageToTensor", "DefaultFormatBundle", "Collect",
)  # fmt: skip

OUTPUTS: tuple[str, ...] = ("boxes", "scores", "labels", "count")

#: Precision of a file -> largest difference of a score from the detector's that passes a check.
TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "int8": 0.2}

#: Detectors that are exported whole, by their name in MMRotate's configs.
KINDS = {
    "OrientedRCNN": OrientedRCNNCandidates,
    "R3Det": R3DetCandidates,
    "RoITransformer": RoITransformerCandidates,
    "RotatedFCOS": RotatedFCOSCandidates,
    "RotatedRetinaNet": RotatedRetinaNetCandidates,
    "S2ANet": S2ANetCandidates,
}


@dataclass(frozen=True)
class DetectorReport:
    """What was written.

    Attributes:
        path: the file.
        card: the model card in it.
        freq_layers: how many FreqScale layers became matrix products.
        difference: largest difference of a score from the detector's in torch; None where not checked.
    """

    path: Path
    card: ModelCard
    freq_layers: int
    difference: float | None


def preparation(cfg: Any) -> dict[str, Any]:
    """What the config's test pipeline does to an image, for `fdam_rotate.apis.exporting.candidates.Pixels`.

    Raises:
        ExportError: there is no Normalize step, the pipeline makes several images of one, or it does what an exported
            model does not.
    """
    found: dict[str, Any] = {}
    steps = list(test_data(cfg).get("pipeline") or ())
    while steps:
        step = steps.pop()
        steps += step.get("transforms", [])
        _check_step(step)
        if step["type"] == "Normalize":
            found.update({key: step[key] for key in ("mean", "std", "to_rgb") if key in step})
        elif step["type"] == "Pad" and step.get("size_divisor"):
            found["divisor"] = step["size_divisor"]
        for key in {"scale_factor", "img_scale"} & step.keys():
            found.setdefault("scale", _one_scale(key, step[key]))  # that of the views goes before their own steps'
        for key in ("flip", "turns"):
            if step["type"] in _VIEWS and step.get(key):
                raise ExportError(f"data.test.pipeline: {key}={step[key]!r}; an exported model sees one view")
    if "mean" not in found:
        raise ExportError("data.test.pipeline has no Normalize step, so that it is unknown what the model expects")
    return found


def _check_step(step: Mapping[str, Any]) -> None:
    """Refuse a step that would be left out of an exported model.

    Raises:
        ExportError: naming it.
    """
    kind = step["type"]
    if kind not in _STEPS:
        raise ExportError(f"data.test.pipeline has a step {kind}, which an exported model does not do")
    filled = step.get("pad_val", 0)
    filled = filled.get("img", 0) if isinstance(filled, Mapping) else filled
    for key, plain in (
        ("keep_ratio", step.get("keep_ratio", True)),
        ("size", step.get("size") is None),
        ("pad_to_square", not step.get("pad_to_square", False)),
        ("pad_val", not np.any(filled)),
    ):
        if not plain:
            raise ExportError(
                f"data.test.pipeline: {kind} with {key}={step[key]!r}; an exported model keeps the ratio of the sides, "
                "and fills up with zeros to a multiple of size_divisor"
            )


def _one_scale(key: str, scale: Any) -> Any:
    """A step's factor or two sides, which MMDetection also takes as a list of one.

    Raises:
        ExportError: there are several.
    """
    one = scale[0] if isinstance(scale, list) and len(scale) == 1 else scale
    if key == "scale_factor":
        if isinstance(one, (int, float)) and not isinstance(one, bool):
            return float(one)
    elif isinstance(one, (list, tuple)) and len(one) == 2 and all(isinstance(side, int) for side in one):
        return tuple(one)
    raise ExportError(f"data.test.pipeline: {key}={scale!r}; an exported model has one scale")


def class_names(cfg: Any) -> tuple[str, ...]:
    """Names of the labels of the config's test data."""
    from mmdet.datasets.builder import DATASETS

    import fdam_rotate.datasets  # noqa: F401 - registers ours

    dataset = test_data(cfg)
    with setting_errors("data.test"):
        return tuple(DATASETS.get(dataset.type).get_classes(dataset.get("classes")))


def candidates_of(detector: nn.Module, steps: Mapping[str, Any], max_boxes: int | None = None) -> nn.Module:
    """The module that is exported: pixels to candidates; ``detector`` is copied.

    Raises:
        ExportError: it is of another kind, or has parts that the exported form does not know.
    """
    from fdam_rotate.models.layers.freq_scale import set_freq_impl

    kind = type(detector).__name__
    if kind not in KINDS:
        raise ExportError(
            f"{kind} is not exported whole, only {', '.join(KINDS)}; --features writes its backbone and neck"
        )
    model = KINDS[kind](copy.deepcopy(detector), steps, max_boxes).eval()
    set_freq_impl(model, "dft")
    return model


def export_detector(
    detector: nn.Module,
    path: str | Path,
    shape: Sequence[int],
    *,
    steps: Mapping[str, Any],
    classes: Sequence[str],
    config: str,
    batch: int = 1,
    gap: int = 200,
    max_boxes: int | None = None,
    checkpoint_sha256: str | None = None,
    trained_on: str | None = None,
    licence: str | None = None,
    gsd: float | None = None,
    precision: str = "float32",
    calibration: Sequence[Path] = (),
    check: bool = False,
    tolerance: float | None = None,
    deepness: bool = False,
    overwrite: bool = False,
) -> DetectorReport:
    """Write all of ``detector`` but its last suppression.

    Args:
        detector: an MMRotate detector on the CPU; it is not changed.
        path: ``.onnx``.
        shape: (H, W) of the images, in pixels; the exported model takes no other. It resizes them by itself.
        steps: of the test pipeline; see `preparation`.
        classes: names of the labels, in their order.
        config: name of the config.
        batch: images in a call, fixed too.
        gap: overlap of windows, in pixels, for the card.
        max_boxes: candidates given for an image; None: twice the number of proposals.
        checkpoint_sha256: for the card; None where the weights are random.
        trained_on: for the card.
        licence: for the card.
        gsd: for the card, in metres per pixel.
        precision: 'float32', 'float16' or 'int8'; see `fdam_rotate.apis.exporting.precision`.
        calibration: images to see the ranges of maps on, for 'int8'.
        check: run the file in onnxruntime on noise, with 'int8' on an image of ``calibration``, and compare its scores
            with the detector's in torch.
        tolerance: largest difference of a score that passes; None: that of `TOLERANCES`.
        deepness: in the form that the QGIS plugin Deepness opens; see `fdam_rotate.apis.exporting.deepness`.
        overwrite: replace ``path``.

    Raises:
        ExportError: the detector cannot be exported, or the check fails. Nothing is written then.
        OutputExistsError: ``path`` exists.
    """
    from fdam_rotate.models.layers.freq_scale import FreqScale

    path = check_export_target(path, suffixes=(".onnx",), overwrite=overwrite)
    model = candidates_of(detector, steps, max_boxes)
    if precision == "int8":
        image = torch.from_numpy(next(calibration_windows(calibration, batch, shape)))
    else:
        generator = torch.Generator().manual_seed(0)
        image = torch.randint(0, 256, (batch, 3, *shape), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        expected = model(image)  # makes the matrices of every size too: exporters cannot follow how numpy makes them
    cfg = model.test_cfg
    card = ModelCard(
        classes=tuple(classes),
        height=int(shape[0]),
        width=int(shape[1]),
        batch=batch,
        max_boxes=expected[0].shape[1],
        score_thr=float(cfg.score_thr),
        iou_thr=float(cfg.nms.iou_thr),
        max_per_image=int(cfg.max_per_img),
        gap=gap,
        detector=type(detector).__name__,
        config=config,
        precision=precision,
        checkpoint_sha256=checkpoint_sha256,
        trained_on=trained_on,
        licence=licence,
        gsd=gsd,
        versions=_versions(),
    )
    if len(card.classes) != model.classes:
        raise ExportError(f"the detector has {model.classes} classes, the data set {len(card.classes)}")
    names, metadata, scores, opset = OUTPUTS, {CARD_KEY: card.to_json()}, expected[1], OPSET
    if deepness:
        model, image, names, opset = DeepnessForm(model), image.float() / 255, ("detections",), OLD_OPSET
        metadata.update(deepness_metadata(card))
        with torch.no_grad():
            scores = model(image)[:, 4:-1]

    def quantize(file: Path) -> None:
        windows = calibration_windows(calibration, batch, shape)
        quantize_convolutions(file, (np.float32(x) / 255 for x in windows) if deepness else windows)
        halve_weights(file)

    shrink = {"float32": None, "float16": halve_weights, "int8": quantize}[precision]
    with atomic_path(path) as temporary:
        try:
            write_onnx(model, image, temporary, names, metadata, _translations(), opset, shrink)
        except DotaError:
            raise
        except EXPORTER_ERRORS as error:
            raise ExportError(f"{card.detector} cannot be exported: {reason(error)}") from error
        difference = None
        if check:
            found = _run(temporary, image.numpy(), names)
            found_scores = found[0][:, 4:-1] if deepness else found[1]
            difference = float(np.abs(found_scores - scores.numpy()).max())
            most = TOLERANCES[precision] if tolerance is None else tolerance
            if not difference <= most:
                raise ExportError(
                    f"the exported model's scores differ from the detector's by {difference:.2g}, more than "
                    f"{most:g}; {path} was not written"
                )
    count = sum(isinstance(module, FreqScale) for module in detector.modules())
    return DetectorReport(path, card, count, difference)


def _translations() -> dict[Any, Any]:
    """How this package's own operations are written in ONNX's."""
    own = torch.ops.fdam_rotate
    return {own.kept_mask.default: kept_mask_onnx, own.level_pool.default: level_pool_onnx}


def _run(path: Path, image: NDArray[Any], names: Sequence[str]) -> list[NDArray[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # what it cannot fold is no news to a user
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[Any]] = session.run(list(names), {"image": image})
    return outputs


def _versions() -> dict[str, str]:
    import mmrotate
    import onnx

    return {
        "fdam_rotate": fdam_rotate.__version__,
        "mmrotate": mmrotate.__version__,
        "onnx": onnx.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
