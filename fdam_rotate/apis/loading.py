"""Loaders: training batches that depend on the seed and on how far the training is; and images in order, to test on.

mmdet's samplers and worker seeds depend on the number of workers, on the process, and on all that was drawn before, so
that a run which was killed and resumed goes on with other images and other augmentation. Here the order of an epoch and
the random numbers of each image follow from (seed, epoch, place in the epoch).
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmcv.parallel import collate
from mmdet.datasets import build_dataloader
from mmrotate.datasets import build_dataset
from torch.utils.data import DataLoader, Dataset, Sampler

from fdam_rotate.apis.compat import dataset_settings, loader_settings, setting_errors, steps_for_batches
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.host.fixes import mend_host

__all__ = ["SeededBatches", "SeededDataset", "ordered_loader", "seed_draw", "seeded_loader"]

#: (index in the data set, epoch, place in the epoch).
Draw = tuple[int, int, int]


def seed_draw(*key: int) -> None:
    """Seed Python, NumPy and torch (GPUs too) with numbers that follow from ``key``, all of them at least 0."""
    first, second, *words = (int(word) for word in np.random.SeedSequence(key).generate_state(4))
    random.seed(first)
    np.random.seed(second)  # noqa: NPY002 - what MMDetection's steps draw from
    torch.manual_seed(words[0] << 32 | words[1])


class SeededDataset(Dataset[Any]):
    """``dataset`` with random numbers of its own for every draw, whichever process makes it."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> Any:
        index, epoch, place = draw
        seed_draw(self.seed, epoch, place)
        return self.dataset[index]


class SeededBatches(Sampler[list[Draw]]):
    """Batches of one process, epoch after epoch; each epoch is a whole number of steps of all processes.

    Images at the end of an epoch that do not fill a step are filled up from its beginning.

    Args:
        size: of the data set.
        batch: images of one process in a step.
        seed: of the order.
        rank: of this process.
        world: number of processes; image ``place`` of an epoch goes to process ``place % world``.
        shuffle: new order in every epoch, or always that of the data set.
        endless: go on with the next epoch instead of ending.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        endless: bool = False,
    ) -> None:
        self.size, self.batch, self.seed = size, batch, seed
        self.rank, self.world, self.shuffle, self.endless = rank, world, shuffle, endless
        self._epoch = self._step = 0

    def start(self, epoch: int, step: int) -> None:
        """Where the next iteration begins: ``step`` may exceed an epoch's steps."""
        self._epoch, self._step = epoch + step // len(self), step % len(self)

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-self.size // (self.batch * self.world))

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, step = self._epoch, self._step
        while True:
            order = self._order(epoch)
            for number in range(step, len(self)):
                first = number * self.batch * self.world + self.rank
                places = range(first, first + self.batch * self.world, self.world)
                yield [(int(order[place % self.size]), epoch, place) for place in places]
            if not self.endless:
                return
            epoch, step = epoch + 1, 0

    def _order(self, epoch: int) -> Sequence[int] | np.ndarray:
        if not self.shuffle:
            return range(self.size)
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)


def seeded_loader(dataset: Any, batches: SeededBatches, settings: dict[str, Any]) -> DataLoader[Any]:
    """A loader of ``batches`` from ``dataset``.

    Args:
        dataset: MMDetection data set.
        batches: which images, in which order.
        settings: of the config's ``data.*_dataloader``, without ``samples_per_gpu``; what MMDetection does not name
            goes to torch's ``DataLoader``.

    Raises:
        DotaError: a setting that would decide the order.
    """
    settings = {"workers_per_gpu": 2, **settings}
    if decided := sorted({"shuffle", "sampler", "batch_sampler", "drop_last", "class_aware_sampler"} & set(settings)):
        raise DotaError(f"data loaders take no {', '.join(decided)}: the order follows from the seed alone")
    return DataLoader(
        SeededDataset(dataset, batches.seed),
        batch_sampler=batches,
        num_workers=settings.pop("workers_per_gpu"),
        collate_fn=partial(collate, samples_per_gpu=batches.batch),
        worker_init_fn=_begin_worker,
        **settings,
    )


def _begin_worker(worker: int) -> None:
    """Draw as the run itself does, and leave signals to it.

    Where ``mp_start_method`` is spawn, a worker has the host's steps as they are. A signal to all processes of a run
    must not take the images away from the step that is to be finished.
    """
    mend_host()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def ordered_loader(cfg: Any, part: str, distributed: bool) -> Any:
    """A loader of the images of ``data.<part>``, 'val' or 'test', in order, as MMDetection's test takes them.

    Raises:
        DotaError: the data set cannot be built.
    """
    cfg = loader_settings(cfg)
    settings = {
        "samples_per_gpu": 1,
        "workers_per_gpu": 2,
        "dist": distributed,
        "shuffle": False,
        **cfg.data[f"{part}_dataloader"],
    }
    place = f"data.{part}"
    if settings["samples_per_gpu"] > 1:
        for _, one in dataset_settings(cfg.data[part], place):
            one.pipeline = steps_for_batches(one.pipeline)
    with setting_errors(place):
        return build_dataloader(build_dataset(cfg.data[part], {"test_mode": True}), **settings)
