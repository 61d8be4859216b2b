"""Numbers of things in sentences: ``1 image``, ``2 images``, ``1,234 patches``."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str, rest: str = "") -> str:
    """A number with its noun, as in '1 patch' and '2 patches'.

    Args:
        number: how many.
        noun: one of them, such as 'patch'; its last word gets the ending.
        rest: what follows the noun; words for one and for several are parted by a bar ('|'), as in 'has no file|have
            no file'.
    """
    one, _, several = rest.partition("|")
    tail = one if number == 1 or not several else several
    ending = "" if number == 1 else "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{number:,} {noun}{ending}{' ' if tail else ''}{tail}"
