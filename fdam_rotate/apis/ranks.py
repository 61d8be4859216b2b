"""The processes that torchrun started, as workers: the first hands out tasks, works on some itself, and alone writes.

Tasks and results travel on a connection from each process to the first, made with a secret that the process group
shares; so each process gets its next task when it is done with the last, however long others take. The first learns at
once when a process has ended, and ends the run with one line; torchrun ends the rest.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from queue import SimpleQueue
from typing import Any

import torch.distributed as dist

from fdam_rotate.dota.errors import DotaError, WorkerError
from fdam_rotate.dota.workers import Pool

__all__ = ["Ranks", "join_ranks", "serve"]


class Ranks(Pool):
    """An executor of all processes of a group, in the first of them.

    Args:
        connections: to the other processes, by rank.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.workers = 1 + len(connections)
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        for rank, connection in enumerate([None, *connections]):
            # the first computes in this process, which must not end under it; the others only wait
            threading.Thread(target=self._work, args=(rank, connection), daemon=rank > 0).start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a task to whichever process is free first."""
        future: Future[Any] = Future()
        self._tasks.put((future, function, args))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Drop what nobody works on yet, and let the other processes end; does not wait."""
        while not self._tasks.empty():
            self._tasks.get()
        for _ in range(self.workers):
            self._tasks.put(None)

    def _work(self, rank: int, connection: Connection | None) -> None:
        """Take one task after the other, for one process."""
        place = f"process {rank} of the {self.workers} that torchrun started"
        while (task := self._tasks.get()) is not None:
            future, function, args = task
            if connection is None:
                good, result = _answer(function, args)
            else:
                try:
                    connection.send((function, args))
                    good, result = connection.recv()
                except (EOFError, OSError):
                    error = f"{place} has ended (out of memory?); what was predicted is kept: the same command goes on"
                    good, result = False, WorkerError(error)
                except Exception as error:  # what it says cannot be read here, such as an error of its own kind
                    good, result = False, WorkerError(f"{place} answers what cannot be read: {error!r}")
            if good:
                future.set_result(result)
            else:
                future.set_exception(result)
        if connection is not None:
            connection.close()


def _answer(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[bool, Any]:
    """Whether a task went well, and its result or its error."""
    try:
        return True, function(*args)
    except Exception as error:
        return False, error


def join_ranks() -> Ranks | Connection:
    """Meet the other processes: the first gets all of them, as an executor, the others a connection to `serve`.

    Raises:
        DotaError: torchrun did not start this process.
    """
    if "RANK" not in os.environ:
        raise DotaError("--launcher pytorch needs torchrun: torchrun --nproc_per_node=N tools/predict.py CONFIG ...")
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    place: list[Any] = [None]
    if rank:
        dist.broadcast_object_list(place, src=0)
        address, key = place[0]
        connection = Client(tuple(address), authkey=key)
        connection.send(rank)
        return connection
    host = os.environ["MASTER_ADDR"]
    key = secrets.token_bytes(32)
    local = host in ("localhost", "127.0.0.1") or int(os.environ.get("LOCAL_WORLD_SIZE", 0)) == world
    with Listener(("127.0.0.1" if local else "", 0), backlog=world, authkey=key) as listener:
        place[0] = (("127.0.0.1" if local else host, listener.address[1]), key)
        dist.broadcast_object_list(place, src=0)
        others: dict[int, Connection] = {}
        while len(others) < world - 1:
            try:
                connection = listener.accept()
            except (AuthenticationError, EOFError, OSError):  # somebody else, or one that has ended: torchrun ends us
                continue
            others[connection.recv()] = connection
    return Ranks([others[number] for number in sorted(others)])


def serve(connection: Connection) -> int:
    """Work on tasks until the first process ends; returns the exit code."""
    with connection:
        while True:
            try:
                function, args = connection.recv()
                connection.send(_answer(function, args))
            except (EOFError, OSError):
                return 0
