"""Labels as the tools that people draw with write them: corners by hand, and back again through every format."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import load_script

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.formats.boxes import corners_of, rectangle_of
from fdam_rotate.dota.formats.interchange import DataPart, Reading, Writing
from fdam_rotate.dota.formats.sniff import sniff_format
from fdam_rotate.dota.formats.table import FORMATS
from fdam_rotate.dota.geometry import pairwise_iou
from fdam_rotate.dota.labels import Labels, read_labels

convert = load_script("data_prep/convert_labels.py").main

#: Half the root of three: the height of a triangle over half its side.
ROOT = math.sqrt(3) / 2


def image(path: Path, width: int = 400, height: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))
    return path


def to_dota(source: Path, out: Path, *options: str, code: int = 0) -> dict[str, Labels]:
    """Convert to DOTA; label files by their path without suffix."""
    assert convert([str(source), "--out", str(out), "--to", "dota", *options]) == code
    return {str(path.relative_to(out).with_suffix("")): read_labels(path) for path in sorted(out.rglob("*.txt"))}


def turned(cx: float, cy: float, points: list[tuple[float, float]]) -> list[float]:
    """Corners from offsets to the centre."""
    return [value for x, y in points for value in (cx + x, cy + y)]


#: A box of 100 x 40 pixels about (200, 100), turned by 30 degrees clockwise: half sides (50 cos 30, 50 sin 30) and
#: (-20 sin 30, 20 cos 30), so (43.30, 25) and (-10, 17.32).
THIRTY = turned(
    200,
    100,
    [
        (-50 * ROOT + 10, -25 - 20 * ROOT),
        (50 * ROOT + 10, 25 - 20 * ROOT),
        (50 * ROOT - 10, 25 + 20 * ROOT),
        (-50 * ROOT - 10, -25 + 20 * ROOT),
    ],
)

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>7</id><name>yard</name><size>3</size><mode>annotation</mode>
    <labels><label><name>ship</name><color>#fa3253</color><type>any</type>
      <attributes><attribute><name>difficult</name><input_type>checkbox</input_type></attribute></attributes>
    </label></labels></task><dumped>2024-08-11 03:45:18.553526+00:00</dumped></meta>
  <image id="0" name="a.png" width="400" height="200">
    <box label="ship" source="manual" occluded="0" xtl="150.00" ytl="80.00" xbr="250.00" ybr="120.00" rotation="30.00"
         z_order="0"><attribute name="difficult">true</attribute></box>
    <box label="storage tank" source="manual" occluded="0" xtl="10.00" ytl="20.00" xbr="30.00" ybr="50.00" z_order="0">
    </box>
    <box label="storage tank" source="manual" occluded="0" xtl="1.00" ytl="2.00" xbr="3.00" ybr="5.00" z_order="0"/>
    <polygon label="plane" source="manual" occluded="0" points="10.00,10.00;60.00,20.00;50.00,70.00;5.00,60.00"
         z_order="0"></polygon>
    <polygon label="plane" source="manual" occluded="0" points="0,0;40,0;40,20;20,20;0,20" z_order="0"></polygon>
    <polyline label="ship" source="manual" occluded="0" points="1,1;2,2" z_order="0"></polyline>
    <tag label="day" source="manual"></tag>
  </image>
  <image id="1" name="b.png" width="400" height="200">
  </image>
</annotations>
"""


def cvat(folder: Path) -> Path:
    for name in ("a.png", "b.png"):
        image(folder / "images" / name)
    (folder / "annotations.xml").write_text(CVAT)
    return folder


def test_cvat_xml_box_is_turned_about_its_centre(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = to_dota(cvat(tmp_path / "in"), tmp_path / "out")
    assert list(found) == ["labelTxt/a", "labelTxt/b"]
    labels = found["labelTxt/a"]
    assert labels.names == ("ship", "storage-tank", "storage-tank", "plane", "plane")
    assert labels.difficult.tolist() == [1, 0, 0, 0, 0]
    assert labels.polys[0].tolist() == pytest.approx(THIRTY, abs=1e-9)
    assert labels.polys[1].tolist() == [10, 20, 30, 20, 30, 50, 10, 50]
    assert labels.polys[3].tolist() == [10, 10, 60, 20, 50, 70, 5, 60]
    assert pairwise_iou(labels.polys[4:], [[0, 0, 40, 0, 40, 20, 0, 20]])[0] == pytest.approx(1)
    assert len(found["labelTxt/b"]) == 0
    out = capsys.readouterr().out
    assert "not kept: class names with spaces (written with - instead): 1" in out
    assert "not kept: polygons of other than four corners (their smallest turned rectangle is taken): 1" in out
    assert "not kept: shapes of type polyline (no boxes), left out: 1" in out


def test_cvat_project_has_a_part_per_subset(tmp_path: Path) -> None:
    text = CVAT.replace('name="a.png"', 'name="a.png" subset="train"').replace(
        'name="b.png"', 'name="deep/b.png" subset="val"'
    )
    image(tmp_path / "in/images/train/a.png")
    image(tmp_path / "in/images/val/deep/b.png")
    (tmp_path / "in/annotations.xml").write_text(text)
    found = to_dota(tmp_path / "in", tmp_path / "out")
    assert {name: len(labels) for name, labels in found.items()} == {"train/labelTxt/a": 5, "val/labelTxt/b": 0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('xtl="150.00"', 'xtl="left"'), "image a.png, box 0: could not convert string to float: 'left'"),
        (('xtl="150.00"', 'xtl="nan"'), "image a.png, box 0: no finite coordinates"),
        (('xtl="150.00" ', ""), "image a.png, box 0: no 'xtl'"),
        (('label="ship" source="manual" occluded="0" xtl', 'label=" " source="manual" occluded="0" xtl'), "class name"),
        (("5.00,60.00", "5.00"), "image a.png, polygon 3: a point has other than two coordinates"),
        (("10.00,10.00;60.00,20.00;50.00,70.00;5.00,60.00", "1,1;2,2"), "three points or more, got 2"),
        (('name="b.png"', 'name="../b.png"'), "is no path within the folder of images"),
        (('name="b.png"', 'name="a.png"'), "image a.png: its id is taken"),
        (('name="b.png"', 'name="c.png"'), "c.png is not in"),
        (('name="b.png"', 'name="b.png" subset="../../elsewhere"'), "its subset '../../elsewhere' cannot be the name"),
        (('name="b.png"', 'name="b.png" subset=".."'), "its subset '..' cannot be the name of a folder"),
        (('name="b.png" width="400"', 'name="b.png" width="500"'), "400 x 200 pixels, its labels say 500 x 200"),
    ],
)
def test_bad_cvat_records_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], reason: str
) -> None:
    source = cvat(tmp_path / "in")
    assert change[0] in CVAT
    (source / "annotations.xml").write_text(CVAT.replace(*change, 1))
    found = to_dota(source, tmp_path / "out", code=1)
    assert reason in capsys.readouterr().err
    assert len(found["labelTxt/a"]) >= 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotations>", "not XML"),
        ("<annotation/>", "this is roLabelImg's"),
        ("<annotations><track id='0' label='ship'/></annotations>", "this is CVAT for video 1.1"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations><image name="&b;"/></annotations>', "DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "http://localhost/x.dtd"><annotations/>', "DOCTYPE"),
        ('<?xml version="1.0" encoding="gb2312"?><annotations/>', "multi-byte encodings .*; save it as UTF-8"),
        ('<?xml version="1.0" encoding="none"?><annotations/>', "unknown encoding: none; save it as UTF-8"),
    ],
)
def test_what_is_not_cvats_xml_is_one_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(DotaError, match=f"x.xml: .*{reason}"):
        FORMATS["cvat"].read(tmp_path, Reading())


