"""Causes on cases made to have one of each, and what mending them gives against hand arithmetic."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.causes import CAUSES, Mistakes, find_causes
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.examples import Example, examples_to_json, read_examples, worst_examples
from fdam_rotate.dota.scoring.mending import cause_table, mend_causes
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.scoring.tables import to_text

CLASSES = ("ship", "plane")
WINDOWS = {"a": np.array([[0, 0, 100, 100], [80, 0, 180, 100]], float)}

Box = tuple[float, float, float, float, float]


def scored(
    objects: list[tuple[str, Box]],
    found: list[tuple[str, float, Box]],
    difficult: tuple[int, ...] = (),
    task: int = 1,
    metric: str = "voc12",
) -> EvalResult:
    """Boxes are centre, sides and angle in degrees; all on image a. Image b is background."""
    truth = Labels(
        polys([box for _, box in objects]),
        tuple(name for name, _ in objects),
        np.array([k in difficult for k in range(len(objects))], np.int64),
    )
    detections = {
        name: Detections(
            ("a",),
            np.zeros(sum(n == name for n, _, _ in found), np.intp),
            np.array([score for n, score, _ in found if n == name]),
            polys([box for n, _, box in found if n == name]),
        )
        for name in CLASSES
    }
    nothing = Labels(np.empty((0, 8)), (), np.empty(0, np.int64))
    return evaluate(detections, {"a": truth, "b": nothing}, CLASSES, metric=metric, task=task)


def polys(boxes: list[Box]) -> np.ndarray:
    array = np.array(boxes, float).reshape(-1, 5)
    array[:, 4] = np.radians(array[:, 4])
    return le90_to_poly(array)


def causes(m: Mistakes) -> tuple[list[str], list[str]]:
    """The causes of the detections and of the objects by name, '' where there is none."""
    return tuple(["" if k < 0 else CAUSES[k] for k in column] for column in (m.det_cause, m.obj_cause))  # type: ignore[return-value]


SHIP: tuple[str, Box] = ("ship", (50, 50, 40, 10, 0))


@pytest.mark.parametrize(
    ("box", "cause"),
    [
        ((50, 50, 40, 10, 0), ""),
        ((64, 50, 40, 10, 0), "centre"),
        ((50, 50, 90, 10, 0), "size"),
        ((50, 50, 90, 25, 0), "size"),
        ((50, 50, 15, 10, 0), "size"),
        ((50, 50, 40, 10, 35), "angle"),
        ((50, 50, 40, 10, 90), "angle"),
        ((50, 50, 10, 40, 0), "angle"),  # the same box, its shorter side named first
        ((58, 50, 40, 10, 30), "angle"),  # both are off: the angle more
        ((66, 50, 40, 10, 3), "centre"),
        ((150, 50, 40, 10, 0), "background"),
        ((88, 50, 40, 10, 0), "background"),  # IoU 2 / 78
    ],
)
def test_what_is_off_is_named(box: Box, cause: str) -> None:
    m = find_causes(scored([SHIP], [("ship", 0.9, box)]))
    missed = {"": "", "background": "miss"}.get(cause, cause)
    assert causes(m) == ([cause], [missed])
    assert m.det_object.tolist() == [0 if cause not in ("", "background") else -1]


def test_a_turned_object_has_the_same_causes() -> None:
    """All of it turned by 60 degrees about a point: what is named must not change."""
    angle = math.radians(60)
    spin = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    def turned(box: Box) -> Box:
        x, y = spin @ np.array(box[:2])
        return x, y, box[2], box[3], box[4] + 60

    for box, cause in (
        ((64, 50, 40, 10, 0), "centre"),
        ((50, 50, 90, 10, 0), "size"),
        ((50, 50, 40, 10, 35), "angle"),
    ):
        m = find_causes(scored([("ship", turned(SHIP[1]))], [("ship", 0.9, turned(box))]))  # type: ignore[arg-type]
        assert causes(m)[0] == [cause]


def test_upright_boxes_have_no_angle() -> None:
    result = scored([SHIP], [("ship", 0.9, (50, 50, 10, 40, 0))], task=2)
    assert causes(find_causes(result))[0] == ["size"]


@pytest.mark.parametrize(
    ("box", "cause"),
    [((50, 50, 40, 40, 0), "size"), ((86, 50, 64, 64, 0), "centre"), ((50, 50, 20, 140, 0), "size")],
)
def test_of_a_turned_label_the_outer_box_counts_in_task_2(box: Box, cause: str) -> None:
    """A thin diagonal from (18, 18) to (82, 82), which fills little of its outer box of 64 x 64 pixels."""
    diagonal: tuple[str, Box] = ("ship", (50, 50, math.hypot(60, 60), math.hypot(4, 4), 45))
    assert causes(find_causes(scored([diagonal], [("ship", 0.9, box)], task=2)))[0] == [cause]


def test_a_piece_of_the_outer_box_is_one_in_task_2() -> None:
    diagonal: tuple[str, Box] = ("ship", (110, 50, math.hypot(60, 60), math.hypot(4, 4), 45))  # from 78 to 142
    piece: tuple[str, float, Box] = ("ship", 0.9, (89, 50, 22, 64, 0))  # what the first window shows of the outer box
    assert causes(find_causes(scored([diagonal], [piece], task=2), windows=WINDOWS)) == (["seam"], ["seam"])


def test_duplicate_class_both_and_background() -> None:
    result = scored(
        [SHIP, ("plane", (50, 150, 40, 10, 0))],
        [
            ("ship", 0.9, (50, 50, 40, 10, 0)),
            ("ship", 0.8, (51, 50, 40, 10, 0)),  # again
            ("ship", 0.7, (50, 150, 40, 10, 0)),  # on the plane
            ("ship", 0.6, (64, 150, 40, 10, 0)),  # beside the plane
            ("ship", 0.5, (350, 50, 40, 10, 0)),
        ],
    )
    m = find_causes(result)
    assert causes(m) == (["", "duplicate", "class", "both", "background"], ["", "class"])
    assert m.det_object.tolist() == [-1, 0, 1, 1, -1]


def test_a_bad_place_counts_before_a_wrong_class_and_the_best_pointer_names_the_miss() -> None:
    """A plane's box, called ship, that touches another ship by more than a tenth; the ship has a bad box of its own."""
    objects: list[tuple[str, Box]] = [("plane", (50, 50, 40, 10, 0)), ("ship", (50, 57, 40, 10, 0))]
    found: list[tuple[str, float, Box]] = [
        ("ship", 0.5, (50, 50.5, 40, 10, 0)),  # IoU 0.9 with the plane, 0.21 with the ship
        ("ship", 0.4, (50, 57, 80, 14, 0)),
        ("ship", 0.6, (50, 57, 40, 10, 45)),
        ("ship", 0.3, (50, 49, 40, 10, 0)),  # IoU 0.82 with the plane, 0.11 with the ship: as in TIDE, a bad place
        ("ship", 0.2, (50, 48, 40, 10, 0)),  # IoU 0.67 and 0.05
    ]
    m = find_causes(scored(objects, found))
    # within a class by falling score; objects by class: ship, plane
    assert causes(m) == (["angle", "centre", "size", "centre", "class"], ["angle", "class"])


