"""Prediction on whole images of any size: windows read one by one, results kept as they come, then merged.

Each image has a journal, ``OUT/patches/<id>.jsonl``: a first line with what decides its contents (checkpoint, config,
windows, the image's SHA-256), then a line a window with its detections in pixels of the window. A run that was killed
goes on where its journals end; a line that was half written is done again. The detections are those that splitting,
``tools/test.py`` and ``tools/merge.py`` give, to the byte.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from mmcv.parallel import collate
from mmdet.datasets import replace_ImageToTensor
from mmdet.datasets.builder import DATASETS
from mmdet.datasets.pipelines import Compose
from mmrotate.utils import setup_multi_processes
from tqdm import tqdm

from fdam_rotate.apis.inference import load_detector, predict_batch
from fdam_rotate.apis.runtime import start_runtime
from fdam_rotate.apis.train import check_classes
from fdam_rotate.dota.detections import Detections, concatenate, write_detections
from fdam_rotate.dota.errors import DotaError, ImageReadError, OutputExistsError
from fdam_rotate.dota.files import sha256_of
from fdam_rotate.dota.formats.geojson import write_geojson
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.merging.merge import merge_patches
from fdam_rotate.dota.rasters.georeference import read_georeference
from fdam_rotate.dota.rasters.images import image_size, open_pixels
from fdam_rotate.dota.rasters.padding import pad_patch
from fdam_rotate.dota.splitting.options import SplitOptions, differences, plan_levels

__all__ = ["PredictSummary", "predict_images"]

JOURNALS = "patches"
#: As the text files of tools/test.py round them.
_SCORE_DECIMALS, _PIXEL_DECIMALS = 8, 4


@dataclass
class PredictSummary:
    """What a run did.

    Attributes:
        images: predicted, in this run or before.
        windows: of these images.
        resumed: of the windows, those found in journals.
        detections: after merging.
        geojson: files written; images that are not georeferenced have none.
        failures: one line for each image that could not be read.
    """

    images: int = 0
    windows: int = 0
    resumed: int = 0
    detections: int = 0
    geojson: int = 0
    failures: list[str] = field(default_factory=list)


def predict_images(
    cfg: Any,
    checkpoint: str | Path,
    sources: Sequence[SourceImage],
    out: str | Path,
    options: SplitOptions,
    *,
    batch_size: int = 1,
    score_thr: float = 0.05,
    iou_thr: float = 0.1,
    keep_crs: bool = False,
    gpu_id: int = 0,
    overwrite: bool = False,
    unsafe_load: bool = False,
) -> PredictSummary:
    """Detect on every image of ``sources``; write Task1 files, and GeoJSON where an image is georeferenced.

    Args:
        cfg: MMRotate config; its test pipeline and classes are used.
        checkpoint: file, read as tensors only unless ``unsafe_load``.
        sources: images, each id once.
        out: folder; an unfinished run in it goes on.
        options: windows, in MMRotate's style; patches are filled up as ``data_prep/split.py`` does.
        batch_size: windows in a forward pass.
        score_thr: detections scored below are left out of the merged files (the journals keep them).
        iou_thr: of the merge.
        keep_crs: GeoJSON in each image's own coordinate system.
        gpu_id: GPU to use, where there is one.
        overwrite: replace the files of a finished run; windows of the same model, settings and image stay predicted.
        unsafe_load: open a checkpoint that carries code.

    Raises:
        OutputExistsError: ``out`` holds a finished run, or something else.
        DotaError: ``out`` holds a run of other settings; the checkpoint does not fit.
    """
    out = Path(out)
    dataset = cfg.data.test
    classes = tuple(DATASETS.get(dataset.type).get_classes(dataset.get("classes")))
    check_classes(cfg.model, classes)
    settings = {
        "checkpoint": sha256_of(checkpoint),
        "model": hashlib.sha256(repr((cfg.model, dataset.pipeline)).encode()).hexdigest(),
        "classes": list(classes),
        **{key: options.to_json()[key] for key in ("sizes", "gaps", "rates", "img_rate_thr", "padding")},
    }
    _prepare(out, {source.image_id for source in sources}, overwrite)
    summary = PredictSummary()
    runtime = start_runtime("none", gpu_id)
    setup_multi_processes(cfg)
    pipeline = _pipeline(dataset.pipeline, batch_size)
    device = "cpu" if runtime.device == "cpu" else f"cuda:{runtime.gpu_id}"
    model = load_detector(cfg, checkpoint, classes, unsafe_load=unsafe_load).to(device).eval()

    merged: list[dict[str, Detections]] = []
    with tqdm(total=_count_windows(sources, options), desc="predict", unit="patch", mininterval=1.0) as bar:
        for source in sources:
            bar.set_postfix_str(source.image_id, refresh=False)
            try:
                found = _predict_image(
                    model, pipeline, source, out, options, settings, batch_size, overwrite, summary, bar
                )
            except (ImageReadError, OSError) as error:
                summary.failures.append(str(error))
                continue
            summary.images += 1
            whole = merge_patches(found, iou_thr=iou_thr, score_thr=score_thr)
            reference = read_georeference(source.path)
            if reference is not None:
                target = out / "geojson" / f"{source.image_id}.geojson"
                write_geojson(target, whole, source.image_id, reference, keep_crs=keep_crs)
                summary.geojson += 1
            merged.append(whole)
    together = {name: concatenate([one[name] for one in merged]) for name in classes}
    write_detections(out, together, classes=classes)
    summary.detections = sum(map(len, together.values()))
    return summary


def _predict_image(
    model: torch.nn.Module,
    pipeline: Compose,
    source: SourceImage,
    out: Path,
    options: SplitOptions,
    settings: dict[str, Any],
    batch_size: int,
    overwrite: bool,
    summary: PredictSummary,
    bar: Any,
) -> dict[str, Detections]:
    """Detections of one image by class, with window names as ids; what its journal lacks is predicted and added."""
    journal = out / JOURNALS / f"{source.image_id}.jsonl"
    classes = model.CLASSES
    with open_pixels(source.path) as image:
        (level,) = plan_levels(options, source.image_id, image.width, image.height)
        head = {**settings, "image_sha256": image.digest}
        done = _read_journal(journal, head, overwrite)
        summary.windows += len(level.names)
        summary.resumed += len(done)
        bar.update(len(done))
        todo = [number for number, name in enumerate(level.names) if name not in done]
        sizes = level.patch_sizes(options.padding).tolist()
        with journal.open("ab") as file:
            if file.tell() == 0:
                _append(file, head)
            crops = image.crops([level.windows[number].tolist() for number in todo])
            for part in _batches(crops, batch_size):
                numbers = [todo[k] for k, _ in part]
                patches = [
                    pad_patch(crop, sizes[number], options.padding_value)
                    for number, (_, crop) in zip(numbers, part, strict=True)
                ]
                inputs = [pipeline({"img": np.ascontiguousarray(patch)}) for patch in patches]
                results = predict_batch(model, collate(inputs, samples_per_gpu=len(inputs)))
                for number, result in zip(numbers, results, strict=True):
                    name = level.names[number]
                    done[name] = {c: _rows(boxes) for c, boxes in zip(classes, result, strict=True) if len(boxes)}
                    _append(file, {"patch": name, "found": done[name]})
                bar.update(len(part))
    return {
        name: concatenate(
            [Detections.empty(), *(_detections(patch, done[patch].get(name, [])) for patch in level.names)]
        )
        for name in classes
    }


def _rows(boxes: np.ndarray) -> list[list[float]]:
    """A class's (n, 6) of cx, cy, w, h, angle, score as rows of score and corners."""
    boxes = np.asarray(boxes, np.float64)
    scores, polys = boxes[:, 5:].round(_SCORE_DECIMALS), le90_to_poly(boxes[:, :5]).round(_PIXEL_DECIMALS)
    return np.concatenate([scores, polys], axis=1).tolist()