def test_entities_that_expand_are_refused_before_they_do(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 10))
    (tmp_path / "x.xml").write_text(f'<!DOCTYPE a [<!ENTITY e0 "ha">{levels}]><annotations>&e9;</annotations>')
    with pytest.raises(DotaError, match="DOCTYPE"):
        FORMATS["cvat"].read(tmp_path, Reading())


def cvat_coco(folder: Path, annotation: Mapping[str, object]) -> Path:
    image(folder / "images/a.png")
    (folder / "annotations").mkdir()
    content = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "images": [{"id": 1, "width": 400, "height": 200, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "ship", "supercategory": ""}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **annotation}],
    }
    (folder / "annotations/instances_default.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        pytest.param(
            {"segmentation": [], "bbox": [150, 80, 100, 40], "attributes": {"occluded": False, "rotation": 30.0}},
            THIRTY,
            id="turned",
        ),
        pytest.param(
            {
                "segmentation": [[150, 80, 250, 80, 250, 120, 150, 120]],
                "bbox": [150, 80, 100, 40],
                "attributes": {"rotation": 30.0},
            },
            THIRTY,
            id="turned-with-the-corners-of-before",
        ),
        pytest.param(
            {
                "segmentation": [[10, 10, 60, 20, 50, 70, 5, 60]],
                "bbox": [5, 10, 55, 60],
                "attributes": {"rotation": 30.0},
            },
            [10, 10, 60, 20, 50, 70, 5, 60],
            id="a-polygon-of-its-own",
        ),
        pytest.param(
            {
                "segmentation": [[150.6, 80, 250.6, 80, 250.6, 120, 150.6, 120]],
                "bbox": [150, 80, 100, 40],
                "attributes": {"rotation": 30.0},
            },
            [150.6, 80, 250.6, 80, 250.6, 120, 150.6, 120],
            id="a-rectangle-of-its-own",
        ),
        pytest.param(
            {"segmentation": [], "bbox": [150, 80, 100, 40], "attributes": {"rotation": 0.0}},
            [150, 80, 250, 80, 250, 120, 150, 120],
            id="upright",
        ),
        pytest.param(
            {"segmentation": [[10, 10, 60, 20, 50, 70, 5, 60, 10, 10]], "bbox": [5, 10, 55, 60]},
            [10, 10, 60, 20, 50, 70, 5, 60],
            id="a-closed-ring",
        ),
    ],
)
def test_cvats_coco_keeps_rotation_and_closed_rings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], annotation: dict[str, object], expected: list[float]
) -> None:
    found = to_dota(cvat_coco(tmp_path / "in", annotation), tmp_path / "out")
    assert found["default/labelTxt/a"].polys[0].tolist() == pytest.approx(expected, abs=1e-9)
    assert "not kept" not in capsys.readouterr().out


ROLABELIMG = """<annotation verified="no">
  <folder>yard</folder>
  <filename>a</filename>
  <path>/home/me/yard/a.png</path>
  <source><database>Unknown</database></source>
  <size><width>400</width><height>200</height><depth>3</depth></size>
  <segmented>0</segmented>
  <object>
    <type>robndbox</type><name>ship</name><pose>Unspecified</pose><truncated>0</truncated><difficult>1</difficult>
    <robndbox><cx>200.0</cx><cy>100.0</cy><w>100.0</w><h>40.0</h><angle>0.523599</angle></robndbox>
  </object>
  <object>
    <type>bndbox</type><name>plane</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>50</ymax></bndbox>
  </object>
</annotation>
"""


