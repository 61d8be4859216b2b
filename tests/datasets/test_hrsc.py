"""HRSC2016Dataset: the layout of the published archive, its boxes, what it refuses, and the published metric."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv import Config
from mmrotate.datasets import build_dataset
from scripts import ROOT

from fdam_rotate.datasets.hrsc import HRSC2016Dataset, read_hrsc_labels
from fdam_rotate.dota.errors import DotaError, LabelFormatError

CONFIGS = ROOT / "configs"
HRSC = CONFIGS / "lsknet_fdam" / "lsk_s_fdam_fpn_3x_hrsc_le90.py"
SHIPS = {
    "100000002": [(40, 30, 30, 10, 0.3)],
    "100000001": [(25, 25, 30, 10, 0.0), (60, 50, 40, 8, -1.2)],
    "100000003": [],
}


def annotation(ships) -> str:
    """As the archive has it, shortened."""
    boxes = "".join(
        "<HRSC_Object><Class_ID>100000013</Class_ID><difficult>1</difficult><mbox_cx>{}</mbox_cx><mbox_cy>{}</mbox_cy>"
        "<mbox_w>{}</mbox_w><mbox_h>{}</mbox_h><mbox_ang>{}</mbox_ang></HRSC_Object>".format(*ship)
        for ship in ships
    )
    return f"<HRSC_Image><Img_SizeWidth>96</Img_SizeWidth><HRSC_Objects>{boxes}</HRSC_Objects></HRSC_Image>"


@pytest.fixture
def root(tmp_path) -> Path:
    for part in ("ImageSets", "FullDataSet/Annotations", "FullDataSet/AllImages"):
        (tmp_path / part).mkdir(parents=True)
    for name, ships in SHIPS.items():
        image = np.random.default_rng(0).integers(0, 255, (80, 96, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / f"FullDataSet/AllImages/{name}.bmp"), image)
        (tmp_path / f"FullDataSet/Annotations/{name}.xml").write_text(annotation(ships))
    (tmp_path / "ImageSets/train.txt").write_text("\n".join(SHIPS) + "\n")
    return tmp_path


def dataset(root, **settings) -> HRSC2016Dataset:
    settings = {
        "ann_file": str(root / "ImageSets/train.txt"),
        "ann_dir": str(root / "FullDataSet/Annotations"),
        "img_prefix": str(root / "FullDataSet/AllImages"),
        "pipeline": [],
        **settings,
    }
    return HRSC2016Dataset(**settings)


def test_reads_the_list_in_its_order(root):
    train = dataset(root)
    assert [info["filename"] for info in train.data_infos] == ["100000002.bmp", "100000001.bmp"]
    for index, name in enumerate(("100000002", "100000001")):
        np.testing.assert_allclose(train.get_ann_info(index)["bboxes"], SHIPS[name], atol=1e-4)
    test = dataset(root, test_mode=True)
    assert test.CLASSES == ("ship",)
    assert [len(info["ann"]["labels"]) for info in test.data_infos] == [1, 2, 0]


def test_corners_and_other_angles(root):
    labels = read_hrsc_labels(root / "FullDataSet/Annotations/100000001.xml")
    np.testing.assert_allclose(labels.polys[0], [10, 20, 40, 20, 40, 30, 10, 30])
    # in 'oc' the angle is in (0, pi / 2]: a level box of 30 x 10 is one of 10 x 30 turned by pi / 2
    box = dataset(root, version="oc").get_ann_info(1)["bboxes"][0]
    np.testing.assert_allclose(box, [25, 25, 10, 30, math.pi / 2], atol=1e-4)


def results(*images):
    return [[np.array(rows, np.float32).reshape(-1, 6)] for rows in images]


def test_the_metric_is_the_published_one(root):
    """AP at IoU 0.5 over whole images; difficult ships count, and detections are not suppressed a second time."""
    test = dataset(root, test_mode=True)
    right = [[(*ship, 0.9) for ship in SHIPS[name]] for name in test.img_ids]
    assert test.evaluate(results(*right)) == {"mAP": pytest.approx(1.0)}
    # 2 of 3 ships at precision 1, in 11 points (recall 0, 0.1 .. 0.6): 7 / 11; in the continuous form 2 / 3
    found = results(right[0], right[1][:1], [])
    assert test.evaluate(found)["mAP"] == pytest.approx(7 / 11)
    assert test.evaluate(found, ap="voc12")["mAP"] == pytest.approx(2 / 3)
    # 0.6 of the box is the overlap with one 0.6 as long: right at 0.5, wrong at 0.75
    cx, cy, w, h, angle = SHIPS["100000002"][0]
    short = results([(cx, cy, 0.6 * w, h, angle, 0.9)], right[1], [])
    assert test.evaluate(short)["mAP"] == pytest.approx(1.0)
    assert test.evaluate(short, iou_thr=0.75)["mAP"] < 0.9
    detections = test.detections(results(right[0] * 2, right[1], []))
    assert len(test.merge(detections)["ship"]) == 4


def test_the_configs_data(root, monkeypatch):
    """The folders that the config names are those of the archive, and its pipelines take the images."""
    cfg = Config.fromfile(str(HRSC))
    elsewhere = root.parent / f"{root.name}-elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    (elsewhere / "data/hrsc").symlink_to(root)
    (root / "ImageSets/val.txt").write_text("100000002\n")
    (root / "ImageSets/test.txt").write_text("100000003\n")
    monkeypatch.chdir(elsewhere)
    for split, images in (("train", 2), ("val", 1), ("test", 1)):
        built = build_dataset(cfg.data[split], {"test_mode": split != "train"})
        assert len(built) == images
        image = built[0]["img"] if split == "train" else built[0]["img"][0]
        # 96 x 80 scaled to 800 x 667, padded to multiples of 32
        assert image.data.shape == (3, 672, 800)
    turning = [step for step in build_dataset(cfg.data.train).pipeline.transforms if hasattr(step, "version")]
    assert [step.version for step in turning] == ["le90", "le90"]


def test_what_is_missing_is_named(root):
    (root / "FullDataSet/Annotations/100000003.xml").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 3 names in .*train\.txt have no annotation in .*, first 100000003"
    ):
        dataset(root)
    (root / "FullDataSet/AllImages/100000001.bmp").unlink()
    (root / "ImageSets/train.txt").write_text("100000001")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 names in .* have no image in .*, first 100000001"):
        dataset(root)
    with pytest.raises(FileNotFoundError, match=r"no such list of images: nowhere\.txt"):
        dataset(root, ann_file="nowhere.txt")
    (root / "ImageSets/train.txt").write_text("\n")
    with pytest.raises(DotaError, match="names no image"):
        dataset(root)
    (root / "ImageSets/train.txt").write_text("100000002\n../100000001\n")
    with pytest.raises(DotaError, match=r"train\.txt: the image id '\.\./100000001' holds a slash"):
        dataset(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("<HRSC_Image>", "is no XML", id="cut off"),
        pytest.param(annotation([(1, 2, 3, 4, "x")]), "ship 1 lacks a number for one of mbox_cx", id="no number"),
        pytest.param(annotation([]).replace("<HRSC_Objects>", "<HRSC_Objects><HRSC_Object/>"), "ship 1", id="no box"),
    ],
)
def test_bad_annotations(root, text, message):
    (root / "FullDataSet/Annotations/100000001.xml").write_text(text)
    with pytest.raises(LabelFormatError, match=rf"100000001\.xml.*{message}"):
        dataset(root)
