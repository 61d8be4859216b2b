"""Hooks of the training loop: seeds, whole-image validation that also runs on the CPU, stops that lose nothing."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmcv.runner import HOOKS, Hook
from mmdet.core import EvalHook
from torch.nn.modules.batchnorm import _BatchNorm

from fdam_rotate.apis.checkpoints.checkpoint import load_checkpoint_file
from fdam_rotate.apis.inference import predict
from fdam_rotate.apis.loading import seed_draw
from fdam_rotate.apis.runners import latest_checkpoint
from fdam_rotate.dota.errors import DotaError, ScoreError, Stopped

__all__ = ["Interruption", "NonFiniteLossHook", "PatchEvalHook", "SeedHook", "StopHook"]

#: Second word of the seeds of steps; those of images have the epoch there, see `fdam_rotate.apis.loading`.
_TRAIN, _VAL = 2**32 - 2, 2**32 - 1


class SeedHook(Hook):
    """Random numbers of a step (dropped paths, sampled proposals) from the seed, the process and the step alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any) -> None:
        """After the images were loaded, before the model sees them."""
        seed_draw(self.seed, _TRAIN, runner.rank, runner.iter)

    def before_val_iter(self, runner: Any) -> None:
        """The same for every validation loss."""
        seed_draw(self.seed, _VAL, runner.rank, runner.inner_iter)


class Interruption:
    """SIGTERM and Ctrl-C as a wish that is met after the step; a second one acts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take the signals while the block runs; only the main thread can."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}

        def note(number: int, frame: Any) -> None:
            self.signal = number
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in numbers:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def agreed(self) -> bool:
        """Whether any process was asked to stop; all processes must ask at the same place."""
        if dist.is_available() and dist.is_initialized():
            device = "cuda" if dist.get_backend() == "nccl" else "cpu"
            asked = torch.tensor(self.signal or 0, device=device)
            dist.all_reduce(asked, op=dist.ReduceOp.MAX)
            self.signal = int(asked) or None
        return self.signal is not None


class StopHook(Hook):
    """Save and end the run where it was asked to stop; runs after all other hooks.

    Args:
        interruption: says whether it was.
        by_epoch: the last step of an epoch is left to what follows the epoch: checkpoint and validation.
    """

    def __init__(self, interruption: Interruption, *, by_epoch: bool) -> None:
        self.interruption = interruption
        self.by_epoch = by_epoch

    def after_train_iter(self, runner: Any) -> None:
        """Between steps."""
        if not (self.by_epoch and self.end_of_epoch(runner)):
            self._stop_if_asked(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Between epochs."""
        if self.by_epoch:
            self._stop_if_asked(runner, runner.iter)

    def _stop_if_asked(self, runner: Any, done: int) -> None:
        if not self.interruption.agreed():
            return
        if runner.rank == 0 and runner.steps_saved != done:
            runner.save_checkpoint(runner.work_dir)
        if dist.is_available() and dist.is_initialized():
            dist.barrier()
        name = signal.Signals(self.interruption.signal).name
        latest = latest_checkpoint(runner.work_dir)
        raise Stopped(
            f"{name} after {done} steps; {latest} holds them: go on with --auto-resume", self.interruption.signal
        )


class PatchEvalHook(EvalHook):
    """MMDetection's ``EvalHook`` with our prediction loop: the same for one process, several, CPU and GPU."""

    best_ckpt_path: str | None

    def __init__(self, *args: Any, interruption: Interruption | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.interruption = interruption

    def check(self) -> None:
        """Score no box at all, so that what cannot be scored is told before the training and not after an epoch.

        Raises:
            DotaError: the labels are missing, or the data set knows no such setting.
        """
        dataset = self.dataloader.dataset
        if not hasattr(dataset, "score"):
            return  # not one of ours, which may need boxes
        nothing = [[np.zeros((0, 6), np.float32)] * len(dataset.CLASSES)] * len(dataset)
        try:
            scores = dataset.evaluate(nothing, logger="silent", **self.eval_kwargs)
        except ScoreError as error:
            raise ScoreError(f"data.val: {error}; --no-validate trains without") from None
        except (TypeError, ValueError) as error:
            raise DotaError(f"evaluation: {error}") from None
        if self.save_best not in (None, "auto", *scores):
            raise DotaError(f"evaluation.save_best is {self.save_best}; expected auto or {', '.join(scores)}")

    def before_run(self, runner: Any) -> None:
        """Take up the best score so far: each step's checkpoint was written before that step was validated."""
        super().before_run(runner)
        if self.save_best is None or runner.rank != 0:
            return
        own = Path(self.out_dir).resolve()
        if self.best_ckpt_path is not None and Path(self.best_ckpt_path).resolve().parent != own:
            self.best_ckpt_path = None  # of the run that this one goes on from: mmcv would remove it for a better one
        for path in sorted(Path(self.out_dir).glob("best_*.pth")):
            meta = load_checkpoint_file(path)["meta"]
            if int(meta.get("iter", 0)) <= runner.iter and "best_score" in meta.get("hook_msgs", {}):
                self.best_ckpt_path = str(path)
                runner.meta["hook_msgs"].update(best_score=meta["hook_msgs"]["best_score"], best_ckpt=str(path))

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
        results = predict(model, self.dataloader, interruption=self.interruption)
        if results is None:  # not the first process, or asked to stop
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