def test_rolabelimg_angle_is_in_radians_along_w(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(tmp_path / "in/a.png")
    image(tmp_path / "in/b.png")
    (tmp_path / "in/a.xml").write_text(ROLABELIMG)
    found = to_dota(tmp_path / "in", tmp_path / "out")
    labels = found["labelTxt/a"]
    # the angle has six decimals, the longest arm is 54 pixels: 3e-5 pixel
    assert labels.polys[0].tolist() == pytest.approx(THIRTY, abs=1e-4)
    assert labels.polys[1].tolist() == [10, 20, 30, 20, 30, 50, 10, 50]
    assert labels.names == ("ship", "plane")
    assert labels.difficult.tolist() == [1, 0]
    assert len(found["labelTxt/b"]) == 0
    assert "note: images without a label file, taken as background: 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("<angle>0.523599", "<angle>30"), "the angle 30 looks like degrees; roLabelImg writes radians"),
        (("<cx>200.0</cx>", ""), "object 0: <cx> holds no number: ''"),
        (("<cx>200.0", "<cx>inf"), "object 0: no finite coordinates"),
        (("<difficult>1", "<difficult>yes"), "difficult must be an integer of at least 0, got 'yes'"),
        (("<name>ship</name>", ""), "an object without a class name"),
        (("<width>400", "<width>401"), "400 x 200 pixels, its labels say 401 x 200"),
    ],
)
def test_bad_rolabelimg_objects_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], reason: str
) -> None:
    image(tmp_path / "in/images/a.png")
    (tmp_path / "in/annotations").mkdir()
    (tmp_path / "in/annotations/a.xml").write_text(ROLABELIMG.replace(*change, 1))
    found = to_dota(tmp_path / "in", tmp_path / "out", code=1)
    assert reason in capsys.readouterr().err
    assert len(found["labelTxt/a"]) >= 1


#: One shape as each tool writes it, and the corners that it means.
SHAPES: dict[str, tuple[dict[str, object], list[float]]] = {
    # X-AnyLabeling 2.3.6, from its issue 626, rounded: 0.34 rad is 19.5 degrees
    "rotation": (
        {
            "label": "ship",
            "score": None,
            "points": [[46.0, 68.25], [371.0, 183.5], [274.5, 190.0], [-50.5, 141.25]],
            "group_id": None,
            "description": "",
            "difficult": False,
            "shape_type": "rotation",
            "flags": {},
            "attributes": {},
            "kie_linking": [],
            "direction": 0.33999999999999464,
        },
        [46.0, 68.25, 371.0, 183.5, 274.5, 190.0, -50.5, 141.25],
    ),
    "polygon": (
        {
            "label": "ship",
            "points": [[10, 10], [60, 20], [50, 70], [5, 60]],
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        },
        [10, 10, 60, 20, 50, 70, 5, 60],
    ),
    "rectangle": (
        {"label": "ship", "points": [[30, 20], [10, 50]], "shape_type": "rectangle", "flags": {}},
        [10, 20, 30, 20, 30, 50, 10, 50],
    ),
    "rectangle-of-four": (
        {"label": "ship", "points": [[10, 20], [30, 20], [30, 50], [10, 50]], "shape_type": "rectangle"},
        [10, 20, 30, 20, 30, 50, 10, 50],
    ),
    "oriented_rectangle": (
        {"label": "ship", "points": [[10, 0], [20, 10], [10, 20], [0, 10]], "shape_type": "oriented_rectangle"},
        [10, 0, 20, 10, 10, 20, 0, 10],
    ),
    "labelme-2": (
        {"label": "ship", "points": [[10, 10], [60, 20], [50, 70], [5, 60]]},
        [10, 10, 60, 20, 50, 70, 5, 60],
    ),
}


def labelme_file(path: Path, shapes: list[dict[str, object]], **others: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"..\\images\\{path.stem}.png",
        "imageData": None,
        "imageHeight": 200,
        "imageWidth": 400,
        **others,
    }
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", list(SHAPES))
def test_shapes_of_labelme_and_x_anylabeling(tmp_path: Path, kind: str) -> None:
    shape, expected = SHAPES[kind]
    image(tmp_path / "in/a.png")
    labelme_file(tmp_path / "in/a.json", [shape])
    (tmp_path / "in/._a.json").write_bytes(b"\x00\x05\x16\x07")
    found = to_dota(tmp_path / "in", tmp_path / "out")
    assert found["labelTxt/a"].polys.tolist() == [expected]
    assert found["labelTxt/a"].names == ("ship",)


