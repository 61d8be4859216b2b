"""Suppression and merging against plain loops and DOTA_devkit's stored output."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scripts import SHARED

from fdam_rotate.dota.detections import Detections, read_detections
from fdam_rotate.dota.errors import DotaError, WorkerError
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_hbb_iou, poly_to_hbb, polygon_iou
from fdam_rotate.dota.merging import nms, suppress
from fdam_rotate.dota.merging.merge import limit_per_image, merge_patches, nms_polygons
from fdam_rotate.dota.merging.nms import greedy_nms
from fdam_rotate.dota.merging.options import MergeOptions
from fdam_rotate.dota.merging.placing import Placer

CASE = SHARED / "cases" / "devkit_case"


def scene(rng: np.random.Generator, count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.column_stack(
        [
            rng.uniform(0, spread, (count, 2)),
            np.exp(rng.normal(3.3, 0.7, (count, 2))),
            rng.uniform(-math.pi / 2, math.pi / 2, count),
        ]
    )
    return le90_to_poly(boxes), rng.uniform(0, 1, count)


def plain_nms(polys: np.ndarray, scores: np.ndarray, thr: float, groups: np.ndarray, horizontal: bool) -> np.ndarray:
    """The rule as a loop over a full matrix."""
    if horizontal:
        bounds = poly_to_hbb(polys)
        iou = np.array([pairwise_hbb_iou(np.tile(one, (len(bounds), 1)), bounds) for one in bounds])
    else:
        iou = polygon_iou(polys, polys)
    left = np.ones(len(polys), bool)
    keep = np.zeros(len(polys), bool)
    for box in np.argsort(-scores, kind="stable"):
        if left[box]:
            keep[box] = True
            left[(iou[box] > thr) & (groups == groups[box])] = False
    return keep


@pytest.mark.parametrize("horizontal", [False, True], ids=["obb", "hbb"])
@pytest.mark.parametrize("first_round", [256, 8, 1], ids=["at once", "in rounds", "from one box"])
@pytest.mark.parametrize("chunk_pairs", [1 << 16, 50], ids=["whole", "chunks"])
def test_equals_plain_nms(
    monkeypatch: pytest.MonkeyPatch, horizontal: bool, first_round: int, chunk_pairs: int
) -> None:
    monkeypatch.setattr(nms, "_FIRST_ROUND", first_round)
    monkeypatch.setattr(nms, "_CHUNK_PAIRS", chunk_pairs)
    rng = np.random.default_rng(5)
    dropped = 0
    for trial in range(12):
        count = int(rng.integers(1, 350))
        polys, scores = scene(rng, count, float(rng.choice([60, 400, 2500])))
        if trial % 3 == 0:
            polys = polys.round()
        if trial % 4 == 0:  # quadrangles of any shape, and some without area
            polys[: count // 4] = rng.uniform(0, 80, (count // 4, 8))
            polys[: count // 12] = polys[: count // 12, [0, 1] * 4]
        scores = scores.round(int(rng.choice([1, 9])))  # ties
        groups = rng.integers(0, 1 + trial % 3, count)
        thr = float(rng.choice([0, 0.1, 0.3, 0.7]))
        before = polys.copy()
        keep = greedy_nms(polys, scores, thr, groups=groups, horizontal=horizontal)
        np.testing.assert_array_equal(keep, plain_nms(polys, scores, thr, groups, horizontal))
        np.testing.assert_array_equal(polys, before)
        dropped += int((~keep).sum())
    assert dropped > 200


def test_a_long_chain_is_settled() -> None:
    """Each box overlaps only its neighbours, scores fall along the row: every other one stays."""
    polys = np.array([[x, 0, x + 10, 0, x + 10, 4, x, 4] for x in range(0, 20_000, 5)], float)
    assert nms_polygons(polys, -np.arange(len(polys), dtype=float), 0.2).tolist() == list(range(0, len(polys), 2))


def test_nms_order_ties_and_edges() -> None:
    square, far = [0, 0, 4, 0, 4, 4, 0, 4], [9, 0, 13, 0, 13, 4, 9, 4]
    assert nms_polygons([square, square, far], [0.5, 0.5, 0.9]).tolist() == [2, 0]
    assert nms_polygons(np.zeros((0, 8)), []).tolist() == []
    half = [2, 0, 6, 0, 6, 4, 2, 4]  # IoU 8 / 24
    assert nms_polygons([square, half], [0.9, 0.8], 8 / 24).tolist() == [0, 1], "equal to the threshold stays"
    assert nms_polygons([square, half], [0.9, 0.8], 0.33).tolist() == [0]
    with pytest.raises(ValueError, match="finite"):
        nms_polygons([square], [math.nan])
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        nms_polygons([square], [1], 1.5)


def test_crossing_thin_boxes_both_stay() -> None:
    cross = le90_to_poly([[50, 50, 100, 4, math.pi / 4], [50, 50, 100, 4, -math.pi / 4]])
    assert len(nms_polygons(cross, [0.9, 0.8])) == 2
    assert greedy_nms(cross, np.array([0.9, 0.8]), 0.1, horizontal=True).tolist() == [True, False]


def rows(detections: Detections) -> list[tuple[object, ...]]:
    ids = [detections.image_ids[k] for k in detections.image]
    numbers = np.column_stack([detections.scores, detections.polys.round(6)])
    return sorted((image_id, *row) for image_id, row in zip(ids, numbers.tolist(), strict=True))


@pytest.mark.skipif(not CASE.is_dir(), reason="needs shared/cases/devkit_case")
def test_equals_devkit() -> None:
    merged = merge_patches(read_detections(CASE / "patch_det"))
    expected = read_detections(CASE / "merged")
    assert sum(map(len, expected.values())) == 1268
    for name, found in expected.items():
        assert rows(merged[name]) == rows(found), name


def detections(*boxes: tuple[str, float, float]) -> Detections:
    """Squares of 10 pixels: (id, score, x)."""
    ids = tuple(dict.fromkeys(box[0] for box in boxes))
    polys = np.array([[x, 0, x + 10, 0, x + 10, 10, x, 10] for _, _, x in boxes], float).reshape(-1, 8)
    return Detections(ids, np.array([ids.index(b[0]) for b in boxes], np.intp), np.array([b[1] for b in boxes]), polys)


def test_places_of_both_conventions_and_a_manifest() -> None:
    found = detections(("a__b__1024__100___0", 0.9, 5), ("a__b__0.5__50___0", 0.8, 2), ("c__1__7___0", 0.7, 0))
    merged = merge_patches({"ship": found}, MergeOptions(nms="none"))["ship"]
    assert merged.image_ids == ("a__b", "c")
    # 5 + 100; (2 + 50) / 0.5, twice as wide; 0 + 7
    assert merged.polys[:, [0, 2]].tolist() == [[105, 115], [104, 124], [7, 17]]

    class Manifest:
        def locate(self, patch_id: str) -> tuple[str, int, int, float]:
            return ("img", 3, 4, 2.0)

    for locate in (Manifest(), Manifest().locate):
        placed = merge_patches({"ship": detections(("any", 0.5, 1))}, locate=locate)["ship"]
        assert placed.image_ids == ("img",)
        assert placed.polys[0].tolist() == [2, 2, 7, 2, 7, 7, 2, 7]
    with pytest.raises(DotaError, match=r"class ship.*'any__0__0___0' is not a patch name"):
        merge_patches({"ship": detections(("any__0__0___0", 0.5, 1))})


def test_boxes_of_absurd_places_and_numbers_that_are_none_are_refused() -> None:
    good = detections(("P__1024__0___0", 0.9, 0))
    for patch_id in ("P__1024__99999999___0", "P__0.0000001__0___0", f"P__1024__{'9' * 200}___0"):
        with pytest.raises(DotaError, match=r"class ship: 'P__.*more than 10000000 pixels from its image's origin"):
            merge_patches({"ship": detections((patch_id, 0.5, 1))})
    with pytest.raises(DotaError, match="more than 10000000 pixels"):
        merge_patches({"ship": Detections(good.image_ids, good.image, good.scores, good.polys * np.nan)})
    with pytest.raises(DotaError, match="class ship: a score is not finite"):
        merge_patches({"ship": Detections(good.image_ids, good.image, good.scores * np.nan, good.polys)})
    with pytest.raises(DotaError, match=r"scale 0.0; expected a number above 0"):
        merge_patches({"ship": good}, locate=lambda patch_id: ("P", 0, 0, 0.0))
    placed, lost = Placer().place(detections(("P__0.5__0___0", 0.9, 0), ("P__0.5__0___0", 0.8, 9e6)))
    assert placed.scores.tolist() == [0.9]
    assert [patch_id for patch_id, _ in lost] == ["P__0.5__0___0"]


def test_every_setting_changes_the_result() -> None:
    one = detections(("P__1024__0___0", 0.9, 0), ("P__1024__0___0", 0.8, 5), ("P__1024__0___0", 0.2, 50))

    def scores(**settings: object) -> list[float]:
        return merge_patches({"ship": one}, MergeOptions(**settings))["ship"].scores.tolist()  # type: ignore[arg-type]

    assert scores() == [0.9, 0.2]
    assert scores(nms="none") == [0.9, 0.8, 0.2]
    assert scores(iou_thr=0.4) == [0.9, 0.8, 0.2]  # IoU 50 / 150
    assert scores(score_thr=0.2) == [0.9, 0.2]
    assert scores(score_thr=0.21) == [0.9]
    assert scores(max_per_image=1) == [0.9]
    for settings, message in (
        ({"nms": "soft"}, "nms must be one of obb, hbb, none; got 'soft'"),
        ({"fuse": "mean"}, "fuse must be one of nms, wbf; got 'mean'"),
        ({"iou_thr": 1.01}, r"iou_thr must lie in \[0, 1\], got 1.01"),
        ({"fuse_iou_thr": -0.01}, r"fuse_iou_thr must lie in \[0, 1\], got -0.01"),
        ({"score_thr": float("nan")}, "score_thr must be a number"),
        ({"max_per_image": 0}, "max_per_image must be at least 1, got 0"),
        ({"weights": [1, 0]}, r"weights must be positive, got \[1.0, 0.0\]"),
        ({"weights": [1, float("inf")]}, "weights must be positive"),
    ):
        with pytest.raises(DotaError, match=message):
            scores(**settings)
    other = detections(("P__1024__0___0", 0.95, 5))
    both = merge_patches([{"ship": one}, {"ship": other}])["ship"]
    assert both.scores.tolist() == [0.95, 0.2]
    weighed = merge_patches([{"ship": one}, {"ship": other}], MergeOptions(weights=(2, 1)))["ship"]
    assert weighed.scores.tolist() == [0.9, 0.2]
    with pytest.raises(DotaError, match="expected 2 weights, one for each input; got 3"):
        merge_patches([{"ship": one}, {"ship": other}], MergeOptions(weights=(1, 2, 3)))


def test_limit_counts_all_classes_of_an_image() -> None:
    found = {"a": detections(("P", 0.5, 0), ("Q", 0.1, 0)), "b": detections(("P", 0.5, 0), ("P", 0.9, 0))}
    kept = limit_per_image(found, 2)
    assert kept["a"].scores.tolist() == [0.5, 0.1]  # the tie goes to the first class
    assert kept["b"].scores.tolist() == [0.9]
    assert limit_per_image({}, 1) == {}


def patches(count: int, seed: int = 0) -> dict[str, Detections]:
    rng = np.random.default_rng(seed)
    result = {}
    for name in ("ship", "plane"):
        polys, scores = scene(rng, count, 900)
        ids = tuple(f"P{k // 4}__1024__{k % 4 * 700}___0" for k in range(24))
        result[name] = Detections(ids, rng.integers(0, 24, count), scores.round(2), polys)
    return result


def same(a: dict[str, Detections], b: dict[str, Detections]) -> bool:
    return list(a) == list(b) and all(
        a[k].image_ids == b[k].image_ids
        and np.array_equal(a[k].image, b[k].image)
        and np.array_equal(a[k].scores, b[k].scores)
        and np.array_equal(a[k].polys, b[k].polys)
        for k in a
    )


def test_processes_and_task_sizes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = patches(1500)
    alone = merge_patches(found)
    assert 100 < len(alone["ship"]) < 1400
    monkeypatch.setattr(suppress, "_TASK_BOXES", 100)
    assert same(alone, merge_patches(found))
    monkeypatch.setattr(suppress, "_POOL_BOXES", 0)
    assert same(alone, merge_patches(found, nproc=2))


def test_a_killed_worker_is_an_error_that_names_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppress, "_POOL_BOXES", 0)
    stop = threading.Event()

    def workers() -> set[int]:
        found = set()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one ended meanwhile: next time
            for thread in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
                for child in thread.read_text().split():
                    if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                        found.add(int(child))
        return found

    others = workers()  # of a pool that another test left

    def kill() -> None:
        while not stop.wait(0.01):
            for worker in workers() - others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(WorkerError, match=r"killed while merging P\d"):
            merge_patches(patches(500), nproc=2)
    finally:
        stop.set()
        killer.join()


LIBRARY = """
import sys
for name in ("torch", "mmcv", "mmdet", "mmrotate"):
    sys.modules[name] = None  # importing it is an error
