"""Devices, processes and seeds, for the command lines: CPU, one GPU, or several processes under torchrun."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.host.devices import accept_int_devices, share_seeds_on_cpu

__all__ = ["Runtime", "data_parallel", "start_runtime"]


@dataclass(frozen=True)
class Runtime:
    """Where this process runs: ``device`` 'cpu' or 'cuda', its ``gpu_id``, its ``rank`` of ``world_size``."""

    device: str
    gpu_id: int
    rank: int
    world_size: int

    @property
    def distributed(self) -> bool:
        """Whether a process group is up, even of one process."""
        return dist.is_available() and dist.is_initialized()


def start_runtime(launcher: str, gpu_id: int = 0, dist_params: dict[str, Any] | None = None) -> Runtime:
    """Join the process group of ``launcher`` ('none', 'pytorch', 'slurm', 'mpi') and choose the device.

    Without CUDA, or with CUDA_VISIBLE_DEVICES empty, everything runs on the CPU, several processes with gloo.

    Raises:
        DotaError: the launcher's variables are missing, or ``gpu_id`` does not exist.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    accept_int_devices()
    if launcher == "none":
        if device == "cuda" and gpu_id >= torch.cuda.device_count():
            raise DotaError(f"GPU {gpu_id} does not exist: {torch.cuda.device_count()} found")
        return Runtime(device, gpu_id, 0, 1)
    if launcher == "pytorch" and "RANK" not in os.environ:
        raise DotaError("--launcher pytorch needs torchrun: torchrun --nproc_per_node=N tools/train.py CONFIG ...")
    if device == "cuda":
        from mmcv.runner import init_dist

        init_dist(launcher, **(dist_params or {"backend": "nccl"}))
        gpu_id = torch.cuda.current_device()
    elif launcher == "pytorch":
        dist.init_process_group("gloo")
        share_seeds_on_cpu()
    else:
        raise DotaError(f"--launcher {launcher} needs GPUs; on the CPU use torchrun with --launcher pytorch")
    return Runtime(device, gpu_id, dist.get_rank(), dist.get_world_size())


def data_parallel(model: torch.nn.Module, runtime: Runtime, *, find_unused_parameters: bool = False) -> Any:
    """``model`` on its device in mmcv's wrapper: unpacks data containers, shares gradients if distributed."""
    from mmcv.parallel import MMDataParallel, MMDistributedDataParallel

    class CPUDistributed(MMDistributedDataParallel):
        """mmcv's wrapper unpacks data containers on GPUs only."""

        def train_step(self, *inputs: Any, **kwargs: Any) -> Any:
            positional, named = self.scatter(inputs, kwargs, [-1])
            return super().train_step(*positional[0], **named[0])

    if not runtime.distributed:
        if runtime.device == "cuda":
            return MMDataParallel(model.cuda(runtime.gpu_id), device_ids=[runtime.gpu_id])
        return MMDataParallel(model, device_ids=[-1])
    if runtime.device == "cuda":
        return MMDistributedDataParallel(
            model.cuda(),
            device_ids=[runtime.gpu_id],
            broadcast_buffers=False,
            find_unused_parameters=find_unused_parameters,
        )
    return CPUDistributed(model, broadcast_buffers=False, find_unused_parameters=find_unused_parameters)
