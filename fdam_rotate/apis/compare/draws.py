"""Training that seed and step alone decide: which images, how they are augmented, and every random number of a step.

So two networks see the same images turned the same way whatever random numbers each draws for itself, and a run that
was killed goes on as if it had not been.
"""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import torch
from mmcv.runner import HOOKS, Hook
from mmrotate.datasets import build_dataset
from mmrotate.datasets.builder import ROTATED_DATASETS
from torch.utils.data import Dataset

__all__ = ["CpuLayoutHook", "DrawnImages", "StepCostHook", "StepSeedHook"]


@ROTATED_DATASETS.register_module()
class DrawnImages(Dataset):
    """An endless shuffled walk through a data set: item k is the same for every model.

    Each pass goes through all images once, in an order of its own.

    Args:
        dataset: config of the data set that is walked through.
        seed: of order and augmentation.
        length: number of draws.
        first: draws that an earlier part of the run has had.
    """

    def __init__(self, dataset: Any, seed: int, length: int, first: int = 0) -> None:
        self.dataset = build_dataset(dataset)
        self.CLASSES = self.dataset.CLASSES
        self.seed, self.length, self.first = seed, length, first
        self.flag = np.zeros(len(self), dtype=np.uint8)

    def __len__(self) -> int:
        return self.length if len(self.dataset) else 0

    def index(self, draw: int) -> int:
        """Number of the image that draw number ``draw`` of the whole run takes."""
        turn, place = divmod(draw, len(self.dataset))
        return int(np.random.default_rng([self.seed, turn]).permutation(len(self.dataset))[place])

    def __getitem__(self, k: int) -> Any:
        draw = int(k) + self.first
        kept = random.getstate(), np.random.get_state()  # noqa: NPY002 - pipelines draw from the common one
        _seed_numpy(self.seed, draw)
        try:
            return self.dataset[self.index(draw)]
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])  # noqa: NPY002


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed torch, NumPy and Python before each step from the run's seed and the step's number.

    Args:
        seed: of the run.
        done: steps that the run has had before. mmcv's IterBasedRunner keeps the number of the last step, not of the
            next, and would repeat it.
    """

    def __init__(self, seed: int, done: int = 0) -> None:
        self.seed, self.done = seed, done

    def before_run(self, runner: Any) -> None:
        """Count on from the steps that the run has had."""
        runner._iter = runner._inner_iter = self.done

    def before_train_iter(self, runner: Any) -> None:
        """Runs after the batch was fetched, before the model sees it."""
        torch.manual_seed(_seed_numpy(self.seed, runner.iter, 1))


@HOOKS.register_module()
class CpuLayoutHook(Hook):
    """On the CPU, computes backbone and neck channels last, which takes a fifth less time; the values stay.

    What the neck gives is put back, because mmcv's RoIAlignRotated reads its input as channels first, whatever it is.
    """

    def before_run(self, runner: Any) -> None:
        """Change the layout of the weights; that of the images follows."""
        model = runner.model.module
        if next(model.parameters()).is_cuda:
            return
        for part in (model.backbone, model.neck):
            part.to(memory_format=torch.channels_last)
        model.neck.register_forward_hook(lambda module, inputs, outputs: tuple(x.contiguous() for x in outputs))


@HOOKS.register_module()
class StepCostHook(Hook):
    """Keeps the loss of each step, and its seconds, of the clock and of this process's threads.

    They are appended to ``steps.jsonl`` in the work folder, some at a time. Where a run went on from a checkpoint, the
    last line for a step counts.
    """

    def __init__(self, every: int = 20) -> None:
        self.every = every

    def before_run(self, runner: Any) -> None:
        """Start the clocks."""
        self._lines: list[str] = []
        self._clocks = time.perf_counter(), time.process_time()

    def after_train_iter(self, runner: Any) -> None:
        """Note the step."""
        now = time.perf_counter(), time.process_time()
        loss = float(runner.outputs["loss"].detach())
        wall, cpu = (after - before for after, before in zip(now, self._clocks, strict=True))
        self._lines.append(f"[{runner.iter + 1}, {loss:.5g}, {wall:.5g}, {cpu:.5g}]\n")
        self._clocks = now
        if self.every_n_iters(runner, self.every):
            self._write(runner)

    def after_run(self, runner: Any) -> None:
        """Write the rest."""
        self._write(runner)

    def _write(self, runner: Any) -> None:
        with open(f"{runner.work_dir}/steps.jsonl", "a", encoding="utf-8") as file:
            file.write("".join(self._lines))
        self._lines = []


def _seed_numpy(*words: int) -> int:
    """Seed NumPy's and Python's common generators; the seed, for others."""
    seed = int(np.random.SeedSequence(words).generate_state(1)[0])
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    return seed
