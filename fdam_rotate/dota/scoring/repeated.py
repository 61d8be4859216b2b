"""Labels that occur twice: the same polygon of the same class on the same image.

The second of them can never be found, since a detection finds one object, so each costs recall that no detector has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from fdam_rotate.dota.labels import Labels

__all__ = ["Repeated", "repeated_labels"]


@dataclass(frozen=True)
class Repeated:
    """How many labels of an image and class say what another one says already."""

    image_id: str
    name: str
    count: int


def repeated_labels(truths: Mapping[str, Labels], classes: Collection[str]) -> list[Repeated]:
    """The repeated labels of ``classes``, by image, then class; the order of a polygon's corners does not matter."""
    found = []
    for image_id, labels in sorted(truths.items()):
        corners = labels.polys.reshape(-1, 4, 2)
        order = np.lexsort((corners[..., 1], corners[..., 0]), axis=1)
        keys = np.take_along_axis(corners, order[..., None], axis=1).reshape(-1, 8)
        seen: set[tuple[str, bytes]] = set()
        counts: dict[str, int] = {}
        for name, key in zip(labels.names, keys, strict=True):
            entry = name, key.tobytes()
            if entry in seen and name in classes:
                counts[name] = counts.get(name, 0) + 1
            seen.add(entry)
        found += [Repeated(image_id, name, count) for name, count in sorted(counts.items())]
    return found
