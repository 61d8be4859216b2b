"""The windows of an image that are done, kept as they come, so that a killed run goes on where it ended.

A journal is a file of JSON lines: the first with what decides its contents (model, windows, the image's SHA-256), then
one line per window, ``{"patch": name, "found": {class: [[score, x1, y1, ..., x4, y4], ...]}}``, in pixels of the
window. A line that was half written when a run was killed is cut off, and its window done again. Lines come as windows
are finished; once all are, they are put in the order of the windows, so that finished journals are equal in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdam_rotate.dota.detections import Detections, concatenate
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.predicting.model import Found
from fdam_rotate.dota.splitting.options import differences

__all__ = ["Journal", "Rows", "rows_by_class"]

#: As the text files of tools/test.py round them.
_SCORE_DECIMALS, _PIXEL_DECIMALS = 8, 4

#: The detections of a window: for each class that has some, rows of score and corners, rounded.
Rows = dict[str, list[list[float]]]


class Journal:
    """The journal of one image. Its file is made with the first window, and open only while lines are written.

    Args:
        path: the file.
        head: what decides its contents.
        classes: names of the labels, in their order.
        overwrite: replace a journal of other settings, or a damaged one.

    Attributes:
        done: the finished windows and their detections.

    Raises:
        DotaError: it is damaged, or of other settings or another image, and may not be overwritten.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], classes: Sequence[str], *, overwrite: bool = False) -> None:
        self.classes = tuple(classes)
        self.done: dict[str, Rows] = _read(path, head, overwrite)
        self._path, self._head = path, head

    def add(self, windows: Mapping[str, Rows]) -> None:
        """Keep the detections of some windows; those that are there already stay as they are."""
        new = {patch: rows for patch, rows in windows.items() if patch not in self.done}
        self.done.update(new)
        self._append(_line({"patch": patch, "found": rows}) for patch, rows in new.items())

    def finish(self, patches: Sequence[str]) -> None:
        """Put the lines in the order of ``patches``, which are all done."""
        if list(self.done) == list(patches):
            return
        self.done = {patch: self.done[patch] for patch in patches}
        with atomic_path(self._path) as temporary, temporary.open("wb") as file:
            file.write(_line(self._head))
            file.writelines(_line({"patch": patch, "found": rows}) for patch, rows in self.done.items())

    def detections(self, patches: Sequence[str]) -> dict[str, Detections]:
        """The detections of ``patches``, in that order, by class, with the windows' names as ids."""
        return {
            name: concatenate(
                [Detections.empty(), *(_detections(patch, self.done[patch].get(name, [])) for patch in patches)]
            )
            for name in self.classes
        }

    def _append(self, lines: Iterable[bytes]) -> None:
        """Whole lines, handed to the system: a killed run loses none that was written."""
        with self._path.open("ab") as file:
            if file.tell() == 0:
                file.write(_line(self._head))
            file.writelines(lines)


def rows_by_class(found: Found, classes: Sequence[str]) -> Rows:
    """The detections of a window as a journal keeps them."""
    scores = np.asarray(found.scores, np.float64)[:, None].round(_SCORE_DECIMALS)
    rows = np.concatenate([scores, le90_to_poly(found.boxes).round(_PIXEL_DECIMALS)], axis=1)
    by_class = {name: rows[found.labels == label].tolist() for label, name in enumerate(classes)}
    return {name: values for name, values in by_class.items() if values}


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode("utf-8") + b"\n"


def _detections(patch: str, rows: Sequence[Sequence[float]]) -> Detections:
    values = np.array(rows, np.float64).reshape(-1, 9)
    return Detections((patch,), np.zeros(len(values), np.intp), values[:, 0], values[:, 1:])


def _read(path: Path, head: Mapping[str, Any], overwrite: bool) -> dict[str, Rows]:
    """The finished windows of a journal; what follows the last whole line is cut off."""
    if not path.is_file():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    problem = None
    try:
        first, *records = [json.loads(line) for line in whole.splitlines()] or [dict(head)]
        windows = {record["patch"]: record["found"] for record in records}
        if first != head:
            problem = f"is of a run with other settings: {differences(first, head)}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"is damaged: {error}"
    if problem is None:
        return windows
    if not overwrite:
        raise DotaError(f"{path} {problem}; give another folder, or --overwrite")
    path.unlink()
    return {}
