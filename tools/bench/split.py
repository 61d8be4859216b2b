"""Time data_prep/split.py against plain OpenCV: decoding the same images and encoding the same patches as PNG.

    python tools/bench/split.py --images 4 --nproc 2

Makes 4000 x 4000 PNG images with the statistics of aerial photographs (mirrored tiles of DOTA's sample where it lies
beside the checkout, else filtered noise), splits them both ways in processes started alike, and prints a table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdam_rotate.cli import run

SAMPLE = Path(__file__).resolve().parents[3] / "shared/dota_sample"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4, help="number of images (default 4)")
    parser.add_argument("--side", type=int, default=4000, help="their width and height in pixels (default 4000)")
    parser.add_argument("--nproc", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many runs counts (default 3)")
    return parser


def make_images(folder: Path, count: int, side: int) -> None:
    """``folder/images`` and ``folder/labelTxt`` with ``count`` square images and the objects of their tiles."""
    import cv2
    import numpy as np

    from fdam_rotate.dota.labels import Labels, read_labels, write_labels

    (folder / "images").mkdir(parents=True)
    (folder / "labelTxt").mkdir()
    rng = np.random.default_rng(0)
    paths = sorted(SAMPLE.glob("*/images/*.png"))
    for number in range(count):
        polys = np.zeros((0, 8))
        if paths:
            path = paths[number % len(paths)]
            tile = cv2.imread(str(path))
            labels = read_labels(path.parent.parent / "labelTxt" / f"{path.stem}.txt")
            height, width = tile.shape[:2]
            starts = [(x, y) for x in range(0, side, 2 * width) for y in range(0, side, 2 * height)]
            polys = np.concatenate([labels.polys + np.tile(start, 4) for start in starts])
            polys = polys[(polys >= 0).all(axis=1) & (polys < side).all(axis=1)]
            tile = np.concatenate([tile, tile[:, ::-1]], axis=1)
            tile = np.concatenate([tile, tile[::-1]], axis=0)
            image = np.tile(tile, (side // tile.shape[0] + 1, side // tile.shape[1] + 1, 1))[:side, :side]
        else:
            # amplitudes falling as 1/f, as in photographs, and the grain of a sensor
            image = np.zeros((side, side, 3), np.float32)
            for step in (2, 4, 8, 16, 32, 64, 128):
                noise = rng.normal(0, 2.5 * step**0.5, size=(side // step + 1, side // step + 1, 3)).astype(np.float32)
                image += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
            image = np.clip(image + rng.normal(110, 2, size=image.shape), 0, 255)
        cv2.imwrite(str(folder / f"images/P{number:04d}.png"), np.ascontiguousarray(image, np.uint8))
        count_objects = len(polys)
        objects = Labels(polys, ("ship",) * count_objects, np.zeros(count_objects, np.int64))
        write_labels(folder / f"labelTxt/P{number:04d}.txt", objects)


def plain_opencv(task: tuple[Path, Path, Any]) -> int:
    """Decode one image and write its patches with OpenCV's default PNG; returns the number of patches."""
    import cv2

    from fdam_rotate.dota.splitting.options import plan_levels

    path, out, options = task
    cv2.setNumThreads(1)
    image = cv2.imread(str(path))
    (level,) = plan_levels(options, path.stem, image.shape[1], image.shape[0])
    for name, (x0, y0, x1, y1) in zip(level.names, level.windows.tolist(), strict=True):
        cv2.imwrite(str(out / f"{name}.png"), image[y0:y1, x0:x1])
    return len(level.names)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    args = build_parser().parse_args(argv)
    import cv2

    from fdam_rotate.dota.splitting.options import SplitOptions
    from fdam_rotate.dota.splitting.split import run_split
    from fdam_rotate.dota.workers import run_tasks

    options = SplitOptions(sizes=(1024,), gaps=(200,))
    with tempfile.TemporaryDirectory(prefix="bench-split-") as name:
        root = Path(name)
        make_images(root / "data", args.images, args.side)
        paths = sorted((root / "data/images").iterdir())
        seconds: dict[str, list[float]] = {"ours": [], "opencv": []}
        for repeat in range(args.repeats):
            started = time.perf_counter()
            ours = root / f"ours{repeat}"
            manifest = run_split([root / "data/images"], [root / "data/labelTxt"], ours, options, nproc=args.nproc)
            seconds["ours"].append(time.perf_counter() - started)
            theirs = root / f"opencv{repeat}"
            theirs.mkdir()
            started = time.perf_counter()
            counts = run_tasks(plain_opencv, [(path, theirs, options) for path in paths], nproc=args.nproc)
            patches = sum(count for _, count in counts if isinstance(count, int))
            seconds["opencv"].append(time.perf_counter() - started)
        totals = manifest.totals()
        theirs_bytes = sum(path.stat().st_size for path in theirs.iterdir())
        for path in sorted(theirs.iterdir()):
            if not (cv2.imread(str(path)) == cv2.imread(str(ours / "images" / path.name))).all():
                raise SystemExit(f"pixels differ: {path.name}")
    best = {what: min(times) for what, times in seconds.items()}
    what = (
        f"{args.images} images of {args.side} x {args.side}, {patches} patches, {totals['annotations']:,} annotations"
    )
    print(f"{what}, {args.nproc} processes; pixels equal")
    print(f"{'what':<12}{'ours':>10}{'OpenCV':>10}{'ratio':>8}")
    print(f"{'seconds':<12}{best['ours']:>10.2f}{best['opencv']:>10.2f}{best['ours'] / best['opencv']:>8.2f}")
    print(f"{'MB':<12}{totals['bytes'] / 1e6:>10.1f}{theirs_bytes / 1e6:>10.1f}{totals['bytes'] / theirs_bytes:>8.2f}")
    return 0


if __name__ == "__main__":
    run(main)