def test_a_wrong_class_counts_before_a_duplicate() -> None:
    """Both a plane and a ship lie there, and the ship is found already."""
    found: list[tuple[str, float, Box]] = [("ship", 0.9, SHIP[1]), ("ship", 0.8, SHIP[1])]
    m = find_causes(scored([SHIP, ("plane", SHIP[1])], found))
    assert causes(m) == (["", "class"], ["", "class"])
    assert m.det_object.tolist() == [-1, 1]


def test_difficult_objects_are_no_misses_and_neutral_detections_no_mistakes() -> None:
    result = scored([SHIP, ("ship", (50, 150, 40, 10, 0))], [("ship", 0.9, (50, 150, 40, 10, 0))], difficult=(1,))
    assert causes(find_causes(result)) == ([""], ["miss", ""])


# -- windows and merging ---------------------------------------------------------------------------------------------


def test_a_piece_of_an_object_is_cut_at_a_seam() -> None:
    """The ship goes from 60 to 160: the first window shows 60 to 100, the second 80 to 160."""
    ship: tuple[str, Box] = ("ship", (110, 50, 100, 10, 0))
    piece: tuple[str, float, Box] = ("ship", 0.9, (80, 50, 40, 10, 0))
    assert causes(find_causes(scored([ship], [piece]))) == (["size"], ["size"])
    m = find_causes(scored([ship], [piece]), windows=WINDOWS)
    assert causes(m) == (["seam"], ["seam"])
    assert m.det_object.tolist() == [0]
    # a box of the same size that no window explains
    other = find_causes(scored([ship], [("ship", 0.9, (105, 50, 40, 10, 0))]), windows=WINDOWS)
    assert causes(other) == (["size"], ["seam"])  # yet the object is complete in no window
    # in a window that shows all of it a piece is no piece
    windows = {"a": np.array([[0, 0, 200, 100]], float)}
    assert causes(find_causes(scored([ship], [piece]), windows=windows)) == (["size"], ["size"])
    # as it reaches out of the image, what the window shows of it is all there is
    beyond: tuple[str, Box] = ("ship", (170, 50, 60, 10, 0))
    assert causes(find_causes(scored([beyond], []), windows=WINDOWS)) == ([], ["miss"])


