"""Pictures of detections: verdicts, shapes and colours where they must be, nothing outside, any size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fdam_rotate.dota.classes import DOTA_CLASSES, PALETTE, colour_of
from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.drawing import draw_detections, draw_example, judge_image
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.examples import Example

CLASSES = ("plane", "ship")
SHIP = np.array(colour_of("ship", CLASSES)[::-1])
GREY = np.full((300, 400, 3), 90, np.uint8)


def square(x: float, y: float, side: float = 60.0) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def labels(*rows: tuple[list[float], str, int]) -> Labels:
    polys = np.array([row[0] for row in rows], dtype=float).reshape(-1, 8)
    return Labels(polys, tuple(row[1] for row in rows), np.array([row[2] for row in rows], dtype=np.int64))


def ships(*rows: tuple[float, list[float]]) -> dict[str, Detections]:
    polys = np.array([row[1] for row in rows], dtype=float).reshape(-1, 8)
    scores = np.array([row[0] for row in rows], dtype=float)
    return {"ship": Detections(("a",), np.zeros(len(rows), np.intp), scores, polys)}


def near(picture: NDArray[np.uint8], x: int, y: int, colour: object, reach: int = 2) -> bool:
    """Whether a pixel within ``reach`` of (x, y) has nearly this colour (blue, green, red)."""
    part = picture[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].astype(int)
    return bool((np.abs(part - np.asarray(colour)).max(axis=2) < 40).any())


def test_colours_are_mmrotates_by_name_whatever_the_list() -> None:
    assert [colour_of(name, DOTA_CLASSES["v1.0"]) for name in DOTA_CLASSES["v1.0"]] == list(PALETTE[:15])
    # mmrotate/datasets/dota.py of 0.3.4
    assert PALETTE[:15] == (
        (165, 42, 42), (189, 183, 107), (0, 255, 0), (255, 0, 0), (138, 43, 226), (255, 128, 0), (255, 0, 255),
        (0, 255, 255), (255, 193, 193), (0, 51, 153), (255, 250, 205), (0, 139, 139), (255, 255, 0), (147, 116, 116),
        (0, 0, 255),
    )  # fmt: skip
    assert colour_of("ship", ("ship",)) == PALETTE[6]
    assert colour_of("tractor", ("tractor", "ship")) == PALETTE[0]


def test_verdicts_equal_those_of_the_evaluation() -> None:
    rng = np.random.default_rng(3)
    boxes = np.column_stack([rng.uniform(0, 200, (40, 2)), rng.uniform(10, 30, (40, 2)), rng.uniform(-1, 1, 40)])
    names = tuple(rng.choice(CLASSES, 40))
    truth = Labels(le90_to_poly(boxes), names, (rng.random(40) < 0.2).astype(np.int64))
    polys = le90_to_poly(np.repeat(boxes, 2, axis=0) + rng.normal(0, 2, (80, 5)) * [1, 1, 1, 1, 0.05])
    owner = np.repeat(np.array(names) == "ship", 2)
    found = {
        name: Detections(("a",), np.zeros(mask.sum(), np.intp), rng.random(mask.sum()), polys[mask])
        for name, mask in (("ship", owner), ("plane", ~owner))
    }
    v = judge_image(found, CLASSES, truth)
    result = evaluate(found, {"a": truth}, CLASSES)
    for c, name in enumerate(CLASSES):
        r = result.per_class[name]
        assert v.outcome[v.cls == c].tolist() == r.outcome[0].tolist()
        assert v.scores[v.cls == c].tolist() == r.scores.tolist()
        assert np.count_nonzero(v.found[(v.truth_cls == c) & ~v.difficult]) == r.tp()
    assert {-1, 0, 1} == set(v.outcome.tolist())


def test_thresholds_and_unknown_classes() -> None:
    truth = labels((square(0, 0), "ship", 0), (square(100, 0), "boat", 0))
    found = {**ships((0.9, square(10, 0)), (0.2, square(0, 0))), "boat": ships((0.9, square(0, 0)))["ship"]}
    assert len(judge_image(found, CLASSES, truth).scores) == 2
    v = judge_image(found, CLASSES, truth, score_thr=0.5)
    assert (len(v.scores), len(v.truth_cls), v.outcome.tolist()) == (1, 1, [1])  # IoU 50 / 70 = 0.714
    assert judge_image(found, CLASSES, truth, score_thr=0.5, iou_thr=0.75).outcome.tolist() == [-1]


TRUTH = labels((square(20, 20), "ship", 0), (square(120, 20), "ship", 0), (square(220, 20), "ship", 1))
FOUND = ships((0.9, square(20, 20)), (0.8, square(120, 150)), (0.7, square(220, 20)))


def test_each_verdict_is_drawn_in_its_way() -> None:
    picture = draw_detections(GREY, FOUND, classes=CLASSES, truth=TRUTH, legend=False)
    assert picture.shape == GREY.shape
    # found: outline in the colour of ships, inside untouched
    assert near(picture, 50, 20, SHIP)
    assert near(picture, 20, 50, SHIP)
    assert (picture[50, 50] == 90).all()
    # false positive: outline, both diagonals, and red inside
    assert near(picture, 150, 150, SHIP)
    assert near(picture, 135, 165, SHIP)
    assert near(picture, 135, 195, SHIP)
    blue, green, red = picture[170, 150].astype(int)
    assert red > 120
    assert max(blue, green) < 95
    # missed: corners in the colour, yellow inside
    assert near(picture, 120, 20, SHIP)
    blue, green, red = picture[50, 150].astype(int)
    assert min(green, red) > 120
    assert blue < 90
    # difficult and what found it: outline, inside untouched
    assert near(picture, 250, 20, SHIP, reach=6)
    assert (picture[50, 250] == 90).all()
    # nothing else
    assert (picture[100:140] == 90).all()


def test_broken_outlines_have_gaps_and_full_ones_none() -> None:
    big = labels((square(50, 50, 200), "ship", 0))
    shares = []
    for found, truth in (
        (ships((0.9, square(50, 50, 200))), big),
        ({}, big),
        ({}, labels((square(50, 50, 200), "ship", 1))),
    ):
        picture = draw_detections(GREY, found, classes=CLASSES, truth=truth, legend=False)
        side = [near(picture, x, 50, SHIP, reach=0) for x in range(52, 248)]
        shares.append(np.mean(side))
    full, dashed, dotted = shares
    assert full == 1.0
    assert 0.2 < dotted < dashed < 0.8


def test_truth_alone_is_drawn_in_full_and_detections_alone_without_verdict() -> None:
    picture = draw_detections(GREY, classes=CLASSES, truth=TRUTH, legend=False)
    assert near(picture, 150, 20, SHIP)
    assert (picture[50, 150] == 90).all()  # not missed: nobody looked for it
    picture = draw_detections(GREY, FOUND, classes=CLASSES, legend=False)
    assert (picture[170, 150] == 90).all()
    assert near(picture, 150, 150, SHIP)


def test_scores_are_written_above_their_box() -> None:
    plain = draw_detections(GREY, FOUND, classes=CLASSES, legend=False)
    scored = draw_detections(GREY, FOUND, classes=CLASSES, legend=False, show_scores=True)
    rows = np.flatnonzero((plain != scored).any(axis=(1, 2)))
    assert 0 <= rows.min() < 20
    assert rows.max() < 150
    assert near(scored, 122, 145, SHIP, reach=3)  # its ground is the colour of the class


def test_a_score_that_would_hide_a_better_one_is_not_written() -> None:
    above = slice(60, 94)  # rows where scores stand, above the boxes
    both, best, apart = (
        draw_detections(GREY, ships(*rows), classes=CLASSES, show_scores=True, legend=False)[above]
        for rows in (
            [(0.5, square(40, 100)), (0.9, square(46, 100))],
            [(0.9, square(46, 100))],
            [(0.5, square(240, 100)), (0.9, square(46, 100))],
        )
    )
    assert (both == best).all()
    assert (best != 90).any()
    assert (apart != best).any()


def test_the_legend_lies_below_and_changes_with_the_counts() -> None:
    plain = draw_detections(GREY, FOUND, classes=CLASSES, truth=TRUTH, legend=False)
    with_legend = draw_detections(GREY, FOUND, classes=CLASSES, truth=TRUTH)
    assert with_legend.shape[1] == 400
    assert with_legend.shape[0] > 300
    assert (with_legend[:300] == plain).all()
    strip = with_legend[300:]
    assert (strip[0] == 255).all()
    assert (np.abs(strip.astype(int) - SHIP).max(axis=2) < 40).any()
    fewer = draw_detections(GREY, FOUND, classes=CLASSES, truth=TRUTH, score_thr=0.85)[300:]
    assert fewer.shape != strip.shape or (fewer != strip).any()
    assert draw_detections(GREY, {}, classes=CLASSES, truth=labels()).shape[1] == 400


@pytest.mark.parametrize("side", [1, 40, 800, 4000])
def test_any_size_and_boxes_anywhere(side: int) -> None:
    image = np.zeros((side, max(side // 2, 1), 3), np.uint8)
    wild = [
        square(-30, -30),
        square(side - 5.0, side - 5.0),
        square(1e6, 1e6),
        square(-1e7, -1e7, 2e7),
        [5.0, 5, 5, 5, 5, 5, 5, 5],
        [0.0, 0, 9, 9, 9, 0, 0, 9],
    ]
    truth = labels(*((poly, "ship", k % 2) for k, poly in enumerate(wild)))
    found = ships(*((0.9 - 0.1 * k, [v + 3 for v in poly]) for k, poly in enumerate(wild)))
    picture = draw_detections(image, found, classes=CLASSES, truth=truth, show_scores=True)
    assert picture.shape[1] == image.shape[1]
    assert picture.dtype == np.uint8
    assert (image == 0).all()  # drawn on a copy


def test_boxes_beyond_32_bits_do_not_come_in_from_the_other_side() -> None:
    picture = draw_detections(GREY, ships((0.9, square(50, 50, 2.0**28))), classes=CLASSES, legend=False)
    assert near(picture, 200, 50, SHIP)
    assert near(picture, 50, 200, SHIP)
    assert (picture[:, :45] == 90).all()
    assert (picture[:45] == 90).all()


def test_lines_grow_with_the_image() -> None:
    widths = []
    for side in (800, 4000):
        image = np.full((side, side, 3), 90, np.uint8)
        picture = draw_detections(image, ships((0.9, square(100, 100, side / 2))), classes=CLASSES, legend=False)
        widths.append(int((picture[side // 3] != 90).any(axis=1).sum()))
    assert widths[0] < widths[1]
    small = draw_detections(image, ships((0.9, square(100, 100, 8))), classes=CLASSES, legend=False)
    assert (small[104, 103:106] == 90).all()  # an object of 8 pixels is not covered


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_other_images_are_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8"):
        draw_detections(image, {}, classes=CLASSES)


# -- examples --------------------------------------------------------------------------------------------------------


def test_an_example_shows_its_boxes_enlarged_under_a_line_of_text() -> None:
    image = np.full((1000, 1200, 3), 90, np.uint8)
    image[500:, :600] = 200
    one = Example("centre", "a", "ship", 0.93, tuple(square(620, 480, 40)), "plane", tuple(square(600, 480, 40)))
    picture = draw_example(image, one, classes=CLASSES, side=480)
    assert picture.shape == (24 + 480, 480, 3)
    assert np.array_equal(image[:2, :2], np.full((2, 2, 3), 90))
    # the two boxes reach from 600 to 660 and 480 to 520; the crop from 576 to 684 and 446 to 554
    reach, scale = 54.0, 480 / 108

    def place(x: float, y: float) -> tuple[int, int]:
        return round((x - (630 - reach)) * scale), 24 + round((y - (500 - reach)) * scale)

    x, y = place(630, 500)
    assert picture[y - 40, x + 30, 2] > picture[y - 40, x + 30, 0] + 20  # red inside
    assert near(picture, *place(660, 500), SHIP, reach=4)  # the detection's right side
    assert near(picture, *place(600, 480), np.array(colour_of("plane", CLASSES)[::-1]), reach=4)
    assert near(picture, *place(580, 550), (200, 200, 200))
    assert near(picture, *place(680, 550), (90, 90, 90))
    assert (picture[:24] < 100).any()  # the text


def test_examples_at_and_beyond_the_border_are_drawn() -> None:
    image = np.full((60, 50, 3), 90, np.uint8)
    for box in (square(-20, -20), square(45, 55), square(5000, 5000)):
        picture = draw_example(image, Example("miss", "a", None, None, None, "ship", tuple(box)), classes=CLASSES)
        assert picture.shape[0] == 24 + 480
        assert picture.shape[1] <= 480
    lost = Example("lost", "a", None, 0.5, None, "ship", tuple(square(10, 10)))
    other = Example("miss", "a", None, None, None, "ship", tuple(square(10, 10)))
    assert not np.array_equal(draw_example(image, lost, classes=CLASSES), draw_example(image, other, classes=CLASSES))
