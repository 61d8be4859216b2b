"""DOTA data without torch: labels, patches, merging, scoring and submissions.

Public names are resolved on first use, so that ``import fdam_rotate.dota`` loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what __getattr__ gives at run time, for type checkers and editors
    from fdam_rotate.dota.classes import DOTA_CLASSES as DOTA_CLASSES
    from fdam_rotate.dota.classes import resolve_classes as resolve_classes
    from fdam_rotate.dota.detections import Detections as Detections
    from fdam_rotate.dota.detections import read_detections as read_detections
    from fdam_rotate.dota.detections import write_detections as write_detections
    from fdam_rotate.dota.geometry import pairwise_iou as pairwise_iou
    from fdam_rotate.dota.geometry import polygon_iou as polygon_iou
    from fdam_rotate.dota.labels import Labels as Labels
    from fdam_rotate.dota.labels import read_label_dir as read_label_dir
    from fdam_rotate.dota.labels import read_labels as read_labels
    from fdam_rotate.dota.labels import write_labels as write_labels
    from fdam_rotate.dota.merging.fusion import fuse_boxes as fuse_boxes
    from fdam_rotate.dota.merging.merge import merge_patches as merge_patches
    from fdam_rotate.dota.merging.merge import nms_polygons as nms_polygons
    from fdam_rotate.dota.merging.options import MergeOptions as MergeOptions
    from fdam_rotate.dota.problems import Problem as Problem
    from fdam_rotate.dota.scoring.evaluation import evaluate as evaluate
    from fdam_rotate.dota.scoring.scores import EvalResult as EvalResult
    from fdam_rotate.dota.submission import check_submission as check_submission
    from fdam_rotate.dota.submission import write_submission as write_submission
    from fdam_rotate.dota.windows import parse_patch_name as parse_patch_name
    from fdam_rotate.dota.windows import slide_windows as slide_windows

_PUBLIC = {
    "DOTA_CLASSES": "classes",
    "Detections": "detections",
    "EvalResult": "scoring.scores",
    "Labels": "labels",
    "MergeOptions": "merging.options",
    "Problem": "problems",
    "check_submission": "submission",
    "evaluate": "scoring.evaluation",
    "fuse_boxes": "merging.fusion",
    "merge_patches": "merging.merge",
    "nms_polygons": "merging.merge",
    "pairwise_iou": "geometry",
    "parse_patch_name": "windows",
    "polygon_iou": "geometry",
    "read_detections": "detections",
    "read_label_dir": "labels",
    "read_labels": "labels",
    "resolve_classes": "classes",
    "slide_windows": "windows",
    "write_detections": "detections",
    "write_labels": "labels",
    "write_submission": "submission",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
