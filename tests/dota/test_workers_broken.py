"""Workers whose process cannot be started any more, as when one dies while the next one starts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest

from fdam_rotate.dota import workers
from fdam_rotate.dota.workers import WorkerDied, run_tasks


def double(task: int) -> int:
    return 2 * task


def fail(task: int) -> int:
    raise FileNotFoundError(f"no {task}")


class Pool(Executor):
    """Runs tasks at once, in this process; its ``refused``-th submissions find a closed handle."""

    def __init__(self, refused: set[int], counter: list[int]) -> None:
        self.refused, self.counter = refused, counter

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:
        self.counter[0] += 1
        if self.counter[0] in self.refused:
            raise OSError("handle is closed")
        future: Future[object] = Future()
        try:
            future.set_result(fn(*args))
        except OSError as error:
            future.set_exception(error)
        return future


def pools(monkeypatch: pytest.MonkeyPatch, refused: set[int]) -> None:
    counter = [0]
    monkeypatch.setattr(workers, "_new_pool", lambda number: Pool(refused, counter))


@pytest.mark.parametrize("refused", [set(), {1}, {3}, {2, 4}])
def test_a_closed_handle_is_a_dead_worker_and_its_task_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, refused: set[int]
) -> None:
    pools(monkeypatch, refused)
    assert sorted(run_tasks(double, range(6), nproc=2)) == [(k, 2 * k) for k in range(6)]


def test_dead_in_two_pools_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pools(monkeypatch, {1, 2, 3})
    found = dict(run_tasks(double, range(4), nproc=2))
    assert isinstance(found[0], WorkerDied)
    assert {key: found[key] for key in (1, 2, 3)} == {1: 2, 2: 4, 3: 6}


def test_the_functions_own_error_is_not_taken_for_a_dead_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pools(monkeypatch, {1, 2})  # its task is tried alone, where it raises
    with pytest.raises(FileNotFoundError, match="no 0"):
        list(run_tasks(fail, range(3), nproc=2))
