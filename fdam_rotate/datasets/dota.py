"""Patches of DOTA-like images as an MMRotate data set, scored on whole images.

Differences from MMRotate 0.3.4's ``DOTADataset``: files are read in sorted order and with any image extension; a bad
label is an error that names file and line, instead of being dropped; patches without objects are scored in test mode;
``evaluate`` merges the patches and scores whole images as the DOTA server does, where their labels are given.
"""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmcv.utils import print_log
from mmdet.datasets import CustomDataset
from mmrotate.core import poly2obb_np
from mmrotate.datasets.builder import ROTATED_DATASETS

from fdam_rotate.datasets.views import check_views
from fdam_rotate.dota.classes import DOTA_CLASSES, PALETTE, resolve_classes
from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import DotaError, ScoreError
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.labels import Labels, read_label_dir, read_labels
from fdam_rotate.dota.layout import image_files, label_files
from fdam_rotate.dota.manifest import MANIFEST_NAME, read_manifest
from fdam_rotate.dota.merging.merge import merge_patches
from fdam_rotate.dota.merging.options import MergeOptions
from fdam_rotate.dota.names import MAX_PATCH_ID_BYTES, id_problem
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.report import format_notes, format_table
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.windows import place_by_name
from fdam_rotate.dota.words import counted

__all__ = ["DOTAPatchDataset"]

#: Pipeline steps that turn boxes, and so must know the angle's definition.
TURNING_STEPS = ("RRandomFlip", "PolyRandomRotate", "RMosaic")


