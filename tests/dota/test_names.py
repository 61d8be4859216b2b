"""One rule of names: what it accepts survives every file that we write and read; what it refuses is told."""

from __future__ import annotations

import os
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fdam_rotate.dota.detections import Detections, format_detections, read_detections, write_detections
from fdam_rotate.dota.errors import DotaError, OutputExistsError
from fdam_rotate.dota.formats.from_detections import write_labels
from fdam_rotate.dota.formats.interchange import Losses, Reading
from fdam_rotate.dota.formats.table import FORMATS
from fdam_rotate.dota.labels import Labels, read_label_dir, read_labels
from fdam_rotate.dota.labels import write_labels as write_label_file
from fdam_rotate.dota.layout import list_sources, passed_over, read_image_list
from fdam_rotate.dota.merging.merge_files import merge_files, zip_path_of
from fdam_rotate.dota.names import (
    check_image_id,
    class_name,
    did_you_mean,
    escape_class,
    escape_id,
    id_problem,
    plain_form,
    unescape_class,
    unescape_id,
)
from fdam_rotate.dota.outputs import claim_folder
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split
from fdam_rotate.dota.submission import check_submission

#: Characters that one kind of file or another might stumble over, beside letters of all scripts.
ODD = " %20()[]{}'\"`$&;:,=+#!?*<>|~^@.-_\u00a0\u202f\u3000\u200d\ufeff\u00e9e\u0301\U0001f680"
NAMES = st.text(st.one_of(st.sampled_from(ODD), st.characters()), min_size=1, max_size=12)
IDS = NAMES.filter(lambda name: id_problem(name) is None)
CLASS_TEXT = st.text(st.one_of(st.sampled_from(ODD + "/\\"), st.characters()), min_size=1, max_size=8)
BOX = np.array([[10.0, 10, 40, 10, 40, 30, 10, 30]])
SLOW = settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))


def is_class(text: str) -> bool:
    try:
        class_name(text)
    except DotaError:
        return False
    return True


CLASSES = CLASS_TEXT.filter(is_class).map(class_name)


@settings(deadline=None, max_examples=100)
@given(NAMES)
def test_escapes_are_undone_and_hold_nothing_that_parts_fields(name: str) -> None:
    for escape, undo, parted in ((escape_id, unescape_id, None), (escape_class, unescape_class, '/\\:*?"<>|')):
        text = escape(name)
        assert undo(text) == name
        if parted is None:
            assert len(text.split()) == (0 if not text else 1) or id_problem(name) is not None
        else:
            assert not set(parted) & set(text)


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from("%20Aa5f ./é"), max_size=8), st.text(st.sampled_from("%20Aa5f ./é"), max_size=8))
def test_no_two_names_are_written_alike(a: str, b: str) -> None:
    assume(a != b)
    assert escape_id(a) != escape_id(b)
    assert escape_class(a) != escape_class(b)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("P0006", "P0006"), ("scene (0)", "scene%20(0)"), ("100%", "100%"), ("50%25", "50%2525"), ("%zz", "%zz"),
        ("a%20b", "a%2520b"), ("Bild 1 für\u202funs", "Bild%201%20für%E2%80%AFuns"), ("写真", "写真"),
    ],
)  # fmt: skip
def test_ids_in_lines(name: str, text: str) -> None:
    assert check_image_id(name) == name
    assert escape_id(name) == text
    assert unescape_id(text) == name


@pytest.mark.parametrize("text", ["100%41", "%zz", "50%", "%C3", "a%2fb", "a%2Fb", "%E2%80"])
def test_what_writing_cannot_have_given_stands_for_itself(text: str) -> None:
    assert unescape_id(text) == text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"), ("a/b", "holds a slash"), ("..", "full stop"), ("../x", "holds a slash"), ("a\\b", "slash"),
        (".hidden", "full stop"), (" a", "begins or ends with a blank"), ("a\u3000", "begins or ends with a blank"),
        ("a\nb", r"U\+000A"), ("a\0", r"U\+0000"), ("a\x85b", r"U\+0085"), ("a\u2028b", r"U\+2028"),
        ("a\uffff", r"U\+FFFF"), ("a\ufdd0", r"U\+FDD0"), ("a\udcff", "not UTF-8"), ("x" * 201, "has 201 bytes"),
        ("é" * 101, "has 202 bytes"), ("classes", "list of classes"), ("predefined_classes", "list of classes"),
    ],
)  # fmt: skip
def test_what_no_id_may_be(name: str, reason: str) -> None:
    with pytest.raises(DotaError, match=reason):
        check_image_id(name)


