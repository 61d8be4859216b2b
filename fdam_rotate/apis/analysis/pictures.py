"""Pictures of what the other modules measure, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fdam_rotate.apis.analysis.rank import LayerRank
from fdam_rotate.apis.analysis.runs import layer_names
from fdam_rotate.apis.analysis.spectrum import LayerSpectrum
from fdam_rotate.dota.files import atomic_path

__all__ = ["draw_ranks", "draw_spectra"]

LINES = ("-", "--", ":", "-.")


def draw_spectra(path: str | Path, runs: Mapping[str, Sequence[LayerSpectrum]]) -> None:
    """Log amplitude over frequency, a panel per run, a curve per layer; below, energy by depth, a curve per run.

    A layer has the same colour in all panels; a run that lacks it has no curve of that colour.

    Args:
        path: PNG file to write.
        runs: name of the model -> its layers' spectra.
    """
    figure, axes = plt.subplot_mosaic(
        [list(range(len(runs))), ["energy"] * len(runs)],
        figsize=(1 + 4.6 * max(len(runs), 1.3), 7.6),
        height_ratios=(3, 2),
        layout="constrained",
    )
    values = np.concatenate([layer.log_amplitude for layers in runs.values() for layer in layers])
    values = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)  # none where all maps are 1 x 1
    limits = (values.min() - 0.3, values.max() + 0.3)
    names = layer_names(runs)
    colours = dict(zip(names, plt.colormaps["viridis"](np.linspace(0, 0.95, len(names))), strict=True))
    curves = {}
    for column, (name, layers) in enumerate(runs.items()):
        curve = axes[column]
        for layer in layers:
            (curves[layer.name],) = curve.plot(layer.radii, layer.log_amplitude, color=colours[layer.name], lw=1.4)
        curve.set(xlim=(0, 1), ylim=limits, title=name, xlabel="frequency / Nyquist")
        if column == 0:
            curve.set_ylabel("log amplitude over the lowest ring")
        curve.grid(alpha=0.3)
    figure.legend([curves[n] for n in names], map(_short, names), loc="outside right upper", fontsize=7)
    axes["energy"].set_ylabel("energy above half of Nyquist")
    _draw_by_depth(axes["energy"], runs, "high_energy")
    axes["energy"].set_ylim(bottom=0)
    _save(figure, path)


def draw_ranks(path: str | Path, runs: Mapping[str, Sequence[LayerRank]]) -> None:
    """Effective rank over its largest value, and mean cosine similarity, by depth, one curve per run."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for axis, what, title in (
        (axes[0], "relative_rank", "effective rank / largest possible"),
        (axes[1], "cosine", "mean cosine between places"),
    ):
        axis.set_title(title)
        _draw_by_depth(axis, runs, what)
    _save(figure, path)


def _draw_by_depth(axis: Axes, runs: Mapping[str, Sequence[LayerSpectrum | LayerRank]], what: str) -> None:
    """Attribute ``what`` of the layers, one curve per run; a layer of either run has one place on the axis."""
    names = layer_names(runs)
    for (name, layers), line in zip(runs.items(), LINES * len(runs), strict=False):
        places = [names.index(layer.name) for layer in layers]
        axis.plot(places, [getattr(layer, what) for layer in layers], line, marker="o", ms=3, label=name)
    axis.set_xticks(range(len(names)), list(map(_short, names)), rotation=90, fontsize=7)
    axis.set_xlabel("layer")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _short(name: str) -> str:
    return name.removeprefix("backbone.")


def _save(figure: Figure, path: str | Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    plt.close(figure)
