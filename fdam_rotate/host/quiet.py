"""Notices of mmcv, mmdet and MMRotate that a user can do nothing about."""

from __future__ import annotations

import logging
import warnings

__all__ = ["quiet_host"]


def quiet_host() -> None:
    """Silence them; call before the host packages are imported."""
    warnings.filterwarnings("ignore", message="On January 1, 2023, MMCV will release")
    warnings.filterwarnings("ignore", message=".*(OMP_NUM_THREADS|MKL_NUM_THREADS) environment variable.*")
    warnings.filterwarnings("ignore", message=".*Setting .*_NUM_THREADS environment variable.*")
    warnings.filterwarnings("ignore", message=".*pkg_resources.*")
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    warnings.filterwarnings("ignore", message="DeprecationWarning: (anchor_generator|`num_anchors`)")
    warnings.filterwarnings("ignore", message="__floordiv__ is deprecated")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
