"""Suppression across classes, equal to a plain loop, whichever way the files are merged; and the CSV table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.dota.csvtext import write_csv
from fdam_rotate.dota.detections import Detections, read_detections, write_detections
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_iou
from fdam_rotate.dota.merging.merge import merge_patches
from fdam_rotate.dota.merging.merge_files import merge_files
from fdam_rotate.dota.merging.options import MergeOptions

Rows = list[tuple[str, str, float, tuple[float, ...]]]
CLASSES = ("ship", "car", "never")


def crowd(seed: int, count: int = 60) -> dict[str, Detections]:
    """Boxes of two classes on two images, many over each other, scores of two decimals so that some are equal."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in CLASSES[:2]:
        centres, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(8, 30, (count, 2))
        boxes = np.column_stack([centres, sides, rng.uniform(-1, 1, count)])
        image = rng.integers(0, 2, count)
        ids = ("b__64__0___0", "a__64__100___0")
        found[name] = Detections(ids, image, rng.uniform(0, 1, count).round(2), le90_to_poly(boxes).round(2))
    return found


def placed(found: dict[str, Detections]) -> Rows:
    """The boxes in their images, in the order of the classes and then as they come."""
    rows: Rows = []
    for name, one in found.items():
        for image, score, poly in zip(one.image, one.scores, one.polys, strict=True):
            which = one.image_ids[image]
            moved = poly + np.tile([100.0 if which.startswith("a") else 0.0, 0.0], 4)
            rows.append((which[0], name, float(score), tuple(moved)))
    return rows


def plain(rows: Rows, thr: float, *, agnostic: bool = True) -> Rows:
    """The best box first; it stays unless one that stayed overlaps it."""
    kept: Rows = []
    for row in sorted(rows, key=lambda row: -row[2]):  # stable: equal scores in the order of classes
        rivals = [one for one in kept if one[0] == row[0] and (agnostic or one[1] == row[1])]
        ious = [float(pairwise_iou(np.array([one[3]]), np.array([row[3]]))[0]) for one in rivals]
        if not any(iou > thr for iou in ious):
            kept.append(row)
    return kept


def rows_of(found: dict[str, Detections]) -> Rows:
    return [
        (one.image_ids[image], name, float(score), tuple(poly))
        for name, one in found.items()
        for image, score, poly in zip(one.image, one.scores, one.polys, strict=True)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_plain_loop(seed: int) -> None:
    found = crowd(seed)
    options = MergeOptions(iou_thr=0.2, nms_agnostic=True)
    merged = rows_of(merge_patches(found, options))
    assert sorted(merged) == sorted(plain(placed(found), 0.2))
    by_class = rows_of(merge_patches(found, MergeOptions(iou_thr=0.2)))
    assert sorted(by_class) == sorted(plain(placed(found), 0.2, agnostic=False))
    assert len(merged) < len(by_class)


def test_of_equal_scores_the_first_class_stays() -> None:
    box = np.array([[0.0, 0, 10, 0, 10, 10, 0, 10]])
    found = {name: Detections(("a",), np.zeros(1, np.intp), np.array([0.5]), box) for name in ("x", "b")}
    merged = merge_patches(found, MergeOptions(nms_agnostic=True))
    assert {name: len(one) for name, one in merged.items()} == {"x": 1, "b": 0}


@pytest.mark.parametrize("batch_bytes", [1 << 28, 3000, 100])
@pytest.mark.parametrize("more", [{}, {"max_per_image": 5}, {"nms": "hbb"}])
def test_files_give_the_same_whichever_way(batch_bytes: int, more: dict, tmp_path: Path) -> None:
    found = crowd(1)
    write_detections(tmp_path / "in", found)
    options = MergeOptions(iou_thr=0.2, nms_agnostic=True, **more)
    summary = merge_files([tmp_path / "in"], tmp_path / "out", CLASSES, options, batch_bytes=batch_bytes)
    expected = merge_patches(read_detections(tmp_path / "in", classes=CLASSES), options)
    write_detections(tmp_path / "expected", expected, classes=CLASSES)
    for name in CLASSES:
        file = f"Task1_{name}.txt"
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "expected" / file).read_bytes(), name
    assert summary.kept == sum(map(len, expected.values())) > 0
    assert summary.boxes == 120


def test_fused_boxes_are_suppressed_across_classes() -> None:
    first, second = crowd(2), crowd(3)
    fused = merge_patches([first, second], MergeOptions(iou_thr=0.2, fuse="wbf"))
    merged = merge_patches([first, second], MergeOptions(iou_thr=0.2, fuse="wbf", nms_agnostic=True))
    assert sorted(rows_of(merged)) == sorted(plain(rows_of(fused), 0.2))


def test_what_makes_no_sense_is_told() -> None:
    with pytest.raises(DotaError, match="nms none keeps every box"):
        MergeOptions(nms="none", nms_agnostic=True)


def test_csv_rows_are_those_of_the_class_files(tmp_path: Path) -> None:
    box = np.array([[0.0, 0, 10, 0, 10, 10, 0, 10.25], [5, 5, 9, 5, 9, 9, 5, 9]])
    found = {"car/van": Detections(("b", 'a, "1"'), np.array([0, 1]), np.array([0.5, 0.75]), box)}
    write_detections(tmp_path, found, classes=["ship", "car/van"])
    path = write_csv(tmp_path, ["ship", "car/van"])
    assert path.name == "Task1.csv"
    assert path.read_bytes() == (
        b"image,class,score,x1,y1,x2,y2,x3,y3,x4,y4\n"
        b'"a, ""1""",car/van,0.750000,5.00,5.00,9.00,5.00,9.00,9.00,5.00,9.00\n'
        b"b,car/van,0.500000,0.00,0.00,10.00,0.00,10.00,10.00,0.00,10.25\n"
    )
    write_detections(tmp_path, found, classes=["car/van"], task=2)
    with write_csv(tmp_path, ["car/van"], task=2).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "image": "b", "class": "car/van", "score": "0.500000", "xmin": "0.00", "ymin": "0.00", "xmax": "10.00",
        "ymax": "10.25",
    }  # fmt: skip
