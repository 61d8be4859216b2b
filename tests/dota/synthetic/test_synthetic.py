"""Generated scenes: equal for a seed, tight and rightly ordered labels, difficulty told by what can be seen."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from shapely.geometry import Polygon, box

from fdam_rotate.dota.errors import DotaError, OutputExistsError, UnknownClassError
from fdam_rotate.dota.labels import read_labels
from fdam_rotate.dota.splitting.options import SplitOptions
from fdam_rotate.dota.splitting.split import run_split
from fdam_rotate.dota.synthetic import CLASSES, generate_scene, parse_size, write_synthetic
from fdam_rotate.dota.synthetic.canvas import Canvas
from fdam_rotate.dota.synthetic.scene import _label
from fdam_rotate.dota.synthetic.sketch import Frame, Sketch
from fdam_rotate.dota.synthetic.structures import tree
from fdam_rotate.dota.synthetic.vehicles import car

SEEDS = range(8)


@pytest.fixture(scope="module")
def scenes():
    return [generate_scene(seed, 700, 560) for seed in SEEDS]


def files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("[!.]*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_seed_gives_one_scene_and_seeds_differ(scenes) -> None:
    again = generate_scene(3, 700, 560)
    assert np.array_equal(again.image, scenes[3].image)
    assert np.array_equal(again.labels.polys, scenes[3].labels.polys)
    assert again.labels.names == scenes[3].labels.names
    for a, b in pairwise(scenes):
        assert np.abs(a.image.astype(int) - b.image).mean() > 5
        assert a.gsd != b.gsd


def test_scenes_are_pictures_with_many_kinds_of_objects(scenes) -> None:
    counts = Counter(name for scene in scenes for name in scene.labels.names)
    assert len(counts) >= 12, counts
    assert set(counts) <= set(CLASSES)
    assert counts.total() > 400
    for scene in scenes:
        assert scene.image.shape == (560, 700, 3)
        assert scene.image.dtype == np.uint8
        assert 30 < scene.image.mean() < 200
        assert scene.image.std() > 15
        assert scene.labels.header == ("imagesource:synthetic", f"gsd:{scene.gsd}")


def test_labels_are_the_tight_boxes_of_the_drawn_pixels(scenes) -> None:
    """For objects wholly seen: the pixels' extent along the box's own axes against the box."""
    overlaps = []
    for scene in scenes:
        for poly, number, hard in zip(scene.labels.polys, scene.numbers, scene.labels.difficult, strict=True):
            corners = poly.reshape(4, 2)
            sides = corners[[1, 3]] - corners[0]
            lengths = np.linalg.norm(sides, axis=1)
            outside = (corners < 1).any() or (corners > np.array([699, 559])).any()
            if hard or outside or lengths.min() < 6:
                continue
            y, x = np.nonzero(scene.instances == number)
            axes = sides / lengths[:, None]
            along = (np.stack((x + 0.5, y + 0.5), axis=1) - corners[0]) @ axes.T
            # a pixel is the object's if its centre is: centres end between 0 and 0.7 pixel within the true edge
            low, high = along.min(axis=0) - 0.25, along.max(axis=0) + 0.25
            inter = np.prod(np.minimum(high, lengths) - np.maximum(low, 0))
            overlaps.append(inter / (np.prod(high - low) + np.prod(lengths) - inter))
    assert len(overlaps) > 200
    assert np.mean(np.array(overlaps) > 0.8) > 0.99
    assert np.median(overlaps) > 0.87


def test_small_objects_are_painted_with_their_true_area() -> None:
    canvas = Canvas(60, 60, np.random.default_rng(0), (0.0, 0.0), {"ship"})
    sketch = Sketch()
    sketch.rect(0, 0, 15, 6, (200, 200, 200))
    for angle in (0.0, 0.4, 1.2):
        canvas.image[:] = 0
        canvas.put("ship", sketch, Frame(30.3, 29.6, angle, 1.0), force=True)
        # 15 x 6 = 90 pixels; OpenCV's own fillPoly makes 16 x 7 = 112 of it
        assert canvas.image[..., 0].sum() / 200 == pytest.approx(90, rel=0.08)


def test_labels_stand_out_from_their_surroundings(scenes) -> None:
    """The picture shows what the instances say: pixels of cars differ from the ground around them."""
    differences = []
    for scene in scenes:
        grey = scene.image.mean(axis=2)
        for poly, number, name in zip(scene.labels.polys, scene.numbers, scene.labels.names, strict=True):
            x0, y0 = np.maximum(poly.reshape(4, 2).min(axis=0).astype(int) - 6, 0)
            x1, y1 = poly.reshape(4, 2).max(axis=0).astype(int) + 6
            mine = scene.instances[y0:y1, x0:x1] == number
            ground = scene.instances[y0:y1, x0:x1] == 0
            if name == "ship" and mine.sum() > 30 and ground.sum() > 30:
                differences.append(abs(grey[y0:y1, x0:x1][mine].mean() - grey[y0:y1, x0:x1][ground].mean()))
    assert len(differences) > 10
    assert np.median(differences) > 20


def test_vertices_run_clockwise_from_the_front_left(scenes) -> None:
    for scene in scenes:
        x, y = scene.labels.polys[:, 0::2], scene.labels.polys[:, 1::2]
        # y points down: a positive shoelace sum is clockwise on the screen
        assert (np.sum(x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y, axis=1) > 0).all()
    sketch = Sketch()
    sketch.rect(0, 0, 4, 2, (0, 0, 0))
    # front to the right of the image: left of it is up, so the front left corner is the upper right one
    assert Frame(100, 50, 0.0, 10).points(sketch.corners()).tolist() == [[120, 40], [120, 60], [80, 60], [80, 40]]
    # front up, as a quarter turn against the clock: front left is the upper left corner
    up = Frame(100, 50, 0.0, 10).upright().points(sketch.corners())
    assert np.allclose(up, [[90, 30], [110, 30], [110, 70], [90, 70]])


def test_objects_cut_by_the_border_are_difficult_or_left_out(scenes) -> None:
    frame = box(0, 0, 700, 560)
    cut = 0
    for scene in scenes:
        for poly, hard in zip(scene.labels.polys, scene.labels.difficult, strict=True):
            shape = Polygon(poly.reshape(4, 2))
            share = shape.intersection(frame).area / shape.area
            assert share > 0.13  # 0.15, with the rounding of coordinates to a quarter pixel
            if share < 0.48:
                cut += 1
                assert hard == 1
    assert cut > 5


def test_whole_objects_are_not_marked_as_cut_by_the_splitter(tmp_path: Path) -> None:
    """MMRotate's splitter calls an object cut where its share within the window, in floating point, is below 1."""
    write_synthetic(tmp_path / "data", {"train": 2}, size=parse_size("300"), seed=4)
    part = tmp_path / "data" / "train"
    options = SplitOptions(sizes=(600,), gaps=(0,))
    manifest = run_split([part / "images"], [part / "labelTxt"], tmp_path / "out", options)
    whole = 0
    for image in manifest.images:
        labels = read_labels(part / "labelTxt" / f"{image['id']}.txt")
        inside = ((labels.polys >= 0) & (labels.polys <= 300)).all(axis=1)
        cut = dict(zip(image["patches"][0]["lines"], image["patches"][0]["cut"], strict=True))
        found = [cut[int(line)] for line in labels.lines[inside]]
        assert sum(found) == 0
        whole += len(found)
    assert whole > 20


