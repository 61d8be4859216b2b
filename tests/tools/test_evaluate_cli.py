"""tools/evaluate.py as a user meets it: numbers, files, messages and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from fdam_rotate.dota.errors import DotaError, ScoreError
from fdam_rotate.dota.manifest import Manifest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Load = Callable[[str], ModuleType]

SHIP = "0 0 10 0 10 10 0 10 ship 0\n"
PLANE = "50 0 60 0 60 10 50 10 plane 0\n"
HIT = "a 0.9 0 0 10 0 10 10 0 10\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images, one of them background, and detections of two classes."""
    write(tmp_path / "gt", {"a.txt": "imagesource:x\ngsd:null\n" + SHIP + PLANE, "b.txt": ""})
    write(tmp_path / "det", {"Task1_ship.txt": HIT, "Task1_plane.txt": "b 0.8 0 0 10 0 10 10 0 10\n"})
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def words(data: Path, *more: object) -> list[str]:
    return [str(data / "det"), "--gt", str(data / "gt"), "--classes", "ship,plane", *map(str, more)]


def test_equals_the_devkit_from_text_to_json(devkit_case: Path, tmp_path: Path, load_tool: Load) -> None:
    expected = json.loads((devkit_case / "expected.json").read_text())
    with zipfile.ZipFile(tmp_path / "merged.zip", "w") as archive:
        for path in (devkit_case / "merged").iterdir():
            archive.write(path, path.name)
    for source, name in ((devkit_case / "det", "det"), (tmp_path / "merged.zip", "merged")):
        for metric in ("voc07", "voc12"):
            out = tmp_path / f"{name}.json"
            args = [str(source), "--gt", str(devkit_case / "labelTxt"), "--metric", metric, "--json", str(out)]
            args += ["--overwrite"]
            assert load_tool("evaluate").main([*args, "--iou-thr", "0.75", "0.5"]) == 0
            scores = json.loads(out.read_text())
            assert scores["ap"] == pytest.approx(expected[f"{name}-{metric}-0.75"], abs=1e-6)
            assert scores["by_iou"]["0.5"]["ap"] == pytest.approx(expected[f"{name}-{metric}-0.5"], abs=1e-6)
            assert scores["map"] == pytest.approx(sum(expected[f"{name}-{metric}-0.75"].values()) / 15, abs=1e-6)


