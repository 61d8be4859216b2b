"""Hooks of the training loop: whole-image validation that also runs on the CPU, and a stop at non-finite losses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmcv.runner import HOOKS, Hook
from mmdet.core import EvalHook
from torch.nn.modules.batchnorm import _BatchNorm

from fdam_rotate.apis.inference import predict

__all__ = ["NonFiniteLossHook", "PatchEvalHook"]


class PatchEvalHook(EvalHook):
    """MMDetection's ``EvalHook`` with our prediction loop: the same for one process, several, CPU and GPU."""

    def _do_evaluate(self, runner: Any) -> None:
        if not self._should_evaluate(runner):
            return
        model = runner.model.module
        if dist.is_available() and dist.is_initialized():
            # DDP does not share BatchNorm's running statistics: all validate with those of the first process
            for module in model.modules():
                if isinstance(module, _BatchNorm) and module.track_running_stats:
                    dist.broadcast(module.running_mean, 0)
                    dist.broadcast(module.running_var, 0)
        results = predict(model, self.dataloader)
        if results is None:  # not the first process
            return
        self.latest_results = results
        runner.log_buffer.output["eval_iter_num"] = len(self.dataloader)
        score = self.evaluate(runner, results)
        if self.save_best and score:
            self._save_ckpt(runner, score)


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop at the first loss that is NaN or infinite, before it reaches the weights.

    The iteration, the learning rates, each loss and the patches of the step are written to ``non_finite_loss.json``.
    """

    def after_train_iter(self, runner: Any) -> None:
        """Check the step's loss; runs before the optimizer's hook."""
        loss = runner.outputs["loss"]
        if torch.isfinite(loss).all():
            return
        metas = runner.data_batch["img_metas"].data[0]
        report = {
            "iteration": runner.iter + 1,
            "epoch": runner.epoch + 1,
            "lr": runner.current_lr(),
            "losses": {k: str(v) if not math.isfinite(v) else v for k, v in runner.outputs["log_vars"].items()},
            "patches": [meta.get("ori_filename", meta.get("filename")) for meta in metas],
        }
        path = Path(runner.work_dir) / "non_finite_loss.json"
        path.write_text(json.dumps(report, indent=1, default=str), encoding="utf-8")
        raise FloatingPointError(
            f"the loss became {loss.item()} at iteration {runner.iter + 1} on {', '.join(report['patches'])}; "
            f"details in {path}. Lower the learning rate (--cfg-options optimizer.lr=...)"
            ", or look at these patches' labels"
        )
