"""A model file made by hand whose answer is known: one box on each bright square of a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fdam_rotate.dota.predicting.card import CARD_KEY, ModelCard

__all__ = ["SIDE", "SIZE", "square_card", "write_square_model"]

#: Pixels of an image's side, and of a square's.
SIZE, SIDE = 64, 8


def square_card(**changes: Any) -> ModelCard:
    """The card of the file that `write_square_model` writes."""
    values: dict[str, Any] = dict(
        classes=("plane", "ship"), height=SIZE, width=SIZE, batch=1, max_boxes=128, score_thr=0.3, iou_thr=0.1,
        max_per_image=100, gap=16, detector="Squares", config="by hand",
    )  # fmt: skip
    return ModelCard(**{**values, **changes})


def write_square_model(
    path: Path,
    *,
    card: ModelCard | str | None = None,
    batch: int = 1,
    edit: Callable[[onnx.ModelProto], None] | None = None,
) -> Path:
    """Each 8 x 8 cell of the image's grid is a box, scored by its mean red (ship) or blue (plane) over 255.

    Args:
        path: the file.
        card: in its metadata; text is written as it is; None: the card that fits.
        batch: images.
        edit: a change to the model before it is written.
    """
    cells = SIZE // SIDE
    count = 2 * cells**2
    center = SIDE * (np.arange(cells) + 0.5)
    x, y = (grid.ravel() for grid in np.meshgrid(center, center))
    rest = np.tile([SIDE, SIDE, 0.0], (cells**2, 1))
    boxes = np.concatenate([np.stack([x, y], 1), rest], 1).astype(np.float32)
    tables: dict[str, np.ndarray] = {
        "all_boxes": np.tile(boxes, (2, 1)),
        "all_labels": np.repeat(np.array([1, 0]), cells**2),  # red first
        "channels": np.array([0, 2]),
        "flat": np.array([batch, count]),
        "k": np.array([count]),
        "thr": np.array(0.3, np.float32),
        "full": np.array(255, np.float32),
        "last": np.array([1]),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["pixels"], ["mean"], kernel_shape=[SIDE, SIDE], strides=[SIDE, SIDE]),
        helper.make_node("Gather", ["mean", "channels"], ["used"], axis=1),
        helper.make_node("Reshape", ["used", "flat"], ["values"]),
        helper.make_node("Div", ["values", "full"], ["shares"]),
        helper.make_node("TopK", ["shares", "k"], ["scores", "index"], axis=1),
        helper.make_node("Gather", ["all_boxes", "index"], ["boxes"]),
        helper.make_node("Gather", ["all_labels", "index"], ["labels"]),
        helper.make_node("Greater", ["scores", "thr"], ["above"]),
        helper.make_node("Cast", ["above"], ["ones"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["ones", "last"], ["count"], keepdims=0),
    ]
    outputs: Sequence[tuple[str, int, list[int]]] = (
        ("boxes", TensorProto.FLOAT, [batch, count, 5]),
        ("scores", TensorProto.FLOAT, [batch, count]),
        ("labels", TensorProto.INT64, [batch, count]),
        ("count", TensorProto.INT64, [batch]),
    )
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(value, name) for name, value in tables.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    text = (card or square_card(batch=batch)).to_json() if not isinstance(card, str) else card
    model.metadata_props.add(key=CARD_KEY, value=text)
    if edit is not None:
        edit(model)
    path.write_bytes(model.SerializeToString())
    return path
