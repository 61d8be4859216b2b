"""Prediction on whole images of any size: windows read one by one, results kept as they come, then merged.

Each image has a journal, ``OUT/patches/<id>.jsonl`` (see `fdam_rotate.dota.predicting.journal`); a run that was killed
goes on where its journals end. The detections are those that splitting, ``tools/test.py`` and ``tools/merge.py`` give,
to the byte. The model is behind one small interface, `WindowModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
)
from fdam_rotate.dota.formats.geojson import write_boxes
from fdam_rotate.dota.formats.geopackage import check_geopackage, write_geopackage
from fdam_rotate.dota.formats.ground import place_boxes
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.merging.merge import merge_patches
from fdam_rotate.dota.merging.options import MergeOptions
from fdam_rotate.dota.names import did_you_mean
from fdam_rotate.dota.outputs import check_folder, check_names, earlier_files, remove_files
from fdam_rotate.dota.predicting.ahead import ahead
from fdam_rotate.dota.predicting.journal import Journal
from fdam_rotate.dota.predicting.model import Found, WindowModel
from fdam_rotate.dota.progress import progress_bar
from fdam_rotate.dota.rasters.georeference import read_georeference
from fdam_rotate.dota.rasters.images import image_size, open_pixels
from fdam_rotate.dota.rasters.padding import pad_patch
from fdam_rotate.dota.splitting.options import Level, SplitOptions, plan_levels
from fdam_rotate.dota.viewing.pages import page_name, write_pages

__all__ = ["PredictSummary", "predict_images", "windows"]

JOURNALS = "patches"
GEOJSON = "geojson"
GPKG = "gpkg"
PAGES = "html"

# Of the settings of a split, those that decide the pixels of the windows.
_WINDOW_SETTINGS = ("sizes", "gaps", "rates", "img_rate_thr", "padding", "bands", "scale_range")

_NOTHING = Found(np.empty((0, 5)), np.empty(0), np.empty(0, np.intp))


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
        overwrite: replace the files of a finished run, and no others; windows of the same model, settings and image
            stay predicted.
        progress: draw a progress bar.

    Raises:
        OutputExistsError: ``out`` holds a finished run, or something else.
        DotaError: ``out`` holds a run of other settings, the model cannot be loaded, a class has no threshold, or the
            model has no such class.
    """
    classes = _chosen(model.classes, only)
    thresholds = {name: score_thr for name in classes} if not isinstance(score_thr, Mapping) else score_thr
    if missing := [name for name in classes if name not in thresholds]:
        raise DotaError(f"no score threshold for {', '.join(missing)}; each class of the model needs one")
    merge = MergeOptions(
        iou_thr=iou_thr, nms_agnostic=nms_agnostic, score_thr=min(thresholds[name] for name in classes)
    )
    out = Path(out)
    if gpkg:
        check_geopackage()
    head = {
        **model.identity,
        "classes": list(model.classes),
        **{key: options.to_json()[key] for key in _WINDOW_SETTINGS},
    }
    _prepare(out, sources, classes, csv, overwrite)
    model.prepare()
    summary = PredictSummary(classes)
    merged: list[dict[str, Detections]] = []
    done: list[SourceImage] = []
    with progress_bar(_count_windows(sources, options), "predict", "patch", shown=progress, mininterval=1.0) as bar:
        for source in sources:
            bar.set_postfix_str(source.image_id, refresh=False)
            try:
                patches = _predict_image(model, source, out, options, head, batch_size, overwrite, summary, bar)
            except (ImageReadError, OSError) as error:
                summary.failures.append(str(error))
                continue
            summary.images += 1
            whole = merge_patches({name: patches[name] for name in classes}, merge)
            if isinstance(score_thr, Mapping):
                whole = {name: one.take(one.scores >= thresholds[name]) for name, one in whole.items()}
            _write_ground(source, whole, out, summary, keep_crs=keep_crs, gpkg=gpkg)
            merged.append(whole)
            done.append(source)
    together = {name: concatenate([one[name] for one in merged]) for name in classes}
    write_detections(out, together, classes=classes)
    if csv:
        write_csv(out, classes)
    summary.detections = sum(map(len, together.values()))
    if html:
        found = by_image(read_detections(out, classes=classes))  # as written: rounded, and so as show has it
        written = write_pages(done, found, out / PAGES, classes=classes, raster=options.raster, progress=progress)
        summary.pages = written.pages
        summary.failures += written.failures
    return summary


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
    summary: PredictSummary,
    *,
    keep_crs: bool,
    gpkg: bool,
) -> None:
    """GeoJSON, and if asked for a GeoPackage, of an image that lies somewhere; else the summary says why not."""
    try:
        reference = read_georeference(source.path)
        if reference is None:
            return
    except GeoReferenceError as error:
        summary.notes.append(f"{source.path}: no GeoJSON: {str(error).removeprefix(f'{source.path}: ')}")
        return
    try:
        placed = place_boxes(detections, source.image_id, reference, keep_crs=keep_crs)
    except GeoReferenceError as error:
        summary.notes.append(f"{source.path}: no GeoJSON: {error}; --keep-crs writes the image's own coordinates")
        return
    write_boxes(out / GEOJSON / f"{source.image_id}.geojson", placed)
    summary.geojson += 1
    if gpkg:
        write_geopackage(out / GPKG / f"{source.image_id}.gpkg", placed)
    if placed.left_out:
        summary.notes.append(
            f"{source.path}: {placed.left_out} detections have no longitude and latitude (outside the domain of its "
            "projection, or round a pole); they are in the Task1 files only"
        )


