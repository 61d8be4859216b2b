"""The worst examples of each cause, so that one can look at them: written to JSON by scoring, drawn by tools/show.py.

Of false positives those of the highest score come first; of missed objects those that were lost in merging with the
highest score, then the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.geometry import polygon_area
from fdam_rotate.dota.jsontext import RECORD_ERRORS, read_json
from fdam_rotate.dota.scoring.causes import CAUSES, Mistakes
from fdam_rotate.dota.scoring.scores import EvalResult

__all__ = ["Example", "examples_to_json", "read_examples", "worst_examples"]


@dataclass(frozen=True)
class Example:
    """One mistake: a false positive with the object that it points to, if any, or a missed object alone.

    Attributes:
        cause: one of :data:`~fdam_rotate.dota.scoring.causes.CAUSES`.
        image_id: the image.
        found: class of the false positive; None of a missed object.
        score: of the false positive, or of what merging lost; None where there is neither.
        poly: its corners, eight numbers in pixels; None of a missed object.
        meant: class of the object; None where the false positive points to none.
        truth: the object's corners; None likewise.
    """

    cause: str
    image_id: str
    found: str | None
    score: float | None
    poly: tuple[float, ...] | None
    meant: str | None
    truth: tuple[float, ...] | None


def worst_examples(result: EvalResult, mistakes: Mistakes, *, limit: int = 12) -> list[Example]:
    """The worst examples, at most ``limit`` of false positives and as many of missed objects a cause."""
    per_class = list(result.per_class.values())
    det_image = np.concatenate([r.image for r in per_class])
    scores = np.concatenate([r.scores for r in per_class])
    polys = np.concatenate([r.polys for r in per_class])
    obj_image = np.concatenate([r.truth_image for r in per_class])
    obj_polys = np.concatenate([r.truth_polys for r in per_class])
    area = polygon_area(obj_polys)

    def meant(j: int) -> tuple[str, tuple[float, ...]]:
        return result.classes[mistakes.obj_cls[j]], tuple(obj_polys[j].tolist())

    examples = []
    # objects that a false positive of the same cause points to are shown with it
    shown = np.zeros(len(obj_image), dtype=np.bool_)
    pointed = mistakes.det_object >= 0
    for number, cause in enumerate(CAUSES):
        rows = np.flatnonzero(mistakes.det_cause == number)
        shown[:] = False
        shown[mistakes.det_object[rows[pointed[rows]]]] = True
        for k in rows[np.argsort(-scores[rows], kind="stable")][:limit]:
            name, truth = meant(mistakes.det_object[k]) if pointed[k] else (None, None)
            found = result.classes[mistakes.det_cls[k]]
            poly = tuple(polys[k].tolist())
            examples.append(Example(cause, result.images[det_image[k]], found, float(scores[k]), poly, name, truth))
        alone = np.flatnonzero((mistakes.obj_cause == number) & ~shown)
        lost = np.nan_to_num(mistakes.lost_score[alone], nan=0.0)
        for j in alone[np.lexsort((-area[alone], -lost))][:limit]:
            score = float(mistakes.lost_score[j])
            name, truth = meant(j)
            examples.append(
                Example(cause, result.images[obj_image[j]], None, None if np.isnan(score) else score, None, name, truth)
            )
    return examples


def examples_to_json(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Plain records, which `read_examples` reads back."""
    return [
        {
            "cause": one.cause,
            "image": one.image_id,
            "found": one.found,
            "score": one.score,
            "poly": one.poly,
            "meant": one.meant,
            "truth": one.truth,
        }
        for one in examples
    ]


def read_examples(path: str | Path) -> list[Example]:
    """The examples in the JSON that ``tools/evaluate.py --causes --json`` wrote.

    Raises:
        DotaError: the file holds none, or they are malformed.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    try:
        records = read_json(path, DotaError)["causes"]["examples"]
        return [_example(record) for record in records]
    except RECORD_ERRORS as error:
        raise DotaError(
            f"{path}: no examples of causes ({error!r}); tools/evaluate.py --causes --json writes them"
        ) from None


def _example(record: Mapping[str, Any]) -> Example:
    poly, truth = (None if record[key] is None else tuple(map(float, record[key])) for key in ("poly", "truth"))
    for corners in (poly, truth):
        if corners is not None and (len(corners) != 8 or not np.isfinite(corners).all()):
            raise ValueError(f"{corners} are not eight numbers")
    if poly is None and truth is None:
        raise ValueError("neither a detection nor an object")
    for name in (record["found"], record["meant"]):
        if not isinstance(name, (str, type(None))):
            raise ValueError(f"{name!r} is no class")
    if record["cause"] not in CAUSES:
        raise ValueError(f"unknown cause {record['cause']!r}")
    score = None if record["score"] is None else float(record["score"])
    return Example(record["cause"], str(record["image"]), record["found"], score, poly, record["meant"], truth)
