"""Check data sets and splits: what is in them, what is wrong with them, and whether train and val share pictures.

A folder is checked as one part (``images/`` with ``labelTxt/``, or a split with ``images/``, ``annfiles/`` and
``manifest.json``) or as one part for each of its subfolders that is such a part (``train/``, ``val/``, ...). Images
without any label folder are a test set. Problems, by kind; the kinds that the splitter reports too mean the same here:

* ``image`` (unreadable, truncated or empty), ``clash`` (two images with one id), ``id`` (can be no id),
  ``alike`` (two ids that differ in capitals or accents only), ``worker`` (the process that read it died), ``no-label``
  (an image without label file), ``no-image`` (the reverse), ``unread`` (folders and files that nothing reads);
* ``malformed`` (a line that cannot be read: field count, NaN, no number), ``class`` (not in the class list);
* ``zero-area``, ``thin`` (shorter side under 1 pixel), ``self-crossing``, ``outside`` (no area within the image),
  ``huge`` (more than twice the image's area), ``repeated`` (same class and corners as an earlier line);
* ``tone`` (an image of more than 8 bits is nearly black, white or one grey as it is read);
* ``manifest`` (unreadable, does not reconcile, or disagrees with the files beside it);
* between parts: ``duplicate`` (equal pixels), ``near-duplicate`` (the same picture stored again, such as a JPEG copy of
  a PNG), ``shared-source`` (patches of one source image in both, by the SHA-256 in the manifests).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.checking.likeness import describe, near_pairs, same_picture
from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.errors import ImageReadError, LabelFormatError, ManifestError
from fdam_rotate.dota.geometry import is_convex, poly_to_hbb, poly_to_le90, polygon_area
from fdam_rotate.dota.labels import Labels, read_labels, unknown_class
from fdam_rotate.dota.layout import (
    LABEL_FOLDERS,
    Part,
    SourceImage,
    find_parts,
    image_problem,
    label_files,
    list_sources,
    passed_over,
)
from fdam_rotate.dota.manifest import MANIFEST_NAME, Manifest, read_manifest
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over
from fdam_rotate.dota.rasters.images import open_pixels
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.words import counted
from fdam_rotate.dota.workers import WorkerDied, run_tasks

__all__ = ["PROBLEM_KINDS", "PartReport", "VerifyReport", "verify"]

#: Every kind of problem that a check reports.
PROBLEM_KINDS = (
    "image", "clash", "id", "alike", "worker", "no-label", "no-image", "unread", "malformed", "class", "zero-area",
    "thin", "self-crossing", "outside", "huge", "repeated", "tone", "manifest", "duplicate", "near-duplicate",
    "shared-source",
)  # fmt: skip

_HUGE = 2.0  # a visible object may reach out of the image, but hardly by more than the image's own area


@dataclass(frozen=True)
class ImageFacts:
    """What was found in one image and its label file; ``digest`` and ``mark`` are empty for an unreadable image."""

    source: SourceImage
    width: int
    height: int
    digest: str
    mark: bytes
    labels: Labels
    problems: tuple[Problem, ...]


@dataclass
class PartReport:
    """What one part holds.

    Attributes:
        name: the folder's name, or with several checked folders its path.
        folder: where it is.
        labelled: False for a test set.
        images: facts by image, sorted by id; their arrays feed the picture.
        manifest: that of a split, if it could be read.
    """

    name: str
    folder: Path
    labelled: bool
    images: list[ImageFacts]
    manifest: Manifest | None = None

    @property
    def polys(self) -> NDArray[np.float64]:
        """All objects' corners, (N, 8)."""
        return np.concatenate([facts.labels.polys for facts in self.images] or [np.zeros((0, 8))])

    @property
    def class_counts(self) -> Counter[str]:
        """Objects by class."""
        return Counter(name for facts in self.images for name in facts.labels.names)

    def summary(self) -> dict[str, Any]:
        """Counts and quantiles as plain values for JSON."""
        boxes = poly_to_le90(self.polys)
        per_image = np.array([len(facts.labels) for facts in self.images])
        sizes = [(facts.width, facts.height) for facts in self.images if facts.width]
        hard = Counter(int(d) for facts in self.images for d in facts.labels.difficult)
        return {
            "folder": str(self.folder),
            "labelled": self.labelled,
            "images": len(self.images),
            "images_without_objects": int((per_image == 0).sum()),
            "objects": len(boxes),
            "difficult": {str(level): count for level, count in sorted(hard.items())},
            "classes": dict(sorted(self.class_counts.items())),
            "objects_per_image": _quantiles(per_image),
            "width": _quantiles(np.array([w for w, _ in sizes])),
            "height": _quantiles(np.array([h for _, h in sizes])),
            "long_side": _quantiles(boxes[:, 2]),
            "short_side": _quantiles(boxes[:, 3]),
            "angle_deg_histogram": np.histogram(np.degrees(boxes[:, 4]), bins=18, range=(-90, 90))[0].tolist(),
        }