def test_labelme_parts_difficulty_and_what_is_no_box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    polygon = SHAPES["polygon"][0]
    image(tmp_path / "in/train/images/a.png")
    image(tmp_path / "in/train/images/b.png")
    image(tmp_path / "in/val/images/c.png")
    difficult = [{**polygon, "difficult": value} for value in (True, False, "false", "True", None)]
    circle = {"label": "tank", "points": [[5, 5], [9, 5]], "shape_type": "circle"}
    labelme_file(tmp_path / "in/train/labels/a.json", [*difficult, circle])
    five = {**polygon, "points": [[0, 0], [40, 0], [40, 20], [20, 20], [0, 20]], "label": "storage tank"}
    labelme_file(tmp_path / "in/val/json/c.json", [five])
    found = to_dota(tmp_path / "in", tmp_path / "out")
    assert list(found) == ["train/labelTxt/a", "train/labelTxt/b", "val/labelTxt/c"]
    assert found["train/labelTxt/a"].difficult.tolist() == [1, 0, 0, 1, 0]
    assert found["val/labelTxt/c"].names == ("storage-tank",)
    assert pairwise_iou(found["val/labelTxt/c"].polys, [[0, 0, 40, 0, 40, 20, 0, 20]])[0] == pytest.approx(1)
    out = capsys.readouterr().out
    for line in (
        "note: images without a label file, taken as background: 1",
        "not kept: shapes of type circle (no boxes), left out: 1",
        "not kept: polygons of other than four corners (their smallest turned rectangle is taken): 1",
        "not kept: class names with spaces (written with - instead): 1",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"points": [[1, 2], [3, 4], [5, 6]]}, "shape 0: no 'label'"),
        ({"label": "ship"}, "shape 0: no 'points'"),
        ({"label": "ship", "points": [[1, 2], [3, 4]]}, "three points or more, got 2"),
        ({"label": "ship", "points": [[1, 2, 3], [3, 4], [5, 6]]}, "shape 0: too many values"),
        ({"label": "ship", "points": [[1, math.nan], [3, 4], [5, 6]]}, "a coordinate is not finite"),
        ("text", "shape 0: "),
    ],
)
def test_bad_labelme_shapes_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: object, reason: str
) -> None:
    image(tmp_path / "in/a.png")
    labelme_file(tmp_path / "in/a.json", [shape, SHAPES["polygon"][0]])  # type: ignore[list-item]
    found = to_dota(tmp_path / "in", tmp_path / "out", code=1)
    assert reason in capsys.readouterr().err
    assert len(found["labelTxt/a"]) == 1


def test_bad_labelme_files_and_missing_images_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(tmp_path / "in/a.png")
    labelme_file(tmp_path / "in/a.json", [SHAPES["polygon"][0]])
    labelme_file(tmp_path / "in/b.json", [])
    (tmp_path / "in/c.json").write_text("{")
    (tmp_path / "in/d.json").write_text('{"images": []}')
    found = to_dota(tmp_path / "in", tmp_path / "out", code=1)
    out = capsys.readouterr().err
    assert "no image of this name (b.png)" in out
    assert "c.json: not JSON" in out
    assert "d.json: no labelme file: expected an object with shapes" in out
    assert list(found) == ["labelTxt/a"]
    # without the images, their sizes do
    found = to_dota(tmp_path / "in", tmp_path / "labels", "--images", "none", code=1)
    assert list(found) == ["labelTxt/a", "labelTxt/b"]


def label_studio_task(value: dict[str, object], name: str = "/data/upload/3/1a2b3c4d-a.png") -> dict[str, object]:
    result = {
        "id": "n7vqU3",
        "type": "rectanglelabels",
        "value": {"rectanglelabels": ["ship"], **value},
        "origin": "manual",
        "to_name": "image",
        "from_name": "label",
        "image_rotation": 0,
        "original_width": 400,
        "original_height": 200,
    }
    annotation = {"id": 11, "completed_by": 1, "result": [result], "was_cancelled": False, "ground_truth": False}
    return {"id": 5, "annotations": [annotation], "predictions": [], "data": {"image": name}, "project": 3}


#: `THIRTY` as Label Studio has it: its first corner is (200 - 50 cos 30 + 10, 100 - 25 - 20 cos 30), its sides are 100
#: and 40 pixels; in percent of 400 x 200.
LS_THIRTY: dict[str, object] = {
    "x": (210 - 50 * ROOT) / 4,
    "y": (75 - 20 * ROOT) / 2,
    "width": 25.0,
    "height": 20.0,
    "rotation": 30.0,
}


@pytest.mark.parametrize(
    "name",
    [
        "/data/upload/3/1a2b3c4d-a.png",
        "/data/local-files/?d=yard/a.png",
        "s3://bucket/folder/a.png",
        "https://example.com/x/a.png?token=1",
        "a.png",
        "C:\\\\yard\\\\a.png",
    ],
)
def test_label_studio_turns_about_the_first_corner(tmp_path: Path, name: str) -> None:
    image(tmp_path / "in/images/a.png")
    (tmp_path / "in/project-3-at-2024-08-11.json").write_text(json.dumps([label_studio_task(LS_THIRTY, name)]))
    found = to_dota(tmp_path / "in", tmp_path / "out")
    assert found["labelTxt/a"].polys[0].tolist() == pytest.approx(THIRTY, abs=1e-9)
    assert found["labelTxt/a"].names == ("ship",)


