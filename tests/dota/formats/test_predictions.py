"""Detections and ground truth of other programs: the same boxes as ours, refused where they contradict themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections, read_detections, write_detections
from fdam_rotate.dota.errors import DetectionFormatError, DotaError
from fdam_rotate.dota.formats.angles import CONVENTIONS, boxes_to_polys, fitting_conventions
from fdam_rotate.dota.formats.geojson import write_geojson
from fdam_rotate.dota.formats.ground_truth import read_ground_truth
from fdam_rotate.dota.formats.predictions import read_predictions
from fdam_rotate.dota.geometry import pairwise_iou
from fdam_rotate.dota.problems import Problem

CLASSES = ("plane", "ship", "harbor")
# centre (100, 50), 40 x 20, turned by 30 degrees clockwise on the screen: half sides (17.32, 10) and (-5, 8.66)
TURNED = [100 - 12.3205, 50 - 18.6603, 122.3205, 51.3397, 112.3205, 68.6603, 77.6795, 48.6603]


def dump(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def ultralytics(**changes: Any) -> dict[str, Any]:
    """A record as ``pred_to_json`` of ultralytics/models/yolo/obb/val.py writes it."""
    record = {
        "image_id": "P0001",
        "file_name": "P0001.png",
        "category_id": 3,
        "score": 0.91234,
        "rbox": [100.0, 50.0, 40.0, 20.0, 0.524],
        "poly": [112.32, 68.66, 77.679, 48.66, 87.679, 31.34, 122.32, 51.34],
    }
    return {**record, **changes}


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("le90", [100, 50, 40, 20, math.radians(30)]),
        ("le135", [100, 50, 40, 20, math.radians(30)]),
        ("oc", [100, 50, 40, 20, math.radians(30)]),
        ("ultralytics", [100, 50, 20, 40, math.radians(120)]),
        ("opencv", [100, 50, 20, 40, -60]),
        ("detectron2", [100, 50, 40, 20, -30]),
        ("odtk", [80, 40, 40, 20, -math.radians(30)]),
    ],
)
def test_every_convention_means_the_same_box(name: str, box: list[float]) -> None:
    expected = [[87.6795, 31.3397, 122.3205, 51.3397, 112.3205, 68.6603, 77.6795, 48.6603]]
    assert pairwise_iou(boxes_to_polys([box], CONVENTIONS[name]), expected)[0] > 0.9999
    assert name in fitting_conventions([box], expected)


def test_opencv_numbers_are_those_of_cv2() -> None:
    for angle in (-75.0, -30.0, 10.0, 89.0):
        rect = ((100.0, 50.0), (40.0, 20.0), angle)
        corners = cv2.boxPoints(rect).reshape(1, 8)
        ours = boxes_to_polys([[100, 50, 40, 20, angle]], CONVENTIONS["opencv"])
        assert pairwise_iou(ours, corners)[0] > 0.999


def test_ultralytics_predictions(tmp_path: Path) -> None:
    path = dump(tmp_path / "predictions.json", [ultralytics(), ultralytics(category_id=1, score=0.5)])
    found = read_predictions(path, classes=CLASSES)
    assert {name: len(one) for name, one in found.items()} == {"harbor": 1, "plane": 1}
    assert found["harbor"].image_ids == ("P0001",)
    assert found["harbor"].scores.tolist() == [0.91234]
    assert found["harbor"].polys.tolist() == [ultralytics()["poly"]]
    # without corners, the five numbers: the same box but for the rounded angle
    bare = {key: value for key, value in ultralytics().items() if key != "poly"}
    only = read_predictions(dump(path, [bare]), classes=CLASSES, first_class=1)
    assert pairwise_iou(only["harbor"].polys, found["harbor"].polys)[0] > 0.995


def test_ultralytics_class_numbers_are_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    assert list(read_predictions(dump(path, [ultralytics(category_id=0)]), classes=CLASSES)) == ["plane"]
    assert list(read_predictions(dump(path, [ultralytics(category_id=3)]), classes=CLASSES)) == ["harbor"]
    dump(path, [ultralytics(category_id=2)])
    with pytest.raises(DotaError, match="may be counted from 0 or from 1"):
        read_predictions(path, classes=CLASSES)
    assert list(read_predictions(path, classes=CLASSES, first_class=0)) == ["harbor"]
    assert list(read_predictions(path, classes=CLASSES, first_class=1)) == ["ship"]
    with pytest.raises(DetectionFormatError, match="not 3 classes counted from 0"):
        read_predictions(dump(path, [ultralytics(category_id=3)]), classes=CLASSES, first_class=0)
    with pytest.raises(DetectionFormatError, match="from 0 to 3, which 3 classes do not explain"):
        read_predictions(dump(path, [ultralytics(category_id=0), ultralytics()]), classes=CLASSES)
    with pytest.raises(DotaError, match="classes are numbers there"):
        read_predictions(path)


def test_numbers_for_ids_get_their_zeros_back(tmp_path: Path) -> None:
    record = ultralytics(image_id=7)
    path = dump(tmp_path / "p.json", [{**record, "file_name": "0007.jpg"}])
    assert read_predictions(path, classes=CLASSES)["harbor"].image_ids == ("0007",)
    del record["file_name"]  # releases before 8.3
    dump(path, [record])
    assert read_predictions(path, classes=CLASSES, image_ids=["0007", "x"])["harbor"].image_ids == ("0007",)
    # a number that two ids share stands for neither
    assert read_predictions(path, classes=CLASSES, image_ids=["0007", "007"])["harbor"].image_ids == ("7",)


@pytest.mark.parametrize(
    ("rbox", "reason"),
    [
        ([100.0, 50.0, 40.0, 20.0, 30.0], "the angle 30 is out of range"),
        ([100.0, 50.0, 40.0, 20.0, -0.524], r"another box \(IoU 0.\d+\)"),
        ([100.0, 50.0, 20.0, 40.0, 0.524], "another box"),
        ([100.0, 50.0, 35.0, 20.0, 0.524], r"another box \(IoU 0.8\d\)"),
    ],
)
def test_five_numbers_and_corners_must_be_one_box(tmp_path: Path, rbox: list[float], reason: str) -> None:
    path = dump(tmp_path / "p.json", [ultralytics(), ultralytics(rbox=rbox)])
    with pytest.raises(DetectionFormatError, match=rf"record 1: .*ultralytics.*{reason}"):
        read_predictions(path, classes=CLASSES)


def test_boxes_thinner_than_their_rounding_are_not_compared(tmp_path: Path) -> None:
    """Of a box 0.0004 pixels wide the file holds a width of 0 and corners on a line, which share nothing."""
    line = ultralytics(score=0.01, rbox=[20.0, 20.0, 0.0, 5.0, 0.3], poly=[20, 20, 20, 20, 20.7, 24.8, 20.7, 24.8])
    path = dump(tmp_path / "p.json", [ultralytics(), line])
    assert read_predictions(path, classes=CLASSES)["harbor"].scores.tolist() == [0.91234, 0.01]
    # one is thin, the other is not: another box
    dump(path, [ultralytics(), {**line, "rbox": [20.0, 20.0, 4.0, 5.0, 0.3]}])
    with pytest.raises(DetectionFormatError, match=r"another box \(IoU 0.00\)"):
        read_predictions(path, classes=CLASSES)


@pytest.mark.parametrize("changes", [{"score": 10**400}, {"rbox": [10**400, 1, 1, 1, 0]}, {"poly": [10**400] * 8}])
def test_numbers_too_large_for_a_float_are_bad_records(tmp_path: Path, changes: dict[str, Any]) -> None:
    problems: list[Problem] = []
    path = dump(tmp_path / "p.json", [ultralytics(), ultralytics(**changes)])
    assert len(read_predictions(path, classes=CLASSES, problems=problems)["harbor"]) == 1
    assert [str(one) for one in problems] == [f"{path}: record 1: int too large to convert to float"]


def gt_json(path: Path) -> Path:
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 200, "height": 100},
            {"id": 2, "file_name": "val\\b.png", "width": 200, "height": 100},
        ],
        "categories": [{"id": 5, "name": "ship"}, {"id": 9, "name": "storage tank"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "segmentation": [TURNED], "iscrowd": 1}],
    }
    return dump(path, content)


RANGES = {
    "le90": (-math.pi / 2, math.pi / 2), "le135": (-math.pi / 4, 3 * math.pi / 4), "oc": (0, math.pi / 2),
    "ultralytics": (-math.pi / 4, 3 * math.pi / 4), "opencv": (-90, 90), "detectron2": (-360, 360),
    "odtk": (-math.pi, math.pi),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RANGES))
def test_each_convention_holds_its_range_of_angles_and_no_more(name: str) -> None:
    low, high = RANGES[name]
    turn = 360 if CONVENTIONS[name].degrees else 2 * math.pi
    for angle in (low, high, (low + high) / 2):
        assert name in fitting_conventions([[50, 50, 40, 20, angle]])
    for angle in (low - 0.005 * turn, high + 0.005 * turn):
        assert name not in fitting_conventions([[50, 50, 40, 20, angle]])
    assert list(CONVENTIONS) == list(RANGES)


def test_coco_results_by_the_names_of_the_ground_truth(tmp_path: Path) -> None:
    truth = gt_json(tmp_path / "gt.json")
    ring = [10, 10, 30, 10, 30, 20, 10, 20, 10, 10]
    records = [
        {"image_id": 2, "category_id": 9, "score": 0.5, "bbox": [5, 6, 7, 8]},
        {"image_id": 1, "category_id": 5, "score": 0.9, "bbox": [1, 1, 1, 1], "segmentation": [ring]},
        {"image_id": 1, "category_id": 5, "score": 0.8, "bbox": [100, 50, 40, 20, -30.0]},
    ]
    path = dump(tmp_path / "results.json", records)
    found = read_predictions(path, annotations=truth, angle="detectron2")
    assert found["storage-tank"].image_ids == ("b",)
    assert found["storage-tank"].polys.tolist() == [[5, 6, 12, 6, 12, 14, 5, 14]]
    # a closed ring of four corners is these corners
    assert found["ship"].polys[0].tolist() == [10, 10, 30, 10, 30, 20, 10, 20]
    expected = boxes_to_polys([[100, 50, 40, 20, math.radians(30)]], CONVENTIONS["le90"])
    assert pairwise_iou(found["ship"].polys[1:], expected)[0] > 0.9999
    with pytest.raises(
        DotaError, match=r"1 boxes of five numbers without corners: say in which convention.*detectron2"
    ):
        read_predictions(path, annotations=truth)
    with pytest.raises(DetectionFormatError, match=r"record 2: .*is not le90 .*out of range; what fits.*detectron2"):
        read_predictions(path, annotations=truth, angle="le90")
    with pytest.raises(DotaError, match="unknown angle convention 'degrees'"):
        read_predictions(path, annotations=truth, angle="degrees")
    assert list(read_predictions(path, annotations=truth, angle="detectron2", classes=["storage-tank", "ship"])) == [
        "storage-tank",
        "ship",
    ]


def test_classes_of_coco_are_compared_as_those_of_the_ground_truth_are(tmp_path: Path) -> None:
    """A Mac writes an accent as a character of its own; the labels of the same file have it put together."""
    content = json.loads(gt_json(tmp_path / "gt.json").read_text())
    content["categories"][0]["name"] = "cafe\u0301 bar"
    number, image = content["categories"][0]["id"], content["images"][0]["id"]
    truth = dump(tmp_path / "gt.json", content)
    record = {"image_id": image, "category_id": number, "score": 0.5, "bbox": [5, 6, 7, 8]}
    found = read_predictions(dump(tmp_path / "r.json", [record]), annotations=truth, classes=["caf\u00e9-bar"])
    assert len(found["caf\u00e9-bar"]) == 1


def test_radians_said_to_be_degrees_are_refused(tmp_path: Path) -> None:
    records = [
        {"image_id": 1, "category_id": 5, "score": 0.5, "bbox": [50, 50, 30, 10, 0.05 * k]} for k in range(1, 25)
    ]
    path = dump(tmp_path / "results.json", records)
    truth = gt_json(tmp_path / "gt.json")
    with pytest.raises(DetectionFormatError, match=r"all of 24 angles lie within 3\.15: they look like radians"):
        read_predictions(path, annotations=truth, angle="detectron2")
    assert len(read_predictions(path, annotations=truth, angle="le90")["ship"]) == 24
    # the shorter side first is no le90
    records[3]["bbox"] = [50, 50, 10, 30, 0.1]
    with pytest.raises(DetectionFormatError, match=r"record 3: \[50, 50, 10, 30, 0.1\].*first side is the shorter one"):
        read_predictions(dump(path, records), annotations=truth, angle="le90")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"image_id": 3, "category_id": 5, "score": 0.5, "bbox": [1, 2, 3, 4]}, "image_id 3 is not among the images"),
        ({"image_id": 1, "category_id": 6, "score": 0.5, "bbox": [1, 2, 3, 4]}, "category_id 6 is not among"),
        ({"image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]}, "no 'score'"),
        ({"image_id": 1, "category_id": 5, "score": math.nan, "bbox": [1, 2, 3, 4]}, "is no finite number"),
        ({"image_id": 1, "category_id": 5, "score": "0.5", "bbox": [1, 2, 3, 4]}, "is no finite number"),
        ({"image_id": 1, "category_id": 5, "score": 0.5, "bbox": [1, 2, 3]}, "expected 4 numbers"),
        ({"image_id": 1, "category_id": 5, "score": 0.5, "bbox": [1, 2, 3, math.inf]}, "not finite"),
        ({"image_id": 1, "category_id": 5, "score": 0.5, "segmentation": {"counts": "a"}}, "run-length mask"),
        ({"image_id": 1, "category_id": 5, "score": 0.5, "segmentation": [[1, 2, 3, 4]]}, "three points or more"),
        ({"image_id": 1, "category_id": 5, "score": 0.5, "segmentation": [[1] * 8, [2] * 8]}, "of 2 polygons"),
        ({"image_id": 1, "category_id": 5, "score": 0.5}, "neither segmentation nor bbox"),
        ("text", "indices"),
    ],
)
def test_bad_results_are_reported(tmp_path: Path, record: object, reason: str) -> None:
    good = {"image_id": 1, "category_id": 5, "score": 0.5, "bbox": [1, 2, 3, 4]}
    path = dump(tmp_path / "results.json", [good, record])
    truth = gt_json(tmp_path / "gt.json")
    problems: list[Problem] = []
    found = read_predictions(path, annotations=truth, problems=problems)
    assert len(found["ship"]) == 1
    assert len(problems) == 1
    assert reason in str(problems[0])
    assert "record 1" in str(problems[0])
    with pytest.raises(DetectionFormatError, match="record 1"):
        read_predictions(path, annotations=truth)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"images": [], "annotations": [], "categories": []}, "looks like COCO annotations"),
        ({"shapes": []}, "looks like labelme"),
        ([{"data": {}, "annotations": []}], "looks like Label Studio"),
        ([{"image_id": 1}], "its records hold image_id"),
        ({"a": 1}, "it is an object with a"),
        (3, "neither Ultralytics"),
    ],
)
def test_a_wrong_file_is_named_for_what_it_looks_like(tmp_path: Path, content: object, text: str) -> None:
    with pytest.raises(DetectionFormatError, match=text):
        read_predictions(dump(tmp_path / "x.json", content), classes=CLASSES)
    (tmp_path / "y.json").write_text("{")
    with pytest.raises(DetectionFormatError, match="not JSON"):
        read_predictions(tmp_path / "y.json")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_predictions(tmp_path / "none.json")


def some_detections() -> dict[str, Detections]:
    polys = np.array([TURNED, [3, 4, 20, 4, 20, 9, 3, 9]], np.float64)
    return {
        "ship": Detections(("geo",), np.zeros(2, np.intp), np.array([0.9, 0.25]), polys),
        "plane": Detections.empty(),
    }


def test_folders_of_task1_files_are_found(tmp_path: Path) -> None:
    write_detections(tmp_path / "d", some_detections())
    found = read_predictions(tmp_path / "d")
    own = read_detections(tmp_path / "d")
    assert found.keys() == own.keys() == {"plane", "ship"}
    assert found["ship"].polys.tolist() == own["ship"].polys.tolist()


@pytest.mark.parametrize("keep_crs", [False, True])
def test_geojson_comes_back_onto_the_pixels(tmp_path: Path, keep_crs: bool) -> None:
    rasterio = pytest.importorskip("rasterio")
    from fdam_rotate.dota.rasters.georeference import read_georeference

    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "geo.tif"
    transform = rasterio.Affine(0.4, 0.1, 500000, 0.1, -0.4, 5200000)  # turned ground, so no mix-up of axes passes
    with rasterio.open(
        image, "w", driver="GTiff", width=200, height=100, count=1, dtype="uint8", crs="EPSG:32633", transform=transform
    ) as out:
        out.write(np.zeros((1, 100, 200), np.uint8))
    reference = read_georeference(image)
    assert reference is not None
    write_geojson(tmp_path / "geo.geojson", some_detections(), "geo", reference, keep_crs=keep_crs)
    found = read_predictions(tmp_path / "geo.geojson", img_dir=tmp_path / "images")
    assert found["ship"].scores.tolist() == [0.9, 0.25]
    iou = pairwise_iou(found["ship"].polys, some_detections()["ship"].polys)
    assert iou.min() > 0.999
    with pytest.raises(DotaError, match="give the folder of the georeferenced images"):
        read_predictions(tmp_path / "geo.geojson")
    cv2.imwrite(str(tmp_path / "images" / "geo.png"), np.zeros((9, 9, 3), np.uint8))
    image.unlink()
    with pytest.raises(DotaError, match="not georeferenced"):
        read_predictions(tmp_path / "geo.geojson", img_dir=tmp_path / "images")


def geojson_of(tmp_path: Path, *features: object, **more: object) -> Path:
    """GeoJSON of an image of 100 x 100 pixels of one metre in UTM, which lies below ``tmp_path``."""
    rasterio = pytest.importorskip("rasterio")
    (tmp_path / "images").mkdir()
    place = rasterio.Affine(1, 0, 500000, 0, -1, 5000000)
    form = {"driver": "GTiff", "width": 100, "height": 100, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "images/geo.tif", "w", transform=place, **form) as out:
        out.write(np.zeros((1, 100, 100), np.uint8))
    return dump(tmp_path / "geo.geojson", {"type": "FeatureCollection", "features": features, **more})


def feature(*coordinates: object, kind: str = "Polygon") -> dict[str, object]:
    properties = {"image": "geo", "class": "ship", "score": 0.5}
    return {"properties": properties, "geometry": {"type": kind, "coordinates": list(coordinates)}}


GROUND = [[15.0, 45.153], [15.0003, 45.153], [15.0003, 45.1528], [15.0, 45.1528]]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (feature(), "list index out of range"),
        (feature([]), "three points or more, got 0"),
        (feature([[15.0, 45.15], [15.0003, 45.15]]), "three points or more, got 2"),
        (feature([[200, 95], [201, 95], [201, 96], [200, 96]]), "a coordinate is not finite"),
        (feature([[15.0, "x"], [15, 45], [16, 45]]), "not all numbers"),
        (feature([GROUND[0]], kind="Point"), "geometry 'Point', expected Polygon"),
        ({"properties": {"image": "geo", "class": "ship", "score": 0.5}, "geometry": None}, "not subscriptable"),
        ({"geometry": None}, "no 'properties'"),
        (7, "not subscriptable"),
    ],
)
def test_bad_features_are_told_and_the_rest_is_read(tmp_path: Path, bad: object, reason: str) -> None:
    path = geojson_of(tmp_path, feature(GROUND), bad, feature(GROUND))
    problems: list[Problem] = []
    found = read_predictions(path, img_dir=tmp_path / "images", problems=problems)
    assert len(found["ship"]) == 2
    assert [str(one).partition(": record 1: ")[0] for one in problems] == [str(path)]
    assert reason in str(problems[0])
    with pytest.raises(DetectionFormatError, match="record 1"):
        read_predictions(path, img_dir=tmp_path / "images")


def test_hidden_files_of_a_folder_are_not_read(tmp_path: Path) -> None:
    folder = geojson_of(tmp_path, feature(GROUND)).parent
    (folder / "._geo.geojson").write_bytes(b"\0\5\x16\7")
    assert len(read_predictions(folder, img_dir=tmp_path / "images")["ship"]) == 1
    (folder / "geo.geojson").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no Task1_<class>\.txt"):
        read_predictions(folder, img_dir=tmp_path / "images")


@pytest.mark.parametrize("more", [{"crs": "EPSG:4326"}, {"crs": {"properties": 3}}, {"features": 5}])
def test_what_is_no_geojson_beside_its_features_is_one_error(tmp_path: Path, more: dict[str, object]) -> None:
    path = geojson_of(tmp_path)
    dump(path, {"type": "FeatureCollection", "features": [feature(GROUND)], **more})
    with pytest.raises(DetectionFormatError, match="its crs or its features are none of GeoJSON"):
        read_predictions(path, img_dir=tmp_path / "images")


def test_ground_truth_in_three_layouts_is_the_same(tmp_path: Path) -> None:
    rows = {"a": "10 10 50 10 50 30 10 30 ship 1\n", "b": ""}
    for name, row in rows.items():
        for folder, text in (("dota/labelTxt", row), ("yolo/labels/val", "1 0.05 0.1 0.25 0.1 0.25 0.3 0.05 0.3\n")):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / f"{name}.txt").write_text(text if row else "")
        (tmp_path / "yolo/images/val").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"yolo/images/val/{name}.png"), np.zeros((100, 200, 3), np.uint8))
    dump(tmp_path / "yolo/data.yaml", {"val": "images/val", "names": list(CLASSES)})
    gt_json(tmp_path / "coco.json")
    dota = read_ground_truth(tmp_path / "dota/labelTxt")
    yolo = read_ground_truth(tmp_path / "yolo")
    assert list(dota) == list(yolo) == ["a", "b"]
    for one in (dota, yolo):
        assert one["a"].names == ("ship",)
        assert one["a"].polys.tolist() == [[10, 10, 50, 10, 50, 30, 10, 30]]
        assert len(one["b"]) == 0
    coco = read_ground_truth(tmp_path / "coco.json")
    assert coco["a"].polys.round(4).tolist() == [TURNED]
    assert coco["a"].difficult.tolist() == [1]
    assert list(coco) == ["a", "b"]
    assert list(read_ground_truth(tmp_path / "dota/labelTxt", image_ids=["b"])) == ["b"]
    problems: list[Problem] = []
    assert list(read_ground_truth(tmp_path / "yolo", image_ids=["b", "c"], problems=problems)) == ["b"]
    assert [problem.kind for problem in problems] == ["no-label"]
    # the classes that are scored, in any order, are no names for the numbers of a data set that names its own
    other = read_ground_truth(tmp_path / "yolo", classes=["baseball-diamond", "ship", "bridge", "plane"])
    assert other["a"].names == ("ship",)
    dump(tmp_path / "yolo/data.yaml", {"val": "images/val"})
    assert read_ground_truth(tmp_path / "yolo", classes=["ship", "bridge"])["a"].names == ("bridge",)
    with pytest.raises(DotaError, match="no part 'test'; it has val"):
        read_ground_truth(tmp_path / "yolo", part="test", classes=CLASSES)
    with pytest.raises(DotaError, match="no labels of the listed image c"):
        read_ground_truth(tmp_path / "dota/labelTxt", image_ids=["c"])
