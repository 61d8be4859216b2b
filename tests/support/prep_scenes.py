"""Small generated data sets in DOTA's layout, and the splitters that ours is compared with."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from scripts import load_file

CLASSES = ("plane", "ship", "small-vehicle", "harbor")


def texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Smooth noise with some grain, (height, width, 3) uint8."""
    coarse = rng.integers(0, 256, size=(max(height // 8, 1), max(width // 8, 1), 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(image + rng.integers(-6, 7, size=image.shape), 0, 255).astype(np.uint8)


def random_polys(rng: np.random.Generator, count: int, width: int, height: int) -> np.ndarray:
    """Oriented rectangles (count, 8), some of whole numbers, some reaching outside, none crossing itself."""
    centre = (
        rng.uniform(-10, 1, size=(count, 1, 2)) * 0
        + rng.uniform((-10, -10), (width + 10, height + 10), (count, 2))[:, None]
    )
    half = rng.uniform(1, 30, size=(count, 2)) * rng.choice([1.0, 0.3, 3.0], size=(count, 1))
    angle = rng.uniform(0, np.pi, size=count)
    cos, sin = np.cos(angle), np.sin(angle)
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    local = signs[None] * half[:, None]
    x = local[..., 0] * cos[:, None] - local[..., 1] * sin[:, None]
    y = local[..., 0] * sin[:, None] + local[..., 1] * cos[:, None]
    polys = (centre + np.stack([x, y], axis=-1)).reshape(count, 8)
    digits = rng.integers(0, 4, size=count)
    return np.stack([np.round(poly, d) for poly, d in zip(polys, digits, strict=True)]) if count else polys


def label_text(polys: np.ndarray, names: list[str], difficult: list[int]) -> str:
    lines = ["imagesource:GoogleEarth", "gsd:0.146343590398"]
    for poly, name, level in zip(polys, names, difficult, strict=True):
        lines.append(" ".join(f"{v:g}" if float(v).is_integer() else repr(float(v)) for v in poly) + f" {name} {level}")
    return "\n".join(lines) + "\n"


def make_dataset(root: Path, sizes: list[tuple[int, int]], seed: int, *, objects: int = 30, ext: str = ".png") -> Path:
    """``root/images`` and ``root/labelTxt`` with one image for each (width, height); valid polygons only."""
    import shapely

    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "labelTxt").mkdir()
    for number, (width, height) in enumerate(sizes):
        cv2.imwrite(str(root / "images" / f"P{number:04d}{ext}"), texture(rng, width, height))
        polys = random_polys(rng, objects, width, height)
        polys = polys[shapely.is_valid(shapely.polygons(polys.reshape(-1, 4, 2)))]
        names = [CLASSES[i] for i in rng.integers(0, len(CLASSES), size=len(polys))]
        levels = rng.integers(0, 2, size=len(polys)).tolist()
        (root / "labelTxt" / f"P{number:04d}.txt").write_text(label_text(polys, names, levels))
    return root


@cache
def mmrotate_splitter() -> ModuleType:
    """The installed MMRotate's img_split.py; the test is skipped where it is not installed."""
    spec = importlib.util.find_spec("mmrotate")
    if spec is None or spec.origin is None:
        pytest.skip("mmrotate is not installed")
    path = Path(spec.origin).parent / ".mim/tools/data/dota/split/img_split.py"
    return load_file(path)


def run_mmrotate(data: Path, out: Path, options: Any) -> None:
    """Split ``data`` with MMRotate's own functions into ``out``."""
    peer = mmrotate_splitter()
    (out / "images").mkdir(parents=True)
    (out / "annfiles").mkdir()
    sizes = [int(size / rate) for rate in options.rates for size in options.sizes]
    gaps = [int(gap / rate) for rate in options.rates for gap in options.gaps]
    value = options.padding_value[0] if len(options.padding_value) == 1 else list(options.padding_value)
    images, labels = str(data / "images"), str(data / "labelTxt")
    for path in sorted((data / "images").iterdir()):
        info = peer._load_dota_single(path.name, images, labels)
        windows = peer.get_sliding_window(info, sizes, gaps, options.img_rate_thr)
        objects = peer.get_window_obj(info, windows, options.iof_thr)
        places = (str(out / "images"), str(out / "annfiles"), options.save_ext)
        peer.crop_and_save_img(info, windows, objects, images, not options.padding, value, *places)


def tree(folder: Path) -> dict[str, bytes]:
    """All files below ``folder``: relative name -> bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_same_split(ours: Path, theirs: Path) -> int:
    """Names, label bytes and pixels are equal; returns the number of patches."""
    names = sorted(p.name for p in (theirs / "images").iterdir())
    assert sorted(p.name for p in (ours / "images").iterdir()) == names
    assert tree(ours / "annfiles") == tree(theirs / "annfiles")
    for name in names:
        a, b = cv2.imread(str(ours / "images" / name)), cv2.imread(str(theirs / "images" / name))
        assert a.shape == b.shape, name
        assert (a == b).all(), name
    return len(names)