def test_hidden_objects_are_difficult_or_left_out() -> None:
    def labels(radius: float) -> tuple[int, list[int]]:
        rng = np.random.default_rng(0)
        canvas = Canvas(200, 200, rng, (0.5, 0.2), {"small-vehicle"})
        at = Frame(100, 100, 0.3, 10)
        assert canvas.put("small-vehicle", car(rng), at)
        if radius:
            canvas.clutter(tree(rng, radius), at.at(1.0, 0), over=True)
        found, _ = _label(canvas, 0.1)
        return len(found), found.difficult.tolist()

    assert labels(0) == (1, [0])
    assert labels(1.6) == (1, [1])
    assert labels(6.0) == (0, [])


def test_ground_that_is_taken_is_refused_and_unwanted_classes_are_not_drawn() -> None:
    rng = np.random.default_rng(0)
    canvas = Canvas(200, 200, rng, (0.5, 0.2), {"small-vehicle"})
    at = Frame(100, 100, 0.3, 10)
    before = canvas.image.copy()
    assert not canvas.put("ship", car(rng), at)
    assert np.array_equal(canvas.image, before)
    assert canvas.put("small-vehicle", car(rng), at)
    assert not canvas.put("small-vehicle", car(rng), at.at(1.0, 0))
    assert canvas.put("small-vehicle", car(rng), at.at(1.0, 0), force=True)
    assert canvas.put("small-vehicle", car(rng), at.at(0, 5.0))
    assert not canvas.put("small-vehicle", car(rng), at.at(0, 7.5), margin=3.0)


