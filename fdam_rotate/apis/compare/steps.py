"""What a comparison adds to training steps: notes of loss and seconds, and of how far FDAM is switched on."""

from __future__ import annotations

import json
import time
from typing import Any

from mmcv.runner import HOOKS, Hook
from torch import nn

from fdam_rotate.apis.analysis.features import FDAM_SWITCHES

__all__ = ["SWITCH_POINTS", "StepCostHook", "switched_on"]

#: Points of the curves that show how far FDAM is switched on.
SWITCH_POINTS = 50


@HOOKS.register_module()
class StepCostHook(Hook):
    """Keeps the loss of each step, and its seconds, of the clock and of this process's threads.

    Each is appended to ``steps.jsonl`` in the work folder at once, so that a killed run lacks none. Where a run went on
    from a checkpoint, the last line for a step counts. `SWITCH_POINTS` times a run, what `switched_on` gives is
    appended to ``switches.jsonl``.
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
        if self.every_n_iters(runner, max(1, runner.max_iters // SWITCH_POINTS)):
            with open(f"{runner.work_dir}/switches.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps([runner.iter + 1, switched_on(runner.model)]) + "\n")
        self._clocks = now


def switched_on(model: nn.Module) -> dict[str, float]:
    """The largest absolute value of each kind of FDAM's parameters that begin near zero; none without FDAM."""
    largest: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        kind = name.rpartition(".")[2]
        if kind in FDAM_SWITCHES:
            largest[kind] = max(largest.get(kind, 0.0), float(parameter.detach().abs().max()))
    return largest
