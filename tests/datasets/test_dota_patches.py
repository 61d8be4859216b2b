"""DOTAPatchDataset: what it reads, what it refuses, and that its score is that of merged whole images."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from fdam_rotate.datasets import DOTAPatchDataset, dota
from fdam_rotate.dota.errors import DotaError, ScoreError
from fdam_rotate.dota.manifest import Manifest
from fdam_rotate.dota.merging.merge import merge_patches
from fdam_rotate.dota.merging.options import MergeOptions

CLASSES = ("ship", "plane")


def _patch(folder, name, lines, suffix=".png"):
    for part in ("images", "annfiles"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / "images" / f"{name}{suffix}"), np.zeros((64, 64, 3), np.uint8))
    (folder / "annfiles" / f"{name}.txt").write_text("".join(line + "\n" for line in lines))


def _dataset(folder, **settings):
    settings = {"ann_file": str(folder / "annfiles"), "img_prefix": str(folder / "images"), **settings}
    return DOTAPatchDataset(pipeline=[], classes=settings.pop("classes", CLASSES), **settings)


SHIP = "10 20 40 20 40 30 10 30 ship 0"  # centre (25, 25), 30 x 10, level
PLANE = "5 40 25 40 25 60 5 60 plane 1"  # centre (15, 50), 20 x 20


def test_reads_sorted_with_any_extension_and_leaves_out_patches_without_objects(tmp_path):
    _patch(tmp_path, "b__64__0___0", [SHIP], ".JPG")
    _patch(tmp_path, "a__64__0___0", [PLANE, SHIP])
    _patch(tmp_path, "c__64__0___0", [])
    train = _dataset(tmp_path)
    assert [info["filename"] for info in train.data_infos] == ["a__64__0___0.png", "b__64__0___0.JPG"]
    assert [train.get_cat_ids(number) for number in (0, 1)] == [[1, 0], [0]]
    box = train.get_ann_info(1)["bboxes"]
    np.testing.assert_allclose(box[0, :4], [25, 25, 30, 10], atol=1e-4)
    test = _dataset(tmp_path, test_mode=True)
    assert len(test) == 3
    assert test.get_ann_info(2)["bboxes"].shape == (0, 5)


def test_difficulty_threshold_leaves_out_objects(tmp_path):
    _patch(tmp_path, "a__64__0___0", [PLANE, SHIP])
    dataset = _dataset(tmp_path, difficulty=0, test_mode=True)
    assert dataset.get_cat_ids(0) == [0]
    assert dataset.get_ann_info(0)["labels_ignore"].tolist() == [1]
    # the plane that is left out of training is neutral where the patch is scored: no false positive, nothing missed
    empty, ship = np.zeros((0, 6), np.float32), np.array([[25, 25, 30, 10, 0, 0.9]], np.float32)
    plane = np.array([[15, 50, 20, 20, 0, 0.8]], np.float32)
    result, whole = dataset.score(dataset.detections([[ship, plane]]))
    assert not whole
    assert (result.per_class["plane"].fp(), result.per_class["plane"].ignored()) == (0, 1)
    assert dataset.evaluate([[ship, empty]], iou_thr=0) == {"patch_mAP": pytest.approx(1.0)}


def test_objects_too_thin_for_training_are_left_out(tmp_path):
    _patch(tmp_path, "a__64__0___0", ["10 20 40 20 40 21 10 21 ship 0", SHIP])  # 30 x 1
    assert len(_dataset(tmp_path).get_ann_info(0)["bboxes"]) == 1


def test_objects_that_are_too_thin_are_counted(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(dota, "print_log", lambda text, logger: said.append((text, logger)))
    _patch(tmp_path, "a__64__0___0", ["10 20 40 20 40 21 10 21 ship 0", SHIP, PLANE])
    _dataset(tmp_path, difficulty=0)  # the plane is difficult, and left out for that
    assert said == [(f"{tmp_path / 'annfiles'}: 1 object with a side under 2 pixels is not used", "root")]
    _patch(tmp_path, "a__64__0___0", [SHIP])
    _dataset(tmp_path)
    assert len(said) == 1


def test_of_two_images_with_one_name_the_first_counts(tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP], ".jpg")
    _patch(tmp_path, "a__64__0___0", [SHIP], ".png")
    assert [info["filename"] for info in _dataset(tmp_path).data_infos] == ["a__64__0___0.jpg"]


def test_ids_that_no_file_of_detections_can_hold_are_refused(tmp_path):
    for name in ("a", "b "):
        (tmp_path / "images").mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(DotaError, match=r"images: the image id 'b ' begins or ends with a blank.*; rename the file$"):
        _dataset(tmp_path, ann_file=str(tmp_path / "images"), test_mode=True)
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / "c .png")
    with pytest.raises(DotaError, match=r"; rename the file \(and 1 more\)$"):
        _dataset(tmp_path, ann_file=str(tmp_path / "images"), test_mode=True)


def test_folder_of_images_is_a_test_set(tmp_path):
    _patch(tmp_path, "b__64__0___0", [])
    _patch(tmp_path, "a__64__0___0", [])
    dataset = _dataset(tmp_path, ann_file=str(tmp_path / "images"), test_mode=True)
    assert dataset.img_ids == ["a__64__0___0", "b__64__0___0"]
    with pytest.raises(ScoreError, match="nothing to score against"):
        dataset.truths()


def test_bad_labels_are_all_told_with_file_and_line(tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP, "1 2 3 ship 0", SHIP.replace("ship", "shipp")])
    _patch(tmp_path, "b__64__0___0", [SHIP.replace("ship", "tank")])
    with pytest.raises(DotaError, match="3 label lines") as error:
        _dataset(tmp_path)
    text = str(error.value)
    assert "a__64__0___0.txt:2" in text
    assert "a__64__0___0.txt:3" in text
    assert "'ship'" in text  # the closest name
    assert "b__64__0___0.txt:1" in text
    assert " more" not in text


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, "\n  and 1 more"), (25, "\n  and 5 more")])
def test_many_bad_labels_are_counted(count, more, tmp_path):
    _patch(tmp_path, "a__64__0___0", ["1 2 3 ship 0"] * count)
    with pytest.raises(DotaError, match=f"{count} label lines cannot be used") as error:
        _dataset(tmp_path)
    assert str(error.value).count("a__64__0___0.txt:") == 20
    assert str(error.value).endswith(more) or not more


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"ann_file": "nowhere"}, "no such folder: nowhere", id="labels"),
        pytest.param({"img_prefix": "nowhere"}, "no such folder of images: nowhere", id="images"),
    ],
)
def test_missing_folders(tmp_path, settings, message):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    with pytest.raises(FileNotFoundError, match=message):
        _dataset(tmp_path, **settings)


def test_label_without_image(tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    (tmp_path / "annfiles" / "b__64__0___0.txt").write_text(SHIP)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 label files have no image.*b__64__0___0"):
        _dataset(tmp_path)


def test_empty_folder(tmp_path):
    (tmp_path / "annfiles").mkdir()
    (tmp_path / "images").mkdir()
    with pytest.raises(DotaError, match="the data set is empty"):
        _dataset(tmp_path)


def test_one_class_as_text_is_one_class(tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    assert _dataset(tmp_path, classes="ship").CLASSES == ("ship",)
    assert len(DOTAPatchDataset.get_classes("v1.5")) == 16


def test_version_reaches_the_steps_that_turn_boxes(tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    dataset = DOTAPatchDataset(
        str(tmp_path / "annfiles"),
        [{"type": "RRandomFlip", "flip_ratio": 0.5}, {"type": "RRandomFlip", "flip_ratio": 0.5, "version": "oc"}],
        version="le135",
        img_prefix=str(tmp_path / "images"),
        classes=CLASSES,
    )
    assert [step.version for step in dataset.pipeline.transforms] == ["le135", "oc"]


@pytest.mark.parametrize(("settings", "kept"), [({}, False), ({"filter_empty_gt": True}, False),
                                                ({"filter_empty_gt": False}, True)])  # fmt: skip
def test_a_turn_keeps_images_without_objects_where_they_are_trained_on(settings, kept, tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    turn = {"type": "PolyRandomRotate", "rotate_ratio": 1.0}
    given = [{"type": "LoadImageFromFile"}, turn, {**turn, "allow_negative": False, "version": "oc"}]
    dataset = DOTAPatchDataset(
        str(tmp_path / "annfiles"),
        given,
        version="le135",
        img_prefix=str(tmp_path / "images"),
        classes=CLASSES,
        **settings,
    )
    _, first, second = dataset.pipeline.transforms
    assert (first.allow_negative, first.version) == (kept, "le135")
    assert (second.allow_negative, second.version) == (False, "oc")
    assert given[0] == {"type": "LoadImageFromFile"}, "the config's own steps are left as they are"
    assert given[1] == turn


def test_a_mosaic_knows_the_angle_too(tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    steps = DOTAPatchDataset._steps(_dataset(tmp_path, version="oc"), [{"type": "RMosaic"}], {})
    assert steps == [{"type": "RMosaic", "version": "oc"}]


def test_a_flip_that_does_not_flip_is_refused(tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    steps = [{"type": "MultiScaleFlipAug", "scale_factor": 1.0, "flip": True, "transforms": []}]
    with pytest.raises(DotaError, match="needs a step RRandomFlip"):
        DOTAPatchDataset(str(tmp_path / "annfiles"), steps, img_prefix=str(tmp_path / "images"), classes=CLASSES)


@pytest.mark.parametrize(
    ("version", "box"),
    [("le90", (30, 10, 0)), ("le135", (30, 10, 0)), ("oc", (10, 30, math.pi / 2))],  # oc: the angle is in (0, pi / 2]
)
def test_boxes_are_those_of_the_version(version, box, tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    np.testing.assert_allclose(_dataset(tmp_path, version=version).get_ann_info(0)["bboxes"][0, 2:], box, atol=1e-4)


def test_results_become_corners(tmp_path):
    _patch(tmp_path, "a__64__0___0", [])
    _patch(tmp_path, "b__64__0___0", [])
    dataset = _dataset(tmp_path, test_mode=True)
    empty = np.zeros((0, 6), np.float32)
    turned = np.array([[10, 20, 8, 4, math.pi / 2, 0.5]], np.float32)
    found = dataset.detections([[empty, empty], [empty, turned]])
    assert list(found) == ["ship", "plane"]
    assert len(found["ship"]) == 0
    plane = found["plane"]
    assert plane.image_ids[plane.image[0]] == "b__64__0___0"
    assert plane.scores.tolist() == [0.5]
    # turned by 90 degrees: 4 wide, 8 high around (10, 20)
    corners = {tuple(np.round(corner, 3)) for corner in plane.polys.reshape(4, 2)}
    assert corners == {(8.0, 16.0), (12.0, 16.0), (12.0, 24.0), (8.0, 24.0)}
    with pytest.raises(ValueError, match="1 results for 2 patches"):
        dataset.detections([[empty, empty]])


def _perfect(x0, y0, box, score):
    """One ship at ``box`` (cx, cy, w, h of the whole image) as the patch at (x0, y0) would report it."""
    cx, cy, w, h = box
    return np.array([[cx - x0, cy - y0, w, h, 0.0, score]], np.float32)


def test_score_is_of_merged_whole_images(tmp_path):
    # Two patches of one image overlap by 32 pixels; the ship at (48, 25) lies in both. Scored by patch, both reports
    # are right. Scored on the whole image without merging, the second would be a false positive behind the first; the
    # second ship, at (80, 50), then comes at precision 2/3 and AP < 1. Merged, AP is 1.
    for name, lines in {"im__64__0___0": [SHIP], "im__64__32___0": [SHIP]}.items():
        _patch(tmp_path / "val", name, lines)
    truth = tmp_path / "labelTxt"
    truth.mkdir()
    (truth / "im.txt").write_text("33 20 63 20 63 30 33 30 ship 0\n70 45 90 45 90 55 70 55 ship 0\n")
    (truth / "other.txt").write_text(SHIP)  # an image that is not tested is not scored
    empty = np.zeros((0, 6), np.float32)
    both, second = (48, 25, 30, 10), (80, 50, 20, 10)
    results = [
        [_perfect(0, 0, both, 0.9), empty],
        [np.concatenate([_perfect(32, 0, both, 0.8), _perfect(32, 0, second, 0.7)]), empty],
    ]
    whole = _dataset(tmp_path / "val", gt_dir=str(truth), test_mode=True)
    assert whole.evaluate(results) == {"mAP": pytest.approx(1.0)}
    unmerged = _dataset(tmp_path / "val", gt_dir=str(truth), test_mode=True)
    unmerged.merge = lambda detections, options: merge_patches(detections, MergeOptions(nms="none"))
    assert unmerged.evaluate(results)["mAP"] < 0.95
    patches = _dataset(tmp_path / "val", test_mode=True)
    assert list(patches.evaluate(results)) == ["patch_mAP"]


def test_tested_image_without_labels_is_refused(tmp_path):
    _patch(tmp_path, "im__64__0___0", [SHIP])
    (tmp_path / "labelTxt").mkdir()
    with pytest.raises(ScoreError, match=r"1 tested images have no labels in .*labelTxt, first im"):
        _dataset(tmp_path, gt_dir=str(tmp_path / "labelTxt"), test_mode=True).truths()
    (tmp_path / "labelTxt" / "im.txt").write_text(SHIP)
    for name in ("later__64__0___0", "last__64__0___0"):
        _patch(tmp_path, name, [])
    with pytest.raises(ScoreError, match=r"2 tested images have no labels in .*labelTxt, first last"):
        _dataset(tmp_path, gt_dir=str(tmp_path / "labelTxt"), test_mode=True).truths()


def test_without_the_folder_of_whole_images_patches_are_scored(tmp_path, capsys):
    _patch(tmp_path, "im__64__0___0", [SHIP])
    dataset = _dataset(tmp_path, gt_dir=str(tmp_path / "nowhere"), test_mode=True)
    found = [[np.array([[25, 25, 30, 10, 0, 0.9]], np.float32), np.zeros((0, 6), np.float32)]]
    assert dataset.evaluate(found) == {"patch_mAP": pytest.approx(1.0)}
    assert f"scored on PATCHES, not whole images (no gt_dir: {tmp_path / 'nowhere'})" in capsys.readouterr().out
    dataset.evaluate(found, logger="silent")
    assert capsys.readouterr().out == "", "told to whom it is asked to"
    result, _ = dataset.score(dataset.detections(found), iou_thr=[0.5, 0.75])
    assert result.iou_thrs == (0.5, 0.75)


def test_the_manifest_tells_of_which_image_a_patch_is(tmp_path):
    _patch(tmp_path, "renamed", [SHIP])
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt" / "im.txt").write_text("110 20 140 20 140 30 110 30 ship 0\n")
    dataset = _dataset(tmp_path, gt_dir=str(tmp_path / "labelTxt"), test_mode=True)
    with pytest.raises(ScoreError, match=r"no labels in .*, first renamed"):
        dataset.truths()  # without a manifest, it is a whole image
    patch = {"id": "renamed", "x": 100, "y": 0, "scale": 1.0, "width": 64, "height": 64, "bytes": 1, "lines": []}
    objects = {"in": 1, "kept": 1, "cut": 0, "dropped": {}}
    Manifest({}, {}, [{"id": "im", "objects": objects, "problems": [], "patches": [patch]}]).write(
        tmp_path / "manifest.json"
    )
    dataset = _dataset(tmp_path, gt_dir=str(tmp_path / "labelTxt"), test_mode=True)
    ship = np.array([[25, 25, 30, 10, 0, 0.9]], np.float32)
    assert dataset.evaluate([[ship, np.zeros((0, 6), np.float32)]]) == {"mAP": pytest.approx(1.0)}
    (tmp_path / "manifest.json").rename(tmp_path / "split.json")
    settings = {"gt_dir": str(tmp_path / "labelTxt"), "test_mode": True}
    dataset = _dataset(tmp_path, manifest=str(tmp_path / "split.json"), **settings)
    assert dataset.evaluate([[ship, np.zeros((0, 6), np.float32)]]) == {"mAP": pytest.approx(1.0)}
    with pytest.raises(OSError, match=r"gone\.json"):  # one that is named is not done without
        _dataset(tmp_path, manifest=str(tmp_path / "gone.json"), **settings).truths()


def test_detections_that_are_no_numbers_are_refused(tmp_path):
    _patch(tmp_path, "im__64__0___0", [SHIP])
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt" / "im.txt").write_text(SHIP)
    dataset = _dataset(tmp_path, gt_dir=str(tmp_path / "labelTxt"), test_mode=True)
    with pytest.raises(DotaError, match="class ship"):
        dataset.evaluate([[np.full((1, 6), np.nan, np.float32), np.zeros((0, 6), np.float32)]])


def test_other_metrics_are_refused(tmp_path):
    _patch(tmp_path, "a__64__0___0", [SHIP])
    with pytest.raises(ValueError, match="metric must be 'mAP'"):
        _dataset(tmp_path).evaluate([[np.zeros((0, 6))] * 2], metric="recall")
    nothing = [[np.zeros((0, 6))] * 2]
    assert _dataset(tmp_path).evaluate(nothing, metric=["mAP"]) == _dataset(tmp_path).evaluate(nothing)
