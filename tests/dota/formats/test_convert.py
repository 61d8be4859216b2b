"""Conversions: exact where the format can, every loss counted, read back by the formats' own library."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from scripts import SHARED, load_script

from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.errors import DotaError, OutputExistsError
from fdam_rotate.dota.formats.boxes import turned_rectangle
from fdam_rotate.dota.formats.interchange import Losses, staged
from fdam_rotate.dota.geometry import polygon_area
from fdam_rotate.dota.labels import read_labels

SAMPLE = SHARED / "dota_sample"


def load(name: str) -> ModuleType:
    return load_script(f"data_prep/{name}.py")


convert = load("convert_labels").main

TEXT = {
    "train/A": (
        (120, 80),
        "imagesource:GoogleEarth\ngsd:0.146343590398\n"
        "10 10 50.5 10 50.5 30.25 10 30.25 ship 0\n"
        "60 20 90 40 80 55 50 35 small-vehicle 1\n"
        "100 60 140 60 140 75 100 75 plane 0\n",
    ),
    "train/B.b": ((64, 64), ""),
    "val/C": ((333, 77), "0.1 0.2 33.3 0.4 33.3 7.7 0.5 7.9 harbor 2\n-30 -30 -10 -30 -10 -10 -30 -10 ship 0\n"),
}


@pytest.fixture
def dota(tmp_path: Path) -> Path:
    for name, (size, text) in TEXT.items():
        part, image_id = name.split("/")
        for folder in ("images", "labelTxt"):
            (tmp_path / "dota" / part / folder).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(name)).integers(0, 255, (size[1], size[0], 3), np.uint8)
        cv2.imwrite(str(tmp_path / "dota" / part / "images" / f"{image_id}.png"), noise)
        (tmp_path / "dota" / part / "labelTxt" / f"{image_id}.txt").write_text(text)
    return tmp_path / "dota"


def assert_same(one: Path, two: Path, *, within: float, difficult: bool, header: bool) -> int:
    """Label folders of two DOTA roots agree; returns how many objects they hold."""
    count = 0
    paths = sorted(one.rglob("*.txt"))
    assert [p.relative_to(one) for p in paths] == [p.relative_to(two) for p in sorted(two.rglob("*.txt"))]
    for path in paths:
        a, b = read_labels(path), read_labels(two / path.relative_to(one))
        assert a.names == b.names
        assert np.abs(a.polys - b.polys).max(initial=0) <= within
        assert b.difficult.tolist() == (a.difficult.tolist() if difficult else [0] * len(a))
        assert b.header == (a.header if header else ())
        count += len(a)
    return count


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
@pytest.mark.parametrize("parts", [True, False])
def test_labels_of_dota_whose_images_lie_elsewhere(dota: Path, tmp_path: Path, parts: bool, left: str) -> None:
    """What predict --labels dota wrote, say: --img-dir says where the images are."""
    source = dota if parts else dota / "train"
    assert convert([str(source), "--out", str(tmp_path / "with"), "--to", "coco", "--images", "none"]) == 0
    for folder in sorted(source.rglob("images")):
        place = tmp_path / "photos" / folder.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place.with_suffix("") if parts else place)
        if left == "an empty folder" or parts:
            folder.mkdir()
    photos = tmp_path / "photos" if parts else tmp_path / "photos/images"
    words = [str(source), "--img-dir", str(photos), "--to", "coco", "--images", "none"]
    assert convert([*words, "--out", str(tmp_path / "apart")]) == 0
    for path in (tmp_path / "with").rglob("*.json"):
        assert (tmp_path / "apart" / path.relative_to(tmp_path / "with")).read_bytes() == path.read_bytes()


def test_coco_round_trip_is_exact(dota: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "coco"), "--to", "coco"]) == 0
    assert convert([str(tmp_path / "coco"), "--out", str(tmp_path / "back"), "--from", "coco", "--to", "dota"]) == 0
    assert "not kept" not in capsys.readouterr().out
    assert assert_same(dota, tmp_path / "back", within=0, difficult=True, header=True) == 5
    for path in dota.rglob("*.png"):
        assert (tmp_path / "back" / path.relative_to(dota)).read_bytes() == path.read_bytes()


def test_coco_is_read_by_pycocotools(dota: Path, tmp_path: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    assert convert([str(dota), "--out", str(tmp_path / "coco"), "--to", "coco"]) == 0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_module.COCO(str(tmp_path / "coco" / "annotations" / "train.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(DOTA_CLASSES["v1.0"])
    assert coco.getCatIds() == list(range(1, 16))
    (image,) = coco.loadImgs(coco.getImgIds())[:1]
    assert (image["file_name"], image["width"], image["height"]) == ("A.png", 120, 80)
    assert (tmp_path / "coco" / "train" / image["file_name"]).is_file()
    ship, car, plane = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
    # 40.5 x 20.25 pixels
    assert ship["area"] == 820.125
    assert ship["bbox"] == [10, 10, 40.5, 20.25]
    assert ship["segmentation"] == [[10, 10, 50.5, 10, 50.5, 30.25, 10, 30.25]]
    assert [a["difficult"] for a in (ship, car, plane)] == [0, 1, 0]
    assert {a["iscrowd"] for a in (ship, car, plane)} == {0}
    # half the cross product of the diagonals (20, 35) and (-40, -5): (20 * -5 + 35 * 40) / 2
    assert car["area"] == 650
    assert coco.annToMask(ship).sum() == pytest.approx(820, rel=0.05)
    assert coco.annToMask(car).sum() == pytest.approx(650, rel=0.05)
    with contextlib.redirect_stdout(io.StringIO()):
        results = [
            {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
            for a in coco.loadAnns(coco.getAnnIds())
        ]
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_yolo_round_trip_is_within_a_thousandth_pixel_and_tells_its_losses(
    dota: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "yolo"), "--to", "yolo-obb", "--outside", "keep"]) == 0
    out = capsys.readouterr().out
    assert "not kept: marks of difficult objects: 2" in out
    assert "not kept: header lines (source and gsd of an image): 2" in out
    assert "not kept: objects with a corner outside the image (Ultralytics ignores such images): 2" in out
    assert convert([str(tmp_path / "yolo"), "--out", str(tmp_path / "back"), "--from", "yolo-obb", "--to", "dota"]) == 0
    assert assert_same(dota, tmp_path / "back", within=1e-3, difficult=False, header=False) == 5


def test_yolo_lines_are_as_ultralytics_documents_them(dota: Path, tmp_path: Path) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "yolo"), "--to", "yolo-obb"]) == 0
    lines = [line.split() for line in (tmp_path / "yolo/labels/train/A.txt").read_text().splitlines()]
    # ship is number 6 of DOTA-v1.0, small-vehicle 4, plane 0; the image has 120 x 80 pixels
    assert [line[0] for line in lines] == ["6", "4", "0"]
    expected = [10 / 120, 10 / 80, 50.5 / 120, 10 / 80, 50.5 / 120, 30.25 / 80, 10 / 120, 30.25 / 80]
    assert [float(value) for value in lines[0][1:]] == pytest.approx(expected, abs=1e-10)
    # the plane reached to x = 140: clipped to the border
    assert [float(value) for value in lines[2][1:]] == pytest.approx(
        [100 / 120, 0.75, 1, 0.75, 1, 75 / 80, 100 / 120, 75 / 80]
    )
    assert (tmp_path / "yolo/labels/train/B.b.txt").read_text() == ""
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert content["names"] == dict(enumerate(DOTA_CLASSES["v1.0"]))
    assert (content["train"], content["val"]) == ("images/train", "images/val")
    assert (tmp_path / "yolo" / content["train"] / "A.png").is_file()


@pytest.mark.parametrize(
    ("outside", "lines", "told"),
    [
        # the harbor lies inside; the ship lies wholly outside
        ("clip", 1, "objects without area inside the image left out: 1"),
        ("drop", 1, "objects with a corner outside the image left out: 2"),
        ("keep", 2, "objects with a corner outside the image (Ultralytics"),
    ],
)
def test_corners_outside_the_image(
    dota: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], outside: str, lines: int, told: str
) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "yolo"), "--to", "yolo-obb", "--outside", outside]) == 0
    assert told in capsys.readouterr().out
    rows = [line.split()[1:] for line in (tmp_path / "yolo/labels/val/C.txt").read_text().splitlines()]
    assert len(rows) == lines
    inside = all(0 <= float(value) <= 1 for row in rows for value in row)
    assert inside == (outside != "keep")


def test_difficult_objects_can_be_left_out(dota: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "coco"), "--to", "coco", "--drop-difficult"]) == 0
    assert "not kept: difficult objects left out: 2" in capsys.readouterr().out
    content = json.loads((tmp_path / "coco/annotations/train.json").read_text())
    assert [a["difficult"] for a in content["annotations"]] == [0, 0]


def test_the_class_list_sets_order_and_what_is_refused(
    dota: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("ship\nplane\nsmall-vehicle\n")
    assert convert([str(dota), "--out", str(tmp_path / "yolo"), "--to", "yolo-obb", "--classes", str(names)]) == 1
    assert "C.txt:1: unknown class 'harbor'" in capsys.readouterr().err
    rows = (tmp_path / "yolo/labels/train/A.txt").read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["0", "2", "1"]
    (dota / "val/labelTxt/C.txt").write_text("1 1 9 1 9 9 1 9 windmill 0\n")
    assert convert([str(dota), "--out", str(tmp_path / "coco"), "--to", "coco"]) == 0
    assert "classes: plane, ship, small-vehicle, windmill (no version of DOTA" in capsys.readouterr().out


def test_bad_lines_and_images_are_told_and_the_rest_is_converted(
    dota: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (dota / "train/labelTxt/A.txt").open("a") as file:
        file.write("1 2 3 ship 0\n")
    (dota / "val/images/D.png").write_bytes(b"not an image")
    (dota / "val/labelTxt/D.txt").write_text("")
    (dota / "val/images/E.png").symlink_to("nowhere.png")
    (dota / "val/labelTxt/E.txt").write_text("")
    assert convert([str(dota), "--out", str(tmp_path / "coco"), "--to", "coco"]) == 1
    told = capsys.readouterr().err
    assert re.search(rf"^{dota}/train/labelTxt/A.txt:6: expected 8 coordinates.* \[malformed\]$", told, re.MULTILINE)
    assert re.search(rf"^{dota}/val/images/D.png: .* \[image\]$", told, re.MULTILINE)
    assert f"{dota}/val/images/E.png: cannot be read: No such file or directory [image]\n" in told
    assert len(json.loads((tmp_path / "coco/annotations/train.json").read_text())["annotations"]) == 3


def test_annfiles_of_a_split_and_a_flat_data_set_are_read(dota: Path, tmp_path: Path) -> None:
    (dota / "train/labelTxt").rename(dota / "train/annfiles")
    assert convert([str(dota / "train"), "--out", str(tmp_path / "coco"), "--to", "coco"]) == 0
    assert (tmp_path / "coco/annotations/data.json").is_file()
    assert convert([str(tmp_path / "coco"), "--out", str(tmp_path / "back"), "--from", "coco", "--to", "dota"]) == 0
    assert sorted(p.name for p in (tmp_path / "back").glob("[!.]*")) == ["images", "labelTxt"]


@pytest.mark.parametrize(
    ("placement", "link", "there"), [("symlink", True, True), ("copy", False, True), ("none", False, False)]
)
def test_images_are_linked_copied_or_left(dota: Path, tmp_path: Path, placement: str, link: bool, there: bool) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "coco"), "--to", "coco", "--images", placement]) == 0
    image = tmp_path / "coco/train/A.png"
    assert (image.is_symlink(), image.is_file()) == (link, there)
    if placement == "none":
        # the labels come back without the pictures, by the sizes that the JSON gives
        back = [str(tmp_path / "coco"), "--out", str(tmp_path / "back"), "--from", "coco", "--to", "dota"]
        assert convert([*back, "--images", "none"]) == 0
        assert (tmp_path / "back/train/labelTxt/A.txt").is_file()
        assert convert([*back, "--overwrite"]) == 1


def foreign_coco(folder: Path, annotations: Sequence[object], images: Sequence[object] | None = None) -> Path:
    """A COCO file that another tool might have written."""
    cv2.imwrite(str(folder / "a.png"), np.zeros((50, 60, 3), np.uint8))
    content = {
        "images": images or [{"id": 7, "file_name": "a.png", "width": 60, "height": 50}],
        "categories": [{"id": 3, "name": "storage tank"}],
        "annotations": annotations,
    }
    (folder / "instances_train.json").write_text(json.dumps(content))
    return folder / "instances_train.json"


def test_foreign_coco_polygons_and_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = {"image_id": 7, "category_id": 3}
    source = foreign_coco(
        tmp_path,
        [
            {**base, "id": 1, "segmentation": [[10, 10, 30, 10, 30, 20, 20, 20, 10, 20]], "iscrowd": 0},
            {**base, "id": 2, "bbox": [5, 6, 7, 8], "iscrowd": 1},
        ],
    )
    assert convert([str(source), "--out", str(tmp_path / "out"), "--from", "coco", "--to", "dota"]) == 0
    out = capsys.readouterr().out
    assert "not kept: polygons of other than four corners (their smallest turned rectangle is taken): 1" in out
    assert "not kept: objects without polygon" in out
    assert "not kept: class names with spaces (written with - instead): 1" in out
    labels = read_labels(tmp_path / "out/train/labelTxt/a.txt")
    assert labels.names == ("storage-tank", "storage-tank")
    assert labels.difficult.tolist() == [0, 1]
    assert polygon_area(labels.polys).tolist() == pytest.approx([200, 56])
    assert labels.polys[1].tolist() == [5, 6, 12, 6, 12, 14, 5, 14]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4]}, "image_id 8 is not among"),
        ({"image_id": [7], "category_id": 3, "bbox": [1, 2, 3, 4]}, "image_id [7] is not among"),
        ({"image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4]}, "category_id 4 is not among"),
        ({"image_id": 7, "category_id": {}, "bbox": [1, 2, 3, 4]}, "category_id {} is not among"),
        ({"image_id": 7, "category_id": 3}, "no usable segmentation or bbox"),
        ({"image_id": 7, "category_id": 3, "bbox": [1, 2, math.nan, 4]}, "bbox holds no finite numbers"),
        ({"image_id": 7, "category_id": 3, "bbox": [1, 2]}, "no usable segmentation or bbox"),
        ({"image_id": 7, "category_id": 3, "segmentation": [[1, 2, 3, 4]]}, "three points or more"),
        ({"image_id": 7, "category_id": 3, "segmentation": [["a"] * 8]}, "no usable segmentation"),
        ({"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "difficult": -1}, "difficult must be"),
        ("text", "not an object"),
    ],
)
def test_bad_coco_annotations_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], annotation: object, reason: str
) -> None:
    good = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}
    source = foreign_coco(tmp_path, [annotation, good])
    assert convert([str(source), "--out", str(tmp_path / "out"), "--from", "coco", "--to", "dota"]) == 1
    assert reason in capsys.readouterr().err
    assert len(read_labels(tmp_path / "out/train/labelTxt/a.txt")) == 1


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "", None, "C:\\x.png", "..\\x.png"])
def test_coco_file_names_cannot_leave_the_image_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str | None
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((5, 5, 3), np.uint8))
    source = foreign_coco(folder, [], [{"id": 1, "file_name": name}, {"id": 7, "file_name": "a.png"}])
    assert convert([str(source), "--out", str(tmp_path / "out"), "--from", "coco", "--to", "dota"]) == 1
    assert "is no path within the folder of images" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").rglob("*.png")] == ["a.png"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"images": 1, "annotations": [], "categories": []}', "\xff"])
def test_what_is_no_coco_file_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(DotaError, match=r"x\.json: not"):
        convert([str(tmp_path), "--out", str(tmp_path / "out"), "--from", "coco", "--to", "dota"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json"]


def foreign_yolo(
    folder: Path, label: str, yaml: str | None = "train: images/train\nnames: [plane, storage tank]\n"
) -> Path:
    for name in ("images", "labels"):
        (folder / name / "train").mkdir(parents=True)
    cv2.imwrite(str(folder / "images/train/a.jpg"), np.zeros((50, 100, 3), np.uint8))
    (folder / "labels/train/a.txt").write_text(label)
    if yaml is not None:
        (folder / "data.yaml").write_text(yaml)
    return folder


def test_foreign_yolo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = foreign_yolo(tmp_path / "y", "1 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4\n\n0 0.5 0.5 0.2 0.4\n")
    assert convert([str(source), "--out", str(tmp_path / "out"), "--from", "yolo-obb", "--to", "dota"]) == 0
    labels = read_labels(tmp_path / "out/train/labelTxt/a.txt")
    assert labels.names == ("storage-tank", "plane")
    assert labels.polys.tolist() == [[10, 10, 30, 10, 30, 20, 10, 20], [40, 15, 60, 15, 60, 35, 40, 35]]
    assert "not kept: upright boxes (centre and size), read as ori" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0 0 1 0 1 1 0 1", "class index '2' is not within 0 to 1"),
        ("-1 0 0 1 0 1 1 0 1", "class index '-1'"),
        ("plane 0 0 1 0 1 1 0 1", "class index 'plane'"),
        ("0 0 0 1 0 1 1 0", "got 8 fields"),
        ("0 0 0 1 0 1 1 0 x", "no number"),
        ("0 0 0 1 0 1 1 0 nan", "no finite share"),
        ("0 0 0 1 0 1 1 0 640", "no finite share"),
    ],
)
def test_bad_yolo_lines_are_told_with_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, reason: str
) -> None:
    source = foreign_yolo(tmp_path / "y", f"0 0 0 1 0 1 1 0 1\n{line}\n")
    assert convert([str(source), "--out", str(tmp_path / "out"), "--from", "yolo-obb", "--to", "dota"]) == 1
    out = capsys.readouterr().err
    assert "a.txt:2: " in out
    assert reason in out
    assert len(read_labels(tmp_path / "out/train/labelTxt/a.txt")) == 1


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("train: images/train\n", "no class names"),
        ("train: images/train\nnames: {0: a, 2: b}\n", "no class names"),
        ("train: ../y/images/train\nnames: [a]\n", None),
        ("train: ../..\nnames: [a]\n", "is no folder in"),
        ("train: [images/train]\nnames: [a]\n", "is no folder in"),
        ("train: images/other\nnames: [a]\n", "is no folder in"),
        ("- a\n", "expected keys"),
        ("a: [\n", "not YAML"),
        ("train: images/train\nnames: [a]\ndate: 2021-13-45\n", "not YAML: month must be in 1..12"),
        (None, "no class names"),
    ],
)
def test_bad_data_yaml(tmp_path: Path, yaml: str | None, reason: str | None) -> None:
    pytest.importorskip("yaml")
    source = foreign_yolo(tmp_path / "y", "", yaml)
    argv = [str(source), "--out", str(tmp_path / "out"), "--from", "yolo-obb", "--to", "dota"]
    if reason is None:
        assert convert(argv) == 0
    else:
        with pytest.raises(DotaError, match=reason):
            convert(argv)


def test_yolo_without_yaml_takes_the_given_classes(tmp_path: Path) -> None:
    source = foreign_yolo(tmp_path / "y", "1 0 0 1 0 1 1 0 1\n", None)
    argv = [
        str(source),
        "--out",
        str(tmp_path / "out"),
        "--from",
        "yolo-obb",
        "--to",
        "dota",
        "--classes",
        "ship,harbor",
    ]
    assert convert(argv) == 0
    assert read_labels(tmp_path / "out/train/labelTxt/a.txt").names == ("harbor",)


def test_a_class_list_gives_no_other_names_to_the_numbers_of_yolo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its order is that of what is written; what a number means, data.yaml says."""
    source = foreign_yolo(tmp_path / "y", "0 0 0 1 0 1 1 0 1\n1 0 0 1 0 1 1 0 1\n")
    argv = [str(source), "--to", "coco", "--images", "none", "--out"]
    assert convert([*argv, str(tmp_path / "all"), "--classes", "storage-tank,plane"]) == 0
    content = json.loads((tmp_path / "all/annotations/train.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    assert names == {1: "storage-tank", 2: "plane"}
    assert [names[one["category_id"]] for one in content["annotations"]] == ["plane", "storage-tank"]
    capsys.readouterr()
    assert convert([*argv, str(tmp_path / "one"), "--classes", "plane"]) == 1
    assert "a.txt:2: unknown class 'storage-tank'" in capsys.readouterr().err


def test_existing_output_is_refused_before_any_work_and_kept_on_failure(dota: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        convert([str(dota), "--out", str(out), "--to", "coco"])
    with pytest.raises(FileNotFoundError):
        convert([str(dota / "nothing"), "--out", str(out), "--to", "coco", "--overwrite"])
    assert (out / "mine.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dota", "out"]
    assert convert([str(dota), "--out", str(out), "--to", "coco", "--overwrite"]) == 0
    assert (out / "mine.txt").read_text() == "mine"


def test_staged_folder_is_all_or_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "out") as folder:
            (folder / "half.txt").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError), staged(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


@pytest.mark.parametrize("out", [".", "../here"])
def test_the_folder_that_one_stands_in_may_be_the_output(
    dota: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert convert([str(dota), "--out", out, "--to", "coco", "--images", "none"]) == 0
    assert sorted(path.name for path in (tmp_path / "here").glob("[!.]*")) == ["annotations"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dota", "here"]


def test_coco_files_of_one_part_name_are_two_parts(tmp_path: Path) -> None:
    """``train.json`` and ``instances_train.json``: the second one's images would replace the first one's."""
    for name in ("train", "instances_train"):
        content = {
            "images": [{"id": 1, "file_name": f"{name}.png", "width": 40, "height": 30}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
            "categories": [{"id": 1, "name": "ship"}],
        }
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.json").write_text(json.dumps(content))
    argv = [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--to", "cvat", "--images", "none"]
    assert convert(argv) == 0
    texts = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.xml")}
    assert sorted(texts) == ["instances_train.xml", "train.xml"]
    assert all(f'name="{name.removesuffix(".xml")}.png"' in text for name, text in texts.items())


def test_losses_of_nothing_are_not_told() -> None:
    losses = Losses()
    losses.add("things", 0)
    assert not losses.counts
    losses.add("things", 2)
    losses.add("things")
    assert losses.counts == {"things": 3}


def test_smallest_turned_rectangle_of_a_turned_square() -> None:
    poly = turned_rectangle(np.array([(10, 0), (20, 10), (10, 20), (0, 10), (10, 10)], float))
    assert polygon_area([poly])[0] == pytest.approx(200, rel=1e-4)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the DOTA sample is not beside this checkout")
def test_dota_sample_both_ways(tmp_path: Path) -> None:
    for name, options, settings in (
        ("coco", [], {"within": 0, "difficult": True, "header": True}),
        ("yolo-obb", ["--outside", "keep"], {"within": 1e-3, "difficult": False, "header": False}),
    ):
        assert convert([str(SAMPLE), "--out", str(tmp_path / name), "--to", name, *options]) == 0
        back = tmp_path / f"back-{name}"
        assert convert([str(tmp_path / name), "--out", str(back), "--from", name, "--to", "dota"]) == 0
        for part in ("train", "val"):
            assert assert_same(SAMPLE / part, back / part, **settings) == {"train": 886, "val": 107}[part]
