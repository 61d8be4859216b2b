"""Checks of the installation: versions that must fit together, and compiled ops against values worked out by hand."""

from __future__ import annotations

import importlib
import math
import platform
from importlib import metadata

import torch

__all__ = ["check_kernels", "check_ops", "check_versions", "versions"]

#: What the project is tested with; requirements.txt says what breaks otherwise.
PACKAGES = (
    "torch", "torchvision", "mmcv-full", "mmdet", "mmrotate", "numpy", "opencv-python-headless", "shapely",
    "setuptools", "isal", "rasterio", "safetensors",
)  # fmt: skip
REINSTALL = "rm -rf .venv && make install"


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that matter, of CUDA and of the GPU ('none' where there is none)."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    found["cuda of torch"] = torch.version.cuda or "none"
    found["gpu"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return found


def check_versions() -> list[str]:
    """Problems of versions and imports, each with the command that mends it; empty if all is well."""
    problems = []
    found = versions()
    wanted = {"mmcv-full": "1.7.2", "mmdet": "2.28.2", "mmrotate": "0.3.4"}
    for name, version in wanted.items():
        if found[name] != version:
            problems.append(f"{name} is {found[name]}, {version} is needed: {REINSTALL}")
    missing = [name for name in PACKAGES if found[name] == "missing" and name not in wanted]
    if missing:
        problems.append(f"missing: {', '.join(missing)}: .venv/bin/pip install -c requirements.txt {' '.join(missing)}")
    for module in ("torchvision", "cv2", "mmcv", "mmcv._ext", "mmdet", "mmrotate"):
        try:
            importlib.import_module(module)
        except Exception as error:  # an ABI mismatch may raise anything
            problems.append(f"import {module} failed ({type(error).__name__}: {error}): {_mend(module)}")
    return problems


def _mend(module: str) -> str:
    if module == "torchvision":
        return ".venv/bin/pip install --force-reinstall -r requirements.txt torch torchvision"
    if module.startswith("mmcv"):
        return (
            "MMCV_WITH_OPS=1 .venv/bin/pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps "
            "mmcv-full==1.7.2"
        )
    return REINSTALL


def check_kernels() -> list[str]:
    """Run FreqScale's C++ for the CPU on values worked out by hand; returns what is wrong."""
    from fdam_rotate.models.layers import cpu

    mend = ".venv/bin/pip install --no-build-isolation --no-deps --force-reinstall --editable ."
    if not cpu.available():
        return [f"FreqScale's C++ for the CPU was not built from these sources, FDAM runs slower there: {mend}"]
    # A filter of twos doubles every frequency, so that x plus its scaled self is 3 x.
    x = torch.arange(2 * 5 * 6.0).view(1, 2, 5, 6)
    wrong = _differs(cpu.scaled(x, torch.full((1, 2, 14, 8), 2.0), residual=True, keep=False)[0], (3 * x).tolist())
    return [f"FreqScale's C++ for the CPU: {wrong}: {mend}"] if wrong else []


def check_ops(device: str = "cpu") -> list[str]:
    """Run mmcv's rotated ops on ``device`` and compare with values worked out by hand; returns what is wrong."""
    problems = []
    for check in (_box_iou_rotated, _nms_rotated, _roi_align_rotated):
        name = check.__name__.lstrip("_")
        try:
            wrong = check(device)
        except Exception as error:  # an op that was not compiled raises whatever its stub raises
            wrong = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if wrong:
            mend = "make install where nvcc is found" if device != "cpu" else _mend("mmcv._ext")
            problems.append(f"{name} on {device}: {wrong}: {mend}")
    return problems


def _box_iou_rotated(device: str) -> str | None:
    # A square of side 10 and the same turned by 45 degrees share a regular octagon of area 2(sqrt 2 - 1) * 100, so that
    # IoU = 2(sqrt 2 - 1) / (2 - 2(sqrt 2 - 1)) = 1 / sqrt 2. A 10 x 4 box and its copy moved 5 along share half: 20/60.
    from mmcv.ops import box_iou_rotated

    a = torch.tensor([[50.0, 50, 10, 10, 0], [20, 20, 10, 4, math.pi / 6]], device=device)
    moved = [20 + 5 * math.cos(math.pi / 6), 20 + 5 * math.sin(math.pi / 6), 10, 4, math.pi / 6]
    b = torch.tensor([[50.0, 50, 10, 10, math.pi / 4], moved], device=device)
    return _differs(box_iou_rotated(a, b), [[1 / math.sqrt(2), 0], [0, 1 / 3]])


def _nms_rotated(device: str) -> str | None:
    # The first two boxes have IoU 1/3: above 0.1 the lower score goes, above 0.5 both stay. The third lies apart.
    from mmcv.ops import nms_rotated

    moved = [20 + 5 * math.cos(math.pi / 6), 20 + 5 * math.sin(math.pi / 6), 10, 4, math.pi / 6]
    boxes = torch.tensor([[20.0, 20, 10, 4, math.pi / 6], moved, [90, 90, 10, 4, 0]], device=device)
    scores = torch.tensor([0.6, 0.9, 0.7], device=device)
    kept = [nms_rotated(boxes, scores, threshold)[1].tolist() for threshold in (0.1, 0.5)]
    return None if kept == [[1, 2], [1, 2, 0]] else f"kept {kept}, expected [[1, 2], [1, 2, 0]]"


def _roi_align_rotated(device: str) -> str | None:
    # The map is f(x, y) = x + 10 y. Bilinear sampling is exact on it, and a bin's mean is f at the bin's centre. The
    # box is 8 x 4 at (12, 10), turned clockwise by 30 degrees; its four bin centres lie at (+-2, +-1), turned alike.
    from mmcv.ops import RoIAlignRotated

    x, y = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="xy")
    rois = torch.tensor([[0.0, 12, 10, 8, 4, math.pi / 6]], device=device)
    # aligned (the default): pixel (i, j) is the point (i + 0.5, j + 0.5)
    out = RoIAlignRotated(2, 1.0, sampling_ratio=2, clockwise=True)((x + 10 * y)[None, None].to(device), rois)
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = [[(11.5 + dx * cos - dy * sin) + 10 * (9.5 + dx * sin + dy * cos) for dx in (-2, 2)] for dy in (-1, 1)]
    return _differs(out[0, 0], expected)


def _differs(got: torch.Tensor, expected: list) -> str | None:
    error = float((got.cpu().double() - torch.tensor(expected, dtype=torch.float64)).abs().max())
    return None if error < 1e-3 else f"{got.cpu().tolist()} is not {expected}"
