"""Measure how fast detections are scored, side by side in one run.

Example: python tools/bench/evaluate.py

Generated labels and detections of the fifteen classes of DOTA-v1.0 are written as text, then scored from that text,
reading included. Beside it stand the time that Python takes to read and split the same text once, and a plain evaluator
that goes through the detections one by one, as DOTA_devkit's does (NumPy for the upright boxes, shapely for polygons).
Times are medians over rounds that run the ways by turns; the plain evaluator runs once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdam_rotate.cli import run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_IMAGE_SIDE = 4000


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60, help="number of images (default: 60)")
    parser.add_argument("--objects", type=int, default=44_000, help="number of objects (default: 44000)")
    parser.add_argument("--detections", type=int, default=60_000, help="number of detections (default: 60000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generated boxes (default: 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 if the two evaluators disagree."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if min(args.images, args.objects, args.detections, args.rounds) < 1:
        parser.error("--images, --objects, --detections and --rounds must be at least 1")

    from fdam_rotate.dota.classes import DOTA_CLASSES
    from fdam_rotate.dota.detections import read_detections
    from fdam_rotate.dota.labels import read_label_dir
    from fdam_rotate.dota.scoring.bootstrap import score_intervals
    from fdam_rotate.dota.scoring.evaluation import evaluate, parse_iou_thrs
    from fdam_rotate.dota.scoring.scores import EvalResult

    classes = DOTA_CLASSES["v1.0"]
    thrs = parse_iou_thrs(["0.5:0.95"])
    with tempfile.TemporaryDirectory() as folder:
        labels, found = Path(folder, "labelTxt"), Path(folder, "det")
        _generate(args, classes, labels, found)

        def ours(iou_thrs: Sequence[float]) -> EvalResult:
            return evaluate(read_detections(found), read_label_dir(labels), classes, iou_thrs=iou_thrs)

        ways: dict[str, Callable[[], object]] = {
            "read and split": lambda: _read_and_split([labels, found]),
            "ours, IoU 0.5": lambda: ours((0.5,)),
            "ours, IoU 0.5:0.95": lambda: ours(thrs),
            "with 1000 draws": lambda: score_intervals(ours(thrs), resamples=1000),
        }
        seconds = _measure(ways, args.rounds)
        start = time.perf_counter()
        plain = _plain_evaluate(labels, found, classes)
        seconds["one by one, IoU 0.5"] = time.perf_counter() - start
        score = ours((0.5,))

    base = seconds["read and split"]
    print(f"{args.objects} objects, {args.detections} detections, {args.images} images; reading included")
    print(f"{'':24}{'seconds':>9}{'x read and split':>18}")
    for name, value in seconds.items():
        print(f"{name:24}{value:9.3f}{value / base:18.1f}")
    worst = max(abs(plain[name] - (score.ap[name] or 0.0)) for name in classes)
    print(f"mAP {score.map:.6f}; greatest difference of an AP between the two evaluators: {worst:.1e}")
    if worst > 1e-6:
        print("error: the evaluators disagree", file=sys.stderr)
        return 1
    return 0


def _measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _read_and_split(folders: Sequence[Path]) -> int:
    """Read every line of every file and split it at white space; the number of fields."""
    count = 0
    for folder in folders:
        for path in sorted(folder.iterdir()):
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    count += len(line.split())
    return count


def _generate(args: argparse.Namespace, classes: Sequence[str], labels: Path, found: Path) -> None:
    """Write label and detection files: small vehicles and ships are the most, some detections shifted, some false."""
    import numpy as np

    from fdam_rotate.dota.geometry import le90_to_poly

    rng = np.random.default_rng(args.seed)
    labels.mkdir()
    found.mkdir()
    share = np.array([8 if name in ("small-vehicle", "ship", "large-vehicle") else 1 for name in classes], float)
    cls = rng.choice(len(classes), args.objects, p=share / share.sum())
    image = rng.integers(args.images, size=args.objects)
    long_side = rng.uniform(15, 60, args.objects) * np.where(share[cls] > 1, 1.0, 3.0)
    boxes = np.column_stack(
        [
            rng.uniform(0, _IMAGE_SIDE, (args.objects, 2)),
            long_side,
            long_side * rng.uniform(0.3, 0.9, args.objects),
            rng.uniform(-np.pi / 2, np.pi / 2, args.objects),
        ]
    )
    difficult = (rng.random(args.objects) < 0.05).astype(int)
    rows: list[list[str]] = [["imagesource:generated", "gsd:0.2"] for _ in range(args.images)]
    for k, poly in enumerate(le90_to_poly(boxes).tolist()):
        rows[image[k]].append(f"{' '.join(f'{v:.1f}' for v in poly)} {classes[cls[k]]} {difficult[k]}")
    for number, lines in enumerate(rows):
        (labels / f"P{number:04d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    pick = rng.integers(args.objects, size=args.detections)
    spread = np.where(rng.random(args.detections) < 0.3, 1.0, 0.08)[:, None] * boxes[pick, 3:4]
    moved = boxes[pick] + rng.normal(size=(args.detections, 5)) * np.column_stack(
        [spread, spread, 0.3 * spread, 0.2 * spread, np.full(args.detections, 0.05)]
    )
    moved[:, 2:4] = np.abs(moved[:, 2:4]) + 2.0
    scores = rng.random(args.detections)
    by_class: list[list[str]] = [[] for _ in classes]
    for k, poly in enumerate(le90_to_poly(moved).tolist()):
        coordinates = " ".join(f"{v:.2f}" for v in poly)
        by_class[cls[pick[k]]].append(f"P{image[pick[k]]:04d} {scores[k]:.9f} {coordinates}")
    for name, lines in zip(classes, by_class, strict=True):
        (found / f"Task1_{name}.txt").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _plain_evaluate(labels: Path, found: Path, classes: Sequence[str]) -> dict[str, float]:
    """AP (VOC07, IoU 0.5) by class, each detection by itself."""
    import numpy as np
    import shapely

    objects: dict[tuple[str, str], tuple[NDArray[np.float64], list[bool]]] = {}
    for path in sorted(labels.glob("*.txt")):
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        for name in classes:
            mine = [row for row in rows if len(row) == 10 and row[8] == name]
            polys = np.array([[float(v) for v in row[:8]] for row in mine]).reshape(-1, 4, 2)
            objects[name, path.stem] = polys, [row[9] != "0" for row in mine]
    result = {}
    for name in classes:
        lines = [line.split() for line in (found / f"Task1_{name}.txt").read_text(encoding="utf-8").splitlines()]
        lines.sort(key=lambda row: -float(row[1]))
        taken: set[tuple[str, int]] = set()
        true, false = [], []
        for image_id, _, *coordinates in lines:
            corners = np.array([float(v) for v in coordinates]).reshape(4, 2)
            polys, difficult = objects[name, image_id]
            best, best_iou = -1, 0.0
            if len(polys):
                low = np.maximum(polys.min(1), corners.min(0))
                high = np.minimum(polys.max(1), corners.max(0))
                region = shapely.Polygon(corners)
                for k in np.flatnonzero((low < high).all(1)):
                    other = shapely.Polygon(polys[k])
                    inter = region.intersection(other).area
                    iou = inter / (region.area + other.area - inter)
                    if iou > best_iou:
                        best, best_iou = int(k), iou
            hit = best_iou > 0.5
            neutral = hit and difficult[best]
            new = hit and (image_id, best) not in taken
            if hit:
                taken.add((image_id, best))
            true.append(new and not neutral)
            false.append(not neutral and not new)
        tp, fp = np.cumsum(true), np.cumsum(false)
        count = sum(not d for (other, _), (_, flags) in objects.items() if other == name for d in flags)
        recall, precision = tp / max(count, 1), tp / np.maximum(tp + fp, 1)
        result[name] = sum(
            float(np.max(precision[recall >= level], initial=0.0)) / 11 for level in np.arange(0.0, 1.1, 0.1)
        )
    return result


if __name__ == "__main__":
    run(main)
