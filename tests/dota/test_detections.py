"""Detection files: reading folders and zips, what is reported, and the number format."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.dota import detections as module
from fdam_rotate.dota.detections import Detections, format_detections, read_detections, write_detections
from fdam_rotate.dota.errors import DetectionFormatError, DotaError
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.textscan import scan_table

LINE = "P1 0.5 0 0 4 0 4 4 0 4"


def folder(path: Path, **files: str | bytes) -> Path:
    path.mkdir(exist_ok=True)
    for name, data in files.items():
        (path / f"Task1_{name}.txt").write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "data",
    [
        f"{LINE}\n{LINE}\n",
        f"{LINE}\r\n{LINE}",
        f"\n{LINE}  \n\n\t{LINE}\n",
        b"\xef\xbb\xbf" + f"{LINE}\n{LINE}".encode(),
    ],
    ids=["plain", "CRLF", "blanks", "byte-order mark"],
)
def test_accepted(tmp_path: Path, data: str | bytes) -> None:
    found = read_detections(folder(tmp_path / "d", ship=data, plane=""), classes=("plane", "ship", "harbor"))
    assert list(found) == ["plane", "ship"], "a missing file leaves its class out, an empty one does not"
    assert len(found["plane"]) == 0
    assert found["ship"].image_ids == ("P1",)
    assert found["ship"].scores.tolist() == [0.5, 0.5]
    assert found["ship"].polys.tolist() == [[0, 0, 4, 0, 4, 4, 0, 4]] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("P1 0.5 0 0 4 0 4 4 0", "got 9 fields"),
        ("P1 x 0 0 4 0 4 4 0 4", "score 'x' is not a number"),
        ("P1 nan 0 0 4 0 4 4 0 4", "score 'nan' is not a finite number of at most 10000000"),
        ("P1 0.5 0 0 4 0 4 4 0 1e9", "coordinate '1e9' is not a finite"),
        (b"P\xff 0.5 0 0 4 0 4 4 0 4", "not UTF-8 text"),
        ("P\x01 0.5 0 0 4 0 4 4 0 4", "holds the character U+0001"),
        ("P" * 256 + " 0.5 0 0 4 0 4 4 0 4", "has 256 bytes; at most 255"),
    ],
)
def test_bad_lines_are_told_and_the_rest_is_read(tmp_path: Path, row: str | bytes, reason: str) -> None:
    raw = row if isinstance(row, bytes) else row.encode()
    source = folder(tmp_path / "d", ship=LINE.encode() + b"\n\n" + raw + b"\n" + LINE.encode() + b"\n")
    problems: list[Problem] = []
    assert len(read_detections(source, problems=problems)["ship"]) == 2
    assert [problem.line for problem in problems] == [3]
    assert reason in problems[0].text
    with pytest.raises(DetectionFormatError, match=r"Task1_ship\.txt:3: "):
        read_detections(source)


def test_unknown_class_missing_files_and_tasks(tmp_path: Path) -> None:
    source = folder(tmp_path / "d", shp=LINE)
    problems: list[Problem] = []
    assert read_detections(source, classes=("ship",), problems=problems) == {}
    assert "unknown class 'shp'; did you mean 'ship'?" in str(problems[0])
    with pytest.raises(FileNotFoundError, match=r"holds no Task2_<class>\.txt"):
        read_detections(source, task=2)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_detections(tmp_path / "none")
    with pytest.raises(ValueError, match="task must be 1"):
        read_detections(source, task=3)
    problems.clear()
    assert len(read_detections(folder(tmp_path / "w", ship=LINE.encode("utf-16")), problems=problems)["ship"]) == 0
    assert "UTF-16" in str(problems[0])


def test_zip_equals_folder_and_is_never_unpacked(tmp_path: Path) -> None:
    source = folder(tmp_path / "d", ship=LINE, plane="")
    packed = tmp_path / "d.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in source.iterdir():
            archive.write(path, path.name)
        archive.writestr("inner/Task1_harbor.txt", LINE)
    problems: list[Problem] = []
    found = read_detections(packed, problems=problems)
    assert list(found) == ["plane", "ship"]
    assert found["ship"].polys.tolist() == read_detections(source)["ship"].polys.tolist()
    assert "not at the top level" in str(problems[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "d.zip"]
    packed.write_bytes(packed.read_bytes()[:60])
    with pytest.raises(DetectionFormatError, match="cannot be read as a zip"):
        read_detections(packed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_of_no_class_and_repeated_members_are_told(tmp_path: Path) -> None:
    packed = tmp_path / "d.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Task1_ship.txt", LINE)
        archive.writestr("Task1_ship.txt", f"{LINE}\n{LINE}\n")
        archive.writestr("Task1_.txt", LINE)
        archive.writestr("Task1_a\\b.txt", LINE)
        archive.writestr("../Task1_plane.txt", LINE)
        archive.writestr("Task1_x/readme.txt", LINE)
    problems: list[Problem] = []
    found = read_detections(packed, problems=problems)
    assert {name: len(one) for name, one in found.items()} == {"ship": 2}
    told = {Path(problem.path).name: problem.text for problem in problems}
    assert told.keys() == {"Task1_ship.txt", "Task1_.txt", "Task1_a\\b.txt", "Task1_plane.txt"}
    assert told["Task1_ship.txt"] == "stands 2 times in the archive; only the last is read"
    assert told["Task1_plane.txt"] == "not at the top level of the archive; it is not read"
    assert told["Task1_.txt"] == told["Task1_a\\b.txt"] == "the file name holds no class; it is not read"
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("d/Task1_ship.txt", LINE)
    with pytest.raises(FileNotFoundError, match=r"d/Task1_ship\.txt is not at the top level: zip the files"):
        read_detections(tmp_path / "inner.zip", problems=problems)


def test_damaged_content_of_a_zip_is_one_error(tmp_path: Path) -> None:
    packed = tmp_path / "d.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Task1_ship.txt", "\n".join(random_rows(random.Random(0), 200)))
    data = bytearray(packed.read_bytes())
    for k in range(50, 90):
        data[k] ^= 0xA5
    packed.write_bytes(data)
    with pytest.raises(DetectionFormatError, match="cannot be read as a zip"):
        read_detections(packed)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PACKED_BYTES", 100_000)
    packed = tmp_path / "d.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Task1_ship.txt", b"\n" * 200_000)
        archive.writestr("Task1_plane.txt", f"{LINE}\n" * 4000)  # packed as well, but small
    with pytest.raises(DetectionFormatError, match=r"Task1_ship.txt unpacks to 200000 bytes, \d+ times its size"):
        read_detections(packed, classes=("ship",), problems=[])
    assert len(read_detections(packed, classes=("plane",), problems=[])["plane"]) == 4000


def test_a_line_without_end_is_not_held(tmp_path: Path) -> None:
    source = folder(tmp_path / "d", ship=f"{LINE}\n".encode() + b"x" * 300_000 + f"\n{LINE}\n".encode())
    problems: list[Problem] = []
    parts = list(module.iter_detections(source, "Task1_ship.txt", problems=problems, chunk_bytes=100))
    assert sum(map(len, parts)) == 1
    assert [problem.line for problem in problems] == [2]
    assert problems[0].text.startswith("a line of over 65")
    assert len(str(problems[0])) < 400


def test_a_huge_member_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "d.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Task1_ship.txt", LINE)
    monkeypatch.setattr(module, "MAX_MEMBER_BYTES", 10)
    with pytest.raises(DetectionFormatError, match="refused"):
        read_detections(packed)


def random_rows(rng: random.Random, count: int) -> list[str]:
    number = [
        lambda: f"{rng.uniform(-99, 9999):.2f}",
        lambda: f"{rng.uniform(-99, 99999):.4f}",
        lambda: repr(rng.uniform(0, 1)),
        lambda: str(rng.randrange(10**6)),
        lambda: f"{rng.random():.6e}",
        lambda: f"+{rng.random():.9f}",
        lambda: "-0.00",
        lambda: f"{rng.randrange(1000)}.",
        lambda: f".{rng.randrange(10**15)}",
    ]
    ids = [f"P{k}__1024__{k}___0" for k in range(9)] + ["a\xe9"]
    return [" ".join([rng.choice(ids), *(rng.choice(number)() for _ in range(9))]) for _ in range(count)]


def test_quick_way_equals_strict_way_in_any_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal bit for bit to Python's own float, chunk borders anywhere."""
    text = random_rows(random.Random(1), 700)
    source = folder(tmp_path / "d", ship="\n".join(text) + "\n")
    expected = np.array([[float(field) for field in row.split()[1:]] for row in text])
    for size in (100, 4096, 1 << 22):
        parts = list(module.iter_detections(source, "Task1_ship.txt", chunk_bytes=size))
        assert (len(parts) > 1) == (size < 1 << 20)
        found = module.concatenate(parts)
        np.testing.assert_array_equal(np.column_stack([found.scores, found.polys]), expected)
        assert np.array_equal(np.signbit(found.polys), np.signbit(expected[:, 1:]))
        assert [found.image_ids[k] for k in found.image] == [row.split()[0] for row in text]
    monkeypatch.setattr(module, "_parse_quick", lambda *args: None)
    strict = read_detections(source)["ship"]
    assert np.array_equal(strict.polys, found.polys)
    assert strict.image_ids == found.image_ids