@dataclass
class VerifyReport:
    """Parts and problems; ``ok`` where every problem's kind is accepted. ``raster``: how rasters were read."""

    parts: list[PartReport]
    problems: list[Problem]
    accepted: frozenset[str] = field(default_factory=frozenset)
    raster: RasterOptions = field(default_factory=RasterOptions)

    @property
    def counts(self) -> dict[str, int]:
        """Problems by kind, in the order of ``PROBLEM_KINDS``."""
        found = Counter(problem.kind for problem in self.problems)
        return {kind: found[kind] for kind in PROBLEM_KINDS if found[kind]}

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong beyond the accepted kinds."""
        return set(self.counts) <= self.accepted

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, as plain values."""
        return {
            "ok": self.ok,
            "parts": {part.name: part.summary() for part in self.parts},
            "problem_counts": self.counts,
            "problems": [{**p.to_json(), "accepted": p.kind in self.accepted} for p in self.problems],
        }


def verify(
    folders: Sequence[str | Path],
    *,
    classes: Sequence[str] = DOTA_CLASSES["v2.0"],
    accept: Sequence[str] = (),
    raster: RasterOptions | None = None,
    nproc: int = 1,
    progress: bool = False,
) -> VerifyReport:
    """Check every image and label of the folders.

    Args:
        folders: data sets or splits; two or more are compared with each other too.
        classes: the allowed class names.
        accept: kinds of problem that are known of and leave the report ``ok``.
        raster: which bands and values of rasters become pixels.
        nproc: processes; any number gives the same report.
        progress: show a progress bar on stderr.

    Raises:
        FileNotFoundError: a folder does not exist.
        DotaError: a folder holds no data set, or no image at all.
    """
    raster = raster or RasterOptions()
    parts = find_parts(folders)
    problems: list[Problem] = []
    work: list[tuple[int, SourceImage]] = []
    for number, part in enumerate(parts):
        ann_dir = part.annotations
        problems += [problem for problem in (passed_over(part.folder / "images"), _unread_labels(part)) if problem]
        work += [(number, source) for source in list_sources([part.folder / "images"], [ann_dir], problems)]
    facts: list[ImageFacts | None] = [None] * len(work)
    results = run_tasks(
        partial(_examine, classes=tuple(classes), raster=raster), [source for _, source in work], nproc=nproc
    )
    for index, result in progress_over(results, "verify", "image", shown=progress, total=len(work)):
        facts[index] = _died(work[index][1], result) if isinstance(result, WorkerDied) else result
    reports = [PartReport(part.name, part.folder, part.annotations is not None, []) for part in parts]
    for (number, _), found in zip(work, facts, strict=True):
        if found is not None:
            reports[number].images.append(found)
            problems += found.problems
    for report in reports:
        if report.labelled and (report.folder / MANIFEST_NAME).exists():
            report.manifest = _check_manifest(report, problems)
    _compare_parts(reports, problems, raster)
    order = {kind: rank for rank, kind in enumerate(PROBLEM_KINDS)}
    problems.sort(key=lambda p: (order[p.kind], p.path, p.line, p.text))
    return VerifyReport(reports, problems, frozenset(accept), raster)