def test_the_longest_id_leaves_room_for_a_patch() -> None:
    assert id_problem("x" * 200) is None
    assert id_problem("x" * 201, 255) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a b", "white space"), ("a\u00a0b", "white space"), ("", "is empty"), ("a\tb", r"U\+0009"),
     ("a\ufeff", "byte-order mark"), ("\udcff", "not UTF-8"), ("x" * 201, "has 201 bytes")],
)  # fmt: skip
def test_what_no_class_may_be(name: str, reason: str) -> None:
    with pytest.raises(DotaError, match=reason):
        class_name(name)


def test_classes_are_equal_however_their_characters_are_put_together() -> None:
    assert class_name("ve\u0301hicule") == class_name("v\u00e9hicule") == "v\u00e9hicule"
    assert class_name("car/van") == "car/van"


def test_the_nearest_name() -> None:
    assert did_you_mean("Small Vehicle", ["plane", "small-vehicle"]) == "; did you mean 'small-vehicle'?"
    assert did_you_mean("xyz", ["plane"]) == ""


def detections(ids: list[str], scores: list[float]) -> Detections:
    return Detections(tuple(ids), np.arange(len(ids)), np.array(scores), np.repeat(BOX, len(ids), axis=0))


@SLOW
@given(
    st.lists(IDS, min_size=1, max_size=3, unique_by=plain_form),
    st.lists(CLASSES, min_size=2, max_size=2, unique_by=plain_form),
)
def test_names_survive_merging_zipping_reading_and_scoring(ids: list[str], classes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        patches = [f"{image_id}__1024__0___0" for image_id in ids]
        found = {classes[0]: detections(patches, [0.9 - 0.1 * k for k in range(len(ids))])}
        write_detections(folder / "patches", found, classes=classes)
        problems: list[Problem] = []
        summary = merge_files([folder / "patches"], folder / "out", classes, problems=problems)
        assert (problems, summary.kept) == ([], len(ids))
        for source in (folder / "out", zip_path_of(folder / "out")):
            merged = read_detections(source)
            assert sorted(merged) == sorted(classes)
            assert sorted(merged[classes[0]].image_ids) == sorted(ids)
            assert len(merged[classes[1]]) == 0
        (folder / "labelTxt").mkdir()
        for image_id in ids:
            labels = Labels(BOX, (classes[0],), np.zeros(1, np.int64))
            write_label_file(folder / "labelTxt" / f"{image_id}.txt", labels)
        truths = read_label_dir(folder / "labelTxt", classes=classes)
        assert sorted(truths) == sorted(ids)
        assert evaluate(merged, truths, classes).map == 1
        (folder / "list.txt").write_text("\n".join(ids), encoding="utf-8")
        told = check_submission(zip_path_of(folder / "out"), classes, ids)
        carried = [image_id for image_id in ids if escape_id(image_id) != image_id]
        assert {problem.kind for problem in told if problem.severity == "error"} == ({"id"} if carried else set())
        if not any(image_id.lower().endswith((".png", ".jpg", ".bmp", ".tif")) for image_id in ids):
            assert set(read_image_list(folder / "list.txt")) == set(ids)


@pytest.mark.parametrize("format", FORMATS)
@SLOW
@given(IDS, CLASSES)
def test_names_survive_every_format_of_labels(format: str, image_id: str, name: str) -> None:
    pytest.importorskip("yaml")
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        images = folder / "images"
        images.mkdir()
        assert cv2.imwrite(str(images / f"{image_id}.png"), np.zeros((50, 60, 3), np.uint8))
        found = {name: detections([image_id], [0.5])}
        write_labels(format, folder / "labels", found, {image_id: (60, 50)}, [name])
        reading = Reading(img_dir=images)
        if format == "dota":
            got = read_labels(folder / "labels/labelTxt" / f"{image_id}.txt")
            assert got.names == (name,)
            return
        if format == "label-studio":  # proposals are read once they are accepted
            text = (folder / "labels/data.json").read_text(encoding="utf-8")
            (folder / "labels/data.json").write_text(text.replace('"predictions"', '"annotations"'), encoding="utf-8")
        (part,) = FORMATS[format].read(folder / "labels", reading)
        assert reading.problems == []
        (item,) = part.items
        assert (item.image_id, item.labels.names, reading.losses.counts) == (image_id, (name,), Losses().counts)
        np.testing.assert_allclose(item.labels.polys, BOX, atol=0.001)


@SLOW
@given(st.lists(IDS, min_size=1, max_size=3, unique_by=plain_form), CLASSES)
def test_names_survive_splitting(ids: list[str], name: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        for inner in ("images", "labelTxt"):
            (folder / inner).mkdir()
        for image_id in ids:
            assert cv2.imwrite(str(folder / "images" / f"{image_id}.png"), np.zeros((50, 60, 3), np.uint8))
            write_label_file(folder / f"labelTxt/{image_id}.txt", Labels(BOX, (name,), np.zeros(1, np.int64)))
        options = SplitOptions(sizes=(64,), gaps=(0,))
        manifest = run_split([folder / "images"], [folder / "labelTxt"], folder / "out", options)
        assert [image["id"] for image in manifest.images] == sorted(ids)
        assert [one for one in manifest.all_problems() if one["kind"] not in ("class",)] == []
        for patch_id in manifest.patch_ids():
            assert read_labels(folder / f"out/annfiles/{patch_id}.txt").names == (name,)
        found = {name: detections(manifest.patch_ids(), [0.5] * len(ids))}
        write_detections(folder / "found", found)
        merge_files([folder / "found"], folder / "merged", [name], locate=manifest)
        assert sorted(read_detections(folder / "merged")[name].image_ids) == sorted(ids)


@SLOW
@given(IDS, CLASSES)
@example(":", "plane")
@example("sqlite_1", "plane")
@example("gpkg", "plane")
def test_names_survive_maps(image_id: str, name: str) -> None:
    rasterio = pytest.importorskip("rasterio")
    pyogrio = pytest.importorskip("pyogrio")
    from fdam_rotate.dota.formats.geojson import write_boxes
    from fdam_rotate.dota.formats.geopackage import write_geopackage
    from fdam_rotate.dota.formats.ground import place_boxes
    from fdam_rotate.dota.formats.predictions import read_predictions
    from fdam_rotate.dota.rasters.georeference import read_georeference

    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        (folder / "images").mkdir()
        path = folder / "images" / f"{image_id}.tif"
        with rasterio.open(
            folder / "a.tif", "w", driver="GTiff", width=60, height=50, count=1, dtype="uint8", crs="EPSG:32633",
            transform=rasterio.transform.from_origin(500_000, 4_000_000, 0.5, 0.5),
        ) as file:  # fmt: skip
            file.write(np.zeros((1, 50, 60), np.uint8))
        (folder / "a.tif").rename(path)
        found = {name: detections([image_id], [0.5])}
        placed = place_boxes(found, image_id, read_georeference(path))
        write_boxes(folder / "maps" / f"{image_id}.geojson", placed)
        back = read_predictions(folder / "maps", "geojson", img_dir=folder / "images")
        assert back[name].image_ids == (image_id,)
        corners = [sorted(map(tuple, polys.reshape(4, 2).round(1).tolist())) for polys in (back[name].polys, BOX)]
        assert corners[0] == corners[1]
        write_geopackage(folder / "maps" / f"{image_id}.gpkg", placed)
        meta, _, _, fields = pyogrio.raw.read(folder / "maps" / f"{image_id}.gpkg")
        table = dict(zip(meta["fields"], fields, strict=True))
        assert (table["image"][0], table["class"][0]) == (image_id, name)


def test_ordinary_files_are_as_the_server_has_them() -> None:
    found = detections(["P0006", "P1__x"], [0.9, 0.5])
    assert format_detections(found) == (
        b"P0006 0.900000 10.00 10.00 40.00 10.00 40.00 30.00 10.00 30.00\n"
        b"P1__x 0.500000 10.00 10.00 40.00 10.00 40.00 30.00 10.00 30.00\n"
    )


def test_an_id_written_both_ways_is_one(tmp_path: Path) -> None:
    row = "0.5 0 0 4 0 4 4 0 4"
    (tmp_path / "Task1_a.txt").write_text(f"100%2541 {row}\n100%41 {row}\nb {row}\n")
    assert read_detections(tmp_path)["a"].image_ids == ("100%41", "b")


def test_two_files_of_one_class_are_told(tmp_path: Path) -> None:
    row = "P1 0.5 0 0 4 0 4 4 0 4\n"
    for name in ("Task1_a:b.txt", "Task1_a%3Ab.txt", "Task1_c d.txt"):
        (tmp_path / name).write_text(row)
    problems: list[Problem] = []
    found = read_detections(tmp_path, problems=problems)
    assert {name: len(one) for name, one in found.items()} == {"a:b": 1}
    told = " / ".join(problem.text for problem in problems)
    assert "is of class 'a:b', as Task1_a%3Ab.txt is; it is not read" in told
    assert "class 'c d' holds white space" in told


def test_labels_tell_bad_classes_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 1 9 1 9 9 1 9 a\u00a0b 0\n1 1 9 1 9 9 1 9 e\u0301 0\n", encoding="utf-8")
    (tmp_path / " b.txt").write_text("1 1 9 1 9 9 1 9 x 0\n")
    problems: list[Problem] = []
    labels = read_label_dir(tmp_path, problems=problems)
    assert {key: one.names for key, one in labels.items()} == {"a": ("\u00e9",)}
    kinds = sorted((problem.kind, problem.line) for problem in problems)
    assert kinds == [("id", 0), ("malformed", 1)]
    with pytest.raises(DotaError, match="begins or ends with a blank"):
        read_label_dir(tmp_path)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))


