"""A whole detector as an ONNX file finds what MMRotate's own code finds; its parts do what the host's do."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import pytest
import torch
from random_detectors import NORM, host_detections, random_detector

from fdam_rotate.apis.exporting.boxes import midpoint_boxes, upright_bounds
from fdam_rotate.apis.exporting.candidates import Pixels
from fdam_rotate.apis.exporting.detector import candidates_of, export_detector, preparation
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.roi_align import pool_rotated
from fdam_rotate.apis.exporting.suppression import kept_mask
from fdam_rotate.dota.errors import OutputExistsError
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_iou, polygon_iou
from fdam_rotate.dota.predicting.onnx_model import OnnxModel

CLASSES = tuple(f"class-{k}" for k in range(15))
SHAPE = (96, 128)


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    return random_detector(model__test_cfg__rpn__max_per_img=120)[0]


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    report = export_detector(
        detector, path, SHAPE, steps=NORM, classes=CLASSES, config="demo.py", batch=2, gap=16, check=True,
        max_boxes=1800, checkpoint_sha256="ab" * 32, trained_on="noise", licence="none", gsd=0.5,
    )  # fmt: skip
    return report


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, *SHAPE), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)


def windows(images: torch.Tensor) -> list[np.ndarray]:
    """As they are read: blue, green, red."""
    return [np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1]) for image in images]


def unmatched(host: list[np.ndarray], found) -> list[str]:
    """Detections of the host without one of the same class at IoU >= 0.99 and a score within 1e-3."""
    missing = []
    for label, rows in enumerate(host):
        mine = found.labels == label
        iou = polygon_iou(le90_to_poly(rows[:, :5]), le90_to_poly(found.boxes[mine]))
        close = (iou >= 0.99) & (abs(rows[:, 5, None] - found.scores[mine]) <= 1e-3)
        missing += [f"{label}: {row}" for row in rows[~close.any(1)]]
    return missing


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_finds_what_the_host_finds(detector, exported, images, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    host = host_detections(detector, images)
    counts = [sum(map(len, one)) for one in host]
    assert min(counts) > 30, "the comparison has something to compare"
    assert len({label for label, rows in enumerate(host[0]) if len(rows)}) > 3
    found = OnnxModel(exported.path, runtime=runtime, threads=1).detect(windows(images))
    for ours, theirs, count in zip(found, host, counts, strict=True):
        assert unmatched(theirs, ours) == []
        assert len(ours.scores) == count


def test_the_file_is_alone_and_standard(detector, exported):
    model = onnx.load(str(exported.path))
    assert [p.name for p in exported.path.parent.iterdir()] == ["model.onnx"]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert (model.ir_version, model.opset_import[0].version) == (9, 20), "onnxruntime 1.17 reads no newer file"
    types = [node.op_type for node in model.graph.node]
    assert not [name for name in types if "Sequence" in name], "few runtimes know sequences"
    gelus = sum(isinstance(module, torch.nn.GELU) for module in detector.modules())
    assert (types.count("Gelu"), types.count("Erf")) == (gelus, 0), "five passes over a map, where it is taken apart"
    assert [value.name for value in model.graph.output] == ["boxes", "scores", "labels", "count"]
    assert exported.difference < 1e-4
    assert exported.freq_layers == 4 * 2 * 2 + 4
    card = json.loads({p.key: p.value for p in model.metadata_props}["fdam_rotate.card"])
    assert card["classes"] == list(CLASSES)
    assert (card["height"], card["width"], card["batch"], card["gap"]) == (*SHAPE, 2, 16)
    assert (card["max_boxes"], card["max_per_image"]) == (1800, 2000)
    assert (card["score_thr"], card["iou_thr"], card["gsd"]) == (0.05, 0.1, 0.5)
    assert (card["detector"], card["config"], card["checkpoint_sha256"]) == ("OrientedRCNN", "demo.py", "ab" * 32)
    assert (card["trained_on"], card["licence"], card["format_version"]) == ("noise", "none", 1)
    assert card["versions"]["torch"] == torch.__version__


def test_proposals_are_the_hosts(detector, images):
    """In order, with their scores; what suppression dropped has a score of -1."""
    model = candidates_of(detector, NORM)
    shape = (*SHAPE, 3)
    metas = [dict(img_shape=shape, pad_shape=shape, scale_factor=[1.0] * 4)] * 2
    with torch.no_grad():
        maps = detector.extract_feat(images.float() / 64 - 2)
        expected = detector.rpn_head.simple_test_rpn(maps, metas)
        boxes, scores = model.proposals(maps, SHAPE)
    for rows, box, score in zip(expected, boxes, scores, strict=True):
        assert int((score >= 0).sum()) == len(rows) > 50
        torch.testing.assert_close(score[: len(rows)], rows[:, 5], atol=1e-6, rtol=0)
        iou = pairwise_iou(le90_to_poly(rows[:, :5].numpy()), le90_to_poly(box[: len(rows)].numpy()))
        assert (iou > 0.999).all()


def test_midpoint_boxes_are_the_hosts():
    from mmrotate.core.bbox.coder import MidpointOffsetCoder

    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(500, 2, generator=generator) * 100
    anchors = torch.cat([corner, corner + 4 + 60 * torch.rand(500, 2, generator=generator)], 1)
    deltas = 1.5 * torch.randn(500, 6, generator=generator)
    means, stds = [0.1, 0.0, 0.2, 0.0, 0.0, 0.1], [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    coder = MidpointOffsetCoder(target_means=means, target_stds=stds, angle_range="le90")
    expected, found = coder.decode(anchors, deltas), midpoint_boxes(anchors, deltas, means, stds, "le90")
    torch.testing.assert_close(found[:, :4], expected[:, :4], atol=1e-3, rtol=1e-4)
    turned = (found[:, 4] - expected[:, 4]).abs()
    assert torch.minimum(turned, math.pi - turned).max() < 1e-3


@pytest.mark.parametrize("clockwise", [True, False])
def test_pool_is_mmcvs_roi_align(clockwise):
    """Boxes over the edges and outside, on each level; several chunks."""
    from mmcv.ops import RoIAlignRotated

    import fdam_rotate.apis.exporting.roi_align as module

    generator = torch.Generator().manual_seed(1)
    strides, channels = [4, 8, 16], 5
    maps = [torch.randn(2, channels, 96 // s, 160 // s, generator=generator) for s in strides]
    spread = torch.tensor([200.0, 130.0, 300.0, 150.0, math.pi])
    boxes = torch.rand(2, 60, 5, generator=generator) ** 1.5 * spread + torch.tensor([-20, -20, 1, 1, -math.pi / 2])
    level = torch.floor(torch.log2((boxes[..., 2] * boxes[..., 3]).sqrt() / 20 + 1e-6)).clamp(0, 2)
    assert set(level.unique().tolist()) == {0, 1, 2}
    whole = module._CHUNK_VALUES
    try:
        module._CHUNK_VALUES = 16 * channels * 1000
        found = pool_rotated(
            maps, boxes, strides, finest_scale=20, side=7, samples=2, clockwise=clockwise
        ).reshape(2, 60, 7, 7, channels)  # fmt: skip
    finally:
        module._CHUNK_VALUES = whole
    for image in range(2):
        for number, stride in enumerate(strides):
            layer = RoIAlignRotated((7, 7), 1 / stride, 2, aligned=True, clockwise=clockwise)
            mine = level[image] == number
            rois = torch.cat([torch.full((int(mine.sum()), 1), float(image)), boxes[image, mine]], 1)
            expected = layer(maps[number], rois).permute(0, 2, 3, 1)
            torch.testing.assert_close(found[image, mine], expected, atol=1e-4, rtol=1e-4)


def test_kept_mask_is_the_greedy_rule():
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(2, 80, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 10 + 20 * torch.rand(2, 80, 2, generator=generator)], 2)
    scores = torch.rand(2, 80, generator=generator)
    scores[:, 10:20] = -1
    mask = kept_mask(boxes, scores, 0.4, 12)
    for box, score, kept in zip(boxes.tolist(), scores.tolist(), mask.tolist(), strict=True):
        expected = []
        for k in sorted(range(80), key=lambda k: -score[k]):
            if score[k] < 0:
                continue
            x1, y1, x2, y2 = box[k]
            for other in expected:
                a1, b1, a2, b2 = box[other]
                inter = max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
                if inter / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inter) > 0.4:
                    break
            else:
                expected.append(k)
        assert len(expected) > 12
        assert [k for k in range(80) if kept[k]] == sorted(expected[:12])


def test_upright_bounds_hold_the_corners():
    boxes = torch.tensor([[10.0, 20, 8, 4, 0.3], [0.0, 0, 8, 4, -math.pi / 2]])
    corners = torch.tensor(le90_to_poly(boxes.numpy())).float()
    expected = torch.stack([corners[:, 0::2].amin(1), corners[:, 1::2].amin(1), corners[:, 0::2].amax(1),
                            corners[:, 1::2].amax(1)], 1)  # fmt: skip
    torch.testing.assert_close(upright_bounds(boxes), expected, atol=1e-5, rtol=0)


def test_what_is_not_exported_is_said_in_one_line(detector, tmp_path):
    keywords = dict(steps=NORM, classes=CLASSES, config="demo.py")
    with pytest.raises(ExportError, match=r"^Identity is not exported whole, only .*--features"):
        export_detector(torch.nn.Identity(), tmp_path / "f.onnx", SHAPE, **keywords)
    with pytest.raises(ExportError, match="15 classes, the data set 14"):
        export_detector(detector, tmp_path / "f.onnx", (32, 32), steps=NORM, classes=CLASSES[1:], config="demo.py")
    other, _ = random_detector(model__roi_head__bbox_roi_extractor__roi_layer__sample_num=0)
    with pytest.raises(ExportError, match="sample_num of at least 1"):
        export_detector(other, tmp_path / "f.onnx", SHAPE, **keywords)
    other, _ = random_detector(model__test_cfg__rpn__nms__type="soft_nms")
    with pytest.raises(ExportError, match=r"test_cfg\.rpn\.nms\.type is soft_nms"):
        export_detector(other, tmp_path / "f.onnx", SHAPE, **keywords)
    (tmp_path / "f.onnx").write_text("precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        export_detector(detector, tmp_path / "f.onnx", SHAPE, **keywords)
    assert (tmp_path / "f.onnx").read_text() == "precious"


def test_a_wrong_export_is_not_kept(detector, tmp_path, monkeypatch):
    import fdam_rotate.apis.exporting.detector as module

    model = candidates_of(detector, NORM)

    def wrong(path, image, names):
        with torch.no_grad():
            boxes, scores, *rest = (x.numpy() for x in model(torch.from_numpy(image)))
        return [boxes, scores * 0.99, *rest]

    monkeypatch.setattr(module, "write_onnx", lambda model, image, path, *_: path.write_bytes(b"a model"))
    monkeypatch.setattr(module, "_run", wrong)
    with pytest.raises(ExportError, match=r"scores differ from the detector's by 0\.01.*was not written"):
        export_detector(
            detector, tmp_path / "f.onnx", (64, 64), steps=NORM, classes=CLASSES, config="demo.py", check=True
        )
    assert list(tmp_path.iterdir()) == []


def test_preparation_is_read_from_the_pipeline():
    _, cfg = random_detector()
    assert preparation(cfg) == {**NORM, "scale": 1.0, "divisor": 32}
    views = cfg.data.test.pipeline[1]
    for scale, said in ((1, 1.0), (2, 2.0), ([0.5], 0.5)):
        views.scale_factor = scale
        assert preparation(cfg)["scale"] == said
        assert isinstance(preparation(cfg)["scale"], float)
    for key, value in (("flip", True), ("turns", [90])):
        views[key] = value
        with pytest.raises(ExportError, match=rf"{key}=.*; an exported model sees one view"):
            preparation(cfg)
        del views[key]
    del views["scale_factor"]
    for scale in ((96, 128), [(96, 128)], [96, 128]):
        views.img_scale = scale
        assert preparation(cfg)["scale"] == (96, 128)
    for scale in ([(96, 128), (64, 64)], (96,), "large"):
        views.img_scale = scale
        with pytest.raises(ExportError, match="an exported model has one scale"):
            preparation(cfg)
    del views["img_scale"]
    for scale in (True, "1"):
        views.scale_factor = scale
        with pytest.raises(ExportError, match="an exported model has one scale"):
            preparation(cfg)
    cfg.data.test.pipeline[1].scale_factor = [0.5, 1.0]
    with pytest.raises(ExportError, match=r"scale_factor=\[0.5, 1.0\]; an exported model has one scale"):
        preparation(cfg)
    cfg.data.test.pipeline = [dict(type="LoadImageFromFile")]
    with pytest.raises(ExportError, match="no Normalize step"):
        preparation(cfg)


@pytest.mark.parametrize(
    ("scale", "shape"),
    [(0.5, (90, 122)), (0.5, (91, 123)), ((96, 128), (96, 128)), ((100, 70), (63, 81)), (2.0, (40, 50))],
)
def test_pixels_are_the_test_pipelines(scale, shape):
    """Of the sizes that MMDetection makes; the same numbers at a half, elsewhere one step of 256 more or less."""
    from mmdet.datasets.pipelines import Compose

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    inner = [dict(type="RResize"), dict(type="Normalize", **NORM), dict(type="Pad", size_divisor=32),
             dict(type="DefaultFormatBundle"), dict(type="Collect", keys=["img"])]  # fmt: skip
    key = "scale_factor" if isinstance(scale, float) else "img_scale"
    steps = [
        dict(type="LoadImageFromWebcam"),
        dict(type="MultiScaleFlipAug", flip=False, transforms=inner, **{key: scale}),
    ]
    made = Compose(steps)({"img": image})
    expected, meta = made["img"][0].data, made["img_metas"][0].data
    pixels = Pixels({**NORM, "scale": scale, "divisor": 32})
    tensor = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))[None]
    found = pixels(tensor)
    assert found.shape[1:] == expected.shape
    assert pixels.seen(tensor) == meta["img_shape"][:2]
    step = 1 / min(NORM["std"]) if shape[0] % 2 or isinstance(scale, tuple) or scale > 1 else 0
    torch.testing.assert_close(found[0], expected, atol=step + 1e-5, rtol=0)
    box = torch.tensor([[10.0, 20.0, 8.0, 4.0, 0.3]])
    turned = torch.cat([box[:, :4] / torch.tensor(meta["scale_factor"]), box[:, 4:]], 1)
    torch.testing.assert_close(pixels.placed(box, tensor), turned)