def test_a_tiny_piece_points_to_its_object_too() -> None:
    """A tenth of the object, IoU 0.1 and less: without windows it would be background."""
    ship: tuple[str, Box] = ("ship", (135, 50, 86, 10, 0))  # from 92 to 178, of which the first window shows 8
    piece: tuple[str, float, Box] = ("ship", 0.9, (96, 50, 8, 10, 0))
    assert causes(find_causes(scored([ship], [piece])))[0] == ["background"]
    assert causes(find_causes(scored([ship], [piece]), windows=WINDOWS)) == (["seam"], ["seam"])


def test_a_piece_of_a_twentieth_is_one_too() -> None:
    ship: tuple[str, Box] = ("ship", (136, 50, 80, 10, 0))  # from 96 to 176, of which the first window shows 4
    piece: tuple[str, float, Box] = ("ship", 0.9, (98, 50, 4, 10, 0))
    assert causes(find_causes(scored([ship], [piece]), windows=WINDOWS)) == (["seam"], ["seam"])


def test_a_piece_lies_in_the_window_that_shows_it() -> None:
    """Nine tenths of it do: what reaches further beyond comes from no window, and is a box of the wrong size."""
    ship: tuple[str, Box] = ("ship", (90, 50, 100, 10, 0))  # from 40 to 140; the windows show 40 to 100 and 80 to 140
    for right, cause in ((101, "seam"), (108, "size")):  # from 60: 40 of 41 and of 48 pixels lie in the first
        box = ("ship", 0.9, ((60 + right) / 2, 50.0, right - 60.0, 10.0, 0.0))
        assert causes(find_causes(scored([ship], [box]), windows=WINDOWS))[0] == [cause]


def test_an_object_complete_in_no_window_is_cut_at_a_seam() -> None:
    result = scored([("ship", (110, 50, 100, 10, 0)), SHIP], [])
    m = find_causes(result, windows=WINDOWS)
    assert sorted(causes(m)[1]) == ["miss", "seam"]
    assert causes(find_causes(result, windows={"a": np.empty((0, 4))}))[1] == ["miss", "miss"]
    assert causes(find_causes(result, windows={}))[1] == ["miss", "miss"]


def test_what_a_patch_had_found_is_lost_in_merging() -> None:
    result = scored([SHIP, ("ship", (50, 150, 40, 10, 0))], [("ship", 0.9, (50, 53, 40, 20, 0))])
    before = Detections(
        ("a", "elsewhere"),
        np.array([0, 0, 0, 1]),
        np.array([0.9, 0.6, 0.7, 0.99]),
        polys([(50, 53, 40, 20, 0), (50, 50, 40, 10, 0), (51, 50, 40, 10, 0), (50, 150, 40, 10, 0)]),
    )
    m = find_causes(result, unmerged={"ship": before, "boat": before})
    assert sorted(causes(m)[1]) == ["lost", "miss"]
    assert np.nanmax(m.lost_score) == 0.7
    assert np.isnan(m.lost_score).sum() == 1
    # one that is found was not lost
    found = find_causes(scored([SHIP], [("ship", 0.9, (50, 50, 40, 10, 0))]), unmerged={"ship": before})
    assert causes(found)[1] == [""]


# -- mending ---------------------------------------------------------------------------------------------------------


def ap(*hits: int, npos: int) -> float:
    """Area under the curve of hits (1) and false positives (0) in order of falling score."""
    precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    best = [max(precision[k:]) for k in range(len(hits))]
    return sum(p for p, hit in zip(best, hits, strict=True) if hit) / npos


