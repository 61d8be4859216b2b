"""The checker of data sets: each kind of problem found where it is, nothing found where nothing is."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import SHARED

from fdam_rotate.dota.checking import likeness
from fdam_rotate.dota.checking.likeness import MAX_DISTANCE, describe, fingerprint, near_pairs, same_picture
from fdam_rotate.dota.checking.verify import PROBLEM_KINDS, verify
from fdam_rotate.dota.checking.verify_picture import draw_report
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.layout import find_parts
from fdam_rotate.dota.manifest import read_manifest
from fdam_rotate.dota.rasters import images
from fdam_rotate.dota.rasters.images import WholeImage
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split
from fdam_rotate.dota.synthetic import generate_scene, parse_size, write_synthetic

SAMPLE = SHARED / "dota_sample"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "data"
    write_synthetic(root, {"train": 3, "val": 2}, size=parse_size("260x200"), seed=2)
    return root


@pytest.fixture
def data(scenes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scenes, tmp_path / "data"))


def write_case(folder: Path, text: str, size: tuple[int, int] = (120, 100)) -> Path:
    """A data set of one noise image ``a`` with the given label text."""
    for name in ("images", "labelTxt"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    cv2.imwrite(str(folder / "images" / "a.png"), noise)
    (folder / "labelTxt" / "a.txt").write_text(text)
    return folder


def found(folder: Path, **settings) -> list[tuple[str, str, int]]:
    return [(p.kind, Path(p.path).name, p.line) for p in verify([folder], **settings).problems]


def test_a_good_data_set_has_no_problem_and_true_counts(data: Path) -> None:
    report = verify([data])
    assert report.ok
    assert report.problems == []
    assert [part.name for part in report.parts] == ["train", "val"]
    assert [len(part.images) for part in report.parts] == [3, 2]
    for part in report.parts:
        lines = [
            line.split()
            for path in sorted((data / part.name / "labelTxt").iterdir())
            for line in path.read_text().splitlines()[2:]
        ]
        summary = part.summary()
        assert summary["objects"] == len(lines)
        assert sum(summary["classes"].values()) == len(lines)
        assert summary["classes"]["small-vehicle"] == sum(line[8] == "small-vehicle" for line in lines)
        assert summary["difficult"].get("1", 0) == sum(line[9] == "1" for line in lines)
        assert sum(summary["angle_deg_histogram"]) == len(lines)
        assert summary["width"] == {"min": 260, "q1": 260, "median": 260, "q3": 260, "max": 260}


def test_sizes_are_summed_up_as_quartiles(tmp_path: Path) -> None:
    # long sides 40, 20, 30, 60 and 50, the short one a tenth; angles 0, 0, 90, 0, 0
    lines = ["5 5 45 5 45 9 5 9", "5 15 25 15 25 17 5 17", "60 60 63 60 63 90 60 90", "5 30 65 30 65 36 5 36",
             "5 50 55 50 55 55 5 55"]  # fmt: skip
    (part,) = verify([write_case(tmp_path, "".join(f"{line} ship {k % 2}\n" for k, line in enumerate(lines)))]).parts
    summary = part.summary()
    assert summary["long_side"] == {"min": 20, "q1": 30, "median": 40, "q3": 50, "max": 60}
    assert summary["short_side"] == {"min": 2, "q1": 3, "median": 4, "q3": 5, "max": 6}
    assert summary["objects_per_image"] == {"min": 5, "q1": 5, "median": 5, "q3": 5, "max": 5}
    assert summary["height"] == {"min": 100, "q1": 100, "median": 100, "q3": 100, "max": 100}
    assert summary["difficult"] == {"0": 3, "1": 2}
    assert summary["images_without_objects"] == 0
    # bins of 10 degrees from -90: upright boxes lie at 0, the tall one at -90
    assert [k for k, count in enumerate(summary["angle_deg_histogram"]) if count] == [0, 9]


BOX = "10 10 50 10 50 30 10 30"

CASES = {
    "malformed-fields": (f"{BOX}\n", [("malformed", 1)]),
    "malformed-nan": (f"{BOX} ship 0\nnan 10 50 10 50 30 10 30 ship 0\n", [("malformed", 2)]),
    "malformed-word": ("gsd:1\n10 10 50 x 50 30 10 30 ship 0\n", [("malformed", 2)]),
    "class": (f"{BOX} shp 0\n", [("class", 1)]),
    "zero-area": ("10 10 50 10 50 10 10 10 ship 0\n", [("zero-area", 1)]),
    "thin": ("10 10 50 10 50 10.5 10 10.5 ship 0\n", [("thin", 1)]),
    # the corners of a rectangle, two of them swapped: a bow tie
    "self-crossing": ("10 10 50 30 50 10 10 30 ship 0\n", [("self-crossing", 1)]),
    # the same with the other two sides crossing
    "self-crossing-otherwise": ("10 10 50 10 10 30 50 30 ship 0\n", [("self-crossing", 1)]),
    # a corner on a side touches it, and crosses nothing
    "touching": ("10 10 50 10 50 30 30 10 ship 0\n", []),
    "outside": ("130 10 150 10 150 30 130 30 ship 0\n", [("outside", 1)]),
    # the image has 12000 pixels, and twice as many are not too many
    "huge": ("0 0 241 0 241 100 0 100 ship 0\n", [("huge", 1)]),
    "not-huge": ("0 0 240 0 240 100 0 100 ship 0\n", []),
    "reaches-out": ("100 80 140 80 140 120 100 120 ship 0\n", []),
    "repeated": (f"{BOX} ship 0\n{BOX} plane 0\n{BOX} ship 1\n", [("repeated", 3)]),
    # a dart: not convex, but it does not cross itself
    "dart": ("10 10 50 10 20 20 10 50 ship 0\n", []),
    "counter-clockwise": ("10 30 50 30 50 10 10 10 ship 0\n", []),
    "empty": ("", []),
}


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_bad_line_is_told_with_its_line(tmp_path: Path, case: str) -> None:
    text, expected = CASES[case]
    assert found(write_case(tmp_path, text)) == [(kind, "a.txt", line) for kind, line in expected]


def test_class_problem_names_the_closest_class_and_the_list_is_a_setting(tmp_path: Path) -> None:
    folder = write_case(tmp_path, f"{BOX} Small_Vehicle 0\n{BOX} container-crane 1\n")
    first, *rest = verify([folder]).problems
    assert "did you mean 'small-vehicle'?" in first.text
    assert rest == []
    assert found(folder, classes=["Small_Vehicle"]) == [("class", "a.txt", 2)]


def test_bad_images_and_missing_partners_are_told_apart(data: Path) -> None:
    images, labels = data / "train" / "images", data / "train" / "labelTxt"
    (images / "T0000.png").write_bytes((images / "T0000.png").read_bytes()[:3000])
    (images / "empty.png").write_bytes(b"")
    (labels / "empty.txt").write_text("")
    (labels / "T0001.txt").rename(labels / "T9999.txt")
    kinds = [(kind, name) for kind, name, _ in found(data)]
    assert kinds == [
        ("image", "T0000.png"),
        ("image", "empty.png"),
        ("no-label", "T0001.png"),
        ("no-image", "T9999.txt"),
    ]
    train = verify([data]).parts[0]
    assert len(train.images) == 4  # the labels of an unreadable image are counted
    assert len(train.images[0].labels) > 0
    assert train.images[0].width == 0


def test_equal_pixels_in_two_parts_are_told_whatever_the_file(data: Path) -> None:
    image = cv2.imread(str(data / "train" / "images" / "T0001.png"))
    cv2.imwrite(str(data / "val" / "images" / "again.bmp"), image)
    (data / "val" / "labelTxt" / "again.txt").write_text("")
    problem, *rest = verify([data]).problems
    assert (problem.kind, Path(problem.path).name, rest) == ("duplicate", "again.bmp", [])
    assert "T0001.png in train" in problem.text
    # twice in one part is nobody's leak
    cv2.imwrite(str(data / "train" / "images" / "again.bmp"), image)
    (data / "train" / "labelTxt" / "again.txt").write_text("")
    assert len(found(data)) == 1


def test_a_jpeg_copy_in_another_part_is_told_and_other_pictures_are_not(data: Path) -> None:
    image = cv2.imread(str(data / "train" / "images" / "T0002.png"))
    cv2.imwrite(str(data / "val" / "images" / "copy.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    (data / "val" / "labelTxt" / "copy.txt").write_text("")
    # as many objects and colours, but another picture; and two black ones, which have no fingerprint
    cv2.imwrite(str(data / "val" / "images" / "flipped.png"), image[:, ::-1])
    (data / "val" / "labelTxt" / "flipped.txt").write_text("")
    for number, split in enumerate(("train", "val")):
        cv2.imwrite(str(data / split / "images" / "black.png"), np.full((64, 64, 3), number, np.uint8))
        (data / split / "labelTxt" / "black.txt").write_text("")
    problem, *rest = verify([data]).problems
    assert (problem.kind, Path(problem.path).name, rest) == ("near-duplicate", "copy.jpg", [])


def test_open_sea_is_no_copy_of_open_sea(tmp_path: Path) -> None:
    """Two noisy pictures with the same slow gradient: no near copies, though their thumbnails agree."""
    slope = np.linspace(60, 90, 256)[None, :, None] + np.linspace(0, 20, 256)[:, None, None]
    rng = np.random.default_rng(0)
    paths = []
    for k in range(2):
        path = tmp_path / f"{k}.png"
        cv2.imwrite(str(path), np.clip(slope + rng.normal(0, 3, (256, 256, 3)), 0, 255).astype(np.uint8))
        paths.append(path)
    assert not same_picture(*paths)
    cv2.imwrite(str(tmp_path / "c.jpg"), cv2.imread(str(paths[0])), [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert same_picture(paths[0], tmp_path / "c.jpg")


def test_pictures_that_agree_only_in_the_large_are_no_copies(data: Path) -> None:
    """Equal blobs with other detail: the fingerprints meet, the second look tells them apart."""
    rng = np.random.default_rng(5)
    blobs = cv2.resize(rng.normal(120, 40, (9, 9, 1)).astype(np.float32), (256, 256), interpolation=cv2.INTER_CUBIC)
    marks = []
    for split in ("train", "val"):
        image = np.clip(blobs[..., None] + rng.normal(0, 6, (256, 256, 3)), 0, 255).astype(np.uint8)
        marks.append(fingerprint(image))
        cv2.imwrite(str(data / split / "images" / "blobs.png"), image)
        (data / split / "labelTxt" / "blobs.txt").write_text("")
    assert list(near_pairs(marks[:1], marks[1:])) == [(0, 0)]
    assert verify([data]).problems == []


def test_near_pairs_are_those_within_the_distance() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 2, (3, 256), np.uint8)
    b = np.repeat(a[1:2], 6, axis=0)
    for row, flips in enumerate((0, 1, MAX_DISTANCE - 1, MAX_DISTANCE, MAX_DISTANCE + 1, 200)):
        b[row, rng.permutation(256)[:flips]] ^= 1
    left, right = ([np.packbits(bits).tobytes() for bits in rows] for rows in (a, b))
    assert list(near_pairs(left, right)) == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert list(near_pairs(left, right * 500))[-1] == (1, 2997)  # beyond one block of comparisons
    assert list(near_pairs([], right)) == []


def test_a_fingerprint_says_where_it_gets_brighter_to_the_right() -> None:
    rng = np.random.default_rng(1)
    blocks = rng.integers(60, 200, (16, 17))
    image = np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1).astype(np.uint8)
    mark = np.unpackbits(np.frombuffer(fingerprint(np.stack([image] * 3, axis=2)), np.uint8)).reshape(16, 16)
    assert (mark != (blocks[:, 1:] > blocks[:, :-1])).sum() < 16  # of 256; those of nearly equal blocks


def test_a_digest_is_that_of_size_and_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3)).astype(np.uint8)
    expected = hashlib.sha256(b"(50, 70, 3)" + pixels.tobytes()).hexdigest()
    assert describe(WholeImage(pixels, ""))[0] == expected


def test_digest_and_fingerprint_of_a_picture() -> None:
    image = generate_scene(1, 200, 160).image
    digest, mark = describe(WholeImage(image, ""))
    assert describe(WholeImage(image.copy(order="F"), "")) == (digest, mark)
    assert describe(WholeImage(image.reshape(200, 160, 3), ""))[0] != digest
    assert len(mark) == 32
    assert mark == fingerprint(image)
    assert fingerprint(np.zeros((50, 40, 3), np.uint8)) == b""


def test_very_large_images_are_checked_in_bands(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rasterio")
    image = cv2.imread(str(data / "train" / "images" / "T0001.png"))
    cv2.imwrite(str(data / "val" / "images" / "again.bmp"), image)
    cv2.imwrite(str(data / "val" / "images" / "copy.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    for name in ("again", "copy"):
        (data / "val" / "labelTxt" / f"{name}.txt").write_text("")
    whole = verify([data])
    assert {p.kind for p in whole.problems} == {"duplicate", "near-duplicate"}
    monkeypatch.setattr(images, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(images, "read_image", lambda path: pytest.fail("decoded whole"))
    monkeypatch.setattr(likeness, "_ROWS", 64)
    monkeypatch.setattr(likeness, "_MIDDLE", 128)
    bands = verify([data])
    assert bands.to_json() == whole.to_json()
    for one, two in zip(whole.parts[0].images, bands.parts[0].images, strict=True):
        assert one.digest == two.digest
        differing = int.from_bytes(one.mark, "big") ^ int.from_bytes(two.mark, "big")
        assert differing.bit_count() <= 8  # by rounding
    draw_report(bands, data / "page.png")


def test_a_split_is_checked_with_its_manifest(data: Path, tmp_path: Path) -> None:
    train, val = data / "train", data / "val"
    options = SplitOptions(sizes=(128,), gaps=(32,))
    for part in (train, val):
        run_split([part / "images"], [part / "labelTxt"], tmp_path / "out" / part.name, options)
    out = tmp_path / "out"
    assert verify([out]).problems == []
    assert verify([out / "train", out / "val"]).problems == []
    first = sorted((out / "train" / "images").iterdir())[0]
    count = len(read_manifest(out / "train").images)
    assert count == 3
    # a patch lost, one shrunk, one with a line too many, and one that is not in the manifest
    ids = sorted(p.stem for p in (out / "train" / "images").iterdir())
    first.unlink()
    (out / "train" / "annfiles" / f"{ids[0]}.txt").unlink()
    cv2.imwrite(str(out / "train" / "images" / f"{ids[1]}.png"), np.zeros((100, 128, 3), np.uint8))
    with (out / "train" / "annfiles" / f"{ids[2]}.txt").open("a") as file:
        file.write("1 1 20 1 20 9 1 9 ship 0\n")
    cv2.imwrite(str(out / "train" / "images" / "new.png"), np.zeros((128, 128, 3), np.uint8))
    (out / "train" / "annfiles" / "new.txt").write_text("")
    told = {(Path(p.path).name, p.text.split(",")[0]) for p in verify([out]).problems if p.kind == "manifest"}
    assert {name for name, _ in told} == {"manifest.json", f"{ids[1]}.png", f"{ids[2]}.txt", "new.png"}
    assert ("manifest.json", f"patch {ids[0]} has no image file in images/") in told
    assert (f"{ids[1]}.png", "128 x 100 pixels") in told
    # totals that do not reconcile
    content = json.loads((out / "val" / "manifest.json").read_text())
    content["totals"]["objects_in"] += 1
    (out / "val" / "manifest.json").write_text(json.dumps(content))
    assert ("manifest", "manifest.json") in {(p.kind, Path(p.path).name) for p in verify([out / "val"]).problems}


def test_patches_of_one_source_in_train_and_val_are_told(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "train" / "images" / "T0000.png", data / "val" / "images" / "V0000.png")
    for name, size in (("train", 128), ("val", 96)):
        options = SplitOptions(sizes=(size,), gaps=(0,))
        run_split([data / name / "images"], [data / name / "labelTxt"], tmp_path / name, options)
    shared = [p for p in verify([tmp_path / "train", tmp_path / "val"]).problems if p.kind == "shared-source"]
    assert len(shared) == 1
    assert "source image V0000" in shared[0].text
    assert "there T0000" in shared[0].text


def test_accepted_kinds_leave_the_report_ok(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "10 10 50 10 50 10 10 10 ship 0\n130 10 150 10 150 30 130 30 ship 0\n")
    assert not verify([folder]).ok
    assert not verify([folder], accept=["zero-area"]).ok
    report = verify([folder], accept=["zero-area", "outside"])
    assert report.ok
    assert report.counts == {"zero-area": 1, "outside": 1}
    assert [p["accepted"] for p in report.to_json()["problems"]] == [True, True]


def test_a_test_set_without_labels_is_no_problem(data: Path) -> None:
    shutil.rmtree(data / "val" / "labelTxt")
    report = verify([data])
    assert report.ok
    assert [part.labelled for part in report.parts] == [True, False]


def test_parts_are_found_or_the_error_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_parts([tmp_path / "nothing"])
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DotaError, match=r"expected images/ beside labelTxt/.*it holds pictures"):
        find_parts([tmp_path])
    (tmp_path / "b" / "images").mkdir(parents=True)
    (tmp_path / "a" / "images").mkdir(parents=True)
    (tmp_path / "a" / "annfiles").mkdir()
    parts = find_parts([tmp_path])
    assert [(p.name, p.annotations and p.annotations.name) for p in parts] == [("a", "annfiles"), ("b", None)]
    assert [p.name for p in find_parts([tmp_path / "a", tmp_path / "b"])] == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_two_processes_tell_the_same_as_one(data: Path) -> None:
    (data / "train" / "images" / "T0000.png").write_bytes(b"no picture")
    assert verify([data], nproc=2).to_json() == verify([data]).to_json()


def test_every_kind_is_documented() -> None:
    import fdam_rotate.dota.checking.verify as module

    assert module.__doc__ is not None
    assert [kind for kind in PROBLEM_KINDS if f"``{kind}``" not in module.__doc__] == []


@pytest.mark.parametrize("case", ["good", "bad", "empty"])
def test_picture_is_written(data: Path, tmp_path: Path, case: str) -> None:
    if case == "bad":
        (data / "train" / "images" / "T0000.png").write_bytes(b"no picture")
        (data / "val" / "labelTxt" / "V0000.txt").write_text("10 10 50 10 50 10 10 10 ship 0\n" * 3)
    folder = write_case(tmp_path / "none", "") if case == "empty" else data
    draw_report(verify([folder]), tmp_path / "page.png")
    page = cv2.imread(str(tmp_path / "page.png"))
    assert page.shape[0] > 1000
    assert page.shape[1] > 1500
    assert 0.01 < (page < 128).mean() < 0.5
    assert sorted(p.name for p in tmp_path.glob("page*")) == ["page.png"]


def test_signs_of_formulas_in_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Two dollars enclose a formula to matplotlib, and ``_`` alone is none."""
    folder = write_case(tmp_path / "$_$", "10 10 50 10 50 50 10 50 a$_$b 0\n")
    draw_report(verify([folder]), tmp_path / "page.png")
    assert cv2.imread(str(tmp_path / "page.png")) is not None


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the DOTA sample is not beside this checkout")
def test_dota_sample() -> None:
    report = verify([SAMPLE])
    # two cars at the left border of P1478 were cut down to lines
    assert [(p.kind, Path(p.path).name, p.line) for p in report.problems] == [
        ("zero-area", "P1478.txt", 2),
        ("zero-area", "P1478.txt", 3),
    ]
    assert [part.summary()["objects"] for part in report.parts] == [886, 107]


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_no_text_of_the_picture_lies_on_another(
    data: Path, tmp_path: Path, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    folders = [data / "train"]
    for number in range(1, parts):
        folders.append(write_case(tmp_path / f"part{number}", "10 10 50 10 50 10 10 10 ship 0\n" * (number % 3)))
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
    draw_report(verify(folders), tmp_path / "page.png")
    (figure,) = drawn
    summary = next(axis for axis in figure.axes if any("Problems" in text.get_text() for text in axis.texts))
    boxes = [text.get_window_extent() for text in summary.texts]
    assert len(boxes) == (2 if parts == 1 else 3)
    for above, below in itertools.pairwise(boxes):
        assert above.y0 > below.y1, "each text stands below the one before"
    assert boxes[-1].y0 >= figure.bbox.y1 * 0.2, "the examples begin there"
