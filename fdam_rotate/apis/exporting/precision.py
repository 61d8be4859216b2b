"""Fewer bits for an exported file: weights in float16, or convolutions in 8 bits.

float16 halves the file. Its convolutions and linear layers keep their weights in 16 bits, and a Cast before each brings
them to float32, once, when a runtime loads the file; what is computed is float32 still.

int8 computes the convolutions in 8 bits, by ONNX Runtime's static quantisation: weights by output channel, maps by
one range each, which is seen on images that the user gives. The file holds QuantizeLinear and DequantizeLinear round
each convolution, standard operators that runtimes turn into integer arithmetic. Weights take 7 of the 8 bits, because
processors without VNNI add products of 8 bits in 16, which would overflow. Linear layers keep theirs in float16.

In both the test pipeline, FFTs, attention's products, RoIAlign, suppression and decoding stay float32.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.dota.rasters.images import image_size, open_pixels
from fdam_rotate.dota.rasters.padding import pad_patch
from fdam_rotate.dota.splitting.presets import MEAN_COLOUR

__all__ = ["calibration_windows", "halve_weights", "quantize_convolutions"]

#: Windows that ranges are taken from, at most: each costs a prediction.
_MOST_WINDOWS = 64

#: Smaller tensors stay as they are: a Cast costs more than they hold.
_LEAST_VALUES = 256


def halve_weights(path: Path) -> None:
    """Keep the weights of an ONNX file's convolutions and linear layers as float16, in place."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    graph = model.graph
    uses: dict[str, list[tuple[Any, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            uses.setdefault(name, []).append((node, place))
    casts = []
    for tensor in graph.initializer:
        kinds = {(node.op_type, place) for node, place in uses.get(tensor.name, ())}
        if not kinds or kinds - {("Conv", 1), ("Gemm", 1)} or tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _LEAST_VALUES or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = f"{tensor.name}_float16"
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    onnx.save(model, str(path))


def quantize_convolutions(path: Path, images: Iterable[NDArray[Any]]) -> None:
    """Compute the convolutions of an ONNX file in 8 bits, in place.

    Args:
        path: of the file.
        images: what its input ``image`` is fed with, to see the ranges of its maps.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image}

    logging.getLogger().addFilter(_nothing)
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "quantized.onnx"
            quantize_static(
                str(path),
                str(made),
                Images(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            path.write_bytes(made.read_bytes())
    finally:
        logging.getLogger().removeFilter(_nothing)


def calibration_windows(paths: Sequence[Path], batch: int, shape: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Windows of images, side by side without overlap, at most 64 of them and evenly over all images.

    Args:
        paths: of the images.
        batch: windows in an array; the last one is filled up with its last window.
        shape: (H, W) of the windows.

    Returns:
        Arrays (batch, 3, H, W), red, green, blue, which are read as they are asked for.

    Raises:
        ImageReadError: an image cannot be read.
        ExportError: there is no image.
    """
    if not paths:
        raise ExportError("int8 needs images to see the ranges of maps on, such as those of a validation set")
    height, width = shape
    places = []
    for path in paths:
        across, down = image_size(path)
        for y in range(0, max(down - height, 0) + 1, height):
            places += [(path, x, y) for x in range(0, max(across - width, 0) + 1, width)]
    return _read(places[:: -(-len(places) // _MOST_WINDOWS)], batch, height, width)


def _read(places: Iterable[tuple[Path, int, int]], batch: int, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    held: list[NDArray[np.uint8]] = []
    for path, x, y in places:
        with open_pixels(path) as image:
            for _, crop in image.crops([(x, y, x + width, y + height)]):
                window = pad_patch(np.ascontiguousarray(crop), (width, height), MEAN_COLOUR)
                held.append(window[..., ::-1].transpose(2, 0, 1))
        if len(held) == batch:
            yield np.ascontiguousarray(np.stack(held))
            held = []
    if held:
        yield np.stack([*held, *[held[-1]] * (batch - len(held))])


def _nothing(record: logging.LogRecord) -> bool:
    """A filter that drops what the quantisation says of biases and of preparations, on the root logger."""
    return False