def _detections(patch: str, rows: Sequence[Sequence[float]]) -> Detections:
    values = np.array(rows, np.float64).reshape(-1, 9)
    return Detections((patch,), np.zeros(len(values), np.intp), values[:, 0], values[:, 1:])


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _append(file: IO[bytes], record: dict[str, Any]) -> None:
    """One line, handed to the system whole: a killed run loses no line that was written."""
    file.write(json.dumps(record).encode("utf-8") + b"\n")
    file.flush()


def _read_journal(path: Path, head: dict[str, Any], overwrite: bool) -> dict[str, dict[str, Any]]:
    """The finished windows of a journal; what follows the last whole line is cut off.

    Raises:
        DotaError: it is damaged, or of other settings or another image, and may not be overwritten.
    """
    if not path.is_file():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    problem = None
    try:
        first, *records = [json.loads(line) for line in whole.splitlines()] or [head]
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


def _prepare(out: Path, image_ids: set[str], overwrite: bool) -> None:
    """Make ``out``; refuse a finished run or foreign files, or if ``overwrite`` remove what is not to stay of a run.

    Raises:
        OutputExistsError: ``out`` holds what may not be replaced.
    """
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} is a file; give a folder for the output")
    journals = set(out.glob(f"{JOURNALS}/*.jsonl"))
    written = {*out.glob("Task1_*.txt"), *out.glob("geojson/*.geojson")}
    foreign = [path for path in sorted(out.rglob("*")) if path.is_file() and path not in journals | written]
    if foreign:
        raise OutputExistsError(f"{out} holds {foreign[0].name}, which is not of a prediction; give another folder")
    if any(path.parent == out for path in written) and not overwrite:
        raise OutputExistsError(f"{out} holds a finished prediction; give another folder, or --overwrite")
    if overwrite:
        for path in written | {path for path in journals if path.stem not in image_ids}:
            path.unlink()
    (out / JOURNALS).mkdir(parents=True, exist_ok=True)


def _pipeline(steps: Sequence[dict[str, Any]], batch_size: int) -> Compose:
    """The test pipeline, fed with pixels instead of file names."""
    steps = copy.deepcopy(list(steps))
    if batch_size > 1:
        steps = replace_ImageToTensor(steps)
    if steps[0]["type"] != "LoadImageFromFile":
        raise DotaError(f"the test pipeline begins with {steps[0]['type']}; LoadImageFromFile is expected")
    return Compose([{"type": "LoadImageFromWebcam"}, *steps[1:]])


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