def windows(
    image: Any, level: Level, options: SplitOptions, batch_size: int, *, without: Sequence[str] | set[str] = ()
) -> Iterator[tuple[list[str], list[NDArray[np.uint8]]]]:
    """Names and pixels of an image's windows that hold data, some at a time, each filled up to its size.

    Args:
        image: what `fdam_rotate.dota.rasters.images.open_pixels` gives.
        level: the windows, in pixels of the image.
        options: whether and with what they are filled up.
        batch_size: windows in each answer but the last.
        without: names that are left out.
    """
    sizes = level.patch_sizes(options.padding).tolist()
    todo = [number for number, name in enumerate(level.names) if name not in without]
    names: list[str] = []
    patches: list[NDArray[np.uint8]] = []
    for k, crop in image.crops([level.windows[number].tolist() for number in todo], skippable=range(len(todo))):
        names.append(level.names[todo[k]])
        patches.append(np.ascontiguousarray(pad_patch(crop, sizes[todo[k]], options.padding_value)))
        if len(names) == batch_size:
            yield names, patches
            names, patches = [], []
    if names:
        yield names, patches


def _predict_image(
    model: WindowModel,
    source: SourceImage,
    out: Path,
    options: SplitOptions,
    head: dict[str, Any],
    batch_size: int,
    overwrite: bool,
    summary: PredictSummary,
    bar: Any,
) -> dict[str, Detections]:
    """Detections of one image by class, with window names as ids; what its journal lacks is predicted and added.

    The next windows are read while the model works on these.
    """
    path = out / JOURNALS / f"{source.image_id}.jsonl"
    with open_pixels(source.path, options.raster) as image:
        (level,) = plan_levels(options, source.image_id, image.width, image.height)
        head = {**head, "image_sha256": image.digest, "read": image.reading()}
        with Journal(path, head, model.classes, overwrite=overwrite) as journal:
            summary.windows += len(level.names)
            summary.resumed += len(journal.done)
            bar.update(len(journal.done))
            with ahead(windows(image, level, options, batch_size, without=set(journal.done))) as batches:
                for names, patches in batches:
                    for name, found in zip(names, model.detect(patches), strict=True):
                        journal.add(name, found)
                    bar.update(len(names))
            for name in [name for name in level.names if name not in journal.done]:
                journal.add(name, _NOTHING)
                summary.empty += 1
                bar.update()
    summary.notes += [f"{source.path}: {note}" for note in image.notes()]
    return journal.detections(level.names)


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
    if not overwrite:
        own = {out / name for name in journals | texts | maps}
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
    remove_files(out, texts | maps | (journals - kept))
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
