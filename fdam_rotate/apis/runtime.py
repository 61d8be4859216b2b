"""Devices, processes and seeds, for the command lines: CPU, one GPU, or several processes under torchrun."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.host.devices import accept_int_devices, share_seeds_on_cpu
from fdam_rotate.host.memory import keep_freed_memory

__all__ = ["Runtime", "data_parallel", "find_device", "start_runtime"]


#: What each launcher tells the processes that it starts, and how it is called.
_LAUNCHERS = {
    "pytorch": (("RANK",), "torchrun: torchrun --nproc_per_node=N"),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"), "Slurm: srun --ntasks=N python"),
    "mpi": (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MASTER_ADDR"), "Open MPI: mpirun -n N python"),
}


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


def find_device(name: str = "auto") -> torch.device:
    """The device ``name``: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: a GPU where there is one, else the CPU.

    ``auto:N`` is GPU N where there is any, as MMRotate's ``--gpu-id N`` has it.

    Raises:
        DotaError: this machine has no such GPU.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind, _, number = name.partition(":")
    if kind == "auto":
        kind = "cuda" if count else "cpu"
    if kind == "cpu":
        return torch.device("cpu")
    if int(number or 0) >= count:
        raise DotaError(f"no device {name}: torch {torch.__version__} sees {count} GPUs here; use --device cpu")
    return torch.device(kind, int(number or 0))


def start_runtime(launcher: str, device: str = "auto", dist_params: dict[str, Any] | None = None) -> Runtime:
    """Join the process group of ``launcher`` ('none', 'pytorch', 'slurm', 'mpi') and choose the device.

    Without CUDA everything runs on the CPU, several processes with gloo, and memory that torch frees is kept for it
    (``host.memory``). Under a launcher each process has the GPU of its rank; ``device`` says no more than whether it is
    to be the CPU.

    Raises:
        DotaError: the launcher's variables are missing, or there is no such ``device``.
    """
    accept_int_devices()
    if launcher == "none":
        found = find_device(device)
        if found.type == "cpu":
            keep_freed_memory()
        return Runtime(found.type, found.index or 0, 0, 1)
    variables, how = _LAUNCHERS[launcher]
    if missing := [name for name in variables if name not in os.environ]:
        raise DotaError(f"--launcher {launcher} needs {how} tools/train.py CONFIG ...; {missing[0]} is not set")
    if device != "cpu" and torch.cuda.is_available():
        from mmcv.runner import init_dist

        init_dist(launcher, **(dist_params or {"backend": "nccl"}))
        return Runtime("cuda", torch.cuda.current_device(), dist.get_rank(), dist.get_world_size())
    if launcher != "pytorch":
        raise DotaError(f"--launcher {launcher} needs GPUs; on the CPU use torchrun with --launcher pytorch")
    keep_freed_memory()
    dist.init_process_group("gloo")
    share_seeds_on_cpu()
    return Runtime("cpu", 0, dist.get_rank(), dist.get_world_size())


def data_parallel(model: torch.nn.Module, runtime: Runtime, *, find_unused_parameters: bool = False) -> Any:
    """``model`` on its device in mmcv's wrapper: unpacks data containers, shares gradients if distributed."""
    from mmcv.parallel import MMDataParallel, MMDistributedDataParallel

    class OnCPU(MMDataParallel):
        """mmcv's wrapper wants GPUs wherever CUDA is there; without ``device_ids`` it unpacks data containers only."""

        def __init__(self, module: torch.nn.Module) -> None:
            torch.nn.Module.__init__(self)
            self.module, self.dim = module, 0
            self.device_ids: list[int] = []

    class CPUDistributed(MMDistributedDataParallel):
        """mmcv's wrapper unpacks data containers on GPUs only."""

        def train_step(self, *inputs: Any, **kwargs: Any) -> Any:
            positional, named = self.scatter(inputs, kwargs, [-1])
            return super().train_step(*positional[0], **named[0])

        def val_step(self, *inputs: Any, **kwargs: Any) -> Any:
            positional, named = self.scatter(inputs, kwargs, [-1])
            return super().val_step(*positional[0], **named[0])

    if not runtime.distributed:
        if runtime.device == "cuda":
            return MMDataParallel(model.cuda(runtime.gpu_id), device_ids=[runtime.gpu_id])
        return OnCPU(model.cpu())
    if runtime.device == "cuda":
        return MMDistributedDataParallel(
            model.cuda(),
            device_ids=[runtime.gpu_id],
            broadcast_buffers=False,
            find_unused_parameters=find_unused_parameters,
        )
    return CPUDistributed(model, broadcast_buffers=False, find_unused_parameters=find_unused_parameters)
