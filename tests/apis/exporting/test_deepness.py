"""The Deepness form, read by a decoder written from the plugin's description."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch
from random_detectors import NORM, random_detector

from fdam_rotate.apis.exporting.deepness import DeepnessForm, deepness_metadata
from fdam_rotate.apis.exporting.detector import candidates_of, export_detector
from fdam_rotate.dota.geometry import le90_to_poly, polygon_iou
from fdam_rotate.dota.predicting.card import ModelCard
from fdam_rotate.dota.predicting.onnx_model import ModelFileError, read_card

CARD = ModelCard(
    classes=("plane", "large-ship"), height=512, width=512, batch=1, max_boxes=40, score_thr=0.05, iou_thr=0.1,
    max_per_image=20, gap=128, detector="OrientedRCNN", config="c.py", gsd=0.3,
)  # fmt: skip


class Fixed(torch.nn.Module):
    """Candidates as given."""

    classes = 3

    def __init__(self, *outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert float(image.max()) == 255, "the candidates take 0 to 255"
        return self.outputs


def decode(output: np.ndarray, confidence: float) -> list[tuple[int, float, tuple[float, ...]]]:
    """Class, score and cx, cy, w, h, angle of the columns whose best class is sure enough: one image (5 + C, N)."""
    found = []
    for column in output.T:
        classes = column[4:-1]
        label = int(classes.argmax())
        if classes[label] > confidence:
            found.append((label, float(classes[label]), (*map(float, column[:4]), float(column[-1]))))
    return found


def test_layout_near_copies_and_what_is_below_the_threshold():
    boxes = torch.tensor([[[20.0, 30, 10, 4, 0.5], [20.1, 30, 10, 4, 0.5], [20, 30, 10, 4, 0.5], [-9, 9, 8, 2, 0],
                           [40, 40, 8, 8, 0.1]]])  # fmt: skip
    scores, labels = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]]), torch.tensor([[2, 2, 0, 1, 1]])
    form = DeepnessForm(Fixed(boxes, scores, labels, torch.tensor([4])), count=4)
    output = form(torch.ones(1, 3, 8, 8))
    assert output.shape == (1, 4 + 3 + 1, 4)
    found = decode(output[0].numpy(), 0.01)
    # the second is a near-copy of the first, the third of another class; the fifth is not counted as found
    assert [(label, round(score, 3)) for label, score, _ in found] == [(2, 0.9), (0, 0.7), (1, 0.6)]
    np.testing.assert_allclose([box for *_, box in found], boxes[0, [0, 2, 3]].numpy(), rtol=1e-6)


def test_metadata_is_json_that_the_plugin_reads():
    values = {key: json.loads(value) for key, value in deepness_metadata(CARD).items()}
    assert values == {
        "model_type": "Detector", "det_type": "YOLO_Ultralytics_obb", "class_names": {"0": "plane", "1": "large-ship"},
        "resolution": 30.0, "tiles_overlap": 25, "tiles_size": 512, "tile_size": 512, "det_conf": 0.3,
        "det_iou_thresh": 0.1, "standardization_mean": [0.0] * 3, "standardization_std": [1.0] * 3,
    }  # fmt: skip


def test_near_copies_overlap_by_more_than_four_fifths():
    """Upright squares of 10 x 10, one moved: by 1 they overlap by 9/11 (0.82), by 1.5 by 8.5/11.5 (0.74)."""
    for moved, kept in ((1.0, 1), (1.5, 2)):
        boxes = torch.tensor([[[20.0, 20, 10, 10, 0], [20 + moved, 20, 10, 10, 0]]])
        form = DeepnessForm(Fixed(boxes, torch.tensor([[0.9, 0.8]]), torch.tensor([[1, 1]]), torch.tensor([2])))
        output = form(torch.ones(1, 3, 8, 8))
        assert output.shape == (1, 8, 2), "no more rows than there are candidates"
        assert int((output[0, 4:-1] > 0).sum()) == kept


def test_three_hundred_boxes_reach_the_plugin():
    """As docs/predict.md says."""
    place = torch.arange(400.0) * 20
    boxes = torch.stack([place, place, *torch.tensor([8.0, 4.0, 0.0])[:, None].expand(3, 400)], -1)[None]
    scores = torch.linspace(0.9, 0.1, 400)[None]
    form = DeepnessForm(Fixed(boxes, scores, torch.zeros(1, 400, dtype=torch.long), torch.tensor([400])))
    output = form(torch.ones(1, 3, 8, 8))
    assert output.shape == (1, 8, 300)
    torch.testing.assert_close(output[0, 4], scores[0, :300])


def test_metadata_of_wide_tiles_and_a_higher_threshold():
    """The overlap is a share of the width, by which the plugin's tiles go; its confidence not below the card's."""
    found = deepness_metadata(dataclasses.replace(CARD, width=1024, score_thr=0.4, gap=256))
    assert [found[key] for key in ("tiles_overlap", "tiles_size", "tile_size", "det_conf")] == [
        "25",
        "1024",
        "1024",
        "0.4",
    ]


@pytest.mark.slow
def test_the_file_gives_the_detectors_boxes(tmp_path):
    import onnxruntime

    detector = random_detector(model__test_cfg__rpn__max_per_img=60, model__backbone__depths=[1, 1, 1, 1])[0]
    names = tuple(f"class-{k}" for k in range(15))
    report = export_detector(
        detector, tmp_path / "m.onnx", (96, 96), steps=NORM, classes=names, config="c.py", deepness=True, check=True
    )
    assert report.difference < 1e-4
    written = onnx.load(str(report.path))
    keys = {entry.key for entry in written.metadata_props}
    assert (written.ir_version, written.opset_import[0].version) == (8, 18), "the plugin's onnxruntime is 1.17 at most"
    assert set(deepness_metadata(report.card)) <= keys
    image = torch.randint(0, 256, (1, 3, 96, 96), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(str(report.path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: image.numpy().astype(np.float32) / 255})
    found = decode(output[0], 0.05)
    assert len(found) > 20
    with torch.no_grad():
        boxes, _, labels, count = (x.numpy()[0] for x in candidates_of(detector, NORM)(image))
    for label, _, box in found:
        same = boxes[:count][labels[:count] == label].astype(float)
        assert polygon_iou(le90_to_poly(np.array([box])), le90_to_poly(same)).max() > 0.99
    with pytest.raises(ModelFileError, match="expected image to be uint8"):
        read_card(report.path)
