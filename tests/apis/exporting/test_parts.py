"""The parts of exported detectors, each on a case that is known by hand or compared with the host's own code."""

from __future__ import annotations

import inspect
import logging
import math
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from mmcv import ConfigDict
from onnx import TensorProto, helper, numpy_helper
from random_detectors import NORM, random_detector
from torch import nn

from fdam_rotate.apis.exporting import detector as module
from fdam_rotate.apis.exporting import features
from fdam_rotate.apis.exporting.boxes import normalized_angle
from fdam_rotate.apis.exporting.candidates import Pixels, best_candidates
from fdam_rotate.apis.exporting.detector import candidates_of, class_names, export_detector, preparation
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.precision import halve_weights, quantize_convolutions
from fdam_rotate.apis.exporting.suppression import kept_mask
from fdam_rotate.apis.exporting.writing import reason

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"model__backbone__depths": [1, 1, 1, 1], "model__test_cfg__rpn__max_per_img": 60}
SHAPE = (64, 96)


# ---- boxes and candidates


@pytest.mark.parametrize("version", ["le90", "le135", "oc"])
def test_angles_are_brought_to_the_hosts_range(version):
    from mmrotate.core.bbox.transforms import norm_angle

    angles = torch.linspace(-3, 3, 101) * 1.01
    torch.testing.assert_close(normalized_angle(angles, version), norm_angle(angles, version), atol=1e-6, rtol=0)
    begin = {"le90": -math.pi / 2, "le135": -math.pi / 4}.get(version)
    if begin is not None:
        assert normalized_angle(torch.tensor([begin + 1e-6, begin - 1e-6]), version).tolist() == pytest.approx(
            [begin, begin + math.pi], abs=1e-5
        )


