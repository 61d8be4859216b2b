"""tools/show.py as a user meets it: which pictures come out, messages and exit codes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from page_data import page_data

from fdam_rotate.dota.errors import DotaError, OutputExistsError

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Load = Callable[[str], ModuleType]

LABEL = "20 20 80 20 80 80 20 80 ship 0\n"
SHIP = np.array([255, 0, 255])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images a.b (one ship, found), c (background with a false positive) and d (no label file)."""
    for name in ("images", "gt", "det"):
        (tmp_path / name).mkdir()
    for name in ("a.b.png", "c.JPG", "d.png"):
        assert cv2.imwrite(str(tmp_path / "images" / name), np.full((200, 300, 3), 90, np.uint8))
    (tmp_path / "gt" / "a.b.txt").write_text(LABEL)
    (tmp_path / "gt" / "c.txt").write_text("")
    lines = [f"{i} 0.9 120 20 180 20 180 80 120 80\n" for i in ("a.b", "c", "d")]
    (tmp_path / "det" / "Task1_ship.txt").write_text("a.b 0.4 22 20 82 20 82 80 22 80\n" + "".join(lines))
    return tmp_path


def show(load_tool: Load, data: Path, *more: object, det: bool = True, gt: bool = True) -> int:
    words = [str(data / "images")]
    words += [str(data / "det")] if det else []
    words += ["--gt", str(data / "gt")] if gt else []
    return int(load_tool("show").main([*words, "--out", str(data / "out"), "--ext", ".png", *map(str, more)]))


def scored(data: Path, load_tool: Load, classes: str = "ship") -> Path:
    """The file in which evaluate.py writes causes and examples."""
    path = data / "s.json"
    args = [str(data / "det"), "--gt", str(data / "gt"), "--classes", classes, "--causes", "--json", str(path)]
    assert load_tool("evaluate").main(args) == 0
    return path


def picture(data: Path, name: str) -> np.ndarray:
    return cv2.imread(str(data / "out" / f"{name}.png"))


def coloured(image: np.ndarray, x: int, y: int) -> bool:
    return bool((np.abs(image[y - 2 : y + 3, x - 2 : x + 3].astype(int) - SHIP).max(axis=2) < 60).any())


