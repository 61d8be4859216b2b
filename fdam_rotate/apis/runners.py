"""mmcv's two runners, so that a run which is killed and resumed does the same steps as one which is not.

Differences from mmcv 1.7.2: ``IterBasedRunner`` writes the number of the step before the last as the steps done, so
that it repeats one when resumed, and forgets the best score; ``EpochBasedRunner`` can only be saved between epochs.
Checkpoints are written beside and renamed. Without a pause of two seconds at every epoch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import torch
from mmcv.parallel import is_module_wrapper
from mmcv.runner import EpochBasedRunner, IterBasedRunner
from mmcv.runner.checkpoint import get_state_dict, weights_to_cpu
from mmcv.runner.hooks import EMAHook, GradientCumulativeOptimizerHook
from mmdet.core.hook.ema import BaseEMAHook

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.files import atomic_path

__all__ = ["AVERAGING", "RUNNERS", "EpochRunner", "IterRunner", "latest_checkpoint", "progress_of"]

LATEST = "latest.pth"

#: Hooks, mmcv's and mmdet's, that average the weights, and put the average into the model from epoch to epoch.
AVERAGING = (EMAHook, BaseEMAHook)


def progress_of(meta: dict[str, Any], *, by_epoch: bool) -> tuple[int, int, int]:
    """(epochs done, steps done, steps of the epoch that is not finished) from a checkpoint's ``meta``."""
    epochs, steps = int(meta.get("epoch", 0)), int(meta.get("iter", 0))
    if not by_epoch and "step" not in meta and epochs > 0:
        steps += 1  # mmcv's own IterBasedRunner writes its files before it counts the step
    return epochs, steps, int(meta.get("step", 0))