def test_label_studio_tasks_that_were_not_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [label_studio_task(LS_THIRTY, f"{name}.png") for name in "abcd"]
    tasks[1]["annotations"] = []
    tasks[2]["annotations"] = [{"result": [], "was_cancelled": True}, {"result": []}]
    tasks[3]["annotations"] = [{"result": []}, *tasks[3]["annotations"]]  # type: ignore[misc]
    for name in "abcd":
        image(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in/x.json").write_text(json.dumps(tasks))
    found = to_dota(tmp_path / "in", tmp_path / "out")
    assert {name: len(labels) for name, labels in found.items()} == {"labelTxt/a": 1, "labelTxt/c": 0, "labelTxt/d": 1}
    out = capsys.readouterr().out
    assert "not kept: tasks without an annotation, left out: 1" in out
    tasks[1]["predictions"] = tasks[0]["annotations"]
    (tmp_path / "in/x.json").write_text(json.dumps(tasks))
    to_dota(tmp_path / "in", tmp_path / "proposed")
    said = "not kept: tasks without an annotation, only proposals that nobody has accepted, left out: 1"
    assert said in capsys.readouterr().out
    assert "not kept: further annotations of a task (the last is taken): 1" in out


def test_label_studio_addresses_that_are_none(tmp_path: Path) -> None:
    """``[`` begins an address of numbers, in which Python's parser of addresses finds fault."""
    task = label_studio_task(LS_THIRTY, "a.png")
    other = {**task, "data": {"image": "s3://[bucket/b.png"}}
    task["data"] = {"note": "see http://[here", **task["data"]}  # type: ignore[dict-item]
    image(tmp_path / "in/a.png")
    (tmp_path / "in/x.json").write_text(json.dumps([task, other]))
    found = to_dota(tmp_path / "in", tmp_path / "out", "--from", "label-studio", code=1)
    assert {name: len(labels) for name, labels in found.items()} == {"labelTxt/a": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda result: result.pop("value"), "result 0: no 'value'"),
        (lambda result: result.pop("original_width"), "result 0: no 'original_width'"),
        (lambda result: result["value"].update(x=math.nan), "a coordinate is not finite"),
        (lambda result: result["value"].update(rectanglelabels=[]), "an object without a class name"),
        (lambda result: result.update(image_rotation=90), "the image was turned in the tool"),
        (lambda result: result.update(original_width=500), "400 x 200 pixels, its labels say 500 x 200"),
    ],
)
def test_bad_label_studio_results_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, object]], object], reason: str
) -> None:
    task = label_studio_task(LS_THIRTY, "a.png")
    change(task["annotations"][0]["result"][0])  # type: ignore[index]
    image(tmp_path / "in/a.png")
    (tmp_path / "in/x.json").write_text(json.dumps([task]))
    found = to_dota(tmp_path / "in", tmp_path / "out", "--from", "label-studio", code=1)
    assert reason in capsys.readouterr().err
    assert list(found) == ["labelTxt/a"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("rectanglelabels", LS_THIRTY, THIRTY),
        ("labels", LS_THIRTY, THIRTY),
        ("polygonlabels", {"points": [[5, 10], [30, 20], [25, 70], [2.5, 60]]}, [20, 20, 120, 40, 100, 140, 10, 120]),
        ("labels", {"points": [[5, 10], [30, 20], [25, 70], [2.5, 60]]}, [20, 20, 120, 40, 100, 140, 10, 120]),
        ("labels", {"start": 1.0, "end": 2.0}, None),
        ("keypointlabels", {"x": 1.0, "y": 2.0, "width": 0.5}, None),
    ],
)
def test_label_studio_kinds_of_results(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    value: dict[str, object],
    expected: list[float] | None,
) -> None:
    task = label_studio_task({}, "a.png")
    task["annotations"][0]["result"][0].update(type=kind, value={**value, kind: ["ship"]})  # type: ignore[index]
    image(tmp_path / "in/a.png")
    (tmp_path / "in/x.json").write_text(json.dumps([task]))
    labels = to_dota(tmp_path / "in", tmp_path / "out")["labelTxt/a"]
    if expected is None:
        assert len(labels) == 0
        assert f"not kept: results of type {kind} (no boxes with a label), left out: 1" in capsys.readouterr().out
    else:
        assert labels.polys[0].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ('"a"', "expected a list of tasks"),
        ('[{"image": "a.png", "annotation_id": 3, "label": []}]', "this is its JSON-MIN, export as JSON"),
    ],
)
def test_what_is_not_label_studios_json_is_one_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DotaError, match=f"x.json: .*{reason}"):
        FORMATS["label-studio"].read(tmp_path, Reading())


YOLO_LINE = "1 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4\n"
YOLO_CORNERS = [40.0, 40.0, 120.0, 40.0, 120.0, 80.0, 40.0, 80.0]  # of 400 x 200 pixels


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_yolo_obb_as_roboflow_lays_it_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "in"
    for part in ("train", "valid"):
        image(root / part / "images/a_png.rf.0123.jpg")
        write_text(root / part / "labels/a_png.rf.0123.txt", YOLO_LINE)
    image(root / "train/images/empty.jpg")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['plane', 'ship']\n\n"
        "roboflow:\n  workspace: me\n  license: CC BY 4.0\n"
    )
    image(root / "test/images/t.jpg")
    found = to_dota(root, tmp_path / "out")
    assert list(found) == [
        "test/labelTxt/t", "train/labelTxt/a_png.rf.0123", "train/labelTxt/empty", "val/labelTxt/a_png.rf.0123"
    ]  # fmt: skip
    assert found["val/labelTxt/a_png.rf.0123"].polys.tolist() == [YOLO_CORNERS]
    assert found["val/labelTxt/a_png.rf.0123"].names == ("ship",)
    assert "note: images without a label file, taken as background: 2" in capsys.readouterr().out


@pytest.mark.parametrize("prefix", ["", "data/"])
def test_yolo_obb_as_cvat_lays_it_out(tmp_path: Path, prefix: str) -> None:
    root = tmp_path / "in"
    image(root / "images/train/a.png")
    image(root / "images/train/b.png")
    write_text(root / "labels/train/a.txt", YOLO_LINE)
    (root / "data.yaml").write_text("path: ./\ntrain: train.txt\nnames:\n  0: plane\n  1: ship\n")
    (root / "train.txt").write_text(f"{prefix}images/train/a.png\n{prefix}images/train/b.png\n\n")
    found = to_dota(root, tmp_path / "out")
    assert {name: labels.polys.tolist() for name, labels in found.items()} == {
        "train/labelTxt/a": [YOLO_CORNERS],
        "train/labelTxt/b": [],
    }


def test_yolo_obb_of_cvat_without_its_images(tmp_path: Path) -> None:
    root = tmp_path / "in"
    image(tmp_path / "mine/a.png")
    write_text(root / "labels/train/a.txt", YOLO_LINE)
    (root / "data.yaml").write_text("path: ./\ntrain: train.txt\nnames:\n  0: plane\n  1: ship\n")
    (root / "train.txt").write_text("images/train/a.png\n")
    found = to_dota(root, tmp_path / "out", "--img-dir", str(tmp_path / "mine"))
    assert found["train/labelTxt/a"].polys.tolist() == [YOLO_CORNERS]


