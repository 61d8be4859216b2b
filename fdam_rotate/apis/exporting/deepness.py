"""The form of a detector that Deepness, a QGIS plugin (0.6.5 and later), opens as "YOLO_Ultralytics_obb".

Input (B, 3, H, W) float32, RGB over 255; one output (B, 4 + classes + 1, N): cx, cy, w, h in pixels of the tile, the
classes' scores, and the angle in radians. The plugin suppresses overlapping boxes itself, in a slow loop, so the few
hundred best are given, near-copies (by their upright bounds, within a class) left out.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

from fdam_rotate.apis.exporting.boxes import upright_bounds
from fdam_rotate.apis.exporting.candidates import take
from fdam_rotate.apis.exporting.suppression import kept_mask
from fdam_rotate.dota.predicting.card import ModelCard

__all__ = ["DeepnessForm", "deepness_metadata"]

#: Boxes given for a tile; upright overlap above which the worse of two of a class is left out. Oriented boxes side by
#: side, ships at a pier, overlap by up to 0.7 when upright; copies of one box by more.
COUNT, NEAR_COPY = 300, 0.8


class DeepnessForm(nn.Module):
    """Candidates in the plugin's layout.

    Args:
        candidates: a module of `fdam_rotate.apis.exporting`, pixels to candidates.
        count: boxes given for a tile.
    """

    def __init__(self, candidates: nn.Module, count: int = COUNT) -> None:
        super().__init__()
        self.candidates, self.count = candidates, count

    def forward(self, image: Tensor) -> Tensor:
        """RGB over 255 (B, 3, H, W) to (B, 4 + classes + 1, N); rows without a box have scores of 0."""
        boxes, scores, labels, found = self.candidates(image * 255)
        place = torch.arange(scores.shape[1])
        scores = torch.where(place < found[:, None], scores, -torch.ones_like(scores))
        bounds = upright_bounds(boxes)
        apart = labels.to(bounds.dtype) * (bounds.amax((1, 2)) - bounds.amin((1, 2)) + 1)[:, None]
        kept = kept_mask(bounds + apart[..., None], scores, NEAR_COPY, self.count)
        scores, index = torch.where(kept > 0, scores, torch.zeros_like(scores)).topk(
            min(self.count, scores.shape[1]), dim=1
        )
        boxes = take(boxes, index)
        labels = take(labels[..., None], index)
        classes = (labels == torch.arange(int(self.candidates.classes))).to(scores.dtype) * scores[..., None]
        return torch.cat([boxes[..., :4], classes, boxes[..., 4:]], -1).transpose(1, 2)


def deepness_metadata(card: ModelCard) -> dict[str, str]:
    """What the plugin reads from a file's metadata, each value as JSON; without a GSD it asks for the resolution."""
    values = {
        "model_type": "Detector",
        "det_type": "YOLO_Ultralytics_obb",
        "class_names": {str(number): name for number, name in enumerate(card.classes)},
        "tiles_overlap": round(100 * card.gap / card.width),
        "det_conf": max(card.score_thr, 0.3),
        "det_iou_thresh": card.iou_thr,
        "standardization_mean": [0.0, 0.0, 0.0],
        "standardization_std": [1.0, 1.0, 1.0],
        # its documentation and its code differ in the name
        "tiles_size": card.width,
        "tile_size": card.width,
    }
    if card.gsd is not None:
        values["resolution"] = 100 * card.gsd
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
