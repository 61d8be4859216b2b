"""Pictures of what the other modules measure, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from fdam_rotate.apis.analysis.rank import LayerRank
from fdam_rotate.apis.analysis.spectrum import LayerSpectrum
from fdam_rotate.dota.files import atomic_path

__all__ = ["draw_ranks", "draw_spectra"]

LINES = ("-", "--", ":", "-.")


def draw_spectra(path: str | Path, runs: Mapping[str, Sequence[LayerSpectrum]]) -> None:
    """Log amplitude over frequency, a panel a run, a curve a layer; below, energy by depth, in the same colours.

    Args:
        path: PNG file to write.
        runs: name of the model -> its layers' spectra.
    """
    figure, axes = plt.subplots(
        2, len(runs), figsize=(1 + 4.6 * len(runs), 7.6), squeeze=False, height_ratios=(3, 2), layout="constrained"
    )
    values = np.concatenate([layer.log_amplitude for layers in runs.values() for layer in layers])
    limits = (np.nanmin(values) - 0.3, np.nanmax(values) + 0.3)
    top = max(layer.high_energy for layers in runs.values() for layer in layers) * 1.15 + 0.01
    for column, (name, layers) in enumerate(runs.items()):
        curve, bars = axes[:, column]
        colours = plt.colormaps["viridis"](np.linspace(0, 0.95, len(layers)))
        for layer, colour in zip(layers, colours, strict=True):
            curve.plot(layer.radii, layer.log_amplitude, color=colour, lw=1.4)
        curve.set(xlim=(0, 1), ylim=limits, title=name, xlabel="frequency / Nyquist")
        if column == 0:
            curve.set_ylabel("log amplitude over the lowest ring")
        curve.grid(alpha=0.3)
        bars.bar(range(len(layers)), [layer.high_energy for layer in layers], color=colours)
        bars.set(ylim=(0, top))
        _depth_axis(bars, [layer.name for layer in layers])
        if column == 0:
            bars.set_ylabel("energy above half of Nyquist")
    _save(figure, path)


def draw_ranks(path: str | Path, runs: Mapping[str, Sequence[LayerRank]]) -> None:
    """Effective rank over its largest value, and mean cosine similarity, by depth, one curve a run."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for (name, layers), line in zip(runs.items(), LINES * len(runs), strict=False):
        depth = range(len(layers))
        axes[0].plot(depth, [layer.relative_rank for layer in layers], line, marker="o", ms=3, label=name)
        axes[1].plot(depth, [layer.cosine for layer in layers], line, marker="o", ms=3, label=name)
    for axis, title in zip(axes, ("effective rank / largest possible", "mean cosine between places"), strict=True):
        axis.set_title(title)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        _depth_axis(axis, [layer.name for layer in next(iter(runs.values()))])
    _save(figure, path)


def _depth_axis(axis: plt.Axes, names: Sequence[str]) -> None:
    axis.set_xticks(range(len(names)), [_short(name) for name in names], rotation=90, fontsize=7)


def _short(name: str) -> str:
    return name.removeprefix("backbone.")


def _save(figure: plt.Figure, path: str | Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    plt.close(figure)
