"""An exported detector (ONNX file with a model card) behind `WindowModel`, run by onnxruntime or OpenVINO.

The file is judged before any runtime sees it: its card, its inputs and outputs, that it is one file (no weights kept
elsewhere, whose paths could name anything), and that it has standard operators only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import sha256_of
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.merging.nms import greedy_nms
from fdam_rotate.dota.predicting.card import CARD_KEY, ModelCard
from fdam_rotate.dota.predicting.model import Found

__all__ = ["RUNTIMES", "ModelFileError", "OnnxModel", "find_runtime", "open_session", "read_card"]

RUNTIMES = ("onnxruntime", "openvino")

OUTPUTS = ("boxes", "scores", "labels", "count")

#: Operators of these sets are in every runtime; anything else may be code of whoever made the file.
_STANDARD_DOMAINS = {"", "ai.onnx"}

#: An array of pixels (B, 3, H, W) to the outputs, in their order.
Run = Callable[[NDArray[Any]], list[NDArray[Any]]]


class ModelFileError(DotaError):
    """A model file that is damaged, unsafe, or not of a detector."""


class OnnxModel:
    """A detector file as `fdam_rotate.dota.predicting.model.WindowModel`.

    Args:
        path: ``.onnx``, as tools/export.py writes it.
        runtime: 'onnxruntime', 'openvino', or 'auto': OpenVINO where it is installed and the device is the CPU.
        device: 'cpu', 'cuda' or 'cuda:N'; 'auto' and 'auto:N' are the CPU.
        threads: of the runtime; None: as many as it likes.

    Attributes:
        card: the file's model card.
        score_thr, iou_thr: of its last step: lower scores, and greater overlaps within a window, are not reported.
        runtime: the one that is taken.

    Raises:
        DotaError: the file is refused, or the runtime is not there.
    """

    def __init__(
        self, path: str | Path, *, runtime: str = "auto", device: str = "cpu", threads: int | None = None
    ) -> None:
        device = "cpu" if device.partition(":")[0] == "auto" else device
        self.runtime = find_runtime(runtime, device)
        self._path, self._device, self._threads = Path(path), device, threads
        self._file = self._path.absolute()  # a worker elsewhere works in another folder
        self.card = read_card(path)
        self.classes: tuple[str, ...] = self.card.classes
        self.score_thr, self.iou_thr = self.card.score_thr, self.card.iou_thr
        self.identity: Mapping[str, Any] = {"model": sha256_of(path), "runtime": self.runtime, "device": device}
        self._run: Run | None = None

    def prepare(self, threads: int | None = None) -> None:
        """Hand the file to the runtime, with ``threads`` in place of those of the constructor.

        Raises:
            DotaError: the runtime refuses it.
        """
        try:
            self._run = open_session(self.runtime, self._file, device=self._device, threads=threads or self._threads)
        except DotaError:
            raise
        except Exception as error:  # runtimes have kinds of errors of their own
            raise ModelFileError(f"{self._path}: {self.runtime} cannot load it: {_first_line(error)}") from error

    def detect(self, windows: Sequence[NDArray[np.uint8]]) -> list[Found]:
        """The detections in each of some windows (H, W, 3), blue, green, red, in pixels of the window.

        Windows of another size than the model's are resized to it.

        Raises:
            DotaError: the runtime fails, or gives what no detector gives.
        """
        if self._run is None:
            self.prepare()
        results: list[Found] = []
        for begin in range(0, len(windows), self.card.batch):
            some = windows[begin : begin + self.card.batch]
            results += self._found(some, self._outputs(self._pixels(some)))
        return results

    def _pixels(self, windows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Red, green, blue (batch, 3, H, W); what the batch lacks is black."""
        card = self.card
        pixels = np.zeros((card.batch, 3, card.height, card.width), np.uint8)
        for target, window in zip(pixels, windows, strict=False):
            fitting = window
            if window.shape[:2] != (card.height, card.width):
                fitting = cv2.resize(window, (card.width, card.height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
            target[:] = fitting[..., ::-1].transpose(2, 0, 1)
        return pixels

    def _outputs(self, pixels: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Boxes (B, M, 5), scores (B, M), labels (B, M) and count (B,), checked."""
        assert self._run is not None
        try:
            boxes, scores, labels, count = self._run(pixels)
        except Exception as error:  # runtimes have kinds of errors of their own
            raise ModelFileError(f"{self._path}: {self.runtime} cannot run it: {_first_line(error)}") from error
        rows = (self.card.batch, self.card.max_boxes)
        if boxes.shape != (*rows, 5) or scores.shape != rows or labels.shape != rows or count.shape != rows[:1]:
            raise ModelFileError(f"{self._path}: its outputs have other shapes than its card says")
        return [boxes, scores, labels, count]

    def _found(self, windows: Sequence[NDArray[np.uint8]], outputs: Sequence[NDArray[Any]]) -> list[Found]:
        card = self.card
        results = []
        for window, boxes, scores, labels, count in zip(windows, *outputs, strict=False):
            count = int(count)
            boxes, scores = boxes[:count].astype(np.float64), scores[:count].astype(np.float64)
            labels = labels[:count].astype(np.intp)
            whole = np.isfinite(boxes).all() and np.isfinite(scores).all()
            if not whole or (count and not 0 <= labels.min() <= labels.max() < len(card.classes)):
                raise ModelFileError(f"{self._path}: it gives numbers that are no boxes, scores or classes")
            stays = np.flatnonzero(greedy_nms(le90_to_poly(boxes), scores, card.iou_thr, groups=labels))
            stays = stays[: card.max_per_image]  # candidates come by falling score
            boxes = boxes[stays]
            height, width = window.shape[:2]
            if (height, width) != (card.height, card.width):
                boxes[:, [0, 2]] *= width / card.width
                boxes[:, [1, 3]] *= height / card.height
            results.append(Found(boxes, scores[stays], labels[stays]))
        return results


def find_runtime(runtime: str, device: str) -> str:
    """The runtime that ``runtime`` stands for here.

    Raises:
        DotaError: it is not installed, or does not serve the device.
    """
    installed = [name for name in RUNTIMES if importlib.util.find_spec(name)]
    if runtime == "auto":
        suited = [
            name
            for name in ("openvino", "onnxruntime")
            if name in installed and (name == "onnxruntime" or device == "cpu")
        ]
        if not suited:
            raise DotaError("no runtime for ONNX files is installed: pip install 'fdam_rotate[predict]'")
        return suited[0]
    if runtime not in installed:
        extra = {"onnxruntime": "predict", "openvino": "openvino"}[runtime]
        raise DotaError(f"{runtime} is not installed: pip install 'fdam_rotate[{extra}]'")
    if runtime == "openvino" and device != "cpu":
        raise DotaError("OpenVINO has no CUDA; take --runtime onnxruntime with --device cuda")
    return runtime


def read_card(path: str | Path) -> ModelCard:
    """The card of a model file, which is refused unless it is whole, alone, of standard operators, and fits its card.

    Raises:
        ModelFileError: it is refused.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        import onnx
    except ImportError:
        raise DotaError("onnx is not installed: pip install 'fdam_rotate[predict]'") from None
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf has kinds of errors of its own
        raise ModelFileError(f"{path}: not an ONNX file, or a damaged one: {_first_line(error)}") from None
    if model.functions:
        raise ModelFileError(
            f"{path}: has functions of its own ({model.functions[0].name}); only standard operators run"
        )
    for graph in _graphs(model.graph):
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                place = {entry.key: entry.value for entry in tensor.external_data}.get("location", "?")
                raise ModelFileError(f"{path}: keeps weights in another file ({place}); expected is one file")
        for node in graph.node:
            if node.domain not in _STANDARD_DOMAINS:
                raise ModelFileError(
                    f"{path}: needs the operator {node.domain}.{node.op_type}; only standard operators run"
                )
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if CARD_KEY not in texts:
        raise ModelFileError(f"{path}: has no model card; make the file by tools/export.py (without --features)")
    try:
        card = ModelCard.from_json(texts[CARD_KEY])
    except DotaError as error:
        raise ModelFileError(f"{path}: {error}") from None
    problem = _difference(model.graph, card)
    if problem:
        raise ModelFileError(f"{path}: {problem}")
    return card


def _difference(graph: Any, card: ModelCard) -> str | None:
    """What in the graph's inputs and outputs is not as the card says."""
    import onnx

    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    if [value.name for value in inputs] != ["image"]:
        return f"expected one input, image, found {', '.join(value.name for value in inputs) or 'none'}"
    kind = inputs[0].type.tensor_type
    shape = [size.dim_value for size in kind.shape.dim]
    wanted = [card.batch, 3, card.height, card.width]
    if kind.elem_type != onnx.TensorProto.UINT8 or shape != wanted:
        return f"expected image to be uint8 of {wanted}, as its card says, found {shape}"
    names = [value.name for value in graph.output]
    if names != list(OUTPUTS):
        return f"expected the outputs {', '.join(OUTPUTS)}, found {', '.join(names) or 'none'}"
    return None


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those within its nodes."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _tensors(graph: Any) -> Iterator[Any]:
    """The tensors that a graph and its nodes' attributes hold."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse_tensors = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for sparse in (*sparse_tensors, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def open_session(
    runtime: str,
    path: Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    outputs: Sequence[str] = OUTPUTS,
    precision: str = "f32",
) -> Run:
    """What runs a file whose one input is ``image``, by a runtime with this package's settings.

    Args:
        runtime: one of `RUNTIMES`.
        path: of the file.
        device: 'cpu', or with onnxruntime 'cuda' or 'cuda:N'.
        threads: to compute with; None: as many as the runtime likes.
        outputs: names of those that are wanted.
        precision: OpenVINO's, 'f32' or 'bf16'.

    Raises:
        DotaError: the device is not there. The runtimes raise kinds of errors of their own.
    """
    if runtime == "openvino":
        return _openvino(path, threads, outputs, precision)
    return _onnxruntime(path, device, threads, outputs)


def _onnxruntime(path: Path, device: str, threads: int | None, outputs: Sequence[str]) -> Run:
    import onnxruntime

    kind, _, number = device.partition(":")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[kind]
    settings = {"device_id": int(number)} if number else {}
    if provider not in onnxruntime.get_available_providers():
        raise DotaError("this onnxruntime has no CUDA: pip install onnxruntime-gpu in place of onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=[(provider, settings)])
    if session.get_providers()[0] != provider:
        raise DotaError("onnxruntime found no GPU that it can use; take --device cpu")

    def run(pixels: NDArray[Any]) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = session.run(list(outputs), {"image": pixels})
        return found

    return run


def _openvino(path: Path, threads: int | None, outputs: Sequence[str], precision: str) -> Run:
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    model = core.read_model(str(path))
    _transpose_flat_maps(model)
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(pixels: NDArray[Any]) -> list[NDArray[Any]]:
        request.infer({"image": pixels})
        return [request.get_tensor(name).data.copy() for name in outputs]

    return run


def _transpose_flat_maps(model: Any) -> None:
    """Let maps (B, C, H, W) become channels-last as (B, C, H * W).

    The CPU plugin's convolutions give channels-last maps, so that nothing is to be done then. Of four dimensions it
    often takes the map apart and puts it together again: 5% of LSKNet-S with FDAM in OpenVINO 2026.4.
    """
    from openvino import opset13 as operators

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Transpose" or node.input_value(0).get_partial_shape().is_dynamic:
            continue
        order = node.input_value(1).get_node()
        if order.get_type_name() != "Constant" or order.get_data().tolist() != [0, 2, 3, 1]:
            continue
        batch, channels, height, width = node.input_value(0).get_shape()
        flat = operators.reshape(node.input_value(0), np.array([batch, channels, height * width]), False)
        turned = operators.transpose(flat, np.array([0, 2, 1]))
        whole = operators.reshape(turned, np.array([batch, height, width, channels]), False)
        node.output(0).replace(whole.output(0))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