def _unread_labels(part: Part) -> Problem | None:
    """A folder of label files beside the images that is not the one that is read."""
    for folder in sorted(part.folder.iterdir()):
        if folder.name.startswith(".") or folder.name == "images" or folder == part.annotations or not folder.is_dir():
            continue
        if part.annotations is not None and folder.name not in ("labels", *LABEL_FOLDERS):
            continue
        for suffix in (".txt", ".xml", ".json"):
            files = label_files(folder, suffix)
            if not files:
                continue
            if part.annotations is not None:
                hint = f"the labels are those in {part.annotations.name}"
            elif suffix != ".txt":
                hint = "labels are read from labelTxt or annfiles; fdam-rotate convert-labels writes them"
            else:
                lines: list[Problem] = []
                read_labels(files[0], problems=lines)
                found = f"{files[0].name}: {lines[0].text}" if lines else "rename the folder"
                hint = f"labels are read from labelTxt or annfiles; {found}"
            unread = counted(len(files), f"{suffix} file", "is|are")
            return Problem("unread", str(folder), 0, f"{unread} not read: {hint}")
    return None


def _died(source: SourceImage, error: WorkerDied) -> ImageFacts:
    return ImageFacts(source, 0, 0, "", b"", Labels.empty(), (Problem("worker", str(source.path), 0, str(error)),))


def _examine(source: SourceImage, classes: tuple[str, ...], raster: RasterOptions) -> ImageFacts:
    """Read one image and its labels."""
    problems: list[Problem] = []
    digest, mark = "", b""
    try:
        with open_pixels(source.path, raster) as image:
            width, height = image.width, image.height
            digest, mark = describe(image)
            warning = image.tone.warning() if image.scale_range is not None else None
            if warning is not None:
                low, high = image.scale_range or (0.0, 0.0)
                text = f"{warning} with the values {low:g} to {high:g} as 0 to 255; give --scale-range or --bands"
                problems.append(Problem("tone", str(source.path), 0, text))
    except (ImageReadError, OSError) as error:
        width = height = 0
        problems.append(image_problem(source.path, error))
    labels = Labels.empty()
    if source.label is not None:
        lines: list[Problem] = []
        try:
            labels = read_labels(source.label, problems=lines)
        except (OSError, LabelFormatError) as error:
            problems.append(Problem("malformed", str(source.label), 0, str(error)))
        problems += lines
        problems += _check_objects(labels, source.label, width, height, classes)
    return ImageFacts(source, width, height, digest, mark, labels, tuple(problems))


def _check_objects(labels: Labels, path: Path, width: int, height: int, classes: tuple[str, ...]) -> Iterator[Problem]:
    """Problems of objects; those that need the image's size are left out where it is unknown (0)."""
    known = frozenset(classes)
    for row in (i for i, name in enumerate(labels.names) if name not in known):
        yield Problem("class", str(path), int(labels.lines[row]), unknown_class(labels.names[row], classes))
    if not len(labels):
        return
    area = polygon_area(labels.polys)
    empty = area <= 0
    boxes, bounds = poly_to_le90(labels.polys), poly_to_hbb(labels.polys)
    found_kinds: list[tuple[str, NDArray[np.bool_], list[str] | str]] = [
        ("zero-area", empty, "the polygon has no area"),
        ("thin", ~empty & (boxes[:, 3] < 1), [f"the shorter side is {side:.2f} pixel" for side in boxes[:, 3]]),
        ("self-crossing", ~empty & _crosses_itself(labels.polys), "the polygon crosses itself"),
    ]
    if width:
        beyond = (bounds[:, 2] <= 0) | (bounds[:, 3] <= 0) | (bounds[:, 0] >= width) | (bounds[:, 1] >= height)
        large = [f"{value:.0f} square pixels, the image has {width * height}" for value in area]
        found_kinds.append(("outside", beyond, f"the polygon lies outside the image of {width} x {height} pixels"))
        found_kinds.append(("huge", area > _HUGE * width * height, large))
    for kind, which, text in found_kinds:
        for i in np.flatnonzero(which).tolist():
            yield Problem(kind, str(path), int(labels.lines[i]), text if isinstance(text, str) else text[i])
    seen: dict[tuple[Any, ...], int] = {}
    for i, key in enumerate(zip(labels.names, map(tuple, labels.polys.tolist()), strict=True)):
        first = seen.setdefault(key, i)
        if first != i:
            yield Problem("repeated", str(path), int(labels.lines[i]), f"the same object as line {labels.lines[first]}")


