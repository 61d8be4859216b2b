"""Effective rank and mutual similarity of features by depth: how far representations have collapsed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fdam_rotate.apis.analysis.features import record_layers

__all__ = ["LayerRank", "effective_rank", "layer_ranks", "mean_cosine_similarity"]

ROWS = 8192  # of a factorisation at a time; 65536 places of a large map would otherwise take several copies in float64


@dataclass(frozen=True)
class LayerRank:
    """Means over images for one layer.

    Attributes:
        name: module name.
        shape: (C, h, w) of its maps, of the last image.
        effective_rank: see :func:`effective_rank`.
        relative_rank: the same over the largest it could be, the lesser of C and h * w.
        cosine: see :func:`mean_cosine_similarity`.
    """

    name: str
    shape: tuple[int, int, int]
    effective_rank: float
    relative_rank: float
    cosine: float


def effective_rank(features: Tensor) -> float:
    """Exponential of the entropy of the singular values over their sum (Roy and Vetterli, EUSIPCO 2007).

    Args:
        features: (N, C): one row for each place. Not centred.

    Returns:
        1 where all rows are multiples of one, k where k singular values are equal and the rest zero; 0 for all zeros.
        At most the lesser of N and C.
    """
    values = _singular_values(features)
    total = values.sum()
    if total == 0:
        return 0.0
    p = values / total
    p = p[p > 1e-12]  # what is left of zero after rounding
    return float(torch.exp(-(p * p.log()).sum()))


def _singular_values(features: Tensor) -> Tensor:
    """All min(N, C) singular values of (N, C), in float64.

    They are those of the triangle R of a QR factorisation, which is made a block of rows at a time. The Gram matrix
    would square them, and lose those below 1e-8 of the largest.
    """
    tall = features if features.shape[0] >= features.shape[1] else features.T
    triangle = tall.new_zeros((0, tall.shape[1]), dtype=torch.float64)
    for block in tall.split(ROWS):
        triangle = torch.linalg.qr(torch.cat([triangle, block.double()]), mode="r").R
    return torch.linalg.svdvals(triangle)


def mean_cosine_similarity(features: Tensor) -> float:
    """Mean cosine between the rows of (N, C), over all pairs of different rows; rows of zeros are left out.

    1 where all places look the same. NaN with fewer than two rows. The sum over pairs is that of the squared length of
    the sum of unit rows, so that no N x N matrix is made.
    """
    matrix = features.double()
    norms = matrix.norm(dim=1)
    units = matrix[norms > 0] / norms[norms > 0, None]
    count = len(units)
    if count < 2:
        return float("nan")
    return float((units.sum(0).square().sum() - count) / (count * (count - 1)))


def layer_ranks(model: nn.Module, images: Iterable[Tensor], layers: Sequence[str]) -> list[LayerRank]:
    """Rank and similarity of ``layers``, in the order in which they run, averaged over ``images`` ((1, 3, H, W) each).

    Args:
        model: detector in eval mode.
        images: normalised images.
        layers: module names.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    shapes: dict[str, tuple[int, int, int]] = {}

    def use(name: str, maps: Tensor) -> None:
        channels, height, width = maps.shape[1:]
        shapes[name] = (channels, height, width)
        places = maps[0].flatten(1).T
        rank = effective_rank(places)
        found.setdefault(name, []).append((rank, rank / min(places.shape), mean_cosine_similarity(places)))

    for image in images:
        record_layers(model, image, layers, use)
    return [LayerRank(name, shapes[name], *map(float, np.mean(rows, axis=0))) for name, rows in found.items()]
