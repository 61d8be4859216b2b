"""What the exported forms of all detectors share: pixels in, the best pairs of box and class out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdam_rotate.apis.exporting.errors import ExportError

__all__ = ["Pixels", "best_candidates", "expect", "take"]


class Pixels(nn.Module):
    """RGB images (B, 3, H, W), 0 to 255, to what the backbone was trained on: the test pipeline's steps.

    Args:
        steps: ``mean``, ``std`` and ``to_rgb`` as the config's Normalize step has them; ``scale``, a factor or the two
            sides that the resized image fits in; ``divisor`` of the padded sides.
    """

    def __init__(self, steps: Mapping[str, Any]) -> None:
        super().__init__()
        self.to_rgb = bool(steps.get("to_rgb", True))
        self.scale, self.divisor = steps.get("scale", 1.0), int(steps.get("divisor", 1))
        self.register_buffer("mean", torch.tensor(steps["mean"], dtype=torch.float32).view(1, 3, 1, 1))
        inverse = 1 / torch.tensor(steps["std"], dtype=torch.float64)
        self.register_buffer("inverse_std", inverse.float().view(1, 3, 1, 1))

    def seen(self, image: Tensor) -> tuple[int, int]:
        """Height and width of the resized image, before padding, as MMDetection's Resize rounds them."""
        height, width = map(int, image.shape[-2:])
        fits = self.scale
        if not isinstance(fits, Sequence):
            fits = int(height * fits), int(width * fits)
        factor = min(max(fits) / max(height, width), min(fits) / min(height, width))
        return int(height * factor + 0.5), int(width * factor + 0.5)

    def forward(self, image: Tensor) -> Tensor:
        """Resized, normalised, padded float32."""
        image = image.float()
        height, width = size = self.seen(image)
        if size != tuple(map(int, image.shape[-2:])):
            # OpenCV's pixels are whole numbers
            image = torch.floor(F.interpolate(image, size, mode="bilinear", align_corners=False) + 0.5)
        image = image if self.to_rgb else image.flip(1)
        image = (image - self.mean) * self.inverse_std
        return F.pad(image, (0, -width % self.divisor, 0, -height % self.divisor))

    def placed(self, boxes: Tensor, image: Tensor) -> Tensor:
        """Boxes (..., 5) found in the resized image, in pixels of ``image``."""
        height, width = self.seen(image)
        across, down = image.shape[-1] / width, image.shape[-2] / height
        return boxes if across == down == 1 else boxes * boxes.new_tensor([across, down, across, down, 1.0])


def best_candidates(
    boxes: Tensor, scores: Tensor, count: int, score_thr: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best ``count`` pairs of box and class of each image.

    Args:
        boxes: (B, P, 1, 5), or one for each class, (B, P, C, 5).
        scores: (B, P, C).
        count: pairs to give; all where there are fewer.
        score_thr: those above are counted.

    Returns:
        boxes (B, M, 5), scores (B, M), labels (B, M), number above ``score_thr`` (B,).
    """
    classes = scores.shape[2]
    best, index = scores.flatten(1).topk(min(count, scores.shape[1] * classes), dim=1)
    place = index if boxes.shape[2] == classes else torch.div(index, classes, rounding_mode="floor")
    return take(boxes.flatten(1, 2), place), best, index % classes, (best > score_thr).sum(1)


def take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows (B, N, d) of each image at (B, k): (B, k, d)."""
    batch, count, width = rows.shape
    index = index + torch.arange(batch)[:, None] * count
    return rows.reshape(-1, width).index_select(0, index.flatten()).view(batch, -1, width)


def expect(found: str, wanted: str, where: str) -> None:
    """Refuse a part of another kind than the exported form knows.

    Raises:
        ExportError: ``found`` is not ``wanted``.
    """
    if found != wanted:
        raise ExportError(f"{where} is {found}; the whole of a detector is exported with {wanted}")
