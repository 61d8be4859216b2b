"""Nothing is lost: a run that is killed, a disk that is full, and every kind of bad input."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from prep_scenes import make_dataset, texture, tree
from scripts import ROOT

from fdam_rotate import __version__
from fdam_rotate.dota.errors import DotaError, ManifestError, OutputExistsError
from fdam_rotate.dota.manifest import read_manifest
from fdam_rotate.dota.rasters import images
from fdam_rotate.dota.splitting import tasks
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split
from fdam_rotate.dota.splitting.tasks import OutputError

OPTIONS = SplitOptions(sizes=[64], gaps=[16])
SCRIPT = ROOT / "data_prep/split.py"


def run(data: Path, out: Path, **options: object) -> dict[str, object]:
    return run_split([data / "images"], [data / "labelTxt"], out, OPTIONS, **options).totals()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(500, 420)] * 10, 0, objects=60)
    command = [sys.executable, str(SCRIPT), "--img-dirs", f"{data}/images", "--ann-dirs", f"{data}/labelTxt"]
    command += ["--sizes", "64", "--gaps", "16", "--nproc", "2", "--accept", "outside", "--out"]
    assert subprocess.run([*command, str(tmp_path / "whole")], capture_output=True).returncode == 0
    out = tmp_path / "killed"
    process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = out / ".split/records"
    deadline = time.monotonic() + 60
    while len(list(records.glob("*.json"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path.stem for path in records.glob("*.json")}
    assert 2 <= len(finished) < 10, "the kill came too early or too late to prove anything"
    assert not (out / "manifest.json").exists()
    deadline = time.monotonic() + 30  # the workers notice that their parent is gone, and end
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) >= 2
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    # what is seen is whole
    for path in (out / "images").iterdir():
        assert cv2.imread(str(path)) is not None
    kept = {
        path: path.stat().st_mtime_ns for path in (out / "images").iterdir() if path.name.split("__")[0] in finished
    }
    assert subprocess.run([*command, str(out)], capture_output=True).returncode == 0
    assert tree(out) == tree(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished images were written again"


def test_a_finished_run_is_done_again_without_work(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(100, 90), (70, 70)], 0)
    run(data, tmp_path / "out")
    before = tree(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/images").iterdir()}
    run(data, tmp_path / "out")
    assert tree(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize("change", ["image", "label", "patch lost", "patch cut short", "text lost"])
def test_what_has_changed_is_done_again(change: str, tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(100, 90), (70, 70)], 0)
    run(data, tmp_path / "out")
    patch = tmp_path / "out/images/P0001__64__0___0.png"
    if change == "image":
        cv2.imwrite(str(data / "images/P0001.png"), texture(np.random.default_rng(9), 70, 70))
    elif change == "label":
        (data / "labelTxt/P0001.txt").write_text("1 1 9 1 9 9 1 9 ship 0\n")
    elif change == "patch lost":
        patch.unlink()
    elif change == "patch cut short":
        patch.write_bytes(patch.read_bytes()[:-1])
    else:
        (tmp_path / "out/annfiles/P0001__64__0___0.txt").unlink()
    run(data, tmp_path / "out")
    run(data, tmp_path / "afresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "afresh")


def test_patches_that_a_change_leaves_over_are_removed(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(100, 90), (70, 70)], 0)
    run(data, tmp_path / "out")
    cv2.imwrite(str(data / "images/P0001.png"), texture(np.random.default_rng(9), 60, 60))
    run(data, tmp_path / "out")
    run(data, tmp_path / "afresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "afresh")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_that_fails_half_way_leaves_no_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rasterio = pytest.importorskip("rasterio")
    data = make_dataset(tmp_path / "data", [(90, 400), (70, 70)], 0)
    long = data / "images/P0000.png"
    layout = {"driver": "GTiff", "width": 90, "height": 400, "count": 3, "dtype": "uint8", "blockysize": 1}
    with rasterio.open(long, "w", **layout) as file:
        file.write(np.full((3, 400, 90), 7, np.uint8))
    long.write_bytes(long.read_bytes()[: long.stat().st_size * 3 // 4])
    monkeypatch.setattr(images, "LARGEST_WHOLE", 0)  # in bands: the upper patches are written before the damage shows
    written: list[str] = []
    replace = os.replace
    monkeypatch.setattr(tasks.os, "replace", lambda a, b: (written.append(Path(b).name), replace(a, b)))
    (tmp_path / "out/images").mkdir(parents=True)
    (tmp_path / "out/.split").mkdir()
    (tmp_path / "out/.split/settings.json").write_text(json.dumps({**OPTIONS.to_json(), "tool_version": __version__}))
    (tmp_path / "out/images/mine.png").write_bytes(b"")
    # as a killed run leaves it: the patches of an image that has no record
    (tmp_path / "out/annfiles").mkdir()
    (tmp_path / "out/annfiles/P0000__64__48___0.txt").write_text("")
    (tmp_path / "out/annfiles/mine.txt").write_text("")
    assert run(data, tmp_path / "out")["skipped"] == 1
    assert any(name.startswith("P0000__") for name in written)
    ids = read_manifest(tmp_path / "out").patch_ids()
    assert ids[0].startswith("P0001__")
    assert sorted(path.stem for path in (tmp_path / "out/images").iterdir()) == sorted([*ids, "mine"])
    assert sorted(path.stem for path in (tmp_path / "out/annfiles").iterdir()) == sorted([*ids, "mine"])


def test_an_output_of_something_else_is_refused(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(70, 70), (80, 80)], 0)
    folders = ([data / "images"], [data / "labelTxt"])
    run(data, tmp_path / "out")
    with pytest.raises(OutputExistsError, match=r"gaps \[16\] there and \[8\] here"):
        run_split(*folders, tmp_path / "out", SplitOptions(sizes=[64], gaps=[8]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep me")
    with pytest.raises(OutputExistsError, match="is no split of ours"):
        run(data, tmp_path / "mine")
    assert tree(tmp_path / "mine") == {"notes.txt": b"keep me"}
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputExistsError, match="is a file"):
        run(data, tmp_path / "file")
    (data / "images/P0001.png").unlink()
    with pytest.raises(OutputExistsError, match="'P0001', which is not among the images"):
        run(data, tmp_path / "out")


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [(70, 70)], 0)
    (tmp_path / "out/.split/records").mkdir(parents=True)
    (tmp_path / "out/.split/settings.json").write_text("{")
    with pytest.raises(ManifestError, match="a record is damaged"):
        run(data, tmp_path / "out")


def test_a_full_disk_ends_cleanly_and_the_next_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(tmp_path / "data", [(150, 150)] * 3, 0)
    room = [14]  # files that still fit: the settings, one image with nine patches, and a part of the second
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(tasks.os, "replace", full)
        with pytest.raises(OutputError, match=r"cannot write .*out/(images|annfiles)/.*No space left on device"):
            run(data, tmp_path / "out")
    assert not list((tmp_path / "out/.split/tmp").iterdir())
    run(data, tmp_path / "out")
    run(data, tmp_path / "afresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "afresh")


def test_an_output_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*a.png: No such file or directory"):
        tasks.write_bytes(tmp_path, "images/a.png", b"data")


def bad_data(root: Path) -> Path:
    """Images of which ``good`` alone is without fault."""
    data = make_dataset(root, [(70, 60)], 0, objects=0)
    for folder, ending in (("images", ".png"), ("labelTxt", ".txt")):
        (data / folder / f"P0000{ending}").rename(data / folder / f"good{ending}")
    image = (data / "images/good.png").read_bytes()
    square = "1 1 9 1 9 9 1 9 ship 0\n"
    labels = {
        "crlf": ("imagesource:x\r\ngsd:null\r\n" + square.replace("\n", "\r\n")).encode(),
        "latin": b"1 1 9 1 9 9 1 9 h\xfctte 0\n" + square.encode(),
        "utf16": square.encode("utf-16"),
        "malformed": b"1 1 9 1 9 9 1 ship 0\n" + square.encode(),
        "nine": b"1 1 9 1 9 9 1 9 ship\n",
        "numbers": b"1 1 9 1 nan 9 1 9 ship 0\n1 1 9 1 1e9 9 1 9 ship 0\n" + square.encode(),
        "shapes": b"1 1 9 1 9 1 1 1 ship 0\n1 1 9 9 9 1 1 9 ship 0\n" + square.encode(),
        "spelling": b"1 1 9 1 9 9 1 9 Ship 0\n",
    }
    for name, text in labels.items():
        (data / f"images/{name}.png").write_bytes(image)
        (data / f"labelTxt/{name}.txt").write_bytes(text)
    (data / "images/zero.png").write_bytes(b"")
    (data / "images/half.png").write_bytes(image[: len(image) // 2])
    for name in ("zero", "half"):
        (data / f"labelTxt/{name}.txt").write_text(square)
    (data / "images/unlabelled.png").write_bytes(image)
    (data / "images/link.png").symlink_to(root / "nowhere.png")
    (data / "labelTxt/link.txt").write_text("")
    (data / f"images/{LONG}.png").write_bytes(image)
    (data / f"labelTxt/{LONG}.txt").write_text("")
    (data / "labelTxt/orphan.txt").write_text(square)
    return data


LONG = "x" * 245  # no room for the place of a patch behind it

TOLD = {
    ("latin.txt", 1, "malformed"), ("utf16.txt", 1, "malformed"), ("malformed.txt", 1, "malformed"),
    ("numbers.txt", 1, "malformed"), ("numbers.txt", 2, "malformed"), ("shapes.txt", 1, "zero-area"),
    ("shapes.txt", 2, "self-crossing"), ("spelling.txt", 1, "class"), ("zero.png", 0, "image"),
    ("half.png", 0, "image"), ("link.png", 0, "image"), (f"{LONG}.png", 0, "id"),
    ("unlabelled.png", 0, "no-label"), ("orphan.txt", 0, "no-image"),
}  # fmt: skip


@pytest.mark.parametrize("nproc", [1, 2])
def test_bad_input_is_told_and_the_rest_is_done(nproc: int, tmp_path: Path) -> None:
    data = bad_data(tmp_path / "data")
    totals = run(data, tmp_path / "out", nproc=nproc)
    manifest = read_manifest(tmp_path / "out")
    assert {(Path(p["file"]).name, p["line"], p["kind"]) for p in manifest.all_problems()} == TOLD
    ids = {image["id"]: image for image in manifest.images}
    assert sorted(ids) == sorted(
        ["crlf", "good", "latin", "malformed", "nine", "numbers", "shapes", "spelling", "unlabelled", "utf16"]
    )
    square = "1.0 1.0 9.0 1.0 9.0 9.0 1.0 9.0 ship 0\n"
    for name in ("crlf", "latin", "malformed", "nine", "numbers"):
        assert (tmp_path / f"out/annfiles/{name}__64__0___0.txt").read_text() == square, name
    assert totals["skipped"] == 4
    texts = {Path(p["file"]).name: p["text"] for p in manifest.all_problems()}
    assert texts["link.png"] == "cannot be read: No such file or directory"
    assert texts[f"{LONG}.png"].startswith("its image id has 245 bytes; at most 200")
    assert ids["numbers"]["objects"] == {"in": 3, "kept": 1, "cut": 0, "dropped": {"malformed": 2}}
    assert ids["shapes"]["objects"] == {"in": 3, "kept": 2, "cut": 0, "dropped": {"zero-area": 1}}
    assert len(list((tmp_path / "out/images").glob("unlabelled__*"))) == 2
    # bad images are tried again, and the end is the same
    before = tree(tmp_path / "out")
    run(data, tmp_path / "out", nproc=nproc)
    assert tree(tmp_path / "out") == before


def test_strict_stops_at_the_first_problem(tmp_path: Path) -> None:
    data = bad_data(tmp_path / "data")
    with pytest.raises(DotaError, match=r"no label file|no image for this label"):
        run(data, tmp_path / "out", strict=True)
    with pytest.raises(DotaError, match=r"half.png: cannot be decoded"):
        run(data, tmp_path / "out", strict=True, accept=["no-label", "no-image", "id"])
    kinds = sorted({kind for _, _, kind in TOLD})
    assert run(data, tmp_path / "out", strict=True, accept=kinds)["images"] == 10