import fdam_rotate.dota as dota
assert "numpy" not in sys.modules
assert set(dota.__all__) <= set(dir(dota))
from fdam_rotate.dota import check_submission, evaluate, merge_patches, nms_polygons, polygon_iou
from fdam_rotate.dota import read_detections, read_labels, write_submission
assert "cv2" not in sys.modules

merged = merge_patches(read_detections("found"))
assert merged["ship"].polys.tolist() == [[100, 0, 110, 0, 110, 10, 100, 10]]
result = evaluate(merged, {"P1": read_labels("P1.txt")}, "ship")
assert result.map > 0.999, result.map
write_submission("out.zip", merged, "ship")
assert check_submission("out.zip", "ship", ["P1"]) == []
box = merged["ship"].polys
assert polygon_iou(box, box).tolist() == [[1.0]] and nms_polygons(box, [0.5]).tolist() == [0]
"""


def test_the_library_needs_no_torch_and_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    lines = ["P1__1024__100___0 0.9 0 0 10 0 10 10 0 10", "P1__1024__0___0 0.8 99 0 109 0 109 10 99 10"]
    (tmp_path / "found" / "Task1_ship.txt").write_text("\n".join(lines))
    (tmp_path / "P1.txt").write_text("100 0 110 0 110 10 100 10 ship 0\n")
    subprocess.run([sys.executable, "-c", LIBRARY], check=True, cwd=tmp_path)
