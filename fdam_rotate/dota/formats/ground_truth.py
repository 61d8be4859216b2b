"""Ground truth of any layout that we convert from, read for scoring: image id -> its labels in pixels.

A folder of DOTA's label files needs no images. Other layouts are read as ``fdam-rotate convert-labels`` reads them; of
a data set of several parts (train, val), one is named or all are taken together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.formats.interchange import DataPart, Losses, Reading
from fdam_rotate.dota.formats.sniff import sniff_format
from fdam_rotate.dota.formats.table import FORMATS
from fdam_rotate.dota.labels import Labels, read_label_dir
from fdam_rotate.dota.layout import label_files
from fdam_rotate.dota.problems import Problem

__all__ = ["GROUND_TRUTH_FORMATS", "read_ground_truth"]

#: The formats that `read_ground_truth` knows.
GROUND_TRUTH_FORMATS = tuple(FORMATS)


def read_ground_truth(
    path: str | Path,
    format: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    part: str | None = None,
    image_ids: Iterable[str] | None = None,
    problems: list[Problem] | None = None,
    losses: Losses | None = None,
) -> dict[str, Labels]:
    """Read ground truth in any of ``GROUND_TRUTH_FORMATS``.

    Args:
        path: a folder of DOTA label files, the folder of a data set, or a label file of many images (COCO, CVAT).
        format: one of ``GROUND_TRUTH_FORMATS``; None looks at what is there.
        classes: YOLO-OBB: the names of the class numbers, where data.yaml does not have them.
        part: the part to take, such as ``val``; None takes all.
        image_ids: the images to take; None takes all. One that is not there is a problem.
        problems: where bad lines and records are collected while the rest is read; None raises at the first one.
        losses: collects what is read in another form, such as a polygon as its turned rectangle.

    Returns:
        Image id -> labels, sorted by id.

    Raises:
        DotaError: it is none of the formats, there is no such part, two parts hold the same id, or something is bad
            and ``problems`` is None.
        FileNotFoundError: there is no such file or folder.
    """
    path = Path(path)
    if format is None:
        format = sniff_format(path) or ("coco" if path.is_file() else "dota")
    if format not in GROUND_TRUTH_FORMATS:
        raise ValueError(f"format must be one of {', '.join(GROUND_TRUTH_FORMATS)}, got {format!r}")
    reading = Reading(classes=classes, need_images=False, losses=losses or Losses())
    found = reading.problems
    wanted = None if image_ids is None else set(image_ids)
    if format == "dota" and _holds_label_files(path):
        here = None if wanted is None else sorted(one for one in wanted if (path / f"{one}.txt").is_file())
        labels = read_label_dir(path, problems=found, image_ids=here)
    else:
        labels = _join(path, FORMATS[format].read(path, reading), part)
    if wanted is not None:
        labels = {image_id: one for image_id, one in labels.items() if image_id in wanted}
        for image_id in sorted(wanted - labels.keys()):
            text = f"no labels of the listed image {image_id}, so it is not scored; empty ones would make it background"
            found.append(Problem("no-label", str(path), 0, text))
    if found and problems is None:
        raise DotaError(str(found[0]))
    if problems is not None:
        problems.extend(found)
    return dict(sorted(labels.items()))


def _holds_label_files(path: Path) -> bool:
    """Is this a folder of label files itself, not the root of a data set?"""
    return path.is_dir() and not (path / "images").is_dir() and bool(label_files(path))


def _join(path: Path, parts: Sequence[DataPart], part: str | None) -> dict[str, Labels]:
    """The labels of one part, or of all."""
    if part is not None:
        taken = [one for one in parts if one.name == part]
        if not taken:
            raise DotaError(f"{path} has no part {part!r}; it has {', '.join(one.name for one in parts)}")
        parts = taken
    labels: dict[str, Labels] = {}
    for one in parts:
        for item in one.items:
            if item.image_id in labels:
                names = ", ".join(each.name for each in parts)
                raise DotaError(f"{path}: image {item.image_id} is in several parts ({names}); name one")
            labels[item.image_id] = item.labels
    return labels
