"""What the exported forms of all detectors share: pixels in, the best pairs of box and class out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fdam_rotate.apis.exporting.errors import ExportError

__all__ = ["Pixels", "best_candidates", "expect", "take"]


class Pixels(nn.Module):
    """RGB images (B, 3, H, W), 0 to 255, to what the backbone was trained on.

    Args:
        norm: ``mean``, ``std`` (three numbers each) and ``to_rgb``, as the config's Normalize step has them.
    """

    def __init__(self, norm: Mapping[str, Any]) -> None:
        super().__init__()
        self.to_rgb = bool(norm.get("to_rgb", True))
        self.register_buffer("mean", torch.tensor(norm["mean"], dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("inverse_std", 1 / torch.tensor(norm["std"], dtype=torch.float64).float().view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Normalised float32 of the same shape."""
        image = image.float() if self.to_rgb else image.float().flip(1)
        return (image - self.mean) * self.inverse_std


def best_candidates(
    boxes: Tensor, scores: Tensor, count: int, score_thr: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best ``count`` pairs of box and class of each image.

    Args:
        boxes: (B, P, 1, 5), or one for each class, (B, P, C, 5).
        scores: (B, P, C).
        count: pairs to give.
        score_thr: those above are counted.

    Returns:
        boxes (B, count, 5), scores (B, count), labels (B, count), number above ``score_thr`` (B,).
    """
    classes = scores.shape[2]
    best, index = scores.flatten(1).topk(count, dim=1)
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