def test_draws_every_image_with_its_verdicts(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(load_tool, data) == 0
    assert sorted(p.name for p in (data / "out").glob("[!.]*")) == ["a.b.png", "c.png", "d.png"]
    told = capsys.readouterr().out
    assert "wrote 3 pictures" in told
    assert "1 without label file" in told
    image = picture(data, "a.b")
    assert image.shape[0] > 200  # the legend
    assert coloured(image, 50, 20)
    assert abs(int(image[50, 50, 2]) - 90) < 3  # found: nothing inside
    assert picture(data, "c")[40, 150, 2] > 120  # false: red inside
    assert abs(int(picture(data, "d")[40, 150, 2]) - 90) < 3  # no label, no verdict
    assert coloured(picture(data, "d"), 150, 20)


def test_truth_alone(data: Path, load_tool: Load) -> None:
    assert show(load_tool, data, det=False) == 0
    assert coloured(picture(data, "a.b"), 50, 20)
    assert not coloured(picture(data, "a.b"), 150, 20)


def test_options_change_the_picture(data: Path, load_tool: Load) -> None:
    def drawn(*more: object, **which: bool) -> np.ndarray:
        assert show(load_tool, data, "--no-legend", "--overwrite", *more, **which) == 0
        return picture(data, "a.b")

    plain = drawn()
    assert plain.shape == (200, 300, 3)
    assert (drawn("--score-thr", "0.5")[50, 50] != plain[50, 50]).any()  # now missed
    assert (drawn("--iou-thr", "0.99")[50, 50] != plain[50, 50]).any()
    assert (drawn("--scores") != plain).any()
    assert (drawn(gt=False)[40, 150] == 90).all()  # without a verdict nothing is false
    (data / "det" / "Task2_ship.txt").write_text("a.b 0.9 22 20 82 80\n")
    assert not coloured(drawn("--task", "2"), 150, 20)
    (data / "list.txt").write_text("a.b\n")
    drawn("--image-list", data / "list.txt")
    assert [p.name for p in (data / "out").glob("[!.]*")] == ["a.b.png"]


def test_objects_of_unknown_classes_are_told(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "gt" / "c.txt").write_text(2 * LABEL.replace("ship", "shp"))
    assert show(load_tool, data) == 0
    assert "warning: 2 objects of class 'shp', which is not in --classes, were left out" in capsys.readouterr().out


def test_unreadable_images_and_lines_are_named_and_the_rest_drawn(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "images" / "c.JPG").write_bytes(b"")
    (data / "gt" / "a.b.txt").write_text(LABEL + "1 2 ship\n")
    assert show(load_tool, data) == 1
    err = capsys.readouterr().err
    assert f"{data / 'images' / 'c.JPG'}: the file is empty" in err
    assert f"{data / 'gt' / 'a.b.txt'}:2:" in err
    assert sorted(p.name for p in (data / "out").glob("[!.]*")) == ["a.b.png", "d.png"]


def test_a_link_that_leads_nowhere_costs_itself_only(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    """As links are left that convert-labels made, when the images were moved."""
    scores = scored(data, load_tool)
    (data / "images" / "a.b.png").unlink()
    (data / "images" / "a.b.png").symlink_to(data / "nowhere.png")
    told = f"{data / 'images' / 'a.b.png'}: cannot be read: No such file or directory"
    capsys.readouterr()
    assert show(load_tool, data) == 1
    assert told in capsys.readouterr().err
    assert sorted(p.name for p in (data / "out").glob("[!.]*")) == ["c.png", "d.png"]
    assert show(load_tool, data, "--examples", scores, "--overwrite", det=False, gt=False) == 1
    assert told in capsys.readouterr().err
    assert [p.name for p in (data / "out").glob("[!.]*")] == ["background_02_c.png"]


def test_listed_images_that_are_not_there_are_named(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "list.txt").write_text("c\nz\n")
    assert show(load_tool, data, "--image-list", data / "list.txt") == 1
    assert "no image z" in capsys.readouterr().err
    assert [p.name for p in (data / "out").glob("[!.]*")] == ["c.png"]


def test_output_and_inputs_are_checked_first(data: Path, run_tool: Run) -> None:
    base = (data / "images", data / "det", "--gt", data / "gt", "--out")
    done = run_tool("show", *base, data / "gt")
    assert (done.returncode, "holds" not in done.stderr and "read and written" in done.stderr) == (1, True)
    assert (data / "gt" / "a.b.txt").exists()
    (data / "det" / "Task1_ship.txt").write_text("a.b__1024__0___0 0.9 0 0 1 0 1 1 0 1\n")
    done = run_tool("show", *base, data / "out")
    assert (done.returncode, "fdam-rotate merge" in done.stderr) == (1, True)
    assert not (data / "out").exists()
    for words in ((data / "nowhere", "--gt", data / "gt"), (data / "images", "--gt", data / "nowhere")):
        done = run_tool("show", *words, "--out", data / "out")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_detections_of_other_images_are_told(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "images" / "d.png").unlink()
    assert show(load_tool, data) == 0
    assert "1 image id of the detections has no image here, for instance d" in capsys.readouterr().out


@pytest.mark.parametrize("more", [(), ("--gt", "x", "--iou-thr", "1"), ("--gt", "x", "--classes", "a,a")], ids=" ".join)
def test_wrong_usage_exits_2(load_tool: Load, more: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_tool("show").main(["images", "--out", "out", *more])
    assert stop.value.code == 2


def test_real_images(dota_sample: Path, tmp_path: Path, load_tool: Load) -> None:
    folder = dota_sample / "val"
    words = [str(folder / "images"), "--gt", str(folder / "labelTxt"), "--out", str(tmp_path / "out")]
    assert load_tool("show").main(words) == 0
    (path,) = (tmp_path / "out").glob("*.jpg")
    image, original = cv2.imread(str(path)), cv2.imread(str(folder / "images" / "P0004.png"))
    assert path.name == "P0004.jpg"
    assert image.shape[1] == original.shape[1]
    assert image.shape[0] > original.shape[0]


def test_the_worst_examples_of_a_score_are_cut_out(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    """What evaluate.py writes is drawn: two false positives on images that are there, one missing image."""
    scores = scored(data, load_tool)
    capsys.readouterr()
    assert show(load_tool, data, "--examples", scores, det=False, gt=False) == 0
    assert sorted(p.name for p in (data / "out").glob("*.png")) == ["background_01_a.b.png", "background_02_c.png"]
    assert "wrote 2 pictures" in capsys.readouterr().out
    assert picture(data, "background_02_c").shape == (504, 480, 3)
    assert coloured(picture(data, "background_02_c"), 240 - 132, 24 + 240)  # half of 60 pixels at 480 / 108
    (data / "images" / "c.JPG").unlink()
    assert show(load_tool, data, "--examples", scores, "--overwrite", det=False, gt=False) == 1
    assert "no image c" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        show(load_tool, data, "--examples", scores, gt=False)
    assert stop.value.code == 2


def test_examples_of_classes_that_are_not_in_the_list_are_drawn(data: Path, load_tool: Load) -> None:
    """``--classes`` of evaluate need not be said again: the list only gives colours."""
    (data / "det" / "Task1_ship.txt").rename(data / "det" / "Task1_my-ship.txt")
    (data / "gt" / "a.b.txt").write_text(LABEL.replace("ship", "my-ship"))
    scores = scored(data, load_tool, "my-ship")
    assert show(load_tool, data, "--examples", scores, det=False, gt=False) == 0
    assert sorted(p.name for p in (data / "out").glob("*.png")) == ["background_01_a.b.png", "background_02_c.png"]
    scores.write_text(scores.read_text().replace('"found": "my-ship"', '"found": [1]'))
    with pytest.raises(DotaError, match=r"\[1\] is no class"):
        show(load_tool, data, "--examples", scores, "--overwrite", det=False, gt=False)


def test_pages_in_place_of_pictures(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(load_tool, data, "--html", "--score-thr", "0.5", gt=False) == 0
    assert "wrote 3 pages" in capsys.readouterr().out
    assert sorted(p.name for p in (data / "out").glob("[!.]*")) == ["a.b.html", "c.html", "d.html"]
    page = page_data((data / "out" / "a.b.html").read_text())
    assert (page["name"], page["width"], page["height"], page["least"]) == ("a.b", 300, 200, 0.5)
    assert page["boxes"]["scores"].tolist() == [0.9, 0.4]
    assert page["boxes"]["corners"][1].tolist() == [22, 20, 82, 20, 82, 80, 22, 80]
    with pytest.raises(OutputExistsError, match="--overwrite"):
        show(load_tool, data, "--html", gt=False)
    (data / "out" / "mine.html").write_text("mine")
    (data / "det" / "Task1_plane.txt").write_text("")
    assert show(load_tool, data, "--html", "--overwrite", "--classes", "plane", gt=False) == 0
    assert len(page_data((data / "out" / "a.b.html").read_text())["boxes"]["scores"]) == 0
    assert (data / "out" / "mine.html").read_text() == "mine"


def test_classes_that_are_not_asked_for_are_left_out(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    """As predict and evaluate take --classes: what is left out is told, and is no bad input."""
    for name in ("plane", "Harbour"):
        (data / "det" / f"Task1_{name}.txt").write_text("c 0.8 20 120 80 120 80 180 20 180\n")
    assert show(load_tool, data, "--classes", "ship,harbor", gt=False) == 0
    told = capsys.readouterr()
    line = "not in --classes were left out: Harbour; did you mean 'harbor'?, plane\n"
    assert line in told.out
    assert "malformed" not in told.err
    assert coloured(picture(data, "c"), 120, 50), "the ship"
    assert not coloured(picture(data, "c"), 20, 150)
    (data / "det" / "Task1_ship.txt").unlink()
    with pytest.raises(DotaError, match=r"none of its classes is in --classes: Harbour, plane$"):
        show(load_tool, data, "--classes", "ship", "--overwrite", gt=False)


def test_pages_name_images_that_cannot_be_read(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "images" / "c.JPG").write_bytes(b"")
    assert show(load_tool, data, "--html", gt=False) == 1
    assert f"{data / 'images' / 'c.JPG'}: the file is empty" in capsys.readouterr().err
    assert sorted(p.name for p in (data / "out").glob("[!.]*")) == ["a.b.html", "d.html"]


@pytest.mark.parametrize("more", [("--scores",), ("--no-legend",)])
def test_options_of_pictures_are_none_of_pages(data: Path, load_tool: Load, more: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        show(load_tool, data, "--html", *more, gt=False)


def test_pages_need_detections_and_show_no_truth(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    for which in ({"det": False}, {"gt": True}):
        with pytest.raises(SystemExit, match="2"):
            show(load_tool, data, "--html", **which)
        assert "--html shows detections: give DETECTIONS, and neither --gt" in capsys.readouterr().err
