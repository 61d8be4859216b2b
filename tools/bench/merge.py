"""Speed of merging, of scoring's input and of suppression, side by side with plainer ways, in one run.

Example:
    python tools/bench/merge.py

Made of 93,000 seeded patch detections of 12 images (rows of oriented boxes seen by overlapping 1024-pixel patches):
our merge from files to files; a plain loop per box in Python and NumPy after DOTA_devkit's description, which does the
same by upright bounds first and a polygon IoU a pair; and, where mmcv is installed, MMRotate's way, mmcv's nms_rotated
on the CPU, on one image at a size that ends in seconds. Then how the suppression's time and memory grow.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fdam_rotate.cli import run


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections", type=int, default=93_000, metavar="N", help="patch detections (default: 93000)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated boxes (default: 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    args = build_parser().parse_args(argv)
    import numpy as np

    from fdam_rotate.dota.classes import DOTA_CLASSES
    from fdam_rotate.dota.detections import read_detections, write_detections
    from fdam_rotate.dota.merging.merge import merge_patches, nms_polygons
    from fdam_rotate.dota.merging.merge_files import merge_files

    classes = DOTA_CLASSES["v1.0"]
    rng = np.random.default_rng(args.seed)
    lines: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "patches"
        write_detections(source, _patch_detections(rng, args.detections), classes=classes)

        def split() -> None:
            for path in sorted(source.iterdir()):
                with path.open() as stream:
                    for line in stream:
                        line.split()

        plain_split, _ = _best(split)
        read, found = _best(lambda: read_detections(source))
        lines.append(
            ("read, against splitting the text once", _ms(read), _ms(plain_split), f"{read / plain_split:.1f}")
        )
        ours, _ = _best(lambda: merge_files([source], Path(folder) / "out", classes, overwrite=True))
        count = sum(map(len, found.values()))
        plain, kept = _best(lambda: _plain_merge(found), repeat=1)
        merged = merge_patches(found)
        if sum(map(len, merged.values())) != kept:
            print(f"ours keeps {sum(map(len, merged.values()))}, the plain loop {kept}", file=sys.stderr)
            return 1
        name = f"{count} detections to files and zip; plain loop without files"
        lines.append((name, _ms(ours), _ms(plain), f"1/{plain / ours:.0f}"))
    few, few_scores, few_boxes = _cloud(rng, 4000)
    for many in (64_000, 300_000):
        polys, scores, _ = _cloud(rng, many)
        small = large = math.inf
        for _ in range(3):  # by turns, as other work on the machine comes and goes
            small = min(small, _best(lambda: nms_polygons(few, few_scores))[0])
            large = min(large, _best(lambda polys=polys, scores=scores: nms_polygons(polys, scores), repeat=1)[0])
        lines.append(
            (f"{many} boxes, against 4000 at the same density", _ms(large), _ms(small), f"{large / small:.1f}")
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    mmcv = _mmcv_nms(few_boxes, few_scores)
    if mmcv is not None:
        lines.append(
            ("4000 boxes of one image, mmcv nms_rotated (CPU)", _ms(small), _ms(mmcv), f"1/{mmcv / small:.0f}")
        )
    print(f"{'what':60} {'ours':>10} {'other':>10} {'ratio':>8}")
    for what, one, other, ratio in lines:
        print(f"{what:60} {one:>10} {other:>10} {ratio:>8}")
    print(f"peak memory of this process, before mmcv came: {peak:.2f} GB")
    return 0


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _best(work: Callable[[], Any], repeat: int = 3) -> tuple[float, Any]:
    """The least seconds of some runs, and the result."""
    least, result = math.inf, None
    for _ in range(repeat):
        begin = time.perf_counter()
        result = work()
        least = min(least, time.perf_counter() - begin)
    return least, result


def _patch_detections(rng: Any, total: int) -> dict[str, Any]:
    """Rows of boxes on 12 images of 6000 x 6000 pixels, each seen with some noise by every patch that holds it."""
    import numpy as np

    from fdam_rotate.dota.classes import DOTA_CLASSES
    from fdam_rotate.dota.detections import Detections
    from fdam_rotate.dota.geometry import le90_to_poly
    from fdam_rotate.dota.windows import mmrotate_name, slide_windows

    classes = DOTA_CLASSES["v1.0"]
    windows = slide_windows(6000, 6000, [1024], [200])
    ids = tuple(mmrotate_name(f"S{k:04d}", 1024, *w[:2].tolist()) for k in range(12) for w in windows)
    rows = total // (12 * 12)
    patch, kind, polys = [], [], []
    for image in range(12):
        start, angle = rng.uniform(0, 6000, (rows, 1, 2)), rng.uniform(-math.pi / 2, math.pi / 2, (rows, 1))
        width = np.exp(rng.normal(3.4, 0.5, (rows, 1))).clip(8, 300)
        height = width * rng.uniform(0.25, 0.9, (rows, 1))
        step = np.arange(12) * height * 1.25
        along = np.stack([-np.sin(angle) * step, np.cos(angle) * step], axis=-1)
        shape = np.stack(np.broadcast_arrays(width, height, angle + 0 * step)[:3], axis=-1)
        boxes = np.concatenate([start + along, shape], axis=-1).reshape(-1, 5)
        name = np.repeat(rng.integers(0, 15, rows), 12)
        for number, (x0, y0, x1, y1) in enumerate(windows.tolist()):
            seen = boxes + rng.normal(0, 1, boxes.shape) * [1, 1, 1, 1, 0.03]
            inside = (seen[:, 0] > x0) & (seen[:, 0] < x1) & (seen[:, 1] > y0) & (seen[:, 1] < y1)
            part = seen[inside]
            part[:, 2:4] = part[:, 2:4].clip(3)
            polys.append(le90_to_poly(part) - np.tile([x0, y0], 4))
            kind.append(name[inside])
            patch.append(np.full(len(part), image * len(windows) + number))
    all_polys, all_kind, all_patch = np.concatenate(polys), np.concatenate(kind), np.concatenate(patch)
    pick = np.sort(rng.choice(len(all_polys), min(total, len(all_polys)), replace=False))
    all_polys, all_kind, all_patch = all_polys[pick], all_kind[pick], all_patch[pick]
    scores = rng.uniform(0.03, 0.95, len(pick))
    return {
        name: Detections(ids, all_patch[all_kind == k], scores[all_kind == k], all_polys[all_kind == k])
        for k, name in enumerate(classes)
    }


def _cloud(rng: Any, count: int) -> tuple[Any, Any, Any]:
    """Boxes at random, as dense whatever their number."""
    import numpy as np

    from fdam_rotate.dota.geometry import le90_to_poly

    side = math.sqrt(count) * 12
    boxes = np.column_stack(
        [
            rng.uniform(0, side, (count, 2)),
            np.exp(rng.normal(3.4, 0.4, count)),
            np.exp(rng.normal(2.7, 0.4, count)),
            rng.uniform(-math.pi / 2, math.pi / 2, count),
        ]
    )
    return le90_to_poly(boxes), rng.uniform(0, 1, count), boxes


def _plain_merge(found: Any) -> int:
    """One box after the other, each against all that are left of its image and class; how many are kept."""
    import numpy as np
    import shapely

    from fdam_rotate.dota.merging.placing import Placer

    placer = Placer()
    kept = 0
    for one in found.values():
        placed, _ = placer.place(one)
        for image in range(len(placed.image_ids)):
            rows = np.flatnonzero(placed.image == image)
            polys, scores = placed.polys[rows], placed.scores[rows]
            shapes = shapely.polygons(polys.reshape(-1, 4, 2))
            area = shapely.area(shapes)
            low, high = polys.reshape(-1, 4, 2).min(1), polys.reshape(-1, 4, 2).max(1)
            left = np.argsort(-scores, kind="stable")
            while len(left):
                top, left = left[0], left[1:]
                kept += 1
                size = np.minimum(high[top], high[left]) - np.maximum(low[top], low[left])
                near = np.flatnonzero((size > 0).all(1))
                if len(near):
                    inter = shapely.area(shapely.intersection(shapes[top], shapes[left[near]]))
                    gone = near[inter / (area[top] + area[left[near]] - inter) > 0.1]
                    left = np.delete(left, gone)
    return kept


def _mmcv_nms(boxes: Any, scores: Any) -> float | None:
    """Seconds of mmcv's rotated suppression on the CPU, None without mmcv."""
    try:
        import torch
        from mmcv.ops import nms_rotated
    except ImportError:
        return None
    dets, values = torch.from_numpy(boxes).float(), torch.from_numpy(scores).float()
    return _best(lambda: nms_rotated(dets, values, 0.1), repeat=1)[0]


if __name__ == "__main__":
    run(main)
