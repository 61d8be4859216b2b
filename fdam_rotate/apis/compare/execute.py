"""Does the missing runs of a comparison, each in a process of its own, one or several at a time."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from fdam_rotate.apis.compare.plan import Plan, Run
from fdam_rotate.apis.compare.worker import Job, read_steps
from fdam_rotate.apis.compat import load_config
from fdam_rotate.apis.processes import last_line, package_environment
from fdam_rotate.dota.errors import DotaError

__all__ = ["Estimate", "estimate", "execute"]

TRIAL_STEPS = 8


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        run: the run.
        steps: of it that are left.
        seconds_per_step: measured on this machine now, or taken from a finished run.
    """

    run: Run
    steps: int
    seconds_per_step: float

    @property
    def hours(self) -> float:
        """Of training; the test comes on top."""
        return self.steps * self.seconds_per_step / 3600


def execute(
    plan: Plan, work_dir: Path, options: Mapping[str, Any], *, jobs: int = 1, gpus: int = 0
) -> list[tuple[Run, str]]:
    """Do the missing runs, in their order.

    Args:
        plan: what there is to do.
        work_dir: a folder per run comes to lie in ``runs``, its record in ``records``.
        options: settings merged into every config.
        jobs: runs at a time.
        gpus: GPUs to share among the jobs; 0 for the CPU.

    Returns:
        The runs that failed, and the last line that each said; the others are done.
    """
    places: SimpleQueue[int] = SimpleQueue()
    for place in range(jobs):
        places.put(place)

    def work(run: Run) -> str | None:
        place = places.get()
        try:
            return _do(run, plan, work_dir, options, place % gpus if gpus else None)
        finally:
            places.put(place)

    with ThreadPoolExecutor(jobs) as pool:
        ends = list(pool.map(work, plan.missing))
    return [(run, end) for run, end in zip(plan.missing, ends, strict=True) if end is not None]


def estimate(plan: Plan, work_dir: Path, options: Mapping[str, Any]) -> list[Estimate]:
    """What each missing run would take; a side without a finished run is tried for some steps."""
    speeds = {
        side.name: [
            record.training["seconds_per_step"] for record in plan.records.values() if record.settings == side.settings
        ]
        for side in plan.sides
    }
    found = []
    for run in plan.missing:
        if not speeds[run.side.name]:
            speeds[run.side.name].append(_try(run, plan, options))
        steps = int(load_config(run.side.path, dict(options)).runner["max_iters"])
        log = work_dir / "runs" / run.name / "steps.jsonl"
        if log.is_file():
            steps = max(0, steps - len(read_steps(log)))
        found.append(Estimate(run, steps, statistics.median(speeds[run.side.name])))
    return found


def _job(run: Run, plan: Plan, folder: Path, record: Path, options: Mapping[str, Any], trial: int | None = None) -> Job:
    return Job(
        name=run.side.name,
        config=str(run.side.path),
        reference=str(plan.sides[0].path),
        seed=run.seed,
        settings=run.side.settings,
        folder=str(folder),
        record=str(record),
        options=dict(options),
        trial_steps=trial,
    )


def _do(run: Run, plan: Plan, work_dir: Path, options: Mapping[str, Any], gpu: int | None) -> str | None:
    """Do one run; None, or the last line that it said where it failed."""
    folder = work_dir / "runs" / run.name
    earlier = _settings_of_job(folder / "job.json")
    if earlier not in (None, run.side.settings):
        print(f"{run.name}: not begun", flush=True)
        return f"{folder} holds a run with other settings; remove it, or give another --work-dir"
    _job(run, plan, folder, work_dir / "records" / f"{run.name}.json", options).save(folder / "job.json")
    start = time.monotonic()
    print(f"{run.name}: begins; its log is {folder / 'output.txt'}", flush=True)
    code = _worker(folder, gpu)
    said = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
    minutes = (time.monotonic() - start) / 60
    if code == 0:
        scores = next((line for line in reversed(said) if "AP50 " in line), said[-1])
        print(f"{run.name}: done in {minutes:.1f} minutes; {scores.partition('INFO - ')[2] or scores}", flush=True)
        return None
    print(f"{run.name}: failed after {minutes:.1f} minutes (exit code {code}): {said[-1]}", flush=True)
    return said[-1]


def _settings_of_job(path: Path) -> str | None:
    """The settings of the run that a folder was begun for; None where it holds no run."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except FileNotFoundError:
        return "unknown" if any(path.parent.glob("*.pth")) else None
    except (ValueError, KeyError, TypeError):
        return "unreadable"


def _try(run: Run, plan: Plan, options: Mapping[str, Any]) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _job(run, plan, folder, folder / "record.json", options, TRIAL_STEPS).save(folder / "job.json")
        if _worker(folder, None) != 0:
            raise DotaError(f"{run.name} cannot be tried: {last_line(folder / 'output.txt') or 'it said nothing'}")
        steps = read_steps(folder / "steps.jsonl")
        return statistics.median(row[2] for row in steps[2:])


def _worker(folder: Path, gpu: int | None) -> int:
    """Run the folder's job; what it says is added to ``output.txt``."""
    environment = package_environment()
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        environment["CUDA_VISIBLE_DEVICES"] = visible[gpu] if visible[0] else str(gpu)
    command = [sys.executable, "-m", "fdam_rotate.apis.compare.worker", str(folder / "job.json")]
    with (folder / "output.txt").open("ab") as log:
        return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False).returncode
