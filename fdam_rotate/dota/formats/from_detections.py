"""Detections as label files of the tools that people draw with: to correct by hand, and to train with again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.formats.interchange import DataPart, Item, Writing, staged
from fdam_rotate.dota.formats.table import FORMATS
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.words import counted

__all__ = ["write_labels"]


def write_labels(
    format: str,
    out: str | Path,
    detections: Mapping[str, Detections],
    sizes: Mapping[str, tuple[int, int]],
    classes: Sequence[str],
    *,
    file_names: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write the detections of each image as its labels, the best first; no image is copied or linked.

    Images without detections get an empty label file, so that the tool shows them as looked at. Formats that hold many
    images in one file (COCO, CVAT, Label Studio) are written as one, since their tools take one.

    Args:
        format: a name of `fdam_rotate.dota.formats.table.FORMATS`.
        out: the folder; it is made.
        detections: class -> detections in pixels of the images.
        sizes: image id -> width and height in pixels, of every image that shall have labels.
        classes: class names in their order.
        file_names: image id -> file name; ``<id>.png`` where there is none.
        overwrite: replace the files of an earlier run in ``out``, and no others.

    Returns:
        Lines to print: what was written, and what the format cannot hold.

    Raises:
        OutputExistsError: ``out`` holds anything that may not be replaced.
    """
    writing = Writing(classes)
    items = []
    for image_id in sorted(sizes):
        rows = [
            (score, poly, name)
            for name in classes
            for score, poly in _of_image(detections.get(name, Detections.empty()), image_id)
        ]
        rows.sort(key=lambda row: -row[0])  # stable: ties stay in the order of the classes
        labels = Labels(
            np.array([poly for _, poly, _ in rows], np.float64).reshape(-1, 8),
            tuple(name for _, _, name in rows),
            np.zeros(len(rows), np.int64),
        )
        name = (file_names or {}).get(image_id, f"{image_id}.png")
        scores = np.array([score for score, _, _ in rows], np.float64)
        items.append(Item(image_id, Path(name), *sizes[image_id], labels, scores))
    if not FORMATS[format].scores:
        writing.losses.add("scores of detections", sum(len(item.labels) for item in items))
    with staged(Path(out), overwrite=overwrite) as folder:
        FORMATS[format].write([DataPart("data", tuple(items))], folder, writing)
    count = sum(len(item.labels) for item in items)
    lost = [f"not kept: {what}: {number:,}" for what, number in sorted(writing.losses.counts.items())]
    return [f"wrote {out} as {format}: {counted(count, 'object')} of {counted(len(items), 'image')}", *lost]


def _of_image(found: Detections, image_id: str) -> list[tuple[float, list[float]]]:
    if image_id not in found.image_ids:
        return []
    own = found.take(found.image == found.image_ids.index(image_id))
    return list(zip(own.scores.tolist(), own.polys.tolist(), strict=True))