def test_classes_and_gsd_choose_what_is_drawn_and_how_large() -> None:
    near = [generate_scene(s, 400, 400, classes=["small-vehicle", "ship"], gsd_range=(0.15, 0.15)) for s in range(4)]
    far = [generate_scene(s, 400, 400, classes=["small-vehicle", "ship"], gsd_range=(0.5, 0.5)) for s in range(4)]

    def car_side(scenes) -> float:
        polys = np.concatenate([s.labels.polys[np.array(s.labels.names) == "small-vehicle"] for s in scenes])
        return float(np.median(np.linalg.norm(polys[:, 2:4] - polys[:, 4:6], axis=1)))

    assert {name for scene in near + far for name in scene.labels.names} == {"small-vehicle", "ship"}
    # cars are 3.8 to 5.6 m long
    assert 3.8 / 0.15 < car_side(near) < 5.6 / 0.15
    assert 3.8 / 0.5 < car_side(far) < 5.6 / 0.5


def test_scene_refuses_bad_settings() -> None:
    with pytest.raises(UnknownClassError, match="did you mean 'storage-tank'"):
        generate_scene(0, 100, 100, classes=["storage tank"])
    with pytest.raises(ValueError, match="at least 64 pixels"):
        generate_scene(0, 63, 100)
    with pytest.raises(ValueError, match="positive and rising"):
        generate_scene(0, 100, 100, gsd_range=(0.4, 0.2))


def test_data_set_is_the_same_with_one_process_and_two(tmp_path: Path) -> None:
    kind = {"size": parse_size("96-200x128"), "seed": 5}
    one = write_synthetic(tmp_path / "one", {"train": 3, "val": 1}, nproc=1, **kind)
    two = write_synthetic(tmp_path / "two", {"train": 3, "val": 1}, nproc=2, **kind)
    written = files(tmp_path / "one")
    assert written == files(tmp_path / "two")
    assert sorted(written) == sorted(
        [f"train/{d}/T000{k}.{e}" for d, e in (("images", "png"), ("labelTxt", "txt")) for k in range(3)]
        + ["val/images/V0000.png", "val/labelTxt/V0000.txt"]
    )
    assert one == two
    assert one.images == 4
    names = [n for path in (tmp_path / "one").rglob("*.txt") for n in read_labels(path, classes=CLASSES).names]
    assert one.objects == Counter(names)
    for path in (tmp_path / "one").rglob("*.png"):
        height, width = cv2.imread(str(path)).shape[:2]
        assert height == 128
        assert 96 <= width <= 200


def test_asking_for_more_scenes_keeps_the_earlier_ones_and_splits_differ(tmp_path: Path) -> None:
    size = parse_size("100")
    write_synthetic(tmp_path / "few", {"train": 1, "val": 1}, size=size)
    write_synthetic(tmp_path / "more", {"train": 2, "val": 1}, size=size)
    write_synthetic(tmp_path / "other", {"train": 1}, size=size, seed=1)
    few, more, other = (files(tmp_path / name) for name in ("few", "more", "other"))
    assert {k: more[k] for k in few} == few
    assert len({few["train/images/T0000.png"], few["val/images/V0000.png"], other["train/images/T0000.png"]}) == 3


def test_existing_output_is_kept_unless_told(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="not empty"):
        write_synthetic(tmp_path, {"train": 1}, size=parse_size("64"))
    with pytest.raises(UnknownClassError):  # a mistake in the settings does not cost the old output
        write_synthetic(tmp_path, {"train": 1}, classes=["boat"], overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"
    write_synthetic(tmp_path, {"train": 1}, size=parse_size("64"), overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".fdam_rotate-synthetic.json", "precious.txt", "train"]


@pytest.mark.parametrize("counts", [{}, {"train": 0}, {"train": -1, "val": 3}, {"training": 2}])
def test_counts_are_checked(tmp_path: Path, counts: dict[str, int]) -> None:
    with pytest.raises(DotaError, match="at least one scene"):
        write_synthetic(tmp_path / "x", counts)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("800", ((800, 800), (800, 800))),
        ("1024x768", ((1024, 1024), (768, 768))),
        ("600-1000", ((600, 1000), (600, 1000))),
        ("600-1000X500", ((600, 1000), (500, 500))),
    ],
)
def test_sizes(text: str, value: object) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "x", "63", "20001", "900-800", "1x2x3", "12.5", "-800", "800-"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="size must be"):
        parse_size(text)
