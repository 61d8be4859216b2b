"""How patch detections become detections of whole images: the choices of a merge, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fdam_rotate.dota.errors import DotaError

__all__ = ["FUSIONS", "NMS_KINDS", "MergeOptions"]

#: obb: by the IoU of the quadrangles; hbb: by that of their upright bounds; none: keep every box.
NMS_KINDS = ("obb", "hbb", "none")

#: How several inputs become one: suppression over all of them together, or weighted box fusion after each one's own.
FUSIONS = ("nms", "wbf")


@dataclass(frozen=True)
class MergeOptions:
    """The choices of a merge.

    Attributes:
        iou_thr: in [0, 1]; a kept box suppresses those of its image and class whose IoU with it is above this.
        nms: one of `NMS_KINDS`.
        nms_agnostic: boxes of an image suppress each other whatever their classes are; of equal scores, the class that
            comes first wins.
        score_thr: detections scored below this are left out at the start.
        max_per_image: at most so many detections of an image are kept, over all classes together, the best first; None
            keeps all.
        weights: one positive number for each input, by which its scores are multiplied after division by the largest;
            None: all are equal.
        fuse: one of `FUSIONS`; see `fdam_rotate.dota.merging.fusion` for ``'wbf'``, which fuses within each class;
            with ``nms_agnostic`` the fused boxes are then suppressed across classes.
        fuse_iou_thr: in [0, 1]; ``'wbf'`` joins boxes whose IoU is above this.

    Raises:
        DotaError: a value is not one of these.
    """

    iou_thr: float = 0.1
    nms: str = "obb"
    nms_agnostic: bool = False
    score_thr: float = 0.0
    max_per_image: int | None = None
    weights: tuple[float, ...] | None = None
    fuse: str = "nms"
    fuse_iou_thr: float = 0.55

    def __post_init__(self) -> None:
        for name in ("iou_thr", "fuse_iou_thr"):
            if not 0 <= getattr(self, name) <= 1:
                raise DotaError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if math.isnan(self.score_thr):
            raise DotaError("score_thr must be a number, got nan")
        if self.nms not in NMS_KINDS:
            raise DotaError(f"nms must be one of {', '.join(NMS_KINDS)}; got {self.nms!r}")
        if self.nms == "none" and self.nms_agnostic:
            raise DotaError("nms none keeps every box, so nms_agnostic has nothing to do; leave one of them out")
        if self.fuse not in FUSIONS:
            raise DotaError(f"fuse must be one of {', '.join(FUSIONS)}; got {self.fuse!r}")
        if self.max_per_image is not None and self.max_per_image < 1:
            raise DotaError(f"max_per_image must be at least 1, got {self.max_per_image}")
        if self.weights is not None:
            object.__setattr__(self, "weights", tuple(map(float, self.weights)))
            if not all(math.isfinite(weight) and weight > 0 for weight in self.weights):
                raise DotaError(f"weights must be positive, got {list(self.weights)}")

    def shares(self, count: int) -> list[float]:
        """The weights of ``count`` inputs over the largest of them.

        Raises:
            DotaError: there are weights, but not one for each input.
        """
        if self.weights is None:
            return [1.0] * count
        if len(self.weights) != count:
            raise DotaError(f"expected {count} weights, one for each input; got {len(self.weights)}")
        return [weight / max(self.weights) for weight in self.weights]
