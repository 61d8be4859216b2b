"""Pages of detections: what they hold, read back without their script, and that nothing in them can run or be asked."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_data import page_data, page_parts, tile_pixels
from scripts import ROOT

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import GeoReferenceError
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.rasters.images import WholeImage
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.viewing import boxes as boxes_module
from fdam_rotate.dota.viewing import pages as pages_module
from fdam_rotate.dota.viewing import pyramid
from fdam_rotate.dota.viewing.pages import image_page, write_pages

CLASSES = ("plane", "ship", "harbor")


def found(*rows: tuple[float, list[float]]) -> Detections:
    return Detections(
        ("a",), np.zeros(len(rows), np.intp), np.array([score for score, _ in rows]), np.array([box for _, box in rows])
    )


# 40 x 10, lying; 20 x 10 turned by 90 degrees; a rectangle of 5 root 2 by 2 root 2, falling to the right
LYING = [10.0, 20, 50, 20, 50, 30, 10, 30]
UPRIGHT = [100.0, 50, 110, 50, 110, 70, 100, 70]
TILTED = [60.0, 60, 65, 65, 63, 67, 58, 62]
DETECTIONS = {"ship": found((0.5, LYING), (0.25, UPRIGHT), (0.9, TILTED)), "plane": found((0.3, UPRIGHT))}


def page(detections: dict[str, Detections] = DETECTIONS, image_id: str = "a", **options: object) -> str:
    image = WholeImage(np.full((80, 120, 3), (10, 100, 200), np.uint8), "")
    return image_page(image, image_id, detections, CLASSES, **options)  # type: ignore[arg-type]


def test_the_page_holds_the_detections() -> None:
    data = page_data(page())
    columns = data["boxes"]
    assert (data["name"], data["width"], data["height"]) == ("a", 120, 80)
    assert columns["cls"] == ["plane", "ship", "ship", "ship"]
    assert columns["scores"].tolist() == [0.3, 0.9, 0.5, 0.25]
    assert columns["corners"].tolist() == [UPRIGHT, TILTED, LYING, UPRIGHT]
    upright, tilted, lying = [20, 10, -90], [50**0.5, 8**0.5, 45], [40, 10, 0]
    np.testing.assert_allclose(columns["sides"], [upright, tilted, lying, upright], rtol=1e-6, atol=1e-5)
    assert columns["metres"] is None
    assert [one["colour"] for one in columns["classes"]] == ["#a52a2a", "#ff00ff"]
    assert (data["low"], data["high"], data["least"], data["left_out"]) == (0.25, 1.0, 0.3, 0)
    assert np.abs(tile_pixels(data, 1, 0, 0).astype(int) - (10, 100, 200)).max() < 4


def test_an_image_without_detections_has_a_page() -> None:
    data = page_data(page({}))
    assert data["boxes"]["classes"] == []
    assert len(data["boxes"]["scores"]) == len(data["boxes"]["corners"]) == 0
    assert (data["low"], data["high"]) == (0.0, 1.0)


def test_scores_beyond_one_are_within_reach_of_the_slider() -> None:
    data = page_data(page({"ship": found((7.001, LYING), (-0.5, LYING))}))
    assert (data["low"], data["high"]) == (-0.5, 7.01)


def test_the_best_are_kept_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes_module, "MAX_BOXES", 2)
    data = page_data(page())
    assert (data["boxes"]["scores"].tolist(), data["left_out"]) == ([0.9, 0.5], 2)


def test_lengths_on_the_ground() -> None:
    rasterio = pytest.importorskip("rasterio")
    from fdam_rotate.dota.rasters.georeference import GeoReference

    # on the middle meridian of a UTM zone a map's metre is 1 / 0.9996 on the ground
    place = GeoReference(rasterio.crs.CRS.from_epsg(32633), (0.5, 0, 500_000, 0, -0.5, 5_000_000))
    data = page_data(page(reference=place))
    sides = np.array([[20, 10], [50**0.5, 8**0.5], [40, 10], [20, 10]])
    np.testing.assert_allclose(data["boxes"]["metres"], sides * 0.5 / 0.9996, rtol=1e-5)
    assert page_data(page(reference=GeoReference(None, (0.5, 0, 0, 0, -0.5, 0))))["boxes"]["metres"] is None
    assert page_data(page({}, reference=place))["boxes"]["metres"] is None


def test_the_slider_reaches_scores_between_hundredths_which_are_kept_whole() -> None:
    data = page_data(page({"ship": found((0.123456789, LYING), (0.257, LYING))}))
    assert (data["low"], data["boxes"]["scores"].tolist()) == (0.12, [0.257, 0.123456789])
    assert page_data(page({"ship": found((0.257, LYING))}))["low"] == 0.25


def test_detections_of_other_classes_are_not_told_as_left_out() -> None:
    data = page_data(page({**DETECTIONS, "car": found((0.8, LYING))}))
    assert (len(data["boxes"]["scores"]), data["left_out"]) == (4, 0)


def test_bounds_are_those_of_the_documentation() -> None:
    text = " ".join((ROOT / "docs" / "predict.md").read_text(encoding="utf-8").split())
    for words, number in (
        (f"the best {boxes_module.MAX_BOXES:,} detections", 200_000),
        (f"whole up to {pyramid.WHOLE_PIXELS // 10**6} megapixels", 32),
        (f"up to {pyramid.DETAIL_TILES} tiles of {pyramid.TILE} x {pyramid.TILE}", 500),
        (f"by a least score (at first {pages_module.FIRST_SCORE})", 0.3),
    ):
        assert words in text
        assert f"{number:,}" in words


@pytest.mark.parametrize("name", ["</script><img src=x onerror=alert(1)>", "<!--<script>", "\" onload='x'", "&amp;ü"])
def test_names_are_text_wherever_they_stand(name: str) -> None:
    image = WholeImage(np.zeros((8, 8, 3), np.uint8), "")
    text = image_page(image, name, {name: found((0.5, LYING))}, (name,), beside=(name, None))
    data = page_data(text)
    assert data["name"] == data["boxes"]["classes"][0]["name"] == data["beside"][0]["name"] == name
    plain = page_parts(page())
    parts = page_parts(text)
    assert [tag for tag, _ in parts.found] == [tag for tag, _ in plain.found], "no element comes of a name"
    assert not any(key.startswith("on") for _, attributes in parts.found for key in attributes)
    assert re.fullmatch(r"\./[\w.%~-]+", data["beside"][0]["file"])


def test_the_page_asks_for_nothing_and_runs_only_its_own_script() -> None:
    text = page()
    assert "http:" not in text
    assert "https:" not in text
    parts = page_parts(text)
    (policy,) = (a["content"] for tag, a in parts.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    texts = {tag: text for tag, text in parts.texts}
    for tag, rule in (("style", "style-src"), ("script", "script-src")):  # of the two scripts the last
        digest = base64.b64encode(hashlib.sha256(texts[tag].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    assert not any("src" in attributes or "href" in attributes for _, attributes in parts.found)
    assert not any("style" in attributes for _, attributes in parts.found), "the policy would drop it"


@pytest.fixture
def sources(tmp_path: Path) -> list[SourceImage]:
    paths = [tmp_path / f"{name}.png" for name in ("a", "b #2", "c")]
    for path in paths:
        assert cv2.imwrite(str(path), np.full((80, 120, 3), 90, np.uint8))
    return [SourceImage(path.stem, path, None) for path in paths]


def test_one_page_an_image_each_with_its_own(sources: list[SourceImage], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = write_pages(sources, {"a": DETECTIONS}, out, classes=CLASSES, least=0.4)
    assert (done.pages, done.failures) == (3, [])
    assert done.notes == [f"{one.path}: warning: nearly one grey: 98 % of the values lie between 90 and 90 of 255; "
                          "--scale-range and --bands set what is read" for one in sources]  # fmt: skip
    pages = {path.name: page_data(path.read_text()) for path in out.iterdir()}
    assert sorted(pages) == ["a.html", "b #2.html", "c.html"]
    assert [len(pages[name]["boxes"]["scores"]) for name in sorted(pages)] == [4, 0, 0]
    assert pages["a.html"]["least"] == 0.4
    assert pages["a.html"]["beside"] == [None, {"name": "b #2", "file": "./b%20%232.html"}]
    assert pages["c.html"]["beside"] == [{"name": "b #2", "file": "./b%20%232.html"}, None]


def test_the_same_input_gives_the_same_bytes(sources: list[SourceImage], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pages(sources, {"a": DETECTIONS}, tmp_path / name, classes=CLASSES)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_image_that_cannot_be_read_is_told_and_the_rest_written(sources: list[SourceImage], tmp_path: Path) -> None:
    sources[1].path.write_bytes(b"\x89PNG")
    done = write_pages(sources, {}, tmp_path / "out", classes=CLASSES)
    assert done.pages == 2
    assert len(done.failures) == 1
    assert str(sources[1].path) in done.failures[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.html", "c.html"]


def test_an_image_that_went_away_is_told_and_the_rest_written(sources: list[SourceImage], tmp_path: Path) -> None:
    sources[0].path.unlink()
    done = write_pages(sources, {}, tmp_path / "out", classes=CLASSES)
    assert (done.pages, len(done.failures)) == (2, 1)
    assert str(sources[0].path) in done.failures[0]


def test_a_raster_has_its_bands_and_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=120, height=80, count=3, dtype="uint8", crs="EPSG:32633",
        transform=rasterio.transform.from_origin(500_000, 5_000_000, 0.5, 0.5),
    ) as file:  # fmt: skip
        file.write(np.stack([np.full((80, 120), value, np.uint8) for value in (200, 100, 10)]))

    def written(raster: RasterOptions | None) -> dict:
        done = write_pages([SourceImage("a", path, None)], {"a": DETECTIONS}, tmp_path, classes=CLASSES, raster=raster)
        assert done.failures == []
        return page_data((tmp_path / "a.html").read_text())

    data = written(None)
    assert data["least"] == 0.3
    np.testing.assert_allclose(data["boxes"]["metres"][2], [20 / 0.9996, 5 / 0.9996], rtol=1e-5)
    assert np.abs(tile_pixels(data, 1, 0, 0).astype(int) - (10, 100, 200)).max() < 4
    assert np.abs(tile_pixels(written(RasterOptions((3, 2, 1))), 1, 0, 0).astype(int) - (200, 100, 10)).max() < 4

    def nowhere(_: object) -> None:
        raise GeoReferenceError("its place says nothing")

    monkeypatch.setattr(pages_module, "read_georeference", nowhere)
    assert written(None)["boxes"]["metres"] is None
