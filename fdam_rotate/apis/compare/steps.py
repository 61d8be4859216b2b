"""What a comparison adds to each training step: notes of its loss and its seconds."""

from __future__ import annotations

import time
from typing import Any

from mmcv.runner import HOOKS, Hook

__all__ = ["StepCostHook"]


@HOOKS.register_module()
class StepCostHook(Hook):
    """Keeps the loss of each step, and its seconds, of the clock and of this process's threads.

    Each is appended to ``steps.jsonl`` in the work folder at once, so that a killed run lacks none. Where a run went on
    from a checkpoint, the last line for a step counts.
    """

    def before_run(self, runner: Any) -> None:
        """Start the clocks."""
        self._clocks = time.perf_counter(), time.process_time()

    def after_train_iter(self, runner: Any) -> None:
        """Note the step."""
        now = time.perf_counter(), time.process_time()
        loss = float(runner.outputs["loss"].detach())
        wall, cpu = (after - before for after, before in zip(now, self._clocks, strict=True))
        with open(f"{runner.work_dir}/steps.jsonl", "a", encoding="utf-8") as file:
            file.write(f"[{runner.iter + 1}, {loss:.5g}, {wall:.5g}, {cpu:.5g}]\n")
        self._clocks = now
