"""The ways in which oriented boxes are written as five numbers, each by the name of who writes it so.

Five numbers mean nothing without a convention: degrees or radians, clockwise or not, from the centre or from a corner,
any sides or the longer first. So it is named, and what can be checked on the data is checked: the range of the angles,
which side comes first, and, where the same record also holds its corners, that both are the same box. Sources:

* ``le90``, ``le135``, ``oc``: MMRotate 0.3.4, docs/en/intro.md (radians, clockwise on the screen);
* ``ultralytics``: ``ultralytics/utils/ops.py`` ``xywhr2xyxyxyxy`` (radians, clockwise) and the OBB head, whose angles
  lie in [-pi/4, 3 pi/4];
* ``opencv``: ``cv2.minAreaRect`` (degrees, clockwise); (0, 90] since 4.5.1, [-90, 0) before;
* ``detectron2``: ``detectron2/structures/rotated_boxes.py`` (degrees, counter-clockwise);
* ``odtk``: NVIDIA retinanet-examples, TRAINING.md (upper left corner before turning; radians, counter-clockwise).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdam_rotate.dota.errors import DetectionFormatError
from fdam_rotate.dota.geometry import le90_to_poly, pairwise_iou, poly_to_le90

__all__ = ["CONVENTIONS", "AngleConvention", "boxes_to_polys", "check_convention", "fitting_conventions"]

#: Rounded numbers may pass a bound by this share of a turn, or of the longer side.
_SLACK = 0.003

#: Least IoU of five numbers with the corners of the same record: 0.001 rad of rounding costs a box of 20:1 two percent.
_AGREEMENT = 0.9

#: Boxes thinner than this (pixels) are not compared: the rounding of their numbers decides what they share.
_THINNEST = 0.1

#: From this many turned boxes on, degrees that all lie within +-3.15 are taken for radians.
_MANY = 20


@dataclass(frozen=True)
class AngleConvention:
    """How five numbers describe a box.

    Attributes:
        name: as the user gives it.
        degrees: the unit of the angle; False for radians.
        clockwise: the way of turning, as seen on the screen (x right, y down).
        low: least angle, in its unit.
        high: greatest angle.
        long_first: the first side is the longer one.
        corner: the first two numbers are the upper left corner before turning, not the centre.
    """

    name: str
    degrees: bool
    clockwise: bool
    low: float
    high: float
    long_first: bool = False
    corner: bool = False

    def __str__(self) -> str:
        unit = "degrees" if self.degrees else "radians"
        way = "clockwise" if self.clockwise else "counter-clockwise"
        sides = ", longer side first" if self.long_first else ""
        place = "upper left corner" if self.corner else "centre"
        return f"{self.name} ({place}, {unit}, {way}, {self.low:.4g} to {self.high:.4g}{sides})"


#: Name -> convention.
CONVENTIONS: dict[str, AngleConvention] = {
    one.name: one
    for one in (
        AngleConvention("le90", False, True, -math.pi / 2, math.pi / 2, long_first=True),
        AngleConvention("le135", False, True, -math.pi / 4, 3 * math.pi / 4, long_first=True),
        AngleConvention("oc", False, True, 0, math.pi / 2),
        AngleConvention("ultralytics", False, True, -math.pi / 4, 3 * math.pi / 4),
        AngleConvention("opencv", True, True, -90, 90),
        AngleConvention("detectron2", True, False, -360, 360),
        AngleConvention("odtk", False, False, -math.pi, math.pi, corner=True),
    )
}


def boxes_to_polys(boxes: ArrayLike, convention: AngleConvention) -> NDArray[np.float64]:
    """Corners (N, 8) of boxes (N, 5) in ``convention``."""
    boxes = np.array(boxes, np.float64).reshape(-1, 5)
    angle = np.radians(boxes[:, 4]) if convention.degrees else boxes[:, 4]
    boxes[:, 4] = angle if convention.clockwise else -angle
    if convention.corner:
        boxes[:, :2] += boxes[:, 2:4] / 2
    return le90_to_poly(boxes)


def check_convention(
    boxes: ArrayLike,
    convention: AngleConvention,
    source: str,
    polys: ArrayLike | None = None,
    numbers: Sequence[int] | None = None,
) -> None:
    """Refuse boxes that cannot be meant in ``convention``.

    Args:
        boxes: (N, 5), as they stand in the file.
        convention: in which they are said to be.
        source: the file, for the message.
        polys: (N, 8) corners of the same records, NaN where a record has none.
        numbers: (N,) the number of each record in the file, for the message; 0, 1, ... if None.

    Raises:
        DetectionFormatError: a number is out of the convention's range, or five numbers and corners are other boxes.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 5)
    found = _contradiction(boxes, convention, None if polys is None else np.asarray(polys, np.float64))
    if found is None:
        return
    row, reason = found
    record = row if numbers is None else numbers[row]
    others = [name for name in fitting_conventions(boxes, polys) if name != convention.name]
    hint = f"; what fits all boxes of the file: {', '.join(others)}" if others else "; no known convention fits"
    shown = ", ".join(f"{value:g}" for value in boxes[row])
    raise DetectionFormatError(f"{source}: record {record}: [{shown}] is not {convention}: {reason}{hint}")


def fitting_conventions(boxes: ArrayLike, polys: ArrayLike | None = None) -> list[str]:
    """The names of all conventions that the boxes (N, 5), and corners (N, 8) where known, do not contradict."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 5)
    corners = None if polys is None else np.asarray(polys, np.float64)
    return [name for name, one in CONVENTIONS.items() if _contradiction(boxes, one, corners) is None]


def _contradiction(
    boxes: NDArray[np.float64], convention: AngleConvention, polys: NDArray[np.float64] | None
) -> tuple[int, str] | None:
    """The first row that is not in ``convention``, and why."""
    angle = boxes[:, 4]
    slack = _SLACK * (360 if convention.degrees else 2 * math.pi)
    beyond = (angle < convention.low - slack) | (angle > convention.high + slack)
    if beyond.any():
        return int(beyond.argmax()), f"the angle {angle[beyond.argmax()]:g} is out of range"
    if convention.long_first:
        swapped = boxes[:, 2] < boxes[:, 3] * (1 - _SLACK) - _SLACK
        if swapped.any():
            return int(swapped.argmax()), "the first side is the shorter one"
    turned = np.abs(angle) > 1e-6
    if convention.degrees and turned.sum() >= _MANY and np.abs(angle).max() < 3.15:
        return int(turned.argmax()), f"all of {int(turned.sum())} angles lie within 3.15: they look like radians"
    if polys is not None:
        known = np.flatnonzero(np.isfinite(polys).all(axis=1))
        thick = np.maximum(boxes[known, 2:4].min(axis=1), poly_to_le90(polys[known])[:, 3]) >= _THINNEST
        known = known[thick]
        iou = pairwise_iou(boxes_to_polys(boxes[known], convention), polys[known])
        if (iou < _AGREEMENT).any():
            worst = int((iou < _AGREEMENT).argmax())
            return int(known[worst]), f"the record's own corners are another box (IoU {iou[worst]:.2f})"
    return None