def test_pixels_of_either_order_and_without_padding():
    """A config that says nothing of the order means red first, and one without a Pad step pads nothing."""
    image = torch.arange(60.0).view(1, 3, 4, 5)
    steps = {"mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 4.0]}
    mean, std = (torch.tensor(steps[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(Pixels(steps)(image), (image - mean) / std)
    found = Pixels({**steps, "to_rgb": False, "divisor": 8})(image)
    assert found.shape == (1, 3, 8, 8)
    torch.testing.assert_close(found[..., :4, :5], (image[:, [2, 1, 0]] - mean) / std)
    assert not found[..., 4:, :].any()
    assert not found[..., 5:].any()


def test_sizes_are_rounded_up_from_the_half():
    assert Pixels({**NORM, "scale": (100, 70)}).seen(torch.zeros(1, 3, 50, 80)) == (63, 100)  # 62.5
    assert Pixels({**NORM, "scale": (100, 70)}).seen(torch.zeros(1, 3, 80, 50)) == (100, 63)


@pytest.mark.parametrize("of_classes", [False, True])
def test_the_best_pairs_of_box_and_class(of_classes):
    """Scores of two boxes in three classes; the threshold itself does not count."""
    scores = torch.tensor([[[0.1, 0.9, 0.3], [0.8, 0.2, 0.5]]])
    boxes = 10.0 * torch.arange(2).view(1, 2, 1, 1) + torch.zeros(1, 2, 3 if of_classes else 1, 5)
    if of_classes:
        boxes = boxes + torch.arange(3).view(1, 1, 3, 1)
    found, best, labels, count = best_candidates(boxes, scores, 4, 0.5)
    assert best.tolist() == [pytest.approx([0.9, 0.8, 0.5, 0.3])]
    assert labels.tolist() == [[1, 0, 2, 2]]
    assert found[0, :, 0].tolist() == ([1, 10, 12, 2] if of_classes else [0, 10, 10, 0])
    assert count.tolist() == [2]
    assert best_candidates(boxes, scores, 9, 0.5)[1].shape == (1, 6), "a small image of one class has no more"


# ---- the whole detector, its network and its writing replaced by what is known


class Known(nn.Module):
    """Four candidates, the last without a score."""

    classes = 2
    test_cfg = ConfigDict(score_thr=0.2, nms=dict(iou_thr=0.35), max_per_img=7)
    scores = torch.tensor([[0.9, 0.5, 0.3, 0.0]])

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        boxes = torch.tensor([[[5.0 * k, 5, 4, 2, 0.1] for k in range(4)]])
        return boxes, self.scores, torch.tensor([[0, 1, 1, 0]]), torch.tensor([3])


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Writes a file whose scores are off by as much; what shrinks it is called."""
    monkeypatch.setattr(module, "candidates_of", lambda *_: Known().eval())

    def write(model, image, path, names, metadata, translations, opset, shrink):
        path.write_bytes(b"a model")
        if shrink is not None:
            shrink(path)

    monkeypatch.setattr(module, "write_onnx", write)

    def run(off: float = 0.0, **options):
        monkeypatch.setattr(module, "_run", lambda path, image, names: [None, Known.scores.numpy() - np.float32(off)])
        words = dict(steps=NORM, config="c.py", classes=("a", "b"), overwrite=True, check=True)
        return export_detector(nn.Identity(), tmp_path / "m.onnx", (8, 8), **{**words, **options})

    return run


@pytest.fixture
def calibration(tmp_path, monkeypatch) -> list[Path]:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((8, 8, 3), (10, 20, 250), np.uint8))
    return [path]


def test_how_far_each_precision_may_be_off(export, calibration, monkeypatch):
    for name in ("halve_weights", "quantize_convolutions"):
        monkeypatch.setattr(module, name, lambda *_: None)
    for precision, near, far in (("float32", 9e-4, 2e-3), ("float16", 9e-3, 0.02), ("int8", 0.19, 0.21)):
        words = {"precision": precision, "calibration": calibration}
        assert export(near, **words).difference == pytest.approx(near, rel=1e-3)
        with pytest.raises(ExportError, match="scores differ from the detector's"):
            export(far, **words)
        assert export(far, tolerance=0.5, **words).difference == pytest.approx(far, rel=1e-3)
        with pytest.raises(ExportError, match=r"more than 1e-05"):
            export(near, tolerance=1e-5, **words)
    with pytest.raises(ExportError, match="by nan"):
        export(math.nan)


def test_the_card_has_the_detectors_settings(export):
    card = export().card
    assert (card.score_thr, card.iou_thr, card.max_per_image, card.max_boxes) == (0.2, 0.35, 7, 4)
    for classes in (("a",), ("a", "b", "c")):
        with pytest.raises(ExportError, match=f"the detector has 2 classes, the data set {len(classes)}"):
            export(classes=classes)


def test_a_whole_detector_is_no_torchscript(tmp_path):
    with pytest.raises(ExportError, match=r"give a name that ends in \.onnx \(ONNX\)$"):
        export_detector(nn.Identity(), tmp_path / "m.pt", (8, 8), steps=NORM, classes=("a", "b"), config="c.py")


@pytest.mark.parametrize("deepness", [False, True])
def test_eight_bits_see_what_the_file_is_fed_with(export, calibration, monkeypatch, deepness):
    """And the linear layers' weights are halved after it."""
    steps = []
    monkeypatch.setattr(module, "quantize_convolutions", lambda path, images: steps.append(list(images)))
    monkeypatch.setattr(module, "halve_weights", lambda path: steps.append("halved"))
    export(precision="int8", calibration=calibration, deepness=deepness, check=False)
    (image,), last = steps
    assert last == "halved"
    assert image.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(image[0, :, 0, 0], np.array([250, 20, 10]) / (255 if deepness else 1))
    assert image.dtype == (np.float32 if deepness else np.uint8)


def test_windows_overlap_by_the_commands_default():
    from fdam_rotate.commands.export import build_parser

    assert inspect.signature(export_detector).parameters["gap"].default == build_parser().get_default("gap") == 200


def test_more_that_the_pipeline_may_say():
    _, cfg = random_detector(**SMALL)
    views = cfg.data.test.pipeline[1]
    for kind in ("MultiScaleFlipAug", "FlipTurnAug"):
        views.update(type=kind, flip=True)
        with pytest.raises(ExportError, match="flip=True; an exported model sees one view"):
            preparation(cfg)
        views.flip = False
        assert preparation(cfg)["scale"] == 1
    del views["scale_factor"]
    for scale in ((96, 128, 3), (96.0, 128)):
        views.img_scale = scale
        with pytest.raises(ExportError, match="an exported model has one scale"):
            preparation(cfg)
    views.img_scale = (96, 128)
    views.transforms[0].img_scale = (64, 64)
    assert preparation(cfg)["scale"] == (96, 128), "the views' own counts, as in MMDetection"
    for at, step, said in (
        (1, dict(type="CLAHE"), "has a step CLAHE, which an exported model does not do"),
        (2, dict(type="CLAHE"), "has a step CLAHE"),
        (2, dict(type="Resize", keep_ratio=False), "Resize with keep_ratio=False"),
        (2, dict(type="Pad", size=(96, 96)), r"Pad with size=\(96, 96\)"),
        (2, dict(type="Pad", pad_to_square=True), "Pad with pad_to_square=True"),
        (2, dict(type="Pad", size_divisor=32, pad_val=dict(img=(0, 0, 9))), "Pad with pad_val="),
    ):
        steps = cfg.data.test.pipeline if at == 1 else views.transforms
        steps.insert(1, step)
        with pytest.raises(ExportError, match=said):
            preparation(cfg)
        del steps[1]
    views.transforms[2] = dict(type="Pad", size=None, size_divisor=64, pad_val=dict(img=0, masks=0, seg=255))
    assert preparation(cfg)["divisor"] == 64
    cfg.data.test.classes = ("pier", "crane")
    assert class_names(cfg) == ("pier", "crane")


# ---- backbone and neck


def test_distance_of_maps():
    """Of small maps absolute, of large ones as a part of the largest value; what is no number is infinitely far."""
    small, large = torch.tensor([1e-6, 2e-6]), torch.tensor([10.0, -20.0])
    assert features._difference(small, small + 1e-3) == pytest.approx(1e-3, rel=1e-4)
    assert features._difference(large, large + 1) == pytest.approx(0.05)
    for expected, found in ((small, small / 0), (small * math.nan, small)):
        assert features._difference(expected, found) == math.inf
    with pytest.raises(ExportError, match=r"gives \(1,\) where \(2,\) is expected"):
        features._difference(small, small[:1])


def test_one_wrong_map_is_enough(tmp_path, monkeypatch):
    class Two(nn.Module):
        def extract_feat(self, image):
            return image, image * 2

    monkeypatch.setattr(features, "_script_runner", lambda path: lambda image: [image, image * 2.1])
    with pytest.raises(ExportError, match="differs from the detector"):
        features.export_features(Two(), tmp_path / "f.pt", (8, 8))


def test_an_error_without_words_has_a_name():
    assert reason(NotImplementedError()) == "NotImplementedError"
    assert reason(ValueError("  first\nsecond")) == "first"


# ---- parts of detectors, beside the hosts'


@pytest.fixture(scope="module")
def maps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 64, SHAPE[0] // s, -(-SHAPE[1] // s), generator=generator) for s in (4, 8, 16, 32, 64)]


def compare_proposals(detector: nn.Module, maps: list[torch.Tensor]) -> int:
    """The proposals of both, in order, with their scores; how many."""
    meta = dict(img_shape=(*SHAPE, 3), pad_shape=(*SHAPE, 3), scale_factor=[1.0] * 4)
    model = candidates_of(detector, NORM)
    with torch.no_grad():
        expected = detector.rpn_head.simple_test_rpn(maps, [meta] * 2)
        boxes, scores = model.proposals(maps, SHAPE)
    for rows, box, score in zip(expected, boxes, scores, strict=True):
        assert int((score >= 0).sum()) == len(rows)
        torch.testing.assert_close(score[: len(rows)], rows[:, -1], atol=1e-6, rtol=0)
        torch.testing.assert_close(box[: len(rows), :2], rows[:, :2], atol=1e-2, rtol=0)
    return sum(map(len, expected))


def test_proposals_of_two_scores_each(maps):
    """Object and background, where the loss is a softmax."""
    loss = dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0)
    assert compare_proposals(random_detector(model__rpn_head__loss_cls=loss, **SMALL)[0], maps) == 120


def test_small_proposals_go_and_all_anchors_may_count(maps):
    detector = random_detector(**SMALL)[0]
    cfg = detector.rpn_head.test_cfg
    cfg.max_per_img = 2000
    every = compare_proposals(detector, maps)
    cfg.min_bbox_size = 24
    fewer = compare_proposals(detector, maps)
    assert 20 < fewer < every - 20
    cfg.min_bbox_size, cfg.nms_pre = 0, -1
    assert compare_proposals(detector, maps) >= every


def test_rows_without_a_proposal_give_no_candidate():
    """Few of 60 are left where they may hardly overlap; each of them has a score in each of 15 classes."""
    detector = random_detector(**SMALL, model__test_cfg__rpn__nms__iou_threshold=0.02)[0]
    model = candidates_of(detector, NORM, 900)
    image = torch.randint(0, 256, (1, 3, *SHAPE), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)
    with torch.no_grad():
        _, found = model.proposals(model.detector.extract_feat(model.pixels(image)), SHAPE)
        _, scores, _, _ = model(image)
    present = int((found >= 0).sum())
    assert 0 < present < 60
    assert int((scores > 0).sum()) == 15 * present


def test_boxes_that_are_left_out_are_not_kept():
    """However many may be kept, and though they overlap none."""
    place = 10.0 * torch.arange(4)[:, None]
    boxes = torch.cat([place, place, place + 5, place + 5], 1)[None]
    assert kept_mask(boxes, torch.tensor([[0.5, -1.0, 0.0, -1.0]]), 0.4, 9).tolist() == [[1, 0, 1, 0]]


def test_candidates_are_no_more_than_there_can_be():
    detector = random_detector(**SMALL)[0]
    assert candidates_of(detector, NORM).max_boxes == 120, "twice the proposals"
    assert candidates_of(detector, NORM, 50).max_boxes == 50
    assert candidates_of(detector, NORM, 10**9).max_boxes == 60 * 15


def test_the_detector_is_not_changed():
    detector = random_detector(**SMALL)[0]
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    kinds = [getattr(part, "impl", None) for part in detector.modules()]
    assert "fft" in kinds
    assert {getattr(part, "impl", "dft") for part in candidates_of(detector, NORM).modules()} == {"dft"}
    assert [getattr(part, "impl", None) for part in detector.modules()] == kinds
    after = detector.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_two_stages_that_are_not_exported_are_said_in_one_line():
    def refused(words: str, change) -> None:
        detector = random_detector(**SMALL)[0]
        change(detector, detector.roi_head.bbox_head, detector.roi_head.bbox_roi_extractor.roi_layers[0])
        with pytest.raises(ExportError, match=words):
            candidates_of(detector, NORM)

    refused(r"test_cfg\.rpn\.nms has split_thr", lambda d, *_: d.rpn_head.test_cfg.nms.update(split_thr=3))
    refused("has a shared head", lambda d, *_: setattr(d.roi_head, "with_shared_head", True))
    refused("a loss with its own scores", lambda _, h, __: setattr(h.loss_cls, "custom_cls_channels", True))
    for name, value in (("num_shared_convs", 1), ("num_shared_fcs", 0), ("with_avg_pool", True)):
        refused("begin with shared linear layers", lambda _, h, __, n=name, v=value: setattr(h, n, v))
    for name in ("cls_convs", "cls_fcs", "reg_convs", "reg_fcs"):
        layers = nn.ModuleList([nn.Identity()])
        refused("without layers of their own", lambda _, h, __, n=name, v=layers: setattr(h, n, v))
    refused("aligned=True, got", lambda _, __, layer: setattr(layer, "aligned", False))
    refused("square outputs", lambda _, __, layer: setattr(layer, "output_size", (7, 5)))


# ---- precision


def gemm(path: Path, *shapes: tuple[int, int]) -> Path:
    """Linear layers one after the other."""
    rng, nodes, values, last = np.random.default_rng(0), [], [], "image"
    for k, shape in enumerate(shapes):
        values.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"w{k}"))
        nodes.append(helper.make_node("Gemm", [last, f"w{k}"], [f"x{k}"]))
        last = f"x{k}"
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, shapes[0][0]])]
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, shapes[-1][1]])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))
    return path


def test_weights_of_less_than_256_values_stay(tmp_path):
    path = gemm(tmp_path / "m.onnx", (15, 16), (16, 16), (16, 15))
    halve_weights(path)
    kinds = [tensor.data_type for tensor in onnx.load(str(path)).graph.initializer]
    assert kinds == [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.FLOAT]


def test_the_log_is_heard_again_after_quantisation(tmp_path):
    """Also where it fails."""
    before = list(logging.getLogger().filters)
    quantize_convolutions(gemm(tmp_path / "m.onnx", (4, 4)), [np.zeros((1, 4), np.float32)])
    assert logging.getLogger().filters == before
    with pytest.raises(Exception, match=r"none\.onnx"):
        quantize_convolutions(tmp_path / "none.onnx", [])
    assert logging.getLogger().filters == before
