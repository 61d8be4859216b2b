"""The progress bar of every long step: on stderr, after two seconds, and only where someone can see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

__all__ = ["progress_bar", "progress_over"]

T = TypeVar("T")


def progress_bar(total: float | None, what: str, unit: str, *, shown: bool, **settings: Any) -> Any:
    """A ``tqdm`` bar for a ``with`` statement; its ``update(n)`` says how much was done.

    Args:
        total: how much there is to do in ``unit``; None if that is not known.
        what: a verb, before the bar.
        unit: of ``total``, in the singular.
        shown: False: the bar counts but draws nothing. True: it draws if stderr is a terminal.
        settings: further settings of tqdm, such as ``unit_scale``.
    """
    from tqdm import tqdm  # costs 30 ms, which a command's --help need not wait for

    return tqdm(total=total, desc=what, unit=unit, delay=2, disable=None if shown else True, **settings)


def progress_over(items: Iterable[T], what: str, unit: str, *, shown: bool, total: int | None = None) -> Iterator[T]:
    """Each of ``items``, with a bar that counts them; ``total`` is how many there are, where they have no length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(total, what, unit, shown=shown) as bar:
        for item in items:
            yield item
            bar.update()
