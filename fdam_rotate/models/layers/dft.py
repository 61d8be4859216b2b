"""``irfft2(rfft2(x) * M)`` in small products with fixed matrices, for files that run without torch.

Exporters know no FFT of a real map, and the DFT operators of the runtimes are slow. A transform of N = p * q values is
two products here, with matrices of p and of q columns; what lies between them (the twiddle factors of Cooley and Tukey,
1965) is in the second one's matrices. Both axes are transformed with the channels last, where a product is one of a
small matrix with a long one and nothing is transposed; runtimes merge the change of layout at either end with the one
that their convolutions need anyway. Of two frequencies that mirror each other one is computed. The frequencies that
leave the same residue modulo p on the vertical axis go through all the rest together: their share of a map stays in a
cache. A residual is no sum but a 1 added to the filters: the rows of a matrix that resizes sum to 1.

Processor time for each value of a map, in nanoseconds, in float32 on one thread of an Ice Lake server that others used
too, with the changes of layout at both ends (least of five to seven, by turns with a graph without the layer; the two
ways in runs of their own): with a full matrix for each transform, and this.

==================  ===================  ===================
map                 onnxruntime 1.32     OpenVINO 2026.4
==================  ===================  ===================
64 x 256 x 256      42, 11.3             41, 8.5
320 x 64 x 64       22, 8.1              20, 8.6
==================  ===================  ===================

All residues in one product: 11.6 in OpenVINO at 256. The runtimes' DFT operators: over ten times as long (one run).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fdam_rotate.models.layers.resize import bicubic_matrix

__all__ = ["scale_spectrum_dft"]

#: What reading and writing a map costs beside a product, in multiply-adds for each value.
_PASS = 32

#: More residues of the vertical axis would save a tenth of the time at 256 rows, and make the graph much larger.
_MOST_RESIDUES = 8


class _Group(NamedTuple):
    """Frequencies of the vertical axis that are computed together; n of them, made of m rows.

    Attributes:
        forward: (2 n, m), real and imaginary part of each frequency.
        inverse: (m, 2 n).
        rows: (n, 2 S), resizes filters, and upside down beside them.
    """

    forward: Tensor
    inverse: Tensor
    rows: Tensor


class _Plan(NamedTuple):
    """The matrices for maps of one size.

    Attributes:
        first: (p, p), the first product of the vertical transform.
        last: (p, p), the last of its inverse.
        groups: what lies between.
        columns: horizontal, forward: (2 r, 2 r), then for each residue modulo r (r, 2 s, 2 s).
        columns_back: their inverses, in the order of ``columns``.
        resize: (2, W, S2), resizes filters to the frequencies of the horizontal axis, and mirrored.
    """

    first: Tensor
    last: Tensor
    groups: tuple[_Group, ...]
    columns: tuple[Tensor, Tensor]
    columns_back: tuple[Tensor, Tensor]
    resize: Tensor


def scale_spectrum_dft(x: Tensor, kernels: Tensor, residual: bool = False) -> Tensor:
    """``scale_spectrum`` of `fdam_rotate.models.layers.spectrum` by matrix products, ``x`` in the kernels' dtype."""
    batch, channels, height, width = map(int, x.shape)  # tracers hand out tensors here; an exported model has one size
    plan = _plan(height, width, *map(int, kernels.shape[2:]), x.device, x.dtype)
    residues, rest = plan.columns[1].shape[0], plan.columns[1].shape[1] // 2  # r and s
    if residual:
        kernels = kernels + 1
    filters = torch.matmul(plan.resize[:, None], kernels.permute(0, 2, 3, 1)[:, None])  # (B, 2, S, W, C)
    filters = filters.reshape(batch, -1, width * channels)

    size = len(plan.first)
    rows = torch.matmul(plan.first, x.permute(0, 2, 3, 1).reshape(batch, size, -1))
    rows = rows.view(batch, height, width * channels)
    done, start = [], 0
    for group in plan.groups:
        count, end = batch * len(group.rows), start + len(group.inverse)
        modulation = torch.matmul(group.rows, filters).view(count, residues, 1, rest, channels)
        spectrum = torch.matmul(group.forward, rows[:, start:end])
        start = end
        spectrum = torch.matmul(plan.columns[0], spectrum.view(count, 2 * residues, rest * channels))
        if rest > 1:
            spectrum = torch.matmul(plan.columns[1], spectrum.view(count, residues, 2 * rest, channels))
        spectrum = spectrum.view(count, residues, 2, rest, channels) * modulation
        if rest > 1:
            spectrum = torch.matmul(plan.columns_back[1], spectrum.view(count, residues, 2 * rest, channels))
        spectrum = torch.matmul(plan.columns_back[0], spectrum.view(count, 2 * residues, rest * channels))
        done.append(torch.matmul(group.inverse, spectrum.view(batch, -1, width * channels)))
    rows = torch.cat(done, 1) if len(done) > 1 else done[0]
    y = torch.matmul(plan.last, rows.view(batch, size, -1))
    return y.view(batch, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=128)
