"""What is kept of a finished run: one JSON file, from which the report is made, here or on another machine.

A record holds the config, the seed, the versions, the loss curve, the scores, the cost, and the verdict on every
detection at every IoU threshold, which is all that resampling of images needs. Weights and detections are not in it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.jsontext import read_json
from fdam_rotate.dota.scoring.bootstrap import ClassRecords, MatchRecords, match_records
from fdam_rotate.dota.scoring.scores import EvalResult

__all__ = ["IOU_THRS", "PROTOCOL", "Record", "Verdicts", "read_record", "read_records", "write_record"]

#: AP50:95's thresholds; AP50 is the first and AP75 the sixth.
IOU_THRS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
FORMAT = 1
#: Changes whenever the same settings and seed would train another network. 1: images were drawn by a rule of the
#: comparison's own; 2: by `fdam_rotate.apis.loading`.
PROTOCOL = 2


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on the detections of a run: G source images, for each class N detections, T thresholds.

    Attributes:
        metric: how precision and recall become AP.
        iou_thrs: the T thresholds.
        images: names of the source images, sorted.
        per_class: for each class the source image (N,) of each detection in order of falling score, the outcome (T, N)
            (1 true positive, -1 false positive, 0 neutral) and the objects that count in each source image (G,).
    """

    metric: str
    iou_thrs: tuple[float, ...]
    images: tuple[str, ...]
    per_class: dict[str, tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]]

    @classmethod
    def of(cls, result: EvalResult) -> Verdicts:
        """Those of a scored run, whose detections are of whole images."""
        at = [match_records(result, t) for t in range(len(result.iou_thrs))]
        per_class = {
            name: (
                first.group.astype(np.int64),
                np.stack([records.per_class[name].outcome for records in at]),
                first.npos,
            )
            for name, first in at[0].per_class.items()
        }
        return cls(result.metric, result.iou_thrs, at[0].groups, per_class)

    def at(self, thresholds: Sequence[float]) -> MatchRecords:
        """As the bootstrap takes them: each class once per threshold, so that the mean is over both."""
        chosen = [self.iou_thrs.index(thr) for thr in thresholds]
        return MatchRecords(
            self.images,
            self.metric,
            {
                name if len(chosen) == 1 else f"{name} at {self.iou_thrs[t]:.2f}": ClassRecords(
                    group.astype(np.intp), outcome[t], npos
                )
                for name, (group, outcome, npos) in self.per_class.items()
                for t in chosen
            },
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; arrays are compressed text."""
        return {
            "metric": self.metric,
            "iou_thrs": list(self.iou_thrs),
            "images": list(self.images),
            "classes": {
                name: {"image": _pack(group, "<u4"), "outcome": _pack(outcome, "<i1"), "objects": npos.tolist()}
                for name, (group, outcome, npos) in self.per_class.items()
            },
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Verdicts:
        """What `to_json` made."""
        thrs = tuple(values["iou_thrs"])
        per_class = {
            name: (
                _unpack(item["image"], "<u4").astype(np.int64),
                _unpack(item["outcome"], "<i1").astype(np.int8).reshape(len(thrs), -1),
                np.array(item["objects"], np.int64),
            )
            for name, item in values["classes"].items()
        }
        return cls(values["metric"], thrs, tuple(values["images"]), per_class)


@dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        name: of the config.
        seed: of the run.
        settings: SHA-256 of all settings that decide the result; see `fdam_rotate.apis.compare.plan`.
        config_text: the config, resolved.
        data: SHA-256 of the training and the validation set, and their numbers of images or patches.
        machine: device, number of threads, versions.
        training: steps, loss curve, seconds per step.
        cost: parameters, multiply-adds, seconds per window.
        scores: AP50, AP75, AP50:95, and AP50 by class.
        verdicts: see `Verdicts`.
        protocol: see `PROTOCOL`; records that do not say it are of the first.
    """

    name: str
    seed: int
    settings: str
    config_text: str
    data: dict[str, Any]
    machine: dict[str, Any]
    training: dict[str, Any]
    cost: dict[str, Any]
    scores: dict[str, Any]
    verdicts: Verdicts = field(repr=False)
    protocol: int = 1


def write_record(path: Path, record: Record) -> None:
    """Write ``record`` to ``path``, whole or not at all."""
    values = {**{key: value for key, value in asdict(record).items() if key != "verdicts"}}
    content = {"format": FORMAT, **values, "verdicts": record.verdicts.to_json()}
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        DotaError: it is no record, or one of another format.
    """
    try:
        values = read_json(path)
        same = values.pop("format") == FORMAT
        record = Record(**{**values, "verdicts": Verdicts.from_json(values["verdicts"])}) if same else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DotaError(f"{path}: no record of a run: {error!r}; remove it, or give another folder") from error
    if record is None:
        raise DotaError(f"{path}: a record of another format than {FORMAT}; run the comparison again")
    return record


def read_records(folders: Iterable[Path]) -> dict[tuple[str, int], Record]:
    """Records of the ``.json`` files in ``folders``, by settings and seed; of two, the one of the first folder.

    Raises:
        DotaError: a file is no record.
    """
    found: dict[tuple[str, int], Record] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            record = read_record(path)
            found.setdefault((record.settings, record.seed), record)
    return found


def _pack(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values.astype(dtype)).tobytes(), 9)).decode("ascii")


def _unpack(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)
