"""Copies between scored and trained images: equal pixels, stored again with loss, and pictures that differ."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fdam_rotate.dota.checking.leakage import Copy, find_copies
from fdam_rotate.dota.layout import list_sources
from fdam_rotate.dota.problems import Problem


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    return cv2.resize(coarse, (240, 240), interpolation=cv2.INTER_CUBIC)


def test_copies_are_found_whatever_their_names(tmp_path: Path) -> None:
    val, train = tmp_path / "val", tmp_path / "train"
    for folder in (val, train):
        folder.mkdir()
    for seed, name in ((0, "same"), (1, "lossy"), (2, "new"), (3, "flat")):
        image = np.zeros((240, 240, 3), np.uint8) if name == "flat" else picture(seed)
        assert cv2.imwrite(str(val / f"{name}.png"), image)
    assert cv2.imwrite(str(train / "x1.bmp"), picture(0))
    assert cv2.imwrite(str(train / "x2.jpg"), picture(1), [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert cv2.imwrite(str(train / "x3.png"), picture(9))
    (train / "x4.png").write_bytes(b"no image")
    problems: list[Problem] = []
    copies = find_copies(list_sources([val], [None], []), list_sources([train], [None], []), problems)
    assert copies == [Copy("lossy", train / "x2.jpg", False), Copy("same", train / "x1.bmp", True)]
    assert [problem.path for problem in problems] == [str(train / "x4.png")]
    assert find_copies(list_sources([val], [None], []), [], []) == []
