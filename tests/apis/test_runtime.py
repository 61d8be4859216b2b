"""The device that a command runs on, with and without GPUs (which are pretended here)."""

from __future__ import annotations

import pytest
import torch
from mmcv.parallel import DataContainer, scatter_kwargs

from fdam_rotate.apis.runtime import Runtime, data_parallel, find_device, start_runtime
from fdam_rotate.dota.errors import DotaError


@pytest.fixture
def gpus(monkeypatch):
    """``gpus(2)`` pretends that torch sees two GPUs."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("count", "name", "found"),
    [
        (0, "auto", "cpu"),
        (0, "auto:1", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "auto:1", "cuda:1"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (2, "cpu", "cpu"),
    ],
)
def test_the_device_of_a_name(gpus, count, name, found):
    gpus(count)
    assert str(find_device(name)) == found
    runtime = start_runtime("none", name)
    assert (runtime.device, runtime.gpu_id) == (found[:4].rstrip(":"), int(found[5:] or 0))
    assert (runtime.rank, runtime.world_size) == (0, 1)


@pytest.mark.parametrize(("count", "name"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2"), (2, "auto:2")])
def test_a_gpu_that_is_not_there(gpus, count, name):
    gpus(count)
    with pytest.raises(DotaError, match=rf"no device {name}: torch .* sees {count} GPUs here; use --device cpu"):
        start_runtime("none", name)


@pytest.mark.parametrize(
    ("launcher", "given", "missing", "how"),
    [
        ("pytorch", {}, "RANK", "torchrun --nproc_per_node=N"),
        ("slurm", {"SLURM_PROCID": "0"}, "SLURM_NTASKS", "srun --ntasks=N"),
        ("mpi", {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, "MASTER_ADDR", "mpirun -n N"),
    ],
)
def test_what_a_launcher_has_not_said_is_named(launcher, given, missing, how, gpus, monkeypatch):
    gpus(2)
    for name in (missing, "SLURM_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DotaError, match=rf"--launcher {launcher} needs .*{how}.*; {missing} is not set"):
        start_runtime(launcher)


@pytest.mark.parametrize("step", ["train_step", "val_step"])
def test_batches_are_unpacked_for_several_processes_on_the_cpu(step, monkeypatch):
    class Wrapper(torch.nn.Module):
        """mmcv's, which hands batches on as they are where there is no GPU; it wants a process group."""

        def __init__(self, module, **settings):
            super().__init__()
            self.module, self.settings = module, settings

        def scatter(self, inputs, named, devices):
            return scatter_kwargs(inputs, named, devices)

        def train_step(self, data, optimizer):
            return data["img"]

        val_step = train_step

    monkeypatch.setattr("mmcv.parallel.MMDistributedDataParallel", Wrapper)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    wrapped = data_parallel(torch.nn.Linear(2, 1), Runtime("cpu", 0, 0, 2), find_unused_parameters=True)
    assert wrapped.settings == {"broadcast_buffers": False, "find_unused_parameters": True}
    batch = {"img": DataContainer([torch.ones(2, 3)], stack=True)}
    assert torch.equal(getattr(wrapped, step)(batch, None), torch.ones(2, 3))


@pytest.mark.parametrize("several", [False, True])
def test_a_model_lies_on_the_gpu_of_its_process(several, monkeypatch):
    made, moved = {}, []

    class Wrapper:
        def __init__(self, model, **settings):
            made.update(settings)

    monkeypatch.setattr("mmcv.parallel.MMDataParallel", Wrapper)
    monkeypatch.setattr("mmcv.parallel.MMDistributedDataParallel", Wrapper)
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self, *place: moved.append(place) or self)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: several)
    data_parallel(torch.nn.Linear(2, 1), Runtime("cuda", 1, 1, 2), find_unused_parameters=True)
    shared = {"broadcast_buffers": False, "find_unused_parameters": True} if several else {}
    assert made == {"device_ids": [1], **shared}
    assert moved == [() if several else (1,)]  # init_dist has set the one of several


def test_the_cpu_is_used_where_there_are_gpus_too(gpus):
    class Model(torch.nn.Module):
        def train_step(self, data, optimizer):
            return data["img"], optimizer

    gpus(2)
    wrapped = data_parallel(Model(), Runtime("cpu", 0, 0, 1))
    batch = {"img": DataContainer([torch.ones(1, 3)], stack=False)}
    got, optimizer = wrapped.train_step(batch, None)
    assert optimizer is None
    assert torch.equal(got[0] if isinstance(got, (list, tuple)) else got, torch.ones(1, 3))
    assert not isinstance(got, DataContainer), "it is unpacked"
