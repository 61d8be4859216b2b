"""Model files behind the prediction library: found as computed by hand, and refused where damaged or unsafe."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402
from square_model import SIDE, SIZE, square_card, write_square_model  # noqa: E402

from fdam_rotate.dota.errors import DotaError  # noqa: E402
from fdam_rotate.dota.predicting import onnx_model as module  # noqa: E402
from fdam_rotate.dota.predicting.onnx_model import ModelFileError, OnnxModel, read_card  # noqa: E402

RUNTIMES = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="OpenVINO is not installed"),
    ),
]


def window(*squares: tuple[int, int, tuple[int, int, int]], size: int = SIZE) -> np.ndarray:
    """Black but for squares (column, row, blue-green-red) of the grid."""
    pixels = np.zeros((size, size, 3), np.uint8)
    side = SIDE * size // SIZE
    for column, row, color in squares:
        pixels[row * side : (row + 1) * side, column * side : (column + 1) * side] = color
    return pixels


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("batch", [1, 2])
def test_boxes_scores_and_classes_come_through(tmp_path, runtime, batch):
    model = OnnxModel(write_square_model(tmp_path / "m.onnx", batch=batch), runtime=runtime, threads=1)
    assert model.classes == ("plane", "ship")
    windows = [window((1, 2, (0, 0, 204))), window(), window((3, 4, (102, 9, 0)), (7, 0, (0, 0, 153)))]
    first, none, two = model.detect(windows)
    assert first.labels.tolist() == [1], "red is the first channel of the model and the last of the window"
    np.testing.assert_allclose(first.boxes, [[12, 20, 8, 8, 0]])
    np.testing.assert_allclose(first.scores, [0.8], atol=1e-6)
    assert none.boxes.shape == (0, 5)
    assert two.labels.tolist() == [1, 0]
    np.testing.assert_allclose(two.scores, [0.6, 0.4], atol=1e-6)
    np.testing.assert_allclose(two.boxes[:, :2], [[60, 4], [28, 36]])


def test_windows_of_another_size_are_resized(tmp_path):
    model = OnnxModel(write_square_model(tmp_path / "m.onnx"), runtime="onnxruntime")
    (found,) = model.detect([window((1, 2, (0, 0, 204)), size=2 * SIZE)])
    np.testing.assert_allclose(found.boxes, [[24, 40, 16, 16, 0]])


def test_overlapping_boxes_of_a_class_are_suppressed(tmp_path):
    """Every box twice: the model's boxes are all moved to one place."""

    def all_in_one_place(model):
        boxes = next(tensor for tensor in model.graph.initializer if tensor.name == "all_boxes")
        values = onnx.numpy_helper.to_array(boxes).copy()
        values[:, :2] = 30
        boxes.CopyFrom(onnx.numpy_helper.from_array(values, "all_boxes"))

    path = write_square_model(tmp_path / "m.onnx", edit=all_in_one_place)
    colors = (1, 2, (0, 0, 204)), (2, 2, (0, 0, 250)), (3, 3, (99, 0, 0)), (4, 3, (101, 0, 0))
    (found,) = OnnxModel(path, runtime="onnxruntime").detect([window(*colors)])
    assert found.labels.tolist() == [1, 0], "classes do not meet"
    np.testing.assert_allclose(found.scores, [250 / 255, 101 / 255], atol=1e-6)


def test_max_per_image_is_kept(tmp_path):
    path = write_square_model(tmp_path / "m.onnx", card=square_card(max_per_image=1))
    (found,) = OnnxModel(path, runtime="onnxruntime").detect([window((1, 2, (0, 0, 204)), (5, 5, (255, 0, 0)))])
    assert found.labels.tolist() == [0]


def test_identity_tells_files_and_runtimes_apart(tmp_path):
    first = OnnxModel(write_square_model(tmp_path / "a.onnx"), runtime="onnxruntime").identity
    assert first == OnnxModel(write_square_model(tmp_path / "b.onnx"), runtime="onnxruntime").identity
    other = write_square_model(tmp_path / "c.onnx", card=square_card(gap=3))
    assert first["model"] != OnnxModel(other, runtime="onnxruntime").identity["model"]
    assert first["runtime"] == "onnxruntime"


def external(location: str):
    def edit(model):
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return edit


def hidden_external(model):
    """Within the branch of an If."""
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    output = helper.make_tensor_value_info("t", TensorProto.FLOAT, [1])
    branch = helper.make_graph([], "branch", [], [output], [tensor])
    model.graph.node.add().CopyFrom(
        helper.make_node("If", ["above"], ["unused"], then_branch=branch, else_branch=branch)
    )


def custom_operator(model):
    model.graph.node[4].domain = "evil.corp"


def own_function(model):
    model.functions.add().CopyFrom(
        helper.make_function("own", "F", ["x"], ["y"], [helper.make_node("Abs", ["x"], ["y"])],
                             [helper.make_opsetid("", 18)])
    )  # fmt: skip