def test_gains_by_hand() -> None:
    """Five ships: found; angle off; found by a plane detection; seen by nothing; lost. One plane, found."""
    rows = [50.0 * k for k in range(1, 6)]
    objects: list[tuple[str, Box]] = [*(("ship", (50, y, 40, 10, 0)) for y in rows), ("plane", (350, 50, 40, 10, 0))]  # type: ignore[list-item]
    found: list[tuple[str, float, Box]] = [
        ("ship", 0.9, (50, 500, 40, 10, 0)),  # background
        ("ship", 0.8, (50, 50, 40, 10, 0)),
        ("ship", 0.75, (50, 50, 40, 10, 0)),  # duplicate
        ("ship", 0.7, (50, 100, 40, 10, 40)),  # angle
        ("plane", 0.95, (50, 150, 40, 10, 0)),  # class
        ("plane", 0.85, (50, 150, 40, 10, 0)),  # class again: only the better one becomes right
        ("plane", 0.6, (350, 50, 40, 10, 0)),
    ]
    result = scored(objects, found)
    lost = Detections(("a",), np.zeros(1, np.intp), np.array([0.65]), polys([(50, 250, 40, 10, 0)]))
    report = mend_causes(result, find_causes(result, unmerged={"ship": lost}), score_thr=0.8)
    ship, plane = ap(0, 1, 0, 0, npos=5), ap(0, 0, 1, npos=1)
    assert report.map == pytest.approx((ship + plane) / 2)
    expected = {
        "class": (ap(1, 0, 1, 0, 0, npos=5), 1.0),
        "centre": (ship, plane),
        "size": (ship, plane),
        "angle": (ap(0, 1, 0, 1, npos=5), plane),
        "both": (ship, plane),
        "duplicate": (ap(0, 1, 0, npos=5), plane),
        "background": (ap(1, 0, 0, npos=5), plane),
        "seam": (ship, plane),
        "lost": (ap(0, 1, 0, 0, 1, npos=5), plane),
        "miss": (ap(0, 1, 0, 0, npos=4), plane),
        "false": (ap(1, npos=5), 1.0),
        "missed": (ap(0, 1, 0, 0, npos=1), plane),
    }
    for cause, (of_ship, of_plane) in expected.items():
        assert report.gain_by_class[cause]["ship"] == pytest.approx(of_ship - ship), cause
        assert report.gain_by_class[cause]["plane"] == pytest.approx(of_plane - plane), cause
        assert report.gain[cause] == pytest.approx((of_ship + of_plane - ship - plane) / 2), cause
    assert report.detections == {**dict.fromkeys(CAUSES, 0), "background": 1, "class": 2}  # of 0.8 and more
    assert report.objects == {**dict.fromkeys(CAUSES, 0), "angle": 1, "class": 1, "miss": 1, "lost": 1}


def test_a_mended_box_goes_where_its_object_is_found_already_or_difficult() -> None:
    found: list[tuple[str, float, Box]] = [
        ("ship", 0.9, (64, 50, 40, 10, 0)),
        ("ship", 0.8, (50, 50, 40, 10, 0)),
        ("ship", 0.7, (64, 150, 40, 10, 0)),
    ]
    result = scored([SHIP, ("ship", (50, 150, 40, 10, 0))], found, difficult=(1,))
    m = find_causes(result)
    assert causes(m)[0] == ["centre", "", "centre"]
    assert mend_causes(result, m).gain_by_class["centre"] == {"ship": pytest.approx(0.5)}


def test_pieces_and_cut_objects_are_mended() -> None:
    """One ship found in pieces, one complete in no window; the third is found."""
    objects: list[tuple[str, Box]] = [
        ("ship", (110, 50, 100, 10, 0)),
        ("ship", (110, 80, 100, 10, 0)),
        ("ship", (30, 20, 40, 10, 0)),
    ]
    found: list[tuple[str, float, Box]] = [
        ("ship", 0.9, (80, 50, 40, 10, 0)),  # a piece
        ("ship", 0.8, (81, 50, 38, 10, 0)),  # the same piece again
        ("ship", 0.7, (30, 20, 40, 10, 0)),
    ]
    result = scored(objects, found)
    m = find_causes(result, windows=WINDOWS)
    assert causes(m)[0] == ["seam", "seam", ""]
    assert sorted(causes(m)[1]) == ["", "seam", "seam"]
    report = mend_causes(result, m)
    assert report.map == pytest.approx(ap(0, 0, 1, npos=3))
    assert report.gain["seam"] == pytest.approx(ap(1, 1, npos=2) - ap(0, 0, 1, npos=3))


