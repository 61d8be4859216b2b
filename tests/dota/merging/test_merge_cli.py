"""tools/merge.py: from files to files."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scripts import ROOT, load_script

from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.detections import Detections, read_detections, write_detections
from fdam_rotate.dota.errors import DotaError, OutputExistsError
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.merging.merge import merge_patches
from fdam_rotate.dota.merging.merge_files import merge_files
from fdam_rotate.dota.merging.options import MergeOptions

TOOL = ROOT / "tools" / "merge.py"
tool = load_script("tools/merge.py")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    found = {}
    for name in ("ship", "plane", "harbor"):
        boxes = np.column_stack([rng.uniform(0, 700, (600, 2)), rng.uniform(10, 60, (600, 2)), rng.uniform(-1, 1, 600)])
        ids = tuple(f"P{k // 3}__1024__{k % 3 * 300}___0" for k in range(18))
        polys = le90_to_poly(boxes).round(2)
        found[name] = Detections(ids, rng.integers(0, 18, 600), rng.uniform(0, 1, 600).round(2), polys)
    write_detections(tmp_path / "in", found)
    return tmp_path / "in"


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [*sorted(out.iterdir()), out.with_name(out.name + ".zip")]}


def test_writes_every_class_and_the_zip(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert tool.main([str(source), "--out", str(out)]) == 0
    expected = merge_patches(read_detections(source))
    found = read_detections(out)
    assert list(found) == sorted(DOTA_CLASSES["v1.0"])
    for name, one in expected.items():
        assert found[name].scores.tolist() == one.scores.tolist()
        np.testing.assert_allclose(found[name].polys, one.polys, atol=5e-5)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == [f"Task1_{name}.txt" for name in DOTA_CLASSES["v1.0"]]
        assert all(archive.read(name) == (out / name).read_bytes() for name in archive.namelist())
    kept = sum(map(len, expected.values()))
    text = capsys.readouterr().out
    assert f"6 images, 18 patches: 1,800 detections in, {kept:,} kept ({1800 - kept} suppressed)" in text
    assert "note: no file for baseball-diamond" in text


@pytest.mark.parametrize("more", [{}, {"max_per_image": 40}, {"score_thr": 0.3, "nms": "hbb"}, {"nms": "none"}])
@pytest.mark.parametrize("inputs", [1, 2])
def test_small_batches_change_no_byte(source: Path, tmp_path: Path, more: dict, inputs: int) -> None:
    """All at once, class by class, and through a file per image."""
    results = []
    for k, batch in enumerate((1 << 30, 40_000, 2_000)):
        sources = [source] * inputs
        out = tmp_path / f"o{k}"
        summary = merge_files(sources, out, DOTA_CLASSES["v1.0"], MergeOptions(**more), batch_bytes=batch)
        results.append((str(summary), content(tmp_path / f"o{k}")))
    assert len(set(map(str, [list(r[1].values()) for r in results]))) == 1
    assert results[0][0] == results[1][0] == results[2][0]
    if "max_per_image" in more:
        found = read_detections(tmp_path / "o2")
        ids = [one.image_ids[k] for one in found.values() for k in one.image]
        assert {ids.count(image_id) for image_id in set(ids)} == {40}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_bad_lines_and_lost_patches_are_told(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (source / "Task1_ship.txt").open("a") as stream:
        stream.write("P0__1024__0___0 0.5 1 2 3\nP__0__0___0 0.5 0 0 1 0 1 1 0 1\nP__0__0___0 0.6 0 0 1 0 1 1 0 1\n")
        stream.write("P0__1024__99999999___0 0.5 0 0 1 0 1 1 0 1\n")
    (source / "Task1_shp.txt").write_text("")
    (source / "patches.txt").write_bytes(b"P\xe9__1024__0___0\n")
    assert tool.main([str(source), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "Task1_ship.txt:601: expected id, score and 8 coordinates" in error
    assert "Task1_ship.txt:602: 'P__0__0___0' is not a patch name" in error
    assert "Task1_ship.txt:604: 'P0__1024__99999999___0' would put a box more than" in error
    assert "unknown class 'shp'; did you mean 'ship'?" in error
    assert len(read_detections(tmp_path / "out")["ship"]) > 100


def test_a_lost_patch_behind_a_byte_order_mark_is_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/Task1_ship.txt").write_bytes(b"\xef\xbb\xbfP__0__0___0 0.5 0 0 1 0 1 1 0 1\n")
    assert tool.main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert "Task1_ship.txt:1: 'P__0__0___0' is not a patch name" in capsys.readouterr().err


def test_output_is_checked_first(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "note").write_text("mine")
    (out / "Task1_old.txt").write_text("")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        tool.main([str(source), "--out", str(out)])
    assert tool.main([str(source), "--out", str(out), "--overwrite"]) == 0
    assert (out / "note").read_text() == "mine"
    assert not (out / "Task1_old.txt").exists()
    with pytest.raises(DotaError, match="read and written"):
        tool.main([str(source), "--out", str(source), "--overwrite"])
    (tmp_path / "other.zip").write_text("")
    with pytest.raises(OutputExistsError, match=r"other\.zip exists"):
        tool.main([str(source), "--out", str(tmp_path / "other")])
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*none$"):
        tool.main([str(tmp_path / "none"), "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "bad",
    [
        ["--iou-thr", "2"],
        ["--weights", "1", "1"],
        ["--nproc", "0"],
        ["--score-thr", "nan"],
        ["--fuse", "wbf"],
        ["--classes", "a b"],
    ],
    ids=str,
)
def test_wrong_usage_is_exit_2(source: Path, tmp_path: Path, bad: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tool.main([str(source), "--out", str(tmp_path / "out"), *bad])
    assert caught.value.code == 2


def test_task_2_and_wbf(source: Path, tmp_path: Path) -> None:
    write_detections(tmp_path / "h", read_detections(source), task=2)
    assert tool.main([str(tmp_path / "h"), "--out", str(tmp_path / "o2"), "--task", "2"]) == 0
    assert len((tmp_path / "o2" / "Task2_ship.txt").read_text().splitlines()[0].split()) == 6
    assert (
        tool.main([str(source), str(source), "--out", str(tmp_path / "w"), "--fuse", "wbf", "--weights", "1", "3"]) == 0
    )
    alone = read_detections(source)
    assert len(read_detections(tmp_path / "w")["ship"]) == len(merge_patches(alone)["ship"])


def test_help_needs_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--help"], capture_output=True, text=True, check=True)
    assert "PATCH_DETECTIONS" in done.stdout
    code = f"import sys, runpy; runpy.run_path({str(TOOL)!r}); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