def test_a_list_of_images_cannot_leave_the_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "in"
    image(root / "images/train/a.png")
    image(tmp_path / "images/secret.png")
    write_text(root / "labels/train/a.txt", YOLO_LINE)
    (root / "data.yaml").write_text("train: train.txt\nnames: [plane, ship]\n")
    (root / "train.txt").write_text("images/train/a.png\n../images/secret.png\n/etc/passwd\nother/a.png\n")
    found = to_dota(root, tmp_path / "out", code=1)
    assert list(found) == ["train/labelTxt/a"]
    out = capsys.readouterr().err
    for line, name in ((2, "../images/secret.png"), (3, "/etc/passwd"), (4, "other/a.png")):
        assert f"train.txt:{line}: {name!r} is no image in a folder images within" in out


@pytest.mark.parametrize("place", ["", "labels/"])
def test_yolo_obb_with_a_class_list_as_text(tmp_path: Path, place: str) -> None:
    """Label Studio writes classes.txt beside images/ and labels/, others among the labels."""
    root = tmp_path / "in"
    image(root / "images/1a2b3c4d-a.png")
    write_text(root / "labels/1a2b3c4d-a.txt", YOLO_LINE)
    (root / f"{place}classes.txt").write_text("plane\nship\n")
    (root / "notes.json").write_text('{"categories": [{"id": 0, "name": "plane"}], "info": {"year": 2024}}')
    found = to_dota(root, tmp_path / "out")
    assert found["labelTxt/1a2b3c4d-a"].names == ("ship",)
    assert found["labelTxt/1a2b3c4d-a"].polys.tolist() == [YOLO_CORNERS]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2 0.1 0.7854", "this is cx cy w h angle"),
        ("236 267 271 267 271 306 236 306 helmet 0", "this is DOTA's text"),
        ("236 267 271 267 271 306 236 306 helmet", "this is DOTA's text"),
        ("0 236 267 271 267 271 306 236 306", "these are pixels"),
    ],
)
def test_lines_of_another_format_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, reason: str
) -> None:
    root = tmp_path / "in"
    image(root / "images/train/a.png")
    write_text(root / "labels/train/a.txt", f"{line}\n{YOLO_LINE}")
    (root / "data.yaml").write_text("train: images/train\nnames: [plane, ship]\n")
    found = to_dota(root, tmp_path / "out", code=1)
    assert f"a.txt:1: {reason}" in capsys.readouterr().err.replace(
        "a coordinate is no finite share of the image's size; ", ""
    )
    assert len(found["train/labelTxt/a"]) == 1


def test_a_polygon_of_yolo_becomes_its_smallest_rectangle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "in"
    image(root / "images/train/a.png")
    write_text(root / "labels/train/a.txt", "0 0.1 0.2 0.2 0.2 0.3 0.2 0.3 0.4 0.1 0.4\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [plane, ship]\n")
    found = to_dota(root, tmp_path / "out")
    assert pairwise_iou(found["train/labelTxt/a"].polys, [YOLO_CORNERS])[0] == pytest.approx(1, abs=1e-4)
    assert (
        "not kept: polygons of other than four corners (their smallest turned rectangle is taken): 1"
        in capsys.readouterr().out
    )


TEXT = {
    "train/A": (
        (120, 80),
        # upright, turned by 45 degrees, a rectangle from its lower right corner on, one that runs the other way round
        "10 10 50.5 10 50.5 30.25 10 30.25 ship 0\n"
        "60 20 90 50 80 60 50 30 small-vehicle 1\n"
        "90 60 60 60 60 40 90 40 plane 0\n"
        "10 40 10 70 30 70 30 40 plane 0\n"
        # no rectangle; and one that reaches out of the image
        "5 5 40 12 38 33 2 30 harbor 0\n"
        "100 60 140 60 140 75 100 75 plane 0\n",
    ),
    "train/B.b": ((64, 64), ""),
    "val/C d": ((333, 77), "0.1 0.2 33.3 0.4 33.3 7.7 0.5 7.9 harbor 2\n"),
}


@pytest.fixture
def dota(tmp_path: Path) -> Path:
    for name, (size, text) in TEXT.items():
        part, image_id = name.split("/")
        image(tmp_path / "dota" / part / "images" / f"{image_id}.png", *size)
        write_text(tmp_path / "dota" / part / "labelTxt" / f"{image_id}.txt", text)
    return tmp_path / "dota"


CLASSES = ("harbor", "plane", "ship", "small-vehicle")

