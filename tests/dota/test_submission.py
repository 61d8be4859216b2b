"""Submission zips: one failing example for every rule, equal bytes for equal detections."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections, read_detections
from fdam_rotate.dota.errors import DetectionFormatError, DotaError, UnknownClassError
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.submission import MAX_MEGABYTES, check_submission, write_submission

CLASSES = ("plane", "ship")
IDS = ("P0001", "P0002")
GOOD = "P0001 0.900000 1.00 2.00 11.00 2.00 11.00 22.00 1.00 22.00\n"
OTHER = "P0002 0.800000 5.00 5.00 9.00 5.00 9.00 9.00 5.00 9.00\n"


def pack(path: Path, files: dict[str, str | bytes]) -> Path:
    """A zip written entry by entry, so that it can be wrong in any way."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def errors(problems: list[Problem]) -> list[tuple[str, str, int]]:
    return [(p.kind, p.path, p.line) for p in problems if p.severity == "error"]


def box(image_ids: tuple[str, ...], image: list[int], scores: list[float], polys: list[list[float]]) -> Detections:
    return Detections(image_ids, np.array(image, np.intp), np.array(scores), np.array(polys, float).reshape(-1, 8))


SHIP = box(IDS, [1, 0], [0.5, 0.25], [[0, 0, 4, 0, 4, 2, 0, 2], [1, 1, 3, 2, 2, 4, 0, 3]])


def test_a_good_zip_has_no_problem(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER})
    assert check_submission(path, CLASSES, IDS) == []


def test_scores_of_exactly_0_and_1_pass(tmp_path: Path) -> None:
    lines = "".join(GOOD.replace("0.900000", score).replace("1.00", f"{k}.00", 1) for k, score in enumerate("01"))
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": lines, "Task1_ship.txt": OTHER})
    assert check_submission(path, CLASSES, IDS) == []


LONG = "P0001 0.9 1 2 11 2 11 22 1 22"
LINE_RULES = [
    pytest.param("fields", LONG[:-3] + "\n", id="nine fields"),
    pytest.param("fields", LONG + " 7\n", id="eleven fields"),
    pytest.param("fields", LONG.replace(" 1 2 ", "  1 2 ") + "\n", id="two spaces"),
    pytest.param("fields", LONG[:-3].replace(" 1 2 ", "  1 2 ") + "\n", id="two spaces for a field"),
    pytest.param("fields", LONG.replace(" ", "\t") + "\n", id="tabs"),
    pytest.param("fields", "\n", id="blank line"),
    pytest.param("number", LONG.replace("0.9", "high") + "\n", id="score is a word"),
    pytest.param("number", LONG.replace("22 1", "nan 1") + "\n", id="NaN"),
    pytest.param("number", LONG.replace("22 1", "inf 1") + "\n", id="infinite"),
    pytest.param("score", LONG.replace("0.9", "1.01") + "\n", id="score above 1"),
    pytest.param("score", LONG.replace("0.9", "-0.01") + "\n", id="score below 0"),
    pytest.param("id", LONG.replace("P0001", "P9999") + "\n", id="not a test id"),
    pytest.param("patch id", LONG.replace("P0001", "P0001__1024__824___0") + "\n", id="patch of MMRotate"),
    pytest.param("patch id", LONG.replace("P0001", "P0001__0.5__824___0") + "\n", id="patch of the devkit"),
    pytest.param("duplicate", OTHER, id="same line twice"),
    pytest.param("encoding", b"P\xe9 0.9 1 2 11 2 11 22 1 22\n", id="Latin-1"),
]


@pytest.mark.parametrize(("rule", "bad"), LINE_RULES)
def test_line_rules_say_the_line(tmp_path: Path, rule: str, bad: str | bytes) -> None:
    good = (GOOD + OTHER).encode()
    bad = bad if isinstance(bad, bytes) else bad.encode()
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": good + bad})
    assert errors(check_submission(path, CLASSES, IDS)) == [(rule, "Task1_ship.txt", 3)]


def test_a_line_of_gigabytes_would_not_be_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER + "x" * 200_000 + "\n\n\n"})
    (problem,) = check_submission(path, CLASSES, IDS)
    assert (problem.kind, problem.line) == ("fields", 2)
    assert "over 65536 bytes" in problem.text
    assert len(problem.text) < 200


def test_byte_order_mark_is_told_and_the_line_still_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": b"\xef\xbb\xbf" + GOOD.encode(), "Task1_ship.txt": OTHER})
    problems = check_submission(path, CLASSES, IDS)
    assert errors(problems) == [("encoding", "Task1_plane.txt", 1)]


def test_without_an_image_list_any_whole_image_id_passes_but_no_patch_id(tmp_path: Path) -> None:
    files = {"Task1_plane.txt": GOOD.replace("P0001", "x__y"), "Task1_ship.txt": OTHER}
    assert check_submission(pack(tmp_path / "a.zip", files), CLASSES) == []
    files["Task1_plane.txt"] = GOOD.replace("P0001", "x__y__1__0___0")
    assert errors(check_submission(pack(tmp_path / "b.zip", files), CLASSES)) == [("patch id", "Task1_plane.txt", 1)]


