"""DOTA annotations (``labelTxt``): one text file per image, one object per line.

    imagesource:GoogleEarth
    gsd:0.146343590398
    2753 2408 2861 2385 2888 2468 2805 2502 plane 0

Optional header lines (``key:value``) come first. Then each line holds x1 y1 ... x4 y4 in pixels (x right, y down),
the class, and the difficulty (an integer, 0 where it is missing), separated by white space. Blank lines, trailing
spaces, CRLF line ends and a UTF-8 byte-order mark are accepted. Polygons are taken as they stand: vertices in either
order, outside the image, or without area; only what is no polygon at all is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError, LabelFormatError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.layout import label_files
from fdam_rotate.dota.names import check_image_id, class_name, id_problem, nearest_name
from fdam_rotate.dota.problems import Problem, line_problem
from fdam_rotate.dota.words import counted

__all__ = [
    "MAX_COORDINATE",
    "LabelLine",
    "Labels",
    "parse_label_line",
    "read_label_dir",
    "read_labels",
    "write_labels",
]

#: A coordinate further from zero than this (pixels) is a mistake: no image is ten million pixels wide.
MAX_COORDINATE = 1e7

_HEADER = re.compile(rb"\s*[A-Za-z][\w .-]*:")
_KNOWN_HEADER = re.compile(rb"\s*(imagesource|gsd|acquisition dates)\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """The objects of one image.

    Attributes:
        polys: (N, 8) float64, x1 y1 ... x4 y4 in pixels.
        names: N class names.
        difficult: (N,) int64, 0 for an ordinary object.
        lines: (N,) int64, 1-based line numbers in the file (0 where there is no file).
        header: the header lines, without line ends.
    """

    polys: NDArray[np.float64]
    names: tuple[str, ...]
    difficult: NDArray[np.int64]
    lines: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    header: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.lines) == 0 and len(self.names):
            object.__setattr__(self, "lines", np.zeros(len(self.names), np.int64))
        if not len(self.polys) == len(self.names) == len(self.difficult) == len(self.lines):
            raise ValueError(
                f"columns of unequal length: {len(self.polys)} polys, {len(self.names)} names, "
                f"{len(self.difficult)} difficult, {len(self.lines)} lines"
            )

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def empty(cls) -> Labels:
        """No object."""
        return cls(np.zeros((0, 8)), (), np.zeros(0, np.int64))


@dataclass(frozen=True)
class LabelLine:
    """One parsed line: eight coordinates in pixels, the class and the difficulty."""

    coordinates: tuple[float, ...]
    name: str
    difficult: int


def parse_label_line(text: str, *, path: Path, lineno: int, classes: Sequence[str] | None = None) -> LabelLine:
    """Parse one object line.

    Raises:
        LabelFormatError: wrong number of fields, a coordinate that is no finite number within ``MAX_COORDINATE``,
            a difficulty that is no integer of at least 0, or a class that is not in ``classes``.
    """
    result = _parse_line(text.encode("utf-8"), classes)
    if isinstance(result, str):
        raise LabelFormatError(str(line_problem("malformed", path, lineno, result, text.strip())))
    return result


def read_labels(
    path: str | Path, *, classes: Sequence[str] | None = None, problems: list[Problem] | None = None
) -> Labels:
    """Read the objects of one image, in the order of the file.

    Args:
        path: the ``labelTxt`` file.
        classes: the class names that are allowed; None allows any.
        problems: where bad lines are collected while the rest is read; None raises at the first one.

    Raises:
        LabelFormatError: a line is bad and ``problems`` is None.
        FileNotFoundError: there is no such file.
    """
    return _read_objects(_load(Path(path)), classes, problems)


def read_label_dir(
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    problems: list[Problem] | None = None,
    image_ids: Iterable[str] | None = None,
) -> dict[str, Labels]:
    """Read every ``*.txt`` of a folder, or those of ``image_ids``: image id (file stem) -> objects, sorted by id.

    A file whose name cannot be an image id is a problem, and is left out.

    Raises:
        FileNotFoundError: the folder, or the file of an asked image, is not there.
        LabelFormatError: a line or a name is bad and ``problems`` is None.
        DotaError: one of ``image_ids`` cannot be an image id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"label folder {folder} {what}; give the folder with one .txt per image (labelTxt)")
    if image_ids is None:
        paths = {path.stem: path for path in label_files(folder)}
        for image_id in [one for one in paths if id_problem(one) is not None]:
            text = f"its image id {id_problem(image_id)}; rename the file; it is left out"
            found = Problem("id", repr(str(paths.pop(image_id))), 0, text)
            if problems is None:
                raise LabelFormatError(str(found))
            problems.append(found)
    else:
        paths = {image_id: folder / f"{check_image_id(image_id)}.txt" for image_id in image_ids}
    return {image_id: read_labels(paths[image_id], classes=classes, problems=problems) for image_id in sorted(paths)}


def write_labels(path: str | Path, labels: Labels) -> None:
    """Write ``labels`` as DOTA text, all or nothing: header, then one object per line.

    Coordinates are written as Python writes a float (the shortest text that reads back as the same number).
    """
    lines = list(labels.header)
    for poly, name, difficult in zip(labels.polys.tolist(), labels.names, labels.difficult.tolist(), strict=True):
        lines.append(f"{' '.join(map(repr, poly))} {name} {difficult}")
    write_text(path, "".join(line + "\n" for line in lines))


@dataclass(frozen=True)
class _Text:
    """A file taken apart: its header, how many lines stand before the objects, and the objects' lines, ending in LF."""

    path: Path
    header: tuple[str, ...]
    skipped: int
    body: bytes
    reason: str | None = None