def test_ids_that_some_discs_do_not_tell_apart(tmp_path: Path) -> None:
    for name in ("a", "A", "\u00e9", "e\u0301", "b"):
        picture(tmp_path / "images" / f"{name}.png")
    problems: list[Problem] = []
    sources = list_sources([tmp_path / "images"], [None], problems)
    assert len(sources) == 5, "they are told, and kept"
    assert sorted((one.kind, one.severity, unicodedata.normalize("NFC", Path(one.path).stem)) for one in problems) == [
        ("alike", "warning", "a"), ("alike", "warning", "\u00e9"),
    ]  # fmt: skip


def test_a_label_file_of_other_capitals_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "images/Abc.png")
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt/abc.txt").write_text("")
    problems: list[Problem] = []
    list_sources([tmp_path / "images"], [tmp_path / "labelTxt"], problems)
    assert "no-label" in {problem.kind for problem in problems}
    assert any(problem.text.endswith("; abc.txt is there: write both names alike") for problem in problems)


def test_a_disc_that_takes_two_names_for_one_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_folder(tmp_path / "new", ["Task1_a.txt", "Task1_A.txt"])  # this disc tells them apart
    monkeypatch.setattr(
        Path, "exists", lambda path: plain_form(path.name) in {plain_form(name) for name in os.listdir(path.parent)}
    )
    with pytest.raises(OutputExistsError, match=r"Task1_A\.txt and Task1_a\.txt would be one file in .*other"):
        claim_folder(tmp_path / "other", ["Task1_a.txt", "Task1_A.txt"])
    claim_folder(tmp_path / "third", ["Task1_a.txt", "Task1_b.txt"])


def test_what_a_folder_holds_beside_images_is_counted(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name in ("Thumbs.db", "._a.png", "a.tfw", "a.png.aux.xml", "desktop.ini"):
        (tmp_path / name).write_text("")
    (tmp_path / "empty").mkdir()
    assert passed_over(tmp_path) is None
    for name in ("b.npy", "c.npy", "README"):
        (tmp_path / name).write_text("")
    picture(tmp_path / "more/deep/b.JPG")
    found = passed_over(tmp_path)
    assert found is not None
    assert found.text.startswith(
        "not read: 1 folder with images (more) and 3 files of other kinds (2 .npy, 1 without extension);"
    )


def test_zip_members_are_escaped_as_files_are(tmp_path: Path) -> None:
    write_detections(tmp_path / "found", {"car/van": detections(["scene (0)"], [0.5])})
    merge_files([tmp_path / "found"], tmp_path / "out", ["car/van"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Task1_car%2Fvan.txt"]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == ["Task1_car%2Fvan.txt"]
        assert archive.read("Task1_car%2Fvan.txt").startswith(b"scene%20(0) 0.500000 10.00")
