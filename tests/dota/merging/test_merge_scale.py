"""Merging at size: memory stays bounded; a split's manifest places patches that names would misplace."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from scripts import ROOT

from fdam_rotate.dota.detections import Detections, read_detections, write_detections
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.merging import nms
from fdam_rotate.dota.merging.merge import nms_polygons
from fdam_rotate.dota.merging.merge_files import merge_files
from fdam_rotate.dota.merging.options import MergeOptions

MANY = """
import numpy as np
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.merging.merge import nms_polygons

rng = np.random.default_rng(0)
count = 300_000
side = 20 * count**0.5  # one box of 12 x 24 for each 20 x 20 pixels
centres, angles = rng.uniform(0, side, (count, 2)), rng.uniform(-1.5, 1.5, count)
polys = le90_to_poly(np.column_stack([centres, np.full(count, 24.0), np.full(count, 12.0), angles]))
kept = nms_polygons(polys, rng.uniform(0, 1, count))
# not ru_maxrss, which a process inherits from the one that starts it
print(len(kept), int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024)
"""


def test_300_000_boxes_of_one_image_take_less_than_2_gb():
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True)
    kept, megabytes = map(int, done.stdout.split())
    assert 50_000 < kept < 250_000
    assert megabytes < 2000


def test_work_grows_with_the_boxes_and_not_with_their_square(monkeypatch):
    """Sixteen times the boxes at the same density: the pairs looked at grow a little more than that, by the border."""
    looked = []
    plain = nms._suppressing

    def counting(better, worse, *rest):
        looked.append(len(better))
        return plain(better, worse, *rest)

    monkeypatch.setattr(nms, "_suppressing", counting)
    pairs = []
    for count in (1000, 16_000):
        rng = np.random.default_rng(0)
        centres, angles = rng.uniform(0, 20 * count**0.5, (count, 2)), rng.uniform(-1.5, 1.5, count)
        polys = le90_to_poly(np.column_stack([centres, np.full(count, 24.0), np.full(count, 12.0), angles]))
        looked.clear()
        nms_polygons(polys, rng.uniform(0, 1, count))
        pairs.append(sum(looked))
    assert 1000 < pairs[0] < 20 * 1000
    assert pairs[1] < 20 * pairs[0]


def test_a_class_larger_than_a_batch_is_merged_by_image_in_less_memory(tmp_path):
    rng = np.random.default_rng(0)
    ids = tuple(f"P{k:02d}__1024__0___0" for k in range(40))
    boxes = np.column_stack([rng.uniform(0, 3000, (250_000, 2)), rng.uniform(8, 40, (250_000, 2)), np.zeros(250_000)])
    image = np.sort(rng.integers(0, 40, 250_000))
    write_detections(tmp_path / "in", {"ship": Detections(ids, image, rng.uniform(0, 1, 250_000), le90_to_poly(boxes))})
    peaks = []
    for batch_bytes in (1 << 30, 1 << 20):
        out = tmp_path / str(batch_bytes)
        tracemalloc.start()
        merge_files([tmp_path / "in"], out, ["ship"], MergeOptions(nms="none"), batch_bytes=batch_bytes)
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    assert (tmp_path / "1048576.zip").read_bytes() == (tmp_path / "1073741824.zip").read_bytes()
    assert peaks[1] < 0.6 * peaks[0], peaks


def test_a_manifest_places_patches_of_any_name(tmp_path):
    # A__B.png cut at rate 0.5 in DOTA_devkit's style: (10, 20) of the patch at (100, 0) of the halved image is
    # ((10 + 100) / 0.5, 20 / 0.5) = (220, 40) of the original.
    cv2 = pytest.importorskip("cv2")
    images = tmp_path / "images"
    images.mkdir()
    assert cv2.imwrite(str(images / "A__B.png"), np.full((300, 600, 3), 90, np.uint8))
    split = [
        sys.executable, str(ROOT / "data_prep/split.py"), "--img-dirs", str(images), "--style", "devkit",
        "--sizes", "150", "--gaps", "50", "--rates", "0.5", "--out", str(tmp_path / "split"), "--nproc", "1",
    ]  # fmt: skip
    subprocess.run(split, check=True, capture_output=True)
    names = {path.stem for path in (tmp_path / "split" / "images").iterdir()}
    assert "A__B__0.5__100___0" in names, names
    # an id that tells nothing: only the manifest knows where it lies
    manifest = tmp_path / "split" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("A__B__0.5__100___0", "renamed"))
    found = tmp_path / "found"
    found.mkdir()
    (found / "Task1_ship.txt").write_text("renamed 0.9 10 20 30 20 30 30 10 30\n")
    merge = [
        sys.executable, str(ROOT / "tools/merge.py"), str(found), "--out", str(tmp_path / "out"), "--classes", "ship",
        "--manifest", str(manifest),
    ]  # fmt: skip
    subprocess.run(merge, check=True, capture_output=True)
    ship = read_detections(tmp_path / "out")["ship"]
    assert ship.image_ids == ("A__B",)
    assert ship.polys.tolist() == [[220, 40, 260, 40, 260, 60, 220, 60]]
