"""What is installed, and which GPU there is; the first rows of the report."""

from __future__ import annotations

import torch

from fdam_rotate.apis.doctor import versions
from fdam_rotate.apis.gpu_check.plan import Sizes
from fdam_rotate.apis.gpu_check.sheet import Sheet

__all__ = ["run"]


def run(sheet: Sheet, device: torch.device, sizes: Sizes) -> None:
    """Versions, and what torch says of the GPU."""
    for name, version in versions().items():
        sheet.measure(name, version)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        sheet.measure("memory of the GPU", properties.total_memory / 2**30, "GiB")
        sheet.measure("compute capability", f"{properties.major}.{properties.minor}")
        sheet.measure("GPUs", torch.cuda.device_count())
    else:
        sheet.skip("the GPU", "a rehearsal on the CPU")
    sheet.measure("CPU threads of torch", torch.get_num_threads())
