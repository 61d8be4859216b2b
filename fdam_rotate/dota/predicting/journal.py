"""The windows of an image that are done, kept as they come, so that a killed run goes on where it ended.

A journal is a file of JSON lines: the first with what decides its contents (model, windows, the image's SHA-256), then
one line per window, ``{"patch": name, "found": {class: [[score, x1, y1, ..., x4, y4], ...]}}``, in pixels of the
window. A line that was half written when a run was killed is cut off, and its window done again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections, concatenate
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.predicting.model import Found
from fdam_rotate.dota.splitting.options import differences

__all__ = ["Journal"]

#: As the text files of tools/test.py round them.
_SCORE_DECIMALS, _PIXEL_DECIMALS = 8, 4


class Journal:
    """The journal of one image, open for adding windows; a context manager.

    Args:
        path: the file; it is made if there is none.
        head: what decides its contents.
        classes: names of the labels, in their order.
        overwrite: replace a journal of other settings, or a damaged one.

    Attributes:
        done: names of the finished windows, and for each class with detections there rows of score and corners.

    Raises:
        DotaError: it is damaged, or of other settings or another image, and may not be overwritten.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], classes: Sequence[str], *, overwrite: bool = False) -> None:
        self.classes = tuple(classes)
        self.done: dict[str, dict[str, list[list[float]]]] = _read(path, head, overwrite)
        self._file = path.open("ab")
        if self._file.tell() == 0:
            self._append(head)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, patch: str, found: Found) -> None:
        """Keep the detections of one window."""
        rows = _rows(found)
        by_class = {name: rows[found.labels == label].tolist() for label, name in enumerate(self.classes)}
        self.done[patch] = {name: values for name, values in by_class.items() if values}
        self._append({"patch": patch, "found": self.done[patch]})

    def detections(self, patches: Sequence[str]) -> dict[str, Detections]:
        """The detections of ``patches``, in that order, by class, with the windows' names as ids."""
        return {
            name: concatenate(
                [Detections.empty(), *(_detections(patch, self.done[patch].get(name, [])) for patch in patches)]
            )
            for name in self.classes
        }

    def _append(self, record: Mapping[str, Any]) -> None:
        """One line, handed to the system whole: a killed run loses no line that was written."""
        self._file.write(json.dumps(record).encode("utf-8") + b"\n")
        self._file.flush()


def _rows(found: Found) -> NDArray[np.float64]:
    """(n, 9) score and corners, rounded."""
    scores = np.asarray(found.scores, np.float64)[:, None].round(_SCORE_DECIMALS)
    return np.concatenate([scores, le90_to_poly(found.boxes).round(_PIXEL_DECIMALS)], axis=1)


def _detections(patch: str, rows: Sequence[Sequence[float]]) -> Detections:
    values = np.array(rows, np.float64).reshape(-1, 9)
    return Detections((patch,), np.zeros(len(values), np.intp), values[:, 0], values[:, 1:])


def _read(path: Path, head: Mapping[str, Any], overwrite: bool) -> dict[str, dict[str, list[list[float]]]]:
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
