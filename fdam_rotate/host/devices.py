"""Devices that mmcv 1.7.2 and mmdet 2.28 do not know: torch 2's GPUs, and process groups without a GPU."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["accept_int_devices", "share_seeds_on_cpu"]


def accept_int_devices() -> None:
    """Let mmcv 1.7.2 copy batches to a GPU: it passes device numbers where torch since 2.1 wants ``torch.device``."""
    from mmcv.parallel import _functions
    from torch.nn.parallel._functions import _get_stream

    def get_stream(device: int | torch.device) -> Any:
        if isinstance(device, int):
            device = torch.device("cuda", device) if device >= 0 else torch.device("cpu")
        return _get_stream(device)

    _functions._get_stream = get_stream


def share_seeds_on_cpu() -> None:
    """Let mmdet 2.28's samplers agree on a seed without a GPU: they put it on one to send it to all processes."""
    from mmdet.core.utils import sync_random_seed
    from mmdet.datasets.samplers import class_aware_sampler, distributed_sampler, infinite_sampler

    def share_seed(seed: int | None = None, device: str = "cpu") -> int:
        return sync_random_seed(seed, "cpu")

    for module in (class_aware_sampler, distributed_sampler, infinite_sampler):
        module.sync_random_seed = share_seed
