"""Prediction on whole images with a model whose answer is known: it finds bright squares."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fdam_rotate.dota.detections import read_detections
from fdam_rotate.dota.errors import DotaError, OutputExistsError
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.predicting.journal import Journal, rows_by_class
from fdam_rotate.dota.predicting.model import Found
from fdam_rotate.dota.predicting.predict import predict_images
from fdam_rotate.dota.splitting.options import SplitOptions

OPTIONS = SplitOptions(sizes=(64,), gaps=(16,))
SQUARES = {"a": [(10, 12), (70, 30)], "b.c__d": [(40, 40)]}
SIDE = 8


class SquareFinder:
    """A box round each bright spot, scored by its brightness; counts the windows that it saw."""

    classes = ("plane", "ship")

    def __init__(self) -> None:
        self.identity = {"checkpoint": "0123"}
        self.seen = 0
        self.batches = []

    def prepare(self, threads=None):
        pass

    def detect(self, windows):
        self.batches.append(len(windows))
        results = []
        for pixels in windows:
            assert pixels.shape == (64, 64, 3), "small images are filled up as the splitter does"
            self.seen += 1
            boxes, scores = [], []
            for x, y, w, h, area in cv2.connectedComponentsWithStats((pixels[..., 0] > 80).astype(np.uint8))[2][1:]:
                if area == SIDE * SIDE:  # whole in this window
                    boxes.append([x + w / 2, y + h / 2, w, h, math.pi / 4])
                    scores.append(pixels[y, x, 0] / np.float32(255))
            results.append(Found(np.array(boxes).reshape(-1, 5), np.array(scores), np.zeros(len(boxes), int)))
        return results


@pytest.fixture
def finder() -> SquareFinder:
    return SquareFinder()


@pytest.fixture
def sources(tmp_path) -> list[SourceImage]:
    found = []
    for name, (width, height) in {"a": (130, 50), "b.c__d": (90, 75)}.items():
        image = np.zeros((height, width, 3), np.uint8)
        for k, (x, y) in enumerate(SQUARES[name]):
            image[y : y + SIDE, x : x + SIDE] = 100 + 50 * k
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), image)
        found.append(SourceImage(name, path, None))
    return found


def text(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("Task1_*.txt"))}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_object_once_at_its_place(finder, sources, tmp_path, batch_size):
    summary = predict_images(finder, sources, tmp_path / "out", OPTIONS, batch_size=batch_size)
    found = read_detections(tmp_path / "out")
    assert len(found["ship"]) == 0
    assert (summary.images, summary.detections, summary.resumed) == (2, 3, 0)
    assert finder.seen == summary.windows
    assert max(finder.batches) == min(batch_size, 3)
    centres = {}
    for row, poly in zip(found["plane"].image, found["plane"].polys.reshape(-1, 4, 2), strict=True):
        centres.setdefault(found["plane"].image_ids[row], []).append(tuple(poly.mean(0).round(3).tolist()))
    expected = {name: sorted((x + SIDE / 2, y + SIDE / 2) for x, y in spots) for name, spots in SQUARES.items()}
    assert {name: sorted(spots) for name, spots in centres.items()} == expected


def test_windows_too_small_for_a_patchs_name_lie_in_their_place(tmp_path):
    """``a__8__8___0`` names a patch of an image that was resized by 8; here it is a window of 8 pixels."""

    class OneBox(SquareFinder):
        def detect(self, windows):
            box = Found(np.array([[4.0, 4.0, 6.0, 2.0, 0.0]]), np.array([0.9]), np.zeros(1, int))
            return [box] * len(windows)

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 24, 3), np.uint8))
    source = SourceImage("a", tmp_path / "a.png", None)
    predict_images(OneBox(), [source], tmp_path / "out", SplitOptions(sizes=(8,), gaps=(0,)))
    polys = read_detections(tmp_path / "out")["plane"].polys
    assert sorted(polys.reshape(-1, 4, 2).mean(1).tolist()) == [[4, 4], [12, 4], [20, 4]]


def test_outside_an_image_is_the_value_that_was_asked_for(finder, sources, tmp_path):
    """And another value is another run: the windows at the border have other pixels."""
    seen, detect = [], finder.detect

    def watched(windows):
        seen.extend(windows)
        return detect(windows)

    finder.detect = watched
    predict_images(finder, sources[:1], tmp_path / "out", replace(OPTIONS, padding_value=(10, 20, 30)))
    assert len(seen) == 3
    assert all((pixels[50:] == (10, 20, 30)).all() for pixels in seen), "the image has 50 rows"
    assert not any((pixels[:50] == (10, 20, 30)).all(-1).any() for pixels in seen)
    for path in (tmp_path / "out").glob("Task1_*.txt"):
        path.unlink()  # an unfinished run
    with pytest.raises(DotaError, match=r"other settings: padding_value \[10, 20, 30\] there and \[0\] here"):
        predict_images(finder, sources[:1], tmp_path / "out", OPTIONS)


def test_a_killed_run_goes_on_and_ends_the_same(finder, sources, tmp_path, monkeypatch):
    predict_images(finder, sources, tmp_path / "whole", OPTIONS)
    total, finder.seen = finder.seen, 0

    append = Journal._append

    def killed(self, lines):
        lines = list(lines)
        if any(b'"patch": "b' in line for line in lines):
            append(self, [b'{"patch": "b.c__d__64__0___0", "fou'])  # half a line
            raise KeyboardInterrupt
        append(self, lines)

    out = tmp_path / "out"
    monkeypatch.setattr(Journal, "_append", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_images(finder, sources, out, OPTIONS)
    assert not text(out)
    before, finder.seen = finder.seen, 0
    monkeypatch.setattr(Journal, "_append", append)
    summary = predict_images(finder, sources, out, OPTIONS)
    assert text(out) == text(tmp_path / "whole")
    assert summary.resumed == before - 1 == total - finder.seen
    assert summary.resumed > 0


def test_half_written_files_of_a_killed_run_do_not_stop_the_next(finder, sources, tmp_path):
    """SIGKILL while `atomic_path` writes leaves a file of a hidden name; such files of ours go, others stop the run."""
    predict_images(finder, sources, tmp_path / "whole", OPTIONS)
    out = tmp_path / "out"
    halves = [".tmp-abcd_1x2.txt", "patches/.tmp-abcd_1x2.jsonl", "geojson/.tmp-abcd_1x2.geojson"]
    halves += ["gpkg/.tmp-abcd_1x2.gpkg-journal", "html/.tmp-abcd_1x2.html"]
    for name in halves:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("half")
    predict_images(finder, sources, out, OPTIONS)
    assert text(out) == text(tmp_path / "whole")
    assert not any((out / name).exists() for name in halves)
    foreign = tmp_path / "foreign/.tmp-mine.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"\.tmp-mine\.txt, which is not of a prediction"):
        predict_images(finder, sources, foreign.parent, OPTIONS)
    assert foreign.read_text() == "mine"


def test_what_is_there_is_not_replaced_unasked(finder, sources, tmp_path):
    out = tmp_path / "out"
    predict_images(finder, sources, out, OPTIONS)
    with pytest.raises(OutputExistsError, match="finished prediction"):
        predict_images(finder, sources, out, OPTIONS)
    finder.seen = 0
    summary = predict_images(finder, sources[:1], out, OPTIONS, score_thr=0.5, overwrite=True)
    assert finder.seen == 0, "the same windows of the same model and image are not predicted again"
    assert summary.detections == 1
    assert [path.name for path in (out / "patches").iterdir()] == ["a.jsonl"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("two years of work")
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
        predict_images(finder, sources, tmp_path / "thesis", OPTIONS)
    predict_images(finder, sources, tmp_path / "thesis", OPTIONS, overwrite=True)
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "two years of work"
    with pytest.raises(OutputExistsError, match="read and written"):
        predict_images(finder, sources, sources[0].path, OPTIONS)


def test_journals_of_other_settings_are_told_or_replaced(finder, sources, tmp_path):
    out = tmp_path / "out"
    predict_images(finder, sources, out, OPTIONS)
    for path in out.glob("Task1_*.txt"):
        path.unlink()  # an unfinished run
    other = SplitOptions(sizes=(64,), gaps=(32,))
    with pytest.raises(DotaError, match=r"a\.jsonl is of a run with other settings: gaps \[16\] there and \[32\] here"):
        predict_images(finder, sources, out, other)
    finder.identity = {"checkpoint": "4567"}
    with pytest.raises(DotaError, match="other settings: checkpoint"):
        predict_images(finder, sources, out, OPTIONS)
    finder.seen = 0
    summary = predict_images(finder, sources, out, other, overwrite=True)
    assert summary.resumed == 0
    assert finder.seen == summary.windows
    (out / "patches" / "a.jsonl").write_text('{"patch"\n')
    for path in out.glob("Task1_*.txt"):
        path.unlink()
    with pytest.raises(DotaError, match=r"a\.jsonl is damaged"):
        predict_images(finder, sources, out, other)


def test_a_broken_image_costs_itself_only(finder, sources, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(sources[0].path.read_bytes()[:60])
    listed = [SourceImage("broken", broken, None), *sources]
    summary = predict_images(finder, listed, tmp_path / "out", OPTIONS)
    assert summary.images == 2
    (line,) = summary.failures
    assert str(broken) in line
    predict_images(finder, sources, tmp_path / "without", OPTIONS)
    assert text(tmp_path / "out") == text(tmp_path / "without")
    shutil.copy(sources[0].path, broken)  # mended: only it is predicted now
    finder.seen = 0
    summary = predict_images(finder, listed, tmp_path / "out", OPTIONS, overwrite=True)
    assert (summary.images, summary.failures) == (3, [])
    assert finder.seen == summary.windows - summary.resumed
    assert 0 < finder.seen < summary.windows


def test_a_geotiff_gets_geojson_at_its_place(finder, sources, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pixels = cv2.imread(str(sources[0].path))
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=130, height=50, count=3, dtype="uint8", crs="EPSG:4326",
        transform=rasterio.Affine(1e-5, 0, 7, 0, -1e-5, 50),
    ) as dataset:  # fmt: skip
        dataset.write(np.moveaxis(pixels[..., ::-1], -1, 0))
    listed = [*sources, SourceImage("scene", path, None)]
    summary = predict_images(finder, listed, tmp_path / "out", OPTIONS)
    assert summary.geojson == 1
    assert [p.name for p in (tmp_path / "out" / "geojson").iterdir()] == ["scene.geojson"]
    features = json.loads((tmp_path / "out" / "geojson" / "scene.geojson").read_text())["features"]
    centres = sorted(np.mean(f["geometry"]["coordinates"][0][:4], axis=0).tolist() for f in features)
    expected = [[7 + 1e-5 * (x + SIDE / 2), 50 - 1e-5 * (y + SIDE / 2)] for x, y in SQUARES["a"]]
    assert np.abs(np.array(centres) - expected).max() < 0.01 * 1e-5


def test_what_a_journal_keeps_of_a_window():
    """Scores to 8 decimals, corners to a ten-thousandth of a pixel, as tools/test.py writes them."""
    boxes = np.array([[10.00012, 20, 4, 2, 0], [1, 1, 2, 2, 0]])
    found = Found(boxes, np.array([0.123456784, 0.5]), np.array([1, 0]))
    corners = [8.0001, 19, 12.0001, 19, 12.0001, 21, 8.0001, 21]
    assert rows_by_class(found, ("plane", "ship", "harbor")) == {
        "plane": [[0.5, 0, 0, 2, 0, 2, 2, 0, 2]], "ship": [[0.12345678, *corners]],
    }  # fmt: skip


def test_a_window_that_comes_again_stays_as_it_was(tmp_path):
    """Batches of which some windows are missing are done again as a whole."""
    path, row = tmp_path / "a.jsonl", [0.5, *range(8)]
    journal = Journal(path, {"model": "m"}, ("ship",))
    journal.add({"w0": {"ship": [row]}})
    journal.add({"w0": {}, "w1": {}})
    assert path.read_text().count("w0") == 1
    for one in (journal, Journal(path, {"model": "m"}, ("ship",))):
        assert one.done == {"w0": {"ship": [row]}, "w1": {}}