@ROTATED_DATASETS.register_module()
class DOTAPatchDataset(CustomDataset):
    """Patches in ``images/`` with DOTA labels in ``annfiles/``, as ``data_prep/split.py`` writes them.

    Args:
        ann_file: folder of label files; a folder of images (or without labels) gives a test set without objects.
        pipeline: MMDetection pipeline; steps that turn boxes get ``version`` where they state none.
        version: angle definition of the boxes: ``'le90'``, ``'le135'`` or ``'oc'``.
        difficulty: objects whose difficulty exceeds this are not trained on (DOTA: 1 difficult; patches: 2
            truncated), and neutral where patches are scored. The default keeps all, as MMRotate does.
        gt_dir: labelTxt folder of the whole images; ``evaluate`` then scores merged whole images, else patches; images
            that were never split are whole, and need none.
        manifest: the splitter's manifest; by default ``manifest.json`` beside ``ann_file``, else by names.
        bands: of images that are rasters, as ``--bands`` of the commands (docs/rasters.md).
        scale_range: of images of more than 8 bits, as ``--scale-range``; give what ``predict`` will be given.
        classes: ``'v1.0'``, ``'v1.5'``, ``'v2.0'``, a ``.txt`` file, or names; ``'ship'`` is one class.
        **kwargs: MMDetection's ``CustomDataset`` settings (``img_prefix``, ``test_mode``, ``filter_empty_gt``...);
            relative ``ann_file`` and ``img_prefix`` lie under ``data_root``, ``gt_dir`` and ``manifest`` do not.

    Raises:
        FileNotFoundError: a folder or an image is missing.
        DotaError: no patch at all, labels that cannot be read, each with file and line, or impossible bands.
    """

    CLASSES = DOTA_CLASSES["v1.0"]
    PALETTE = PALETTE

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[dict[str, Any]],
        version: str = "le90",
        difficulty: int = 100,
        gt_dir: str | None = None,
        manifest: str | None = None,
        bands: Sequence[int] | None = None,
        scale_range: tuple[float, float] | Literal["auto"] = "auto",
        classes: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if version not in ("le90", "le135", "oc"):
            raise ValueError(f"version must be 'le90', 'le135' or 'oc', got {version!r}")
        self.version = version
        self.difficulty = difficulty
        self.gt_dir = gt_dir
        self.manifest = manifest
        self.raster = RasterOptions(bands, scale_range)
        super().__init__(ann_file, self._steps(pipeline, kwargs), classes=classes, **kwargs)

    @classmethod
    def get_classes(cls, classes: str | Sequence[str] | None = None) -> tuple[str, ...]:
        """Class names; unlike MMDetection's, a string may be a version of DOTA or one name."""
        return cls.CLASSES if classes is None else resolve_classes(classes)

    # -- reading

    def _steps(self, pipeline: Sequence[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
        """The pipeline's steps for this set: what reads rasters, turns boxes, and keeps images without objects."""
        steps = copy.deepcopy(list(pipeline))
        check_views(steps)
        for step in steps:
            if step["type"] == "LoadImageFromFile":
                step.update(type="LoadAnyImage", bands=self.raster.bands, scale_range=self.raster.scale_range)
            if step["type"] in TURNING_STEPS:
                step.setdefault("version", self.version)
            if step["type"] == "PolyRandomRotate" and not settings.get("filter_empty_gt", True):
                step.setdefault("allow_negative", True)  # else another image is taken in their place
        return steps

    def load_annotations(self, ann_folder: str) -> list[dict[str, Any]]:
        """Patch records in the order of their names; see the class for errors."""
        folder = Path(ann_folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"no such folder: {folder}; make it with data_prep/split.py, or change ann_file")
        labels = label_files(folder)
        images = image_index(Path(self.img_prefix) if self.img_prefix else folder)
        if not labels:
            if not images:
                raise DotaError(f"{folder} holds neither label files nor images: the data set is empty")
            records = [{"filename": name, "ann": self._annotation(None)} for name in images.values()]
        else:
            records = self._read_label_files(labels, images)
        self.img_ids = check_image_ids(folder, (Path(record["filename"]).stem for record in records))
        return records

    def _read_label_files(self, paths: Sequence[Path], images: dict[str, str]) -> list[dict[str, Any]]:
        missing = [path.stem for path in paths if path.stem not in images]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(paths)} label files have no image in {self.img_prefix}, "
                f"first {missing[0]}; run data_prep/split.py again or data_prep/verify.py for the list"
            )
        problems: list[Problem] = []
        too_small = 0
        records = []
        for path in paths:
            labels = read_labels(path, classes=self.CLASSES, problems=problems)
            annotation = self._annotation(labels)
            too_small += int(np.sum(labels.difficult <= self.difficulty)) - len(annotation["labels"])
            records.append({"filename": images[path.stem], "ann": annotation})
        if problems:
            shown = "\n  ".join(str(problem) for problem in problems[:20])
            more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
            raise DotaError(f"{len(problems)} label lines cannot be used:\n  {shown}{more}")
        if too_small:
            thin = counted(too_small, "object", "with a side under 2 pixels is|with a side under 2 pixels are")
            print_log(f"{self.ann_file}: {thin} not used", logger="root")
        return records

    def _annotation(self, labels: Labels | None) -> dict[str, np.ndarray]:
        rows: dict[str, list[tuple[Any, int, Any, int]]] = {"": [], "_ignore": []}
        if labels is not None:
            index = {name: i for i, name in enumerate(self.CLASSES)}
            for poly, name, difficult in zip(labels.polys, labels.names, labels.difficult.tolist(), strict=True):
                box = poly2obb_np(poly.astype(np.float32), self.version)
                if box is not None:
                    kind = "" if difficult <= self.difficulty else "_ignore"
                    rows[kind].append((box, index[name], poly, difficult))
        annotation = {}
        for kind, found in rows.items():
            annotation["bboxes" + kind] = np.array([row[0] for row in found], dtype=np.float32).reshape(-1, 5)
            annotation["labels" + kind] = np.array([row[1] for row in found], dtype=np.int64)
            annotation["polygons" + kind] = np.array([row[2] for row in found], dtype=np.float32).reshape(-1, 8)
            annotation["difficult" + kind] = np.array([row[3] for row in found], dtype=np.int64)
        return annotation

    def _filter_imgs(self) -> list[int]:
        """Indices of the patches to train on: those with objects, unless ``filter_empty_gt`` is off."""
        return [
            i for i, info in enumerate(self.data_infos) if not self.filter_empty_gt or len(info["ann"]["labels"]) > 0
        ]

    def _set_group_flag(self) -> None:
        self.flag = np.zeros(len(self), dtype=np.uint8)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Class numbers in patch ``idx`` (MMDetection's own uses ``np.int``, which NumPy dropped)."""
        return self.data_infos[idx]["ann"]["labels"].tolist()

    # -- results

    def detections(self, results: Sequence[Sequence[np.ndarray]]) -> dict[str, Detections]:
        """A detector's results as detections by class, with patch names as ids.

        Args:
            results: for each patch, for each class, (n, 6) of cx, cy, w, h (pixels), angle (radians), score.
        """
        if len(results) != len(self):
            raise ValueError(f"{len(results)} results for {len(self)} patches")
        patch_ids = tuple(Path(info["filename"]).stem for info in self.data_infos)
        found = {}
        for number, name in enumerate(self.CLASSES):
            counts = [len(result[number]) for result in results]
            rows = np.concatenate([np.zeros((0, 6)), *(np.asarray(r[number], np.float64) for r in results)])
            found[name] = Detections(
                image_ids=patch_ids,
                image=np.repeat(np.arange(len(results), dtype=np.intp), counts),
                scores=rows[:, 5],
                polys=le90_to_poly(rows[:, :5]),  # corners are the same in all three definitions of the angle
            )
        return found

    def merge(self, detections: dict[str, Detections], options: MergeOptions = MergeOptions()) -> dict[str, Detections]:
        """Patch detections in original-image pixels, after suppression; by default the DOTA protocol's, by class."""
        return merge_patches(detections, options, locate=self._locate)

    @cached_property
    def _locate(self) -> Callable[[str], Any]:
        """(image id, x, y, scale, ...) of a patch: from the manifest if there is one, else by the patch's name."""
        path = Path(self.manifest) if self.manifest else Path(self.ann_file).parent / MANIFEST_NAME
        return read_manifest(path).locate if self.manifest or path.is_file() else place_by_name

    def truths(self) -> tuple[dict[str, Labels], bool]:
        """What to score against, by image id, and whether these are whole images or patches of them.

        Raises:
            ScoreError: there is no object, or a tested image has no label file.
            DotaError: neither manifest nor name says of which image a patch is.
        """
        folder = self.whole_labels()
        if folder is not None:
            wanted = sorted({self._locate(patch)[0] for patch in self.img_ids})
            absent = [image for image in wanted if not (folder / f"{image}.txt").is_file()]
            if absent:
                raise ScoreError(f"{len(absent)} tested images have no labels in {folder}, first {absent[0]}")
            truths = read_label_dir(str(folder), classes=self.CLASSES, image_ids=wanted)
        else:
            truths = {Path(info["filename"]).stem: _labels_of(info["ann"], self.CLASSES) for info in self.data_infos}
        if not any(len(labels.names) for labels in truths.values()):
            raise ScoreError(
                f"no labelled object in {folder or self.ann_file}: nothing to score against; "
                "give labels, or for a test set --format-only instead of --eval"
            )
        return truths, folder is not None

    def whole_labels(self) -> Path | None:
        """The folder of labels of whole images: ``gt_dir``, or that of the data set itself if none of it was split."""
        if self.gt_dir is not None and Path(self.gt_dir).is_dir():
            return Path(self.gt_dir)
        if self._locate is not place_by_name:
            return None  # they were split: there is a manifest
        own = Path(self.ann_file)
        whole = all(place_by_name(one)[0] == one and (own / f"{one}.txt").is_file() for one in self.img_ids)
        return own if whole else None

    def score(
        self,
        detections: dict[str, Detections],
        *,
        iou_thr: float | Sequence[float] = 0.5,
        ap: str = "voc07",
        merge: MergeOptions = MergeOptions(),
    ) -> tuple[EvalResult, bool]:
        """Score patch detections; returns the result and whether whole images were scored (else patches).

        Args:
            detections: by class, with patch names as ids.
            iou_thr: IoU threshold or thresholds of a match.
            ap: ``'voc07'`` (the DOTA server's 11 points) or ``'voc12'`` (continuous).
            merge: how patches become whole images.

        Raises:
            ScoreError: there is nothing to score against.
        """
        truths, whole = self.truths()
        thresholds = (iou_thr,) if isinstance(iou_thr, (int, float)) else tuple(iou_thr)
        found = self.merge(detections, merge) if whole else detections
        return evaluate(found, truths, self.CLASSES, iou_thrs=thresholds, metric=ap), whole

    def evaluate(
        self,
        results: Sequence[Sequence[np.ndarray]],
        metric: str | Sequence[str] = "mAP",
        logger: logging.Logger | str | None = None,
        iou_thr: float | Sequence[float] = 0.5,
        ap: str = "voc07",
    ) -> dict[str, float]:
        """MMDetection's hook: ``{'mAP': ...}`` on merged whole images, or ``{'patch_mAP': ...}`` on patches."""
        if metric not in ("mAP", ["mAP"]):
            raise ValueError(f"metric must be 'mAP', got {metric!r}")
        result, whole = self.score(self.detections(results), iou_thr=iou_thr, ap=ap)
        what = "merged whole images" if whole else f"PATCHES, not whole images (no gt_dir: {self.gt_dir})"
        print_log("\n".join([f"scored on {what}", format_table(result), *format_notes(result)]), logger=logger)
        return OrderedDict({"mAP" if whole else "patch_mAP": float(result.map)})


def check_image_ids(folder: str | Path, image_ids: Iterable[str]) -> list[str]:
    """The ids of a data set's images.

    Raises:
        DotaError: one cannot be the id of an image or patch; the message says why, and how many others.
    """
    ids = list(image_ids)
    bad = [one for one in ids if id_problem(one, MAX_PATCH_ID_BYTES) is not None]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DotaError(
            f"{folder}: the image id {bad[0]!r} {id_problem(bad[0], MAX_PATCH_ID_BYTES)}; rename the file{more}"
        )
    return ids


def image_index(folder: Path) -> dict[str, str]:
    """File name by stem, sorted; of two files with one stem the first in order counts."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of images: {folder}; change img_prefix")
    index: dict[str, str] = {}
    for path in image_files(folder):
        index.setdefault(path.stem, path.name)
    return index


def _labels_of(annotation: dict[str, np.ndarray], classes: Sequence[str]) -> Labels:
    """Patch annotations as labels, to score patches; difficult, truncated (2) and ignored objects are neutral there."""

    def column(name: str) -> np.ndarray:
        return np.concatenate([annotation[name], annotation[f"{name}_ignore"]])

    return Labels(
        polys=column("polygons").astype(np.float64),
        names=tuple(classes[i] for i in column("labels")),
        difficult=column("difficult"),
    )
