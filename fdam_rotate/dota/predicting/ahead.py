"""What comes next, made while what came before is still being worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


@contextmanager
def ahead(items: Iterable[T], count: int = 2) -> Iterator[Iterator[T]]:
    """``items`` in their order, up to ``count`` of them made beforehand by a thread; their error comes in its turn.

    A context manager: at its end, also by an error, no more items are made, and the thread is gone.
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

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        with closing(taken()) as iterator:
            yield iterator
    finally:
        stopped.set()
        thread.join()
