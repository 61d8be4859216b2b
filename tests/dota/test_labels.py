"""labelTxt files: what is accepted, what is reported, and that files are read as a plain reader would."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.dota.errors import LabelFormatError
from fdam_rotate.dota.labels import Labels, parse_label_line, read_label_dir, read_labels, write_labels
from fdam_rotate.dota.problems import Problem

LINE = "0 0 4 0 4 4 0 4 ship 1"


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def same(a: Labels, b: Labels) -> bool:
    return (
        np.array_equal(a.polys, b.polys)
        and a.names == b.names
        and np.array_equal(a.difficult, b.difficult)
        and np.array_equal(a.lines, b.lines)
        and a.header == b.header
    )


@pytest.mark.parametrize(
    ("data", "lines", "header"),
    [
        pytest.param(f"{LINE}\n", [1], (), id="plain"),
        pytest.param(LINE, [1], (), id="no line end"),
        pytest.param(f"imagesource:X\ngsd:null\n{LINE}\n", [3], ("imagesource:X", "gsd:null"), id="header"),
        pytest.param(f"\n\n{LINE}  \n\n{LINE}\n \n", [3, 5], (), id="blank lines, trailing spaces"),
        pytest.param(f"gsd:1\r\n{LINE}\r\n{LINE}\r\n", [2, 3], ("gsd:1",), id="CRLF"),
        pytest.param(b"\xef\xbb\xbf" + f"gsd:1\n{LINE}\n".encode(), [2], ("gsd:1",), id="byte-order mark"),
        pytest.param(f"{LINE}\ngsd:2\n{LINE}\n", [1, 3], ("gsd:2",), id="header in the middle"),
        pytest.param("0 0 4 0 4 4 0 4 ship\n" + LINE, [1, 2], (), id="no difficulty"),
        pytest.param(f"0\t0  4 0 4 4 0 4 ship 1\n{LINE}", [1, 2], (), id="tabs"),
        pytest.param(
            "imagesource:\xe5\n".encode("latin-1") + LINE.encode(), [2], ("imagesource:\ufffd",), id="latin-1"
        ),
        pytest.param("", [], (), id="empty"),
        pytest.param("imagesource:X\n", [], ("imagesource:X",), id="header only"),
    ],
)
def test_accepted(tmp_path: Path, data: str | bytes, lines: list[int], header: tuple[str, ...]) -> None:
    found = read_labels(write(tmp_path / "P1.txt", data), classes=("ship",))
    assert found.lines.tolist() == lines
    assert found.header == header
    assert found.polys.tolist() == [[0, 0, 4, 0, 4, 4, 0, 4]] * len(lines)
    assert found.names == ("ship",) * len(lines)
    assert set(found.difficult.tolist()) <= {0, 1}
    assert len(read_label_dir(tmp_path)["P1"]) == len(found)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 0 4 0 4 4 0 4", "got 8 fields"),
        ("0 0 4 0 4 4 0 4 baseball diamond 0", "did you mean class 'baseball-diamond'"),
        ("0 0 4 0 4 4 0 x ship 0", "coordinate 'x' is not a number"),
        ("0 0 nan 0 4 4 0 4 ship 0", "coordinate 'nan' is not a finite number of at most 10000000"),
        ("0 0 4 inf 4 4 0 4 ship 0", "coordinate 'inf' is not a finite"),
        ("0 0 4 0 1e9 4 0 4 ship 0", "coordinate '1e9' is not a finite"),
        ("0 0 4 0 4 4 0 4 shp 0", "unknown class 'shp'; did you mean 'ship'?"),
        ("0 0 4 0 4 4 0 4 zzz 0", "unknown class 'zzz'; the classes are ship, baseball-diamond"),
        ("0 0 4 0 4 4 0 4 ship -1", "integer of at least 0, got '-1'"),
        ("0 0 4 0 4 4 0 4 ship 0.5", "integer of at least 0, got '0.5'"),
        (b"0 0 4 0 4 4 0 4 sh\xefp 0", "not UTF-8"),
        ("0 200 100 100 40 0.52", "this looks like a class and cx cy w h angle: write the four corners"),
        ("200 100 100 40 30 ship", "this looks like a class and cx cy w h angle"),
        ("3 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4", "this looks like YOLO-OBB, in shares of the image's size"),
        ("3 0.1 0.2 0.3 0.4", "this looks like YOLO's upright boxes"),
        ("3 10 20 30 40", "got 5 fields"),
        ("0,0,4,0,4,4,0,4,ship,0", "got 1 field; fields are parted by blanks, not by commas"),
        ("3 10 0.2 0.3 0.4", "got 5 fields"),
        ("1 2 3 4 5 ship", "this looks like a class"),
        ("1 2 3 4 ship 0", "got 6 fields"),
    ],
)
def test_bad_lines_are_told_and_the_rest_is_read(tmp_path: Path, row: str | bytes, reason: str) -> None:
    raw = row if isinstance(row, bytes) else row.encode()
    path = write(tmp_path / "P1.txt", b"gsd:1\n" + LINE.encode() + b"\n" + raw + b"\n" + LINE.encode() + b"\n")
    classes = ("ship", "baseball-diamond")
    problems: list[Problem] = []
    found = read_labels(path, classes=classes, problems=problems)
    assert found.lines.tolist() == [2, 4]
    assert [problem.line for problem in problems] == [3]
    assert reason in str(problems[0])
    assert str(problems[0]).startswith(f"{path}:3: ")
    with pytest.raises(LabelFormatError, match=r"P1\.txt:3: "):
        read_labels(path, classes=classes)
    if isinstance(row, str):
        with pytest.raises(LabelFormatError, match=r"f\.txt:7: "):
            parse_label_line(row, path=Path("f.txt"), lineno=7, classes=classes)


def test_utf16_is_one_problem(tmp_path: Path) -> None:
    problems: list[Problem] = []
    assert len(read_labels(write(tmp_path / "P1.txt", LINE.encode("utf-16")), problems=problems)) == 0
    assert "UTF-16" in str(problems[0])


def random_file(rng: random.Random) -> str:
    number = [
        lambda: f"{rng.uniform(-50, 9000):.1f}",
        lambda: str(rng.randrange(9000)),
        lambda: repr(rng.uniform(0, 1e4)),
        lambda: f"{rng.uniform(0, 99):.3e}",
        lambda: f"-{rng.random():.12f}".replace("0.", "."),
        lambda: f"{rng.randrange(10**6)}.{rng.randrange(10**9)}",
    ]
    rows = []
    for _ in range(rng.randrange(40)):
        row = (
            [rng.choice(number)() for _ in range(8)]
            + [rng.choice(["ship", "plane", "h\xe9"])]
            + [str(rng.randrange(3))]
        )
        rows.append(rng.choice([" "] * 9 + ["  "]).join(row) + rng.choice([""] * 9 + [" "]))
        if rng.random() < 0.05:
            rows.append("")
    return "\n".join(rows)


def test_folder_file_and_a_plain_reading_agree(tmp_path: Path) -> None:
    rng = random.Random(0)
    for index in range(60):
        write(tmp_path / f"P{index:02d}.txt", "gsd:1\n" * (index % 3) + random_file(rng))
    folder = read_label_dir(tmp_path)
    assert list(folder) == [f"P{index:02d}" for index in range(60)]
    assert sum(map(len, folder.values())) > 500
    for image_id, found in folder.items():
        assert same(found, read_labels(tmp_path / f"{image_id}.txt"))
        rows = [
            (number, line.split())
            for number, line in enumerate((tmp_path / f"{image_id}.txt").read_text("utf-8").split("\n"), start=1)
            if line.strip() and not line.startswith("gsd")
        ]
        assert found.lines.tolist() == [number for number, _ in rows]
        assert found.polys.tolist() == [[float(field) for field in fields[:8]] for _, fields in rows]
        assert found.names == tuple(fields[8] for _, fields in rows)
        assert found.difficult.tolist() == [int(fields[9]) for _, fields in rows]


def test_one_bad_file_leaves_the_others(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", LINE)
    write(tmp_path / "b.txt", "what")
    problems: list[Problem] = []
    assert {k: len(v) for k, v in read_label_dir(tmp_path, problems=problems).items()} == {"a": 1, "b": 0}
    assert [(Path(p.path).name, p.line) for p in problems] == [("b.txt", 1)]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_label_dir(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        read_label_dir(tmp_path, image_ids=["c"])
    assert list(read_label_dir(tmp_path, image_ids=["a"])) == ["a"]


def test_write_then_read(tmp_path: Path) -> None:
    polys = np.array([[0.1, 1 / 3, -4, 0, 1e6, 4, 0, 4]])
    made = Labels(polys, ("ship",), np.array([2]), header=("gsd:0.5",))
    write_labels(tmp_path / "P.txt", made)
    found = read_labels(tmp_path / "P.txt")
    assert np.array_equal(found.polys, polys)
    assert (found.names, found.difficult.tolist(), found.header) == (("ship",), [2], ("gsd:0.5",))
    with pytest.raises(ValueError, match="unequal length"):
        Labels(polys, (), np.zeros(0, np.int64))
