"""Which runs a comparison has, whether its configs may be compared, and what is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdam_rotate.apis.compare.records import PROTOCOL, Record, read_records
from fdam_rotate.apis.compat import TRAINING_PARTS, load_config
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import sha256_of

__all__ = ["SEED_STEP", "Plan", "Run", "Side", "check_protocol", "differences", "make_plan", "settings_of"]

#: A config that is given twice is trained twice, the second time on these seeds more.
SEED_STEP = 50
#: What decides a result, apart from the data's place: sides may differ in the first two only.
MAY_DIFFER = ("model", "optimizer")
MUST_AGREE = ("data", "optimizer_config", "lr_config", "runner", "fp16", "custom_hooks", "load_from")
PLACES = ("ann_file", "ann_dir", "img_prefix", "gt_dir", "manifest", "data_root")


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a config, and the seeds that it is trained with.

    Attributes:
        name: of its runs and in the report.
        path: config file.
        seeds: of its runs.
        settings: SHA-256 of what decides its results.
        decides: what that is the hash of.
    """

    name: str
    path: Path
    seeds: tuple[int, ...]
    settings: str
    decides: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One training with its test."""

    side: Side
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder and record."""
        return f"{self.side.name}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs of a comparison.

    Attributes:
        sides: in the order given; the first is what the others are compared with.
        records: of the finished runs, by run name.
        missing: runs that have no record, in the order in which they are to be trained: seed by seed, so that sides
            have equally many at any time.
        differing: settings besides the model in which sides differ, as text.
    """

    sides: tuple[Side, ...]
    records: Mapping[str, Record]
    missing: tuple[Run, ...]
    differing: tuple[str, ...]


def make_plan(
    configs: Sequence[Path],
    seeds: Sequence[int],
    record_folders: Sequence[Path],
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Read the configs and the records that there are.

    Args:
        configs: config files; one that is given twice is compared with itself.
        seeds: of every side; `SEED_STEP` more where a config is given again.
        record_folders: folders of records; the first that has one for a run counts.
        options: settings that are merged into every config.

    Raises:
        DotaError: the configs differ in data or schedule, a seed is given twice, or a record cannot be read.
    """
    if len(set(seeds)) != len(seeds):
        raise DotaError(f"--seeds {' '.join(map(str, seeds))}: a seed is given twice")
    if len(configs) > len(set(configs)) and max(seeds) - min(seeds) >= SEED_STEP:
        raise DotaError(f"a config given twice takes seeds {SEED_STEP} higher: --seeds must lie closer together")
    sides: list[Side] = []
    for path in configs:
        again = sum(side.path == path for side in sides)
        name = path.stem + (f"-again{again if again > 1 else ''}" if again else "")
        if any(side.name == name for side in sides):
            raise DotaError(f"{path}: another config is called {name} too; rename one")
        decides = settings_of(load_config(path, dict(options or {}), needs=TRAINING_PARTS))
        text = json.dumps(decides, sort_keys=True, default=str)
        shifted = tuple(seed + SEED_STEP * again for seed in seeds)
        sides.append(Side(name, path, shifted, hashlib.sha256(text.encode()).hexdigest(), decides))
    differing = _compare_settings(sides)
    known = read_records(record_folders)
    records, missing = {}, []
    for k in range(len(seeds)):
        for side in sides:
            run = Run(side, side.seeds[k])
            record = known.get((side.settings, run.seed))
            if record is None:
                missing.append(run)
            else:
                records[run.name] = record
    _check_alike(records)
    return Plan(tuple(sides), records, tuple(missing), differing)


def check_protocol(plan: Plan) -> None:
    """Refuse to train beside records that were trained by another rule of drawing images.

    Raises:
        DotaError: there are such records.
    """
    for name, record in plan.records.items():
        if record.protocol != PROTOCOL:
            raise DotaError(
                f"the record of {name} was trained by rule {record.protocol} of drawing images, and runs now follow "
                f"rule {PROTOCOL}: train without these --records, or report them alone with --report-only"
            )


def settings_of(cfg: Any) -> dict[str, Any]:
    """What of a config decides the result of a run, as plain values; folders of data are left out."""
    content = cfg._cfg_dict.to_dict()
    decides: dict[str, Any] = {key: content.get(key) for key in (*MAY_DIFFER, *MUST_AGREE)}
    data = decides["data"] or {}
    decides["data"] = {
        "samples_per_gpu": data.get("samples_per_gpu"),
        "train_dataloader": data.get("train_dataloader"),
        "train": _without_places(data.get("train")),
        "val": _without_places(data.get("val")),
    }
    start = content.get("load_from")
    if start and not Path(start).is_file():
        raise DotaError(f"load_from={start}: no such file; runs are known by the weights that they start from")
    decides["load_from"] = sha256_of(start) if start else None
    decides["protocol"] = 1  # as the first records were named; records now say theirs
    return decides


def differences(first: Any, second: Any, path: str = "") -> Iterator[str]:
    """The settings in which two configs' plain values differ, as ``place: value against value``."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}, key=str):
            yield from differences(first.get(key), second.get(key), f"{path}.{key}" if path else str(key))
    elif first != second:
        yield f"{path}: {first!r} against {second!r}"


def _without_places(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_places(value) for key, value in node.items() if key not in PLACES}
    if isinstance(node, (list, tuple)):
        return [_without_places(value) for value in node]
    return node


def _compare_settings(sides: Sequence[Side]) -> tuple[str, ...]:
    """What differs besides the model, between the first side and each other."""
    found = []
    for side in sides[1:]:
        both = sides[0].decides, side.decides
        unfair = list(differences(*({key: values[key] for key in MUST_AGREE} for values in both)))
        if unfair:
            raise DotaError(
                f"{sides[0].path} and {side.path} cannot be compared: they differ in {'; '.join(unfair[:3])}"
                + (f" and {len(unfair) - 3} more" if len(unfair) > 3 else "")
                + "; give both the same data and schedule"
            )
        for line in differences(both[0]["optimizer"], both[1]["optimizer"], "optimizer"):
            found.append(f"{sides[0].name} and {side.name}: {line}")
    return tuple(found)


def _check_alike(records: Mapping[str, Record]) -> None:
    """All records must be of the same images and labels, drawn by the same rule."""
    first: tuple[str, Record] | None = None
    for name, record in records.items():
        first = first or (name, record)
        if record.protocol != first[1].protocol:
            raise DotaError(
                f"the records of {first[0]} and {name} were trained by different rules of drawing images "
                f"({first[1].protocol} and {record.protocol}); leave one kind out of --records"
            )
        for part in ("train", "val"):
            if record.data[part]["sha256"] != first[1].data[part]["sha256"]:
                raise DotaError(
                    f"the records of {first[0]} and {name} are of different {part} data; give another --work-dir and "
                    "--records, or make the data the same"
                )
