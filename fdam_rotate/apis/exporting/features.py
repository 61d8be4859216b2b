"""Backbone and neck as ONNX or TorchScript at one fixed image size.

What is exported is ``detector.extract_feat``: the pyramid of feature maps, for whoever has heads of their own;
`fdam_rotate.apis.exporting.detector` writes the heads too.

Exporters know no FFT of a real image, so FreqScale runs by products with fixed cosine and sine matrices here
(``impl='dft'``), which is why the size is fixed. The result is compared with the FFT form before it is kept.

LSKNet, LSKNetFDAM, ViTFDAM and MiTFDAM with FPN, FDAMFPN or SimplePyramid export to both. FreqFusionFPN exports to
TorchScript; to ONNX it does too, but its sums over kernel taps unroll into so many nodes that it takes minutes.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.writing import EXPORTER_ERRORS, check_export_target, reason, write_onnx
from fdam_rotate.dota.files import atomic_path

__all__ = ["ExportReport", "export_features"]


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the file.
        outputs: (name, shape) of each output, fine to coarse.
        freq_layers: how many FreqScale layers became matrix products.
        difference: largest absolute difference from the FFT form in torch, over the largest absolute value of that
            output where it exceeds 1; None where it was not checked.
    """

    path: Path
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    freq_layers: int
    difference: float | None


class Features(nn.Module):
    """Images (B, 3, H, W), normalised as in the config, to the maps of the neck, fine to coarse."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run backbone and neck."""
        return tuple(self.detector.extract_feat(image))


def export_features(
    detector: nn.Module,
    path: str | Path,
    shape: Sequence[int],
    *,
    batch: int = 1,
    check: bool = True,
    tolerance: float = 1e-4,
    norm: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write backbone and neck of ``detector``; kept only if it passes the check.

    Args:
        detector: an MMRotate detector on the CPU; it is not changed.
        path: ``.onnx`` or ``.pt``.
        shape: (H, W) of the images, in pixels; the exported model takes no other.
        batch: images in a call, fixed too.
        check: run the file (onnxruntime, or ``torch.jit.load``) on noise and compare with the FFT form in torch.
        tolerance: largest difference that passes; see :class:`ExportReport`.
        norm: ``img_norm_cfg``, kept in the ONNX file's metadata for whoever feeds it images.
        overwrite: replace ``path``.

    Raises:
        ExportError: the exporter does not know an operator, or the check fails. Nothing is written then.
        OutputExistsError: ``path`` exists.
    """
    from fdam_rotate.models.layers.freq_scale import set_freq_impl

    path = check_export_target(path, overwrite=overwrite)
    image = torch.randn(batch, 3, *shape, generator=torch.Generator().manual_seed(0))
    plain = Features(copy.deepcopy(detector)).eval()
    with torch.no_grad():
        expected = plain(image)
    count = set_freq_impl(plain, "dft")
    with torch.no_grad():
        plain(image)  # makes the matrices of every size: exporters cannot follow how numpy makes them
    names = [f"level{i}" for i in range(len(expected))]
    with atomic_path(path) as temporary:
        try:
            if path.suffix == ".onnx":
                metadata = {"content": "backbone and neck, no heads", "img_norm_cfg": json.dumps(norm or {})}
                write_onnx(plain, image, temporary, names, metadata)
            else:
                _write_script(plain, image, temporary)
        except EXPORTER_ERRORS as error:
            raise ExportError(
                f"{type(detector).__name__} cannot be exported as {path.suffix[1:]}: {reason(error)}"
            ) from error
        difference = None
        if check:
            found = (_onnx_runner if path.suffix == ".onnx" else _script_runner)(temporary)(image)
            difference = max(_difference(a, b) for a, b in zip(expected, found, strict=True))
            if not difference <= tolerance:
                raise ExportError(
                    f"the exported model differs from the detector by {difference:.2g}, more than {tolerance:g}; "
                    f"{path} was not written"
                )
    outputs = tuple((name, tuple(x.shape)) for name, x in zip(names, expected, strict=True))
    return ExportReport(path, outputs, count, difference)


def _write_script(model: nn.Module, image: Tensor, path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracers warn at every shape that they take as fixed, as is meant
        torch.jit.trace(model, image, check_trace=False).save(str(path))


def _onnx_runner(path: Path) -> Callable[[Tensor], list[Tensor]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: [torch.from_numpy(x) for x in session.run(None, {"image": np.asarray(image)})]


def _script_runner(path: Path) -> Callable[[Tensor], list[Tensor]]:
    model = torch.jit.load(str(path))

    def run(image: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return list(model(image))

    return run


def _difference(expected: Tensor, found: Tensor) -> float:
    """NaN in either counts as infinitely far."""
    if expected.shape != found.shape:
        raise ExportError(f"the exported model gives {tuple(found.shape)} where {tuple(expected.shape)} is expected")
    distance = (expected - found).detach().abs().max() / expected.abs().max().clamp(min=1)
    return float(distance) if torch.isfinite(distance) else float("inf")
