"""The page in headless Chromium: what is shown, counted, chosen and moved, by mouse, finger and key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import HAS_BROWSER, Browser

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.viewing.pages import write_pages

pytestmark = pytest.mark.skipif(not HAS_BROWSER, reason="chromium and chromedriver are not installed")

HOSTILE = "</script><img src=x onerror=document.title='run'>"
WIDE, HIGH = 600, 400
RIGHT, ESCAPE = "\ue014", "\ue00c"


def square(x: float, y: float, side: float = 40) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images; on the first, ships at three scores and one box of a class with an evil name."""
    folder = tmp_path_factory.mktemp("pages")
    sources = []
    for name in ("first #1", "second"):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((HIGH, WIDE, 3), (40, 90, 160), np.uint8))
        sources.append(SourceImage(name, folder / f"{name}.png", None))
    image = np.zeros(3, np.intp)
    ships = Detections(
        ("first #1",),
        image,
        np.array([0.9, 0.5, 0.2]),
        np.array([square(100, 100), square(300, 100), square(500, 300)]),
    )
    evil = Detections(("first #1",), image[:1], np.array([0.7]), np.array([square(100, 300)]))
    write_pages(
        sources, {"first #1": {"ship": ships, HOSTILE: evil}}, folder / "out", classes=("plane", "ship", HOSTILE)
    )
    return folder / "out"


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with Browser(1000, 700) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser, pages: Path) -> Iterator[Browser]:
    """The first page, just opened; at the end the console must be empty."""
    window.open(pages / "first #1.html")
    window.pretend(1000, 700)
    yield window
    assert window.messages() == []