def test_a_test_image_may_be_called_like_a_patch(tmp_path: Path) -> None:
    files = {"Task1_plane.txt": GOOD.replace("P0001", "A__1__0___0"), "Task1_ship.txt": OTHER}
    assert check_submission(pack(tmp_path / "a.zip", files), CLASSES, ["A__1__0___0", "P0002"]) == []


FILE_RULES = [
    pytest.param({"Task1_plane.txt": GOOD}, "missing", "Task1_ship.txt", id="class without file"),
    pytest.param({"out/Task1_ship.txt": OTHER}, "folder", "out/Task1_ship.txt", id="file in a folder"),
    pytest.param({"out/": ""}, "folder", "out/", id="a folder"),
    pytest.param({"out\\Task1_ship.txt": OTHER}, "folder", "out\\Task1_ship.txt", id="folder of Windows"),
    pytest.param({"Task1_boat.txt": OTHER}, "name", "Task1_boat.txt", id="unknown class"),
    pytest.param({"Task2_ship.txt": OTHER}, "name", "Task2_ship.txt", id="other task"),
    pytest.param({"README.txt": "x"}, "name", "README.txt", id="other file"),
]


@pytest.mark.parametrize(("files", "rule", "file"), FILE_RULES)
def test_file_rules(tmp_path: Path, files: dict[str, str], rule: str, file: str) -> None:
    complete = {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER}
    path = pack(tmp_path / "a.zip", files if rule == "missing" else complete | files)
    assert errors(check_submission(path, CLASSES)) == [(rule, file, 0)]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_stands_twice(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Task1_ship.txt", OTHER)
    assert errors(check_submission(path, CLASSES)) == [("name", "Task1_ship.txt", 0)]


def test_name_advice_names_the_class_meant(tmp_path: Path) -> None:
    files = {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER, "Task1_Ship.txt": OTHER}
    (problem,) = check_submission(pack(tmp_path / "a.zip", files), CLASSES)
    assert "did you mean Task1_ship.txt?" in problem.text


def test_encrypted_file(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    assert errors(check_submission(path, CLASSES)) == [("archive", "Task1_plane.txt", 0)]


def test_damaged_content(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER})
    data = bytearray(path.read_bytes())
    start = data.index(b"Task1_plane.txt") + len("Task1_plane.txt")
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    assert ("archive", "Task1_plane.txt", 0) in errors(check_submission(path, CLASSES))


def test_zips_that_python_does_not_know(tmp_path: Path) -> None:
    """Of a later version, with a name that is not in its encoding, or with LZMA whose data are damaged."""
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER})
    good = path.read_bytes()
    entry = good.index(b"PK\x01\x02")
    later, named = bytearray(good), bytearray(good)
    later[entry + 6] = 99
    named[entry + 9] |= 8  # the name is UTF-8
    named[entry + 46 : entry + 48] = b"\xff\xfe"
    for data in (later, named):
        path.write_bytes(data)
        assert errors(check_submission(path, CLASSES)) == [("archive", "zip", 0)]
        with pytest.raises(DetectionFormatError, match="cannot be read as a zip"):
            read_detections(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("Task1_plane.txt", GOOD * 50)
        archive.writestr("Task1_ship.txt", OTHER)
    data = bytearray(path.read_bytes())
    start = data.index(b"Task1_plane.txt") + len("Task1_plane.txt") + 12
    data[start : start + 12] = bytes(one ^ 0x55 for one in data[start : start + 12])
    path.write_bytes(data)
    assert ("archive", "Task1_plane.txt", 0) in errors(check_submission(path, CLASSES))
    with pytest.raises(DetectionFormatError, match="cannot be read as a zip"):
        read_detections(path)


def test_no_zip_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text(GOOD)
    assert errors(check_submission(path, CLASSES)) == [("archive", "zip", 0)]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        check_submission(tmp_path / "b.zip", CLASSES)
    with pytest.raises(FileNotFoundError, match="is a folder"):
        check_submission(tmp_path, CLASSES)


def test_size_limits(tmp_path: Path) -> None:
    assert MAX_MEGABYTES == 100
    # 60 kB of text that packs to some 500 bytes with the rest; a text may have ten times the size of the zip
    wide = {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER[:-1] + " " * 60_000 + "\n"}
    blank = pack(tmp_path / "a.zip", wide)
    assert check_submission(blank, CLASSES, max_megabytes=0.1) == []
    assert errors(check_submission(blank, CLASSES, max_megabytes=0.001)) == [("size", "Task1_ship.txt", 0)]
    assert errors(check_submission(blank, CLASSES, max_megabytes=0.0001))[0] == ("size", "zip", 0)


def test_an_empty_class_file_is_a_warning_and_an_empty_submission_an_error(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": ""})
    (problem,) = check_submission(path, CLASSES)
    assert (problem.severity, problem.kind, problem.path) == ("warning", "empty", "Task1_ship.txt")
    path = pack(tmp_path / "b.zip", {"Task1_plane.txt": "", "Task1_ship.txt": ""})
    assert [rule for rule, _, _ in errors(check_submission(path, CLASSES))] == ["empty"]


def test_images_without_detections_are_a_warning(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"Task1_plane.txt": GOOD, "Task1_ship.txt": OTHER})
    (problem,) = check_submission(path, CLASSES, (*IDS, "P0003"))
    assert (problem.severity, problem.kind) == ("warning", "images")
    assert "1 of 3 test images" in problem.text
    assert "P0003" in problem.text


def test_each_rule_is_told_once_with_the_first_line_and_a_count(tmp_path: Path) -> None:
    bad = GOOD.replace("0.900000", "1.5")
    path = pack(
        tmp_path / "a.zip", {"Task1_plane.txt": GOOD + bad + bad.replace("22.00", "23.00"), "Task1_ship.txt": OTHER}
    )
    (problem,) = check_submission(path, CLASSES)
    assert (problem.kind, problem.line, "(and 1 more lines)" in problem.text) == ("score", 2, True)
    assert str(problem).startswith("Task1_plane.txt:2: the score must be from 0 to 1")
    assert str(problem).endswith("(and 1 more lines)")


def test_task_2(tmp_path: Path) -> None:
    good = {"Task2_plane.txt": "P0001 0.9 1 2 11 22\n", "Task2_ship.txt": "P0002 0.9 1 2 11 22\n"}
    assert check_submission(pack(tmp_path / "a.zip", good), CLASSES, IDS, task=2) == []
    upside_down = good | {"Task2_ship.txt": "P0002 0.9 1 22 11 2\n"}
    assert errors(check_submission(pack(tmp_path / "d.zip", upside_down), CLASSES, task=2))[0][0] == "box"
    swapped = good | {"Task2_ship.txt": "P0002 0.9 11 2 1 22\n"}
    assert errors(check_submission(pack(tmp_path / "b.zip", swapped), CLASSES, task=2)) == [
        ("box", "Task2_ship.txt", 1)
    ]
    ten = good | {"Task2_ship.txt": GOOD}
    assert errors(check_submission(pack(tmp_path / "c.zip", ten), CLASSES, task=2)) == [("fields", "Task2_ship.txt", 1)]


@pytest.mark.parametrize("task", [1, 2])
def test_what_is_written_passes_and_reads_back(tmp_path: Path, task: int) -> None:
    path = tmp_path / "sub" / "Task.zip"
    write_submission(path, {"ship": SHIP}, CLASSES, task=task)
    assert [p.kind for p in check_submission(path, CLASSES, IDS, task=task)] == ["empty"]
    back = read_detections(path, task=task)
    assert list(back) == ["plane", "ship"]
    assert len(back["plane"]) == 0
    by_id = {back["ship"].image_ids[i]: p.tolist() for i, p in zip(back["ship"].image, back["ship"].polys, strict=True)}
    assert by_id["P0002"] == [0, 0, 4, 0, 4, 2, 0, 2]
    # the outer box of the slanted one is 0 1 3 4
    assert by_id["P0001"] == ([1, 1, 3, 2, 2, 4, 0, 3] if task == 1 else [0, 1, 3, 1, 3, 4, 0, 4])


def test_equal_detections_give_equal_bytes(tmp_path: Path) -> None:
    write_submission(tmp_path / "a.zip", {"ship": SHIP, "plane": SHIP}, CLASSES)
    write_submission(tmp_path / "b.zip", {"plane": SHIP, "ship": SHIP}, CLASSES)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert [(i.filename, i.date_time) for i in archive.infolist()] == [
            ("Task1_plane.txt", (1980, 1, 1, 0, 0, 0)),
            ("Task1_ship.txt", (1980, 1, 1, 0, 0, 0)),
        ]


def test_a_failed_write_leaves_the_old_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_submission(path, {"ship": SHIP}, CLASSES)
    before = path.read_bytes()
    with pytest.raises(UnknownClassError, match=r"shipp.*did you mean ship"):
        write_submission(path, {"shipp": SHIP}, CLASSES)
    broken = Detections.empty()
    object.__setattr__(broken, "image", None)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a broken array raises
        write_submission(path, {"ship": broken}, CLASSES)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("task", [0, 3])
def test_task_is_checked(tmp_path: Path, task: int) -> None:
    with pytest.raises(DotaError, match="task is 1"):
        write_submission(tmp_path / "a.zip", {}, CLASSES, task=task)
    with pytest.raises(DotaError, match="task is 1"):
        check_submission(tmp_path / "a.zip", CLASSES, task=task)


def test_stored_crc_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Task1_plane.txt", GOOD)
        archive.writestr("Task1_ship.txt", OTHER)
    data = path.read_bytes().replace(b"0.900000", b"0.900001")
    path.write_bytes(data)
    assert errors(check_submission(path, CLASSES)) == [("archive", "Task1_plane.txt", 0)]
