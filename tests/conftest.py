"""Shared by all tests: where real data may lie, and small generated data in DOTA's layout."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs on several processes
warnings.filterwarnings("ignore", message="On January 1, 2023, MMCV will release")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A run over several processes survives one that dies."""
    if config.getoption("dist") != "loadfile":
        return None
    from scheduling import FileScheduling

    return FileScheduling(config, log)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch in one thread: tensors as small as those of tests only lose by being shared among threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def dota_sample() -> Path:
    """Four real DOTA images with labels: train/ and val/."""
    folder = SHARED / "dota_sample"
    if not folder.is_dir():
        pytest.skip("real DOTA images are not beside this checkout (../shared/dota_sample)")
    return folder


@pytest.fixture(scope="session")
def devkit_case() -> Path:
    """What DOTA_devkit makes of generated detections."""
    folder = SHARED / "cases" / "devkit_case"
    if not folder.is_dir():
        pytest.skip("DOTA_devkit's stored output is not beside this checkout (../shared/cases/devkit_case)")
    return folder
