"""Names that people type: the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest_name"]


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name whose spelling is nearest to ``name``, case, ``_``, spaces and ``-`` apart, or None."""
    plain = {_plain(one): one for one in known}
    found = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'ship'?`` for the end of a sentence about an unknown name; empty if none is near."""
    near = nearest_name(name, known)
    return f"; did you mean {near!r}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")