def _crosses_itself(polys: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which quadrangles (N, 8) have two opposite sides that cross."""
    p = polys.reshape(-1, 4, 2)

    def side(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        return out

    crossing = np.zeros(len(p), np.bool_)
    for k in (0, 1):
        a, b, c, d = p[:, k], p[:, k + 1], p[:, k + 2], p[:, (k + 3) % 4]
        crossing |= (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return crossing & ~is_convex(polys)


def _check_manifest(report: PartReport, problems: list[Problem]) -> Manifest | None:
    """Compare a split's manifest with the files beside it."""
    path = report.folder / MANIFEST_NAME
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        problems.append(Problem("manifest", str(path), 0, str(error).removeprefix(f"{path}: ")))
        return None
    images = {facts.source.image_id: facts for facts in report.images}
    listed = {patch["id"]: patch for image in manifest.images for patch in image["patches"]}
    for patch_id, patch in listed.items():
        facts = images.get(patch_id)
        if facts is None:
            problems.append(Problem("manifest", str(path), 0, f"patch {patch_id} has no image file in images/"))
            continue
        expected = (int(patch["width"]), int(patch["height"]))
        if facts.width and (facts.width, facts.height) != expected:
            text = f"{facts.width} x {facts.height} pixels, the manifest says {expected[0]} x {expected[1]}"
            problems.append(Problem("manifest", str(facts.source.path), 0, text))
        lines, broken = len(facts.labels), sum(p.kind == "malformed" for p in facts.problems)
        if facts.source.label is not None and lines + broken != len(patch["lines"]):
            text = f"{lines + broken} objects, the manifest says {len(patch['lines'])}"
            problems.append(Problem("manifest", str(facts.source.label), 0, text))
    for image_id, facts in images.items():
        if image_id not in listed:
            problems.append(Problem("manifest", str(facts.source.path), 0, "the manifest has no such patch"))
    return manifest


def _compare_parts(reports: list[PartReport], problems: list[Problem], raster: RasterOptions) -> None:
    """Report pictures that are in two parts: equal pixels, near copies, and common source images."""
    digests: dict[str, tuple[PartReport, ImageFacts]] = {}
    sources: dict[str, tuple[PartReport, str]] = {}
    for report in reports:
        for facts in report.images:
            if not facts.digest:
                continue
            other, first = digests.setdefault(facts.digest, (report, facts))
            if other is not report:
                text = f"the same pixels as {first.source.path} in {other.name}"
                problems.append(Problem("duplicate", str(facts.source.path), 0, text))
        for image in report.manifest.images if report.manifest else ():
            other, name = sources.setdefault(image["sha256"], (report, image["id"]))
            if other is not report:
                text = f"patches of the source image {image['id']} are in {other.name} too (there {name})"
                problems.append(Problem("shared-source", str(report.folder / MANIFEST_NAME), 0, text))
    for i, a in enumerate(reports):
        for b in reports[i + 1 :]:
            _report_near_copies(a, b, problems, raster)


def _report_near_copies(a: PartReport, b: PartReport, problems: list[Problem], raster: RasterOptions) -> None:
    left, right = ([facts for facts in report.images if facts.mark] for report in (a, b))
    for i, j in near_pairs([facts.mark for facts in left], [facts.mark for facts in right]):
        first, second = left[i], right[j]
        if first.digest == second.digest or not same_picture(first.source.path, second.source.path, raster):
            continue
        text = f"the same picture as {first.source.path} in {a.name}, stored again"
        problems.append(Problem("near-duplicate", str(second.source.path), 0, text))


def _quantiles(values: NDArray[Any]) -> dict[str, float] | None:
    """Minimum, quartiles and maximum, to 0.01; None of no values."""
    if not len(values):
        return None
    low, q1, median, q3, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).round(2).tolist()
    return {"min": low, "q1": q1, "median": median, "q3": q3, "max": high}
