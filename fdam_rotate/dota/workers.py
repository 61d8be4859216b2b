"""Workers for tasks that are independent of each other: this process, a local pool, a Dask cluster, or a pool given.

All give ``concurrent.futures`` executors, so the caller sees one interface: results come as they are finished, each
with the number of its task. Tasks are taken from the caller, and handed out, only a few more than there are workers.

A worker that dies (killed for memory, or crashed inside a decoder) does not end the run. The tasks that were under way
are tried again; one that was under way at two deaths is then tried alone in a new process, so that the guilty one is
known; where its worker dies again, its parts are tried, one by one, if the caller can divide it, and the rest is
answered with ``WorkerDied``.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import wait as wait_for
from typing import Any, Generic, TypeVar

from fdam_rotate.dota.errors import DotaError

__all__ = ["Pool", "WorkerDied", "core_count", "run_tasks", "worker_index", "worker_threads"]

Task = TypeVar("Task")
Result = TypeVar("Result")

# What handing out a task raises where a worker has died; a closed handle if it dies while the next one starts.
_BROKEN = (BrokenProcessPool, OSError)

# Tasks handed out for each worker: one to work on and one waiting.
_AHEAD = 2

# Seconds without a result after which a pool is asked whether one may come; without a worker, until a cluster is given
# up: those that died may be replaced.
_LOOK, _PATIENCE = 5.0, 60.0

# Deaths at which a task was under way before it is tried alone. A Dask scheduler tries again by itself.
_LOCAL_DEATHS, _DASK_DEATHS = 2, 1

# Place of this process among the workers of its pool; None in any other.
_place: int | None = None


class Pool(Executor):
    """An executor that says how many tasks it works on at a time."""

    workers: int

    def check(self) -> None:
        """Asked every few seconds without a result; raises an error where none will ever come."""


class WorkerDied(Exception):
    """The process that worked on a task ended without an answer.

    Args:
        message: in words.
        task: the task, or the part of it where it was divided.
    """

    def __init__(self, message: str, task: Any = None) -> None:
        super().__init__(message)
        self.task = task


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    nproc: int = 1,
    scheduler: str | None = None,
    pool: Pool | None = None,
    divide: Callable[[Task], Sequence[Task]] = lambda task: (),
) -> Iterator[tuple[int, Result | WorkerDied]]:
    """Run ``function`` on every task; yields (number of the task, result) as they are finished, in any order.

    Args:
        function: a function of a module, which the workers can import.
        tasks: its arguments, which can be pickled; taken one by one, when a worker is near.
        nproc: local processes; 1 works in this process. Not used with ``scheduler`` or ``pool``.
        scheduler: address of a Dask scheduler, for instance ``tcp://node1:8786``.
        pool: an executor to use instead; it deals with the death of its workers itself.
        divide: the parts of a task, which are tried in its place where its worker dies again and again; none: it has
            no parts. Their results come with the number of the task.

    Raises:
        DotaError: the scheduler cannot be reached or goes away, or ``distributed`` is not installed.
        Exception: what ``function`` raised.
    """
    waiting = _Waiting(tasks)
    if scheduler is not None:
        with _DaskPool(scheduler) as cluster:
            try:
                yield from _run(
                    function, waiting, divide, lambda workers: nullcontext(cluster), cluster.workers, _DASK_DEATHS
                )
            except CancelledError:
                raise DotaError(f"the Dask scheduler {scheduler} went away while it worked") from None
            except ModuleNotFoundError as error:
                raise DotaError(f"the workers of {scheduler} lack {error.name}: install this package there") from error
    elif pool is not None:
        held = pool
        yield from _run(function, waiting, divide, lambda workers: nullcontext(held), pool.workers, _LOCAL_DEATHS)
    elif nproc <= 1 or waiting.at_most(1):
        while (taken := waiting.take()) is not None:
            yield taken[0], function(taken[1])
    else:
        while waiting.at_most(nproc - 1):  # fewer tasks than processes
            nproc -= 1
        yield from _run(function, waiting, divide, _new_pool, nproc, _LOCAL_DEATHS)


class _Waiting(Generic[Task]):
    """Tasks that are not handed out yet, with their numbers; what comes back is handed out first."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._rest = enumerate(tasks)
        self._next: deque[tuple[int, Task]] = deque()

    def at_most(self, count: int) -> bool:
        """Whether no more than ``count`` are left; takes up to one more than that from the caller."""
        while len(self._next) <= count:
            try:
                self._next.append(next(self._rest))
            except StopIteration:
                return True
        return False

    def take(self) -> tuple[int, Task] | None:
        return None if self.at_most(0) else self._next.popleft()

    def put_back(self, taken: tuple[int, Task]) -> None:
        self._next.appendleft(taken)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # spawn: a fork copies locks that other threads (OpenCV's, NumPy's) may hold at that moment
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(context.Value("i", 0),))


def _begin_worker(counter: Any) -> None:
    """Take a place; let this worker end when its parent is killed (else it waits for ever), not at Ctrl-C."""
    global _place
    with counter.get_lock():
        _place = counter.value
        counter.value += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent lets the tasks under way end, and stops
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch(sentinel: int) -> None:
            wait_for([sentinel])
            os._exit(1)

        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_index() -> int | None:
    """Place of this process among the workers of its machine, from 0; None where it is no worker.

    Of a local pool it is the order in which they began; under torchrun LOCAL_RANK; of a Dask cluster the number at the
    end of the worker's name, as ``dask worker --nworkers`` and ``LocalCluster`` give it, or 0.
    """
    if _place is not None:
        return _place
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    worker = _dask_worker()
    if worker is None:
        return None
    number = re.search(r"\d+$", str(worker.name)) if "://" not in str(worker.name) else None
    return int(number.group()) if number else 0


