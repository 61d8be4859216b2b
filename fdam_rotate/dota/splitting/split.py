"""Split the images of a data set into patches, with their annotations and a manifest.

The output folder holds ``images/``, ``annfiles/`` (MMRotate's layout) and ``manifest.json``; while the work goes on
also ``.split/``, with a record of each finished image. A patch is written elsewhere and renamed into place. So a run
may be stopped at any moment: the same command goes on from there, keeps what is finished (same SHA-256 of image and
label file, all patches there), and ends with the same bytes. Other settings on the same folder are refused. Patches of
an image that failed half-way are removed in the end: the folders hold those of the manifest.

A worker holds one image, or above 64 megapixels a band of its rows (the devkit's rates other than 1 need it whole).

Problems, by kind. Those of the first line leave an image out; ``malformed``, ``zero-area`` and ``outside`` cost one
object; all others cost nothing:

* ``image`` (unreadable, truncated or empty), ``clash`` (two images with one id), ``id`` (cannot name a file),
  ``worker`` (the process that split it died);
* ``malformed`` (a label line that cannot be read, or of a class that is not in the list), ``zero-area``, ``outside``;
* ``self-crossing`` (kept: its area is that of the region it encloses), ``class`` (looks like a slip for a class of
  DOTA), ``no-label`` (an image without label file), ``no-image`` (a label file without image).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from fdam_rotate import __version__
from fdam_rotate.dota.errors import DotaError, ManifestError, OutputExistsError
from fdam_rotate.dota.layout import SourceImage, list_sources
from fdam_rotate.dota.manifest import MANIFEST_NAME, Manifest, read_manifest
from fdam_rotate.dota.outputs import check_alike, check_folder, check_links
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_bar
from fdam_rotate.dota.splitting.options import SplitOptions, differences
from fdam_rotate.dota.splitting.tasks import (
    RECORDS,
    STATE,
    ImageTask,
    OutputError,
    TaskResult,
    write_bytes,
)
from fdam_rotate.dota.windows import parse_patch_name
from fdam_rotate.dota.workers import WorkerDied, run_tasks

__all__ = ["NAME_PROBLEMS", "PROBLEM_KINDS", "run_split"]

#: Every kind of problem that a split reports.
PROBLEM_KINDS = (
    "image", "clash", "id", "worker", "malformed", "zero-area", "outside", "self-crossing", "class", "no-label",
    "no-image", "alike",
)  # fmt: skip

#: Of these, those of the images' names.
NAME_PROBLEMS = ("clash", "id", "alike")


def run_split(
    img_dirs: Sequence[str | Path],
    ann_dirs: Sequence[str | Path] | None,
    save_dir: str | Path,
    options: SplitOptions | None = None,
    *,
    nproc: int = 1,
    scheduler: str | None = None,
    strict: bool = False,
    accept: Sequence[str] = (),
    report: Callable[[Problem], object] = lambda problem: None,
    progress: bool = False,
) -> Manifest:
    """Split every image of ``img_dirs`` into ``save_dir``, or go on with a split that was stopped.

    Args:
        img_dirs: folders of images.
        ann_dirs: as many folders of ``labelTxt`` files, or None for images without labels.
        save_dir: the output folder: new, empty, or of an earlier run with the same settings.
        options: the settings; None means MMRotate's defaults.
        nproc: local processes.
        scheduler: address of a Dask scheduler to use instead; its workers must see the same folders.
        strict: stop at the first problem whose kind is not in ``accept``.
        accept: kinds of problem that are known of.
        report: called with each problem of the images' names before the first image is read.
        progress: show a progress bar on stderr, if it is a terminal.

    Returns:
        the manifest, as written to ``save_dir/manifest.json``; its ``all_problems()`` lists what was wrong.

    Raises:
        OutputExistsError: ``save_dir`` holds something else, or a split with other settings.
        OutputError: the disk is full, or the like; what is finished stays for the next run.
        FileNotFoundError: a folder does not exist.
        DotaError: no image, or with ``strict`` the first problem.
    """
    options = options or SplitOptions()
    out = Path(save_dir)
    if ann_dirs is not None and len(ann_dirs) != len(img_dirs):
        raise DotaError(f"expected as many label folders as image folders, got {len(ann_dirs)} and {len(img_dirs)}")
    check_folder(out, overwrite=True, inputs=[*img_dirs, *(ann_dirs or ())])
    problems: list[Problem] = []
    image_folders = [Path(folder) for folder in img_dirs]
    label_folders = [None if ann_dirs is None else Path(ann_dirs[i]) for i in range(len(image_folders))]
    sources = list_sources(image_folders, label_folders, problems)
    _stop_if_strict(problems, strict, accept)
    for problem in problems:
        if problem.kind in NAME_PROBLEMS:
            report(problem)
    check_alike(out, [source.image_id for source in sources])
    finished = _open_output(out, options, {source.image_id for source in sources})
    tasks = [_task(source, out, options, finished.get(source.image_id)) for source in sources]

    records: dict[int, dict[str, Any]] = {}
    with progress_bar(len(tasks), "split", "image", shown=progress) as bar:
        results: Iterator[tuple[int, TaskResult | WorkerDied]] = run_tasks(
            split_image, tasks, nproc=nproc, scheduler=scheduler
        )
        with closing(results):  # type: ignore[type-var]  # a generator; closing it stops the workers
            for number, result in results:
                if isinstance(result, WorkerDied):
                    result = TaskResult(None, [Problem("worker", tasks[number].shown[0], 0, str(result))])
                found = list(result.problems)
                if result.record is not None:
                    records[number] = result.record
                    found += [Problem.from_json(problem) for problem in result.record["problems"]]
                else:
                    problems += found
                _stop_if_strict(found, strict, accept)
                bar.update()
    manifest = Manifest(
        parameters=options.to_json(),
        sources={
            "img_dirs": [str(folder) for folder in img_dirs],
            "ann_dirs": None if ann_dirs is None else [str(folder) for folder in ann_dirs],
        },
        images=[records[number] for number in sorted(records)],
        problems=[p.to_json() for p in sorted(problems, key=lambda p: (p.path, p.kind))],
    )
    _remove_strays(manifest, {source.image_id for source in sources}, out, options.save_ext)
    _write_guarded(manifest, out)
    return manifest


def split_image(task: ImageTask) -> TaskResult:
    """Split one image, in whichever process this is; see :func:`fdam_rotate.dota.splitting.worker.do_task`."""
    from fdam_rotate.dota.splitting.worker import do_task  # only workers load OpenCV and shapely

    return do_task(task)


def _task(source: SourceImage, out: Path, options: SplitOptions, previous: Mapping[str, Any] | None) -> ImageTask:
    label = source.label
    return ImageTask(
        image_id=source.image_id,
        image=source.path.absolute(),
        label=None if label is None else label.absolute(),
        shown=(str(source.path), None if label is None else str(label)),
        out=out.absolute(),
        options=options,
        previous=previous,
    )


def _stop_if_strict(problems: Sequence[Problem], strict: bool, accept: Sequence[str]) -> None:
    for problem in problems if strict else ():
        if problem.kind not in accept:
            raise DotaError(f"{problem} (stopped by --strict; what is finished stays for the next run)")


def _open_output(out: Path, options: SplitOptions, image_ids: set[str]) -> dict[str, Mapping[str, Any]]:
    """Make the folders, and return the records of images that an earlier run with the same settings finished."""
    wanted = {**options.to_json(), "tool_version": __version__}
    finished: dict[str, Mapping[str, Any]] = {}
    check_links(out, ("images", "annfiles", STATE, RECORDS))
    if out.is_dir() and any(out.iterdir()):
        recorded, finished = _earlier_run(out)
        changed = differences(recorded, wanted)
        if changed:
            raise OutputExistsError(f"{out} holds a split with other settings: {changed}; give another --out")
        strangers = sorted(set(finished) - image_ids)
        if strangers:
            raise OutputExistsError(
                f"{out} holds patches of {strangers[0]!r}, which is not among the images now; give another --out"
            )
    try:
        for folder in (out / "images", out / "annfiles", out / RECORDS):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(out / STATE / "tmp", ignore_errors=True)
        (out / STATE / "tmp").mkdir()
        write_bytes(out, _SETTINGS, json.dumps(wanted, ensure_ascii=False).encode("utf-8"))
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}") from None
    return finished


_SETTINGS = f"{STATE}/settings.json"


def _earlier_run(out: Path) -> tuple[Mapping[str, Any], dict[str, Mapping[str, Any]]]:
    """The settings of the split that ``out`` holds, and the records of its finished images by id."""
    finished: dict[str, Mapping[str, Any]] = {}
    recorded: Mapping[str, Any] | None = None
    if (out / MANIFEST_NAME).is_file():
        manifest = read_manifest(out)
        recorded = {**manifest.parameters, "tool_version": manifest.tool_version}
        finished = {image["id"]: image for image in manifest.images}
    try:
        if (out / _SETTINGS).is_file():
            recorded = json.loads((out / _SETTINGS).read_text(encoding="utf-8"))
            for path in sorted((out / RECORDS).glob("*.json")):
                finished[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{out / STATE}: a record is damaged ({error}); remove {out} and start again") from None
    if recorded is None:
        raise OutputExistsError(f"{out} exists and is not empty, and is no split of ours; give another --out")
    return recorded, finished


def _remove_strays(manifest: Manifest, image_ids: set[str], out: Path, save_ext: str) -> None:
    """Remove patches of these images that the manifest does not know: of those that failed half-way, or changed."""
    known = set(manifest.patch_ids())
    for folder, suffix in (("images", save_ext), ("annfiles", ".txt")):
        for path in (out / folder).iterdir():
            name = path.name.removesuffix(suffix)
            if name != path.name and name not in known:
                with suppress(DotaError):  # no patch name: not ours
                    if parse_patch_name(name).image_id in image_ids:
                        path.unlink()


def _write_guarded(manifest: Manifest, out: Path) -> None:
    try:
        manifest.write(out / MANIFEST_NAME)
    except OSError as error:
        raise OutputError(f"cannot write {out / MANIFEST_NAME}: {error.strerror}") from None
    shutil.rmtree(out / STATE, ignore_errors=True)
