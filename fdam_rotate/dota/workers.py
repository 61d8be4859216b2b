"""Workers for tasks that are independent of each other: this process, a local pool, or a Dask cluster.

All three give ``concurrent.futures`` executors, so the caller sees one interface: results come as they are finished,
each with the number of its task. Only a few tasks more than there are workers are handed out at a time.

A worker that dies (killed for memory, or crashed inside a decoder) does not end the run: the tasks that were under way
are tried again, each alone in a new process, and the one whose worker dies again is answered with ``WorkerDied``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

from fdam_rotate.dota.errors import DotaError

__all__ = ["WorkerDied", "run_tasks"]

Task = TypeVar("Task")
Result = TypeVar("Result")

# What handing out a task raises where a worker has died; a closed handle if it dies while the next one starts.
_BROKEN = (BrokenProcessPool, OSError)

# Tasks handed out for each worker: one to work on and one waiting.
_AHEAD = 2


class WorkerDied(Exception):
    """The process that worked on a task ended without an answer."""


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, nproc: int = 1, scheduler: str | None = None
) -> Iterator[tuple[int, Result | WorkerDied]]:
    """Run ``function`` on every task; yields (number of the task, result) as they are finished, in any order.

    Args:
        function: a function of a module, which the workers can import.
        tasks: its arguments, which can be pickled.
        nproc: local processes; 1 works in this process. Not used with ``scheduler``.
        scheduler: address of a Dask scheduler, for instance ``tcp://node1:8786``.

    Raises:
        DotaError: the scheduler cannot be reached, or ``distributed`` is not installed.
        Exception: what ``function`` raised.
    """
    if scheduler is not None:
        yield from _run_dask(function, tasks, scheduler)
    elif nproc <= 1 or len(tasks) <= 1:
        for number, task in enumerate(tasks):
            yield number, function(task)
    else:
        yield from _run_local(function, tasks, min(nproc, len(tasks)))


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # spawn: a fork copies locks that other threads (OpenCV's, NumPy's) may hold at that moment
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed (a pool's workers otherwise wait for ever), not at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent lets the tasks under way end, and stops
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch(sentinel: int) -> None:
            wait_for([sentinel])
            os._exit(1)

        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _run_local(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Iterator[tuple[int, Result | WorkerDied]]:
    waiting = deque(range(len(tasks)))
    while waiting:
        lost: list[int] = []
        with _new_pool(workers) as pool:
            try:
                yield from _feed(pool, function, tasks, waiting, workers * _AHEAD, lost)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        for number in sorted(lost):
            yield number, _run_alone(function, tasks[number])


def _run_alone(function: Callable[[Task], Result], task: Task) -> Result | WorkerDied:
    """Try once more, in a new process, what was under way when a worker died."""
    died = WorkerDied("its worker process died, twice")
    with _new_pool(1) as pool:
        try:
            answer = pool.submit(function, task)
        except _BROKEN:
            return died
        try:
            return answer.result()
        except BrokenProcessPool:  # an OSError here would be the function's own
            return died


def _feed(
    pool: Executor,
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    waiting: deque[int],
    ahead: int,
    lost: list[int],
) -> Iterator[tuple[int, Result]]:
    """Hand out the tasks ``waiting``; where the pool breaks, the tasks under way go to ``lost``."""
    running: dict[Future[Result], int] = {}
    while (waiting or running) and not lost:
        while waiting and len(running) < ahead:
            try:
                running[pool.submit(function, tasks[waiting[0]])] = waiting[0]
            except _BROKEN:
                break
            waiting.popleft()
        if not running:  # broken before it took anything
            lost.append(waiting.popleft())
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            number = running.pop(future)
            try:
                result = future.result()
            except BrokenProcessPool:
                lost.append(number)
            else:
                yield number, result
    lost.extend(running.values())


def _run_dask(
    function: Callable[[Task], Result], tasks: Sequence[Task], scheduler: str
) -> Iterator[tuple[int, Result | WorkerDied]]:
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise DotaError("--scheduler needs Dask: pip install dask distributed") from None
    try:
        client: Any = Client(scheduler, timeout=10)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise DotaError(f"the Dask scheduler {scheduler} cannot be reached: {error}") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise DotaError(f"the Dask scheduler {scheduler} has no worker")
        pool = client.get_executor(pure=False)
        running: dict[Future[Result], int] = {}
        waiting = deque(range(len(tasks)))
        try:
            while waiting or running:
                while waiting and len(running) < threads * _AHEAD:
                    number = waiting.popleft()
                    running[pool.submit(function, tasks[number])] = number
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    try:
                        result: Result | WorkerDied = future.result()
                    except KilledWorker as error:
                        result = WorkerDied(f"its worker died: {error}")
                    yield number, result
        finally:
            pool.shutdown(wait=False)
