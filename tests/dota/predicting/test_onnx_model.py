"""Model files behind the prediction library: found as computed by hand, and refused where damaged or unsafe."""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
import sys
from types import SimpleNamespace

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


class Answers(OnnxModel):
    """A model of 32 rows and 64 columns that gives what it is told, and keeps the pixels that it is fed."""

    def __init__(self, path, *outputs, **changes):
        super().__init__(write_square_model(path / "m.onnx"), runtime="onnxruntime")
        count = len(outputs[0][0])
        self.card = square_card(**{"height": 32, "width": 64, "max_boxes": count, **changes})
        self.fed = []
        self._run = lambda pixels: self.fed.append(pixels) or [np.array(one) for one in outputs]


def answer(boxes, scores=None, labels=None, count=None):
    boxes = np.array([boxes], np.float32)
    number = boxes.shape[1]
    return (boxes, [scores or [0.9 - 0.1 * k for k in range(number)]], [labels or [0] * number],
            [number if count is None else count])  # fmt: skip


@pytest.mark.parametrize(
    ("height", "width", "across", "down"),
    [(32, 64, 1, 1), (64, 100, 100 / 64, 2), (64, 32, 0.5, 2), (64, 64, 1, 2), (32, 100, 100 / 64, 1)],
)
def test_rows_and_columns_are_not_confused(tmp_path, height, width, across, down):
    """A window that is as high as the model is wide included."""
    model = Answers(tmp_path, *answer([[20.1, 10.3, 8.7, 4.9, 0.3]]))
    (found,) = model.detect([np.zeros((height, width, 3), np.uint8)])
    assert model.fed[0].shape == (1, 3, 32, 64)
    given = np.array([20.1, 10.3, 8.7, 4.9, 0.3], np.float32).astype(float)
    np.testing.assert_allclose(found.boxes, [given * [across, down, across, down, 1]], rtol=1e-12)


def test_larger_windows_are_averaged(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    model = Answers(tmp_path, *answer([[1, 1, 1, 1, 0]]))
    model.detect([pixels])
    means = pixels.reshape(32, 2, 64, 2, 3).astype(float).mean((1, 3))
    np.testing.assert_allclose(model.fed[0][0], means[..., ::-1].transpose(2, 0, 1), atol=1)


def test_the_cards_overlap_decides(tmp_path):
    """Two squares of which one is moved by half: 1/3 of both together."""
    boxes = [[10, 10, 8, 8, 0], [14, 10, 8, 8, 0]]
    for iou_thr, kept in ((0.3, 1), (0.4, 2)):
        (found,) = Answers(tmp_path, *answer(boxes), iou_thr=iou_thr).detect([window()])
        assert len(found.scores) == kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"boxes": [[1, np.nan, 1, 1, 0]]}, "no boxes, scores or classes", id="box"),
        pytest.param({"scores": [np.inf]}, "no boxes, scores or classes", id="score"),
        pytest.param({"labels": [2]}, "no boxes, scores or classes", id="one class too many"),
        pytest.param({"labels": [-1]}, "no boxes, scores or classes", id="below the first class"),
        pytest.param({"boxes": [[1, 1, 1, 0]]}, "other shapes than its card says", id="four numbers"),
        pytest.param({"scores": [0.5, 0.4]}, "other shapes than its card says", id="scores"),
        pytest.param({"labels": [0, 0]}, "other shapes than its card says", id="labels"),
        pytest.param({"count": [1]}, "other shapes than its card says", id="count"),
    ],
)
def test_what_no_detector_gives_is_refused(tmp_path, changes, message):
    good = {"boxes": [[1, 1, 1, 1, 0]], "scores": [0.5], "labels": [1]}
    assert Answers(tmp_path, *answer(**good)).detect([window()])[0].labels.tolist() == [1]
    with pytest.raises(ModelFileError, match=message):
        Answers(tmp_path, *answer(**{**good, **changes})).detect([window()])
    if "count" not in changes and message.startswith("no"):
        (found,) = Answers(tmp_path, *answer(**{**good, **changes}, count=0)).detect([window()])
        assert len(found.scores) == 0, "rows beyond the count are not looked at"


def test_the_devices_name_is_part_of_the_identity(tmp_path):
    path = write_square_model(tmp_path / "m.onnx")
    for given, device in (("auto", "cpu"), ("auto:1", "cpu"), ("cpu", "cpu"), ("cuda:1", "cuda:1")):
        assert OnnxModel(path, runtime="onnxruntime", device=given).identity["device"] == device


