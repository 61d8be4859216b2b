"""Backbone and neck as ONNX or TorchScript at one fixed image size.

What is exported is ``detector.extract_feat``: the pyramid of feature maps. The heads are not: MMRotate's oriented RPN,
RoIAlignRotated and rotated NMS have no ONNX operators, and run in Python on what this model returns.

Exporters know no FFT of a real image, so FreqScale runs by products with fixed cosine and sine matrices here
(``impl='dft'``), which is why the size is fixed. The result is compared with the FFT form before it is kept.

LSKNet, LSKNetFDAM, ViTFDAM and MiTFDAM with FPN, FDAMFPN or SimplePyramid export to both. FreqFusionFPN exports to
TorchScript; to ONNX it does too, but its sums over kernel taps unroll into so many nodes that it takes minutes.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.outputs import claim_file

__all__ = ["ExportError", "ExportReport", "check_export_target", "export_features"]

OPSET = 18


class ExportError(DotaError):
    """A model that cannot be exported, or whose exported form computes something else."""


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


def check_export_target(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> Path:
    """``path``, if :func:`export_features` would write it; call it before long work, for the same errors."""
    path = Path(path)
    if path.suffix not in {".onnx", ".pt"}:
        raise ExportError(f"{path}: give a name that ends in .onnx (ONNX) or .pt (TorchScript)")
    return claim_file(path, overwrite=overwrite, inputs=inputs)


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
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # tracers warn at every shape that they take as fixed, as is meant
                _write_onnx(plain, image, temporary, names, norm) if path.suffix == ".onnx" else torch.jit.trace(
                    plain, image, check_trace=False
                ).save(str(temporary))
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError) as error:
            raise ExportError(
                f"{type(detector).__name__} cannot be exported as {path.suffix[1:]}: {_reason(error)}"
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


def _write_onnx(model: nn.Module, image: Tensor, path: Path, names: Sequence[str], norm: dict[str, Any] | None) -> None:
    import onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.onnx.export(
        model,
        (image,),
        str(path),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=list(names),
        external_data=False,
        verbose=False,
    )
    written = onnx.load(str(path))
    onnx.checker.check_model(written)
    for key, value in {"content": "backbone and neck, no heads", "img_norm_cfg": json.dumps(norm or {})}.items():
        written.metadata_props.add(key=key, value=value)
    onnx.save(written, str(path))


def _reason(error: Exception) -> str:
    """What stopped the exporter, in one line; torch.onnx buries the operator's name in advice."""
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error))
    if operator:
        return f"ONNX has no operator for {operator[1]}"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
    distance = (expected - found).abs().max() / expected.abs().max().clamp(min=1)
    return float(distance) if torch.isfinite(distance) else float("inf")