def place(browser: Browser, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the image is in the window, while the whole image is shown."""
    box = browser.run(
        "const r = document.getElementById('image').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
    )
    zoom = min(box[2] / WIDE, box[3] / HIGH)
    return box[0] + box[2] / 2 + (x - WIDE / 2) * zoom, box[1] + box[3] / 2 + (y - HIGH / 2) * zoom


def pixels(browser: Browser, x: float, y: float) -> np.ndarray:
    """(9, 3) red, green, blue of the window round a pixel of the whole image."""
    picture = cv2.imdecode(np.frombuffer(browser.picture(), np.uint8), cv2.IMREAD_COLOR)
    column, row = map(round, place(browser, x, y))
    return picture[row - 1 : row + 2, column - 1 : column + 2, ::-1].reshape(-1, 3).astype(int)


def has_ship(browser: Browser, x: float, y: float) -> bool:
    """Whether something of a ship's colour is there."""
    return bool((np.abs(pixels(browser, x, y) - (255, 0, 255)).max(axis=1) < 70).any())


def counts(browser: Browser) -> str:
    return browser.text("#count")


def test_image_and_boxes_are_seen(browser: Browser) -> None:
    assert counts(browser) == "3 of 4 detections"  # at first those of 0.3 and more
    assert browser.text("#size") == "600 × 400 pixels"
    assert np.abs(pixels(browser, 50, 50) - (160, 90, 40)).max() < 6, "the image itself"
    assert has_ship(browser, 120, 100), "its upper side"
    assert np.abs(pixels(browser, 520, 300) - (160, 90, 40)).max() < 6, "below the score: not drawn"


def test_the_slider_changes_what_is_counted_and_drawn(browser: Browser) -> None:
    browser.press("#least", RIGHT * 21)  # from 0.30 to 0.51
    assert browser.text("#value") == "0.51"
    assert counts(browser) == "2 of 4 detections"
    assert not has_ship(browser, 320, 100), "0.5 is less"
    browser.press("#least", "\ue011")  # Home: the lowest
    assert (browser.text("#value"), counts(browser)) == ("0.20", "4 of 4 detections")
    assert has_ship(browser, 520, 300)


def test_classes_are_switched_off_and_on(browser: Browser) -> None:
    names = browser.run("return [...document.querySelectorAll('#classes span')].map(one => one.textContent)")
    assert names == ["ship", HOSTILE]
    browser.click("#classes label:first-child input")
    assert counts(browser) == "1 of 4 detections"
    assert not has_ship(browser, 120, 100)
    browser.click("#none")
    assert counts(browser) == "0 of 4 detections"
    browser.click("#all")
    assert counts(browser) == "3 of 4 detections"
    assert browser.text("#classes label:first-child small") == "2 / 3"


def test_a_click_tells_the_box_and_one_beside_it_nothing(browser: Browser) -> None:
    browser.point([place(browser, 310, 130)])
    assert browser.text("#chosen") == "ClassshipScore0.500Length40.0 pxWidth40.0 pxAngle0.0°Middlex 320.0, y 120.0"
    browser.point([place(browser, 250, 200)])
    assert browser.text("#chosen") == ""
    browser.point([place(browser, 120, 320)], kind="touch")
    assert browser.text("#chosen").startswith(f"Class{HOSTILE}Score0.700")
    browser.press("#image", ESCAPE)
    assert browser.text("#chosen") == ""
    browser.point([place(browser, 310, 130)])
    browser.click("#classes label:first-child input")
    assert browser.text("#chosen") == "", "what is not shown is not chosen"


def test_a_click_of_an_unsteady_hand_moves_nothing(browser: Browser) -> None:
    x, y = place(browser, 310, 130)
    browser.point([(x, y), (x - 3, y - 3)])
    assert browser.text("#chosen").startswith("ClassshipScore0.500")
    assert has_ship(browser, 120, 100), "the other ship is where it was"


def test_an_evil_class_name_is_text(browser: Browser) -> None:
    browser.point([place(browser, 120, 320)])
    assert browser.run("return document.images.length") == 0
    assert browser.run("return document.title") == "first #1: detections"


def test_next_and_previous_follow_the_scores(browser: Browser) -> None:
    def score() -> str:
        return browser.text("#chosen dd:nth-of-type(2)")

    browser.click("#next")
    assert score() == "0.900"
    browser.press("#image", "n")
    assert score() == "0.700"
    browser.press("#image", "nn")
    assert score() == "0.500", "there is none after it"
    browser.click("#previous")
    assert score() == "0.700"


def test_the_image_is_moved_and_zoomed(browser: Browser) -> None:
    away = place(browser, 250, 200)

    def chosen_at(where: tuple[float, float]) -> str:
        browser.point([where])
        return browser.text("#chosen")[:22]

    # dragged: what was 200 pixels of the window to the left is under the pointer
    start = place(browser, 110, 110)
    browser.point([start, (start[0] + 60, start[1] + 30), (start[0] + 200, start[1] + 100)])
    assert browser.text("#chosen") == "", "a drag is no click"
    assert chosen_at((start[0] + 200, start[1] + 100)).startswith("ClassshipScore0.900")
    assert chosen_at(start) == ""
    browser.press("#image", "0")  # the whole image again
    assert chosen_at(start).startswith("ClassshipScore0.900")
    # two fingers apart: the point between them stays, others move away from it
    middle = place(browser, 300, 110)
    browser.point(
        [(middle[0] - 20, middle[1]), (middle[0] - 40, middle[1]), (middle[0] - 80, middle[1])],
        [(middle[0] + 20, middle[1]), (middle[0] + 40, middle[1]), (middle[0] + 80, middle[1])],
        kind="touch",
    )
    assert chosen_at((middle[0] + 100, middle[1])).startswith("ClassshipScore0.500"), "100 of 40 pixels times four"
    browser.press("#image", "0")
    assert chosen_at((middle[0] + 100, middle[1])) == ""
    browser.press("#image", "+" + RIGHT)
    assert chosen_at(away) == ""
    browser.click("#fit")
    assert chosen_at(start).startswith("ClassshipScore0.900")


def test_the_wheel_zooms_round_the_pointer(browser: Browser) -> None:
    x, y = place(browser, 110, 110)
    browser.run(
        "document.getElementById('image').dispatchEvent(new WheelEvent('wheel', {deltaY: -800, clientX: arguments[0], "
        "clientY: arguments[1], bubbles: true, cancelable: true}))", x, y,
    )  # fmt: skip
    browser.settled()
    browser.point([(x, y)])
    assert browser.text("#chosen").startswith("ClassshipScore0.900")
    assert not has_ship(browser, 300, 120)


def test_the_next_page_is_a_click_away(browser: Browser) -> None:
    assert browser.text("#beside") == "Next: second"
    browser.click("#beside a")
    assert browser.text("#name") == "second"
    assert counts(browser) == "0 of 0 detections"
    browser.click("#beside a")
    assert browser.text("#name") == "first #1"


def test_many_boxes_are_drawn(window: Browser, tmp_path: Path) -> None:
    """Above a thousand in sight they are drawn another way: at the same places."""
    x, y = (grid.ravel() * 20.0 + 5 for grid in np.meshgrid(np.arange(60), np.arange(40)))
    polys = np.stack([x, y, x + 10, y, x + 10, y + 10, x, y + 10], axis=1)
    scores = np.linspace(0.9, 0.4, len(x))
    cv2.imwrite(str(tmp_path / "many.png"), np.full((800, 1200, 3), 90, np.uint8))
    ships = Detections(("many",), np.zeros(len(x), np.intp), scores, polys)
    write_pages(
        [SourceImage("many", tmp_path / "many.png", None)], {"many": {"ship": ships}}, tmp_path, classes=("ship",)
    )
    window.open(tmp_path / "many.html")
    window.pretend(1600, 900)
    window.settled()
    assert counts(window) == "2,400 of 2,400 detections"
    picture = cv2.imdecode(np.frombuffer(window.picture(), np.uint8), cv2.IMREAD_COLOR)
    pink = (picture[..., 0] > 200) & (picture[..., 1] < 60) & (picture[..., 2] > 200)
    left, top, width, height = window.run(
        "const r = document.getElementById('image').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
    )
    zoom = min(width / 1200, height / 800)
    corner = left + width / 2 - 600 * zoom, top + height / 2 - 400 * zoom
    upper = np.stack([x + 5, y], axis=1) * zoom + corner
    inside = np.stack([x + 5, y + 5], axis=1) * zoom + corner

    def seen(points: np.ndarray, reach: int) -> np.ndarray:
        grown = cv2.dilate(pink.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1)))
        columns, rows = points.round().astype(int).T
        return grown[rows, columns] > 0

    free = upper[:, 0] > 70  # of the buttons
    assert seen(upper, 1)[free].all()
    assert not seen(inside, 1).any()
    assert window.messages() == []
