"""DOTA data without torch: labels, patches, merging, scoring and submissions.

Public names are resolved on first use, so that ``import fdam_rotate.dota`` loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "DOTA_CLASSES": "classes",
    "Detections": "detections",
    "EvalResult": "scoring.scores",
    "Labels": "labels",
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
