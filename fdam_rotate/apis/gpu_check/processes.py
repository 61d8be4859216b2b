"""Two processes that share their gradients: with NCCL on two GPUs, in a rehearsal with gloo on the CPU.

Each has its own images; the gradients that both end with must be alike, and the mean of what each would have alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fdam_rotate.apis.gpu_check.networks import move_fdam, without_tf32
from fdam_rotate.apis.gpu_check.operations import relative_error
from fdam_rotate.apis.gpu_check.plan import Sizes
from fdam_rotate.apis.gpu_check.sheet import Sheet
from fdam_rotate.apis.runtime import data_parallel, start_runtime
from fdam_rotate.models.backbones import LSKNetFDAM

__all__ = ["run"]

_WORLD = 2
LIMIT = 1e-3


class _Trained(nn.Module):
    """A backbone with the interface of mmdet's detectors that mmcv's wrappers call."""

    def __init__(self, side: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = LSKNetFDAM(
            embed_dims=(16, 32, 80, 128), depths=(1, 1, 1, 1), norm_cfg={"type": "GN", "num_groups": 8}
        )
        self.side = side
        move_fdam(self)

    def forward(self, images: Tensor) -> Tensor:
        return sum(out.square().mean() for out in self.backbone(images))

    def train_step(self, data: dict[str, Tensor], optimizer: Any) -> dict[str, Any]:
        loss = self(data["images"])
        return {"loss": loss, "log_vars": {"loss": float(loss.detach())}, "num_samples": len(data["images"])}

    def images(self, rank: int) -> Tensor:
        return torch.randn(2, 3, self.side, self.side, generator=torch.Generator().manual_seed(10 + rank))


def run(sheet: Sheet, device: torch.device, sizes: Sizes, scratch: Path) -> None:
    """Start both, and compare what they say."""
    backend = "NCCL" if device.type == "cuda" else "gloo"
    title = f"two processes, {backend}"
    if device.type == "cuda" and torch.cuda.device_count() < _WORLD:
        sheet.skip(title, f"NCCL wants a GPU for each process, and there is {torch.cuda.device_count()}")
        return
    with sheet.case(title):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(_WORLD)}
        command = [sys.executable, "-m", __name__, str(sizes.network), str(scratch), device.type]
        started = [
            subprocess.Popen(
                command,
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(_WORLD)
        ]
        left = min(max(1.0, sheet.time_left() - 3), 3600.0)  # a sheet without a deadline has no end
        try:
            said = [process.communicate(timeout=left)[0] for process in started]
        except subprocess.TimeoutExpired:
            sheet.fail(title, "they did not end: one waits for the other")
            return
        finally:
            for process in started:
                process.kill()
        for rank, process in enumerate(started):
            if process.returncode:
                sheet.fail(title, f"process {rank} ended with code {process.returncode}: {said[rank].strip()[-300:]}")
                return
        found = [torch.load(scratch / f"gradient{rank}.pt", weights_only=True) for rank in range(_WORLD)]
        sheet.check(f"{title}, gradients of both", relative_error(found[0], found[1]), 0)
        model = _Trained(sizes.network)
        alone = []
        for rank in range(_WORLD):
            model.zero_grad()
            model(model.images(rank)).backward()
            alone.append(_gradient(model))
        mean = torch.stack(alone).mean(0)
        sheet.check(f"{title}, beside the mean of both alone", relative_error(found[0], mean), LIMIT)
        apart = relative_error(alone[0], alone[1])
        sheet.measure(f"{title}, gradients without sharing", apart, note="how far both are apart alone")
        seconds = [json.loads(text.splitlines()[-1])["seconds"] for text in said]
        sheet.measure(f"{title}, a step", max(seconds), "s", "the second one")


def _gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.cpu().flatten() for p in model.parameters() if p.grad is not None])


def _main(side: int, scratch: Path, device: str) -> None:
    """One of the processes."""
    runtime = start_runtime("pytorch", device)
    if runtime.device != device:
        raise RuntimeError(f"expected to run on {device}, got {runtime.device}")
    model = _Trained(side)
    wrapped = data_parallel(model, runtime)
    images = model.images(runtime.rank)
    if device == "cuda":
        images = images.cuda()
    with without_tf32():
        for _ in range(2):  # the first also sets everything up
            start = time.perf_counter()
            model.zero_grad()
            wrapped.train_step({"images": images}, None)["loss"].backward()
            gradient = _gradient(model)
            seconds = time.perf_counter() - start
    torch.save(gradient, scratch / f"gradient{runtime.rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
