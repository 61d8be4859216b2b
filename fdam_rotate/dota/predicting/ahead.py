"""What comes next, made while what came before is still being worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


@contextmanager
def ahead(items: Iterable[T], count: int = 2, *, thread: Executor | None = None) -> Iterator[Iterator[T]]:
    """``items`` in their order, up to ``count`` of them made beforehand by a thread; their error comes in its turn.

    A context manager: at its end, also by an error, no more items are made, and the thread is gone.

    Args:
        items: taken in that thread only.
        count: how many may wait.
        thread: an executor of one thread to use, which stays; None: one of its own.
    """
    waiting: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(count)
    stopped = threading.Event()

    def put(item: tuple[T] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
        except BaseException as error:  # raised again where the items are used
            put(error)
        else:
            put(None)

    def taken() -> Generator[T, None, None]:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    with nullcontext(thread) if thread is not None else ThreadPoolExecutor(1, thread_name_prefix="ahead") as own:
        making = own.submit(make)
        try:
            with closing(taken()) as iterator:
                yield iterator
        finally:
            stopped.set()
            making.result()
