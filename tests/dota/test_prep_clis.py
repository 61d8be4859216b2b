"""The command lines of data_prep: help from anywhere, usage errors, exit codes, what they print and write."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import pytest
from scripts import ROOT, load_script

from fdam_rotate.dota.errors import DotaError, OutputExistsError
from fdam_rotate.dota.labels import read_label_dir

TOOLS = ("synthetic", "verify", "convert_labels", "download")


def load(name: str) -> ModuleType:
    return load_script(f"data_prep/{name}.py")


def run_tool(name: str, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "data_prep" / f"{name}.py"), *argv]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", TOOLS)
def test_help_works_from_any_folder_and_shows_an_example(tmp_path: Path, name: str) -> None:
    result = run_tool(name, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"python data_prep/{name}.py" in result.stdout
    assert "Exit code" in result.stdout or name == "synthetic"


@pytest.mark.parametrize("name", TOOLS)
def test_help_needs_no_heavy_import(tmp_path: Path, name: str) -> None:
    """The parser is built without numpy, OpenCV or torch."""
    script = (
        "import runpy, sys\n"
        f"module = runpy.run_path({str(ROOT / 'data_prep' / f'{name}.py')!r})\n"
        "module['build_parser']()\n"
        "print(sorted({'numpy', 'cv2', 'torch', 'mmcv', 'matplotlib'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("synthetic", []),
        ("synthetic", ["--out", "out", "--train", "-1"]),
        ("synthetic", ["--out", "out", "--train", "0", "--val", "0"]),
        ("synthetic", ["--out", "out", "--size", "big"]),
        ("synthetic", ["--out", "out", "--gsd", "0.5", "0.2"]),
        ("synthetic", ["--out", "out", "--gsd", "nan", "0.2"]),
        ("synthetic", ["--out", "out", "--seed", "-4"]),
        ("synthetic", ["--out", "out", "--classes", "a b"]),
        ("synthetic", ["--out", "out", "--nproc", "0"]),
        ("verify", []),
        ("verify", [".", "--accept", "everything"]),
        ("verify", [".", "--nproc", "0"]),
        ("verify", [".", "--json", "."]),
        ("verify", [".", "--picture", "page.doc"]),
        ("convert_labels", ["a", "--out", "b"]),
        ("convert_labels", ["a", "--out", "b", "--from", "dota", "--to", "dota"]),
        ("convert_labels", ["a", "--out", "b", "--to", "voc"]),
        ("download", []),
        ("download", ["--out", "out", "--splits", "test"]),
        ("download", ["--out", "out", "--unpack", "train"]),
        ("download", ["--out", "out", "--unpack", "everything", "a.zip"]),
        ("download", ["--out", "out", "--retries", "-1"]),
    ],
)
def test_usage_errors_exit_2_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, argv: list[str]
) -> None:
    (tmp_path / "there.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        load(name).main(argv)
    assert caught.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there.txt"]


@pytest.mark.parametrize(
    ("name", "argv", "message"),
    [
        ("verify", ["nowhere"], "error: DIR: no such folder: nowhere"),
        (
            "convert_labels",
            ["nowhere", "--out", "out", "--to", "coco"],
            "error: SOURCE: no such file or folder: nowhere",
        ),
        ("synthetic", ["--out", "out", "--classes", "boat"], "error: unknown class 'boat'"),
        ("download", ["--out", "out", "--unpack", "train", "nowhere.zip"], "error: archive nowhere.zip does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(tmp_path: Path, name: str, argv: list[str], message: str) -> None:
    result = run_tool(name, *argv, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_matplotlib_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = load("verify").main
    monkeypatch.setattr("fdam_rotate.dota.checking.verify.verify", lambda *_, **__: pytest.fail("it has begun"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DotaError, match="pip install matplotlib"):
        main([str(tmp_path), "--picture", str(tmp_path / "page.png")])


def test_synthetic_then_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scenes"
    argv = ["--out", str(out), "--train", "2", "--val", "1", "--size", "200x160", "--seed", "4", "--nproc", "1"]
    argv += ["--classes", "ship,small-vehicle,harbor", "--gsd", "0.3", "0.4"]
    assert load("synthetic").main(argv) == 0
    line = capsys.readouterr().out
    labels = [read_label_dir(out / split / "labelTxt") for split in ("train", "val")]
    count = sum(len(found) for part in labels for found in part.values())
    assert count > 0
    assert line.startswith(f"wrote 3 scenes to {out}: {count} objects, ")
    assert cv2.imread(str(out / "train" / "images" / "T0001.png")).shape == (160, 200, 3)
    for part in labels:
        for found in part.values():
            assert set(found.names) <= {"ship", "small-vehicle", "harbor"}
            assert 0.3 <= float(found.header[1].removeprefix("gsd:")) <= 0.4
    with pytest.raises(OutputExistsError, match="not empty"):
        load("synthetic").main(argv)
    page, facts = tmp_path / "page.png", tmp_path / "facts.json"
    check = [str(out), "--picture", str(page), "--json", str(facts), "--nproc", "1"]
    assert load("verify").main(check) == 0
    text = capsys.readouterr().out
    assert f"ok: 3 images, {count} objects in 2 parts; problems: none" in text
    assert "small-vehicle" in text
    content = json.loads(facts.read_text())
    assert content["ok"] is True
    assert content["parts"]["train"]["objects"] + content["parts"]["val"]["objects"] == count
    assert cv2.imread(str(page)) is not None
    with pytest.raises(OutputExistsError, match="--overwrite"):  # the files of the last run are kept
        load("verify").main(check)
    assert load("verify").main([*check, "--overwrite"]) == 0


def test_verify_prints_problems_with_file_and_line_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("synthetic").main(["--out", str(tmp_path / "d"), "--train", "1", "--val", "0", "--size", "100"]) == 0
    label = tmp_path / "d/train/labelTxt/T0000.txt"
    label.write_text("1 1 9 1 9 9 1 9 ship 0\n" + "1 1 1 1 1 1 1 1 ship 0\n" * 12)
    capsys.readouterr()
    main = load("verify").main
    assert main([str(tmp_path / "d")]) == 1
    text = capsys.readouterr().out
    assert f"zero-area: {label}:2: the polygon has no area" in text
    assert f"zero-area: {label}:13" not in text
    assert "zero-area: 2 more (--all prints them)" in text
    assert "not ok: 1 image, 13 objects in 1 part; problems: zero-area 12, repeated 11" in text
    assert main([str(tmp_path / "d"), "--all", "--accept", "zero-area", "repeated"]) == 0
    text = capsys.readouterr().out
    assert f"zero-area: {label}:13" in text
    assert text.rpartition("ok: 1 image,")[0].endswith("\n")


def test_verify_says_how_to_name_classes_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load("synthetic").main(["--out", str(tmp_path / "d"), "--train", "1", "--val", "0", "--size", "100"]) == 0
    box = "1 1 9 1 9 9 1 9"
    label = tmp_path / "d/train/labelTxt/T0000.txt"
    label.write_text(f"{box} ship 0\n2 1 9 1 9 9 2 9 car 0\n1 2 9 2 9 9 1 9 bicycle 0\n")
    capsys.readouterr()
    main = load("verify").main
    assert main([str(tmp_path / "d")]) == 1
    hint = "if bicycle, car are right: --classes bicycle,car,ship\n"
    assert hint in capsys.readouterr().out
    assert main([str(tmp_path / "d"), *hint.split()[-2:]]) == 0
    assert "are right" not in capsys.readouterr().out