@pytest.mark.parametrize("text", [".", "-", "-.", "..", "1..2", "1.2.3", "a", "1-2", "12:4", "1/2", "0x10", "--1"])
def test_scan_refuses_what_float_refuses(text: str) -> None:
    table = scan_table(f"1 {text}\n".encode(), 2)
    assert table is not None
    with pytest.raises(ValueError, match=r".*"):
        table.numbers(1, 2)


def plain_text(value: float, decimals: int, least: int) -> str:
    text = f"{value:.{decimals}f}"
    while text.endswith("0") and len(text.split(".")[1]) > least:
        text = text[:-1]
    return text.lstrip("-") if float(text) == 0 else text


def test_number_format_equals_plain_python() -> None:
    rng = np.random.default_rng(2)
    polys = rng.uniform(-50, 20_000, (500, 8))
    polys[:200] = polys[:200].round(2)
    polys[0] = [-0.0, -0.00001, 1e7, 9999.99999, 10_000, 0.5, -123456.7891, 12345.0]
    scores = rng.uniform(0, 1, 500)
    scores[:4] = [1, 0, 0.5, 0.123456]
    found = Detections(("b", "a"), np.zeros(500, np.intp), scores, polys)
    order = np.argsort(-scores, kind="stable")
    expected = "".join(
        f"b {plain_text(scores[k], 8, 6)} {' '.join(plain_text(v, 4, 2) for v in polys[k])}\n" for k in order.tolist()
    )
    assert format_detections(found).decode() == expected
    with pytest.raises(ValueError, match="not finite"):
        format_detections(Detections(("b",), np.zeros(1, np.intp), np.array([np.nan]), polys[:1]))