def test_prints_and_writes_everything(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "out"
    code = load_tool("evaluate").main(
        words(data, "--json", out / "s.json", "--markdown", out / "s.md", "--plot-dir", out / "p")
    )
    text = capsys.readouterr().out
    assert code == 0
    assert "AP50" in text
    assert "2 images scored, 1 of them without objects" in text
    assert text.rstrip().endswith("mAP 0.5000")  # ship 1, plane 0
    scores = json.loads((out / "s.json").read_text())
    assert scores["ap"] == {"ship": pytest.approx(1.0), "plane": 0.0}
    assert list(scores["by_iou"]) == ["0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95"]
    assert {"by_size", "confusion", "worst_images", "images"} <= set(scores)
    assert (out / "s.md").read_text().startswith("# Scores of det")
    assert len(list((out / "p").glob("*.png"))) == 5


def test_metric_iou_task_and_score_thr_reach_the_numbers(data: Path, load_tool: Load) -> None:
    write(data / "gt", {"b.txt": SHIP})
    out = data / "s.json"

    def scores(*more: object) -> dict[str, object]:
        assert load_tool("evaluate").main(words(data, "--json", out, "--overwrite", *more)) == 0
        return dict(json.loads(out.read_text()))

    assert scores("--metric", "voc12")["ap"]["ship"] == pytest.approx(0.5)  # one of two found
    assert scores("--metric", "voc07")["ap"]["ship"] == pytest.approx(6 / 11)
    assert scores("--plot-dir", data / "p", "--score-thr", "0.95")["confusion"]["matrix"][0] == [0, 0, 2]
    assert scores("--plot-dir", data / "p", "--score-thr", "0.85")["confusion"]["matrix"][0] == [1, 0, 1]
    assert scores("--plot-dir", data / "p", "--score-thr", "0.5")["confusion"]["matrix"][0] == [
        1,
        1,
        0,
    ]  # a plane found where b's ship is
    (data / "det" / "Task1_ship.txt").write_text(HIT.replace("10", "14"))  # 100 / 196 = 0.51
    assert scores("--iou-thr", "0.5")["ap"]["ship"] > 0
    assert scores("--iou-thr", "0.6")["ap"]["ship"] == 0
    write(data / "det", {"Task2_ship.txt": "a 0.9 0 0 10 10\nb 0.8 0 0 10 10\n"})
    assert scores("--task", "2")["ap"]["ship"] == pytest.approx(1.0)


def test_image_list_limits_what_is_scored(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "list.txt").write_text("a\n\n")
    out = data / "s.json"
    assert load_tool("evaluate").main(words(data, "--json", out, "--image-list", data / "list.txt")) == 0
    assert json.loads(out.read_text())["images"]["scored"] == 1
    (data / "list.txt").write_text("a.png\nmissing.png\n")
    assert load_tool("evaluate").main(words(data, "--json", out, "--image-list", data / "list.txt", "--overwrite")) == 1
    assert "no labels of the listed image missing, so it is not scored" in capsys.readouterr().err
    assert json.loads(out.read_text())["images"]["scored"] == 1


def test_scored_images_that_were_trained_on_are_told(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "train.txt").write_text("b.png\nc.png\n")
    out = data / "s.json"
    assert load_tool("evaluate").main(words(data, "--train-list", data / "train.txt", "--json", out)) == 0
    assert "warning: 1 of the 2 scored images were trained on (b)" in capsys.readouterr().out
    assert json.loads(out.read_text())["images"]["trained_on"] == ["b"]


def test_bad_lines_are_named_the_rest_is_scored_and_the_exit_code_is_1(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    write(data / "gt", {"a.txt": SHIP + PLANE + "1 2 3 ship\n"})
    write(data / "det", {"Task1_ship.txt": HIT + "a high 0 0 10 0 10 10 0 10\n"})
    assert load_tool("evaluate").main(words(data, "--json", data / "s.json")) == 1
    err = capsys.readouterr().err
    assert f"{data / 'gt' / 'a.txt'}:3:" in err
    assert f"{data / 'det' / 'Task1_ship.txt'}:2:" in err
    assert json.loads((data / "s.json").read_text())["ap"]["ship"] == pytest.approx(1.0)


def test_unknown_classes_and_missing_and_empty_files_are_told(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    write(data / "gt", {"b.txt": "0 0 9 0 9 9 0 9 Ship 0\n"})
    write(data / "det", {"Task1_plane.txt": "", "Task1_boat.txt": HIT})
    args = words(data)
    args[args.index("ship,plane")] = "ship,plane,harbor"
    assert load_tool("evaluate").main(args) == 0
    out = capsys.readouterr().out
    assert "1 object of class 'Ship', which is not in the class list, was left out (did you mean ship?)" in out
    assert "1 detection of class 'boat', which is not in the class list, was left out" in out
    assert "1 class has no file Task1_<class>.txt (harbor)" in out
    assert "no detection on a scored image of 1 class (plane)" in out


MEANINGLESS = [
    pytest.param({}, {"a.txt": "", "b.txt": ""}, "no ground truth", id="no objects"),
    pytest.param({}, {"a.txt": SHIP.replace("ship", "boat"), "b.txt": ""}, "no ground truth", id="other classes"),
    pytest.param({"Task1_ship.txt": "", "Task1_plane.txt": ""}, {}, "no detection of the classes", id="empty files"),
    pytest.param(
        {"Task1_ship.txt": HIT.replace("a ", "z "), "Task1_plane.txt": ""}, {}, "none of the 1", id="other ids"
    ),
    pytest.param({"Task1_ship.txt": HIT.replace("a ", "a__1024__0___0 ")}, {}, "fdam-rotate merge", id="patches"),
]


@pytest.mark.parametrize(("det", "gt", "message"), MEANINGLESS)
def test_a_number_that_would_mean_nothing_exits_2(
    data: Path, run_tool: Run, det: dict[str, str], gt: dict[str, str], message: str
) -> None:
    write(data / "det", det)
    write(data / "gt", gt)
    done = run_tool("evaluate", *words(data, "--json", data / "s.json"))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (data / "s.json").exists()


def test_a_folder_without_detection_files_exits_2_and_missing_folders_1(data: Path, run_tool: Run) -> None:
    done = run_tool("evaluate", data / "gt", "--gt", data / "gt")
    assert (done.returncode, "Task1_<class>.txt" in done.stderr) == (2, True)
    done = run_tool("evaluate", data / "nowhere", "--gt", data / "gt")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    done = run_tool("evaluate", data / "det", "--gt", data / "nowhere")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    "more",
    [
        ("--iou-thr", "half"),
        ("--iou-thr", "1.5"),
        ("--score-thr", "nan"),
        ("--metric", "voc10"),
        ("--task", "3"),
        ("--classes", "ship,ship"),
        ("--classes", "none.txt"),
        ("--json", "FOLDER"),
        ("--latex", "FOLDER"),
        ("--bootstrap", "0"),
        ("--patches", "FOLDER"),
        ("--seed", "-1"),
        ("--plot-dir", "FILE"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(data: Path, load_tool: Load, more: tuple[str, str]) -> None:
    places = {"FOLDER": str(data), "FILE": str(data / "gt" / "a.txt")}
    with pytest.raises(SystemExit) as stop:
        load_tool("evaluate").main(words(data, more[0], places.get(more[1], more[1])))
    assert stop.value.code == 2


def test_help_is_quick_to_come_and_runs_from_any_folder(tmp_path: Path, run_tool: Run) -> None:
    done = run_tool("evaluate", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--iou-thr" in done.stdout
    assert "Example" in done.stdout


def test_scoring_needs_no_torch_and_no_matplotlib(data: Path, load_tool: Load) -> None:
    path = Path(load_tool("evaluate").__file__)
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['evaluate', *{words(data)!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0, stop.code\n"
        "print([m for m in ('torch', 'mmcv', 'matplotlib', 'cv2', 'scipy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# -- how sure it is ---------------------------------------------------------------------------------------------------


def test_bootstrap_reaches_table_json_and_markdown_and_tells_its_cost(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    write(data / "gt", {"b.txt": SHIP})
    out = [*("--json", data / "s.json"), *("--markdown", data / "s.md"), *("--latex", data / "s.tex")]
    assert load_tool("evaluate").main(words(data, "--bootstrap", "50", "--seed", "3", *out)) == 0
    text = capsys.readouterr().out
    assert "95% interval" in text
    assert "50 draws of 2 source images, seed 3" in text
    assert "warning: intervals from 2 images are too narrow" in text
    assert "CPU seconds: reading" in text
    intervals = json.loads((data / "s.json").read_text())["intervals"]
    assert (intervals["resamples"], intervals["seed"], intervals["images"]) == (50, 3, 2)
    # a's ship is found, b's is not: draws of a alone give 1, of b alone 0
    assert (intervals["ap"]["ship"]["low"], intervals["ap"]["ship"]["high"]) == (0, 1)
    assert "| AP50 | 95% interval |" in (data / "s.md").read_text()
    assert r"\toprule" in (data / "s.tex").read_text()
    assert load_tool("evaluate").main(words(data, "--json", data / "s.json", "--overwrite")) == 0
    assert "intervals" not in json.loads((data / "s.json").read_text())
    assert "interval" not in capsys.readouterr().out


def test_versus_compares_runs_by_class(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    write(data / "gt", {"b.txt": SHIP})
    both = {"Task1_ship.txt": HIT + HIT.replace("a ", "b "), "Task1_plane.txt": ""}
    write(data / "det2", both)
    args = words(data, "--json", data / "s.json", "--versus", data / "det2", data / "det2", "--bootstrap", "40")
    assert load_tool("evaluate").main(args) == 0
    text = capsys.readouterr().out
    assert f"A: {data / 'det'}: mAP" in text
    assert text.count(f"B: {data / 'det2'}: mAP") == 2
    scores = json.loads((data / "s.json").read_text())
    assert scores["runs"] == {"a": [str(data / "det")], "b": [str(data / "det2")] * 2}
    ship = scores["versus"]["ap"]["ship"]
    assert (ship["first"], ship["second"]) == (pytest.approx(6 / 11), 1.0)
    assert ship["value"] == pytest.approx(5 / 11)
    assert scores["versus"]["resamples"] == 40
    assert text.splitlines()[-1].startswith("mAP 0.2727 -> 0.5000: +0.2273 (")


def test_ties_that_matter_are_told(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    write(data / "det", {"Task1_ship.txt": HIT + HIT.replace("0 0 10 0 10 10 0 10", "90 0 99 0 99 9 90 9")})
    assert load_tool("evaluate").main(words(data, "--json", data / "s.json")) == 0
    assert "warning: 2 detections share their score" in capsys.readouterr().out
    assert json.loads((data / "s.json").read_text())["ties"]["ap"]["ship"] == [0.5, 1.0]


def test_ultralytics_and_coco_are_scored_as_they_are(data: Path, load_tool: Load) -> None:
    record = {
        "image_id": "a",
        "file_name": "a.png",
        "category_id": 1,
        "score": 0.9,
        "poly": [0, 0, 10, 0, 10, 10, 0, 10],
    }
    (data / "predictions.json").write_text(json.dumps([record]))
    args = [str(data / "predictions.json"), "--gt", str(data / "gt"), "--classes", "ship,plane"]
    args += ["--json", str(data / "s.json"), "--first-class", "1"]
    assert load_tool("evaluate").main(args) == 0
    assert json.loads((data / "s.json").read_text())["ap"] == {"ship": 1.0, "plane": 0.0}
    truth = {
        "images": [{"id": 7, "file_name": "a.png", "width": 99, "height": 99}],
        "categories": [{"id": 3, "name": "ship"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10], "iscrowd": 0, "area": 100,
             "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
        ],
    }  # fmt: skip
    (data / "gt.json").write_text(json.dumps(truth))
    (data / "coco.json").write_text(
        json.dumps([{"image_id": 7, "category_id": 3, "score": 0.5, "bbox": [5, 5, 10, 10, 0.0]}])
    )
    args = [str(data / "coco.json"), "--gt", str(data / "gt.json"), "--classes", "ship", "--json", str(data / "s.json")]
    args += ["--overwrite"]
    assert load_tool("evaluate").main([*args, "--angle", "ultralytics"]) == 0
    assert json.loads((data / "s.json").read_text())["ap"] == {"ship": 1.0}


# -- why it is wrong --------------------------------------------------------------------------------------------------


def test_causes_with_windows_and_patches(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    """The ship is found; the plane lies across two windows, and a patch had found one on b that merging lost."""
    write(data / "gt", {"b.txt": PLANE})
    write(data / "patches", {"Task1_plane.txt": "b__64__40___0 0.7 10 0 20 0 20 10 10 10\n"})

    def record(image_id: str, windows: list[list[int]]) -> dict[str, object]:
        patches = [
            {"id": f"{image_id}__64__{x}___{y}", "x": x, "y": y, "scale": 1.0, "width": 64, "height": 64, "bytes": 1,
             "lines": [], "difficult": [], "cut": []}
            for x, y in windows
        ]  # fmt: skip
        objects = {"in": 0, "kept": 0, "cut": 0, "dropped": {}}
        return {"id": image_id, "file": "", "objects": objects, "problems": [], "patches": patches}

    images = [record("a", [[0, 0], [55, 0]]), record("b", [[0, 0], [40, 0]])]
    images[0]["patches"][0]["width"] = 55  # type: ignore[index]
    Manifest({}, {}, images).write(data / "manifest.json")
    args = words(data, "--causes", "--manifest", data / "manifest.json", "--patches", data / "patches")
    assert load_tool("evaluate").main([*args, "--json", str(data / "s.json"), "--markdown", str(data / "s.md")]) == 0
    text = capsys.readouterr().out
    assert "seam: cut at a seam of windows" in text
    assert "lost: lost in merging" in text
    assert "CPU seconds: reading" in text
    causes = json.loads((data / "s.json").read_text())["causes"]
    assert (causes["objects"]["seam"], causes["objects"]["lost"], causes["detections"]["background"]) == (1, 1, 1)
    assert causes["gain_by_class"]["lost"]["plane"] > 0
    assert {e["cause"] for e in causes["examples"]} == {"seam", "lost", "background"}
    assert "## Why it is wrong" in (data / "s.md").read_text()
    write(data / "patches", {"Task1_plane.txt": "b__64__41___0 0.7 10 0 20 0 20 10 10 10\n"})
    assert load_tool("evaluate").main(args) == 1
    assert "is not in the manifest" in capsys.readouterr().err


# -- for whom it is good, what to deploy with -------------------------------------------------------------------------


def test_strata_calibration_and_thresholds(data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    write(data / "gt", {"b.txt": SHIP})
    write(data / "det", {"Task1_ship.txt": HIT + HIT.replace("a ", "b ")})
    (data / "choose.txt").write_text("a\n")
    (data / "images").mkdir()
    for name in ("a", "b", "unscored"):
        assert cv2.imwrite(str(data / "images" / f"{name}.png"), np.zeros((64, 80, 3), np.uint8))
    args = words(data, "--by", "aspect", "border", "size", "--img-dir", data / "images", "--calibration")
    args += ["--thresholds", str(data / "thr.json"), "--choose-on", str(data / "choose.txt")]
    args += ["--json", str(data / "s.json"), "--markdown", str(data / "s.md")]
    assert load_tool("evaluate").main(args) == 0
    text = capsys.readouterr().out
    for title in ("By aspect ratio", "By distance to the border", "By object size", "Calibration", "Thresholds to"):
        assert title in text
    assert "strata" in text[text.index("CPU seconds") :]
    scores = json.loads((data / "s.json").read_text())
    assert scores["by_border"]["touching"]["objects"] == {"ship": 2, "plane": 1}
    assert scores["by_size"]["tiny"]["side"] == [0.0, 16.0]
    assert scores["calibration"]["bins"][9]["detections"] == 2
    assert scores["thresholds"]["ship"]["f1"] == 1.0
    assert json.loads((data / "thr.json").read_text()) == {"ship": 0.45, "plane": 0.45}
    assert (data / "s.md").read_text().count("## By object size") == 1


def test_an_image_without_a_size_costs_its_objects_only(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    write(data / "gt", {"b.txt": SHIP})
    (data / "images").mkdir()
    assert cv2.imwrite(str(data / "images" / "a.png"), np.zeros((64, 80, 3), np.uint8))
    (data / "images" / "b.png").write_bytes(b"")
    assert load_tool("evaluate").main(words(data, "--by", "border", "--img-dir", data / "images")) == 1
    told = capsys.readouterr()
    assert f"{data / 'images' / 'b.png'}: the file is empty" in told.err
    assert "1 object left out: on images of unknown size" in told.out


def test_the_list_to_choose_on_and_the_thresholds_go_together(data: Path, load_tool: Load) -> None:
    for more in (("--thresholds", data / "t.json"), ("--choose-on", data / "c.txt"), ("--by", "border")):
        with pytest.raises(SystemExit) as stop:
            load_tool("evaluate").main(words(data, *more))
        assert stop.value.code == 2


# -- is it honest, and the page ---------------------------------------------------------------------------------------


def test_copies_and_repeated_labels_are_told_and_the_page_has_it_all(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    write(data / "gt", {"a.txt": SHIP + PLANE + SHIP})
    rng = np.random.default_rng(0)
    for folder in ("images", "train"):
        (data / folder).mkdir()
    for name in ("a", "b"):
        picture = rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)
        assert cv2.imwrite(str(data / "images" / f"{name}.png"), picture)
        if name == "a":
            assert cv2.imwrite(str(data / "train" / "other.bmp"), picture)
    args = words(data, "--img-dir", data / "images", "--train-img-dir", data / "train", "--page", data / "page.html")
    assert load_tool("evaluate").main(args) == 0
    text = capsys.readouterr().out
    assert "warning: 1 label repeats another one of their image (1 ship on a)" in text
    assert "warning: 1 of 2 scored images show a picture that was trained on (a = other.bmp)" in text
    page = (data / "page.html").read_text()
    for key in ("scores", "causes", "by_aspect", "by_angle", "by_density", "by_border", "by_size", "calibration"):
        assert f'<h2 id="{key}">' in page
    assert page.count("data:image/png;base64,") == 7
    assert "copies" in text[text.index("CPU seconds") :]
    (data / "train" / "other.bmp").unlink()
    assert cv2.imwrite(str(data / "train" / "new.png"), rng.integers(0, 255, (64, 80, 3), dtype=np.uint8))
    args = words(data, "--img-dir", data / "images", "--train-img-dir", data / "train")
    assert load_tool("evaluate").main(args) == 0
    assert "none of 2 scored images shows the same picture" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        load_tool("evaluate").main(words(data, "--train-img-dir", data / "train"))


def test_a_page_of_one_image_has_no_intervals_and_all_else(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page adds intervals by itself, which one image cannot have; asked for, they are refused."""
    (data / "gt/b.txt").unlink()
    write(data / "det", {"Task1_plane.txt": "a 0.8 50 0 60 0 60 10 50 10\n"})
    assert load_tool("evaluate").main(words(data, "--page", data / "page.html")) == 0
    text = capsys.readouterr().out
    assert "no intervals: an interval needs at least two source images to draw from, and there is only a" in text
    assert text.rstrip().endswith("mAP 1.0000")
    page = (data / "page.html").read_text()
    for key in ("scores", "causes", "by_aspect", "by_size", "calibration"):
        assert f'<h2 id="{key}">' in page
    assert "no intervals" in page
    with pytest.raises(ScoreError, match="at least two source images"):
        load_tool("evaluate").main(words(data, "--page", data / "other.html", "--bootstrap", "10"))
    assert not (data / "other.html").exists()


def test_a_page_of_scores_that_are_no_shares_has_no_calibration_and_all_else(
    data: Path, load_tool: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    write(data / "det", {"Task1_plane.txt": "a 55 50 0 60 0 60 10 50 10\n"})
    assert load_tool("evaluate").main(words(data, "--page", data / "page.html")) == 0
    told = "no calibration: calibration needs scores in [0, 1]; those of plane go from 55 to 55"
    assert told in capsys.readouterr().out
    page = (data / "page.html").read_text()
    assert all(f'<h2 id="{key}">' in page for key in ("scores", "causes", "by_aspect"))
    assert '<h2 id="calibration">' not in page
    assert "no calibration" in page
    with pytest.raises(DotaError, match="calibration needs scores"):
        load_tool("evaluate").main(words(data, "--page", data / "other.html", "--calibration"))
