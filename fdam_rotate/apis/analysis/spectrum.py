"""Spectra of feature maps: where their energy lies, layer by layer.

Frequencies are radial, in units of Nyquist (0 the mean, 1 a wave of two pixels along an axis; corners reach 1.41). The
curves are those by which Park and Kim ("How Do Vision Transformers Work?", ICLR 2022, arXiv 2202.06709) showed that
attention is a low-pass, and which FDAM (ICCV 2025) shows for its layers: log amplitude relative to the lowest ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fdam_rotate.apis.analysis.features import record_layers

__all__ = ["LayerSpectrum", "high_frequency_energy", "layer_spectra", "radial_amplitude", "radius_grid"]

MAX_RINGS = 32


@dataclass(frozen=True)
class LayerSpectrum:
    """Mean spectrum of one layer over images and channels.

    Attributes:
        name: module name.
        shape: (C, h, w) of its maps, of the last image.
        radii: (R,) centres of the rings, in units of Nyquist; half as many rings as the map has places along its
            shorter side, at most 32, so that each ring holds frequencies of the grid.
        log_amplitude: (R,) natural log of the mean amplitude in each ring, less that of the lowest ring.
        high_energy: share of the energy, the mean left out, above half of Nyquist.
    """

    name: str
    shape: tuple[int, int, int]
    radii: np.ndarray
    log_amplitude: np.ndarray
    high_energy: float


def radius_grid(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Radius of every frequency of ``rfft2``, (H, W // 2 + 1) float64, in units of Nyquist."""
    v = torch.fft.fftfreq(height, dtype=torch.float64, device=device) * 2
    u = torch.fft.rfftfreq(width, dtype=torch.float64, device=device) * 2
    return torch.hypot(v[:, None], u[None])


def _mirror_weights(width: int, device: torch.device | None = None) -> Tensor:
    """How often each column of ``rfft2`` stands in the full spectrum, (W // 2 + 1,)."""
    weights = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64, device=device)
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1
    return weights


def radial_amplitude(maps: Tensor, rings: int) -> Tensor:
    """Mean amplitude in rings of equal width from 0 to 1 (Nyquist), over batch and channels.

    Args:
        maps: (B, C, H, W).
        rings: how many; a radius on the border of two belongs to the inner one. The mean of the map is in none of them,
            nor is anything beyond 1.

    Returns:
        (rings,) float64; NaN where a ring holds no frequency of this grid.
    """
    height, width = maps.shape[-2:]
    amplitude = torch.fft.rfft2(maps.double(), norm="ortho").abs().mean((0, 1))
    radius = radius_grid(height, width, maps.device)
    weights = _mirror_weights(width, maps.device).expand_as(radius).clone()
    weights[0, 0] = 0
    inside = radius <= 1
    index = ((radius[inside] * rings - 1e-9).ceil().long() - 1).clamp(0, rings - 1)
    total = torch.zeros(rings, dtype=torch.float64, device=maps.device)
    count = torch.zeros_like(total)
    total.index_add_(0, index, (amplitude * weights)[inside])
    count.index_add_(0, index, weights[inside])
    return total / count  # 0 / 0 is NaN


def high_frequency_energy(maps: Tensor, cutoff: float = 0.5) -> float:
    """Share of the energy of (B, C, H, W) at radii above ``cutoff`` (1 is Nyquist), the mean of each map left out.

    0 for constant maps.
    """
    height, width = maps.shape[-2:]
    energy = torch.fft.rfft2(maps.double(), norm="ortho").abs().square().sum((0, 1))
    energy = energy * _mirror_weights(width, maps.device)
    energy[0, 0] = 0
    total = energy.sum()
    return float(energy[radius_grid(height, width, maps.device) > cutoff].sum() / total) if total > 0 else 0.0


def layer_spectra(model: nn.Module, images: Iterable[Tensor], layers: Sequence[str]) -> list[LayerSpectrum]:
    """Spectra of ``layers``, in the order in which they run, averaged over ``images`` ((1, 3, H, W) each)."""
    amplitudes: dict[str, Tensor] = {}
    energies: dict[str, list[float]] = {}
    shapes: dict[str, tuple[int, int, int]] = {}

    def use(name: str, maps: Tensor) -> None:
        rings = max(1, min(MAX_RINGS, min(maps.shape[-2:]) // 2))
        amplitudes[name] = amplitudes.get(name, 0) + radial_amplitude(maps, rings)
        energies.setdefault(name, []).append(high_frequency_energy(maps))
        channels, height, width = maps.shape[1:]
        shapes[name] = (channels, height, width)

    for image in images:
        record_layers(model, image, layers, use)
    found = []
    for name, total in amplitudes.items():
        log = np.log(np.maximum(total.cpu().numpy() / len(energies[name]), 1e-300))
        radii = (np.arange(len(log)) + 0.5) / len(log)
        found.append(LayerSpectrum(name, shapes[name], radii, log - log[0], float(np.mean(energies[name]))))
    return found
