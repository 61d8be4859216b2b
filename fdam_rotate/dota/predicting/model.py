"""What prediction asks of a model: pixels of windows in, boxes, scores and classes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Found", "WindowModel"]


@dataclass(frozen=True)
class Found:
    """The detections in one window, in pixels of the window.

    Attributes:
        boxes: (n, 5) cx, cy, w, h, angle (radians, clockwise on the screen).
        scores: (n,) in [0, 1].
        labels: (n,) index of the class.
    """

    boxes: NDArray[np.floating[Any]]
    scores: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.scores), 5) or self.labels.shape != self.scores.shape:
            raise ValueError(
                f"expected boxes (n, 5), scores (n,) and labels (n,), got {self.boxes.shape}, {self.scores.shape} and "
                f"{self.labels.shape}"
            )


class WindowModel(Protocol):
    """A detector as `fdam_rotate.dota.predicting.predict.predict_images` uses it.

    Until `prepare` is called it can be pickled, so that each worker prepares its own.

    Attributes:
        classes: names of the labels, in their order.
        identity: what decides its detections (hashes of weights and settings), in values that JSON knows; a journal
            begins with it.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels, in their order."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the detections, in values that JSON knows."""
        ...

    def prepare(self, threads: int | None = None) -> None:
        """Load what is slow to load; called once, after the output folder is known to be writable.

        Args:
            threads: to compute with, where other workers compute beside this one; None: as it likes.
        """
        ...

    def detect(self, windows: Sequence[NDArray[np.uint8]]) -> list[Found]:
        """The detections in each of some windows (H, W, 3), blue, green, red; after suppression within the window."""
        ...
