"""One part of the check, in a process of its own: a GPU that failed once may answer nothing more in that process.

    python -m fdam_rotate.apis.gpu_check.worker JOB.json

``JOB.json`` is what `Job` says.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from fdam_rotate.apis.gpu_check.plan import FULL, REHEARSAL
from fdam_rotate.apis.gpu_check.sheet import Sheet

__all__ = ["Job", "main", "perform"]


@dataclass(frozen=True)
class Job:
    """What the process is to do.

    Attributes:
        part: name of it.
        device: 'cpu', 'cuda' or 'cuda:N'.
        rehearsal: with small sizes.
        rows: file that takes what is found.
        deadline: by the monotonic clock, which all processes of a machine share.
        configs: folder of the configs.
        scratch: folder for files that nobody keeps.
    """

    part: str
    device: str
    rehearsal: bool
    rows: str
    deadline: float
    configs: str
    scratch: str

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def main() -> int:
    """Read the job file and do it."""
    if len(sys.argv) != 2:
        print("usage: python -m fdam_rotate.apis.gpu_check.worker JOB.json", file=sys.stderr)
        return 2
    from fdam_rotate.host.quiet import quiet_host

    quiet_host()
    perform(Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    return 0


def perform(job: Job) -> None:
    """Run the part; an error in it becomes a row."""
    import torch

    from fdam_rotate.apis.runtime import start_runtime
    from fdam_rotate.host.fixes import mend_host

    device = torch.device(job.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    mend_host()
    logging.getLogger("mmcv").setLevel(logging.WARNING)  # a line for each part of a network otherwise
    start_runtime("none", job.device)
    sheet = Sheet(job.part, Path(job.rows), job.deadline)
    with sheet.case("the whole part"):
        run = importlib.import_module(f"fdam_rotate.apis.gpu_check.{job.part}").run
        places = {"configs": Path(job.configs), "scratch": Path(job.scratch)}
        wanted = {name: place for name, place in places.items() if name in inspect.signature(run).parameters}
        run(sheet, device, REHEARSAL if job.rehearsal else FULL, **wanted)


if __name__ == "__main__":
    raise SystemExit(main())