def latest_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that a run in ``work_dir`` wrote last, if any: what ``latest.pth`` leads to, else the newest."""
    latest = Path(work_dir) / LATEST
    if latest.exists():
        return latest.resolve()
    found = [path for path in Path(work_dir).glob("[!.]*.pth") if path.is_file() and not path.name.startswith("best_")]
    return max(found, key=lambda path: (path.stat().st_mtime, path.name), default=None)


class _Resumable:
    """What both runners share: the state that a checkpoint holds, written whole or not at all."""

    #: Steps that the checkpoint behind ``latest.pth`` holds, if this process wrote it or began from it.
    steps_saved: int | None = None
    meta: dict[str, Any] | None

    def _save(
        self, path: Path, *, epoch: int, iteration: int, step: int, optimizer: bool, meta: Any, link: bool
    ) -> None:
        meta = {**(meta or {}), **(self.meta or {}), "epoch": epoch, "iter": iteration, "step": step}
        meta.update(mmcv_version=mmcv.__version__, time=time.asctime())
        model = self.model.module if is_module_wrapper(self.model) else self.model
        if getattr(model, "CLASSES", None) is not None:
            meta["CLASSES"] = model.CLASSES
        content = {"meta": meta, "state_dict": weights_to_cpu(get_state_dict(model))}
        if optimizer:
            content["optimizer"] = self.optimizer.state_dict()
            if gradients := self._accumulated():
                content["gradients"] = gradients
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
        if link:
            self.steps_saved = iteration
            beside = path.parent / f".{LATEST}.{os.getpid()}"
            beside.unlink(missing_ok=True)
            beside.symlink_to(path.name)
            os.replace(beside, path.parent / LATEST)

    def _accumulated(self) -> dict[str, torch.Tensor]:
        """Gradients of steps that the optimizer has not taken yet, by parameter."""
        if not any(isinstance(hook, GradientCumulativeOptimizerHook) for hook in self.hooks):
            return {}
        return {name: p.grad.cpu() for name, p in self.model.named_parameters() if p.grad is not None}

    def resume(self, checkpoint: str, resume_optimizer: bool = True, map_location: Any = "cpu") -> None:
        """Take up the run that wrote ``checkpoint``: weights, optimizer, counts, best score, scale of the loss.

        Learning rate and weight decay stay the config's, which may have changed since, as may the images in a step.

        Raises:
            DotaError: no run wrote it, or its optimizer has other groups of parameters.
        """
        content = self.load_checkpoint(checkpoint, map_location=map_location)
        saved = content.get("meta") or {}
        if not {"epoch", "iter"} <= set(saved):
            raise DotaError(
                f"{checkpoint} holds weights, and not where a run stood: --cfg-options load_from={checkpoint} starts "
                "from them"
            )
        meta: dict[str, Any] = {**saved, **(self.meta or {})}
        meta["hook_msgs"] = {**saved.get("hook_msgs", {})}
        self.meta = meta
        if resume_optimizer and "optimizer" in content:
            asked = [(group["lr"], group.get("weight_decay")) for group in self.optimizer.param_groups]
            try:
                self.optimizer.load_state_dict(content["optimizer"])
            except ValueError as error:
                raise DotaError(f"{checkpoint}: its optimizer is not the config's: {error}") from error
            for group, (rate, decay) in zip(self.optimizer.param_groups, asked, strict=True):
                group["initial_lr"] = rate  # from which mmcv's schedules compute each step's
                if decay is not None:
                    group["weight_decay"] = decay
            gradients = content.get("gradients", {})
            for name, parameter in self.model.named_parameters():
                if name in gradients:
                    parameter.grad = gradients[name].to(parameter.device)
        self._take_up(saved)
        self.steps_saved = self.iter
        self.logger.info(f"resumed {checkpoint}: {self.epoch} epochs, {self.iter} steps done")


class EpochRunner(_Resumable, EpochBasedRunner):
    """``EpochBasedRunner`` that can be saved and resumed within an epoch."""

    _in_epoch = False
    _first_step = 0

    def _take_up(self, meta: dict[str, Any]) -> None:
        self._epoch, self._iter, self._first_step = progress_of(meta, by_epoch=True)

    def train(self, data_loader: Any, **kwargs: Any) -> None:
        """One epoch, or what a resumed run has left of it."""
        self.model.train()
        self.mode = "train"
        self.data_loader = data_loader
        self._max_iters = self._max_epochs * len(data_loader)
        first, self._first_step = self._first_step, 0
        data_loader.batch_sampler.start(self.epoch, first)
        self.call_hook("before_train_epoch")
        self._in_epoch = True
        for number, batch in enumerate(data_loader, start=first):
            self.data_batch = batch
            self._inner_iter = number
            self.call_hook("before_train_iter")
            self.run_iter(batch, train_mode=True, **kwargs)
            self.call_hook("after_train_iter")
            del self.data_batch
            self._iter += 1
        self._in_epoch = False
        self.call_hook("after_train_epoch")
        self._epoch += 1

    @torch.no_grad()
    def val(self, data_loader: Any, **kwargs: Any) -> None:
        """The losses on the validation data, logged."""
        self.model.eval()
        self.mode = "val"
        self.data_loader = data_loader
        self.call_hook("before_val_epoch")
        for number, batch in enumerate(data_loader):
            self.data_batch = batch
            self._inner_iter = number
            self.call_hook("before_val_iter")
            self.run_iter(batch, train_mode=False)
            self.call_hook("after_val_iter")
            del self.data_batch
        self.call_hook("after_val_epoch")

    def save_checkpoint(
        self,
        out_dir: str,
        filename_tmpl: str = "epoch_{}.pth",
        save_optimizer: bool = True,
        meta: dict[str, Any] | None = None,
        create_symlink: bool = True,
    ) -> None:
        """After an epoch as epoch_N.pth, within one as iter_N.pth; for the arguments see mmcv."""
        if self._in_epoch:  # in a hook after a step
            epoch, done, step = self.epoch, self.iter + 1, self._inner_iter + 1
            name = f"iter_{done}.pth" if filename_tmpl == "epoch_{}.pth" else filename_tmpl.format(done)
            averaging = [hook for hook in self.hooks if isinstance(hook, AVERAGING)]
        else:
            epoch, done, step = self.epoch + 1, self.iter, 0
            name, averaging = filename_tmpl.format(epoch), []
        for hook in averaging:  # as between epochs, where the average stands in the model's place
            hook._swap_ema_parameters()
        self._save(
            Path(out_dir) / name,
            epoch=epoch,
            iteration=done,
            step=step,
            optimizer=save_optimizer,
            meta=meta,
            link=create_symlink,
        )
        for hook in averaging:
            hook._swap_ema_parameters()


class IterRunner(_Resumable, IterBasedRunner):
    """``IterBasedRunner`` that counts the steps it did, and goes on with the images that come next."""

    _val_steps = 0

    def val(self, data_loader: Any, **kwargs: Any) -> None:
        """One step of the losses on the validation data; the last one in a row logs their mean, which mmcv does not."""
        if self._inner_iter == 0:
            self.call_hook("before_val_epoch")
        super().val(data_loader, **kwargs)
        if self._inner_iter == self._val_steps:
            self.call_hook("after_val_epoch")
            self.log_buffer.clear()  # else the lines of the next training steps repeat these losses

    def _take_up(self, meta: dict[str, Any]) -> None:
        self._epoch, self._iter, _ = progress_of(meta, by_epoch=False)

    def run(self, data_loaders: Sequence[Any], workflow: Sequence[tuple[str, int]], **kwargs: Any) -> None:
        """Run ``workflow`` until ``max_iters``; for the arguments see mmcv."""
        self._val_steps = sum(steps for mode, steps in workflow if mode == "val")
        rounds = self.iter // max(1, sum(steps for mode, steps in workflow if mode == "train"))
        for loader, (mode, steps) in zip(data_loaders, workflow, strict=True):
            loader.batch_sampler.start(0, self.iter if mode == "train" else rounds * steps)
        super().run(list(data_loaders), list(workflow), **kwargs)

    def save_checkpoint(
        self,
        out_dir: str,
        filename_tmpl: str = "iter_{}.pth",
        meta: dict[str, Any] | None = None,
        save_optimizer: bool = True,
        create_symlink: bool = True,
    ) -> None:
        """In a hook after a step, as iter_N.pth; for the arguments see mmcv."""
        done = self.iter + 1
        self._save(
            Path(out_dir) / filename_tmpl.format(done),
            epoch=self.epoch + 1,
            iteration=done,
            step=0,
            optimizer=save_optimizer,
            meta=meta,
            link=create_symlink,
        )


#: By the names that a config gives as ``runner.type``.
RUNNERS = {"EpochBasedRunner": EpochRunner, "IterBasedRunner": IterRunner}
