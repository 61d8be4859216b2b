"""What lies behind an AP (size, confusion, worst images), and how scores are told: text, Markdown, JSON, pictures."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.problems import Problem, format_problems, line_problem
from fdam_rotate.dota.scoring.analysis import Confusion, confusion, worst_images
from fdam_rotate.dota.scoring.bootstrap import Interval, ScoreIntervals
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.plots import write_plots
from fdam_rotate.dota.scoring.report import (
    format_markdown,
    format_notes,
    format_table,
    interval_notes,
    precision_at,
    to_json,
    write_json,
)
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.scoring.strata import SIZES, score_by_size

CLASSES = ("plane", "ship", "harbor")


def square(x: float, side: float = 20.0) -> list[float]:
    return [x, 0, x + side, 0, x + side, side, x, side]


def labels(*rows: tuple[list[float], str, int]) -> Labels:
    polys = np.array([row[0] for row in rows], dtype=float).reshape(-1, 8)
    return Labels(polys, tuple(row[1] for row in rows), np.array([row[2] for row in rows], dtype=np.int64))


def detections(*rows: tuple[str, float, list[float]]) -> Detections:
    ids = tuple(dict.fromkeys(row[0] for row in rows))
    return Detections(
        ids,
        np.array([ids.index(row[0]) for row in rows], dtype=np.intp),
        np.array([row[1] for row in rows], dtype=float),
        np.array([row[2] for row in rows], dtype=float).reshape(-1, 8),
    )


@pytest.fixture
def result() -> EvalResult:
    """Two images: a with ships, a plane and a difficult ship, b without objects of the classes; no harbor."""
    truths = {
        "a": labels(
            (square(0), "ship", 0), (square(100), "ship", 0), (square(200), "ship", 1), (square(300), "plane", 0)
        ),
        "b": labels((square(0), "boat", 0)),
    }
    found = {
        "ship": detections(
            ("a", 0.9, square(0)),
            ("a", 0.8, square(300)),  # on the plane
            ("a", 0.7, square(200)),  # on the difficult one
            ("b", 0.6, square(0)),
            ("a", 0.2, square(100)),
        ),
        "plane": detections(("a", 0.75, square(300)), ("z", 0.9, square(0))),
        "car": detections(("a", 0.5, square(0))),
    }
    return evaluate(found, truths, CLASSES, iou_thrs=(0.5, 0.75))


# -- analyses -------------------------------------------------------------------------------------------------------


def test_sizes_split_objects_and_leave_others_neutral() -> None:
    # sides 10 (tiny), 20 (small), 100 (large); the bound itself, 32, is medium
    truths = {"a": labels(*((square(1000.0 * k, side), "ship", 0) for k, side in enumerate((10.0, 20.0, 100.0, 32.0))))}
    found = {
        "ship": detections(
            ("a", 0.9, square(0, 10)),
            ("a", 0.8, square(500, 10)),  # a false one of the tiny size
            ("a", 0.7, square(1000, 20)),
            ("a", 0.6, square(5000, 100)),  # a false one of the large size
            ("a", 0.5, square(1000, 20)),  # the small one again
        )
    }
    scores = {s.name: s for s in score_by_size(evaluate(found, truths, ["ship"], metric="voc12"))}
    assert list(scores) == list(SIZES)
    assert {name: s.npos["ship"] for name, s in scores.items()} == {"tiny": 1, "small": 1, "medium": 1, "large": 1}
    # only mistakes of its own size count: small keeps precision 1 although a tiny false one scores higher
    assert {name: s.map for name, s in scores.items()} == {"tiny": 1.0, "small": 1.0, "medium": 0.0, "large": 0.0}
    assert score_by_size(evaluate(found, truths, ["ship", "plane"]))[0].ap["plane"] is None


def test_a_false_detection_of_the_size_counts_before_the_true_one() -> None:
    truths = {"a": labels((square(0, 10), "ship", 0))}
    found = {"ship": detections(("a", 0.9, square(500, 10)), ("a", 0.8, square(0, 10)))}
    tiny, small, *_ = score_by_size(evaluate(found, truths, ["ship"], metric="voc12"))
    assert tiny.map == 0.5
    assert small.map is None


def test_confusion_by_hand(result: EvalResult) -> None:
    c = confusion(result, score_thr=0.3)
    # rows plane, ship, harbor, background; columns the same, the last one missed
    assert c.matrix.tolist() == [
        [0, 1, 0, 0],  # the ship detection at 0.8 takes the plane before the plane detection at 0.75
        [0, 1, 0, 1],  # the second ship is only found at 0.2
        [0, 0, 0, 0],
        [1, 1, 0, 0],  # the plane detection is left over; the ship on image b; the difficult one is neutral
    ]
    assert (c.iou_thr, c.score_thr) == (0.5, 0.3)
    assert confusion(result, score_thr=0.1).matrix[1].tolist() == [0, 2, 0, 0]
    assert confusion(result, score_thr=1.1).matrix.tolist() == [[0, 0, 0, 1], [0, 0, 0, 2], [0] * 4, [0] * 4]


def test_a_detection_takes_the_object_it_overlaps_most() -> None:
    truths = {"a": labels((square(4), "ship", 0), (square(1), "plane", 0))}
    found = {"ship": detections(("a", 0.9, square(0)))}  # IoU 16/24 with the ship, 19/21 with the plane
    matrix = confusion(evaluate(found, truths, ("plane", "ship"))).matrix
    assert matrix.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_worst_images_by_hand(result: EvalResult) -> None:
    first, second = worst_images(result, score_thr=0.3)
    assert (first.image_id, first.objects, first.found, first.missed, first.false_positives) == ("a", 3, 2, 1, 1)
    assert first.errors == 2
    assert (second.image_id, second.objects, second.false_positives) == ("b", 0, 1)
    assert [w.image_id for w in worst_images(result, limit=1)] == ["a"]
    assert [w.errors for w in worst_images(result, score_thr=0.1)] == [1, 1]  # the second ship is found at 0.2


def test_images_without_mistakes_are_not_listed() -> None:
    truths = {"a": labels((square(0), "ship", 0)), "b": labels()}
    assert worst_images(evaluate({"ship": detections(("a", 0.9, square(0)))}, truths, ["ship"])) == []


# -- text -----------------------------------------------------------------------------------------------------------


def test_table_shows_each_class_and_the_mean(result: EvalResult) -> None:
    lines = [line.split() for line in format_table(result).splitlines()]
    assert lines[0] == "class objects difficult detections recall AP50 AP75 AP mean".split()
    # ship: true at recall 1/2, then false (plane), neutral, false, true at recall 1 with precision 2/4
    ship = (6 * 1 + 5 * 0.5) / 11
    assert lines[2] == ["ship", "2", "1", "5", "100.00", f"{100 * ship:.2f}", f"{100 * ship:.2f}", f"{100 * ship:.2f}"]
    assert lines[3] == ["harbor", "0", "0", "0", "-", "-", "-", "-"]
    assert lines[5] == ["mean", "3", "1", "6", *[f"{100 * (ship + 1) / 2:.2f}"] * 3]
    assert len({len(line) for line in format_table(result).splitlines()}) == 1


def test_many_thresholds_are_shown_as_three_columns() -> None:
    truths = {"a": labels((square(0), "ship", 0))}
    found = {"ship": detections(("a", 0.9, square(1)))}  # 19 / 21 = 0.905: right up to IoU 0.9
    thrs = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
    lines = format_table(evaluate(found, truths, ["ship"], iou_thrs=thrs)).splitlines()
    assert lines[0].split()[5:] == ["AP50", "AP75", "AP", "mean"]
    assert lines[1].split()[5:] == ["100.00", "100.00", "90.00"]
    assert format_table(evaluate(found, truths, ["ship"])).splitlines()[0].split()[-1] == "AP50"


def test_notes_say_what_was_scored(result: EvalResult) -> None:
    notes = format_notes(result)
    text = "\n".join(notes)
    assert "VOC07" in notes[0]
    assert "IoU > 0.5 (mAP), 0.75" in notes[0]
    assert "2 images scored, 1 of them without objects" in text
    assert "3 objects and 1 difficult (neutral), 6 detections" in text
    warnings = [note for note in notes if note.startswith("warning: ")]
    assert any("1 image id has detections and no label, or is not listed (z)" in w for w in warnings)
    assert any("(harbor), so no AP (-); mAP is the mean over the other 2" in w for w in warnings)
    assert "warning: 1 class has no file Task1_<class>.txt (harbor); scored as without detections" in notes
    assert any("class 'boat'" in w and "1 object " in w for w in warnings)
    assert any("class 'car'" in w and "1 detection " in w for w in warnings)
    assert len(warnings) == 5


def test_notes_name_the_class_meant_and_the_empty_ones() -> None:
    truths = {"a": labels((square(0), "ship", 0)), "b": labels((square(0), "Ship", 0))}
    notes = format_notes(evaluate({"ship": Detections.empty()}, truths, ["ship"]))
    assert any("class 'Ship'" in note and "did you mean ship?" in note for note in notes)
    assert any("no detection on a scored image of 1 class (ship)" in note for note in notes)
    assert any("1 image holds objects and has no detection (a)" in note for note in notes)
    # a class without objects is told once, whether it has detections or not
    nothing = {"ship": Detections.empty(), "plane": Detections.empty()}
    assert sum("plane" in note for note in format_notes(evaluate(nothing, truths, ["ship", "plane"]))) == 1


def test_notes_ask_for_the_frame_where_nothing_overlaps() -> None:
    truths = {"a": labels((square(0), "ship", 0))}
    notes = format_notes(evaluate({"ship": detections(("a", 0.9, square(500)))}, truths, ["ship"]))
    assert any("are the coordinates pixels of whole images?" in note for note in notes)
    notes = format_notes(evaluate({"ship": detections(("a", 0.9, square(0)))}, truths, ["ship"]))
    assert not any(note.startswith("warning") for note in notes)


def test_images_that_were_trained_on_are_told(result: EvalResult) -> None:
    told = (
        "warning: 1 of the 2 scored images were trained on (a); the score does not say how well other images are done"
    )
    assert told in format_notes(result, {"a", "elsewhere"})
    assert f"- {told}\n" in format_markdown(result, trained_on=("a",))
    assert to_json(result, trained_on=("a", "x"))["images"]["trained_on"] == ["a"]
    assert not any("trained" in note for note in format_notes(result, ["elsewhere"]))


def test_markdown_holds_the_tables(result: EvalResult) -> None:
    text = format_markdown(result, score_by_size(result), worst_images(result), title="Scores of x|y")
    assert text.startswith("# Scores of x|y\n\n| class | objects |")
    assert "| small (16 to 32) | 3 | 88.64 |" in text  # plane 1, ship 8.5 / 11
    assert "| large (from 96) | 0 | - |" in text
    assert "| a | 3 | 2 | 1 | 1 |" in text
    rows = [line for line in text.splitlines() if line.startswith("| ship")]
    assert rows[0].count("|") == 9
    assert "## By object size" not in format_markdown(result)


def test_markdown_escapes_what_would_break_a_row() -> None:
    truths = {"a|b": labels((square(0), "ship", 0))}
    found = evaluate({"ship": Detections.empty()}, truths, ["ship"])
    assert "| a\\|b | 1 | 0 | 1 | 0 |" in format_markdown(found, worst=worst_images(found))


def test_problems_are_counted_and_cut() -> None:
    assert format_problems([]) == []
    lines = format_problems([line_problem("malformed", Path("f.txt"), k, "bad") for k in range(1, 26)])
    assert lines[0] == "f.txt:1: bad [malformed]"
    assert lines[-2:] == ["... and 5 more", "25 problems; these lines or files were not used, the rest was"]
    assert len(lines) == 22
    some = [line_problem("malformed", Path("f.txt"), k, "bad") for k in range(1, 26)]
    assert format_problems(some, "all in f.json", counted=False)[20:] == ["... and 5 more, all in f.json"]
    warning = Problem("empty", "g.txt", 0, "no line", severity="warning")
    assert format_problems([warning], counted=False) == ["warning: g.txt: no line [empty]"]


# -- JSON -----------------------------------------------------------------------------------------------------------


def test_json_holds_everything_and_reads_back(result: EvalResult, tmp_path: Path) -> None:
    out = to_json(result, score_by_size(result), confusion(result), worst_images(result))
    write_json(tmp_path / "s" / "scores.json", out)
    back = json.loads((tmp_path / "s" / "scores.json").read_text(encoding="utf-8"))
    assert back == json.loads(json.dumps(out))
    ship = (6 + 5 * 0.5) / 11
    assert back["ap"] == {"plane": pytest.approx(1.0), "ship": pytest.approx(ship), "harbor": None}
    assert back["map"] == pytest.approx((ship + 1) / 2) == back["map_mean"]
    assert back["by_iou"]["0.75"]["ap"]["ship"] == pytest.approx(ship)
    assert (back["metric"], back["task"], back["iou"]) == ("voc07", 1, 0.5)
    assert back["classes"]["ship"] == {
        "objects": 2, "difficult": 1, "detections": 5, "tp": 2, "fp": 2, "ignored": 1, "recall": 1.0,
    }  # fmt: skip
    assert back["classes"]["harbor"]["recall"] is None
    assert back["images"] == {
        "scored": 2, "background": ["b"], "without_detections": [], "detections_only": ["z"], "trained_on": [],
    }  # fmt: skip
    assert back["left_out"]["detections_of_other_images"] == 1
    assert back["left_out"]["objects_of_other_classes"] == {"boat": 1}
    assert back["by_size"]["large"]["side"] == [96.0, None]
    assert back["confusion"]["labels"] == [*CLASSES, "background"]
    assert back["confusion"]["matrix"] == confusion(result).matrix.tolist()
    assert back["worst_images"][0] == {
        "image_id": "a", "objects": 3, "found": 2, "missed": 1, "false_positives": 1,
    }  # fmt: skip
    assert "by_size" not in to_json(result)


def test_precision_at_recalls() -> None:
    # one of two found at once, the other after two false ones: 1 up to recall 0.5, 2/4 up to 1
    values = precision_at(np.array([0.5, 0.5, 0.5, 1.0]), np.array([1.0, 0.5, 1 / 3, 0.5]))
    assert values == [1.0] * 51 + [0.5] * 50
    # recall 35/100 reaches the grid's 0.35, which is 0.35000000000000003
    assert precision_at(np.array([35 / 100]), np.array([1.0])) == [1.0] * 36 + [0.0] * 65
    assert precision_at(np.empty(0), np.empty(0)) == [0.0] * 101


# -- pictures -------------------------------------------------------------------------------------------------------


def test_plots_are_written_and_repeat_to_the_byte(result: EvalResult, tmp_path: Path) -> None:
    sizes, confused, worst = score_by_size(result), confusion(result), worst_images(result)
    names = [p.name for p in write_plots(tmp_path / "a", result, sizes, confused, worst)]
    assert names == ["pr_curves.png", "ap.png", "ap_by_size.png", "confusion.png", "worst_images.png"]
    write_plots(tmp_path / "b", result, sizes, confused, worst)
    for name in names:
        data = (tmp_path / "a" / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert data == (tmp_path / "b" / name).read_bytes()


def test_plots_show_names_as_they_are(tmp_path: Path) -> None:
    """A dollar sign is no formula, long ids that differ at the end stay apart, and a class may lack detections."""
    written = []
    for end in "12":
        image = f"an_image_with_a_very_long_name_{end}"
        truths = {image: labels((square(0), "$\\frac$", 0))}
        found = evaluate({"$\\frac$": Detections.empty()}, truths, ["$\\frac$"])
        folder = tmp_path / end
        write_plots(folder, found, score_by_size(found), confusion(found), worst_images(found))
        written.append((folder / "worst_images.png").read_bytes())
    assert written[0] != written[1]


def test_plots_of_one_class_without_mistakes(tmp_path: Path) -> None:
    truths = {"a": labels((square(0), "ship", 0))}
    result = evaluate({"ship": detections(("a", 0.9, square(0)))}, truths, ["ship"])
    paths = write_plots(tmp_path, result, score_by_size(result), confusion(result), worst_images(result))
    assert [p.name for p in paths] == ["pr_curves.png", "ap.png", "ap_by_size.png", "confusion.png"]


def test_plots_depend_on_the_scores(result: EvalResult, tmp_path: Path) -> None:
    """A picture that draws nothing of the scores would be equal for others."""
    sizes, confused, worst = score_by_size(result), confusion(result), worst_images(result)
    other = evaluate({"ship": detections(("b", 0.9, square(0)))}, {"b": labels((square(0), "ship", 0))}, CLASSES)
    changed = Confusion(confused.classes, confused.matrix[::-1].copy(), 0.5, 0.3)
    write_plots(tmp_path / "a", result, sizes, confused, worst)
    write_plots(tmp_path / "b", other, score_by_size(other), changed, worst[::-1])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() != (tmp_path / "b" / path.name).read_bytes(), path.name


def test_sizes_cover_every_side() -> None:
    bounds = list(SIZES.values())
    assert bounds[0][0] == 0.0
    assert bounds[-1][1] == math.inf
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))


@pytest.mark.parametrize(("images", "narrow"), [(19, True), (20, False)])
def test_intervals_of_fewer_than_twenty_images_are_warned_of(images: int, narrow: bool) -> None:
    value = Interval(0.5, 0.4, 0.6, 100)
    notes = interval_notes(ScoreIntervals(value, {}, images, 100, 0, 0.95, 0.5))
    assert f"100 draws of {images} source images, seed 0" in notes[0]
    assert [note.startswith(f"warning: intervals from {images} images are too narrow") for note in notes[1:]] == (
        [True] if narrow else []
    )