def test_a_class_of_which_nothing_is_found_keeps_its_ap() -> None:
    result = scored([SHIP], [("ship", 0.9, (350, 50, 40, 10, 0))])
    report = mend_causes(result, find_causes(result))
    assert report.gain["miss"] == report.gain["missed"] == 0


def test_the_table_tells_what_occurs() -> None:
    result = scored([SHIP], [("ship", 0.9, (64, 50, 40, 10, 0)), ("ship", 0.2, (350, 50, 40, 10, 0))])
    table = cause_table(mend_causes(result, find_causes(result)))
    lines = to_text(table).splitlines()
    assert [line.split()[0] for line in lines] == ["cause", "centre:", "all", "all"]
    assert lines[0].endswith("mAP50 gain")
    assert table.notes[1].startswith("gain: what mAP50 0.00 would gain")
    assert lines[1].split() == ["centre:", "centre", "off", "1", "1", "+100.00"]
    assert table.content["gain"]["centre"] == 1.0
    assert table.content["objects"]["centre"] == 1


# -- examples --------------------------------------------------------------------------------------------------------


def test_the_worst_examples_come_first_and_read_back(tmp_path: Path) -> None:
    objects: list[tuple[str, Box]] = [SHIP, ("ship", (50, 250, 40, 10, 0)), ("ship", (50, 350, 60, 20, 0))]
    found: list[tuple[str, float, Box]] = [
        ("ship", 0.5, (64, 50, 40, 10, 0)),
        ("ship", 0.7, (36, 50, 40, 10, 0)),
        ("plane", 0.6, (550, 50, 40, 10, 0)),
    ]
    result = scored(objects, found)
    lost = Detections(("a",), np.zeros(1, np.intp), np.array([0.3]), polys([(50, 250, 40, 10, 0)]))
    m = find_causes(result, unmerged={"ship": lost})
    examples = worst_examples(result, m)
    assert [(e.cause, e.found, e.score, e.meant) for e in examples] == [
        ("centre", "ship", 0.7, "ship"),
        ("centre", "ship", 0.5, "ship"),
        ("background", "plane", 0.6, None),
        ("lost", None, 0.3, "ship"),
        ("miss", None, None, "ship"),
    ]
    assert examples[0].poly == tuple(polys([(36, 50, 40, 10, 0)])[0])
    assert examples[0].truth == tuple(polys([SHIP[1]])[0])
    assert examples[-1].truth == tuple(polys([objects[2][1]])[0])
    assert [e.image_id for e in examples] == ["a"] * 5
    assert len(worst_examples(result, m, limit=1)) == 4
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"causes": {"examples": examples_to_json(examples)}}))
    assert read_examples(path) == examples


def test_of_missed_objects_the_largest_come_first() -> None:
    result = scored([SHIP, ("ship", (50, 350, 60, 20, 0)), ("ship", (50, 250, 20, 10, 0))], [])
    boxes = [e.truth for e in worst_examples(result, find_causes(result))]
    sides = [abs(box[2] - box[0]) for box in boxes if box]
    assert sides == [60, 40, 20]


RECORD = {"cause": "miss", "image": "a", "found": None, "score": None, "poly": None, "meant": "ship", "truth": [0] * 8}


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        "{}",
        '{"causes": {"examples": [1]}}',
        json.dumps({"causes": {"examples": [{**RECORD, "cause": "bad luck"}]}}),
        json.dumps({"causes": {"examples": [{**RECORD, "truth": [0] * 7}]}}),
        json.dumps({"causes": {"examples": [{**RECORD, "truth": [float("nan")] * 8}]}}),
        json.dumps({"causes": {"examples": [{**RECORD, "truth": None}]}}),
    ],
)
def test_what_holds_no_examples_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(DotaError, match="causes --json writes them"):
        read_examples(path)
    path.write_text(json.dumps({"causes": {"examples": [RECORD]}}))
    assert read_examples(path) == [Example("miss", "a", None, None, None, "ship", (0.0,) * 8)]
