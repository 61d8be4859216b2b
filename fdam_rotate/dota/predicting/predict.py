"""Prediction on whole images of any size: windows read and detected, results kept as they come, then merged.

Each image has a journal, ``OUT/patches/<id>.jsonl`` (see `fdam_rotate.dota.predicting.journal`); a run that was killed
goes on where its journals end. The detections are those that splitting, ``tools/test.py`` and ``tools/merge.py`` give,
to the byte. The model is behind one small interface, `WindowModel`.

Windows are detected in this process, or by workers (`fdam_rotate.dota.workers`) that get some of them at a time, of
one image or of several; this process alone writes. A window whose worker dies again and again is named, and costs its
image; what else was detected of it stays in its journal.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fdam_rotate.dota.csvtext import csv_file_name, write_csv
from fdam_rotate.dota.detections import (
    Detections,
    by_image,
    concatenate,
    read_detections,
    task_file_name,
    write_detections,
)
from fdam_rotate.dota.errors import (
    DotaError,
    GeoReferenceError,
    ImageReadError,
    OutputExistsError,
    UnknownClassError,
    WorkerError,
)
from fdam_rotate.dota.files import HALF_WRITTEN
from fdam_rotate.dota.formats.geojson import write_boxes
from fdam_rotate.dota.formats.geopackage import check_geopackage, write_geopackage
from fdam_rotate.dota.formats.ground import place_boxes
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.merging.merge import merge_patches
from fdam_rotate.dota.merging.options import MergeOptions
from fdam_rotate.dota.names import did_you_mean
from fdam_rotate.dota.outputs import check_folder, check_names, earlier_files, remove_files
from fdam_rotate.dota.predicting.journal import Journal
from fdam_rotate.dota.predicting.model import WindowModel
from fdam_rotate.dota.predicting.parts import Answer, Part, Piece, Reader, cut, detect, detect_part, divide
from fdam_rotate.dota.progress import progress_bar
from fdam_rotate.dota.rasters.georeference import read_georeference
from fdam_rotate.dota.rasters.images import image_size, open_pixels
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.rasters.source import PixelSource, reading_notes
from fdam_rotate.dota.rasters.tone import Tone
from fdam_rotate.dota.splitting.options import Level, SplitOptions, plan_levels
from fdam_rotate.dota.viewing.pages import page_name, write_pages
from fdam_rotate.dota.words import counted
from fdam_rotate.dota.workers import Pool, WorkerDied, core_count, run_tasks

__all__ = ["PredictSummary", "predict_images"]

JOURNALS = "patches"
GEOJSON = "geojson"
GPKG = "gpkg"
PAGES = "html"
_FOLDERS = (JOURNALS, GEOJSON, GPKG, PAGES)

# Of the settings of a split, those that decide the pixels of the windows.
_WINDOW_SETTINGS = ("sizes", "gaps", "rates", "img_rate_thr", "padding", "padding_value", "bands", "scale_range")

# Windows that a worker gets at a time at most: what a death costs. Few enough that each worker gets some four times.
_PART, _TIMES = 8, 4

# Workers that a cluster is taken to have, for that.
_CLUSTER = 16

# So many windows whose workers died one after the other, with none detected between, end the run.
_DEADLY = 3


@dataclass
class PredictSummary:
    """What a run did.

    Attributes:
        classes: those that were kept, in the model's order.
        images: predicted, in this run or before.
        windows: of these images.
        resumed: of the windows, those found in journals.
        detections: after merging.
        geojson: files written; images that are not georeferenced have none.
        pages: HTML pages written.
        empty: of the windows, those without data (nodata, mask, alpha), which the model does not see.
        failures: one line for each image that could not be read.
        notes: one line for each image that was scaled to 8 bits, shows next to nothing, or has no place on the
            ground, and why.
    """

    classes: tuple[str, ...] = ()
    images: int = 0
    windows: int = 0
    resumed: int = 0
    detections: int = 0
    geojson: int = 0
    pages: int = 0
    empty: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def predict_images(
    model: WindowModel,
    sources: Sequence[SourceImage],
    out: str | Path,
    options: SplitOptions,
    *,
    batch_size: int = 1,
    score_thr: float | Mapping[str, float] = 0.05,
    iou_thr: float = 0.1,
    nms_agnostic: bool = False,
    only: Sequence[str] | None = None,
    csv: bool = False,
    keep_crs: bool = False,
    gpkg: bool = False,
    html: bool = False,
    nproc: int = 1,
    scheduler: str | None = None,
    pool: Pool | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> PredictSummary:
    """Detect on every image of ``sources``; write Task1 files, and GeoJSON where an image is georeferenced.

    Args:
        model: pixels to detections.
        sources: images, each id once.
        out: folder; an unfinished run in it goes on.
        options: windows, in MMRotate's style; patches are filled up as ``data_prep/split.py`` does.
        batch_size: windows that the model gets at a time.
        score_thr: detections scored below are left out of the merged files (the journals keep them); one number, or one
            for each class.
        iou_thr: of the merge.
        nms_agnostic: boxes of the merge suppress each other whatever their classes are.
        only: the classes to keep, in the model's order; boxes of others suppress none. The journals keep all of them.
        csv: write all detections as one table, too (`fdam_rotate.dota.csvtext`).
        keep_crs: GeoJSON in each image's own coordinate system.
        gpkg: write a GeoPackage beside each GeoJSON file.
        html: write a page for each image, on which its detections are looked at (`fdam_rotate.dota.viewing.pages`).
        nproc: local processes, which share the cores; 1 works in this one. Same bytes.
        scheduler: address of a Dask scheduler whose workers take their place; they must see the images and the model
            under the same paths. Same bytes.
        pool: an executor that takes their place, as `fdam_rotate.dota.workers.run_tasks` takes it. Same bytes.
        overwrite: replace the files of a finished run, and no others; windows of the same model, settings and image
            stay predicted.
        progress: draw a progress bar.

    Raises:
        OutputExistsError: ``out`` holds a finished run, or something else.
        DotaError: ``out`` holds a run of other settings, the model cannot be loaded, a class has no threshold, or the
            model has no such class.
        WorkerError: workers die when they load the model, or at one window after the other.
    """
    classes = _chosen(model.classes, only)
    thresholds = {name: score_thr for name in classes} if not isinstance(score_thr, Mapping) else score_thr
    if missing := [name for name in classes if name not in thresholds]:
        unknown = sorted(set(thresholds) - set(model.classes))
        others = f" (the model has no class {', '.join(unknown)})" if unknown else ""
        raise DotaError(f"no score threshold for {', '.join(missing)}; each class that is kept needs one{others}")
    merge = MergeOptions(
        iou_thr=iou_thr, nms_agnostic=nms_agnostic, score_thr=min(thresholds[name] for name in classes)
    )
    out = Path(out)
    if gpkg:
        check_geopackage()
    _prepare(out, sources, classes, csv, overwrite)
    total = _count_windows(sources, options)
    with progress_bar(total, "predict", "patch", shown=progress, mininterval=1.0) as bar:
        run = _Run(
            model,
            classes,
            out,
            options,
            batch_size=batch_size,
            merge=merge,
            thresholds=score_thr if isinstance(score_thr, Mapping) else None,
            keep_crs=keep_crs,
            gpkg=gpkg,
            overwrite=overwrite,
            bar=bar,
        )
        if nproc == 1 and scheduler is None and pool is None:
            model.prepare()
            answers = _detect_here(run, sources)
        else:
            workers = _CLUSTER if scheduler is not None else nproc if pool is None else pool.workers
            most = max(1, min(_PART, total // (_TIMES * workers)))
            threads = max(1, core_count() // nproc) if nproc > 1 else None
            parts = run.parts(sources, Part(pickle.dumps(model), threads, options, ()), most)
            answers = run.checked(
                run_tasks(detect_part, parts, nproc=nproc, scheduler=scheduler, pool=pool, divide=divide)
            )
        with closing(answers):
            for answer in answers:
                run.take(answer)
    run.finish()
    if csv:
        write_csv(out, classes)
    if html:
        done = [sources[number] for number in sorted(run.merged)]
        found = by_image(read_detections(out, classes=classes))  # as written: rounded, and so as show has it
        written = write_pages(done, found, out / PAGES, classes=classes, raster=options.raster, progress=progress)
        run.summary.pages = written.pages
        run.summary.failures += written.failures
    return run.summary


def _detect_here(run: _Run, sources: Sequence[SourceImage]) -> Generator[Answer, None, None]:
    with closing(Reader()) as reader:
        yield from detect(run.model.detect, run.model.classes, run.plan(sources), run.options, reader)


@dataclass
class _Image:
    """An image under way."""

    source: SourceImage
    level: Level
    journal: Journal
    reading: Mapping[str, Any]
    missing: set[str]
    resumed: int
    empty: int = 0
    tone: Tone = field(default_factory=Tone)


class _Run:
    """A run under way: what is asked for, what is under way, and what was found."""

    def __init__(
        self,
        model: WindowModel,
        classes: tuple[str, ...],
        out: Path,
        options: SplitOptions,
        *,
        batch_size: int,
        merge: MergeOptions,
        thresholds: Mapping[str, float] | None,
        keep_crs: bool,
        gpkg: bool,
        overwrite: bool,
        bar: Any,
    ) -> None:
        self.model, self.classes, self.out, self.options = model, classes, out, options
        self.batch_size, self.overwrite, self.bar = batch_size, overwrite, bar
        self.merge, self.thresholds, self.keep_crs, self.gpkg = merge, thresholds, keep_crs, gpkg
        settings = options.to_json()
        self.head = {
            **model.identity,
            "classes": list(model.classes),
            **{key: settings[key] for key in _WINDOW_SETTINGS},
        }
        self.summary = PredictSummary(classes)
        self.images: dict[int, _Image] = {}
        self.merged: dict[int, dict[str, Detections]] = {}
        self.failures: dict[int, str] = {}
        self.notes: dict[int, list[str]] = {}
        self.deadly: list[str] = []

    def plan(self, sources: Sequence[SourceImage]) -> Iterator[Piece]:
        """Each image that can be read, with the batches of windows that its journal lacks."""
        for number, source in enumerate(sources):
            try:
                with open_pixels(source.path, self.options.raster, decode=False) as image:
                    (level,) = plan_levels(self.options, source.image_id, image.width, image.height)
                    order = image.order(level.windows.tolist())
                    head = {**self.head, "image_sha256": image.digest, "read": image.reading()}
                    raster = _as_read(self.options.raster, image)
            except (ImageReadError, OSError) as error:
                self.failures[number] = str(error)
                continue
            path = self.out / JOURNALS / f"{source.image_id}.jsonl"
            journal = Journal(path, head, self.model.classes, overwrite=self.overwrite)
            missing = set(level.names) - set(journal.done)
            resumed = len(level.names) - len(missing)
            self.images[number] = _Image(source, level, journal, head["read"], missing, resumed)
            self.bar.update(resumed)
            # a batch of which some windows are missing is done again as a whole: its numbers may depend on its size
            batches = [tuple(order[k : k + self.batch_size]) for k in range(0, len(order), self.batch_size)]
            todo = tuple(batch for batch in batches if any(level.names[window] in missing for window in batch))
            yield Piece(number, source.image_id, source.path.absolute(), raster, todo)

    def parts(self, sources: Sequence[SourceImage], like: Part, most: int) -> Iterator[Part]:
        """The plan cut into parts of at most ``most`` windows, or one batch; small images share one."""
        held: list[Piece] = []
        count = 0
        for whole in self.plan(sources):
            if not whole.batches:
                self.take(Answer(whole.image))
            for piece in cut(whole, most):
                if whole.image in self.failures:
                    break
                size = sum(map(len, piece.batches))
                if held and count + size > most:
                    yield replace(like, pieces=tuple(held))
                    held, count = [], 0
                held.append(piece)
                count += size
        if held:
            yield replace(like, pieces=tuple(held))

    def checked(self, results: Iterator[tuple[int, list[Answer] | WorkerDied]]) -> Generator[Answer, None, None]:
        """The answers of workers; of a window whose worker dies again and again, one that says so.

        Raises:
            WorkerError: workers die when they load the model, or at several windows one after the other.
        """
        with closing(results):  # type: ignore[type-var]  # a generator; closing it stops the workers
            for _, result in results:
                if not isinstance(result, WorkerDied):
                    if any(answer.windows for answer in result):
                        self.deadly = []
                    yield from result
                elif not result.task.pieces:
                    raise WorkerError("worker processes die when they load the model (out of memory?); fewer need less")
                else:
                    yield self._died(result.task.pieces[0])

    def _died(self, piece: Piece) -> Answer:
        image = self.images[piece.image]
        name = image.level.names[piece.batches[0][0]]
        self.deadly.append(name)
        if len(self.deadly) == _DEADLY:
            raise WorkerError(
                f"worker processes die again and again, at the windows {', '.join(self.deadly)} (out of memory?); what "
                "was predicted is kept, and the same command goes on"
            )
        return Answer(
            piece.image,
            failure=f"{image.source.path}: the worker process that predicts its window {name} dies again and again "
            "(out of memory, or a damaged file?); what else was predicted of it is kept, --overwrite tries it again",
        )

    def take(self, answer: Answer) -> None:
        """Keep what a batch gave; merge an image when it is complete."""
        if answer.failure is not None:
            self.failures.setdefault(answer.image, answer.failure)
            return
        image = self.images[answer.image]
        image.journal.add(answer.windows)
        new = image.missing & set(answer.windows)
        image.missing -= new
        image.empty += len(answer.empty & new)
        image.tone.add_counts(answer.tone)
        self.bar.set_postfix_str(image.source.image_id, refresh=False)
        self.bar.update(len(new))
        if not image.missing:
            self._complete(answer.image)

    def _complete(self, number: int) -> None:
        image = self.images.pop(number)
        names = image.level.names
        image.journal.finish(names)
        patches = image.journal.detections(names)
        # not by their names, in which a window of less than 16 pixels would be a rate
        corners = image.level.windows[:, :2].tolist()
        places = {name: (image.source.image_id, *at, 1.0) for name, at in zip(names, corners, strict=True)}
        found = {name: patches[name] for name in self.classes}
        whole = merge_patches(found, self.merge, locate=places.__getitem__)
        if self.thresholds is not None:
            whole = {name: one.take(one.scores >= self.thresholds[name]) for name, one in whole.items()}
        self.merged[number] = whole
        self.summary.images += 1
        self.summary.windows += len(names)
        self.summary.resumed += image.resumed
        self.summary.empty += image.empty
        path = image.source.path
        notes = [f"{path}: {note}" for note in reading_notes(**image.reading, tone=image.tone.warning())]
        self.notes[number] = notes
        written = _write_ground(image.source, whole, self.out, notes, keep_crs=self.keep_crs, gpkg=self.gpkg)
        self.summary.geojson += written

    def finish(self) -> None:
        """Write the merged files of all images."""
        merged = [self.merged[number] for number in sorted(self.merged)]
        together = {name: concatenate([one[name] for one in merged]) for name in self.classes}
        write_detections(self.out, together, classes=self.classes)
        self.summary.detections = sum(map(len, together.values()))
        self.summary.failures = [self.failures[number] for number in sorted(self.failures)]
        self.summary.notes = [note for number in sorted(self.notes) for note in self.notes[number]]


def _as_read(raster: RasterOptions, image: PixelSource) -> RasterOptions:
    """With the range that was found in the image, so that no worker looks for it again."""
    try:
        return raster if image.scale_range is None else replace(raster, scale_range=image.scale_range)
    except DotaError:  # values that no range suits
        return raster


def _chosen(classes: tuple[str, ...], only: Sequence[str] | None) -> tuple[str, ...]:
    """The classes to keep, in the model's order.

    Raises:
        UnknownClassError: the model has no such class.
    """
    for name in only or ():
        if name not in classes:
            hint = did_you_mean(name, classes) or f"; its classes are {', '.join(classes)}"
            raise UnknownClassError(f"the model has no class {name!r}{hint}")
    return classes if only is None else tuple(name for name in classes if name in only)


def _write_ground(
    source: SourceImage,
    detections: dict[str, Detections],
    out: Path,
    notes: list[str],
    *,
    keep_crs: bool,
    gpkg: bool,
) -> bool:
    """GeoJSON, and if asked for a GeoPackage, of an image that lies somewhere; else the notes say why not."""
    try:
        reference = read_georeference(source.path)
        if reference is None:
            return False
    except GeoReferenceError as error:
        notes.append(f"{source.path}: no GeoJSON: {str(error).removeprefix(f'{source.path}: ')}")
        return False
    try:
        placed = place_boxes(detections, source.image_id, reference, keep_crs=keep_crs)
    except GeoReferenceError as error:
        notes.append(f"{source.path}: no GeoJSON: {error}; --keep-crs writes the image's own coordinates")
        return False
    write_boxes(out / GEOJSON / f"{source.image_id}.geojson", placed)
    if gpkg:
        write_geopackage(out / GPKG / f"{source.image_id}.gpkg", placed)
    if placed.left_out:
        lost = counted(placed.left_out, "detection", "has|have")
        notes.append(
            f"{source.path}: {lost} no longitude and latitude (outside the domain of its projection, or round a pole), "
            "and no place on maps; the Task1 files hold all"
        )
    return True


def _prepare(out: Path, sources: Sequence[SourceImage], classes: Sequence[str], csv: bool, overwrite: bool) -> None:
    """Make ``out``; refuse a finished run or foreign files, or if ``overwrite`` remove what is not to stay of a run.

    Raises:
        OutputExistsError: ``out`` holds what may not be replaced.
    """
    check_folder(out, overwrite=True, inputs=[source.path for source in sources])
    journals = earlier_files(out, [f"{JOURNALS}/*.jsonl"])
    texts = earlier_files(out, ["Task1_*.txt", csv_file_name()])
    predicted = {Path(name).stem for name in journals}
    patterns = [f"{GEOJSON}/*.geojson", f"{GPKG}/*.gpkg", f"{PAGES}/*.html"]
    maps = {name for name in earlier_files(out, patterns) if Path(name).stem in predicted}
    halves = earlier_files(out, [HALF_WRITTEN, *(f"{folder}/{HALF_WRITTEN}" for folder in _FOLDERS)])
    if not overwrite:
        own = {out / name for name in journals | texts | maps | halves}
        foreign = [path for path in sorted(out.rglob("*")) if path not in own and not path.is_dir()]
        if foreign:
            raise OutputExistsError(f"{out} holds {foreign[0].name}, which is not of a prediction; give another folder")
        if texts:
            raise OutputExistsError(f"{out} holds a finished prediction; give another folder, or --overwrite")
    image_ids = [source.image_id for source in sources]
    kept = {f"{JOURNALS}/{image_id}.jsonl" for image_id in image_ids}
    names = [f"{folder}/{image_id}.{folder}" for folder in (GEOJSON, GPKG) for image_id in image_ids]
    names += [f"{PAGES}/{page_name(image_id)}" for image_id in image_ids]
    names += [*map(task_file_name, classes), *([csv_file_name()] if csv else [])]
    check_names(out, [*names, *kept], journals | texts | maps)
    remove_files(out, texts | maps | halves | (journals - kept))
    (out / JOURNALS).mkdir(parents=True, exist_ok=True)


def _count_windows(sources: Sequence[SourceImage], options: SplitOptions) -> int:
    """For the progress bar, from the headers; a file that cannot be read counts none."""
    total = 0
    for source in sources:
        try:
            (level,) = plan_levels(options, source.image_id, *image_size(source.path))
        except (ImageReadError, OSError):
            continue
        total += len(level.names)
    return total
