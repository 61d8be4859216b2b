"""A process of the tests that dies costs one test, and the run comes to its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT

pytest.importorskip("xdist")

CONFTEST = """
import pytest
from scheduling import FileScheduling

@pytest.hookimpl
def pytest_xdist_make_scheduler(config, log):
    return FileScheduling(config, log)
"""
PASS, DIE = "def test_{}():\n    pass\n", "def test_{}():\n    import os\n    os._exit(1)\n"


@pytest.mark.parametrize(
    ("workers", "files"),
    [
        (1, [[DIE, PASS]]),
        (1, [[PASS, PASS], [DIE, PASS]]),
        (2, [[PASS] * 5, [PASS, DIE, PASS], [PASS], [PASS]]),
        (2, [[DIE, PASS], [DIE, PASS], [PASS], [DIE]]),
    ],
)
def test_a_run_goes_on_without_a_worker_that_died(tmp_path: Path, workers: int, files: list[list[str]]) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for number, tests in enumerate(files):
        text = "".join(test.format(place) for place, test in enumerate(tests))
        (tmp_path / f"test_{number}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT / 'tests/support'}\n")
    words = f"-q -p no:cacheprovider -n {workers} --dist loadfile -c {tmp_path / 'pytest.ini'} {tmp_path}".split()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], capture_output=True, text=True, timeout=60, check=False
    )
    deaths = sum(tests.count(DIE) for tests in files)
    passes = sum(map(len, files)) - deaths
    passed = f", {passes} passed" if passes else ""
    assert f"{deaths} failed{passed} in " in done.stdout, done.stdout