def _load(path: Path) -> _Text:
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _Text(path, (), 0, b"", "UTF-16 text, expected UTF-8; convert the file")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if data and not data.endswith(b"\n"):
        data += b"\n"
    header: list[str] = []
    skipped = start = 0
    while start < len(data):
        end = data.index(b"\n", start) + 1
        row = data[start:end]
        if row.strip():
            if not _HEADER.match(row):
                break
            header.append(row.decode("utf-8", "replace").rstrip())
        skipped, start = skipped + 1, end
    return _Text(path, tuple(header), skipped, data[start:])


def _read_objects(text: _Text, classes: Sequence[str] | None, problems: list[Problem] | None) -> Labels:
    """Read line by line with `_parse_line`, reporting every bad one."""
    parsed: list[tuple[int, LabelLine]] = []
    found = [line_problem("malformed", text.path, 1, text.reason)] if text.reason else []
    header = list(text.header)
    for lineno, row in enumerate(text.body.split(b"\n"), start=text.skipped + 1):
        if not row.strip():
            continue
        if _KNOWN_HEADER.match(row):  # as in label files that were joined
            header.append(row.decode("utf-8", "replace").rstrip())
            continue
        result = _parse_line(row, classes)
        if isinstance(result, str):
            found.append(
                line_problem("malformed", text.path, lineno, result, row.decode("utf-8", "backslashreplace").strip())
            )
        else:
            parsed.append((lineno, result))
    if found and problems is None:
        raise LabelFormatError(str(found[0]))
    if problems is not None:
        problems.extend(found)
    return _labels(parsed, tuple(header))


def _labels(parsed: list[tuple[int, LabelLine]], header: tuple[str, ...]) -> Labels:
    return Labels(
        np.array([line.coordinates for _, line in parsed], np.float64).reshape(-1, 8),
        tuple(line.name for _, line in parsed),
        np.array([line.difficult for _, line in parsed], np.int64),
        np.array([lineno for lineno, _ in parsed], np.int64),
        header,
    )


def _parse_line(row: bytes, classes: Sequence[str] | None) -> LabelLine | str:
    """The object of one line, or what is wrong with it."""
    fields = row.split()
    other = _other_format(fields)
    if other:
        return f"expected 8 coordinates in pixels, class and difficulty; this looks like {other}"
    if len(fields) not in (9, 10):
        commas = "; fields are parted by blanks, not by commas" if len(fields) == 1 and b"," in row else ""
        got = f"{counted(len(fields), 'field')}{commas}{_split_class(fields, classes)}"
        return f"expected 8 coordinates, class and difficulty, got {got}"
    reason = number_problem(fields[:8], "coordinate")
    if reason:
        return reason
    try:
        name = class_name(fields[8].decode("utf-8"))
    except UnicodeDecodeError:
        return "the class is not UTF-8 text"
    except DotaError as error:
        return str(error)
    if classes is not None and name not in classes:
        return unknown_class(name, classes)
    if len(fields) == 9:
        return LabelLine(tuple(map(float, fields[:8])), name, 0)
    try:
        difficult = int(fields[9])
    except ValueError:
        difficult = -1
    if not 0 <= difficult < 2**63:
        return f"the difficulty must be an integer of at least 0, got {fields[9].decode('utf-8', 'backslashreplace')!r}"
    return LabelLine(tuple(map(float, fields[:8])), name, difficult)


def _other_format(fields: list[bytes]) -> str:
    """What a line is if it is of a well-known format that is not DOTA's; empty if it is of none."""
    if len(fields) not in (5, 6, 9):
        return ""
    numbers = [number_problem([raw], "number") is None for raw in fields]
    if len(fields) == 6 and (all(numbers[1:]) or all(numbers[:5])):
        return "a class and cx cy w h angle: write the four corners"
    shares = all(numbers) and fields[0].isdigit() and all(abs(float(raw)) <= 2 for raw in fields[1:])
    if shares and len(fields) == 9:
        return "YOLO-OBB, in shares of the image's size: data_prep/convert_labels.py --from yolo-obb"
    if shares and len(fields) == 5:
        return "YOLO's upright boxes: label oriented ones, or data_prep/convert_labels.py --from yolo-obb"
    return ""


def _split_class(fields: list[bytes], classes: Sequence[str] | None) -> str:
    """A hint where a class name of several words made too many fields."""
    if len(fields) < 11 or classes is None:
        return ""
    words = [f.decode("utf-8", "replace") for f in fields[8:]]
    close = nearest_name("-".join(w for w in words if not w.isdigit()), classes)
    return f" (did you mean class {close!r}? A class name holds no space)" if close else ""


def number_problem(fields: Sequence[bytes], what: str) -> str | None:
    """What is wrong with the first of ``fields`` that is no ``what`` ('coordinate' or 'score'), or None."""
    for raw in fields:
        text = raw.decode("utf-8", "backslashreplace")
        try:
            value = float(raw)
        except ValueError:
            return f"{what} {text!r} is not a number"
        if not abs(value) <= MAX_COORDINATE:
            return f"{what} {text!r} is not a finite number of at most {MAX_COORDINATE:.0f}"
    return None


def unknown_class(name: str, classes: Sequence[str]) -> str:
    """The text of the problem that ``name`` is not one of ``classes``."""
    close = nearest_name(name, classes)
    hint = f"; did you mean {close!r}?" if close else f"; the classes are {', '.join(classes)}"
    return f"unknown class {name!r}{hint}"
