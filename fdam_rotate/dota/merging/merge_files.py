"""Merge patch detections from files to files, without holding more of them than fits.

Classes are read in turn, as many at a time as stay below ``batch_bytes`` of text. A class that alone is larger goes
through a temporary folder beside the output, one file per image, and is merged image by image; so do all classes
together where they suppress each other and are larger. So memory holds at most
about six times ``batch_bytes``, or the boxes of one class on one image where those are more, or the merged text of one
class while it is packed. The result is the same in bytes whichever way is taken.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.csvtext import csv_file_name, write_csv
from fdam_rotate.dota.detections import (
    Detections,
    concatenate,
    detection_files,
    file_size,
    format_detections,
    iter_detections,
    open_file,
    task_file_name,
    unify_ids,
)
from fdam_rotate.dota.errors import DetectionFormatError, DotaError
from fdam_rotate.dota.files import move_file
from fdam_rotate.dota.merging.merge import best_of_image, merge_placed
from fdam_rotate.dota.merging.options import MergeOptions
from fdam_rotate.dota.merging.placing import Locate, Placer
from fdam_rotate.dota.names import escape_id, unescape_id
from fdam_rotate.dota.outputs import check_folder, check_names, claim_file, claim_folder, earlier_files
from fdam_rotate.dota.problems import Problem, line_problem
from fdam_rotate.dota.progress import progress_bar
from fdam_rotate.dota.submission import pack_texts
from fdam_rotate.dota.windows import parse_patch_name
from fdam_rotate.dota.words import counted

__all__ = ["BATCH_BYTES", "MergeSummary", "merge_files", "zip_path_of"]

#: Text read and merged at once, in bytes: about three million boxes.
BATCH_BYTES = 256 << 20

_LINE_BYTES = 80  # of a usual line, for turning bytes into boxes


@dataclass
class MergeSummary:
    """What a merge did.

    Attributes:
        images: images that have detections or tested patches.
        patches: patches that have detections, or are listed in ``patches.txt`` of an input.
        boxes: detections read.
        kept: detections written.
        dropped: reason -> detections that were left out for it.
        empty_classes: classes for which no input holds a file.
        whole: ids that were taken as whole images, because no manifest was given and they are no names of patches.
        escaped: image ids that do not stand in the files as they are (`fdam_rotate.dota.names`).
    """

    images: int = 0
    patches: int = 0
    boxes: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    empty_classes: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        why = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items() if count)
        what = f"{counted(self.images, 'image')}, {counted(self.patches, 'patch')}: {counted(self.boxes, 'detection')}"
        return f"{what} in, {self.kept:,} kept" + (f" ({why})" if why else "")


def zip_path_of(out_dir: str | Path) -> Path:
    """The zip beside an output folder: its name with ``.zip`` added."""
    out_dir = Path(out_dir).absolute()
    return out_dir.with_name(out_dir.name + ".zip")


def merge_files(
    sources: Sequence[str | Path],
    out_dir: str | Path,
    classes: Sequence[str],
    options: MergeOptions = MergeOptions(),
    *,
    task: int = 1,
    locate: Locate = None,
    nproc: int = 1,
    scheduler: str | None = None,
    csv: bool = False,
    overwrite: bool = False,
    problems: list[Problem] | None = None,
    batch_bytes: int = BATCH_BYTES,
    progress: bool = False,
) -> MergeSummary:
    """Merge the patch detections of ``sources`` into ``out_dir`` and a zip of its files, `zip_path_of` it.

    Args:
        sources: folders or zips of ``Task{task}_<class>.txt`` with patch ids; several are merged together.
        out_dir: gets one file for each class, empty ones too. Nothing in it or of the zip changes before all is merged.
        classes: the classes, in the order of the zip.
        options: thresholds, kind of suppression, weights.
        task: 1 (oriented) or 2 (horizontal).
        locate: see `merge_patches`; a patch that it does not know is placed by its name.
        nproc: processes to use at most. Same bytes.
        scheduler: address of a Dask scheduler whose workers take the place of the processes. Same bytes.
        csv: write all detections as one table, too (`fdam_rotate.dota.csvtext`).
        overwrite: replace the files of an earlier merge; other files in ``out_dir`` stay.
        problems: where bad lines are collected while the rest is merged; None raises at the first one.
        batch_bytes: text to merge at once, in bytes.
        progress: draw a progress bar.

    Raises:
        DotaError: an input would be overwritten, or there is not one weight for each input.
        OutputExistsError: there is output already and ``overwrite`` is False.
        DetectionFormatError: a line is bad and ``problems`` is None, or a zip is damaged.
        FileNotFoundError: an input is missing.
    """
    out = Path(out_dir).absolute()
    inputs = [Path(source) for source in sources]
    options.shares(len(inputs))
    own = [f"Task{task}_*.txt", csv_file_name(task)]
    names = [task_file_name(name, task) for name in classes]
    written = [*names, csv_file_name(task)] if csv else names
    _check_output(out, inputs, overwrite, own, written)
    files = [detection_files(source, classes=classes, task=task, problems=problems) for source in inputs]
    out.parent.mkdir(parents=True, exist_ok=True)
    bar_format = "{l_bar}{bar}| {elapsed}<{remaining}"  # the unit is a share of the whole, which says nothing
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder,
        progress_bar(1.0, "merge", "", shown=progress, leave=False, bar_format=bar_format) as bar,
    ):
        job = _Job(inputs, files, task, Placer(_with_names(locate)), options, nproc, scheduler, problems, bar.update)
        work = Path(folder)
        rows: list[tuple[NDArray[np.intp], NDArray[np.float64]]] = []
        images: dict[str, int] = {}
        for name, parts in job.merged(
            [name for name in classes if any(name in one for one in files)], batch_bytes, work
        ):
            with (work / task_file_name(name, task)).open("wb") as stream:
                for part in parts:
                    stream.write(format_detections(part, task=task))
                    job.summary.kept += len(part)
                    if options.max_per_image is not None:
                        index = [images.setdefault(image_id, len(images)) for image_id in part.image_ids]
                        rows.append((np.array(index, np.intp)[part.image], part.scores))
        if options.max_per_image is not None:
            _trim(work, rows, options.max_per_image, job.summary, names)
        for name in names:
            (work / name).touch()
        pack_texts(work / "packed.zip", ((name, (work / name).read_bytes()) for name in names))
        if csv:
            write_csv(work, classes, task=task)
        _publish(work, out, written, own)
    job.finish(classes)
    return job.summary


def _check_output(out: Path, inputs: Sequence[Path], overwrite: bool, own: Sequence[str], names: Sequence[str]) -> None:
    """Refuse what may not be written before the long work; `_publish` looks again."""
    check_folder(out, overwrite=overwrite, inputs=inputs)
    check_names(out, names, earlier_files(out, own))
    claim_file(zip_path_of(out), overwrite=overwrite, inputs=inputs)


def _publish(work: Path, out: Path, names: Sequence[str], own: Sequence[str]) -> None:
    """Move finished files to where they belong, after the files of an earlier merge are gone."""
    claim_folder(out, names, own=own, overwrite=True)
    for name in names:
        move_file(work / name, out / name)
    move_file(work / "packed.zip", zip_path_of(out))


def _with_names(locate: Locate) -> Locate:
    """``locate``, with the place that a patch's name says where it knows none."""
    if locate is None:
        return None
    first = locate if callable(locate) else locate.locate

    def both(patch_id: str) -> Any:
        try:
            return first(patch_id)
        except DotaError as error:
            try:
                return parse_patch_name(patch_id)
            except DotaError:
                raise error from None

    return both


