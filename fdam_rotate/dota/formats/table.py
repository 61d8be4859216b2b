"""The formats of labels that we read and write, by name; each is one module with ``read`` and ``write``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdam_rotate.dota.formats.interchange import DataPart, Reading, Writing

__all__ = ["FORMATS", "LabelFormat"]


@dataclass(frozen=True)
class LabelFormat:
    """One format.

    Attributes:
        name: as the user gives it.
        module: of this package, with ``read`` and ``write``; loaded when it is used, since NumPy and OpenCV take time.
        what: for help texts.
        scores: the format has a place for the scores of detections.
    """

    name: str
    module: str
    what: str
    scores: bool = False

    def read(self, source: Path, reading: Reading) -> list[DataPart]:
        """The parts of a data set; see the module."""
        parts: list[DataPart] = self._module().read(source, reading)
        return parts

    def write(self, parts: Sequence[DataPart], folder: Path, writing: Writing) -> None:
        """Write a data set into an empty folder; see the module."""
        self._module().write(parts, folder, writing)

    def _module(self) -> Any:
        return import_module(f"fdam_rotate.dota.formats.{self.module}")


#: Name -> format.
FORMATS: dict[str, LabelFormat] = {
    one.name: one
    for one in (
        LabelFormat("dota", "dota", "DOTA's text, images/ with labelTxt/ or annfiles/"),
        LabelFormat("yolo-obb", "yolo", "YOLO-OBB of Ultralytics, Roboflow, CVAT or Label Studio"),
        LabelFormat("coco", "coco", "COCO JSON, CVAT's with rotation too", scores=True),
        LabelFormat("cvat", "cvat", "CVAT for images 1.1 (XML)"),
        LabelFormat("labelme", "labelme", "labelme JSON", scores=True),
        LabelFormat("x-anylabeling", "x_anylabeling", "X-AnyLabeling JSON", scores=True),
        LabelFormat("rolabelimg", "rolabelimg", "roLabelImg XML"),
        LabelFormat("label-studio", "label_studio", "Label Studio JSON", scores=True),
    )
}
