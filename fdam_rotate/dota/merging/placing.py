"""Where patches lie: from detections in pixels of patches to detections in pixels of whole images.

A point of the original image is ``(point of the patch + (x, y)) / scale``. The split's manifest says where a patch
lies. Without one its name does, in MMRotate's or DOTA_devkit's convention; any other name is a whole image then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fdam_rotate.dota.detections import Detections, read_detections
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.labels import MAX_COORDINATE
from fdam_rotate.dota.problems import Problem, line_problem
from fdam_rotate.dota.windows import place_by_name

__all__ = ["Locate", "Locator", "Placer", "place_detections"]


class Locator(Protocol):
    """What knows where a patch lies, such as `fdam_rotate.dota.manifest.Manifest`."""

    def locate(self, patch_id: str) -> Any:
        """(image id, x, y, scale, ...) of the patch; raises DotaError if there is no such patch."""


Locate = Locator | Callable[[str], Any] | None


class Placer:
    """Moves detections from patches to images; remembers where each patch lies."""

    def __init__(self, locate: Locate = None) -> None:
        if locate is None:
            self._locate: Callable[[str], Any] = place_by_name
        else:
            self._locate = locate if callable(locate) else locate.locate
        self.places: dict[str, tuple[str, float, float, float] | None] = {}
        self._reasons: dict[str, str] = {}

    def place(self, detections: Detections) -> tuple[Detections, list[tuple[str, str]]]:
        """Move detections from patches to images.

        Returns:
            The detections in pixels of the images, in the order given; and (patch id, reason) of those left out,
            because the patch's place is not known, or a box would not lie within `MAX_COORDINATE` there.
        """
        images: dict[str, int] = {}
        index, offsets = [], []
        unplaced = []
        for patch_id in detections.image_ids:
            place = self.find(patch_id)
            if place is None:
                unplaced.append((patch_id, self._reasons[patch_id]))
                index.append(-1)
                offsets.append((0.0, 0.0, 1.0))
            else:
                index.append(images.setdefault(place[0], len(images)))
                offsets.append(place[1:])
        image = np.array(index, np.intp)[detections.image]
        shift = np.array(offsets, np.float64).reshape(-1, 3)
        polys = detections.polys + np.tile(shift[:, :2], 4)[detections.image]
        if (shift[:, 2] != 1).any():
            with np.errstate(over="ignore"):
                polys /= shift[detections.image, 2:]
        if not (polys.max(initial=0) <= MAX_COORDINATE and polys.min(initial=0) >= -MAX_COORDINATE):  # NaN too
            far = (image >= 0) & ~(np.abs(polys) <= MAX_COORDINATE).all(1)
            image[far] = -1
            for patch_id in (detections.image_ids[k] for k in np.unique(detections.image[far])):
                reason = f"{patch_id!r} would put a box more than {MAX_COORDINATE:.0f} pixels from its image's origin"
                unplaced.append((patch_id, reason))
        placed = Detections(tuple(images), image, detections.scores, polys)
        return (placed.take(image >= 0) if unplaced else placed), unplaced

    @property
    def whole(self) -> list[str]:
        """Of the ids met, those that went by their names and are no patch's: whole images."""
        if self._locate is not place_by_name:
            return []
        return sorted(one for one, place in self.places.items() if place == (one, 0.0, 0.0, 1.0))

    def find(self, patch_id: str) -> tuple[str, float, float, float] | None:
        """(image id, x, y, scale) of a patch, None if its place is not known."""
        if patch_id not in self.places:
            try:
                image_id, x, y, scale = self._locate(patch_id)[:4]
                if not scale > 0:
                    raise DotaError(f"{patch_id!r} has scale {scale}; expected a number above 0")
                self.places[patch_id] = (str(image_id), float(x), float(y), float(scale))
            except DotaError as error:
                self._reasons[patch_id] = str(error)
                self.places[patch_id] = None
        return self.places[patch_id]


def place_detections(
    path: str | Path, locate: Locate = None, *, task: int = 1, problems: list[Problem]
) -> dict[str, Detections]:
    """The detections of all patches by class, in pixels of the images, not merged.

    Args:
        path: folder or zip of detections with ids of patches.
        locate: knows where a patch lies; None: its name says so.
        task: 1 or 2.
        problems: where bad lines and patches without a place are collected.
    """
    placer = Placer(locate)
    placed: dict[str, Detections] = {}
    for name, found in read_detections(path, task=task, problems=problems).items():
        placed[name], unplaced = placer.place(found)
        problems += [line_problem("patch", path, 0, reason) for _, reason in unplaced]
    return placed
