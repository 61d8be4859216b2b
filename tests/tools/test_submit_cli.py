"""tools/submit.py as a user meets it: packing, checking, messages and exit codes."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Load = Callable[[str], ModuleType]

LINE = "P1 0.9 0 0 10 0 10 10 0 10\n"
CLASSES = ("--classes", "ship,plane")


@pytest.fixture
def det(tmp_path: Path) -> Path:
    """Detections of ships, none of planes."""
    folder = tmp_path / "det"
    folder.mkdir()
    (folder / "Task1_ship.txt").write_text(LINE)
    (folder / "Task1_plane.txt").write_text("")
    return folder


def pack(load_tool: Load, det: Path, *more: object) -> int:
    return int(load_tool("submit").main([str(det), "--out", str(det.parent / "out.zip"), *CLASSES, *map(str, more)]))


def test_packs_checks_and_repeats_to_the_byte(det: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    out = det.parent / "out.zip"
    assert pack(load_tool, det) == 0
    told = capsys.readouterr()
    assert "1 detection, 2 files" in told.out
    assert "warning: Task1_plane.txt: no detections of this class; its AP will be 0 [empty]\n" in told.err
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["Task1_ship.txt", "Task1_plane.txt"]
    first = out.read_bytes()
    assert pack(load_tool, det, "--overwrite") == 0
    assert out.read_bytes() == first
    assert load_tool("submit").main([str(out), "--check", *CLASSES]) == 0
    assert "may be uploaded" in capsys.readouterr().out


def test_an_existing_zip_is_not_replaced_unasked(det: Path, run_tool: Run) -> None:
    (det.parent / "out.zip").write_text("mine")
    done = run_tool("submit", det, "--out", det.parent / "out.zip", *CLASSES)
    assert (done.returncode, "--overwrite" in done.stderr) == (1, True)
    assert (det.parent / "out.zip").read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (LINE.replace("P1", "P1__1024__0___0"), "patch id"),
        (LINE.replace("0.9", "1.5"), "score"),
        (LINE + LINE, "duplicate"),
        (LINE.replace("P1", "P9"), "id"),
    ],
)
def test_what_would_not_pass_is_not_written(det: Path, run_tool: Run, line: str, rule: str) -> None:
    (det / "Task1_ship.txt").write_text(line)
    (det.parent / "ids.txt").write_text("P1\nP2\n")
    out = det.parent / "out.zip"
    out.write_text("an older one")
    done = run_tool("submit", det, "--out", out, *CLASSES, "--image-list", det.parent / "ids.txt", "--overwrite")
    assert done.returncode == 1
    number = 2 if rule == "duplicate" else 1
    assert re.search(rf"^Task1_ship\.txt:{number}: .* \[{rule}\]$", done.stderr, re.MULTILINE)
    assert "was not written" in done.stderr
    assert out.read_text() == "an older one"
    assert sorted(path.name for path in det.parent.iterdir()) == ["det", "ids.txt", "out.zip"]


def test_bad_lines_are_named_and_the_rest_packed(
    det: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    (det / "Task1_ship.txt").write_text(LINE + "P1 0.8 1 2 3\n")
    assert pack(load_tool, det) == 1
    assert f"{det / 'Task1_ship.txt'}:2:" in capsys.readouterr().err
    with zipfile.ZipFile(det.parent / "out.zip") as archive:
        assert len(archive.read("Task1_ship.txt").splitlines()) == 1


def test_task_2_and_version_classes(det: Path, load_tool: Load) -> None:
    (det / "Task2_ship.txt").write_text("P1 0.9 0 0 10 10\n")
    assert pack(load_tool, det, "--task", "2") == 0
    out = str(det.parent / "out.zip")
    assert load_tool("submit").main([out, "--check", *CLASSES, "--task", "2"]) == 0
    assert load_tool("submit").main([out, "--check", *CLASSES]) == 1
    assert load_tool("submit").main([str(det), "--out", out, "--classes", "v2.0", "--overwrite"]) == 0
    with zipfile.ZipFile(out) as archive:
        assert len(archive.namelist()) == 18


def test_check_options_reach_the_rules(det: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack(load_tool, det) == 0
    out = str(det.parent / "out.zip")
    (det.parent / "ids.txt").write_text("P2\n")
    assert load_tool("submit").main([out, "--check", *CLASSES, "--image-list", str(det.parent / "ids.txt")]) == 1
    assert "not one of the 1 ids" in capsys.readouterr().err
    assert load_tool("submit").main([out, "--check", *CLASSES, "--max-mb", "0.0001"]) == 1
    assert "size" in capsys.readouterr().err
    assert load_tool("submit").main([out, "--check"]) == 1
    told = capsys.readouterr()
    assert re.search(r"^Task1_harbor\.txt: .* \[missing\]$", told.err, re.MULTILINE)
    assert "13 errors; do not upload it" in told.out


def test_many_problems_are_cut_short_and_errors_come_first(
    det: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = det.parent / "bad.zip"
    with zipfile.ZipFile(bad, "w") as file:
        file.writestr("Task1_plane.txt", "")  # a warning
        file.writestr("Task1_ship.txt", LINE)
        for k in range(50):
            file.writestr(f"notes{k:02d}.txt", "mine")
    assert load_tool("submit").main([str(bad), "--check", *CLASSES]) == 1
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert len(lines) == 21
    assert all(line.endswith("[name]") for line in lines[:20])
    assert lines[20] == "... and 31 more"
    assert told.out.endswith("50 errors; do not upload it\n")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("det",),
        ("det", "--out", "out.zip", "--check"),
        ("x.zip", "--check", "--classes", "a,a"),
        ("x.zip", "--check", "--max-mb", "nan"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(load_tool: Load, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_tool("submit").main(list(words))
    assert stop.value.code == 2


def test_missing_inputs_are_one_line(tmp_path: Path, run_tool: Run) -> None:
    for words in (("no.zip", "--check"), ("nowhere", "--out", "out.zip"), (".", "--check", "--image-list", "no.txt")):
        done = run_tool("submit", *words, cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert run_tool("submit", "--help", cwd=tmp_path).returncode == 0
