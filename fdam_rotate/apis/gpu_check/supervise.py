"""Does the parts one after the other, each in a process of its own and within its time, and writes the report.

A part may take its own seconds and what the parts before it left over, so that all together keep to the sum, and every
part has at least its own. What a part has found is in the report at once, whatever becomes of it or of the rest.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fdam_rotate.apis.gpu_check.plan import PARTS, REHEARSAL_TIMES, Part
from fdam_rotate.apis.gpu_check.report import Report, write_report
from fdam_rotate.apis.gpu_check.sheet import Sheet, read_rows
from fdam_rotate.apis.gpu_check.worker import Job
from fdam_rotate.apis.processes import last_line, package_environment

__all__ = ["LOG", "supervise"]

LOG = "gpu_check.log"


def supervise(
    out: Path,
    configs: Path,
    command: str,
    *,
    device: str = "cuda",
    parts: Sequence[Part] = PARTS,
    clock: Callable[[], float] = time.monotonic,
    execute: Callable[[Job, Path, float], str | None] | None = None,
) -> Report:
    """Run the parts, and keep the report in ``out`` up to date.

    Args:
        out: folder, which is there.
        configs: folder of the configs.
        command: that was given, for the report.
        device: 'cuda' or 'cuda:N', or 'cpu' for a rehearsal: small sizes, and more time; the report says so.
        parts: to run, in this order.
        clock: seconds.
        execute: does a job, its output to a log, before a moment of ``clock``; returns what went wrong, or None.
    """
    execute = execute or _run_process
    rehearsal = device == "cpu"
    report = Report(command, device, rehearsal, platform.platform(), [], {})
    start = due = clock()
    for part in parts:
        due += part.seconds * (REHEARSAL_TIMES if rehearsal else 1)
        begun = clock()
        with tempfile.TemporaryDirectory(prefix="gpu_check_") as name:
            rows = Path(name) / "rows.jsonl"
            job = Job(part.name, device, rehearsal, str(rows), due, str(configs), name)
            wrong = execute(job, out / LOG, due)
            if wrong is not None:
                Sheet(part.name, rows).fail("the whole part", wrong)
            elif not read_rows(rows):
                Sheet(part.name, rows).fail("the whole part", "it ended without a word")
            report.rows.extend(read_rows(rows))
        report.seconds[part.name] = round(clock() - begun, 1)
        report.seconds["all"] = round(clock() - start, 1)
        write_report(out, report)
    return report


def _run_process(job: Job, log: Path, due: float) -> str | None:
    """Run the worker until ``due``, then kill it with all that it started."""
    path = Path(job.scratch) / "job.json"
    job.save(path)
    environment = package_environment()
    if job.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    begun = time.monotonic()
    with log.open("ab") as output:
        output.write(f"== {job.part}\n".encode())
        output.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "fdam_rotate.apis.gpu_check.worker", str(path)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a group of its own, to be killed whole
        )
        try:
            code = process.wait(timeout=max(0.0, due - time.monotonic()))
        except subprocess.TimeoutExpired:
            return f"stopped after {time.monotonic() - begun:.0f} s, which is all that it may take; the log: {log}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        return f"its process ended with code {code}: {last_line(log)[-300:]}"
    return None
