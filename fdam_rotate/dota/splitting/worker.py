"""One image split by one worker: its patches and annotation files written, its record for the manifest returned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2

from fdam_rotate.dota.files import sha256_of
from fdam_rotate.dota.labels import Labels, read_labels
from fdam_rotate.dota.layout import image_problem
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.rasters.images import WholeImage, open_pixels
from fdam_rotate.dota.rasters.padding import encode_patch, pad_patch
from fdam_rotate.dota.rasters.source import PixelSource
from fdam_rotate.dota.splitting.options import Level, plan_levels
from fdam_rotate.dota.splitting.patch_labels import PatchObjects, annotate
from fdam_rotate.dota.splitting.tasks import RECORDS, ImageTask, OutputError, TaskResult, write_bytes

__all__ = ["do_task"]


def do_task(task: ImageTask) -> TaskResult:
    """Write the patches, the annotations and, last of all, the record of one image.

    Raises:
        OutputError: nothing more can be written.
    """
    cv2.setNumThreads(1)  # the workers share the cores already
    try:
        record = _kept_record(task)
        if record is None:
            _remove_patches(task)
            record = _split(task)
        return TaskResult(record)
    except OutputError:
        raise
    except Exception as error:  # whatever a damaged file may cause costs this image only
        return TaskResult(None, [image_problem(task.image, error, task.shown[0])])


def _remove_patches(task: ImageTask) -> None:
    """Remove what an earlier run made of an image that has changed since."""
    for patch in task.previous["patches"] if task.previous else ():
        (task.out / "images" / f"{patch['id']}{task.options.save_ext}").unlink(missing_ok=True)
        (task.out / "annfiles" / f"{patch['id']}.txt").unlink(missing_ok=True)


def _kept_record(task: ImageTask) -> dict[str, Any] | None:
    """The record of an earlier run, if it still holds."""
    record = task.previous
    if record is None or record["sha256"] != sha256_of(task.image):
        return None
    if record["label_sha256"] != (None if task.label is None else sha256_of(task.label)):
        return None
    images, annfiles = task.out / "images", task.out / "annfiles"
    for patch in record["patches"]:
        image = images / f"{patch['id']}{task.options.save_ext}"
        if not (annfiles / f"{patch['id']}.txt").is_file() or not image.is_file():
            return None
        if image.stat().st_size != patch["bytes"]:
            return None
    return dict(record)


def _split(task: ImageTask) -> dict[str, Any]:
    options = task.options
    shown = task.shown[1] or ""
    bad_lines: list[Problem] = []
    labels, label_digest = Labels.empty(), None
    if task.label is not None:
        labels = read_labels(task.label, classes=options.classes, problems=bad_lines)
        label_digest = sha256_of(task.label)
    resizes = options.style == "devkit" and any(rate != 1 for rate in options.rates)
    with open_pixels(task.image, options.raster, whole=resizes) as image:
        levels = plan_levels(options, task.image_id, image.width, image.height)
        found = annotate(options, labels, len(bad_lines), levels, shown)
        patches = []
        warning = None
        for level, objects in zip(levels, found.patches, strict=True):
            pixels = image.resized(level.scale) if isinstance(image, WholeImage) else image
            patches += _write_level(task, level, pixels, labels, objects)
            warning = pixels.tone.warning()
    unread = [replace(bad, path=shown) for bad in bad_lines]
    record = {
        "id": task.image_id,
        "file": task.shown[0],
        "sha256": image.digest,
        "width": image.width,
        "height": image.height,
        **image.reading(),
        "empty": sum(len(level.names) for level in levels) - len(patches),
        "tone": warning,
        "label": task.shown[1],
        "label_sha256": label_digest,
        "objects": found.counts,
        "problems": [p.to_json() for p in sorted([*unread, *found.problems], key=lambda p: p.line)],
        "patches": patches,
    }
    write_bytes(task.out, f"{RECORDS}/{task.image_id}.json", json.dumps(record, ensure_ascii=False).encode("utf-8"))
    return record


def _write_level(
    task: ImageTask, level: Level, pixels: PixelSource, labels: Labels, objects: Sequence[PatchObjects]
) -> list[dict[str, Any]]:
    """Write the patches of one level and their annotations; returns their records, in the order of the plan.

    Windows without data have no patch, unless they have objects.
    """
    options = task.options
    windows = level.windows.tolist()
    sizes = level.patch_sizes(options.padding).tolist()
    written = {}
    without_objects = {number for number, own in enumerate(objects) if not own.lines}
    for number, crop in pixels.crops(windows, skippable=without_objects):
        data = encode_patch(pad_patch(crop, sizes[number], options.padding_value), options.save_ext)
        write_bytes(task.out, f"images/{level.names[number]}{options.save_ext}", data)
        written[number] = len(data)
    records = []
    for number, (name, own) in enumerate(zip(level.names, objects, strict=True)):
        if number not in written:
            continue
        text = "".join(line + "\n" for line in own.lines)
        write_bytes(task.out, f"annfiles/{name}.txt", text.encode("utf-8"))
        records.append(
            {
                "id": name,
                "x": windows[number][0],
                "y": windows[number][1],
                "scale": level.scale,
                "width": sizes[number][0],
                "height": sizes[number][1],
                "bytes": written[number],
                "lines": labels.lines[own.objects].tolist(),
                "difficult": labels.difficult[own.objects].tolist(),
                "cut": own.cut.astype(int).tolist(),
            }
        )
    return records
