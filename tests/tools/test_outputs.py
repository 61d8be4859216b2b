"""No command removes or replaces what it did not write, whatever --overwrite says; each runs over foreign files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from scripts import load_script

from fdam_rotate.dota.errors import DotaError, OutputExistsError
from fdam_rotate.dota.outputs import check_inputs, claim_file, claim_folder, earlier_files, recorded, remove_files

LABEL = "20 20 80 20 80 80 20 80 ship 0\n"
FOUND = "a 0.9 20 20 80 20 80 80 20 80\n"
FOREIGN = {"notes.txt": "mine", "thesis/chapter.tex": "two years", "images/other.png": "a photo", ".hidden": "h"}

Tree = dict[str, bytes]


def tree(folder: Path) -> Tree:
    """All files below a folder, with their bytes; links as where they lead."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small data set, detections on its images and on patches, and a zip to check."""
    root = tmp_path / "data"
    for name in ("a", "b"):
        (root / "set" / "images").mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / "set" / "images" / f"{name}.png"), np.full((100, 120, 3), 90, np.uint8))
    fill(root, {"set/labelTxt/a.txt": LABEL, "set/labelTxt/b.txt": "", "found/Task1_ship.txt": FOUND})
    fill(root, {"patches/Task1_ship.txt": FOUND.replace("a ", "a__1024__0___0 ")})
    return root


class Tool(NamedTuple):
    """A command as these tests run it: its words, one of the files that it writes, its input folders."""

    script: str
    words: Callable[[Path, Path], list[object]]
    written: str
    inputs: tuple[str, ...]


TOOLS = {
    "show": Tool(
        "tools/show.py",
        lambda d, out: [d / "set/images", d / "found", "--gt", d / "set/labelTxt", "--out", out, "--ext", ".png"],
        "a.png",
        ("set/images", "found", "set/labelTxt", "set"),
    ),
    "show-html": Tool(
        "tools/show.py",
        lambda d, out: [d / "set/images", d / "found", "--html", "--out", out],
        "a.html",
        ("set/images", "found", "set"),
    ),
    "merge": Tool("tools/merge.py", lambda d, out: [d / "patches", "--out", out], "Task1_ship.txt", ("patches",)),
    "evaluate": Tool(
        "tools/evaluate.py",
        lambda d, out: [d / "found", "--gt", d / "set/labelTxt", "--plot-dir", out],
        "ap.png",
        ("found", "set/labelTxt", "set"),
    ),
    "convert-labels": Tool(
        "data_prep/convert_labels.py",
        lambda d, out: [d / "set", "--out", out, "--to", "yolo-obb"],
        "data.yaml",
        ("set",),
    ),
    "synthetic": Tool(
        "data_prep/synthetic.py",
        lambda d, out: ["--out", out, "--train", 2, "--val", 0, "--size", 64, "--nproc", 1],
        "train/images/T0001.png",
        (),
    ),
}


def run(name: str, data: Path, out: Path, *more: object) -> int:
    tool = TOOLS[name]
    return int(load_script(tool.script).main([str(word) for word in (*tool.words(data, out), *more)]))


