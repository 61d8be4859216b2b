"""The model card of an exported detector: what its file says about itself, as JSON in the file's metadata."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.names import class_name

__all__ = ["CARD_KEY", "CardError", "ModelCard"]

#: Key of the card in an ONNX file's metadata.
CARD_KEY = "fdam_rotate.card"

FORMAT_VERSION = 1

#: Larger numbers in a card are taken as damage, before anything of that size is allocated.
_MOST_PIXELS, _MOST_BOXES, _MOST_CLASSES, _MOST_BATCH = 1 << 13, 1 << 20, 10_000, 4096


class CardError(DotaError):
    """A model file whose card is missing, damaged or of another format."""


@dataclass(frozen=True)
class ModelCard:
    """What a detector's file says about itself.

    Attributes:
        classes: names of the labels, in their order.
        height: of its images, in pixels.
        width: of its images, in pixels.
        batch: images that it takes at a time.
        max_boxes: candidates that it gives for an image, before suppression.
        score_thr: candidates scored at or below are dropped.
        iou_thr: of the suppression within an image: a box goes where it overlaps a better one by more.
        max_per_image: boxes that stay after suppression, at most.
        gap: overlap of neighbouring windows that it was meant for, in pixels.
        detector: its kind, as MMRotate names it.
        config: name of the config.
        precision: 'float32', 'float16' or 'int8'.
        checkpoint_sha256: of the file whose weights these are; None where they are random.
        trained_on: the data it was trained on, in words.
        licence: of these data, in words.
        gsd: ground sampling distance that it was trained at, in metres per pixel.
        versions: of the packages that made the file.
    """

    classes: tuple[str, ...]
    height: int
    width: int
    batch: int
    max_boxes: int
    score_thr: float
    iou_thr: float
    max_per_image: int
    gap: int
    detector: str
    config: str
    precision: str = "float32"
    checkpoint_sha256: str | None = None
    trained_on: str | None = None
    licence: str | None = None
    gsd: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise CardError(f"model card: {problem}")

    def to_json(self) -> str:
        """The card as JSON, keys in order."""
        values = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(values, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read and check a card.

        Raises:
            CardError: it is damaged, of another format version, or says what cannot be.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CardError(f"model card: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise CardError("model card: a JSON object is expected")
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise CardError(
                f"model card: format version {version!r}; this release reads {FORMAT_VERSION}: export the model again"
            )
        fields = dataclasses.fields(cls)
        needed = {one.name for one in fields if one.default is one.default_factory is dataclasses.MISSING}
        missing = sorted(needed - values.keys())
        if missing:
            raise CardError(f"model card: {', '.join(missing)} missing")
        known = {name: values[name] for name in (one.name for one in fields) if name in values}
        if isinstance(known["classes"], list):
            known["classes"] = tuple(known["classes"])
        return cls(**known)

    def _problem(self) -> str | None:
        """The first thing that cannot be, in words."""
        classes = self.classes
        if not isinstance(classes, tuple) or not all(isinstance(name, str) and name for name in classes):
            return "classes must be names"
        if not 1 <= len(classes) <= _MOST_CLASSES or len(set(classes)) < len(classes):
            return f"expected 1 to {_MOST_CLASSES:,} different classes, got {len(classes):,}"
        for name in classes:
            try:
                plain = class_name(name)
            except DotaError as error:
                return str(error)
            if plain != name:
                return f"class {name!r} is not in Unicode's form NFC"
        for name, least, most in (
            ("height", 1, _MOST_PIXELS),
            ("width", 1, _MOST_PIXELS),
            ("batch", 1, _MOST_BATCH),
            ("max_boxes", 1, _MOST_BOXES),
            ("max_per_image", 1, _MOST_BOXES),
            ("gap", 0, _MOST_PIXELS),
        ):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                return f"{name} must be a whole number from {least} to {most:,}, got {value!r}"
        for name in ("score_thr", "iou_thr"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                return f"{name} must lie in [0, 1], got {value!r}"
        for name in ("detector", "config"):
            if not isinstance(getattr(self, name), str):
                return f"{name} must be text, got {getattr(self, name)!r}"
        if self.precision not in ("float32", "float16", "int8"):
            return f"precision must be float32, float16 or int8, got {self.precision!r}"
        for name in ("checkpoint_sha256", "trained_on", "licence"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), str):
                return f"{name} must be text, got {getattr(self, name)!r}"
        gsd = self.gsd
        if gsd is not None and not (isinstance(gsd, (int, float)) and math.isfinite(gsd) and gsd > 0):
            return f"gsd must be a positive number of metres per pixel, got {gsd!r}"
        if not isinstance(self.versions, Mapping):
            return f"versions must be a table, got {self.versions!r}"
        return None
