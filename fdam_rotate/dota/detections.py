"""Detections as text: one ``Task1_<class>.txt`` (oriented) or ``Task2_<class>.txt`` (horizontal) a class.

    P0006 0.998731 1278.5 1021.25 1302.0 1021.25 1302.0 1060.5 1278.5 1060.5     (Task1: id score x1 y1 ... x4 y4)
    P0006 0.998731 1278.5 1021.25 1302.0 1060.5                                  (Task2: id score xmin ymin xmax ymax)

The id names an image, or a patch before merging; its blanks, and what of a class a file name cannot hold, are escaped
(`fdam_rotate.dota.names`). The files lie in a folder or at the top level of a zip, which is read
in place and never extracted. A class whose file is missing is absent from the result; one whose file is empty is there
with no detection. Horizontal boxes are held as their four corners, so that one kind of array serves both tasks.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.archives import ARCHIVE_ERRORS, is_damage
from fdam_rotate.dota.errors import DetectionFormatError, DotaError
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.labels import MAX_COORDINATE, number_problem
from fdam_rotate.dota.names import (
    MAX_PATCH_ID_BYTES,
    class_name,
    did_you_mean,
    escape_class,
    escape_id,
    id_problem,
    unescape_class,
    unescape_id,
)
from fdam_rotate.dota.problems import Problem, line_problem
from fdam_rotate.dota.textscan import format_rows, scan_table

__all__ = [
    "Detections",
    "by_image",
    "concatenate",
    "detection_files",
    "file_size",
    "format_detections",
    "iter_detections",
    "open_file",
    "read_detection_files",
    "read_detections",
    "task_file_name",
    "unify_ids",
    "write_detections",
]

#: Bytes of text parsed at once: what is held beside the finished arrays is some ten times this.
CHUNK_BYTES = 4 << 20

#: The longest line, in bytes.
MAX_LINE_BYTES = 1 << 16

#: A zip member that claims to be larger than this (bytes) is refused unread, and so is one above the second size that
#: is packed more than `MAX_PACKING` times: lines of digits shrink to about a third.
MAX_MEMBER_BYTES = 4 << 30
MAX_PACKED_BYTES = 64 << 20
MAX_PACKING = 100

# Bytes of a bad line that are kept to be shown.
_SHOWN = 200


@dataclass(frozen=True)
class Detections:
    """The detections of one class.

    Attributes:
        image_ids: ids of images (or patches), each once.
        image: (N,) intp, index into ``image_ids``.
        scores: (N,) float64.
        polys: (N, 8) float64, x1 y1 ... x4 y4 in pixels.
    """

    image_ids: tuple[str, ...]
    image: NDArray[np.intp]
    scores: NDArray[np.float64]
    polys: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.image) == len(self.scores) == len(self.polys):
            raise ValueError(
                f"columns of unequal length: {len(self.image)} image, {len(self.scores)} scores, "
                f"{len(self.polys)} polys"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """No detection."""
        return cls((), np.zeros(0, np.intp), np.zeros(0), np.zeros((0, 8)))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        """The detections of ``rows`` (indices or a mask), with all image ids kept."""
        return Detections(self.image_ids, self.image[rows], self.scores[rows], self.polys[rows])


def unify_ids(parts: Sequence[Detections]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """The image ids of all ``parts`` in order of first appearance, and the index into them of each detection.

    Returns:
        (ids, index): index is (N,) for the N detections of all parts, one part after the other.
    """
    index: dict[str, int] = {}
    image = [
        np.array([index.setdefault(one, len(index)) for one in part.image_ids], np.intp)[part.image] for part in parts
    ]
    return tuple(index), np.concatenate([np.zeros(0, np.intp), *image])


def concatenate(parts: Sequence[Detections]) -> Detections:
    """All detections of ``parts``, one after the other; ids are united in order of first appearance."""
    if not parts:
        return Detections.empty()
    if len(parts) == 1:
        return parts[0]
    ids, image = unify_ids(parts)
    scores = np.concatenate([part.scores for part in parts])
    return Detections(ids, image, scores, np.concatenate([part.polys for part in parts]))


def by_image(detections: Mapping[str, Detections]) -> dict[str, dict[str, Detections]]:
    """Detections by image id, then by class, in their order."""
    out: dict[str, dict[str, Detections]] = {}
    for name, found in detections.items():
        order = np.argsort(found.image, kind="stable")
        ends = np.searchsorted(found.image[order], np.arange(len(found.image_ids) + 1))
        for k, image_id in enumerate(found.image_ids):
            out.setdefault(image_id, {})[name] = found.take(order[ends[k] : ends[k + 1]])
    return out


def read_detections(
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    task: int = 1,
    problems: list[Problem] | None = None,
) -> dict[str, Detections]:
    """Read the detection files of a folder or zip.

    Args:
        source: a folder, or a zip with the files at its top level.
        classes: the classes to read, in this order; None reads every ``Task{task}_*.txt``, sorted.
        task: 1 (oriented, ten fields per line) or 2 (horizontal, six).
        problems: where bad lines, and files of classes that were not asked for, are collected; None raises at the
            first one.

    Returns:
        Class -> its detections in the order of the file. A class without file is absent.

    Raises:
        DetectionFormatError: a line is bad and ``problems`` is None, or the source cannot be read as an archive.
        FileNotFoundError: there is no such folder or zip, or it holds no ``Task{task}_*.txt`` at all.
    """
    files = detection_files(source, classes=classes, task=task, problems=problems)
    return read_detection_files(source, files, task=task, problems=problems)


def read_detection_files(
    source: str | Path, files: Mapping[str, str], *, task: int = 1, problems: list[Problem] | None = None
) -> dict[str, Detections]:
    """Class -> its detections, of some of the files that `detection_files` names; see `read_detections`."""
    return {
        name: concatenate(list(iter_detections(source, file_name, task=task, problems=problems)))
        for name, file_name in files.items()
    }


def detection_files(
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    task: int = 1,
    problems: list[Problem] | None = None,
) -> dict[str, str]:
    """Class -> file name within ``source``, in the order of ``classes`` (sorted if None); see `read_detections`."""
    source = Path(source)
    prefix = f"Task{_check_task(task)}_"
    found: dict[str, str] = {}
    inner: list[str] = []
    for name, count in sorted(Counter(_listing(source)).items()):
        if not (name.rsplit("/", 1)[-1].startswith(prefix) and name.endswith(".txt")):
            continue
        if "/" in name:
            inner.append(name)
            continue
        if name == f"{prefix}.txt" or "\\" in name:
            _report(
                problems, line_problem("malformed", source / name, 0, "the file name holds no class; it is not read")
            )
            continue
        try:
            own = class_name(unescape_class(name[len(prefix) : -4]))
        except DotaError as error:
            _report(problems, line_problem("malformed", repr(str(source / name)), 0, f"{error}; it is not read"))
            continue
        if own in found:
            reason = f"is of class {own!r}, as {found[own]} is; it is not read"
            _report(problems, line_problem("malformed", source / name, 0, reason))
            continue
        found[own] = name
        if count > 1:
            reason = f"stands {count} times in the archive; only the last is read"
            _report(problems, line_problem("malformed", source / name, 0, reason))
    if not found:
        hint = f"; {inner[0]} is not at the top level: zip the files, not a folder" if inner else ""
        raise FileNotFoundError(
            f"{source} holds no {prefix}<class>.txt; give the folder or zip with one file per class{hint}"
        )
    for name in inner:
        _report(
            problems, line_problem("malformed", source / name, 0, "not at the top level of the archive; it is not read")
        )
    if classes is None:
        return found
    for name in found:
        if name not in classes:
            text = f"unknown class {name!r}{did_you_mean(name, classes)}"
            _report(problems, line_problem("malformed", source / found[name], 0, text))
    return {name: found[name] for name in classes if name in found}


def iter_detections(
    source: str | Path,
    file_name: str,
    *,
    task: int = 1,
    problems: list[Problem] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[Detections]:
    """Read a file of `detection_files` by chunks of about ``chunk_bytes``; see `read_detections`."""
    source = Path(source)
    with open_file(source, file_name) as stream:
        yield from _parse_stream(stream, source / file_name, task, problems, chunk_bytes)


def task_file_name(name: str, task: int = 1) -> str:
    """The file name of a class: ``Task1_<class>.txt`` or ``Task2_<class>.txt``; see `fdam_rotate.dota.names`."""
    return f"Task{_check_task(task)}_{escape_class(class_name(name))}.txt"


def write_detections(
    folder: str | Path,
    detections: Mapping[str, Detections],
    *,
    task: int = 1,
    classes: Sequence[str] | None = None,
) -> list[Path]:
    """Write one file for each of ``classes`` (those of ``detections`` if None), empty ones too; returns the paths.

    Lines are sorted by image id, then by falling score, then as they come; numbers as `format_detections` writes them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in detections if classes is None else classes:
        path = folder / task_file_name(name, task)
        with atomic_path(path) as temporary:
            temporary.write_bytes(format_detections(detections.get(name, Detections.empty()), task=task))
        paths.append(path)
    return paths