def _plan(height: int, width: int, rows_in: int, cols_in: int, device: torch.device, dtype: torch.dtype) -> _Plan:
    """The matrices for maps (H, W) and filters (rows_in, cols_in)."""

    def tensor(matrix: NDArray[np.float64]) -> Tensor:
        return torch.tensor(matrix, dtype=dtype, device=device)

    resize = bicubic_matrix(rows_in, height)
    p = _split(height, 1)
    first, last = _first_rows(p)
    # Made outside inference mode: a cached inference tensor could not take part in training later.
    with torch.inference_mode(False):
        groups = []
        for residues in _residues(p):
            frequencies, forward, inverse = _vertical(height, p, residues)
            mirrored = resize[-frequencies % height]
            groups.append(_Group(tensor(forward), tensor(inverse), tensor(np.hstack([resize[frequencies], mirrored]))))
        columns, columns_back = _horizontal(width, _split(width, 2))
        return _Plan(
            tensor(first),
            tensor(last),
            tuple(groups),
            tuple(map(tensor, columns)),
            tuple(map(tensor, columns_back)),
            tensor(_column_filters(cols_in, width, _split(width, 2))),
        )


def _split(size: int, parts: int) -> int:
    """The first factor p of ``size`` = p * q: 1 (of complex values: ``size``) for one product with a full matrix.

    Args:
        size: values of the transform.
        parts: 1 for real values, 2 for complex ones.
    """
    costs = {1 if parts == 1 else size: _PASS + parts * size}
    for p in range(2, min(size // 2, _MOST_RESIDUES if parts == 1 else size) + 1):
        if size % p == 0:
            costs.setdefault(p, 2 * _PASS + parts * p + 2 * (size // p))
    return min(costs, key=lambda p: (costs[p], -p if parts == 1 else p))


def _residues(p: int) -> list[tuple[int, ...]]:
    """Residues modulo ``p``, one of each pair that mirror each other; first those that mirror themselves, together."""
    alone = (0, p // 2) if p % 2 == 0 else (0,)
    return [alone, *((g,) for g in range(1, (p + 1) // 2))]


def _wave(*factors: NDArray[np.int_], size: int) -> NDArray[np.complex128]:
    """``exp(2 pi i a b / size)`` of the outer product of whole numbers."""
    return np.exp(2j * np.pi / size * (np.multiply.outer(*factors) % size))


def _first_rows(p: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(p, p) each: real DFT of ``p`` values, residues in the order of `_residues`, and its inverse."""
    first, last = [], []
    for residues in _residues(p):
        waves = _wave(np.array(residues), np.arange(p), size=p)
        if residues[0] == 0:
            first.append(waves.real)
            last.append(waves.real / p)
        else:
            first += [waves.real, -waves.imag]
            last += [2 * waves.real / p, -2 * waves.imag / p]
    return np.concatenate(first), np.concatenate(last).T


def _vertical(
    height: int, p: int, residues: Sequence[int]
) -> tuple[NDArray[np.int_], NDArray[np.float64], NDArray[np.float64]]:
    """The second product of the vertical transform for some residues: frequencies (n,), matrices (2 n, m), (m, 2 n).

    The m values are those of `_first_rows`: of residues that mirror themselves q real ones each, of others q real parts
    and then q imaginary ones.
    """
    q = height // p
    places = np.arange(q)
    if residues[0] != 0:
        frequencies = residues[0] + p * places
        waves = _wave(frequencies, places, size=height)
        return frequencies, _real(waves.conj(), outside=False), _real(waves.T / q, outside=True)
    chosen, forward, inverse = [], [], []
    for number, g in enumerate(residues):
        frequencies = np.arange(g, height // 2 + 1, p)
        waves = _wave(frequencies, places, size=height)
        weights = np.where(2 * frequencies % height == 0, 1, 2)[:, None] / q  # of a frequency and its mirror image
        block = np.zeros((2, len(frequencies), 2, len(residues), q))
        block[0, :, 0, number], block[0, :, 1, number] = waves.real, -waves.imag
        block[1, :, 0, number], block[1, :, 1, number] = weights * waves.real, -weights * waves.imag
        chosen.append(frequencies)
        forward.append(block[0].reshape(-1, len(residues) * q))
        inverse.append(block[1].reshape(-1, len(residues) * q))
    return np.concatenate(chosen), np.concatenate(forward), np.concatenate(inverse).T


def _horizontal(width: int, r: int) -> tuple[tuple[NDArray[np.float64], ...], tuple[NDArray[np.float64], ...]]:
    """Both products of a complex DFT of ``width`` = r * s values, and their inverses; see `_Plan`.

    Values come as real and imaginary parts (2, r, s) and become (r, s) pairs by residue modulo r, (r, 2, s).
    """
    s = width // r
    places = np.arange(r)
    waves = _wave(places, places, size=r)
    first, last = _real(waves.conj(), outside=False), _real(waves / r, outside=True)
    frequencies = places[:, None] + r * np.arange(s)
    waves = _wave(frequencies, np.arange(s), size=width)  # (r, s frequencies, s places)
    second = np.stack([_real(wave.conj(), outside=None) for wave in waves])
    back = np.stack([_real(wave.T / s, outside=None) for wave in waves])
    return (first, second), (last, back)


def _real(matrix: NDArray[np.complex128], outside: bool | None) -> NDArray[np.float64]:
    """A complex (n, m) matrix as a real (2 n, 2 m) one, real and imaginary parts outside the places or inside.

    Args:
        matrix: complex.
        outside: None: outside in what comes in and goes out; True: inside in what comes in; False: in what goes out.
    """
    blocks = np.array([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])  # (out, in, n, m)
    order = {None: (0, 2, 1, 3), True: (0, 2, 3, 1), False: (2, 0, 1, 3)}[outside]
    return blocks.transpose(order).reshape(2 * len(matrix), -1)


def _column_filters(cols_in: int, width: int, r: int) -> NDArray[np.float64]:
    """(2, W, cols_in), in the order of `_horizontal`: filters of frequencies up to the half, and of those mirrored.

    Where a frequency is its own mirror image, ``irfft2`` drops what is not real: the mean of both filters acts.
    """
    half = width // 2
    frequencies = (np.arange(r)[:, None] + r * np.arange(width // r)).ravel()
    mirrored = -frequencies % width
    matrix = bicubic_matrix(cols_in, half + 1)
    share = np.where(frequencies == mirrored, 0.5, frequencies <= half)
    plain = share[:, None] * matrix[np.minimum(frequencies, half)]
    other = (1 - share)[:, None] * matrix[np.minimum(mirrored, half)]
    return np.stack([plain, other])