#: Format -> pixels that a corner of a rectangle may move; and whether other quadrangles stay, and difficulty does.
ROUND_TRIPS: dict[str, tuple[float, bool, tuple[int, ...]]] = {
    "yolo-obb": (1e-3, True, (0,)),
    "coco": (0, True, (0, 1, 2)),
    "cvat": (1e-3, True, (0, 1, 2)),
    "labelme": (0, True, (0, 1, 1)),
    "x-anylabeling": (0, True, (0, 1, 1)),
    "rolabelimg": (1e-3, False, (0, 1, 2)),
    "label-studio": (1e-6, True, (0,)),
}


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "dota"])
def test_round_trip_through(dota: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    within, quadrangles, difficulty = ROUND_TRIPS[name]
    assert convert([str(dota), "--out", str(tmp_path / "there"), "--to", name, "--outside", "keep"]) == 0
    assert sniff_format(tmp_path / "there") == name
    assert convert([str(tmp_path / "there"), "--out", str(tmp_path / "back"), "--to", "dota"]) == 0
    out = capsys.readouterr().out
    assert ("quadrangles that are no rectangles" in out) == (not quadrangles)
    paths = sorted(dota.rglob("*.txt"))
    assert [p.relative_to(dota) for p in paths] == [
        p.relative_to(tmp_path / "back") for p in sorted((tmp_path / "back").rglob("*.txt"))
    ]
    for path in paths:
        before, after = read_labels(path), read_labels(tmp_path / "back" / path.relative_to(dota))
        assert after.names == before.names
        expected = [difficulty[min(level, len(difficulty) - 1)] for level in before.difficult.tolist()]
        assert after.difficult.tolist() == expected
        for a, b in zip(before.polys, after.polys, strict=True):
            if rectangle_of(a) is None and not quadrangles:
                assert pairwise_iou([a], [b])[0] > 0.8
                continue
            # the same corners; a rectangle may begin elsewhere or run the other way
            distance = np.abs(a.reshape(4, 1, 2) - b.reshape(1, 4, 2)).max(axis=2)
            assert distance.min(axis=0).max() <= within
            assert distance.min(axis=1).max() <= within
            assert pairwise_iou([a], [b])[0] > 0.999
    assert (tmp_path / "back/train/images/A.png").is_symlink()


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "cvat"])
def test_a_source_without_images_is_nothing_to_convert(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/annotations.xml").write_text("<annotations></annotations>")
    with pytest.raises(DotaError, match="in: names no image: nothing to convert"):
        convert([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--to", name])
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    # of images that are all bad the problems are told, and what is written is empty
    (tmp_path / "in/annotations.xml").write_text('<annotations><image id="0" name="../a.png"/></annotations>')
    assert convert([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--to", name]) == 1


def test_a_part_cannot_leave_the_output() -> None:
    for name in ("", ".", "..", "../up", "a/b", "a\\b"):
        with pytest.raises(DotaError, match="would leave the output folder"):
            DataPart(name, ())


def test_a_wrong_name_of_the_format_is_answered_with_the_right_one(dota: Path, tmp_path: Path) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "labelme"), "--to", "labelme"]) == 0
    with pytest.raises(DotaError, match="it looks like labelme JSON: --from labelme"):
        convert([str(tmp_path / "labelme"), "--out", str(tmp_path / "x"), "--from", "yolo-obb", "--to", "dota"])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DotaError, match="no format that is known here"):
        convert([str(tmp_path / "nothing"), "--out", str(tmp_path / "x"), "--to", "dota"])


JUNK = (
    None, "x", -1, 1e300, math.nan, math.inf, 10**400, [], {}, [1], [[1, 2]], True, "../../etc", "a\0b"
)  # fmt: skip


def places(content: object, place: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The way to every value of some JSON; of lists to the first few."""
    found = [place] if place else []
    items: Iterable[tuple[object, object]] = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content[:4])
    for key, value in items:
        found += places(value, (*place, key))
    return found


@pytest.mark.parametrize("name", ["coco", "labelme", "x-anylabeling", "label-studio"])
def test_no_json_ends_in_anything_but_reports(dota: Path, tmp_path: Path, name: str) -> None:
    reading = Reading()
    FORMATS[name].write(FORMATS["dota"].read(dota, reading), tmp_path / "out", Writing(CLASSES, "symlink"))
    for path in sorted((tmp_path / "out").rglob("*.json")):
        whole = path.read_text()
        ways = places(json.loads(whole))
        for number, way in enumerate(ways):
            for junk in (JUNK[number % len(JUNK)], JUNK[(number * 5 + 3) % len(JUNK)]):
                content = json.loads(whole)
                inner = content
                for key in way[:-1]:
                    inner = inner[key]
                inner[way[-1]] = junk
                path.write_text(json.dumps(content))
                try:
                    parts = FORMATS[name].read(tmp_path / "out", Reading())
                except DotaError:
                    continue
                for item in (item for part in parts for item in part.items):
                    assert np.abs(item.labels.polys).max(initial=0) <= 1e7
        path.write_text("[" * 100_000)
        with contextlib.suppress(DotaError):
            FORMATS[name].read(tmp_path / "out", Reading())
        path.write_text(whole)
    assert FORMATS[name].read(tmp_path / "out", reading)
    assert reading.problems == []


#: What each writer leaves of `TEXT`, without the pictures' contents.
LAYOUTS: dict[str, list[str]] = {
    "yolo-obb": ["data.yaml", "images/train/A.png", "images/train/B.b.png", "images/val/C d.png",
                 "labels/train/A.txt", "labels/train/B.b.txt", "labels/val/C d.txt"],
    "coco": ["annotations/train.json", "annotations/val.json", "train/A.png", "train/B.b.png", "val/C d.png"],
    "cvat": ["images/train/A.png", "images/train/B.b.png", "images/val/C d.png", "train.xml", "val.xml"],
    "labelme": ["train/A.json", "train/A.png", "train/B.b.json", "train/B.b.png", "val/C d.json", "val/C d.png"],
    "x-anylabeling": ["train/A.json", "train/A.png", "train/B.b.json", "train/B.b.png", "val/C d.json", "val/C d.png"],
    "rolabelimg": ["train/A.png", "train/A.xml", "train/B.b.png", "train/B.b.xml", "val/C d.png", "val/C d.xml"],
    "label-studio": ["images/train/A.png", "images/train/B.b.png", "images/val/C d.png", "labeling_config.xml",
                     "train.json", "val.json"],
}  # fmt: skip

#: The same of the part ``val`` alone, which is then called ``data``.
LONE: dict[str, list[str]] = {
    "yolo-obb": ["data.yaml", "images/data/C d.png", "labels/data/C d.txt"],
    "coco": ["annotations/data.json", "data/C d.png"],
    "cvat": ["annotations.xml", "images/C d.png"],
    "labelme": ["C d.json", "C d.png"],
    "x-anylabeling": ["C d.json", "C d.png"],
    "rolabelimg": ["C d.png", "C d.xml"],
    "label-studio": ["data.json", "images/C d.png", "labeling_config.xml"],
}


@pytest.mark.parametrize("name", list(LONE))
def test_layout_that_is_written(dota: Path, tmp_path: Path, name: str) -> None:
    for source, expected in ((dota, LAYOUTS[name]), (dota / "val", LONE[name])):
        out = tmp_path / source.name / "out"
        assert convert([str(source), "--out", str(out), "--to", name]) == 0
        files = sorted(path.relative_to(out).as_posix() for path in out.rglob("[!.]*") if not path.is_dir())
        assert files == expected


def test_dota_has_its_folders_without_images_too(dota: Path, tmp_path: Path) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "coco"), "--to", "coco", "--images", "none"]) == 0
    assert convert([str(tmp_path / "coco"), "--out", str(tmp_path / "out"), "--to", "dota", "--images", "none"]) == 0
    assert (tmp_path / "out/train/images").is_dir()
    assert len(list((tmp_path / "out/train/labelTxt").iterdir())) == 2


def test_what_labelme_and_label_studio_cannot_hold_is_counted(
    dota: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert([str(dota), "--out", str(tmp_path / "a"), "--to", "labelme"]) == 0
    assert "not kept: degrees of difficulty above 1 (written as 1): 1" in capsys.readouterr().out
    assert convert([str(dota), "--out", str(tmp_path / "b"), "--to", "label-studio"]) == 0
    assert "not kept: marks of difficult objects: 2" in capsys.readouterr().out
    assert convert([str(dota), "--out", str(tmp_path / "c"), "--to", "cvat"]) == 0
    assert "not kept" not in capsys.readouterr().out


def test_rolabelimg_is_written_as_the_tool_writes_it(dota: Path, tmp_path: Path) -> None:
    (dota / "train/labelTxt/A.txt").write_text("60 20 90 50 80 60 50 30 small-vehicle 1\n")
    assert convert([str(dota / "train"), "--out", str(tmp_path / "out"), "--to", "rolabelimg"]) == 0
    # the long side runs from (60, 20) to (90, 50): 30 * sqrt(2) = 42.4264 pixels at 45 degrees, pi / 4 = 0.785398
    assert " ".join((tmp_path / "out/A.xml").read_text().split()) == (
        '<annotation verified="no"> <folder>data</folder> <filename>A</filename> <path>A.png</path> '
        "<source> <database>Unknown</database> </source> "
        "<size> <width>120</width> <height>80</height> <depth>3</depth> </size> <segmented>0</segmented> "
        "<object> <type>robndbox</type> <name>small-vehicle</name> <pose>Unspecified</pose> "
        "<truncated>0</truncated> <difficult>1</difficult> <robndbox> <cx>70.0000</cx> <cy>40.0000</cy> "
        "<w>42.4264</w> <h>14.1421</h> <angle>0.785398</angle> </robndbox> </object> </annotation>"
    )


def test_cvat_is_written_as_the_tool_writes_it(dota: Path, tmp_path: Path) -> None:
    (dota / "train/labelTxt/A.txt").write_text("60 20 90 50 80 60 50 30 ship 1\n5 5 40 12 38 33 2 30 harbor 0\n")
    assert convert([str(dota / "train"), "--out", str(tmp_path / "out"), "--to", "cvat"]) == 0
    # about (70, 40), 42.4264 by 14.1421 pixels before it was turned by 45 degrees
    assert " ".join((tmp_path / "out/annotations.xml").read_text().split()) == (
        '<?xml version="1.0" encoding="utf-8"?> <annotations> <version>1.1</version> '
        '<image id="0" name="A.png" width="120" height="80"> '
        '<box label="ship" source="manual" occluded="0" xtl="48.7868" ytl="32.9289" xbr="91.2132" ybr="47.0711" '
        'rotation="45.000000" z_order="0"> <attribute name="difficult">1</attribute> </box> '
        '<polygon label="harbor" source="manual" occluded="0" points="5.0,5.0;40.0,12.0;38.0,33.0;2.0,30.0" '
        'z_order="0" /> </image> <image id="1" name="B.b.png" width="64" height="64" /> </annotations>'
    )


@pytest.mark.parametrize("points", [[[1, 2], [3, 4], [1, 2]], [[1, 2], [3, 4]]])
def test_a_ring_of_two_points_is_no_polygon(points: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="three points or more, got 2"):
        corners_of(np.array(points, float))


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2, 2.0, -3.0])
def test_rectangle_of_gives_the_corners_back(angle: float) -> None:
    cos, sin = math.cos(angle), math.sin(angle)
    points = np.array([[-30, -10], [30, -10], [30, 10], [-30, 10]]) @ [[cos, sin], [-sin, cos]] + [50, 60]
    found = rectangle_of(points.reshape(8))
    assert found is not None
    assert tuple(found)[:4] == pytest.approx((50, 60, 60, 20))
    assert found.corners.tolist() == pytest.approx(points.reshape(8).tolist())
    back = rectangle_of(points[[0, 3, 2, 1]].reshape(8))
    assert back is not None
    assert back.corners.tolist() == pytest.approx(points.reshape(8).tolist())
    # one corner moved by more than a hundredth of a pixel
    points[2] += 0.1
    assert rectangle_of(points.reshape(8)) is None