def other_input(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 40


def more_inputs(model):
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def other_outputs(model):
    del model.graph.output[3]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param(external("../../etc/passwd"), r"keeps weights in another file \(\.\./\.\./etc/passwd\)", id="up"),
        pytest.param(external("/etc/passwd"), r"another file \(/etc/passwd\)", id="absolute"),
        pytest.param(hidden_external, r"another file \(/etc/passwd\)", id="in a branch"),
        pytest.param(custom_operator, r"needs the operator evil\.corp\.Div", id="custom operator"),
        pytest.param(own_function, r"functions of its own \(F\)", id="function"),
        pytest.param(other_input, r"expected image to be uint8 of \[1, 3, 64, 64\]", id="absurd input"),
        pytest.param(more_inputs, "expected one input, image, found image, more", id="two inputs"),
        pytest.param(other_outputs, "expected the outputs boxes, scores, labels, count, found boxes", id="outputs"),
    ],
)
def test_unsafe_files_are_refused_before_they_run(tmp_path, edit, message):
    path = write_square_model(tmp_path / "m.onnx", edit=edit)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_card(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_damaged_cards_are_refused(tmp_path):
    path = write_square_model(tmp_path / "m.onnx", card="{")
    with pytest.raises(ModelFileError, match=r"m\.onnx: model card: not JSON"):
        read_card(path)
    path = write_square_model(tmp_path / "m.onnx", edit=lambda model: model.ClearField("metadata_props"))
    with pytest.raises(ModelFileError, match=r"has no model card; make the file by tools/export\.py"):
        read_card(path)
    path = write_square_model(tmp_path / "m.onnx", card=square_card(height=32))
    with pytest.raises(ModelFileError, match="as its card says"):
        read_card(path)


def test_truncated_files_are_refused(tmp_path):
    path = write_square_model(tmp_path / "m.onnx")
    whole = path.read_bytes()
    for length in (0, 1, 7, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError) as caught:
            read_card(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(ModelFileError, match="not an ONNX file, or a damaged one"):
        read_card(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_card(tmp_path / "none.onnx")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_runtime_refuses_is_one_line(tmp_path, runtime):
    def broken(model):
        model.graph.node[3].input[0] = "nowhere"

    model = OnnxModel(write_square_model(tmp_path / "m.onnx", edit=broken), runtime=runtime)
    with pytest.raises(ModelFileError, match=rf"{runtime} cannot load it: ") as caught:
        model.prepare()
    assert "\n" not in str(caught.value)


def test_numbers_that_are_no_boxes_are_refused(tmp_path):
    def no_label(model):
        labels = next(tensor for tensor in model.graph.initializer if tensor.name == "all_labels")
        labels.CopyFrom(onnx.numpy_helper.from_array(np.full(128, 7), "all_labels"))

    model = OnnxModel(write_square_model(tmp_path / "m.onnx", edit=no_label), runtime="onnxruntime")
    with pytest.raises(ModelFileError, match="no boxes, scores or classes"):
        model.detect([window((1, 2, (0, 0, 204)))])
    card = dataclasses.replace(square_card(), max_boxes=3)
    model = OnnxModel(write_square_model(tmp_path / "m.onnx", card=card), runtime="onnxruntime")
    with pytest.raises(ModelFileError, match="other shapes than its card says"):
        model.detect([window()])


def test_maps_get_channels_last_over_one_axis_of_places():
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as operators

    maps = operators.parameter([2, 3, 4, 5], np.float32, "maps")
    any_size = operators.parameter(openvino.PartialShape([2, 3, -1, 5]), np.float32, "any_size")
    turned = [operators.transpose(maps, np.array(order)) for order in ([0, 2, 3, 1], [0, 3, 1, 2])]
    kept = operators.transpose(any_size, np.array([0, 2, 3, 1]))
    model = openvino.Model([*turned, kept], [maps, any_size])
    module._transpose_flat_maps(model)
    orders = [node.input_value(1).get_node().get_data().tolist() for node in model.get_ordered_ops()
              if node.get_type_name() == "Transpose"]  # fmt: skip
    assert sorted(orders) == [[0, 2, 1], [0, 2, 3, 1], [0, 3, 1, 2]]
    values = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    found = openvino.Core().compile_model(model, "CPU")([values, values])
    last = values.transpose(0, 2, 3, 1)
    for array, expected in zip(found.values(), (last, values.transpose(0, 3, 1, 2), last), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_runtimes_that_are_not_there(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DotaError, match=r"pip install 'fdam_rotate\[predict\]'"):
        module.find_runtime("auto", "cpu")
    with pytest.raises(DotaError, match=r"openvino is not installed: pip install 'fdam_rotate\[openvino\]'"):
        module.find_runtime("openvino", "cpu")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    assert module.find_runtime("auto", "cpu") == "openvino"
    assert module.find_runtime("auto", "cuda") == "onnxruntime"
    with pytest.raises(DotaError, match="OpenVINO has no CUDA"):
        module.find_runtime("openvino", "cuda")
