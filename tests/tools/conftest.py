"""Shared by the tests of the command lines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """``load_tool('evaluate').main([...])`` runs tools/evaluate.py inside the test's process."""

    def load(name: str) -> ModuleType:
        return load_script(f"tools/{name}.py")

    return load


@pytest.fixture(scope="session")
def run_tool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_tool('evaluate', '--help', cwd=...)`` runs tools/evaluate.py as a user would, in a process of its own."""

    def run(name: str, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(TOOLS / f"{name}.py"), *map(str, words)]
        env = {**os.environ, "COLUMNS": "100"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env, **options)  # type: ignore[call-overload]

    return run