def format_detections(detections: Detections, *, task: int = 1) -> bytes:
    """The text of one class: lines sorted by image id, then by falling score, ties as they come.

    Scores carry eight decimals, which tell float32 scores apart, and coordinates four, a ten-thousandth of a pixel;
    trailing zeros are dropped down to six and two.

    Raises:
        DotaError: a number that is not finite or not below 1e8 in size.
    """
    ranks = np.empty(len(detections.image_ids), np.intp)
    ranks[sorted(range(len(ranks)), key=detections.image_ids.__getitem__)] = np.arange(len(ranks))
    order = np.lexsort((-detections.scores, ranks[detections.image]))
    polys = detections.polys[order]
    if _check_task(task) == 2:
        x, y = polys[:, 0::2], polys[:, 1::2]
        polys = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1) if len(polys) else np.zeros((0, 4))
    ids = list(map(escape_id, detections.image_ids))
    return format_rows(ids, detections.image[order], detections.scores[order], polys)


def _check_task(task: int) -> int:
    if task not in (1, 2):
        raise ValueError(f"task must be 1 (oriented) or 2 (horizontal), got {task!r}")
    return task


def _report(problems: list[Problem] | None, problem: Problem) -> None:
    if problems is None:
        raise DetectionFormatError(str(problem))
    problems.append(problem)