def test_bounds_of_coordinates_are_read_and_written(tmp_path: Path) -> None:
    assert module.task_file_name("ship") == "Task1_ship.txt"
    (tmp_path / "Task1_ship.txt").write_text("P1 0.5 0 0 1e7 0 1e7 1e7 0 1e7\nP1 0.5 0 0 -10000000 0 1 1 0 1\n")
    assert read_detections(tmp_path)["ship"].polys.min() == -1e7
    widest = 99_999_998.5
    for value in (widest, -widest):
        one = Detections(("P1",), np.zeros(1, np.intp), np.array([0.5]), np.array([[value, 0, 1, 0, 1, 1, 0, 1]]))
        assert f" {value:.2f} ".encode() in format_detections(one)
    for value in (1e8, -1e8, np.nan, np.inf):
        one = Detections(("P1",), np.zeros(1, np.intp), np.array([0.5]), np.array([[value, 0, 1, 0, 1, 1, 0, 1]]))
        with pytest.raises(DotaError, match=r"1e8|finite"):
            format_detections(one)


def test_write_then_read(tmp_path: Path) -> None:
    polys = np.array([[0, 0, 4.25, 0, 4.25, 4, 0, 4]] * 4)
    found = Detections(("b", "a"), np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.9, 0.2]), polys)
    paths = write_detections(tmp_path / "o", {"ship": found}, classes=("ship", "plane"))
    assert [path.name for path in paths] == ["Task1_ship.txt", "Task1_plane.txt"]
    again = read_detections(tmp_path / "o")
    assert len(again["plane"]) == 0
    assert [again["ship"].image_ids[k] for k in again["ship"].image] == ["a", "a", "b", "b"]
    assert again["ship"].scores.tolist() == [0.2, 0.2, 0.9, 0.1]
    write_detections(tmp_path / "h", {"ship": found}, task=2)
    assert (tmp_path / "h" / "Task2_ship.txt").read_text().startswith("a 0.200000 0.00 0.00 4.25 4.00\n")
    assert read_detections(tmp_path / "h", task=2)["ship"].polys[0].tolist() == polys[0].tolist()
