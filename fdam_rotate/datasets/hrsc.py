"""HRSC2016 as an MMRotate data set: ships on whole images, scored and written like DOTA's.

Differences from MMRotate 0.3.4's ``HRSCDataset``: annotations are found where ``ann_dir`` says (MMRotate joins it to
``img_prefix``, so that its own config finds none); ``mAP`` is the published AP at IoU 0.5, not the mean over 0.5 to
0.95; any image extension; ``tools/test.py`` tests it. As there, ``difficult`` is not read: every ship counts.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmrotate.datasets.builder import ROTATED_DATASETS

from fdam_rotate.datasets.dota import DOTAPatchDataset, check_image_ids, image_index
from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import DotaError, LabelFormatError
from fdam_rotate.dota.geometry import le90_to_poly
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.merging.options import MergeOptions

__all__ = ["HRSC2016Dataset", "read_hrsc_labels"]

_BOX = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")


@ROTATED_DATASETS.register_module()
class HRSC2016Dataset(DOTAPatchDataset):
    """HRSC2016, all ships as one class.

    ====================================  ========================================
    ``ImageSets/train.txt``               ``ann_file``, with one image name per line
    ``FullDataSet/Annotations/NAME.xml``  in ``ann_dir``
    ``FullDataSet/AllImages/NAME.bmp``    in ``img_prefix``
    ====================================  ========================================

    Args:
        ann_file: list of image names, without extension.
        pipeline: MMDetection pipeline; steps that turn boxes get ``version`` where they state none.
        ann_dir: folder of the XML files.
        data_root: folder under which relative ``ann_file``, ``ann_dir`` and ``img_prefix`` lie.
        version: angle definition of the boxes: ``'le90'``, ``'le135'`` or ``'oc'``.
        **kwargs: MMDetection's ``CustomDataset`` settings (``img_prefix``, ``test_mode``, ``filter_empty_gt``...).

    Raises:
        FileNotFoundError: the list, an annotation or an image is missing.
        DotaError: an annotation that cannot be read, or an empty list.
    """

    CLASSES = ("ship",)

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[dict[str, Any]],
        ann_dir: str,
        version: str = "le90",
        data_root: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.ann_dir = str(Path(data_root or "") / ann_dir)
        super().__init__(ann_file, pipeline, version=version, data_root=data_root, **kwargs)

    def load_annotations(self, ann_file: str) -> list[dict[str, Any]]:
        """Image records in the order of the list; see the class for errors."""
        if not Path(ann_file).is_file():
            raise FileNotFoundError(f"no such list of images: {ann_file}; it is a file of HRSC2016's ImageSets")
        self.img_ids = check_image_ids(ann_file, Path(ann_file).read_text(encoding="utf-8").split())
        if not self.img_ids:
            raise DotaError(f"{ann_file} names no image: the data set is empty")
        images = image_index(Path(self.img_prefix))
        for kind, folder, found in (
            ("annotation", Path(self.ann_dir), {path.stem for path in Path(self.ann_dir).glob("*.xml")}),
            ("image", self.img_prefix, images),
        ):
            absent = [name for name in self.img_ids if name not in found]
            if absent:
                raise FileNotFoundError(
                    f"{len(absent)} of {len(self.img_ids)} names in {ann_file} have no {kind} in {folder}, first "
                    f"{absent[0]}"
                )
        return [
            {
                "filename": images[name],
                "ann": self._annotation(read_hrsc_labels(Path(self.ann_dir) / f"{name}.xml")),
            }
            for name in self.img_ids
        ]

    def merge(self, detections: dict[str, Detections], options: MergeOptions = MergeOptions()) -> dict[str, Detections]:
        """The detections as they are: images are not cut into patches, and there is one class."""
        return detections

    def truths(self) -> tuple[dict[str, Labels], bool]:
        """What to score against, by image name, and that these are whole images; see the base class for errors."""
        return super().truths()[0], True


def read_hrsc_labels(path: Path) -> Labels:
    """The ships of one HRSC2016 annotation.

    Each ``HRSC_Objects/HRSC_Object`` holds ``mbox_cx``, ``mbox_cy``, ``mbox_w``, ``mbox_h`` in pixels and ``mbox_ang``
    in radians, clockwise as seen in the image.

    Raises:
        LabelFormatError: the file is no XML, or an object lacks one of these.
    """
    try:
        objects = ElementTree.parse(path).getroot().findall("HRSC_Objects/HRSC_Object")
    except ElementTree.ParseError as error:
        raise LabelFormatError(f"{path} is no XML: {error}") from None
    boxes = []
    for number, ship in enumerate(objects, start=1):
        try:
            boxes.append([float(ship.findtext(name, "")) for name in _BOX])
        except ValueError:
            raise LabelFormatError(f"{path}: ship {number} lacks a number for one of {', '.join(_BOX)}") from None
    count = len(boxes)
    return Labels(le90_to_poly(boxes), ("ship",) * count, np.zeros(count, np.int64))