def _listing(source: Path) -> list[str]:
    """File names within a folder or archive; in an archive with their inner path."""
    if source.is_dir():
        return [path.name for path in source.iterdir() if path.is_file()]
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; give a folder or a zip of detections")
    with _zip(source) as archive:
        return [info.filename for info in archive.infolist() if not info.is_dir()]


@contextmanager
def _zip(source: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    except ARCHIVE_ERRORS as error:
        if not is_damage(error):
            raise
        raise DetectionFormatError(f"{source} cannot be read as a zip: {error}") from error


def file_size(source: Path, name: str) -> int:
    """Size in bytes of a file of a folder, or of the top level of a zip (unpacked)."""
    if source.is_dir():
        return (source / name).stat().st_size
    with _zip(source) as archive:
        return archive.getinfo(name).file_size


@contextmanager
def open_file(source: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file of a folder, or of the top level of a zip, for reading bytes."""
    if source.is_dir():
        with (source / name).open("rb") as stream:
            yield stream
        return
    with _zip(source) as archive:
        info = archive.getinfo(name)
        packing = info.file_size / max(1, info.compress_size)
        if info.file_size > MAX_MEMBER_BYTES or (info.file_size > MAX_PACKED_BYTES and packing > MAX_PACKING):
            raise DetectionFormatError(
                f"{source}: {name} unpacks to {info.file_size} bytes, {packing:.0f} times its size in the zip; refused"
            )
        with archive.open(info) as stream:
            yield stream


def _parse_stream(
    stream: IO[bytes], path: Path, task: int, problems: list[Problem] | None, chunk_bytes: int
) -> Iterator[Detections]:
    width = 10 if task == 1 else 6
    line = 1
    rest = b""
    while block := stream.read(chunk_bytes):
        if line == 1 and not rest:
            if block.startswith((b"\xff\xfe", b"\xfe\xff")):
                _report(problems, line_problem("malformed", path, 1, "UTF-16 text, expected UTF-8; convert the file"))
                return
            block = block.removeprefix(b"\xef\xbb\xbf")
        head, newline, tail = block.rpartition(b"\n")
        if not newline:  # no line ends here: a line longer than the chunk
            rest += block
            if len(rest) > max(chunk_bytes, MAX_LINE_BYTES):
                _report(
                    problems,
                    line_problem("malformed", path, line, f"a line of over {len(rest)} bytes; not read from here on"),
                )
                return
            continue
        text = rest + head + newline
        rest = tail
        yield _parse_text(text, width, path, line, problems)
        line += text.count(b"\n")
    if rest.strip():
        yield _parse_text(rest, width, path, line, problems)


def _parse_text(text: bytes, width: int, path: Path, first: int, problems: list[Problem] | None) -> Detections:
    """Parse whole lines, the first of which is number ``first`` of the file."""
    quick = _parse_quick(text, width)
    if quick is not None:
        return quick
    return _parse_strict(text.split(b"\n"), width, path, first, problems)


def _parse_quick(text: bytes, width: int) -> Detections | None:
    """Parse lines that are all well formed; None as soon as anything is unusual."""
    table = scan_table(text, width)
    if table is None:
        return None
    raw_ids = table.column(0)
    index = {raw: i for i, raw in enumerate(dict.fromkeys(raw_ids))}
    try:
        image_ids = tuple(map(_read_id, index))
    except ValueError:
        return None
    if len(set(image_ids)) < len(image_ids):  # one as it is and one escaped
        return None
    try:
        values = table.numbers(1, width)
    except ValueError:
        return None
    # a comparison with NaN is false, so one test finds NaN, infinities and absurd values
    if not (np.abs(values) <= MAX_COORDINATE).all():
        return None
    image = np.fromiter(map(index.__getitem__, raw_ids), np.intp, table.rows)
    return Detections(image_ids, image, values[:, 0].copy(), _corners(values[:, 1:]))


def _read_id(raw: bytes) -> str:
    """The id of an image or patch as it stands in a line.

    Raises:
        ValueError: it cannot be one; the message says why.
    """
    try:
        image_id = unescape_id(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("the image id is not UTF-8 text") from None
    problem = id_problem(image_id, MAX_PATCH_ID_BYTES)
    if problem is not None:
        raise ValueError(f"the image id {problem}")
    return image_id


def _parse_strict(rows: list[bytes], width: int, path: Path, first: int, problems: list[Problem] | None) -> Detections:
    """Parse row by row, telling every bad one."""
    index: dict[str, int] = {}
    image, scores, boxes = [], [], []
    for lineno, row in enumerate(rows, start=first):
        fields = row.split()
        if not fields:
            continue
        reason = _row_problem(fields, width)
        if reason is not None:
            _report(
                problems,
                line_problem(
                    "malformed", path, lineno, reason, row[:_SHOWN].decode("utf-8", "backslashreplace").strip()
                ),
            )
            continue
        image.append(index.setdefault(_read_id(fields[0]), len(index)))
        scores.append(float(fields[1]))
        boxes.append([float(field) for field in fields[2:]])
    polys = _corners(np.array(boxes, np.float64).reshape(-1, width - 2))
    return Detections(tuple(index), np.array(image, np.intp), np.array(scores, np.float64), polys)


def _row_problem(fields: Sequence[bytes], width: int) -> str | None:
    if len(fields) != width:
        return f"expected id, score and {width - 2} coordinates, got {len(fields)} fields"
    try:
        _read_id(fields[0])
    except ValueError as error:
        return str(error)
    return number_problem(fields[1:2], "score") or number_problem(fields[2:], "coordinate")


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 8) corners of (N, 8) polygons (unchanged) or (N, 4) xmin ymin xmax ymax."""
    return np.ascontiguousarray(boxes if boxes.shape[1] == 8 else boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]])
