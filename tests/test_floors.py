"""Who may import whom: each room from the floors below it, no cycles, and nothing heavy where it must stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from scripts import ROOT

#: From the ground up; a room may import from itself and from the floors below.
FLOORS = (
    ("dota",),
    ("dota/rasters", "dota/scoring", "dota/merging"),
    ("dota/splitting",),
    ("dota/formats", "dota/checking", "dota/fetching", "dota/synthetic", "dota/viewing"),
    ("dota/predicting",),
    ("host",),
    ("models",),
    ("datasets",),
    ("apis",),
    ("commands",),
    ("data_prep", "tools"),
)
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

#: The root of the library gives names of the rooms above it, on first use only, and the command line's basis.
ROOTS = {"fdam_rotate", "fdam_rotate.dota", "fdam_rotate.cli"}


def sources() -> list[Path]:
    return sorted(path for top in ("fdam_rotate", "data_prep", "tools") for path in (ROOT / top).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """The room of a module of ours; None for the roots."""
    if module in ROOTS:
        return None
    parts = module.split(".")
    if parts[0] != "fdam_rotate":
        return parts[0]
    if parts[1] != "dota":
        return parts[1]
    inner = f"dota/{parts[2]}"
    return inner if inner in HEIGHT else "dota"


@cache
def known_modules() -> dict[str, Path]:
    """Every module of ours, and its file."""
    return {module_of(path): path for path in sources()}


def imports(path: Path, *, at_top: bool = False) -> Iterator[tuple[int, str]]:
    """Line and module of each import of ours; ``at_top``: only those that run when the module is imported."""
    tree = ast.parse(path.read_text())
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in known_modules() else str(node.module)


def test_every_folder_has_a_floor() -> None:
    rooms = {room_of(module_of(path)) for path in sources()} - {None}
    assert rooms <= set(HEIGHT), rooms - set(HEIGHT)
    for folder in (ROOT / "fdam_rotate" / "dota").iterdir():
        assert not any(folder.glob("*.py")) or f"dota/{folder.name}" in HEIGHT, folder


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = room_of(module_of(path))
    if own is None:
        return
    for line, module in imports(path):
        if module in known_modules() and (room := room_of(module)) is not None and room != own:
            assert HEIGHT[room] < HEIGHT[own], f"{path}:{line}: {own} may not import {module}"


@cache
def names_of(path: Path) -> set[str]:
    """What a module has once it is imported: definitions and imports outside functions and classes."""
    found, nodes = set(), list(ast.parse(path.read_text()).body)
    while nodes:
        match node := nodes.pop():
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
                continue
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.Import() | ast.ImportFrom():
                found |= {alias.asname or alias.name for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_that_are_imported_are_there_and_public(path: Path) -> None:
    """Of imports in functions too, which no start of a program reaches."""
    places = known_modules()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or str(node.module).split(".")[0] != "fdam_rotate":
            continue
        assert node.module in places, f"{path}:{node.lineno}: there is no module {node.module}"
        for alias in node.names:
            place = f"{path}:{node.lineno}: {node.module} has no {alias.name}"
            inner = f"{node.module}.{alias.name}"
            assert inner in places or alias.name in names_of(places[str(node.module)]), place
            assert not alias.name.startswith("_") or alias.name.endswith("__"), f"{place} for others"


def test_no_cycle_among_modules() -> None:
    graph = {
        module_of(path): {module for _, module in imports(path) if module in known_modules()} - ROOTS
        for path in sources()
        if module_of(path) not in ROOTS
    }
    while graph:
        free = [module for module, needs in graph.items() if not needs & graph.keys() - {module}]
        assert free, f"a cycle among {sorted(graph)}"
        for module in free:
            del graph[module]


def test_rooms_name_nothing_lazily() -> None:
    """One lazy root; its names for type checkers are those that it gives at run time."""
    lazy = [path for path in sources() if "def __getattr__(name" in path.read_text()]
    assert [module_of(path) for path in lazy] == ["fdam_rotate.dota"]
    typed = {
        (alias.asname, str(node.module).removeprefix("fdam_rotate.dota."))
        for node in ast.walk(ast.parse(lazy[0].read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fdam_rotate.")
        for alias in node.names
    }
    import fdam_rotate.dota as dota

    assert typed == set(dota._PUBLIC.items())
    assert all(getattr(dota, name) is not None for name in dota.__all__)


def test_what_the_workers_load() -> None:
    """A spawned worker of a split or merge imports these: neither plots nor GDAL, nor a model."""
    code = (
        "import sys, fdam_rotate.dota.splitting.worker, fdam_rotate.dota.merging.suppress, fdam_rotate.dota.workers; "
        "heavy = {'torch', 'mmcv', 'matplotlib', 'rasterio', 'distributed', 'onnxruntime', 'tqdm'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
