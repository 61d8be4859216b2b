"""The prediction loop: every patch of a data set once, results in the data set's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmcv.parallel import scatter_kwargs
from tqdm import tqdm

__all__ = ["predict"]


@torch.no_grad()
def predict(model: torch.nn.Module, loader: Any, *, what: str = "predict") -> list[list[np.ndarray]] | None:
    """Results for every patch of ``loader.dataset``, in its order.

    Args:
        model: the bare detector (no parallel wrapper), on its device; left in the mode it came in.
        loader: test-mode loader; under a process group each process sees its share.
        what: label of the progress bar.

    Returns:
        For each patch, for each class, (n, 6) float32 of cx, cy, w, h (pixels), angle (radians), score;
        None in all processes but the first.
    """
    device = next(model.parameters()).device
    target = [device.index if device.type == "cuda" else -1]
    grouped = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
    was_training = model.training
    model.eval()
    results: list[list[np.ndarray]] = []
    with tqdm(total=len(loader.dataset), desc=what, unit="patch", disable=rank != 0, mininterval=1.0) as bar:
        for batch in loader:
            _, (inputs,) = scatter_kwargs((), batch, target)
            found = model(return_loss=False, rescale=True, **inputs)
            results.extend(found)
            bar.update(min(len(found) * world, bar.total - bar.n))
    model.train(was_training)
    if not grouped:
        return results
    parts: list[list[list[np.ndarray]]] | None = [[] for _ in range(world)] if rank == 0 else None
    dist.gather_object(results, parts)
    # the sampler deals patches out in turn, and repeats some at the end so that all processes get as many
    return None if parts is None else [parts[i % world][i // world] for i in range(len(loader.dataset))]
