"""Files of fewer bits: what is reduced and what is not, how far results are off, and what they are calibrated on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from scripts import ROOT, SHARED

from fdam_rotate.apis.exporting.detector import TOLERANCES
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.precision import calibration_windows, halve_weights, quantize_convolutions
from fdam_rotate.commands.export import main as export
from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.geometry import le90_to_poly, polygon_iou
from fdam_rotate.dota.predicting.onnx_model import OnnxModel
from fdam_rotate.dota.rasters.padding import pad_patch
from fdam_rotate.dota.splitting.presets import MEAN_COLOUR

RELEASED = ROOT / "configs" / "released" / "vhr10_small" / "vhr10_small.onnx"
TRAIN = SHARED / "real" / "vhr10" / "train" / "images"


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """A convolution, a product with a fixed matrix and a linear layer, one after the other."""
    rng = np.random.default_rng(0)
    values = {
        "kernel": rng.normal(size=(8, 4, 3, 3)), "bias": rng.normal(size=8), "matrix": rng.normal(size=(16, 16)),
        "weight": rng.normal(size=(32, 8 * 16)), "huge": np.full((8, 8, 3, 3), 1e5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("MatMul", ["a", "matrix"], ["b"], "product"),
        helper.make_node("ReduceMean", ["b"], ["c"], "mean", keepdims=0, axes=[2]),
        helper.make_node("Flatten", ["c"], ["d"], "flat"),
        helper.make_node("Gemm", ["d", "weight"], ["out"], "linear", transB=1),
        helper.make_node("Conv", ["a", "huge"], ["far"], "far"),
    ]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4, 16, 16])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 32]),
         helper.make_tensor_value_info("far", TensorProto.FLOAT, [1, 8, 14, 14])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in values.items()],
    )  # fmt: skip
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def outputs(path: Path, image: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = onnxruntime.InferenceSession(str(path)).run(None, {"image": image})
    return found


def test_weights_are_halved_and_nothing_else(small_file):
    image = np.random.default_rng(1).normal(size=(1, 4, 16, 16)).astype(np.float32)
    before, expected = onnx.load(small_file), outputs(small_file, image)
    halve_weights(small_file)
    model = onnx.load(small_file)
    onnx.checker.check_model(model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds == {
        "kernel_float16": TensorProto.FLOAT16, "bias": TensorProto.FLOAT, "matrix": TensorProto.FLOAT,
        "weight_float16": TensorProto.FLOAT16, "huge": TensorProto.FLOAT,
    }  # fmt: skip
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in before.graph.initializer}
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert abs(kept["kernel_float16"] - weights["kernel"]).max() <= 2**-11 * abs(weights["kernel"]).max()
    found = outputs(small_file, image)
    assert 0 < abs(found[0] - expected[0]).max() < 1e-2 * abs(expected[0]).max()


def test_convolutions_are_quantised_and_nothing_else(small_file):
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(1, 4, 16, 16)).astype(np.float32) for _ in range(4)]
    expected = outputs(small_file, images[0])
    quantize_convolutions(small_file, images)
    model = onnx.load(small_file)
    assert {node.domain for node in model.graph.node} == {""}
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    quantised = {node.op_type: made_by.get(node.input[1]) == "DequantizeLinear" for node in model.graph.node
                 if node.op_type in ("Conv", "Gemm", "MatMul")}  # fmt: skip
    assert quantised == {"Conv": True, "Gemm": False, "MatMul": False}
    kernels = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kernel = next(array for name, array in kernels.items() if name.startswith("kernel_quantized"))
    assert kernel.dtype == np.int8
    assert abs(kernel.astype(int)).reshape(8, -1).max(1).tolist() == [64] * 8, "7 bits, each output channel its own"
    found = outputs(small_file, images[0])
    assert 0 < abs(found[0] - expected[0]).max() < 0.1 * abs(expected[0]).max()


def write_image(path: Path, width: int, height: int, seed: int) -> Path:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return path


def test_calibration_sees_windows_of_all_images(tmp_path):
    large, small = write_image(tmp_path / "a.png", 70, 50, 0), write_image(tmp_path / "b.png", 20, 10, 1)
    batches = list(calibration_windows([large, small], 2, (24, 32)))
    # two columns and two rows of the large one, and the small one, filled up to three batches of two
    assert [batch.shape for batch in batches] == [(2, 3, 24, 32)] * 3
    windows = np.concatenate(batches)
    pixels = cv2.imread(str(large))[..., ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(windows[3], pixels[:, 24:48, 32:64])
    np.testing.assert_array_equal(windows[4], windows[5])
    np.testing.assert_array_equal(windows[4][:, :10, :20], cv2.imread(str(small))[..., ::-1].transpose(2, 0, 1))
    assert (windows[4][:, 10:] == np.array([124, 116, 104])[:, None, None]).all(), "filled up as predict does"
    many = [large] * 50
    assert len(list(calibration_windows(many, 1, (24, 32)))) == 50, "every fourth of 200"
    with pytest.raises(ExportError, match="int8 needs images"):
        calibration_windows([], 1, (24, 32))
    broken = tmp_path / "c.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageReadError, match=r"c\.png"):
        list(calibration_windows([broken], 1, (24, 32)))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """The released detector in each precision."""
    if not TRAIN.is_dir():
        pytest.skip("VHR-10 is not beside this checkout (../shared/real/vhr10)")
    folder = tmp_path_factory.mktemp("reduced")
    found = {}
    for precision in TOLERANCES:
        found[precision] = folder / f"{precision}.onnx"
        shutil.copy(RELEASED, found[precision])
    halve_weights(found["float16"])
    quantize_convolutions(found["int8"], calibration_windows(sorted(TRAIN.iterdir())[::60], 1, (1024, 1024)))
    halve_weights(found["int8"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("precision", "share", "least_iou", "off"), [("float16", 0.55, 0.97, 0.01), ("int8", 0.5, 0.7, 0.15)]
)
def test_each_precision_finds_what_float32_finds(files, precision, share, least_iou, off, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    assert files[precision].stat().st_size < share * files["float32"].stat().st_size
    paths = sorted((TRAIN.parents[1] / "val" / "images").iterdir())[::25]
    windows = [pad_patch(cv2.imread(str(path))[:1024, :1024], (1024, 1024), MEAN_COLOUR) for path in paths]
    whole, fewer = (
        OnnxModel(files[name], runtime=runtime, threads=1).detect(windows) for name in ("float32", precision)
    )
    same, count = 0, 0
    for expected, found in zip(whole, fewer, strict=True):
        sure = np.flatnonzero(expected.scores > 0.3)
        iou = polygon_iou(le90_to_poly(expected.boxes[sure]), le90_to_poly(found.boxes))
        close = (iou >= least_iou) & (expected.labels[sure, None] == found.labels)
        close &= abs(expected.scores[sure, None] - found.scores) <= off
        same, count = same + int(close.any(1).sum()), count + len(sure)
    assert count > 20
    assert same >= (0.9 if precision == "float16" else 0.8) * count, (same, count)


def test_wrong_combinations_are_one_line(tmp_path, capsys):
    config = str(ROOT / "configs" / "demo" / "lsk_fdam_demo.py")
    words = [config, "--out", str(tmp_path / "m.onnx")]
    image = str(write_image(tmp_path / "a.png", 8, 8, 0))
    together = "--precision int8 and --calibrate IMAGE... go together"
    for more, said in (
        (["--precision", "int8"], together),
        (["--precision", "fp16", "--calibrate", image], together),
        (["--calibrate", image], together),
        (["--features", "--precision", "fp16"], "--precision fp16 is for the whole detector, not for --features"),
        (["--precision", "int4"], "invalid choice: 'int4'"),
    ):
        with pytest.raises(SystemExit) as caught:
            export([*words, *more])
        assert caught.value.code == 2
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_precision_reaches_the_file(tmp_path, monkeypatch, capsys):
    """Writing takes half a minute; here it is left out."""
    import fdam_rotate.apis.exporting.detector as module

    shrinks, cards = [], []

    def write(model, image, path, names, metadata, translations, opset, shrink):
        path.write_bytes(b"a model")
        shrinks.append((shrink, image))
        cards.append(json.loads(metadata["fdam_rotate.card"])["precision"])

    monkeypatch.setattr(module, "write_onnx", write)
    config = str(ROOT / "configs" / "demo" / "lsk_fdam_demo.py")
    (tmp_path / "seen").mkdir()
    image = write_image(tmp_path / "seen" / "a.png", 64, 64, 0)
    words = [config, "--shape", "64", "64", "--out"]
    for precision, more in (("fp32", []), ("fp16", []), ("int8", ["--calibrate", str(image.parent)])):
        assert export([*words, str(tmp_path / f"{precision}.onnx"), "--precision", precision, *more]) == 0
        assert f"MB ({precision})" in capsys.readouterr().out
    assert cards == ["float32", "float16", "int8"]
    (none, _), (half, _), (_, seen) = shrinks
    assert none is None
    assert half is halve_weights
    torch.testing.assert_close(seen[0], torch.from_numpy(cv2.imread(str(image))[..., ::-1].copy()).permute(2, 0, 1))