def test_threads_of_the_worker_go_before_those_of_the_model(tmp_path, monkeypatch):
    path = write_square_model(tmp_path / "m.onnx")
    asked = []
    monkeypatch.setattr(module, "open_session", lambda *_, threads, **__: asked.append(threads))
    for own, workers in ((3, None), (3, 2), (None, 2), (None, None)):
        OnnxModel(path, runtime="onnxruntime", threads=own).prepare(workers)
    assert asked == [3, 2, 2, None]


def test_a_worker_in_another_folder_finds_the_file(tmp_path, monkeypatch):
    write_square_model(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    model = pickle.dumps(OnnxModel("m.onnx", runtime="onnxruntime"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (found,) = pickle.loads(model).detect([window((1, 2, (0, 0, 204)))])
    assert found.labels.tolist() == [1]


def test_onnxruntime_gets_the_threads_and_the_gpu(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    made, there = [], ["CUDAExecutionProvider", "CPUExecutionProvider"]

    class Session:
        def __init__(self, path, options, providers):
            made.append((options.intra_op_num_threads, providers))

        def get_providers(self):
            return there

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    for device, threads in (("cuda", None), ("cuda:1", 2)):
        module.open_session("onnxruntime", tmp_path, device=device, threads=threads)
    assert made == [
        (0, [("CUDAExecutionProvider", {})]),
        (2, [("CUDAExecutionProvider", {"device_id": 1})]),
    ]
    with pytest.raises(DotaError, match="found no GPU that it can use; take --device cpu"):
        module.open_session("onnxruntime", tmp_path, device="cpu")  # as if the CPU were the GPU that is not taken
    del there[0]
    with pytest.raises(DotaError, match="has no CUDA: pip install onnxruntime-gpu"):
        module.open_session("onnxruntime", tmp_path, device="cuda")


def test_openvino_computes_in_float32_with_the_threads(tmp_path, monkeypatch):
    asked = []

    class Core:
        read_model = staticmethod(str)

        def compile_model(self, model, device, settings):
            asked.append((device, settings))
            return SimpleNamespace(create_infer_request=lambda: None)

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=Core))
    monkeypatch.setattr(module, "_transpose_flat_maps", lambda model: None)
    plain = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    module.open_session("openvino", tmp_path)
    module.open_session("openvino", tmp_path, threads=2)
    module.open_session("openvino", tmp_path, precision="bf16")
    assert asked == [
        ("CPU", plain),
        ("CPU", {**plain, "INFERENCE_NUM_THREADS": 2}),
        ("CPU", {**plain, "INFERENCE_PRECISION_HINT": "bf16"}),
    ]


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


def outside() -> TensorProto:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def hidden_in(*fields: str):
    """In an attribute of a node: its field, of that the next, and so on; lists get one element."""

    def edit(model):
        place = model.graph if fields[0] == "sparse_initializer" else model.graph.node.add(op_type="X").attribute.add()
        for field in fields:
            place = getattr(place, field)
            place = place.add() if hasattr(place, "add") else place
        place.CopyFrom(outside())

    return edit


def only_named(model):
    """The place of the weights is given, but not that they lie there."""
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def other_kind(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


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
        pytest.param(only_named, r"another file \(/etc/passwd\)", id="named only"),
        *(
            pytest.param(hidden_in(*fields.split(".")), r"another file \(/etc/passwd\)", id=fields)
            for fields in (
                "t",
                "tensors",
                "sparse_tensor.values",
                "sparse_tensor.indices",
                "sparse_tensors.values",
                "sparse_initializer.values",
                "sparse_initializer.indices",
                "g.initializer",
                "graphs.initializer",
            )
        ),
        pytest.param(other_kind, r"expected image to be uint8 of \[1, 3, 64, 64\]", id="kind of numbers"),
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


def test_what_other_writers_of_onnx_do_is_allowed(tmp_path):
    """Weights named among the inputs, as before version 4 of the format; the standard operators' set by its name."""

    def edit(model):
        model.graph.input.add().CopyFrom(helper.make_tensor_value_info("k", TensorProto.INT64, [1]))
        model.graph.node[4].domain = "ai.onnx"

    assert read_card(write_square_model(tmp_path / "m.onnx", edit=edit)) == square_card()


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
