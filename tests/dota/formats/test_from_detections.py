"""Detections as label files: the same boxes in every format, by the tools that write them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import load_script

from fdam_rotate.commands import predict
from fdam_rotate.dota.detections import Detections, read_detections, write_detections
from fdam_rotate.dota.errors import OutputExistsError
from fdam_rotate.dota.formats.from_detections import write_labels
from fdam_rotate.dota.formats.interchange import Reading
from fdam_rotate.dota.formats.table import FORMATS
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_iou
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.manifest import Manifest

SIZES = {"a": (400, 200), "b+c": (300, 300), "empty": (50, 60)}
CLASSES = ("plane", "ship")

#: Image, class, score and box of each detection.
FOUND = [
    ("a", "ship", 0.5, (200, 100, 100, 40, 0.3)),
    ("a", "plane", 0.9, (60, 60, 30, 30, -0.7)),
    ("a", "ship", 0.75, (300, 50, 60, 20, 1.2)),
    ("b+c", "ship", 0.25, (150, 150, 80, 10, 0.0)),
    ("unknown", "ship", 0.99, (150, 150, 80, 10, 0.0)),
]


def detections() -> dict[str, Detections]:
    found = {}
    for name in CLASSES:
        own = [row for row in FOUND if row[1] == name]
        ids = tuple(dict.fromkeys(row[0] for row in own))
        polys = le90_to_poly([row[3] for row in own]).round(4)
        image = np.array([ids.index(row[0]) for row in own], np.intp)
        found[name] = Detections(ids, image, np.array([row[2] for row in own]), polys)
    return found


def expected(image_id: str) -> list[tuple[str, tuple[float, ...]]]:
    rows = sorted((row for row in FOUND if row[0] == image_id), key=lambda row: -row[2])
    return [(row[1], row[3]) for row in rows]


def check(found: dict[str, Labels]) -> None:
    for image_id in SIZES:
        rows = expected(image_id)
        labels = found[image_id]
        assert labels.names == tuple(name for name, _ in rows)
        if rows:
            assert pairwise_iou(labels.polys, le90_to_poly([box for _, box in rows])).min() > 0.999


def read_back(folder: Path, name: str, images: Path) -> dict[str, Labels]:
    reading = Reading(img_dir=images, need_images=False)
    (part,) = FORMATS[name].read(folder, reading)
    assert reading.problems == []
    return {item.image_id: item.labels for item in part.items}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name, (width, height) in SIZES.items():
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), np.zeros((height, width, 3), np.uint8))
    return tmp_path / "photos"


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("dota", "label-studio")])
def test_each_format_gives_the_boxes_back_best_first(tmp_path: Path, images: Path, name: str) -> None:
    lines = write_labels(name, tmp_path / "out", detections(), SIZES, CLASSES)
    assert lines[0] == f"wrote {tmp_path / 'out'} as {name}: 4 objects of 3 images"
    holds_scores = name in ("coco", "labelme", "x-anylabeling", "label-studio")
    assert lines[1:] == ([] if holds_scores else ["not kept: scores of detections: 4"])
    check(read_back(tmp_path / "out", name, images))
    assert not list((tmp_path / "out").rglob("*.png"))


def test_dota_has_a_label_file_per_image(tmp_path: Path) -> None:
    write_labels("dota", tmp_path / "out", detections(), SIZES, CLASSES)
    assert sorted(path.name for path in (tmp_path / "out/labelTxt").iterdir()) == ["a.txt", "b+c.txt", "empty.txt"]
    # 60 + 15 * (cos(-0.7) and sin(-0.7)), half of a square of 30 pixels: 0.7648 and -0.6442
    first = (tmp_path / "out/labelTxt/a.txt").read_text().splitlines()[0].split()
    assert first[8:] == ["plane", "0"]
    corner = (60 - 15 * 0.764842 - 15 * 0.644218, 60 + 15 * 0.644218 - 15 * 0.764842)
    assert [float(value) for value in first[:2]] == pytest.approx(corner, abs=1e-3)


def test_label_studio_shows_detections_as_proposals_with_scores(tmp_path: Path) -> None:
    names = {"a": "a.tif"}
    lines = write_labels("label-studio", tmp_path / "out", detections(), SIZES, CLASSES, file_names=names)
    assert lines == [f"wrote {tmp_path / 'out'} as label-studio: 4 objects of 3 images"]
    tasks = json.loads((tmp_path / "out/data.json").read_text())
    assert [task["data"]["image"].rsplit("/", 1)[1] for task in tasks] == ["a.tif", "b%2Bc.png", "empty.png"]
    assert all("annotations" not in task for task in tasks)
    results = tasks[0]["predictions"][0]["result"]
    assert [result["score"] for result in results] == [0.9, 0.75, 0.5]
    assert results[0]["value"]["rectanglelabels"] == ["plane"]
    # a task that somebody has looked at holds annotations: then it is read
    for task in tasks:
        task["annotations"] = task.pop("predictions")
    (tmp_path / "out/data.json").write_text(json.dumps(tasks))
    reading = Reading(need_images=False)
    (part,) = FORMATS["label-studio"].read(tmp_path / "out", reading)
    assert [item.image_id for item in part.items] == ["a", "b+c"]  # nothing tells the size of an empty one
    assert 'Label value="ship"' in (tmp_path / "out/labeling_config.xml").read_text()


def test_scores_stand_where_the_format_has_a_place(tmp_path: Path) -> None:
    write_labels("x-anylabeling", tmp_path / "x", detections(), SIZES, CLASSES)
    shapes = json.loads((tmp_path / "x/a.json").read_text())["shapes"]
    assert [(shape["shape_type"], shape["score"]) for shape in shapes] == [
        ("rotation", 0.9), ("rotation", 0.75), ("rotation", 0.5)
    ]  # fmt: skip
    # the angle of the long side, clockwise: 0.3 rad is the last one's
    assert shapes[2]["direction"] == pytest.approx(0.3, abs=1e-4)
    assert shapes[0]["direction"] == pytest.approx(2 * math.pi - 0.7, abs=1e-4)
    write_labels("coco", tmp_path / "c", detections(), SIZES, CLASSES)
    annotations = json.loads((tmp_path / "c/annotations/data.json").read_text())["annotations"]
    assert [one["score"] for one in annotations] == [0.9, 0.75, 0.5, 0.25]


def test_labels_replace_only_their_own(tmp_path: Path) -> None:
    out = tmp_path / "labels"
    write_labels("labelme", out, detections(), SIZES, CLASSES)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_labels("labelme", out, detections(), SIZES, CLASSES)
    (out / "mine.txt").write_text("mine")
    write_labels("rolabelimg", out, detections(), SIZES, CLASSES, overwrite=True)
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        "a.xml", "b+c.xml", "empty.xml", "mine.txt"
    ]  # fmt: skip


def test_merge_writes_labels(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merge = load_script("tools/merge.py").main
    patches = {}
    for name, one in detections().items():
        kept = one.take(np.array([one.image_ids[k] != "unknown" for k in one.image]))
        patches[name] = Detections(
            tuple(f"{i}__400__0___0" for i in kept.image_ids), kept.image, kept.scores, kept.polys
        )
    write_detections(tmp_path / "in", patches)
    records = [
        {
            "id": name, "file": f"images/{name}.tif", "width": size[0], "height": size[1], "problems": [],
            "objects": {"in": 0, "kept": 0, "cut": 0, "dropped": {}},
            "patches": [{"id": f"{name}__400__0___0", "x": 0, "y": 0, "scale": 1.0, "width": 400, "height": 400,
                         "bytes": 1, "lines": []}],
        }
        for name, size in SIZES.items()
    ]  # fmt: skip
    manifest = tmp_path / "manifest.json"
    Manifest(parameters={}, sources={}, images=records).write(manifest)
    argv = [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--labels", "cvat", "--classes", "plane,ship"]
    with pytest.raises(SystemExit):
        merge(argv)
    assert "give --manifest" in capsys.readouterr().err
    assert merge([*argv, "--manifest", str(manifest)]) == 0
    assert f"wrote {tmp_path / 'out/labels'} as cvat: 4 objects of 3 images" in capsys.readouterr().out
    check(read_back(tmp_path / "out/labels", "cvat", images))
    assert 'name="a.tif"' in (tmp_path / "out/labels/annotations.xml").read_text()


def test_predict_writes_labels_of_the_images_that_it_could_read(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_detections(tmp_path / "out", detections(), classes=CLASSES)
    (images / "broken.png").write_bytes(b"nothing")
    sources = [SourceImage(path.stem, path, None) for path in sorted(images.iterdir())]
    predict._write_labels("labelme", tmp_path / "out", sources, CLASSES, False)
    assert "4 objects of 3 images" in capsys.readouterr().out
    (images / "broken.png").unlink()
    found = read_back(tmp_path / "out/labels", "labelme", images)
    check(found)
    # Task1 files beside them are still read as such
    assert sum(map(len, read_detections(tmp_path / "out").values())) == len(FOUND)
