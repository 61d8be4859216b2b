"""Effective rank and mutual similarity of features by depth: how far representations have collapsed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fdam_rotate.apis.analysis.features import record_layers

__all__ = ["LayerRank", "effective_rank", "layer_ranks", "mean_cosine_similarity"]


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
    """
    matrix = features.double()
    values = torch.linalg.svdvals(matrix)
    total = values.sum()
    if total == 0:
        return 0.0
    p = values / total
    p = p[p > 1e-12]  # what is left of zero after rounding
    return float(torch.exp(-(p * p.log()).sum()))


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


def layer_ranks(
    model: nn.Module, images: Iterable[Tensor], layers: Sequence[str], max_places: int = 1024
) -> list[LayerRank]:
    """Rank and similarity of ``layers``, in the order in which they run, averaged over ``images`` ((1, 3, H, W) each).

    Args:
        model: detector in eval mode.
        images: normalised images.
        layers: module names.
        max_places: maps with more places are sampled on a regular grid of at most as many, for the singular values.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    shapes: dict[str, tuple[int, int, int]] = {}

    def use(name: str, maps: Tensor) -> None:
        shapes[name] = tuple(maps.shape[1:])
        height, width = maps.shape[-2:]
        step = max(1, int(np.ceil((height * width / max_places) ** 0.5)))
        places = maps[0].flatten(1).T
        sampled = maps[0, :, ::step, ::step].flatten(1).T
        rank = effective_rank(sampled)
        found.setdefault(name, []).append((rank, rank / min(sampled.shape), mean_cosine_similarity(places)))

    for image in images:
        record_layers(model, image, layers, use)
    return [LayerRank(name, shapes[name], *map(float, np.mean(rows, axis=0))) for name, rows in found.items()]
