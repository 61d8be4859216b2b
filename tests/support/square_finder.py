"""A model that worker processes can import: it finds bright squares, and dies, fails or tells of itself as asked."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.predicting.model import Found

__all__ = ["SIDE", "Finder"]

#: Pixels of a square's side.
SIDE = 8


def kill_worker() -> None:
    """As ``kill -9`` does it."""
    os.kill(os.getpid(), signal.SIGKILL)


class Finder:
    """A box round each bright spot, scored by its brightness.

    Args:
        folder: gets a line for each time that the model is loaded (``loaded``) and each batch (``seen``).
        kill_once: the worker is killed at the first window that shows this level, in the first process to see it.
        deadly: the worker is killed at each window that shows this level; -1: at any.
        dies_loading: the worker is killed when it loads the model.
        refuses: the model raises a DotaError with this text.
    """

    classes = ("plane", "ship")

    def __init__(
        self, folder: Path, *, kill_once: int = 0, deadly: int = 0, dies_loading: bool = False, refuses: str = ""
    ) -> None:
        self.identity = {"checkpoint": "0123"}
        self.folder = folder
        self.kill_once, self.deadly, self.dies_loading, self.refuses = kill_once, deadly, dies_loading, refuses

    def prepare(self, threads: int | None = None) -> None:
        self._note("loaded", {"threads": threads, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")})
        if self.dies_loading:
            kill_worker()

    def detect(self, windows: Sequence[np.ndarray]) -> list[Found]:
        self._note("seen", len(windows))
        if self.refuses:
            raise DotaError(self.refuses)
        return [self._find(pixels) for pixels in windows]

    def _find(self, pixels: np.ndarray) -> Found:
        if self.kill_once and (pixels == self.kill_once).any():
            flag = self.folder / "killed"
            if not flag.exists():
                flag.touch()
                kill_worker()
        if self.deadly == -1 or (self.deadly and (pixels == self.deadly).any()):
            kill_worker()
        boxes, scores = [], []
        for x, y, w, h, area in cv2.connectedComponentsWithStats((pixels[..., 0] > 80).astype(np.uint8))[2][1:]:
            if area == SIDE * SIDE:  # whole in this window
                boxes.append([x + w / 2, y + h / 2, w, h, math.pi / 4])
                scores.append(pixels[y, x, 0] / np.float32(255))
        return Found(np.array(boxes).reshape(-1, 5), np.array(scores), np.zeros(len(boxes), int))

    def _note(self, name: str, what: Any) -> None:
        with (self.folder / name).open("a") as file:
            file.write(json.dumps([os.getpid(), what]) + "\n")

    def notes(self, name: str) -> list[tuple[int, Any]]:
        """Process and what it told, of all processes."""
        path = self.folder / name
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
