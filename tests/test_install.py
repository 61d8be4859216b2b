"""Set-up refuses early, in one line, what it cannot work with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def _install(repo: Path, **env: str) -> str:
    done = subprocess.run(
        [str(repo / "tools" / "install.sh")],
        cwd=repo,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("install: ")
    return line


def _script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_another_python_is_refused(repo, tmp_path):
    old = _script(tmp_path, "python3.8", "echo 3.8")
    assert "Python 3.8" in (line := _install(repo, PYTHON=str(old)))
    assert "install 3.11 or 3.12" in line


def test_a_python_that_does_not_run_is_refused(repo, tmp_path):
    assert "does not run" in _install(repo, PYTHON=str(_script(tmp_path, "python3.11", "exit 1")))


@pytest.mark.parametrize("missing", ["gcc", "g++"])
def test_a_missing_compiler_is_refused(repo, tmp_path, missing):
    for tool in ("env", "bash", "dirname", "df", "awk", "gcc", "g++"):
        if tool != missing:
            found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
            (tmp_path / tool).symlink_to(found)
    line = _install(repo, PYTHON=sys.executable, PATH=str(tmp_path))
    assert f"no {missing}," in line
    assert "build-essential" in line


def test_too_little_disk_is_refused(repo):
    line = _install(repo, PYTHON=sys.executable, NEED_GB="99999999")
    assert "99999999 GB needed" in line


def test_cleaning_up_keeps_the_trainings(repo):
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "clean"], cwd=repo, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("rm -rf .venv-fast ")
    assert not {"work_dirs", "data", ".venv"} & set(done.stdout.split())
