"""Where things lie, and how a script of this checkout is loaded so that a test can call its ``main``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["ROOT", "SHARED", "load_file", "load_script"]

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


def load_script(name: str) -> ModuleType:
    """The script ``name``, such as ``tools/merge.py``, as a module of its own; ``main`` is not run."""
    return load_file(ROOT / name)


def load_file(path: Path) -> ModuleType:
    """A Python file outside any package, as a module."""
    name = f"script_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