def _trim(
    work: Path,
    rows: Sequence[tuple[NDArray[np.intp], NDArray[np.float64]]],
    most: int,
    summary: MergeSummary,
    names: Sequence[str],
) -> None:
    """Leave the ``most`` best lines of each image over all files, which were written in the order of ``rows``."""
    if not rows:
        return
    keep = best_of_image(np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows]), most)
    lost = int((~keep).sum())
    if not lost:
        return
    summary.kept -= lost
    summary.dropped["over the limit of an image"] += lost
    flags = iter(keep.tolist())
    for name in names:
        path = work / name
        if path.is_file():
            trimmed = path.with_suffix(".part")
            with path.open("rb") as source, trimmed.open("wb") as target:
                # a line is taken before its flag, so that the end of the file costs none
                target.writelines(line for line in source if next(flags))
            trimmed.replace(path)


class _Job:
    """One merge under way."""

    def __init__(
        self,
        inputs: Sequence[Path],
        files: Sequence[dict[str, str]],
        task: int,
        placer: Placer,
        options: MergeOptions,
        nproc: int,
        scheduler: str | None,
        problems: list[Problem] | None,
        advance: Callable[[float], object],
    ) -> None:
        self.inputs = inputs
        self.files = files
        self.task = task
        self.placer = placer
        self.options = options
        self.merge = partial(merge_placed, options=options, nproc=nproc, scheduler=scheduler)
        self.problems = problems
        self.advance = advance
        self.summary = MergeSummary()
        self.sizes: Counter[str] = Counter()
        for source, found in zip(inputs, files, strict=True):
            for name, file_name in found.items():
                self.sizes[name] += file_size(source, file_name)
        self._unit = 1 / max(1, 2 * sum(self.sizes.values()))

    def merged(
        self, classes: Sequence[str], batch_bytes: int, work: Path
    ) -> Iterator[tuple[str, Iterator[Detections]]]:
        """Each class and its merged detections, in parts that follow each other by image id."""
        if self.options.nms_agnostic and sum(self.sizes.values()) > batch_bytes:
            yield from self._merge_across(classes, batch_bytes, work)
            return
        batch: list[str] = []
        for name in classes:
            if batch and sum(self.sizes[one] for one in (*batch, name)) > batch_bytes:
                yield from self._merge_batch(batch)
                batch = []
            if self.sizes[name] > batch_bytes:
                yield name, (merged[name] for merged in self._merge_by_image([name], batch_bytes, work))
            else:
                batch.append(name)
        yield from self._merge_batch(batch)

    def finish(self, classes: Sequence[str]) -> None:
        """Count what the placing of the patches has shown."""
        tested = {line for source in self.inputs for line in _tested(source)}
        for patch_id in tested:
            self.placer.find(patch_id)
        places = self.placer.places
        self.summary.patches = len(places)
        self.summary.whole = self.placer.whole
        ids = {place[0] for place in places.values() if place}
        self.summary.images = len(ids)
        self.summary.escaped = sorted(one for one in ids if escape_id(one) != one)
        self.summary.empty_classes = [name for name in classes if name not in self.sizes]
        reason = "suppressed or fused" if self.options.fuse == "wbf" else "suppressed"
        self.summary.dropped[reason] = self.summary.boxes - self.summary.kept - self.summary.dropped.total()

    def _advance(self, size: float) -> None:
        self.advance(size * self._unit)

    def _merge_batch(self, names: Sequence[str]) -> Iterator[tuple[str, Iterator[Detections]]]:
        if not names:
            return
        placed: list[dict[str, Detections]] = []
        for index in range(len(self.inputs)):
            placed.append({name: concatenate(list(self._placed(index, name))) for name in names})
        size = sum(self.sizes[name] for name in names)
        total = max(1, sum(len(found) for one in placed for found in one.values()))
        merged = self.merge(placed, advance=lambda boxes: self._advance(size * boxes / total))
        for name in names:
            yield name, iter([merged[name]])

    def _merge_by_image(self, names: Sequence[str], batch_bytes: int, work: Path) -> Iterator[dict[str, Detections]]:
        """Merge classes together through one temporary file per image; some images at a time, sorted by id."""
        folder = work / "images"
        folder.mkdir()
        counts: Counter[str] = Counter()
        numbers: dict[str, int] = {}
        for index in range(len(self.inputs)):
            for label, name in enumerate(names):
                for found in self._placed(index, name):
                    order = np.argsort(found.image, kind="stable")
                    origin = np.tile([float(index), float(label)], (len(found), 1))
                    rows = np.column_stack([origin, found.scores, found.polys])[order]
                    bounds = np.searchsorted(found.image[order], np.arange(len(found.image_ids) + 1)).tolist()
                    for image_id, begin, end in zip(found.image_ids, bounds[:-1], bounds[1:], strict=True):
                        part = rows[begin:end]
                        number = numbers.setdefault(image_id, len(numbers))
                        with (folder / str(number)).open("ab") as stream:
                            stream.write(part.tobytes())
                        counts[image_id] += len(part)
        total = max(1, counts.total())
        size = sum(self.sizes[name] for name in names)
        batch: list[str] = []
        ids: list[str | None] = [*sorted(counts), None]
        for following in ids:
            held = sum(counts[one] for one in batch)
            if batch and (following is None or (held + counts[following]) * _LINE_BYTES > batch_bytes):
                parts = [np.fromfile(folder / str(numbers[one])).reshape(-1, 11) for one in batch]
                image = np.repeat(np.arange(len(batch)), [len(part) for part in parts])
                rows = np.concatenate(parts)
                inputs = []
                for index in range(len(self.inputs)):
                    own = [(rows[:, 0] == index) & (rows[:, 1] == label) for label in range(len(names))]
                    found_in = [Detections(tuple(batch), image[one], rows[one, 2], rows[one, 3:]) for one in own]
                    inputs.append(dict(zip(names, found_in, strict=True)))
                yield self.merge(inputs)
                self._advance(size * held / total)
                batch = []
            if following is not None:
                batch.append(following)
        shutil.rmtree(folder)

    def _merge_across(
        self, names: Sequence[str], batch_bytes: int, work: Path
    ) -> Iterator[tuple[str, Iterator[Detections]]]:
        """Each class in turn of classes that only together can be merged, through one temporary file per class."""
        parts: list[tuple[tuple[str, ...], list[int]]] = []
        for merged in self._merge_by_image(names, batch_bytes, work):
            ids = unify_ids(list(merged.values()))[0]
            number = {image_id: k for k, image_id in enumerate(ids)}
            for label, name in enumerate(names):
                one = merged[name]
                place = np.array([number[image_id] for image_id in one.image_ids], np.intp)
                with (work / f"class{label}").open("ab") as stream:
                    stream.write(np.column_stack([place[one.image], one.scores, one.polys]).tobytes())
            parts.append((ids, [len(merged[name]) for name in names]))
        for label, name in enumerate(names):
            yield name, self._read_back(work / f"class{label}", [(ids, counts[label]) for ids, counts in parts])

    @staticmethod
    def _read_back(path: Path, parts: Sequence[tuple[tuple[str, ...], int]]) -> Iterator[Detections]:
        if path.exists():
            with path.open("rb") as stream:
                for ids, count in parts:
                    rows = np.fromfile(stream, count=10 * count).reshape(-1, 10)
                    yield Detections(ids, rows[:, 0].astype(np.intp), rows[:, 1], rows[:, 2:])
            path.unlink()

    def _placed(self, index: int, name: str) -> Iterator[Detections]:
        """The detections of one input and class in pixels of the images, chunk by chunk."""
        file_name = self.files[index].get(name)
        if file_name is None:
            return
        source = self.inputs[index]
        unplaced: dict[str, str] = {}
        known = len(self.problems) if self.problems is not None else 0
        score_thr = self.options.score_thr
        for found in iter_detections(source, file_name, task=self.task, problems=self.problems):
            placed, lost = self.placer.place(found)
            unplaced.update(lost)
            self.summary.boxes += len(found)
            self.summary.dropped["without place"] += len(found) - len(placed)
            self.summary.dropped[f"scored below {score_thr:g}"] += int((placed.scores < score_thr).sum())
            yield placed
        if unplaced:
            self._report_unplaced(source, file_name, unplaced)
        if self.problems is not None and len(self.problems) > known:
            self.problems[known:] = sorted(self.problems[known:], key=lambda problem: problem.line)
        self._advance(file_size(source, file_name))

    def _report_unplaced(self, source: Path, file_name: str, unplaced: dict[str, str]) -> None:
        """Report the first line of each patch that has no place."""
        left = dict(unplaced)
        with open_file(source, file_name) as stream:
            for line, row in enumerate(stream, start=1):
                row = row.removeprefix(b"\xef\xbb\xbf") if line == 1 else row
                fields = row.split(maxsplit=1)
                reason = left.pop(unescape_id(fields[0].decode("utf-8", "replace")), None) if fields else None
                if reason is not None:
                    problem = line_problem(
                        "malformed", source / file_name, line, reason, row.decode("utf-8", "replace").strip()
                    )
                    if self.problems is None:
                        raise DetectionFormatError(str(problem))
                    self.problems.append(problem)
                if not left:
                    return


def _tested(source: Path) -> list[str]:
    """The ids in ``patches.txt``, which tools/test.py writes beside its detections."""
    path = source / "patches.txt"
    # these ids are only counted: odd bytes must not end a merge that is done
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.is_file() else []
