"""What all land uses need: random spots and directions within a block, and trees."""

from __future__ import annotations

import math

import numpy as np

from fdam_rotate.dota.synthetic import structures as st
from fdam_rotate.dota.synthetic.canvas import Canvas
from fdam_rotate.dota.synthetic.sketch import Frame

__all__ = ["quarter", "scatter_trees", "spot"]

_QUARTERS = (0.0, math.pi / 2, math.pi, -math.pi / 2)


def spot(rng: np.random.Generator, length: float, width: float, edge: float = 0.0) -> tuple[float, float]:
    """A random point of the block, ``edge`` metres from its border where the block is large enough."""
    a, b = max(0.0, length / 2 - edge), max(0.0, width / 2 - edge)
    return float(rng.uniform(-a, a)), float(rng.uniform(-b, b))


def quarter(rng: np.random.Generator) -> float:
    """One of the four directions along the block's sides, in radians."""
    return _QUARTERS[int(rng.integers(4))]


def scatter_trees(
    canvas: Canvas, rng: np.random.Generator, frame: Frame, length: float, width: float, count: int
) -> None:
    """Trees at random; a few hang over what stands beside them."""
    for _ in range(count):
        u, v = spot(rng, length, width)
        canvas.clutter(st.tree(rng, float(rng.uniform(1.6, 4.5))), frame.at(u, v), over=bool(rng.random() < 0.12))