@pytest.mark.parametrize("name", TOOLS)
def test_foreign_files_stay_and_own_ones_are_replaced(name: str, data: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "out", tree(data)
    fill(out, FOREIGN)
    foreign = tree(out)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        run(name, data, out)
    assert tree(out) == foreign
    assert run(name, data, out, "--overwrite") == 0
    first = tree(out)
    assert foreign.items() <= first.items()
    assert TOOLS[name].written in first
    (out / TOOLS[name].written).write_text("old")
    fill(out, {"later.txt": "mine too"})
    assert run(name, data, out, "--overwrite") == 0
    assert tree(out) == {**first, "later.txt": b"mine too"}
    assert tree(data) == before


@pytest.mark.parametrize("name", TOOLS)
def test_a_foreign_file_or_folder_in_the_way_stops_before_anything_is_touched(
    name: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(name, data, out)
    for kind in ("folder", "link"):
        target = out / TOOLS[name].written
        target.unlink()
        elsewhere = tmp_path / "precious"
        elsewhere.write_text("mine")
        if kind == "folder":
            fill(target, FOREIGN)
        elif TOOLS[name].script == "tools/merge.py" or name == "evaluate":  # the others know their files by record
            target.symlink_to(elsewhere)
        before = tree(out)
        if kind == "folder" or target.is_symlink():
            with pytest.raises(OutputExistsError, match="was not written by this command"):
                run(name, data, out, "--overwrite")
            assert tree(out) == before
        assert elsewhere.read_text() == "mine"
        shutil.rmtree(target) if kind == "folder" else target.unlink(missing_ok=True)
        target.write_text("own again")


@pytest.mark.parametrize("name", ["show", "convert-labels", "synthetic"])
def test_a_foreign_file_of_a_name_to_be_written_is_kept(name: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, {**FOREIGN, TOOLS[name].written: "not this command's"})
    before = tree(out)
    with pytest.raises(OutputExistsError, match=f"{TOOLS[name].written} was not written by this command"):
        run(name, data, out, "--overwrite")
    assert tree(out) == before


@pytest.mark.parametrize(
    ("name", "source"), [(name, source) for name, tool in TOOLS.items() for source in tool.inputs], ids=str
)
@pytest.mark.parametrize("through", ["itself", "its parent", "a link to it", "dots"])
def test_an_output_that_is_or_holds_an_input_is_refused(
    name: str, source: str, through: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(data)
    out = data / source
    if through == "its parent":
        out = out.parent
    elif through == "a link to it":
        out = tmp_path / "link"
        out.symlink_to(data / source)
    elif through == "dots":
        monkeypatch.chdir(data / source)
        out = Path()
    with pytest.raises(DotaError, match=r"would be read and written|holds the input"):
        run(name, data, out, "--overwrite")
    assert tree(data) == before


@pytest.mark.parametrize(("name", "inner"), [("convert-labels", "labels"), ("synthetic", "train")])
def test_nothing_is_written_or_removed_through_a_link_that_leads_out(
    name: str, inner: str, data: Path, tmp_path: Path
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    run(name, data, out)
    shutil.move(out / inner, elsewhere)  # the very files of the earlier run, now somewhere else
    (out / inner).symlink_to(elsewhere)
    before = tree(elsewhere), tree(out)
    with pytest.raises(OutputExistsError, match=f"{inner}.* is a link that leads out"):
        run(name, data, out, "--overwrite")
    assert (tree(elsewhere), tree(out)) == before


def test_files_that_are_inputs_or_lie_in_one_are_not_replaced(data: Path, tmp_path: Path) -> None:
    before = tree(data)
    label, zipped = data / "set/labelTxt/a.txt", data / "found.zip"
    evaluate, verify, submit = (
        load_script(name).main for name in ("tools/evaluate.py", "data_prep/verify.py", "tools/submit.py")
    )
    score = [str(data / "found"), "--gt", str(data / "set/labelTxt")]
    for option in ("--json", "--markdown"):
        with pytest.raises(OutputExistsError, match="in the input"):
            evaluate([*score, option, str(label), "--overwrite"])
    with pytest.raises(OutputExistsError, match="in the input"):
        verify([str(data / "set"), "--json", str(label), "--overwrite"])
    assert tree(data) == before
    assert submit([str(data / "found"), "--out", str(zipped)]) == 0
    packed = zipped.read_bytes()
    with pytest.raises(OutputExistsError, match="read and written"):
        submit([str(zipped), "--out", str(zipped), "--overwrite"])
    assert zipped.read_bytes() == packed
    report = tmp_path / "report.json"
    for main, words in ((evaluate, [*score, "--json"]), (verify, [str(data / "set"), "--json"])):
        assert main([*words, str(report)]) == 0
        with pytest.raises(OutputExistsError, match="--overwrite"):
            main([*words, str(report)])
        report.unlink()
        report.symlink_to(label)  # a link is replaced, and what it leads to is not
        with pytest.raises(OutputExistsError):
            main([*words, str(report), "--overwrite"])
        assert label.read_text() == LABEL
        report.unlink()


def test_a_split_neither_follows_links_nor_removes_patches_of_other_images(data: Path, tmp_path: Path) -> None:
    split = load_script("data_prep/split.py").main
    out = tmp_path / "out"
    argv = ["--img-dirs", str(data / "set/images"), "--ann-dirs", str(data / "set/labelTxt"), "--out"]
    sizes = ["--sizes", "64", "--gaps", "16", "--nproc", "1"]
    with pytest.raises(OutputExistsError, match="holds the input"):
        split([*argv, str(data), *sizes])
    assert split([*argv, str(out), *sizes]) == 0
    first = tree(out)
    foreign = {"annfiles/other__64__0___0.txt": "a patch of another data set", "images/mine.png": "x"}
    fill(out, foreign)
    assert split([*argv, str(out), *sizes]) == 0
    assert tree(out) == {**first, **{name: text.encode() for name, text in foreign.items()}}
    shutil.move(out / "images", tmp_path / "elsewhere")
    (out / "images").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError, match="leads out"):
        split([*argv, str(out), *sizes])
    assert tree(tmp_path / "elsewhere") == before


def test_a_record_names_only_files_of_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(tmp_path, {"precious.txt": "mine"})
    claim_folder(out, ["a/b.txt"], record="show")
    (record,) = out.iterdir()
    for names in (["../precious.txt"], [str(tmp_path / "precious.txt")], [""], [3], None):
        record.write_text(json.dumps({"files": names}))
        with pytest.raises(OutputExistsError, match="is damaged"):
            claim_folder(out, ["a/b.txt"], record="show", overwrite=True)
    record.write_text("{")
    with pytest.raises(OutputExistsError, match="is damaged"):
        claim_folder(out, ["a/b.txt"], record="show", overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_folder_is_made_with_those_above_it_and_a_file_in_its_way_is_named(tmp_path: Path) -> None:
    out = claim_folder(tmp_path / "new/runs/out", ["x/y.txt"])
    assert out.is_dir()
    fill(out, {"x": "mine"})
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="exists and is not empty" if not overwrite else "x is a file"):
            claim_folder(out, ["x/y.txt"], overwrite=overwrite)
    assert (out / "x").read_text() == "mine"


def test_emptied_folders_go_and_others_stay(tmp_path: Path) -> None:
    fill(tmp_path, {"a/b/c.txt": "", "a/b/d.txt": "", "e/f.txt": ""})
    (tmp_path / "empty").mkdir()
    remove_files(tmp_path, ["a/b/c.txt", "e/f.txt", "e/missing.txt", "empty"])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "d.txt", "empty"]


def test_what_appears_in_a_recorded_block_can_be_replaced_later(tmp_path: Path) -> None:
    fill(tmp_path, {"mine.txt": ""})
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")

    def step() -> None:
        with recorded(tmp_path, "demo"):
            fill(tmp_path, {"x/y.txt": "", "out/z.txt": ""})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step()
    assert earlier_files(tmp_path, record="demo") == {"x/y.txt", "out/z.txt"}
    claim_folder(tmp_path, [], record="demo", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".fdam_rotate-demo.json", "link", "mine.txt"]


def test_inputs_that_are_missing_or_not_given_are_passed_over(tmp_path: Path) -> None:
    check_inputs(tmp_path / "out", [None, tmp_path / "out", tmp_path])
    fill(tmp_path, {"x/y.txt": ""})
    with pytest.raises(OutputExistsError, match="read and written"):
        check_inputs(tmp_path / "x/y.txt", [tmp_path / "x" / ".." / "x" / "y.txt"])
    with pytest.raises(OutputExistsError, match="is a folder"):
        claim_file(tmp_path, overwrite=True)
