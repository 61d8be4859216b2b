"""Notices of mmcv, mmdet and MMRotate that a user can do nothing about."""

from __future__ import annotations

import importlib
import logging
import pickle
import warnings
from typing import Any

__all__ = ["init_weights_quietly", "quiet_host", "restore_quietly"]


def quiet_host() -> None:
    """Silence them; call before the host packages are imported."""
    warnings.filterwarnings("ignore", message="On January 1, 2023, MMCV will release")
    warnings.filterwarnings("ignore", message=".*(OMP_NUM_THREADS|MKL_NUM_THREADS) environment variable.*")
    warnings.filterwarnings("ignore", message=".*Setting .*_NUM_THREADS environment variable.*")
    warnings.filterwarnings("ignore", message=".*pkg_resources.*")
    warnings.filterwarnings("ignore", message="Multi-processing start method `fork` is different")
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    warnings.filterwarnings("ignore", message="DeprecationWarning: (anchor_generator|`num_anchors`)")
    warnings.filterwarnings("ignore", message="__floordiv__ is deprecated")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def init_weights_quietly(model: Any) -> None:
    """``model.init_weights()`` without the three lines that mmcv prints for each of hundreds of parameters."""
    model._dump_init_info = lambda *_: None
    model.init_weights()
    del model._dump_init_info


def restore_quietly(module: str, name: str, state: bytes) -> Any:
    """An object of class ``name`` from its pickled attributes, the host silenced before anything of it is imported."""
    quiet_host()
    kind = getattr(importlib.import_module(module), name)
    found = kind.__new__(kind)
    vars(found).update(pickle.loads(state))
    return found
