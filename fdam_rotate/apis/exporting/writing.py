"""Writing an ONNX file: the target's checks, the exporter's call, its errors in one line."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.dota.outputs import claim_file

__all__ = ["EXPORTER_ERRORS", "OLD_OPSET", "OPSET", "check_export_target", "reason", "write_onnx"]

#: The version of ONNX's operators that has GELU as one of them: onnxruntime 1.17 and later, OpenVINO 2024 and later.
OPSET = 20

#: The one before it, for older runtimes.
OLD_OPSET = 18

#: The oldest version of the file format that has these operators: runtimes refuse files of a newer one than they know.
_FORMATS = {OLD_OPSET: 8, OPSET: 9}

#: What exporters raise over a model that they cannot follow.
EXPORTER_ERRORS = (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError)


def check_export_target(
    path: str | Path,
    *,
    suffixes: Sequence[str] = (".onnx", ".pt"),
    overwrite: bool = False,
    inputs: Iterable[str | Path | None] = (),
) -> Path:
    """``path``, if an export would write it; call it before long work, for the same errors.

    Raises:
        ExportError: its name ends in none of ``suffixes``.
        OutputExistsError: it may not be written.
    """
    path = Path(path)
    if path.suffix not in suffixes:
        names = {".onnx": ".onnx (ONNX)", ".pt": ".pt (TorchScript)"}
        raise ExportError(f"{path}: give a name that ends in {' or '.join(names[suffix] for suffix in suffixes)}")
    return claim_file(path, overwrite=overwrite, inputs=inputs)


def write_onnx(
    model: nn.Module,
    image: Tensor,
    path: Path,
    outputs: Sequence[str],
    metadata: Mapping[str, str],
    translations: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    opset: int = OPSET,
    shrink: Callable[[Path], None] | None = None,
) -> None:
    """Export ``model`` with one input, ``image``, into one file, and check its form.

    Args:
        model: in evaluation mode.
        image: an example, whose shape is fixed.
        path: of the file.
        outputs: their names.
        metadata: key and value of each entry.
        translations: of operations that are no operators of torch.
        opset: version of ONNX's operators, `OPSET` or `OLD_OPSET`.
        shrink: changes the file in place before its form is checked; see `fdam_rotate.apis.exporting.precision`.

    Raises:
        One of EXPORTER_ERRORS: the exporter cannot follow the model; see `reason`.
    """
    import onnx
    from onnx_ir.passes import common as passes

    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracers warn at every shape that they take as fixed, as is meant
        program = torch.onnx.export(
            model,
            (image,),
            dynamo=True,
            opset_version=opset,
            input_names=["image"],
            output_names=list(outputs),
            verbose=False,
            optimize=False,  # takes a minute over a whole detector, where _fold_constants takes a second
            custom_translation_table=dict(translations or {}),
        )
    for tidy in (passes.InlinePass(), passes.RemoveUnusedNodesPass(), passes.NameFixPass()):
        tidy(program.model)
    program.save(str(path), external_data=False)
    _fold_constants(path)
    if shrink is not None:
        shrink(path)
    written = onnx.load(str(path))
    written.ir_version = _FORMATS[opset]
    onnx.checker.check_model(written)
    del written.metadata_props[:]
    for key, value in metadata.items():
        written.metadata_props.add(key=key, value=value)
    onnx.save(written, str(path))


def _fold_constants(path: Path) -> None:
    """Compute what does not depend on the input, and drop what does nothing; only standard operators come of it."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    model = onnx.load(str(path))
    standard = [entry for entry in model.opset_import if entry.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(standard)  # onnxruntime lists all that it knows
    onnx.save(model, str(path))


def reason(error: Exception) -> str:
    """What stopped the exporter, in one line; torch.onnx buries the operator's name in advice."""
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error))
    if operator:
        return f"ONNX has no operator for {operator[1]}"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
