"""A process of the tests that dies costs one test, and the run comes to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
from scripts import ROOT

pytest.importorskip("xdist")

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
    for number, tests in enumerate(files):
        text = "".join(test.format(place) for place, test in enumerate(tests))
        (tmp_path / f"test_{number}.py").write_text(text)
    (tmp_path / "pytest.ini").touch()
    ours = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "tests" / "support")])
    words = f"-q -p conftest -p no:cacheprovider -n {workers} --dist loadfile -c {tmp_path / 'pytest.ini'} {tmp_path}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words.split()], env={**os.environ, "PYTHONPATH": ours},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    deaths = sum(tests.count(DIE) for tests in files)
    passes = sum(map(len, files)) - deaths
    passed = f", {passes} passed" if passes else ""
    assert f"{deaths} failed{passed} in " in done.stdout, done.stdout


class Node:
    """A worker as xdist sees it; a dead one whose death has not been told cannot be sent anything."""

    def __init__(self, dead: bool = False) -> None:
        self.dead, self.shutting_down, self.sent = dead, False, []

    def send_runtest_some(self, indices: list[int]) -> None:
        if self.dead:
            raise OSError("cannot send (already closed?)")
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def test_what_is_sent_to_the_dead_is_taken_back_and_nothing_is_sent_too_early() -> None:
    from scheduling import FileScheduling

    names = [f"test_{file}.py::test_{number}" for file in range(3) for number in range(2)]
    files = {f"test_{file}.py": dict.fromkeys(names[2 * file : 2 * file + 2], False) for file in range(3)}
    dead, alive, collecting = Node(dead=True), Node(), Node()
    scheduler = FileScheduling.__new__(FileScheduling)
    scheduler.log, scheduler.numnodes = lambda *_: None, 2
    scheduler.collection, scheduler.workqueue = names, OrderedDict(files)
    scheduler.assigned_work = {node: {} for node in (dead, alive, collecting)}
    scheduler.registered_collections = {dead: names, alive: names}
    scheduler.schedule()
    assert scheduler.assigned_work[collecting] == {}
    assert scheduler.remove_node(dead) == names[0]
    assert [names[index] for index in alive.sent] == names[2:4]
    assert scheduler.workqueue == {"test_2.py": files["test_2.py"], "test_0.py": {names[1]: False}}
    assert collecting.sent == dead.sent == []