def worker_threads() -> int | None:
    """Threads that a Dask worker was given; None in any other process."""
    worker = _dask_worker()
    return None if worker is None else int(worker.state.nthreads)


def _dask_worker() -> Any:
    try:
        from distributed import get_worker

        return get_worker()
    except (ImportError, ValueError):  # no worker
        return None


def _run(
    function: Callable[[Task], Result],
    waiting: _Waiting[Task],
    divide: Callable[[Task], Sequence[Task]],
    open_pool: Callable[[int], AbstractContextManager[Executor]],
    workers: int,
    deaths: int,
) -> Iterator[tuple[int, Result | WorkerDied]]:
    """Hand out everything; see the module's text for what becomes of a task whose worker dies."""
    died: Counter[int] = Counter()
    while not waiting.at_most(0):
        lost: list[tuple[int, Task]] = []
        with open_pool(workers) as pool:
            try:
                yield from _feed(pool, function, waiting, workers, died, lost)
            finally:
                if isinstance(pool, ProcessPoolExecutor):
                    pool.shutdown(wait=False, cancel_futures=True)
        died.update(number for number, _ in lost)
        for taken in reversed(lost):
            if died[taken[0]] < deaths:
                waiting.put_back(taken)
        yield from _try_alone(function, [one for one in lost if died[one[0]] >= deaths], divide, open_pool)


def _feed(
    pool: Executor,
    function: Callable[[Task], Result],
    waiting: _Waiting[Task],
    workers: int,
    died: Counter[int],
    lost: list[tuple[int, Task]],
) -> Generator[tuple[int, Result], None, None]:
    """Hand out what is ``waiting``; where a worker dies, the tasks under way go to ``lost``, and no more go out."""
    running: dict[Future[Result], tuple[int, Task]] = {}
    while running or not (lost or waiting.at_most(0)):
        while not lost and (taken := waiting.take()) is not None:
            # of tasks that were under way at a death none waits behind another, where it would be lost with it
            if len(running) >= (workers if died[taken[0]] else workers * _AHEAD):
                waiting.put_back(taken)
                break
            try:
                running[pool.submit(function, taken[1])] = taken
            except _BROKEN:
                if running:
                    waiting.put_back(taken)
                else:  # broken before it took anything
                    lost.append(taken)
                break
        finished = _finished(pool, running)
        while finished:
            future = finished.pop()
            taken = running.pop(future)
            try:
                result = future.result()
            except Exception as error:
                if not _is_death(error):
                    raise
                lost.append(taken)
            else:
                del future  # a cluster keeps a result, and makes it again, as long as someone may ask for it
                yield taken[0], result
    lost.sort(key=lambda taken: taken[0])


def _finished(pool: Executor, running: Collection[Future[Any]]) -> list[Future[Any]]:
    """Those of some futures that are finished; at least one, where there are any."""
    while running:
        finished = list(wait(running, _LOOK, FIRST_COMPLETED).done)
        if finished:
            return finished
        if isinstance(pool, Pool):
            pool.check()
    return []


def _try_alone(
    function: Callable[[Task], Result],
    suspects: Iterable[tuple[int, Task]],
    divide: Callable[[Task], Sequence[Task]],
    open_pool: Callable[[int], AbstractContextManager[Executor]],
) -> Iterator[tuple[int, Result | WorkerDied]]:
    """Try one task after the other in one process, in a new one after each death; then the parts of those that died."""
    left = deque(suspects)
    while left:
        with open_pool(1) as pool:
            while left:
                number, task = left.popleft()
                result = _ask(pool, function, task)
                if isinstance(result, WorkerDied):
                    parts = divide(task)
                    left.extendleft((number, part) for part in reversed(parts))
                    if not parts:
                        yield number, result
                    break
                yield number, result


def _ask(pool: Executor, function: Callable[[Task], Result], task: Task) -> Result | WorkerDied:
    died = WorkerDied("its worker process died again and again", task)
    try:
        answer = pool.submit(function, task)
    except _BROKEN:
        return died
    _finished(pool, [answer])
    try:
        return answer.result()
    except Exception as error:  # an OSError here would be the function's own
        if not _is_death(error):
            raise
        return died


def _is_death(error: Exception) -> bool:
    """Whether a task failed because its worker ended; Dask's kind of error is known by name, so as not to load it."""
    return isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker"


class _DaskPool(Pool):
    """The workers of a Dask cluster.

    Raises:
        DotaError: Dask is not installed, the scheduler cannot be reached, or it has no worker.
    """

    def __init__(self, scheduler: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise DotaError("--scheduler needs Dask: pip install dask distributed") from None
        self._scheduler = scheduler
        try:
            self._client: Any = Client(scheduler, timeout=10)  # type: ignore[no-untyped-call]
        except (OSError, ValueError, TimeoutError) as error:
            raise DotaError(f"the Dask scheduler {scheduler} cannot be reached: {error}") from None
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)  # they may have been started with this command
        except TimeoutError:
            self._client.close()  # type: ignore[no-untyped-call]
            raise DotaError(f"the Dask scheduler {scheduler} has had no worker for {_PATIENCE:.0f} s") from None
        self.workers = sum(self._client.nthreads().values())  # type: ignore[no-untyped-call]
        self._executor = self._client.get_executor(pure=False)  # type: ignore[no-untyped-call]
        self._seen = time.monotonic()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(function, *args, **kwargs)
        return future

    def check(self) -> None:
        """Give up when there has been no worker for some time."""
        if self._client.nthreads():
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > _PATIENCE:
            raise DotaError(f"the Dask scheduler {self._scheduler} has had no worker for {_PATIENCE:.0f} s")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=False)
        self._client.close()
