"""Submission zips of the DOTA server: written in one fixed form, and checked before somebody waits for a refusal.

The server takes one zip with ``Task1_<class>.txt`` (oriented boxes, ten fields per line) or ``Task2_<class>.txt``
(horizontal boxes, six fields) at its top level, one file for every class of the version. It answers most mistakes with
one line that names no cause, so :func:`check_submission` looks for each mistake by itself and says where it is.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fdam_rotate.dota.archives import ARCHIVE_ERRORS, is_damage
from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.detections import Detections, format_detections, task_file_name
from fdam_rotate.dota.errors import DotaError, UnknownClassError
from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.names import nearest_name, unescape_id
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_bar
from fdam_rotate.dota.windows import parse_patch_name

__all__ = ["MAX_MEGABYTES", "check_submission", "pack_texts", "write_submission"]

#: Largest zip and largest single file that pass, in megabytes (10^6 bytes). The server publishes no limit; zips of
#: 65 MB have been taken.
MAX_MEGABYTES = 100.0
# A text file may be this many times larger than the limit of the zip: digits compress to about a third.
_TEXT_FACTOR = 10

_FIELDS = {1: 10, 2: 6}
_FORM = {1: "image_id score x1 y1 x2 y2 x3 y3 x4 y4", 2: "image_id score xmin ymin xmax ymax"}
# Bytes; a longer line is no detection, and might be a file of gigabytes without line end.
_LONGEST_LINE = 1 << 16
# Stands for the file's name where a rule is about the whole zip.
_WHOLE = "zip"
# The one date of all entries, the earliest that the format knows, so that equal content gives equal bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)

#: Fast deflate: of columns of digits, level 6 takes eight times as long to save a tenth.
_ZIP_LEVEL = 1


def write_submission(
    zip_path: str | Path, detections: Mapping[str, Detections], classes: str | Sequence[str], task: int = 1
) -> None:
    """Pack merged detections into a submission zip, all or nothing; an existing ``zip_path`` is replaced.

    Every class gets its file, an empty one where it has no detections. Entries stand in the order of ``classes`` with a
    fixed date, so equal detections give equal bytes.

    Args:
        zip_path: the zip to write.
        detections: detections by class, in pixels of the original images. Task 2 writes the outer horizontal boxes.
        classes: all classes of the version, or its name, such as ``'v1.0'``.
        task: 1 for oriented, 2 for horizontal boxes.

    Raises:
        UnknownClassError: ``detections`` holds a class that is not in ``classes``.
        DotaError: ``task`` is neither 1 nor 2.
    """
    _check_task(task)
    classes = resolve_classes(classes)
    unknown = sorted(set(detections) - set(classes))
    if unknown:
        near = nearest_name(unknown[0], classes)
        raise UnknownClassError(
            f"detections of classes that are not in the list: {', '.join(unknown)}"
            + (f" (did you mean {near}?)" if near else "")
            + f"; the classes are {', '.join(classes)}"
        )
    empty = Detections.empty()
    texts = (format_detections(detections.get(name, empty), task=task) for name in classes)
    names = (task_file_name(name, task) for name in classes)
    pack_texts(zip_path, zip(names, texts, strict=True))


def pack_texts(zip_path: str | Path, texts: Iterable[tuple[str, bytes]]) -> None:
    """Pack (file name, content) pairs into a zip, all or nothing, in the order given and with a fixed date."""
    with atomic_path(zip_path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts:
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix everywhere, for equal bytes
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text, compresslevel=_ZIP_LEVEL)


def check_submission(
    zip_path: str | Path,
    classes: str | Sequence[str],
    image_ids: Collection[str] | None = None,
    task: int = 1,
    *,
    max_megabytes: float = MAX_MEGABYTES,
    progress: bool = False,
) -> list[Problem]:
    """Look for everything in a zip that the DOTA server would refuse or score wrongly.

    Args:
        zip_path: the zip to check; it is read as a stream and never unpacked.
        classes: all classes of the version, or its name, such as ``'v1.0'``; each class needs its file.
        image_ids: ids of the test images. None leaves out the rules that need them.
        task: 1 for oriented, 2 for horizontal boxes.
        max_megabytes: largest size of the zip.
        progress: draw a progress bar.

    Returns:
        The problems, one for each file and rule, in the order of the files; ``kind`` is the rule's name, such as
        ``'fields'`` or ``'patch id'``, ``path`` the file's name in the zip or ``'zip'`` for all of it, ``line`` the
        first line that breaks the rule. The zip may be uploaded if the severity of none is ``'error'``: the server
        would refuse it, or score it wrongly.

    Raises:
        FileNotFoundError: there is no such file.
        DotaError: ``task`` is neither 1 nor 2.
    """
    _check_task(task)
    classes = resolve_classes(classes)
    zip_path = Path(zip_path)
    if not zip_path.is_file():
        what = "is a folder" if zip_path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{zip_path} {what}; give a submission zip")
    problems = []
    size = zip_path.stat().st_size
    if size > max_megabytes * 1e6:
        problems.append(
            _error("size", _WHOLE, f"{size / 1e6:.1f} MB is more than {max_megabytes:g} MB; drop low scores")
        )
    try:
        with (
            zipfile.ZipFile(zip_path) as archive,
            progress_bar(None, "check", "B", shown=progress, unit_scale=True, leave=False) as bar,
        ):
            max_text = max_megabytes * 1e6 * _TEXT_FACTOR
            problems += _check_archive(archive, classes, image_ids, task, max_text, bar.update)
    except ARCHIVE_ERRORS as error:
        if not is_damage(error):
            raise
        problems.append(_error("archive", _WHOLE, f"not a zip that can be read ({error}); pack it again"))
    return problems


def _check_task(task: int) -> None:
    if task not in _FIELDS:
        raise DotaError(f"task is 1 (oriented boxes) or 2 (horizontal boxes), not {task!r}")


def _error(rule: str, file: str, message: str, line: int = 0, count: int = 1) -> Problem:
    more = f" (and {count - 1} more lines)" if count > 1 else ""
    return Problem(rule, file, line, f"{message}{more}")


def _warning(rule: str, file: str, message: str) -> Problem:
    return Problem(rule, file, 0, message, severity="warning")


def _check_archive(
    archive: zipfile.ZipFile,
    classes: Sequence[str],
    image_ids: Collection[str] | None,
    task: int,
    max_text: float,
    advance: Callable[[int], object],
) -> Iterator[Problem]:
    """The problems of all entries, and of the classes and images that have none."""
    wanted = {task_file_name(name, task): name for name in classes}
    test_ids = None if image_ids is None else frozenset(image_ids)
    met: set[str] = set()
    seen_ids: set[str] = set()
    lines = 0
    for entry in archive.infolist():
        name = entry.filename
        if "/" in name or "\\" in name:
            yield _error("folder", name, "every file must lie at the top level of the zip; zip the files, not a folder")
        elif name in met:
            yield _error("name", name, "the zip holds this file twice; pack it again")
        elif name not in wanted:
            yield _error("name", name, _name_advice(name, wanted))
        elif entry.flag_bits & 1:
            met.add(name)
            yield _error("archive", name, "the file is encrypted; pack it without a password")
        elif entry.file_size > max_text:
            met.add(name)
            yield _error("size", name, f"{entry.file_size / 1e6:.0f} MB of text is more than {max_text / 1e6:g} MB")
        else:
            met.add(name)
            try:
                with archive.open(entry) as stream:
                    check = _FileCheck(name, task, test_ids)
                    yield from check.run(stream, advance)
            except ARCHIVE_ERRORS as error:
                yield _error("archive", name, f"the file cannot be unpacked ({error}); pack it again")
            else:
                seen_ids |= check.ids
                lines += check.lines
    missing = [file for file in wanted if file not in met]
    for file in missing:
        yield _error("missing", file, "the class has no file; an empty one is needed where nothing was detected")
    if met and not lines:
        yield _error("empty", _WHOLE, "no file holds a detection")
    elif test_ids is not None and test_ids - seen_ids:
        without = sorted(test_ids - seen_ids)
        yield _warning(
            "images",
            _WHOLE,
            f"{len(without)} of {len(test_ids)} test images have no detection, for instance {without[0]}",
        )


def _name_advice(name: str, wanted: Mapping[str, str]) -> str:
    """What to say of a file that is no class file of the task."""
    near = nearest_name(name, wanted)
    hint = f"; did you mean {near}?" if near else ""
    return f"not one of the {len(wanted)} files of this task and class list, such as {next(iter(wanted))}{hint}"


class _FileCheck:
    """The rules for the lines of one class file; each broken rule is kept once, with its first line and a count."""

    def __init__(self, name: str, task: int, test_ids: frozenset[str] | None):
        self.name = name
        self.task = task
        self.test_ids = test_ids
        self.ids: set[str] = set()
        self.lines = 0
        self._found: dict[str, tuple[int, str, int]] = {}
        self._bad_ids: dict[str, tuple[str, str] | None] = {}

    def run(self, stream: IO[bytes], advance: Callable[[int], object]) -> Iterator[Problem]:
        """The problems of the file, in the order of their first lines."""
        seen: set[bytes] = set()
        done = 0
        buffered: Any = stream
        lines = io.BufferedReader(buffered)
        for number, raw in enumerate(iter(lambda: lines.readline(_LONGEST_LINE), b""), start=1):
            done += len(raw)
            self.lines += 1
            if len(raw) == _LONGEST_LINE:
                self._note("fields", number, f"a line of over {_LONGEST_LINE} bytes; not read from here on")
                break
            if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                self._note("encoding", 1, "the file starts with a byte order mark; save it as UTF-8 without BOM")
                raw = raw[3:]
            raw = raw.rstrip()
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                self._note("encoding", number, f"not UTF-8: {raw[:60]!r}")
                continue
            self._check_line(text, number)
            if raw and raw in seen:
                self._note("duplicate", number, f"the same line stands above: {text!r}")
            seen.add(raw)
            if not number % 10_000:
                advance(done)
                done = 0
        if not self.lines:
            yield _warning("empty", self.name, "no detections of this class; its AP will be 0")
        for rule, (line, message, count) in self._found.items():
            yield _error(rule, self.name, message, line, count)

    def _note(self, rule: str, line: int, message: str) -> None:
        first, text, count = self._found.get(rule, (line, message, 0))
        self._found[rule] = (first, text, count + 1)

    def _check_line(self, text: str, number: int) -> None:
        # The server splits at single spaces, so a second space or a tab makes it fail.
        fields = text.split(" ")
        if len(fields) != _FIELDS[self.task] or "" in fields:
            self._note(
                "fields",
                number,
                f"expected {_FIELDS[self.task]} fields with single spaces ({_FORM[self.task]}): {text!r}",
            )
            return
        try:
            score, *corners = map(float, fields[1:])
        except ValueError:
            self._note("number", number, f"score and coordinates must be numbers: {text!r}")
            return
        if not math.isfinite(sum(corners, score)):  # infinity and NaN both survive a sum
            self._note("number", number, f"score and coordinates must be finite: {text!r}")
        elif not 0.0 <= score <= 1.0:
            self._note("score", number, f"the score must be from 0 to 1: {text!r}")
        if self.task == 2 and (corners[2] < corners[0] or corners[3] < corners[1]):
            self._note("box", number, f"xmax and ymax must not be less than xmin and ymin: {text!r}")
        image_id = fields[0]
        if image_id not in self._bad_ids:
            self._bad_ids[image_id] = self._judge_id(image_id)
        bad = self._bad_ids[image_id]
        if bad:
            self._note(bad[0], number, bad[1])
        else:
            self.ids.add(image_id)

    def _judge_id(self, image_id: str) -> tuple[str, str] | None:
        """The rule that an image id breaks, with the message, or None."""
        if self.test_ids is not None and image_id in self.test_ids:
            return None
        plain = unescape_id(image_id)
        if plain != image_id:
            return "id", f"{image_id!r} stands for {plain!r}: DOTA's server knows no such id; rename the image"
        try:
            parse_patch_name(image_id)
        except DotaError:
            if self.test_ids is None:
                return None
            return "id", f"{image_id!r} is not one of the {len(self.test_ids)} ids of the image list"
        return "patch id", f"{image_id!r} names a patch; merge the patches first (tools/merge.py)"
